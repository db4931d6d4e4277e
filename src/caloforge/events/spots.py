"""From voxels of a shower to a few calibrated spots.

Both calorimeters are calibrated as CMS does: the electromagnetic one to photons, the hadronic one to pions of 50 GeV
that do not shower before it. So hadrons that shower in the first one are measured too low; response rises with energy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from .. import showers as shower_data
from ..detectors import Detector
from ..errors import CaloforgeError
from ..incident import Floats, Incident
from ..sparse import Ints, offsets
from .library import Showers


class SpotMaker:
    """Gathers voxels of a detector in spots: cells of ``pitch`` in the first and twice that in the second calorimeter.

    Attributes:
        pitch: width of a spot's cell in the electromagnetic calorimeter, mm; spots lie at their centre of energy.
        smallest: spots with less than this share of the shower's energy are dropped; the others make good for them.
    """

    def __init__(self, detector: Detector, pitch: float = 29.0, smallest: float = 0.002) -> None:
        materials = [slab.material for slab in detector.slabs if slab.sensitive]
        layers = [layer for layer in detector.slab_layers if layer >= 0]
        hadronic = {layer for layer, material in zip(layers, materials, strict=True) if material != materials[0]}
        if not hadronic:
            raise CaloforgeError(
                f"detector '{detector.name}' has one sensitive material and so no two calorimeters; give one like "
                "'cms-like'."
            )
        self.detector, self.pitch, self.smallest = detector, pitch, smallest
        self._hadronic = np.isin(detector.voxel_layers, sorted(hadronic))

    @cached_property
    def _middle(self) -> Floats:
        """Middles (n_layers,) of the layers in depth."""
        return np.array([sum(grid.z) / 2 for grid in self.detector.grids])

    def visible(self, showers: shower_data.Showers) -> tuple[Floats, Floats]:
        """Energies (N,) seen in the electromagnetic and the hadronic calorimeter, not calibrated."""
        hadronic = self._hadronic[showers.index]
        row, n = showers.shower_of_hit, len(showers)
        ecal, hcal = (
            np.bincount(row[part], weights=showers.energy[part], minlength=n).astype(np.float64)
            for part in (~hadronic, hadronic)
        )
        return ecal, hcal

    def spots(self, showers: shower_data.Showers, calibration: Calibration) -> Showers:
        """The spots of showers; ``kind`` and ``energy`` are left empty, since the caller knows them."""
        hadronic = self._hadronic[showers.index]
        energy = showers.energy * np.where(hadronic, calibration.hcal, calibration.ecal)
        row = showers.shower_of_hit
        x, y = (self.detector.voxel_positions[showers.index, i] - showers.incident.position[row, i] for i in (0, 1))
        z = self._middle[self.detector.voxel_layers[showers.index]]
        cell = np.where(hadronic, 2, 1) * self.pitch
        column, line = (np.floor(v / cell + 0.5).astype(np.int64) + 512 for v in (x, y))
        key = ((row * 2 + hadronic) * 1024 + column) * 1024 + line
        found, where = np.unique(key, return_inverse=True)
        total = np.bincount(where, weights=energy).astype(np.float64)
        centre = np.stack([np.bincount(where, weights=energy * v) / total for v in (x, y, z)], axis=1)
        owner = found >> 21
        return self._largest(owner, centre, total, (found >> 20 & 1).astype(bool), len(showers))

    def _largest(self, owner: Ints, centre: Floats, energy: Floats, hadronic: npt.NDArray[np.bool_], n: int) -> Showers:
        whole = np.bincount(owner, weights=energy, minlength=n)
        keep = energy >= self.smallest * whole[owner]
        group = owner * 2 + hadronic
        # The energy of what is dropped goes to what is kept of the same calorimeter, if anything is.
        before = np.bincount(group, weights=energy, minlength=2 * n)
        after = np.bincount(group[keep], weights=energy[keep], minlength=2 * n)
        factor = np.divide(before, after, out=np.ones_like(before), where=after > 0)
        owner, group = owner[keep], group[keep]
        deposit = (energy[keep] * factor[group]).astype(np.float32)
        empty = np.zeros(0)
        offset = offsets(np.bincount(owner, minlength=n))
        return Showers(empty.astype(np.int64), empty, offset, centre[keep].astype(np.float32), deposit, hadronic[keep])


@dataclass(frozen=True)
class Calibration:
    """Factors from visible energy to the particles' energy.

    Attributes:
        ecal: of the electromagnetic calorimeter, from photons.
        hcal: of the hadronic calorimeter, from pions that do not shower in the first one.
    """

    ecal: float
    hcal: float

    energy: ClassVar[float] = 50_000.0
    photons: ClassVar[int] = 50
    pions: ClassVar[int] = 200
    showers: ClassVar[int] = 250
    quiet: ClassVar[float] = 1000.0
    """MeV in the electromagnetic calorimeter under which a pion has not showered there."""

    @classmethod
    def incident(cls, pitch: float, rng: np.random.Generator) -> Incident:
        """The particles to calibrate with."""
        pdg = np.repeat([22, -211], [cls.photons, cls.pions])
        return Incident.of(np.full(cls.showers, cls.energy), pdg, position=rng.uniform(-pitch, pitch, (len(pdg), 2)))

    @classmethod
    def measure(cls, showers: shower_data.Showers, maker: SpotMaker) -> Calibration:
        """The factors from the showers of `incident`.

        Raises:
            CaloforgeError: if the detector has no signal, or no pion passes its electromagnetic calorimeter.
        """
        ecal, hcal = maker.visible(showers)
        photons = showers.incident.pdg == 22
        seen = float(ecal[photons].mean())
        factor = cls.energy / seen if seen > 0 else 0.0
        passed = ~photons & (ecal * factor < cls.quiet)
        if factor == 0 or not passed.any() or hcal[passed].mean() <= 0:
            raise CaloforgeError(
                f"detector '{showers.detector.name}' cannot be calibrated: photons or pions of 50 GeV leave no signal "
                "in it; give one like 'cms-like'."
            )
        left = cls.energy - (ecal[passed] * factor).mean()
        return cls(factor, float(left / hcal[passed].mean()))

    @property
    def factors(self) -> dict[str, float]:
        """Both by name."""
        return {"ecal": self.ecal, "hcal": self.hcal}
