"""Networks that come with the package: what their cards say, and registration with the task libraries by name."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config

from qsdt_mm.compat.inferencers import add_inferencer_models
from qsdt_mm.errors import InputError
from qsdt_mm.fileio.folders import CARD, read_config
from qsdt_mm.fileio.shipped import shipped_folders

from .settings import config_of

TASKS = dict(mmpretrain='Image Classification', mmdet='Object Detection', mmseg='Semantic Segmentation')
INFERENCERS = ('mmdet', 'mmseg')


def card_facts(folder: Path) -> dict[str, Any]:
    """Return what the head of a card says, between lines of dashes, as the Hugging Face hub has it.

    Raises:
        InputError: there is no card, or its head is no YAML; one line.
    """
    path = folder / CARD
    try:
        _, head, _ = path.read_text(encoding='utf-8').split('---\n', 2)
        facts = yaml.safe_load(head)
    except OSError as error:
        raise InputError(f'{path} cannot be read: {error.strerror}') from error
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f'{path} is no card: it does not begin with YAML between lines of dashes') from error
    return facts if isinstance(facts, dict) else {}


def list_pretrained() -> dict[str, dict[str, Any]]:
    """Return the networks that come with the package: by name, what their cards say.

    Each has ``task``, ``data`` (what the figures were taken on), ``metrics`` (by name, such as 'accuracy, float') and
    ``megabytes`` of all files. The names are those that :func:`~qsdt_mm.from_pretrained` and the tools take.
    """
    found = {}
    for name, folder in shipped_folders().items():
        facts = card_facts(folder)
        (index, *_) = facts.get('model-index') or [{}]
        (result, *_) = index.get('results') or [{}]
        size = sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())
        found[name] = dict(
            task=facts.get('pipeline_tag'),
            data=(result.get('dataset') or {}).get('name'),
            metrics={metric['name']: metric['value'] for metric in result.get('metrics') or ()},
            megabytes=round(size / 1e6, 2),
        )
    return found


def register_models() -> list[str]:
    """Make the task libraries know the networks that come with the package, and return their names.

    Afterwards mmpretrain's ``get_model(NAME, pretrained=True)``, ``list_models`` and ``ImageClassificationInferencer``
    take the classifiers, mmdet's ``DetInferencer(NAME)`` the detectors, and mmseg's ``MMSegInferencer(NAME)`` the
    encoder-decoders. To call it again does no harm. A library that is not installed is passed over.
    """
    networks = {name: (folder, read_config(folder).get('default_scope')) for name, folder in shipped_folders().items()}
    known = []
    classifiers = {name: folder for name, (folder, scope) in networks.items() if scope == 'mmpretrain'}
    if classifiers and _add_classifiers(classifiers):
        known += classifiers
    for library in INFERENCERS:
        models = {name: _Lazy(folder) for name, (folder, scope) in networks.items() if scope == library}
        if models and find_spec(library) is not None:
            add_inferencer_models(library, models)
            known += models
    return sorted(known)


class _Lazy:
    """Configuration and weights of a network, read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self) -> tuple[Config, str]:
        return config_of(self.folder), str(self.folder)


def _add_classifiers(folders: dict[str, Path]) -> bool:
    """Add classifiers to mmpretrain's hub; return whether there is one."""
    try:
        from mmpretrain.apis.model import ModelHub
        from modelindex.models.Model import Model
    except ImportError:
        return False

    class Shipped(Model):
        """What the hub knows of a network, its configuration read when a copy is asked for."""

        def __deepcopy__(self, memo: dict) -> Model:
            found = _model(self.name, self.weights)
            found.config = config_of(self.weights)
            return found

    def _model(name: str, folder: str, kind: type[Model] = Model) -> Model:
        facts = card_facts(Path(folder))
        (index, *_) = facts.get('model-index') or [{}]
        results = [
            dict(
                Task=TASKS['mmpretrain'],
                Dataset=(result.get('dataset') or {}).get('name'),
                Metrics={metric['name']: metric['value'] for metric in result.get('metrics') or ()},
            )
            for result in index.get('results') or ()
        ]
        return kind(name=name, results=results or None, weights=folder, _filepath=str(Path(folder) / CARD))

    models = {name.lower(): _model(name, str(folder), Shipped) for name, folder in folders.items()}
    ModelHub._models_dict.update(models)
    _keep_through_indices(ModelHub, models)
    return True


def _keep_through_indices(hub: type, models: dict[str, Any]) -> None:
    """Let an index of models be registered that lists some of these, as this project's does: theirs are kept."""
    register = hub.register_model_index
    if getattr(register, 'kept', None) is not None:
        register.kept.update(models)
        return
    kept = dict(models)

    def register_model_index(cls: type, *args: Any, **kwargs: Any) -> None:
        for name in kept:
            cls._models_dict.pop(name, None)
        try:
            register(*args, **kwargs)
        finally:
            cls._models_dict.update(kept)

    register_model_index.kept = kept
    hub.register_model_index = classmethod(register_model_index)
