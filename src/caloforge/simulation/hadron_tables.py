"""The data that hadronic physics reads besides the electromagnetic tables: found or computed.

Geant4 needs cross sections of neutrons, ``neutron/{inel,el,cap}Z`` for Z = 1 to 92, under the directory that
$G4PARTICLEXSDATA names; without them it stops. Levels of nuclei ($G4LEVELGAMMADATA, PhotonEvaporation) are used
where they are: an empty directory changes a calorimeter's response by less than 1 %.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..errors import CaloforgeError
from .physics_tables import PhysicsTables, data_sets_in, official_directories

NEUTRONS, LEVELS = "G4PARTICLEXS", "PhotonEvaporation"

_FILES = tuple(f"neutron/{kind}{Z}" for kind in ("inel", "el", "cap") for Z in range(1, 93))


def with_hadron_tables(tables: PhysicsTables, choice: str = "auto") -> PhysicsTables:
    """Add the data of hadronic physics to electromagnetic tables.

    Args:
        tables: the electromagnetic tables.
        choice: as in `find_tables`; a directory holds ``G4PARTICLEXS*`` and, if level data are wanted,
            ``PhotonEvaporation*``.

    Raises:
        CaloforgeError: if the data chosen are not there or are incomplete.
    """
    if choice in ("auto", "official"):
        found = _first_complete(official_directories("G4PARTICLEXSDATA", NEUTRONS))
        levels = next((p for p in official_directories("G4LEVELGAMMADATA", LEVELS) if _has_levels(p)), None)
        if found is not None:
            return _joined(tables, found, levels, f"official {_name(found, NEUTRONS)}")
        raise CaloforgeError(
            "No official neutron cross sections were found in $G4PARTICLEXSDATA, $GEANT4_DATA_DIR or the usual places; "
            "set G4PARTICLEXSDATA to a G4PARTICLEXS directory."
        )
    if choice == "builtin":
        raise CaloforgeError(
            "There are no built-in neutron cross sections for hadrons; set G4PARTICLEXSDATA and use the tables 'auto'."
        )
    given = Path(choice).expanduser()
    found = _first_complete([given, *data_sets_in(given, NEUTRONS)])
    if found is None:
        raise CaloforgeError(
            f"'{given}' holds no complete neutron cross sections, which hadrons need; give a directory with a "
            f"'{NEUTRONS}*' in it, or use the tables 'builtin'."
        )
    levels = next((p for p in data_sets_in(given, LEVELS) if _has_levels(p)), None)
    return _joined(tables, found, levels, f"neutron cross sections in directory '{found.name}'")


def _first_complete(directories: Iterator[Path] | list[Path]) -> Path | None:
    return next((d.absolute() for d in directories if all((d / name).is_file() for name in _FILES)), None)


def _has_levels(directory: Path) -> bool:
    return directory.is_dir() and any(directory.glob("z*.a*"))


def _name(directory: Path, data_set: str) -> str:
    return directory.name if directory.name.startswith(data_set) else f"{data_set} (version unknown)"


def _joined(tables: PhysicsTables, neutrons: Path, levels: Path | None, description: str) -> PhysicsTables:
    total = hashlib.sha256(tables.digest.encode())
    for name in _FILES:
        total.update(f"{name}\0".encode())
        total.update((neutrons / name).read_bytes())
    if levels is not None:
        # Thousands of files: their names and sizes tell one version from another.
        for path in sorted(levels.glob("z*.a*")):
            total.update(f"{path.name} {path.stat().st_size}\0".encode())
    with_levels = _name(levels, LEVELS) if levels is not None else "no level data"
    return replace(
        tables,
        description=f"{tables.description}; {description}; {with_levels}",
        digest=total.hexdigest(),
        neutrons=neutrons,
        levels=None if levels is None else levels.absolute(),
    )
