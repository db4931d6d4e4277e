"""FPD, KPD and nearest neighbours on points whose distances are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError
from caloforge.evaluation.benchmark import clouds, frechet, neighbours
from caloforge.evaluation.benchmark.clouds import distance, fidelity, neighbourhood
from caloforge.evaluation.benchmark.frechet import fpd, frechet_distance, grid, scaled
from caloforge.evaluation.benchmark.kernel import kernel_sum, kpd, squared_discrepancy
from caloforge.evaluation.benchmark.neighbours import Points, prdc
from caloforge.evaluation.benchmark.rows import read_rows
from caloforge.evaluation.sample import measure
from conftest import some_showers


def gaussians(n: int, shift: float = 0.0, seed: int = 0, f: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, f)) + shift


# -- Fréchet ---------------------------------------------------------------------------------------------------


def test_frechet_distance_of_normal_distributions() -> None:
    """Covariances that commute: the squared differences of mean and standard deviation along each axis."""
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    mean, (s, t) = np.array([1.0, 2.0, 3.0]), np.array([[1.0, 2.0, 0.5], [3.0, 0.1, 0.5]])
    c, d = (turn @ np.diag(x**2) @ turn.T for x in (s, t))
    expected = (mean @ mean) + ((s - t) ** 2).sum()
    assert frechet_distance(mean, c, 0 * mean, d) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(0 * mean, d, mean, c) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(mean, c, mean, c) == pytest.approx(0, abs=1e-12)


def test_frechet_distance_of_singular_covariances() -> None:
    """A feature that is constant, and one that is a multiple of another."""
    line = np.outer([1.0, 2.0, 0.0], [1.0, 2.0, 0.0])
    assert frechet_distance(np.zeros(3), line, np.zeros(3), 4 * line) == pytest.approx(5, rel=1e-7)
    flat = np.diag([1.0, 4.0, 0.0])
    assert frechet_distance(np.zeros(3), flat, np.zeros(3), np.diag([1.0, 1.0, 9.0])) == pytest.approx(10, rel=1e-12)


def test_weighted_moments_are_those_of_repeated_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frechet, "_ROWS", 7)
    values, draw = gaussians(30), np.random.default_rng(1).integers(30, size=50)
    mean, covariance = frechet.weighted_moments(values, np.bincount(draw, minlength=30))
    np.testing.assert_allclose(mean, values[draw].mean(axis=0), atol=1e-14)
    np.testing.assert_allclose(covariance, np.cov(values[draw], rowvar=False), atol=1e-14)


def test_fpd_follows_its_definition() -> None:
    """The same draws as JetNet 0.2.5, the matrix root by scipy and not by eigenvalues."""
    from scipy.linalg import sqrtm
    from scipy.optimize import curve_fit

    x, y = np.abs(gaussians(300)) + 1, np.abs(gaussians(250, 0.2, 1)) + 1
    x1, y1 = x / x.max(axis=0), y / x.max(axis=0)
    sizes = (1 / np.linspace(1 / 100, 1 / 400, 4)).astype("int32")
    rng, means = np.random.default_rng(42), []
    for size in sizes:
        found = []
        for _ in range(3):
            a, b = x1[rng.choice(300, size=size)], y1[rng.choice(250, size=size)]
            c, d = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
            m = a.mean(axis=0) - b.mean(axis=0)
            found.append(m @ m + np.trace(c + d - 2 * sqrtm(c @ d).real))
        means.append(np.mean(found))
    fit, errors = curve_fit(lambda u, a, b: a + b * u, 1 / sizes, means, bounds=([0, 0], [np.inf, np.inf]))
    ours = fpd(x, y, min_samples=100, max_samples=400, points=4, batches=3)
    assert ours.value == pytest.approx(fit[0], rel=1e-7)
    assert ours.error == pytest.approx(np.sqrt(errors[0, 0]), rel=1e-5)


def test_fpd_of_a_known_shift() -> None:
    n = 4000
    x, y = gaussians(n) + 5, gaussians(n, 0.3, 1) + 5
    largest = np.abs(x).max(axis=0)
    expected = ((0.3 / largest) ** 2).sum()
    noise = (2 / n * (1 / largest**2)).sum()  # of the means alone
    found = fpd(x, y, min_samples=n, max_samples=5 * n, batches=5)
    assert found.value == pytest.approx(expected, abs=6 * np.sqrt(expected * noise))
    same = fpd(x, gaussians(n, 0, 2) + 5, min_samples=n, max_samples=5 * n, batches=5)
    assert 0 <= same.value < 5 * noise


def test_fpd_hardly_depends_on_which_sample_is_the_reference() -> None:
    """Equal normalisation of both: the draws differ, the distance does not beyond them."""
    x, y = gaussians(3000, 0.5), gaussians(3000, 0.0, 1)
    x[0], y[0] = 6.0, 6.0  # the largest value of each feature
    one, two = (fpd(a, b, min_samples=2000, max_samples=9000, batches=5) for a, b in ((x, y), (y, x)))
    assert one.value == pytest.approx(two.value, rel=0.02)


def test_grid_of_few_showers() -> None:
    assert grid(10**6) == grid(10_000) == (10_000, 50_000)
    assert grid(1000) == (1000, 5000)


# -- kernel ----------------------------------------------------------------------------------------------------


def test_kernel_sum_is_the_sum_over_all_pairs() -> None:
    x, y = gaussians(700), gaussians(600, 1.0, 1)
    v, w = np.random.default_rng(2).random(700), np.random.default_rng(3).random(600)
    expected = v @ (x @ y.T / 4 + 1) ** 4 @ w
    assert kernel_sum(x, y, v, w) == pytest.approx(expected, rel=1e-12)
    assert kernel_sum(x, x, v, v) == pytest.approx(v @ (x @ x.T / 4 + 1) ** 4 @ v, rel=1e-12)


def test_discrepancy_of_repeated_rows() -> None:
    x, y, rng = gaussians(40), gaussians(30, 1.0, 1), np.random.default_rng(4)
    i, j = rng.integers(40, size=50), rng.integers(30, size=60)
    a, b = x[i], y[j]
    kernels = [(p @ q.T / 4 + 1) ** 4 for p, q in ((a, a), (b, b), (a, b))]
    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in kernels[:2]]
    found = squared_discrepancy(x, y, np.bincount(i, minlength=40), np.bincount(j, minlength=30))
    assert found == pytest.approx(sum(within) - 2 * kernels[2].mean(), rel=1e-10)


def test_kpd_of_equal_and_shifted() -> None:
    x = gaussians(3000)
    same, moved = (kpd(x, gaussians(3000, s, 1), batch_size=2000) for s in (0.0, 0.5))
    assert abs(same.value) < 3 * same.error + 1e-4
    assert moved.value > 10 * moved.error > 0
    assert moved.value > 20 * abs(same.value)


# -- nearest neighbours ----------------------------------------------------------------------------------------


def by_hand(x: np.ndarray, y: np.ndarray, k: int) -> dict[str, float]:
    def away(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.linalg.norm(a[:, None] - b[None], axis=2)

    radius_x, radius_y = (np.sort(away(z, z), axis=1)[:, k] for z in (x, y))
    d = away(x, y)
    return {
        "precision": (d < radius_x[:, None]).any(axis=0).mean(),
        "recall": (d < radius_y[None]).any(axis=1).mean(),
        "density": (d < radius_x[:, None]).sum(axis=0).mean() / k,
        "coverage": (d.min(axis=1) < radius_x).mean(),
    }


def test_neighbours_as_by_hand_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = gaussians(120), gaussians(90, 0.7, 1)
    expected = by_hand(x, y, 5)
    for size in (1000, 37):
        monkeypatch.setattr(neighbours, "BLOCK", size)
        found = prdc(Points.of(x), Points.of(y))
        assert {k: e.value for k, e in found.items()} == pytest.approx(expected)
        assert 0 < found["precision"].error < 0.1


def test_neighbours_of_equal_and_of_disjoint_samples() -> None:
    x = gaussians(200)
    equal = prdc(Points.of(x), Points.of(x))
    assert (equal["precision"].value, equal["recall"].value, equal["coverage"].value) == (1, 1, 1)
    assert equal["density"].value == pytest.approx(1)  # of so many balls, k hold a point of its own sample
    apart = prdc(Points.of(x), Points.of(gaussians(200, 100.0, 1)))
    assert all(e.value == e.error == 0 for e in apart.values())
    with pytest.raises(CaloforgeError, match="5th neighbours"):
        prdc(Points.of(x[:5]), Points.of(x))


# -- what users meet -------------------------------------------------------------------------------------------


def test_distance_tells_its_floor() -> None:
    x, y = gaussians(600), gaussians(500, 0.4, 1)
    steps: list[int] = []
    found = distance("fpd", x, y, progress=lambda done, total, note: steps.append(done))
    assert found["value"] > 5 * found["floor"]["value"] > 0
    assert found["floor"]["size"] == 300
    assert found["floor"]["scale"] == pytest.approx((1 / 600 + 1 / 500) * 150)
    assert (found["min_samples"], found["max_samples"], found["features"]) == (500, 2500, 4)
    assert steps == sorted(steps) and steps[-1] == 100
    assert found == distance("fpd", x, y)


@pytest.mark.parametrize(("name", "trials", "n", "m"), [("fpd", 6, 800, 600), ("kpd", 30, 200, 150)])
def test_floor_is_what_a_second_sample_of_the_same_gives(name: str, trials: int, n: int, m: int) -> None:
    """The halves' distances are twice as large; a floor that is not scaled to the sizes compared would show."""
    found = [distance(name, gaussians(n, 3, 2 * i), gaussians(m, 3, 2 * i + 1)) for i in range(trials)]
    value, bottom = np.mean([f["value"] for f in found]), np.mean([f["floor"]["value"] for f in found])
    assert 0.6 < bottom / value < 1.6


def test_features_that_cannot_be_compared() -> None:
    x = gaussians(10)
    for y, said in ((x[:, :3], "same features"), (x[:1], "at least 2"), (x * np.nan, "NaN")):
        with pytest.raises(CaloforgeError, match=said):
            scaled(x, y)


def test_fidelity_of_any_detector(tiny: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clouds, "NEIGHBOUR_COST", 6 * tiny.n_voxels * 80.0**2)
    monkeypatch.setattr(clouds, "MIN_NEIGHBOURS", 10)
    for name, seed in (("a", 1), ("b", 2)):
        some_showers(tiny, 200, seed).write(tmp_path / f"{name}.h5")
    a = measure(tmp_path / "a.h5")
    b = measure(tmp_path / "b.h5", names=[*a.values, *a.profiles], edges=a.edges)
    found = fidelity(a, b)
    assert found["prdc"]["showers"] == found["prdc"]["precision"]["floor"]["size"] == 80
    assert found["prdc"]["density"]["value"] == pytest.approx(found["prdc"]["density"]["floor"]["value"], abs=0.5)
    assert found["fpd"]["value"] < 5 * found["fpd"]["floor"]["value"]
    assert "200 showers" in found["notes"][0] and "80 of 200" in found["notes"][1]


def test_neighbourhood_of_voxels_is_that_of_their_logarithms(tiny: Detector, tmp_path: Path) -> None:
    """Empty voxels count as 0.1 MeV."""
    samples = [some_showers(tiny, n, seed) for n, seed in ((90, 1), (70, 2))]
    for sample, name in zip(samples, "ab", strict=True):
        sample.write(tmp_path / f"{name}.h5")
    rows = [read_rows(tmp_path / f"{name}.h5", threshold=0.3) for name in "ab"]
    found = neighbourhood(rows[0], rows[1], seed=3, device=torch.device("cpu"))
    rng = np.random.default_rng([3, 7])
    order = [rng.permutation(n)[:70] for n in (90, 70)]
    tables = []
    for sample, which in zip(samples, order, strict=True):
        dense = sample.dense(np.float64).reshape(len(sample), -1)
        tables.append(np.log10(np.where(dense < 0.3, 0.1, dense))[which])
    expected = by_hand(*tables, 5)
    assert {k: found[k]["value"] for k in expected} == pytest.approx(expected)
