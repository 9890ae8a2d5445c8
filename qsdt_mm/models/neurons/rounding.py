"""A checkpoint's rule on halves: kept in torch's notes on a state dict, not among its tensors."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mmengine.logging import print_log
from torch import nn

from qsdt_mm.errors import CheckpointError, require
from qsdt_mm.fileio.checkpoint import check_pretrained, note_versions, part_of_weights
from qsdt_mm.ops.spiking import ROUNDINGS

if TYPE_CHECKING:
    from .modules import IELIF


class _Speaker:
    """Log of one line for all neurons of a network."""

    def __init__(self) -> None:
        self.load: Any = None
        self.said: set[Hashable] = set()

    def say(self, line: str, load: Any, about: Hashable | None) -> None:
        # Tools load a file more than once, to be sure of it: what is said about it is said once.
        fresh = load is not self.load and about not in self.said
        self.load = load  # kept, so that no other object can have its address
        if fresh:
            self.said |= set() if about is None else {about}
            print_log(line, logger='current', level=logging.WARNING)


_speaker = _Speaker()


@contextmanager
def rounding_follows_weights(module: nn.Module) -> Iterator[None]:
    """Let ``init_cfg``, within the context, load a part of a checkpoint, whose notes mmengine leaves behind.

    Raises:
        CheckpointError: the file cannot be loaded as data.
    """
    files = check_pretrained(module)
    yield
    inits = module.init_cfg if isinstance(module.init_cfg, (list, tuple)) else [module.init_cfg]
    for init in (init for init in inits if isinstance(init, dict) and init.get('prefix') is not None):
        weights = files.get(str(init.get('checkpoint')))
        if weights is not None:
            part, load = part_of_weights(weights, init['prefix']), object()
            note_versions(module, part)
            for name, neuron in module.named_modules(remove_duplicate=False):
                notes = part._metadata.get(name, {})
                if hasattr(neuron, 'rounding_given') and 'version' in notes:
                    adopt(neuron, notes, load)


def adopt(neuron: IELIF, notes: Mapping[str, Any], load: Any) -> None:
    """Set a neuron's rounding to that of a checkpoint's network, unless its config gives one; log one line about it.

    Args:
        neuron: of the network that is being loaded.
        notes: torch's, of this neuron; 'rounding' is missing where the rule was not recorded yet: it was half up.
        load: any object that lives as long as the loading and is the same for all neurons.

    Raises:
        CheckpointError: there is no such rule.
    """
    file = notes.get('file')
    who, rule, before = file or 'the checkpoint', notes.get('rounding', 'half_up'), neuron.rounding
    require(
        isinstance(rule, str) and rule in ROUNDINGS, f'{who}: rounding', rule, ' or '.join(ROUNDINGS), CheckpointError
    )
    if not neuron.rounding_given:
        neuron.rounding = rule
    if 'rounding' not in notes:
        line = f"{who} has no rounding rule on record: its neurons round 'half_up', as all did when it was made"
    elif rule != before:
        line = f'{who} has neurons on record that round {rule!r}'
    else:
        return
    if neuron.rounding != rule:
        line += f'; the config says {before!r}, which holds'
    elif rule != before:
        line += f', not {before!r} as new ones here'
    _speaker.say(line, load, None if file is None else (file, rule, neuron.rounding))
