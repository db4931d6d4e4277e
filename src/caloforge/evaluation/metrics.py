"""Numbers that say how far two samples are apart, each a function of weights on the showers of both samples.

What is compared is defined in `distributions`; `resampling` gives each number its error and its floor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..errors import CaloforgeError
from .distributions import Binned, Distribution, Floats, Joint, Profile, Values

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
