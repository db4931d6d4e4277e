"""The file that holds showers: incident particles, voxel energies, detector, provenance.

Every stage meets in this file: `simulate` and `generate` write it, `train` and `evaluate` read it. On disk voxel
energies are sparse (compressed rows), as in `Showers`. See docs/shower-file.md for the layout.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import h5py
import numpy as np
import numpy.typing as npt

from . import hdf5
from .detectors import Detector
from .errors import CaloforgeError
from .incident import INCIDENT_FIELDS, MAX_ENERGY, Incident
from .output import UnfinishedFile
from .showers import Provenance, Showers

FORMAT = "caloforge-showers"
FORMAT_VERSION = 1
_ROWS = 4096  # showers an HDF5 chunk of the per-shower datasets holds
_REAL = {"incident/energy", "incident/direction", "incident/position", "voxels/energy"}
_DATASETS = (*(f"incident/{name}" for name in INCIDENT_FIELDS), "voxels/offset", "voxels/index", "voxels/energy")


class ShowerFile:
    """A shower file opened for reading, checked when opened; showers are read piece by piece.

    Attributes:
        path: where it lies.
        detector: the detector it describes itself.
        provenance: what made it.
        version: of its format.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = hdf5.open_hdf5(self.path, "a shower file")
        try:
            with hdf5.damage(self.path):
                self._open()
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> None:
        file = self._file
        if hdf5.text_attribute(file, "format") != FORMAT:
            raise CaloforgeError(
                f"'{self.path}' is an HDF5 file but not a caloforge shower file; "
                "convert it with `caloforge convert IN OUT`."
            )
        self.version = int(file.attrs["version"])
        if not 1 <= self.version <= FORMAT_VERSION:
            raise CaloforgeError(
                f"'{self.path}' has format version {self.version}, this caloforge reads 1 to {FORMAT_VERSION}; "
                "upgrade caloforge."
            )
        texts = {name: hdf5.text_attribute(file, name) for name in ("detector", "provenance")}
        if texts["detector"] is None or texts["provenance"] is None:
            self._reject("it was never finished, its detector or provenance is missing")
        self.detector = Detector.from_toml(texts["detector"], f"the detector in '{self.path}'")
        self.provenance: Provenance = provenance_from_json(texts["provenance"], self.path)
        self._data = {name: self._dataset(name) for name in _DATASETS}
        self._n = n = len(self._data["voxels/offset"]) - 1
        hits = len(self._data["voxels/energy"])
        expected: dict[str, tuple[int, ...]] = {
            f"incident/{k}": (n, *shape) for k, (_, shape) in INCIDENT_FIELDS.items()
        }
        expected |= {"voxels/offset": (n + 1,), "voxels/index": (hits,)}
        for name, shape in expected.items():
            if n < 0 or self._data[name].shape != shape:
                self._reject(f"dataset '{name}' has shape {self._data[name].shape}, not {shape}")
        if int(self._data["voxels/offset"][0]) != 0 or int(self._data["voxels/offset"][-1]) != hits:
            self._reject(f"its offsets do not end at its {hits} voxel energies")

    def _dataset(self, name: str) -> h5py.Dataset:
        data = hdf5.dataset(self._file, name)
        if data is None:
            self._reject(f"dataset '{name}' is missing")
        kinds = "f" if name in _REAL else "iu"
        if data.dtype.kind not in kinds or data.ndim < 1:
            self._reject(f"dataset '{name}' has type {data.dtype} and shape {data.shape}")
        return data

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
        """Incident particles ``start`` to ``stop``, checked.

        Raises:
            CaloforgeError: if a value in them cannot be.
        """
        start, stop = self._range(start, stop)
        with hdf5.damage(self.path):
            arrays = {
                name: self._data[f"incident/{name}"][start:stop].astype(np.dtype(kind), copy=False)
                for name, (kind, _) in INCIDENT_FIELDS.items()
            }
        for name, values in arrays.items():
            if not np.isfinite(values).all():
                self._reject(f"'incident/{name}' holds NaN or infinite values")
        if (arrays["energy"] < 0).any() or (arrays["energy"] > MAX_ENERGY).any():
            self._reject(f"'incident/energy' holds values that are negative or above {MAX_ENERGY:g} MeV")
        if (np.abs(np.square(arrays["direction"].clip(-2, 2)).sum(axis=1) - 1) > 1e-3).any():
            self._reject("'incident/direction' holds vectors whose length is not 1")
        return Incident(**arrays)

    def _range(self, start: int, stop: int | None) -> tuple[int, int]:
        stop = self._n if stop is None else max(0, min(stop, self._n))
        return min(max(start, 0), stop), stop

    def read(self, start: int = 0, stop: int | None = None) -> Showers:
        """Showers ``start`` to ``stop``, checked.

        Raises:
            CaloforgeError: if a value in them cannot be: NaN, negative, a voxel the detector has not.
        """
        start, stop = self._range(start, stop)
        incident = self.incident(start, stop)
        hits = len(self._data["voxels/energy"])
        with hdf5.damage(self.path):
            offset = self._data["voxels/offset"][start : stop + 1].astype(np.int64)
            if offset[0] < 0 or offset[-1] > hits or (np.diff(offset) < 0).any():
                self._reject("its offsets do not rise")
            if (np.diff(offset) > self.detector.n_voxels).any():
                self._reject(f"a shower has more energies than its detector's {self.detector.n_voxels} voxels")
            index = self._data["voxels/index"][offset[0] : offset[-1]].astype(np.int64)
            energy = self._data["voxels/energy"][offset[0] : offset[-1]].astype(np.float32, copy=False)
        offset -= offset[0]
        if len(index) and (int(index.max()) >= self.detector.n_voxels or int(index.min()) < 0):
            self._reject(f"it holds voxel {index.max()} but its detector has {self.detector.n_voxels} voxels")
        if not _rising(offset, index):
            self._reject("its voxel numbers do not rise within a shower")
        if not ((energy > 0) & (energy <= MAX_ENERGY)).all():
            self._reject(f"its voxel energies hold NaN or values that are not above 0 and up to {MAX_ENERGY:g} MeV")
        return Showers(incident, self.detector, offset, index.astype(np.uint32), energy, self.provenance)

    def content_hash(self, size: int = 1 << 20) -> str:
        """`Showers.content_hash` of the whole file, read in pieces of ``size`` values."""
        digest = hashlib.sha256()
        kinds = {f"incident/{name}": kind for name, (kind, _) in INCIDENT_FIELDS.items()}
        kinds |= {"voxels/offset": "i8", "voxels/index": "u4", "voxels/energy": "f4"}
        for name, kind in kinds.items():
            data = self._data[name]
            for start in range(0, len(data), size):
                with hdf5.damage(self.path):
                    values = data[start : start + size].astype(np.dtype(kind), copy=False)
                digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

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
        provenance_to_json(self.provenance)  # better now than after hours of work
        self._unfinished = UnfinishedFile(path, overwrite=overwrite)
        self._closed = False
        with self._writing():
            self._file = h5py.File(self._unfinished.temporary, "w", libver=hdf5.LAYOUT)
            self._create()

    def _create(self) -> None:
        file = self._file
        hdf5.set_text_attribute(file, "format", FORMAT)
        file.attrs["version"] = FORMAT_VERSION
        hdf5.set_text_attribute(file, "detector", self.detector.to_toml())
        packing = {"compression": "gzip", "compression_opts": 4, "shuffle": True, "fletcher32": True}
        for name, (kind, shape) in INCIDENT_FIELDS.items():
            file.create_dataset(
                f"incident/{name}", (0, *shape), kind, maxshape=(None, *shape), chunks=(_ROWS, *shape), **packing
            )
        index_type = "u2" if self.detector.n_voxels <= 65536 else "u4"
        for name, kind in (("index", index_type), ("energy", "f4")):
            file.create_dataset(f"voxels/{name}", (0,), kind, maxshape=(None,), chunks=(65536,), **packing)
        file.create_dataset("voxels/offset", data=np.zeros(1, "i8"), maxshape=(None,), chunks=(_ROWS,), **packing)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Throw the unfinished file away and say so if it cannot be written, e.g. because the disk is full."""
        try:
            yield
        except (OSError, RuntimeError) as error:
            self.discard()
            raise CaloforgeError(
                f"'{self.path}' cannot be written ({hdf5.clean(error, 120)}); check its place and the free space."
            ) from None
        except BaseException:
            self.discard()
            raise

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
        _check_values(showers)
        if (showers.energy == 0).any():
            showers = _without_zeros(showers)
        with self._writing():
            for name in INCIDENT_FIELDS:
                self._extend(f"incident/{name}", getattr(showers.incident, name))
            last = self._file["voxels/offset"][-1]
            self._extend("voxels/offset", showers.offset[1:] + last)
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
        """Finish the file and give it its name.

        Raises:
            CaloforgeError: if it cannot be written; nothing of it is left then.
        """
        if self._closed:
            return
        with self._writing():
            hdf5.set_text_attribute(self._file, "provenance", provenance_to_json(self.provenance))
            self._file.close()
        self._closed = True
        self._unfinished.finish()

    def discard(self) -> None:
        """Throw the unfinished file away."""
        self._closed = True
        if hasattr(self, "_file"):
            with suppress(OSError, RuntimeError):  # a full disk again
                self._file.close()
        self._unfinished.discard()


def provenance_from_json(text: str, path: str | Path) -> Provenance:
    """The provenance in a file.

    Raises:
        CaloforgeError: if it is not a JSON object.
    """
    try:
        provenance = json.loads(text)
    except (ValueError, RecursionError):
        provenance = None
    if not isinstance(provenance, dict):
        raise CaloforgeError(f"'{path}' is damaged: its provenance is not a JSON object; make it anew.")
    return provenance


def provenance_to_json(provenance: Mapping[str, Any]) -> str:
    """A provenance as JSON; NumPy numbers become plain ones, paths and the like text.

    Raises:
        CaloforgeError: if it cannot be written as JSON.
    """

    def plain(value: object) -> object:
        return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else str(value)

    try:
        return json.dumps(dict(provenance), default=plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise CaloforgeError(f"the provenance cannot be written as JSON ({error}); use text keys and values.") from None


def _rising(offset: npt.NDArray[np.int64], index: npt.NDArray[Any]) -> bool:
    """Whether voxel numbers rise within each shower."""
    falls = np.flatnonzero(np.diff(index.astype(np.int64)) <= 0) + 1
    return bool(np.isin(falls, offset).all())


def _check_values(showers: Showers) -> None:
    """Raise `CaloforgeError` for showers that a shower file may not hold."""
    incident = np.concatenate([getattr(showers.incident, f.name).ravel() for f in fields(Incident)])
    energies = (showers.energy, showers.incident.energy)
    if not np.isfinite(incident).all() or not all(((e >= 0) & (e <= MAX_ENERGY)).all() for e in energies):
        raise CaloforgeError(
            f"the showers to write hold NaN, or energies that are negative or above {MAX_ENERGY:g} MeV; clean them "
            "before writing a shower file."
        )
    if not _rising(showers.offset, showers.index) or (showers.index >= showers.detector.n_voxels).any():
        raise CaloforgeError(
            f"the voxel numbers of the showers to write do not rise below {showers.detector.n_voxels} within a shower; "
            "make the showers with Showers.from_dense."
        )


def _without_zeros(showers: Showers) -> Showers:
    """The same showers without voxels of no energy (a deposit too small for float32 becomes zero)."""
    keep = showers.energy > 0
    offset = np.concatenate([[0], np.cumsum(keep)])[showers.offset]
    return Showers(
        showers.incident, showers.detector, offset, showers.index[keep], showers.energy[keep], showers.provenance
    )
