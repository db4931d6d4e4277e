"""Image to image with a conditional GAN, as it was published for photographs.

Isola, Zhu, Zhou, Efros, "Image-to-Image Translation with Conditional Adversarial Networks", arXiv 1611.07004,
section 6.1 (networks) and 3.3 (training).
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..options import Count, NotNegative
from .blocks import normal_weights
from .paired import PairedGan, require_pair

NOISY = 3  # innermost blocks on the way up that have dropout


class UNet(nn.Module):
    """Convolutions of stride 2 down to a single cell, and back, with a copy of each size joined on the way up."""

    def __init__(self, size: tuple[int, int], width: int) -> None:
        super().__init__()
        depth = int(math.log2(min(size)))
        widths = [width * min(2**i, 8) for i in range(depth)]
        sizes = [size]
        for _ in range(depth):
            sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
        down, up = [], []
        for i, (n_in, n_out) in enumerate(pairwise([1, *widths])):
            inner = 0 < i < depth - 1  # not the first, nor the one whose image is a single cell
            norm = nn.BatchNorm2d(n_out) if inner else nn.Identity()
            down.append(nn.Sequential(nn.Conv2d(n_in, n_out, 4, 2, 1), norm))
            extra = (sizes[i][0] - 2 * sizes[i + 1][0], sizes[i][1] - 2 * sizes[i + 1][1])
            n_up = n_out if i == depth - 1 else 2 * n_out
            step = nn.ConvTranspose2d(n_up, n_in, 4, 2, 1, output_padding=extra)
            up.append(nn.Sequential(step, nn.BatchNorm2d(n_in) if i else nn.Identity()))
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up[::-1])
        self.noise_shapes = [(widths[i - 1], *sizes[i]) for i in range(depth - 1, 0, -1)][:NOISY]

    def forward(self, fast: Tensor, noise: Tensor) -> Tensor:
        """Fast image (B, 1, Y, X), normal noise (B, Z) -> (B, 1, Y, X)."""
        x, skips = fast, []
        for i, block in enumerate(self.down):
            x = block(F.leaky_relu(x, 0.2) if i else x)
            skips.append(x)
        skips.pop()
        parts = torch.split(noise, [math.prod(shape) for shape in self.noise_shapes], dim=1)
        for i, block in enumerate(self.up):
            x = block(F.relu(x))
            if i < len(parts):
                # Dropout of one half: its mask comes from the latent numbers.
                x = 2 * x * (parts[i].reshape(-1, *self.noise_shapes[i]) > 0)
            if skips:
                x = torch.cat([x, skips.pop()], dim=1)
        return x


class PatchDiscriminator(nn.Module):
    """Five convolutions; each patch of the pair gets its own logit."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(2, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for i in range(1, 4):
            stride = 2 if i < 3 else 1
            layers += [
                nn.Conv2d(width * 2 ** (i - 1), width * 2**i, 4, stride, 1, bias=False),
                nn.BatchNorm2d(width * 2**i),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2, Y, X) -> logits (B, 1, y, x)."""
        logits: Tensor = self.layers(x)
        return logits


class Pix2pix(PairedGan):
    """U-Net with dropout as its noise, against a discriminator of patches of the pair (arXiv 1611.07004).

    ``L = log(1 + exp(-D(x, G))) + lambda |y - G|``. The networks are the paper's with as many halvings as the image
    has (six for 72 x 72; the paper's photographs have eight). Differences: one channel; the output is linear and not a
    tanh, because a full image divided by the fast image's largest tower (transform ``per-fast-maximum``, known when
    generating) may exceed one.

    Zeros: a ReLU on generation makes zeros of what is negative; the transform ``threshold`` removes the haze.

    Trap: G must paint the whole image, where `Calpagan` only corrects the fast one; sharp towers come late. Dropout
    hardly varies the output (arXiv 1611.07004, section 3.2 says so itself).

    Args:
        shape: (1, Y, X), Y and X multiples of 8.
        n_conditions: towers of the fast image, Y X.
        width: channels of the generator's first convolution; doubled up to eight times as many.
        discriminator_width: channels of the discriminator's first convolution.
        weight_l1: lambda.
    """

    conditional = True

    def __init__(
        self,
        shape: tuple[Count, ...],
        n_conditions: Count,
        width: Count = 64,
        discriminator_width: Count = 64,
        weight_l1: NotNegative = 100.0,
    ) -> None:
        super().__init__(shape, n_conditions, weight_l1, width=width, discriminator_width=discriminator_width)
        size = require_pair(shape, n_conditions, 8, "pix2pix")
        self.generator: UNet = UNet(size, width)
        self.discriminator = PatchDiscriminator(discriminator_width)
        self.latent_size = sum(math.prod(shape) for shape in self.generator.noise_shapes)
        normal_weights(self)

    def raw(self, latent: Tensor, fast: Tensor) -> Tensor:
        """Latent (N, Z), fast image (N, 1, Y, X) -> image (N, 1, Y, X), which may be negative."""
        image: Tensor = self.generator(fast, latent)
        return image
