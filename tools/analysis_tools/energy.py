"""Count spikes, operations, memory accesses and theoretical energy of a network on images."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python tools/analysis_tools/energy.py configs/classification/NAME.py work_dirs/NAME/epoch_10.pth
  python tools/analysis_tools/energy.py CONFIG CHECKPOINT --images 500 --json energy.json --plot energy.png
  python tools/analysis_tools/energy.py CONFIG CHECKPOINT --images folder/of/images --preset int8 --merge
  python tools/analysis_tools/energy.py CONFIG CHECKPOINT --energies mine.yaml --place weights=dram --coding bitwise

exit status: 0 done, 2 bad input, 130 interrupted
"""
PRESETS = ('fp32', 'fp16', 'int8')
SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('energy.py', __doc__, EXAMPLE)
    parser.add_network(
        'configuration file',
        'checkpoint file, or a packed folder that can be trained; without it the weights are random',
        optional=True,
    )
    parser.add_argument(
        '--images',
        default='64',
        metavar='N|DIR',
        help="how many images of the configuration's test data, or a folder of images (default: 64)",
    )
    parser.add_argument(
        '--preset', choices=PRESETS, default='fp32', help='energy of an operation at 45 nm (default: fp32)'
    )
    parser.add_argument(
        '--merge', action='store_true', help='count each chain of convolutions as the single one it merges into'
    )
    parser.add_argument('--json', metavar='FILE', help='write all results to a JSON file')
    parser.add_argument(
        '--plot', metavar='FILE.png', help='draw firing rates, energies and counts, with T > 1 also by time step'
    )
    parser.add_coding('spikes where operations are counted; memory is counted for both')
    parser.add_argument(
        '--dataflow',
        choices=['each-read', 'weight-stationary'],
        help='how data move, see docs/en/energy.md (default: both)',
    )
    parser.add_argument(
        '--energies',
        metavar='FILE',
        help='energies of operations and of memory, a .json, .yaml or .py file (default: those at 45 nm)',
    )
    parser.add_argument(
        '--place',
        nargs='+',
        action='extend',
        metavar='KIND=LEVEL',
        help='where weights, activations and membranes lie: sram (8 kB, the default), sram_32k, sram_1m, dram, or a '
        'level of the file',
    )
    parser.add_argument(
        '--weight-bits', type=int, choices=[2, 3, 4, 8], help='count the memory of real weights as of so many bits'
    )
    parser.add_require_spikes()
    parser.add_cfg_options('test_dataloader.batch_size=8')
    args = parser.parse_args(argv)
    if args.plot and not args.plot.endswith('.png'):
        parser.error(f'--plot must end in .png, got {args.plot}')
    if args.images.isdigit() and int(args.images) < 1:
        parser.error(f'--images must be at least 1 or a folder, got {args.images}')
    wrong = [place for place in args.place or [] if place.count('=') != 1]
    if wrong:
        parser.error(f'--place takes KIND=LEVEL, such as weights=dram, got {wrong[0]}')
    return args


def samples_of(cfg, args: argparse.Namespace, model, session) -> tuple[Iterator[dict], int]:
    """Return samples as the configuration's test pipeline packs them, and their number."""
    from mmengine.dataset import Compose

    from qsdt_mm.cli.data_checks import build_samples
    from qsdt_mm.datasets.labels import CheckedPipeline, Limits
    from qsdt_mm.errors import InputError

    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader')
    if loader is None:
        raise InputError(f'config {args.config} has no test_dataloader')
    if args.images.isdigit():
        dataset = build_samples(loader.dataset, model, session)
        count = min(int(args.images), len(dataset))
        return (dataset[i] for i in range(count)), count
    folder = Path(args.images)
    if not folder.is_dir():
        raise InputError(f'--images {args.images} is neither a number nor a folder')
    files = sorted(path for path in folder.rglob('*') if path.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f'--images {args.images} holds no images ({", ".join(SUFFIXES)})')
    pipeline = [dict(step) for step in loader.dataset.pipeline if not step['type'].startswith('LoadAnnotations')]
    if pipeline[0]['type'] != 'LoadImageFromFile':  # the configuration's own data come as arrays
        pipeline.insert(0, dict(type='LoadImageFromFile'))
    compose = CheckedPipeline(Compose(pipeline), Limits(None))
    return (compose(dict(img_path=str(path), img_id=i)) for i, path in enumerate(files)), len(files)


def chunks(items: Iterable, size: int) -> Iterator[list]:
    """Yield lists of ``size`` items, the last one shorter."""
    items = iter(items)
    while chunk := list(itertools.islice(items, size)):
        yield chunk


def print_report(report, network: str) -> None:
    """Print the report as a table."""
    from rich.console import Console
    from rich.table import Table

    from qsdt_mm.models.layers.float_layers import percent

    results = report.as_dict()
    table = Table(box=None, pad_edge=False, header_style='bold')
    for title, justify in (
        ('layer', 'left'),
        ('kind', 'left'),
        ('driven by', 'left'),
        ('rate', 'right'),
        ('dense MACs', 'right'),
        ('SOPs', 'right'),
        ('energy, uJ', 'right'),
    ):
        table.add_column(title, justify=justify, no_wrap=True)
    for row in report.layers:
        rate = '' if row.rate is None else f'{row.rate:.3f}'
        sops = f'{row.sops:,.0f}' if row.driven_by == 'spikes' else ''
        table.add_row(row.name, row.kind, row.driven_by, rate, f'{row.macs:,.0f}', sops, f'{row.energy * 1e-6:.4g}')
    Console(width=200, soft_wrap=True).print(table)
    total, preset = results['total'], results['preset']
    lines = {
        'network': network,
        'images': f'{report.images}',
        'energies': f'{preset["name"]}: {preset["mac_pj"]} pJ a MAC, {preset["ac_pj"]} pJ an AC (45 nm)',
        'rule': report.rule,
        'firing rate': f'{total["firing_rate"]:.4f}',
        'counts': ', '.join(f'{n}: {100 * share:.1f} %' for n, share in enumerate(total['count_distribution'])),
        'by time step': ', '.join(f'{rate:.4f}' for rate in total['firing_rate_by_step']),
        'SOPs': f'{total["sops"]:,.0f} an image, besides {total["macs"]:,.0f} MACs'
        + (f' and {total["shifts"]:,.0f} shifts of sums between slots' if total['shifts'] else ''),
        'energy': f'{total["energy_mj"]:.5g} mJ an image',
        'dense network': f'{total["dense_energy_mj"]:.5g} mJ an image ({total["dense_macs"]:,.0f} MACs)',
    }
    outside = total['outside_units']
    if outside['layers']:
        plural = '' if outside['layers'] == 1 else 's'
        lines['outside units'] = (
            f'{outside["layers"]} layer{plural}, driven by floats: {outside["macs"]:,.0f} MACs, '
            f'{percent(outside["share"])} of the dense network: {", ".join(outside["names"])}'
        )
    if len(total['firing_rate_by_step']) == 1:
        del lines['by time step']
    metrics = results['neurobench']
    operations = metrics.pop('synaptic_operations')
    lines['NeuroBench'] = ', '.join(
        f'{name} {value:.4g}' if isinstance(value, float) and value < 1 else f'{name} {value:,.0f}'
        for name, value in (*metrics.items(), *operations.items())
    )
    for name, value in lines.items():
        print(f'{name:<14} {value}')


def print_memory(dataflow: str, tallies: dict, table, title: bool) -> None:
    """Print energies with memory of each form, and the accesses that they come from."""
    from rich.console import Console
    from rich.table import Table

    from qsdt_mm.analysis.traffic import DATAFLOWS

    energies = Table(box=None, pad_edge=False, header_style='bold')
    found = {name: tally.as_dict(table) for name, tally in tallies.items()}
    levels = sorted({level for form in found.values() for level in form['by_level_mj']}, key=[*table.levels].index)
    kinds = [*table.placement, 'sums']
    titles = [
        'uJ an image',
        'all',
        'operations',
        *(f'in {level}' for level in levels),
        *(f'of {kind}' for kind in kinds),
    ]
    for i, words in enumerate(titles):
        energies.add_column(words, justify='right' if i else 'left', no_wrap=True)
    for name, form in found.items():
        values = [form['energy_mj'], form['operations_mj']]
        values += [form['by_level_mj'].get(level, 0.0) for level in levels]
        values += [form['by_kind_mj'].get(kind, 0.0) for kind in kinds]
        energies.add_row(name, *(f'{1000 * value:.4g}' for value in values))
    accesses = Table(box=None, pad_edge=False, header_style='bold')
    for i, words in enumerate(('accesses an image', 'of', 'in', 'bits', 'reads', 'writes', 'energy, uJ')):
        accesses.add_column(words, justify='right' if i > 2 else 'left', no_wrap=True)
    for name, form in found.items():
        for row in form['accesses']:
            counts = (f'{row[key]:,.0f}' for key in ('bits', 'reads', 'writes'))
            accesses.add_row(name, row['kind'], row['level'], *counts, f'{1000 * row["energy_mj"]:.4g}')
    if title:
        places = ', '.join(f'{kind} in {level}' for kind, level in table.placement.items())
        bits = ', '.join(
            f'{level} {value if isinstance(value, dict) else format(value, ".3g")}'
            for level, value in table.levels.items()
        )
        print(f'\nwith memory    {table.name}; pJ a bit: {bits}; {places}')
    print(f'\n{dataflow}: {DATAFLOWS[dataflow]}.')
    console = Console(width=200, soft_wrap=True)
    console.print(energies)
    print()
    console.print(accesses)


def measure(args: argparse.Namespace, session) -> None:
    """Build, load, count, and report."""
    import rich.progress
    from mmengine.dataset import pseudo_collate
    from mmengine.registry import DefaultScope

    from qsdt_mm import cli
    from qsdt_mm.analysis import measure_energy
    from qsdt_mm.analysis.energy_table import HOROWITZ, load_energy_table
    from qsdt_mm.analysis.traffic import DATAFLOWS
    from qsdt_mm.cli.annotation_checks import check_annotation_files
    from qsdt_mm.errors import InputError
    from qsdt_mm.fileio.reports import write_json
    from qsdt_mm.models.layers.float_layers import float_share
    from qsdt_mm.visualization.energy import plot_energy

    table = load_energy_table(args.energies) if args.energies else HOROWITZ
    table = table.placing(dict(place.split('=') for place in args.place or []))
    cfg = cli.load_config(args.config, args.cfg_options)
    cli.import_library(cfg)
    if args.images.isdigit():
        check_annotation_files(cfg, 'test', scored=False)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        model = cli.build_model(cfg, args.checkpoint, session)
        with session.stage('building the images'):
            samples, count = samples_of(cfg, args, model, session)
    batch_size = (cfg.get('test_dataloader') or cfg.val_dataloader).get('batch_size', 1)
    if args.require_spikes:
        sample = next(samples)
        samples = itertools.chain([sample], samples)
        try:
            float_share(model, lambda network: network.test_step(pseudo_collate([sample]))).require_spikes()
        except ValueError as error:
            raise InputError(str(error)) from error
    progress = rich.progress.track(
        samples, total=count, description='counting', console=rich.console.Console(stderr=True)
    )

    def run(batch: list[dict]) -> int:
        model.test_step(pseudo_collate(batch))
        return len(batch)

    try:
        report = measure_energy(
            model, chunks(progress, batch_size), args.preset, args.merge, run, args.coding or 'unary'
        )
    except ValueError as error:
        raise InputError(str(error)) from error
    print_report(
        report, f'{args.config}, ' + (args.checkpoint or 'random weights: results are those of no trained network')
    )
    memory = {
        dataflow: report.memory(dataflow, table, args.weight_bits)
        for dataflow in ([args.dataflow] if args.dataflow else DATAFLOWS)
    }
    for i, (dataflow, tallies) in enumerate(memory.items()):
        print_memory(dataflow, tallies, table, title=i == 0)
    if args.json:
        forms = {
            dataflow: {name: tally.as_dict(table) for name, tally in tallies.items()}
            for dataflow, tallies in memory.items()
        }
        assumptions = {dataflow: DATAFLOWS[dataflow] for dataflow in memory}
        write_json(
            args.json,
            dict(
                config=args.config,
                checkpoint=args.checkpoint,
                **report.as_dict(),
                memory=dict(energies=table.as_dict(), assumptions=assumptions, forms=forms),
            ),
        )
    if args.plot:
        plot_energy(report, args.plot, memory, table)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return run_tool('energy.py', lambda session: measure(args, session), args.traceback)


if __name__ == '__main__':
    sys.exit(main())
