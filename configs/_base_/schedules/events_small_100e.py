"""For small event sets from scratch: the HAR-DVS schedule at a learning rate of 1e-3 for the batch that a config has.

Our own choice, for lack of a published recipe.
"""

_base_ = './events_100e.py'

# HAR-DVS's rule would give 2.5e-6 for a batch of 16, too little for small sets from scratch.
optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=16)
