"""Draw what a detector or segmentor finds: truth, network in floats and network in spikes side by side, image by image.

python docs/figures/draw_results.py semantic-fpn_qsd-small_1xb8-500i_cells-256x256 \
    semantic-fpn_qsd-small_1xb8-500i_cells-256x256 docs/en/images/segmentation.jpg
python docs/figures/draw_results.py configs/detection/faster-rcnn_qsd-small_fpn_1xb4-18e_cells-320px.py \
    work_dirs/faster-rcnn_qsd-small_fpn_1xb4-18e_cells-320px/epoch_18.pth docs/en/images/detection.jpg
The second network is that of python tools/train.py and its config; both read data/cells.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from PIL import Image

from qsdt_mm import cli
from qsdt_mm.cli.data_checks import build_samples
from qsdt_mm.cli.shell import Session
from qsdt_mm.fileio.atomic import atomic_open
from qsdt_mm.inference import convert
from qsdt_mm.visualization.figures import new_figure

NUMBERS = (34, 55, 23)
"""Of the validation images by name: nuclei that shine, stained cells, stained tissue."""
CROP = 160  # pixels that are shown
LOWEST = 0.5  # score of a box that is drawn
COLOUR = '#00c853'


def find(config: str, checkpoint: str, numbers: tuple[int, ...]) -> list[tuple[str, dict[str, object]]]:
    """Return paths of images, and by column what their truth and both forms of the network hold."""
    cfg = cli.load_config(config)
    cli.import_library(cfg)
    session = Session('draw_results.py')
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = cli.build_model(cfg, checkpoint, session)
        dataset = build_samples(cfg.test_dataloader.dataset, model, session)
        by_name = sorted(range(len(dataset)), key=lambda i: dataset.get_data_info(i)['img_path'])
        samples = [pseudo_collate([dataset[by_name[number]]]) for number in numbers]
        found = [{} for _ in samples]
        for name, network in (('float', model), ('spikes', convert(model, 'spike'))):
            for row, sample in zip(found, samples):
                with torch.no_grad():
                    (row[name],) = network.test_step(sample)
                row['truth'] = row[name]
    return [(row['truth'].img_path, row) for row in found]


def draw_one(axes, sample, is_truth: bool) -> None:
    """Outline classes of pixels, or boxes."""
    if 'pred_sem_seg' in sample:
        labels = (sample.gt_sem_seg if is_truth else sample.pred_sem_seg).data[0].cpu().numpy()
        axes.contour(labels[:CROP, :CROP] == 1, [0.5], colors=COLOUR, linewidths=1.2)
        return
    objects = sample.gt_instances if is_truth else sample.pred_instances[sample.pred_instances.scores >= LOWEST]
    boxes = objects.bboxes.tensor if hasattr(objects.bboxes, 'tensor') else objects.bboxes
    for left, top, right, bottom in boxes.cpu().numpy():
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)])
        axes.plot(*corners.T, color=COLOUR, lw=1.2)


def save_as_jpeg(figure, path: Path) -> None:
    """Write a picture of photographs: small, and whole or not there."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=120)
    with atomic_open(path) as file:
        Image.open(buffer).convert('RGB').save(file, format='JPEG', quality=75, optimize=True)


def main(config: str, checkpoint: str, picture: str) -> None:
    """A row for each image."""
    rows = find(config, checkpoint, NUMBERS)
    figure = new_figure(7.2, 2.45 * len(rows))
    grid = figure.subplots(len(rows), 3)
    for panels, (path, found) in zip(grid, rows):
        image = cv2.imread(path)[:CROP, :CROP, ::-1].astype(float)
        image = (image / np.percentile(image, 99.8)).clip(0, 1)  # some are very dark
        for axes, name in zip(panels, ('truth', 'float', 'spikes')):
            axes.imshow(image)
            draw_one(axes, found[name], name == 'truth')
            axes.set(xticks=[], yticks=[], xlim=(0, CROP - 1), ylim=(CROP - 1, 0))
    for axes, name in zip(grid[0], ('truth', 'network in floats', 'network in spikes')):
        axes.set_title(name, fontsize=11)
    save_as_jpeg(figure, Path(picture))


if __name__ == '__main__':
    main(*sys.argv[1:])
