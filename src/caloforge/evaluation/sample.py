"""A shower file measured: all observables of all its showers, read piece by piece, and remembered by content."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..cache import Arrays, Cache, code_key, content_key, key_of, remember
from ..crew import HERE, Crew
from ..errors import CaloforgeError, lookup
from ..incident import Incident
from ..progress import Progress, silent
from . import chunk as chunk_module
from . import observables
from .chunk import Chunk, Edges, fitting_edges
from .distributions import Floats
from .observables import OBSERVABLES

if TYPE_CHECKING:
    from ..detectors import Detector
    from ..shower_file import ShowerFile
    from ..showers import Provenance, Showers

_VOXELS_AT_ONCE = 4_000_000  # of the densest possible showers held in memory


@dataclass
class Sample:
    """What was measured on one shower file.

    Attributes:
        path: the file.
        detector: its detector.
        provenance: what made it, as the file says.
        content: SHA-256 of the file.
        incident: the N incident particles.
        values: observables with one number a shower, (N,) each, and those by layer, (N, layers) each.
        profiles: observables summed in bins, (N, bins + 2) each with under- and overflow.
        edges: bin edges of the profiles.
        mean_voxels: mean energy of each voxel (n_voxels,) in MeV.
        occupancy: fraction of showers in which each voxel holds energy (n_voxels,).
        marks: a number for each shower (N,), equal for showers with equal energies in equal voxels.
    """

    path: Path
    detector: Detector
    provenance: Provenance
    edges: Edges
    content: str = ""
    incident: Incident = field(default_factory=lambda: Incident.of(np.zeros(0)))
    values: dict[str, Floats] = field(default_factory=dict)
    profiles: dict[str, Floats] = field(default_factory=dict)
    mean_voxels: Floats = field(default_factory=lambda: np.zeros(0))
    occupancy: Floats = field(default_factory=lambda: np.zeros(0))
    marks: npt.NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))

    def __len__(self) -> int:
        return len(self.incident)

    @property
    def tilted(self) -> bool:
        """Whether any particle enters at an angle."""
        return bool((np.hypot(*self.incident.direction[:, :2].T) > 1e-6).any())


def chosen_rows(n: int, limit: int | None) -> npt.NDArray[np.int64]:
    """Which showers of a file of n are used: all, or ``limit`` evenly spread ones (files may be sorted by energy)."""
    if limit is None or limit >= n:
        return np.arange(n)
    return (np.arange(limit) * n) // limit


def pieces(file: ShowerFile, rows: npt.NDArray[np.int64]) -> Iterator[Showers]:
    """The showers ``rows`` (rising) of a file, a memory-friendly number at a time."""
    size = int(np.clip(_VOXELS_AT_ONCE // file.detector.n_voxels, 16, 4096))
    for start in range(0, len(file), size):
        low, high = np.searchsorted(rows, [start, start + size])
        if low < high:
            part = file.read(start, start + size)
            yield part if high - low == len(part) else part[rows[low:high] - start]


def first_look(file: ShowerFile, rows: npt.NDArray[np.int64], n: int = 512) -> Edges:
    """Bin edges that fit the showers ``rows`` of a file, from n of them spread over the whole file."""
    from ..showers import Showers

    picked = rows[chosen_rows(len(rows), n)]
    runs = np.split(picked, np.flatnonzero(np.diff(picked) != 1) + 1)
    return fitting_edges(Showers.concatenate([file.read(int(r[0]), int(r[-1]) + 1) for r in runs]))


def measure(
    path: str | Path,
    *,
    names: Sequence[str] | None = None,
    edges: Edges | None = None,
    max_showers: int | None = None,
    cache: Cache | None = None,
    crew: Crew = HERE,
    progress: Progress = silent,
) -> Sample:
    """Compute the observables of a shower file.

    Args:
        path: a shower file.
        names: names of `OBSERVABLES`; all that apply by default.
        edges: bin edges of the profiles; by default those that fit the file.
        max_showers: use at most so many, evenly spread over the file.
        cache: what was measured before on a file of this content is taken from here, whatever the file's name.
        crew: who computes the observables; this process reads the file.
        progress: called with showers done, showers in all.

    Raises:
        CaloforgeError: if the file is not valid, is empty or holds no energy, a particle has no energy or does not fly
            into the detector, or an observable is unknown.
    """
    from ..shower_file import ShowerFile

    for name in names or ():
        lookup(OBSERVABLES, name, "an observable")
    content = content_key(path)
    with ShowerFile(path) as file:
        if len(file) == 0:
            raise CaloforgeError(f"'{path}' holds no showers; give a file with some.")
        rows = chosen_rows(len(file), max_showers)
        sample = Sample(Path(path), file.detector, file.provenance, dict(edges or {}), content, file.incident()[rows])
        _check_incident(sample)
        wanted = [
            name for name in (names or OBSERVABLES) if OBSERVABLES[name].applies(file.detector.n_layers, sample.tilted)
        ]

        def make() -> Arrays:
            sample.edges = dict(edges or first_look(file, rows))
            _fill(sample, wanted, pieces(file, rows), crew, progress)
            return _arrays(sample)

        code = code_key(chunk_module, observables, sys.modules[__name__])
        key = key_of(
            what="sample", code=code, numpy=np.__version__, content=content, names=wanted, edges=edges, n=len(rows)
        )
        _restore(sample, wanted, remember(cache, key, make))
        progress(len(sample), len(sample), "measured")
    if not sample.mean_voxels.any():
        raise CaloforgeError(f"all voxel energies in '{path}' are zero; give a file whose showers hold energy.")
    return sample


def _check_incident(sample: Sample) -> None:
    """Raise `CaloforgeError` for particles that no observable can be computed of."""
    incident = sample.incident
    still = int((incident.energy <= 0).sum())
    if still:
        raise CaloforgeError(
            f"{still} of {len(sample)} incident particles in '{sample.path}' have no energy; take their showers out."
        )
    away = int((incident.direction[:, 2] <= 0).sum())
    if away:
        raise CaloforgeError(
            f"{away} of {len(sample)} incident particles in '{sample.path}' do not fly into the detector (direction z "
            "must be positive); correct 'incident/direction' or take their showers out."
        )


def _fill(sample: Sample, wanted: Sequence[str], parts: Iterator[Showers], crew: Crew, progress: Progress) -> None:
    n, done = len(sample), 0
    sample.mean_voxels = np.zeros(sample.detector.n_voxels)
    sample.occupancy = np.zeros(sample.detector.n_voxels)
    sample.marks = np.zeros(n, np.uint64)
    edges = crew.share(sample.edges)
    # Sums are made here, piece after piece: whoever measured them, they are added in the same order.
    for found in crew.each(measure_piece, ((showers, edges, wanted, n) for showers in parts)):
        part = slice(done, done + len(found.marks))
        for name, result in found.results.items():
            table = sample.profiles if OBSERVABLES[name].kind == "profile" else sample.values
            if name not in table:
                table[name] = np.empty((n, *result.shape[1:]))
            table[name][part] = result
        sample.mean_voxels += found.mean_voxels
        sample.occupancy += found.occupancy
        sample.marks[part] = found.marks
        done += len(found.marks)
        progress(done, n, "measuring")


@dataclass(frozen=True)
class Piece:
    """What was measured on some showers of a sample.

    Attributes:
        results: observables by name.
        mean_voxels: what these showers add to the sample's.
        occupancy: likewise.
        marks: see `marks`.
    """

    results: dict[str, Floats]
    mean_voxels: Floats
    occupancy: Floats
    marks: npt.NDArray[np.uint64]


def measure_piece(showers: Showers, edges: Edges, wanted: Sequence[str], n: int) -> Piece:
    """Measure some showers of a sample of n: the observables named in ``wanted``, and their part of the averages."""
    chunk, voxels = Chunk(showers, edges), showers.detector.n_voxels
    return Piece(
        {name: OBSERVABLES[name].of(chunk) for name in wanted},
        np.bincount(showers.index, chunk.energy / n, minlength=voxels).astype(np.float64),
        np.bincount(showers.index, minlength=voxels).astype(np.float64) / n,
        marks(showers),
    )


def marks(showers: Showers) -> npt.NDArray[np.uint64]:
    """A number for each shower (N,): equal for equal voxel energies, different for others but for one pair in 2^64.

    The sum over the shower's hits of a mixed number of voxel and energy (finalizer of Steele et al., "Fast splittable
    pseudorandom number generators", OOPSLA 2014); a shower without hits has 0.
    """
    mixed = (showers.index.astype(np.uint64) << np.uint64(32)) | showers.energy.view(np.uint32).astype(np.uint64)
    mixed += np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed, dtype=np.uint64)])  # wraps around, as it may
    return np.diff(running[showers.offset])


def _arrays(sample: Sample) -> Arrays:
    """What was measured, as arrays by name."""
    found: Arrays = {name: getattr(sample, name) for name in ("mean_voxels", "occupancy", "marks")}
    for group in ("values", "profiles", "edges"):
        found |= {f"{group}/{name}": array for name, array in getattr(sample, group).items()}
    return found


def _restore(sample: Sample, wanted: Sequence[str], found: Arrays) -> None:
    """Give a sample what `_arrays` made of it, in the order in which it would be measured."""
    for name in ("mean_voxels", "occupancy", "marks"):
        setattr(sample, name, found[name])
    sample.edges = {name.split("/")[1]: array for name, array in found.items() if name.startswith("edges/")}
    for group in ("values", "profiles"):
        setattr(sample, group, {name: found[f"{group}/{name}"] for name in wanted if f"{group}/{name}" in found})
