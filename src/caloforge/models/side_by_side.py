"""Networks of the same layers run as one, for generation on a CPU: their channels are the groups of each convolution.

A call of a convolution costs about 0.04 ms before it has computed anything, as much as an image of 15 x 15 with 16
channels then takes; so of a single shower three networks in one cost little more than one does alone. Weights are
brought into the order that the convolution wants once, not at every call. Batch normalisation is a factor and a
summand for each channel: part of the next convolution if that sees no zeros around its image, else given while the
image gets its zeros. The same numbers as the plain layers up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .energy_gan import SLOPE, Block
from .halved import WIDE, Halved
from .phases import channels_last, transposed_phases, transposed_sizes


class SideBySide:
    """Networks of two-dimensional blocks that differ in their weights only, with these as they are now.

    Args:
        networks: the blocks (`Block`) of each.
    """

    def __init__(self, networks: Sequence[nn.ModuleList]) -> None:
        self.stages: list[Stage] = []
        for blocks in zip(*networks, strict=True):
            self.stages.append(Stage(blocks, self.stages[-1] if self.stages else None))

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
        before: the stage before. Its normalisation is done by this one's weights, if it is the same everywhere.

    Attributes:
        margins: zeros that must be around the image, as `F.pad` wants them; none if empty.
    """

    def __init__(self, blocks: Sequence[Block], before: Stage | None) -> None:
        layers, self.groups = [block.convolution for block in blocks], len(blocks)
        self.margins = blocks[0].padding if any(blocks[0].padding) else []
        self.factor, self.summand = (torch.cat(each) for each in zip(*map(_normalisation, blocks), strict=True))
        self.normalises = True
        weight = torch.cat([x.weight.transpose(0, 1) if x.transposed else x.weight for x in layers]).detach()
        bias = torch.cat([x.bias for x in layers if x.bias is not None]).detach()
        zeros_around = self.margins or any(layers[0].padding) or layers[0].transposed
        if before and not zeros_around:
            weight, bias = before.given_away(weight, bias)
        self.activated = _activated(layers[0], weight, bias, self.groups)

    def given_away(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and bias of a convolution after this stage that does its normalisation, which it then leaves out."""
        self.normalises = False
        each = weight.reshape(self.groups, -1, *weight.shape[1:])  # (groups, out, in, y, x)
        factor, summand = (x.reshape(self.groups, 1, -1, 1, 1) for x in (self.factor, self.summand))
        return (each * factor).flatten(0, 1), bias + (each * summand).sum((2, 3, 4)).flatten()

    def __call__(self, x: Tensor, margins: Sequence[int]) -> Tensor:
        """Images (B, groups in, h, w) to images (B, groups out, H, W) with the next stage's margins."""
        x = self.activated(x)
        if not self.normalises:
            return x
        return framed(x, self.factor.view(-1, 1, 1), self.summand.view(-1, 1, 1), margins)


def _activated(
    layer: nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d, weight: Tensor, bias: Tensor, groups: int
) -> Callable[[Tensor], Tensor]:
    """A convolution of these weights (groups out, in, y, x), otherwise like ``layer``, and LeakyReLU."""
    if isinstance(layer, nn.ConvTranspose2d):
        enlarging = transposed_phases(layer, weight, bias, groups)

        def by_phases(x: Tensor) -> Tensor:
            sizes = transposed_sizes(layer, x.shape[2:])
            return enlarging.joined(F.leaky_relu_(enlarging.seen(x, sizes), SLOPE), sizes)

        return by_phases
    if weight.shape[3] >= WIDE and weight.shape[3] % 2 == 0 and not any(layer.padding):
        halved = Halved(weight, bias, groups)
        return lambda x: F.leaky_relu_(halved(x), SLOPE)
    kernel, padding = channels_last(weight), layer.padding
    return lambda x: F.leaky_relu_(F.conv2d(x, kernel, bias, padding=padding, groups=groups), SLOPE)


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
