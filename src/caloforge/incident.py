"""Incident particles: what enters the calorimeter, and the quantities a model may be conditioned on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import CaloforgeError, lookup

Floats = npt.NDArray[np.float64]

MAX_ENERGY = 1e15
"""MeV; ten times the largest energy ever seen in a cosmic ray: what is above it is damage, not physics."""

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
        """Build incident particles; what is given once is repeated for all energies (MeV).

        Directions need not be unit vectors; they become ones.

        Raises:
            CaloforgeError: if the numbers of particles differ, a value is not finite, an energy is negative or a
                direction has no length.
        """
        try:
            e = np.atleast_1d(np.asarray(energy, dtype=np.float64))
            n = e.size
            e = np.broadcast_to(e, (n,)).copy()
            codes = np.broadcast_to(np.asarray(pdg, dtype=np.int32), (n,)).copy()
            d = np.broadcast_to(np.asarray(direction, dtype=np.float64), (n, 3))
            place = np.broadcast_to(np.asarray(position, dtype=np.float64), (n, 2)).copy()
        except (ValueError, TypeError, OverflowError) as error:
            raise CaloforgeError(
                f"the incident particles do not fit together ({error}); give energies (N,), directions (N, 3) and "
                "positions (N, 2), or one for all."
            ) from None
        largest = np.abs(d).max(axis=1, keepdims=True, initial=0.0)
        finite = np.isfinite(e).all() and np.isfinite(largest).all() and np.isfinite(place).all()
        if not finite or not ((e >= 0) & (e <= MAX_ENERGY)).all() or (largest == 0).any():
            raise CaloforgeError(
                "an incident particle has a NaN, an infinite value, no direction, or an energy that is negative or "
                f"above {MAX_ENERGY:g} MeV; give finite values and directions with a length."
            )
        d = d / largest  # so that the squares neither overflow nor vanish
        return cls(codes, e, d / np.linalg.norm(d, axis=1, keepdims=True), place)

    def with_momentum(self, momentum: npt.ArrayLike) -> Incident:
        """The same particles with the kinetic energies that belong to momenta (N,) in MeV."""
        p = np.asarray(momentum, dtype=np.float64)
        mass = particle_mass(self.pdg)
        # p^2 / (E + m) equals E - m without the loss of digits at low momenta.
        total = np.hypot(p, mass) + mass
        return replace(self, energy=np.divide(p * p, total, out=np.zeros_like(p), where=total > 0))

    def __len__(self) -> int:
        return len(self.energy)

    def __getitem__(self, which: Any) -> Incident:
        return Incident(self.pdg[which], self.energy[which], self.direction[which], self.position[which])

    @staticmethod
    def concatenate(parts: Sequence[Incident]) -> Incident:
        """Join several groups of incident particles in order."""
        return Incident(*(np.concatenate([getattr(p, name) for p in parts]) for name in INCIDENT_FIELDS))

    def column(self, name: str) -> Floats:
        """One quantity (N,) of the incident particles, by a name of `CONDITIONS`; MeV, mm, rad.

        Raises:
            CaloforgeError: if there is no such quantity, or it is not finite for a particle (an energy of zero has no
                logarithm, a particle along the front face no tangent).
        """
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            values: Floats = lookup(CONDITIONS, name, "a condition")(self)
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            raise CaloforgeError(
                f"condition '{name}' is not finite for {bad} of {len(self)} incident particles; "
                "choose another condition or take them out."
            )
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


PDG_CODES: dict[str, int] = {
    "gamma": 22, "photon": 22, "e-": 11, "electron": 11, "e+": -11, "positron": -11, "mu-": 13, "mu+": -13,
    "pi+": 211, "pion": 211, "pi-": -211, "pi0": 111, "kaon+": 321, "kaon-": -321, "kaon0L": 130, "kaon0S": 310,
    "proton": 2212, "anti_proton": -2212, "neutron": 2112, "anti_neutron": -2112,
}  # fmt: skip
"""Names of particles (Geant4's, and the usual words) and their PDG codes."""


def pdg_code(name: str | int) -> int:
    """PDG code of a particle given by name or by its code.

    Raises:
        CaloforgeError: if there is no such particle.
    """
    text = str(name).strip()
    if text.removeprefix("-").isdecimal() and text.isascii() and len(text) < 11:
        particle_mass(np.array([int(text)]))
        return int(text)
    return lookup(PDG_CODES, text, "a particle")


def particle_name(pdg: int) -> str:
    """Geant4's name of a PDG code, or the code itself."""
    return next((name for name, code in PDG_CODES.items() if code == pdg), str(pdg))


def particle_mass(pdg: npt.NDArray[np.integer[Any]]) -> Floats:
    """Masses (N,) in MeV of PDG codes.

    Raises:
        CaloforgeError: if a code belongs to no known particle.
    """
    from particle import InvalidParticle, Particle, ParticleNotFound

    codes, where = np.unique(pdg, return_inverse=True)
    masses = np.zeros(len(codes))
    for i, code in enumerate(codes.tolist()):
        try:
            masses[i] = float(Particle.from_pdgid(code).mass or 0.0)
        except (ParticleNotFound, InvalidParticle):
            raise CaloforgeError(f"{code} is no particle's PDG code; give one such as 22, 11 or 211.") from None
    return masses[where]
