"""Kernel physics distance: squared maximum mean discrepancy with a kernel of fourth order (arXiv 2211.10295).

The random draws are those of JetNet 0.2.5, and so are the numbers. Rows drawn several times are taken once with their
number as weight, and the kernel is summed in blocks, so no matrix of all pairs is held.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...crew import HERE, Crew
from ...progress import Progress, silent
from ..resampling import Estimate
from .frechet import scaled

Floats = npt.NDArray[np.float64]

_ROWS = 512  # a block of 512 x 512 kernel values stays in the processor's cache


def kernel_sum(x: Floats, y: Floats, weights_x: Floats, weights_y: Floats) -> float:
    """Sum of w_i v_j (x_i y_j / F + 1)^4 over all pairs of rows.

    Args:
        x: (N, F).
        y: (M, F); the same array as x for half of the work.
        weights_x: (N,).
        weights_y: (M,).
    """
    total, same = 0.0, x is y
    for i in range(0, len(x), _ROWS):
        left = x[i : i + _ROWS] / x.shape[1]
        for j in range(i if same else 0, len(y), _ROWS):
            block = left @ y[j : j + _ROWS].T
            block += 1
            block *= block
            block *= block
            part = float(weights_x[i : i + _ROWS] @ block @ weights_y[j : j + _ROWS])
            total += 2 * part if same and j > i else part
    return total


def squared_discrepancy(
    x: Floats, y: Floats, counts_x: npt.NDArray[np.int64], counts_y: npt.NDArray[np.int64]
) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy of two samples given by rows and their numbers.

    Args:
        x: features (N, F).
        y: features (M, F).
        counts_x: how often each row of x is in the first sample (N,).
        counts_y: of y in the second (M,).
    """
    (x, v), (y, w) = ((z[c > 0], c[c > 0].astype(np.float64)) for z, c in ((x, counts_x), (y, counts_y)))
    n, m = v.sum(), w.sum()
    within = [
        (kernel_sum(z, z, u, u) - u @ (np.square(z).sum(axis=1) / z.shape[1] + 1) ** 4) / (s * (s - 1))
        for z, u, s in ((x, v, n), (y, w, m))
    ]
    return float(within[0] + within[1] - 2 * kernel_sum(x, y, v, w) / (n * m))


def kpd(
    reference: Floats,
    generated: Floats,
    *,
    batches: int = 10,
    batch_size: int = 10_000,
    seed: int = 42,
    crew: Crew = HERE,
    progress: Progress = silent,
) -> Estimate:
    """Kernel physics distance: median over bootstrap samples, and half of their central 68 % as its error.

    Args:
        reference: features (N, F).
        generated: features (M, F).
        batches: pairs of bootstrap samples.
        batch_size: showers in each.
        seed: of the first pair, 1000 more for each further one; 42 is JetNet's.
        crew: who computes, a pair at a time.
        progress: called with pairs done, pairs in all.

    Raises:
        CaloforgeError: see `scaled`.
    """
    x, y = scaled(reference, generated)
    one, two = crew.share(x), crew.share(y)
    found = []
    for value in crew.each(_discrepancy, ((one, two, batch_size, seed + 1000 * number) for number in range(batches))):
        found.append(value)
        progress(len(found), batches, "kernel distances")
    low, high = np.percentile(found, [16.275, 83.725])
    return Estimate(float(np.median(found)), float(high - low) / 2)


def _discrepancy(x: Floats, y: Floats, size: int, seed: int) -> float:
    """Squared discrepancy of a pair of bootstrap samples."""
    rng = np.random.default_rng(seed)
    draws = [np.bincount(rng.choice(len(z), size=size), minlength=len(z)) for z in (x, y)]
    return squared_discrepancy(x, y, draws[0], draws[1])
