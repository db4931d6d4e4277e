"""3D showers from 2D convolutions: three views of the shower, each with another axis as channels.

Rehm, Vallecorsa, Borras, Krücker, "Validation of Deep Convolutional Generative Adversarial Networks for High Energy
Physics Calorimeter Simulations", arXiv 2103.13698.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import Sizes, centre_crop, convolved
from .energy_gan import Block, EnergyGan, Painter, Trunk, same, scaled
from .phases import Memo, Transposed2d, channels_last, draws_on_cpu
from .side_by_side import SideBySide

VIEWS = ((0, 1, 2, 3), (0, 2, 1, 3), (0, 3, 1, 2))
"""How (B, L, Y, X) is permuted so that L, Y or X comes to be the channel axis."""
BACK = ((0, 1, 2, 3), (0, 2, 1, 3), (0, 2, 3, 1))
"""How each view is permuted back."""

Image = tuple[int, int]


class Branch(nn.Module):
    """One view from the small cube to full size: 5 x 5 -> 15 x 15 -> 30 x 30 -> 26 x 26 -> 25 x 25."""

    def __init__(self, channels: tuple[int, int], image: Image, width: float, drop: float) -> None:
        super().__init__()
        wide, narrow = scaled(width, 64, 32)
        n_in, n_out = channels
        self.sizes = (channels, image)

        def kept(n_in: int, n_out: int, size: int) -> Block:
            kernel = _axes(image, size, 1)
            sides = [same(k) for k in kernel]
            if all(before == after for before, after in sides):  # by the convolution itself: no copy
                padding = [before for before, _ in sides]
                return Block(nn.Conv2d(n_in, n_out, kernel, padding=(padding[0], padding[1])), drop=drop)
            return Block(nn.Conv2d(n_in, n_out, kernel), sides, drop=drop)

        def cut(n_in: int, n_out: int, size: int) -> Block:
            return Block(nn.Conv2d(n_in, n_out, _axes(image, size, 1)), drop=drop)

        def enlarged(n_in: int, n_out: int, factor: int) -> Block:
            # The output is exactly ``factor`` times as large.
            kernel, stride = _axes(image, 5, 1), _axes(image, factor, 1)
            padding = _axes(image, 1 if factor == 3 else 2, 0)
            extra = _axes(image, 0 if factor == 3 else 1, 0)
            return Block(Transposed2d(n_in, n_out, kernel, stride, padding, extra), drop=drop)

        self.blocks = nn.ModuleList(
            [
                kept(n_in, narrow, 5),
                enlarged(narrow, wide, 3),
                kept(wide, wide, 5),
                enlarged(wide, wide, 2),
                kept(wide, wide, 8),
                cut(wide, wide, 5),
                kept(wide, narrow, 4),
                kept(narrow, narrow, 3),
                cut(narrow, n_out, 2),
            ]
        )

    def forward(self, x: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """(B, c, h, w) -> (B, C, >= H, >= W)."""
        if draws_on_cpu(x):
            x = channels_last(x)
        for block in self.blocks:
            x = block(x, rng)
        return x


class Generator(Painter):
    """Dense layer to a small cube, a branch for each view of it, their outputs merged by a last convolution."""

    def __init__(self, shape: Sizes, n_inputs: int, width: float, drop: float) -> None:
        super().__init__()
        self.shape = shape
        # A branch makes 6 b - 5 voxels of b: 25 of 5. An axis of one voxel stays one.
        depth, y, x = (1 if n == 1 else -(-(n + 5) // 6) for n in shape)
        self.base = (depth, y, x)
        self.dense = nn.Linear(n_inputs, math.prod(self.base))
        branches = []
        for _, channel, *image in VIEWS:
            height, long = (shape[axis - 1] for axis in image)
            channels = (self.base[channel - 1], shape[channel - 1])
            branches.append(Branch(channels, (height, long), width, drop))
        self.branches = nn.ModuleList(branches)
        self.last = nn.Conv2d(3 * shape[0], shape[0], 3, padding=1)
        self.memo: Memo[Merged] = Memo()

    def forward(self, inputs: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """(B, n_inputs) -> raw values (B, L, Y, X)."""
        cube = self.dense(inputs).unflatten(1, self.base)  # (B, 5, 5, 5)
        if draws_on_cpu(cube) and not self.training:
            return self.memo(self, lambda: Merged(self))(cube)
        seen = []
        for branch, view, back in zip(self.branches, VIEWS, BACK, strict=True):
            seen.append(centre_crop(branch(cube.permute(view), rng).permute(back), self.shape))
        raw: Tensor = self.last(torch.cat(seen, dim=1))  # (B, 75, 25, 25) -> (B, 25, 25, 25)
        return raw


class Merged:
    """A generator after its dense layer, for showers drawn on a CPU: branches of the same sizes run as one.

    Args:
        generator: with its weights as they are now.
    """

    def __init__(self, generator: Generator) -> None:
        self.shape, self.bias = generator.shape, generator.last.bias
        self.weight = channels_last(generator.last.weight.detach())
        branches = [branch for branch in generator.branches if isinstance(branch, Branch)]
        alike: dict[tuple[Image, Image], list[int]] = {}
        for i, branch in enumerate(branches):
            alike.setdefault(branch.sizes, []).append(i)
        self.parts = [(some, SideBySide([branches[i].blocks for i in some])) for some in alike.values()]

    def __call__(self, cube: Tensor) -> Tensor:
        """(B, l, y, x) -> raw values (B, L, Y, X)."""
        seen = [cube] * len(VIEWS)
        for branches, network in self.parts:
            views = [cube.permute(VIEWS[i]) for i in branches]
            made = network(beside(views)).chunk(len(branches), dim=1)
            for i, image in zip(branches, made, strict=True):
                seen[i] = centre_crop(image.permute(BACK[i]), self.shape)
        return F.conv2d(beside(seen), self.weight, self.bias, padding=1)


def beside(images: Sequence[Tensor]) -> Tensor:
    """Images (B, C, H, W) of equal sizes in one (B, n C, H, W), channels last."""
    return torch.stack([image.movedim(1, -1) for image in images], dim=3).flatten(3).movedim(-1, 1)


class Convolutions(Trunk):
    """Six convolutions without padding for each view: 25 x 25 -> 18 -> 13 -> 9 -> 6 -> 4 -> 2 x 2."""

    def __init__(self, shape: Sizes, width: float, stride: int, drop: float) -> None:
        super().__init__()
        self.n_features = 0
        views = []
        for _, channel, *image in VIEWS:
            height, long = (shape[axis - 1] for axis in image)
            blocks = []
            n_in = shape[channel - 1]
            for i, (n_out, k) in enumerate(zip(scaled(width, 64, 32, 32, 32, 32, 9), (8, 6, 5, 4, 3, 3), strict=True)):
                # Small showers become smaller than the kernel.
                kernel = (min(k, height), min(k, long))
                step = 1 if i else stride
                blocks.append(Block(nn.Conv2d(n_in, n_out, kernel, step), normalise=i > 0, drop=drop))
                height, long, n_in = convolved(height, kernel[0], step, 0), convolved(long, kernel[1], step, 0), n_out
            views.append(nn.ModuleList(blocks))
            self.n_features += n_in * height * long
        self.views = nn.ModuleList(views)

    def forward(self, showers: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """(B, L, Y, X) -> features (B, F)."""
        seen = []
        for blocks, view in zip(self.views, VIEWS, strict=True):
            x = showers.permute(view)
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                x = block(x, rng)
            seen.append(x.flatten(1))
        return torch.cat(seen, dim=1)


class Gan2d(EnergyGan):
    """3D showers from Conv2D layers only, three views of them (Rehm et al., arXiv 2103.13698).

    "Validation of Deep Convolutional Generative Adversarial Networks for High Energy Physics Calorimeter Simulations":
    noise times energy makes a cube of 5 x 5 x 5; three branches take it with another axis as the channels each, their
    outputs of 25 x 25 x 25 are turned back, concatenated and merged by a last convolution. The discriminator looks at
    the same three views. Other shapes keep the layers, start from another cube and are cut to size; an axis of a
    single voxel is left alone. The paper does not say how the discriminator's convolutions are padded: here they are
    not, their kernels then just fit 25 voxels; nor where normalisation and dropout stand: here after each layer of
    the branches and, but for the normalisation of the first, of the discriminator.

    Zeros: the last ReLU makes exact zeros, so the transform must map zero to zero (scale, log, box-cox,
    per-incident-energy, or standardise with ``centre = false``); sums of cells must be positive.

    Trap: energy reaches the generator as the length of the noise only, so faint showers hardly fluctuate and the
    energy is known to 1 / sqrt(2 Z) (see ``join_energy``). Generation uses batch normalisation's running means over
    the training's mix of energies: a generator stopped after some ten iterations generates nonsense.

    Args:
        shape: (L, Y, X).
        n_conditions: C; the paper has one, the energy.
        options: those of `EnergyGan`.
    """

    name = "2dgan"

    def _build_generator(self, shape: Sizes, n_inputs: int, width: float, drop: float) -> Painter:
        return Generator(shape, n_inputs, width, drop)

    def _build_trunk(self, shape: Sizes, width: float, stride: int, drop: float) -> Trunk:
        return Convolutions(shape, width, stride, drop)


def _axes(image: Image, value: int, single: int) -> Image:
    """A layer's setting for both axes: ``single`` where the axis has one voxel."""
    return single if image[0] == 1 else value, single if image[1] == 1 else value
