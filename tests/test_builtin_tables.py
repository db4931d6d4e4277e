"""Showers with the built-in tables against showers with Geant4's official ones.

The full comparison takes an hour of a core; `validation/builtin_tables.py` makes it and keeps its numbers. Here they
are held against the bounds, and a short run of both tables must agree with itself and with them.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from caloforge.beam import Beam
from caloforge.detectors import Detector
from caloforge.showers import Showers
from caloforge.simulation import simulate
from caloforge.simulation.physics_tables import TABLES_VERSION

ROOT = Path(__file__).parents[1]
OFFICIAL = ROOT.parent / "shared" / "geant4-tables" / "G4EMLOW"
RECORD = json.loads((ROOT / "validation" / "builtin_tables.json").read_text())


@pytest.mark.parametrize("case", ["ild-ecal", "lhcb-ecal"])
def test_the_recorded_comparison_holds_the_bounds(case: str) -> None:
    found = RECORD["cases"][case]
    mean, mean_error = found["mean_ratio"]
    assert mean_error < 0.003
    assert abs(mean - 1) < 0.01
    assert abs(found["resolution_ratio"][0] - 1) < 0.05
    assert len(found["layers"]) > 15
    worst = max(found["layers"], key=lambda row: abs(row["ratio"] - 1))
    assert abs(worst["ratio"] - 1) < 0.025, worst


def test_the_record_is_of_the_tables_in_use() -> None:
    assert f"v{TABLES_VERSION}" in RECORD["builtin"], "the tables changed: run validation/builtin_tables.py again"
    assert "G4EMLOW" in RECORD["official"]


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the official tables are not here: ../shared/geant4-tables")
@pytest.mark.skipif(importlib.util.find_spec("geant4_pybind") is None, reason="Geant4 is not installed")
def test_a_short_run_agrees_within_its_errors(tmp_path: Path) -> None:
    detector = Detector.load("lhcb-ecal")
    beam = Beam("e-", (5.0,))
    mean, error = [], []
    for number, tables in enumerate(("builtin", str(OFFICIAL))):
        path = simulate(detector, 120, tmp_path / f"{number}.h5", beam=beam, seed=number, workers=2, tables=tables)
        total = Showers.read(path).total_energy
        mean.append(total.mean())
        error.append(total.std(ddof=1) / np.sqrt(len(total)))
    assert mean[0] / mean[1] == pytest.approx(1, abs=0.01 + 4 * np.hypot(*error) / mean[1])
    assert mean[1] / 5000 == pytest.approx(0.147, abs=0.003)  # the sampling fraction at any energy
