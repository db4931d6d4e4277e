"""Photoelectric cross sections in the form that G4LivermorePhotoElectricModel (Geant4 11) reads.

Totals and the shares of the shells are those of xraylib [1] (totals 0.1 keV to 0.8 or 1 MeV, after EPDL97;
shells up to 0.3 MeV, after Kissel). Above, the total follows Sauter's relativistic Born formula [2] times a
factor that goes from its value at the end of xraylib's range to the high-energy limit of Pratt [3], and the
shares of the shells stay as they are.

Geant4 evaluates, from low to high energy: ``pe-le-cs`` below the K edge and ``pe-cs`` above (tables of
sigma E^3 in barn MeV^3), then two polynomials sigma = sum_j c_j E^-j, j = 1..6 (barn, MeV), ``pe-low`` and
``pe-high``, whose rows are cumulated over the shells from K outwards, so that the last row is the total.
``pe-ss-cs`` holds sigma E^3 of each shell where the tables are used.

[1] Schoonjans et al., Spectrochim. Acta B 66 (2011) 776.  [2] Sauter, Ann. Phys. 403 (1931) 454.
[3] Pratt, Phys. Rev. 117 (1960) 1017; Pratt, Ron and Tseng, Rev. Mod. Phys. 45 (1973) 273.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ELECTRON_MASS = 0.51099895  # MeV
FINE_STRUCTURE = 1 / 137.035999
THOMSON = 0.66524587  # barn

LOWEST = 1.001e-4  # MeV; below, sigma E^3 is held constant (xraylib begins at 0.1 keV)
POLYNOMIALS_FROM = 0.25, 1.0  # MeV; where pe-low and pe-high begin
HIGHEST = 1e5  # MeV; end of the fit of pe-high
PER_DECADE = 120  # points of the tables
EDGE = 1e-3  # xraylib's edges are this sharp, relative to their energy
APPROACH = 4 * ELECTRON_MASS  # how fast the total approaches its high-energy limit


@dataclass(frozen=True)
class Shell:
    """One atomic shell: its number in xraylib (0 is K), binding energy in MeV and electrons."""

    number: int
    binding: float
    electrons: float


def sauter(Z: int, energy: Array) -> Array:
    """Return Sauter's cross section of the two K electrons in barn, ``energy`` of the photon in MeV."""
    k = energy / ELECTRON_MASS
    gamma = 1 + k
    momentum = np.sqrt(gamma**2 - 1)
    logarithm = 2 * np.arccosh(gamma) / (2 * gamma * momentum)
    bracket = 4 / 3 + gamma * (gamma - 2) / (gamma + 1) * (1 - logarithm)
    return np.asarray(1.5 * THOMSON * Z**5 * FINE_STRUCTURE**4 * k**-5 * momentum**3 * bracket)


def pratt_limit(Z: int) -> float:
    """Return the K-shell cross section over Sauter's as the energy goes to infinity."""
    a = FINE_STRUCTURE * Z
    xi = np.sqrt(1 - a**2) - 1
    return float(a ** (2 * xi) * np.exp(-2 * a * np.arccos(a)) * (1 - 4 * np.pi * a / 15))


class Photoelectric:
    """Cross sections of one element.

    Attributes:
        shells: the shells from K outwards.
        sigma: function from photon energies in MeV to the total cross section in barn.
    """

    def __init__(self, Z: int, xraylib: Any) -> None:
        self.Z = Z
        self._xraylib = xraylib
        self.shells = self._find_shells()
        self._edges = np.array([s.binding for s in self.shells])
        self._highest = 0.799 if Z < 14 else 0.999
        self._last_share = self._end_of_shares()
        self._share_at_end = self._shares_inside(np.array([self._last_share]))  # (shells, 1)

    def _find_shells(self) -> list[Shell]:
        shells = []
        for number in range(31):
            binding = _or_zero(self._xraylib.EdgeEnergy, self.Z, number) * 1e-3
            electrons = _or_zero(self._xraylib.ElectronConfig, self.Z, number)
            if binding > 0 and electrons > 0:
                shells.append(Shell(number, binding, electrons))
        return shells

    def _end_of_shares(self) -> float:
        """Return the highest energy in MeV at which xraylib's shells add up to its total within 5 %."""
        lowest = max(self.shells[0].binding * 1.01, LOWEST)
        energies = np.geomspace(0.3, lowest, 60)
        agreement = self._partial(energies).sum(axis=0) / self._inside(energies)
        good = np.abs(agreement - 1) < 0.05
        return float(energies[np.argmax(good)]) if good.any() else lowest

    def _partial(self, energies: Array) -> Array:
        """Return xraylib's cross section of each shell in barn, zero where it has none: (shells, N)."""
        partial = self._xraylib.CSb_Photo_Partial
        return np.array(
            [[s.electrons * _or_zero(partial, self.Z, s.number, float(E) * 1e3) for E in energies] for s in self.shells]
        )

    def _inside(self, energies: Array) -> Array:
        """Return xraylib's total in barn; energies in MeV, inside its range."""
        return np.array([self._xraylib.CSb_Photo(self.Z, float(E) * 1e3) for E in energies])

    def _shares_inside(self, energies: Array) -> Array:
        open_shells = energies[None, :] > self._edges[:, None]
        partial = self._partial(energies) * open_shells
        total = partial.sum(axis=0)
        # Where xraylib has no shell (valence electrons), the outermost open one takes all.
        outermost = np.zeros_like(partial)
        outermost[-1] = 1.0
        return np.where(total > 0, partial / np.where(total > 0, total, 1.0), outermost)

    def shares(self, energies: Array) -> Array:
        """Return the share of each shell in the total at photon energies in MeV: (shells, N)."""
        inside = np.clip(energies, LOWEST, self._last_share)
        shares = self._shares_inside(inside)
        return np.where(energies[None, :] > self._last_share, self._share_at_end, shares)

    def sigma(self, energies: Array) -> Array:
        """Return the total cross section in barn at photon energies in MeV: (N,)."""
        E = np.asarray(energies, dtype=np.float64)
        inside = np.clip(E, LOWEST, self._highest)
        result = self._inside(inside) * np.where(E < LOWEST, (inside / E) ** 3, 1.0)
        above = self._highest < E
        if above.any():
            end = np.array([self._highest])
            first = float((self._inside(end) / sauter(self.Z, end))[0])
            k_electrons = min(self.shells[0].electrons, 2.0)
            limit = pratt_limit(self.Z) * k_electrons / 2 / float(self._share_at_end[0, 0])
            weight = (self._highest + APPROACH) / (E[above] + APPROACH)
            result[above] = sauter(self.Z, E[above]) * (limit + (first - limit) * weight)
        return np.asarray(result)

    def files(self) -> dict[str, str]:
        """Return the five files of this element by name."""
        k_edge = self.shells[0].binding
        low, high = POLYNOMIALS_FROM
        above = _table(*self._scaled(k_edge, low))
        shells = []
        energies, scaled = self._scaled(min(self._edges.min(), LOWEST), low)
        shares = self._shares_of_steps(energies)
        for index, shell in enumerate(self.shells):
            used = energies > shell.binding * (1 + EDGE / 10)
            rows = _rows(energies[used], scaled[used] * shares[index, used])
            shells.append(f"{shell.binding:.8g} {low:.8g} {int(used.sum())} {index}\n{rows}")
        files = {
            "pe-cs": above,
            "pe-ss-cs": "".join(shells),
            "pe-low": self._polynomials(low, high),
            "pe-high": self._polynomials(high, HIGHEST),
        }
        bottom = min(self._edges.min(), LOWEST, k_edge / 2)
        files["pe-le-cs"] = _table(*self._scaled(bottom, k_edge * (1 - EDGE / 5)))
        return {f"{name}-{self.Z}.dat": text for name, text in files.items()}

    def _scaled(self, low: float, high: float) -> tuple[Array, Array]:
        """Return a grid from ``low`` to ``high`` MeV with two points at each edge, and sigma E^3 on it."""
        count = int(PER_DECADE * np.log10(high / low)) + 2
        edges = self._edges[(self._edges > low) & (self._edges < high)]
        steps = np.concatenate([edges * (1 - EDGE / 5), edges * (1 + EDGE / 5)])
        grid = np.union1d(np.geomspace(low, high, count), steps)
        near = np.abs(grid[:, None] / self._edges[None, :] - 1) < EDGE
        keep = ~near.any(axis=1) | np.isin(grid, [*steps, grid[0], grid[-1]])
        grid = grid[keep]
        away = self._off_the_edges(grid)
        return grid, self.sigma(away) * away**3

    def _off_the_edges(self, grid: Array) -> Array:
        """Return ``grid`` with the points that lie on an edge moved clear of it, each to its side."""
        moved = grid.copy()
        for edge in self._edges:
            near = np.abs(grid / edge - 1) < EDGE / 2
            moved[near] = np.where(grid[near] < edge * (1 - EDGE / 100), edge * (1 - EDGE), edge * (1 + EDGE))
        return moved

    def _shares_of_steps(self, grid: Array) -> Array:
        return self.shares(self._off_the_edges(grid))

    def _polynomials(self, low: float, high: float) -> str:
        energies = np.geomspace(low, high, 200)
        coefficients = _fit(self.sigma, energies)
        cumulated = np.cumsum(self.shares(np.array([low]))[:, 0])  # (shells,)
        cumulated /= cumulated[-1]
        lines = [f"{len(self.shells)} {len(self.shells)} {low:.8g}"]
        for shell, share in zip(self.shells, cumulated, strict=True):
            row = " ".join(f"{c:.12g}" for c in share * coefficients)
            lines.append(f"{shell.binding:.8g} {row}")
        return "\n".join(lines) + "\n"


def _fit(sigma: Callable[[Array], Array], energies: Array) -> Array:
    """Return c_1..c_6 of sigma = sum_j c_j E^-j with the smallest relative residuals."""
    values = sigma(energies)
    powers = (energies[0] / energies[:, None]) ** np.arange(1, 7)  # scaled, for the sake of the solver
    solution = np.linalg.lstsq(powers / values[:, None], np.ones_like(values), rcond=None)[0]
    return np.asarray(solution * energies[0] ** np.arange(1, 7))


def _rows(energies: Array, values: Array) -> str:
    return "".join(f"{E:.9g} {v:.8g}\n" for E, v in zip(energies, values, strict=True))


def _table(energies: Array, values: Array) -> str:
    head = f"{energies[0]:.9g} {energies[-1]:.9g} {len(energies)}\n{len(energies)}\n"
    return head + _rows(energies, values)


def _or_zero(function: Callable[..., float], *arguments: int | float) -> float:
    """Return what an xraylib function gives, or zero where it has no data."""
    try:
        return float(function(*arguments))
    except ValueError:
        return 0.0
