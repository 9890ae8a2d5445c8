"""Notes in the metadata of an ONNX file of a plan: who reads the file needs nothing else to use it.

======================  ==============================================================================================
key                     value
======================  ==============================================================================================
``format``              'qsdt_mm plan'
``format_version``      '1'
``qsdt_mm_version``     of the package that wrote it
``task``                'classification', 'segmentation', 'detection', or 'features': no head is in the file
``channels``            their order in the image: 'RGB', 'BGR', 'grey', or what events they are
``shape``               JSON: ``[C, H, W]`` or ``[T, C, H, W]``, of one image
``size``                JSON: ``[H, W]``
``outputs``             JSON: names of the outputs, in lists as the network returns them
``classes``             JSON: a list of names
``mean``                JSON: of each channel, in grey levels: what padding is filled with
``image``               JSON: steps that bring a picture to its size, a list of lists, such as ``["short", 256]``
``boxes``               JSON: what boxes are decoded with, of a detector with anchors
``palette``             JSON: a colour of each class, ``[R, G, B]``
``threshold``           JSON: the probability above which the one map of a segmenter of two classes means the second
======================  ==============================================================================================

All values are text. The last six are there where they are known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from qsdt_mm.errors import InputError, require
from qsdt_mm.version import __version__

from .onnx import output_names
from .plan import Plan

if TYPE_CHECKING:
    from onnx import ModelProto

FORMAT, VERSION = 'qsdt_mm plan', '1'
TASKS = ('classification', 'segmentation', 'detection', 'features')
WORDS = ('format', 'format_version', 'qsdt_mm_version', 'task', 'channels')
NEEDED = (*WORDS, 'shape', 'size', 'outputs')
KNOWN = ('classes', 'mean', 'image', 'boxes', 'palette', 'threshold')


def notes_of(plan: Plan, *, task: str, channels: str, **known: Any) -> dict[str, Any]:
    """Return the notes of a plan's file.

    Args:
        plan: that is written.
        task: one of :data:`TASKS`.
        channels: their order.
        known: some of ``classes``, ``mean``, ``image``, ``boxes``, ``palette``, ``threshold``; what is None or empty is
            left out.

    Raises:
        ValueError: an argument is out of range.
    """
    require(task in TASKS, 'task', task, ', '.join(TASKS))
    wrong = sorted(known.keys() - set(KNOWN))
    require(not wrong, 'known', ', '.join(wrong), ', '.join(KNOWN))
    names, structure = output_names(plan), tree_flatten(plan.outputs)[1]
    return dict(
        format=FORMAT,
        format_version=VERSION,
        qsdt_mm_version=__version__,
        task=task,
        channels=channels,
        shape=list(plan.shape),
        size=list(plan.shape[-2:]),
        outputs=tree_unflatten(names, structure),
        **{key: value for key, value in known.items() if value},
    )


def write_notes(model: ModelProto, notes: Mapping[str, Any]) -> None:
    """Put notes into a model's metadata, in the place of what was there."""
    del model.metadata_props[:]
    for key, value in notes.items():
        model.metadata_props.add(key=key, value=value if key in WORDS else json.dumps(value))


def read_notes(metadata: Mapping[str, str], path: Any) -> dict[str, Any]:
    """Return the notes in a file's metadata.

    Args:
        metadata: text by key.
        path: of the file, for what is said of it.

    Raises:
        InputError: it is not of a plan, of a later version, or damaged; one line.
    """
    if metadata.get('format') != FORMAT:
        raise InputError(f'{path} is no plan of qsdt_mm: tools/deployment/export_onnx.py writes such files')
    if metadata.get('format_version') != VERSION:
        raise InputError(
            f'{path} has format_version {str(metadata.get("format_version"))[:20]}, this qsdt_mm reads {VERSION}: '
            'update it, or export the network again'
        )
    missing = [key for key in NEEDED if key not in metadata]
    require(not missing, f'{path}: metadata', f'without {", ".join(missing)}', ', '.join(NEEDED), InputError)
    try:
        found = {key: value if key in WORDS else json.loads(value) for key, value in metadata.items()}
        sizes = all(type(n) is int and n > 0 for n in found['shape']) and len(found['shape']) in (3, 4)
        tree_map(lambda name: require(isinstance(name, str), 'outputs', name, 'names'), found['outputs'])
    except (ValueError, TypeError) as error:
        raise InputError(f'{path}: its metadata cannot be read: {error}') from error
    require(sizes, f'{path}: shape', found['shape'], '[C, H, W] or [T, C, H, W]', InputError)
    require(found['task'] in TASKS, f'{path}: task', found['task'], ', '.join(TASKS), InputError)
    return found
