"""Names for mmengine's inferencers, which know but those that their library's own metafiles list."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from mmengine.infer import BaseInferencer

MODELS: dict[str, dict[str, Callable[[], tuple[Any, str]]]] = {}
"""By library and lower-case name: what gives configuration and checkpoint."""


def add_inferencer_models(scope: str, models: Mapping[str, Callable[[], tuple[Any, str]]]) -> None:
    """Let the inferencers of a library find further models by name, beside its own.

    Args:
        scope: the library, as 'mmdet'.
        models: by name, what gives configuration and checkpoint.
    """
    MODELS.setdefault(scope, {}).update({name.lower(): model for name, model in models.items()})
    load, listed = BaseInferencer._load_model_from_metafile, BaseInferencer.list_models
    if getattr(load, 'further', False):
        return

    def load_further(self: BaseInferencer, model: str) -> tuple[Any, str]:
        found = MODELS.get(self.scope, {}).get(model.lower())
        return load(self, model) if found is None else found()

    def list_further(scope: str | None = None, patterns: str = r'.*') -> list[str]:
        further = [name for name in MODELS.get(scope, ()) if re.match(patterns, name)]
        return [*listed(scope, patterns), *further]

    load_further.further = True
    BaseInferencer._load_model_from_metafile = load_further
    BaseInferencer.list_models = staticmethod(list_further)
