"""What is lost when showers are kept as spots: the same showers in the same places, as voxels and as spots.

    python validation/frozen_showers.py [--showers FILE.h5] [--energies 2 8 20 50] [-n 60] [--workers 2]

pi- are simulated in cms-like (or taken from --showers, a file of them), made into a library twice, once with every
voxel as a spot and once as `shower-library` does, and placed with the same random numbers in the same events. Prints,
for each energy, the energy in all towers, in the hottest one and the number of towers above 0.2 and 1 GeV.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from caloforge.detectors import Detector
from caloforge.events.calibration import Calibration
from caloforge.events.full import FullCalorimeter
from caloforge.events.library import LibraryWriter, ShowerLibrary
from caloforge.events.species import KINDS
from caloforge.events.spots import SpotMaker
from caloforge.events.towers import Readout
from caloforge.incident import Incident, particle_mass
from caloforge.jets.event_file import Events
from caloforge.shower_file import ShowerFile
from caloforge.showers import Showers
from caloforge.simulation import simulate

PION = -211
FACTORS = Calibration(1.0, 120.0)  # of no importance here: the same for both


def simulated(folder: Path, energies: list[float], n: int, workers: int) -> Path:
    kinetic = np.repeat(np.array(energies) * 1e3, n)
    place = np.random.default_rng(0).uniform(-14.5, 14.5, (len(kinetic), 2))
    incident = Incident.of(kinetic, PION, position=place)
    return simulate("cms-like", len(kinetic), folder / "showers.h5", incident=incident, seed=1, workers=workers)


def library(path: Path, showers: Showers, maker: SpotMaker) -> ShowerLibrary:
    kind = np.full(len(showers), KINDS.index(PION))
    spots = replace(maker.spots(showers, **FACTORS.factors), kind=kind, energy=showers.incident.energy)
    with LibraryWriter(path, FACTORS.factors, {"cpu_seconds": 0.0, "made_for_events": 1}) as writer:
        writer.append(spots.sorted())
    return ShowerLibrary(path)


def events(energy: float, n: int, rng: np.random.Generator) -> Events:
    """Events of one pion of a kinetic energy each, |eta| under 2.5."""
    total = energy + particle_mass(np.array([PION]))[0]
    momentum = np.sqrt(total**2 - (total - energy) ** 2)
    eta, phi = rng.uniform(-2.5, 2.5, n), rng.uniform(-np.pi, np.pi, n)
    direction = np.stack([np.cos(phi), np.sin(phi), np.sinh(eta)], axis=1) / np.cosh(eta)[:, None]
    ones = np.ones(n)
    return Events(
        ones, 0 * ones, np.arange(n + 1), np.full(n, PION, np.int32), (momentum * direction).astype(np.float32),
        (total * ones).astype(np.float32),
    )  # fmt: skip


def shapes(found: FullCalorimeter, sample: Events) -> np.ndarray:
    towers = sum(found.towers(sample, np.random.default_rng(7)))
    numbers = [towers.sum(axis=1), towers.max(axis=1), (towers > 200).sum(axis=1), (towers > 1000).sum(axis=1)]
    return np.array(numbers, dtype=np.float64).mean(axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--showers", type=Path)
    parser.add_argument("--energies", type=float, nargs="+", default=[2, 8, 20, 50])
    parser.add_argument("-n", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = given.showers or simulated(folder, given.energies, given.n, given.workers)
        with ShowerFile(path) as file:
            showers = file.read()
        showers = showers[showers.incident.pdg == PION]
        detector: Detector = showers.detector
        makers = {"voxels": SpotMaker(detector, pitch=1.0, smallest=0.0), "spots": SpotMaker(detector)}
        print(f"{'GeV':>5s} {'':>8s} {'all':>8s} {'hottest':>8s} {'> 0.2':>8s} {'> 1 GeV':>8s} {'spots':>8s}")
        for energy in np.unique(showers.incident.energy):
            part = showers[showers.incident.energy == energy]
            sample = events(energy, 1000, np.random.default_rng(3))
            both = {}
            for what, maker in makers.items():
                with library(folder / f"{what}-{energy:g}.h5", part, maker) as made:
                    both[what] = shapes(FullCalorimeter(made, ecal=Readout(), hcal=Readout(), limit=1e9), sample)
                    counts = np.diff(made.showers.offset).mean()
                mev = both[what] * [1e-3, 1e-3, 1, 1]
                print(f"{energy / 1e3:5g} {what:>8s} " + " ".join(f"{v:8.3f}" for v in mev) + f" {counts:8.1f}")
            print(f"{'':5s} {'ratio':>8s} " + " ".join(f"{v:8.3f}" for v in both["spots"] / both["voxels"]))


if __name__ == "__main__":
    main()
