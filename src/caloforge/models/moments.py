"""Where a shower's layers have their energy, how wide they are and how bright their core is.

What differs between showers of equal layer energies and hits is mostly this, and networks find it slowly in thousands
of voxels: an autoencoder's encoder that is not told leaves its latent variables unused (posterior collapse).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import mlp
from .flow import RunningScale

_CORE = 4  # power that makes a core of what the model sees: its view of energies is close to a logarithm
_TINY = 1e-12


class Moments(nn.Module):
    """Six numbers of each layer, standardised: centroids (of values and of their fourth power), width, peak.

    Args:
        layers: (Y, X) of every layer.
        width: K, voxels of a row; layers with fewer are filled up.
    """

    def __init__(self, layers: Sequence[tuple[int, int]], width: int) -> None:
        super().__init__()
        self.y: Tensor
        self.x: Tensor
        places = [_places(y, x) for y, x in layers]
        for i, name in enumerate("yx"):
            rows = [F.pad(place[i], (0, width - len(place[i]))) for place in places]
            self.register_buffer(name, torch.stack(rows), persistent=False)
        self.size = 6 * len(layers)
        self.scale = RunningScale(self.size)

    def forward(self, rows: Tensor) -> Tensor:
        """Rows (B, L, K) of what a model sees to numbers (B, 6 L)."""
        found = []
        for weight in (rows, rows.pow(_CORE)):
            total = weight.sum(2).clamp(min=_TINY)
            found += [(weight * place).sum(2) / total for place in (self.y, self.x)]
        total = rows.sum(2).clamp(min=_TINY)
        found.append(((rows * (self.y.square() + self.x.square())).sum(2) / total).sqrt())
        core = rows.pow(_CORE)
        found.append((core.amax(2) / core.sum(2).clamp(min=_TINY)).clamp(min=1e-3).log())
        moments = torch.cat(found, dim=1)
        if self.training:
            self.scale.see(moments)
        standardised: Tensor = self.scale(moments)
        return standardised.clamp(-5, 5)


class MomentReader(nn.Module):
    """Reads mean and log variance (B, 2 E) of latent variables off moments and conditions.

    A linear map, which is nearly all it takes, and a small network beside it.
    """

    def __init__(
        self, layers: Sequence[tuple[int, int]], width: int, n_conditions: int, encoded: int, hidden: int = 128
    ) -> None:
        super().__init__()
        self.moments = Moments(layers, width)
        self.linear = nn.Linear(self.moments.size + n_conditions, 2 * encoded)
        self.network = nn.Sequential(*mlp([self.moments.size + n_conditions, hidden, 2 * encoded]))
        self.start_small()

    def start_small(self) -> None:
        """Begin with latent variables that say a little: a decoder learns to ignore those that say nothing."""
        with torch.no_grad():
            nn.init.normal_(self.linear.weight, 0.0, 0.3 / math.sqrt(self.linear.in_features))
            nn.init.zeros_(self.linear.bias)
            self.network[-1].weight.mul_(0.1)  # type: ignore[operator]

    def forward(self, rows: Tensor, condition: Tensor) -> Tensor:
        """Rows (B, L, K) and conditions (B, C) to (B, 2 E)."""
        seen = torch.cat([self.moments(rows), condition], dim=1)
        read: Tensor = self.linear(seen) + self.network(seen)
        return read


def _places(n_y: int, n_x: int) -> tuple[Tensor, Tensor]:
    """Places (Y X,) of voxels from the middle, in half widths."""
    y, x = ((torch.arange(n) - (n - 1) / 2) / max(n / 2, 1) for n in (n_y, n_x))
    grid = torch.meshgrid(y, x, indexing="ij")
    return grid[0].flatten(), grid[1].flatten()
