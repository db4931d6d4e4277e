"""Fast images as blocks, the coarsest level of `coarse-to-fine`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .splitting import repeated


class FastBlocks(NamedTuple):
    """What the fast images tell of their blocks.

    Attributes:
        context: of the networks (B, C, Y, X).
        energy: in the blocks (B, 1, Y, X).
        hit: numbers of towers hit there (B, 1, Y, X).
        aim: transverse momentum over energy (B, 2, Y, X), of the towers that hold it: a block is as wide as a jet.
    """

    context: Tensor
    energy: Tensor
    hit: Tensor
    aim: Tensor

    def repeated(self, k: int) -> FastBlocks:
        """The whole batch k times."""
        return FastBlocks(*(repeated(part, k) for part in self))


def usual_variance(transverse: Tensor) -> Tensor:
    """A calorimeter's variance of momenta, both in units of about a GeV: a^2 ET^2 + b^2 ET."""
    return 0.01 * transverse.square() + transverse


def transverse_of(fast: FastBlocks) -> Tensor:
    """Transverse momenta of the blocks (B, 1, Y, X)."""
    return fast.energy * size_of(fast)


def unit_of(fast: FastBlocks) -> Tensor:
    """Directions of the blocks (B, 2, Y, X), of length one."""
    return fast.aim / size_of(fast)


def size_of(fast: FastBlocks) -> Tensor:
    """Transverse momentum over energy (B, 1, Y, X)."""
    return fast.aim.square().sum(1, keepdim=True).sqrt()


def brightest(values: Tensor, n: int) -> Tensor:
    """Numbers (B, n) of the blocks of largest values (B, 1, Y, X), the largest first.

    Of equal ones, empty blocks mostly, the first: whatever sorts them, and however it rounds. So the first counts for a
    ten-thousandth more than the last.
    """
    flat = values.flatten(1)
    first = torch.linspace(1e-4, 0.0, flat.shape[1], device=values.device)
    return (flat * (1 + first) + 1e-3 * first).topk(n, dim=1).indices
