"""Structural similarity of showers: how alike they look, and whether a generator makes them too much alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..errors import CaloforgeError
from .shapes import cells_of, enough, picked, same_detector

if TYPE_CHECKING:
    from .shapes import Source

Floats = npt.NDArray[np.float64]

_VOXELS_AT_ONCE = 2_000_000  # of the dense images compared at a time


@dataclass(frozen=True)
class SsimCurve:
    """Mean structural similarity of pairs of showers against the dynamic range.

    Attributes:
        dynamic_ranges: L (R,) in MeV.
        mean: over the pairs (R,).
        error: standard error of the mean (R,); no shower is in two pairs.
        pairs: number of pairs.
    """

    dynamic_ranges: Floats
    mean: Floats
    error: Floats
    pairs: int


def ssim(a: npt.ArrayLike, b: npt.ArrayLike, data_range: float, window: int = 7) -> Floats:
    """Structural similarity of showers as three-dimensional images (Wang et al. 2004, doi 10.1109/TIP.2003.819861).

    1 for equal images. Uniform windows, K1 = 0.01, K2 = 0.03, variances of a sample (divided by n - 1), averaged over
    all windows that lie inside the image. Along an axis of fewer bins than the window, the window is the axis. The
    trap: ``data_range`` decides the answer. Where energies are small against it everything looks alike.

    Args:
        a: voxel energies (..., L, Y, X) in MeV.
        b: likewise.
        data_range: L, in MeV.
        window: bins along each side of a window.

    Returns:
        One number a pair (...).

    Raises:
        CaloforgeError: if the images differ in shape, or a setting is not positive.
    """
    one, two = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if one.shape != two.shape or one.ndim < 3:
        raise CaloforgeError(
            f"images of shapes {one.shape} and {two.shape} cannot be compared; give two of shape (..., layers, y, x)."
        )
    found: Floats = _similarity(_local_moments(one, two, window), _positive([data_range]))[..., 0]
    return found


def ssim_curve(
    sample_a: Source, sample_b: Source, dynamic_ranges: npt.ArrayLike, pairs: int, rng: np.random.Generator
) -> SsimCurve:
    """Mean structural similarity of random pairs against the dynamic range: S0's check for mode collapse.

    The curve within a generator's sample must not lie above the one within Geant4: its showers would be more alike
    than nature's. Give showers of nearly equal incident energy, as the paper does.

    Args:
        sample_a: showers.
        sample_b: other showers of the same detector, or ``sample_a`` itself for pairs within one sample.
        dynamic_ranges: L (R,) in MeV, see `ssim`.
        pairs: number of pairs; no shower is in two, so 2 * pairs showers are needed within a sample, as many as
            ``pairs`` of each between two.
        rng: chooses the pairs.

    Raises:
        CaloforgeError: if the detectors differ, have no common cells in x and y, or there are too few showers.
    """
    same_detector(sample_a, sample_b)
    shape = cells_of(sample_a.detector)
    ranges = _positive(dynamic_ranges)
    if pairs < 2:
        raise CaloforgeError(f"{pairs} pairs of showers give no mean with an error; ask for at least 2.")
    within = sample_b is sample_a
    for sample in (sample_a, sample_b):
        enough(sample, pairs * (1 + within), f"{pairs} pairs {'within' if within else 'between'} samples")
    rows_a = rng.permutation(len(sample_a))
    rows_b = rows_a[pairs : 2 * pairs] if within else rng.permutation(len(sample_b))[:pairs]
    a, b = picked(sample_a, rows_a[:pairs]), picked(sample_b, rows_b)
    size = max(1, _VOXELS_AT_ONCE // int(np.prod(shape)))
    found = []
    for start in range(0, pairs, size):
        images = [s[start : start + size].dense(np.float64) for s in (a, b)]
        found.append(_similarity(_local_moments(images[0], images[1], 7), ranges))
    values = np.concatenate(found)  # (pairs, R)
    return SsimCurve(ranges, values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(pairs), pairs)


def _local_moments(a: Floats, b: Floats, window: int) -> tuple[Floats, ...]:
    """Means, the sum of variances and the covariance in every window that lies inside."""
    if window < 2:
        raise CaloforgeError(f"a window of {window} bins has no variance; give at least 2.")
    sides = [min(window, n) for n in a.shape[-3:]]
    n = int(np.prod(sides))
    if n < 2:
        raise CaloforgeError("images of a single voxel have no structure; give larger ones.")
    mean_a, mean_b, aa, bb, ab = (_window_sum(v, sides) / n for v in (a, b, a * a, b * b, a * b))
    unbiased = n / (n - 1)
    variances = unbiased * ((aa - mean_a**2) + (bb - mean_b**2))
    return mean_a, mean_b, variances, unbiased * (ab - mean_a * mean_b)


def _window_sum(values: Floats, sides: Sequence[int]) -> Floats:
    """Sum over each window inside (..., L', Y', X'). Added one by one: a running sum leaves dust in empty windows."""
    for axis, side in zip((-3, -2, -1), sides, strict=True):
        moved = np.moveaxis(values, axis, 0)
        inside = len(moved) - side + 1
        total = moved[:inside].copy()
        for shift in range(1, side):
            total += moved[shift : shift + inside]
        values = np.moveaxis(total, 0, axis)
    return values


def _similarity(moments: tuple[Floats, ...], ranges: Floats) -> Floats:
    """Structural similarity (..., R) from local moments, for R dynamic ranges."""
    mean_a, mean_b, variances, covariance = moments
    product, squares = 2 * mean_a * mean_b, mean_a**2 + mean_b**2
    found = []
    for data_range in ranges:
        c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
        local = (product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))
        found.append(local.mean(axis=(-3, -2, -1)))
    return np.stack(found, axis=-1)


def _positive(values: npt.ArrayLike) -> Floats:
    numbers = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if numbers.ndim != 1 or not len(numbers) or not ((numbers > 0) & np.isfinite(numbers)).all():
        raise CaloforgeError("dynamic ranges must be finite numbers above zero, in MeV; give such.")
    return numbers
