"""What kinds of particles fly out of a collision: charge, mass, and which Geant4 showers stand for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..incident import Floats

KINDS: tuple[int, ...] = (22, 11, 13, 211, -211, 321, -321, 130, 2212, -2212, 2112, -2112)
"""PDG codes of the particles that Geant4 showers are made of."""

_SAME = {code: code for code in KINDS} | {-11: 11, -13: 13, 310: 130, -130: 130}
_BARYONS = {3122: 2112, 3212: 2112, 3322: 2112, 3222: 2212, 3112: 2212, 3312: 2212, 3334: 2212}


def charges(pdg: npt.NDArray[np.integer[Any]]) -> Floats:
    """Charges (M,) of PDG codes in elementary charges; 0 for codes of no known particle."""
    return _look_up(pdg, lambda particle: float(particle.charge or 0.0))


def masses(pdg: npt.NDArray[np.integer[Any]]) -> Floats:
    """Masses (M,) of PDG codes in MeV; 0 for codes of no known particle."""
    return _look_up(pdg, lambda particle: float(particle.mass or 0.0))


def _look_up(pdg: npt.NDArray[np.integer[Any]], value: Callable[[Any], float]) -> Floats:
    from particle import InvalidParticle, Particle, ParticleNotFound

    codes, where = np.unique(pdg, return_inverse=True)
    found = np.zeros(len(codes))
    for i, code in enumerate(codes.tolist()):
        try:
            found[i] = value(Particle.from_pdgid(code))
        except (ParticleNotFound, InvalidParticle):
            continue
    return found[where]


def kind_of(pdg: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
    """Which of `KINDS` stands for each particle (M,).

    A positron is taken for an electron, K0S for K0L, hyperons (which rarely live that long) for nucleons, any other
    charged particle for a pion of its charge and any other neutral one for a K0L.
    """
    codes, where = np.unique(pdg, return_inverse=True)
    signs = charges(codes)
    found = [_kind(code, sign) for code, sign in zip(codes.tolist(), signs.tolist(), strict=True)]
    return np.array([KINDS.index(code) for code in found], dtype=np.int64)[where]


def _kind(code: int, charge: float) -> int:
    if code in _SAME:
        return _SAME[code]
    if abs(code) in _BARYONS:
        return _BARYONS[abs(code)] * (1 if code > 0 else -1)
    return 130 if charge == 0 else 211 if charge > 0 else -211


def kinetic_energy(pdg: npt.NDArray[np.integer[Any]], momentum: npt.NDArray[np.floating[Any]]) -> Floats:
    """Kinetic energies (M,) in MeV of particles with momenta (M, 3)."""
    squared = np.square(momentum.astype(np.float64)).sum(axis=1)
    mass = masses(pdg)
    total = np.sqrt(squared + mass**2) + mass
    energy: Floats = np.divide(squared, total, out=np.zeros_like(squared), where=total > 0)
    return energy
