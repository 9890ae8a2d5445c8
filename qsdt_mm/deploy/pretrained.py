"""Networks in packed folders, on this disk or on a hub: ``save_pretrained``, ``from_pretrained``, ``push_to_hub``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import Tensor, nn

from qsdt_mm.compat.wrappers import unwrap
from qsdt_mm.errors import InputError, one_line, require
from qsdt_mm.fileio.atomic import PathLike
from qsdt_mm.fileio.folders import (
    COMPLETE,
    FILES,
    KINDS,
    OF_PLAN,
    Packed,
    dataset_meta,
    kinds_in,
    read_config,
    read_packed,
    trainable_weights,
    whole_folder,
    write_packed,
)
from qsdt_mm.fileio.shipped import located, meant
from qsdt_mm.models.quantization import QuantWeightMixin
from qsdt_mm.version import __version__

from .folder import build, describe, version_of
from .networks import build_network, plain_config
from .plan import Plan, plan
from .settings import config_of, plain_settings

ORDERS = {1: 'grey', 3: 'RGB'}


def save_pretrained(
    model: nn.Module,
    folder: PathLike,
    *,
    images: Tensor | None = None,
    kind: str | None = None,
    config: Any = None,
    classes: Sequence[str] | None = None,
    palette: Sequence[Sequence[int]] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    run: Callable[[nn.Module, Tensor], Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Pack a network into a folder, which is written whole or not at all, and return its path.

    Args:
        model: a network made of units, or a :class:`Plan`.
        folder: holds ``config.json``, ``model.safetensors`` and ``README.md`` afterwards.
        images: a few for calibration, see :func:`~qsdt_mm.deploy.plan`; for kind 'deploy'.
        kind: 'deploy': whole-number steps, which give the same bits everywhere; 'trainable': weights, those of few
            bits packed, that training can go on from; 'both': folders of both kinds in one; 'complete': one folder
            that is trainable, and has the whole configuration and, with ``images``, the plan. None: 'deploy' of a
            plan, or with ``images``, else 'trainable'.
        config: the network's configuration, for kind 'trainable': its dict, or a whole configuration with ``model``,
            which 'complete' needs. None: the model's ``cfg`` or ``_config``, which the libraries' own functions leave
            there.
        classes: their names.
        palette: their colours.
        preprocessing: further entries of what is noted of it: mean, std, order of channels, size.
        run: passes a normalised image through the model, see :func:`~qsdt_mm.deploy.plan`.
        overwrite: whether to put the folder in the place of another packed one.

    Raises:
        ValueError: an argument is out of range.
        InputError: the network cannot be packed so, or something is in the way; one line.
    """
    model = unwrap(model)
    is_plan = isinstance(model, Plan)
    if kind is None:
        kind = 'deploy' if is_plan or images is not None else 'trainable'
    allowed = (*KINDS, 'both', COMPLETE)
    require(kind in allowed, 'kind', kind, ', '.join(allowed))
    kinds = KINDS if kind == 'both' else (kind,)
    if kind == COMPLETE:
        kinds = KINDS if images is not None else ('trainable',)
    require(not is_plan or kind == 'deploy', 'kind', kind, "'deploy': a plan has no weights to train")
    require(
        'deploy' not in kinds or is_plan or images is not None, 'images', None, 'a few images, to deploy the network'
    )
    parts: dict[str, tuple] = {}
    version = 1
    classes = list(
        classes or getattr(model, 'classes', None) or (getattr(model, 'dataset_meta', None) or {}).get('classes') or ()
    )
    common = dict(
        preprocessing={
            **(getattr(model, 'preprocessing', None) or {}),
            **preprocessing_of(model, images),
            **(preprocessing or {}),
        },
        classes=[str(name) for name in classes],
        **(
            dict(palette=[list(map(int, colour)) for colour in palette])
            if palette and len(palette) == len(classes)
            else {}
        ),
        made_with=dict(qsdt_mm=__version__),
    )
    if 'trainable' in kinds:
        parts['trainable'] = _trainable_parts(model, config, common)
    if 'deploy' in kinds:
        content, tensors, bits = describe(model if is_plan else plan(model, images, run=run))
        common['preprocessing'].setdefault('size', content['shape'][-2:])
        parts['deploy'] = dict(common, plan=content), tensors, bits, {}
        version = version_of(content, tensors)
    if kind == COMPLETE:
        parts = {COMPLETE: _complete_parts(parts, _config_at_hand(model, config))}
    with whole_folder(folder, overwrite) as beside:
        for name, (content, tensors, bits, notes) in parts.items():
            place = beside / name if len(parts) > 1 else beside
            place.mkdir(exist_ok=True)
            needed = 1 if name == 'trainable' else version
            card = card_of(Path(folder).name, name, content, tensors)
            write_packed(place, name, content, tensors, bits, notes, card, needed)
            _read_back(place)  # what is not read back to the last bit is not written
    return Path(folder)


def _config_at_hand(model: nn.Module, config: Any) -> Any:
    return config if config is not None else getattr(model, 'cfg', None) or getattr(model, '_config', None)


def _complete_parts(parts: Mapping[str, tuple], config: Any) -> tuple:
    """Return what one folder holds of a network, its configuration and, if there is one, its plan."""
    content, tensors, bits, notes = parts['trainable']
    whole = getattr(config, 'to_dict', lambda: config)()
    require('model' in whole, 'config', sorted(map(str, whole))[:5], 'a whole configuration, with model', InputError)
    content, tensors, bits = dict(content, settings=plain_settings(config)), dict(tensors), dict(bits)
    if 'deploy' in parts:
        of_plan, more, widths, _ = parts['deploy']
        content['plan'] = of_plan['plan']
        tensors |= {OF_PLAN + name: tensor for name, tensor in more.items()}
        bits |= {OF_PLAN + name: width for name, width in widths.items()}
    return content, tensors, bits, notes


def _trainable_parts(model: nn.Module, config: Any, common: dict[str, Any]) -> tuple:
    config = _config_at_hand(model, config)
    require(config is not None, 'config', None, "the network's configuration, to build it again")
    description, scope = plain_config(config)
    if hasattr(model, 'student_config'):
        description = model.student_config(description)
    state = model.state_dict()
    tensors, bits, steps = dict(state), {}, {}
    for name, layer in model.named_modules():
        if isinstance(layer, QuantWeightMixin) and layer.quantizer is not None:
            weight, step = f'{name}.weight'.lstrip('.'), f'{name}.quantizer.step'.lstrip('.')
            integers = layer.int_weight()
            tensors[weight], bits[weight] = integers.integers, (integers.bits, integers.channel_dim)
            tensors[step], steps[weight] = layer.quantizer.positive_step.detach(), [step, integers.channel_dim]
    modules = {name: dict(note) for name, note in state._metadata.items()}
    same = _shared(state)
    for name in same:
        tensors.pop(name)
    content = dict(common, default_scope=scope, model=description)
    # Built now, so that a folder which cannot be loaded is not written.
    on_cpu = {name: value.cpu() for name, value in tensors.items()}
    notes = dict(steps=steps, modules=modules, **(dict(same=same) if same else {}))
    build_network(description, scope, trainable_weights(Packed({}, on_cpu, notes), 'the network'))
    return content, tensors, bits, notes


def _shared(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Return for each tensor that several parts of a network share, but for the first, the name of the first."""
    first: dict[tuple, str] = {}
    same = {}
    for name, value in state.items():
        place = value.data_ptr(), value.device, value.dtype, value.shape, value.stride()
        if value.numel() and first.setdefault(place, name) != name:
            same[name] = first[place]
    return same


def _read_back(folder: Path) -> None:
    for kind in kinds_in(folder):
        packed = read_packed(folder, kind)
        if kind == 'deploy':
            build(packed.config['plan'], packed.tensors)
    if read_config(folder).get('kind') == COMPLETE:
        config_of(folder)


def preprocessing_of(model: nn.Module, images: Tensor | None = None) -> dict[str, Any]:
    """Return mean, std and order of channels of a model's preprocessor, and the size of images."""
    found: dict[str, Any] = {}
    preprocessor = getattr(model, 'data_preprocessor', None)
    for name in ('mean', 'std'):
        value = getattr(preprocessor, name, None)
        if isinstance(value, Tensor):
            found[name] = [float(f'{number:.7g}') for number in value.flatten().tolist()]
    if preprocessor is not None:
        flips = any(
            getattr(preprocessor, name, False) for name in ('to_rgb', '_channel_conversion', 'channel_conversion')
        )
        found['channels'] = 'RGB' if flips else 'BGR'  # what reads images gives BGR
    if images is not None:
        found['size'] = list(images.shape[-2:])
        if images.shape[-3] != 3:
            found['channels'] = ORDERS.get(images.shape[-3], f'{images.shape[-3]} of events')
    return found


def from_pretrained(
    name: PathLike, *, kind: str | None = None, revision: str | None = None, cache_dir: PathLike | None = None
) -> nn.Module:
    """Return what a packed folder holds: a :class:`Plan`, or a network that can be trained, in evaluation mode.

    ``classes`` and ``preprocessing`` of the result say what was noted with it.

    Args:
        name: a folder; or the name of a network that comes with this package, see :func:`list_pretrained`; if there is
            neither, the name of a repository on the Hugging Face hub, ``owner/name``.
        kind: 'deploy' or 'trainable', the one that is wanted; None: the one that is there, of both 'trainable' where
            one folder has them.
        revision, cache_dir: of the hub, see ``huggingface_hub.snapshot_download``.

    Raises:
        InputError: the folder cannot be found, or is damaged, foreign or of another kind; one line.
    """
    require(kind in (None, *KINDS), 'kind', kind, ' or '.join(KINDS))
    folder = located(name)
    try:
        folder = folder or Path(name).expanduser()
        is_here = folder.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # too long, or of a home that nobody has
        raise InputError(f'packed folder {str(name)[:80]!r} does not exist: {one_line(error)[-80:]}') from error
    if not is_here:
        folder = download(str(name), revision, cache_dir)
    packed = read_packed(folder, kind)
    config = packed.config
    if packed.kind == 'deploy':
        network: nn.Module = build(config.get('plan'), packed.tensors)
    else:
        weights = trainable_weights(packed, folder)
        network = build_network(config.get('model'), config.get('default_scope'), weights)
        network.cfg = Config(dict(model=config['model'], default_scope=config.get('default_scope')))
        network.dataset_meta = dataset_meta(config)
    network.classes, network.preprocessing = list(dataset_meta(config)['classes']), preprocessing_in(config)
    return network


def holds_plan(path: PathLike) -> bool:
    """Return whether a path, or a name, is of a packed folder with a plan in it."""
    folder = located(path)
    return folder is not None and 'deploy' in kinds_in(folder)


def holds_plan_alone(path: PathLike) -> bool:
    """Return whether a path, or a name, is of a packed folder with a plan in it, and no weights to train."""
    folder = located(path)
    return folder is not None and kinds_in(folder) == ('deploy',)


def packed_plan(path: PathLike) -> Plan | None:
    """Return the plan in a packed folder; None of a checkpoint, or a folder without.

    Raises:
        InputError: the folder is damaged or foreign; one line.
    """
    return from_pretrained(path, kind='deploy') if holds_plan(path) else None


def preprocessing_in(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``config.json`` says of preprocessing."""
    found = config.get('preprocessing') or {}
    require(isinstance(found, dict), 'config.json: preprocessing', str(found)[:80], 'a dict', InputError)
    return found


def download(name: str, revision: str | None = None, cache_dir: PathLike | None = None) -> Path:
    """Return the local copy of a repository on the hub.

    Raises:
        InputError: there is no such name, or the hub cannot be reached and there is no copy; one line.
    """
    if not re.fullmatch(r'[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?', name):
        raise InputError(f'packed folder {name} does not exist')
    if near := meant(name):  # a word, which is nobody's repository
        raise InputError(f'packed folder {name} does not exist{near}')
    patterns = [*FILES, *(f'{kind}/{file}' for kind in KINDS for file in FILES)]
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, revision=revision, cache_dir=cache_dir, allow_patterns=patterns))
    except Exception as error:  # of the hub's client, its network, or its absence
        raise InputError(f'{name} is no folder here, and the hub does not give it: {_first_line(error)}') from error


def push_to_hub(
    folder: PathLike, name: str, *, private: bool | None = None, revision: str | None = None, token: str | None = None
) -> str:
    """Upload a packed folder to the Hugging Face hub, and return the address of what was uploaded.

    Args:
        folder: that :func:`save_pretrained` wrote.
        name: of the repository, ``owner/name``; it is made if there is none.
        private, revision, token: see ``huggingface_hub``; without a token that of ``hf auth login`` is taken.

    Raises:
        InputError: the folder is no packed network, or the hub does not take it; one line.
    """
    folder = Path(folder)
    kinds = [kind for kind in KINDS if (folder / kind).is_dir()] or [None]
    for kind in kinds:
        read_packed(folder, kind)
    patterns = [*FILES, *(f'{kind}/{file}' for kind in KINDS for file in FILES)]
    try:
        from huggingface_hub import HfApi

        api = HfApi(token=token, library_name='qsdt_mm', library_version=__version__)
        api.create_repo(name, private=private, exist_ok=True)
        found = api.upload_folder(repo_id=name, folder_path=folder, revision=revision, allow_patterns=patterns)
    except Exception as error:
        raise InputError(f'{name}: the hub does not take {folder}: {_first_line(error)}') from error
    return str(getattr(found, 'commit_url', found))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f'{type(error).__name__}: {lines[0][:200]}' if lines else type(error).__name__


CARD = """---
library_name: qsdt_mm
tags: [spiking-neural-network, quantized, openmmlab]
---
# {title}

{what}

    import qsdt_mm
    {variable} = qsdt_mm.from_pretrained('this/folder')

{count} numbers, in float32 {size} MB. Preprocessing: {preprocessing}.
"""
WHAT = dict(
    deploy='A plan of whole-number steps from uint8 pixels to the outputs, with the same bits in every runtime.',
    trainable='A network whose low-bit weights are packed and come back exactly; training can go on from it.',
    complete='A network whose low-bit weights are packed and come back exactly, with its configuration; its plan of '
    'whole-number steps gives the same bits in every runtime.',
)


def card_of(title: str, kind: str, content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return the text of ``README.md``."""
    count = sum(tensor.numel() for tensor in tensors.values())
    return CARD.format(
        title=f'{title} ({kind})',
        what=WHAT[kind],
        variable='plan' if kind == 'deploy' else 'model',
        count=f'{count:,}',
        size=f'{4 * count / 1e6:.3g}',
        preprocessing=', '.join(f'{key} {value}' for key, value in content['preprocessing'].items()) or 'none noted',
    )


def true_size(folder: PathLike, model: nn.Module) -> str:
    """Return the megabytes of all files in a folder, beside those of float32 and the papers' figure.

    The papers print the parameters times their bits over 32, in millions, whatever is not quantized included.
    """
    size = sum(path.stat().st_size for path in Path(folder).rglob('*') if path.is_file()) / 1e6
    weights = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    layers = [m for m in model.modules() if isinstance(m, QuantWeightMixin) and m.quantizer is not None]
    ratio = 4 * weights / size
    less = f'{ratio:.1f} times less than' if ratio >= 1.05 else 'beside'
    text = f'{size:.2f} MB in all files, {less} the {4 * weights:.2f} MB of float32'
    if layers:
        widths = [layer.weight_bits for layer in layers]
        bits = max(widths, key=widths.count)
        text += f"; the papers' figure, {weights:.2f} M parameters times {bits} / 32, is {weights * bits / 32:.2f}"
    return text
