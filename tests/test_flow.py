import math

import pytest
import torch

from caloforge.models.flow import ChainFlow, RunningScale, spline


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


def wild_flow(n_layers):
    flow = ChainFlow(n_layers, 2, hidden=8, bins=4)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=rng))
    flow.scale.see(3 + 2 * torch.randn(500, 2 * n_layers, generator=rng))
    return flow.double()


@pytest.mark.parametrize("n_layers", [1, 2, 4])
def test_flow_comes_back_and_counts_volume(n_layers):
    flow = wild_flow(n_layers)
    rng = torch.Generator().manual_seed(2)
    context = torch.randn(6, 2, generator=rng, dtype=torch.float64)
    noise = 0.7 * torch.randn(6, 2 * n_layers, generator=rng, dtype=torch.float64)
    flow.scale.low.fill_(-1e6)
    flow.scale.high.fill_(1e6)
    x = flow(noise, context)
    again, log_det = flow.to_noise(x, context)
    torch.testing.assert_close(again, noise, rtol=0, atol=1e-7)
    for i in range(len(x)):

        def map_one(v, i=i):
            return flow.to_noise(v[None], context[i : i + 1])[0][0]

        jacobian = torch.autograd.functional.jacobian(map_one, x[i])
        expected = jacobian.det().abs().log() + flow.scale.deviation.log().sum()
        torch.testing.assert_close(log_det[i], expected, rtol=1e-5, atol=1e-6)


def test_flow_learns_a_conditional_chain():
    """Two layers: the total follows the context; hits of the second layer follow those of the first."""
    torch.manual_seed(0)
    flow = ChainFlow(2, 1, hidden=16, bins=8)
    rng = torch.Generator().manual_seed(0)

    def draw(n):
        c = torch.rand(n, 1, generator=rng)
        total = c[:, 0] + 0.1 * torch.randn(n, generator=rng)
        first = 3 + c[:, 0] + 0.5 * torch.randn(n, generator=rng)
        logit = torch.randn(n, generator=rng) - first
        return torch.stack([total, first, logit, 8 - first + 0.2 * torch.randn(n, generator=rng)], 1), c

    optimiser = torch.optim.Adam(flow.parameters(), lr=1e-2)
    for step in range(500):
        for group in optimiser.param_groups:
            group["lr"] = 1e-2 * (1 - step / 500)
        x, c = draw(256)
        flow.scale.see(x)
        optimiser.zero_grad()
        flow.loss(x, c).mean().backward()
        optimiser.step()
    c = torch.full((4000, 1), 0.5)
    x = flow(torch.randn(4000, 4, generator=rng), c).detach()
    assert abs(float(x[:, 0].mean()) - 0.5) < 0.03
    assert abs(float(x[:, 0].std()) - 0.1) < 0.03
    assert abs(float(x[:, 1].std()) - 0.5) < 0.1
    assert float((x[:, 1] + x[:, 3] - 8).std()) < 0.3
    assert float((x[:, 1] + x[:, 2]).std()) < 1.2


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
