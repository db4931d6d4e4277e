"""The data tables that Geant4's transport of electrons, positrons and photons reads: found or computed.

Geant4 needs, for each element, ``livermore/phot_epics2014/pe-*-Z.dat`` (photoelectric effect) and ``brem_SB/brZ``
(bremsstrahlung below 1 GeV) under the directory that $G4LEDATA names. The official data set G4EMLOW is taken if it
is on the machine; otherwise both are computed once (`photoelectric`, `bremsstrahlung`) and cached.

Nothing here imports geant4_pybind: its environment must be set first.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..cache import cache_directory
from ..errors import CaloforgeError
from ..extras import xraylib
from .bremsstrahlung import table_text
from .photoelectric import Photoelectric

TABLES_VERSION = 1
"""Of the formulae and grids in `bremsstrahlung` and `photoelectric`; raise it when a number in a table changes."""

HIGHEST_Z = 98
"""The heaviest element xraylib has photoelectric cross sections for."""

_PHOTOELECTRIC = ("pe-cs", "pe-le-cs", "pe-ss-cs", "pe-low", "pe-high")
_PREFIXES = (sys.prefix, "/usr/local", "/usr")  # of Geant4 installations
_CHOICES = "'auto', 'builtin', 'official' or a directory that holds 'brem_SB' and 'livermore'"


@dataclass(frozen=True)
class PhysicsTables:
    """A set of tables that is complete for the elements it was asked for.

    Attributes:
        directory: what $G4LEDATA is to be set to.
        kind: where the tables come from.
        description: one line for provenance.
        digest: SHA-256 over names and bytes of the files needed, so that equal digests mean equal physics.
        neutrons: what $G4PARTICLEXSDATA is to be set to; None where no hadrons are simulated.
        levels: what $G4LEVELGAMMADATA is to be set to, likewise; None for no data.
    """

    directory: Path
    kind: Literal["official", "builtin", "directory"]
    description: str
    digest: str
    neutrons: Path | None = None
    levels: Path | None = None


def find_tables(elements: Collection[int], choice: str = "auto") -> PhysicsTables:
    """Find or compute the tables of some elements.

    Args:
        elements: atomic numbers.
        choice: "auto" for the official tables if they are on this machine and complete, else the built-in ones;
            "official" or "builtin" for just those; or the directory to use, which holds ``brem_SB`` and
            ``livermore`` itself or in a subdirectory ``G4EMLOW*``.

    Returns:
        The tables; built-in ones have been computed and lie in the cache.

    Raises:
        CaloforgeError: if the tables chosen are not there, are incomplete, or cannot be computed or cached.
    """
    wanted = sorted(set(elements))
    if not wanted or not all(1 <= Z <= HIGHEST_Z for Z in wanted):
        raise CaloforgeError(
            f"Elements {wanted} were asked for; physics tables need atomic numbers from 1 to {HIGHEST_Z}."
        )
    if choice == "builtin":
        return _builtin(wanted)
    if choice in ("auto", "official"):
        for directory in map(Path.absolute, official_directories("G4LEDATA", "G4EMLOW")):
            if not _missing(directory, wanted):
                return PhysicsTables(
                    directory, "official", f"official {_data_set(directory)}", _digest(directory, wanted)
                )
        if choice == "auto":
            return _builtin(wanted)
        raise CaloforgeError(
            f"No official physics tables for elements {wanted} were found in $G4LEDATA, $GEANT4_DATA_DIR or the usual "
            "places; set G4LEDATA to a G4EMLOW directory, or use the tables 'builtin'."
        )
    return _directory(Path(choice).expanduser(), wanted)


def geant4_environment(tables: PhysicsTables) -> dict[str, str]:
    """Return the environment variables to set before geant4_pybind is imported.

    Variables that name other data sets are kept where they name an existing directory; otherwise they name an
    empty one, which is all that electromagnetic showers need and which keeps geant4_pybind from asking for a download.

    Raises:
        CaloforgeError: if the cache cannot be written.
    """
    empty = cache_directory() / "geant4-empty"
    nuclides = cache_directory() / "geant4-ensdfstate"
    with writing(cache_directory()):
        empty.mkdir(parents=True, exist_ok=True)
        nuclides.mkdir(parents=True, exist_ok=True)
        (nuclides / "ENSDFSTATE.dat").touch()
    stand_ins = {
        "GEANT4_DATA_DIR": empty,
        "G4LEVELGAMMADATA": empty,
        "G4PARTICLEXSDATA": empty,
        "G4ENSDFSTATEDATA": nuclides,
    }
    environment = {}
    for name, stand_in in stand_ins.items():
        given = os.environ.get(name, "")
        environment[name] = given if given and Path(given).is_dir() else str(stand_in)
    if not (Path(environment["G4ENSDFSTATEDATA"]) / "ENSDFSTATE.dat").is_file():
        environment["G4ENSDFSTATEDATA"] = str(nuclides)
    if tables.neutrons is not None:
        environment["G4PARTICLEXSDATA"] = str(tables.neutrons)
        environment["G4LEVELGAMMADATA"] = str(tables.levels or empty)
    return environment | {"G4LEDATA": str(tables.directory)}


def _files(Z: int) -> list[str]:
    """Return the paths of the tables of one element, relative to $G4LEDATA."""
    photoelectric = [f"livermore/phot_epics2014/{name}-{Z}.dat" for name in _PHOTOELECTRIC]
    return [f"brem_SB/br{Z}", *photoelectric]


def _missing(directory: Path, elements: Sequence[int]) -> list[str]:
    needed = [name for Z in elements for name in _files(Z)]
    # Geant4 reads no table below the K edge for hydrogen and helium, and the official set has none.
    optional = {f"livermore/phot_epics2014/pe-le-cs-{Z}.dat" for Z in (1, 2)}
    return [n for n in needed if n not in optional and not (directory / n).is_file()]


def _digest(directory: Path, elements: Sequence[int]) -> str:
    total = hashlib.sha256()
    for name in sorted(name for Z in elements for name in _files(Z)):
        if (directory / name).is_file():
            total.update(f"{name}\0".encode())
            total.update((directory / name).read_bytes())
    return total.hexdigest()


# --- tables that are on this machine -------------------------------------------------------------------------------


def official_directories(variable: str, name: str) -> Iterator[Path]:
    """Yield where an official data set may be, the likeliest first.

    Args:
        variable: the environment variable that names its directory.
        name: what its directory's name begins with.
    """
    if given := os.environ.get(variable):
        yield Path(given).expanduser()
    parents = [
        os.environ.get("GEANT4_DATA_DIR", ""),
        "~/.geant4_pybind",  # where geant4_pybind puts what it downloads
        "~/.geant4",
        *(f"{prefix}/share/Geant4/data" for prefix in (os.environ.get("CONDA_PREFIX"), *_PREFIXES) if prefix),
    ]
    for parent in filter(None, parents):
        yield from data_sets_in(Path(parent).expanduser(), name)


def data_sets_in(parent: Path, name: str) -> list[Path]:
    """Return the directories in ``parent`` whose names begin with ``name``, the newest version first."""

    def version(path: Path) -> list[int]:
        return [int(n) for n in re.findall(r"\d+", path.name.removeprefix(name))]

    return sorted(parent.glob(f"{name}*/"), key=version, reverse=True) if parent.is_dir() else []


def _data_set(directory: Path) -> str:
    """Return the name of the data set in ``directory``, e.g. G4EMLOW8.8."""
    return directory.name if directory.name.startswith("G4EMLOW") else "G4EMLOW (version unknown)"


def _directory(given: Path, elements: Sequence[int]) -> PhysicsTables:
    if not given.is_dir():
        raise CaloforgeError(f"'{given}' is neither a choice of physics tables nor a directory; give {_CHOICES}.")
    candidates = [given, *data_sets_in(given, "G4EMLOW")]
    for directory in candidates:
        if not _missing(directory, elements):
            name = directory.absolute()
            return PhysicsTables(name, "directory", f"tables in directory '{name.name}'", _digest(directory, elements))
    missing = min((_missing(directory, elements) for directory in candidates), key=len)
    raise CaloforgeError(
        f"'{given}' lacks {len(missing)} of the physics tables needed, e.g. '{missing[0]}'; "
        "give a complete G4EMLOW directory, or use the tables 'builtin'."
    )


# --- tables that are computed --------------------------------------------------------------------------------------


def _builtin(elements: Sequence[int]) -> PhysicsTables:
    xrl = xraylib()
    version = importlib.metadata.version("xraylib")
    directory = cache_directory() / f"physics-tables-v{TABLES_VERSION}-xraylib-{version}"
    for Z in elements:
        if not _cached(directory, Z):
            _compute(directory, Z, xrl)
    description = (
        f"built-in v{TABLES_VERSION}: photoelectric xraylib {version}, bremsstrahlung screened Bethe-Heitler with "
        f"Coulomb correction (Tsai 1974, Koch and Motz 1959), form factors xraylib {version}"
    )
    return PhysicsTables(directory, "builtin", description, _digest(directory, elements))


def _sum_file(directory: Path, Z: int) -> Path:
    return directory / "sums" / f"{Z}.sha256"


def _cached(directory: Path, Z: int) -> bool:
    """Return whether all tables of an element are there and are what was written."""
    try:
        return _sum_file(directory, Z).read_text() == _digest(directory, [Z])
    except OSError:
        return False


def _compute(directory: Path, Z: int, xrl: Any) -> None:
    photoelectric = Photoelectric(Z, xrl).files()
    texts = {f"livermore/phot_epics2014/{name}": text for name, text in photoelectric.items()}
    texts[f"brem_SB/br{Z}"] = table_text(Z, xrl)
    with writing(directory):
        for name, text in texts.items():
            write_atomically(directory / name, text)
        # The sum comes last: an interrupted build has none, and is done again.
        write_atomically(_sum_file(directory, Z), _digest(directory, [Z]))


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that others see all of it or nothing; several processes may do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="ascii", newline="\n") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Turn a failure to write below ``directory`` into a CaloforgeError that says what to do."""
    try:
        yield
    except OSError as error:
        raise CaloforgeError(
            f"The cache directory '{directory}' cannot be written ({error.strerror}); set CALOFORGE_CACHE to a "
            "directory that can."
        ) from error
