"""Draw docs/en/images/spikes.png: membranes of the demo's network, their counts, and the binary slots that sum to them.

make demo
python docs/figures/draw_spikes.py work_dirs/demo/epoch_12.pth docs/en/images/spikes.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from mmengine.registry import MODELS, DefaultScope

from qsdt_mm import cli
from qsdt_mm.datasets.digits import Digits
from qsdt_mm.fileio.checkpoint import load_checkpoint_safely, load_weights, model_weights
from qsdt_mm.visualization.figures import new_figure, save_figure

CONFIG = Path(__file__).parents[2] / 'configs/classification/qsd-tiny_1xb32_digits.py'
STAGES = (1, 2, 3)


def main(checkpoint: str, picture: str) -> None:
    """Run one digit through the network and draw what three neurons did."""
    cfg = cli.load_config(str(CONFIG))
    cli.import_library(cfg)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor)).eval()
        data = Digits('test', pipeline=cfg.test_dataloader.dataset.pipeline)
    assert not load_weights(model, model_weights(load_checkpoint_safely(checkpoint)))
    image = data[3]['inputs'][None]

    seen: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    for stage in STAGES:
        neuron = model.backbone.stages[stage].downsample.neuron
        neuron.register_forward_hook(
            lambda module, args, output, stage=stage: seen.__setitem__(stage, (args[0][0], output[0] / module.scale))
        )
    with torch.no_grad():
        model(model.data_preprocessor(dict(inputs=image))['inputs'])

    max_spike_count = cfg.model.backbone.max_spike_count
    figure = new_figure(1.35 * (max_spike_count + 3), 1.45 * len(STAGES))
    grid = figure.subplots(len(STAGES), max_spike_count + 3)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    for row, stage in zip(grid, STAGES):
        membranes, counts = seen[stage]
        # The channel with most to show: the one whose counts have the highest entropy.
        shares = torch.stack([(counts == n).float().mean((1, 2)) for n in range(max_spike_count + 1)])
        channel = torch.special.entr(shares).sum(0).argmax()
        membrane, count = membranes[channel], counts[channel]
        bound = membrane.abs().max()
        row[0].axis('off')
        row[1].imshow(membrane, cmap='RdBu_r', vmin=-bound, vmax=bound)
        row[2].imshow(count, cmap='magma', vmin=0, vmax=max_spike_count)
        for slot in range(max_spike_count):
            row[3 + slot].imshow(count > slot, cmap='gray', vmin=0, vmax=1)
        row[1].set_ylabel(f'{tuple(count.shape)[0]} x {tuple(count.shape)[1]}', fontsize=9)
    grid[0, 0].imshow(image[0, 0], cmap='gray')
    grid[0, 0].set_title('image', fontsize=9)
    titles = [
        'membrane',
        f'count, 0 to {max_spike_count}',
        *(f'spikes, slot {slot + 1}' for slot in range(max_spike_count)),
    ]
    for axes, title in zip(grid[0, 1:], titles):
        axes.set_title(title, fontsize=9)
    save_figure(figure, Path(picture))


if __name__ == '__main__':
    main(*sys.argv[1:])
