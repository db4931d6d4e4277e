"""Networks of the same layers run as one, for generation on a CPU: their channels are the groups of each convolution.

A call of a convolution costs about 0.04 ms before it has computed anything, as much as an image of 15 x 15 with 16
channels then takes; so of a single shower three networks in one cost little more than one does alone. Weights are
brought into the order that the convolution wants once, not at every call. Batch normalisation is a factor and a
summand for each channel: part of the next convolution if that sees no zeros around its image, else given while the
image gets its zeros. The same numbers as the plain layers up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .energy_gan import SLOPE, Block
from .phases import Enlarging, channels_last, transposed_phases, transposed_sizes


class SideBySide:
    """Networks of two-dimensional blocks that differ in their weights only, with these as they are now.

    Args:
        networks: the blocks (`Block`) of each.
    """

    def __init__(self, networks: Sequence[nn.ModuleList]) -> None:
        self.stages = [Stage(blocks) for blocks in zip(*networks, strict=True)]
        for one, other in pairwise(self.stages):
            other.take_normalisation(one)

    def __call__(self, x: Tensor) -> Tensor:
        """Images (B, networks in, h, w) to images (B, networks out, H, W), channels last."""
        x = channels_last(F.pad(x, self.stages[0].margins))
        for stage, margins in zip(self.stages, [*(stage.margins for stage in self.stages[1:]), []], strict=True):
            x = stage(x, margins)
        return x


class Stage:
    """The same block of all networks.

    Args:
        blocks: one of each network, with batch normalisation.

    Attributes:
        margins: zeros that must be around the image, as `F.pad` wants them; none if empty.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        first, self.groups = blocks[0], len(blocks)
        self.margins = first.padding if any(first.padding) else []
        self.layer = first.convolution
        layers = [block.convolution for block in blocks]
        self.weight = torch.cat([x.weight.transpose(0, 1) if x.transposed else x.weight for x in layers]).detach()
        self.bias = torch.cat([x.bias for x in layers if x.bias is not None]).detach()
        self.factor, self.summand = (torch.cat(each) for each in zip(*map(_normalisation, blocks), strict=True))
        self.normalises = True
        self.enlarging: Enlarging | None = None
        if isinstance(self.layer, nn.ConvTranspose2d):
            self.enlarging = transposed_phases(self.layer, self.weight, self.bias, self.groups)
        self.weight = channels_last(self.weight)

    def take_normalisation(self, before: Stage) -> None:
        """Do the normalisation of the stage before too, if zeros around the image do not make it another at edges."""
        if self.margins or self.enlarging or any(self.layer.padding):
            return
        each = self.weight.reshape(self.groups, -1, *self.weight.shape[1:])  # (groups, out, in, y, x)
        factor, summand = (x.reshape(self.groups, 1, -1, 1, 1) for x in (before.factor, before.summand))
        self.bias = self.bias + (each * summand).sum((2, 3, 4)).flatten()
        self.weight = channels_last((each * factor).flatten(0, 1))
        before.normalises = False

    def __call__(self, x: Tensor, margins: Sequence[int]) -> Tensor:
        """Images (B, groups in, h, w) to images (B, groups out, H, W) with the next stage's margins."""
        if self.enlarging:
            assert isinstance(self.layer, nn.ConvTranspose2d)
            sizes = transposed_sizes(self.layer, x.shape[2:])
            y = self.enlarging.joined(F.leaky_relu_(self.enlarging.seen(x, sizes), SLOPE), sizes)
        else:
            y = F.conv2d(x, self.weight, self.bias, padding=self.layer.padding, groups=self.groups)
            y = F.leaky_relu_(y, SLOPE)
        if not self.normalises:
            return y
        return framed(y, self.factor.view(-1, 1, 1), self.summand.view(-1, 1, 1), margins)


def framed(x: Tensor, factor: Tensor, summand: Tensor, margins: Sequence[int]) -> Tensor:
    """Images (B, C, h, w) times a factor plus a summand, zeros around them, channels last."""
    if not margins:
        return torch.addcmul(summand, x, factor)
    left, right, above, below = margins
    n, channels, height, width = x.shape
    out = x.new_zeros(n, above + height + below, left + width + right, channels).movedim(-1, 1)
    torch.addcmul(summand, x, factor, out=out[:, :, above : above + height, left : left + width])
    return out


def _normalisation(block: Block) -> tuple[Tensor, Tensor]:
    """Factor and summand (C,) of a block's batch normalisation when it is not trained."""
    norm = block.norm
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    factor = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
    return factor, norm.bias.detach() - factor * norm.running_mean
