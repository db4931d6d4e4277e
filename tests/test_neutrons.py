"""Neutron cross sections against published measurements and against theory, and the files made of them."""

from __future__ import annotations

import numpy as np
import pytest

from caloforge.simulation import neutrons
from caloforge.simulation.nuclides import MASSES, THERMAL


def at(function: object, Z: int, energy: float) -> float:
    return float(function(Z, np.array([energy]))[0])  # type: ignore[operator]


def test_neutron_proton_scattering_as_measured() -> None:
    # barn: thermal 20.4, then 1 MeV 4.25, 10 MeV 0.94, 100 MeV 0.073, 20 GeV 0.039 (Particle Data Group and others)
    energies = np.array([1e-6, 1.0, 10.0, 100.0, 2e4])
    measured = np.array([20.4, 4.25, 0.94, 0.073, 0.039])
    np.testing.assert_allclose(neutrons.neutron_proton(energies), measured, rtol=0.04)


@pytest.mark.parametrize(
    ("Z", "energy", "barn", "within"),
    [
        (26, 14.0, 1.37, 0.06),  # nonelastic at 14 MeV: MacGregor, Ball and Booth (1957)
        (29, 14.0, 1.49, 0.06),
        (82, 14.0, 2.54, 0.08),
        (6, 14.0, 0.50, 0.15),
        (6, 300.0, 0.216, 0.08),
        (26, 2000.0, 0.78, 0.05),
        (82, 2000.0, 1.80, 0.08),
    ],
)
def test_inelastic_cross_sections_as_measured(Z: int, energy: float, barn: float, within: float) -> None:
    assert at(neutrons.inelastic, Z, energy) == pytest.approx(barn, rel=within)


def test_no_pions_below_their_threshold_and_no_excitation_below_the_first_level() -> None:
    assert at(neutrons.inelastic, 1, 289.0) == 0
    assert at(neutrons.inelastic, 1, 400.0) > 0
    assert at(neutrons.inelastic, 6, 4.7) == 0 < at(neutrons.inelastic, 6, 5.0)


@pytest.mark.parametrize("Z", [1, 6, 26, 82])
def test_thermal_neutrons(Z: int) -> None:
    bound, absorbed = THERMAL[Z]
    free = bound * (MASSES[Z] / (MASSES[Z] + 1)) ** 2
    assert at(neutrons.elastic, Z, neutrons.THERMAL_ENERGY) == pytest.approx(free, rel=0.02)
    assert at(neutrons.capture, Z, neutrons.THERMAL_ENERGY) == pytest.approx(absorbed, rel=1e-6)
    assert at(neutrons.capture, Z, neutrons.THERMAL_ENERGY / 4) == pytest.approx(2 * absorbed, rel=1e-6)


@pytest.mark.parametrize("Z", [1, 6, 13, 26, 82])
def test_cross_sections_have_no_steps(Z: int) -> None:
    energies = np.geomspace(1e-8, 2e4, 20001)
    for function in (neutrons.elastic, neutrons.capture):
        steps = np.abs(np.diff(np.log(function(Z, energies))))
        assert steps.max() < 0.02


def test_the_files_hold_what_is_computed() -> None:
    functions = {"inel": neutrons.inelastic, "el": neutrons.elastic, "cap": neutrons.capture}
    for Z in range(1, neutrons.LARGEST_Z + 1):
        files = neutrons.files(Z)
        assert set(files) == {f"inel{Z}", f"el{Z}", f"cap{Z}"}
        for name, text in files.items():
            low, high, n, again, *numbers = text.split()
            energies, values = np.array(numbers, dtype=float).reshape(-1, 2).T
            assert int(n) == int(again) == len(energies)
            assert (float(low), float(high)) == (energies[0], energies[-1])
            assert (np.diff(energies) > 0).all() and (values >= 0).all() and np.isfinite(values).all()
            function = functions[name.rstrip("0123456789")]
            np.testing.assert_allclose(values, function(Z, energies) * 1e-22, rtol=1e-4, atol=1e-32)
