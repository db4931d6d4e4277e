"""Figures by which two published systems were validated, from shower data alone.

S0 is "Physics Validation of Novel Convolutional 2D Architectures for Speeding Up High Energy Physics Simulations"
(Rehm, Vallecorsa, Borras, Krücker; arXiv 2103.13698, with arXiv 2101.05108): shower shapes and their mean squared
error, the cells with the largest deposits, structural similarity against mode collapse. S4 is the ensemble of GANs
by AdaGAN (Jaruskova & Vallecorsa 2024): edges of the shapes, sampling fraction, principal components. The peak of the
cell energies is the one by which "Getting High" (arXiv 2005.05334) is known.

All take showers in memory or an open shower file, which is read piece by piece. Errors are one standard deviation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import CaloforgeError
from ..showers import Showers
from .metrics import Comparison, Distribution, Estimate, Floor, Joint, Metric, bootstrap, estimate, floor, halves
from .sample import pieces

if TYPE_CHECKING:
    from ..detectors import Detector
    from ..shower_file import ShowerFile

    Source = Showers | ShowerFile

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

FEWEST = 20
"""Fewest showers of a sample from which an error is given."""

_VOXELS_AT_ONCE = 2_000_000  # of the dense images compared at a time


class Shapes(NamedTuple):
    """Energies along the three axes in MeV: x (X,), y (Y,), layer (L,), or (N, ...) by shower."""

    x: Floats
    y: Floats
    layer: Floats


@dataclass(frozen=True)
class Compared:
    """A comparison of two samples beside what the reference gives against itself."""

    estimate: Estimate
    floor: Floor

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {**self.estimate.to_dict(), "floor": self.floor.to_dict()}


# -- shower shapes ------------------------------------------------------------------------------------------------


def energies_along(showers: Source) -> Shapes:
    """Energy of every shower along x, y and the layers (N, X), (N, Y), (N, L) in MeV.

    Raises:
        CaloforgeError: if the layers are not all cut into the same cells in x and y.
    """
    layers, ny, nx = _cells(showers.detector)
    parts = []
    for part in _pieces(showers):
        row, index = part.shower_of_hit, part.index.astype(np.int64)
        at = (index % nx, index // nx % ny, index // (nx * ny))
        parts.append([_table(row, a, len(part), n, part.energy) for a, n in zip(at, (nx, ny, layers), strict=True)])
    if not parts:
        return Shapes(np.zeros((0, nx)), np.zeros((0, ny)), np.zeros((0, layers)))
    return Shapes(*(np.concatenate(axis) for axis in zip(*parts, strict=True)))


def shower_shapes(showers: Source) -> Shapes:
    """Mean energy a shower along x (X,), y (Y,) and the layers (L,) in MeV: the shower shapes of S0 and S4.

    Raises:
        CaloforgeError: if there are no showers, or the layers are not all cut into the same cells in x and y.
    """
    _enough(showers, 1, "shower shapes")
    return Shapes(*(along.mean(axis=0) for along in energies_along(showers)))


def shape_mse(
    reference: Source, generated: Source, rng: np.random.Generator, resamples: int = 100
) -> dict[str, Compared]:
    """Mean squared difference of the shower shapes, S0's figure of merit.

    The paper gives no unit for its 0.065 (Conv3D) and 0.044 (Conv2D). Here both samples' mean shapes (see
    `shower_shapes`) are divided by the reference's mean total energy and multiplied by 100; the squared differences
    are averaged over the bins of an axis. The unit is therefore percent squared a bin: 0.01 says that bins are off by
    0.1 % of the shower's energy. A wrong energy scale counts, and numbers compare between energies, not between
    segmentations nor with the paper's.

    The floor is one half of the reference against the other over 10 splits, scaled to the sizes compared as
    1/N_1 + 1/N_2. It holds the spread of the incident energies: with the same particles in both samples, over a wide
    spectrum, a good generator lies under it; choose an energy window for a sharp comparison.

    Args:
        reference: N_1 showers, usually Geant4's.
        generated: N_2 showers of the same detector.
        rng: for the bootstrap over the showers of both samples and the splits.
        resamples: bootstrap samples.

    Returns:
        "x", "y", "layer" and "mean", the average of the three.

    Raises:
        CaloforgeError: if the detectors differ, have no common cells in x and y, or there are under 40 reference
            showers (the floor needs halves) or under 20 generated ones.
    """
    _same_detector(reference, generated)
    _enough(reference, 2 * FEWEST, "the floor of the shape differences")
    _enough(generated, FEWEST, "shape differences")
    a, b = energies_along(reference), energies_along(generated)
    _holds_energy(a.layer)
    draws = bootstrap(len(a.x), rng, resamples), bootstrap(len(b.x), rng, resamples)
    splits = halves(len(a.x), rng)
    ends = np.cumsum([0, *(v.shape[1] for v in a)]).tolist()
    parts = [slice(low, high) for low, high in zip(ends, ends[1:], strict=False)]
    joint_a, joint_b = Joint(np.concatenate(a, axis=1)), Joint(np.concatenate(b, axis=1))
    found = {}
    for name, chosen in (*zip(Shapes._fields, ([p] for p in parts), strict=True), ("mean", parts)):
        metric = Metric("shape MSE", "mean squared difference of shower shapes", "", 1.0, _squared_difference(chosen))
        found[name] = Compared(
            estimate(metric, joint_a, joint_b, draws), floor(metric, joint_a, (len(joint_a), len(joint_b)), splits)
        )
    return found


def _squared_difference(parts: Sequence[slice]) -> Callable[[Distribution, Distribution], Comparison]:
    """The metric of `shape_mse`, averaged over some axes, each a slice of the columns."""

    def of(a: Distribution, b: Distribution) -> Comparison:
        assert isinstance(a, Joint) and isinstance(b, Joint)
        pairs = [(a.values[:, part], b.values[:, part]) for part in parts]

        def distance(wa: Floats, wb: Floats) -> float:
            squares = []
            for va, vb in pairs:
                p, q = wa @ va / wa.sum(), wb @ vb / wb.sum()
                squares.append(np.mean((100 * (p - q) / p.sum()) ** 2))
            return float(np.mean(squares))

        return distance

    return of


def edge_fraction(showers: Source, cells: int = 1) -> dict[str, Estimate]:
    """Share of the energy in the outermost cells of each axis, where S4 gained.

    Args:
        showers: N showers.
        cells: how many cells, or layers, count as the edge.

    Returns:
        "x_low", "x_high", "y_low", "y_high", "layer_front", "layer_back": summed energy there over summed energy, with
        the error of a ratio of means. An axis of one bin has no edges and is left out.

    Raises:
        CaloforgeError: if the edges would overlap, showers are under 20, or there are no common cells in x and y.
    """
    _enough(showers, FEWEST, "edge fractions")
    along = energies_along(showers)
    total = along.layer.sum(axis=1)
    _holds_energy(total)
    found = {}
    for axis, (low, high) in zip(Shapes._fields, (("low", "high"), ("low", "high"), ("front", "back")), strict=True):
        energy: Floats = getattr(along, axis)
        bins = energy.shape[1]
        if bins == 1:
            continue
        if not 1 <= cells <= bins // 2:
            raise CaloforgeError(
                f"edges of {cells} cells do not fit twice into the {bins} bins along {axis}; "
                f"give a number from 1 to {bins // 2}."
            )
        found[f"{axis}_{low}"] = _ratio_of_means(energy[:, :cells].sum(axis=1), total)
        found[f"{axis}_{high}"] = _ratio_of_means(energy[:, -cells:].sum(axis=1), total)
    return found


def _ratio_of_means(above: Floats, below: Floats) -> Estimate:
    ratio = float(above.sum() / below.sum())
    n = len(above)
    return Estimate(ratio, float(np.sqrt(np.sum((above - ratio * below) ** 2) * n / (n - 1)) / below.sum()))


# -- the cells with the largest deposits --------------------------------------------------------------------------


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
    _same_detector(reference, generated)
    for sample in (reference, generated):
        _enough(sample, FEWEST, "ratios of cells")
    total = np.zeros(reference.detector.n_voxels)
    for part in _pieces(reference):
        total += np.bincount(part.index, part.energy, minlength=len(total))
    hit = int(np.count_nonzero(total))
    if not 1 <= n <= hit:
        raise CaloforgeError(f"{n} cells were asked for but {hit} of the reference hold energy; give 1 to {hit}.")
    cells = np.argsort(-total, kind="stable")[:n]
    a, b = _chosen_cells(reference, cells), _chosen_cells(generated, cells)
    value = _moment_ratios(a, b, (np.ones((1, len(a))), np.ones((1, len(b)))))
    draws = tuple(bootstrap(len(v), rng, resamples).astype(np.float64) for v in (a, b))
    spread = np.nanmean(_moment_ratios(a, b, (draws[0], draws[1])), axis=2).std(axis=1, ddof=1)
    averages = [Estimate(float(np.nanmean(v)), float(s)) for v, s in zip(value[:, 0], spread, strict=True)]
    return CellRatios(cells, value[0, 0], value[1, 0], *averages)


def _chosen_cells(source: Source, cells: Integers) -> Floats:
    """Energies of some cells in every shower (N, n) in MeV."""
    column = np.full(source.detector.n_voxels, -1)
    column[cells] = np.arange(len(cells))
    found = []
    for part in _pieces(source):
        at = column[part.index]
        dense = np.zeros((len(part), len(cells)))
        dense[part.shower_of_hit[at >= 0], at[at >= 0]] = part.energy[at >= 0]
        found.append(dense)
    return np.concatenate(found)


def _moment_ratios(a: Floats, b: Floats, weights: tuple[Floats, Floats]) -> Floats:
    """Ratios b over a of means and standard deviations (2, R, n) for R sets of weights (R, N) of each sample."""
    moments = []
    for values, w in zip((a, b), weights, strict=True):
        middle = values.mean(axis=0)  # taken off first: squares of what is far from zero would lose digits
        size = w.sum(axis=1, keepdims=True)
        mean, square = w @ (values - middle) / size, w @ (values - middle) ** 2 / size
        moments.append(np.stack([middle + mean, np.sqrt(np.maximum(square - mean**2, 0))]))
    below, above = moments
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


# -- structural similarity ----------------------------------------------------------------------------------------


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
    return _similarity(_local_moments(one, two, window), _positive([data_range]))[..., 0]


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
    _same_detector(sample_a, sample_b)
    shape = _cells(sample_a.detector)
    ranges = _positive(dynamic_ranges)
    if pairs < 2:
        raise CaloforgeError(f"{pairs} pairs of showers give no mean with an error; ask for at least 2.")
    within = sample_b is sample_a
    for sample in (sample_a, sample_b):
        _enough(sample, pairs * (1 + within), f"{pairs} pairs {'within' if within else 'between'} samples")
    rows_a = rng.permutation(len(sample_a))
    rows_b = rows_a[pairs : 2 * pairs] if within else rng.permutation(len(sample_b))[:pairs]
    a, b = _picked(sample_a, rows_a[:pairs]), _picked(sample_b, rows_b)
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


# -- sampling fraction --------------------------------------------------------------------------------------------


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
    _enough(showers, 1, "a sampling fraction")
    parts = [(part.incident.energy, part.total_energy) for part in _pieces(showers)]
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


# -- principal components -----------------------------------------------------------------------------------------


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
    most, so small samples give ratios a little under 1 by themselves; the reference's halves show by how much.

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
    _same_detector(reference, generated)
    a, b = _features(reference), _features(generated)
    for features in (a, b):
        if len(features) < FEWEST:
            raise CaloforgeError(
                f"{len(features)} showers with energy are too few for principal components; give at least {FEWEST}."
            )
    centre = a.mean(axis=0)
    variances, vectors = np.linalg.eigh(np.cov(a, rowvar=False))
    variances, components = variances[::-1], vectors.T[::-1]
    rank = int((variances > 1e-12 * variances[0]).sum()) if variances[0] > 0 else 0
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


# -- the peak of the cell energies --------------------------------------------------------------------------------


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
    """Peak in the spectrum of cell energies that minimum ionising particles leave ("Getting High", figure 4).

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
    _enough(showers, FEWEST, "a peak with an error")
    logs = np.linspace(np.log(low), np.log(high), bins + 1)
    counts = []
    for part in _pieces(showers):
        row, energy = part.shower_of_hit, part.energy
        kept = (energy >= low) & (energy < high)
        at = np.searchsorted(logs, np.log(energy[kept]), side="right") - 1
        counts.append(_table(row[kept], np.clip(at, 0, bins - 1), len(part), bins))
    table = np.concatenate(counts)
    centres = (logs[1:] + logs[:-1]) / 2
    value = _peak(centres, table.sum(axis=0))
    if np.isnan(value[0]):
        raise CaloforgeError(
            f"the cell energies have no peak between {low:g} and {high:g} MeV; give limits on both sides of one."
        )
    draws = bootstrap(len(table), rng, resamples).astype(np.float64)
    found = np.array([_peak(centres, counted) for counted in draws @ table])
    errors = [float(np.std(v[~np.isnan(v)], ddof=1)) if (~np.isnan(v)).sum() > 1 else np.nan for v in found.T]
    position, width = (Estimate(v, e) for v, e in zip(value, errors, strict=True))
    return MipPeak(position, width, np.exp(logs), table.mean(axis=0))


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


# -- samples ------------------------------------------------------------------------------------------------------


def _pieces(source: Source) -> Iterator[Showers]:
    """The showers, a memory-friendly number at a time."""
    if isinstance(source, Showers):
        yield source
    else:
        yield from pieces(source, np.arange(len(source)))


def _picked(source: Source, rows: Integers) -> Showers:
    """The showers ``rows``, all different, in that order."""
    if isinstance(source, Showers):
        return source[rows]
    order = np.argsort(rows)
    return Showers.concatenate(list(pieces(source, rows[order])))[np.argsort(order)]


def _table(row: Integers, column: Integers, rows: int, columns: int, weights: npt.NDArray[Any] | None = None) -> Floats:
    """Sums of weights, or counts, by row and column (rows, columns)."""
    flat = np.bincount(row * columns + column, weights, rows * columns)
    return flat.reshape(rows, columns).astype(np.float64)


def _cells(detector: Detector) -> tuple[int, int, int]:
    """Layers and cells in y and x of a detector all of whose layers are cut alike.

    Raises:
        CaloforgeError: if they are not.
    """
    first = detector.grids[0]
    alike = all(
        g.kind == "cartesian"
        and g.shape == first.shape
        and np.allclose(g.edges0, first.edges0)
        and np.allclose(g.edges1, first.edges1)
        for g in detector.grids
    )
    if not alike:
        raise CaloforgeError(
            f"the layers of detector '{detector.name}' are not all cut into the same cells in x and y, so it has no "
            "shapes along them; give showers of one whose layers are, as 'clic-ecal'."
        )
    return len(detector.grids), *first.shape


def _same_detector(a: Source, b: Source) -> None:
    if not a.detector.same_voxels(b.detector):
        raise CaloforgeError(
            f"showers of '{a.detector.name}' and '{b.detector.name}' have different voxels; "
            "compare samples of one detector."
        )


def _enough(source: Source, needed: int, what: str) -> None:
    if len(source) < needed:
        raise CaloforgeError(f"{len(source)} showers are too few for {what}; give at least {needed}.")


def _holds_energy(energy: Floats) -> None:
    if not energy.any():
        raise CaloforgeError("all voxel energies are zero; give showers that hold energy.")


def _positive(values: npt.ArrayLike) -> Floats:
    numbers = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if numbers.ndim != 1 or not len(numbers) or not ((numbers > 0) & np.isfinite(numbers)).all():
        raise CaloforgeError("dynamic ranges must be finite numbers above zero, in MeV; give such.")
    return numbers
