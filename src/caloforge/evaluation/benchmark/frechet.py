"""Fréchet physics distance: how far two clouds of features are apart in mean and covariance (arXiv 2211.10295).

The squared Fréchet distance of two samples of N showers exceeds that of the distributions by a term in 1/N. So it is
averaged over bootstrap samples of several sizes N, and extrapolated to 1/N = 0 with a line. The random draws are those
of JetNet 0.2.5, and so are the numbers.

Fast: a bootstrap sample is the sample with whole-number weights, so its covariance is one product of the rows drawn,
each scaled by the root of its weight. The trace of sqrt(C1 C2) is the sum of the roots of the eigenvalues of
L^T C2 L, symmetric, with C1 = L L^T.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...crew import HERE, Crew
from ...errors import CaloforgeError
from ...progress import Progress, silent
from ..resampling import Estimate, Floor

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

MIN_SAMPLES, MAX_SAMPLES = 10_000, 50_000
_ROWS = 8192  # rows held twice at a time
_CONSTANT = 1e-28  # variance of a feature that does not vary, in units of the reference's largest value squared


def scaled(reference: Floats, generated: Floats) -> tuple[Floats, Floats]:
    """Features (N, F) and (M, F) over the reference's largest absolute value of each; all zero stays as it is.

    Raises:
        CaloforgeError: if they differ in number of features, hold values that are not finite, or too few showers.
    """
    if reference.ndim != 2 or generated.ndim != 2 or reference.shape[1] != generated.shape[1]:
        raise CaloforgeError(
            f"features of shape {reference.shape} and {generated.shape} cannot be compared; "
            "give two tables (showers, features) with the same features."
        )
    if min(len(reference), len(generated)) < 2:
        raise CaloforgeError(
            f"{len(reference)} and {len(generated)} showers cannot be compared; give at least 2 of each."
        )
    if not (np.isfinite(reference).all() and np.isfinite(generated).all()):
        raise CaloforgeError("features hold NaN or infinite values; give finite ones.")
    largest = np.abs(reference).max(axis=0)
    largest[largest == 0] = 1
    return reference / largest, generated / largest


def grid(showers: int) -> tuple[int, int]:
    """Smallest and largest bootstrap sample: 10 000 and 50 000, both scaled down for fewer than 10 000 showers."""
    smallest = min(MIN_SAMPLES, showers)
    return smallest, max(smallest + 1, MAX_SAMPLES * smallest // MIN_SAMPLES)


def frechet_distance(mean_1: Floats, covariance_1: Floats, mean_2: Floats, covariance_2: Floats) -> float:
    """Squared Fréchet distance of two normal distributions: |mu1 - mu2|^2 + Tr(C1 + C2 - 2 sqrt(C1 C2)).

    Args:
        mean_1: (F,).
        covariance_1: (F, F).
        mean_2: (F,).
        covariance_2: (F, F).
    """
    varies = (np.diag(covariance_1) > _CONSTANT) & (np.diag(covariance_2) > _CONSTANT)
    # A feature that is constant in one sample has no part in the root, but its rounding errors would.
    c1, c2 = (c[np.ix_(varies, varies)] for c in (covariance_1, covariance_2))
    root = _root(c1)
    eigenvalues = np.linalg.eigvalsh(root.T @ c2 @ root)
    shift = mean_1 - mean_2
    trace = np.trace(covariance_1) + np.trace(covariance_2)
    return float(shift @ shift + trace - 2 * np.sqrt(eigenvalues.clip(0)).sum())


def _root(covariance: Floats) -> Floats:
    """A matrix R with R R^T = covariance."""
    try:
        root: Floats = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
    except np.linalg.LinAlgError:  # singular: some features are combinations of others
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(values.clip(0))
    return root


def weighted_moments(values: Floats, counts: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Mean (F,) and unbiased covariance (F, F) of a sample in which row i of ``values`` appears counts[i] times."""
    rows = np.flatnonzero(counts)
    n, f = int(counts.sum()), values.shape[1]
    total, square = np.zeros(f), np.zeros((f, f))
    for start in range(0, len(rows), _ROWS):
        chosen = rows[start : start + _ROWS]
        weight = counts[chosen].astype(np.float64)
        part = values[chosen]
        total += weight @ part
        part *= np.sqrt(weight)[:, None]
        square += part.T @ part
    mean = total / n
    return mean, (square - n * np.outer(mean, mean)) / max(n - 1, 1)


def fpd(
    reference: Floats,
    generated: Floats,
    *,
    min_samples: int = MIN_SAMPLES,
    max_samples: int = MAX_SAMPLES,
    points: int = 10,
    batches: int = 20,
    seed: int = 42,
    crew: Crew = HERE,
    progress: Progress = silent,
) -> Estimate:
    """Fréchet physics distance, and the error of its extrapolation.

    Args:
        reference: features (N, F).
        generated: features (M, F).
        min_samples: showers in the smallest bootstrap sample.
        max_samples: in the largest.
        points: sizes between them, evenly spaced in 1/N.
        batches: pairs of bootstrap samples of each size.
        seed: of the bootstrap; 42 is JetNet's.
        crew: who computes, the bootstrap samples of one size at a time.
        progress: called with distances done, distances in all.

    Raises:
        CaloforgeError: see `scaled`.
    """
    from scipy.optimize import OptimizeWarning, curve_fit

    x, y = scaled(reference, generated)
    origin = x.mean(axis=0)  # moments about a nearby point lose no digits
    x, y = x - origin, y - origin
    sizes = (1 / np.linspace(1 / min_samples, 1 / max_samples, points)).astype(np.int32)
    rng = np.random.default_rng(seed)
    one, two = crew.share(x), crew.share(y)

    def draws(size: int) -> list[tuple[Counts, Counts]]:
        drawn = [[np.bincount(rng.choice(len(z), size=size), minlength=len(z)) for z in (x, y)] for _ in range(batches)]
        return [(a, b) for a, b in drawn]

    rows = []
    for row in crew.each(_distances, ((one, two, draws(size)) for size in sizes)):
        rows.append(row)
        progress(len(rows) * batches, points * batches, "Fréchet distances")
    distances = np.array(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)  # an undetermined error is told as such
        fit, covariance = curve_fit(_line, 1 / sizes, distances.mean(axis=1), bounds=([0, 0], [np.inf, np.inf]))
    return Estimate(float(fit[0]), float(np.sqrt(covariance[0, 0])))


def _distances(x: Floats, y: Floats, draws: Sequence[tuple[Counts, Counts]]) -> list[float]:
    """Squared Fréchet distances of bootstrap samples, given by how often they hold each row."""
    return [frechet_distance(*weighted_moments(x, a), *weighted_moments(y, b)) for a, b in draws]


def _line(x: Any, intercept: float, slope: float) -> Any:
    return intercept + slope * x


def split_floor(
    reference: Floats, compared: tuple[int, int], distance: Any, rng: np.random.Generator, splits: int
) -> Floor:
    """A distance of one half of the reference from the other, scaled to the sizes of a comparison.

    A squared distance of equal distributions goes as 1/N + 1/M to leading order.

    Args:
        reference: features (N, F).
        compared: showers of the two samples that this is the floor for.
        distance: (features, features, number of the split) -> Estimate.
        rng: for the splits.
        splits: how many.
    """
    half = len(reference) // 2
    found = []
    for number in range(splits):
        order = rng.permutation(len(reference))
        found.append(distance(reference[order[:half]], reference[order[half : 2 * half]], number).value)
    scale = (1 / compared[0] + 1 / compared[1]) * half / 2
    spread = float(np.std(found, ddof=1)) if splits > 1 else float("nan")
    return Floor(float(np.mean(found)) * scale, spread * scale, half, scale)
