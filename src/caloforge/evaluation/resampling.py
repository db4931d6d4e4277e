"""The error and the floor of a metric: what it gives for other draws of the same showers.

Every metric is a function of weights on the showers of both samples. With weights of one it gives the value; with
bootstrap weights its error; with one half of the reference against the other its floor. The floor is what a perfect
generator would get from statistics alone: none of these metrics is zero for two finite samples of the same showers.

A half of the reference holds fewer showers than the comparison it is held against, so the floor found by splitting is
too high. To leading order the separation power of equal distributions goes as 1/N_1 + 1/N_2 and the distances as its
square root; the floor is scaled by that from the halves to the sizes compared, and the report says by how much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .distributions import Distribution, Floats
from .metrics import Metric

Draws = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Estimate:
    """A number and its statistical error (one standard deviation)."""

    value: float
    error: float

    def to_dict(self) -> dict[str, float]:
        """As plain data."""
        return {"value": self.value, "error": self.error}


@dataclass(frozen=True)
class Floor:
    """What a metric gives for the reference against itself.

    Attributes:
        value: mean over the splits, scaled to the sizes of the comparison it is a floor for.
        error: standard deviation over the splits, scaled alike.
        size: showers in each half.
        scale: the factor applied, see the module's description.
    """

    value: float
    error: float
    size: int
    scale: float

    def to_dict(self) -> dict[str, float]:
        """As plain data."""
        return {"value": self.value, "error": self.error, "size": self.size, "scale": self.scale}


def bootstrap(n: int, rng: np.random.Generator, resamples: int = 100) -> Draws:
    """How often each of n showers appears when n are drawn with replacement (resamples, n)."""
    draws = np.empty((resamples, n), dtype=np.uint8)  # one shower more than 255 times does not happen
    for row in draws:
        row[:] = np.bincount(rng.integers(n, size=n), minlength=n)
    return draws


def halves(n: int, rng: np.random.Generator, splits: int = 10) -> Draws:
    """Random splits of n showers in two halves (splits, n): 1 first half, 0 second, 2 left over if n is odd."""
    one = np.repeat(np.array([1, 0, 2], dtype=np.uint8), [n // 2, n // 2, n % 2])
    return np.stack([rng.permutation(one) for _ in range(splits)])


def estimate(metric: Metric, reference: Distribution, generated: Distribution, draws: tuple[Draws, Draws]) -> Estimate:
    """A metric of two samples with its error: the spread over bootstrap draws of both samples."""
    value, found = replicas(metric, reference, generated, draws)
    return Estimate(value, spread(found))


def replicas(
    metric: Metric, reference: Distribution, generated: Distribution, draws: tuple[Draws, Draws]
) -> tuple[float, Floats]:
    """A metric of two samples, and of each bootstrap draw of them (resamples,)."""
    compare = metric.of(reference, generated)
    found = [compare(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(*draws, strict=True)]
    return compare(np.ones(len(reference)), np.ones(len(generated))), np.array(found)


def spread(values: npt.ArrayLike) -> float:
    """Standard deviation of several numbers; 0 of a single one."""
    numbers = np.asarray(values, dtype=np.float64)
    return float(np.std(numbers, ddof=1)) if len(numbers) > 1 else 0.0


def floor(metric: Metric, reference: Distribution, compared: tuple[int, int], splits: Draws) -> Floor:
    """A metric of one half of the reference against the other, scaled to the sizes of a comparison.

    Args:
        metric: one of `METRICS`.
        reference: the reference sample.
        compared: showers of the two samples of the comparison that this is the floor for.
        splits: the `halves` it is averaged over.
    """
    return scaled_floor(floor_replicas(metric, reference, splits), metric.order, len(reference), compared)


def floor_replicas(metric: Metric, reference: Distribution, splits: Draws) -> Floats:
    """A metric of one half of the reference against the other, for each of the `halves` (splits,)."""
    compare = metric.of(reference, reference)
    return np.array([compare((side == 1).astype(np.float64), (side == 0).astype(np.float64)) for side in splits])


def scaled_floor(found: Floats, order: float, size: int, compared: tuple[int, int]) -> Floor:
    """The `Floor` of a metric of some `order` from its `floor_replicas` on a reference of ``size`` showers."""
    half = size // 2
    scale = ((1 / compared[0] + 1 / compared[1]) * half / 2) ** order
    return Floor(float(np.mean(found)) * scale, spread(found) * scale, half, scale)


def excess(found: Mapping[str, float], floor_found: Mapping[str, float]) -> float:
    """By how many standard deviations a number lies above its floor."""
    error = float(np.hypot(found["error"], floor_found["error"]))
    return (found["value"] - floor_found["value"]) / error if error > 0 else 0.0
