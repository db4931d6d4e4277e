import pytest
import torch
from torch.nn import functional as F

from caloforge.models.halved import Halved


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("size", [(9, 13), (4, 8), (7, 14)])
@pytest.mark.parametrize("kernel", [(4, 8), (1, 2)])
@pytest.mark.parametrize(("n_in", "n_out"), [(2, 5), (1, 1)])
@torch.no_grad()
def test_three_convolutions_of_half_the_taps_are_one(groups, size, kernel, n_in, n_out):
    torch.manual_seed(0)
    weight, bias = torch.randn(n_out * groups, n_in, *kernel), torch.randn(n_out * groups)
    x = torch.randn(2, n_in * groups, *size).contiguous(memory_format=torch.channels_last)
    expected = F.conv2d(x.double(), weight.double(), bias.double(), groups=groups).float()
    torch.testing.assert_close(Halved(weight, bias, groups)(x), expected, atol=3e-5, rtol=1e-5)
