"""Events of collisions: the particles that fly out, in memory and in a file.

`simulate-events` and `convert` write the file, `events-to-images` reads it. See docs/events.md for the layout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CaloforgeError
from ..hdf5 import clean
from ..incident import MAX_ENERGY
from ..row_file import Layout, RowFile, RowWriter
from ..sparse import Ints

FORMAT = "caloforge-events"
_COLUMNS = {"pdg": "i4", "px": "f4", "py": "f4", "pz": "f4", "energy": "f4"}
_LAYOUT = Layout(
    format=FORMAT,
    version=1,
    what="event file",
    remedy="make events with `caloforge simulate-events` or `caloforge convert IN OUT`.",
    rows={"weight": ("f8", ()), "pthat": ("f8", ())},
    offset="particles/offset",
    items={f"particles/{name}": kind for name, kind in _COLUMNS.items()},
    texts=("process", "provenance"),
)
NEUTRINOS = (12, 14, 16)
"""Absolute PDG codes of what no calorimeter sees; event files keep them."""


@dataclass(frozen=True)
class Events:
    """N events with M stable particles in all; those of event i are ``offset[i]`` to ``offset[i + 1]``.

    Attributes:
        weight: weights of the events (N,).
        pthat: transverse momentum of the hard process (N,), MeV; 0 if unknown.
        offset: where each event's particles begin (N + 1,).
        pdg: PDG codes (M,).
        momentum: px, py, pz (M, 3), MeV; the beam is z.
        energy: total energies (M,), MeV.
        first: number of the first event in its file.
    """

    weight: npt.NDArray[np.float64]
    pthat: npt.NDArray[np.float64]
    offset: Ints
    pdg: npt.NDArray[np.int32]
    momentum: npt.NDArray[np.float32]
    energy: npt.NDArray[np.float32]
    first: int = 0

    def __len__(self) -> int:
        return len(self.offset) - 1

    @property
    def number(self) -> Ints:
        """Numbers of the events in their file (N,)."""
        return np.arange(self.first, self.first + len(self), dtype=np.int64)

    @property
    def row(self) -> Ints:
        """Which of the N events each particle belongs to (M,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.offset))

    @property
    def visible(self) -> npt.NDArray[np.bool_]:
        """Which particles are no neutrinos (M,)."""
        return ~np.isin(np.abs(self.pdg), NEUTRINOS)


class EventFile(RowFile):
    """An event file opened for reading, checked when opened; events are read piece by piece.

    Attributes:
        path: where it lies.
        process: what collided into what, e.g. "dijet".
        provenance: what made it.
        version: of its format.
    """

    layout = _LAYOUT

    def _describe(self, texts: Mapping[str, str]) -> None:
        self.process = clean(texts["process"])

    def read(self, start: int = 0, stop: int | None = None) -> Events:
        """Events ``start`` to ``stop``, checked.

        Raises:
            CaloforgeError: if a value in them cannot be.
        """
        start, stop = self._range(start, stop)
        rows = self._row_values(start, stop)
        offset, pdg, px, py, pz, energy = self._item_values(start, stop)
        momentum = np.stack([px, py, pz], axis=1)
        if not np.isfinite(momentum).all() or not ((energy >= 0) & (energy <= MAX_ENERGY)).all():
            self._reject(f"its particles have NaN, or energies that are negative or above {MAX_ENERGY:g} MeV")
        return Events(rows["weight"], rows["pthat"], offset, pdg.astype(np.int32), momentum, energy, start)

    def chunks(self, size: int = 1024) -> Iterator[Events]:
        """All events in pieces of at most ``size``."""
        for start in range(0, self._n, size):
            yield self.read(start, start + size)


class EventWriter(RowWriter):
    """Writes an event file piece by piece; the file appears under its name only when it is closed whole."""

    layout = _LAYOUT

    def __init__(
        self,
        path: str | Path,
        process: str = "",
        provenance: Mapping[str, Any] | None = None,
        *,
        overwrite: bool = False,
    ) -> None:
        super().__init__(path, {"process": process}, provenance, overwrite=overwrite)

    def append(self, events: Events) -> None:
        """Add events at the end.

        Raises:
            CaloforgeError: if an energy or momentum in them cannot be.
        """
        values = np.column_stack([events.momentum, events.energy])
        weights = np.concatenate([events.weight, events.pthat])
        if not (np.isfinite(values).all() and np.isfinite(weights).all() and (events.energy >= 0).all()):
            raise CaloforgeError(
                "the events to write hold NaN, infinite or negative energies; clean them before writing."
            )
        columns = (events.pdg, *events.momentum.T, events.energy)
        items = {f"particles/{name}": values for name, values in zip(_COLUMNS, columns, strict=True)}
        self._append({"weight": events.weight, "pthat": events.pthat}, events.offset, items)
