import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, norm

from caloforge.models.neighbours import NeighbourNoise, minus_log_pair

EQUAL = [(7, 8)] * 2
UNEQUAL = [(3, 9), (6, 6), (3, 9), (1, 4)]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def correlated(layers, share=1.0, slope=0.2):
    module = NeighbourNoise(layers, max(y * x for y, x in layers))
    with torch.no_grad():
        module.share[:] = torch.tensor([share, slope])
        module.weight[:] = torch.tensor([0.0, -1.0, -1.5, -2.0, -3.0])
    return module


def mixing(module, raw):
    """The matrix (L K, L K) that the module applies to white noise for the raw values (L, K)."""
    n = raw.numel()
    unit = torch.eye(n).reshape(n, *raw.shape)
    return module(unit, raw.expand(n, *raw.shape)).reshape(n, n).T.detach()


@pytest.mark.parametrize("layers", [EQUAL, UNEQUAL])
def test_noise_stays_standard_normal_and_within_its_layer(layers):
    module = correlated(layers)
    mix = mixing(module, 3 * normal(len(layers), module.width))
    used = torch.cat([torch.arange(module.width) < y * x for y, x in layers])
    covariance = mix @ mix.T
    torch.testing.assert_close(covariance.diagonal()[used], torch.ones(int(used.sum())), rtol=1e-5, atol=0)
    layer = torch.arange(len(layers)).repeat_interleave(module.width)
    assert not covariance[layer[:, None] != layer[None]].any()
    assert not covariance[~used].any() and not covariance[:, ~used].any()


def test_starts_nearly_independent():
    module = NeighbourNoise(EQUAL, 56)
    white = normal(1, 2, 56)
    assert (module(white, torch.zeros(1, 2, 56)) - white).abs().max() < 0.4


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(-0.9, 0.9))
@settings(max_examples=40)
def test_pairs_against_the_bivariate_normal_distribution(a, b, correlation):
    both = multivariate_normal(cov=[[1, correlation], [correlation, 1]]).cdf([a, b])
    p_a, p_b = norm.cdf(a), norm.cdf(b)
    wanted = {(1, 1): both, (1, 0): p_a - both, (0, 1): p_b - both, (0, 0): 1 - p_a - p_b + both}
    for (hit_a, hit_b), chance in wanted.items():
        numbers = (torch.tensor(x, dtype=torch.float64) for x in (a, b, correlation))
        got = math.exp(-float(minus_log_pair(*numbers, torch.tensor(bool(hit_a)), torch.tensor(bool(hit_b)))))
        assert got == pytest.approx(chance, abs=3e-4)


def test_the_loss_knows_the_correlation_that_the_noise_has():
    """In the middle of a layer, where no neighbour is missing, by the loss of pairs alone."""
    module = correlated([(9, 9)], slope=0.3)
    raw = normal(1, 81, seed=3)
    mix = mixing(module, raw)
    covariance = mix @ mix.T
    share, kernel = module._shares(raw[None]), module._kernel()[0, 0]
    here, there = 4 * 9 + 4, 4 * 9 + 5
    overlap = torch.nn.functional.conv2d(kernel[None, None], kernel[None, None], padding=2)[0, 0]
    s, t = share[0, 0, here], share[0, 0, there]
    power = kernel.square().sum()
    expected = (kernel[2, 3] * (s + t) + s * t * overlap[2, 3]) / ((1 + s**2 * power) * (1 + t**2 * power)).sqrt()
    torch.testing.assert_close(covariance[here, there], expected.detach(), rtol=1e-4, atol=1e-6)


def test_the_loss_is_least_at_the_truth():
    truth = correlated([(20, 20)], share=0.0, slope=0.3)
    raw = (2 * normal(60, 1, 400, seed=1) - 2).requires_grad_(False)
    with torch.no_grad():
        hit = truth(normal(60, 1, 400, seed=2), raw) < torch.special.ndtri(torch.sigmoid(raw))
        assert abs(hit.float().mean() - torch.sigmoid(raw).mean()) < 0.01  # probabilities stay

        def loss(share, slope):
            return float(correlated([(20, 20)], share=share, slope=slope).pair_loss(raw, hit).mean())

        best = loss(0.0, 0.3)
        others = [loss(-3.0, 0.0), loss(-1.0, 0.3), loss(1.0, 0.3), loss(0.0, -0.2), loss(0.0, 0.9)]
    assert all(best < other for other in others), (best, others)


def test_learns_correlation_by_gradient():
    truth, module = correlated([(16, 16)], slope=0.0), NeighbourNoise([(16, 16)], 256)
    raw = torch.full((80, 1, 256), -1.0)
    with torch.no_grad():
        hit = truth(normal(80, 1, 256, seed=4), raw) < torch.special.ndtri(torch.sigmoid(raw))
    optimiser = torch.optim.Adam(module.parameters(), 0.1)
    for _ in range(60):
        optimiser.zero_grad()
        module.pair_loss(raw, hit).mean().backward()
        optimiser.step()
    wanted, got = (mixing(m, raw[0]) for m in (truth, module))
    here, there = 8 * 16 + 8, 8 * 16 + 9
    assert (got @ got.T)[here, there] == pytest.approx(float((wanted @ wanted.T)[here, there]), abs=0.06)


def test_hits_come_in_clusters_when_drawn():
    raw = torch.full((200, 1, 400), -3.0)
    white = normal(200, 1, 400, seed=5)

    def neighbours(noise):
        hit = (noise < torch.special.ndtri(torch.sigmoid(raw))).reshape(200, 20, 20).float()
        return float((hit[:, :, 1:] * hit[:, :, :-1]).mean() / hit.mean() ** 2)

    with torch.no_grad():
        assert neighbours(white) < 1.4 < 2 < neighbours(correlated([(20, 20)])(white, raw))
