"""The only door to Geant4: builds a detector, shoots particles into it, reads the voxels out.

Scoring happens in Geant4's own C++ scorers: voxels are nested replicas in each sensitive slab, and Python is called
once an event; only charged steps in quenched slabs come to Python one by one (`scoring`). Geant4 allows one run
manager a process, so this module is only ever used inside a worker process.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ..detectors import Detector
from ..errors import CaloforgeError
from ..extras import geant4
from ..incident import Incident
from ..showers import Showers
from .fast import PLANE, Deposits, FastShowers, add_up
from .physics import ELECTROMAGNETIC, physics_list, set_up
from .physics_tables import PhysicsTables, geant4_environment
from .scoring import Scorer, group_layers

_START = -1.0  # mm: particles start in the vacuum before the front face


class Geant4:
    """A detector in Geant4, ready to be shot at. One per process.

    Args:
        detector: what to build.
        tables: where the physics tables lie.
        physics: the physics list's name, from `choose_physics`.
        fast: replaces showers of particles that enter the calorimeter.
        entrance: depth in mm at which they enter it: where slabs that are not part of it end.

    Raises:
        CaloforgeError: if geant4_pybind is not installed, or no slab ends at the entrance.
    """

    def __init__(
        self,
        detector: Detector,
        tables: PhysicsTables,
        physics: str = ELECTROMAGNETIC,
        fast: FastShowers | None = None,
        entrance: float = 0.0,
    ) -> None:
        os.environ.update(geant4_environment(tables))
        self._g4 = g4 = geant4()
        self.detector = detector
        self.physics = physics
        self.fast = fast
        self.version = _version(str(g4.G4Version))
        self._run_manager = g4.G4RunManagerFactory.CreateRunManager(g4.G4RunManagerType.Serial)
        # Python owns none of these as far as Geant4 knows: they must live as long as the run manager.
        self._construction = _construction(g4, detector, physics, fast, entrance)
        self._list = physics_list(g4, physics, detector.readout.gate)
        self._action = _action(g4, physics)
        self._run_manager.SetUserInitialization(self._construction)
        self._run_manager.SetUserInitialization(self._list)
        set_up(g4, physics, detector.range_cut)
        self._run_manager.SetUserInitialization(self._action)
        self._run_manager.Initialize()

    def simulate(
        self,
        incident: Incident,
        seeds: npt.NDArray[np.uint32],
        each: Callable[[int], None] = lambda done: None,
        first: int = 0,
    ) -> tuple[Showers, float]:
        """Simulate one shower per incident particle.

        Args:
            incident: N particles.
            seeds: two random seeds for each shower (N, 2); a shower depends on its particle and seeds alone.
            each: called with the number of showers done after each.
            first: number of the first event, which the noise of generated showers depends on.

        Returns:
            The showers and the CPU seconds spent on them.
        """
        gun, recorder = self._action.gun, self._action.recorder
        gun.load(incident, seeds)
        recorder.load(self._construction.scorers, each, self.fast, first)
        began = time.process_time()
        self._run_manager.BeamOn(len(incident))
        generated = self._generated(range(first, first + len(incident)))
        seconds = time.process_time() - began
        return self._showers(incident, recorder.index, recorder.energy, generated), seconds

    def _generated(self, events: range) -> list[Deposits]:
        if self.fast is None:
            return []
        self.fast.flush()
        return [self.fast.take(number) for number in events]

    def _showers(
        self,
        incident: Incident,
        index: list[npt.NDArray[np.int64]],
        energy: list[npt.NDArray[np.float64]],
        generated: list[Deposits],
    ) -> Showers:
        readout = self.detector.readout
        if len(index) != len(incident):
            raise RuntimeError(f"Geant4 ran {len(index)} of {len(incident)} events")
        kept_index, kept_energy = [], []
        for number, (voxels, deposits) in enumerate(zip(index, energy, strict=True)):
            order = np.argsort(voxels)
            places, scaled = voxels[order], deposits[order] * readout.scale
            if generated and len(generated[number][0]):  # generated energies are those read out: scaled already
                more, made = generated[number]
                places, scaled = add_up(np.concatenate([places, more]), np.concatenate([scaled, made]))
            stored = scaled.astype(np.float32)
            keep = stored > readout.threshold
            kept_index.append(places[keep].astype(np.uint32))
            kept_energy.append(stored[keep])
        offset = np.concatenate([[0], np.cumsum([len(i) for i in kept_index])]).astype(np.int64)
        return Showers(incident, self.detector, offset, np.concatenate(kept_index), np.concatenate(kept_energy))


def _version(name: str) -> str:
    """``"11.4.1"`` of ``"geant4-11-04-patch-01 [MT]"``."""
    found = re.search(r"geant4-(\d+)-(\d+)(?:-patch-(\d+))?", name)
    return ".".join(str(int(part)) for part in found.groups() if part) if found else name


def _action(g4: Any, physics: str) -> Any:
    class Gun(g4.G4VUserPrimaryGeneratorAction):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.gun = g4.G4ParticleGun(1)

        def load(self, incident: Incident, seeds: npt.NDArray[np.uint32]) -> None:
            table = g4.G4ParticleTable.GetParticleTable()
            self.particles = {int(pdg): table.FindParticle(int(pdg)) for pdg in np.unique(incident.pdg)}
            if None in self.particles.values():
                raise CaloforgeError(f"Geant4's {physics} has no particle among PDG codes {sorted(self.particles)}.")
            slope = incident.direction[:, :2] / incident.direction[:, 2:]
            start = incident.position + slope * _START
            columns = (incident.pdg, incident.energy, incident.direction, start, seeds)
            self.rows = iter(zip(*(c.tolist() for c in columns), strict=True))

        def GeneratePrimaries(self, event: Any) -> None:  # noqa: N802
            pdg, energy, direction, start, seeds = next(self.rows)
            g4.G4Random.setTheSeeds([*seeds, 0])
            gun = self.gun
            gun.SetParticleDefinition(self.particles[pdg])
            gun.SetParticleEnergy(energy)
            gun.SetParticlePosition(g4.G4ThreeVector(*start, _START))
            gun.SetParticleMomentumDirection(g4.G4ThreeVector(*direction))
            gun.GeneratePrimaryVertex(event)

    class Recorder(g4.G4UserEventAction):  # type: ignore[misc]
        def load(
            self, scorers: list[Scorer], each: Callable[[int], None], fast: FastShowers | None, first: int
        ) -> None:
            self.scorers, self.each, self.fast, self.first = scorers, each, fast, first
            self.index: list[npt.NDArray[np.int64]] = []
            self.energy: list[npt.NDArray[np.float64]] = []

        def EndOfEventAction(self, event: Any) -> None:  # noqa: N802
            collections = event.GetHCofThisEvent()
            parts = [part for scorer in self.scorers for part in scorer.read(collections)]
            voxels, deposits = (np.concatenate(column) for column in zip(*parts, strict=True))
            if len(parts) > len(self.scorers):  # a voxel's parts come one by one
                voxels, deposits = add_up(voxels, deposits)
                deposits = np.maximum(deposits, 0.0)
            if self.fast is not None:
                self.fast.end_of_event(self.first + len(self.index))
            self.index.append(voxels)
            self.energy.append(deposits)
            self.each(len(self.index))

    class Action(g4.G4VUserActionInitialization):  # type: ignore[misc]
        def Build(self) -> None:  # noqa: N802
            self.gun, self.recorder = Gun(), Recorder()
            self.SetUserAction(self.gun)
            self.SetUserAction(self.recorder)

    return Action()


def _construction(g4: Any, detector: Detector, physics: str, fast: FastShowers | None, entrance: float) -> Any:
    class Construction(g4.G4VUserDetectorConstruction):  # type: ignore[misc]
        def Construct(self) -> Any:  # noqa: N802
            self.geometry = _Geometry(g4, detector, None if fast is None else entrance)
            self.scorers = self.geometry.scorers
            return self.geometry.world

        def ConstructSDandField(self) -> None:  # noqa: N802
            manager = g4.G4SDManager.GetSDMpointer()
            collections = 0
            for number, scorer in enumerate(self.scorers):
                counter, collections = scorer.attach(g4, f"readout{number}", physics, collections)
                manager.AddNewDetector(counter)
                for cell in scorer.cells:
                    self.SetSensitiveDetector(cell, counter)
            if fast is not None:
                self.sensor = fast.sensor(g4)
                manager.AddNewDetector(self.sensor)
                self.SetSensitiveDetector(self.geometry.plane, self.sensor)

    return Construction()


class _Geometry:
    """Slabs placed one behind the other; sensitive ones are cut into voxels by replicas.

    A slab's copy number is its layer's number in the scorer: slabs gathered in one read-out layer share it and so add
    up in C++. Where slabs reach further than the read-out, the voxels fill a volume of their own inside the slab.
    """

    def __init__(self, g4: Any, detector: Detector, entrance: float | None = None) -> None:
        self._g4 = g4
        self._detector = detector
        self._kept: list[Any] = []
        self.scorers, self._where = group_layers(detector)
        self._polar = detector.grids[0].kind == "polar"
        self._half = detector.half_extents
        nist = g4.G4NistManager.Instance()
        margin = 50.0
        solid = self._keep(g4.G4Box("world", *(h + margin for h in self._half), detector.depth + margin))
        logical = self._keep(g4.G4LogicalVolume(solid, nist.FindOrBuildMaterial("G4_Galactic"), "world"))
        self.world = self._keep(g4.G4PVPlacement(None, g4.G4ThreeVector(), logical, "world", None, False, 0))
        materials = {name: self._material(name) for name in detector.materials}
        volumes: dict[Any, Any] = {}
        here = 0.0
        self.plane: Any = None
        for slab, layer in zip(detector.slabs, detector.slab_layers, strict=True):
            if entrance is not None and self.plane is None and abs(here - entrance) < PLANE:
                here = self._entrance(here, logical, nist)
            scorer, number = self._where[layer] if layer >= 0 else (None, 0)
            key = (slab.material, slab.thickness, id(scorer))
            if key not in volumes:
                volumes[key] = self._slab(materials[slab.material], slab.thickness, scorer)
            at = g4.G4ThreeVector(0, 0, here + slab.thickness / 2)
            self._keep(g4.G4PVPlacement(None, at, volumes[key], "slab", logical, False, number))
            here += slab.thickness
        if entrance is not None and self.plane is None:
            raise CaloforgeError(
                f"no slab of detector '{detector.name}' begins at a depth of {entrance:g} mm; give one's as entrance."
            )

    def _entrance(self, here: float, mother: Any, nist: Any) -> float:
        """Place the entrance plane; slabs behind other slabs make room for it."""
        start = here if here > 0 else -PLANE
        solid = self._solid(*self._half, PLANE)
        self.plane = self._keep(self._g4.G4LogicalVolume(solid, nist.FindOrBuildMaterial("G4_Galactic"), "entrance"))
        at = self._g4.G4ThreeVector(0, 0, start + PLANE / 2)
        self._keep(self._g4.G4PVPlacement(None, at, self.plane, "entrance", mother, False, 0))
        return start + PLANE

    def _keep(self, made: Any) -> Any:
        self._kept.append(made)
        return made

    def _material(self, name: str) -> Any:
        g4 = self._g4
        nist = g4.G4NistManager.Instance()
        material = self._detector.materials[name]
        if material.nist:
            return nist.FindOrBuildMaterial(material.nist)
        mixture = self._keep(g4.G4Material(name, material.density * g4.g / g4.cm3, len(material.mass_fractions)))
        total = sum(fraction for _, fraction in material.mass_fractions)
        for z, fraction in material.mass_fractions:
            mixture.AddElementByMassFraction(nist.FindOrBuildElement(z), fraction / total)
        return mixture

    def _slab(self, material: Any, thickness: float, scorer: Scorer | None) -> Any:
        solid = self._solid(*self._half, thickness)
        logical = self._keep(self._g4.G4LogicalVolume(solid, material, "slab"))
        if scorer is not None:
            cut = self._cut_polar if scorer.grid.kind == "polar" else self._cut_cartesian
            scorer.density = material.GetDensity() / (self._g4.g / self._g4.cm3)
            scorer.cells += cut(logical, material, thickness, scorer)
        return logical

    def _solid(self, half_x: float, half_y: float, thickness: float) -> Any:
        g4 = self._g4
        if self._polar:
            return self._keep(g4.G4Tubs("disc", 0.0, half_x, thickness / 2, -math.pi, 2 * math.pi))
        return self._keep(g4.G4Box("plate", half_x, half_y, thickness / 2))

    def _inner(self, solid: Any, material: Any, mother: Any, scorer: Scorer) -> Any:
        """A read-out volume in the middle of a slab that reaches further."""
        g4 = self._g4
        scorer.slab_depth = 3
        logical = self._keep(g4.G4LogicalVolume(self._keep(solid), material, "readout"))
        self._keep(g4.G4PVPlacement(None, g4.G4ThreeVector(), logical, "readout", mother, False, 0))
        return logical

    def _cut_cartesian(self, slab: Any, material: Any, thickness: float, scorer: Scorer) -> list[Any]:
        g4, grid, dz = self._g4, scorer.grid, thickness / 2
        hx, hy = float(grid.edges1[-1]), float(grid.edges0[-1])
        (ny, nx), dy, dx = grid.shape, 2 * hy / grid.shape[0], 2 * hx / grid.shape[1]
        readout = slab
        if (hx, hy) != self._half:
            readout = self._inner(g4.G4Box("readout", hx, hy, dz), material, slab, scorer)
        row = self._keep(g4.G4LogicalVolume(self._keep(g4.G4Box("row", hx, dy / 2, dz)), material, "row"))
        self._keep(g4.G4PVReplica("row", row, readout, g4.kYAxis, ny, dy))
        cell = self._keep(g4.G4LogicalVolume(self._keep(g4.G4Box("cell", dx / 2, dy / 2, dz)), material, "cell"))
        self._keep(g4.G4PVReplica("cell", cell, row, g4.kXAxis, nx, dx))
        return [cell]

    def _cut_polar(self, slab: Any, material: Any, thickness: float, scorer: Scorer) -> list[Any]:
        g4, grid, dz = self._g4, scorer.grid, thickness / 2
        radii, n_alpha = grid.edges1.tolist(), grid.shape[0]
        width = 2 * math.pi / n_alpha
        readout = slab
        if (radii[0], radii[-1]) != (0.0, self._half[0]):
            tube = g4.G4Tubs("readout", radii[0], radii[-1], dz, -math.pi, 2 * math.pi)
            readout = self._inner(tube, material, slab, scorer)
        wedge_solid = self._keep(g4.G4Tubs("wedge", radii[0], radii[-1], dz, -width / 2, width))
        wedge = self._keep(g4.G4LogicalVolume(wedge_solid, material, "wedge"))
        self._keep(g4.G4PVReplica("wedge", wedge, readout, g4.kPhi, n_alpha, width, -math.pi))
        cells = []
        for number, (inner, outer) in enumerate(pairwise(radii)):
            solid = self._keep(g4.G4Tubs("cell", inner, outer, dz, -width / 2, width))
            cell = self._keep(g4.G4LogicalVolume(solid, material, "cell"))
            self._keep(g4.G4PVPlacement(None, g4.G4ThreeVector(), cell, "cell", wedge, False, number))
            cells.append(cell)
        return cells
