"""mmengine's Runner, without the places where it executes what a checkpoint holds."""

import copy
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop
from torch import nn
from torch.utils.data import DataLoader

from qsdt_mm.analysis.strides import OPTION, check_strides
from qsdt_mm.compat.noise import quiet_logger, shorten_console, without_sizes_of_none
from qsdt_mm.compat.wrappers import unwrap
from qsdt_mm.datasets.coco_files import as_configured, forget, metric_reading_once, reading_once
from qsdt_mm.errors import CheckpointError, InputError, require
from qsdt_mm.fileio.checkpoint import drop_code, load_checkpoint_safely, load_weights, model_weights, note_versions
from qsdt_mm.fileio.own_files import cut_links

from .compilation import check_compiler, compile_backbone, compile_options, compiler_faults
from .exact_boxes import keep_boxes_exact
from .resuming import ResumingRunner
from .training_graphs import graphed_training


@RUNNERS.register_module()
class SafeRunner(ResumingRunner):
    """A ``Runner`` that loads local checkpoints as data only and writes its configuration when it begins.

    The attribute ``strict_load`` (``True``) makes a checkpoint that does not fit the model an error when
    resuming or testing; weights that a training starts from (``load_from`` without ``resume``) may fit in
    part, as in mmengine. How a run goes on is :class:`ResumingRunner`'s.

    >>> from mmengine.config import Config
    >>> cfg = Config(dict(runner_type='SafeRunner'))  # a line with which OpenMMLab's own tools take it
    >>> RUNNERS.get(cfg.runner_type) is SafeRunner
    True
    """

    strict_load = True
    testing = False
    _started = False
    _read: tuple[str, Any] | None = None

    def hand_over(self, filename: str, checkpoint: Any) -> None:
        """Give the runner a checkpoint that was read as data already: it need not read the file again.

        Args:
            filename: The file, as it will be asked for.
            checkpoint: What it holds; it is given back once, and may be changed then.
        """
        self._read = str(filename), checkpoint

    def _read_once(self, filename: str, map_location: str | Callable) -> Any:
        read, self._read = self._read, None
        if read is not None and read[0] == str(filename):
            return read[1]
        return load_checkpoint_safely(filename, map_location)

    @staticmethod
    def build_dataloader(dataloader: Any, *args: Any, **kwargs: Any) -> DataLoader:
        """Build a data loader as mmengine does; COCO files that were parsed before are not parsed again."""
        if isinstance(dataloader, Mapping):
            dataloader = copy.copy(dataloader)
            dataloader['dataset'] = reading_once(dataloader.get('dataset'))
        loader = ResumingRunner.build_dataloader(dataloader, *args, **kwargs)
        as_configured(loader.dataset)
        return loader

    def build_evaluator(self, evaluator: Any) -> Evaluator:
        """Build an evaluator as mmengine does; COCO files that were parsed before are not parsed again."""
        if isinstance(evaluator, Mapping) and 'metrics' not in evaluator:
            evaluator = metric_reading_once(evaluator)
        elif isinstance(evaluator, list):
            evaluator = [metric_reading_once(one) for one in evaluator]
        built = super().build_evaluator([evaluator] if isinstance(evaluator, BaseMetric) else evaluator)
        built.evaluate = without_sizes_of_none()(built.evaluate)
        return built

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Return mmengine's logger, whose bulk goes to the log file only."""
        logger = super().build_logger(*args, **kwargs)
        quiet_logger(logger)
        shorten_console(logger)
        logger.info(f'Configuration, environment and all messages: {self.log_dir}')
        return logger

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model; of a detector, compare the strides that its parts are told with those of its maps.

        Raises:
            InputError: They differ, and the configuration does not say ``allow_stride_mismatch = True``.
        """
        model = super().build_model(model)
        if not self.cfg.get(OPTION):
            check_strides(model)
        keep_boxes_exact(model)
        return model

    def dump_config(self) -> None:
        """Write the configuration to the work directory, but not before :meth:`begin`."""
        if self._started:
            cut_links(Path(self.work_dir) / Path(self.cfg.filename or '').name)
            super().dump_config()

    def begin(self) -> None:
        """Write the configuration that was kept back until everything was set up."""
        self._started = True
        self.dump_config()

    def train(self) -> nn.Module:
        """Train, then let the loaders' workers go; what the compiler cannot compile ends it in one line."""
        forget()  # what the checks have parsed and nobody has asked for
        options, faults = compile_options(self.cfg.get('compile')), nullcontext()
        if options is not None:
            from torch._dynamo.exc import TorchDynamoException  # takes a second to import

            faults = compiler_faults(options, TorchDynamoException)
        try:
            with faults:
                return super().train()
        finally:
            self.release_workers()

    def _maybe_compile(self, target: str) -> None:
        options, graphs = compile_options(self.cfg.get('compile')), self.cfg.get('cuda_graphs')
        require(graphs is None or isinstance(graphs, bool), 'cuda_graphs', graphs, 'True or False', InputError)
        if graphs:
            for other in ('compile', 'activation_checkpointing'):
                if self.cfg.get(other):
                    raise InputError(f'cuda_graphs and {other} exclude each other: leave one of them out')
            graphed_training(unwrap(self.model))
        if options is None:
            return
        if self.cfg.get('activation_checkpointing'):
            raise InputError('compile and activation_checkpointing exclude each other: leave one of them out')
        model = unwrap(self.model)
        check_compiler(options, next(model.parameters()).device)
        compile_backbone(model, options)
        self.logger.info('The backbone is compiled for training, not for validation: the first iterations are slow')

    def release_workers(self) -> None:
        """End the workers of loaders that would outlive the run: at exit Python waits five seconds for each of them.

        An iteration-based loop holds an iterator over its data for good, and so do loaders with persistent workers.
        """
        for loop in (self._train_loop, self._val_loop, self._test_loop):
            if isinstance(loop, BaseLoop):
                vars(loop).pop('dataloader_iterator', None)
                if getattr(loop.dataloader, 'persistent_workers', False):
                    loop.dataloader._iterator = None

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
            with self._whole():
                checkpoint = super().load_checkpoint(filename, map_location, strict, **extra)
            return self._note(drop_code(checkpoint), filename)
        checkpoint = self._read_once(filename, map_location)
        if not (isinstance(checkpoint, dict) and 'state_dict' in checkpoint):
            checkpoint = dict(state_dict=model_weights(checkpoint, filename))
        drop_code(checkpoint)
        model = unwrap(self.model)
        weights = model_weights(checkpoint, filename)
        note_versions(model, weights)
        checkpoint['state_dict'] = weights  # hooks load it into models of their own, such as averaged ones
        if hasattr(checkpoint.get('ema_state_dict'), '_metadata'):
            checkpoint['ema_state_dict']._metadata = {
                name: dict(notes, file=str(filename)) for name, notes in checkpoint['ema_state_dict']._metadata.items()
            }
        notes = weights._metadata
        with self._without_mismatches(), self._whole():
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
        return self._note(checkpoint, filename)

    @contextmanager
    def _without_mismatches(self) -> Iterator[None]:
        """Keep back what mmengine prints when averaged weights (``EMAHook``) fit in part: one line of ours says it."""
        held = io.StringIO()
        try:
            with redirect_stdout(held):
                yield
        finally:
            text = held.getvalue()
            if text and not text.startswith('The model and loaded state dict do not match'):
                print(text, end='')
