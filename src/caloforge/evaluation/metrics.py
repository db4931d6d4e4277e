"""Numbers that say how far two samples are apart, each with an error and a floor.

Every metric is a function of weights on the showers of both samples. With weights of one it gives the value; with
bootstrap weights its error; with one half of the reference against the other its floor. The floor is what a perfect
generator would get from statistics alone: none of these metrics is zero for two finite samples of the same showers.

A half of the reference holds fewer showers than the comparison it is held against, so the floor found by splitting is
too high. To leading order the separation power of equal distributions goes as 1/N_1 + 1/N_2 and the distances as its
square root; the floor is scaled by that from the halves to the sizes compared, and the report says by how much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..errors import CaloforgeError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MIN_IN_BIN = 20
"""Fewest showers of a bin of incident energy of which a mean and a width are given."""


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


@dataclass(frozen=True)
class Values:
    """A distribution of one number a shower.

    Attributes:
        values: (N,), NaN where a shower has none.
        edges: bin edges; under-, overflow and undefined (NaN) are bins of their own.
    """

    values: Floats
    edges: Floats

    def __len__(self) -> int:
        return len(self.values)

    @property
    def bins(self) -> Integers:
        """Bin of each shower: 0 is underflow, then the bins, then overflow, then undefined."""
        at = np.searchsorted(self.edges, self.values, side="right")
        at[self.values == self.edges[-1]] = len(self.edges) - 1  # the last bin is closed, as in numpy
        at[np.isnan(self.values)] = len(self.edges) + 1
        return at.astype(np.int64)

    def histogram(self, weights: Floats | None = None) -> Floats:
        """Showers in each bin (bins + 3,), see `bins`."""
        return np.bincount(self.bins, weights=weights, minlength=len(self.edges) + 2).astype(np.float64)


@dataclass(frozen=True)
class Profile:
    """Something summed in bins, e.g. energy by layer.

    Attributes:
        counts: (N, bins + 2) by shower, the first and last column are under- and overflow.
        positions: where the bins lie (bins + 2,), in the unit in which distances are wanted.
    """

    counts: Floats
    positions: Floats

    def __len__(self) -> int:
        return len(self.counts)


@dataclass(frozen=True)
class Joint:
    """Several numbers a shower, looked at together: values (N, D)."""

    values: Floats

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Binned:
    """One number a shower in bins of another, e.g. the response in bins of incident energy.

    Attributes:
        values: (N,), NaN where a shower has none.
        group: bin of each shower (N,), -1 for none.
        groups: number of bins.
    """

    values: Floats
    group: Integers
    groups: int

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def kept(self) -> tuple[npt.NDArray[np.bool_], Integers, Floats]:
        """Which showers have a value and a bin (N,), and these bins and values."""
        kept: npt.NDArray[np.bool_] = np.isfinite(self.values) & (self.group >= 0)
        return kept, self.group[kept], self.values[kept]

    @cached_property
    def enough(self) -> npt.NDArray[np.bool_]:
        """Bins (groups,) of at least 20 showers."""
        enough: npt.NDArray[np.bool_] = np.bincount(self.kept[1], minlength=self.groups) >= MIN_IN_BIN
        return enough

    def moments(self, weights: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation in each bin (groups,) each, for weights (N,); NaN in bins of too few showers."""
        kept, group, values = self.kept
        w = weights[kept]
        total = np.bincount(group, w, self.groups)
        known = self.enough & (total > 1)
        total = np.where(known, total, np.nan)
        mean = np.bincount(group, w * values, self.groups) / total
        away = values - mean[group]
        with np.errstate(invalid="ignore"):
            return mean, np.sqrt(np.bincount(group, w * away * away, self.groups) / (total - 1))


Distribution = Values | Profile | Joint | Binned
Comparison = Callable[[Floats, Floats], float]
"""A metric of two given samples as a function of the weights of their showers."""


def separation_power(p: npt.ArrayLike, q: npt.ArrayLike) -> float:
    """Separation power of two histograms: 0 for equal ones, 1 for disjoint ones (arXiv 2009.03796, equation 15).

    Args:
        p: contents (B,) of all bins, of any normalisation.
        q: likewise.
    """
    a, b = np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)
    if a.sum() <= 0 or b.sum() <= 0:
        return float("nan")
    a, b = a / a.sum(), b / b.sum()
    total = a + b
    return float(0.5 * np.divide((a - b) ** 2, total, out=np.zeros_like(total), where=total > 0).sum())


def _separation(a: Distribution, b: Distribution) -> Comparison:
    if isinstance(a, Values) and isinstance(b, Values):
        bins_a, bins_b, n = a.bins, b.bins, len(a.edges) + 2

        def of_values(wa: Floats, wb: Floats) -> float:
            return separation_power(np.bincount(bins_a, wa, n), np.bincount(bins_b, wb, n))

        return of_values
    if isinstance(a, Profile) and isinstance(b, Profile):
        counts_a, counts_b = a.counts, b.counts
        return lambda wa, wb: separation_power(wa @ counts_a, wb @ counts_b)
    raise CaloforgeError("the separation power compares two distributions of one quantity; use the correlation metric.")


def _wasserstein(a: Distribution, b: Distribution) -> Comparison:
    if isinstance(a, Values) and isinstance(b, Values):
        return _wasserstein_of_values(a.values, b.values)
    if isinstance(a, Profile) and isinstance(b, Profile):
        counts_a, counts_b, steps = a.counts, b.counts, np.diff(a.positions)

        def of_profiles(wa: Floats, wb: Floats) -> float:
            p, q = wa @ counts_a, wb @ counts_b
            if p.sum() <= 0 or q.sum() <= 0:
                return float("nan")
            return float(np.abs((np.cumsum(p / p.sum()) - np.cumsum(q / q.sum()))[:-1]) @ steps)

        return of_profiles
    raise CaloforgeError("the Wasserstein distance compares two distributions of one quantity.")


def _wasserstein_of_values(a: Floats, b: Floats) -> Comparison:
    has_a, has_b = ~np.isnan(a), ~np.isnan(b)
    pooled = np.concatenate([a[has_a], b[has_b]])
    order = np.argsort(pooled, kind="stable")
    steps = np.diff(pooled[order])

    def distance(wa: Floats, wb: Floats) -> float:
        wa, wb = wa[has_a], wb[has_b]
        if wa.sum() <= 0 or wb.sum() <= 0:
            return float("nan")
        return float(np.abs(np.cumsum(np.concatenate([wa / wa.sum(), -wb / wb.sum()])[order])[:-1]) @ steps)

    return distance


def correlations(values: Floats, weights: Floats | None = None) -> Floats:
    """Pearson correlation matrix (D, D) of columns (N, D); rows with NaN are left out, constant columns give 0."""
    kept = ~np.isnan(values).any(axis=1)
    w = (np.ones(len(values)) if weights is None else weights)[kept]
    if w.sum() <= 0:
        return np.zeros((values.shape[1],) * 2)
    w = w / w.sum()
    centred = values[kept] - w @ values[kept]
    covariance = (centred * w[:, None]).T @ centred
    sigma = np.sqrt(np.diag(covariance))
    size = np.outer(sigma, sigma)
    safe = size > 1e-12 * size.max(initial=0)
    matrix: Floats = np.divide(covariance, size, out=np.zeros_like(size), where=safe)
    return matrix


def _correlation(a: Distribution, b: Distribution) -> Comparison:
    if not (isinstance(a, Joint) and isinstance(b, Joint)):
        raise CaloforgeError("the correlation metric compares several observables together; give a Joint.")
    va, vb = a.values, b.values
    off_diagonal = ~np.eye(va.shape[1], dtype=bool)

    def distance(wa: Floats, wb: Floats) -> float:
        difference = (correlations(va, wa) - correlations(vb, wb))[off_diagonal]
        return float(np.sqrt(np.mean(difference**2))) if difference.size else 0.0

    return distance


def _mean_difference(a: Distribution, b: Distribution) -> Comparison:
    if not (isinstance(a, Joint) and isinstance(b, Joint)):
        raise CaloforgeError("the difference of curves compares several numbers a shower; give a Joint.")
    va, vb = a.values, b.values
    return lambda wa, wb: float(np.abs(wa @ va / wa.sum() - wb @ vb / wb.sum()).mean())


def _response_deviation(relative: bool) -> Callable[[Distribution, Distribution], Comparison]:
    """Mean over the bins of |generated / reference - 1| of the mean, or of sigma / mean if ``relative``."""

    def of(a: Distribution, b: Distribution) -> Comparison:
        if not (isinstance(a, Binned) and isinstance(b, Binned)):
            raise CaloforgeError("deviations of the response compare values in bins of energy; give a Binned.")

        def deviation(wa: Floats, wb: Floats) -> float:
            (mean_a, sigma_a), (mean_b, sigma_b) = a.moments(wa), b.moments(wb)
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = (sigma_b / mean_b) / (sigma_a / mean_a) if relative else mean_b / mean_a
            known = np.isfinite(ratio)
            return float(np.abs(ratio[known] - 1).mean()) if known.any() else float("nan")

        return deviation

    return of


@dataclass(frozen=True)
class Metric:
    """A number that compares two samples.

    Attributes:
        label: its name in tables.
        meaning: one line for people who see it for the first time.
        unit: "" for a pure number, "observable" for the unit of what is compared.
        order: it falls with statistics as (1/N_1 + 1/N_2) to this power if the distributions are equal.
        of: makes a `Comparison` of two samples.
    """

    label: str
    meaning: str
    unit: Literal["", "observable"]
    order: float
    of: Callable[[Distribution, Distribution], Comparison]


METRICS: dict[str, Metric] = {
    "separation": Metric(
        "separation power", "how little two histograms overlap: 0 equal, 1 nothing in common", "", 1.0, _separation
    ),
    "wasserstein": Metric(
        "Wasserstein distance",
        "how far the values must be moved on average to turn one distribution into the other",
        "observable",
        0.5,
        _wasserstein,
    ),
    "correlation": Metric(
        "correlation difference",
        "root mean square difference of all pairwise correlations of the observables",
        "",
        0.5,
        _correlation,
    ),
    "sparsity": Metric(
        "sparsity difference",
        "absolute difference of the mean sparsity, averaged over thresholds from 1e-5 to 1e-1 of a shower's energy",
        "",
        0.5,
        _mean_difference,
    ),
    "response": Metric(
        "mean response deviation",
        "how far generated over reference mean response lies from 1, averaged over bins of incident energy",
        "",
        0.5,
        _response_deviation(relative=False),
    ),
    "resolution": Metric(
        "resolution deviation",
        "how far generated over reference sigma / mean lies from 1, averaged over bins of incident energy",
        "",
        0.5,
        _response_deviation(relative=True),
    ),
}
"""Metrics computed from observables, by name; the classifiers are in `caloforge.evaluation.classifier`."""


Draws = npt.NDArray[np.uint8]


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


def fitting_bins(values: Floats, *, log: bool = False, whole: bool = False) -> Floats:
    """Bin edges that fit the reference: at most 50 bins over all but its outermost 0.2 % on either side.

    Args:
        values: of the reference (N,); NaN are ignored.
        log: logarithmic bins if the values span more than a factor of 30.
        whole: the values are whole numbers; bins are centred on them.
    """
    finite = values[np.isfinite(values)]
    n_bins = int(np.clip(np.sqrt(len(finite)), 10, 50))
    if len(finite) == 0:
        return np.linspace(0, 1, n_bins + 1)
    positive = finite[finite > 0]
    if log and len(positive):
        low, high = np.quantile(positive, [0.002, 0.998])
        if high > 30 * low:
            return np.logspace(np.log10(low / 1.05), np.log10(high * 1.05), n_bins + 1)
    low, high = np.quantile(finite, [0.002, 0.998])
    if whole:
        step = max(1, int(np.ceil((high - low + 1) / n_bins)))
        edges: Floats = np.floor(low) - 0.5 + step * np.arange(int(np.ceil((high - low + 1) / step)) + 1)
        return edges
    margin = 0.02 * (high - low) or 0.01 * abs(high) or 0.5
    return np.linspace(low - margin, high + margin, n_bins + 1)


def profile_positions(edges: Floats, *, log: bool) -> Floats:
    """Where the bins of a profile lie for its Wasserstein distance, flows one bin outside; log10 if ``log``."""
    e = np.log10(edges) if log else edges
    centres = (e[1:] + e[:-1]) / 2
    return np.concatenate([[2 * e[0] - centres[0]], centres, [2 * e[-1] - centres[-1]]])


def excess(found: Mapping[str, float], floor_found: Mapping[str, float]) -> float:
    """By how many standard deviations a number lies above its floor."""
    error = float(np.hypot(found["error"], floor_found["error"]))
    return (found["value"] - floor_found["value"]) / error if error > 0 else 0.0
