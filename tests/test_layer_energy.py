import pytest
import torch

from caloforge.errors import CaloforgeError
from caloforge.models import Batch, build_model
from caloforge.models.layer_code import LayerCode
from caloforge.models.rows import Rows

COMPONENT = {
    "component": "lhcb-wgan",
    "options": {"latent": 4, "channels": [4, 4], "hidden": 4},
    "hidden": 8,
    "bins": 4,
}


def sparse(n, shape, seed=0):
    rng = torch.Generator().manual_seed(seed)
    showers = torch.rand(n, *shape, generator=rng).pow(4)
    return torch.where(torch.rand(n, *shape, generator=rng) < 0.6, torch.zeros(()), showers)


@pytest.mark.parametrize(("shape", "layers"), [((3, 4, 5), None), ((20 + 6 + 2,), ((4, 5), (2, 3), (1, 2)))])
def test_rows_come_back(shape, layers):
    rows = Rows(shape, layers)
    x = sparse(6, shape)
    parts = rows.split(x)
    assert parts.shape == (6, 3, 20)
    assert torch.equal(rows.join(parts), x)
    torch.testing.assert_close(parts.sum((1, 2)), x.flatten(1).sum(1))


@pytest.mark.parametrize("n_layers", [1, 2, 30])
def test_code_comes_back(n_layers):
    rng = torch.Generator().manual_seed(0)
    hits = torch.randint(0, 900, (200, n_layers), generator=rng).float()
    hits[::3, 0] = 0
    hits[1::3, -1] = 0
    hits[:, n_layers // 2] += 1  # an empty shower has no energy to share
    energy = torch.rand(200, n_layers, generator=rng) * (hits > 0)
    code = LayerCode(n_layers)
    x = code.encode(energy, hits, rng)
    assert x.shape == (200, code.size)
    energy_back, hits_back = code.decode(x)
    assert torch.equal(hits_back, hits)
    torch.testing.assert_close(energy_back, energy, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize(("shape", "layers"), [((3, 8, 6), None), ((1, 8, 6), None)])
def test_generated_showers_have_the_energies_and_hits_of_the_flow(shape, layers):
    model = build_model("layer-energy", shape, 2, seed=1, **COMPONENT).eval()
    model.flow.scale.see(LayerCode(shape[0]).encode(*totals(sparse(64, shape)), torch.Generator().manual_seed(0)))
    rng = torch.Generator().manual_seed(3)
    condition = torch.randn(16, 2, generator=rng)
    latent = model.draw_latent(16, rng)
    showers = model(latent, condition)
    energy, hits = model.code.decode(model.flow(latent[:, : model.code.size], condition))
    got_energy, got_hits = totals(showers)
    assert torch.equal(got_hits, hits.clamp(max=shape[1] * shape[2]))
    torch.testing.assert_close(got_energy, energy, rtol=1e-3, atol=1e-5)


def totals(showers):
    rows = showers.flatten(2)
    return rows.sum(2), (rows > 0).sum(2).float()


def test_real_showers_pass_the_head_unharmed_in_sum():
    """What the component's critic sees of Geant4 and of the model has the same layer energies and hits."""
    model = build_model("layer-energy", (3, 8, 6), 1, **COMPONENT).train()
    rng = torch.Generator().manual_seed(0)
    batch = Batch(sparse(32, (3, 8, 6)), torch.zeros(32, 1), rng, torch.ones(32))
    model.phases()[0][0].loss(batch)
    inner = model._component_batch(batch)
    fake = model.component.sample(inner.condition, rng)
    real_energy, real_hits = totals(model._linear(inner.showers))
    fake_energy, fake_hits = totals(model._linear(fake))
    assert torch.equal(real_hits, fake_hits)
    torch.testing.assert_close(real_energy, totals(batch.showers)[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(fake_energy, real_energy, rtol=2e-3, atol=1e-5)


def test_a_model_around_another_cannot_be_its_component():
    with pytest.raises(CaloforgeError, match=r"'layer-energy' cannot be a component here; choose one of: .*wgan"):
        build_model("layer-energy", (3, 8, 6), 1, component="layer-energy")
    with pytest.raises(CaloforgeError, match="no option 'latnt'"):
        build_model("layer-energy", (3, 8, 6), 1, component="lhcb-wgan", options={"latnt": 3})


def test_voxel_noise_scatters_hits_and_keeps_sums():
    model = build_model("layer-energy", (3, 8, 6), 1, seed=1, voxel_noise=True, warm_up=True, **COMPONENT).eval()
    model.flow.scale.see(LayerCode(3).encode(*totals(sparse(64, (3, 8, 6))), torch.Generator().manual_seed(0)))
    latent = model.draw_latent(1, torch.Generator().manual_seed(0)).repeat(2, 1)
    latent[1, -3 * 8 * 6 :] *= -1
    first, second = model(latent, torch.zeros(2, 1))
    assert not torch.equal(first > 0, second > 0)
    for one, other in zip(totals(first[None]), totals(second[None]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
    movers = [any(m is model.emission for m in o.modules) for phase in model.phases() for o in phase]
    names = [o.name for phase in model.phases() for o in phase]
    assert dict(zip(names, movers, strict=True)) == {
        "layer_energy": False, "pattern": True, "regressor": False, "critic": False, "generator": False,
    }  # fmt: skip


def test_encoder_gives_latent_numbers_of_mean_zero_and_variance_one():
    options = {"voxel_noise": True, "warm_up": True, "encoded": 3, "latent_scale": 0.1, **COMPONENT}
    model = build_model("layer-energy", (3, 8, 6), 1, seed=1, **options)
    assert [o.name for phase in model.phases() for o in phase][:3] == ["layer_energy", "pattern", "variation"]
    mean, log_variance = model.encoder(sparse(64, (3, 8, 6)), torch.zeros(64, 1 + model.code.size))
    assert mean.shape == (64, 3)
    torch.testing.assert_close(mean.mean(0), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close((mean.square() + log_variance.exp()).mean(0), torch.ones(3))


def test_small_latent_numbers():
    model = build_model("layer-energy", (3, 8, 6), 1, seed=1, latent_scale=0.1, **COMPONENT)
    assert 0.08 < model.component.draw_latent(500, torch.Generator().manual_seed(0)).std() < 0.12


def test_what_is_learnt_without_latent_numbers_needs_no_encoder():
    model = build_model("layer-energy", (3, 8, 6), 1, seed=1, voxel_noise=True, warm_up=True, **COMPONENT)
    assert model.encoder is None
    assert [o.name for phase in model.phases() for o in phase][:3] == ["layer_energy", "pattern", "regressor"]


def test_an_autoencoder_uses_its_own_encoder():
    small = {"views": "2d", "channels": [4, 4], "hidden": [4], "encoder_channels": [4], "critic_channels": [4]}
    options = {"component": "vae-gan", "options": {"latent": 4, "critic_hidden": 4, **small}, "hidden": 8, "bins": 4}
    model = build_model("layer-energy", (3, 8, 6), 1, seed=1, voxel_noise=True, warm_up=True, encoded=1, **options)
    names = [o.name for phase in model.phases() for o in phase]
    assert names == ["layer_energy", "pattern", "variation", "critic", "autoencoder"]
    assert model.encoder is None
    rng = torch.Generator().manual_seed(0)
    batch = Batch(sparse(16, (3, 8, 6)), torch.zeros(16, 1), rng, torch.ones(16))
    model.train().phases()[0][0].loss(batch)
    model.phases()[2][0].loss(batch).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.component.encoder.read.parameters())


def test_a_generated_layer_does_not_depend_on_how_many_hits_others_may_have():
    """The cut at the most hits seen in training is for speed only."""
    model = build_model("layer-energy", (3, 8, 6), 1, seed=1, voxel_noise=True, warm_up=True, **COMPONENT)
    model.flow.scale.see(LayerCode(3).encode(*totals(sparse(64, (3, 8, 6))), torch.Generator().manual_seed(0)))
    latent = model.draw_latent(4, torch.Generator().manual_seed(0))
    model.eval()
    assert model._most < 48
    with torch.no_grad():
        cut = model(latent, torch.zeros(4, 1))
        model._most = 48
        torch.testing.assert_close(model(latent, torch.zeros(4, 1)), cut, rtol=1e-4, atol=1e-9)
