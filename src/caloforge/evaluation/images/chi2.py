"""The chi2 distance of two histograms, as CALPAGAN's tables 1 and 2 list it (arXiv 2401.02248).

The paper gives no formula. Here: chi2 = sum over bins of (a sqrt(M/N) - b sqrt(N/M))^2 / (a + b) for histograms of N
and M images with contents a and b, the two-sample chi2; for N = M it is sum (a - b)^2 / (a + b). Bins fit the full
simulation's central 99.6 %, at most 50 (`fitting_bins`); under- and overflow and "no such jet" are bins too.
Two samples of one distribution give about the number of bins, however large they are; that is the floor. Samples of the
same events may fall below, since their fluctuations are common.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..distributions import Distribution, Floats, Values
from ..metrics import Comparison, Metric
from ..resampling import Draws, Estimate, spread


def chi2(a: Floats, b: Floats) -> float:
    """The chi2 distance of two histograms (B,) of all images."""
    n, m = a.sum(), b.sum()
    if n <= 0 or m <= 0:
        return float("nan")
    total = a + b
    difference = a * np.sqrt(m / n) - b * np.sqrt(n / m)
    return float(np.divide(difference**2, total, out=np.zeros_like(total), where=total > 0).sum())


def _chi2(a: Distribution, b: Distribution) -> Comparison:
    assert isinstance(a, Values) and isinstance(b, Values)
    bins_a, bins_b, n = a.bins, b.bins, len(a.edges) + 2
    return lambda wa, wb: chi2(*(np.bincount(x, w, n).astype(np.float64) for x, w in ((bins_a, wa), (bins_b, wb))))


CHI2 = Metric("chi2 distance", "sum over bins of (difference / error)^2 of two histograms", "", 0.0, _chi2)
"""The metric; it does not fall with statistics where the distributions are equal."""


def chi2_of_mean(full: Values, draws: Sequence[Values], resamples: Draws) -> Estimate:
    """Chi2 of the full images' histogram and the mean of several draws' of the same events, with its error.

    A model that draws an event quickly draws it many times, so that its own chance does not count: what is left is how
    well its distribution is known. The histograms are compared as equal samples, sum (a - b)^2 / (a + b), so that the
    number stands beside that of a single draw. A right model has about half of a single draw's.

    Args:
        full: of the full images (N,).
        draws: of each set of generated images (N,), in the same order of events.
        resamples: bootstrap draws of the events (R, N).
    """
    n = len(full.edges) + 2
    bins = [full.bins, *(draw.bins for draw in draws)]

    def of(weights: Floats) -> float:
        one, *others = (np.bincount(each, weights, n).astype(np.float64) for each in bins)
        return chi2(one, np.mean(others, axis=0))

    return Estimate(of(np.ones(len(full))), spread([of(w.astype(np.float64)) for w in resamples]))
