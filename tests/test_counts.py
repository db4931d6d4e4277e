"""How many towers of a whole event are hit."""

import numpy as np
import pytest
import torch

from caloforge.models.blockwise import Blocks
from caloforge.models.counts import BLUR, Counts
from caloforge.models.fast_blocks import FastBlocks
from conftest import learn


def counts_of(variance):
    zeros = torch.zeros(len(variance), 6)
    counts = Counts.of(torch.full_like(variance, 8.0), torch.zeros(len(variance), 3, *variance.shape[2:]), zeros)
    return counts._replace(variance=variance)


def test_what_is_lacking_is_shared_as_normal_numbers_of_known_sum_are():
    rng = np.random.default_rng(0)
    variance = torch.from_numpy(rng.uniform(1, 9, (1, 1, 2, 3)).astype(np.float32))
    free = torch.tensor([1.0, 1, 0, 1, 1, 1]).reshape(1, 1, 2, 3)
    shift, narrower = counts_of(variance).shares(torch.full((1, 1, 1, 1), 11.0), free)
    left = [0, 1, 3, 4, 5]
    v = variance.flatten().double().numpy()[left]
    # Independent numbers whose sum is known but for the blur: means and variances of a conditional normal density.
    known = v.sum() + BLUR**2
    assert shift.flatten()[left].tolist() == pytest.approx(v / known * 11, rel=1e-5)
    conditional = np.diag(np.diag(v) - np.outer(v, v) / known)
    assert narrower.flatten()[left].tolist() == pytest.approx(np.sqrt(conditional / v), rel=1e-5)
    assert narrower.flatten()[2] == 1


def test_the_density_of_all_is_that_of_the_sum_where_nothing_is_learnt_yet():
    variance = torch.full((1, 1, 9, 9), 4.0)
    counts = Counts.of(torch.full_like(variance, 8.0), torch.zeros(1, 3, 9, 9), torch.zeros(1, 6))
    noise = torch.randn(2, 20_000, generator=torch.Generator().manual_seed(0))
    root = counts.root
    many = root._replace(**{k: v.expand(20_000, -1) for k, v in root._asdict().items()})
    _, drawn = many.draw(*noise)
    total = drawn.square()
    assert float(total.mean()) == pytest.approx(float(counts.expected.sum()), rel=0.01)
    assert float(total.std()) == pytest.approx(float((counts.variance.sum() + BLUR**2).sqrt()), rel=0.03)
    axis = torch.linspace(20, 50, 3001)
    each = root._replace(**{k: v.expand(3001, -1) for k, v in root._asdict().items()})
    density = torch.exp(-each.minus_log_likelihood(torch.zeros(3001, dtype=torch.long), axis))
    assert float(density.sum() * 0.01) == pytest.approx(1, abs=1e-3)


def test_numbers_of_an_event_vary_together_however_far_apart_its_blocks_are():
    """Events with many or few towers, which the fast image does not tell: ten blocks in a row, no two alike."""
    rng, n_blocks = torch.Generator().manual_seed(0), 10
    torch.manual_seed(0)
    blocks = Blocks(1, (1, n_blocks), 64, 12, 2, 1.0)
    phi = torch.arange(n_blocks) * 2 * np.pi / n_blocks
    aim = torch.stack([phi.cos(), phi.sin()])[:, None]

    def events(n):
        energy = 20 + 10 * torch.rand(n, 1, 1, n_blocks, generator=rng)
        activity = torch.exp(0.3 * torch.randn(n, 1, 1, 1, generator=rng)).clamp(0.4, 2.5)
        number = torch.poisson(activity * 15 * torch.ones(n_blocks), generator=rng).clamp(1, 64)
        return FastBlocks(
            torch.zeros_like(energy), energy, torch.full_like(energy, 4.0), aim.expand(n, -1, -1, -1)
        ), number

    def misjudged(fast, number):
        one = torch.ones_like(number)
        return blocks.minus_log_likelihood(fast, blocks.outlook(fast), 100 * one, fast.energy, number, one, rng).mean()

    learn(blocks, lambda: misjudged(*events(64)), 400, lr=1e-2)
    fast, number = events(3000)
    with torch.no_grad():
        noise = torch.randn(3000, blocks.n_noise, generator=rng)
        _, drawn = blocks.draw(fast, blocks.outlook(fast), 100 * fast.energy, noise)
    for x in (lambda n: n.sum((1, 2, 3)), lambda n: n[..., 0]):
        assert float(x(drawn).mean()) == pytest.approx(float(x(number).mean()), rel=0.05)
        # Did each block see its neighbours alone, all together would vary half as much.
        assert float(x(drawn).std()) == pytest.approx(float(x(number).std()), rel=0.2)
