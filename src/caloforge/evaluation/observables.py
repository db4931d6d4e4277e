"""Physical quantities of showers, for any segmentation, from voxel positions alone.

Empty showers have no centre, width or depth: these are NaN, and metrics count them instead of dropping them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..errors import lookup
from .chunk import Chunk, Edges, fitting_edges, ratio
from .distributions import Floats

if TYPE_CHECKING:
    from ..showers import Showers


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
    return ratio(chunk.total, chunk.showers.incident.energy)


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
        lambda c: ratio(_peak(c), c.total),
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
