"""Materials by short name: Geant4's NIST material and the chemical elements in it.

The elements must be known before Geant4 starts, because the physics tables are laid out per element.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import lookup


@dataclass(frozen=True)
class Material:
    """A material of a detector.

    Attributes:
        nist: Geant4's NIST name, or an empty string for a mixture that the detector file defines.
        elements: atomic numbers of its elements.
        density: g/cm3, for mixtures only.
        mass_fractions: (atomic number, mass fraction) pairs, for mixtures only.
    """

    nist: str
    elements: tuple[int, ...]
    density: float = 0.0
    mass_fractions: tuple[tuple[int, float], ...] = ()


MATERIALS: dict[str, Material] = {
    "Ag": Material("G4_Ag", (47,)),
    "Al": Material("G4_Al", (13,)),
    "Ar": Material("G4_Ar", (18,)),
    "Au": Material("G4_Au", (79,)),
    "B": Material("G4_B", (5,)),
    "BGO": Material("G4_BGO", (8, 32, 83)),
    "Be": Material("G4_Be", (4,)),
    "C": Material("G4_C", (6,)),
    "CsI": Material("G4_CESIUM_IODIDE", (53, 55)),
    "Cu": Material("G4_Cu", (29,)),
    "Fe": Material("G4_Fe", (26,)),
    "Ge": Material("G4_Ge", (32,)),
    "Kapton": Material("G4_KAPTON", (1, 6, 7, 8)),
    "Pb": Material("G4_Pb", (82,)),
    "PbWO4": Material("G4_PbWO4", (8, 74, 82)),
    "Si": Material("G4_Si", (14,)),
    "SiO2": Material("G4_SILICON_DIOXIDE", (8, 14)),
    "Sn": Material("G4_Sn", (50,)),
    "Ti": Material("G4_Ti", (22,)),
    "U": Material("G4_U", (92,)),
    "W": Material("G4_W", (74,)),
    "Zn": Material("G4_Zn", (30,)),
    "air": Material("G4_AIR", (6, 7, 8, 18)),
    "brass": Material("G4_BRASS", (29, 30, 82)),
    "liquid argon": Material("G4_lAr", (18,)),
    "liquid krypton": Material("G4_lKr", (36,)),
    "liquid xenon": Material("G4_lXe", (54,)),
    "mylar": Material("G4_MYLAR", (1, 6, 8)),
    "polystyrene": Material("G4_POLYSTYRENE", (1, 6)),
    "polyvinyltoluene": Material("G4_PLASTIC_SC_VINYLTOLUENE", (1, 6)),
    "stainless steel": Material("G4_STAINLESS-STEEL", (24, 26, 28)),
    "vacuum": Material("G4_Galactic", (1,)),
    "water": Material("G4_WATER", (1, 8)),
}

SYMBOLS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y "
    "Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re "
    "Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U"
).split()


def mixed_material(density: float, fractions: dict[str, float]) -> Material:
    """A mixture, from its density in g/cm3 and the mass fraction of each element by symbol.

    Raises:
        CaloforgeError: if there is no such element.
    """
    numbers = {symbol: z for z, symbol in enumerate(SYMBOLS, start=1)}
    mass = {lookup(numbers, symbol, "an element"): f for symbol, f in fractions.items()}
    return Material("", tuple(sorted(mass)), density, tuple(sorted(mass.items())))
