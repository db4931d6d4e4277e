"""The built-in physics tables against Geant4's official ones (G4EMLOW), number by number.

    python validation/physics_tables.py [directory of G4EMLOW] [--elements 6 14 29 74 82]

Without a directory, the official tables are looked for as in a simulation. Printed are ratios built-in / official of
the energy an electron radiates, of the bremsstrahlung spectrum at some photon energies, and of the photoelectric cross
section. What such differences do to showers is measured in builtin_tables.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caloforge.simulation.physics_tables import find_tables

Array = NDArray[np.float64]

ELECTRON_ENERGIES = np.array([0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0])  # MeV
PHOTON_FRACTIONS = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
PHOTON_ENERGIES = np.array([0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0])  # MeV


def bremsstrahlung(directory: Path, Z: int, energies: Array, fractions: Array) -> Array:
    """Return the reduced cross section in mb, interpolated as Geant4 does: (E, K)."""
    tokens = (directory / "brem_SB" / f"br{Z}").read_text().split()
    columns, rows = int(tokens[1]), int(tokens[2])
    numbers = np.array(tokens[3:], dtype=float)
    x, logs = numbers[:columns], numbers[columns : columns + rows]
    values = numbers[columns + rows :].reshape(rows, columns)
    in_x = np.array([np.interp(fractions, x, row) for row in values])  # (rows, K)
    return np.array([np.interp(np.log(energies), logs, column) for column in in_x.T]).T


def photoelectric(directory: Path, Z: int, energies: Array) -> Array:
    """Return the cross section in barn, evaluated as G4LivermorePhotoElectricModel does: (E,)."""

    def numbers(name: str) -> Array:
        path = directory / "livermore" / "phot_epics2014" / f"{name}-{Z}.dat"
        return np.array(path.read_text().split(), dtype=float)

    high, low, table = numbers("pe-high"), numbers("pe-low"), numbers("pe-cs")
    k_edge = high[3]
    result = np.empty_like(energies)
    for i, E in enumerate(energies):
        if low[2] <= E:
            coefficients = (high if high[2] <= E else low)[-6:]
            result[i] = coefficients @ E ** -np.arange(1.0, 7.0)
        else:
            points = (table if k_edge <= E else numbers("pe-le-cs"))[4:].reshape(-1, 2)
            result[i] = np.interp(E, *points.T) / E**3
    return result


def print_row(name: str, values: Array) -> None:
    print(f"{name:>10}" + "".join(f"{v:8.3f}" for v in values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", nargs="?", default="official")
    parser.add_argument("--elements", type=int, nargs="+", default=[6, 14, 26, 29, 74, 82])
    arguments = parser.parse_args()
    official = find_tables(arguments.elements, arguments.directory)
    builtin = find_tables(arguments.elements, "builtin")
    print(f"{builtin.description}\nagainst {official.description}; ratios")
    y = np.linspace(0.0, 1.0, 2001)
    print("\nradiated energy, electrons of T [MeV]:")
    print_row("Z", ELECTRON_ENERGIES)
    for Z in arguments.elements:
        ours, theirs = (bremsstrahlung(t.directory, Z, ELECTRON_ENERGIES, y) for t in (builtin, official))
        radiated = (np.asarray(np.trapezoid(values, y, axis=1)) for values in (ours, theirs))
        print_row(str(Z), np.divide(*radiated))
    print("\nspectrum, electrons of T [MeV], at k/T:")
    print_row("Z     T", PHOTON_FRACTIONS)
    for Z in arguments.elements:
        energies = np.array([0.5, 1.0, 2.0, 10.0, 100.0])
        ours, theirs = (bremsstrahlung(t.directory, Z, energies, PHOTON_FRACTIONS) for t in (builtin, official))
        for T, ratio in zip(energies, ours / theirs, strict=True):
            print_row(f"{Z} {T:5g}", ratio)
    print("\nphotoelectric cross section, photons of E [MeV]:")
    print_row("Z", PHOTON_ENERGIES)
    for Z in arguments.elements:
        ours, theirs = (photoelectric(t.directory, Z, PHOTON_ENERGIES) for t in (builtin, official))
        print_row(str(Z), ours / theirs)


if __name__ == "__main__":
    main()
