"""What models of image pairs promise: published sizes, symmetric networks, densities that add up, a right spread."""

import math

import numpy as np
import pytest
import torch

from caloforge.errors import CaloforgeError
from caloforge.models import Batch, build_model
from caloforge.models.blockwise import Blocks, colours
from caloforge.models.expectation import Expected
from caloforge.models.fast_blocks import FastBlocks
from caloforge.models.frame import Frame, turned
from caloforge.models.scales import Around, Level, sums_around, within
from caloforge.models.splitting import ETA, PHI, Density, children, halved, how_shared, joined, shared_out
from conftest import learn

SMALL = {"halvings": 1, "widths": [8], "level_widths": [8, 8, 8]}
TWICE = {"halvings": 2, "widths": [4, 8], "level_widths": [8, 8, 8, 8, 8]}


def n_parameters(module):
    return sum(p.numel() for p in module.parameters())


def sparse(n, shape, seed=0):
    rng = torch.Generator().manual_seed(seed)
    image = torch.rand(n, *shape, generator=rng)
    return torch.where(image > 0.7, 10 * image, 0.0)


def test_calpagan_has_the_published_size():
    model = build_model("calpagan", (1, 72, 72), 72 * 72)
    assert n_parameters(model.generator) == 7_339_377
    assert n_parameters(model.discriminator) == 72_881


def test_calpagan_generates_as_it_was_trained():
    model = build_model("calpagan", (1, 72, 72), 72 * 72, seed=1, width=2, discriminator_width=2)
    rng = torch.Generator().manual_seed(0)
    fast = torch.rand(16, 72 * 72, generator=rng) * (torch.rand(16, 72 * 72, generator=rng) < 0.05)
    latent = model.draw_latent(16, rng)
    with torch.no_grad():
        model.train()
        for _ in range(100):  # until the running statistics are those of this batch
            trained = model.raw(latent, fast.reshape(16, 1, 72, 72))
        found = model.eval().raw(latent, fast.reshape(16, 1, 72, 72))
    change = (trained - fast.reshape(trained.shape)).abs().mean()
    assert (found - trained).abs().mean() < 0.02 * change


def test_calpagan_corrects_the_fast_image():
    model = build_model("calpagan", (1, 72, 72), 72 * 72, width=1).eval()
    torch.nn.init.zeros_(model.generator.leave.weight)
    torch.nn.init.zeros_(model.generator.leave.bias)
    fast = sparse(2, (72 * 72,))
    assert torch.equal(model.sample(fast).flatten(1), fast)
    torch.nn.init.constant_(model.generator.leave.bias, -2.0)
    image = model.sample(fast).flatten(1)
    assert torch.equal(image, (fast - 2).relu()), "negative energies become empty towers"


def test_a_conditional_discriminator_sees_the_fast_image():
    batch = Batch(sparse(4, (1, 72, 72)), sparse(4, (72 * 72,), 1), torch.Generator(), torch.ones(4))
    for conditional in (False, True):
        model = build_model("calpagan", (1, 72, 72), 72 * 72, width=1, conditional=conditional)
        fast = model.image(batch.condition)
        scores = [model._score(batch.showers, x) for x in (fast, fast.flip(0))]
        assert torch.equal(*scores) is not conditional
        assert scores[0].shape == (4, 1, 9, 9)


def test_the_l1_weight_pulls_the_generator_to_the_full_image():
    def loss(weight):
        model = build_model("calpagan", (1, 72, 72), 72 * 72, width=1, weight_l1=weight)
        batch = Batch(sparse(4, (1, 72, 72)), sparse(4, (72 * 72,), 1), torch.Generator().manual_seed(0), torch.ones(4))
        return model.phases()[0][1].loss(batch).item()

    none, one, two = (loss(w) for w in (0.0, 1.0, 2.0))
    assert two - one == pytest.approx(one - none, rel=1e-4) and one > none


@pytest.mark.parametrize("name", ["calpagan", "pix2pix"])
def test_batches_of_one_are_refused(name):
    model = build_model(name, (1, 72, 72), 72 * 72, width=1)
    batch = Batch(torch.zeros(1, 1, 72, 72), torch.zeros(1, 72 * 72), torch.Generator(), torch.ones(1))
    with pytest.raises(CaloforgeError, match=r"training\.batch_size"):
        model.phases()[0][0].loss(batch)


def test_pix2pix_noise_is_dropout_of_one_half():
    model = build_model("pix2pix", (1, 16, 16), 256, width=2)
    assert model.generator.noise_shapes == [(8, 2, 2), (4, 4, 4), (2, 8, 8)]
    assert model.latent_size == sum(math.prod(s) for s in model.generator.noise_shapes)
    fast = sparse(2, (256,))
    whole = model.eval()(torch.ones(2, model.latent_size), fast)
    assert not torch.equal(whole, model(-torch.ones(2, model.latent_size), fast))


@pytest.mark.parametrize("name", ["calpagan", "pix2pix", "coarse-to-fine"])
def test_models_of_pairs_refuse_what_is_none(name):
    with pytest.raises(CaloforgeError, match="--like"):
        build_model(name, (1, 72, 72), 3)
    with pytest.raises(CaloforgeError, match="multiples of"):
        build_model(name, (1, 9, 10), 90)
    with pytest.raises(CaloforgeError, match="cannot be a component"):
        build_model("layer-energy", (1, 72, 72), 72 * 72, component=name)


def test_widths_must_fit_the_halvings():
    with pytest.raises(CaloforgeError, match="give 2 and 5"):
        build_model("coarse-to-fine", (1, 8, 8), 64, halvings=2)


# -- from coarse to fine -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [ETA, PHI])
def test_splits_undo_sums(axis):
    image = sparse(3, (1, 4, 6))
    parent = halved(image, axis)
    assert parent.sum() == pytest.approx(image.sum().item(), rel=1e-6)
    one, two = children(image, axis)
    assert torch.equal(joined(one, two, axis), image)
    outcome, log_ratio = how_shared(one, two)
    again = shared_out(parent, outcome, log_ratio, axis)
    torch.testing.assert_close(again, image, rtol=1e-5, atol=0)
    assert torch.equal(again > 0, image > 0)


def test_densities_are_normalised_and_drawn_as_they_say():
    # Two atoms, two components.
    raw = torch.tensor([0.3, -0.2, 0.5, 0.1, 0.2, 0.4, -1.0, 1.5, -0.5, 0.2]).reshape(1, 10)
    density = Density.of(raw, torch.full((1, 1), 0.7), 2)
    grid = torch.linspace(-12, 14, 4001)
    wide = Density(*(part.expand(len(grid), -1) for part in density))
    two = torch.full((len(grid),), 2)
    shared = torch.exp(-wide.minus_log_likelihood(two, grid))
    atoms = [torch.exp(-density.minus_log_likelihood(torch.tensor([a]), torch.zeros(1))) for a in (0, 1)]
    assert float(torch.trapezoid(shared, grid) + sum(atoms)) == pytest.approx(1, abs=1e-4)

    n = 200_000
    many = Density(*(part.expand(n, -1) for part in density))
    rng = torch.Generator().manual_seed(0)
    outcome, value = many.draw(torch.randn(n, generator=rng), torch.randn(n, generator=rng))
    for a in (0, 1):
        assert float((outcome == a).float().mean()) == pytest.approx(float(atoms[a]), abs=0.005)
    drawn = value[outcome >= 2]
    mean = float(torch.trapezoid(shared * grid, grid) / torch.trapezoid(shared, grid))
    deviation = float(torch.trapezoid(shared * (grid - mean) ** 2, grid) / torch.trapezoid(shared, grid)) ** 0.5
    assert float(drawn.mean()) == pytest.approx(mean, abs=0.02)
    assert float(drawn.std()) == pytest.approx(deviation, rel=0.01)


def test_values_follow_their_density():
    """A quantile of a mixture moves with its shares, means and widths: against the derivatives of its moments."""
    n, rng = 400_000, torch.Generator().manual_seed(0)
    logit = torch.tensor([[0.2, -0.4]], requires_grad=True)
    mean, log_width = torch.tensor([[1.0, 2.0]], requires_grad=True), torch.tensor([[-0.5, 0.1]], requires_grad=True)

    def density(k):
        return Density(*(part.expand(k, -1) for part in (logit.log_softmax(1), mean, log_width)))

    _, value = density(n).draw(torch.randn(n, generator=rng), torch.randn(n, generator=rng))
    followed = density(n).followed(value)
    assert torch.equal(followed.detach(), value.detach())
    share = logit.softmax(1)
    exact = (share * (mean.square() + (2 * log_width).exp())).sum()
    for one, other in zip(
        torch.autograd.grad(followed.square().mean(), (logit, mean, log_width)),
        torch.autograd.grad(exact, (logit, mean, log_width)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=0.03, atol=0.01)


def test_moments_are_those_of_what_is_drawn():
    """Of exponentials, nought for an atom; a component far over the most counts as the most."""
    n, rng = 400_000, torch.Generator().manual_seed(0)
    share = torch.tensor([[0.1, 0.6, 0.3]]).log()
    density = Density(share, torch.tensor([[1.0, 1.5]]), torch.tensor([[0.1, 0.3]]).log())
    many = Density(*(part.expand(n, -1) for part in density))
    outcome, value = many.draw(torch.randn(n, generator=rng), torch.randn(n, generator=rng))
    energy = torch.where(outcome == 0, 0.0, value.exp())
    mean, variance = density.moments(torch.tensor([1e6]))
    assert float(mean) == pytest.approx(float(energy.mean()), rel=0.005)
    assert float(variance) == pytest.approx(float(energy.var()), rel=0.01)
    far = density._replace(mean=torch.tensor([[1.0, 60.0]]), log_width=torch.tensor([[0.1, 3.0]]).log())
    mean, variance = far.moments(torch.tensor([50.0]))
    first = 0.6 * math.exp(1 + 0.5 * 0.01)
    assert float(mean) == pytest.approx(first + 0.3 * 50, rel=1e-5)
    assert float(variance) == pytest.approx(0.6 * math.exp(2 + 0.02) + 0.3 * 50**2 - float(mean) ** 2, rel=1e-5)


def test_phi_closes_on_itself():
    layer = Around(1, 2)
    image = sparse(1, (1, 6, 8))
    torch.testing.assert_close(layer(image.roll(3, dims=3)), layer(image).roll(3, dims=3))


def test_chosen_cells_see_what_all_cells_see():
    level = Level(3, 5, 4)
    image = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    cells = torch.tensor([0, 7, 13, 47, 48, 95])
    torch.testing.assert_close(level(image, cells), level(image)[cells])


def test_cells_are_told_what_is_beside_them_alone():
    level = Level(3, 5, 4, n_beside=2)
    rng = torch.Generator().manual_seed(0)
    image, beside = (torch.randn(2, n, 6, 8, generator=rng) for n in (3, 2))
    assert torch.equal(level(image, beside=beside), level(image, beside=0 * beside)), "nothing at first"
    for layer in level.beside:
        torch.nn.init.normal_(layer.weight, generator=rng)
    torch.nn.init.normal_(level.last.weight, generator=rng)
    cells = torch.tensor([0, 7, 13, 47, 48, 95])
    found = level(image, cells, beside)
    torch.testing.assert_close(found, level(image, beside=beside)[cells])
    beside[1, :, 5, 7] += 1
    changed = (level(image, cells, beside) - found).abs().amax(1)
    assert (changed[:5] == 0).all() and changed[5] > 1e-3


def test_towers_within_cells():
    image = torch.arange(24.0).reshape(1, 1, 4, 6)
    cells = within(image, 2, 3)
    assert cells.shape == (1, 4, 2, 3)
    assert cells[0, :, 1, 2].tolist() == [16, 17, 22, 23]


@pytest.mark.parametrize("columns", [1, 2, 3, 8])
def test_sums_around_close_in_phi_and_count_no_cell_twice(columns):
    image = sparse(3, (1, 6, columns))
    for reach in (1, 2):
        wide = min(reach, (columns - 1) // 2)
        found = sums_around(image, reach)
        for row in range(6):
            near = image[:, 0, max(0, row - reach) : row + reach + 1].sum(1)
            expected = sum(near.roll(k, dims=1) for k in range(-wide, wide + 1))
            torch.testing.assert_close(found[:, 0, row], expected)


@pytest.mark.parametrize("sizes", [(9, 9), (4, 8), (2, 5), (1, 3), (3, 1), (2, 2)])
def test_blocks_of_one_colour_never_touch(sizes):
    rows, columns = sizes
    colour = colours(rows, columns)
    assert sorted(set(colour.flatten().tolist())) == list(range(int(colour.max()) + 1))
    for row in range(rows):
        for column in range(columns):
            near = {(r, c % columns) for r in (row - 1, row, row + 1) for c in (column - 1, column, column + 1)}
            for r, c in near - {(row, column)}:
                assert not 0 <= r < rows or colour[r, c] != colour[row, column]


def trained(model, fast, full, rng, steps, lr=1e-2, batch=64):
    objective = model.phases()[0][0].loss

    def loss():
        which = torch.randperm(len(fast), generator=rng)[:batch]
        return objective(Batch(full[which], fast[which].flatten(1), rng, torch.ones(batch)))

    learn(model, loss, steps, lr)
    return model.eval()


def told_of(fast):
    """What fast images tell of blocks (N, 1, 2, 2), all towers hit: they lie to the right and to the left."""
    aim = torch.tensor([[1.0, -1.0], [0.0, 0.0]])[:, None, :].expand(len(fast), 2, 2, 2)
    return FastBlocks(torch.zeros_like(fast), fast, torch.full_like(fast, 4.0), aim)


def trained_blocks(full_of, rng, steps=300, least=20.0, span=1.0):
    """Blocks of 2 x 2 that have learnt what full images go with fast ones, and what they draw for a thousand more.

    ``full_of`` makes energies and numbers of towers (N, 1, 2, 2) of the fast images' energies.
    """
    torch.manual_seed(0)
    blocks = Blocks(1, (2, 2), 4, 8, 2, 1.0)

    def loss():
        fast = least + span * torch.rand(64, 1, 2, 2, generator=rng)
        energy, number = full_of(fast)
        told, weight = told_of(fast), torch.ones_like(fast)
        return blocks.minus_log_likelihood(told, blocks.outlook(told), 100 * fast, energy, number, weight, rng).mean()

    learn(blocks, loss, steps, lr=2e-2)
    fast = least + span * torch.rand(1000, 1, 2, 2, generator=rng)
    with torch.no_grad():
        told, noise = told_of(fast), torch.randn(1000, blocks.n_noise, generator=rng)
        return fast, *blocks.draw(told, blocks.outlook(told), 100 * fast, noise)


def test_a_rare_component_far_off_is_paid_for_by_the_variance():
    """Two densities that a likelihood of many events hardly tells apart."""
    blocks = Blocks(1, (2, 2), 4, 8, 2, 1.0, moments=0.5)
    energy = 100 * torch.exp(0.1 * torch.randn(2000, generator=torch.Generator().manual_seed(0)))
    losses = {}
    for rare in (1e-4, 0.02):
        share = torch.tensor([1e-6, 1 - rare, rare]).log().expand(2000, -1)
        mean, width = torch.full((2000, 2), math.log(100)), torch.tensor([0.1, 0.8]).log().expand(2000, -1)
        density = Density(share, mean, width)
        likelihood = density.minus_log_likelihood(torch.ones(2000, dtype=torch.long), energy.log())
        losses[rare] = float(likelihood.mean()), float(blocks._misjudged(density, energy, 10 * energy).mean())
    one, two = losses.values()
    assert 0 < two[0] - one[0] < 0.03
    assert two[1] - one[1] > 0.15


def test_what_one_block_has_not_its_neighbour_has():
    rng = torch.Generator().manual_seed(0)

    def moved(fast):
        share = 0.3 * torch.randn(len(fast), 1, 1, 2, generator=rng).clamp(-2.5, 2.5)
        return fast * torch.cat([1 + share, 1 - share], dim=2), torch.full_like(fast, 4.0)

    _, energy, _ = trained_blocks(moved, rng)
    one, two = energy[:, 0, 0].flatten(), energy[:, 0, 1].flatten()

    def spread(x):
        low, high = np.quantile(x.numpy(), [0.16, 0.84])
        return (high - low) / 2

    assert spread(one) == pytest.approx(6.0, rel=0.25)
    assert spread(one + two) / spread(one) < 0.7, "were they independent it would be 1.4"


def test_showers_are_wide_or_narrow_together():
    """All blocks of an image have one tower or all have four, and nothing but their neighbours tells."""
    rng = torch.Generator().manual_seed(0)

    def wide_or_narrow(fast):
        number = torch.where(torch.rand(len(fast), 1, 1, 1, generator=rng) < 0.5, 1.0, 4.0).expand_as(fast)
        return fast * torch.exp(0.1 * torch.randn(fast.shape, generator=rng)), number

    fast, energy, number = trained_blocks(wide_or_narrow, rng)
    assert float((energy > 0).float().mean()) > 0.99
    assert float((energy[energy > 0] / fast[energy > 0]).log().std()) == pytest.approx(0.1, rel=0.3)
    assert float(number.mean()) == pytest.approx(2.5, abs=0.2)
    assert np.corrcoef(number.reshape(-1, 4).T.numpy()).min() > 0.8


@pytest.mark.parametrize("sizes", [(9, 9), (2, 5), (1, 2)])
def test_the_worst_measured_blocks_come_last_one_by_one(sizes):
    blocks = Blocks(1, sizes, 4, 8, 2, 0.1)
    variance = sparse(20, (1, *sizes)).mul(100).round() / 100  # equal, or apart by more than a ten-thousandth
    variance[0] = 0.0
    order, n, colour = blocks._order(blocks._worst(variance)), blocks.n_last, colours(*sizes)
    assert n == min(3, variance[0].numel()) and order.shape == variance.shape
    for steps, each in zip(order[:, 0], variance[:, 0], strict=True):
        last = steps >= blocks.n_colours
        assert sorted(steps[last].tolist()) == list(range(blocks.n_colours, blocks.n_colours + n))
        assert torch.equal(steps[~last], colour[~last]), "the others, by colours that do not touch"
        falling = each.flatten()[steps.flatten().argsort(descending=True)][:n]
        assert torch.equal(falling, each.flatten().sort(descending=True).values[:n])


def test_blocks_are_told_how_bright_they_are_beside_the_brightest():
    blocks = Blocks(1, (2, 8), 4, 8, 2, 0.1)
    fast = torch.zeros(1, 1, 2, 8)
    fast[0, 0, 0, [0, 3, 5]] = torch.tensor([49.0, 24.0, 9.0])
    aim = torch.zeros(1, 2, 2, 8)
    aim[:, 1] = 0.5  # of transverse momentum over energy, in units of 1
    told = FastBlocks(torch.zeros_like(fast), 2 * fast, torch.zeros_like(fast), aim)
    standing = blocks._standing(told, Expected(fast, 2 * fast + 1, torch.full_like(fast, math.e)))
    assert standing.shape == (1, 7, 2, 8)
    first = torch.tensor([50.0, 25.0, 10.0, 1.0])
    for column, energy in ((0, 49.0), (3, 24.0), (5, 9.0), (7, 0.0)):
        beside = [*((energy + 1) / first).log().tolist(), energy / 83, math.log(2), 0.3]
        assert standing[0, :, 0, column].tolist() == pytest.approx(beside, abs=1e-5)
    assert Blocks(1, (1, 2), 4, 8, 2, 0.1).n_first == 2, "no more than there are"
    none, cells = torch.zeros_like(fast), torch.tensor([3])
    for layer in (*blocks.of_energy.beside, blocks.of_energy.last):
        torch.nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(0))
    event = blocks._event(told, blocks.outlook(told), torch.zeros(1, 2), torch.full((1,), 8.0))
    of_others = event._replace(standing=event.standing + (torch.arange(8) != 3))
    of_itself = event._replace(standing=event.standing + (torch.arange(8) == 3))
    one, two, three = (blocks.energies(e, none, none, none, cells).mean for e in (event, of_others, of_itself))
    assert torch.equal(one, two) and (one - three).abs().max() > 1e-3


def test_events_are_balanced_where_full_ones_are():
    """Two jets back to back, which the fast simulation measures badly and the full one hardly."""
    rng = torch.Generator().manual_seed(0)

    def balanced(fast):
        mean = fast.mean(dim=3, keepdim=True)
        return mean * (1 + 0.01 * torch.randn(fast.shape, generator=rng)), torch.full_like(fast, 4.0)

    fast, energy, _ = trained_blocks(balanced, rng, least=300.0, span=200.0)
    before, after = ((x[..., 0] - x[..., 1]).sum(2).abs().median() for x in (fast, energy))
    assert float(after) < 0.5 * float(before)


def test_who_draws_too_widely_or_too_narrowly_is_told_by_the_scores():
    """Blocks that have learnt how they vary together score best as they are, and from elsewhere are led back."""
    rng = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    blocks = Blocks(1, (2, 2), 4, 8, 2, 0.1)

    def batch(n):
        fast = 20 + torch.rand(n, 1, 2, 2, generator=rng)
        full = fast * torch.exp(
            0.1 * torch.randn(n, 1, 1, 1, generator=rng) + 0.05 * torch.randn(fast.shape, generator=rng)
        )
        return told_of(fast), 100 * fast, full, torch.ones_like(fast)

    def likelihood():
        told, most, full, weight = batch(64)
        return blocks.minus_log_likelihood(
            told, blocks.outlook(told), most, full, torch.full_like(full, 4.0), weight, rng
        ).mean()

    learn(blocks, likelihood, 300, lr=2e-2)
    told, most, full, weight = batch(16_000)
    whole = blocks.outlook(told)
    widths = slice(1 + 3 * blocks.components, 1 + 4 * blocks.components)  # of raw values, see `Density.of`
    scores, slopes = {}, {}
    for shift in (-0.7, 0.0, 0.7):
        bias = torch.zeros_like(blocks.of_energy.last.bias)
        bias[widths] = shift
        with torch.no_grad():
            blocks.of_energy.last.bias += bias
        score = blocks.misdrawn(
            told, whole, most, full, torch.full_like(full, 4.0), weight, torch.Generator().manual_seed(1)
        )
        (slope,) = torch.autograd.grad(score.mean(), blocks.of_energy.last.bias)
        scores[shift], slopes[shift] = score.detach(), float(slope[widths].sum())
        with torch.no_grad():
            blocks.of_energy.last.bias -= bias
    for wrong in (-0.7, 0.7):
        worse = scores[wrong] - scores[0.0]
        assert float(worse.mean() / worse.std()) * len(worse) ** 0.5 > 3, "in standard errors"
    assert slopes[-0.7] < 0 < slopes[0.7]
    finite = float(scores[0.7].mean() - scores[-0.7].mean())
    assert abs(slopes[0.0]) < 0.5 * min(abs(slopes[-0.7]), abs(slopes[0.7]))
    simpson = 1.4 * (slopes[0.7] + 4 * slopes[0.0] + slopes[-0.7]) / 6
    assert simpson == pytest.approx(finite, abs=0.3 * max(slopes.values()))


def test_bright_cells_count_more_by_their_transverse_energy():
    eta = [-2.0, -1.0, 1.0, 2.0]
    model = build_model("coarse-to-fine", (1, 4, 2), 8, energy_scale=0.1, emphasis=2.0, row_eta=eta, **SMALL)
    image = torch.zeros(1, 1, 4, 2)
    image[0, 0, 3, 1] = 16 * math.cosh(2.0)
    frame = model._frame(torch.zeros_like(image))
    assert int(frame.before) == 1, "three rows of blocks, of which the outer ones hold a row of the image each"
    weights = model._weights(model._laid(frame, torch.zeros_like(image)), frame.laid(image))
    assert [w.shape[2:].numel() for w in weights] == [3, 3, 6]
    torch.testing.assert_close(weights[0], torch.ones(1, 1, 3, 1))
    assert weights[1].flatten().tolist() == [0, 1, 0], "nothing is learnt of what lies beyond the ends"
    assert weights[2].flatten().tolist() == pytest.approx([1, 1, 1, 1, 1 + 2 * 16**0.75, 1], rel=1e-5)
    with pytest.raises(CaloforgeError, match="3 numbers for 4 rows"):
        build_model("coarse-to-fine", (1, 4, 2), 8, row_eta=[0.0, 1.0, 2.0], **SMALL)


def test_no_block_is_far_brighter_than_the_fast_image():
    model = build_model("coarse-to-fine", (1, 8, 8), 64, energy_scale=0.01, ceiling=2.0, **SMALL).eval()
    torch.nn.init.constant_(model.blocks.of_energy.last.bias, 3.0)  # wide densities of ever larger means
    fast = sparse(50, (1, 8, 8))
    with torch.no_grad():
        image = model.sample(fast.flatten(1), torch.Generator().manual_seed(0))
    frame = model._frame(fast)
    most = model._most(model._laid(frame, fast))
    blocks = torch.nn.functional.avg_pool2d(frame.laid(image), 2) * 4
    assert (blocks <= most * 1.0001).all() and (blocks > 0.999 * most).any()
    alone = torch.zeros(1, 1, 8, 8)
    alone[..., 0, 0] = 1.0
    near = model._most(model._laid(model._frame(alone), alone))[0, 0] > 1
    assert near.nonzero().tolist() == [[0, 0], [0, 1], [0, 3], [1, 0], [1, 1], [1, 3]], "phi closes, eta does not"


def test_a_block_beside_a_jet_holds_what_lies_within_a_quarter_of_a_block():
    model = build_model("coarse-to-fine", (1, 12, 16), 192, energy_scale=0.01, ceiling=2.0, **TWICE).eval()
    frame = Frame(torch.tensor([0]), torch.tensor([0]), 4, (12, 16))
    for column, reached in ((0, [0, 3]), (1, [0]), (2, [0]), (3, [0, 1])):
        fast = torch.zeros(1, 1, 12, 16)
        fast[..., 6, column] = 100.0
        most = model._most(model._laid(frame, fast))[0, 0, 1]
        expected = [201.0 if block in reached else 1.0 if block == 2 else 1.5 for block in range(4)]
        assert most.tolist() == pytest.approx(expected)


def test_nothing_is_drawn_beyond_the_ends_of_eta(monkeypatch):
    model = build_model("coarse-to-fine", (1, 8, 8), 64, energy_scale=1.0, **SMALL).eval()
    drawn = []
    back = Frame.back
    monkeypatch.setattr(Frame, "back", lambda frame, image: drawn.append(image) or back(frame, image))
    fast = sparse(200, (1, 8, 8))
    with torch.no_grad():
        image = model.sample(fast.flatten(1), torch.Generator().manual_seed(0))
    assert len({int(n) for n in model._frame(fast).before}) == 2
    assert torch.equal(drawn[0].sum((1, 2, 3)) > 0, image.sum((1, 2, 3)) > 0)
    torch.testing.assert_close(drawn[0].sum((1, 2, 3)), image.sum((1, 2, 3)))


def test_images_are_generated_alike_wherever_they_lie_under_the_blocks():
    """Turned by less than a block, or moved by a row where eta tells nothing: the blocks move along."""
    model = build_model("coarse-to-fine", (1, 12, 16), 192, energy_scale=1.0, **TWICE).eval()
    torch.nn.init.zeros_(model.places.place)
    fast = torch.zeros(1, 1, 12, 16)
    fast[..., 4:7, 5:8] = torch.tensor([[3.0, 0.0, 1.0], [4.0, 30.0, 2.0], [0.0, 5.0, 0.0]])
    frame = model._frame(fast)
    latent = model.draw_latent(1, torch.Generator().manual_seed(0))
    alike = 0
    with torch.no_grad():
        image = model(latent, fast.flatten(1))
        for rows, columns in ((0, 1), (0, 2), (1, 0), (1, 1), (-1, -1)):
            moved = fast.roll((rows, columns), dims=(2, 3))
            there = model._frame(moved)
            if (there.before + rows, there.turn - columns) == (frame.before, frame.turn):
                drawn = model(latent, moved.flatten(1))
                inside = [x[..., 2:10, :] for x in (image.roll((rows, columns), dims=(2, 3)), drawn)]
                torch.testing.assert_close(*inside)
                alike += 1
    assert alike >= 2 and (image > 0).sum() > 3


def test_pairs_are_turned_alike():
    fast, full = sparse(40, (1, 6, 8)), 2 * sparse(40, (1, 6, 8))
    rng = torch.Generator().manual_seed(0)
    one, two = turned(fast, full, rng)
    assert torch.equal(two, 2 * one)
    torch.testing.assert_close(one.sum((1, 2, 3)), fast.sum((1, 2, 3)))
    changed = [not torch.equal(a, b) for a, b in zip(one, fast, strict=True)]
    assert np.mean(changed) > 0.8
    # Rows of eta keep their energy, up to mirroring.
    torch.testing.assert_close(*(x.sum(3).sort(dim=2).values for x in (one, fast)))


def test_generated_images_have_the_conditional_spread():
    """What fluctuates together in the full images of a toy does so in generated ones, by as much."""
    rng = torch.Generator().manual_seed(0)
    n, steps, shape = 1024, 700, (1, 4, 2)

    def full_of(fast, rng):
        # One number moves the two towers of a row together, some rows are lost together, each tower is smeared.
        both = torch.exp(0.3 * torch.randn(len(fast), 1, 4, 1, generator=rng))
        both = both * (torch.rand(both.shape, generator=rng) > 0.1)
        return fast * both * torch.exp(0.1 * torch.randn(fast.shape, generator=rng))

    fast = 5 + 5 * torch.rand(n, *shape, generator=rng)
    full = full_of(fast, rng)
    model = build_model("coarse-to-fine", shape, 8, energy_scale=1.0, emphasis=0.0, **SMALL)
    trained(model, fast, full, rng, steps)
    one = fast[:1].expand(4000, -1, -1, -1)
    true = full_of(one, rng)
    with torch.no_grad():
        drawn = model.sample(one.flatten(1), rng)
    assert (drawn == 0).float().mean() == pytest.approx(0.1, abs=0.03)
    for pick in (lambda x: x[:, 0, 0, 0], lambda x: x[:, 0, 1].sum(1), lambda x: x.sum((1, 2, 3))):
        assert float(pick(drawn).mean()) == pytest.approx(float(pick(true).mean()), rel=0.06)
        assert float(pick(drawn).std()) == pytest.approx(float(pick(true).std()), rel=0.15)
    together = [np.corrcoef(x[:, 0, 0, 0], x[:, 0, 0, 1])[0, 1] for x in (true.numpy(), drawn.numpy())]
    assert together[1] == pytest.approx(together[0], abs=0.05)
