"""Showers and the file that holds them: incident particles, voxel energies, detector, provenance.

Every stage meets in this file: `simulate` and `generate` write it, `train` and `evaluate` read it. On disk and in
memory voxel energies are sparse (compressed rows): most voxels of most showers are empty.
See docs/shower-file.md for the layout.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

import h5py
import numpy as np
import numpy.typing as npt

from .detectors import Detector
from .errors import CaloforgeError
from .incident import INCIDENT_FIELDS, Floats, Incident

Provenance = dict[str, Any]

if TYPE_CHECKING:
    import torch

FORMAT = "caloforge-showers"
FORMAT_VERSION = 1
_ROWS = 4096  # showers an HDF5 chunk of the per-shower datasets holds


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
        flat = np.asarray(voxels, dtype=np.float32).reshape(len(voxels), -1)
        if flat.shape != (len(incident), detector.n_voxels):
            raise CaloforgeError(
                f"{flat.shape[0]} showers of {flat.shape[1]} voxels with {len(incident)} incident particles do not fit "
                f"detector '{detector.name}' with {detector.n_voxels} voxels; give one row of voxels a particle."
            )
        if not np.isfinite(flat).all() or (flat < 0).any():
            raise CaloforgeError(
                "the voxel energies hold NaN, infinite or negative values; clean them before making showers."
            )
        row, column = np.nonzero(flat > threshold)
        offset = np.zeros(len(flat) + 1, dtype=np.int64)
        np.cumsum(np.bincount(row, minlength=len(flat)), out=offset[1:])
        return cls(incident, detector, offset, column.astype(np.uint32), flat[row, column], provenance)

    @classmethod
    def read(cls, path: str | Path, start: int = 0, stop: int | None = None) -> Showers:
        """Read showers ``start`` to ``stop`` of a shower file.

        Raises:
            CaloforgeError: if the file is not a whole and valid shower file.
        """
        with ShowerFile(path) as file:
            return file.read(start, stop)

    def write(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write a shower file; it appears under its name only when it is whole.

        Raises:
            CaloforgeError: if the file exists and ``overwrite`` is not set, or the place cannot be written.
        """
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
        shift = np.cumsum([0] + [len(p.index) for p in parts])
        offset = np.concatenate(
            [first.offset[:1], *(p.offset[1:] - p.offset[0] + s for p, s in zip(parts, shift, strict=False))]
        )
        return Showers(
            Incident.concatenate([p.incident for p in parts]),
            first.detector,
            offset,
            np.concatenate([p.index for p in parts]),
            np.concatenate([p.energy for p in parts]),
            first.provenance,
        )

    def __len__(self) -> int:
        return len(self.offset) - 1

    def __getitem__(self, which: slice | npt.NDArray[Any] | Sequence[int]) -> Showers:
        """Showers picked by a slice, a mask or numbers, in the order asked for."""
        chosen = np.arange(len(self))[which]
        counts = np.diff(self.offset)[chosen]
        offset = np.zeros(len(chosen) + 1, dtype=np.int64)
        np.cumsum(counts, out=offset[1:])
        take = np.arange(offset[-1]) + np.repeat(self.offset[:-1][chosen] - offset[:-1], counts)
        return Showers(
            self.incident[chosen], self.detector, offset, self.index[take], self.energy[take], self.provenance
        )

    def __repr__(self) -> str:
        hits = len(self.energy) / max(len(self), 1)
        return f"Showers({len(self)} of '{self.detector.name}', {hits:.1f} voxels hit each)"

    @property
    def shower_of_hit(self) -> npt.NDArray[np.int64]:
        """Shower number of each stored voxel energy."""
        return np.repeat(np.arange(len(self)), np.diff(self.offset))

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
        out = np.zeros((len(self), self.detector.n_voxels), dtype=dtype)
        out[self.shower_of_hit, self.index] = self.energy
        return out.reshape(len(self), *self.detector.shape)

    def content_hash(self) -> str:
        """SHA-256 over incident particles and voxel energies: equal for equal showers, whoever made them."""
        digest = hashlib.sha256()
        arrays = [getattr(self.incident, name) for name in INCIDENT_FIELDS]
        for array in (*arrays, self.offset - self.offset[0], self.index, self.energy):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


class ShowerFile:
    """A shower file opened for reading, checked when opened; showers are read piece by piece.

    Attributes:
        path: where it lies.
        detector: the detector it describes itself.
        provenance: what made it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise CaloforgeError(f"'{path}' does not exist; give the path of a shower file.")
        try:
            self._file = h5py.File(self.path, "r")
        except OSError:
            raise CaloforgeError(f"'{path}' is truncated or not an HDF5 file; make it anew or give another.") from None
        try:
            self._open()
        except CaloforgeError:
            self._file.close()
            raise
        except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, RecursionError) as error:
            self._file.close()
            raise CaloforgeError(f"'{path}' is damaged ({str(error).strip()[:120]}); make it anew.") from None

    def _open(self) -> None:
        file = self._file
        if file.attrs.get("format") != FORMAT:
            raise CaloforgeError(
                f"'{self.path}' is an HDF5 file but not a caloforge shower file; "
                "convert it with `caloforge convert IN OUT`."
            )
        if int(file.attrs["version"]) > FORMAT_VERSION:
            raise CaloforgeError(
                f"'{self.path}' has format version {file.attrs['version']}, this caloforge reads up to "
                f"{FORMAT_VERSION}; upgrade caloforge."
            )
        self.detector = Detector.from_toml(str(file.attrs["detector"]), f"the detector in '{self.path}'")
        self.provenance: Provenance = json.loads(str(file.attrs["provenance"]))
        self._offset = file["voxels/offset"]
        n = len(self._offset) - 1
        self._n = n
        hits = len(file["voxels/energy"])
        expected: dict[str, tuple[int, ...]] = {
            f"incident/{k}": (n, *shape) for k, (_, shape) in INCIDENT_FIELDS.items()
        }
        expected |= {"voxels/offset": (n + 1,), "voxels/index": (hits,), "voxels/energy": (hits,)}
        for name, shape in expected.items():
            data = file[name]
            if n < 0 or data.shape != shape or data.dtype.kind not in "iuf":
                self._reject(f"dataset '{name}' has shape {data.shape} and type {data.dtype}, not {shape} numbers")
        if n and (int(self._offset[0]) != 0 or int(self._offset[-1]) != hits):
            self._reject(f"its offsets do not end at its {hits} voxel energies")

    def _reject(self, why: str) -> NoReturn:
        raise CaloforgeError(f"'{self.path}' is not a valid shower file: {why}; make it anew or convert it again.")

    def __len__(self) -> int:
        return self._n

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def incident(self, start: int = 0, stop: int | None = None) -> Incident:
        """Incident particles ``start`` to ``stop``, checked to be finite."""
        part = slice(start, self._n if stop is None else min(stop, self._n))
        group = self._file["incident"]
        try:
            arrays = {k: group[k][part].astype(np.dtype(t), copy=False) for k, (t, _) in INCIDENT_FIELDS.items()}
        except OSError:
            self._reject("its incident particles cannot be read")
        for name, values in arrays.items():
            if not np.isfinite(values).all():
                self._reject(f"'incident/{name}' holds NaN or infinite values")
        if (arrays["energy"] < 0).any():
            self._reject("'incident/energy' holds negative values")
        return Incident(**arrays)

    def read(self, start: int = 0, stop: int | None = None) -> Showers:
        """Showers ``start`` to ``stop``, checked.

        Raises:
            CaloforgeError: if a value in them cannot be: NaN, negative, a voxel the detector has not.
        """
        stop = self._n if stop is None else min(stop, self._n)
        start = min(max(start, 0), stop)
        incident = self.incident(start, stop)
        try:
            offset = self._offset[start : stop + 1].astype(np.int64)
            if (np.diff(offset) < 0).any() or offset[0] < 0 or offset[-1] > len(self._file["voxels/energy"]):
                self._reject("its offsets do not rise")
            index = self._file["voxels/index"][offset[0] : offset[-1]]
            energy = self._file["voxels/energy"][offset[0] : offset[-1]].astype(np.float32, copy=False)
        except OSError:
            self._reject(f"showers {start} to {stop} cannot be read")
        if len(index) and (int(index.max()) >= self.detector.n_voxels or int(index.min()) < 0):
            self._reject(f"it holds voxel {index.max()} but its detector has {self.detector.n_voxels} voxels")
        if not np.isfinite(energy).all() or (energy < 0).any():
            self._reject("its voxel energies hold NaN, infinite or negative values")
        offset -= offset[0] if len(offset) else 0
        return Showers(incident, self.detector, offset, index.astype(np.uint32), energy, self.provenance)

    def chunks(self, size: int = 4096) -> Iterator[Showers]:
        """All showers in pieces of at most ``size``."""
        for start in range(0, self._n, size):
            yield self.read(start, start + size)


class ShowerWriter:
    """Writes a shower file piece by piece; the file appears under its name only when it is closed whole."""

    def __init__(
        self,
        path: str | Path,
        detector: Detector,
        provenance: Mapping[str, Any] | None = None,
        *,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        self.detector = detector
        self.provenance: Provenance = dict(provenance or {})
        check_output(self.path, overwrite=overwrite)
        try:
            handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", suffix=".tmp", dir=self.path.parent)
        except OSError as error:
            raise CaloforgeError(
                f"'{path}' cannot be written ({error.strerror}); give a place where you may write."
            ) from None
        os.close(handle)
        self._temporary = Path(name)
        self._file = h5py.File(self._temporary, "w")
        self._create()

    def _create(self) -> None:
        file = self._file
        file.attrs["format"] = FORMAT
        file.attrs["version"] = FORMAT_VERSION
        file.attrs["detector"] = self.detector.to_toml()
        packing = {"compression": "gzip", "compression_opts": 4, "shuffle": True}
        for name, (kind, shape) in INCIDENT_FIELDS.items():
            file.create_dataset(
                f"incident/{name}", (0, *shape), kind, maxshape=(None, *shape), chunks=(_ROWS, *shape), **packing
            )
        index_type = "u2" if self.detector.n_voxels <= 65536 else "u4"
        for name, kind in (("index", index_type), ("energy", "f4")):
            file.create_dataset(f"voxels/{name}", (0,), kind, maxshape=(None,), chunks=(65536,), **packing)
        file.create_dataset("voxels/offset", data=np.zeros(1, "i8"), maxshape=(None,), chunks=(_ROWS,), **packing)

    def append(self, showers: Showers) -> None:
        """Add showers at the end.

        Raises:
            CaloforgeError: if they belong to a detector with other voxels.
        """
        if not showers.detector.same_voxels(self.detector):
            raise CaloforgeError(
                f"showers of '{showers.detector.name}' do not fit a file of '{self.detector.name}'; "
                "write them to a file of their own."
            )
        for name in INCIDENT_FIELDS:
            self._extend(f"incident/{name}", getattr(showers.incident, name))
        last = self._file["voxels/offset"][-1]
        self._extend("voxels/offset", showers.offset[1:] - showers.offset[0] + last)
        self._extend("voxels/index", showers.index)
        self._extend("voxels/energy", showers.energy)

    def _extend(self, name: str, values: npt.NDArray[Any]) -> None:
        data = self._file[name]
        old = len(data)
        data.resize(old + len(values), axis=0)
        data[old:] = values

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def close(self) -> None:
        """Finish the file and give it its name."""
        self._file.attrs["provenance"] = json.dumps(self.provenance)
        self._file.close()
        with self._temporary.open("rb") as file:
            os.fsync(file.fileno())
        # mkstemp makes private files; a shower file gets the permissions any new file would get.
        mask = os.umask(0)
        os.umask(mask)
        self._temporary.chmod(0o666 & ~mask)
        self._temporary.replace(self.path)

    def discard(self) -> None:
        """Throw the unfinished file away."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)


def check_output(path: Path, *, overwrite: bool) -> None:
    """Raise `CaloforgeError` unless a file may be written at ``path``; called before long work starts."""
    if path.is_dir():
        raise CaloforgeError(f"'{path}' is a folder; give the name of a file to write.")
    if path.exists() and not overwrite:
        raise CaloforgeError(f"'{path}' exists already; give another name or --overwrite.")
    if not path.parent.is_dir():
        raise CaloforgeError(f"folder '{path.parent}' does not exist; make it or give another place for '{path.name}'.")
    if not os.access(path.parent, os.W_OK):
        raise CaloforgeError(f"folder '{path.parent}' is not writable; give another place for '{path.name}'.")


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
