"""Incident particles: what enters the calorimeter, and the quantities a model may be conditioned on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import lookup

Floats = npt.NDArray[np.float64]

INCIDENT_FIELDS = {"pdg": ("i4", ()), "energy": ("f8", ()), "direction": ("f8", (3,)), "position": ("f8", (2,))}
"""Type and shape of each field for one particle, as stored in a shower file."""


@dataclass(frozen=True)
class Incident:
    """Incident particles.

    Attributes:
        pdg: PDG particle codes (N,).
        energy: kinetic energies (N,) in MeV.
        direction: unit vectors (N, 3); z points into the detector.
        position: x, y (N, 2) in mm where they meet the front face.
    """

    pdg: npt.NDArray[np.int32]
    energy: Floats
    direction: Floats
    position: Floats

    @classmethod
    def of(
        cls,
        energy: npt.ArrayLike,
        pdg: npt.ArrayLike = 22,
        direction: npt.ArrayLike = (0, 0, 1),
        position: npt.ArrayLike = (0, 0),
    ) -> Incident:
        """Build incident particles; what is given once is repeated for all energies (MeV)."""
        e = np.atleast_1d(np.asarray(energy, dtype=np.float64))
        n = len(e)
        d = np.broadcast_to(np.asarray(direction, dtype=np.float64), (n, 3))
        return cls(
            np.broadcast_to(np.asarray(pdg, dtype=np.int32), (n,)).copy(),
            e.copy(),
            d / np.linalg.norm(d, axis=1, keepdims=True),
            np.broadcast_to(np.asarray(position, dtype=np.float64), (n, 2)).copy(),
        )

    def __len__(self) -> int:
        return len(self.energy)

    def __getitem__(self, which: Any) -> Incident:
        return Incident(self.pdg[which], self.energy[which], self.direction[which], self.position[which])

    @staticmethod
    def concatenate(parts: Sequence[Incident]) -> Incident:
        """Join several groups of incident particles in order."""
        return Incident(*(np.concatenate([getattr(p, name) for p in parts]) for name in INCIDENT_FIELDS))

    def column(self, name: str) -> Floats:
        """One quantity (N,) of the incident particles, by a name of `CONDITIONS`; MeV, mm, rad."""
        values: Floats = lookup(CONDITIONS, name, "a condition")(self)
        return values


def _momentum(axis: int) -> Callable[[Incident], Floats]:
    def component(incident: Incident) -> Floats:
        mass = particle_mass(incident.pdg)
        momentum: Floats = np.sqrt(incident.energy * (incident.energy + 2 * mass))
        return momentum * incident.direction[:, axis]

    return component


CONDITIONS: dict[str, Callable[[Incident], Floats]] = {
    "energy": lambda incident: incident.energy,
    "log_energy": lambda incident: np.log(incident.energy),
    "p_x": _momentum(0),
    "p_y": _momentum(1),
    "p_z": _momentum(2),
    "x": lambda incident: incident.position[:, 0],
    "y": lambda incident: incident.position[:, 1],
    "tan_x": lambda incident: incident.direction[:, 0] / incident.direction[:, 2],
    "tan_y": lambda incident: incident.direction[:, 1] / incident.direction[:, 2],
    "theta": lambda incident: np.arccos(np.clip(incident.direction[:, 2], -1, 1)),
    "phi": lambda incident: np.arctan2(incident.direction[:, 1], incident.direction[:, 0]),
}
"""What a model may be conditioned on: name -> function of the incident particles giving (N,) values."""


def particle_mass(pdg: npt.NDArray[np.int32]) -> Floats:
    """Masses (N,) in MeV of PDG codes."""
    from particle import Particle

    codes, where = np.unique(pdg, return_inverse=True)
    masses = np.array([float(Particle.from_pdgid(int(code)).mass or 0.0) for code in codes])
    return masses[where]
