"""Run a network on an image, a folder of images, a video or events: what it finds, and where its backbone fires."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python demo/image_demo.py photo.jpg configs/classification/NAME.py work_dirs/NAME/epoch_10.pth
  python demo/image_demo.py photos CONFIG CHECKPOINT --out-dir pictures --score-thr 0.5
  python demo/image_demo.py video.mp4 CONFIG CHECKPOINT --every 5
  python demo/image_demo.py data/moving_digits/val/00000.npz configs/neuromorphic/NAME.py CHECKPOINT

For each image: NAME_found.png, NAME_firing.png, and NAME_found.json with classes and scores, with boxes and masks (run
lengths, as COCO's), or with the pixels of each class; of segmentation also NAME_labels.png, the class of each pixel.
A packed plan, which has no neurons to watch, gives no NAME_firing.png.
Folders below a folder count, and are made below --out-dir. For a video: NAME_found.mp4 and NAME_found.json, in which
each frame has a row. Works for image classification, detection and segmentation, and for
events, of which the pictures show all frames as one.

exit status: 0 done, 2 bad input (of a folder, the other images are done), 130 interrupted
"""
VIDEOS = {'.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv'}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('image_demo.py', __doc__, EXAMPLE)
    parser.add_argument(
        'image',
        help='image file, folder of images or video file; for events a file of them or a folder of pictures',
    )
    parser.add_network('configuration file; its default_scope says which task', 'checkpoint file, or a packed folder')
    parser.add_argument('--out-dir', default='.', metavar='DIR', help='where the pictures go (default: here)')
    parser.add_argument('--overwrite', action='store_true', help='replace files of those names')
    parser.add_argument('--score-thr', type=float, default=0.3, help='lowest score of a detection (default: 0.3)')
    parser.add_argument('--every', type=int, default=1, metavar='N', help="of a video's frames, each Nth (default: 1)")
    parser.add_require_spikes()
    parser.add_cfg_options('model.backbone.max_spike_count=8')
    args = parser.parse_args(argv)
    if args.every < 1:
        parser.error(f'--every must be at least 1, got {args.every}')
    return args


def outputs_of(given: Path, out_dir: Path) -> dict[Path, Path]:
    """Return the images to look at, each with its outputs' path without their endings.

    Images whose names differ only in the ending keep it.
    """
    from qsdt_mm.datasets.annotations.pictures import ENDINGS, files_below
    from qsdt_mm.errors import InputError

    if not given.is_dir():
        return {given: out_dir / given.stem}
    images = files_below(given, ENDINGS)
    images = [path for path in images if not path.stem.endswith(('_found', '_firing', '_labels'))]
    if not images:
        raise InputError(f'{given} holds no image')
    stems = Counter(path.with_suffix('') for path in images)
    whole = {path: path if stems[path.with_suffix('')] > 1 else path.with_suffix('') for path in images}
    return {path: out_dir / name.relative_to(given) for path, name in whole.items()}


def ending(stem: Path, what: str) -> Path:
    """Return the path of an output."""
    return stem.with_name(f'{stem.name}_{what}')


EVENT_STEPS = {'LoadEvents': 'a file of events', 'LoadEventFrames': 'an npz file of frames'}
FOLDER_STEPS = {'LoadDrawnEvents': 'a folder of pictures'}


def check_image(cfg, args: argparse.Namespace) -> bool | None:
    """Refuse what the configuration's pipeline does not read; return whether it reads events, None without one."""
    from qsdt_mm.datasets.events.readers.detection import SUFFIXES
    from qsdt_mm.errors import InputError, why_no_file

    steps = ((cfg.get('test_dataloader') or {}).get('dataset') or {}).get('pipeline')
    first = str(steps[0]['type']).rpartition('.')[2] if steps else None
    of_events = first in EVENT_STEPS or first in FOLDER_STEPS
    absent = why_no_file(args.image, folder=first in FOLDER_STEPS or not of_events and Path(args.image).is_dir())
    if absent:
        raise InputError(f'image {args.image} {absent}')
    wanted = {**EVENT_STEPS, **FOLDER_STEPS}.get(first)
    suffix = Path(args.image).suffix.lower()
    is_npz = suffix == '.npz'
    if first in EVENT_STEPS and not (suffix in SUFFIXES if first == 'LoadEvents' else is_npz):
        raise InputError(f'image {args.image}: the network of {args.config} takes {wanted}')
    if wanted is None and is_npz:
        raise InputError(
            f'image {args.image} is an npz file, of events or frames: the network of {args.config} takes pictures'
        )
    return wanted is not None if steps else None


def packed(cfg, path: str, events: bool) -> dict:
    """Return the image or the events as the configuration's test pipeline packs them."""
    from mmengine.dataset import Compose, pseudo_collate

    dataset, sample = cfg.test_dataloader.dataset, dict(img_path=path, img_id=0)
    steps = [dict(step) for step in dataset.pipeline]
    steps = [step for step in steps if step['type'] not in ('LoadAnnotations', 'CheckLabels')]
    if events:  # what their data sets add
        sizes = [getattr(kind, 'SENSOR_SIZE', None) for kind in kinds(cfg)]
        sample['sensor_size'] = dataset.get('sensor_size') or next((size for size in sizes if size), None)
        sample['num_frames'] = dataset.get('num_frames')
    elif steps[0]['type'] != 'LoadImageFromFile':  # the configuration's own data come as arrays
        grey = cfg.model.backbone.get('in_channels', 3) == 1
        steps.insert(0, dict(type='LoadImageFromFile', color_type='grayscale' if grey else 'color'))
    return pseudo_collate([Compose(steps)(sample)])


def kinds(cfg) -> list:
    """Return what the registries know by the name of the test data set's type."""
    from mmengine.registry import DATASETS

    from qsdt_mm.cli.cfg_options import resolve_type

    kind = cfg.test_dataloader.dataset.type
    return [*resolve_type(kind, cfg.get('default_scope')), DATASETS.get(kind)]


def firing_watch(backbone) -> dict[int, list]:
    """Return a dict that takes the maps of firing rates of each stage when the network runs; clear it in between."""
    from qsdt_mm.models.neurons import SpikingNeuron

    rates: dict[int, list] = {}

    def watch(stage: int):
        def hook(neuron, inputs, output) -> None:
            rate = output / (neuron.scale * neuron.max_spike_count)
            rates.setdefault(stage, []).append(rate.mean((0, 1)).cpu().numpy())

        return hook

    for index, stage in enumerate(backbone.stages):
        for neuron in (m for m in stage.blocks.modules() if isinstance(m, SpikingNeuron)):
            neuron.register_forward_hook(watch(index))
    return rates


def frames_of(video: Path, every: int) -> Iterator[tuple]:
    """Yield number, frames in a second and pixels of each Nth frame of a video."""
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')  # what is wrong is said below, in one line
    import cv2

    from qsdt_mm.errors import InputError

    reader = cv2.VideoCapture(str(video))
    try:
        rate = reader.get(cv2.CAP_PROP_FPS) or 25.0
        number = 0
        while True:
            there, frame = reader.read()
            if not there:
                break
            if number % every == 0:
                yield number, rate, frame
            number += 1
    finally:
        reader.release()
    if number == 0:
        raise InputError(f'{video} is no video that can be read')


class Network:
    """The network of a configuration, which looks at image files, one at a time.

    ``rates`` holds the maps of firing rates of the last one, by stage.
    """

    def __init__(self, args: argparse.Namespace, session, cfg, events: bool) -> None:
        from qsdt_mm import SpikeDrivenTransformer, cli
        from qsdt_mm.cli.deployment import metainfo
        from qsdt_mm.deploy.evaluation import check_fit, evaluated
        from qsdt_mm.deploy.pretrained import holds_plan_alone, packed_plan
        from qsdt_mm.errors import InputError

        self.args, self.session = args, session
        self.cfg, self.events = cfg, events
        cli.import_library(self.cfg)
        with self.scope():
            plan = packed_plan(args.checkpoint) if holds_plan_alone(args.checkpoint) else None
            self.model = cli.build_model(self.cfg, args.checkpoint if plan is None else None, session)
            if events is None:
                raise InputError(f'config {args.config} has no test_dataloader.dataset.pipeline')
            self.meta = metainfo(self.cfg)
        backbones = [m for m in self.model.modules() if isinstance(m, SpikeDrivenTransformer)]
        if not backbones:
            raise InputError(f'the network of {args.config} has no SpikeDrivenTransformer')
        self.checked = not args.require_spikes
        self.rates = firing_watch(backbones[0])
        if plan is not None:
            with self.scope():
                check_fit(self.model, plan)
            self.model = evaluated(self.model, plan)

    def scope(self):
        """Let types be found in the task's library."""
        from mmengine.registry import DefaultScope

        return DefaultScope.overwrite_default_scope(self.cfg.get('default_scope'))

    def look_at(self, image: Path) -> tuple:
        """Return the prediction for an image, and what it says in plain values."""
        import torch

        from qsdt_mm.analysis.findings import findings
        from qsdt_mm.errors import InputError
        from qsdt_mm.models.layers.float_layers import float_share

        with self.scope():
            with self.session.stage(f'reading {image}'):
                data = packed(self.cfg, str(image), self.events)
            if not self.checked:
                try:
                    float_share(self.model, lambda network: network.test_step(data)).require_spikes()
                except ValueError as error:
                    raise InputError(str(error)) from error
                self.checked = True
            self.rates.clear()
            self.picture = self.seen(image, data)
            with torch.no_grad():
                sample = self.model.test_step(data)[0]
        return sample, findings(sample, self.meta.get('classes'), self.args.score_thr)

    def seen(self, image: Path, data: dict):
        """Return the picture to draw on; of events all frames as one."""
        import mmcv
        import numpy as np

        from qsdt_mm.visualization.predictions import to_picture

        if not self.events:
            return mmcv.imread(str(image), channel_order='rgb')
        return np.ascontiguousarray(255 * to_picture(data['inputs'][0])).round().astype(np.uint8)

    def draw(self, sample, path: Path) -> None:
        """Write the picture of the last prediction."""
        from qsdt_mm.visualization.predictions import draw_found

        with self.scope():
            draw_found(self.cfg, sample, self.picture, self.meta, path, self.args.score_thr)


def look_at_image(network: Network, image: Path, stem: Path) -> None:
    """Write the pictures and the JSON file of an image."""
    import cv2

    from qsdt_mm.analysis.findings import label_map
    from qsdt_mm.fileio.atomic import atomic_path
    from qsdt_mm.fileio.reports import write_json
    from qsdt_mm.visualization.firing import draw_firing

    sample, found = network.look_at(image)
    with atomic_path(ending(stem, 'found.png')) as path:
        network.draw(sample, path)
    labels = label_map(sample)
    if labels is not None:
        with atomic_path(ending(stem, 'labels.png')) as path:
            cv2.imwrite(str(path), labels)
    maps = {stage: [m for m in maps if m.ndim == 2] for stage, maps in network.rates.items()}
    if maps:
        draw_firing(network.picture, maps, ending(stem, 'firing.png'))
    write_json(ending(stem, 'found.json'), dict(image=str(image), **found))
    if 'classes' in found:
        best = found['classes'][0]
        print(f'class    {best.get("name", best["label"])} ({100 * best["score"]:.1f} %)')
    print(f'found    {ending(stem, "found.png")}, {ending(stem, "found.json")}')
    if maps:
        print(f'firing   {ending(stem, "firing.png")}')


def look_at_video(network: Network, video: Path, stem: Path, every: int) -> None:
    """Write a video of what was found, and a JSON file of it."""
    import cv2

    from qsdt_mm.errors import InputError
    from qsdt_mm.fileio.atomic import atomic_path
    from qsdt_mm.fileio.reports import write_json

    rows, writer, size = [], None, (0, 0)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        frame_file, found_file = Path(folder) / 'frame.png', Path(folder) / 'found.png'
        try:
            for number, rate, frame in frames_of(video, every):
                cv2.imwrite(str(frame_file), frame)
                sample, found = network.look_at(frame_file)
                rows.append(dict(frame=number, seconds=round(number / rate, 4), **found))
                network.draw(sample, found_file)
                picture = cv2.imread(str(found_file))
                if writer is None:
                    target = stack.enter_context(atomic_path(ending(stem, 'found.mp4')))
                    size = picture.shape[1] // 2 * 2, picture.shape[0] // 2 * 2  # what codecs take
                    writer = cv2.VideoWriter(str(target), cv2.VideoWriter_fourcc(*'mp4v'), rate / every, size)
                    if not writer.isOpened():
                        raise InputError(f'{ending(stem, "found.mp4")}: OpenCV cannot write mp4 files here')
                writer.write(picture if picture.shape[1::-1] == size else cv2.resize(picture, size))
        finally:
            if writer is not None:
                writer.release()
        write_json(ending(stem, 'found.json'), dict(video=str(video), frames=rows))
    print(f'found    {ending(stem, "found.mp4")}, {ending(stem, "found.json")}: {len(rows)} frames')


def look(args: argparse.Namespace, session) -> None:
    """Run, and write pictures and JSON."""
    from qsdt_mm import cli
    from qsdt_mm.errors import InputError

    given, cfg = Path(args.image), cli.load_config(args.config, args.cfg_options)
    events = check_image(cfg, args)
    is_video = not events and given.suffix.lower() in VIDEOS and given.is_file()
    outputs = {given: Path(args.out_dir) / given.stem} if events else outputs_of(given, Path(args.out_dir))
    kinds = ('found.mp4', 'found.json') if is_video else ('found.png', 'found.json', 'firing.png', 'labels.png')
    for path in (ending(stem, kind) for stem in outputs.values() for kind in kinds):
        if path.exists() and not args.overwrite:
            raise InputError(f'{path} exists: name another folder with --out-dir, or give --overwrite')
    network = Network(args, session, cfg, events)
    if is_video:
        look_at_video(network, given, outputs[given], args.every)
        return
    broken: list[str] = []
    for image, stem in outputs.items():
        try:
            look_at_image(network, image, stem)
        except InputError as error:
            if given.is_file() or not network.checked:
                raise
            broken.append(str(error))
    if broken:
        raise InputError(f'{len(broken)} of {len(outputs)} images could not be used: {broken[0]}')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return run_tool('image_demo.py', lambda session: look(args, session), args.traceback)


if __name__ == '__main__':
    sys.exit(main())
