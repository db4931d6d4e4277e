"""The fast side: towers that answer by formula, in the manner of Delphes.

Particles are followed to the calorimeters in the solenoid's field, put into the tower they meet with the fractions of
their energy that their kind leaves in either calorimeter, and each tower's sum is smeared by a resolution. Fractions,
resolutions and minimum energies are those of Delphes' card for CMS (de Favereau et al., arXiv 1307.6346; shapes of the
electromagnetic resolution from arXiv 1306.2016 and 1502.02701). Trap: newer cards ask for towers of two resolutions,
made for particle flow; that leaves no hadronic tower under 9 GeV, so one, as in the older cards, is the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..incident import Floats
from ..jets.event_file import Events
from ..jets.grid import CMS, EtaPhiGrid
from ..sparse import SparseRows
from .propagation import CMS_SOLENOID, Solenoid, propagate
from .species import charges
from .towers import Readout, fill

GEV = 1000.0  # MeV
FRACTIONS: Mapping[int, tuple[float, float]] = {
    11: (1.0, 0.0), 22: (1.0, 0.0), 111: (1.0, 0.0),
    12: (0.0, 0.0), 13: (0.0, 0.0), 14: (0.0, 0.0), 16: (0.0, 0.0),
    310: (0.3, 0.7), 3122: (0.3, 0.7),
}  # fmt: skip
"""Fractions of the energy left in the electromagnetic and the hadronic calorimeter, by absolute PDG code."""
OTHERS = (0.0, 1.0)


def ecal_resolution(energy: Floats, eta: Floats) -> Floats:
    """Resolution of electromagnetic towers in MeV; energies in MeV."""
    e, eta = energy / GEV, np.abs(eta)
    central = np.sqrt((0.008 * e) ** 2 + 0.11**2 * e + 0.40**2)
    barrel, endcap = (1 + 0.64 * eta**2) * central, (2.16 + 5.6 * (eta - 2) ** 2) * central
    forward = np.sqrt((0.107 * e) ** 2 + 2.08**2 * e)
    return np.select([eta <= 1.5, eta <= 2.5], [barrel, endcap], forward) * GEV


def hcal_resolution(energy: Floats, eta: Floats) -> Floats:
    """Resolution of hadronic towers in MeV; energies in MeV."""
    e = energy / GEV
    central, forward = np.sqrt((0.050 * e) ** 2 + 1.50**2 * e), np.sqrt((0.130 * e) ** 2 + 2.70**2 * e)
    return np.where(np.abs(eta) <= 3.0, central, forward) * GEV


@dataclass(frozen=True)
class FastCalorimeter:
    """Towers that answer by formula.

    Attributes:
        grid: the towers.
        solenoid: what bends the particles on their way.
        ecal: what is kept of electromagnetic towers.
        hcal: what is kept of hadronic towers.
        smearing: shape of the resolution; a log-normal one never makes energies negative.
    """

    grid: EtaPhiGrid = CMS
    solenoid: Solenoid = CMS_SOLENOID
    ecal: Readout = field(default_factory=lambda: Readout(500.0, 1.0))
    hcal: Readout = field(default_factory=lambda: Readout(1000.0, 1.0))
    smearing: Literal["log-normal", "gaussian", "none"] = "log-normal"

    def towers(self, events: Events) -> tuple[Floats, Floats]:
        """Energies (N, towers) that reach the electromagnetic and the hadronic towers, not smeared, MeV."""
        arrival = propagate(events.momentum, charges(events.pdg), self.solenoid)
        tower = self.grid.tower(arrival.eta, arrival.phi)
        shares = fractions(events.pdg)
        energy = events.energy.astype(np.float64)
        ecal, hcal = (fill(self.grid, events.row, tower, energy * share, len(events)) for share in shares.T)
        return ecal, hcal

    def images(self, events: Events, rng: np.random.Generator) -> SparseRows:
        """Images of events: smeared sums of both calorimeters' towers."""
        eta = np.repeat(self.grid.eta, self.grid.n_phi)
        total = np.zeros((len(events), self.grid.n_towers))
        resolutions = (ecal_resolution, hcal_resolution)
        for energy, resolution, readout in zip(self.towers(events), resolutions, (self.ecal, self.hcal), strict=True):
            smeared = self._smeared(energy, resolution(energy, eta), rng)
            noisy = readout.noisy(smeared, rng)
            total += readout.kept(noisy, resolution(np.maximum(noisy, 0.0), eta) if readout.significance else 0.0)
        return SparseRows.from_dense(total.astype(np.float32))

    def _smeared(self, energy: Floats, sigma: Floats, rng: np.random.Generator) -> Floats:
        if self.smearing == "none":
            return energy
        hit = energy > 0
        mean, sigma = energy[hit], sigma[hit]
        normal = rng.standard_normal(len(mean))
        out = np.zeros_like(energy)
        if self.smearing == "gaussian":
            out[hit] = np.maximum(mean + sigma * normal, 0.0)
        else:
            width = np.sqrt(np.log1p((sigma / mean) ** 2))
            out[hit] = mean * np.exp(width * normal - width**2 / 2)
        return out


def fractions(pdg: npt.NDArray[np.integer[Any]]) -> Floats:
    """Fractions (M, 2) of the energy left in the electromagnetic and the hadronic calorimeter."""
    codes, where = np.unique(np.abs(pdg), return_inverse=True)
    return np.array([FRACTIONS.get(code, OTHERS) for code in codes.tolist()]).reshape(-1, 2)[where]
