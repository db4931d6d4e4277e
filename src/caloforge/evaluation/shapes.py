"""Shower shapes: energies along x, y and the layers, their differences and their edges.

All functions take showers in memory or an open shower file, which is read piece by piece.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import CaloforgeError
from ..showers import Showers
from .distributions import Distribution, Joint
from .metrics import Comparison, Metric
from .resampling import Estimate, Floor, bootstrap, estimate, floor, halves
from .sample import pieces

if TYPE_CHECKING:
    from ..detectors import Detector
    from ..shower_file import ShowerFile

    Source = Showers | ShowerFile

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

FEWEST = 20
"""Fewest showers of a sample from which an error is given."""


class Shapes(NamedTuple):
    """Energies along the three axes in MeV: x (X,), y (Y,), layer (L,), or (N, ...) by shower."""

    x: Floats
    y: Floats
    layer: Floats


@dataclass(frozen=True)
class Compared:
    """A comparison of two samples beside what the reference gives against itself."""

    estimate: Estimate
    floor: Floor

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {**self.estimate.to_dict(), "floor": self.floor.to_dict()}


def energies_along(showers: Source) -> Shapes:
    """Energy of every shower along x, y and the layers (N, X), (N, Y), (N, L) in MeV.

    Raises:
        CaloforgeError: if the layers are not all cut into the same cells in x and y.
    """
    layers, ny, nx = cells_of(showers.detector)
    parts = []
    for part in parts_of(showers):
        row, index = part.shower_of_hit, part.index.astype(np.int64)
        at = (index % nx, index // nx % ny, index // (nx * ny))
        parts.append([table(row, a, len(part), n, part.energy) for a, n in zip(at, (nx, ny, layers), strict=True)])
    if not parts:
        return Shapes(np.zeros((0, nx)), np.zeros((0, ny)), np.zeros((0, layers)))
    return Shapes(*(np.concatenate(axis) for axis in zip(*parts, strict=True)))


def shower_shapes(showers: Source) -> Shapes:
    """Mean energy a shower along x (X,), y (Y,) and the layers (L,) in MeV: the shower shapes of S0 and S4.

    Raises:
        CaloforgeError: if there are no showers, or the layers are not all cut into the same cells in x and y.
    """
    enough(showers, 1, "shower shapes")
    return Shapes(*(along.mean(axis=0) for along in energies_along(showers)))


def shape_mse(
    reference: Source, generated: Source, rng: np.random.Generator, resamples: int = 100
) -> dict[str, Compared]:
    """Mean squared difference of the shower shapes, S0's figure of merit.

    The paper gives no unit for its 0.065 (Conv3D) and 0.044 (Conv2D). Here both samples' mean shapes (see
    `shower_shapes`) are divided by the reference's mean total energy and multiplied by 100; the squared differences
    are averaged over the bins of an axis. The unit is therefore percent squared a bin: 0.01 says that bins are off by
    0.1 % of the shower's energy. A wrong energy scale counts, and numbers compare between energies, not between
    segmentations nor with the paper's.

    The floor is one half of the reference against the other over 10 splits, scaled to the sizes compared as
    1/N_1 + 1/N_2. It holds the spread of the incident energies: with the same particles in both samples, over a wide
    spectrum, a good generator lies under it; choose an energy window for a sharp comparison.

    Args:
        reference: N_1 showers, usually Geant4's.
        generated: N_2 showers of the same detector.
        rng: for the bootstrap over the showers of both samples and the splits.
        resamples: bootstrap samples.

    Returns:
        "x", "y", "layer" and "mean", the average of the three. An axis of one bin has no shape and is left out.

    Raises:
        CaloforgeError: if the detectors differ, have no common cells in x and y, or there are under 40 reference
            showers (the floor needs halves) or under 20 generated ones.
    """
    same_detector(reference, generated)
    enough(reference, 2 * FEWEST, "the floor of the shape differences")
    enough(generated, FEWEST, "shape differences")
    a, b = energies_along(reference), energies_along(generated)
    holds_energy(a.layer)
    draws = bootstrap(len(a.x), rng, resamples), bootstrap(len(b.x), rng, resamples)
    splits = halves(len(a.x), rng)
    ends = np.cumsum([0, *(v.shape[1] for v in a)]).tolist()
    parts = [slice(low, high) for low, high in itertools.pairwise(ends)]
    joint_a, joint_b = Joint(np.concatenate(a, axis=1)), Joint(np.concatenate(b, axis=1))
    found = {}
    axes = {name: [part] for name, part in zip(Shapes._fields, parts, strict=True) if part.stop - part.start > 1}
    for name, chosen in (*axes.items(), ("mean", [part for one in axes.values() for part in one])):
        metric = Metric("shape MSE", "mean squared difference of shower shapes", "", 1.0, _squared_difference(chosen))
        found[name] = Compared(
            estimate(metric, joint_a, joint_b, draws), floor(metric, joint_a, (len(joint_a), len(joint_b)), splits)
        )
    return found


def _squared_difference(parts: Sequence[slice]) -> Callable[[Distribution, Distribution], Comparison]:
    """The metric of `shape_mse`, averaged over some axes, each a slice of the columns."""

    def of(a: Distribution, b: Distribution) -> Comparison:
        assert isinstance(a, Joint) and isinstance(b, Joint)
        pairs = [(a.values[:, part], b.values[:, part]) for part in parts]

        def distance(wa: Floats, wb: Floats) -> float:
            squares = []
            for va, vb in pairs:
                p, q = wa @ va / wa.sum(), wb @ vb / wb.sum()
                squares.append(np.mean((100 * (p - q) / p.sum()) ** 2))
            return float(np.mean(squares))

        return distance

    return of


def edge_fraction(showers: Source, cells: int = 1) -> dict[str, Estimate]:
    """Share of the energy in the outermost cells of each axis, where S4 gained.

    Args:
        showers: N showers.
        cells: how many cells, or layers, count as the edge.

    Returns:
        "x_low", "x_high", "y_low", "y_high", "layer_front", "layer_back": summed energy there over summed energy, with
        the error of a ratio of means. An axis of one bin has no edges and is left out.

    Raises:
        CaloforgeError: if the edges would overlap, showers are under 20, or there are no common cells in x and y.
    """
    enough(showers, FEWEST, "edge fractions")
    along = energies_along(showers)
    total = along.layer.sum(axis=1)
    holds_energy(total)
    found = {}
    for axis, (low, high) in zip(Shapes._fields, (("low", "high"), ("low", "high"), ("front", "back")), strict=True):
        energy: Floats = getattr(along, axis)
        bins = energy.shape[1]
        if bins == 1:
            continue
        if not 1 <= cells <= bins // 2:
            raise CaloforgeError(
                f"edges of {cells} cells do not fit twice into the {bins} bins along {axis}; "
                f"give a number from 1 to {bins // 2}."
            )
        found[f"{axis}_{low}"] = _ratio_of_means(energy[:, :cells].sum(axis=1), total)
        found[f"{axis}_{high}"] = _ratio_of_means(energy[:, -cells:].sum(axis=1), total)
    return found


def _ratio_of_means(above: Floats, below: Floats) -> Estimate:
    ratio = float(above.sum() / below.sum())
    n = len(above)
    return Estimate(ratio, float(np.sqrt(np.sum((above - ratio * below) ** 2) * n / (n - 1)) / below.sum()))


def parts_of(source: Source) -> Iterator[Showers]:
    """The showers, a memory-friendly number at a time."""
    if isinstance(source, Showers):
        yield source
    else:
        yield from pieces(source, np.arange(len(source)))


def picked(source: Source, rows: Integers) -> Showers:
    """The showers ``rows``, all different, in that order."""
    if isinstance(source, Showers):
        return source[rows]
    order = np.argsort(rows)
    return Showers.concatenate(list(pieces(source, rows[order])))[np.argsort(order)]


def table(row: Integers, column: Integers, rows: int, columns: int, weights: npt.NDArray[Any] | None = None) -> Floats:
    """Sums of weights, or counts, by row and column (rows, columns)."""
    flat = np.bincount(row * columns + column, weights, rows * columns)
    return flat.reshape(rows, columns).astype(np.float64)


def cells_of(detector: Detector) -> tuple[int, int, int]:
    """Layers and cells in y and x of a detector all of whose layers are cut alike.

    Raises:
        CaloforgeError: if they are not.
    """
    first = detector.grids[0]
    alike = all(
        g.kind == "cartesian"
        and g.shape == first.shape
        and np.allclose(g.edges0, first.edges0)
        and np.allclose(g.edges1, first.edges1)
        for g in detector.grids
    )
    if not alike:
        raise CaloforgeError(
            f"the layers of detector '{detector.name}' are not all cut into the same cells in x and y, so it has no "
            "shapes along them; give showers of one whose layers are, as 'clic-ecal'."
        )
    return len(detector.grids), *first.shape


def same_detector(a: Source, b: Source) -> None:
    """Raise CaloforgeError unless both samples have the same voxels."""
    if not a.detector.same_voxels(b.detector):
        raise CaloforgeError(
            f"showers of '{a.detector.name}' and '{b.detector.name}' have different voxels; "
            "compare samples of one detector."
        )


def enough(source: Source, needed: int, what: str) -> None:
    """Raise CaloforgeError if there are fewer showers than ``what`` needs."""
    if len(source) < needed:
        raise CaloforgeError(f"{len(source)} showers are too few for {what}; give at least {needed}.")


def holds_energy(energy: Floats) -> None:
    """Raise CaloforgeError if there is no energy at all."""
    if not energy.any():
        raise CaloforgeError("all voxel energies are zero; give showers that hold energy.")
