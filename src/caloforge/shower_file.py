"""The file that holds showers: incident particles, voxel energies, detector, provenance.

Every stage meets in this file: `simulate` and `generate` write it, `train` and `evaluate` read it. On disk voxel
energies are sparse (compressed rows), as in `Showers`. See docs/shower-file.md for the layout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from .detectors import Detector
from .errors import CaloforgeError
from .incident import INCIDENT_FIELDS, MAX_ENERGY, Incident
from .row_file import Layout, RowFile, RowWriter
from .showers import Showers

FORMAT = "caloforge-showers"
FORMAT_VERSION = 1
_LAYOUT = Layout(
    format=FORMAT,
    version=FORMAT_VERSION,
    what="shower file",
    remedy="convert it with `caloforge convert IN OUT`.",
    rows={f"incident/{name}": field for name, field in INCIDENT_FIELDS.items()},
    offset="voxels/offset",
    items={"voxels/index": "u4", "voxels/energy": "f4"},
    texts=("detector", "provenance"),
)


class ShowerFile(RowFile):
    """A shower file opened for reading, checked when opened; showers are read piece by piece.

    Attributes:
        path: where it lies.
        detector: the detector it describes itself.
        provenance: what made it.
        version: of its format.
    """

    layout = _LAYOUT

    def _describe(self, texts: Mapping[str, str]) -> None:
        self.detector = Detector.from_toml(texts["detector"], f"the detector in '{self.path}'")

    def incident(self, start: int = 0, stop: int | None = None) -> Incident:
        """Incident particles ``start`` to ``stop``, checked.

        Raises:
            CaloforgeError: if a value in them cannot be.
        """
        rows = self._row_values(*self._range(start, stop))
        arrays = {name: rows[f"incident/{name}"] for name in INCIDENT_FIELDS}
        if (arrays["energy"] < 0).any() or (arrays["energy"] > MAX_ENERGY).any():
            self._reject(f"'incident/energy' holds values that are negative or above {MAX_ENERGY:g} MeV")
        if (np.abs(np.square(arrays["direction"].clip(-2, 2)).sum(axis=1) - 1) > 1e-3).any():
            self._reject("'incident/direction' holds vectors whose length is not 1")
        return Incident(**arrays)

    def read(self, start: int = 0, stop: int | None = None) -> Showers:
        """Showers ``start`` to ``stop``, checked.

        Raises:
            CaloforgeError: if a value in them cannot be: NaN, negative, a voxel the detector has not.
        """
        start, stop = self._range(start, stop)
        incident = self.incident(start, stop)
        n_voxels = self.detector.n_voxels
        rows = self._sparse(start, stop, n_voxels, "shower", "voxel", f"its detector's {n_voxels} voxels")
        return Showers(incident, self.detector, rows.offset, rows.index, rows.energy, self.provenance)

    def chunks(self, size: int = 4096) -> Iterator[Showers]:
        """All showers in pieces of at most ``size``."""
        for start in range(0, self._n, size):
            yield self.read(start, start + size)


class ShowerWriter(RowWriter):
    """Writes a shower file piece by piece; the file appears under its name only when it is closed whole."""

    layout = _LAYOUT

    def __init__(
        self,
        path: str | Path,
        detector: Detector,
        provenance: Mapping[str, Any] | None = None,
        *,
        overwrite: bool = False,
        quick: bool = False,
    ) -> None:
        self.detector, self.quick = detector, quick
        narrow = {"voxels/index": "u2"} if detector.n_voxels <= 65536 else {}
        super().__init__(path, {"detector": detector.to_toml()}, provenance, narrow=narrow, overwrite=overwrite)

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
        rows = showers.rows.without_zeros()
        incident = {f"incident/{name}": getattr(showers.incident, name) for name in INCIDENT_FIELDS}
        self._append(incident, rows.offset, {"voxels/index": rows.index, "voxels/energy": rows.energy})


def _check_values(showers: Showers) -> None:
    """Raise `CaloforgeError` for showers that a shower file may not hold."""
    incident = np.concatenate([getattr(showers.incident, f.name).ravel() for f in fields(Incident)])
    energies = (showers.energy, showers.incident.energy)
    if not np.isfinite(incident).all() or not all(((e >= 0) & (e <= MAX_ENERGY)).all() for e in energies):
        raise CaloforgeError(
            f"the showers to write hold NaN, or energies that are negative or above {MAX_ENERGY:g} MeV; clean them "
            "before writing a shower file."
        )
    if not showers.rows.rising() or (showers.index >= showers.detector.n_voxels).any():
        raise CaloforgeError(
            f"the voxel numbers of the showers to write do not rise below {showers.detector.n_voxels} within a shower; "
            "make the showers with Showers.from_dense."
        )
