"""What a shower costs Geant4, in the detector and of the particles that a model is timed with."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ..beam import Beam
from ..detectors import Detector
from ..shower_file import ShowerFile
from ..simulation import simulate


def time_geant4(detector: Detector, beam: Beam, n: int, tables: str) -> dict[str, Any]:
    """Simulate n showers on one core and tell CPU milliseconds a shower, without starting Geant4.

    Raises:
        CaloforgeError: if Geant4 is not installed or the detector cannot be simulated.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = simulate(detector, n, Path(folder) / "showers.h5", beam=beam, seed=1, tables=tables)
        with ShowerFile(path) as file:
            made = file.provenance
    return {
        "detector": detector.name,
        "showers": n,
        "cpu_ms": 1e3 * made["seconds_per_shower"],
        "geant4": made["label"],
        "physics": made["physics"],
        "tables": made["tables"],
    }
