"""Fast simulation to full simulation of calorimeter images with a conditional GAN.

Simsek, Isildak, Dogru, Aydogan, Bayrak, Ertekin, "CALPAGAN: Calorimetry for Particles using GANs", PTEP (2024),
arXiv 2401.02248. It goes back to pix2pix, arXiv 1611.07004.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..options import Count, NotNegative
from .blocks import centre_crop
from .paired import PairedGan, require_pair

POOLS = (2, 2, 2, 3, 3)


class SharedNorm(nn.Module):
    """Batch normalisation for two layers of a block with one scale and one shift.

    The published number of parameters says that one serves both. But each layer keeps running statistics of its own:
    those of both in one would fit neither, and a trained generator would give nonsense outside of training.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.each = nn.ModuleList(nn.BatchNorm2d(width, affine=False) for _ in range(2))

    def forward(self, x: Tensor, layer: int) -> Tensor:
        """(B, C, Y, X) of the first (0) or the second (1) layer -> the same shape."""
        out: Tensor = self.each[layer](x) * self.weight[:, None, None] + self.bias[:, None, None]
        return out


class OfEachImage(nn.InstanceNorm2d):
    """Normalisation of each image by itself, which keeps nothing and so serves any layer."""

    def forward(self, x: Tensor, layer: int = 0) -> Tensor:
        """(B, C, Y, X) -> the same shape."""
        return super().forward(x)


class Contracting(nn.Module):
    """Two convolutions that double the channels, and a pool."""

    def __init__(self, n_in: int, pool: int, norm: type[nn.Module]) -> None:
        super().__init__()
        self.first = nn.Conv2d(n_in, 2 * n_in, 3, padding=1)
        self.second = nn.Conv2d(2 * n_in, 2 * n_in, 3, padding=1)
        self.norm = norm(2 * n_in)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Y, X) -> (B, 2 C, Y / pool, X / pool)."""
        x = F.leaky_relu(self.norm(self.first(x), 0), 0.2)
        x = F.leaky_relu(self.norm(self.second(x), 1), 0.2)
        return F.max_pool2d(x, self.pool)


class Expanding(nn.Module):
    """The reverse of a contracting block; it sees the image of equal size on the way down."""

    def __init__(self, n_in: int, scale: int) -> None:
        super().__init__()
        n_out = n_in // 2
        self.first = nn.Conv2d(n_in, n_out, 2)
        self.second = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.third = nn.Conv2d(n_out, n_out, 2, padding=1)
        self.norm = SharedNorm(n_out)
        self.scale = scale

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, C, y, x), (B, C / 2, Y, X) -> (B, C / 2, Y, X)."""
        x = self.first(F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=True))
        x = torch.cat([x, centre_crop(skip, x.shape[2:])], dim=1)
        x = F.leaky_relu(self.norm(self.second(x), 0), 0.2)
        return F.leaky_relu(self.norm(self.third(x), 1), 0.2)


class UNet(nn.Module):
    """Five contracting and five expanding blocks between 1 x 1 maps."""

    def __init__(self, n_in: int, width: int) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(len(POOLS))]
        self.enter = nn.Conv2d(n_in, width, 1)
        self.down = nn.ModuleList(Contracting(n, p, SharedNorm) for n, p in zip(widths, POOLS, strict=True))
        self.up = nn.ModuleList(Expanding(2 * n, p) for n, p in zip(widths[::-1], POOLS[::-1], strict=True))
        self.leave = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Y, X) -> (B, 1, Y, X)."""
        x = self.enter(x)
        skips = []
        for block in self.down:
            skips.append(x)
            x = block(x)
        for block, skip in zip(self.up, skips[::-1], strict=True):
            x = block(x, skip)
        out: Tensor = self.leave(x)
        return out


class Discriminator(nn.Module):
    """Three contracting blocks between 1 x 1 maps; each patch of the image gets its own logit."""

    def __init__(self, n_in: int, width: int) -> None:
        super().__init__()
        blocks = [Contracting(width * 2**i, POOLS[i], OfEachImage) for i in range(3)]
        self.layers = nn.Sequential(nn.Conv2d(n_in, width, 1), *blocks, nn.Conv2d(8 * width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Y, X) -> logits (B, 1, Y / 8, X / 8)."""
        logits: Tensor = self.layers(x)
        return logits


class Calpagan(PairedGan):
    """U-Net that corrects the fast image, against a patch discriminator (CALPAGAN, arXiv 2401.02248).

    The fast image x and a channel of noise z go through the U-Net; x + G(x, z) is the image, for the discriminator and
    for ``L = log(1 + exp(-D)) + lambda |y - x - G|``. Generator and discriminator have the published numbers of
    parameters, 7 339 377 and 72 881: so one layer of normalisation serves both convolutions of a block, and the
    discriminator sees the image alone (``conditional=True`` gives it the fast image too, as the paper's equation 1).

    Normalisation: the paper divides the full image by its own largest tower, which nobody knows when generating. Here
    both are divided by the fast image's largest tower (transform ``per-fast-maximum``), the only one at hand; a full
    image may so exceed one, and nothing in the network forbids it.

    Zeros: the output is linear while training, as published; a ReLU on generation makes zeros of what is negative.
    The faint haze that stays in empty towers is removed by the transform ``threshold``.

    Trap: with lambda 400 the L1 term rules: its minimum is the median image, so two draws from one fast image are
    nearly equal and the spread of the full simulation is not reproduced.

    Args:
        shape: (1, Y, X), Y and X multiples of 72.
        n_conditions: towers of the fast image, Y X.
        width: channels of the first map; doubled five times.
        discriminator_width: channels of the discriminator's first map; doubled three times.
        weight_l1: lambda.
        conditional: whether the discriminator sees the fast image beside.
    """

    def __init__(
        self,
        shape: tuple[Count, ...],
        n_conditions: Count,
        width: Count = 16,
        discriminator_width: Count = 8,
        weight_l1: NotNegative = 400.0,
        conditional: bool = False,
    ) -> None:
        super().__init__(
            shape,
            n_conditions,
            weight_l1,
            width=width,
            discriminator_width=discriminator_width,
            conditional=conditional,
        )
        require_pair(shape, n_conditions, 72, "calpagan")
        self.latent_size = n_conditions
        self.conditional = conditional
        self.generator = UNet(2, width)
        self.discriminator = Discriminator(1 + conditional, discriminator_width)

    def raw(self, latent: Tensor, fast: Tensor) -> Tensor:
        """Latent (N, Y X), fast image (N, 1, Y, X) -> image (N, 1, Y, X), which may be negative."""
        correction: Tensor = self.generator(torch.cat([fast, latent.reshape(fast.shape)], dim=1))
        return fast + correction
