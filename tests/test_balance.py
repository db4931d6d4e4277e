import math

import numpy as np
import pytest
import torch

from caloforge.models.balance import Foresight, MomentumDensity, Outlook
from caloforge.models.blockwise import Blocks
from caloforge.models.expectation import Expectation, Expected
from caloforge.models.fast_blocks import FastBlocks
from caloforge.models.shares import Shares
from caloforge.models.splitting import repeated
from conftest import learn


def blocks_of(energy, aim, context=None):
    return FastBlocks(torch.zeros_like(energy) if context is None else context, energy, torch.ones_like(energy), aim)


def expected_of(energy, aim, variance):
    return Expected(energy, energy * aim.norm(dim=1, keepdim=True), variance)


def density_of(n=1, m=3):
    rng = torch.Generator().manual_seed(0)
    direction = torch.tensor([[math.cos(1.0), math.sin(1.0)]])
    share = torch.randn(1, m, generator=rng).log_softmax(1)
    mean, log_width = 3 * torch.randn(1, m, 2, generator=rng), 0.3 * torch.randn(1, m, 2, generator=rng)
    return MomentumDensity(*(part.expand(n, *part.shape[1:]) for part in (direction, share, mean, log_width)))


def test_densities_of_momenta_are_normalised_and_drawn_as_they_say():
    axis = torch.linspace(-16, 16, 321)
    grid = torch.cartesian_prod(axis, axis)
    weight = torch.exp(-density_of(len(grid)).minus_log_likelihood(grid)) * 0.1**2
    assert float(weight.sum()) == pytest.approx(1, abs=1e-4)
    mean = weight @ grid
    covariance = (weight[:, None] * (grid - mean)).T @ (grid - mean)
    n = 100_000
    drawn = density_of(n).draw(torch.randn(n, 3, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(drawn.mean(0), mean, rtol=0, atol=0.05)
    torch.testing.assert_close(drawn.T.cov(), covariance, rtol=0.03, atol=0.05)


def test_what_is_missing_is_shared_out_as_gauss_and_markov_say():
    """Three jets in a plane: against least squares with the same variances, solved as such."""
    rng = np.random.default_rng(0)
    aim = torch.from_numpy(rng.normal(size=(1, 2, 2, 4)).astype(np.float32))
    energy, variance, free = torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 2, 4), torch.ones(1, 1, 2, 4)
    for place, value, spread in (((0, 0), 60.0, 70.0), ((0, 2), 45.0, 40.0), ((1, 3), 12.0, 9.0)):
        energy[0, 0][place], variance[0, 0][place] = value, spread
    free[0, 0, 1, 3] = 0.0  # drawn already: it has no share
    missing, blur = torch.tensor([7.0, -4.0]), 2.0
    shares = Shares.of(blocks_of(energy, aim), expected_of(energy, aim, variance), blur)
    owed, narrower = shares(missing[None, :, None, None], free)
    again = shares.repeated(2)(missing[None, :, None, None], repeated(free, 2))
    torch.testing.assert_close(again[0], torch.cat([owed, owed]))
    jets = [0, 2]
    size = aim.norm(dim=1).flatten().double().numpy()
    unit = (aim.reshape(2, 8).double().numpy() / size)[:, jets].T  # (2 jets, 2)
    # Least squares: sum of d^2 / variance, and of what is still missing, squared, over blur^2.
    weight = np.diag(1 / variance.flatten().double().numpy()[jets]) + unit @ unit.T / blur**2
    change = -np.linalg.solve(weight, unit @ missing.double().numpy() / blur**2)
    et = energy.flatten().numpy()[jets] * size[jets]
    assert owed.flatten()[jets].tolist() == pytest.approx((change / (et + blur)).clip(-0.6, 0.6), rel=1e-4)
    assert owed[0, 0, 0, 1] == 0.0
    left = np.sqrt(np.diag(np.linalg.inv(weight)) / variance.flatten().numpy()[jets])
    assert narrower.flatten()[jets].tolist() == pytest.approx(left, rel=1e-4)
    assert narrower[0, 0, 1, 3] == 1.0 and narrower[0, 0, 0, 1] == 1.0


def test_blocks_drawn_at_once_make_good_for_each_other():
    """Correlations of normal distributions of a known sum, from the inverse of the covariance; each alone as before."""
    rng = torch.Generator().manual_seed(0)
    energy, phi = 10 * torch.rand(1, 1, 3, 4, generator=rng), 6.28 * torch.rand(1, 1, 3, 4, generator=rng)
    aim, variance, blur = torch.cat([phi.cos(), phi.sin()], dim=1), energy + 1, 2.0
    now = torch.zeros(1, 1, 3, 4)
    now[0, 0, 1:] = 1.0
    free = now.clone()
    free[0, 0, 0, :2] = 1.0
    n = 100_000
    shares = Shares.of(blocks_of(energy, aim), expected_of(energy, aim, variance), blur).repeated(n)
    normal, others = torch.randn(n, 1, 3, 4, generator=rng), torch.randn(n, 2, generator=rng)
    found = shares.together(normal, now.expand(n, -1, -1, -1), free.expand(n, -1, -1, -1), others)
    drawn = found.flatten(1)[:, 4:].double()
    unit, spread = aim[0].flatten(1).T.double(), variance.flatten().double()
    total = (unit.T * (spread * free.flatten())) @ unit + blur**2 * torch.eye(2)
    toward = spread[4:, None] * unit[4:]
    covariance = torch.diag(spread[4:]) - toward @ torch.linalg.inv(total) @ toward.T
    size = covariance.diagonal().sqrt()
    torch.testing.assert_close(drawn.T.cov(), covariance / torch.outer(size, size), rtol=0, atol=0.02)
    assert float((covariance / torch.outer(size, size)).fill_diagonal_(0).abs().max()) > 0.1
    assert drawn.mean(0).abs().max() < 0.02


def test_momenta_along_blocks():
    energy = torch.zeros(1, 1, 2, 4)
    energy[0, 0, 0, 1], energy[0, 0, 1, 3] = 30 * math.cosh(1.0), 20 * math.cosh(2.0)  # back to back
    phi, cosh = (torch.arange(4) + 0.5) * math.pi / 2, torch.tensor([[1.0], [2.0]]).cosh()
    aim = torch.stack([phi.cos() / cosh, phi.sin() / cosh]).unsqueeze(0)
    for turn in range(4):
        fast = blocks_of(energy.roll(turn, dims=3), aim)
        momentum = (fast.energy * aim).sum((2, 3), keepdim=True)
        along = (
            Shares.of(fast, expected_of(fast.energy, aim, torch.ones_like(energy)), 1.0)
            .along(momentum)
            .roll(-turn, dims=3)[0, 0]
        )
        assert along[0].tolist() == pytest.approx([0, 10.0, 0, -10.0], abs=1e-4)
        torch.testing.assert_close(along[0], along[1])


def test_how_well_blocks_are_measured_is_learnt_from_the_half_that_lies_nearest():
    """Two kinds of blocks, one known to 2 % but for a tenth that is lost, the other known to 20 %."""
    torch.manual_seed(0)
    rng, n = torch.Generator().manual_seed(0), 4000
    energy = (20 + 40 * torch.rand(n, 1, 1, 2, generator=rng)).contiguous()
    kind = torch.tensor([0.0, 1.0]).expand(n, 1, 1, 2)
    width = torch.where(kind > 0, 0.02, 0.2)
    lost = (kind > 0) & (torch.rand(kind.shape, generator=rng) < 0.1)
    full = torch.where(lost, 0.1, 1.0) * energy * (1 + width * torch.randn(kind.shape, generator=rng))
    fast = blocks_of(energy, torch.tensor([[[0.5, 0.0]], [[0.0, 0.5]]]).expand(n, 2, 1, 2), kind)
    outlook = Outlook(1, 3, 2, 1.0, width=8)
    optimiser = torch.optim.Adam(outlook.parameters(), lr=2e-2)
    for _ in range(200):
        loss = outlook(fast).misfit(fast, full, 1.0).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        variance = outlook(fast).variance
    found = (variance.sqrt() / (0.5 * energy)).mean((0, 1, 2)).tolist()
    assert found == pytest.approx([0.2, 0.023], rel=0.2)
    faint = blocks_of(0.1 * energy / energy, fast.aim, kind)
    assert (outlook(faint).misfit(faint, full, 1.0) == 0).all()


def turned(aim, angle):
    x, y = aim.unbind(1)
    return torch.stack([x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)], dim=1)


def test_an_event_turned_is_seen_alike():
    torch.manual_seed(0)
    outlook = Outlook(2, 5, 3, 1.0, width=8)
    torch.nn.init.normal_(outlook.momentum.weight)  # nothing is seen of what is nearly zero
    energy, aim = 40 * torch.rand(4, 1, 3, 5), torch.randn(4, 2, 3, 5)
    context, noise = torch.randn(4, 2, 3, 5), torch.randn(4, 3)
    found = [outlook(blocks_of(energy, turned(aim, angle), context)) for angle in (0.0, 2.0)]
    for one, two in zip(*(f[:3] for f in found), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)
    one, two = (f.momentum.draw(noise) for f in found)
    torch.testing.assert_close(turned(one, 2.0), two, rtol=1e-3, atol=1e-2)
    # Nothing to point along, and nothing at all.
    for some in (energy, torch.zeros_like(energy)):
        density = outlook(
            blocks_of(some, aim - (some * aim).sum((2, 3), keepdim=True) / (some.sum() + 1), context)
        ).momentum
        assert torch.isfinite(density.draw(noise)).all()
    symmetric = FastBlocks(context[..., :4], torch.ones(4, 1, 3, 4), torch.ones(4, 1, 3, 4), cross(4))
    assert torch.isfinite(outlook(symmetric).momentum.minus_log_likelihood(noise[:, :2])).all()


def test_blocks_are_expected_as_they_turn_out():
    """Some blocks keep 0.4 of the fast energy and vary by 5 GeV, others keep all, to a tenth; some are empty."""
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(0)
    expectation = Expectation(1, 1.0, width=16)

    def blocks(n):
        kind = (torch.rand(n, 1, 3, 4, generator=rng) < 0.5).float()
        energy = 40 + 40 * torch.rand(n, 1, 3, 4, generator=rng)
        empty = torch.rand(n, 1, 3, 4, generator=rng) < 0.2
        normal = torch.randn(n, 1, 3, 4, generator=rng)
        full = torch.where(kind > 0, 0.4 * energy + 10 * normal, energy * (1 + 0.1 * normal))
        full = torch.where(empty, 2.0 * torch.rand(n, 1, 3, 4, generator=rng), full)
        return blocks_of(torch.where(empty, 0.0, energy), cross(n) / 2, kind), full, kind, empty

    def loss():
        fast, full, _, _ = blocks(32)
        return expectation(fast).misfit(fast, full).mean()

    learn(expectation, loss, 600, lr=1e-2)
    fast, full, kind, empty = blocks(2000)
    with torch.no_grad():
        found = expectation(fast)
    torch.testing.assert_close(found.transverse, 0.5 * found.energy)
    for which in (empty, ~empty & (kind > 0), ~empty & (kind == 0)):
        away = 0.5 * full - found.transverse
        assert float(away[which].mean()) == pytest.approx(0, abs=0.06 * float(0.5 * full[which].mean()) + 0.05)
        assert float((away.square() / found.variance)[which].mean()) == pytest.approx(1, abs=0.15)
    assert float(found.energy[~empty & (kind > 0)].mean()) == pytest.approx(24, rel=0.03)
    assert not any(part.requires_grad for part in expectation(fast).detached())


def test_the_missing_momentum_is_foreseen_as_it_was_learnt():
    """Of one kind of events a fifth of the fast sum is left, of the other all of it, each with its own noise."""
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(0)
    outlook, foresight = Outlook(1, 2, 3, 1.0, width=8), Foresight(1, 3, 1.0, width=24)

    def events(n):
        kind = (torch.rand(n, 1, 1, 1, generator=rng) < 0.5).float()
        energy = 30 + 60 * torch.rand(n, 1, 3, 4, generator=rng)
        fast = FastBlocks(kind.expand(n, 1, 3, 4), energy, torch.ones_like(energy), cross(n))
        left = torch.where(kind > 0, 1.0, 0.2)[:, :, 0, 0]
        width = torch.where(kind > 0, 10.0, 25.0)[:, :, 0, 0]
        true = left * (fast.energy * fast.aim).sum((2, 3)) + width * torch.randn(n, 2, generator=rng)
        return fast, kind.flatten(), true

    def loss():
        fast, _, true = events(128)
        return foresight(fast, outlook(fast), rng).minus_log_likelihood(true).mean()

    learn(foresight, loss, 400, lr=1e-2)
    fast, kind, _ = events(4000)
    with torch.no_grad():
        density = foresight(fast, outlook(fast))
        again, dropped = foresight(fast, outlook(fast)), foresight(fast, outlook(fast), rng)
        drawn = density.draw(torch.randn(4000, 3, generator=rng))
    assert torch.equal(density.mean, again.mean) and not torch.equal(density.mean, dropped.mean)
    simple = (fast.energy * fast.aim).sum((2, 3))
    for which, left, width in ((kind > 0, 1.0, 10.0), (kind == 0, 0.2, 25.0)):
        found = float((drawn[which] * simple[which]).sum() / simple[which].square().sum())
        assert found == pytest.approx(left, abs=0.05)
        rest = drawn[which] - left * simple[which]
        assert float(rest.square().mean().sqrt()) == pytest.approx(width, rel=0.1)


def test_the_brightest_blocks_are_seen_wherever_they_lie():
    torch.manual_seed(0)
    outlook, rng = Outlook(2, 2, 3, 1.0, width=8), torch.Generator().manual_seed(0)
    foresight = Foresight(2, 3, 1.0, width=8, n_first=3).eval()
    torch.nn.init.normal_(foresight.momentum.weight, generator=rng)
    energy, context = 50 * torch.rand(4, 1, 3, 4, generator=rng), torch.randn(4, 2, 3, 4, generator=rng)

    def found(energy, context, aim):
        fast = FastBlocks(context, energy, torch.ones_like(energy), aim)
        with torch.no_grad():
            return foresight(fast, outlook(fast)).mean

    one = found(energy, context, cross(4))
    moved = found(*(x.roll((1, 1), dims=(2, 3)) for x in (energy, context, cross(4))))
    torch.testing.assert_close(one, moved, rtol=1e-4, atol=1e-3)
    first = energy == energy.amax((2, 3), keepdim=True)
    assert (found(energy, context + first, cross(4)) - one).abs().amax((1, 2)).min() > 1e-2


def cross(n):
    """Aims (n, 2, 3, 4) to the right, up, left and down."""
    aim = torch.tensor([[1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, -1.0]])
    return aim[None, :, None].expand(n, 2, 3, 4).contiguous()


def test_what_a_neutrino_leaves_stays_and_what_was_measured_badly_is_made_good():
    """Two kinds of events, which one channel tells apart: one is balanced, the other lacks what it lacks."""
    rng = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    blocks = Blocks(1, (1, 4), 4, 12, 2, 1.0)
    aim = cross(1)[:, :, :1]

    def events(n):
        truth = 200 + 200 * torch.rand(n, 1, 1, 2, generator=rng)
        truth = torch.cat([truth, truth], dim=3)  # what goes right and left, up and down, is the same
        real = (torch.rand(n, 1, 1, 1, generator=rng) < 0.5).float()
        lost = torch.rand(n, 1, 1, 4, generator=rng) < 0.25
        full = truth * torch.where(lost & (real > 0), 0.4, 1.0) * (1 + 0.01 * torch.randn(n, 1, 1, 4, generator=rng))
        fast = full * torch.exp(0.15 * torch.randn(n, 1, 1, 4, generator=rng))
        context = real.expand(n, 1, 1, 4)
        return FastBlocks(context, fast, torch.full_like(fast, 4.0), aim.expand(n, 2, 1, 4)), full

    def loss():
        fast, full = events(64)
        given = fast, blocks.outlook(fast), 100 * full, full, fast.hit, torch.ones_like(full)
        return blocks.minus_log_likelihood(*given, rng).mean()

    learn(blocks, loss, 400, lr=1e-2)
    fast, full = events(4000)
    with torch.no_grad():
        noise = torch.randn(4000, blocks.n_noise, generator=rng)
        drawn, _ = blocks.draw(fast, blocks.outlook(fast), 100 * fast.energy, noise)
    real = fast.context[:, 0, 0, 0] > 0

    def missing(energy, which):
        return float((energy * fast.aim).sum((2, 3)).norm(dim=1)[which].mean())

    # The momentum is asked for to within 20 in this unit.
    assert missing(full, ~real) < 10 and missing(fast.energy, ~real) > 80
    assert missing(drawn, ~real) < 40
    assert missing(drawn, real) == pytest.approx(missing(full, real), rel=0.1)
