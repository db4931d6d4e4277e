"""Distances between two clouds of showers in many dimensions: FPD, KPD, and how their neighbourhoods overlap.

They work on any table of features; `fidelity` takes the observables of any detector.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...crew import HERE, Crew
from ...progress import Progress, part, silent
from ..classifier import observable_features
from ..resampling import Estimate
from ..sample import Sample
from .frechet import MIN_SAMPLES, fpd, grid, split_floor
from .kernel import kpd
from .neighbours import NEIGHBOURS, Points, prdc
from .rows import Rows, read_rows

Floats = npt.NDArray[np.float64]

SPLITS = 4  # of the reference in halves, for a floor
MIN_NEIGHBOURS = 1000  # showers whose neighbours are looked for whatever it costs
NEIGHBOUR_COST = 1e12  # multiplications and additions that neighbours may cost without a GPU


@dataclass(frozen=True)
class Distance:
    """One of the two distances of clouds of features.

    Attributes:
        of: (reference, generated, smaller number of showers, whether for a floor, seed, crew, progress) -> Estimate.
        sizes: what it says about its bootstrap samples for so many showers.
    """

    of: Callable[[Floats, Floats, int, bool, int, Crew, Progress], Estimate]
    sizes: Callable[[int], dict[str, int]]


def _fpd(a: Floats, b: Floats, n: int, floor: bool, seed: int, crew: Crew, progress: Progress) -> Estimate:
    low, high = grid(n)
    batches = 20 // SPLITS if floor else 20
    return fpd(a, b, min_samples=low, max_samples=high, batches=batches, seed=seed, crew=crew, progress=progress)


def _kpd(a: Floats, b: Floats, n: int, floor: bool, seed: int, crew: Crew, progress: Progress) -> Estimate:
    return kpd(
        a, b, batches=3 if floor else 10, batch_size=min(MIN_SAMPLES, n), seed=seed, crew=crew, progress=progress
    )


DISTANCES: dict[str, Distance] = {
    "fpd": Distance(_fpd, lambda n: dict(zip(("min_samples", "max_samples"), grid(n), strict=True))),
    "kpd": Distance(_kpd, lambda n: {"batch_size": min(MIN_SAMPLES, n)}),
}
"""The distances by name; their values are those of JetNet 0.2.5 with min_samples and batch_size as they say."""


def distance(
    name: str, reference: Floats, generated: Floats, *, seed: int = 0, crew: Crew = HERE, progress: Progress = silent
) -> dict[str, Any]:
    """One of `DISTANCES` with its error and its floor.

    Args:
        name: of `DISTANCES`.
        reference: features (N, F).
        generated: features (M, F).
        seed: of the splits of the reference; the distance's own draws are always JetNet's.
        crew: who computes.
        progress: called with steps done, steps in all.
    """
    chosen = DISTANCES[name]
    n = min(len(reference), len(generated))

    found = chosen.of(reference, generated, n, False, 42, crew, part(progress, 0, 50))

    def within(a: Floats, b: Floats, number: int) -> Estimate:
        shown = part(progress, 50 + 50 * number / SPLITS, 50 + 50 * (number + 1) / SPLITS)
        return chosen.of(a, b, len(a), True, 43 + number, crew, shown)

    sizes = len(reference), len(generated)
    bottom = split_floor(reference, sizes, within, np.random.default_rng([seed, 5]), SPLITS)
    return {**found.to_dict(), "floor": bottom.to_dict(), **chosen.sizes(n), "features": reference.shape[1]}


@dataclass(frozen=True)
class _Logarithms:
    """Blocks of the logarithms of voxel energies of chosen showers; a class, because functions do not travel well."""

    rows: Rows
    chosen: torch.Tensor

    def __call__(self, start: int, stop: int) -> torch.Tensor:
        return self.rows.logarithms(self.chosen[start:stop])


def most_neighbours(n_voxels: int, device: torch.device) -> int | None:
    """Showers of each sample whose neighbours are looked for; all on a GPU.

    All pairs of n showers of both samples cost 6 n^2 n_voxels operations.
    """
    if device.type != "cpu":
        return None
    return max(MIN_NEIGHBOURS, int(math.sqrt(NEIGHBOUR_COST / (6 * n_voxels))))


def neighbourhood(
    reference: Rows,
    generated: Rows,
    *,
    seed: int = 0,
    device: torch.device,
    crew: Crew = HERE,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Precision, recall, density and coverage in the space of the logarithms of all voxel energies.

    The floor is what one part of the reference gives for another, of the same number of showers if there are twice as
    many: what a perfect generator reaches, which is less than 1.

    Args:
        reference: N showers.
        generated: M showers.
        seed: of the choice of showers.
        device: where to compute.
        crew: who computes, block by block.
        progress: called with steps done, steps in all.
    """
    n = min(len(reference), len(generated), most_neighbours(reference.detector.n_voxels, device) or 1 << 62)
    m = min(n, len(reference) // 2)
    rng = np.random.default_rng([seed, 7])
    order = [rng.permutation(len(rows)) for rows in (reference, generated)]
    held = reference.to(device), generated.to(device)

    def points(rows: Rows, which: npt.NDArray[np.int64]) -> Points:
        return Points(len(which), _Logarithms(rows, torch.from_numpy(which).to(device)))

    pair = points(held[0], order[0][:n]), points(held[1], order[1][:n])
    found = prdc(*pair, crew=crew, progress=part(progress, 0, 50))
    bottom: dict[str, Estimate] = {}
    if m > NEIGHBOURS:
        halves = points(held[0], order[0][:m]), points(held[0], order[0][m : 2 * m])
        bottom = prdc(*halves, crew=crew, progress=part(progress, 50, 100))
    nothing = {"value": math.nan, "error": math.nan}
    numbers = {
        name: {**e.to_dict(), "floor": {**(bottom[name].to_dict() if bottom else nothing), "size": m}}
        for name, e in found.items()
    }
    return {**numbers, "showers": n, "k": NEIGHBOURS}


def fidelity(
    reference: Sample,
    generated: Sample,
    *,
    seed: int = 0,
    device: str = "cpu",
    crew: Crew = HERE,
    progress: Progress = silent,
) -> dict[str, Any]:
    """FPD and KPD of the observables, and neighbours among voxels, of samples of any detector.

    Observables that a shower has not (an empty one has no centre) count as the reference's mean.

    Args:
        reference: what was measured on the reference.
        generated: on the generated showers, with the same observables and edges.
        seed: of the floors and of the choice of showers.
        device: "auto", "cpu" or "cuda".
        crew: who computes.
        progress: called with percent done, 100, and what is being done.

    Returns:
        "fpd", "kpd" (each "value", "error", "floor"), "prdc" with the same for "precision", "recall", "density",
        "coverage", and "notes".
    """
    from .contest import find_device

    where = find_device(device)
    tables = [
        observable_features(s, reference, np.arange(len(s)))[0].astype(np.float64) for s in (reference, generated)
    ]
    _fill_gaps(*tables)
    found: dict[str, Any] = {}
    for number, name in enumerate(DISTANCES):
        shown = part(progress, 100 * number / 3, 100 * (number + 1) / 3)
        found[name] = distance(name, tables[0], tables[1], seed=seed, crew=crew, progress=shown)
    most = most_neighbours(reference.detector.n_voxels, where)
    a, b = (
        read_rows(s.path, threshold=0.0, max_showers=min(len(s), share * most) if most else len(s))
        for s, share in ((reference, 2), (generated, 1))
    )
    found["prdc"] = neighbourhood(a, b, seed=seed, device=where, crew=crew, progress=part(progress, 200 / 3, 100))
    n = min(len(reference), len(generated))
    found["notes"] = few_showers(n) + few_neighbours(found["prdc"]["showers"], n)
    return found


def _fill_gaps(reference: Floats, generated: Floats) -> None:
    """Put the reference's mean where a table has no finite number."""
    finite = np.isfinite(reference)
    means = np.where(finite, reference, 0).sum(axis=0) / finite.sum(axis=0).clip(1)
    for table in (reference, generated):
        row, column = np.nonzero(~np.isfinite(table))
        table[row, column] = means[column]


def few_showers(showers: int) -> list[str]:
    """What so few showers mean for FPD and KPD, in one sentence if anything."""
    if showers >= MIN_SAMPLES:
        return []
    low, high = grid(showers)
    return [
        f"FPD extrapolates from bootstrap samples of {low} to {high} showers instead of {MIN_SAMPLES} to "
        f"{5 * MIN_SAMPLES}, and KPD draws {showers} instead of {MIN_SAMPLES}: there are only {showers} showers; "
        "compare with their floors, not with published figures."
    ]


def few_neighbours(used: int, showers: int) -> list[str]:
    """That neighbours were looked for among fewer showers than there are, in one sentence if so."""
    if used >= showers:
        return []
    return [f"precision, recall, density and coverage use {used} of {showers} showers of each sample."]
