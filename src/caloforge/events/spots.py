"""From voxels of a shower to a few spots of calibrated energy."""

from __future__ import annotations

from functools import cached_property
from itertools import chain

import numpy as np
import numpy.typing as npt

from .. import showers as shower_data
from ..detectors import Detector
from ..errors import CaloforgeError
from ..incident import Floats
from ..sparse import Ints, offsets
from .library import Showers


class SpotMaker:
    """Gathers voxels of a detector in spots: cells of ``pitch`` in the first and twice that in the second calorimeter.

    Coarser cells make showers narrower (validation/frozen_showers.py measures it).

    Attributes:
        pitch: width of a spot's cell in the electromagnetic calorimeter, mm; spots lie at their centre of energy.
        smallest: spots with less energy (MeV) are dropped; the others make good for them.
    """

    def __init__(self, detector: Detector, pitch: float = 14.5, smallest: float = 4.0) -> None:
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
        self._weight = _layer_weights(detector)[detector.voxel_layers]

    @cached_property
    def _middle(self) -> Floats:
        """Middles (n_layers,) of the layers in depth."""
        return np.array([sum(grid.z) / 2 for grid in self.detector.grids])

    def visible(self, showers: shower_data.Showers) -> tuple[Floats, Floats]:
        """Energies (N,) seen in the electromagnetic and the hadronic calorimeter, not calibrated."""
        hadronic, energy = self._hadronic[showers.index], showers.energy * self._weight[showers.index]
        row, n = showers.shower_of_hit, len(showers)
        ecal, hcal = (
            np.bincount(row[part], weights=energy[part], minlength=n).astype(np.float64)
            for part in (~hadronic, hadronic)
        )
        return ecal, hcal

    def spots(self, showers: shower_data.Showers, ecal: float, hcal: float) -> Showers:
        """The spots of showers, given both calibration factors; the caller knows and fills ``kind`` and ``energy``."""
        hadronic = self._hadronic[showers.index]
        energy = showers.energy * self._weight[showers.index]
        energy = energy * np.where(hadronic, hcal, ecal)
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
        # The hottest spot stays in any case: a shower of little energy is still one.
        hottest = np.zeros(n)
        np.maximum.at(hottest, owner, energy)
        keep = (energy >= self.smallest) | (energy == hottest[owner])
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


def _layer_weights(detector: Detector) -> Floats:
    """Weights (n_layers,) that make up for plates of unequal thickness of one sensitive material.

    CMS's first scintillator is thicker and its light weighted down likewise; without that, showers that began in the
    crystals would count double there.
    """
    found: list[list[tuple[str, float]]] = [[] for _ in range(detector.n_layers)]
    for slab, layer in zip(detector.slabs, detector.slab_layers, strict=True):
        if layer >= 0:
            found[layer].append((slab.material, slab.thickness))
    thinnest = {
        material: min(t for plates in found for m, t in plates if m == material) for material, _ in chain(*found)
    }
    return np.array([thinnest[plates[0][0]] / np.mean([t for _, t in plates]) for plates in found])
