"""What Birks' law and the time gate cost: CPU time of hadronic showers in tile-hcal, with and without, in one run.

    python benchmarks/hadrons.py [-n 100] [--tables auto]

Without both, all scoring happens in Geant4's C++. With the gate, neutrons are not followed after it. With Birks' law,
charged steps in the scintillator go through Python.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from caloforge.beam import Beam
from caloforge.detectors import Detector
from caloforge.showers import Showers
from caloforge.simulation import simulate

PARTICLES = ("pi-", "e-")


def variants() -> dict[str, Detector]:
    text = Detector.load("tile-hcal").to_toml()
    unquenched = text.replace(", birks = 0.0794", "")
    return {
        "neither": Detector.from_toml(unquenched.replace("gate = 150.0", "")),
        "gate": Detector.from_toml(unquenched),
        "gate and Birks": Detector.from_toml(text),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-n", type=int, default=100, help="showers of each kind")
    parser.add_argument("--energy", type=float, default=10.0, help="GeV")
    parser.add_argument("--tables", default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for particle in PARTICLES:
            base = 0.0
            for name, detector in variants().items():
                beam = Beam.of(detector, particle=particle, energies_gev=[options.energy])
                path = Path(folder) / f"{particle}-{name}.h5"
                simulate(detector, options.n, path, beam=beam, tables=options.tables)
                seconds = Showers.read(path).provenance["seconds_per_shower"]
                base = base or seconds
                print(f"{particle:4} {options.energy:g} GeV  {name:15} {1000 * seconds:6.1f} ms  {seconds / base:.2f}")


if __name__ == "__main__":
    main()
