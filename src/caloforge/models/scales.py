"""Networks on images at several sizes: convolutions that close in phi, ways down and up, and what is said of cells."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import normal_weights
from .splitting import ETA


class Around(nn.Module):
    """3 x 3 convolution; phi closes on itself, beyond the ends of eta there is nothing."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(n_in, n_out, 3, padding=(1, 0))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Y, X) -> (B, C', Y, X)."""
        out: Tensor = self.convolution(torch.cat([x[..., -1:], x, x[..., :1]], dim=3))
        return out


class Residual(nn.Module):
    """Two convolutions beside a path that changes nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = Around(width, width), Around(width, width)
        self.second.convolution.weight.data.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Y, X) -> the same shape."""
        out: Tensor = x + self.second(F.silu(self.first(F.silu(x))))
        return out


class WayDown(nn.Module):
    """What the fast image tells at each size, from half size to the coarsest; places within a cell are not lost.

    Args:
        n_in: channels of the image.
        widths: channels at half size, at a quarter ...
    """

    def __init__(self, n_in: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.enter = Around(4 * n_in, widths[0])
        self.down = nn.ModuleList(Around(4 * n, m) for n, m in pairwise(widths))
        self.at = nn.ModuleList(Residual(n) for n in widths)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, C, Y, X) -> (B, widths[i], Y / 2^(i + 1), X / 2^(i + 1)) from the coarsest to the finest."""
        x = self.at[0](self.enter(F.pixel_unshuffle(image, 2)))
        found = [x]
        for step, stay in zip(self.down, self.at[1:], strict=True):
            x = stay(step(F.pixel_unshuffle(F.silu(x), 2)))
            found.append(x)
        return found[::-1]


class StepUp(nn.Module):
    """One step of the way up: what a size's splits see, of the fast image and of all full energies drawn so far.

    Args:
        n_fast: channels of the way down at this size, and of what comes out.
        n_coarser: channels of the step before; 0 if there is none.
        n_full: channels of the full image at this size.
    """

    def __init__(self, n_fast: int, n_coarser: int, n_full: int) -> None:
        super().__init__()
        self.enter = Around(n_fast + n_coarser + n_full, n_fast)
        self.stay = Residual(n_fast)
        self.rows = nn.Conv2d(n_fast, 2 * n_fast, 1)

    def forward(self, fast: Tensor, coarser: Tensor | None, full: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, C, Y, X), the coarser of half the size -> (B, C, Y, X), and (B, C, 2 Y, X) after a split in eta."""
        parts = [F.silu(fast), full]
        if coarser is not None:
            parts.append(F.silu(F.interpolate(coarser, scale_factor=2.0)))
        x = self.stay(self.enter(torch.cat(parts, dim=1)))
        one, two = self.rows(F.silu(x)).chunk(2, dim=1)
        return x, torch.stack([one, two], dim=ETA + 1).flatten(ETA, ETA + 1)


class Level(nn.Module):
    """The network of one level: raw values of a density for each cell, of what its 3 x 3 neighbourhood holds.

    Most cells are empty, with nothing to be said of them: it can work on chosen cells alone.

    Args:
        n_in: channels of what is seen.
        width: of the layers.
        n_out: raw values of a cell.
        n_beside: channels of what each cell is told of itself alone, before every layer; at first it means nothing.
    """

    def __init__(self, n_in: int, width: int, n_out: int, n_beside: int = 0) -> None:
        super().__init__()
        self.enter = Around(n_in, width)
        self.middle = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        beside = [nn.Linear(n_beside, width, bias=False) for _ in self.middle if n_beside]
        for layer in beside:
            nn.init.zeros_(layer.weight)
        self.beside = nn.ModuleList(beside)
        self.last = nn.Linear(width, n_out)
        normal_weights(self.last, 1e-2)

    def forward(self, x: Tensor, cells: Tensor | None = None, beside: Tensor | None = None) -> Tensor:
        """(B, C, Y, X), numbers of cells (K,) among all B Y X, all if not given, (B, n_beside, Y, X) -> (K, n_out)."""
        hidden = _at(self.enter(x)) if cells is None else self._enter_at(x, cells)
        told = None if beside is None else _at(beside, cells)
        for number, middle in enumerate(self.middle):
            seen = hidden + self.beside[number](told) if self.beside else hidden
            hidden = hidden + middle(F.silu(seen))
        out: Tensor = self.last(F.silu(hidden))
        return out

    def _enter_at(self, x: Tensor, cells: Tensor) -> Tensor:
        """The first convolution at some cells only: (B, C, Y, X) -> (K, width)."""
        rows, columns = x.shape[2], x.shape[3]
        weight, bias = self.enter.convolution.weight, self.enter.convolution.bias
        x = F.pad(torch.cat([x[..., -1:], x, x[..., :1]], dim=3), (0, 0, 1, 1)).permute(0, 2, 3, 1)
        image, row, column = cells // (rows * columns), cells // columns % rows, cells % columns
        corner = (image * (rows + 2) + row) * (columns + 2) + column
        steps = torch.arange(3, device=x.device)
        near = corner[:, None] + (steps[:, None] * (columns + 2) + steps).flatten()  # (K, 9)
        patches = x.reshape(-1, x.shape[3])[near].flatten(1)  # (K, 9 C)
        return F.linear(patches, weight.permute(0, 2, 3, 1).flatten(1), bias)


def _at(x: Tensor, cells: Tensor | None = None) -> Tensor:
    """What some cells hold, or all: (B, C, Y, X) -> (K, C)."""
    each = x.permute(0, 2, 3, 1).flatten(0, 2)
    return each if cells is None else each[cells]


def within(image: Tensor, rows: int, columns: int) -> Tensor:
    """The towers of each cell as channels: (B, 1, Y, X) -> (B, Y X / (rows columns), rows, columns)."""
    n, _, y, x = image.shape
    parts = image.reshape(n, rows, y // rows, columns, x // columns)
    return parts.permute(0, 2, 4, 1, 3).flatten(1, 2)


def sums_around(image: Tensor, reach: int) -> Tensor:
    """Sums over ``reach`` rows and columns on every side of each cell; phi closes: (B, 1, Y, X) -> the same shape."""
    wide = min(reach, (image.shape[3] - 1) // 2)  # no cell counts twice
    closed = torch.cat([image[..., -wide:], image, image[..., :wide]], dim=3) if wide else image
    size = (2 * reach + 1, 2 * wide + 1)
    sums: Tensor = F.avg_pool2d(F.pad(closed, (0, 0, reach, reach)), size, 1) * (size[0] * size[1])
    return sums
