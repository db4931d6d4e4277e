"""Bremsstrahlung of electrons on atoms, computed from published formulae.

The cross section is that of Bethe and Heitler with the electron's mass kept (formula 3BN of [1]), to which are
added

* screening, as the change of the high-energy functions phi_1, phi_2 of [2] when the atomic form factor of [4]
  is put into them: additive, so that it vanishes for large momentum transfers;
* the Coulomb correction f(Z) of Davies, Bethe and Maximon [2] at high energies;
* Elwert's factor [1] and an empirical correction of the high-frequency end at low energies;
* bremsstrahlung on the atomic electrons, Z^2 -> Z with the incoherent scattering function of [4], reduced
  towards the kinematic limit of electron-electron collisions.

The first three lines hold no free constant. The constants below (``TIP_*`` etc.) are smooth in energy and
common to all elements. They were chosen by comparison with the tables of Seltzer and Berger [3] and rounded;
see docs/physics-tables.md for what accuracy remains.

[1] Koch and Motz, Rev. Mod. Phys. 31 (1959) 920.  [2] Tsai, Rev. Mod. Phys. 46 (1974) 815.
[3] Seltzer and Berger, At. Data Nucl. Data Tables 35 (1986) 345.
[4] Hubbell et al., J. Phys. Chem. Ref. Data 4 (1975) 471, through xraylib.

Inside this module energies and momenta are in units of the electron mass, as in the papers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ELECTRON_MASS = 0.51099895  # MeV
FINE_STRUCTURE = 1 / 137.035999
SCALE = FINE_STRUCTURE * 2.8179403**2 * 10.0  # alpha r_e^2 in mb (r_e in fm, 1 fm^2 = 10 mb)
COMPTON_WAVELENGTH = 0.0242631024  # h / (m c) in Angstrom

# Chosen by comparison with [3], for all elements together.
TIP_ENERGY = 0.5  # MeV; where the correction of the high-frequency end is largest
TIP_LINEAR, TIP_QUADRATIC = 1.0, 0.85  # its size: a (TIP_LINEAR + TIP_QUADRATIC a), a = alpha Z
TIP_SOFT = 0.4  # its share that goes as (k/T)^0.3; the rest goes as (k/T)^3
COULOMB_ENERGY = 1.5  # MeV; energy left to the electron at which half of f(Z) applies
ELECTRON_LIMIT = 7.5  # (1 - k/k_max)^(ELECTRON_LIMIT / (gamma + 1)) for the atomic electrons
ATOMIC_ENERGY = 80e-6  # MeV per unit of Z; below Z times this, Elwert's factor is too large

# The grids written to file. Geant4 interpolates linearly in k/T and ln T.
KINETIC_ENERGIES: Array = np.logspace(-3, 4, 71)  # MeV
_SOFT = (1e-12, 0.002, 0.005, 0.01, 0.025, 0.05, 0.075)
_HARD = (0.925, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 1.0)
PHOTON_FRACTIONS: Array = np.array([*_SOFT, *(np.arange(2, 19) / 20), *_HARD])

_LOG_Q: Array = np.linspace(np.log(1e-18), 0.0, 3601)  # ln of the momentum transfer / m c
MOMENTUM_TRANSFERS: Array = np.exp(_LOG_Q)


def coulomb_correction(Z: int) -> float:
    """Return f(Z) of Davies, Bethe and Maximon, eq. (3.3) of Tsai (1974)."""
    a2 = (FINE_STRUCTURE * Z) ** 2
    n = np.arange(1, 2001)
    return float(a2 * np.sum(1 / (n * (n**2 + a2))) + a2 / (2 * 2000**2))


def bethe_heitler(energy: Array, k: Array) -> Array:
    """Return k dsigma/dk / (alpha r_e^2 Z^2) without screening: formula 3BN of Koch and Motz (1959).

    Args:
        energy: total energy of the electron in units of its mass.
        k: photon energy in units of the electron mass, below ``energy - 1``.
    """
    E0, E, kinetic, left = energy, energy - k, energy - 1, energy - 1 - k
    p0, p = np.sqrt(kinetic * (E0 + 1)), np.sqrt(left * (E + 1))
    e0, e = 2 * np.arcsinh(p0), 2 * np.arcsinh(p)
    L = 2 * np.log((kinetic + left + kinetic * left + p0 * p) / k)
    pp = p0 * p
    rest = 4 / 3 - 2 * E0 * E * (p**2 + p0**2) / pp**2 + e0 * E / p0**3 + e * E0 / p**3 - e * e0 / pp
    inner = (E0 * E + p0**2) / p0**3 * e0 - (E0 * E + p**2) / p**3 * e + 2 * k * E0 * E / pp**2
    logarithmic = 8 / 3 * E0 * E / pp + k**2 / pp**3 * ((E0 * E) ** 2 + pp**2) + k / (2 * pp) * inner
    return np.asarray(p / p0 * (rest + L * logarithmic))


@dataclass(frozen=True)
class Screening:
    """What screening changes in phi_1 and phi_2 of Tsai (1974), eqs. (3.14) ff., for one kind of target.

    Attributes:
        moments: integrals over the momentum transfer q from each grid point to m c of (g(q) - 1) q^-n d ln q,
            n = 0..3, and the same with n = 2 and a factor ln q; times q^n at the grid point. g(q) is (1 - F/Z)^2 for
            the nucleus and S/Z for the electrons. (5, grid)
    """

    moments: Array

    @classmethod
    def from_function(cls, g: Array) -> Screening:
        """Integrate the screening function ``g`` given on the grid of momentum transfers."""
        step = _LOG_Q[1] - _LOG_Q[0]
        moments = []
        for power, weight in ((0, 1.0), (1, 1.0), (2, 1.0), (3, 1.0), (2, _LOG_Q)):
            integrand = (g - 1) * weight * MOMENTUM_TRANSFERS**-power
            total = np.zeros_like(MOMENTUM_TRANSFERS)
            total[:-1] = np.cumsum(((integrand[1:] + integrand[:-1]) * step / 2)[::-1])[::-1]
            moments.append(total * MOMENTUM_TRANSFERS**power)
        return cls(np.array(moments))

    def change(self, low: Array, high: Array) -> tuple[Array, Array]:
        """Return the changes of phi_1 and phi_2 for momentum transfers between ``low`` and ``high``."""
        log_low, log_high = (np.log(np.clip(q, MOMENTUM_TRANSFERS[0], 1.0)) for q in (low, high))
        ratio = np.exp(log_low - log_high)
        m0, m1, m2, m3, ml = (
            np.interp(log_low, _LOG_Q, m) - np.interp(log_high, _LOG_Q, m) * ratio**power
            for m, power in zip(self.moments, (0, 1, 2, 3, 2), strict=True)
        )
        return 4 * (m0 - 2 * m1 + m2), 4 * (m0 - 6 * (ml - log_low * m2) + 3 * m2 - 4 * m3)


def atomic_screening(Z: int, xraylib: Any) -> tuple[Screening, Screening]:
    """Return the screening of the nucleus and of the atomic electrons of element ``Z``."""
    x = MOMENTUM_TRANSFERS / (
        2 * COMPTON_WAVELENGTH
    )  # sin(theta/2) / lambda in 1/Angstrom, as the form factors want it

    def sample(function: Any, lowest: float, power: int) -> Array:
        inside = (x >= lowest) & (x <= 200.0)
        g = np.ones_like(x)
        g[inside] = [function(float(v)) for v in x[inside]]
        g[x < lowest] = g[inside][0] * (x[x < lowest] / lowest) ** power
        return g

    nucleus = sample(lambda v: (1 - xraylib.FF_Rayl(Z, v) / Z) ** 2, 1e-3, 4)
    electrons = sample(lambda v: xraylib.SF_Compt(Z, v) / Z, 1e-2, 2)
    return Screening.from_function(nucleus), Screening.from_function(electrons)


def reduced_cross_section(
    Z: int,
    xraylib: Any,
    kinetic_energies: Array = KINETIC_ENERGIES,
    photon_fractions: Array = PHOTON_FRACTIONS,
) -> Array:
    """Return (beta^2 / Z^2) k dsigma/dk of an electron on an atom.

    Args:
        Z: atomic number.
        xraylib: the module, for the atomic form factors.
        kinetic_energies: kinetic energies of the electron in MeV. (E,)
        photon_fractions: photon energies over kinetic energy, in (0, 1]. (K,)

    Returns:
        The reduced cross section in mb, positive. (E, K)
    """
    T = np.asarray(kinetic_energies, dtype=np.float64)[:, None] / ELECTRON_MASS  # (E, 1)
    y = np.asarray(photon_fractions, dtype=np.float64)[None, :]  # (1, K)
    # The end of the spectrum is a limit, where 3BN loses its digits: keep a little energy for the electron.
    y = np.minimum(y, 1 - np.maximum(1e-5, 5e-7 / T))  # (E, K)
    k, E0 = y * T, T + 1
    E, left = E0 - k, T - k
    p0, p = np.sqrt(T * (T + 2)), np.sqrt(left * (left + 2))
    beta0, beta = p0 / E0, p / E

    a = FINE_STRUCTURE * Z
    spectrum = 4 / 3 * (1 - k / E0) + (k / E0) ** 2
    transfers = k * ((E0 + E) / (p0 + p) - 1), p0 + p  # p0 - p - k and p0 + p
    plain = bethe_heitler(E0, k)

    def screened(screening: Screening) -> Array:
        phi1, phi2 = screening.change(*transfers)
        change = spectrum * phi1 + 2 / 3 * (1 - k / E0) * (phi1 - phi2)
        return np.asarray(np.maximum(plain + change / beta0**2, 1e-3 * plain))

    nucleus, electrons = (screened(s) for s in atomic_screening(Z, xraylib))
    coulomb = 4 * coulomb_correction(Z) * spectrum / (1 + (COULOMB_ENERGY / ELECTRON_MASS / left) ** 2)
    elwert = beta0 / beta * np.expm1(-2 * np.pi * a / beta0) / np.expm1(-2 * np.pi * a / beta)
    x = T * ELECTRON_MASS / TIP_ENERGY
    tip = a * (TIP_LINEAR + TIP_QUADRATIC * a) * 4 * x / (1 + x) ** 2
    tip = tip * (TIP_SOFT * y**0.3 + (1 - TIP_SOFT) * y**3)
    slow = 1 + ATOMIC_ENERGY * Z / (T * ELECTRON_MASS)
    nucleus = np.maximum(nucleus - coulomb, 1e-3 * plain) * elwert * (1 + tip) / slow

    highest = T / (E0 + 1 - p0)  # of a photon from an electron at rest
    electrons *= np.maximum(1 - k / highest, 0.0) ** (ELECTRON_LIMIT / (E0 + 1))
    return np.asarray(SCALE * beta0**2 * (nucleus + electrons / Z))


def table_text(Z: int, xraylib: Any) -> str:
    """Return the file ``brem_SB/brZ`` as G4SeltzerBergerModel reads it."""
    values = reduced_cross_section(Z, xraylib)
    head = f"4 {len(PHOTON_FRACTIONS)} {len(KINETIC_ENERGIES)}"
    rows = [PHOTON_FRACTIONS, np.log(KINETIC_ENERGIES), *values]
    return "\n".join([head, *(" ".join(f"{v:.7g}" for v in row) for row in rows)]) + "\n"
