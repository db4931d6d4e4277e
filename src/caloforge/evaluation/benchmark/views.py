"""What the challenge's classifiers see of a shower (arXiv 2410.21611): features, voxels, or voxels by layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .rows import Rows


@dataclass(frozen=True)
class FeatureSource:
    """High-level features (N, F) as they are."""

    matrix: Tensor

    def __len__(self) -> int:
        return len(self.matrix)

    def inputs(self, which: Tensor, dtype: torch.dtype) -> Tensor:
        """Features of showers ``which`` (B, F)."""
        return self.matrix[which].to(dtype)


@dataclass(frozen=True)
class VoxelSource:
    """log10 of the incident energy in MeV, and voxel energies over the incident energy."""

    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    def inputs(self, which: Tensor, dtype: torch.dtype) -> Tensor:
        """Vectors of showers ``which`` (B, 1 + n_voxels)."""
        incident = self.rows.incident_energy[which].to(dtype)[:, None]
        return torch.cat([torch.log10(incident), self.rows.dense(which, dtype) / incident], dim=1)


@dataclass(frozen=True)
class NormedVoxelSource:
    """log10 of the incident energy, voxel energies over their layer's energy, and log10 of the layer energies."""

    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    def inputs(self, which: Tensor, dtype: torch.dtype) -> Tensor:
        """Vectors of showers ``which`` (B, 1 + n_voxels + layers)."""
        dense = self.rows.dense(which, dtype)
        layer = torch.from_numpy(self.rows.detector.voxel_layers).long().to(dense.device)
        sums = torch.zeros((len(dense), self.rows.detector.n_layers), dtype=dtype, device=dense.device)
        sums.index_add_(1, layer, dense)
        incident = torch.log10(self.rows.incident_energy[which].to(dtype))[:, None]
        return torch.cat([incident, dense / (sums[:, layer] + 1e-16), torch.log10(sums + 1e-8)], dim=1)
