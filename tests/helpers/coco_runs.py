"""Runs of train.py and test.py with a small Mask R-CNN on COCO files that tests change."""

import itertools
import json
import os

import toy_runs as toy
from coco_set import make_coco_set

RUNS = itertools.count()
CONFIG = """
_base_ = {base!r}
model = dict(
    backbone=dict(arch=dict(widths=(4, 8, 8, 8, 8), depths=(0, 1, 1, 1, 1))),
    neck=dict(in_channels=[8, 8, 8, 8], out_channels=8),
    rpn_head=dict(in_channels=8, feat_channels=8),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=8),
        bbox_head=dict(in_channels=8, fc_out_channels=16, num_classes=2),
        mask_roi_extractor=dict(out_channels=8),
        mask_head=dict(in_channels=8, conv_out_channels=8, num_classes=2),
    ),
)
names = dict(classes=('green', 'red'), palette=[(0, 99, 0), (99, 0, 0)])
data = dict(data_root={root!r}, data_prefix=dict(img=''), metainfo=names)
train_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(ann_file='set.json', **data))
val_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(ann_file='val.json', **data))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file={root!r} + '/val.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1)
default_hooks = dict(
    checkpoint=dict(_delete_=True, type='SafeCheckpointHook', interval=1), classes=None, energy=None, report=None
)
experiment_name = {name!r}
visualizer = dict(name={name!r})
{more}
"""


class CocoRuns:
    """A folder with images, ``set.json``, ``val.json`` and a configuration; its tools run in this process."""

    def __init__(self, root):
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        make_coco_set(root)
        (root / 'val.json').write_bytes((root / 'set.json').read_bytes())

    def change(self, function, *names):
        """Change what ``set.json`` holds, or others."""
        for name in names or ('set.json',):
            held = json.loads((self.root / name).read_text())
            function(held)
            (self.root / name).write_text(json.dumps(held))

    def config(self, more=''):
        """Write the configuration; ``more`` changes it."""
        base = str(toy.ROOT / 'configs/detection/mask-rcnn_qsd-small_fpn_1xb4-18e_cells.py')
        name = f'coco{os.getpid()}_{next(RUNS)}'  # runs of one process share logs and pictures otherwise
        path = self.root / f'{name}.py'
        path.write_text(CONFIG.format(base=base, root=str(self.root), name=name, more=more))
        return path

    def tool(self, name, *words, more=''):
        """Run a tool and return its exit status."""
        work_dir = self.root / f'run{next(RUNS)}'
        words = [str(self.config(more)), *map(str, words), '--work-dir', str(work_dir)]
        return toy.tool(name).main(words), work_dir
