import math

import pytest
import torch

from caloforge.models.flow import ConditionalFlow, RunningScale, spline


def test_spline_begins_as_the_identity():
    x = torch.linspace(-7, 7, 101)
    y, log_slope = spline(x, torch.zeros(101, 3 * 8 - 1), 5.0)
    torch.testing.assert_close(y, x)
    torch.testing.assert_close(log_slope, torch.zeros(101), atol=1e-5, rtol=0)


def test_spline_rises_comes_back_and_knows_its_slope():
    rng = torch.Generator().manual_seed(1)
    raw = 2 * torch.randn(1, 3 * 6 - 1, generator=rng, dtype=torch.float64)
    x = torch.linspace(-6, 6, 1202, dtype=torch.float64, requires_grad=True)
    y, log_slope = spline(x, raw.expand(1202, -1), 5.0)
    assert (y.diff() > 0).all()
    (slope,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(log_slope.exp(), slope, rtol=1e-6, atol=1e-8)
    back, log_back = spline(y, raw.expand(1202, -1), 5.0, inverse=True)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-8)
    torch.testing.assert_close(log_back, -log_slope, rtol=0, atol=1e-6)


def wild_flow(size):
    flow = ConditionalFlow(size, 2, couplings=3, hidden=8, bins=4)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=rng))
    flow.scale.see(3 + 2 * torch.randn(500, size, generator=rng))
    return flow.double()


@pytest.mark.parametrize("size", [1, 2, 5])
def test_flow_comes_back_and_counts_volume(size):
    flow = wild_flow(size)
    rng = torch.Generator().manual_seed(2)
    context = torch.randn(4, 2, generator=rng, dtype=torch.float64)
    noise = 0.8 * torch.randn(4, size, generator=rng, dtype=torch.float64)
    x = flow(noise, context)
    again, log_det = flow.to_noise(x, context)
    inside = ((x > flow.scale.low) & (x < flow.scale.high)).all(1)
    assert inside.any()
    torch.testing.assert_close(again[inside], noise[inside], rtol=0, atol=1e-7)
    for i in torch.nonzero(inside).flatten().tolist():
        jacobian = torch.autograd.functional.jacobian(
            lambda v, i=i: flow.to_noise(v[None], context[i : i + 1])[0][0], x[i]
        )
        expected = jacobian.det().abs().log() + flow.scale.deviation.log().sum()
        torch.testing.assert_close(log_det[i], expected, rtol=1e-5, atol=1e-6)


def test_flow_learns_a_conditional_density():
    torch.manual_seed(0)
    flow = ConditionalFlow(2, 1, couplings=4, hidden=16, bins=6)
    rng = torch.Generator().manual_seed(0)

    def draw(n):
        c = torch.rand(n, 1, generator=rng)
        a = (1 + c[:, 0]) * torch.randn(n, generator=rng) + 5 * c[:, 0]
        b = a.square() / 4 + 0.3 * torch.randn(n, generator=rng)
        return torch.stack([a, b], 1), c

    optimiser = torch.optim.Adam(flow.parameters(), lr=5e-3)
    for _ in range(600):
        x, c = draw(256)
        flow.scale.see(x)
        optimiser.zero_grad()
        flow.loss(x, c).mean().backward()
        optimiser.step()
    c = torch.full((4000, 1), 0.5)
    x = flow(torch.randn(4000, 2, generator=rng), c).detach()
    assert abs(float(x[:, 0].mean()) - 2.5) < 0.15
    assert abs(float(x[:, 0].std()) - 1.5) < 0.15
    assert float((x[:, 1] - x[:, 0].square() / 4).std()) < 0.6


def test_scale_gathers_mean_deviation_and_range():
    rng = torch.Generator().manual_seed(0)
    parts = [torch.randn(50, 3, generator=rng) * 2 + 7 for _ in range(4)]
    scale = RunningScale(3)
    for part in parts:
        scale.see(part)
    x = torch.cat(parts)
    torch.testing.assert_close(scale.mean, x.mean(0))
    torch.testing.assert_close(scale.deviation, x.std(0, correction=0), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(scale.inverse(scale(x)), x)
    assert torch.equal(scale.inverse(torch.full((1, 3), math.inf))[0], x.amax(0))
