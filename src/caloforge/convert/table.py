"""Showers in a plain text table: one line for each voxel with energy."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..detectors import DETECTORS, Detector
from ..errors import CaloforgeError
from ..hdf5 import clean
from ..incident import MAX_ENERGY, Incident
from ..showers import Showers
from .sample import Sample, Wanted, default_incidence, default_pdg
from .sources import Source

_BLOCK = 4 << 20
_MAX_LINE = 1 << 16
_NEEDED = ("event", "row", "col", "energy")
_KNOWN = (*_NEEDED, "layer", "incident_energy")

Table = dict[str, npt.NDArray[np.float64]]


@dataclass
class _Extent:
    """What a first pass over the table finds."""

    events: int = 0
    layers: int = 0
    rows: int = 0
    cols: int = 0


def read_table(source: Source, wanted: Wanted) -> Sample | None:
    """Text (CSV) with the columns ``event,col,row,energy`` and, optionally, ``layer`` and ``incident_energy``.

    Units: MeV for both energies. Numbers start at 0; col counts along x (or r), row along y (or alpha). The lines of
    an event stand together; lines of the same voxel add up; a line with energy 0 is how an empty shower is written.
    Without ``incident_energy`` the incident energies are stored as 0, which means unknown.
    """
    if not set(_NEEDED) <= set(source.header):
        return None
    unknown = [name for name in source.header if name not in _KNOWN]
    if unknown or len(set(source.header)) < len(source.header):
        raise CaloforgeError(
            f"'{source.path}' has the columns {source.contents()}; allowed, each once, are {', '.join(_KNOWN)}."
        )
    extent = _measure(source)
    detector = wanted.detector or _guess(source, extent)
    if (
        extent.layers > detector.n_layers
        or extent.rows > max(grid.shape[0] for grid in detector.grids)
        or extent.cols > max(grid.shape[1] for grid in detector.grids)
    ):
        raise CaloforgeError(
            f"'{source.path}' needs {extent.layers} layers of {extent.rows} rows and {extent.cols} columns, detector "
            f"'{detector.name}' has {detector.n_layers} of {detector.grids[0].shape}; give another with --detector."
        )
    notes = {} if "incident_energy" in source.header else {"incident_energy": "unknown, stored as 0"}
    pdg = default_pdg(detector, wanted)

    def chunks() -> Iterator[Showers]:
        for events in _whole_events(source, detector.n_voxels):
            yield _showers(source, events, detector, pdg)

    return Sample(detector, extent.events, chunks, dict(notes))


def _guess(source: Source, extent: _Extent) -> Detector:
    """The one detector of the package whose layers, rows and columns the table fills exactly."""
    fitting = []
    for name in DETECTORS:
        detector = Detector.load(name)
        shapes = {(g.kind, *g.shape) for g in detector.grids}
        if shapes == {("cartesian", extent.rows, extent.cols)} and detector.n_layers == extent.layers:
            fitting.append(detector)
    if len(fitting) != 1:
        raise CaloforgeError(
            f"'{source.path}' has {extent.layers} layers of {extent.rows} rows and {extent.cols} columns, which does "
            "not tell its detector; give --detector."
        )
    return fitting[0]


def _measure(source: Source) -> _Extent:
    extent, last = _Extent(), None
    for table in _blocks(source):
        event = table["event"]
        changes = int(np.count_nonzero(np.diff(event)))
        extent.events += changes + (last is None or event[0] != last)
        last = event[-1]
        extent.rows = max(extent.rows, int(table["row"].max()) + 1)
        extent.cols = max(extent.cols, int(table["col"].max()) + 1)
        extent.layers = max(extent.layers, int(table["layer"].max()) + 1)
    return extent


def _blocks(source: Source) -> Iterator[Table]:
    """The table in pieces of whole lines, checked."""
    rest = b""
    with source.path.open("rb") as file:
        file.readline(_MAX_LINE)
        while True:
            block = file.read(_BLOCK)
            text, newline, tail = (rest + block).rpartition(b"\n")
            if not block:
                text, tail = rest, b""
            elif not newline:
                text, tail = b"", rest + block
            if len(tail) > _MAX_LINE:
                raise CaloforgeError(f"'{source.path}' has a line of more than {_MAX_LINE} characters; give a table.")
            rest = tail
            if text.strip():
                yield _parse(source, text)
            if not block:
                return


def _parse(source: Source, text: bytes) -> Table:
    try:
        values = np.loadtxt(io.StringIO(text.decode("utf-8")), delimiter=",", ndmin=2, comments=None)
    except ValueError as error:
        raise CaloforgeError(
            f"'{source.path}' has a line that is not {len(source.header)} numbers ({clean(error, 80)}); mend it."
        ) from None
    if values.shape[1] != len(source.header):
        raise CaloforgeError(
            f"'{source.path}' has lines of {values.shape[1]} numbers under {len(source.header)} column names; mend it."
        )
    table: Table = dict(zip(source.header, values.T, strict=True))
    table.setdefault("layer", np.zeros(len(values)))
    for name, column in table.items():
        whole = name in ("event", "row", "col", "layer")
        bad = ~((column >= 0) & (column <= MAX_ENERGY))
        if whole and not bad.any():
            bad = column % 1 != 0
        if bad.any():
            kind = f"a {'whole ' if whole else ''}number from 0 to {MAX_ENERGY:g}"
            raise CaloforgeError(f"'{source.path}' has a value in column '{name}' that is not {kind}; mend it.")
    return table


def _whole_events(source: Source, n_voxels: int) -> Iterator[Table]:
    """The table in pieces that end where an event ends."""
    rest: Table | None = None
    seen = -1.0
    for block in _blocks(source):
        table = block if rest is None else {k: np.concatenate([rest[k], block[k]]) for k in block}
        event = table["event"]
        if (np.diff(event) < 0).any() or event[0] <= seen:
            raise CaloforgeError(f"'{source.path}' is not sorted by event; sort its lines by the first number.")
        first_of_last = int(np.searchsorted(event, event[-1]))
        if len(event) - first_of_last > 100 * n_voxels + _BLOCK:
            raise CaloforgeError(
                f"'{source.path}' has an event of {len(event) - first_of_last} lines; too many to read."
            )
        if first_of_last:
            seen = float(event[first_of_last - 1])
            yield {k: v[:first_of_last] for k, v in table.items()}
        rest = {k: v[first_of_last:] for k, v in table.items()}
    if rest is not None:
        yield rest


def _showers(source: Source, table: Table, detector: Detector, pdg: int) -> Showers:
    layer = table["layer"].astype(np.int64)
    starts = np.array([s.start for s in detector.layer_slices])
    shapes = np.array([grid.shape for grid in detector.grids])
    row, col = table["row"].astype(np.int64), table["col"].astype(np.int64)
    if ((row >= shapes[layer, 0]) | (col >= shapes[layer, 1])).any():
        raise CaloforgeError(
            f"'{source.path}' has a row or column that its layer of detector '{detector.name}' has not; "
            "give the right one with --detector."
        )
    _, first, event = np.unique(table["event"], return_index=True, return_inverse=True)
    voxel = starts[layer] + row * shapes[layer, 1] + col
    key, where = np.unique(event * detector.n_voxels + voxel, return_inverse=True)
    energy = np.bincount(where, weights=table["energy"]).astype(np.float32)
    key, energy = key[energy > 0], energy[energy > 0]
    offset = np.searchsorted(key, np.arange(len(first) + 1) * detector.n_voxels).astype(np.int64)
    known: Any = table.get("incident_energy")
    direction, position = default_incidence(detector)
    incident = Incident.of(np.zeros(len(first)) if known is None else known[first], pdg, direction, position)
    return Showers(incident, detector, offset, (key % detector.n_voxels).astype(np.uint32), energy)
