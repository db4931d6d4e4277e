"""Invertible maps between MeV and what a network likes to see, for voxel energies and for conditions.

Every transform is an `nn.Module` whose fitted state lies in buffers, so that it travels in a state dict, and whose
options rebuild it: ``build_transform(transform.config)``. Transforms act on showers (B, L, Y, X), or (B, n_voxels) if
layers differ, and on conditions (B, C) alike; ``incident_energy`` (B,) in MeV is passed to all, because some need it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import CaloforgeError, lookup
from ..options import checked_options
from .base import Compose, Transform
from .curves import BoxCox, Log, Logit
from .limits import Clamp, Threshold
from .scales import PerFastMaximum, PerIncidentEnergy, Scale, Standardise

__all__ = [
    "TRANSFORMS",
    "BoxCox",
    "Clamp",
    "Compose",
    "Log",
    "Logit",
    "PerFastMaximum",
    "PerIncidentEnergy",
    "Scale",
    "Standardise",
    "Threshold",
    "Transform",
    "build_transform",
]

TRANSFORMS: dict[str, type[Transform]] = {
    t.name: t for t in (Log, Logit, BoxCox, Standardise, Scale, PerIncidentEnergy, PerFastMaximum, Threshold, Clamp)
}
"""All transforms by the name used in configs."""


def build_transform(config: Sequence[Mapping[str, Any]]) -> Compose:
    """Build a chain of transforms from plain data.

    Args:
        config: one mapping a transform: its ``name`` and its options, e.g.
            ``[{"name": "per-incident-energy"}, {"name": "log", "scale": 1e-5}]``.

    Raises:
        CaloforgeError: if a name or an option is unknown or a value is not allowed.
    """
    parts = []
    for entry in config:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
            raise CaloforgeError(
                f"a transform is given as {str(entry)[:80]!r}; give a table with its name and options, "
                'e.g. {name = "log", scale = 1.0}.'
            )
        kind = lookup(TRANSFORMS, entry["name"], "a transform")
        given = {k: v for k, v in entry.items() if k != "name"}
        parts.append(kind(**checked_options(kind, given, f"transform '{entry['name']}'")))
    return Compose(parts)
