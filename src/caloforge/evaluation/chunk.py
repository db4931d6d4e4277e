"""Some showers with all that observables share, and the bins their profiles are summed in.

Transverse positions are taken relative to the shower axis: the incident point carried along the particle's direction
to the depth of the voxel's layer, ``position + (tan_x, tan_y) * z``. A sample with scattered incident points and
angles, summed over depth, therefore gives the same centres and widths as one shot into the same spot; for a
depth-summed detector z is the middle of the stack.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..errors import CaloforgeError
from .distributions import Floats

if TYPE_CHECKING:
    from ..detectors import Detector
    from ..showers import Showers

Edges = dict[str, Floats]
"""Bin edges of the profiles by name: "layer", "radius" (mm), "voxel_energy" (MeV), "voxel_fraction"."""


class Chunk:
    """Some showers with everything that observables share, computed once.

    N is the number of showers, H that of their voxel energies (hits). All per-hit arrays are (H,).
    """

    def __init__(self, showers: Showers, edges: Edges | None = None) -> None:
        self.showers: Showers = showers
        self.detector: Detector = showers.detector
        self.edges = edges or {}
        self.row: npt.NDArray[np.int64] = showers.shower_of_hit
        self.energy: Floats = showers.energy.astype(np.float64)

    def __len__(self) -> int:
        return len(self.showers)

    @cached_property
    def total(self) -> Floats:
        """Sum of the voxel energies (N,) in MeV."""
        return self.sum(self.energy)

    @cached_property
    def layer(self) -> npt.NDArray[np.int32]:
        """Layer of each hit."""
        return self.detector.voxel_layers[self.showers.index]

    @cached_property
    def hits_in_layer(self) -> Floats:
        """Voxels with energy in each layer (N, layers)."""
        return self._per_layer(None)

    @cached_property
    def energy_in_layer(self) -> Floats:
        """Energy in each layer (N, layers) in MeV."""
        return self._per_layer(self.energy)

    @cached_property
    def slopes(self) -> Floats:
        """tan_x, tan_y (N, 2) of the incident particles.

        Raises:
            CaloforgeError: if a particle does not fly into the detector.
        """
        direction = self.showers.incident.direction
        if (direction[:, 2] <= 0).any():
            raise CaloforgeError(
                "some incident particles do not fly into the detector (direction z must be positive); "
                "correct 'incident/direction' in the shower file."
            )
        slopes: Floats = direction[:, :2] / direction[:, 2:]
        return slopes

    @cached_property
    def z(self) -> Floats:
        """Depth of each hit's voxel centre, mm."""
        z: Floats = self.detector.voxel_positions[self.showers.index, 2]
        return z

    @cached_property
    def offset(self) -> Floats:
        """x, y of each hit relative to the shower axis (H, 2), mm."""
        axis = self.showers.incident.position[self.row] + self.slopes[self.row] * self.z[:, None]
        offset: Floats = self.detector.voxel_positions[self.showers.index, :2] - axis
        return offset

    @cached_property
    def distance(self) -> Floats:
        """Transverse distance of each hit from the shower axis, mm."""
        distance: Floats = np.hypot(self.offset[:, 0], self.offset[:, 1])
        return distance

    @cached_property
    def turned(self) -> Floats:
        """Each hit's offset (H, 2) along and across the transverse direction of the momentum, mm.

        A particle flying straight in has no such direction: x and y are taken instead.
        """
        size = np.hypot(self.slopes[:, 0], self.slopes[:, 1])
        straight = size < 1e-9
        unit = np.where(straight[:, None], (1.0, 0.0), self.slopes / np.where(straight, 1, size)[:, None])[self.row]
        along = (self.offset * unit).sum(axis=1)
        across = self.offset[:, 1] * unit[:, 0] - self.offset[:, 0] * unit[:, 1]
        return np.stack([along, across], axis=1)

    def sum(self, weights: Floats) -> Floats:
        """Sum of per-hit weights by shower (N,)."""
        return np.bincount(self.row, weights=weights, minlength=len(self)).astype(np.float64)

    def mean(self, values: Floats) -> Floats:
        """Energy-weighted mean of per-hit values by shower (N,); NaN for empty showers."""
        return ratio(self.sum(self.energy * values), self.total)

    def spread(self, values: Floats) -> Floats:
        """Energy-weighted standard deviation of per-hit values by shower (N,); NaN for empty showers."""
        away = values - self.mean(values)[self.row]  # two passes: one would lose all digits far from the origin
        return np.sqrt(self.mean(away * away))

    def layer_mean(self, values: Floats) -> Floats:
        """Energy-weighted mean of per-hit values by shower and layer (N, layers); NaN for empty layers."""
        return ratio(self._per_layer(self.energy * values), self.energy_in_layer)

    def histogram(self, values: Floats, edges: str, weights: Floats | None = None) -> Floats:
        """Histogram of per-hit values by shower (N, bins + 2); the first and last column are under- and overflow."""
        at = np.searchsorted(self.edges[edges], values, side="right")
        columns = len(self.edges[edges]) + 1
        flat = np.bincount(self.row * columns + at, weights=weights, minlength=len(self) * columns)
        return flat.reshape(len(self), columns).astype(np.float64)

    def _per_layer(self, weights: Floats | None) -> Floats:
        layers = self.detector.n_layers
        flat = np.bincount(self.row * layers + self.layer, weights=weights, minlength=len(self) * layers)
        return flat.reshape(len(self), layers).astype(np.float64)


def ratio(above: Floats, below: Floats) -> Floats:
    """``above / below``; NaN where ``below`` is not positive."""
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def fitting_edges(showers: Showers) -> Edges:
    """Bin edges of the profiles that fit some showers, usually a first look at the reference."""
    detector = showers.detector
    chunk = Chunk(showers)
    positive = np.log10(chunk.energy[chunk.energy > 0])
    low, high = np.quantile(positive, [0.001, 1.0]) if len(positive) else (-3.0, 3.0)
    if high - low < 0.1:
        low, high = low - 0.5, high + 0.5
    return {
        "layer": np.arange(detector.n_layers + 1) - 0.5,
        "radius": _radial_edges(chunk),
        "voxel_energy": np.logspace(low, high + 1e-6, 51),
        "voxel_fraction": np.logspace(-6, 0, 49),
    }


def _radial_edges(chunk: Chunk) -> Floats:
    """At most 40 bins, as wide as the finest cells or a multiple of it, out to 99.9 % of the energy."""
    grids = chunk.detector.grids
    sides = [
        float(np.diff(e).min()) for g in grids for e in ((g.edges0, g.edges1) if g.kind == "cartesian" else (g.edges1,))
    ]
    pitch = min(sides)
    reach = pitch
    if chunk.energy.sum() > 0:
        order = np.argsort(chunk.distance)
        share = np.cumsum(chunk.energy[order])
        at = min(int(np.searchsorted(share, 0.999 * share[-1])), len(order) - 1)
        reach = float(chunk.distance[order[at]])
    width = pitch * max(1, int(np.ceil(reach / pitch / 40)))
    edges: Floats = np.arange(max(2, int(np.ceil(reach / width)) + 1) + 1, dtype=np.float64) * width
    return edges
