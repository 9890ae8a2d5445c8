"""State that a resumed run needs besides weights, optimizer and schedules, saved and put back."""

from __future__ import annotations

from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import CheckpointHook, Hook, SyncBuffersHook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from qsdt_mm.compat.resuming import skip_in_epoch
from qsdt_mm.engine import run_state
from qsdt_mm.engine.schedules import kinds, optimizer_kinds

from .checkpoint import SafeCheckpointHook, save_again, take_up

PART = 'run_state'


def validation_is_due(loop: Any) -> bool:
    """Return whether a loop of mmengine validates at the epoch or iteration that it has come to."""
    if isinstance(loop, EpochBasedTrainLoop):
        now, end = loop.epoch, loop.max_epochs
    elif isinstance(loop, IterBasedTrainLoop):
        now, end = loop.iter, loop.max_iters
    else:
        return False
    loop._decide_current_val_interval()
    return now > 0 and now >= loop.val_begin and (now % loop.val_interval == 0 or now == end)


@HOOKS.register_module()
class RunStateHook(Hook):
    """Saves in each checkpoint what else the run holds, so that a resumed run equals one without a stop.

    That is: gradients that wait for the next step of their optimizer (``accumulative_counts``) and how many they are,
    the place in an epoch that is not finished, statistics of norms that differ between processes, the counts of early
    stopping, what hooks with ``state_dict`` and ``load_state_dict`` return, and whether the validation that was due has
    been done. One that was not is made up for when the run goes on. After each validation the checkpoint of that epoch
    or iteration is saved again, so that it holds what the validation changed. :class:`SafeRunner` and the tools
    register it.

    >>> from mmengine.registry import HOOKS
    >>> isinstance(HOOKS.build(dict(type='qsdt_mm.RunStateHook')), RunStateHook)
    True
    """

    priority = 'LOWEST'  # put back when all other hooks are ready, noted when they have looked at the metrics

    def __init__(self) -> None:
        self.training = False
        self.validated: tuple[int, int] | None = None
        self._batch = 0
        self._held: dict[str, Any] | None = None

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Add the state to a checkpoint that training can go on from."""
        if 'optimizer' not in checkpoint or not self.training:
            return
        loop, meta = runner.train_loop, checkpoint['meta']
        inside = isinstance(loop, EpochBasedTrainLoop) and meta['epoch'] == loop.epoch and meta['iter'] == loop.iter + 1
        states = getattr(runner, 'states_of_processes', None)
        if states is None:  # of another runner, whose main process alone comes here
            states = run_state.of_each_process(runner) if get_world_size() == 1 else []
        checkpoint[PART] = dict(
            at=(meta['epoch'], meta['iter']),
            validated=self.validated == (meta['epoch'], meta['iter']),
            batches=self._batch + 1 if inside else 0,
            counts=run_state.counts(runner),
            processes=states,
            hooks=run_state.hook_states(runner),
            attributes=run_state.plain_attributes(runner),
            stopped=bool(getattr(loop, 'stop_training', False)),
            data=data_of(runner),
            schedules=kinds(runner.param_schedulers),
            optimizers=optimizer_kinds(runner.optim_wrapper),
        )

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Keep the state of a checkpoint that training goes on from until all is ready."""
        self._held = None
        if runner._resume and runner._train_loop is not None:
            info = checkpoint.get('message_hub', {}).get('runtime_info', {})
            # Without our record: mmengine saves once more in a validation whose result is the best so far.
            self._held = checkpoint.get(PART, dict(validated=info.get('loop_stage') == 'val'))

    def before_train(self, runner) -> None:
        """Put the state back; validate first if that was due and has not been done."""
        self.training = True
        held, self._held = self._held, None
        if held is None:
            return
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook):
                take_up(hook, runner)
        loop = runner.train_loop
        batches = held.get('batches', 0) if isinstance(loop, EpochBasedTrainLoop) else 0
        if batches and held['data']['epoch_length'] != len(loop.dataloader):
            batches = 0
            runner.logger.warning(
                f'Epoch {runner.epoch + 1} begins anew: it has another length than when it was stopped'
            )
        if 'counts' in held:
            self._put_back_gradients(runner, held)
            run_state.put_back_hooks(runner, held['hooks'], held['stopped'])
            run_state.put_back_attributes(runner, held['attributes'])
        if batches:
            skip_in_epoch(loop, batches)
        if held['validated']:
            self.validated = (runner.epoch, runner.iter)
        elif not batches and runner._val_loop is not None and validation_is_due(loop):
            place = f'epoch {runner.epoch}' if isinstance(loop, EpochBasedTrainLoop) else f'iteration {runner.iter}'
            runner.logger.info(f'The validation after {place} is not in the checkpoint: it is made up for')
            # as they are right after the last iteration, for who asks the hub
            runner.message_hub.update_info('iter', runner.iter - 1)
            runner.message_hub.update_info('epoch', runner.epoch - isinstance(loop, EpochBasedTrainLoop))
            for hook in runner.hooks:
                if isinstance(
                    hook, SyncBuffersHook
                ):  # has averaged them over processes before the checkpoint was saved
                    hook.called_in_train = isinstance(loop, EpochBasedTrainLoop)
            runner.val_loop.run()
        if getattr(loop, 'stop_training', False):
            runner.logger.info('Training was stopped early: nothing is left to train')

    def _put_back_gradients(self, runner, held: dict[str, Any]) -> None:
        counts, waiting = held['counts'], any(state.get('gradients') for state in held['processes'])
        at_place = tuple(held['at']) == (runner.epoch, runner.iter)
        same = at_place and run_state.same_steps(runner, counts)
        if same:
            run_state.put_back_counts(runner, counts)
            same = run_state.put_back_process(runner, held['processes'])
        if waiting and not same:
            runner.logger.warning(
                'Gradients that wait for the next step are dropped: accumulative_counts, the number of processes or '
                'the length of an epoch has changed since the checkpoint was saved'
            )

    def before_train_iter(self, runner, batch_idx: int, data_batch: Any = None) -> None:
        """Note the place in the epoch."""
        self._batch = batch_idx

    def after_val_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        """Note that all hooks have seen the metrics."""
        if self.training:
            self.validated = (runner.epoch, runner.iter)

    def after_val(self, runner) -> None:
        """Save what the validation changed; ``SafeCheckpointHook`` does so itself."""
        if self.training:
            for hook in runner.hooks:
                if isinstance(hook, CheckpointHook) and not isinstance(hook, SafeCheckpointHook):
                    save_again(hook, runner)

    def after_train(self, runner) -> None:
        """Leave validations that follow alone."""
        self.training = False


def data_of(runner: Any) -> dict[str, int | None]:
    """Return how the training data come: samples in a batch, processes, batches in an epoch."""
    loader = runner.train_loop.dataloader
    by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
    return dict(
        batch_size=getattr(loader, 'batch_size', None),
        processes=get_world_size(),
        epoch_length=len(loader) if by_epoch else None,
    )
