"""Whether two numbers that were found with the same reference differ: paired differences and their errors.

Two generated samples are held against one reference with the same bootstrap draws of it, and classifiers are trained
with the same splits and seeds. What both numbers owe to the reference therefore moves them together, and the error of
their difference is smaller than the two errors added in quadrature; it is taken from the differences themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .classifier import TEST_FRACTION

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """A difference of two numbers.

    Attributes:
        value: second minus first.
        error: one standard deviation.
        p: how often so large a difference, of either sign, comes about if there is none.
        sigma: the same as a number of Gaussian standard deviations, with the sign of the difference.
    """

    value: float
    error: float
    p: float
    sigma: float

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {"difference": self.value, "error": self.error, "p": self.p, "sigma": self.sigma}


def of_draws(first: float, second: float, draws_first: Floats, draws_second: Floats) -> Difference | None:
    """Difference of two numbers from their bootstrap replicas, (draws,) each, made with common draws.

    The error is the standard deviation of the replicas' differences; the significance is that of a Gaussian.

    Returns:
        None if there are fewer than two draws, a replica has no value, or no two differ.
    """
    from scipy.stats import norm

    apart = draws_second - draws_first
    if len(apart) < 2 or not np.isfinite(apart).all():
        return None
    error = float(np.std(apart, ddof=1))
    if not error > 0:
        return None
    z = (second - first) / error
    return Difference(second - first, error, float(2 * norm.sf(abs(z))), float(z))


def of_repeats(first: Floats, second: Floats, test_fraction: float = TEST_FRACTION) -> Difference | None:
    """Difference of two classifiers' areas from repeats (J,) each on common splits of the reference.

    The repeats share their showers, so their spread over the square root of J is too small an error. It is corrected
    as Nadeau and Bengio do ("Inference for the generalization error", Machine Learning 52 (2003) 239): the variance of
    the mean difference is (1 / J + test / train) times the variance of the differences, and the significance is that
    of Student's t with J - 1 degrees of freedom.

    Args:
        first: areas of the first sample's repeats.
        second: likewise, of the same repeats.
        test_fraction: share of the showers that is tested on.

    Returns:
        None if there are fewer than two repeats, an area is not known, or no two differences differ.
    """
    from scipy.stats import norm, t

    apart = second - first
    n = len(apart)
    if n < 2 or not np.isfinite(apart).all():
        return None
    variance = float(np.var(apart, ddof=1)) * (1 / n + test_fraction / (1 - test_fraction))
    if not variance > 0:
        return None
    mean, error = float(apart.mean()), float(np.sqrt(variance))
    p = float(2 * t.sf(abs(mean) / error, n - 1))
    return Difference(mean, error, p, float(np.copysign(norm.isf(p / 2), mean)))
