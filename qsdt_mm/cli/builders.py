"""Runners and models, built from a configuration."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from qsdt_mm.analysis.strides import OPTION, check_strides
from qsdt_mm.compat.noise import quiet_logger, warnings_only

from .shell import Session


def build_runner(cfg: Any) -> Any:
    """Build the runner: ours, or the configuration's ``runner_type``."""
    from mmengine.hooks import Hook
    from mmengine.registry import RUNNERS

    from qsdt_mm.engine.hooks import AbsentClassesHook, LabelRangeHook, RunStateHook
    from qsdt_mm.engine.runner import SafeRunner
    from qsdt_mm.fileio.checkpoint import drop_code
    from qsdt_mm.fileio.own_files import cut_links

    if 'runner_type' not in cfg:
        runner = SafeRunner.from_cfg(cfg)
    else:

        class DropCodeHook(Hook):
            def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
                drop_code(checkpoint)

        cut_links(Path(cfg.work_dir) / Path(cfg.filename or '').name)  # mmengine writes it in place, and at once
        runner = RUNNERS.build(cfg)
        if not cfg.get(OPTION):
            check_strides(runner.model)
        runner.register_hook(DropCodeHook(), priority='HIGHEST')
        if not any(isinstance(hook, RunStateHook) for hook in runner.hooks):
            runner.register_hook(RunStateHook())
    add_hooks(runner, cfg)
    runner.register_hook(LabelRangeHook())
    runner.register_hook(AbsentClassesHook())
    quiet_logger(runner.logger)
    return runner


def add_hooks(runner: Any, cfg: Any) -> None:
    """Register hooks that every run has whose ``default_hooks`` says nothing of them; ``NAME=None`` is without."""
    from qsdt_mm.engine.hooks import ClassResultsHook, EnergyHook

    from .run_report import RunReportHook

    absent = cfg.get('absent_hooks') or ()
    for name, kind in dict(classes=ClassResultsHook, energy=EnergyHook, report=RunReportHook).items():
        if name not in absent and not any(isinstance(hook, kind) for hook in runner.hooks):
            runner.register_hook(kind())


def build_model(cfg: Any, checkpoint: str | None, session: Session) -> Any:
    """Return the configuration's model in evaluation mode, with the weights of a checkpoint if one is given.

    To be called under the configuration's default scope.

    Raises:
        InputError: The model cannot be built, its parts are told other strides than its maps have, or the checkpoint
            cannot be loaded or does not fit it.
    """
    from mmengine.logging import MMLogger
    from mmengine.registry import MODELS

    from qsdt_mm.errors import CheckpointError
    from qsdt_mm.fileio.checkpoint import check_pretrained, load_checkpoint_safely, load_weights, model_weights

    settings = copy.deepcopy(cfg.model)
    if cfg.get('data_preprocessor') is not None:  # as mmengine's runner does
        settings.setdefault('data_preprocessor', cfg.data_preprocessor)
    with session.stage('building the model'):
        model = MODELS.build(settings)
        if not cfg.get(OPTION):
            check_strides(model)
    if checkpoint is None:
        if hasattr(model, 'init_weights'):
            check_pretrained(model)
            with warnings_only(MMLogger.get_current_instance()):
                model.init_weights()
        model.eval()
        return model
    mismatch = load_weights(model, model_weights(load_checkpoint_safely(checkpoint), checkpoint))
    if mismatch:
        raise CheckpointError(f'{checkpoint} does not fit the model: weights {mismatch}')
    model.eval()
    return model
