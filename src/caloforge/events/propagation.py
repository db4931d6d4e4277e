"""Where particles meet the calorimeters: helices in a solenoid, in closed form, for many particles at once.

The field fills a cylinder around the beam; the calorimeters begin at its surface. All particles start at its centre.
As in Delphes (arXiv 1307.6346), a particle that turns within the cylinder spirals to the end face, however often it
turns, and loses nothing on its way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import CaloforgeError
from ..incident import Floats

LIGHT = 0.299792458  # MeV of transverse momentum per tesla and mm of radius, for one elementary charge


@dataclass(frozen=True)
class Solenoid:
    """A uniform field along the beam; lengths in mm, field in tesla.

    Attributes:
        radius: of the cylinder.
        half_length: of the cylinder.
        field: along z.
    """

    radius: float = 1290.0
    half_length: float = 3000.0
    field: float = 3.8

    def __post_init__(self) -> None:
        lengths = min(self.radius, self.half_length)
        if not (lengths > 0 and math.isfinite(self.radius + self.half_length + self.field)):
            raise CaloforgeError(
                f"a solenoid of radius {self.radius:g} mm, half length {self.half_length:g} mm and {self.field:g} T "
                "cannot be; give finite lengths above 0 and a finite field."
            )


CMS_SOLENOID = Solenoid()
"""Radius, half length and field of Delphes' card for CMS."""


@dataclass(frozen=True)
class Arrival:
    """Particles at the surface of the cylinder.

    Attributes:
        position: x, y, z (M, 3) in mm; NaN for particles that never arrive (at rest, or turning without drift).
        direction: of flight there, unit vectors (M, 3).
    """

    position: Floats
    direction: Floats

    @property
    def eta(self) -> Floats:
        """Pseudorapidity of the positions, seen from the centre (M,)."""
        return pseudorapidity(self.position)

    @property
    def phi(self) -> Floats:
        """Azimuth of the positions (M,)."""
        phi: Floats = np.arctan2(self.position[:, 1], self.position[:, 0])
        return phi


def pseudorapidity(vectors: Floats) -> Floats:
    """Pseudorapidity of vectors (M, 3); infinite along the beam."""
    with np.errstate(divide="ignore", invalid="ignore"):
        eta: Floats = np.arcsinh(vectors[:, 2] / np.hypot(vectors[:, 0], vectors[:, 1]))
    return eta


def propagate(momentum: npt.NDArray[np.floating], charge: Floats, solenoid: Solenoid = CMS_SOLENOID) -> Arrival:
    """Follow particles from the centre to the surface of the cylinder.

    A charge q with transverse momentum p_T turns on a circle of radius p_T / (q B c) through the beam; after turning by
    an angle a it is 2 R sin(a / 2) from the beam, at azimuth phi - a / 2, and flies towards phi - a.

    Args:
        momentum: px, py, pz (M, 3) in MeV.
        charge: in elementary charges (M,).
        solenoid: cylinder and field.
    """
    p = np.asarray(momentum, dtype=np.float64)
    pt = np.hypot(p[:, 0], p[:, 1])
    phi = np.arctan2(p[:, 1], p[:, 0])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        curvature = LIGHT * solenoid.field * charge / pt  # signed, 1 / mm
        half_turn = np.arcsin(np.abs(curvature) * solenoid.radius / 2)  # NaN if the circle stays inside
        straight = np.abs(curvature) * solenoid.radius < 1e-9
        path = np.where(straight, solenoid.radius, 2 * half_turn / np.abs(curvature))  # transverse
        end = solenoid.half_length * pt / np.abs(p[:, 2])
        path = np.fmin(path, end)
        barrel = path < end
        turn = curvature * path
        chord = np.where(np.abs(turn) < 1e-9, path, 2 * np.sin(turn / 2) / curvature)
        z = np.where(barrel, path * p[:, 2] / pt, np.copysign(solenoid.half_length, p[:, 2]))
    along_beam = pt == 0
    chord, turn = np.where(along_beam, 0.0, chord), np.where(along_beam, 0.0, turn)
    z = np.where(along_beam & (p[:, 2] != 0), np.copysign(solenoid.half_length, p[:, 2]), z)
    azimuth, heading = phi - turn / 2, phi - turn
    position = np.stack([chord * np.cos(azimuth), chord * np.sin(azimuth), z], axis=1)
    size = np.hypot(pt, p[:, 2])[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        direction = np.stack([pt * np.cos(heading), pt * np.sin(heading), p[:, 2]], axis=1) / size
    lost = ~np.isfinite(position).all(axis=1) | ~np.isfinite(direction).all(axis=1)
    position[lost], direction[lost] = np.nan, np.nan
    return Arrival(position, direction)
