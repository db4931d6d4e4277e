import math

import pytest
import torch

from caloforge.errors import CaloforgeError
from caloforge.models import Batch, build_model
from caloforge.models.blocks import dropout

SMALL = {
    "2dgan": {"latent": 8, "generator_width": 0.06, "discriminator_width": 0.06},
    "3dgan": {"latent": 8, "generator_width": 0.3, "discriminator_width": 0.2},
}


def small(name, **options):
    return build_model(name, (5, 7, 6), 2, **SMALL[name], **options)


def batch_for(model, n=6, seed=0):
    rng = torch.Generator().manual_seed(seed)
    showers = torch.rand(n, *model.shape, generator=rng)
    return Batch(showers, torch.randn(n, model.n_conditions, generator=rng), rng, torch.ones(n))


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("3dgan", [(8, 8, 7, 7), (64, 16, 14, 14), (6, 27, 28, 26)]), ("2dgan", [(5, 5, 5), (75, 25, 25)])],
)
def test_energy_gans_have_the_published_images(name, sizes):
    model = build_model(name, (25, 25, 25), 1).eval()
    seen = []
    watched = [torch.nn.Upsample] if name == "3dgan" else []
    model.generator.dense.register_forward_hook(lambda _m, _i, out: seen.append((out.shape[1],)))
    for part in model.generator.children():
        if type(part) in watched:
            part.register_forward_hook(lambda _m, _i, out: seen.append(tuple(out.shape[1:])))
    if name == "2dgan":
        model.generator.last.register_forward_hook(lambda _m, given, _o: seen.append(tuple(given[0].shape[1:])))
    assert model.sample(torch.zeros(1, 1)).shape == (1, 25, 25, 25)
    assert seen == [(math.prod(sizes[0]),), *sizes[1:]]
    assert model.latent_size == 200


@pytest.mark.parametrize("name", ["2dgan", "3dgan"])
def test_energy_gans_end_in_leaky_relu_at_first_and_never_in_generation(name):
    model = small(name)
    batch = batch_for(model)
    assert model._fake(batch, leaky=True).min() < 0
    assert model._fake(batch, leaky=False).min() == 0
    assert model.sample(batch.condition, batch.rng).min() == 0
    model.head = lambda raw, condition, noise: raw.exp()
    assert model._fake(batch, leaky=True).min() > 0
    assert len(model.phases()) == 2


@pytest.mark.parametrize("name", ["2dgan", "3dgan"])
def test_energy_gans_know_the_incident_energy(name):
    condition = torch.tensor([[5.0, -1.7], [-3.0, 0.0], [0.0, 1.7]])
    linear = small(name, energy_condition=1, energy_spread=0.5).incident_energy(condition)
    torch.testing.assert_close(linear, torch.tensor([0.15, 1.0, 1.85]))
    log = small(name, energy_condition=1, energy_scale="log", energy_spread=2.0).incident_energy(condition)
    torch.testing.assert_close(log, torch.tensor([-3.4, 0.0, 3.4]).exp())
    assert small(name).incident_energy(torch.tensor([[-9.0, 0.0]])) > 0
    with pytest.raises(CaloforgeError, match=r"'energy_condition' of model .* from 0 to 1"):
        small(name, energy_condition=2)


@pytest.mark.parametrize("name", ["2dgan", "3dgan"])
def test_energy_gans_with_options_the_papers_did_not_have(name):
    model = small(name, spectral_norm=True, r1=10.0, join_energy=True, discriminator_stride=2)
    plain = small(name, join_energy=True, discriminator_stride=2)
    for objective in model.phases()[1]:
        loss = objective.loss(batch_for(model))
        loss.backward()
        assert torch.isfinite(loss)
    last = model.discriminator.real.weight.norm()
    torch.testing.assert_close(last.detach(), torch.tensor(1.0))
    again = build_model(name, **model.config)
    again.load_state_dict(model.state_dict())
    r1 = small(name, join_energy=True, discriminator_stride=2, r1=10.0)
    values = [m.phases()[1][0].loss(batch_for(m)).item() for m in (plain, r1)]
    assert values[1] > values[0]


@pytest.mark.parametrize("name", ["2dgan", "3dgan"])
def test_energy_gans_drop_in_training_only(name):
    model = small(name, dropout=0.5)
    showers, others = batch_for(model).showers, torch.zeros(6, 1)
    for training in (True, False):
        model.train(training)
        logits = [model.discriminator(showers, others, torch.Generator().manual_seed(s)).logit for s in (1, 2)]
        assert torch.equal(*logits) is not training


def test_dropout_keeps_the_mean():
    x = torch.ones(50_000)
    dropped = dropout(x, 0.2, torch.Generator().manual_seed(0))
    assert float((dropped == 0).float().mean()) == pytest.approx(0.2, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.01)
    assert dropout(x, 0.2, None) is x
