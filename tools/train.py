"""Train a model: one tool for mmpretrain, mmdet and mmseg configurations."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python tools/train.py configs/classification/NAME.py
  python tools/train.py CONFIG --work-dir work_dirs/short --epochs 3
  python tools/train.py CONFIG --work-dir work_dirs/try --cfg-options optim_wrapper.optimizer.lr=1e-3
  python tools/train.py CONFIG --work-dir work_dirs/try --resume auto

exit status: 0 done, 1 training failed, 2 bad input, 130 interrupted, 143 terminated
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('train.py', __doc__, EXAMPLE)
    parser.add_argument('config', help='configuration file; its default_scope says which library')
    parser.add_argument(
        '--work-dir',
        metavar='DIR',
        help="where logs and checkpoints go (default: the configuration's, or work_dirs/<name of the configuration>)",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        '--epochs', type=int, metavar='N', help='train for N epochs, with the schedule stretched to them'
    )
    length.add_argument('--iters', type=int, metavar='N', help='the same where a run counts iterations')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='FILE',
        help='go on from a checkpoint; "auto" or nothing: from the newest whole one in the work '
        'directory, if there is one',
    )
    parser.add_argument(
        '--new-optimizer',
        action='store_true',
        help='with --resume: a new optimizer (its averages of gradients start anew), also for a checkpoint without one',
    )
    parser.add_argument(
        '--new-schedule',
        action='store_true',
        help="with --resume: the configuration's learning rates, other settings of the optimizer and param_scheduler, "
        "at the epoch or iteration where the run goes on, in place of the checkpoint's",
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='start anew in a work directory that holds checkpoints, and remove them',
    )
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision: bfloat16, on GPUs without it float16 with loss scaling'
    )
    parser.add_argument(
        '--graph',
        action='store_true',
        help='train with CUDA graphs, where the GPU waits for Python (cuda_graphs=True of a configuration)',
    )
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate while training')
    parser.add_argument(
        '--tensorboard',
        action='store_true',
        help='write curves for TensorBoard too (tensorboard --logdir DIR)',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by batch size / auto_scale_lr.base_batch_size',
    )
    parser.add_cfg_options('model.backbone.time_steps=2 optim_wrapper.optimizer.lr=1e-3')
    parser.add_launcher()
    args = parser.parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if args.resume is not None and args.overwrite:
        parser.error('--resume and --overwrite exclude each other')
    return args


def computes_in_bf16() -> bool:
    """Return whether the GPU's units compute in bfloat16."""
    import torch

    try:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    except TypeError:  # torch 2.1 counts those only
        return torch.cuda.is_bf16_supported()


def enable_amp(cfg) -> None:
    """Switch the optimizer wrapper to mixed precision."""
    import torch

    from qsdt_mm.errors import InputError

    wrapper = cfg.get('optim_wrapper')
    kind = wrapper.get('type', 'OptimWrapper') if wrapper is not None else None
    if kind not in ('OptimWrapper', 'AmpOptimWrapper', 'CpuAmpOptimWrapper'):
        raise InputError(f'--amp works with optim_wrapper.type OptimWrapper or AmpOptimWrapper, got {kind}')
    if torch.cuda.is_available():
        wrapper.type = 'AmpOptimWrapper'
        if not {'dtype', 'loss_scale'} & set(wrapper) and computes_in_bf16():
            wrapper.update(dtype='bfloat16', loss_scale=dict(enabled=False))  # its range is float32's
        wrapper.setdefault('loss_scale', 'dynamic')
    else:
        wrapper.type = 'CpuAmpOptimWrapper'
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            wrapper.pop(key, None)


def enable_tensorboard(cfg) -> None:
    """Add mmengine's TensorBoard backend to the visualizer."""
    from qsdt_mm.errors import InputError

    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise InputError(f'--tensorboard needs tensorboard ({error}): pip install tensorboard') from error
    if cfg.get('visualizer') is None:
        cfg.visualizer = dict(type='Visualizer')
    visualizer = cfg.visualizer
    backends = visualizer.get('vis_backends')
    if backends is None:
        backends = [dict(type='LocalVisBackend')]
    backends = list(backends) if isinstance(backends, (list, tuple)) else [backends]
    if not any('TensorboardVisBackend' in str(backend.get('type')) for backend in backends):
        visualizer['vis_backends'] = [*backends, dict(type='TensorboardVisBackend')]


def choose_start(cfg, args: argparse.Namespace, directories: list[Path], session):
    """Decide where training starts; return the checkpoint that it starts from, if any, read once and for all."""
    from qsdt_mm.errors import InputError
    from qsdt_mm.fileio.checkpoint import (
        IncompleteCheckpoint,
        checkpoints_of,
        load_checkpoint_safely,
        load_training_state,
        newest_training_state,
    )
    from qsdt_mm.fileio.own_files import inside

    work_dir, present = directories[0], checkpoints_of(*directories)
    held = f'{present[0].parent} already holds checkpoints ({present[0].name})' if present else ''
    resume = args.resume
    if resume is None and cfg.get('resume') and not args.overwrite:
        resume = cfg.get('load_from') or 'auto'
    if resume is None and (args.new_optimizer or args.new_schedule):
        option = '--new-optimizer' if args.new_optimizer else '--new-schedule'
        raise InputError(f'{option} says how to go on from a checkpoint: it needs --resume')
    wanted = dict(optimizer=not args.new_optimizer, schedule=bool(cfg.get('param_scheduler')) and not args.new_schedule)
    if resume is None:
        cfg.resume = False
        if present and not args.overwrite:
            raise InputError(
                f'{held}: go on with --resume auto, start anew with --overwrite, or choose another --work-dir'
            )
        start = cfg.get('load_from')
        if not start or '://' in str(start):
            return None
        if any(path.samefile(start) for path in present if Path(start).is_file()):
            raise InputError(f'--overwrite would remove load_from={start}: choose another --work-dir')
        return load_checkpoint_safely(start)
    if resume == 'auto':
        import warnings

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            found = newest_training_state(*directories, **wanted)
        for warning in caught:
            session.note(f'warning: {warning.message}')
        if found is None:
            incomplete = [warning for warning in caught if issubclass(warning.category, IncompleteCheckpoint)]
            if incomplete:  # to start anew would replace it
                first = str(incomplete[0].message).removeprefix('skipped: ')
                raise InputError(f'{first}, neither can another in {work_dir}: --overwrite starts anew')
            session.note(f'nothing to resume in {work_dir}: training starts from the beginning')
            if present:
                session.note(f'warning: {present[0]} is of a run before, and may be replaced: copy it to keep it')
            cfg.resume = False
            return None
        resume, state = str(found[0]), found[1]
        session.note(f'resuming from {resume}')
    elif present and not inside(resume, directories):
        raise InputError(
            f'{held}, and {resume} is of another run: go on with --resume auto, or choose another --work-dir'
        )
    else:
        state = load_training_state(resume, **wanted)
    seed = state['meta'].get('seed')
    if seed is not None:  # the samplers are built before mmengine restores the seed
        randomness = dict(cfg.get('randomness') or {})
        if randomness.get('seed') not in (None, seed):
            session.note(f"warning: randomness.seed={randomness['seed']} gives way to the checkpoint's seed {seed}")
        cfg.randomness = {**randomness, 'seed': seed}
    cfg.resume, cfg.load_from = True, resume
    return state


def say_how_to_resume(runner, args: argparse.Namespace, session) -> None:
    """Hand the options over to the runner, and let it warn as the tool does."""
    from qsdt_mm.engine.resuming import ResumingRunner
    from qsdt_mm.errors import InputError

    if isinstance(runner, ResumingRunner):
        runner.new_optimizer, runner.new_schedule = args.new_optimizer, args.new_schedule
        runner.remark = lambda text: session.note(f'warning: {text}')
    elif args.new_optimizer or args.new_schedule:
        raise InputError(f'--new-optimizer and --new-schedule need the usual runner, not {type(runner).__name__}')


def train(args: argparse.Namespace, session) -> None:
    """Set up, then train."""
    from qsdt_mm import cli
    from qsdt_mm.cli.annotation_checks import check_annotation_files
    from qsdt_mm.cli.cfg_options import check_loop
    from qsdt_mm.cli.class_checks import check_class_weights, check_same_classes
    from qsdt_mm.cli.data_checks import check_loader
    from qsdt_mm.cli.data_settings import drop_unmeant
    from qsdt_mm.cli.last_lines import after_training, say
    from qsdt_mm.cli.rehearsal import MonitorHook, check_monitored, monitored, rehearse, restore_monitors
    from qsdt_mm.cli.run import build_run, complete_config, launched
    from qsdt_mm.cli.schedule import cut_short, stretch, without_empty
    from qsdt_mm.cli.void_labels import check_void_labels
    from qsdt_mm.datasets.labels import Limits
    from qsdt_mm.engine.hooks.checkpoint import protect_other_runs
    from qsdt_mm.engine.hooks.outcome import OutcomeHook
    from qsdt_mm.engine.launch import is_main_process as is_first_process
    from qsdt_mm.errors import CheckpointError, InputError
    from qsdt_mm.fileio.atomic import remove_leftovers
    from qsdt_mm.fileio.checkpoint import check_pretrained, checkpoints_of, load_weights, model_weights
    from qsdt_mm.fileio.own_files import directories_of
    from qsdt_mm.fileio.run_lock import occupied

    cfg = cli.load_config(args.config, args.cfg_options)
    if cfg.get('train_cfg') is None or cfg.get('train_dataloader') is None or cfg.get('optim_wrapper') is None:
        raise InputError(
            f'config {args.config} cannot be trained: it needs train_cfg, train_dataloader and optim_wrapper'
        )
    check_loop(cfg)
    if remark := cut_short(cfg):
        session.note(f'warning: {remark}')
    for option, length in (('--epochs', args.epochs), ('--iters', args.iters)):
        if length is not None:
            session.note(stretch(cfg, length, option))
    work_dir = complete_config(cfg, args)
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    for remark in drop_unmeant(cfg):
        session.note(remark)
    for remark in check_annotation_files(cfg, 'train', *([] if cfg.get('val_cfg') is None else ['val'])).remarks:
        session.note(f'warning: {remark}')
    if args.amp:
        enable_amp(cfg)
    if args.graph:
        cfg.cuda_graphs = True
    if args.tensorboard:
        enable_tensorboard(cfg)
        session.note(f'tensorboard --logdir {work_dir} shows the curves')
    if args.auto_scale_lr:
        if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
            raise InputError(f'--auto-scale-lr needs auto_scale_lr.base_batch_size, which {args.config} does not give')
        cfg.auto_scale_lr.enable = True
    directories = directories_of(cfg, work_dir)
    if is_first_process():
        session.keep(occupied(directories, 'train.py', lambda: session.started))
    start = choose_start(cfg, args, directories, session)

    from mmengine.dist import is_main_process
    from mmengine.hooks import Hook

    stale = [*checkpoints_of(*directories), work_dir / 'last_checkpoint'] if args.overwrite else []

    class Begin(Hook):
        """Set-up is over once the runner has loaded everything and is about to train."""

        def before_train(self, runner) -> None:
            if is_main_process():
                for path in stale:
                    path.unlink(missing_ok=True)
                for directory in directories:
                    remove_leftovers(directory, '*.pth')  # of a process that was killed while it saved
                if hasattr(runner, 'begin'):
                    runner.begin()
            protect_other_runs(runner)
            restore_monitors(runner, cfg.get('param_scheduler'))
            session.begin()

    with launched(cfg, args.launcher, session):
        runner, model = build_run(cfg, session)
        building_train = f'building the training data{cli.of_root(cfg.get("train_dataloader"))}'
        building_val = f'building the validation data{cli.of_root(cfg.get("val_dataloader"))}'
        with session.stage(building_train):
            loops = dict(train=runner.train_loop)
        with session.stage(building_val):
            if runner.val_loop is not None:
                loops['val'] = runner.val_loop
        runner.param_schedulers = without_empty(runner.param_schedulers, runner.train_loop)
        check_void_labels(cfg, model, loops)
        check_class_weights(model)
        with session.stage(building_train):
            remarks = check_loader(runner.train_loop.dataloader, 'training', model)
        with session.stage(building_val):
            if runner.val_loop is not None:
                remarks += check_same_classes(runner.train_loop.dataloader.dataset, runner.val_loop.dataloader.dataset)
                remarks += check_loader(runner.val_loop.dataloader, 'validation', model)
        for remark in remarks:
            session.note(remark)
        with session.stage('trying the validation'):
            if runner.val_loop is not None:
                names = rehearse(runner.val_loop, model, 'validation', Limits.of(model).num_classes)
                wanted = monitored(runner, cfg.get('param_scheduler'))
                check_monitored(wanted, names)
                runner.register_hook(MonitorHook(wanted))
        with session.stage(f'building the optimizer of optim_wrapper {dict(cfg.optim_wrapper)}'):
            runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        check_pretrained(model)
        if cfg.resume:
            mismatch = load_weights(model, model_weights(start, cfg.load_from))
            if mismatch:
                raise CheckpointError(f'{cfg.load_from} does not fit the model: weights {mismatch}')
        if start is not None and hasattr(runner, 'hand_over'):
            runner.hand_over(cfg.load_from, start)
        if cfg.resume:
            say_how_to_resume(runner, args, session)
        del start
        runner.register_hook(Begin(), priority='HIGHEST')
        outcome = OutcomeHook()
        runner.register_hook(outcome)
        with session.setting_up():
            runner.train()
        say(after_training(runner, outcome, args.config, bool(args.cfg_options or args.epochs)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return run_tool('train.py', lambda session: train(args, session), args.traceback)


if __name__ == '__main__':
    sys.exit(main())
