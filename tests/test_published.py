"""The published systems' figures against closed forms and slow direct computations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError
from caloforge.evaluation import published
from caloforge.evaluation.published import (
    cell_ratios,
    edge_fraction,
    energies_along,
    mip_peak,
    principal_components,
    sampling_fraction,
    shape_mse,
    shower_shapes,
    ssim,
    ssim_curve,
)
from caloforge.incident import Incident
from caloforge.shower_file import ShowerFile
from caloforge.showers import Showers
from conftest import some_showers

RNG = np.random.default_rng
LAYERS, NY, NX = 4, 6, 8  # of the tiny detector


def dense_showers(detector: Detector, voxels: npt.ArrayLike, energy: npt.ArrayLike = 1000.0) -> Showers:
    images = np.asarray(voxels)
    return Showers.from_dense(images, Incident.of(np.broadcast_to(energy, len(images)).astype(float)), detector)


def test_shapes_of_one_voxel(tiny: Detector) -> None:
    voxels = np.zeros((2, LAYERS, NY, NX))
    voxels[0, 3, 5, 1] = 8.0
    shapes = shower_shapes(dense_showers(tiny, voxels))
    assert [s.shape for s in shapes] == [(NX,), (NY,), (LAYERS,)]
    for shape, at in zip(shapes, (1, 5, 3), strict=True):
        assert shape[at] == 4.0 and shape.sum() == 4.0  # the mean of a shower of 8 MeV and an empty one


def test_shapes_of_a_slab(tiny: Detector) -> None:
    shapes = shower_shapes(dense_showers(tiny, np.full((3, LAYERS, NY, NX), 2.0)))
    for shape, bins in zip(shapes, (NX, NY, LAYERS), strict=True):
        np.testing.assert_allclose(shape, 2.0 * LAYERS * NY * NX / bins)


def test_shapes_of_a_file(tiny: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in many pieces, a file gives what the showers in memory give, pairs of showers included."""
    monkeypatch.setattr("caloforge.evaluation.sample._VOXELS_AT_ONCE", 1)
    showers = some_showers(tiny, 60)
    showers.write(tmp_path / "a.h5")
    with ShowerFile(tmp_path / "a.h5") as file:
        for found, expected in zip(energies_along(file), energies_along(showers), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-6)
        by_file, by_memory = (ssim_curve(s, s, [1.0, 100.0], 20, RNG(1)) for s in (file, showers))
        np.testing.assert_allclose(by_file.mean, by_memory.mean)
        assert cell_ratios(file, showers, RNG(0), n=20).average_mean.value == pytest.approx(1)


def test_shape_mse_of_a_known_difference(tiny: Detector) -> None:
    """Moving a tenth of the energy from one layer to another changes two bins by 10 percent."""
    a = np.ones((50, LAYERS, NY, NX))
    b = a.copy()
    b[:, 0] *= 0.6
    b[:, 2] *= 1.4
    found = shape_mse(dense_showers(tiny, a), dense_showers(tiny, b), RNG(0), resamples=10)
    assert found["layer"].estimate.value == pytest.approx(2 * 10**2 / LAYERS, rel=1e-6)
    assert found["x"].estimate.value == pytest.approx(0, abs=1e-9)
    assert found["mean"].estimate.value == pytest.approx(found["layer"].estimate.value / 3, rel=1e-6)
    assert found["layer"].floor.value == pytest.approx(0, abs=1e-9)
    assert found["mean"].to_dict()["floor"]["size"] == 25
    flat = some_showers(tiny.with_depth("sum"), 50)
    assert set(shape_mse(flat, flat, RNG(0), 10)) == {"x", "y", "mean"}


def test_shape_mse_of_equal_samples_lies_at_the_floor(tiny: Detector) -> None:
    found = [
        shape_mse(some_showers(tiny, 200, 2 * s), some_showers(tiny, 100, 2 * s + 1), RNG(s), 20)["mean"]
        for s in range(8)
    ]
    values, floors = (np.array([getattr(f, k).value for f in found]) for k in ("estimate", "floor"))
    assert values.mean() == pytest.approx(floors.mean(), rel=0.6)
    assert all(f.estimate.error > 0 for f in found)


def test_edge_fraction(tiny: Detector) -> None:
    voxels = np.ones((30, LAYERS, NY, NX)) * RNG(0).uniform(1, 2, 30)[:, None, None, None]
    found = edge_fraction(dense_showers(tiny, voxels), cells=2)
    for axis, bins in (("x_low", NX), ("x_high", NX), ("y_low", NY), ("layer_front", LAYERS), ("layer_back", LAYERS)):
        assert found[axis].value == pytest.approx(2 / bins, rel=1e-6)
        assert found[axis].error == pytest.approx(0, abs=1e-6)
    voxels = np.zeros((400, LAYERS, NY, NX))
    share = RNG(0).uniform(0, 0.2, 400)
    voxels[:, 0, 4, 3], voxels[:, -1, 4, 3] = 1 - share, share
    back = edge_fraction(dense_showers(tiny, voxels))["layer_back"]
    assert back.value == pytest.approx(share.mean(), rel=1e-5)
    assert back.error == pytest.approx(share.std(ddof=1) / 20, rel=1e-3)
    flat = tiny.with_depth("sum")
    assert set(edge_fraction(some_showers(flat, 30))) == {"x_low", "x_high", "y_low", "y_high"}


def test_cell_ratios(tiny: Detector) -> None:
    a = some_showers(tiny, 100)
    same = cell_ratios(a, a, RNG(0), n=30)
    np.testing.assert_allclose(same.mean, 1)
    np.testing.assert_allclose(same.std, 1)
    assert same.average_mean.error > 0 and same.average_std.error > 0
    order = a.dense(np.float64).reshape(100, -1).mean(axis=0)
    assert set(same.cells) == set(np.argsort(-order)[:30])
    half = Showers(a.incident, a.detector, a.offset, a.index, a.energy * np.float32(0.5))
    assert cell_ratios(a, half, RNG(0), n=30).average_std.value == pytest.approx(0.5)
    narrow = np.full((100, tiny.n_voxels), 5.0) + np.array([0.1, -0.1]).repeat(50)[:, None]
    wide = np.full((40, tiny.n_voxels), 5.0) + np.array([0.3, -0.3]).repeat(20)[:, None]
    found = cell_ratios(dense_showers(tiny, narrow), dense_showers(tiny, wide), RNG(0), n=tiny.n_voxels)
    assert found.average_std.value == pytest.approx(3, rel=1e-4)
    assert found.average_mean.value == pytest.approx(1, rel=1e-6)


def slow_ssim(a: npt.NDArray[Any], b: npt.NDArray[Any], data_range: float, window: int) -> float:
    """Equation 13 of Wang et al., window by window."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    found = []
    for i, j, k in np.ndindex(*(max(n - window, 0) + 1 for n in a.shape)):
        x, y = (v[i : i + window, j : j + window, k : k + window].ravel() for v in (a, b))
        covariance = np.cov(x, y)
        above = (2 * x.mean() * y.mean() + c1) * (2 * covariance[0, 1] + c2)
        found.append(above / ((x.mean() ** 2 + y.mean() ** 2 + c1) * (covariance[0, 0] + covariance[1, 1] + c2)))
    return float(np.mean(found))


@pytest.mark.parametrize(("shape", "window"), [((8, 9, 10), 7), ((3, 9, 8), 7), ((1, 5, 6), 4)])
def test_ssim_is_the_slow_one(shape: tuple[int, ...], window: int) -> None:
    a, b = RNG(0).exponential(1, (2, *shape)) * (RNG(1).random((2, *shape)) < 0.3)
    for data_range in (0.1, 1.0, 50.0):
        assert float(ssim(a, b, data_range, window)) == pytest.approx(slow_ssim(a, b, data_range, window), rel=1e-9)
    assert float(ssim(a, a, 1.0, window)) == 1
    np.testing.assert_allclose(ssim(np.stack([a, b]), np.stack([b, b]), 1.0), [float(ssim(a, b, 1.0)), 1])


def test_ssim_of_constant_images() -> None:
    """Without structure only the brightness counts."""
    one, two = np.full((7, 7, 7), 3.0), np.full((7, 7, 7), 1.0)
    c1 = (0.01 * 10) ** 2
    assert float(ssim(one, two, 10.0)) == pytest.approx((6 + c1) / (10 + c1))


def test_ssim_curve_shows_mode_collapse(tiny: Detector) -> None:
    showers = some_showers(tiny, 80)
    collapsed = showers[np.zeros(80, dtype=int)]
    ranges = [1.0, 10.0, 100.0]
    within = ssim_curve(showers, showers, ranges, 40, RNG(0))
    between = ssim_curve(showers, collapsed, ranges, 40, RNG(0))
    np.testing.assert_allclose(ssim_curve(collapsed, collapsed, ranges, 40, RNG(0)).mean, 1)
    assert within.pairs == 40 and (within.mean < 1).all() and (between.error > 0).all()
    assert (np.diff(within.mean) > 0).all()  # against a larger range all looks more alike


def test_sampling_fraction(tiny: Detector) -> None:
    energy = np.array([5e3, 8e3, 12e3, 31e3])
    voxels = np.zeros((4, tiny.n_voxels))
    voxels[:, 0] = energy * [0.1, 0.3, 0.2, 0.4]
    found = sampling_fraction(dense_showers(tiny, voxels, energy))
    np.testing.assert_allclose(found.edges_gev, [0, 10, 20, 30, 40])
    np.testing.assert_array_equal(found.n, [2, 1, 0, 1])
    np.testing.assert_allclose(found.mean, [0.2, 0.2, np.nan, 0.4], rtol=1e-6)
    np.testing.assert_allclose(found.error, [0.1, np.nan, np.nan, np.nan], rtol=1e-6)
    other = sampling_fraction(dense_showers(tiny, voxels, energy), edges_gev=[0, 6, 10])
    np.testing.assert_array_equal(other.n, [1, 1])


def test_variances_of_a_known_covariance(tiny: Detector) -> None:
    """Fractions of layers that move along two chosen directions: these and their variances are found."""
    n = 400

    def showers(sigma: tuple[float, float], seed: int) -> Showers:
        drawn = RNG(seed).normal(size=(n, 2))
        drawn -= drawn.mean(axis=0)
        white = drawn @ np.linalg.inv(np.linalg.cholesky(np.cov(drawn, rowvar=False))).T * sigma
        directions = np.array([[1, -1, 0, 0], [0, 0, 1, -1]]) / np.sqrt(2)
        voxels = np.zeros((n, LAYERS, NY, NX))
        voxels[:, :, 4, 3] = 100 * (0.25 + white @ directions)
        voxels[0] = 0 if seed else voxels[0]
        return dense_showers(tiny, voxels)

    a = showers((0.04, 0.02), 0)
    found = principal_components(a, showers((0.02, 0.02), 1), RNG(0), n=2)
    np.testing.assert_allclose(found.reference_variance, [0.04**2, 0.02**2], rtol=1e-4)
    np.testing.assert_allclose(found.explained, [0.8, 0.2], rtol=1e-4)
    np.testing.assert_allclose(found.ratio, [0.25, 1.0], rtol=0.02)
    np.testing.assert_allclose(np.abs(found.components[0, -LAYERS:]), [0.5**0.5] * 2 + [0] * 2, atol=1e-4)
    np.testing.assert_allclose(found.error / found.ratio, np.sqrt(4 / n), rtol=0.4)
    assert found.empty == (0, 1) and found.generated.shape == (n - 1, 2)
    np.testing.assert_allclose(principal_components(a, a, RNG(0), n=2).ratio, 1)


def test_mip_peak_of_a_log_normal(tiny: Detector) -> None:
    sigma, n = 0.3, 300
    voxels = 0.2 * np.exp(sigma * RNG(0).normal(size=(n, tiny.n_voxels)))
    found = mip_peak(dense_showers(tiny, voxels), 0.05, 0.8, RNG(0))
    half = np.sqrt(2 * np.log(2)) * sigma
    assert found.position.value == pytest.approx(0.2, rel=0.01)
    assert found.width.value == pytest.approx(0.2 * (np.exp(half) - np.exp(-half)), rel=0.02)
    assert found.position.error < 0.005 and 0 < found.width.error < 0.005
    assert abs(found.position.value - 0.2) < 4 * found.position.error
    assert found.counts.sum() == pytest.approx(tiny.n_voxels, rel=0.01) and len(found.edges) == 61
    assert np.isnan(mip_peak(dense_showers(tiny, voxels), 0.16, 0.8, RNG(0)).width.value)


def test_everything_is_repeatable(tiny: Detector) -> None:
    a, b = some_showers(tiny, 60), some_showers(tiny, 60, 1)
    for figure in (shape_mse, lambda *args: cell_ratios(*args, n=20).average_std, principal_components):
        assert repr(figure(a, b, RNG(3))) == repr(figure(a, b, RNG(3)))


def _other(detector: Detector) -> Showers:
    return some_showers(detector.with_depth("sum"), 50)


FAULTS: list[tuple[str, Callable[[Showers, Showers], object]]] = [
    ("have different voxels; compare", lambda a, other: shape_mse(a, other, RNG(0))),
    ("have different voxels; compare", lambda a, other: cell_ratios(a, other, RNG(0))),
    ("have different voxels; compare", lambda a, other: principal_components(a, other, RNG(0))),
    ("have different voxels; compare", lambda a, other: ssim_curve(a, other, [1.0], 5, RNG(0))),
    ("0 showers are too few for shower shapes; give at least 1", lambda a, _: shower_shapes(a[:0])),
    ("30 showers are too few for the floor", lambda a, _: shape_mse(a[:30], a, RNG(0))),
    ("10 showers are too few for shape differences", lambda a, _: shape_mse(a, a[:10], RNG(0))),
    ("10 showers are too few for edge fractions", lambda a, _: edge_fraction(a[:10])),
    ("edges of 3 cells do not fit twice into the 4 bins along layer; give a number from 1 to 2",
     lambda a, _: edge_fraction(a, 3)),
    ("10 showers are too few for ratios of cells", lambda a, _: cell_ratios(a[:10], a, RNG(0))),
    ("9999 cells were asked for but", lambda a, _: cell_ratios(a, a, RNG(0), n=9999)),
    (r"cannot be compared; give two of shape", lambda a, _: ssim(np.ones((7, 7)), np.ones((7, 7)), 1)),
    ("finite numbers above zero", lambda a, _: ssim(np.ones((7, 7, 7)), np.ones((7, 7, 7)), 0)),
    ("a window of 1 bins has no variance", lambda a, _: ssim(np.ones((7, 7, 7)), np.ones((7, 7, 7)), 1, 1)),
    ("images of a single voxel", lambda a, _: ssim(np.ones((1, 1, 1)), np.ones((1, 1, 1)), 1)),
    ("1 pairs of showers give no mean", lambda a, _: ssim_curve(a, a, [1.0], 1, RNG(0))),
    ("50 showers are too few for 30 pairs within samples; give at least 60",
     lambda a, _: ssim_curve(a, a, [1.0], 30, RNG(0))),
    ("0 showers are too few for a sampling fraction", lambda a, _: sampling_fraction(a[:0])),
    ("bins of 0 GeV are too narrow", lambda a, _: sampling_fraction(a, 0)),
    ("two or more rising numbers", lambda a, _: sampling_fraction(a, edges_gev=[2, 1])),
    ("10 showers with energy are too few", lambda a, _: principal_components(a, a[:10], RNG(0))),
    ("99 principal components were asked for", lambda a, _: principal_components(a, a, RNG(0), n=99)),
    ("vary in 0 directions; give showers that differ",
     lambda a, _: principal_components(a[np.zeros(30, int)], a, RNG(0))),
    ("0 < low < high", lambda a, _: mip_peak(a, 2, 1, RNG(0))),
    ("10 showers are too few for a peak", lambda a, _: mip_peak(a[:10], 1, 2, RNG(0))),
    ("have no peak between 1000 and 2000 MeV", lambda a, _: mip_peak(a, 1000, 2000, RNG(0))),
]  # fmt: skip


@pytest.mark.parametrize(("message", "call"), FAULTS)
def test_faults_in_one_sentence(message: str, call: Callable[[Showers, Showers], object], tiny: Detector) -> None:
    with pytest.raises(CaloforgeError, match=message) as caught:
        call(some_showers(tiny, 50), _other(tiny))
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_layers_cut_differently() -> None:
    detector = Detector.load("atlas-lar")
    showers = Showers.from_dense(np.ones((30, detector.n_voxels)), Incident.of(np.full(30, 1e3)), detector)
    for call in (shower_shapes, edge_fraction, lambda s: ssim_curve(s, s, [1.0], 5, RNG(0))):
        with pytest.raises(CaloforgeError, match="'atlas-lar' are not all cut into the same cells in x and y"):
            call(showers)
    polar = Detector.load("par04-siw")
    with pytest.raises(CaloforgeError, match="not all cut"):
        shower_shapes(Showers.from_dense(np.ones((1, polar.n_voxels)), Incident.of(np.ones(1)), polar))
    cells = cell_ratios(showers, showers, RNG(0), n=10)  # cells need no shapes
    assert cells.average_mean.value == 1 and np.isnan(cells.average_std.value)  # and these do not fluctuate


def test_energies_must_be() -> None:
    detector = Detector.load("lhcb-ecal")
    empty = Showers.from_dense(np.zeros((50, detector.n_voxels)), Incident.of(np.zeros(50)), detector)
    for call in (edge_fraction, lambda s: shape_mse(s, s, RNG(0))):
        with pytest.raises(CaloforgeError, match="all voxel energies are zero; give showers that hold energy"):
            call(empty)
    with pytest.raises(CaloforgeError, match="some incident energies are zero"):
        sampling_fraction(empty)


def test_all_names_exist() -> None:
    assert all(hasattr(published, name) for name in published.__all__)
