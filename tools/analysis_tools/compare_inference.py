"""Compare a network as trained with its integer and spike-driven forms: predictions, units, bits and time."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python tools/analysis_tools/compare_inference.py configs/classification/NAME.py work_dirs/NAME/epoch_10.pth
  python tools/analysis_tools/compare_inference.py CONFIG CHECKPOINT --images 200 --json comparison.json
  python tools/analysis_tools/compare_inference.py CONFIG CHECKPOINT --coding bitwise

exit status: 0 done, 1 integer and spike differ in a bit, 2 bad input, 130 interrupted
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('compare_inference.py', __doc__, EXAMPLE)
    parser.add_network('configuration file, of any task', 'checkpoint file')
    parser.add_argument('--images', type=int, metavar='N', help='how many test images (default: all)')
    parser.add_argument('--weight-bits', type=int, choices=[2, 3, 4, 8], help='for real weights')
    parser.add_argument('--json', metavar='FILE', help='write the results to a JSON file')
    parser.add_coding('the spike-driven form')
    parser.add_require_spikes()
    parser.add_cfg_options('test_dataloader.batch_size=50')
    args = parser.parse_args(argv)
    if args.images is not None and args.images < 1:
        parser.error(f'--images must be at least 1, got {args.images}')
    return args


def compare(args: argparse.Namespace, session) -> int:
    """Run the three forms side by side."""
    import rich.console
    import rich.progress
    from mmengine.dataset import pseudo_collate
    from mmengine.logging import MMLogger
    from mmengine.registry import DefaultScope

    from qsdt_mm import cli
    from qsdt_mm.analysis.agreement import agreement, predictions, same_bits
    from qsdt_mm.analysis.unit_errors import unit_errors
    from qsdt_mm.cli.annotation_checks import check_annotation_files
    from qsdt_mm.cli.data_checks import build_samples
    from qsdt_mm.compat.noise import warnings_only
    from qsdt_mm.errors import InputError
    from qsdt_mm.fileio.reports import write_json
    from qsdt_mm.inference import convert
    from qsdt_mm.inference.slots import number_of_slots
    from qsdt_mm.models.neurons import SpikingNeuron

    cfg = cli.load_config(args.config, args.cfg_options)
    if cfg.get('test_dataloader') is None:
        raise InputError(f'config {args.config} has no test_dataloader')
    cli.import_library(cfg)
    check_annotation_files(cfg, 'test', scored=False)
    scope = cfg.get('default_scope')
    with DefaultScope.overwrite_default_scope(scope):
        model = cli.build_model(cfg, args.checkpoint, session)
        dataset = build_samples(cfg.test_dataloader.dataset, model, session)
    coding = args.coding or 'unary'
    options = dict(require_spikes=args.require_spikes, run=lambda network: predictions(network, first))
    try:
        # What stays in floats is among the lines below.
        with DefaultScope.overwrite_default_scope(scope), warnings_only(MMLogger.get_current_instance()):
            first = model.data_preprocessor(pseudo_collate([dataset[0]]), False)
            modes = dict(
                integer=convert(model, 'integer', args.weight_bits, **options),
                spike=convert(model, 'spike', args.weight_bits, coding=coding, **options),
            )
    except ValueError as error:
        raise InputError(str(error)) from error
    modes = {'float': model, **modes}
    count = min(args.images or len(dataset), len(dataset))
    size = cfg.test_dataloader.get('batch_size', 1)

    times: dict[str, list[float]] = {mode: [] for mode in modes}
    errors: dict[str, float] = {}
    same = decisions = 0
    bit_equal = True
    decided = 'top-1'
    starts = rich.progress.track(
        range(0, count, size), description='comparing', console=rich.console.Console(stderr=True)
    )
    with DefaultScope.overwrite_default_scope(scope):
        for start in starts:
            batch = pseudo_collate([dataset[i] for i in range(start, min(start + size, count))])
            data = model.data_preprocessor(batch, False)
            said = {}
            for mode, network in modes.items():
                before = time.perf_counter()
                said[mode] = predictions(network, data)
                times[mode].append(time.perf_counter() - before)
            for plain, integer, spike in zip(*said.values()):
                bit_equal &= same_bits(integer, spike)
                equal, total, decided = agreement(plain, integer)
                same, decisions = same + equal, decisions + total
            if start == 0:
                errors = unit_errors(model, modes['integer'], lambda network, data=data: predictions(network, data))

    neurons = [n for n in model.modules() if isinstance(n, SpikingNeuron)]
    slots = max(number_of_slots(n.max_spike_count, coding) * n.time_steps for n in neurons)
    seconds = {mode: statistics.median(values) for mode, values in times.items()}
    worst = max(errors, key=errors.get)
    results = dict(
        config=args.config,
        checkpoint=args.checkpoint,
        images=count,
        decisions_are=decided,
        decisions=decisions,
        same_decisions=same,
        integer_equals_spike=bit_equal,
        worst_unit=worst,
        worst_unit_relative_error=errors[worst],
        coding=coding,
        slots=slots,
        outside_units=modes['spike'].float_share,
        seconds_per_batch=seconds,
        spike_time_by_integer_time=seconds['spike'] / seconds['integer'],
    )
    lines = {
        'images': f'{count}',
        'floats': f'{modes["spike"].float_share}',
        decided: f'float and integer agree on {same} of {decisions} ({100 * same / max(decisions, 1):.2f} %)',
        'bits': 'what integer and spike say is '
        + ('equal, bit for bit' if results['integer_equals_spike'] else 'DIFFERENT'),
        'units': f'largest relative error, given equal spikes: {errors[worst]:.2g} ({worst}, of {len(errors)})',
        'time': f'spike / integer = {results["spike_time_by_integer_time"]:.2f} for {slots} {coding} slots; median '
        + ', '.join(f'{mode} {1000 * value:.0f} ms' for mode, value in seconds.items()),
    }
    for name, value in lines.items():
        print(f'{name:<10} {value}')
    if args.json:
        write_json(args.json, results)
    session.begin()
    return 0 if results['integer_equals_spike'] else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return run_tool('compare_inference.py', lambda session: compare(args, session), args.traceback)


if __name__ == '__main__':
    sys.exit(main())
