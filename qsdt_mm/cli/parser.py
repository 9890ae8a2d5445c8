"""The parser of the tools: errors in one line, and the options that several of them have."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from qsdt_mm.errors import why_no_file

OUTPUTS = {'json', 'out', 'save_path'}  # arguments that name a file to write


def _same_file(a: str, b: str) -> bool:
    try:
        return os.path.samefile(a, b)
    except (OSError, ValueError):  # one is not there yet, or no path at all
        return os.path.abspath(a) == os.path.abspath(b) and bool(os.path.splitext(a)[1])


class ToolParser(argparse.ArgumentParser):
    """A parser whose errors are one line, with the option ``--traceback`` that all tools have.

    Args:
        prog: the tool's name.
        description: what it does, usually the module's docstring.
        examples: commands to show at the end of the help, and what else belongs there.

    >>> parser = ToolParser('train.py', 'Train a network.', 'python train.py CONFIG')
    >>> parser.add_cfg_options('train_cfg.max_epochs=2')
    >>> parser.parse_args(['--cfg-options', 'train_cfg.max_epochs=2']).cfg_options
    ['train_cfg.max_epochs=2']
    """

    def __init__(self, prog: str, description: str | None, examples: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.needs_weights = False
        self.add_argument('--traceback', action='store_true', help='show where an error arose (or QSDT_TRACEBACK=1)')

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """Read the command line; a file to write must not be one of those to read, or the other file to write."""
        # What may be left out must not be taken for left out where an option comes in between.
        parsed = super().parse_intermixed_args(args, namespace)
        self._check_order(parsed)
        self._complete(parsed)
        named = {key: value if isinstance(value, list) else [value] for key, value in vars(parsed).items()}
        files = {key: [str(v) for v in values if isinstance(v, (str, Path))] for key, values in named.items()}
        for output in sorted(OUTPUTS & files.keys()):
            for other in sorted(files.keys() - {output, 'cfg_options'}):
                for path in files[output]:
                    if any(_same_file(path, value) for value in files[other]):
                        words = [f'--{key.replace("_", "-")}' if key in OUTPUTS else key for key in (output, other)]
                        self.error(f'{words[0]} {path} is {words[1]} too, and would take its place')
            for path in files[output]:
                self.check_output(path)
        return parsed

    def _complete(self, parsed: Any) -> None:
        """Take the weights of a packed network that is named in place of its configuration."""
        if getattr(parsed, 'checkpoint', '') is not None:
            return
        from qsdt_mm.fileio.near import did_you_mean
        from qsdt_mm.fileio.shipped import located

        if located(parsed.config) is not None:
            parsed.checkpoint = parsed.config
        elif self.needs_weights:
            absent = why_no_file(parsed.config)
            self.error(
                f'config {parsed.config} {absent}{did_you_mean(parsed.config, "a configuration")}'
                if absent
                else 'the following arguments are required: checkpoint'
            )

    def _check_order(self, parsed: Any) -> None:
        """Refuse arguments that stand in each other's place, which their endings tell."""
        from qsdt_mm.fileio.near import kind_of

        wanted = {'config': 'a configuration', 'checkpoint': 'a checkpoint', 'image': 'a picture'}
        places = [action.dest for action in self._actions if not action.option_strings and action.dest in wanted]
        given = {place: getattr(parsed, place) for place in places if isinstance(getattr(parsed, place), str)}
        kinds = {place: kind_of(path) for place, path in given.items()}
        wrong = [place for place in given if kinds[place] and kinds[place] != wanted[place]]
        if len(wrong) > 1:
            shown = ', '.join(f'{place.upper()} is {given[place]}, {kinds[place]}' for place in wrong)
            self.error(f'{shown}: the order is {" ".join(place.upper() for place in places)}')

    def check_output(self, path: str) -> None:
        """Refuse a file that cannot be written, before the work whose results it is for."""
        from qsdt_mm.fileio.atomic import check_writable

        try:
            check_writable(path)
        except (OSError, ValueError) as error:
            self.error(f'{path} cannot be written: {getattr(error, "strerror", None) or error}')

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and leave."""
        self.exit(2, f'{self.prog}: error: {message}\n')

    def add_network(self, config: str, checkpoint: str, optional: bool = False) -> None:
        """Add configuration and checkpoint, or a packed network that is both.

        Args:
            config, checkpoint: what the help says of them.
            optional: whether there may be no weights.
        """
        self.needs_weights = not optional
        self.add_argument(
            'config', help=f'{config}; or a network that comes with the package, or a packed folder of kind complete'
        )
        self.add_argument('checkpoint', nargs='?', help=f'{checkpoint} (default: of a packed network its own)')

    def add_require_spikes(self) -> None:
        """Add ``--require-spikes``."""
        self.add_argument(
            '--require-spikes',
            action='store_true',
            help='refuse a network with layers outside spiking units, which compute with floats',
        )

    def add_coding(self, what: str) -> None:
        """Add ``--coding``; ``what`` says which slots it is about."""
        self.add_argument(
            '--coding',
            choices=['unary', 'bitwise'],
            help=f'slots of {what}: D of which a count fires so many (unary, the default), or its binary digits, fewer '
            'passes (bitwise); the same bits',
        )

    def add_cfg_options(self, example: str) -> None:
        """Add OpenMMLab's ``--cfg-options``."""
        self.add_argument(
            '--cfg-options',
            nargs='+',
            action='extend',
            metavar='KEY=VALUE',
            help=f'change the configuration, e.g. {example}; lists as key="[a,b]"',
        )

    def add_launcher(self) -> None:
        """Add OpenMMLab's ``--launcher`` and what ``torch.distributed`` passes along."""
        self.add_argument(
            '--launcher',
            choices=['none', 'pytorch', 'slurm', 'mpi'],
            default='none',
            help='how the processes were started',
        )
        self.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
