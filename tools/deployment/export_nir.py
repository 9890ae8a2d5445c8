"""Write a trained network as a graph of the Neuromorphic Intermediate Representation, as far as that carries it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python tools/deployment/export_nir.py CONFIG CHECKPOINT net.nir --partial
  python tools/deployment/export_nir.py CONFIG packed/NAME net.nir --partial --check

Sums and strict thresholds, from whole pixels on: a neuron that counts to D becomes D thresholds. What the format cannot
carry (products of attention above all) is listed, and refused unless --partial is given: then the graph ends before the
first of it, and its outputs are what the rest of the network would take. In float64 its values have the bits of the
plan. It needs the extra: pip install -e ".[deploy-nir]".

exit status: 0 done, 1 --check has found other bits (then nothing is written), 2 bad input, or what NIR cannot carry,
130 interrupted
"""
SHOWN = 4  # calibration images that --check looks at


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('export_nir.py', __doc__, EXAMPLE)
    parser.add_network(
        'configuration file; its default_scope says which library', 'checkpoint file, or a packed folder'
    )
    parser.add_argument('out', metavar='OUT.nir', help='file to write')
    parser.add_argument(
        '--partial', action='store_true', help='end the graph before the first step that NIR cannot carry'
    )
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='of the images that the network takes (default: as the test pipeline makes them)',
    )
    parser.add_argument(
        '--calibrate', type=int, default=32, metavar='N', help='show the plan so many images (default: 32)'
    )
    parser.add_argument(
        '--check', action='store_true', help='read the file back, run it, and compare all bits with the plan'
    )
    parser.add_argument('--overwrite', action='store_true', help='replace OUT.nir')
    parser.add_cfg_options('model.backbone.max_spike_count=8')
    args = parser.parse_args(argv)
    for name, values in (('calibrate', [args.calibrate]), ('size', args.size or [])):
        if any(value < 1 for value in values):
            parser.error(f'--{name} must be at least 1, got {" ".join(map(str, values))}')
    if not args.out.endswith('.nir'):
        parser.error(f'OUT.nir must end in .nir, got {args.out}')
    if os.path.isdir(args.out) or os.path.exists(args.out) and not args.overwrite:
        parser.error(
            f'{args.out} exists: name another file{"" if os.path.isdir(args.out) else ", or give --overwrite"}'
        )
    return args


def carried(steps, partial: bool):
    """Print what NIR cannot carry of a plan; return the graph of what it can."""
    from qsdt_mm.deploy.nir import obstacles, to_nir
    from qsdt_mm.errors import InputError

    reasons = obstacles(steps)
    for reason in reasons:
        print(f'missing  {reason}')
    if reasons and not partial:
        raise InputError('NIR cannot carry the whole network; --partial writes what comes before the first such step')
    return to_nir(steps, partial=partial)


def export(args: argparse.Namespace, session) -> int:
    """Build, load, calibrate, compare, write."""
    from mmengine.registry import DefaultScope

    from qsdt_mm import cli
    from qsdt_mm.cli.deployment import known_preprocessing, planned
    from qsdt_mm.cli.onnx_notes import task_of
    from qsdt_mm.deploy.nir import nir_content, require_nir
    from qsdt_mm.deploy.nir_reference import check_graph
    from qsdt_mm.deploy.onnx_check import extreme_pictures
    from qsdt_mm.deploy.pretrained import holds_plan_alone
    from qsdt_mm.fileio.atomic import atomic_open

    require_nir()
    cfg = cli.load_config(args.config, args.cfg_options)
    cli.import_library(cfg)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        model = cli.build_model(cfg, None if holds_plan_alone(args.checkpoint) else args.checkpoint, session)
        steps, pixels = planned(
            cfg,
            model,
            args.checkpoint,
            session,
            task=task_of(model),
            count=args.calibrate,
            size=args.size,
            with_pixels=args.check,
        )
    with session.stage('writing the graph'):
        graph = carried(steps, args.partial)
        content = nir_content(graph)
    if args.check:
        pictures = {f'calibration image {i}': image for i, image in enumerate(pixels[:SHOWN])}
        with session.stage('comparing bits'):
            agreement = check_graph(steps, graph, content, {**pictures, **extreme_pictures(steps.shape)})
        print(f'bits     {agreement}')
        if agreement.different:
            session.note(f'{args.out} is not written: it would not have the bits of the plan')
            return 1
    with atomic_open(args.out) as file:
        file.write(content)
    for name, value in graph.outputs.items():
        size = ' x '.join(str(int(n)) for n in graph.graph.nodes[name].output_type['output'])
        print(f'output   {name}: {size}, {value} of the plan')
    size = ' x '.join(map(str, steps.shape))
    print(
        f'file     {args.out}, {len(content) / 1e6:.2f} MB: {graph.steps} of {len(steps.steps)} steps in '
        f'{len(graph.graph.nodes)} nodes, images of {size}, {known_preprocessing(model, steps)["channels"]}'
    )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return run_tool('export_nir.py', lambda session: export(args, session), args.traceback)


if __name__ == '__main__':
    sys.exit(main())
