"""Metrics against closed forms and SciPy; errors and floors against what many samples give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, wasserstein_distance

from caloforge.errors import CaloforgeError
from caloforge.evaluation.distributions import Binned, Joint, Profile, Values, fitting_bins, profile_positions
from caloforge.evaluation.metrics import METRICS, correlations, separation_power
from caloforge.evaluation.resampling import bootstrap, estimate, floor, halves
from caloforge.evaluation.response import (
    FIGURES,
    energy_bins,
    energy_groups,
    half_ratios,
    mean_ratio,
    ratio_tables,
    response_table,
    sigma_90,
)

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
        ("sparsity", joint, values),
        ("response", joint, joint),
        ("resolution", values, values),
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


def test_moments_in_bins() -> None:
    """Weighted mean and width in each bin are NumPy's of the showers repeated; small bins have none."""
    rng = RNG(1)
    values, group = rng.normal(5, 1, 200), np.repeat([0, 1, 2, -1], [90, 90, 15, 5])
    values[3] = np.nan
    weights = rng.integers(0, 3, 200)
    mean, sigma = Binned(values, group, 4).moments(weights.astype(float))
    for b in range(2):
        chosen = (group == b) & np.isfinite(values)
        repeated = np.repeat(values[chosen], weights[chosen])
        assert mean[b] == pytest.approx(repeated.mean()) and sigma[b] == pytest.approx(repeated.std(ddof=1))
    assert np.isnan(mean[2:]).all() and np.isnan(sigma[2:]).all()


def test_response_deviations() -> None:
    """A response 5 % too high in one bin and 3 % too low in the other is off by 4 % on average, its width by 20 %."""
    values, group = RNG(2).normal(0.2, 0.01, 400), np.repeat([0, 1], 200)
    reference, ones = Binned(values, group, 2), np.ones(400)
    centre = np.where(group == 0, values[:200].mean(), values[200:].mean())
    scaled = Binned(np.where(group == 0, 1.05, 0.97) * values, group, 2)
    wider = Binned(centre + 1.2 * (values - centre), group, 2)
    assert METRICS["response"].of(reference, scaled)(ones, ones) == pytest.approx(0.04)
    assert METRICS["resolution"].of(reference, scaled)(ones, ones) == pytest.approx(0, abs=1e-12)
    assert METRICS["response"].of(reference, wider)(ones, ones) == pytest.approx(0, abs=1e-12)
    assert METRICS["resolution"].of(reference, wider)(ones, ones) == pytest.approx(0.2)
    nothing = Binned(values, np.full(400, -1), 2)
    assert np.isnan(METRICS["response"].of(reference, nothing)(ones, ones))


def test_ratio_floors_are_what_equal_samples_give() -> None:
    """Ratios of fresh equal samples scatter about 1 as the floor says, in every bin and on average."""
    n, edges = 2000, np.array([0.0, 1.0, 2.0])
    energy = np.linspace(0, 2, n)
    response = [RNG([i, 7]).normal(0.2, 0.01, n) for i in range(41)]
    splits = halves(n, RNG(0), 40)
    halved = half_ratios(energy, response[0], edges, splits)
    assert halved.shape == (40, 2, 3)
    tables = [response_table(energy, r, edges, RNG(1), resamples=20) for r in response]
    found = [ratio_tables(tables[0], other, halved, (n, n)) for other in tables[1:]]
    fresh = [ratio_tables(a, b, halved, (n, n)) for a, b in zip(tables[1::2], tables[2::2], strict=True)]
    for name in FIGURES:
        bottom = found[0]["ratio"][name]["floor"]
        assert bottom["scale"] == pytest.approx(np.sqrt(0.5)) and bottom["size"] == n // 2
        assert bottom["value"] == pytest.approx(1, abs=bottom["error"])
        spread = np.std([f["ratio"][name]["value"] for f in fresh], ddof=1)
        assert bottom["error"] == pytest.approx(spread, rel=0.6), name  # 20 pairs know their spread to 16 %
        assert all(e["floor"]["error"] > bottom["error"] for e in found[0]["ratio_by_energy"][name])


def test_energy_groups() -> None:
    assert energy_groups(np.array([0.0, 1.0, 1.5, 3.0, 3.1, -0.1]), np.array([0.0, 1.0, 3.0])).tolist() == [
        0, 1, 1, 1, -1, -1,
    ]  # fmt: skip


def test_sparsity_difference() -> None:
    one, two = Joint(np.full((4, 3), 0.9)), Joint(np.full((5, 3), 0.9) - [0.0, 0.1, 0.2])
    assert METRICS["sparsity"].of(one, two)(np.ones(4), np.ones(5)) == pytest.approx(0.1)
