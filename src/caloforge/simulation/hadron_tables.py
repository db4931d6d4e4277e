"""The data that hadronic physics reads besides the electromagnetic tables: found or computed.

Geant4 needs cross sections of neutrons, ``neutron/{inel,el,cap}Z`` for Z = 1 to 92, under the directory that
$G4PARTICLEXSDATA names; without them it stops. The official data set G4PARTICLEXS is taken if it is on the machine;
otherwise they are computed once (`neutrons`) and cached. Levels of nuclei ($G4LEVELGAMMADATA, PhotonEvaporation) are
used where they are: an empty directory changes a calorimeter's response by less than 1 %.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..cache import cache_directory
from ..errors import CaloforgeError
from . import neutrons
from .physics_tables import PhysicsTables, data_sets_in, official_directories, write_atomically, writing

NEUTRONS, LEVELS = "G4PARTICLEXS", "PhotonEvaporation"

NEUTRONS_VERSION = 1
"""Of the formulae in `neutrons`; raise it when a number in a table changes."""

_FILES = tuple(f"neutron/{kind}{Z}" for kind in ("inel", "el", "cap") for Z in range(1, neutrons.LARGEST_Z + 1))


def with_hadron_tables(tables: PhysicsTables, choice: str = "auto") -> PhysicsTables:
    """Add the data of hadronic physics to electromagnetic tables.

    Args:
        tables: the electromagnetic tables.
        choice: as in `find_tables`; a directory holds ``G4PARTICLEXS*`` and, if level data are wanted,
            ``PhotonEvaporation*``.

    Returns:
        The tables with the hadronic data; built-in ones have been computed and lie in the cache. Built-in cross
        sections go without level data, so that the result does not depend on the machine.

    Raises:
        CaloforgeError: if the data chosen are not there or are incomplete, or cannot be cached.
    """
    if choice in ("auto", "official"):
        found = _first_complete(official_directories("G4PARTICLEXSDATA", NEUTRONS))
        if found is not None:
            levels = next((p for p in official_directories("G4LEVELGAMMADATA", LEVELS) if _has_levels(p)), None)
            return _joined(tables, found, levels, f"official {_name(found, NEUTRONS)}")
        if choice == "official":
            raise CaloforgeError(
                "No official neutron cross sections, which hadrons need, were found in $G4PARTICLEXSDATA, "
                "$GEANT4_DATA_DIR or the usual places; set G4PARTICLEXSDATA to a G4PARTICLEXS directory, or use the "
                "tables 'builtin'."
            )
    if choice in ("auto", "builtin"):
        return _joined(tables, _builtin(), None, f"built-in neutron cross sections v{NEUTRONS_VERSION}")
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


def _builtin() -> Path:
    directory = cache_directory() / f"neutron-tables-v{NEUTRONS_VERSION}"
    sums = directory / "sum.sha256"
    # The sum comes last: an interrupted build has none, and is done again; so is a damaged one.
    if not (_first_complete([directory]) and sums.is_file() and sums.read_text() == _digest(directory)):
        with writing(directory):
            for Z in range(1, neutrons.LARGEST_Z + 1):
                for name, text in neutrons.files(Z).items():
                    write_atomically(directory / "neutron" / name, text)
            write_atomically(sums, _digest(directory))
    return directory


def _digest(directory: Path, before: str = "") -> str:
    total = hashlib.sha256(before.encode())
    for name in _FILES:
        total.update(f"{name}\0".encode())
        total.update((directory / name).read_bytes())
    return total.hexdigest()


def _has_levels(directory: Path) -> bool:
    return directory.is_dir() and any(directory.glob("z*.a*"))


def _name(directory: Path, data_set: str) -> str:
    return directory.name if directory.name.startswith(data_set) else f"{data_set} (version unknown)"


def _joined(tables: PhysicsTables, directory: Path, levels: Path | None, description: str) -> PhysicsTables:
    digest = _digest(directory, tables.digest)
    if levels is not None:
        # Thousands of files: their names and sizes tell one version from another.
        total = hashlib.sha256(digest.encode())
        for path in sorted(levels.glob("z*.a*")):
            total.update(f"{path.name} {path.stat().st_size}\0".encode())
        digest = total.hexdigest()
    with_levels = _name(levels, LEVELS) if levels is not None else "no level data"
    return replace(
        tables,
        description=f"{tables.description}; {description}; {with_levels}",
        digest=digest,
        neutrons=directory,
        levels=None if levels is None else levels.absolute(),
    )
