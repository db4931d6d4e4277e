import pytest
import torch

from caloforge.models.moments import MomentReader, Moments


def rows(image):
    return torch.as_tensor(image, dtype=torch.float32).flatten(1)[None]


def bare(layers, width):
    """Not standardised."""
    moments = Moments(layers, width).eval()
    moments.scale.mean.zero_()
    moments.scale.square.fill_(1.0)
    return moments


def test_one_voxel():
    moments = bare([(5, 7)], 35)
    image = torch.zeros(1, 5, 7)
    image[0, 1, 5] = 3.0
    y, x, core_y, core_x, width, peak = moments(rows(image))[0].tolist()
    assert y == core_y == pytest.approx(-1 / 2.5) and x == core_x == pytest.approx(2 / 3.5)
    assert width == pytest.approx((y**2 + x**2) ** 0.5) and peak == 0


def test_a_core_on_a_flat_halo():
    moments = bare([(9, 9)], 81)
    image = torch.ones(1, 9, 9)
    image[0, 4, 6] = 10.0
    y, x, core_y, core_x, _, peak = moments(rows(image))[0].tolist()
    assert max(abs(y), abs(core_y)) < 1e-6 and 0 < x < core_x < 2 / 4.5
    assert peak == pytest.approx(torch.tensor(1e4 / (1e4 + 80)).log().item(), rel=1e-4)


def test_mirrored_showers_have_mirrored_centroids():
    moments = bare([(6, 6), (4, 5)], 36)
    first, second = torch.rand(6, 6), torch.rand(4, 5)
    a = torch.zeros(1, 2, 36)
    b = torch.zeros(1, 2, 36)
    a[0, 0], a[0, 1, :20] = first.flatten(), second.flatten()
    b[0, 0], b[0, 1, :20] = first.flip(1).flatten(), second.flip(1).flatten()
    sign = torch.tensor([1, 1, -1, -1, 1, 1, -1, -1, 1, 1, 1, 1.0])
    torch.testing.assert_close(moments(b)[0], sign * moments(a)[0], rtol=1e-4, atol=1e-5)


def test_empty_layers_give_numbers():
    reader = MomentReader([(3, 3), (2, 2)], 9, 2, 4)
    read = reader(torch.zeros(5, 2, 9), torch.zeros(5, 2))
    assert read.shape == (5, 8) and torch.isfinite(read).all()


def test_standardised_in_training_only():
    moments = Moments([(4, 4)], 16)
    x = torch.rand(500, 1, 16)
    moments(x)
    moments.eval()
    standardised = moments(x)
    torch.testing.assert_close(standardised.mean(0), torch.zeros(6), rtol=0, atol=0.02)
    torch.testing.assert_close(standardised.std(0), torch.ones(6), rtol=0, atol=0.02)
