"""Evaluate a checkpoint: one tool for mmpretrain, mmdet and mmseg configurations."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python tools/test.py configs/classification/NAME.py work_dirs/NAME/epoch_10.pth
  python tools/test.py CONFIG CHECKPOINT --json metrics.json --out predictions.pkl
  python tools/test.py CONFIG CHECKPOINT --inference spike --coding bitwise
  python tools/test.py CONFIG CHECKPOINT --tta --show-dir pictures
  python tools/test.py CONFIG packed/NAME --inference deploy
  python tools/test.py CONFIG NAME.onnx --backend onnxruntime
  python tools/test.py qsd-tiny_1xb32_digits --inference deploy

exit status: 0 done, 1 evaluation failed, 2 bad input, 130 interrupted
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('test.py', __doc__, EXAMPLE)
    parser.add_network(
        'configuration file; its default_scope says which library',
        'checkpoint file, a packed folder, or an ONNX file of a plan',
    )
    parser.add_argument(
        '--work-dir',
        metavar='DIR',
        help="where the log goes (default: the configuration's, or work_dirs/<name of the configuration>)",
    )
    parser.add_argument('--out', metavar='PRED.pkl', help='write the predictions to a pickle file')
    parser.add_argument('--json', metavar='METRICS.json', help='write the results to a JSON file')
    parser.add_argument('--show', action='store_true', help='show predictions in a window')
    parser.add_argument('--show-dir', metavar='DIR', help='save pictures of the predictions there, as NAME.png')
    parser.add_argument('--interval', type=int, default=1, help='show or save one picture in so many')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds for which a window stays')
    parser.add_argument(
        '--allow-mismatch', action='store_true', help='evaluate even if the checkpoint does not fit the model'
    )
    parser.add_argument(
        '--inference',
        choices=['float', 'folded', 'integer', 'spike', 'deploy'],
        help='float: as trained (default); folded: norms folded and weights quantized once, faster; integer: folded '
        'norms, int8 weights, counts; spike: binary spikes that only add (the same bits as integer); deploy: '
        'whole-number steps from pixels, the same bits in every runtime (default for a packed plan)',
    )
    parser.add_argument(
        '--calibrate',
        type=int,
        metavar='N',
        help='show --inference deploy of a checkpoint so many images of the training data (default: 32); a packed plan '
        'needs none',
    )
    parser.add_argument(
        '--backend',
        choices=['onnxruntime', 'openvino'],
        help='what computes an ONNX file that export_onnx.py has written: the figures of --inference deploy, to the '
        'last digit (default: onnxruntime)',
    )
    parser.add_argument(
        '--image-size',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='leave out test images of other sizes, which a plan does not take (classification, segmentation)',
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help='test-time augmentation: merge several views of each image, those of tta_pipeline and tta_model in the '
        'configuration or, without, flipped and (detection, segmentation) at several sizes',
    )
    parser.add_argument(
        '--weight-bits',
        type=int,
        choices=[2, 3, 4, 8],
        help='quantize real weights to so many bits, by the largest of each channel; for --inference integer or spike',
    )
    parser.add_coding('--inference spike')
    parser.add_require_spikes()
    parser.add_cfg_options('test_dataloader.batch_size=32')
    parser.add_launcher()
    args = parser.parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out must end in .pkl or .pickle, got {args.out}')
    if args.coding and args.inference != 'spike':
        parser.error('--coding goes with --inference spike')
    if args.weight_bits and args.inference not in ('integer', 'spike'):
        parser.error('--weight-bits goes with --inference integer or spike')
    if args.require_spikes and args.inference not in ('integer', 'spike'):
        parser.error('--require-spikes goes with --inference integer or spike')
    if args.calibrate is not None and (args.inference != 'deploy' or args.calibrate < 1):
        parser.error(f'--calibrate goes with --inference deploy, at least 1, got {args.calibrate}')
    if args.backend and not args.checkpoint.endswith('.onnx'):
        parser.error(f'--backend goes with an ONNX file, got {args.checkpoint}')
    if args.checkpoint.endswith('.onnx'):
        if args.inference not in (None, 'float', 'deploy') or args.calibrate is not None:
            parser.error('an ONNX file is evaluated as it is: without --inference and --calibrate')
        args.inference, args.backend = 'deploy', args.backend or 'onnxruntime'
    if args.interval < 1:
        parser.error(f'--interval must be at least 1, got {args.interval}')
    return args


def enable_pictures(cfg, args: argparse.Namespace) -> None:
    """Switch on the library's own visualization hook."""
    from qsdt_mm.cli.cfg_options import accepted_arguments, resolve_type
    from qsdt_mm.errors import InputError

    hook = (cfg.get('default_hooks') or {}).get('visualization')
    found = resolve_type(hook.get('type'), cfg.get('default_scope')) if hook else []
    if not found:
        raise InputError(
            '--show and --show-dir need a visualization hook in default_hooks, which the configuration does not have'
        )
    if args.show_dir and Path(args.show_dir).exists() and not Path(args.show_dir).is_dir():
        raise InputError(f'--show-dir {args.show_dir} is a file, not a folder')
    taken, _ = accepted_arguments(found[0])
    wanted = dict(enable=True, draw=True, show=args.show, interval=1, wait_time=args.wait_time)
    hook.update({key: value for key, value in wanted.items() if key in taken or key == 'wait_time' and args.show})


def keep_predictions(runner, cfg, path: str) -> None:
    """Write the predictions beside the metrics."""
    from mmengine.evaluator import DumpResults
    from mmengine.fileio import dump

    from qsdt_mm.fileio.atomic import atomic_path

    base = DumpResults
    if cfg.get('default_scope') == 'mmdet':
        from mmdet.evaluation import DumpDetResults as base

    class WholeDump(base):
        """Writes a file that is either whole or not there."""

        def compute_metrics(self, results: list) -> dict:
            with atomic_path(path) as beside:
                dump(results, beside)
            return {}

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    runner.test_evaluator.metrics.append(WholeDump(out_file_path=path))


def converted(model, args: argparse.Namespace, run=None, deploy=None):
    """Return the model in the form that --inference asks for.

    ``run`` passes an image through it; ``deploy`` is a plan, an ONNX file's :class:`Runtime`, or the
    pixels that a plan is made with.
    """
    from qsdt_mm.errors import InputError
    from qsdt_mm.inference import convert, fold_norms

    try:
        if args.inference == 'deploy':
            from torch import Tensor

            from qsdt_mm.deploy import plan
            from qsdt_mm.deploy.evaluation import evaluated

            return evaluated(model, plan(model, deploy) if isinstance(deploy, Tensor) else deploy)
        if args.inference == 'folded':
            return fold_norms(model)
        options = dict(require_spikes=args.require_spikes, run=run, coding=args.coding or 'unary')
        return convert(model, args.inference, args.weight_bits, **options)
    except ValueError as error:
        raise InputError(f'--inference {args.inference}: {error}') from error


def plan_at_hand(args: argparse.Namespace):
    """Return the plan of a packed folder or an ONNX file; None of a checkpoint, and where no plan is asked for."""
    if args.inference != 'deploy':
        return None
    if args.backend:
        from qsdt_mm.deploy.runtimes import Runtime

        return Runtime(args.checkpoint, args.backend)
    from qsdt_mm.deploy.pretrained import packed_plan

    return packed_plan(args.checkpoint)


def check_runtime(deploy, model, args: argparse.Namespace) -> None:
    """Refuse an ONNX file of another task."""
    from qsdt_mm.cli.onnx_notes import task_of
    from qsdt_mm.errors import InputError

    task = task_of(model)
    if deploy.notes['task'] != task or task == 'features':
        raise InputError(
            f'{args.checkpoint} gives outputs for {deploy.notes["task"]}, which {type(model).__name__} of '
            f'{args.config} does not evaluate'
        )


def one_image(runner):
    """Return a function that passes the first test image through a network, as the test loop does.

    None for test-time augmentation, whose samples are not what the network itself takes.
    """
    from mmengine.dataset import pseudo_collate
    from mmengine.model import BaseTTAModel

    if isinstance(runner.model, BaseTTAModel):
        return None
    loader = runner.test_loop.dataloader
    collate = loader.collate_fn or pseudo_collate
    return lambda network: network.test_step(collate([loader.dataset[0]]))


def test(args: argparse.Namespace, session) -> None:
    """Set up, then evaluate."""
    from qsdt_mm import cli
    from qsdt_mm.cli.annotation_checks import check_annotation_files, leave_unscored
    from qsdt_mm.cli.data_checks import check_loader
    from qsdt_mm.cli.data_settings import drop_unmeant
    from qsdt_mm.cli.deployment import CALIBRATE, calibration_batches
    from qsdt_mm.cli.last_lines import after_test, say
    from qsdt_mm.cli.of_size import keep_images_of_size
    from qsdt_mm.cli.rehearsal import rehearse
    from qsdt_mm.cli.run import build_run, complete_config, launched
    from qsdt_mm.cli.unlabelled import without_labels
    from qsdt_mm.cli.void_labels import check_void_labels
    from qsdt_mm.compat.noise import warnings_only
    from qsdt_mm.datasets.labels import Limits
    from qsdt_mm.datasets.tta import apply_tta, first_view, merging
    from qsdt_mm.deploy.evaluation import calibration_pixels, check_fit
    from qsdt_mm.deploy.pretrained import holds_plan_alone
    from qsdt_mm.engine.hooks.outcome import OutcomeHook
    from qsdt_mm.errors import CheckpointError, InputError
    from qsdt_mm.fileio.checkpoint import load_checkpoint_safely, load_weights, model_weights
    from qsdt_mm.fileio.reports import write_json
    from qsdt_mm.visualization.test_pictures import save_pictures

    if args.inference is None:
        args.inference = 'deploy' if holds_plan_alone(args.checkpoint) else 'float'
        if args.inference == 'deploy':
            session.note(f'{args.checkpoint} is a plan: --inference deploy')
    cfg = cli.load_config(args.config, args.cfg_options)
    missing = [key for key in ('test_dataloader', 'test_cfg', 'test_evaluator') if cfg.get(key) is None]
    if missing:
        raise InputError(f'config {args.config} cannot be evaluated: it has no {", ".join(missing)}')
    deploy = plan_at_hand(args)
    if deploy is None:
        checkpoint = load_checkpoint_safely(args.checkpoint)
        weights = model_weights(checkpoint, args.checkpoint)
    complete_config(cfg, args)
    kept = [args.out, args.show_dir, 'a window' if args.show else None]
    found = check_annotation_files(cfg, 'test', scored=not any(kept))
    for remark in found.remarks:
        session.note(f'warning: {remark}')
    if found.unscored:
        session.note(leave_unscored(cfg, found.unscored, *kept))
    for remark in drop_unmeant(cfg):
        session.note(remark)
    if args.image_size:
        session.note(keep_images_of_size(cfg, args.image_size))
    if args.tta:
        session.note(apply_tta(cfg))
    cfg.load_from, cfg.resume = args.checkpoint if deploy is None else None, False
    if args.show or args.show_dir:
        enable_pictures(cfg, args)

    from mmengine.dist import is_main_process
    from mmengine.hooks import Hook
    from mmengine.registry import DefaultScope

    from qsdt_mm.compat.wrappers import rewrap, unwrap

    share = None

    class Begin(Hook):
        """Set-up is over once the weights are loaded."""

        def before_test(self, runner) -> None:
            if args.show_dir:
                Path(args.show_dir).mkdir(parents=True, exist_ok=True)
            session.begin()

        def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
            if args.tta:
                first_view(data_batch)

    class Convert(Hook):
        """The model as it is when all hooks have had it, averaged weights among them."""

        priority = 'LOWEST'

        def before_test_epoch(self, runner) -> None:
            network = unwrap(runner.model)
            if args.inference != 'float':
                with warnings_only(runner.logger):  # what stays in floats was said before
                    network = converted(network, args, deploy=deploy)
            if args.tta:
                network = merging(cfg.tta_model, network)
            runner.model = rewrap(runner.model, network)

    with launched(cfg, args.launcher, session):
        runner, model = build_run(cfg, session)
        building = f'building the test data{cli.of_root(cfg.get("test_dataloader"))}'
        with session.stage(building):
            remarks = [without_labels(runner.test_loop, bool(args.out or args.show or args.show_dir))]
        if args.backend:
            check_runtime(deploy, model, args)
        if deploy is not None:
            check_fit(model, deploy)
        of_test = {key: cfg.get(key) for key in ('default_scope', 'model', 'test_dataloader', 'test_evaluator')}
        check_void_labels(of_test, model, dict(test=runner.test_loop))
        with session.stage(building):
            remarks += check_loader(runner.test_loop.dataloader, 'test', model)
        for remark in filter(None, remarks):
            session.note(remark)
        runner.testing, runner.strict_load = True, not args.allow_mismatch
        mismatch = load_weights(model, weights) if deploy is None else None
        if mismatch and not args.allow_mismatch:
            raise CheckpointError(
                f'{args.checkpoint} does not fit the model: weights {mismatch} '
                '(--allow-mismatch evaluates it all the same)'
            )
        tested = model
        if args.tta:
            with session.stage('building tta_model'), DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
                tested = merging(cfg.tta_model, model)
        with session.stage('trying the test'):
            rehearse(runner.test_loop, tested, 'test', Limits.of(model).num_classes)
        if args.out:
            keep_predictions(runner, cfg, args.out)
        if deploy is None and hasattr(runner, 'hand_over'):
            runner.hand_over(args.checkpoint, checkpoint)
        runner.register_hook(Begin(), priority='HIGHEST')
        if args.show or args.show_dir:
            save_pictures(runner.visualizer, runner.test_loop.dataloader.dataset, args.show_dir, args.interval)
        if args.show_dir:
            session.note(f'pictures go to {args.show_dir}')
        if args.inference != 'float':
            if args.inference == 'deploy' and deploy is None:
                deploy = calibration_pixels(
                    model, calibration_batches(cfg, args.calibrate or CALIBRATE, model, session)
                )
            # What cannot be converted is said before the run begins, and what stays in floats.
            run = None if args.tta else one_image(runner)
            share = getattr(converted(model, args, run, deploy), 'float_share', None)
        if args.tta or args.inference != 'float':
            runner.register_hook(Convert())
        outcome = OutcomeHook()
        runner.register_hook(outcome)
        with session.setting_up():
            metrics = runner.test()
    if args.json and is_main_process():
        report = dict(
            config=args.config, checkpoint=args.checkpoint, inference=args.inference, tta=args.tta, metrics=metrics
        )
        if args.backend:
            report['backend'] = args.backend
        if args.inference == 'spike':
            report['coding'] = args.coding or 'unary'
        if share is not None:
            report['outside_units'] = share
        write_json(args.json, report)
    say(after_test(runner, outcome, args))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return run_tool('test.py', lambda session: test(args, session), args.traceback)


if __name__ == '__main__':
    sys.exit(main())
