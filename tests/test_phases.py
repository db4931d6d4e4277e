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
    transposed_phases,
    transposed_sizes,
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
@pytest.mark.parametrize(("n", "n_in", "n_out"), [(2, 3, 2), (1, 3, 2), (1, 8, 2), (1, 8, 3)])
def test_with_three_axes_too(bias, n, n_in, n_out):
    torch.manual_seed(0)
    layer = Transposed3d(n_in, n_out, (4, 1, 4), (2, 1, 2), (1, 0, 1), bias=bias)
    x = torch.randn(n, n_in, 4, 1, 5)
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
def test_a_memo_sees_every_change_of_a_module():
    network, memo = nn.Sequential(nn.Conv1d(2, 2, 1), nn.BatchNorm1d(2)), Memo()

    def made():
        return memo(network, object)

    before = made()
    assert made() is before
    changes = [
        lambda: network[0].weight.add_(1),
        lambda: setattr(network[0], "bias", nn.Parameter(torch.ones(2))),
        lambda: network(torch.randn(3, 2, 4)),  # running means
        lambda: network.load_state_dict(copy.deepcopy(network.state_dict()), assign=True),
        lambda: network.double(),
    ]
    for change in changes:
        change()
        assert made() is not before
        before = made()
        assert made() is before
    with torch.inference_mode():
        network[0].weight = nn.Parameter(torch.ones(2, 2, 1), requires_grad=False)
    assert made() is not made()  # such weights do not tell when they change


@torch.no_grad()
def test_groups_by_phases_are_those_of_a_transposed_convolution():
    torch.manual_seed(0)
    layer, x = nn.ConvTranspose2d(6, 4, (5, 4), (3, 2), 1, groups=2), torch.randn(2, 6, 4, 5)
    weight = layer.weight.unflatten(0, (2, 3)).transpose(1, 2).flatten(0, 1)  # (groups out, in, ...)
    enlarging = transposed_phases(layer, weight, layer.bias, groups=2)
    sizes = transposed_sizes(layer, x.shape[2:])
    torch.testing.assert_close(enlarging(x, sizes), layer(x))


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
