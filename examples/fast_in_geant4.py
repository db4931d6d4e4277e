"""The same events in full and with showers replaced, and one evaluated against the other.

    python examples/fast_in_geant4.py [-n 100] [--output fast-in-geant4]

Electrons of 2 to 20 GeV into lhcb-ecal, first alone, then behind 10 mm of aluminium and half a metre of air: what
enters the calorimeter then is an electron and its bremsstrahlung. zoo:lhcb-wgan knows electrons only, so photons stay
with Geant4. docs/fast-in-geant4.md walks through it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from caloforge.beam import Beam
from caloforge.detectors import Detector
from caloforge.evaluation import evaluate
from caloforge.shower_file import ShowerFile
from caloforge.simulation import FastRequest, simulate

MODEL = "zoo:lhcb-wgan"
FRONT = [("Al", 10.0), ("air", 500.0)]


def compare(detector: Detector, entrance: float, n: int, folder: Path) -> dict[str, Any]:
    """Simulate n events both ways, evaluate, and return the provenance of both files."""
    # Steeper or further out, a particle would leave what the model was trained on before it gets to the calorimeter.
    beam = Beam.of(detector, particle="e-", energies_gev=(2, 20), x=(-20, 20), y=(-20, 20), tan_x=0.0, tan_y=0.0)
    fast = FastRequest(MODEL, threshold=1000.0, entrance=entrance)
    folder.mkdir(parents=True, exist_ok=True)
    full_file = simulate(detector, n, folder / "full.h5", beam=beam, seed=1, overwrite=True)
    fast_file = simulate(detector, n, folder / "fast.h5", beam=beam, seed=1, fast=fast, overwrite=True)
    evaluate(full_file, fast_file, folder / "report", quick=True, overwrite=True)
    made = {}
    for name, path in (("full", full_file), ("fast", fast_file)):
        with ShowerFile(path) as file:
            made[name] = file.provenance
    return made


def main() -> None:
    """Run both cases and print what they cost."""
    options = argparse.ArgumentParser(description="Full against fast showers in the same events.")
    options.add_argument("-n", type=int, default=100)
    options.add_argument("--output", type=Path, default=Path("fast-in-geant4"))
    given = options.parse_args()
    detector = Detector.load("lhcb-ecal")
    for name, slabs in (("alone", []), ("behind-slab", FRONT)):
        where = sum(thickness for _, thickness in slabs)
        made = compare(detector.behind(slabs) if slabs else detector, where, given.n, given.output / name)
        full, fast = (made[way]["seconds_per_shower"] * 1000 for way in ("full", "fast"))
        print(f"{name}: full {full:.1f} ms, fast {fast:.1f} ms of CPU an event, {full / fast:.0f} x")
        print("  entered:", made["fast"]["fast"]["particles"])


if __name__ == "__main__":
    main()
