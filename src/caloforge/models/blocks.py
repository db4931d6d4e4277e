"""Pieces that several models are built of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CaloforgeError


def require_image(shape: Sequence[int], model: str) -> tuple[int, int, int]:
    """Return ``shape`` as (L, Y, X).

    Raises:
        CaloforgeError: if it has not three positive sizes, as for a detector whose layers differ.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise CaloforgeError(
            f"model '{model}' needs showers of shape (layers, y, x), not {tuple(shape)}; choose a detector whose "
            "layers are all segmented alike, or another model."
        )
    return shape[0], shape[1], shape[2]


Activation = Literal["relu", "silu"]
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU}
"""What may stand between a generator's layers."""

Sizes = tuple[int, int, int]
"""Of a shower (L, Y, X), or a three-dimensional convolution's setting for each axis."""


def three(values: Iterable[int]) -> Sizes:
    """Three numbers as a tuple of three."""
    z, y, x = values
    return z, y, x


def axes(shape: Sizes, values: int | Sizes, single: int) -> Sizes:
    """A setting for each axis: its value (one for all, or one each), ``single`` where it has one voxel."""
    each = (values,) * 3 if isinstance(values, int) else values
    return three(single if n == 1 else value for n, value in zip(shape, each, strict=True))


class EnergyCondition:
    """Which condition is the incident energy, for models whose noise is multiplied by it.

    Args:
        place: number of the condition, from 0.
        n_conditions: how many there are.
        scale: "log" if it is standardised from the logarithm of the energy, else "linear".
        spread: its deviation over its mean (of the logarithm: the deviation), which standardising took out.
        smallest: energy that a condition far below the mean stands for at least.
        model: the model's name, for messages.

    Raises:
        CaloforgeError: if there is no such condition.
    """

    def __init__(
        self, place: int, n_conditions: int, *, scale: str, spread: float, smallest: float, model: str
    ) -> None:
        if place >= n_conditions:
            raise CaloforgeError(
                f"option 'energy_condition' of model '{model}' is {place}, but there are {n_conditions} conditions; "
                f"give the place of the incident energy among them, from 0 to {n_conditions - 1}."
            )
        self.place, self.scale, self.spread, self.smallest = place, scale, spread, smallest

    def energy(self, condition: Tensor) -> Tensor:
        """The incident energy (N, 1) in units of about its mean, always positive, from conditions (N, C)."""
        energy = self.spread * condition[:, self.place : self.place + 1]
        if self.scale == "log":
            return energy.clamp(max=20.0).exp()
        return (1 + energy).clamp(min=self.smallest)

    def others(self, condition: Tensor) -> Tensor:
        """All conditions but the energy (N, C - 1)."""
        return torch.cat([condition[:, : self.place], condition[:, self.place + 1 :]], dim=1)

    def inputs(self, latent: Tensor, energy: Tensor, condition: Tensor, *, join: bool) -> Tensor:
        """Noise (N, Z) times energy (N, 1), the other conditions and, if joined, the energy: (N, Z + C - 1 + join)."""
        return torch.cat([latent * energy, self.others(condition), *([energy] if join else [])], dim=1)


def centre_crop(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Cut the last axes of ``x`` to ``sizes`` around their centre."""
    for axis, size in enumerate(sizes, start=x.ndim - len(sizes)):
        x = x.narrow(axis, (x.shape[axis] - size) // 2, size)
    return x


def dropout(x: Tensor, share: float, rng: torch.Generator | None) -> Tensor:
    """Set about ``share`` of the values to zero and scale the others up; nothing without an ``rng``.

    PyTorch's own draws from its global state: what a loss draws would not be the batch's alone.
    """
    if rng is None or share == 0:
        return x
    kept = torch.rand(x.shape, generator=rng, device=rng.device) >= share
    return x * kept.to(x) / (1 - share)


def mlp(sizes: Sequence[int], slope: float = 0.2) -> nn.Sequential:
    """Dense layers of the given widths with LeakyReLU between them, none after the last."""
    parts: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        parts += [nn.Linear(n_in, n_out), nn.LeakyReLU(slope)]
    return nn.Sequential(*parts[:-1])


def convolved(size: int, kernel: int, stride: int, padding: int) -> int:
    """Length of an axis after a convolution."""
    return (size + 2 * padding - kernel) // stride + 1


def thin_transposed(x: Tensor, convolution: nn.ConvTranspose3d, sizes: Sequence[int]) -> Tensor:
    """A transposed convolution of stride one to a single channel, cut to ``sizes`` around its centre.

    Only what the cut leaves is computed, as one matrix product and a few sums of shifted parts: PyTorch's own kernel
    takes over ten times as long where channels are so few.

    Args:
        x: (B, C, D, H, W).
        convolution: to one channel; its padding is a kernel less one, so that it cuts what sees an edge.
        sizes: of the result (B, *sizes).
    """
    # As an ordinary convolution the kernel runs backwards.
    return thin(x, convolution.weight[:, 0].flip(1, 2, 3), sizes)


def thin(x: Tensor, kernel: Tensor, sizes: Sequence[int]) -> Tensor:
    """A convolution to a single channel, cut to ``sizes`` around its centre: one matrix product and shifted sums.

    Args:
        x: (B, C, D, H, W).
        kernel: (C, deep, high, wide).
        sizes: of the result (B, *sizes).
    """
    (deep, high, wide), (n_z, n_y, n_x) = three(kernel.shape[1:]), three(sizes)
    seen = [n + k - 1 for n, k in zip(sizes, (deep, high, wide), strict=True)]
    part = centre_crop(x, seen)  # (B, C, n_z + deep - 1, ...)
    # Each copied where it shall be: `cat` is twice as slow where channels are last.
    shifted = x.new_empty(len(x), deep, x.shape[1], n_z, *seen[1:])
    for z in range(deep):
        shifted[:, z] = part[:, :, z : z + n_z]
    weight = kernel.transpose(0, 1).flatten(0, 1).flatten(1)  # (deep C, high wide)
    taps = torch.matmul(weight.T.contiguous(), shifted.view(len(x), len(weight), -1))
    taps = taps.reshape(len(x), high, wide, n_z, *seen[1:])
    places = [(i, j) for i in range(high) for j in range(wide)]
    first, *others = (taps[:, i, j, :, i : i + n_y, j : j + n_x] for i, j in places)
    out = first.clone(memory_format=torch.contiguous_format)
    for other in others:
        out += other
    return out


def normal_weights(module: nn.Module, deviation: float = 0.02) -> None:
    """Draw all convolution and dense weights from N(0, deviation), biases zero (DCGAN, arXiv 1511.06434, section 4)."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Conv3d, nn.ConvTranspose3d, nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(part.weight, 0.0, deviation)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def he_weights(module: nn.Module, slope: float = 0.0) -> None:
    """Draw weights so that signals keep their size through (leaky) ReLU layers, biases zero (arXiv 1502.01852, eq. 10).

    PyTorch's own start shrinks them layer by layer, and a network that begins almost silent learns late.

    Args:
        module: its convolution and dense layers are drawn anew.
        slope: of the leaky ReLU.
    """
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
            # How many products add up in one output: a transposed convolution spreads each input over stride^2.
            fan_in = part.weight[0].numel()
            if isinstance(part, (nn.ConvTranspose2d, nn.ConvTranspose3d)):
                fan_in = part.in_channels * math.prod(part.kernel_size) // math.prod(part.stride)
            nn.init.normal_(part.weight, 0.0, math.sqrt(2 / (1 + slope**2) / fan_in))
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def random_features(sizes: Sequence[int], rng: torch.Generator) -> list[Tensor]:
    """Weights (in, out) of a fixed random network, scaled by 1 / sqrt(in)."""
    return [torch.randn(a, b, generator=rng, device=rng.device) / math.sqrt(a) for a, b in pairwise(sizes)]


class LocallyConnected2d(nn.Module):
    """A convolution that has its own weights in each cell: for images whose centre is not like their edges.

    Args:
        n_in: channels.
        n_out: channels.
        size: (Y, X) of the images.
        kernel: its size along y and x.
        stride: along y and x.
        padding: zeros around the images.
        bias: whether each output has one.
        slope: of the leaky ReLU before or after it, for the size of the first weights (see `he_weights`).

    Attributes:
        out_size: (Y, X) of the output.
        weight: (cells, kernel * n_in, n_out).
        bias: (cells, 1, n_out) or None.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        size: tuple[int, int],
        kernel: tuple[int, int],
        stride: tuple[int, int] = (1, 1),
        padding: int = 0,
        *,
        bias: bool = True,
        slope: float = 1.0,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding
        y, x = (convolved(n, k, s, padding) for n, k, s in zip(size, kernel, stride, strict=True))
        self.out_size = (y, x)
        fan_in = n_in * kernel[0] * kernel[1]
        self.weight = nn.Parameter(torch.randn(y * x, fan_in, n_out) * math.sqrt(2 / (1 + slope**2) / fan_in))
        self.bias = nn.Parameter(torch.zeros(y * x, 1, n_out)) if bias else None

    def forward(self, images: Tensor) -> Tensor:
        """(B, n_in, Y, X) -> (B, n_out, Y', X')."""
        cells = F.pad(images, [self.padding] * 4).permute(2, 3, 0, 1).contiguous()  # (Y, X, B, n_in)
        # Shifted copies side by side: several times faster on a CPU than `unfold`, whose order bmm must undo.
        (height, width), (down, right) = self.out_size, self.stride
        shifts = [
            cells[i : i + (height - 1) * down + 1 : down, j : j + (width - 1) * right + 1 : right]
            for i in range(self.kernel[0])
            for j in range(self.kernel[1])
        ]
        patches = torch.cat(shifts, dim=3).flatten(0, 1)  # (cells, B, kernel * n_in)
        out = patches @ self.weight if self.bias is None else torch.baddbmm(self.bias, patches, self.weight)
        return out.permute(1, 2, 0).reshape(images.shape[0], out.shape[2], height, width)


class CellSpectralNorm(nn.Module):
    """Parametrisation: divides each cell's weights by their largest singular value (arXiv 1802.05957, algorithm 1).

    One step of power iteration each time the weights are used in training, as in PyTorch's own for a single matrix.

    Args:
        weight: (cells, n, m), as of a `LocallyConnected2d`.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.right: Tensor
        self.register_buffer("right", F.normalize(torch.randn(weight.shape[0], weight.shape[2], 1), dim=1))
        for _ in range(15):
            self._iterate(weight)

    @torch.no_grad()
    def _iterate(self, weight: Tensor) -> None:
        self.right.copy_(F.normalize(weight.mT @ (weight @ self.right), dim=1))

    def forward(self, weight: Tensor) -> Tensor:
        """(cells, n, m) -> the same, no singular value above one."""
        if self.training:
            self._iterate(weight)
        largest = (weight @ self.right.clone()).norm(dim=1, keepdim=True)
        bounded: Tensor = weight / largest.clamp(min=1e-12)
        return bounded
