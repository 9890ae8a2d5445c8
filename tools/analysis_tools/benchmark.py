"""Measure speed and memory of a network: training steps, evaluation, integer and spike-driven inference."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python tools/analysis_tools/benchmark.py configs/classification/NAME.py --threads 2 --compare plain
  python tools/analysis_tools/benchmark.py CONFIG --mode integer --compare plain --json benchmark.json
  python tools/analysis_tools/benchmark.py CONFIG --size 448 --batch 2 --floor
  python tools/analysis_tools/benchmark.py CONFIG --loader --threads 2
  python tools/analysis_tools/benchmark.py CONFIG --count-calls --batch 2
  python tools/analysis_tools/benchmark.py CONFIG --mode eval --batch 1 --amp --graph
  python tools/analysis_tools/benchmark.py CONFIG --batch 128 --amp --compare plain --graph

--mode train: forward and backward pass, mean square of the outputs as the loss; eval: norms folded, weights quantized
once; integer, spike: as tools/test.py --inference. --compare plain runs the plain composition of the same formulas in
turn: of a training step, or of evaluation as trained. Images are random, weights too unless there is a checkpoint; of
a classifier the outputs are logits, of a segmenter maps, of a detector what its neck puts out.

--graph, on a GPU, measures with CUDA graphs too, in turn: training (tools/train.py --graph) or evaluation
(qsdt_mm.inference.graphed), where --batch 1 says what one image takes. Of a detector or segmenter backbone and neck
replay them.

--count-calls times nothing: it counts what a training step in bfloat16 autocast calls on a GPU, without one. A call is
an operator of ATen or a launch of a Triton kernel; the optimizer's are left out. Where there is a GPU, what its
profiler saw launched stands beside them.

exit status: 0 done, 2 bad input, 130 interrupted
"""
MOST = 20  # places that are listed
MODES = ('train', 'eval', 'integer', 'spike')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('benchmark.py', __doc__, EXAMPLE)
    parser.add_network('configuration file', 'checkpoint file; without it the weights are random', optional=True)
    parser.add_argument('--mode', choices=MODES, default='train', help='what to measure (default: train)')
    parser.add_argument('--batch', type=int, default=4, metavar='N', help='images in a batch (default: 4)')
    parser.add_argument('--size', type=int, default=224, metavar='S', help='height and width (default: 224)')
    parser.add_argument('--compare', choices=['plain'], help='measure the plain path too, in turn, and say the ratio')
    parser.add_argument('--graph', action='store_true', help='measure with CUDA graphs too, and say the ratio')
    parser.add_argument('--amp', action='store_true', help='bfloat16 autocast')
    parser.add_argument('--repeats', type=int, default=7, metavar='N', help='measured runs (default: 7)')
    parser.add_argument('--warm-up', type=int, default=2, metavar='N', help='runs before them (default: 2)')
    parser.add_argument('--threads', type=int, metavar='N', help='threads of the CPU (default: as torch has it)')
    parser.add_argument('--weight-bits', type=int, choices=[2, 3, 4, 8], help='for real weights in integer and spike')
    parser.add_argument('--device', help='such as cpu or cuda:0 (default: the GPU if there is one)')
    parser.add_argument('--floor', action='store_true', help="compare with the machine's own rates")
    parser.add_argument('--loader', action='store_true', help="the share that the training data's loader has of a step")
    parser.add_argument('--count-calls', action='store_true', help='count the operator calls of a step on a GPU')
    parser.add_argument('--json', metavar='FILE', help='write the results to a JSON file')
    parser.add_coding('--mode spike')
    parser.add_require_spikes()
    parser.add_cfg_options('model.backbone.with_cp=True')
    args = parser.parse_args(argv)
    for name, least in (('batch', 1), ('size', 32), ('repeats', 1), ('warm_up', 0), ('threads', 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            parser.error(f'--{name.replace("_", "-")} must be at least {least}, got {value}')
    if args.amp and args.mode in ('integer', 'spike'):
        parser.error(f'--amp goes with --mode train or eval, got --mode {args.mode}')
    if args.coding and args.mode != 'spike':
        parser.error(f'--coding goes with --mode spike, got --mode {args.mode}')
    if args.require_spikes and args.mode not in ('integer', 'spike'):
        parser.error(f'--require-spikes goes with --mode integer or spike, got --mode {args.mode}')
    if args.loader and args.mode != 'train':
        parser.error(f'--loader goes with --mode train, got --mode {args.mode}')
    if args.count_calls:
        if args.mode != 'train':
            parser.error(f'--count-calls goes with --mode train, got --mode {args.mode}')
        for name in ('loader', 'floor'):
            if getattr(args, name):
                parser.error(f'--count-calls times nothing, --{name} does: leave one of them out')
    return args


def outputs_of(model, images) -> list:
    """Return the network's outputs for images, as tensors."""
    from qsdt_mm.analysis.timing import tensors_in

    if hasattr(model, 'roi_head') or hasattr(model, 'bbox_head'):
        return list(tensors_in(model.extract_feat(images)))
    return list(tensors_in(model(images, mode='tensor')))


def forms(args: argparse.Namespace, model, images) -> dict[str, tuple[Any, Callable[[], Any]]]:
    """By name: a network, and a call that does with it what is to be measured."""
    import torch
    from mmengine.logging import MMLogger

    from qsdt_mm.analysis.reference import plain_path
    from qsdt_mm.compat.noise import warnings_only
    from qsdt_mm.compat.wrappers import bare_copy
    from qsdt_mm.engine.training_graphs import graphed_training
    from qsdt_mm.errors import InputError
    from qsdt_mm.inference import convert, fold_norms, graphed

    def autocast():
        return torch.autocast(images.device.type, torch.bfloat16, enabled=args.amp)

    def step_of(network) -> Callable[[], Any]:
        def step():
            network.zero_grad()
            with autocast():
                outputs = outputs_of(network, images)
            sum(out.float().square().mean() for out in outputs).backward()

        return step

    def evaluate(network) -> Callable[[], Any]:
        @torch.no_grad()
        def run():
            with autocast():
                return outputs_of(network, images)

        return run

    def plainly(run: Callable[[], Any]) -> Callable[[], Any]:
        def plain():
            with plain_path():
                return run()

        return plain

    if args.mode == 'train':
        model.train()
        found = {'train': (model, step_of(model))}
        if args.graph:
            with_graphs = graphed_training(bare_copy(model).train())
            found['graph'] = (with_graphs, step_of(with_graphs))
    else:
        model.eval()
        try:
            if args.mode == 'eval':
                form = fold_norms(model)
            else:
                options = dict(require_spikes=args.require_spikes, run=lambda network: outputs_of(network, images[:1]))
                with warnings_only(MMLogger.get_current_instance()):  # what stays in floats is among the results
                    form = convert(model, args.mode, args.weight_bits, coding=args.coding or 'unary', **options)
        except ValueError as error:
            raise InputError(f'--mode {args.mode}: {error}') from error
        found = {args.mode: (form, evaluate(form))}
        if args.graph and args.mode != 'train':
            with_graphs = graphed(bare_copy(form))
            found['graph'] = (with_graphs, evaluate(with_graphs))
    if args.compare:
        found['plain'] = (model, plainly(step_of(model) if args.mode == 'train' else evaluate(model)))
    return found


def time_the_loader(cfg, model, session, device, batches: int) -> dict[str, float]:
    """Measure the time that steps of training wait for their data."""
    import time

    from mmengine.runner import Runner

    from qsdt_mm.analysis.timing import synchronize

    with session.stage('config'):
        loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    model.train()
    waiting = working = 0.0
    iterator, done = iter(loader), 0
    while done <= batches:
        start = time.perf_counter()
        batch = next(iterator, None)
        if batch is None:
            iterator = iter(loader)
            continue
        loaded = time.perf_counter()
        data = model.data_preprocessor(batch, True)
        losses = model(**data, mode='loss')
        model.zero_grad()
        model.parse_losses(losses)[0].backward()
        synchronize(device)
        if done:  # workers start with the first
            waiting += loaded - start
            working += time.perf_counter() - loaded
        done += 1
    return dict(batches=batches, waiting=waiting / batches, working=working / batches)


def measure(args: argparse.Namespace, session) -> None:
    """Build, run, and report."""
    import torch
    from mmengine.registry import DefaultScope

    from qsdt_mm import cli
    from qsdt_mm.analysis import timing as benchmark
    from qsdt_mm.analysis.memory import bytes_saved_for_backward
    from qsdt_mm.errors import InputError, one_line
    from qsdt_mm.fileio.reports import write_json

    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        device = torch.device(args.device or ('cuda' if torch.cuda.is_available() else 'cpu'))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f'--device {args.device}: {one_line(error)}') from error
    if args.graph and device.type != 'cuda':
        raise InputError(f'--graph needs a GPU, the device is {device}')
    cfg = cli.load_config(args.config, args.cfg_options)
    cli.import_library(cfg)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        model = cli.build_model(cfg, args.checkpoint, session).to(device)
        channels = model.backbone.in_channels
        steps = model.backbone.time_steps
        shape = (args.batch, *((steps,) if steps > 1 and channels == 2 else ()), channels, args.size, args.size)
        images = torch.randn(shape, device=device)
        if args.count_calls:
            session.begin()
            count(args, model.train(), images)
            return
        found = forms(args, model, images)
        session.begin()
        measured: dict[str, Any] = dict(
            config=args.config,
            mode=args.mode,
            batch=args.batch,
            size=args.size,
            amp=args.amp,
            device=str(device) if device.type == 'cpu' else torch.cuda.get_device_name(device),
            threads=torch.get_num_threads(),
            torch=torch.__version__,
        )
        share = getattr(found[args.mode][0], 'float_share', None)
        if share is not None:
            measured['outside_units'] = share
        for _, run in found.values():
            for _ in range(max(args.warm_up, 2 if args.graph else 1)):  # the second time captures
                run()
        seconds = benchmark.seconds_of({name: run for name, (_, run) in found.items()}, args.repeats, device)
        for name, (network, run) in found.items():
            # What graphs keep lies beside what the allocator counts.
            peak = None if name == 'graph' else benchmark.peak_bytes(run, device)
            row = dict(seconds=benchmark.summary(seconds[name]), peak_bytes=peak)
            row['images_per_second'] = args.batch / row['seconds']['median']
            if args.mode == 'train':
                row['bytes_saved_for_backward_per_image'] = (
                    bytes_saved_for_backward(network, forward_only(args, network, images, name)) // args.batch
                )
            measured[name] = row
        if args.compare:
            ratios = [slow / fast for slow, fast in zip(seconds['plain'], seconds[args.mode])]
            measured['plain_time_by_this'] = benchmark.summary(ratios)
        if args.graph:
            ratios = [slow / fast for slow, fast in zip(seconds[args.mode], seconds['graph'])]
            measured['time_by_that_of_graphs'] = benchmark.summary(ratios)
        if args.floor:
            rates = benchmark.machine_rates(device)
            model.eval()
            counts = benchmark.work(model, lambda: outputs_of(model, images))
            floor = benchmark.floor_seconds(counts, rates, args.mode == 'train')
            measured['floor'] = dict(seconds=floor, **counts, **rates)
        if args.loader:
            measured['loader'] = time_the_loader(cfg, model, session, device, max(args.repeats, 2))
    report(measured, args)
    if args.json:
        write_json(args.json, measured)


def count(args: argparse.Namespace, model, images) -> None:
    """Count the calls of a training step on a GPU, and report."""
    import torch

    from qsdt_mm.analysis.calls import PHASES, count_calls, count_launches
    from qsdt_mm.analysis.reference import plain_path
    from qsdt_mm.fileio.reports import write_json

    device = images.device
    measured: dict[str, Any] = dict(
        config=args.config, batch=args.batch, size=args.size, dtype='bfloat16', torch=torch.__version__
    )
    if device.type == 'cuda':
        args.amp, args.compare, compare = True, None, args.compare
        _, run = forms(args, model, images)['train']
        measured['launches'] = dict(device=torch.cuda.get_device_name(device), calls=count_launches(run, device))
        args.compare, model, images = compare, model.cpu(), images.cpu()
    counts = count_calls(model, lambda: outputs_of(model, images))
    measured.update(counts.as_dict())
    if args.compare:
        with plain_path():
            plain = count_calls(model, lambda: outputs_of(model, images), gpu=False)
        measured['plain'] = plain.as_dict()
    print(
        f'{"counted":<10} {args.config}: a training step as on a GPU, batches of {args.batch} at {args.size} px, '
        f'bfloat16 autocast, torch {torch.__version__}'
    )
    for name, found in {'train': counts, **({'plain': plain} if args.compare else {})}.items():
        parts = [f'{phase} {found.calls(phase):,}, {found.bytes(phase) / 1e6:,.1f} MB' for phase in PHASES]
        print(f'{name:<10} {found.calls():,} calls, {found.bytes() / 1e6:,.1f} MB ({"; ".join(parts)})')
    if 'launches' in measured:
        print(f'{"launches":<10} {measured["launches"]["calls"]:,} on {measured["launches"]["device"]}')
    for column in ('module', 'function', 'operator'):
        print(f'\nby {column}')
        for name, n, size in counts.by(column)[:MOST]:
            print(f'{n:10,} {size / 1e6:10,.1f} MB  {name or "-"}')
    if args.json:
        write_json(args.json, measured)


def forward_only(args: argparse.Namespace, model, images, name: str) -> Callable[[], Any]:
    """Return a forward pass in training that ends in the loss, for what it keeps."""
    from contextlib import nullcontext

    import torch

    from qsdt_mm.analysis.reference import plain_path

    def run():
        with plain_path() if name == 'plain' else nullcontext():
            with torch.autocast(images.device.type, torch.bfloat16, enabled=args.amp):
                outputs = outputs_of(model, images)
            return sum(out.float().square().mean() for out in outputs)

    return run


def report(measured: dict[str, Any], args: argparse.Namespace) -> None:
    """Print the report."""
    print(
        f'{"measured":<10} {args.config}: batches of {args.batch} at {args.size} px, '
        f'{"bfloat16 autocast" if args.amp else "float32"}, {measured["device"]}, '
        f'{measured["threads"]} threads, torch {measured["torch"]}'
    )
    if 'outside_units' in measured:
        print(f'{"floats":<10} {measured["outside_units"]}')
    for name in (args.mode, 'graph', 'plain'):
        if name not in measured:
            continue
        row = measured[name]
        times = row['seconds']
        parts = [
            f'{1000 * times["median"]:.1f} ms ({1000 * times["fastest"]:.1f} to {1000 * times["slowest"]:.1f})',
            f'{row["images_per_second"]:.2f} images/s',
        ]
        if row['peak_bytes'] is not None:
            parts.append(f'peak {row["peak_bytes"] / 1e6:.0f} MB')
        if 'bytes_saved_for_backward_per_image' in row:
            parts.append(f'kept for backward {row["bytes_saved_for_backward_per_image"] / 1e6:.1f} MB an image')
        print(f'{name:<10} {", ".join(parts)}')
    if args.compare:
        ratio = measured['plain_time_by_this']
        print(
            f'{"ratio":<10} {ratio["median"]:.2f} times as fast as plain '
            f'({ratio["fastest"]:.2f} to {ratio["slowest"]:.2f})'
        )
    if args.graph:
        ratio = measured['time_by_that_of_graphs']
        print(
            f'{"graphs":<10} {ratio["median"]:.2f} times as fast as without '
            f'({ratio["fastest"]:.2f} to {ratio["slowest"]:.2f})'
        )
    if args.floor:
        floor = measured['floor']
        share = floor['seconds'] / measured[args.mode]['seconds']['median']
        print(
            f'{"floor":<10} {1000 * floor["seconds"]:.1f} ms, {100 * share:.0f} % of the time taken: '
            f'{floor["macs"]:,} MACs at {floor["macs_per_second"] / 1e9:.1f} G/s, {4 * floor["values"] / 1e6:.0f} MB '
            f'at {floor["bytes_per_second"] / 1e9:.1f} GB/s'
        )
    if args.loader:
        loader = measured['loader']
        share = loader['waiting'] / (loader['waiting'] + loader['working'])
        print(
            f'{"loader":<10} {100 * share:.1f} % of a step: waits {1000 * loader["waiting"]:.1f} ms for its data, '
            f'works {1000 * loader["working"]:.0f} ms'
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return run_tool('benchmark.py', lambda session: measure(args, session), args.traceback)


if __name__ == '__main__':
    sys.exit(main())
