"""Pieces that several models are built of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

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
