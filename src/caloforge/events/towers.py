"""Towers of the two calorimeters, and what their electronics keep of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CaloforgeError
from ..incident import Floats
from ..jets.grid import EtaPhiGrid
from ..sparse import Ints


@dataclass(frozen=True)
class Readout:
    """What is kept of the towers of one calorimeter.

    Attributes:
        minimum: towers under it (MeV) are set to zero.
        significance: towers under so many resolutions are set to zero, where a resolution is known.
        noise: Gaussian noise of each tower, MeV.
    """

    minimum: float = 0.0
    significance: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        values = (self.minimum, self.significance, self.noise)
        if not all(0 <= value < np.inf for value in values):
            raise CaloforgeError(
                f"a minimum of {self.minimum:g} MeV, a significance of {self.significance:g} and noise of "
                f"{self.noise:g} MeV cannot be; give finite numbers from 0."
            )

    def noisy(self, energy: Floats, rng: np.random.Generator) -> Floats:
        """Energies (N, towers) with noise."""
        return energy + rng.normal(0.0, self.noise, energy.shape) if self.noise else energy

    def kept(self, energy: Floats, resolution: Floats | float = 0.0) -> Floats:
        """Energies (N, towers) with what is too small set to zero."""
        above = (energy > 0) & (energy >= self.minimum) & (energy >= self.significance * resolution)
        return np.where(above, energy, 0.0)


def fill(grid: EtaPhiGrid, row: Ints, tower: Ints, energy: npt.NDArray[Any], n: int) -> Floats:
    """Sum deposits into the towers of n events.

    Args:
        grid: the towers.
        row: event of each deposit (D,).
        tower: flat tower number of each deposit (D,); those outside, -1, are lost.
        energy: of each deposit (D,), MeV.
        n: number of events.

    Returns:
        Energies (n, towers).
    """
    inside = tower >= 0
    place = row[inside] * grid.n_towers + tower[inside]
    sums = np.bincount(place, weights=energy[inside], minlength=n * grid.n_towers)
    return sums.astype(np.float64).reshape(n, grid.n_towers)
