"""Write a trained network as an ONNX file that gives the same bits in every runtime, from uint8 pixels on."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python tools/deployment/export_onnx.py CONFIG CHECKPOINT net.onnx --check
  python tools/deployment/export_onnx.py CONFIG packed/NAME net.onnx --dynamic-batch --weights int4
  python tools/deployment/export_onnx.py CONFIG CHECKPOINT net.onnx --size 512 512
  python tools/test.py CONFIG net.onnx --backend onnxruntime
  python demo/onnx_demo.py IMAGE net.onnx

Classifiers are written whole, encoder-decoders up to the logits of their classes, one-stage detectors up to the maps of
their head, of other networks backbone and neck. It needs the extra: pip install -e ".[deploy]".

exit status: 0 done, 1 --check has found other bits (then nothing is written), 2 bad input, 130 interrupted
"""
SHOWN = 8  # calibration images that --check looks at


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('export_onnx.py', __doc__, EXAMPLE)
    parser.add_network(
        'configuration file; its default_scope says which library', 'checkpoint file, or a packed folder'
    )
    parser.add_argument('out', metavar='OUT.onnx', help='file to write')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='of the images that the network takes (default: as the test pipeline makes them)',
    )
    batch = parser.add_mutually_exclusive_group()
    batch.add_argument('--batch', type=int, default=1, metavar='N', help='images at a time (default: 1)')
    batch.add_argument('--dynamic-batch', action='store_true', help='any number of images at a time')
    parser.add_argument(
        '--weights',
        choices=['int8', 'int4'],
        default='int8',
        help='int4: keep weights of up to four bits as such, a file half as large that takes longer to load',
    )
    parser.add_argument(
        '--calibrate', type=int, default=32, metavar='N', help='show the plan so many images (default: 32)'
    )
    parser.add_argument(
        '--check',
        action='store_true',
        help='run it in ONNX Runtime at all levels of optimisation, and in OpenVINO where it is installed, and compare '
        'all bits',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace OUT.onnx')
    parser.add_cfg_options('model.backbone.max_spike_count=8')
    args = parser.parse_args(argv)
    for name, values in (('calibrate', [args.calibrate]), ('batch', [args.batch]), ('size', args.size or [])):
        if any(value < 1 for value in values):
            parser.error(f'--{name} must be at least 1, got {" ".join(map(str, values))}')
    if not args.out.endswith('.onnx'):
        parser.error(f'OUT.onnx must end in .onnx, got {args.out}')
    if os.path.isdir(args.out) or os.path.exists(args.out) and not args.overwrite:
        parser.error(
            f'{args.out} exists: name another file{"" if os.path.isdir(args.out) else ", or give --overwrite"}'
        )
    return args


def noted(cfg, model, steps, task: str) -> dict:
    """Return what the file says of itself."""
    from qsdt_mm.cli.deployment import known_preprocessing, metainfo
    from qsdt_mm.cli.onnx_notes import boxes_of, image_steps
    from qsdt_mm.deploy.notes import notes_of

    known = known_preprocessing(model, steps)
    meta = metainfo(cfg)
    return notes_of(
        steps,
        task=task,
        channels=known['channels'],
        classes=[str(name) for name in getattr(steps, 'classes', None) or meta.get('classes') or ()],
        mean=known.get('mean'),
        image=image_steps(cfg, task, list(steps.shape[-2:])) if len(steps.shape) == 3 else None,
        boxes=boxes_of(model) if task == 'detection' else None,
        palette=[list(colour) for colour in meta.get('palette') or ()] if task == 'segmentation' else None,
        threshold=getattr(model.decode_head, 'threshold', None) if task == 'segmentation' else None,
    )


def check(steps, content: bytes, pixels, session) -> bool:
    """Print how runtimes agree with the plan; return whether all bits are equal."""
    from importlib.util import find_spec

    from qsdt_mm.deploy.onnx_check import check_bits, extreme_pictures, kernels

    pictures = {f'calibration image {i}': image for i, image in enumerate(pixels[:SHOWN])}
    with session.stage('comparing bits'):
        found = check_bits(steps, content, {**pictures, **extreme_pictures(steps.shape)})
        print(f'kernels  {kernels(steps, content)}')
    for agreement in found:
        print(f'bits     {agreement}')
    if not find_spec('openvino'):
        session.note('openvino is not installed, so the file was not checked with it')
    return not any(agreement.different for agreement in found)


def export(args: argparse.Namespace, session) -> int:
    """Build, load, calibrate, compare, write."""
    from mmengine.registry import DefaultScope

    from qsdt_mm import cli
    from qsdt_mm.cli.deployment import planned
    from qsdt_mm.cli.onnx_notes import task_of
    from qsdt_mm.deploy.notes import write_notes
    from qsdt_mm.deploy.onnx import require_package, to_onnx
    from qsdt_mm.deploy.pretrained import holds_plan_alone
    from qsdt_mm.fileio.atomic import atomic_open

    for name in ['onnx', 'onnxruntime'] if args.check else ['onnx']:
        require_package(name)
    cfg = cli.load_config(args.config, args.cfg_options)
    cli.import_library(cfg)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        model = cli.build_model(cfg, None if holds_plan_alone(args.checkpoint) else args.checkpoint, session)
        task = task_of(model)
        if task == 'features':
            session.note(f'{type(model).__name__} has no single head: the file ends with the maps of backbone and neck')
        steps, pixels = planned(
            cfg,
            model,
            args.checkpoint,
            session,
            task=task,
            count=args.calibrate,
            size=args.size,
            with_pixels=args.check,
        )
        notes = noted(cfg, model, steps, task)
    with session.stage('writing the graph'):
        network = to_onnx(steps, weights=args.weights, batch=None if args.dynamic_batch else args.batch)
    write_notes(network, notes)
    content = network.SerializeToString()
    if args.check and not check(steps, content, pixels, session):
        session.note(f'{args.out} is not written: it would not have the bits of the plan')
        return 1
    with atomic_open(args.out) as file:
        file.write(content)
    size = ' x '.join(map(str, steps.shape))
    print(f'file     {args.out}, {len(content) / 1e6:.2f} MB: {task}, images of {size}, {notes["channels"]}')
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return run_tool('export_onnx.py', lambda session: export(args, session), args.traceback)


if __name__ == '__main__':
    sys.exit(main())
