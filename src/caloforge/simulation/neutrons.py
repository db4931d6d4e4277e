"""Cross sections of neutrons on natural elements, from published parametrisations; barn and MeV.

* Inelastic (all but elastic and capture) above 40 MeV: Letaw, Silberberg and Tsao [1]. Below 15 MeV: the geometric
  cross section of Flerov and Talyzin [2] with the wavelength written out, times the opening of inelastic channels
  above the first excited level. Between, one goes over into the other.
* Total from 3 to 80 MeV: the nuclear Ramsauer effect [3]. Above 200 MeV elastic over inelastic is that of the
  simplified Glauber-Gribov model [4] with the nucleon-nucleon cross sections of [5]. Below 3 MeV the total goes to the
  free atom's thermal scattering cross section [6]: resonances are not resolved.
* Capture: 1/v from the thermal cross section [6], joined at keV energies by an average of resonances, as measured at
  30 keV [7] for the elements of calorimeters.
* Hydrogen apart: effective-range theory [8] to 20 MeV, then [5], then the Regge fit of [9]; pions above 290 MeV.

Constants named ``RAMSAUER_*``, ``OPENING_*`` and ``PION_*`` were chosen by comparison with evaluated data, for all
elements together, and rounded; see docs/physics-tables.md for what accuracy remains.

[1] Letaw, Silberberg and Tsao, Astrophys. J. Suppl. 51 (1983) 271.
[2] Flerov and Talyzin, J. Nucl. Energy 4 (1957) 529; MacGregor, Ball and Booth, Phys. Rev. 108 (1957) 726.
[3] Angeli and Csikai, Nucl. Phys. A 170 (1971) 577.  [4] Grichine, Eur. Phys. J. C 62 (2009) 399.
[5] Charagi and Gupta, Phys. Rev. C 41 (1990) 1610.  [6] Sears, Neutron News 3 (1992) 26.
[7] Bao et al., At. Data Nucl. Data Tables 76 (2000) 70.  [8] Blatt and Jackson, Phys. Rev. 76 (1949) 18.
[9] Donnachie and Landshoff, Phys. Lett. B 296 (1992) 227.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .nuclides import CAPTURE_30_KEV, FIRST_LEVEL, MASSES, THERMAL

Array = NDArray[np.float64]

LARGEST_Z = 92
FM2 = 1e-2  # barn
NUCLEON = 938.9187  # MeV
WAVELENGTH = 4.5541  # fm sqrt(MeV): reduced wavelength of a neutron times sqrt(E)
THERMAL_ENERGY = 2.53e-8  # MeV: 2200 m/s

RAMSAUER_RADIUS = 1.346  # fm, times A^(1/3)
RAMSAUER_DEPTH, RAMSAUER_SLOPE = 22.8, 0.166  # MeV; of the potential V - slope E
RAMSAUER_SIZE, RAMSAUER_CHORD = 0.174, 3.04  # of the oscillation; chord over radius
OPENING_WIDTH, OPENING_LIGHT = 2.0, 60.0  # MeV; width 2 + 60 / A with which inelastic channels open
PION_THRESHOLD, PION_WIDTH, PION_LIMIT = 290.0, 1000.0, 0.0314  # MeV, MeV, barn

INELASTIC_ENERGIES: Array = np.geomspace(1e-2, 2e4, 127)
ELASTIC_ENERGIES: Array = np.geomspace(1e-9, 2e4, 267)
CAPTURE_ENERGIES: Array = np.geomspace(1e-9, 20.0, 207)


def _blend(E: Array, low: float, high: float) -> Array:
    """0 below ``low``, 1 above ``high``, linear in ln E between."""
    return np.asarray(np.clip(np.log(E / low) / np.log(high / low), 0.0, 1.0))


def inelastic(Z: int, E: Array) -> Array:
    """Return the cross section of all reactions but elastic scattering and capture."""
    if Z == 1:
        return np.asarray(PION_LIMIT * -np.expm1(-np.maximum(E - PION_THRESHOLD, 0.0) / PION_WIDTH))
    A = MASSES[Z]
    E = np.asarray(E, dtype=np.float64)
    # [2] at 14 MeV is pi (1.2 A^(1/3) + 2.1)^2 fm2, of which 1.2 fm are the neutron's wavelength.
    geometric = np.pi * (1.2 * A ** (1 / 3) + 0.9 + WAVELENGTH / np.sqrt(E)) ** 2 * FM2
    above = np.maximum(E - _first_level(Z), 0.0)
    slow = geometric * -np.expm1(-above / (OPENING_WIDTH + OPENING_LIGHT / A))
    plateau = 0.045 * A**0.7 * (1 + 0.016 * np.sin(5.3 - 2.63 * np.log(A)))
    x = np.maximum(E, 10.0)
    fast = plateau * (1 - 0.62 * np.exp(-x / 200) * np.sin(10.9 * x**-0.28))
    share = _blend(E, 15.0, 40.0)
    return np.asarray(slow * (1 - share) + fast * share)


def elastic(Z: int, E: Array) -> Array:
    """Return the cross section of elastic scattering."""
    E = np.asarray(E, dtype=np.float64)
    if Z == 1:
        return np.asarray(np.maximum(neutron_proton(E) - inelastic(1, E), 1e-3))
    thermal = THERMAL[Z][0] * (MASSES[Z] / (MASSES[Z] + 1)) ** 2  # of the free atom
    reaction = inelastic(Z, E)
    # No less than a fifth of the geometric cross section: the absorbing disc's own diffraction.
    least = 0.2 * np.pi * (1.2 * MASSES[Z] ** (1 / 3)) ** 2 * FM2
    middle = np.maximum(ramsauer_total(Z, E) - reaction, least)
    fast = reaction * elastic_ratio(Z, E)
    high = _blend(E, 80.0, 200.0)
    low = _blend(E, 1e-3, 3.0)
    at_three = np.maximum(ramsauer_total(Z, np.array([3.0])) - inelastic(Z, np.array([3.0])), least)
    slow = thermal ** (1 - low) * at_three**low
    return np.asarray(np.where(E < 3.0, slow, middle * (1 - high) + fast * high))


def capture(Z: int, E: Array) -> Array:
    """Return the cross section of radiative capture."""
    E = np.asarray(E, dtype=np.float64)
    inverse_speed = THERMAL[Z][1] * np.sqrt(THERMAL_ENERGY / E)
    if Z <= 2:
        return np.asarray(np.maximum(inverse_speed, 3e-5 if Z == 1 else 1e-12))
    A = MASSES[Z]
    average = CAPTURE_30_KEV.get(Z, 0.2 if A > 70 else 0.02 if A > 35 else 0.002)
    resonances = average * (0.03 / E) ** 0.6 * np.exp(-((E / 4.0) ** 2))
    # 1/v holds up to the first resonances, at some 10 eV in heavy nuclei and 10 keV in light ones.
    share = _blend(E, 1e-3 if A < 70 else 1e-5, 1e-2)
    return np.asarray(inverse_speed * (1 - share) + np.maximum(resonances, 1e-3 * average) * share)


def _first_level(Z: int) -> float:
    """Energy in MeV that a neutron needs to excite the nucleus."""
    A = MASSES[Z]
    return FIRST_LEVEL.get(Z, 1.0 if A < 70 else 0.3) * (A + 1) / A


def ramsauer_total(Z: int, E: Array) -> Array:
    """Return the total cross section 2 pi (R + wavelength)^2 (1 - a cos(chord (K - k))) of [3]."""
    A = MASSES[Z]
    radius = RAMSAUER_RADIUS * A ** (1 / 3)
    inside = np.maximum(E + RAMSAUER_DEPTH - RAMSAUER_SLOPE * E, 1.0)
    phase = RAMSAUER_CHORD * radius * (np.sqrt(inside) - np.sqrt(E)) / WAVELENGTH * A / (A + 1) * 0.996
    size = (radius + WAVELENGTH / np.sqrt(E) * (A + 1) / A) ** 2
    return np.asarray(2 * np.pi * size * (1 - RAMSAUER_SIZE * np.cos(phase)) * FM2)


def elastic_ratio(Z: int, E: Array) -> Array:
    """Return elastic over inelastic cross section in the simplified Glauber-Gribov model [4]."""
    A = MASSES[Z]
    radius = 1.16 * A ** (1 / 3) * (1 - 1.16 * A ** (-2 / 3))
    if A > 20:
        radius *= 0.8 + 0.2 * np.exp((20 - A) / 20)
    else:
        radius *= 1 + 0.1 * -np.expm1(-(20 - A) / 20)
    nucleons = (Z * neutron_proton(E) + (A - Z) * proton_proton(E)) / FM2  # fm2; neutron-neutron as proton-proton
    x = nucleons / (2 * np.pi * radius**2)
    return np.asarray(np.log1p(x) * 2.4 / np.log1p(2.4 * x) - 1)


def neutron_proton(E: Array) -> Array:
    """Return the total cross section of neutrons on protons."""
    E = np.asarray(E, dtype=np.float64)
    k2 = E / 82.94  # fm^-2, squared momentum in the centre of mass

    def wave(length: float, reach: float) -> Array:
        return np.asarray(1 / (k2 + (-1 / length + reach * k2 / 2) ** 2))

    slow = np.pi * (3 * wave(5.424, 1.759) + wave(-23.71, 2.75)) * FM2
    beta = _speed(np.maximum(E, 10.0))
    middle = (-70.67 - 18.18 / beta + 25.26 / beta**2 + 113.85 * beta) * 1e-3
    fast = _regge(E, 54.77)
    joined = slow * (1 - _blend(E, 15.0, 30.0)) + middle * _blend(E, 15.0, 30.0)
    return np.asarray(joined * (1 - _blend(E, 900.0, 5000.0)) + fast * _blend(E, 900.0, 5000.0))


def proton_proton(E: Array) -> Array:
    """Return the total nuclear cross section of protons on protons, above 10 MeV."""
    E = np.asarray(E, dtype=np.float64)
    beta = _speed(np.maximum(E, 10.0))
    middle = (13.73 - 15.04 / beta + 8.76 / beta**2 + 68.67 * beta**4) * 1e-3
    share = _blend(E, 900.0, 5000.0)
    return np.asarray(middle * (1 - share) + _regge(E, 56.08) * share)


def _speed(E: Array) -> Array:
    return np.asarray(np.sqrt(E * (E + 2 * NUCLEON)) / (E + NUCLEON))


def _regge(E: Array, falling: float) -> Array:
    """The fit of [9] in barn."""
    s = 2 * NUCLEON * (E + 2 * NUCLEON) * 1e-6  # GeV2
    return np.asarray((21.70 * s**0.0808 + falling * s**-0.4525) * 1e-3)


def files(Z: int) -> dict[str, str]:
    """Return the files of one element under ``neutron/``, as Geant4's G4NeutronInelasticXS and its like read them."""
    tables = {
        "inel": (INELASTIC_ENERGIES, inelastic),
        "el": (ELASTIC_ENERGIES, elastic),
        "cap": (CAPTURE_ENERGIES, capture),
    }
    return {f"{name}{Z}": _table(E, function(Z, E)) for name, (E, function) in tables.items()}


def _table(energies: Array, sigma: Array) -> str:
    """One table: lowest and highest energy, number of rows, rows of MeV and mm2."""
    head = f"{energies[0]:.9g} {energies[-1]:.9g} {len(energies)}\n{len(energies)}\n"
    return head + "".join(f"{E:.9g} {value * 1e-22:.8g}\n" for E, value in zip(energies, sigma, strict=True))
