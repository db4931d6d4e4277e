"""The bare recipe that `benchmarks/simulate.py` compares with: ild-ecal in Geant4 and nothing else.

    python benchmarks/bare_geant4.py ENERGY_GEV N       (environment set by the caller)

Prints the CPU seconds per shower on its last line.
"""

from __future__ import annotations

import sys
import time

import geant4_pybind as g4


class Stack(g4.G4VUserDetectorConstruction):  # type: ignore[misc]
    """30 silicon layers between tungsten, cut into 30 x 30 cells by replicas."""

    def Construct(self):  # noqa: N802
        nist = g4.G4NistManager.Instance()
        material = {n: nist.FindOrBuildMaterial(f"G4_{n}") for n in ("Galactic", "W", "Si", "AIR")}
        self.kept = []

        def box(name, x, y, z, of):
            solid = g4.G4Box(name, x / 2, y / 2, z / 2)
            logical = g4.G4LogicalVolume(solid, material[of], name)
            self.kept += [solid, logical]
            return logical

        def place(logical, z, mother, number):
            self.kept.append(g4.G4PVPlacement(None, g4.G4ThreeVector(0, 0, z), logical, "p", mother, False, number))

        world = box("world", 400, 400, 600, "Galactic")
        placed = g4.G4PVPlacement(None, g4.G4ThreeVector(), world, "world", None, False, 0)
        silicon, row = box("silicon", 150, 150, 0.5, "Si"), box("row", 150, 5, 0.5, "Si")
        self.cell = box("cell", 5, 5, 0.5, "Si")
        self.kept += [placed, g4.G4PVReplica("row", row, silicon, g4.kYAxis, 30, 5)]
        self.kept.append(g4.G4PVReplica("cell", self.cell, row, g4.kXAxis, 30, 5))
        z = 0.0
        for layer in range(30):
            for of, thickness in (("W", 2.1 if layer < 20 else 4.2), ("AIR", 0.5), ("Si", 0.5), ("AIR", 1.5)):
                slab = silicon if of == "Si" else box("slab", 150, 150, thickness, of)
                place(slab, z + thickness / 2, world, layer)
                z += thickness
        return placed

    def ConstructSDandField(self):  # noqa: N802
        counter = g4.G4MultiFunctionalDetector("ecal")
        deposit = g4.G4PSEnergyDeposit3D("energy", 30, 30, 30, 2, 1, 0)
        counter.RegisterPrimitive(deposit)
        g4.G4SDManager.GetSDMpointer().AddNewDetector(counter)
        self.SetSensitiveDetector(self.cell, counter)
        self.kept += [counter, deposit]


class Physics(g4.G4VModularPhysicsList):  # type: ignore[misc]
    """Geant4's electromagnetic physics, option 1."""

    def __init__(self):
        super().__init__()
        self.electromagnetic = g4.G4EmStandardPhysics_option1()
        self.RegisterPhysics(self.electromagnetic)


class Gun(g4.G4VUserPrimaryGeneratorAction):  # type: ignore[misc]
    """Photons along z into the centre of cell (15, 15)."""

    def __init__(self, energy):
        super().__init__()
        self.gun = g4.G4ParticleGun(1)
        self.gun.SetParticleDefinition(g4.G4ParticleTable.GetParticleTable().FindParticle("gamma"))
        self.gun.SetParticleEnergy(energy)
        self.gun.SetParticlePosition(g4.G4ThreeVector(2.5, 2.5, -1))
        self.gun.SetParticleMomentumDirection(g4.G4ThreeVector(0, 0, 1))

    def GeneratePrimaries(self, event):  # noqa: N802
        self.gun.GeneratePrimaryVertex(event)


class Sum(g4.G4UserEventAction):  # type: ignore[misc]
    """Reads every shower's voxels, as any program would."""

    total = 0.0

    def EndOfEventAction(self, event):  # noqa: N802
        self.total += sum(dict(event.GetHCofThisEvent().GetHC(0)).values())


class Action(g4.G4VUserActionInitialization):  # type: ignore[misc]
    """Gun and sum."""

    def Build(self):  # noqa: N802
        self.gun, self.sum = Gun(float(sys.argv[1]) * 1000), Sum()
        self.SetUserAction(self.gun)
        self.SetUserAction(self.sum)


def main() -> None:
    manager = g4.G4RunManagerFactory.CreateRunManager(g4.G4RunManagerType.Serial)
    stack, physics, action = Stack(), Physics(), Action()
    manager.SetUserInitialization(stack)
    manager.SetUserInitialization(physics)
    interface = g4.G4UImanager.GetUIpointer()
    interface.ApplyCommand("/process/em/fluo false")
    interface.ApplyCommand("/process/em/verbose 0")
    interface.ApplyCommand("/run/setCut 0.1 mm")
    g4.G4EmParameters.Instance().SetLivermoreDataDir("livermore")
    manager.SetUserInitialization(action)
    manager.Initialize()
    manager.BeamOn(1)  # builds the physics tables
    began = time.process_time()
    n = int(sys.argv[2])
    manager.BeamOn(n)
    print(f"\n{(time.process_time() - began) / n}")


if __name__ == "__main__":
    main()
