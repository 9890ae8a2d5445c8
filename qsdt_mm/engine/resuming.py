"""mmengine's Runner, resuming exactly, or as it was told, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

from mmengine.runner import EpochBasedTrainLoop, Runner

from qsdt_mm.fileio.checkpoint import check_training_parts

from .hooks.run_state import RunStateHook, data_of
from .run_state import of_each_process
from .schedules import (
    advance,
    apply_last_values,
    check_optimizer,
    kinds,
    named,
    put_back_settings,
    rebuild,
    same_kinds,
    schedule_differences,
    setting_differences,
    settings_of,
)
from .sharding import ShardingRunner

LOST = 'Resumed iteration number is not divisible by'
WORDS = dict(batch_size='batch size', processes='number of processes', epoch_length='length of an epoch')


class ResumingRunner(ShardingRunner):
    """A ``Runner`` that says what of a checkpoint it goes on with.

    A checkpoint without optimizer or schedule is resumed with the attribute ``new_optimizer`` or ``new_schedule`` only
    (``False``); these leave aside the checkpoint's where it has them. Where the checkpoint's schedule or settings of
    the optimizer go on and are not those of the configuration, a warning says so.

    >>> ResumingRunner.new_optimizer, ResumingRunner.new_schedule
    (False, False)
    """

    new_optimizer = new_schedule = False
    states_of_processes: list | None = None
    _resumed: dict[str, Any] | None = None

    def register_hooks(self, default_hooks: Any = None, custom_hooks: Any = None) -> None:
        """Register hooks, and the one that makes resuming exact if it is not among them."""
        super().register_hooks(default_hooks, custom_hooks)
        if not any(isinstance(hook, RunStateHook) for hook in self.hooks):
            self.register_hook(RunStateHook())

    def remark(self, text: str) -> None:
        """Warn of something about how the run goes on; the tools say it in their way."""
        self.logger.warning(text)

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint as mmengine does; one to go on from holds what each process has of its own."""
        given = signature(Runner.save_checkpoint).bind(self, *args, **kwargs).arguments
        whole = given.get('save_optimizer', True)
        self.states_of_processes = of_each_process(self) if whole else None
        try:
            super().save_checkpoint(*args, **kwargs)
        finally:
            self.states_of_processes = None

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: str | Callable = 'default',
    ) -> None:
        """Go on from a checkpoint; what of it is left aside is taken from the configuration.

        Args:
            filename: A local path or an address.
            resume_optimizer: Whether its optimizer is taken; not if ``new_optimizer`` is set.
            resume_param_scheduler: Whether its schedules are taken; not if ``new_schedule`` is set.
            map_location: As in mmengine.

        Raises:
            CheckpointError: It lacks one that is to be taken, or holds one of another kind than the configuration's.
        """
        self.new_optimizer |= not resume_optimizer
        self.new_schedule |= not resume_param_scheduler
        self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)
        if self.param_schedulers is not None:
            self.param_schedulers = self.build_param_scheduler(self.param_schedulers)
        settings = settings_of(self.optim_wrapper)
        self._resumed = {}
        super().resume(filename, not self.new_optimizer, not self.new_schedule, map_location)
        state, self._resumed = self._resumed.get('run_state') or {}, None
        data = state.get('data') or {}
        if state.get(
            'counts'
        ):  # mmengine says that gradients are lost: they are put back, or RunStateHook says why not
            self.logger.addFilter(lambda record: not record.getMessage().startswith(LOST))
        if self.new_schedule:
            put_back_settings(self.optim_wrapper, settings)
            self._advance_schedules(data)
        elif self.new_optimizer:
            apply_last_values(self.param_schedulers, self.optim_wrapper)

    def _advance_schedules(self, data: dict[str, Any]) -> None:
        loop, length, rest = self.train_loop, 0, self.iter
        if isinstance(loop, EpochBasedTrainLoop):
            length = len(loop.dataloader)
            before = data.get('epoch_length') or length
            rest = max(0, loop.iter - loop.epoch * before)
            if before != length:  # iterations are counted as the configuration has them
                loop._iter, rest = loop.epoch * length, 0
        anew = advance(self.param_schedulers, self.epoch if length else 0, length, rest)
        if anew:
            self.remark(f'{", ".join(anew)} follows results, of which the configuration has none: it begins anew')

    def _compare_with_configuration(self, checkpoint: dict[str, Any], filename: str) -> None:
        """Say where the checkpoint's optimizer and schedules are others than the configuration's, and go on."""
        wanted = dict(optimizer=not self.new_optimizer, schedule=bool(self.param_schedulers) and not self.new_schedule)
        check_training_parts(checkpoint, filename, **wanted)
        state, remarks = checkpoint.get('run_state') or {}, []
        if not self.new_optimizer:
            check_optimizer(self.optim_wrapper, checkpoint['optimizer'], state.get('optimizers'), filename)
        if not self.new_schedule:
            if not self.new_optimizer:
                remarks += setting_differences(self.optim_wrapper, checkpoint['optimizer'])
            held, names = checkpoint.get('param_schedulers'), state.get('schedules')
            if same_kinds(self.param_schedulers, held, names):
                remarks += schedule_differences(self.param_schedulers, held)
            elif held or self.param_schedulers:
                remarks.append(f'the schedule is {named(names)}, not {named(kinds(self.param_schedulers))}')
                self.param_schedulers = rebuild(self.optim_wrapper, held, names, filename)
            then, now = state.get('data') or {}, data_of(self)
            changed = [key for key in WORDS if then.get(key, now[key]) != now[key]]
            remarks += [f'the {WORDS[key]} was {then[key]}, not {now[key]}' for key in changed]
        if remarks:
            shown = '; '.join(remarks[:6]) + ('; ...' if len(remarks) > 6 else '')
            self.remark(
                'the schedule and the optimizer settings of the checkpoint go on, not those of the configuration: '
                f'{shown} (--new-schedule takes those of the configuration)'
            )

    def _note(self, checkpoint: dict[str, Any], filename: str) -> dict[str, Any]:
        if self._resumed is not None:
            self._resumed = checkpoint
            self._compare_with_configuration(checkpoint, filename)
        return checkpoint
