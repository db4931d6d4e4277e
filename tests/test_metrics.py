"""Metrics against closed forms and SciPy; errors and floors against what many samples give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, wasserstein_distance

from caloforge.errors import CaloforgeError
from caloforge.evaluation.metrics import (
    METRICS,
    Joint,
    Profile,
    Values,
    bootstrap,
    correlations,
    estimate,
    fitting_bins,
    floor,
    halves,
    profile_positions,
    separation_power,
)
from caloforge.evaluation.response import energy_bins, mean_ratio, response_table, sigma_90

RNG = np.random.default_rng
finite = st.floats(-100, 100, allow_nan=False, width=32)


def test_separation_power_closed_forms() -> None:
    assert separation_power([1, 2, 3], [2, 4, 6]) == 0
    assert separation_power([1, 0], [0, 5]) == 1
    assert separation_power([1, 1], [1, 0]) == pytest.approx(0.5 * (0.25 / 1.5 + 0.25 / 0.5))
    assert np.isnan(separation_power([0, 0], [1, 0]))


@given(st.lists(finite, min_size=1, max_size=30), st.lists(finite, min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_wasserstein_is_scipys(a: list[float], b: list[float]) -> None:
    one, two = (Values(np.array(x), np.array([0.0, 1.0])) for x in (a, b))
    found = METRICS["wasserstein"].of(one, two)(np.ones(len(a)), np.ones(len(b)))
    assert found == pytest.approx(wasserstein_distance(a, b), abs=1e-9)


def test_wasserstein_of_a_shift() -> None:
    values = RNG(0).normal(size=500)
    one, two = Values(values, np.zeros(1)), Values(np.append(values + 0.3, np.nan), np.zeros(1))
    found = METRICS["wasserstein"].of(one, two)(np.ones(500), np.ones(501))
    assert found == pytest.approx(0.3, abs=1e-12)  # a shower without a value is left out


def test_wasserstein_of_profiles() -> None:
    """Energy moved by one layer is moved by one; flows lie one bin outside."""
    positions = profile_positions(np.arange(5) - 0.5, log=False)
    np.testing.assert_allclose(positions, [-1, 0, 1, 2, 3, 4])
    a = np.zeros((3, 6))
    b = np.zeros((2, 6))
    a[:, 2], b[:, 3] = 7, 2
    one, two = Profile(a, positions), Profile(b, positions)
    assert METRICS["wasserstein"].of(one, two)(np.ones(3), np.ones(2)) == pytest.approx(1)
    assert METRICS["separation"].of(one, two)(np.ones(3), np.ones(2)) == pytest.approx(1)


def test_bins_lose_nothing() -> None:
    """Under-, overflow, the closed last bin and showers without a value are all counted."""
    values = Values(np.array([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, np.nan]), np.array([0.0, 1.0, 2.0]))
    assert values.histogram().tolist() == [1, 2, 2, 1, 1]
    inside = Values(np.array([0.5, 0.5]), values.edges)
    undefined = Values(np.array([np.nan, np.nan]), values.edges)
    assert METRICS["separation"].of(inside, undefined)(np.ones(2), np.ones(2)) == 1


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("log", [False, True])
@given(values=st.lists(st.floats(0, 1e6, width=32), max_size=40))
@settings(max_examples=30, deadline=None)
def test_bins_always_rise(values: list[float], whole: bool, log: bool) -> None:
    edges = fitting_bins(np.floor(values) if whole else np.array(values), log=log, whole=whole)
    assert len(edges) >= 2 and len(edges) <= 60 and (np.diff(edges) > 0).all()


def test_error_covers() -> None:
    """The bootstrap error is the spread that repeated experiments show, to a few ten percent."""
    edges = np.linspace(-3, 4, 21)
    for name in ("separation", "wasserstein"):
        found = [
            estimate(
                METRICS[name],
                Values(RNG([i, 0]).normal(size=800), edges),
                Values(RNG([i, 1]).normal(0.5, 1, 800), edges),
                (bootstrap(800, RNG([i, 2]), 60), bootstrap(800, RNG([i, 3]), 60)),
            )
            for i in range(60)
        ]
        spread = np.std([f.value for f in found], ddof=1)
        assert np.mean([f.error for f in found]) == pytest.approx(spread, rel=0.3), name
        centre = np.mean([f.value for f in found])
        covered = np.mean([abs(f.value - centre) < f.error for f in found])
        assert 0.5 < covered < 0.85, name


def test_floor_is_what_equal_samples_give() -> None:
    """The floor of the reference matches the metric of fresh samples of the same kind, also at unequal sizes."""
    n, m = 2000, 500
    reference = RNG(0).normal(size=n)
    edges = np.linspace(-2, 2, 31)
    for name, tolerance in (("separation", 0.25), ("wasserstein", 0.5)):
        metric = METRICS[name]
        found = floor(metric, Values(reference, edges), (n, m), halves(n, RNG(1), 20))
        fresh = [
            metric.of(Values(RNG([i, 2]).normal(size=n), edges), Values(RNG([i, 3]).normal(size=m), edges))(
                np.ones(n), np.ones(m)
            )
            for i in range(30)
        ]
        assert found.value == pytest.approx(np.mean(fresh), rel=tolerance), name
        assert found.size == n // 2
    known = (32 - 1) / 4 * (1 / n + 1 / m)
    assert floor(METRICS["separation"], Values(reference, edges), (n, m), halves(n, RNG(1), 40)).value == pytest.approx(
        known, rel=0.15
    )


def test_floor_scale() -> None:
    """Two samples of N have half the separation power of two halves of one of them."""
    values = Values(RNG(0).normal(size=1000), np.linspace(-1, 1, 5))
    assert floor(METRICS["separation"], values, (1000, 1000), halves(1000, RNG(0))).scale == pytest.approx(0.5)
    assert floor(METRICS["wasserstein"], values, (1000, 1000), halves(1000, RNG(0))).scale == pytest.approx(
        np.sqrt(0.5)
    )


def test_correlations() -> None:
    rng = RNG(3)
    x = rng.normal(size=(4000, 3))
    x[:, 1] = 0.6 * x[:, 0] + 0.8 * x[:, 1]
    np.testing.assert_allclose(correlations(x), np.corrcoef(x.T), atol=1e-12)
    broken = np.vstack([x, [np.nan, 0, 0]])
    np.testing.assert_allclose(correlations(broken), np.corrcoef(x.T), atol=1e-12)
    constant = np.column_stack([x[:, 0], np.full(4000, 0.1)])
    assert correlations(constant)[0, 1] == 0
    y = rng.normal(size=(4000, 3))
    found = estimate(METRICS["correlation"], Joint(x), Joint(y), (bootstrap(4000, rng, 30), bootstrap(4000, rng, 30)))
    assert found.value == pytest.approx(0.6 * np.sqrt(1 / 3), abs=4 * found.error)


def test_metrics_refuse_other_kinds() -> None:
    values, joint = Values(np.zeros(2), np.array([0.0, 1.0])), Joint(np.zeros((2, 2)))
    for name, one, two in (
        ("separation", joint, joint),
        ("wasserstein", values, joint),
        ("correlation", values, joint),
    ):
        with pytest.raises(CaloforgeError):
            METRICS[name].of(one, two)


def test_sigma_90_of_a_gaussian() -> None:
    mean, sigma = sigma_90(np.sort(RNG(0).normal(10, 2, 200_000)))
    cut = norm.ppf(0.95)
    expected = np.sqrt(1 - 2 * cut * norm.pdf(cut) / 0.9)
    assert mean == pytest.approx(10, abs=0.1)
    assert sigma / 2 == pytest.approx(expected, abs=0.02)


def test_response_table() -> None:
    """Mean and resolution of a known response come back within their errors, which are the textbook ones."""
    rng = RNG(5)
    energy = rng.uniform(1e4, 1e5, 4000)
    edges = energy_bins(energy)
    table = response_table(energy, rng.normal(0.2, 0.01, 4000), edges, rng)
    assert sum(table["n"]) == 4000 and table["outside"] == [0]
    n = np.array(table["n"])
    np.testing.assert_allclose(table["mean"], 0.2, atol=0.0025)
    np.testing.assert_allclose(table["mean_error"], 0.01 / np.sqrt(n), rtol=0.4)
    np.testing.assert_allclose(table["resolution_error"], 0.05 / np.sqrt(2 * n), rtol=0.4)
    other = response_table(energy, rng.normal(0.19, 0.01, 4000), edges, rng)
    ratio = mean_ratio(table, other, "mean")
    assert ratio is not None and ratio["value"] == pytest.approx(0.95, abs=5 * ratio["error"])
    few = response_table(energy[:30], np.full(30, 0.2), edges, rng)
    assert few["mean"][0] is None and mean_ratio(few, few, "mean") is None


def test_energy_bins() -> None:
    assert len(energy_bins(np.full(100, 5e4))) == 2
    points = np.repeat(2.0 ** np.arange(8, 23), 20)
    edges = energy_bins(points)
    assert (np.histogram(points, edges)[0] == 20).all()
    wide = 10 ** RNG(0).uniform(3, 6, 5000)
    assert np.diff(np.log(energy_bins(wide))).std() < 1e-9
    assert np.diff(energy_bins(RNG(0).uniform(1e3, 1e5, 5000))).std() < 1e-6
