"""Physical quantities of showers, for any segmentation, from voxel positions alone.

Transverse positions are taken relative to the shower axis: the incident point carried along the particle's direction
to the depth of the voxel's layer, ``position + (tan_x, tan_y) * z``. A sample with scattered incident points and
angles, summed over depth, therefore gives the same centres and widths as one shot into the same spot; for a
depth-summed detector z is the middle of the stack.

Empty showers have no centre, width or depth: these are NaN, and metrics count them instead of dropping them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from ..errors import CaloforgeError, lookup

if TYPE_CHECKING:
    from ..detectors import Detector
    from ..showers import Showers

Floats = npt.NDArray[np.float64]
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
        return _ratio(self.sum(self.energy * values), self.total)

    def spread(self, values: Floats) -> Floats:
        """Energy-weighted standard deviation of per-hit values by shower (N,); NaN for empty showers."""
        away = values - self.mean(values)[self.row]  # two passes: one would lose all digits far from the origin
        return np.sqrt(self.mean(away * away))

    def layer_mean(self, values: Floats) -> Floats:
        """Energy-weighted mean of per-hit values by shower and layer (N, layers); NaN for empty layers."""
        return _ratio(self._per_layer(self.energy * values), self.energy_in_layer)

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


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


Kind = Literal["value", "layers", "profile"]


@dataclass(frozen=True)
class Observable:
    """A physical quantity of a shower.

    Attributes:
        label: what is written at an axis.
        unit: its unit, or an empty string.
        meaning: one line for people who see the number for the first time.
        of: computes it: (N,) for a "value"; (N, layers) for "layers", one value in each layer; (N, bins + 2) for a
            "profile", something summed in bins with under- and overflow.
        kind: which of these three.
        needs: "layers" if it means nothing with a single layer, "tilt" if nothing at normal incidence.
        bins: for a profile, which of `Edges` it is summed in.
        axis: for a profile, what its bins are, with unit.
        log: whether its histogram may have logarithmic bins.
        whole: whether it takes whole numbers only.
    """

    label: str
    unit: str
    meaning: str
    of: Callable[[Chunk], Floats]
    kind: Kind = "value"
    needs: Literal["", "layers", "tilt"] = ""
    bins: str = ""
    axis: str = ""
    log: bool = False
    whole: bool = False

    def applies(self, layers: int, tilted: bool) -> bool:
        """Whether it means something for a detector with so many layers and such incident particles."""
        return (self.needs != "layers" or layers > 1) and (self.needs != "tilt" or tilted)


def _centre(axis: int, chunk: Chunk) -> Floats:
    return chunk.mean(chunk.offset[:, axis])


def _width(axis: int, chunk: Chunk) -> Floats:
    return chunk.spread(chunk.offset[:, axis])


def _turned_width(axis: int, chunk: Chunk) -> Floats:
    return chunk.spread(chunk.turned[:, axis])


def _asymmetry(axis: int, chunk: Chunk) -> Floats:
    return chunk.mean(np.sign(chunk.turned[:, axis]))


def _response(chunk: Chunk) -> Floats:
    return _ratio(chunk.total, chunk.showers.incident.energy)


def _peak(chunk: Chunk) -> Floats:
    peak = np.zeros(len(chunk))
    filled = np.flatnonzero(chunk.showers.n_hits)
    if len(filled):
        peak[filled] = np.maximum.reduceat(chunk.energy, chunk.showers.offset[:-1][filled] - chunk.showers.offset[0])
    return peak


def _transverse() -> Iterator[tuple[str, Observable]]:
    for axis, name in enumerate("xy"):
        yield (
            f"centre_{name}",
            Observable(
                f"shower centre in {name}",
                "mm",
                f"energy-weighted mean {name}, relative to the shower axis",
                partial(_centre, axis),
            ),
        )
        yield (
            f"width_{name}",
            Observable(
                f"shower width in {name}",
                "mm",
                f"energy-weighted standard deviation in {name}",
                partial(_width, axis),
            ),
        )
    for axis, name in enumerate(("along", "across")):
        yield (
            f"width_{name}",
            Observable(
                f"width {name} the tilt",
                "mm",
                f"energy-weighted standard deviation {name} the transverse direction of the momentum",
                partial(_turned_width, axis),
                needs="tilt",
            ),
        )
        yield (
            f"asymmetry_{name}",
            Observable(
                f"asymmetry {name} the tilt",
                "",
                f"energy ahead minus behind the projected incident point {name} the tilt, over their sum",
                partial(_asymmetry, axis),
                needs="tilt",
            ),
        )


_layerwise = partial(Observable, kind="layers", needs="layers")  # with one layer the shower as a whole says it all


OBSERVABLES: dict[str, Observable] = {
    "total_energy": Observable(
        "total energy", "MeV", "sum of all voxel energies of a shower", lambda c: c.total, log=True
    ),
    "response": Observable(
        "response",
        "",
        "total energy divided by the energy of the incident particle",
        _response,
    ),
    "n_hits": Observable(
        "voxels hit",
        "",
        "number of voxels with any energy",
        lambda c: c.showers.n_hits.astype(np.float64),
        whole=True,
        log=True,
    ),
    "sparsity": Observable(
        "sparsity", "", "fraction of voxels without energy", lambda c: 1 - c.showers.n_hits / c.detector.n_voxels
    ),
    "peak_fraction": Observable(
        "hottest voxel's share",
        "",
        "largest voxel energy over total energy",
        lambda c: _ratio(_peak(c), c.total),
    ),
    **dict(_transverse()),
    "radius": Observable(
        "mean radius", "mm", "energy-weighted mean distance from the shower axis", lambda c: c.mean(c.distance)
    ),
    "depth": Observable("shower depth", "mm", "energy-weighted mean z", lambda c: c.mean(c.z), needs="layers"),
    "length": Observable(
        "shower length", "mm", "energy-weighted standard deviation in z", lambda c: c.spread(c.z), needs="layers"
    ),
    "layer_energy": _layerwise("layer energy", "MeV", "energy in one layer", lambda c: c.energy_in_layer, log=True),
    "layer_hits": _layerwise(
        "layer hits", "", "voxels with energy in one layer", lambda c: c.hits_in_layer, whole=True
    ),
    "layer_radius": _layerwise(
        "layer radius",
        "mm",
        "energy-weighted mean distance from the shower axis in one layer",
        lambda c: c.layer_mean(c.distance),
    ),
    "longitudinal_profile": Observable(
        "longitudinal profile",
        "MeV",
        "where along the depth the energy lies",
        lambda c: np.pad(c.energy_in_layer, ((0, 0), (1, 1))),  # no layer lies outside
        kind="profile",
        needs="layers",
        bins="layer",
        axis="layer",
    ),
    "radial_profile": Observable(
        "radial profile",
        "MeV",
        "how far from the shower axis the energy lies",
        lambda c: c.histogram(c.distance, "radius", c.energy),
        kind="profile",
        bins="radius",
        axis="distance from the shower axis [mm]",
    ),
    "voxel_spectrum": Observable(
        "voxel energy spectrum",
        "voxels",
        "how many voxels of which energy a shower has",
        lambda c: c.histogram(c.energy, "voxel_energy"),
        kind="profile",
        bins="voxel_energy",
        axis="voxel energy [MeV]",
        log=True,
    ),
    "voxel_fractions": Observable(
        "voxel energy fractions",
        "voxels",
        "how many voxels hold which fraction of the shower's energy: its sparsity at every threshold",
        lambda c: c.histogram(c.energy / c.total[c.row], "voxel_fraction"),
        kind="profile",
        bins="voxel_fraction",
        axis="voxel energy / total energy",
        log=True,
    ),
}
"""Everything that is measured on a shower, by name."""


def compute(name: str, showers: Showers, edges: Edges | None = None) -> Floats:
    """One observable of showers in memory.

    Args:
        name: a name of `OBSERVABLES`.
        showers: N showers.
        edges: bin edges, for profiles; by default those that fit these showers.

    Returns:
        (N,), (N, layers) or (N, bins + 2), see `Observable.of`.

    Raises:
        CaloforgeError: if there is no such observable.
    """
    observable = lookup(OBSERVABLES, name, "an observable")
    return observable.of(Chunk(showers, edges or fitting_edges(showers)))


def sparsity_curve(fractions: Floats, edges: Floats, n_voxels: int) -> tuple[Floats, Floats]:
    """Sparsity of each shower at rising thresholds: the share of voxels that hold less than a fraction of its energy.

    The thresholds are the bin edges of the "voxel_fractions" from 1e-5 to 1e-1, so no hit is looked at again.

    Args:
        fractions: the observable "voxel_fractions" (N, bins + 2).
        edges: its bin edges (bins + 1,).
        n_voxels: voxels of the detector.

    Returns:
        thresholds (T,) and sparsity (N, T); an empty shower has 1 at every threshold.
    """
    above = np.cumsum(fractions[:, :0:-1], axis=1)[:, ::-1]  # (N, bins + 1): voxels at or above each edge
    chosen = (edges > 0.999e-5) & (edges < 1.001e-1)
    return edges[chosen], 1 - above[:, chosen] / n_voxels


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
