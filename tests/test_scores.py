"""Proper scores: their closed forms, and that nothing does better than the truth."""

import math

import pytest
import torch

from caloforge.models.scores import crps, energy_score


def test_crps_of_normal_numbers_is_the_closed_form():
    """Gneiting and Raftery 2007, eq. 21 ff.: sigma (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi))."""
    n, rng = 400_000, torch.Generator().manual_seed(0)
    for true, sigma in ((0.0, 1.0), (1.5, 1.0), (-2.0, 3.0)):
        one, two = sigma * torch.randn(2, n, generator=rng)
        z = true / sigma
        normal = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        expected = sigma * (z * math.erf(z / math.sqrt(2)) + 2 * normal - 1 / math.sqrt(math.pi))
        assert float(crps(one, two, torch.tensor(true)).mean()) == pytest.approx(expected, abs=0.01 * sigma)


def test_the_energy_score_of_one_dimension_is_the_crps():
    one, two, true = torch.randn(3, 50, 1, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(energy_score(one, two, true), crps(one, two, true)[:, 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("wrong", [{"spread": 0.8}, {"spread": 1.25}, {"shift": 0.3}, {"together": 0.0}])
def test_who_draws_as_the_truth_does_has_the_lowest_score(wrong):
    """Two numbers that vary together, and those who draw too narrowly, too widely, beside, or each by itself."""

    def pairs(rng, spread=1.0, shift=0.0, together=0.8):
        x = torch.randn(2, 200_000, generator=rng)
        return spread * torch.stack([x[0], together * x[0] + math.sqrt(1 - together**2) * x[1]], dim=1) + shift

    rng = torch.Generator().manual_seed(0)
    true = pairs(rng)
    right, other = (energy_score(pairs(rng, **how), pairs(rng, **how), true) for how in ({}, wrong))
    difference = (other - right).mean() / (other - right).std() * len(true) ** 0.5
    assert float(difference) > 3, "in standard errors"
