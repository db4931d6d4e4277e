"""The calibration of two calorimeters, measured again and with its errors.

    python validation/calibration.py [--detector cms-like] [--showers FILE.h5] [--seed 50] [--response 20 8 2]
        [-n 400] [--tables auto] [--workers 2]

Simulates the 50 photons and 1000 pions of 50 GeV that `shower-library` calibrates a detector with (or takes them from
--showers, a file of them), and prints both factors, how many pions pass the first calorimeter, and what ships. Another
seed than 50 gives other showers of the same particles: by so much libraries would differ if each measured for itself.
Then, how much of their energy pi- show in both calorimeters together, also those of the energies (GeV) of --response.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from caloforge.detectors import Detector
from caloforge.events.calibration import IMPACT, KNOWN, Calibration
from caloforge.events.spots import SpotMaker
from caloforge.incident import Incident
from caloforge.shower_file import ShowerFile
from caloforge.simulation import simulate

PION = -211


def relative_error(values: np.ndarray) -> float:
    """Of the mean."""
    return float(values.std(ddof=1) / values.mean() / np.sqrt(len(values)))


def report(path: Path, detector: Detector) -> None:
    maker = SpotMaker(detector)
    with ShowerFile(path) as file:
        showers = file.read()
        print(f"{file.provenance['label']}, {file.provenance['physics']}; {file.provenance['tables']}")
    n = len(Calibration.incident())
    found = Calibration.measure(showers[:n], maker)
    ecal, hcal = maker.visible(showers)
    photons = showers.incident.pdg == 22
    passed = (~photons & (ecal * found.ecal < Calibration.quiet))[:n]
    errors = found.ecal * relative_error(ecal[photons]), found.hcal * relative_error(hcal[:n][passed])
    print(f"photons {photons.sum()}: ecal {found.ecal:.5f} +- {errors[0]:.5f}")
    print(f"pions {Calibration.pions}, of which {passed.sum()} pass: hcal {found.hcal:.3f} +- {errors[1]:.3f}")
    used = KNOWN.get(detector.name, found)
    print(f"used: ecal {used.ecal:.5f}, hcal {used.hcal:.3f}")
    shown = (used.ecal * ecal + used.hcal * hcal) / showers.incident.energy
    for energy in dict.fromkeys(showers.incident.energy.tolist()):
        some = shown[(showers.incident.energy == energy) & ~photons]
        error, width = relative_error(some) * some.mean(), some.std(ddof=1) / some.mean()
        print(f"pi- of {energy / 1e3:g} GeV: {some.mean():.3f} +- {error:.3f} of it, sigma/mean {width:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default="cms-like")
    parser.add_argument("--showers", type=Path)
    parser.add_argument("--seed", type=int, default=Calibration.seed)
    parser.add_argument("--response", type=float, nargs="*", default=[], metavar="GEV")
    parser.add_argument("-n", type=int, default=400, help="pi- of each of these energies")
    parser.add_argument("--tables", default="auto")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    detector = Detector.load(args.detector)
    if args.showers:
        report(args.showers, detector)
        return
    kinetic = np.repeat(1e3 * np.array(args.response), args.n)
    place = np.random.default_rng(args.seed).uniform(-IMPACT / 2, IMPACT / 2, (len(kinetic), 2))
    incident = Incident.concatenate([Calibration.incident(), Incident.of(kinetic, PION, position=place)])
    with tempfile.TemporaryDirectory() as folder:
        path = simulate(
            detector, len(incident), Path(folder) / "showers.h5", incident=incident, seed=args.seed,
            workers=args.workers, tables=args.tables,
        )  # fmt: skip
        report(path, detector)


if __name__ == "__main__":
    main()
