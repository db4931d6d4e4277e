import math

import pytest
import torch

from caloforge.errors import CaloforgeError
from caloforge.models import MODELS, Batch, GenerativeModel, build_model
from caloforge.models.blocks import centre_crop, thin_transposed
from caloforge.models.lhcb_wgan import _norm
from caloforge.models.wgan import Wgan, of_one_voxel

AUTOENCODER = {
    "latent": 8,
    "channels": [4, 3],
    "hidden": [8],
    "encoder_channels": [3, 4],
    "critic_channels": [3, 4],
    "critic_hidden": 4,
}

SMALL = {
    "adagan": {
        "component": "lhcb-wgan",
        "options": {"latent": 8, "channels": [8, 4, 4], "hidden": 8},
        "shares": [0.6, 0.4],
    },
    "2dgan": {"latent": 8, "generator_width": 0.06, "discriminator_width": 0.06},
    "3dgan": {"latent": 8, "generator_width": 0.3, "discriminator_width": 0.2},
    "bib-ae": {
        **AUTOENCODER,
        "encoded": 3,
        "latent_critic_hidden": [4],
        "post_processor_width": 4,
        "spectrum_alphas": [10.0],
        "spectrum_window": 10,
        "spectrum_stride": 5,
    },
    "calogan": {
        "latent": 8,
        "seed_channels": 2,
        "generator_channels": [3, 2],
        "discriminator_channels": [3, 2, 2, 2],
        "minibatch": [2, 3],
    },
    "calpagan": {"width": 1, "discriminator_width": 2},
    "coarse-to-fine": {"halvings": 2, "widths": [2, 3], "level_widths": [4, 3, 3, 2, 2], "components": 2},
    "lhcb-wgan": {"latent": 8, "channels": [8, 4, 4], "hidden": 8, "norms": [1, 2, 3], "warm_up": True},
    "low-rank": {"latent": 3, "hidden": [6], "rank": 3},
    "pix2pix": {"width": 2, "discriminator_width": 2},
    "vae-gan": {**AUTOENCODER, "reconstruction": 0.1},
    "wgan": {
        "latent": 8,
        "generator_width": 2,
        "critic_width": 2,
        "critic_hidden": [8],
        "constrainer_width": 2,
        "constrainer_hidden": 8,
    },
    "layer-energy": {
        "component": "lhcb-wgan",
        "options": {"latent": 8, "channels": [8, 4, 4], "hidden": 8},
        "hidden": 8,
        "bins": 4,
        "warm_up": True,
        "voxel_noise": True,
        "neighbours": True,
        "encoded": 2,
    },
}
"""Options that make each model small enough to test."""

IMAGES = {"calpagan": (1, 72, 72), "pix2pix": (1, 24, 32), "coarse-to-fine": (1, 12, 8)}
"""Shapes for models of image pairs, whose condition is an image too."""

SHAPES = {"2d": (1, 10, 9), "3d": (5, 7, 6)}


def small(name, shape=(5, 7, 6), n_conditions=2, seed=0, **options):
    if MODELS[name].paired and n_conditions == 2:
        shape = IMAGES[name]
        n_conditions = math.prod(shape)
    return build_model(name, shape, n_conditions, seed=seed, **SMALL.get(name, {}), **options)


def conditions(model, n, seed=1):
    """Conditions (n, C): any numbers, or images of which half the towers are empty."""
    found = torch.randn(n, model.n_conditions, generator=torch.Generator().manual_seed(seed))
    return found.relu() if model.paired else found


def batch_for(model, n=6, seed=0):
    rng = torch.Generator().manual_seed(seed)
    showers = torch.rand(n, *model.shape, generator=rng)
    if model.paired:  # some towers, and so some coarse blocks, are empty
        showers = (showers - 0.3).relu() * (torch.rand(n, 1, model.shape[1], 1, generator=rng) > 0.3)
    return Batch(showers, conditions(model, n, seed=7), rng, torch.ones(n))


def test_every_model_has_a_small_version_here():
    assert set(MODELS) == set(SMALL)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", MODELS)
def test_each_objective_moves_its_modules_and_no_other(name, shape):
    model = small(name, shape)
    for phase in model.phases():
        for objective in phase:
            own = {id(p) for module in objective.modules for p in module.parameters()}
            assert own, f"{objective.name} has nothing to train"
            for parameter in model.parameters():
                parameter.requires_grad_(id(parameter) in own)
                parameter.grad = None
            loss = objective.loss(batch_for(model))
            assert loss.shape == ()
            assert torch.isfinite(loss)
            loss.backward()
            for key, parameter in model.named_parameters():
                if id(parameter) in own:
                    assert parameter.grad is not None, f"{objective.name} gives {key} no gradient"
                    assert torch.isfinite(parameter.grad).all(), key
                else:
                    assert parameter.grad is None, f"{objective.name} moves {key}"
            parameters = [p for p in model.parameters() if p.requires_grad]
            torch.optim.Adam(parameters, lr=1e-4).step()


@pytest.mark.parametrize("name", MODELS)
def test_losses_draw_from_the_batch_only(name):
    model = small(name)
    state = torch.get_rng_state()
    for phase in model.phases():
        for objective in phase:
            first, second = (objective.loss(batch_for(model, seed=3)) for _ in range(2))
            assert torch.equal(first, second), objective.name
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", MODELS)
def test_weights_reach_every_loss(name):
    model = small(name)
    for phase in model.phases():
        for objective in phase:
            plain = batch_for(model, seed=3)
            values = []
            for weight in (plain.weight, torch.tensor([6.0, 0, 0, 0, 0, 0])):
                b = batch_for(model, seed=3)
                values.append(objective.loss(Batch(b.showers, b.condition, b.rng, weight)).item())
            assert values[0] != values[1], f"{objective.name} ignores the weights"


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", MODELS)
def test_sampling(name, shape):
    model = small(name, shape).eval()
    condition = conditions(model, 3)
    draws = [model.sample(condition, torch.Generator().manual_seed(s)) for s in (5, 5, 6)]
    assert draws[0].shape == (3, *model.shape)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert model.draw_latent(4).shape == (4, model.latent_size)
    assert model.draw_latent(0).shape == (0, model.latent_size)


@pytest.mark.parametrize("name", MODELS)
def test_the_seed_makes_the_weights(name):
    state = torch.get_rng_state()
    first, again, other = (small(name, seed=s).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", MODELS)
def test_config_and_weights_rebuild_the_model(name):
    model = small(name, seed=1)
    again = build_model(name, **model.config)
    again.load_state_dict(model.state_dict())
    condition = conditions(model, 2)
    assert again.config == model.config
    assert torch.equal(*(m.sample(condition, torch.Generator().manual_seed(0)) for m in (model, again)))


@pytest.mark.parametrize("name", MODELS)
def test_generation_modules_are_all_that_forward_uses(name):
    model, other = small(name, seed=1).eval(), small(name, seed=2).eval()
    for mine, theirs in zip(model.generation_modules(), other.generation_modules(), strict=True):
        theirs.load_state_dict(mine.state_dict())
    condition = conditions(model, 2)
    assert torch.equal(*(m.sample(condition, torch.Generator().manual_seed(0)) for m in (model, other)))


@pytest.mark.parametrize("name", MODELS)
def test_repr_and_documentation(name):
    model = small(name)
    assert MODELS[name].__name__ in repr(model)
    assert f"n_conditions={model.n_conditions}" in repr(model)
    text = MODELS[name].__doc__
    for part in ("Zeros:", "Trap:", "Args:", "arXiv"):
        assert part in text, f"{name}'s docstring does not tell {part}"


@pytest.mark.parametrize("name", MODELS)
def test_bad_options_are_explained(name):
    with pytest.raises(CaloforgeError, match="has no option 'n_condition'; did you mean 'n_conditions'"):
        small(name, n_condition=3)
    with pytest.raises(CaloforgeError, match=r"'n_conditions'.*greater than or equal to 1"):
        small(name, n_conditions=0)
    with pytest.raises(CaloforgeError, match="'n_conditions'"):
        build_model(name, (1, 4, 4), "many")


def test_unknown_models_are_refused():
    with pytest.raises(CaloforgeError, match="did you mean 'lhcb-wgan'"):
        build_model("lhcb-wgn", (1, 4, 4), 1)


@pytest.mark.parametrize("name", ["lhcb-wgan", "wgan"])
def test_flat_showers_are_refused_by_image_models(name):
    with pytest.raises(CaloforgeError, match="layers are all segmented alike"):
        build_model(name, (504,), 1)


def n_parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_wgan_has_the_published_size():
    model = build_model("wgan", (30, 30, 30), 1)
    assert isinstance(model, Wgan)
    assert n_parameters(model.generator) == 3_655_520
    assert n_parameters(model.critic) == 253_919
    assert n_parameters(model.constrainer) == 224_473


def test_lhcb_wgan_has_the_published_images():
    model = build_model("lhcb-wgan", (1, 30, 30), 5)
    sizes = []
    for layer in model.generator.up:
        if isinstance(layer, torch.nn.ConvTranspose2d):
            layer.register_forward_hook(lambda _m, _i, out: sizes.append(tuple(out.shape[1:])))
    assert model.sample(torch.zeros(2, 5)).shape == (2, 1, 30, 30)
    assert model.generator.base == (256, 4, 4)
    assert sizes == [(128, 8, 8), (64, 16, 16), (32, 32, 32)]
    assert model.latent_size == 512


@pytest.mark.parametrize(("output", "low"), [("relu", 0.0), ("softplus", 1e-9), ("linear", None)])
def test_lhcb_wgan_outputs(output, low):
    showers = small("lhcb-wgan", output=output).sample(torch.zeros(4, 2), torch.Generator().manual_seed(0))
    assert showers.min() < 0 if low is None else showers.min() >= low


def test_lhcb_wgan_regressor_losses():
    mse, perceptual = (small("lhcb-wgan", regressor_loss=kind) for kind in ("mse", "perceptual"))
    losses = [m.phases()[0][0].loss(batch_for(m)) for m in (mse, perceptual)]
    assert losses[1] > losses[0]
    batch = batch_for(mse)
    read, _ = mse.regressor(batch.showers)
    torch.testing.assert_close(losses[0], (read - batch.condition).square().mean())


def test_kappa_pulls_the_generator_to_its_conditions():
    for name in ("wgan", "lhcb-wgan"):
        values = [small(name, kappa=k).phases()[1][1].loss(batch_for(small(name))).item() for k in (0.0, 10.0)]
        assert values[1] > values[0]


def test_wgan_noise_can_be_uniform():
    noise = small("wgan", noise="uniform").draw_latent(500, torch.Generator().manual_seed(0))
    assert -1 <= noise.min() < -0.9
    assert 0.9 < noise.max() <= 1
    assert isinstance(small("wgan"), GenerativeModel)


def test_norms_shown_to_the_critic():
    showers = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    flat = showers.flatten(1)
    for power in (1, 2, 3):
        norm = _norm(showers, power)
        expected = flat.norm(p=power, dim=1, keepdim=True) / (32**0.5 if power == 1 else 1)
        torch.testing.assert_close(norm, expected)
        (gradient,) = torch.autograd.grad(norm.sum(), showers)
        assert (gradient.flatten(1).norm(dim=1) <= 1 + 1e-5).all()
    (gradient,) = torch.autograd.grad(_norm(empty := torch.zeros(1, 1, 2, 2, requires_grad=True), 3), empty)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", ["vae-gan", "bib-ae"])
def test_autoencoders_of_2d_views(name, shape):
    model = small(name, shape, views="2d")
    for objective in (o for phase in model.phases() for o in phase):
        assert torch.isfinite(objective.loss(batch_for(model))), objective.name
    assert model.sample(torch.zeros(3, 2)).shape == (3, *shape)
    assert not any(isinstance(m, torch.nn.Conv3d) for m in model.modules())


@pytest.mark.parametrize("name", ["vae-gan", "bib-ae"])
def test_an_exchanged_head_reaches_all_that_autoencoders_reconstruct(name):
    model = small(name)
    latent, batch = torch.randn(4, 8), batch_for(model)
    model.head = lambda raw, condition, noise: torch.full_like(raw, 0.5)
    assert (model(latent, torch.zeros(4, 2)) == 0.5).all()
    assert (model.reconstruct(batch)[0] == 0.5).all()


def test_autoencoders_encode_some_latent_variables_and_draw_the_others():
    model = small("bib-ae")
    with torch.no_grad():
        model.encoder.read[-1].weight.zero_()
        model.encoder.read[-1].bias.copy_(torch.tensor([5.0, 5, 5, -100, -100, -100]))
    code = model.encode(batch_for(model, n=500))
    assert code.mean.shape == code.encoded.shape == (500, 3)
    assert code.latent.shape == (500, 8)
    assert (code.encoded - 5).abs().max() < 0.05
    assert code.latent[:, 3:].std().item() == pytest.approx(1, abs=0.05)
    with pytest.raises(CaloforgeError, match=r"'encoded'.* more than its 8 latent variables"):
        build_model("bib-ae", (1, 10, 9), 2, **SMALL["bib-ae"] | {"encoded": 9})


def test_the_post_processor_begins_as_the_identity():
    model, condition, latent = small("bib-ae"), torch.randn(3, 2), torch.randn(3, 8)
    assert torch.equal(model(latent, condition), torch.relu(model.decoder(latent, condition)))
    torch.nn.init.ones_(model.post_processor.last.bias)
    assert (model(latent, condition) > model.head(model.decoder(latent, condition), condition, latent[:, :0])).any()
    without = small("bib-ae", post_processor=False)
    assert without.post_processor is None
    assert [len(without.phases()), len(model.phases())] == [1, 2]
    assert len(without.generation_modules()) == 1


def test_the_bib_ae_critic_sees_the_difference_to_the_input():
    model = small("bib-ae")
    batch = batch_for(model)
    same = model.score(batch.showers, batch.showers, batch.condition)
    other = model.score(batch.showers.flip(0), batch.showers, batch.condition)
    assert not torch.allclose(same, other)
    vae_gan = small("vae-gan")
    scores = [vae_gan.score(x, batch.showers, batch.condition) for x in (batch.showers, batch.showers.flip(0))]
    assert torch.equal(*scores)


@pytest.mark.parametrize("sizes", [(5, 4, 6), (9, 8, 10)])
def test_a_thin_transposed_convolution_is_one(sizes):
    torch.manual_seed(0)
    convolution = torch.nn.ConvTranspose3d(4, 1, 3, 1, 2, bias=False)
    x = torch.randn(2, 4, 11, 10, 12)
    expected = centre_crop(convolution(x).squeeze(1), sizes)
    for given in (x, x.contiguous(memory_format=torch.channels_last_3d)):
        torch.testing.assert_close(thin_transposed(given, convolution, sizes), expected)


def test_a_transposed_convolution_of_one_voxel_is_a_matrix_product():
    generator = small("wgan").generator
    x = torch.randn(3, generator.from_noise.in_channels)
    expected = generator.from_noise(x[..., None, None, None])
    torch.testing.assert_close(of_one_voxel(generator.from_noise, x), expected)


def test_without_gradients_the_wgan_paints_the_same():
    model = small("wgan", (6, 9, 8))
    latent, condition = torch.randn(3, model.latent_size), torch.randn(3, 2)
    with torch.no_grad():
        quick = model.generator(latent, condition)
    torch.testing.assert_close(quick, model.generator(latent, condition))
    flat = small("wgan", (1, 9, 8))
    with torch.no_grad():
        quick = flat.generator(latent, condition)
    torch.testing.assert_close(quick, flat.generator(latent, condition))


@pytest.mark.parametrize("shape", [(6, 9, 8), (1, 9, 8), (25, 25, 25)])
@pytest.mark.parametrize("name", ["2dgan", "3dgan", "vae-gan", "bib-ae"])
def test_without_gradients_the_others_paint_the_same(name, shape):
    torch.manual_seed(0)
    model = small(name, shape).eval()
    for part in model.modules():
        if isinstance(part, (torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2.0)
    if name == "bib-ae":
        torch.nn.init.normal_(model.post_processor.last.weight)
    model.head = lambda raw, condition, noise: raw
    latent, condition = torch.randn(3, model.latent_size), torch.randn(3, 2)
    plain = model(latent, condition)
    assert plain.requires_grad
    with torch.inference_mode():
        quick = model(latent, condition)
    torch.testing.assert_close(quick, plain.detach(), atol=1e-5, rtol=1e-4)
