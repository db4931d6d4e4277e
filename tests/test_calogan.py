import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from caloforge.checkpoint import Checkpoint
from caloforge.config import read_config, to_toml
from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError
from caloforge.incident import Incident
from caloforge.models import Batch, build_model
from caloforge.models.blocks import CellSpectralNorm, LocallyConnected2d
from caloforge.models.calogan import Attention, Resize
from caloforge.models.lagan import MinibatchFeatures
from caloforge.showers import Showers
from caloforge.training import TrainConfig, train
from caloforge.transforms import TRANSFORMS, build_transform
from test_cli import run

LAYERS = ((3, 8), (4, 4), (4, 2))
SMALL = {
    "latent": 8,
    "seed_channels": 2,
    "generator_channels": [3, 2],
    "discriminator_channels": [3, 2, 2, 2],
    "minibatch": [2, 3],
}


def calogan(n_conditions=2, seed=0, **options):
    return build_model("calogan", (48,), n_conditions, seed=seed, layers=LAYERS, **{**SMALL, **options})


def batch_for(model, n=6, seed=0):
    rng = torch.Generator().manual_seed(seed)
    showers = torch.rand(n, *model.shape, generator=rng)
    return Batch(showers, torch.randn(n, model.n_conditions, generator=rng), rng, torch.ones(n))


# -- blocks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [((3, 3), (1, 1), 1), ((2, 2), (1, 2), 0), ((1, 3), (2, 1), 2)]
)
def test_a_locally_connected_layer_with_equal_weights_is_a_convolution(kernel, stride, padding):
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 4, kernel, stride, padding)
    local = LocallyConnected2d(3, 4, (5, 7), kernel, stride, padding)
    with torch.no_grad():
        local.weight.copy_(convolution.weight.permute(2, 3, 1, 0).reshape(1, -1, 4).expand_as(local.weight))
        local.bias.copy_(convolution.bias.expand_as(local.bias))
    images = torch.randn(2, 3, 5, 7)
    torch.testing.assert_close(local(images), convolution(images))
    assert local(images).shape[2:] == local.out_size


def test_a_locally_connected_layer_has_its_own_weights_in_each_cell():
    local = LocallyConnected2d(1, 1, (2, 3), (1, 1), bias=False)
    with torch.no_grad():
        local.weight.copy_(torch.arange(6.0).reshape(6, 1, 1))
    torch.testing.assert_close(local(torch.ones(1, 1, 2, 3)), torch.arange(6.0).reshape(1, 1, 2, 3))


def test_cells_are_bounded_each_by_its_own_largest_singular_value():
    torch.manual_seed(0)
    local = LocallyConnected2d(2, 3, (4, 4), (2, 2))
    with torch.no_grad():
        local.weight.mul_(torch.linspace(1, 30, len(local.weight))[:, None, None])
    plain = local.weight.detach().clone()
    parametrize.register_parametrization(local, "weight", CellSpectralNorm(local.weight))
    for _ in range(50):
        local(torch.zeros(1, 2, 4, 4))
    torch.testing.assert_close(local.weight, plain / torch.linalg.matrix_norm(plain, ord=2)[:, None, None])


# -- parts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"), [((3, 96), (12, 12)), ((12, 12), (12, 6)), ((4, 5), (4, 5)), ((2, 3), (5, 2))]
)
def test_resizing_begins_as_the_mean_over_areas(before, after):
    resize = Resize(before, after)
    torch.testing.assert_close(resize.rows.sum(1), torch.ones(after[0]))
    torch.testing.assert_close(resize.columns.sum(1), torch.ones(after[1]))
    image = torch.rand(2, 1, *before)
    torch.testing.assert_close(resize(image).mean((2, 3)), image.mean((2, 3)))
    if after == (12, 6):
        torch.testing.assert_close(resize(image), nn.functional.avg_pool2d(image, (1, 2)))


def test_attention_stays_between_its_two_images():
    attention = Attention((3, 8), (4, 4))
    image, before = torch.rand(2, 1, 4, 4), torch.rand(2, 1, 3, 8)
    mixed, resized = attention(image, before), attention.resize(before)
    assert (mixed >= torch.minimum(image, resized) - 1e-6).all()
    assert (mixed <= torch.maximum(image, resized) + 1e-6).all()


def test_minibatch_features_tell_copies_from_different_showers():
    among = MinibatchFeatures(5, 3, 4)
    assert torch.equal(among(torch.ones(6, 5)), torch.ones(6, 3))
    assert (among(torch.randn(6, 5)) < 1).all()


# -- the model -----------------------------------------------------------------------------------------------------


def test_layers_that_differ_make_flat_showers():
    model = calogan()
    assert model.config["layers"] == [[3, 8], [4, 4], [4, 2]]
    assert model.sample(torch.zeros(5, 2)).shape == (5, 48)
    images = model._images(torch.arange(48.0).expand(2, 48))
    assert [tuple(i.shape[1:]) for i in images] == [(1, 3, 8), (1, 4, 4), (1, 4, 2)]
    assert images[2][0, 0, 0, 0] == 40
    again = build_model("calogan", **model.config)
    again.load_state_dict(model.state_dict())
    rng = torch.Generator
    draws = [m.sample(torch.zeros(2, 2), rng().manual_seed(0)) for m in (model, again)]
    assert torch.equal(*draws)


@pytest.mark.parametrize("options", [{}, {"spectral_norm": True, "hidden": [4], "join_energy": True, "warm_up": True}])
def test_each_objective_moves_its_modules_for_layers_that_differ(options):
    model = calogan(**options)
    for objective in [o for phase in model.phases() for o in phase]:
        own = {id(p) for module in objective.modules for p in module.parameters()}
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in own)
            parameter.grad = None
        loss = objective.loss(batch_for(model))
        loss.backward()
        assert torch.isfinite(loss)
        assert all((p.grad is not None) == (id(p) in own) for p in model.parameters())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_export_of_layers_that_differ_equals_eager():
    model = calogan(join_energy=True, energy_power=2.0).eval()
    batch = torch.export.Dim("batch", min=1, max=4096)
    example = torch.randn(3, 8), torch.randn(3, 2)
    program = torch.export.export(model, example, dynamic_shapes=({0: batch}, {0: batch}))
    for n in (1, 5):
        inputs = torch.randn(n, 8), torch.randn(n, 2)
        torch.testing.assert_close(program.module()(*inputs), model(*inputs))


def test_a_shower_does_not_depend_on_its_batch():
    model = calogan().eval()
    latent, condition = torch.randn(6, 8), torch.randn(6, 2)
    torch.testing.assert_close(model(latent, condition)[2:3], model(latent[2:3], condition[2:3]))


def test_noise_is_multiplied_by_the_energy():
    model = calogan(n_conditions=1, energy_spread=0.5)
    energy = model.energy_condition.energy(torch.tensor([[0.0], [1.0], [-1.0], [-9.0]]))
    torch.testing.assert_close(energy, torch.tensor([[1.0], [1.5], [0.5], [0.01]]))
    seen = []
    model.generator.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    latent = torch.randn(1, 8)
    model(latent, torch.tensor([[1.0]]))
    torch.testing.assert_close(seen[0], 1.5 * latent)
    logarithmic = calogan(n_conditions=1, energy_scale="log", energy_spread=0.5)
    torch.testing.assert_close(logarithmic.energy_condition.energy(torch.tensor([[2.0]])), torch.tensor([[1.0]]).exp())


def test_layer_energies():
    showers = torch.zeros(1, 48)
    showers[0, [0, 1, 24, 47]] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    for power, expected in ((1.0, [3.0, 3, 4]), (2.0, [5.0, 9, 16])):
        model = calogan(energy_power=power)
        torch.testing.assert_close(model._energies(model._images(showers)), torch.tensor([expected]))


def test_calibration_finds_what_the_layers_are_worth():
    model = calogan(n_conditions=1)
    batch = batch_for(model, 200)
    constants = torch.tensor([0.05, 0.1, 0.02])
    model.calibration.log_constants.data = constants.log()
    energies = model._energies(model._images(batch.showers)).sum(1, keepdim=True)
    exact = Batch(batch.showers, (energies - 1) / model.config["energy_spread"], batch.rng, batch.weight)
    objective = model.phases()[0][0]
    torch.testing.assert_close(objective.loss(exact), torch.tensor(0.0), atol=1e-3, rtol=0)
    model.calibration.log_constants.data = constants.log() + 1.0
    torch.testing.assert_close(objective.loss(exact), torch.tensor(100.0), atol=1e-2, rtol=0)


def test_energy_weight_pulls_the_generator_to_the_energy():
    losses = [calogan(energy_weight=w).phases()[1][1].loss(batch_for(calogan())).item() for w in (0.0, 1.0)]
    assert losses[1] > losses[0]


def test_equal_layers_need_no_sizes():
    model = build_model("calogan", (2, 4, 3), 1, **SMALL)
    assert model.layers == ((4, 3), (4, 3))
    assert build_model("calogan", (2, 4, 3), 1, layers=[[4, 3], [4, 3]], **SMALL).config == model.config


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((48,), {"layers": [[3, 8], [4, 4]]}, r"'layers'.*does not make up showers of shape \(48,\)"),
        ((48,), {"layers": []}, "'layers'.*does not make up"),
        ((48,), {}, r"needs showers of shape \(layers, y, x\)"),
        ((1, 4, 4), {"energy_condition": 1}, "'energy_condition'.*there are 1 conditions"),
        ((1, 4, 4), {"latent": 0}, "'latent'.*greater than or equal to 1"),
    ],
)
def test_bad_options_are_explained(shape, options, message):
    with pytest.raises(CaloforgeError, match=message):
        build_model("calogan", shape, 1, **options)


# -- a detector whose layers differ, from training to the report ----------------------------------------------------


def atlas_showers(n, seed):
    """Showers that deposit a sixth of the energy around the middle of each layer, more of it in the second."""
    rng = np.random.default_rng(seed)
    detector = Detector.load("atlas-lar")
    energy = rng.uniform(1e3, 1e5, n)
    distance = np.hypot(*detector.voxel_positions[:, :2].T)
    share = np.exp(-distance / 30) * np.array([0.2, 0.7, 0.1])[detector.voxel_layers]
    voxels = rng.gamma(1.0, size=(n, detector.n_voxels)) * share / share.sum() * energy[:, None] / 6
    voxels[voxels < 0.1] = 0
    incident = Incident.of(energy, -11)
    return Showers.from_dense(voxels.astype(np.float32), incident, detector)


def atlas_config(**changes):
    return {
        "model": {"name": "calogan", **SMALL},
        "data": {"conditions": ["energy"], "validation": 0.1},
        "transform": [{"name": "threshold"}, {"name": "scale", "scale": 100.0}],
        "training": {"batch_size": 16, "phases": [{"steps": 10}, {"steps": 3}]},
        **changes,
    }


@pytest.mark.filterwarnings("ignore:only 60 showers:caloforge.errors.CaloforgeWarning")
def test_from_training_to_a_report_with_layers_that_differ(tmp_path):
    real = tmp_path / "real.h5"
    atlas_showers(60, 1).write(real)
    config = tmp_path / "config.toml"
    config.write_text(to_toml(atlas_config()))
    model = tmp_path / "run" / "model.safetensors"
    for command in (
        ["train", config, "--data", real, "-o", tmp_path / "run"],
        ["generate", model, "--like", real, "-o", tmp_path / "fake.h5"],
        ["evaluate", real, tmp_path / "fake.h5", "-o", tmp_path / "report", "--repeats", 1],
        ["info", tmp_path / "fake.h5"],
        ["info", model],
    ):
        code, out, error = run(*command)
        assert code == 0, (command[0], error)
    assert "atlas-lar" in out
    assert Showers.read(tmp_path / "fake.h5").detector.shape == (504,)
    assert Checkpoint.load(model).model.layers == ((3, 96), (12, 12), (12, 6))


@pytest.mark.parametrize("given", [{}, {"per": "layer"}])
def test_standardising_layers_that_differ_is_refused(given, tmp_path):
    config = atlas_config(transform=[{"name": "standardise", **given}])
    with pytest.raises(CaloforgeError, match=r"cannot work per layer on 'atlas-lar'.*\"all\" or per = \"voxel\""):
        train(read_config(config, TrainConfig), atlas_showers(40, 1), tmp_path / "run")


@pytest.mark.parametrize("name", sorted(set(TRANSFORMS) - {"logit"}))
def test_transforms_take_flat_showers(name):
    options = {"scale": {"scale": 10.0}, "standardise": {"per": "voxel"}}.get(name, {})
    showers = atlas_showers(20, 1)
    voxels, energy = torch.from_numpy(showers.dense()), torch.from_numpy(showers.incident.energy).float()
    assert voxels.shape == (20, 504)
    transform = build_transform([{"name": name, **options}]).fit(voxels, energy)
    there = transform(voxels, energy)
    assert there.shape == voxels.shape
    torch.testing.assert_close(transform.inverse(there, energy), voxels, rtol=1e-3, atol=1e-2)
