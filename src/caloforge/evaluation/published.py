"""Figures by which two published systems were validated, from shower data alone.

S0 is the GAN of two-dimensional convolutions, "Validation of Deep Convolutional GANs for High Energy Physics
Calorimeter Simulations" (Rehm, Vallecorsa, Borras, Krücker; arXiv 2103.13698): shower shapes and their mean squared
error, the cells with the largest deposits, structural similarity against mode collapse. S4 is the ensemble of GANs by
AdaGAN, "Ensemble Models for Calorimeter Simulations" (Jaruskova & Vallecorsa 2024): edges of the shapes, sampling
fraction, principal components. The peak of the cell energies is the one of "Getting High" (arXiv 2005.05334).

All take showers in memory or an open shower file, which is read piece by piece. Errors are one standard deviation.
Shapes are in `shapes`, structural similarity in `similarity`; both can be had from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..errors import CaloforgeError
from .resampling import Estimate, bootstrap
from .shapes import (
    FEWEST,
    Compared,
    Shapes,
    edge_fraction,
    energies_along,
    enough,
    parts_of,
    same_detector,
    shape_mse,
    shower_shapes,
    table,
)
from .similarity import SsimCurve, ssim, ssim_curve

if TYPE_CHECKING:
    from .shapes import Source

__all__ = [
    "CellRatios", "Compared", "MipPeak", "PrincipalComponents", "SamplingFraction", "Shapes", "SsimCurve",
    "cell_ratios", "edge_fraction", "energies_along", "mip_peak", "principal_components", "sampling_fraction",
    "shape_mse", "shower_shapes", "ssim", "ssim_curve",
]  # fmt: skip

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


# -- the cells with the largest deposits -----------------------------------------------------------------------------


@dataclass(frozen=True)
class CellRatios:
    """How the hottest cells of the reference fare in the generated sample.

    Attributes:
        cells: flat voxel numbers (n,), the largest mean deposit first.
        mean: generated over reference of each cell's mean energy (n,).
        std: likewise of its standard deviation over showers (n,); NaN where the reference's is zero.
        average_mean: average of ``mean`` over the cells.
        average_std: average of ``std``.
    """

    cells: Integers
    mean: Floats
    std: Floats
    average_mean: Estimate
    average_std: Estimate


def cell_ratios(
    reference: Source, generated: Source, rng: np.random.Generator, n: int = 343, resamples: int = 100
) -> CellRatios:
    """Mean and standard deviation of the energies of single cells, generated over reference.

    S0 compares the 343 cells with the largest mean deposits at 250 ± 2 GeV: average ratios of 0.93 (mean) and 0.86
    (standard deviation) for Conv3D, 1.00 and 0.90 for Conv2D. Empty cells count as 0 MeV. Over a wide range of incident
    energies the standard deviation is mostly theirs; choose a narrow window as the paper does.

    Args:
        reference: N_1 showers; they choose the cells.
        generated: N_2 showers of the same detector.
        rng: for the bootstrap over the showers of both samples (the cells stay chosen).
        n: number of cells.
        resamples: bootstrap samples.

    Raises:
        CaloforgeError: if the detectors differ, a sample has under 20 showers, or fewer than n cells hold energy.
    """
    same_detector(reference, generated)
    for sample in (reference, generated):
        enough(sample, FEWEST, "ratios of cells")
    total = np.zeros(reference.detector.n_voxels)
    for part in parts_of(reference):
        total += np.bincount(part.index, part.energy, minlength=len(total))
    hit = int(np.count_nonzero(total))
    if not 1 <= n <= hit:
        raise CaloforgeError(f"{n} cells were asked for but {hit} of the reference hold energy; give 1 to {hit}.")
    cells = np.argsort(-total, kind="stable")[:n]
    a, b = _chosen_cells(reference, cells), _chosen_cells(generated, cells)
    value = _moment_ratios(a, b, (np.ones((1, len(a))), np.ones((1, len(b)))))
    draws = tuple(bootstrap(len(v), rng, resamples).astype(np.float64) for v in (a, b))
    spread = _average(_moment_ratios(a, b, (draws[0], draws[1]))).std(axis=1, ddof=1)
    averages = [Estimate(float(v), float(s)) for v, s in zip(_average(value)[:, 0], spread, strict=True)]
    return CellRatios(cells, value[0, 0], value[1, 0], *averages)


def _chosen_cells(source: Source, cells: Integers) -> Floats:
    """Energies of some cells in every shower (N, n) in MeV."""
    column = np.full(source.detector.n_voxels, -1)
    column[cells] = np.arange(len(cells))
    found = []
    for part in parts_of(source):
        at = column[part.index]
        dense = np.zeros((len(part), len(cells)))
        dense[part.shower_of_hit[at >= 0], at[at >= 0]] = part.energy[at >= 0]
        found.append(dense)
    return np.concatenate(found)


def _average(ratios: Floats) -> Floats:
    """Mean over the last axis of what is not NaN; NaN if nothing is."""
    known = ~np.isnan(ratios)
    count = known.sum(axis=-1)
    average: Floats = np.where(known, ratios, 0).sum(axis=-1) / np.where(count, count, np.nan)
    return average


def _moment_ratios(a: Floats, b: Floats, weights: tuple[Floats, Floats]) -> Floats:
    """Ratios b over a of means and standard deviations (2, R, n) for R sets of weights (R, N) of each sample."""
    moments = []
    for values, w in zip((a, b), weights, strict=True):
        middle = values.mean(axis=0)  # taken off first: squares of what is far from zero would lose digits
        size = w.sum(axis=1, keepdims=True)
        mean, square = w @ (values - middle) / size, w @ (values - middle) ** 2 / size
        moments.append(np.stack([middle + mean, np.sqrt(np.maximum(square - mean**2, 0))]))
    below, above = moments
    ratios: Floats = np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
    return ratios


# -- sampling fraction -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SamplingFraction:
    """Mean total over incident energy in bins of incident energy.

    Attributes:
        edges_gev: of the bins (B + 1,) in GeV.
        n: showers in each bin (B,).
        mean: (B,); NaN in bins without showers.
        error: of the mean (B,); NaN in bins of fewer than two.
    """

    edges_gev: Floats
    n: Integers
    mean: Floats
    error: Floats


def sampling_fraction(
    showers: Source, width_gev: float = 10.0, edges_gev: npt.ArrayLike | None = None
) -> SamplingFraction:
    """Sampling fraction against incident energy, as in S0 and S4 (10 GeV bins).

    Args:
        showers: N showers.
        width_gev: width of the bins, which begin at a multiple of it.
        edges_gev: other bins (B + 1,), for example another sample's; showers outside are left out.

    Raises:
        CaloforgeError: if there are no showers, an incident energy is zero, or the bins are none.
    """
    enough(showers, 1, "a sampling fraction")
    parts = [(part.incident.energy, part.total_energy) for part in parts_of(showers)]
    incident, total = (np.concatenate(v) for v in zip(*parts, strict=True))
    if not (incident > 0).all():
        raise CaloforgeError("some incident energies are zero, so there is no sampling fraction; leave those out.")
    gev = incident / 1e3
    if edges_gev is None:
        if not width_gev > (gev.max() - gev.min()) / 10_000:
            raise CaloforgeError(f"bins of {width_gev:g} GeV are too narrow for these energies; give wider ones.")
        first, last = np.floor(gev.min() / width_gev), np.floor(gev.max() / width_gev)
        edges = width_gev * np.arange(first, last + 2)
    else:
        edges = np.asarray(edges_gev, dtype=np.float64)
        if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
            raise CaloforgeError("bin edges of the sampling fraction must be two or more rising numbers; give such.")
    bins = len(edges) - 1
    at = np.searchsorted(edges, gev, side="right") - 1
    inside = (at >= 0) & (at < bins)
    at, fraction = at[inside], (total / incident)[inside]
    n = np.bincount(at, minlength=bins).astype(np.int64)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.bincount(at, fraction, bins) / n
        squares = np.bincount(at, (fraction - mean[at]) ** 2, bins)
        return SamplingFraction(edges, n, mean, np.where(n > 1, np.sqrt(squares / (n - 1) / n), np.nan))


# -- principal components --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PrincipalComponents:
    """Two samples along the principal components of the reference.

    Attributes:
        components: unit vectors (n, X + Y + L) in the space of the features, the largest variance first.
        explained: share of the reference's variance along each (n,).
        reference: the reference's showers along them (N_1, n), about the reference's mean.
        generated: the generated ones (N_2, n), about the reference's mean.
        reference_variance: (n,).
        generated_variance: (n,), about the generated sample's own mean.
        ratio: generated over reference of the variances (n,).
        error: of the ratio (n,).
        empty: showers without energy of both samples, which have no features and are left out.
    """

    components: Floats
    explained: Floats
    reference: Floats
    generated: Floats
    reference_variance: Floats
    generated_variance: Floats
    ratio: Floats
    error: Floats
    empty: tuple[int, int]


def principal_components(
    reference: Source, generated: Source, rng: np.random.Generator, n: int = 6, resamples: int = 100
) -> PrincipalComponents:
    """Variances along principal components fitted on the reference, as in S4.

    The features of a shower are its energies along x, y and the layers, each over the total: X + Y + L numbers. A ratio
    under 1 says that the generated showers vary less. The components were turned to where the *reference* varies
    most, so small samples give ratios under 1 by themselves (100 of clic-ecal against 100 others: 0.7 to 1.0);
    the reference's halves show by how much.

    Args:
        reference: N_1 showers.
        generated: N_2 showers of the same detector.
        rng: for the bootstrap over the showers of both samples (the components stay).
        n: number of components.
        resamples: bootstrap samples.

    Raises:
        CaloforgeError: if the detectors differ, have no common cells in x and y, a sample has under 20 showers with
            energy, or the features do not vary in n directions.
    """
    same_detector(reference, generated)
    a, b = _features(reference), _features(generated)
    for features in (a, b):
        if len(features) < FEWEST:
            raise CaloforgeError(
                f"{len(features)} showers with energy are too few for principal components; give at least {FEWEST}."
            )
    centre = a.mean(axis=0)
    variances, vectors = np.linalg.eigh(np.cov(a, rowvar=False))
    variances, components = variances[::-1], vectors.T[::-1]
    rank = int((variances > max(1e-12 * variances[0], 1e-24)).sum())  # of fractions: smaller is rounding
    if not 1 <= n <= rank:
        raise CaloforgeError(
            f"{n} principal components were asked for but the reference's showers vary in {rank} directions; "
            f"{f'give 1 to {rank}' if rank else 'give showers that differ'}."
        )
    components = components[:n]
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
    components = components * np.sign(largest)  # eigenvectors have no sign of their own
    along = (a - centre) @ components.T, (b - centre) @ components.T
    before, after = (v.var(axis=0, ddof=1) for v in along)
    replicas = [_variances(v, bootstrap(len(v), rng, resamples).astype(np.float64)) for v in along]
    return PrincipalComponents(
        components,
        variances[:n] / variances.sum(),
        *along,
        before,
        after,
        after / before,
        (replicas[1] / replicas[0]).std(axis=0, ddof=1),
        (len(reference) - len(a), len(generated) - len(b)),
    )


def _features(source: Source) -> Floats:
    along = energies_along(source)
    total = along.layer.sum(axis=1, keepdims=True)
    filled = total[:, 0] > 0
    return np.concatenate([v[filled] / total[filled] for v in along], axis=1)


def _variances(values: Floats, weights: Floats) -> Floats:
    """Variances of columns (N, n) for R sets of weights (R, N): (R, n)."""
    size = weights.sum(axis=1, keepdims=True)
    found: Floats = (weights @ values**2 / size - (weights @ values / size) ** 2) * size / (size - 1)
    return found


# -- the peak of the cell energies -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class MipPeak:
    """Peak of the cell energies.

    Attributes:
        position: where it is, MeV.
        width: full width at half maximum, MeV; NaN if the spectrum does not fall to half between the limits.
        edges: of the bins (B + 1,), MeV, evenly spaced in the logarithm.
        counts: cells in each bin and shower, on average (B,).
    """

    position: Estimate
    width: Estimate
    edges: Floats
    counts: Floats


def mip_peak(
    showers: Source, low: float, high: float, rng: np.random.Generator, bins: int = 60, resamples: int = 100
) -> MipPeak:
    """Peak in the spectrum of cell energies that minimum ionising particles leave ("Getting High").

    The spectrum is counted in bins even in the logarithm of the energy (cells per bin: dN/d ln E, whose peak lies
    above that of dN/dE). A parabola through the logarithms of the counts, weighted by the counts, of the bins about
    the highest that hold over 60 % of it gives position and height; the width is measured between the points where
    the spectrum first falls to half that height, interpolated linearly.

    Args:
        showers: N showers.
        low: MeV; cells below do not count. Choose it well below the peak, above the dust of faint cells.
        high: MeV, likewise.
        rng: for the bootstrap over showers.
        bins: of the spectrum.
        resamples: bootstrap samples.

    Raises:
        CaloforgeError: if limits or bins make no sense, there are under 20 showers, or there is no peak inside.
    """
    if not (0 < low < high < np.inf and bins >= 5):
        raise CaloforgeError(f"a peak needs 0 < low < high and 5 bins or more; given are {low:g}, {high:g} and {bins}.")
    enough(showers, FEWEST, "a peak with an error")
    logs = np.linspace(np.log(low), np.log(high), bins + 1)
    counts = []
    for part in parts_of(showers):
        row, energy = part.shower_of_hit, part.energy
        kept = (energy >= low) & (energy < high)
        at = np.searchsorted(logs, np.log(energy[kept]), side="right") - 1
        counts.append(table(row[kept], np.clip(at, 0, bins - 1), len(part), bins))
    by_shower = np.concatenate(counts)
    centres = (logs[1:] + logs[:-1]) / 2
    value = _peak(centres, by_shower.sum(axis=0))
    if np.isnan(value[0]):
        raise CaloforgeError(
            f"the cell energies have no peak between {low:g} and {high:g} MeV; give limits on both sides of one."
        )
    draws = bootstrap(len(by_shower), rng, resamples).astype(np.float64)
    found = np.array([_peak(centres, counted) for counted in draws @ by_shower])
    errors = [float(np.std(v[~np.isnan(v)], ddof=1)) if (~np.isnan(v)).sum() > 1 else np.nan for v in found.T]
    position, width = (Estimate(v, e) for v, e in zip(value, errors, strict=True))
    return MipPeak(position, width, np.exp(logs), by_shower.mean(axis=0))


def _peak(centres: Floats, counts: Floats) -> tuple[float, float]:
    """Position and full width at half maximum of a spectrum against ln E, as energies; NaN where there is none."""
    top = int(counts.argmax())
    if top in (0, len(counts) - 1):
        return np.nan, np.nan
    under = np.flatnonzero(counts < 0.6 * counts[top])
    first = min(int(under[under < top].max(initial=-1)) + 1, top - 1)
    last = max(int(under[under > top].min(initial=len(counts))) - 1, top + 1)
    x, y = centres[first : last + 1] - centres[top], counts[first : last + 1]
    curve, slope, constant = np.polyfit(x, np.log(np.maximum(y, 0.5)), 2, w=np.sqrt(np.maximum(y, 0.5)))
    if curve >= 0:
        return np.nan, np.nan
    offset = float(np.clip(-slope / (2 * curve), x[0], x[-1]))
    half = np.exp(constant + slope * offset + curve * offset**2) / 2
    below = np.flatnonzero(counts < half)
    left, right = below[below < top].max(initial=-1), below[below > top].min(initial=len(counts))
    width = np.nan
    if left >= 0 and right < len(counts):
        ends = [np.interp(half, counts[[i, j]], centres[[i, j]]) for i, j in ((left, left + 1), (right, right - 1))]
        width = float(np.exp(ends[1]) - np.exp(ends[0]))
    return float(np.exp(centres[top] + offset)), width
