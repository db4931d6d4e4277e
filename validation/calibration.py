"""The calibration of two calorimeters, measured again and with its errors.

    python validation/calibration.py [--detector cms-like] [--showers FILE.h5] [--seed 50] [--tables auto] [--workers 2]

Simulates the 50 photons and 1000 pions of 50 GeV that `shower-library` calibrates a detector with (or takes them from
--showers, a file of them), and prints both factors, how many pions pass the first calorimeter, and what ships. Another
seed than 50 gives other showers of the same particles: by so much libraries would differ if each measured for itself.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from caloforge.detectors import Detector
from caloforge.events.calibration import KNOWN, Calibration
from caloforge.events.spots import SpotMaker
from caloforge.shower_file import ShowerFile
from caloforge.simulation import simulate


def relative_error(values: np.ndarray) -> float:
    """Of the mean."""
    return float(values.std(ddof=1) / values.mean() / np.sqrt(len(values)))


def report(path: Path, detector: Detector) -> None:
    maker = SpotMaker(detector)
    with ShowerFile(path) as file:
        showers = file.read()
        print(f"{file.provenance['label']}, {file.provenance['physics']}; {file.provenance['tables']}")
    found = Calibration.measure(showers, maker)
    ecal, hcal = maker.visible(showers)
    photons = showers.incident.pdg == 22
    passed = ~photons & (ecal * found.ecal < Calibration.quiet)
    errors = found.ecal * relative_error(ecal[photons]), found.hcal * relative_error(hcal[passed])
    print(f"photons {photons.sum()}: ecal {found.ecal:.5f} +- {errors[0]:.5f}")
    print(f"pions {(~photons).sum()}, of which {passed.sum()} pass: hcal {found.hcal:.3f} +- {errors[1]:.3f}")
    if detector.name in KNOWN:
        ships = KNOWN[detector.name]
        print(f"ships: ecal {ships.ecal:.5f}, hcal {ships.hcal:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default="cms-like")
    parser.add_argument("--showers", type=Path)
    parser.add_argument("--seed", type=int, default=Calibration.seed)
    parser.add_argument("--tables", default="auto")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    detector = Detector.load(args.detector)
    if args.showers:
        report(args.showers, detector)
        return
    with tempfile.TemporaryDirectory() as folder:
        incident = Calibration.incident()
        path = simulate(
            detector, len(incident), Path(folder) / "showers.h5", incident=incident, seed=args.seed,
            workers=args.workers, tables=args.tables,
        )  # fmt: skip
        report(path, detector)


if __name__ == "__main__":
    main()
