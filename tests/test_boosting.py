import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

from caloforge.training.boosting import beta_of, boost, boosting_weights, mixture_shares, resample


@given(
    st.lists(st.floats(0.001, 0.999), min_size=1, max_size=60),
    st.floats(0.01, 0.99),
)
def test_lambda_is_the_brute_force_one(probability, beta):
    d = np.array(probability)
    odds = (1 - d) / d

    def excess(level):
        return np.maximum(level - (1 - beta) * odds, 0).mean() / beta - 1

    expected = optimize.brentq(excess, 0, 1 + beta + odds.max(), xtol=1e-13, rtol=1e-13)
    level, weights = boosting_weights(d, beta)
    assert level == pytest.approx(expected, rel=1e-8)
    assert weights.sum() == pytest.approx(1)
    by_hand = np.maximum(expected - (1 - beta) * odds, 0) / len(d) / beta
    np.testing.assert_allclose(weights, by_hand, rtol=1e-6, atol=1e-8)


def test_showers_the_mixture_makes_too_often_are_not_shown_again():
    _, weights = boosting_weights(np.array([0.9, 0.9, 0.1]), 0.5)
    assert weights[2] == 0
    assert weights[0] == weights[1] == pytest.approx(0.5)


def test_no_difference_means_equal_weights():
    level, weights = boosting_weights(np.full(7, 0.5), 0.3)
    assert level == pytest.approx(1)
    np.testing.assert_allclose(weights, 1 / 7)


def test_shares():
    np.testing.assert_allclose(mixture_shares(5, "uniform"), 0.2)
    np.testing.assert_allclose(mixture_shares(3, 0.5), [0.25, 0.25, 0.5])
    assert mixture_shares(1, 0.3) == [1.0]
    assert beta_of(4, "uniform") == 0.2


def test_resampling_takes_each_shower_as_often_as_its_weight_says():
    weights = np.array([0.1, 0.0, 0.55, 0.35])
    rows = resample(weights, 1001, np.random.default_rng(0))
    counts = np.bincount(rows, minlength=4)
    assert len(rows) == 1001
    assert (np.abs(counts - 1001 * weights) <= 1).all()


def test_boosting_alternates_and_weighs_by_the_discriminator():
    calls = []

    def fit(number, weights):
        calls.append(("fit", number, weights.copy()))

    def discriminate(step):
        calls.append(("discriminate", step))
        return np.array([0.8, 0.2])

    assert boost(2, 3, "uniform", fit, discriminate) == pytest.approx([1 / 3] * 3)
    assert [call[:2] for call in calls] == [
        ("fit", 0),
        ("discriminate", 1),
        ("fit", 1),
        ("discriminate", 2),
        ("fit", 2),
    ]
    np.testing.assert_allclose(calls[0][2], 0.5)
    assert calls[2][2][0] > calls[2][2][1]
