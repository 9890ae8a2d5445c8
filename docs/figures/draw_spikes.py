"""Draw spikes.png, what a count is made of, and deeper.png, the same in three stages, by the network that comes along.

python docs/figures/draw_spikes.py docs/en/images
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import torch

import qsdt_mm
from qsdt_mm.datasets.digits import Digits
from qsdt_mm.visualization.figures import new_figure, save_figure

NETWORK = 'qsd-tiny_1xb32_digits'
NUMBER = 3
"""Of the digits that are held out: an 8, whose hole says what it means to fire less."""
STAGES = (1, 2, 3)
BLUE = '#2166ac'


def run(number: int) -> tuple[torch.Tensor, dict[int, tuple[torch.Tensor, torch.Tensor]]]:
    """Return a digit, ``(H, W)``, and the membranes and counts of a neuron of each stage, ``(C, H_i, W_i)``."""
    model = qsdt_mm.from_pretrained(NETWORK, kind='trainable')
    digit = cv2.resize(Digits('test').get_data_info(number)['img'], (32, 32), interpolation=cv2.INTER_CUBIC)
    image = torch.from_numpy(digit)
    seen: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    for stage in STAGES:
        model.backbone.stages[stage].downsample.neuron.register_forward_hook(
            lambda module, args, output, stage=stage: seen.__setitem__(stage, (args[0][0], output[0] / module.scale))
        )
    with torch.no_grad():
        model(model.data_preprocessor(dict(inputs=[image[None]]))['inputs'])
    return image.float(), seen


def correlation(counts: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Return how counts ``(C, H, W)`` of each channel go with the image ``(H, W)``: -1 to 1, 0 of a constant."""
    a, b = counts.flatten(1), image.flatten()
    a, b = a - a.mean(1, keepdim=True), b - b.mean()
    return (a @ b) / (a.norm(dim=1) * b.norm()).clamp_min(1e-9)


def most_to_show(counts: torch.Tensor, most: int) -> int:
    """Return the channel whose counts, 0 to ``most``, have the highest entropy."""
    shares = torch.stack([(counts == n).float().mean((1, 2)) for n in range(most + 1)])
    return int(torch.special.entr(shares).sum(0).argmax())


def draw_sum(image: torch.Tensor, membranes: torch.Tensor, counts: torch.Tensor, most: int, path: Path) -> None:
    """One row, with what happens between the panels: a channel that fires on the digit."""
    channel = int(correlation(counts, image).argmax())
    membrane, count = membranes[channel], counts[channel]
    bound = membrane.abs().max()
    figure = new_figure(10.4, 1.5)
    grid = figure.subplots(1, 2 * (most + 3) - 1, width_ratios=[1, 0.3] * (most + 2) + [1])
    for sign, axes in zip('→→=' + '+' * (most - 1), grid[1::2]):
        axes.axis('off')
        axes.text(0.5, 0.5, sign, fontsize=22, color=BLUE, ha='center', va='center', transform=axes.transAxes)
    panels = grid[::2]
    panels[0].imshow(image, cmap='gray')
    panels[1].imshow(membrane, cmap='RdBu_r', vmin=-bound, vmax=bound)
    panels[2].imshow(count, cmap='gray', vmin=0, vmax=most)
    for slot, axes in enumerate(panels[3:]):
        axes.imshow(count > slot, cmap='gray', vmin=0, vmax=1)
    names = ['image', 'membrane', f'count, 0 to {most}', *(f'spike {slot + 1}' for slot in range(most))]
    for name, axes in zip(names, panels):
        axes.set_title(name, fontsize=11)
        axes.set(xticks=[], yticks=[])
    save_figure(figure, path)


def draw_stages(seen: dict[int, tuple[torch.Tensor, torch.Tensor]], most: int, path: Path) -> None:
    """A row for each stage: membrane, count and slots of the channel with most to show."""
    figure = new_figure(1.35 * (most + 2), 1.45 * len(seen))
    grid = figure.subplots(len(seen), most + 2)
    for row, (stage, (membranes, counts)) in zip(grid, sorted(seen.items())):
        channel = most_to_show(counts, most)
        membrane, count = membranes[channel], counts[channel]
        bound = membrane.abs().max()
        row[0].imshow(membrane, cmap='RdBu_r', vmin=-bound, vmax=bound)
        row[1].imshow(count, cmap='gray', vmin=0, vmax=most)
        for slot in range(most):
            row[2 + slot].imshow(count > slot, cmap='gray', vmin=0, vmax=1)
        row[0].set_ylabel(f'stage {stage}\n{count.shape[0]} x {count.shape[1]}', fontsize=9)
    names = ['membrane', f'count, 0 to {most}', *(f'spike {slot + 1}' for slot in range(most))]
    for axes, name in zip(grid[0], names):
        axes.set_title(name, fontsize=9)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    save_figure(figure, path)


def main(folder: str) -> None:
    """Draw both."""
    image, seen = run(NUMBER)
    most = max(int(counts.max()) for _, counts in seen.values())
    draw_sum(image, *seen[STAGES[0]], most, Path(folder) / 'spikes.png')
    draw_stages(seen, most, Path(folder) / 'deeper.png')


if __name__ == '__main__':
    main(*sys.argv[1:])
