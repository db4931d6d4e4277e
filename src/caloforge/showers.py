"""Showers in memory: incident particles, voxel energies, detector, provenance.

Voxel energies are sparse (compressed rows), as in the file that `shower_file` reads and writes: most voxels of most
showers are empty.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .detectors import Detector
from .errors import CaloforgeError
from .incident import INCIDENT_FIELDS, MAX_ENERGY, Floats, Incident
from .sparse import SparseRows, Which

Provenance = dict[str, Any]

__all__ = [
    "FORMAT", "FORMAT_VERSION", "Provenance", "ShowerDataset", "ShowerFile", "ShowerWriter", "Showers", "check_output",
    "provenance_from_json", "provenance_to_json",
]  # fmt: skip

if TYPE_CHECKING:
    import torch

    from .output import check_output
    from .row_file import provenance_from_json, provenance_to_json
    from .shower_file import FORMAT, FORMAT_VERSION, ShowerFile, ShowerWriter
else:
    # All that has to do with showers is found here, but the file is built on this module: it is loaded when asked for.
    _HOME = (
        dict.fromkeys(("FORMAT", "FORMAT_VERSION", "ShowerFile", "ShowerWriter"), "shower_file")
        | dict.fromkeys(("provenance_from_json", "provenance_to_json"), "row_file")
        | {"check_output": "output"}
    )

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        return getattr(importlib.import_module(f".{_HOME[name]}", __package__), name)


class Showers:
    """A sample of showers of one detector, held in memory.

    Voxel energies are stored by shower: those of shower i are ``energy[offset[i]:offset[i + 1]]`` (MeV, float32,
    only non-zero ones) in voxels ``index[offset[i]:offset[i + 1]]`` (flat voxel numbers, rising).
    """

    def __init__(
        self,
        incident: Incident,
        detector: Detector,
        offset: npt.NDArray[np.int64],
        index: npt.NDArray[np.uint32],
        energy: npt.NDArray[np.float32],
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        if len(offset) != len(incident) + 1 or not SparseRows(offset, index, energy).fits():
            raise CaloforgeError(
                f"{len(incident)} incident particles, {len(offset)} offsets, {len(index)} voxel numbers and "
                f"{len(energy)} energies do not make showers; offsets run from 0 to the number of energies."
            )
        self.incident = incident
        self.detector = detector
        self.offset = offset
        self.index = index
        self.energy = energy
        self.provenance: Provenance = dict(provenance or {})

    @classmethod
    def from_dense(
        cls,
        voxels: npt.NDArray[Any],
        incident: Incident,
        detector: Detector,
        provenance: Mapping[str, Any] | None = None,
        threshold: float = 0.0,
    ) -> Showers:
        """Build showers from dense voxel energies.

        Args:
            voxels: (N, n_voxels) or (N, *detector.shape) in MeV.
            incident: N incident particles.
            detector: whose voxels these are.
            provenance: what made them.
            threshold: voxels at or under it (MeV) are dropped.

        Raises:
            CaloforgeError: if the shapes do not fit or an energy is not finite or is negative.
        """
        with np.errstate(over="ignore"):
            flat = np.asarray(voxels, dtype=np.float32)
        flat = flat.reshape(len(flat), -1) if flat.size else np.zeros((len(flat), detector.n_voxels), np.float32)
        if flat.shape != (len(incident), detector.n_voxels):
            raise CaloforgeError(
                f"{flat.shape[0]} showers of {flat.shape[1]} voxels with {len(incident)} incident particles do not fit "
                f"detector '{detector.name}' with {detector.n_voxels} voxels; give one row of voxels a particle."
            )
        if not ((flat >= 0) & (flat <= MAX_ENERGY)).all():
            raise CaloforgeError(
                f"the voxel energies hold NaN, negative values or values above {MAX_ENERGY:g} MeV; "
                "clean them before making showers."
            )
        rows = SparseRows.from_dense(flat, threshold)
        return cls(incident, detector, rows.offset, rows.index, rows.energy, provenance)

    @classmethod
    def read(cls, path: str | Path, start: int = 0, stop: int | None = None) -> Showers:
        """Read showers ``start`` to ``stop`` of a shower file.

        Raises:
            CaloforgeError: if the file is not a whole and valid shower file.
        """
        from .shower_file import ShowerFile  # here, because the file is built on this module

        with ShowerFile(path) as file:
            return file.read(start, stop)

    def write(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write a shower file; it appears under its name only when it is whole.

        Raises:
            CaloforgeError: if the file exists and ``overwrite`` is not set, or the place cannot be written.
        """
        from .shower_file import ShowerWriter  # as in `read`

        with ShowerWriter(path, self.detector, self.provenance, overwrite=overwrite) as writer:
            writer.append(self)

    @staticmethod
    def concatenate(parts: Sequence[Showers]) -> Showers:
        """Join samples of the same detector in order; the provenance is the first one's."""
        if not parts:
            raise CaloforgeError("there are no showers to join; give at least one sample.")
        first = parts[0]
        for part in parts[1:]:
            if not part.detector.same_voxels(first.detector):
                raise CaloforgeError(
                    f"showers of '{first.detector.name}' and '{part.detector.name}' have different voxels; "
                    "join only samples of one detector."
                )
        rows = SparseRows.concatenate([p.rows for p in parts])
        incident = Incident.concatenate([p.incident for p in parts])
        return Showers(incident, first.detector, rows.offset, rows.index, rows.energy, first.provenance)

    def __len__(self) -> int:
        return len(self.offset) - 1

    def __getitem__(self, which: Which) -> Showers:
        """Showers picked by a number, a slice, a mask or numbers, in the order asked for."""
        chosen = self.rows.numbers(which)
        rows = self.rows.take(chosen)
        return Showers(self.incident[chosen], self.detector, rows.offset, rows.index, rows.energy, self.provenance)

    def __repr__(self) -> str:
        hits = len(self.energy) / max(len(self), 1)
        return f"Showers({len(self)} of '{self.detector.name}', {hits:.1f} voxels hit each)"

    @property
    def rows(self) -> SparseRows:
        """The voxel energies alone."""
        return SparseRows(self.offset, self.index, self.energy)

    @property
    def shower_of_hit(self) -> npt.NDArray[np.int64]:
        """Shower number of each stored voxel energy."""
        return self.rows.row

    @property
    def n_hits(self) -> npt.NDArray[np.int64]:
        """Number of voxels with energy in each shower (N,)."""
        return np.diff(self.offset)

    @property
    def total_energy(self) -> Floats:
        """Sum of the voxel energies of each shower (N,) in MeV."""
        total: Floats = np.bincount(self.shower_of_hit, weights=self.energy, minlength=len(self)).astype(np.float64)
        return total

    def dense(self, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
        """Voxel energies (N, *detector.shape) in MeV with zeros where nothing was deposited."""
        return self.rows.dense(self.detector.n_voxels, dtype).reshape(len(self), *self.detector.shape)

    def content_hash(self) -> str:
        """SHA-256 over incident particles and voxel energies: equal for equal showers, whoever made them."""
        digest = hashlib.sha256()
        arrays = [getattr(self.incident, name) for name in INCIDENT_FIELDS]
        for array in (*arrays, self.offset - self.offset[0], self.index, self.energy):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


class ShowerDataset:
    """Showers for training: item i is (voxel energies (*shape) in MeV, conditions (C,), incident energy ()) in float32.

    A map-style dataset for torch. Batches are made at once by `batch`, without a Python loop over showers. torch is
    imported only here: simulation workers and `caloforge info` read shower files without its memory and start-up.
    """

    def __init__(self, showers: Showers, conditions: Sequence[str]) -> None:
        import torch

        self.showers = showers
        self.conditions = torch.from_numpy(
            np.stack([showers.incident.column(c) for c in conditions], axis=1).astype(np.float32)
            if conditions
            else np.zeros((len(showers), 0), np.float32)
        )
        self.incident_energy = torch.from_numpy(showers.incident.energy.astype(np.float32))

    def __len__(self) -> int:
        return len(self.showers)

    def __getitem__(self, item: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        voxels, condition, energy = self.batch(np.array([item]))
        return voxels[0], condition[0], energy[0]

    def batch(self, which: npt.NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Showers ``which`` (B,) as (voxel energies (B, *shape), conditions (B, C), incident energies (B,))."""
        import torch

        rows = torch.from_numpy(np.asarray(which, dtype=np.int64))
        voxels = torch.from_numpy(self.showers[which].dense())
        return voxels, self.conditions[rows], self.incident_energy[rows]
