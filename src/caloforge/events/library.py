"""A library of frozen showers: Geant4 showers by kind and energy, to be placed again and again.

Each shower is a few spots of calibrated energy, behind and around the point where its particle met the calorimeter. The
file is HDF5 like a shower file; showers lie sorted by class, which is kind and energy bin.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CaloforgeError
from ..incident import Floats
from ..row_file import Layout, RowFile, RowWriter
from ..sparse import Ints, offsets, places_of
from .species import KINDS

ENERGY_EDGES: Floats = np.concatenate([[10, 50, 100, 200, 350], 500 * 10 ** (np.arange(0, 53) / 12)])
"""Edges in MeV of the energy bins: coarse where energies are small, then twelve a decade to 10 TeV."""

_LAYOUT = Layout(
    format="caloforge-library",
    version=1,
    what="shower library",
    remedy="make one with `caloforge shower-library`.",
    rows={"shower/kind": ("i4", ()), "shower/energy": ("f8", ())},
    offset="spots/offset",
    items={"spots/x": "f4", "spots/y": "f4", "spots/z": "f4", "spots/energy": "f4", "spots/hadronic": "i1"},
    texts=("calibration", "provenance"),
)


def n_classes() -> int:
    """Number of classes."""
    return len(KINDS) * (len(ENERGY_EDGES) - 1)


def classes(kind: Ints, energy: Floats) -> Ints:
    """Class (M,) of particles: their kind (number in `KINDS`) and kinetic energy in MeV; -1 under the lowest energy."""
    n_bins = len(ENERGY_EDGES) - 1
    at = np.searchsorted(ENERGY_EDGES, energy, side="right") - 1
    return np.where(at >= 0, kind * n_bins + np.minimum(at, n_bins - 1), -1)


def describe_class(number: int) -> str:
    """A class in words."""
    from ..incident import particle_name

    kind, at = divmod(number, len(ENERGY_EDGES) - 1)
    return f"{particle_name(KINDS[kind])} of {ENERGY_EDGES[at] / 1e3:.3g} to {ENERGY_EDGES[at + 1] / 1e3:.3g} GeV"


@dataclass(frozen=True)
class Showers:
    """S frozen showers with T spots in all.

    Attributes:
        kind: number in `KINDS` (S,).
        energy: kinetic energy (S,), MeV.
        offset: where each shower's spots begin (S + 1,).
        place: of the spots (T, 3), mm: two across the particle's direction, then the depth along it.
        deposit: calibrated energy of the spots (T,), MeV.
        hadronic: whether a spot lies in the hadronic calorimeter (T,).
    """

    kind: Ints
    energy: Floats
    offset: Ints
    place: npt.NDArray[np.float32]
    deposit: npt.NDArray[np.float32]
    hadronic: npt.NDArray[np.bool_]

    @staticmethod
    def join(parts: Sequence[Showers]) -> Showers:
        """Showers of several parts in order; at least one part."""
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
        return Showers(offset=offsets(np.concatenate([np.diff(part.offset) for part in parts])), **columns)

    def sorted(self) -> Showers:
        """The same showers by class and energy."""
        rank = np.lexsort((self.energy, classes(self.kind, self.energy)))
        offset, take = places_of(self.offset, rank)
        return Showers(
            self.kind[rank], self.energy[rank], offset, self.place[take], self.deposit[take], self.hadronic[take]
        )


_COLUMNS = ("kind", "energy", "place", "deposit", "hadronic")


class ShowerLibrary(RowFile):
    """A library opened for reading; it is small enough to be held in memory.

    Attributes:
        path: where it lies.
        calibration: factors from visible energy to the particles' energy.
        provenance: what made it.
        version: of its format.
    """

    layout = _LAYOUT

    def _describe(self, texts: Mapping[str, str]) -> None:
        self.calibration: dict[str, float] = json.loads(texts["calibration"])

    @cached_property
    def showers(self) -> Showers:
        """All showers, sorted by class."""
        rows = self._row_values(0, self._n)
        offset, x, y, z, energy, hadronic = self._item_values(0, self._n)
        codes = {code: number for number, code in enumerate(KINDS)}
        try:
            kind = np.array([codes[code] for code in rows["shower/kind"].tolist()], dtype=np.int64)
        except KeyError as unknown:
            self._reject(f"it holds showers of the unknown kind {unknown}")
        place = np.stack([x, y, z], axis=1)
        if not np.isfinite(place).all() or not (np.isfinite(energy) & (energy >= 0)).all():
            self._reject("its spots hold NaN or negative energies")
        if (np.diff(classes(kind, rows["shower/energy"])) < 0).any():
            self._reject("its showers are not sorted by class")
        return Showers(kind, rows["shower/energy"], offset, place, energy, hadronic != 0)

    def __reduce__(self) -> tuple[Any, ...]:
        """To the workers of a cluster a library travels as its file's bytes."""
        return _arrived, (self.path.read_bytes(), self.path, self.calibration)

    def calibrate(self, factors: Mapping[str, float]) -> None:
        """Bring the showers to another calibration than that they were written with."""
        ecal, hcal = (factors[name] / self.calibration[name] for name in ("ecal", "hcal"))
        showers = self.showers
        deposit = showers.deposit * np.where(showers.hadronic, hcal, ecal)
        self.showers = replace(showers, deposit=deposit.astype(np.float32))
        self.calibration = dict(factors)

    @cached_property
    def counts(self) -> Ints:
        """Showers in each class."""
        return np.bincount(classes(self.showers.kind, self.showers.energy), minlength=n_classes())

    @cached_property
    def nearest(self) -> Ints:
        """The class whose showers stand for each class: itself, or the nearest in energy; -1 if its kind has none."""
        n_bins = len(ENERGY_EDGES) - 1
        out = np.full(n_classes(), -1, dtype=np.int64)
        for first in range(0, n_classes(), n_bins):
            filled = np.flatnonzero(self.counts[first : first + n_bins])
            if len(filled):
                gap = np.abs(np.arange(n_bins)[:, None] - filled[None, :])
                out[first : first + n_bins] = first + filled[np.argmin(gap, axis=1)]
        return out

    def stand_ins(self, wanted: Ints) -> Ints:
        """The classes whose showers stand for the classes wanted (M,).

        Raises:
            CaloforgeError: if there is no shower of a kind.
        """
        found = self.nearest[wanted]
        if (found < 0).any():
            missing = describe_class(int(wanted[found < 0][0]))
            raise CaloforgeError(
                f"the library '{self.path}' has no shower for a {missing}; make one for these events with "
                "`caloforge shower-library`."
            )
        return found


def _arrived(data: bytes, path: Path, calibration: Mapping[str, float]) -> ShowerLibrary:
    """A library of a file's bytes, which is held in memory; the path is for messages."""
    with tempfile.TemporaryDirectory(prefix="caloforge-") as folder:
        file = Path(folder) / "library.h5"
        file.write_bytes(data)
        with ShowerLibrary(file) as library:
            library.calibrate(calibration)  # reads the showers
    library.path = path
    return library


class LibraryWriter(RowWriter):
    """Writes a library; the file appears under its name only when it is closed whole."""

    layout = _LAYOUT

    def __init__(
        self,
        path: str | Path,
        calibration: Mapping[str, float],
        provenance: Mapping[str, Any],
        *,
        overwrite: bool = False,
    ) -> None:
        super().__init__(path, {"calibration": json.dumps(dict(calibration))}, provenance, overwrite=overwrite)

    def append(self, showers: Showers) -> None:
        """Add showers, which must go on in the order of classes."""
        codes = np.array(KINDS, dtype=np.int32)[showers.kind]
        columns = (*showers.place.T, showers.deposit, showers.hadronic.astype(np.int8))
        items = dict(zip(self.layout.items, columns, strict=True))
        self._append({"shower/kind": codes, "shower/energy": showers.energy}, showers.offset, items)
