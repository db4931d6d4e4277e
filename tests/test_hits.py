"""Generation's way in NumPy, over hits only, against the straightforward one in torch, over all voxels."""

import numpy as np
import pytest
import torch

from caloforge.models import build_model
from caloforge.models.columns import SharedSpline, SplineColumns
from caloforge.models.emission import logistic, scale_to
from caloforge.models.flow import ChainFlow, spline
from caloforge.models.flow_on_cpu import flow_on_cpu
from caloforge.models.hits import logistic_noise, pick, pieces, scale_hits

LAYERED = {
    "component": "low-rank",
    "options": {"latent": 3, "hidden": [8], "rank": 4},
    "hidden": 8,
    "bins": 5,
    "voxel_noise": True,
    "emission_hidden": 6,
    "emission_bins": 4,
}
SHAPES = {"equal": ((3, 8, 6), None), "single": ((1, 8, 6), None), "unequal": ((38,), ((4, 5), (4, 4), (1, 2)))}


def trained(shape, layers, **options):
    """A layered model with a flow that has seen a range, and an emission and neighbours that are not as they began."""
    given = LAYERED | options | ({"layers": layers} if layers else {})
    model = build_model("layer-energy", shape, 2, seed=1, **given)
    rng = torch.Generator().manual_seed(0)
    energy = torch.rand(200, model.rows.n_layers, generator=rng) + 0.1
    hits = torch.randint(0, 9, energy.shape, generator=rng).float().clamp(max=torch.tensor(model.rows.sizes))
    hits[:, 0] += 1
    model.flow.scale.see(model.code.encode(energy * (hits > 0), hits, rng))
    model.emission.scale.see(torch.randn(100, 2, generator=rng))
    with torch.no_grad():
        for part, size in ((model.flow, 0.1), (model.emission, 0.3), (model.neighbours, 0.3)):
            for parameter in part.parameters() if part else []:
                parameter.add_(size * torch.randn(parameter.shape, generator=rng))
    return model.eval()


def dense(hits, n_voxels):
    out = np.zeros((len(hits.counts), n_voxels), np.float32)
    out[np.repeat(np.arange(len(hits.counts)), hits.counts), hits.voxel] = hits.energy
    return out


MEANS = {"numpy": lambda model: model.hits, "numba": lambda model: model.compiled_hits()}


@pytest.mark.parametrize("means", MEANS.values(), ids=MEANS)
@pytest.mark.parametrize("bright_first", [0, 0.5, 1])
@pytest.mark.parametrize(("shape", "layers"), SHAPES.values(), ids=SHAPES)
def test_hits_are_the_showers_of_forward(shape, layers, bright_first, means):
    model = trained(shape, layers, bright_first=bright_first, neighbours=True, landmarks=6, energy_spread=0.5)
    rng = torch.Generator().manual_seed(5)
    own, noise = model.draw_own_latent(40, rng), torch.randn(40, model.voxel_noise, generator=rng)
    condition = torch.randn(40, 2, generator=rng)
    with torch.inference_mode():
        hits = means(model)(own, condition, lambda part: noise[part])
    showers = model(model.join_latent(own, noise), condition).detach().flatten(1).numpy()
    found = dense(hits, showers.shape[1])
    assert np.array_equal(found > 0, showers > 0)
    assert len(hits.energy) > 120
    np.testing.assert_allclose(found, showers, rtol=2e-3, atol=1e-6)
    rising = np.diff(hits.voxel) > 0
    rising[np.cumsum(hits.counts)[:-1][hits.counts[:-1] > 0] - 1] = True
    assert rising.all()


@pytest.mark.parametrize("means", MEANS.values(), ids=MEANS)
def test_hits_of_a_mixture_are_those_of_forward(means):
    options = {"component": "layer-energy", "options": LAYERED, "shares": [0.3, 0.7]}
    model = build_model("adagan", (2, 5, 4), 2, seed=1, **options).eval()
    for part in model.parts:
        part.load_state_dict(trained((2, 5, 4), None).state_dict())
    rng = torch.Generator().manual_seed(5)
    own, noise = model.draw_own_latent(30, rng), torch.randn(30, model.voxel_noise, generator=rng)
    condition = torch.randn(30, 2, generator=rng)
    with torch.inference_mode():
        hits = means(model)(own, condition, lambda part: noise[part])
    showers = model(model.join_latent(own, noise), condition).detach().flatten(1).numpy()
    np.testing.assert_allclose(dense(hits, 40), showers, rtol=2e-3, atol=1e-6)


def test_a_latent_is_put_together_as_it_is_drawn_whole():
    model = trained((2, 5, 4), None)
    whole = model.draw_latent(7, torch.Generator().manual_seed(3))
    rng = torch.Generator().manual_seed(3)
    own = model.draw_own_latent(7, rng)
    assert torch.equal(model.join_latent(own, torch.randn(7, model.voxel_noise, generator=rng)), whole)
    assert model.own_size == own.shape[1]


@pytest.mark.parametrize("n_layers", [1, 2, 9])
def test_the_chain_gives_the_codes_of_the_flow(n_layers):
    torch.manual_seed(2)
    flow = ChainFlow(n_layers, 3, hidden=12, bins=6).eval()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
        flow.scale.low.fill_(-4.0)
        flow.scale.high.fill_(9.0)
    noise, context = 1.5 * torch.randn(50, 2 * n_layers), torch.randn(50, 3)
    with torch.no_grad():
        expected = flow(noise, context).numpy()
    np.testing.assert_allclose(flow_on_cpu(flow, noise.numpy(), context.numpy()), expected, rtol=1e-3, atol=1e-3)
    one = flow_on_cpu(flow, noise[:1].numpy(), context[:1].numpy())
    np.testing.assert_allclose(one, expected[:1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("bins", [1, 2, 16])
def test_splines_of_columns_are_splines(bins):
    rng = torch.Generator().manual_seed(0)
    x = torch.cat([4 * torch.randn(300, generator=rng), torch.tensor([-5.0, 5.0, -5.1, 7.0])])
    raw = 2 * torch.randn(len(x), 3 * bins - 1, generator=rng)
    expected, _ = spline(x, raw, 5.0, inverse=True)
    found = SplineColumns(bins, len(x), 5.0)(x.numpy(), raw.T.numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    few = SplineColumns(bins, 3, 5.0)(x[:3].numpy(), raw[:3].T.numpy())
    np.testing.assert_allclose(few, expected[:3], rtol=1e-4, atol=1e-4)
    draw = SplineColumns(bins, 1, 5.0)
    one = [draw(x[i : i + 1].numpy(), raw[i : i + 1].T.numpy()) for i in range(len(x))]
    np.testing.assert_allclose(np.concatenate(one), expected, rtol=1e-4, atol=1e-4)
    assert one[0].dtype == np.float32
    expected, _ = spline(x, raw[0], 5.0, inverse=True)
    np.testing.assert_allclose(SharedSpline(raw[0].numpy(), 5.0)(x.numpy()), expected, rtol=1e-4, atol=1e-4)


def test_the_largest_are_picked_and_the_first_of_equals():
    rng = np.random.default_rng(0)
    keys = rng.standard_normal((200, 12)).astype(np.float32)
    keys[::2] = np.round(keys[::2])  # many ties
    counts = rng.integers(0, 13, 200)
    picked = pick(keys, counts)
    assert np.array_equal(np.bincount(picked.row, minlength=200), counts)
    assert (np.diff(picked.flat) > 0).all()
    for i, (row, n) in enumerate(zip(keys, counts, strict=True)):
        best = np.sort(np.argsort(-row, kind="stable")[:n])  # stable: the first of equals
        assert np.array_equal(picked.flat[picked.row == i] - 12 * i, best)
        assert picked.cut[i] == (np.sort(row)[::-1][n] if n < 12 else np.float32(-1e9))


@pytest.mark.parametrize("bright_first", [0, 0.4, 1])
def test_sums_are_met_as_in_rows(bright_first):
    rng = np.random.default_rng(1)
    counts = np.array([0, 3, 1, 0, 8, 5])
    rows = np.zeros((6, 8), np.float32)
    lit = np.arange(8) < counts[:, None]
    rows[lit] = rng.exponential(size=counts.sum())
    total = np.array([0, 1.0, 2.0, 0, 30.0, 0.5], np.float32)
    expected = scale_to(torch.from_numpy(rows)[None], torch.from_numpy(total)[None], bright_first)[0].numpy()
    found = scale_hits(rows[lit], counts, total, bright_first)
    np.testing.assert_allclose(found, expected[lit], rtol=1e-5)
    sums = np.add.reduceat(found, [0, 3, 4, 12])
    np.testing.assert_allclose(sums, total[total > 0], rtol=1e-5)
    assert len(scale_hits(np.zeros(0, np.float32), np.zeros(3, np.int64), np.zeros(3), bright_first)) == 0


def test_logistic_noise_in_fewer_passes():
    noise = torch.linspace(-6, 6, 2001)
    torch.testing.assert_close(logistic_noise(noise), logistic(noise), rtol=1e-4, atol=1e-5)


def test_pieces():
    assert [(p.start, p.stop) for p in pieces(7, 3)] == [(0, 3), (3, 6), (6, 7)]
    assert [(p.start, p.stop) for p in pieces(2, 0)] == [(0, 1), (1, 2)]
    assert [(p.start, p.stop) for p in pieces(0, 3)] == [(0, 0)]
