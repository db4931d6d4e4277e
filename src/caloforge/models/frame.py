"""Where `coarse-to-fine` lays its blocks: on each image so that jets are cut as little as can be.

A jet that lies across two blocks is drawn as two numbers, and what one of them lacks the other has to make good. That
is learnt late; so the blocks are moved to where the fast image has its jets.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .scales import sums_around

_FIRST = 1e-4  # by which share the last place must be better than the first: equal ones differ by rounding alone


class Frame(NamedTuple):
    """Blocks of ``small`` rows and columns laid on images (B, 1, Y, X): there is a row of blocks more than would fit.

    Attributes:
        before: rows of nothing before the image's first, fewer than ``small`` (B,).
        turn: column of the image that comes first (B,).
        small: rows and columns of a block.
        shape: rows and columns of the images.
    """

    before: Tensor
    turn: Tensor
    small: int
    shape: tuple[int, int]

    @classmethod
    def best(cls, transverse: Tensor, small: int) -> Frame:
        """For images of transverse energies (B, 1, Y, X): where the sum of the blocks' squares is largest.

        Each tower is blurred first, so that what lies at a border counts less.
        """
        rows, columns = transverse.shape[2], transverse.shape[3]
        image = F.pad(sums_around(transverse, small // 8), (0, 0, small - 1, small))
        image = torch.cat([image, image[..., : small - 1]], dim=3)
        sums = F.avg_pool2d(image, small, 1)  # from each row and column, the first small - 1 before the image
        parts = sums.square().reshape(-1, rows // small + 1, small, columns // small, small)
        held = parts.sum((1, 3)).flatten(1)
        first = torch.linspace(_FIRST, 0.0, small * small, device=held.device)
        place = (held / held.amax(1, keepdim=True).clamp(min=1e-30) + first).argmax(1)
        return cls(small - 1 - place // small, place % small, small, (rows, columns))

    def row(self) -> Tensor:
        """Number of the image's row, and where there is none of one before or after it (B, Y + small)."""
        rows = torch.arange(self.shape[0] + self.small, device=self.before.device)
        return rows - self.before[:, None]

    def inside(self) -> Tensor:
        """1 where the image has a row, else 0 (B, 1, Y + small, 1)."""
        row = self.row()
        return ((row >= 0) & (row < self.shape[0])).float()[:, None, :, None]

    def laid(self, image: Tensor) -> Tensor:
        """Images (B, 1, Y, X) as the blocks lie on them (B, 1, Y + small, X)."""
        column = torch.arange(self.shape[1], device=self.turn.device) + self.turn[:, None]
        row = self.row().clamp(0, self.shape[0] - 1)
        return picked(image, row, column % self.shape[1]) * self.inside()

    def back(self, image: Tensor) -> Tensor:
        """The reverse of `laid`."""
        row = torch.arange(self.shape[0], device=self.before.device) + self.before[:, None]
        column = torch.arange(self.shape[1], device=self.turn.device) - self.turn[:, None]
        return picked(image, row, column % self.shape[1])


class Places(nn.Module):
    """Learnt numbers of every row of eta, the same on both sides of eta = 0, and of what lies beyond the ends."""

    def __init__(self, rows: int, n: int) -> None:
        super().__init__()
        self.rows = rows
        self.place = nn.Parameter(0.1 * torch.randn(-(-rows // 2) + 1, n))

    def forward(self, row: Tensor) -> Tensor:
        """Numbers of rows (B, Y) -> (B, n, Y, 1)."""
        from_middle = (2 * row - (self.rows - 1)).abs() // 2
        beyond = self.place.shape[0] - 1
        return self.place[from_middle.clamp(max=beyond)].transpose(1, 2).unsqueeze(3)


def picked(image: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Of images (B, 1, Y, X) the rows (B, Y') and columns (B, X') -> (B, 1, Y', X')."""
    each = torch.arange(image.shape[0], device=image.device)[:, None, None]
    return image[each, 0, row[:, :, None], column[:, None, :]].unsqueeze(1)


def turned(fast: Tensor, full: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Turn each pair of images (B, 1, Y, X) in phi by a random angle, and mirror it in phi and in eta at random."""
    n, rows, columns, device = fast.shape[0], fast.shape[2], fast.shape[3], fast.device
    angle = torch.randint(columns, (n, 1), generator=rng, device=rng.device).to(device)
    mirror = torch.randint(2, (2, n, 1), generator=rng, device=rng.device).to(device)
    phi = torch.arange(columns, device=device)
    phi = (torch.where(mirror[0] > 0, columns - 1 - phi, phi) + angle) % columns
    eta = torch.arange(rows, device=device)
    eta = torch.where(mirror[1] > 0, rows - 1 - eta, eta)
    return picked(fast, eta, phi), picked(full, eta, phi)
