"""Models inside models: what a model around another one needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import CaloforgeError, lookup
from ..options import Count, checked_options
from .base import GenerativeModel

Layers = tuple[tuple[Count, Count], ...]


def build_component(
    name: str,
    shape: Sequence[int],
    n_conditions: int,
    layers: Layers | None,
    options: Mapping[str, Any],
    depth: int,
) -> GenerativeModel:
    """Build the model inside another one, its weights from torch's global stream, which `build_model` has seeded.

    Args:
        name: a key of `MODELS`.
        shape: of a shower.
        n_conditions: number of conditions.
        layers: (Y, X) of every layer, where they differ.
        options: the model's own.
        depth: of the model around it (`GenerativeModel.depth`).

    Raises:
        CaloforgeError: if the name or an option is unknown, a value is not allowed, or the model is one that cannot
            stand inside the other.
    """
    from . import MODELS  # the table holds the models around others too, which import this file

    kind = lookup(MODELS, name, "a model")
    if kind.depth >= depth or kind.paired:
        allowed = ", ".join(key for key, other in MODELS.items() if other.depth < depth and not other.paired)
        raise CaloforgeError(f"'{name}' cannot be a component here; choose one of: {allowed}.")
    given = {"shape": tuple(shape), "n_conditions": n_conditions, **options}
    if kind.takes_layers and layers:
        given["layers"] = layers
    return kind(**checked_options(kind, given, f"component '{name}'"))
