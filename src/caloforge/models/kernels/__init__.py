"""Generation's loops compiled by Numba: what runs for every layer, voxel and hit, one shower after the other.

The same numbers as `flow_on_cpu`, `NeighbourNoise`, `pick`, `HitEnergies` and `Emission.context`, up to rounding. What
NumPy does in passes over whole arrays is done here row by row, in the cache; a shower's numbers do not depend on the
showers beside it.
"""

from __future__ import annotations

from .chain import (
    Chain,
    Head,
    SplineRoom,
    bend_with_root,
    decode,
    draw_of_many,
    run_chain,
    see_layer,
    step_of_many,
)
from .compiling import is_kept
from .elementary import WIDTH
from .energies import LayerContext, bend, energies_of_hits, hidden_of_hits, layer_context, scale_rows
from .normal import normal_numbers, random_bits
from .picking import Hit, Neighbours, pick_hits
from .splines import Landmarks

__all__ = [
    "WIDTH",
    "Chain",
    "Head",
    "Hit",
    "Landmarks",
    "LayerContext",
    "Neighbours",
    "SplineRoom",
    "bend",
    "bend_with_root",
    "decode",
    "draw_of_many",
    "energies_of_hits",
    "hidden_of_hits",
    "is_kept",
    "layer_context",
    "normal_numbers",
    "pick_hits",
    "random_bits",
    "run_chain",
    "scale_rows",
    "see_layer",
    "step_of_many",
]
