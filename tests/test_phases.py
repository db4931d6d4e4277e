import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from caloforge.models.phases import (
    Enlarging,
    Memo,
    Repeated3d,
    Transposed2d,
    Transposed3d,
    repeated_axis,
    transposed_axis,
)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "extra"),
    [(4, 2, 1, 0), (5, 3, 1, 0), (5, 2, 2, 1), (3, 1, 0, 0), (2, 3, 0, 0), ((1, 4), (1, 2), (0, 1), 0)],
)
def test_a_transposed_convolution_by_phases_is_one(kernel, stride, padding, extra):
    torch.manual_seed(0)
    layer = Transposed2d(3, 2, kernel, stride, padding, extra)
    x = torch.randn(2, 3, 6, 5)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), nn.ConvTranspose2d.forward(layer, x))
    assert layer(x).requires_grad  # in training PyTorch's own


@pytest.mark.parametrize("bias", [True, False])
def test_with_three_axes_too(bias):
    torch.manual_seed(0)
    layer = Transposed3d(3, 2, (4, 1, 4), (2, 1, 2), (1, 0, 1), bias=bias)
    x = torch.randn(2, 3, 4, 1, 5)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), nn.ConvTranspose3d.forward(layer, x))


@pytest.mark.parametrize(
    ("kernel", "factors", "padding"),
    [
        ((8, 5, 6), (2, 2, 2), [(0, 0), (2, 2), (2, 2)]),
        ((8, 3, 3), (3, 2, 2), [(3, 3), (0, 0), (1, 1)]),
        ((2, 1, 2), (3, 1, 2), [(1, 2), (0, 0), (0, 3)]),
    ],
)
def test_a_convolution_of_repeated_voxels_by_phases_is_one(kernel, factors, padding):
    torch.manual_seed(0)
    layer, x = nn.Conv3d(2, 3, kernel), torch.randn(2, 2, 6, 5, 5)
    repeated = nn.Upsample(scale_factor=tuple(float(f) for f in factors))(x)
    expected = layer(F.pad(repeated, [n for pair in reversed(padding) for n in pair]))
    with torch.no_grad():
        torch.testing.assert_close(Repeated3d(factors, padding)(x, layer), expected, atol=1e-5, rtol=1e-5)


def test_the_window_is_as_narrow_as_can_be():
    assert transposed_axis(4, 2, 1).taps.shape == (2, 2, 4)  # not the three that outputs 2 w and 2 w + 1 see
    assert repeated_axis(3, 2, 0).taps.shape == (2, 2, 3)


@torch.no_grad()
def test_changed_weights_are_seen():
    layer, x = Transposed2d(1, 1, 4, 2, 1), torch.ones(1, 1, 3, 3)
    before = layer(x)
    made = layer.memo(layer, lambda: pytest.fail("they have not changed"))
    assert isinstance(made, Enlarging)
    layer.weight.mul_(2)
    layer.bias.add_(1)
    torch.testing.assert_close(layer(x), nn.ConvTranspose2d.forward(layer, x))
    assert not torch.equal(layer(x), before)
    layer.load_state_dict({name: torch.zeros_like(value) for name, value in layer.state_dict().items()})
    assert torch.equal(layer(x), torch.zeros(1, 1, 6, 6))


@torch.no_grad()
def test_other_precisions_are_left_to_pytorch():
    layer, x = Transposed2d(1, 1, 4, 2, 1), torch.ones(1, 1, 3, 3)
    expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert torch.equal(layer(x), expected)
    assert layer.double()(x.double()).dtype == torch.float64


def test_copies_start_without_what_was_kept():
    layer = Transposed2d(1, 1, 4, 2, 1)
    with torch.inference_mode():
        layer(torch.ones(1, 1, 3, 3))
    other = copy.deepcopy(layer)
    assert isinstance(other.memo, Memo)
    with torch.no_grad():
        other.weight.zero_()
        other.bias.zero_()
        assert torch.equal(other(torch.ones(1, 1, 3, 3)), torch.zeros(1, 1, 6, 6))
