"""Run an ONNX file that tools/deployment/export_onnx.py has written; needs numpy, pillow and onnxruntime, no torch."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

EXAMPLE = """examples:
  python demo/onnx_demo.py photo.jpg net.onnx
  python demo/onnx_demo.py street.png segmenter.onnx --out street_classes.png

Prints the likeliest classes of a classifier, or draws the class of each pixel; of other networks it prints the shapes
of the outputs.

exit status: 0 done, 2 bad input
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        'onnx_demo.py', description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('image', help='image file')
    parser.add_argument('file', metavar='FILE.onnx', help='file that export_onnx.py has written')
    parser.add_argument(
        '--out', metavar='FILE.png', help='where the map of classes goes (default: IMAGE_classes.png here)'
    )
    parser.add_argument('--overwrite', action='store_true', help='replace that file')
    return parser.parse_args(argv)


class DemoError(Exception):
    """Unusable input: one line, and status 2.

    >>> str(DemoError('net.onnx does not exist'))
    'net.onnx does not exist'
    """


def read_network(path: str) -> tuple[Any, dict[str, Any]]:
    """Return a session of ONNX Runtime and the file's notes."""
    import onnxruntime

    if not Path(path).is_file():
        raise DemoError(f'{path} does not exist')
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # whatever the runtime raises
        raise DemoError(f'{path} is no ONNX file that can be run: {str(error).splitlines()[0]}') from error
    notes = dict(session.get_modelmeta().custom_metadata_map)
    if notes.get('format') != 'qsdt_mm plan':
        raise DemoError(f'{path} was not written by tools/deployment/export_onnx.py')
    return session, {
        key: json.loads(value) if key in ('shape', 'size', 'classes', 'image', 'palette', 'mean') else value
        for key, value in notes.items()
    }


def read_pixels(path: str, notes: dict[str, Any]) -> Any:
    """Return an image as the network takes it, uint8 ``(1, C, H, W)``."""
    import numpy as np
    from PIL import Image, ImageOps

    if len(notes['shape']) != 3 or notes['shape'][0] not in (1, 3):
        raise DemoError(f'the network takes {notes["channels"]} of shape {notes["shape"]}, not an image')
    try:
        picture = ImageOps.exif_transpose(Image.open(path)).convert('L' if notes['shape'][0] == 1 else 'RGB')
    except (OSError, ValueError) as error:
        raise DemoError(f'{path} is no image that can be read: {error}') from error
    height, width = notes['size']
    for kind, *values in notes.get('image') or [['exact', height, width]]:
        if kind == 'short':
            factor = values[0] / min(picture.size)
            picture = picture.resize([max(round(side * factor), 1) for side in picture.size], Image.BICUBIC)
        elif kind == 'crop':
            left, top = (picture.width - values[1]) // 2, (picture.height - values[0]) // 2
            picture = picture.crop((left, top, left + values[1], top + values[0]))
        elif kind == 'fit':
            factor = min(height / picture.height, width / picture.width)
            mean = tuple(round(value) for value in notes.get('mean') or [0] * notes['shape'][0])
            if notes['channels'] == 'BGR':
                mean = mean[::-1]
            whole = Image.new(picture.mode, (width, height), mean if len(mean) > 1 else mean[0])
            whole.paste(picture.resize([max(round(side * factor), 1) for side in picture.size], Image.BILINEAR))
            picture = whole
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.BICUBIC)
    pixels = np.asarray(picture)
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(pixels[::-1] if notes['channels'] == 'BGR' else pixels)[None]


def show(args: argparse.Namespace) -> None:
    """Run the network, and print or draw what it says."""
    import numpy as np
    from PIL import Image

    session, notes = read_network(args.file)
    pixels = read_pixels(args.image, notes)
    batch = session.get_inputs()[0].shape[0]
    outputs = session.run(None, {'pixels': np.repeat(pixels, batch if isinstance(batch, int) else 1, 0)})
    names = notes.get('classes') or []
    if notes['task'] == 'classification':
        logits = outputs[0][0].astype(np.float64)
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        for label in np.argsort(-shares, kind='stable')[:5]:
            print(f'{100 * shares[label]:5.1f} %  {names[label] if label < len(names) else label}')
    elif notes['task'] == 'segmentation':
        out = Path(args.out or f'{Path(args.image).stem}_classes.png')
        if out.exists() and not args.overwrite:
            raise DemoError(f'{out} exists: name another file with --out, or give --overwrite')
        labels = outputs[0][0].argmax(0)
        colours = np.random.default_rng(0).integers(0, 256, (outputs[0].shape[1], 3))
        for label, colour in enumerate(notes.get('palette') or []):
            colours[label] = colour
        drawn = Image.fromarray(colours.astype(np.uint8)[labels])
        drawn.resize(notes['size'][::-1], Image.NEAREST).save(out)
        for label, count in zip(*np.unique(labels, return_counts=True)):
            print(f'{100 * count / labels.size:5.1f} %  {names[label] if label < len(names) else label}')
        print(f'drawn    {out}')
    else:
        for node, output in zip(session.get_outputs(), outputs):
            print(f'{node.name}  {tuple(output[:1].shape)}')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit status."""
    args = parse_args(argv)
    try:
        show(args)
    except ImportError as error:
        print(f'onnx_demo.py: error: {error}: pip install numpy pillow onnxruntime', file=sys.stderr)
        return 2
    except DemoError as error:
        print(f'onnx_demo.py: error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
