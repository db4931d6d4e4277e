import pytest
import torch
from torch import nn

from caloforge.models import build_model
from caloforge.models.energy_gan import Block
from caloforge.models.phases import Transposed2d
from caloforge.models.side_by_side import SideBySide

SMALL = {"latent": 8, "generator_width": 0.06, "discriminator_width": 0.06}


def network(seed):
    torch.manual_seed(seed)
    return nn.ModuleList(
        [
            Block(nn.Conv2d(2, 3, 4), [(1, 2), (1, 2)]),
            Block(nn.Conv2d(3, 4, 3, padding=1)),
            Block(Transposed2d(4, 5, 5, 2, 2, 1)),
            Block(nn.Conv2d(5, 3, 3)),
            Block(nn.Conv2d(3, 3, (2, 8)), [(0, 1), (3, 4)]),
        ]
    )


def as_trained(module):
    """With running means and factors of both signs, as batch normalisation does not start."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.weight, part.bias, part.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
    return module.eval()


def plain(model, latent, condition):
    """The layers one by one, as with gradients."""
    with torch.enable_grad():
        return model(latent, condition).detach()


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("batch", [1, 4])
def test_networks_run_as_one(n, batch):
    networks = [as_trained(network(seed)) for seed in range(n)]
    x = torch.randn(batch, 2 * n, 5, 6)
    expected = []
    for blocks, image in zip(networks, x.chunk(n, dim=1), strict=True):
        for block in blocks:
            image = block(image)
        expected.append(image.detach())
    with torch.inference_mode():
        found = SideBySide(networks)(x)
    torch.testing.assert_close(found, torch.cat(expected, dim=1), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "parts"), [((5, 7, 6), 3), ((6, 7, 7), 2), ((8, 8, 8), 1), ((4, 1, 7), 3), ((1, 1, 9), 2)]
)
def test_2dgan_drawn_on_a_cpu_is_2dgan(shape, parts):
    torch.manual_seed(0)
    model = as_trained(build_model("2dgan", shape, 2, **SMALL))
    model.head = lambda raw, condition, noise: raw
    latent, condition = torch.randn(3, model.latent_size), torch.randn(3, 2)
    expected = plain(model, latent, condition)
    with torch.inference_mode():
        found = model(latent, condition)
        merged = model.generator.memo(model.generator, lambda: pytest.fail("nothing was merged"))
    torch.testing.assert_close(found, expected, atol=1e-5 * expected.abs().max().item(), rtol=1e-5)
    assert len(merged.parts) == parts


@torch.no_grad()
def test_2dgan_sees_its_weights_change_and_leaves_training_alone():
    model = as_trained(build_model("2dgan", (5, 6, 6), 1, **SMALL))
    latent, condition = torch.randn(2, model.latent_size), torch.randn(2, 1)
    first = model(latent, condition)
    model.generator.branches[1].blocks[3].norm.bias.add_(1)
    second = model(latent, condition)
    assert not torch.equal(first, second)
    torch.testing.assert_close(second, plain(model, latent, condition), atol=1e-5, rtol=1e-5)
    before = model.generator.branches[0].blocks[0].norm.running_mean.clone()
    in_training = model.train()(latent, condition)  # of the batch's means
    assert not torch.allclose(in_training, second)
    assert not torch.equal(model.generator.branches[0].blocks[0].norm.running_mean, before)
    torch.testing.assert_close(model.eval()(latent, condition), plain(model, latent, condition), atol=1e-5, rtol=1e-5)
