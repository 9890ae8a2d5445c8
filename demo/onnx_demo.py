"""Look at an image with an ONNX file of a network: needs numpy, pillow and onnxruntime, nothing else.

examples:
  python demo/onnx_demo.py IMAGE net.onnx
  python demo/onnx_demo.py IMAGE net.onnx --out found.png --score-thr 0.5

tools/deployment/export_onnx.py writes such files, which say what they expect and give. Of a classifier the five best
classes are printed; of a segmenter a colour for each class, of a detector with anchors boxes are drawn to OUT, by
default IMAGE_onnx.png in this folder. Of other files the shapes and ranges of the outputs are printed.

exit status: 0 done, 2 bad input
"""

import argparse
import colorsys
import json
import os
import sys
from pathlib import Path

PACKAGES = 'pip install numpy pillow onnxruntime'
try:
    import numpy as np
    import onnxruntime
    from PIL import Image, ImageDraw, ImageOps
except ImportError as error:
    print(f'onnx_demo.py: error: {error}: {PACKAGES}', file=sys.stderr)
    sys.exit(2)
TASKS = ('classification', 'segmentation', 'detection', 'features')


class Refused(Exception):
    """What is wrong with the input, in one line."""


class Network:
    """A plan's file: its session and what it says of itself."""

    def __init__(self, path: str) -> None:
        if not Path(path).is_file():
            raise Refused(f'{path} does not exist')
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
            self.notes = dict(self.session.get_modelmeta().custom_metadata_map)
        except Exception as error:  # of the runtime
            raise Refused(f'{path} is no ONNX file that can be run: {str(error).splitlines()[0]}') from error
        if self.notes.get('format') != 'qsdt_mm plan' or self.notes.get('format_version') != '1':
            raise Refused(f'{path} is no plan of qsdt_mm in a version that this demo knows')
        try:
            for key in ('shape', 'size', 'outputs', 'classes', 'mean', 'image', 'boxes', 'palette', 'threshold'):
                self.notes[key] = json.loads(self.notes[key]) if key in self.notes else None
            picture = len(self.notes['shape']) == 3 and self.notes['channels'] in ('RGB', 'BGR', 'grey')
            known = self.notes['task'] in TASKS and len(self.notes['size']) == 2
        except (ValueError, TypeError, KeyError) as error:
            raise Refused(f'{path}: what it says of itself cannot be read: {error}') from error
        if not known:
            raise Refused(f'{path} is for {self.notes["task"]} at {self.notes["size"]}, which this demo does not know')
        if not picture:
            raise Refused(f'{path} takes {self.notes["shape"]} of {self.notes["channels"]}, no picture')

    def run(self, pixels: np.ndarray) -> dict:
        """Return the outputs of one image, by name."""
        batch = self.session.get_inputs()[0].shape[0]
        images = np.repeat(pixels[None], batch if isinstance(batch, int) else 1, axis=0)
        names = [output.name for output in self.session.get_outputs()]
        try:
            return {name: output[0] for name, output in zip(names, self.session.run(names, {'pixels': images}))}
        except Exception as error:  # of the runtime
            raise Refused(f'the network cannot be run: {str(error).splitlines()[0]}') from error


def fitted(picture: Image.Image, notes: dict) -> tuple:
    """Return the picture in the network's size, and how large its content is in there."""
    fill = tuple(int(round(value)) for value in notes['mean'] or [0])
    fill = fill[::-1] if notes['channels'] == 'BGR' else fill
    fill = fill * 3 if len(fill) == 1 and picture.mode == 'RGB' else fill
    content = (notes['size'][1], notes['size'][0])
    for kind, *numbers in notes['image'] or [['exact', *notes['size']]]:
        width, height = picture.size
        if kind == 'short':
            scale = numbers[0] / min(width, height)
            new = max(int(width * scale + 0.5), 1), max(int(height * scale + 0.5), 1)
            picture = picture.resize(new, Image.Resampling.BICUBIC)
        elif kind == 'crop':
            left, top = round((width - numbers[1]) / 2), round((height - numbers[0]) / 2)
            picture = picture.crop((left, top, left + numbers[1], top + numbers[0]))
        elif kind == 'fit':
            scale = min(numbers[0] / height, numbers[1] / width)
            content = max(int(width * scale + 0.5), 1), max(int(height * scale + 0.5), 1)
            sheet = Image.new(picture.mode, (numbers[1], numbers[0]), fill if picture.mode == 'RGB' else fill[0])
            sheet.paste(picture.resize(content, Image.Resampling.BILINEAR))
            picture = sheet
        else:
            picture = picture.resize((numbers[1], numbers[0]), Image.Resampling.BILINEAR)
    return picture, content


def pixels_of(picture: Image.Image, channels: str) -> np.ndarray:
    """Return uint8 (C, H, W) in the order of channels that the network expects."""
    array = np.asarray(picture, np.uint8)
    array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return np.ascontiguousarray(array[::-1] if channels == 'BGR' else array)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities along the last axis."""
    powers = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def name_of(label: int, classes) -> str:
    """Return the name of a class, or its number."""
    return str(classes[label]) if classes and label < len(classes) else str(label)


def colour_of(label: int, palette) -> tuple:
    """Return red, green and blue of a class."""
    if palette and label < len(palette):
        return tuple(palette[label])
    return tuple(int(255 * part) for part in colorsys.hsv_to_rgb(label * 0.618 % 1, 0.8, 0.95))


def decoded(boxes: dict, scores: list, deltas: list) -> tuple:
    """Return corners (N, 4) and scores (N, classes) of the maps of a head with anchors, one of each level."""
    corners, found = [], []
    for stride, anchors, score, delta in zip(boxes['strides'], boxes['anchors'], scores, deltas):
        anchors, (height, width) = np.array(anchors, np.float64), score.shape[1:]
        x, y = np.meshgrid(np.arange(width) * stride[0], np.arange(height) * stride[1])
        shifts = np.stack([x, y, x, y], -1).reshape(-1, 1, 4)
        anchors = (shifts + anchors).reshape(-1, 4)
        delta = delta.transpose(1, 2, 0).reshape(-1, 4) * np.array(boxes['stds']) + np.array(boxes['means'])
        size = anchors[:, 2:] - anchors[:, :2]
        middle = (anchors[:, 2:] + anchors[:, :2]) / 2 + delta[:, :2] * size
        most = abs(np.log(16 / 1000))
        size = size * np.exp(np.clip(delta[:, 2:], -most, most))
        corners.append(np.concatenate([middle - size / 2, middle + size / 2], 1))
        score = score.transpose(1, 2, 0).reshape(len(anchors), -1).astype(np.float64)
        found.append(1 / (1 + np.exp(-score)) if boxes['sigmoid'] else softmax(score)[:, :-1])
    return np.concatenate(corners), np.concatenate(found)


def kept(corners: np.ndarray, scores: np.ndarray, overlap: float, most: int) -> list:
    """Return indices of boxes of one class that no better one overlaps by more."""
    order, best = list(np.argsort(-scores, kind='stable')), []
    while order and len(best) < most:
        first = order.pop(0)
        best.append(first)
        rest = corners[order]
        low, high = np.maximum(corners[first, :2], rest[:, :2]), np.minimum(corners[first, 2:], rest[:, 2:])
        common = np.prod(np.clip(high - low, 0, None), axis=1)
        areas = np.prod(rest[:, 2:] - rest[:, :2], axis=1) + np.prod(corners[first, 2:] - corners[first, :2]) - common
        order = [index for index, share in zip(order, common / np.maximum(areas, 1e-9)) if share <= overlap]
    return best


def detections(notes: dict, outputs: dict, content: tuple, size: tuple, threshold: float) -> list:
    """Return (score, label, corners) in the picture's own pixels, the best first."""
    scores, deltas = ([outputs[name] for name in group] for group in notes['outputs'][:2])
    corners, scores = decoded(notes['boxes'], scores, deltas)
    corners[:, ::2] = np.clip(corners[:, ::2] / content[0], 0, 1) * size[0]
    corners[:, 1::2] = np.clip(corners[:, 1::2] / content[1], 0, 1) * size[1]
    inside = (corners[:, 2:] > corners[:, :2]).all(1)  # nothing is left of those beyond the edges
    corners, scores = corners[inside], scores[inside]
    most, found = notes['boxes']['most'], []
    for label in range(scores.shape[1]):
        likely = np.flatnonzero(scores[:, label] > threshold)
        likely = likely[np.argsort(-scores[likely, label], kind='stable')][:1000]
        for index in kept(corners[likely], scores[likely, label], notes['boxes']['overlap'], most):
            found.append((float(scores[likely[index], label]), label, corners[likely[index]].tolist()))
    return sorted(found, key=lambda item: -item[0])[:most]


def draw_boxes(picture: Image.Image, found: list, notes: dict) -> Image.Image:
    """Return the picture with boxes and names."""
    picture = picture.convert('RGB')
    pen = ImageDraw.Draw(picture)
    for score, label, corners in found[::-1]:
        colour = colour_of(label, None)
        pen.rectangle(corners, outline=colour, width=max(min(picture.size) // 200, 1))
        pen.text((corners[0] + 2, corners[1]), f'{name_of(label, notes["classes"])} {score:.2f}', fill=colour)
    return picture


def class_map(logits: np.ndarray, size: tuple, content: tuple, whole: tuple, threshold=None) -> np.ndarray:
    """Return labels (H, W) in the picture's own size; of one map, 1 where its probability is above a threshold."""
    best = labels = None
    for label, values in enumerate(logits.astype(np.float32)):
        values = Image.fromarray(values).resize(whole, Image.Resampling.BILINEAR).crop((0, 0, *content))
        values = np.asarray(values.resize(size, Image.Resampling.BILINEAR))
        if len(logits) == 1:
            return (1 / (1 + np.exp(-values.astype(np.float64))) > (threshold or 0.5)).astype(np.int64)
        labels = np.zeros(values.shape, np.int64) if best is None else np.where(values > best, label, labels)
        best = values if best is None else np.maximum(values, best)
    return labels


def draw_classes(picture: Image.Image, labels: np.ndarray, notes: dict) -> Image.Image:
    """Return the picture under the colours of its classes."""
    colours = np.array([colour_of(label, notes['palette']) for label in range(labels.max() + 1)], np.uint8)
    return Image.blend(picture.convert('RGB'), Image.fromarray(colours[labels]), 0.5)


def written(picture: Image.Image, path: Path) -> None:
    """Write a PNG beside its place, then rename it."""
    beside = path.with_name(f'.{path.name}.tmp')
    try:
        picture.save(beside, format='PNG')
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise Refused(f'{path} cannot be written: {error.strerror or error}') from error


def look(args: argparse.Namespace) -> None:
    """Run, print, draw."""
    network = Network(args.network)
    notes = network.notes
    try:
        picture = ImageOps.exif_transpose(Image.open(args.image)).convert('L' if notes['channels'] == 'grey' else 'RGB')
    except Exception as error:  # of whatever reads it
        raise Refused(f'{args.image} is no image that can be read: {str(error).splitlines()[0]}') from error
    task, out = notes['task'], Path(args.out or f'{Path(args.image).stem}_onnx.png')
    draws = task == 'segmentation' or task == 'detection' and notes['boxes']
    if draws and out.exists() and not args.overwrite:
        raise Refused(f'{out} exists: name another file with --out, or give --overwrite')
    ready, content = fitted(picture, notes)
    outputs = network.run(pixels_of(ready, notes['channels']))
    if task == 'classification':
        scores = softmax(next(iter(outputs.values())))
        for label in np.argsort(-scores, kind='stable')[:5]:
            print(f'{100 * scores[label]:5.1f} %  {name_of(label, notes["classes"])}')
    elif task == 'segmentation':
        logits = next(iter(outputs.values()))
        labels = class_map(logits, picture.size, content, ready.size, notes['threshold'])
        written(draw_classes(picture, labels, notes), out)
        for label, count in enumerate(np.bincount(labels.ravel())):
            if count:
                print(f'{100 * count / labels.size:5.1f} %  {name_of(label, notes["classes"])}')
        print(f'found  {out}')
    elif draws:
        found = detections(notes, outputs, content, picture.size, args.score_thr)
        written(draw_boxes(picture, found, notes), out)
        for score, label, corners in found:
            print(f'{100 * score:5.1f} %  {name_of(label, notes["classes"])}  {" ".join(f"{c:.1f}" for c in corners)}')
        print(f'found  {out}')
    else:
        for name, values in outputs.items():
            print(f'{name}  {" x ".join(map(str, values.shape))}  {values.min():.4g} to {values.max():.4g}')
        print('nothing is drawn: the file does not say what is made of its outputs')


def parse_args(argv=None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        'onnx_demo.py', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('image', help='picture')
    parser.add_argument('network', metavar='FILE.onnx', help='that export_onnx.py has written')
    parser.add_argument('--out', metavar='OUT.png', help='picture to write (default: IMAGE_onnx.png in this folder)')
    parser.add_argument('--score-thr', type=float, default=0.3, help='draw boxes above this score (default: 0.3)')
    parser.add_argument('--overwrite', action='store_true', help='replace OUT.png')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    """Run the demo and return its exit status."""
    try:
        look(parse_args(argv))
    except Refused as error:
        print(f'onnx_demo.py: error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
