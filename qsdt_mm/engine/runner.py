"""mmengine's Runner, without the places where it executes what a checkpoint holds."""

from collections.abc import Callable
from typing import Any

from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from .checkpoint import drop_code, load_checkpoint_safely, load_weights, model_weights, note_versions
from .errors import CheckpointError
from .noise import quiet_logger, shorten_console


@RUNNERS.register_module()
class SafeRunner(Runner):
    """A ``Runner`` that loads local checkpoints as data only and writes its configuration when it begins.

    The attribute ``strict_load`` (``True``) makes a checkpoint that does not fit the model an error when
    resuming or testing; weights that a training starts from (``load_from`` without ``resume``) may fit in
    part, as in mmengine.
    """

    strict_load = True
    testing = False
    _started = False

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """mmengine's logger, whose bulk goes to the log file only."""
        logger = super().build_logger(*args, **kwargs)
        quiet_logger(logger)
        shorten_console(logger)
        logger.info(f'Configuration, environment and all messages: {self.log_dir}')
        return logger

    def dump_config(self) -> None:
        """Write the configuration to the work directory, but not before :meth:`begin`."""
        if self._started:
            super().dump_config()

    def begin(self) -> None:
        """Everything is set up: what is kept back until then may now be written."""
        self._started = True
        self.dump_config()

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | Callable = 'cpu',
        strict: bool = False,
        revise_keys: list | None = None,
    ) -> Any:
        """Load a local checkpoint without running anything in it.

        Args:
            filename: A local path; an address (``https://...``) goes mmengine's way.
            map_location: As in :func:`torch.load`.
            strict: Whether the checkpoint must fit the model.
            revise_keys: mmengine's renaming of keys; given, it goes mmengine's way.

        Returns:
            The checkpoint.

        Raises:
            CheckpointError: It cannot be loaded, or must fit the model and does not.
        """
        if '://' in str(filename) or revise_keys is not None:
            extra = {} if revise_keys is None else dict(revise_keys=revise_keys)
            return drop_code(super().load_checkpoint(filename, map_location, strict, **extra))
        checkpoint = load_checkpoint_safely(filename, map_location)
        if not (isinstance(checkpoint, dict) and 'state_dict' in checkpoint):
            checkpoint = dict(state_dict=model_weights(checkpoint, filename))
        drop_code(checkpoint)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        weights = model_weights(checkpoint, filename)
        note_versions(model, weights)
        checkpoint['state_dict'] = weights  # hooks load it into models of their own, such as averaged ones
        if hasattr(checkpoint.get('ema_state_dict'), '_metadata'):
            checkpoint['ema_state_dict']._metadata = {
                name: dict(notes, file=str(filename)) for name, notes in checkpoint['ema_state_dict']._metadata.items()
            }
        notes = weights._metadata
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        weights = model_weights(checkpoint, filename)
        weights._metadata = notes  # which a hook that renames weights may have lost
        mismatch = load_weights(model, weights)
        if mismatch:
            message = f'{filename} does not fit the model: weights {mismatch}'
            if strict or (self.strict_load and (self._resume or self.testing)):
                raise CheckpointError(message)
            self.logger.warning(message)
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint
