"""3DGAN: showers from 3D convolutions, the baseline that `2dgan` is measured against.

Carminati, Khattak, Vallecorsa et al., "Three dimensional Generative Adversarial Networks for fast simulation", J. Phys.
Conf. Ser. 1085 (2018) 032016; Belayneh et al., "Calorimetry with Deep Learning: Particle Simulation and Reconstruction
for Collider Physics", arXiv 1912.06794.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .blocks import Sizes, axes, centre_crop, convolved, thin, three
from .energy_gan import Block, EnergyGan, Painter, Trunk, same, scaled
from .phases import Repeated3d, draws_on_cpu


class Generator(Painter):
    """Dense layer to a small cube, enlarged twice by repeating voxels, four convolutions (3DGAN's)."""

    def __init__(self, shape: Sizes, n_inputs: int, width: float) -> None:
        super().__init__()
        self.shape = shape
        n_base, n_first, n_other = scaled(width, 8, 64, 6)
        # What the layers below leave of base b: 6 b - 23 in depth, 4 b - 3 across; of (8, 7, 7) thus 25 each.
        depth, y, x = (-(-(n + over) // factor) for n, over, factor in zip(shape, (23, 3, 3), (6, 4, 4), strict=True))
        base = axes(shape, (depth, y, x), 1)
        self.base = (n_base, *base)
        self.dense = nn.Linear(n_inputs, math.prod(self.base))
        first = axes(shape, (8, 6, 6), 1)
        self.first = Block(nn.Conv3d(n_base, n_first, first), [same(k) for k in first])
        self.grow = nn.Upsample(scale_factor=_floats(axes(shape, (2, 2, 2), 1)))
        self.second = Block(
            nn.Conv3d(n_first, n_other, axes(shape, (8, 5, 6), 1)), _both_sides(axes(shape, (0, 2, 2), 0))
        )
        self.grow_again = nn.Upsample(scale_factor=_floats(axes(shape, (3, 2, 2), 1)))
        third = nn.Conv3d(n_other, n_other, axes(shape, (8, 3, 3), 1))
        self.third = Block(third, _both_sides(axes(shape, (3, 0, 1), 0)), normalise=False)
        self.last = nn.Conv3d(n_other, 1, axes(shape, (2, 2, 2), 1), bias=False)
        self.second_of_repeated = Repeated3d(axes(shape, (2, 2, 2), 1), self.second.sides)
        self.third_of_repeated = Repeated3d(axes(shape, (3, 2, 2), 1), self.third.sides)

    def forward(self, inputs: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """(B, n_inputs) -> raw values (B, L, Y, X)."""
        x = self.dense(inputs).unflatten(1, self.base)  # (B, 8, 8, 7, 7)
        if draws_on_cpu(x):
            return self._quick(x)
        x = self.second(self.grow(self.first(x)))  # (B, 64, 16, 14, 14) -> (B, 6, 9, 14, 13)
        x = self.last(self.third(self.grow_again(x)))  # (B, 6, 27, 28, 26) -> (B, 6, 26, 26, 26) -> (B, 1, 25, 25, 25)
        return centre_crop(x.squeeze(1), self.shape)

    def _quick(self, x: Tensor) -> Tensor:
        """The same from the small cube (B, 8, 8, 7, 7) on; voxels are not repeated, nor what is cut computed."""
        x = self.second.after(self.second_of_repeated(self.first(x), self.second.convolution))
        x = self.third.after(self.third_of_repeated(x, self.third.convolution))
        return thin(x, self.last.weight[0], self.shape)


class Convolutions(Trunk):
    """Four convolutions and an average over 2 x 2 x 2 (3DGAN's discriminator)."""

    def __init__(self, shape: Sizes, width: float, stride: int, drop: float) -> None:
        super().__init__()
        size = shape
        channels = [1, *scaled(width, 16, 8, 8, 8)]
        blocks = []
        for i, padding in enumerate((None, 2, 2, 1)):
            kernel = axes(shape, (6, 6, 5), 1)
            pads = [same(k) for k in kernel]
            if padding is not None:
                pads = _both_sides(axes(shape, (padding, padding, padding), 0))
            padded = three(n + sum(pad) for n, pad in zip(size, pads, strict=True))
            # Small showers become smaller than the kernel.
            kernel = three(min(k, n) for k, n in zip(kernel, padded, strict=True))
            step = 1 if i else stride
            size = three(convolved(n, k, step, 0) for n, k in zip(padded, kernel, strict=True))
            convolution = nn.Conv3d(channels[i], channels[i + 1], kernel, step)
            blocks.append(Block(convolution, pads, normalise=i > 0, drop=drop))
        self.blocks = nn.ModuleList(blocks)
        pool = three(min(2, n) for n in size)
        self.pool = nn.AvgPool3d(pool)
        self.n_features = channels[-1] * math.prod(n // p for n, p in zip(size, pool, strict=True))

    def forward(self, showers: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """(B, L, Y, X) -> features (B, F)."""
        x = showers.unsqueeze(1)
        for block in self.blocks:
            x = block(x, rng)
        features: Tensor = self.pool(x).flatten(1)
        return features


class Gan3d(EnergyGan):
    """3DGAN: Conv3D networks, noise times energy, a discriminator that reads energies (arXiv 1912.06794).

    The networks are those of the original for perpendicular electrons ("Three dimensional Generative Adversarial
    Networks for fast simulation"; used in "Calorimetry with Deep Learning", arXiv 1912.06794). For 25^3 voxels: a
    dense layer to 8 channels of 8 x 7 x 7 (the depth first here), Conv3D 64 (8x6x6), doubled, Conv3D 6 (8x5x6),
    enlarged 3 x 2 x 2, Conv3D 6 (8x3x3), Conv3D 1 (2x2x2); the discriminator has Conv3D 16, 8, 8, 8 (6x6x5), an
    average over 2 x 2 x 2, and all the dropout. Other shapes keep kernels and factors, start from another cube and
    are cut to size; an axis of a single voxel is left alone. The loss and its weights are those of `2dgan`.

    Zeros: the last ReLU makes exact zeros, so the transform must map zero to zero (scale, log, box-cox,
    per-incident-energy, or standardise with ``centre = false``); sums of cells must be positive.

    Trap: energy reaches the generator as the length of the noise only, so faint showers hardly fluctuate and the
    energy is known to 1 / sqrt(2 Z) (see ``join_energy``). Generation uses batch normalisation's running means over
    the training's mix of energies: a generator stopped after some ten iterations generates nonsense.

    Args:
        shape: (L, Y, X).
        n_conditions: C; the paper has one, the energy.
        options: those of `EnergyGan`; ``dropout`` is the discriminator's.
    """

    name = "3dgan"

    def _build_generator(self, shape: Sizes, n_inputs: int, width: float, drop: float) -> Painter:
        return Generator(shape, n_inputs, width)

    def _build_trunk(self, shape: Sizes, width: float, stride: int, drop: float) -> Trunk:
        return Convolutions(shape, width, stride, drop)


def _both_sides(padding: Sizes) -> list[tuple[int, int]]:
    return [(n, n) for n in padding]


def _floats(factors: Sizes) -> tuple[float, float, float]:
    z, y, x = factors
    return float(z), float(y), float(x)
