"""Scoring: which voxel a deposit belongs to, and what of it is seen.

Plain deposits are summed by Geant4's C++ scorers. Scintillators are quenched by Birks' law and read out in a time
gate, which no C++ scorer knows. Both concern charged particles, which make about a seventh of the steps in a
sampling calorimeter; so charged steps alone go through Python, and neutral ones (photons, neutrons) stay in C++:

* charged particles: dE / (1 + k_B dE/dx) with the step's own dE/dx [1], if the step began within the gate;
* recoils of elastically scattered neutrons that are too slow to be followed: dE / (1 + k_B S) with `RECOIL_STOPPING`;
* photons' deposits (electrons too slow to be followed): not quenched.

The gate needs no test for neutral particles: neutrons are not followed after it (`physics_list`). In slabs without
Birks' constant this is all the gate does: every charged step of a crystal in Python would cost half as much again.

[1] Birks, Proc. Phys. Soc. A 64 (1951) 874.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..detectors import Detector, LayerGrid
from .physics import HADRONIC

RECOIL_STOPPING = 70.0
"""MeV/mm per g/cm3: stopping power of protons of 20 to 100 keV in plastic, 600 to 850 MeV cm2/g (PSTAR)."""


class Scorer:
    """Layers of equal segmentation and quenching, scored together: scorer cell number -> voxel number.

    Attributes:
        grid: the segmentation.
        birks: Birks' constant in mm/MeV, 0 for none.
        gate: end of the read-out of quenched layers in ns, infinite for none.
        layers: the layers' numbers in the detector.
        cells: logical volumes of the innermost cells.
        slab_depth: of the slab in the touchable history, counted from the innermost cell.
        density: of the material, g/cm3.
        voxel_of: voxel number of each scorer cell.
    """

    def __init__(self, grid: LayerGrid, birks: float, gate: float | None) -> None:
        self.grid, self.birks = grid, birks
        self.gate = math.inf if gate is None else gate
        self.layers: list[int] = []
        self.cells: list[Any] = []
        self.slab_depth = 2
        self.density = 0.0
        self.voxel_of: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._kept: list[Any] = []
        self._collections: list[tuple[int, float]] = []  # C++ collections: number, factor
        self._charged: dict[int, float] = {}

    @property
    def plain(self) -> bool:
        """Whether deposits are read out as they are."""
        return self.birks == 0

    def attach(self, g4: Any, name: str, physics: str, first: int) -> tuple[Any, int]:
        """Build the sensitive detector.

        Args:
            g4: the Geant4 module.
            name: of the sensitive detector.
            physics: the physics list's name.
            first: the number its first collection will have in an event.

        Returns:
            The sensitive detector, and the number of the next one's first collection.
        """
        counter = g4.G4MultiFunctionalDetector(name)
        sizes = (len(self.layers), *self.grid.shape)
        place = (*sizes, self.slab_depth, 1, 0)
        energy = g4.G4PSEnergyDeposit3D("energy", *place)
        scorers = [energy]
        self._collections = [(first, 1.0)]
        if not self.plain:
            energy.SetFilter(self._keep(g4.G4SDNeutralFilter("neutral")))
            charged, self._charged = _charged_scorer(g4, energy, self.birks, self.gate)
            charged.SetFilter(self._keep(g4.G4SDChargedFilter("charged")))
            scorers.append(charged)
            if physics == HADRONIC:
                recoils = g4.G4PSEnergyDeposit3D("recoils", *place)
                recoils.SetFilter(self._keep(g4.G4SDParticleFilter("neutrons", "neutron")))
                scorers.append(recoils)
                # They are in the neutral deposits once: take off what is not seen of them.
                seen = 1 / (1 + self.birks * RECOIL_STOPPING * self.density)
                self._collections.append((first + 2, seen - 1))
        for scorer in scorers:
            counter.RegisterPrimitive(self._keep(scorer))
        return self._keep(counter), first + len(scorers)

    def read(self, collections: Any) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
        """Voxel numbers and energies of one event; a voxel may come more than once, to be added up."""
        for number, factor in self._collections:
            yield self._pairs(dict(collections.GetHC(number)), factor)
        if self._charged:
            yield self._pairs(self._charged, 1.0)
            self._charged.clear()

    def _pairs(
        self, deposits: dict[int, float], factor: float
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        found = np.fromiter(deposits.keys(), np.int64, len(deposits))
        return self.voxel_of[found], np.fromiter(deposits.values(), np.float64, len(deposits)) * factor

    def _keep(self, made: Any) -> Any:
        self._kept.append(made)
        return made


def _charged_scorer(g4: Any, cells: Any, birks: float, gate: float) -> tuple[Any, dict[int, float]]:
    """A scorer of charged particles' visible energy, and the deposits it writes: scorer cell -> MeV.

    ``cells`` is a scorer of Geant4's that knows the cell's number.
    """
    deposits: defaultdict[int, float] = defaultdict(float)
    cell_of = cells.GetIndex

    class Charged(g4.G4VPrimitiveScorer):  # type: ignore[misc]
        def ProcessHits(self, step: Any, history: Any) -> bool:  # noqa: N802
            energy = step.GetTotalEnergyDeposit()
            if energy > 0.0 and step.GetPreStepPoint().GetGlobalTime() <= gate:
                length = step.GetStepLength()
                if length > 0.0:
                    energy /= 1.0 + birks * energy / length
                deposits[cell_of(step)] += energy
            return True

    return Charged("charged"), deposits


def group_layers(detector: Detector) -> tuple[list[Scorer], dict[int, tuple[Scorer, int]]]:
    """Scorers for all layers, and for each layer its scorer and its number in it."""
    scorers: dict[Any, Scorer] = {}
    where: dict[int, tuple[Scorer, int]] = {}
    for layer, (grid, birks) in enumerate(zip(detector.grids, detector.layer_birks, strict=True)):
        key = (grid.kind, grid.edges0.tobytes(), grid.edges1.tobytes(), birks)
        scorer = scorers.setdefault(key, Scorer(grid, birks, detector.readout.gate))
        where[layer] = (scorer, len(scorer.layers))
        scorer.layers.append(layer)
    for scorer in scorers.values():
        cells = np.arange(math.prod(scorer.grid.shape))
        scorer.voxel_of = np.concatenate([detector.layer_slices[layer].start + cells for layer in scorer.layers])
    return list(scorers.values()), where
