"""semantic-fpn_qsd-small_* with thresholds of 1/2 in the backbone and scaled attention, as a study found.

python tools/train.py configs/segmentation/semantic-fpn_qsd-small-tuned_1xb8-500i_cells-256x256.py --amp
Data: data/cells/{images,semantic}/{train,val}/*.png.
Expect: mIoU 86.1 after 500 iterations, seed 0; 12 minutes on one core.
"""

_base_ = './semantic-fpn_qsd-small_1xb8-500i_cells-256x256.py'

model = dict(
    backbone=dict(
        # Counts for potentials up to 2 rather than 1: bright and dark images are met in one data set.
        neuron=dict(type='IELIF', threshold=0.5, scale=0.5, rounding='half_up'),
        attention_tokens=256,  # of crops of 256 px; images to test on have more
    ),
)
