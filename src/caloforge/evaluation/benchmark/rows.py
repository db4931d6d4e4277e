"""Showers of a file held as sparse rows, made dense a batch at a time.

A dense data set 3 takes 16 GB in single precision and 32 in double. Its hits take 6 bytes each (8 for more than 65 536
voxels).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...errors import CaloforgeError
from ...progress import Progress, silent
from ..sample import chosen_rows, pieces

if TYPE_CHECKING:
    from ...detectors import Detector

EMPTY_VOXEL = 0.1  # MeV, what an empty voxel counts as where logarithms are taken


@dataclass(frozen=True)
class Rows:
    """N showers as sparse rows, on any device.

    Attributes:
        detector: whose voxels these are.
        incident_energy: (N,) in MeV, float64.
        offset: where each shower's hits begin and end (N + 1,), int64.
        index: voxel of each hit; up to 65 536 voxels as int16 that wraps around.
        energy: of each hit in MeV, float32.
    """

    detector: Detector
    incident_energy: Tensor
    offset: Tensor
    index: Tensor
    energy: Tensor

    def __len__(self) -> int:
        return len(self.incident_energy)

    def to(self, device: torch.device) -> Rows:
        """The same showers on another device."""
        moved = [t.to(device) for t in (self.incident_energy, self.offset, self.index, self.energy)]
        return Rows(self.detector, *moved)

    def hits(self, which: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Hits of showers ``which`` (B,) in order: number in the batch, voxel, energy (float32), (H,) each."""
        start = self.offset[which]
        counts = self.offset[which + 1] - start
        ends = counts.cumsum(0)
        row = torch.repeat_interleave(torch.arange(len(which), device=which.device), counts)
        at = torch.arange(len(row), device=which.device) + (start - ends + counts)[row]
        voxel = self.index[at].long()
        return row, voxel & 0xFFFF if self.index.dtype == torch.int16 else voxel, self.energy[at]

    def dense(self, which: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Energies of showers ``which`` (B, n_voxels) in MeV."""
        row, voxel, energy = self.hits(which)
        out = torch.zeros((len(which), self.detector.n_voxels), dtype=dtype, device=which.device)
        out[row, voxel] = energy.to(dtype)
        return out

    def logarithms(self, which: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """log10 of voxel energies over 0.1 MeV (B, n_voxels); empty voxels count as 0.1 MeV and so give 0."""
        row, voxel, energy = self.hits(which)
        out = torch.zeros((len(which), self.detector.n_voxels), dtype=dtype, device=which.device)
        out[row, voxel] = torch.log10(energy.to(dtype) / EMPTY_VOXEL)
        return out


def read_rows(
    path: str | Path, *, threshold: float, max_showers: int | None = None, progress: Progress = silent
) -> Rows:
    """The showers of a file without voxels under a threshold.

    Args:
        path: a shower file.
        threshold: in MeV.
        max_showers: use at most so many, evenly spread over the file.
        progress: called with showers done, showers in all.

    Raises:
        CaloforgeError: if the file is not valid or holds no showers.
    """
    from ...shower_file import ShowerFile

    incident: list[npt.NDArray[Any]] = []
    counts: list[npt.NDArray[Any]] = []
    index: list[npt.NDArray[Any]] = []
    energy: list[npt.NDArray[Any]] = []
    with ShowerFile(path) as file:
        if len(file) == 0:
            raise CaloforgeError(f"'{path}' holds no showers; give a file with some.")
        rows = chosen_rows(len(file), max_showers)
        small = file.detector.n_voxels <= 1 << 16
        done = 0
        for showers in pieces(file, rows):
            kept = showers.energy.astype(np.float64) >= threshold
            incident.append(showers.incident.energy)
            counts.append(np.bincount(showers.shower_of_hit[kept], minlength=len(showers)))
            index.append(showers.index[kept].astype(np.uint16).view(np.int16) if small else showers.index[kept])
            energy.append(showers.energy[kept])
            done += len(showers)
            progress(done, len(rows), f"reading {Path(path).name}")
        offset = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
        return Rows(
            file.detector,
            torch.from_numpy(np.concatenate(incident).astype(np.float64)),
            torch.from_numpy(offset),
            torch.from_numpy(_joined(index)),
            torch.from_numpy(_joined(energy)),
        )


def _joined(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Parts one after the other; each part is let go once it is copied, so that memory is not needed twice."""
    whole = np.empty(sum(map(len, parts)), dtype=np.int32 if parts[0].dtype == np.uint32 else parts[0].dtype)
    at = len(whole)
    while parts:
        part = parts.pop()
        whole[at - len(part) : at] = part
        at -= len(part)
    return whole
