"""A convolution with a wide kernel as three with every other of its taps, for generation on a CPU.

Outputs in pairs: with h the even taps, k the odd ones, and a, b, c the inputs at even places, at odd ones and at the
even ones that follow, a pair is (a h + b k, b h + c k): four convolutions of half the taps and outputs. Three do:
b (h + k) is common to both, and what lacks is (a - b) h and (c - b) k (Winograd's F(2, 2): Lavin, Gray, arXiv
1509.09308; of his algorithms the one that only adds and subtracts). A quarter of the products is saved for three
passes over the images: it pays for kernels as wide as 8. The same numbers up to rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .phases import channels_last

WIDE = 8
"""Taps along the last axis from which it pays."""


class Halved:
    """A convolution of stride one without padding, made once of a layer's weights.

    Args:
        weight: (groups out, in, height, width), an even width.
        bias: (groups out,).
        groups: of the convolution.
    """

    def __init__(self, weight: Tensor, bias: Tensor, groups: int) -> None:
        even, odd = weight[..., 0::2], weight[..., 1::2]
        self.own, self.bias = channels_last(torch.cat([even, -odd])), bias.repeat(2)
        self.common, self.groups, self.taps = channels_last(even + odd), groups, even.shape[3]

    def __call__(self, x: Tensor) -> Tensor:
        """Images (B, groups in, y, x) to images (B, groups out, Y, X), channels last."""
        wide = x.shape[3] - 2 * self.taps + 1
        if wide % 2:
            x = F.pad(x, [0, 1])
        end = 2 * ((wide + 1) // 2 + self.taps - 1)
        # In memory two places beside each other are one with twice the channels: a - b, then b - c.
        steps = (x[..., :end] - x[..., 1 : end + 1]).permute(0, 2, 3, 1)
        given = steps.reshape(*steps.shape[:2], end // 2, -1).permute(0, 3, 1, 2)
        pairs = F.conv2d(given, self.own, self.bias, groups=2 * self.groups).permute(0, 2, 3, 1)
        common = F.conv2d(channels_last(x[..., 1:end:2]), self.common, groups=self.groups).permute(0, 2, 3, 1)
        pairs = pairs.reshape(*common.shape[:3], 2, -1).add_(common.unsqueeze(3))
        return pairs.flatten(2, 3).permute(0, 3, 1, 2)[..., :wide]
