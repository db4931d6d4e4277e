"""Showers as rows of voxels, one for each calorimeter layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .component import Layers


class Rows:
    """Showers as one row of voxels per calorimeter layer, and back, for layers of equal and of unequal size."""

    def __init__(self, shape: Sequence[int], layers: Layers | None) -> None:
        self.shape = tuple(shape)
        sizes = [y * x for y, x in layers] if layers else [self.shape[1] * self.shape[2]] * self.shape[0]
        self.n_layers, self.width = len(sizes), max(sizes)
        self.sizes = sizes
        self.layers = [(y, x) for y, x in layers] if layers else [(self.shape[1], self.shape[2])] * self.shape[0]

    def split(self, showers: Tensor, fill: float = 0.0) -> Tensor:
        """(B, *shape) -> (B, layers, voxels), short layers filled up."""
        flat = showers.flatten(1)
        if len(set(self.sizes)) == 1:
            return flat.reshape(-1, self.n_layers, self.width)
        parts = [
            F.pad(part, (0, self.width - part.shape[1]), value=fill) for part in torch.split(flat, self.sizes, dim=1)
        ]
        return torch.stack(parts, dim=1)

    def join(self, rows: Tensor) -> Tensor:
        """(B, layers, voxels) -> (B, *shape)."""
        if len(set(self.sizes)) > 1:
            flat = torch.cat([rows[:, i, :size] for i, size in enumerate(self.sizes)], dim=1)
            return flat.reshape(-1, *self.shape)
        return rows.reshape(-1, *self.shape)
