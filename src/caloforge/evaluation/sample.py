"""A shower file measured: all observables of all its showers, read piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..errors import CaloforgeError, lookup
from ..incident import Incident
from ..progress import Progress, silent
from .observables import OBSERVABLES, Chunk, Edges, Floats, fitting_edges

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
        incident: the N incident particles.
        values: observables with one number a shower, (N,) each, and those by layer, (N, layers) each.
        profiles: observables summed in bins, (N, bins + 2) each with under- and overflow.
        edges: bin edges of the profiles.
        mean_voxels: mean energy of each voxel (n_voxels,) in MeV.
        occupancy: fraction of showers in which each voxel holds energy (n_voxels,).
    """

    path: Path
    detector: Detector
    provenance: Provenance
    edges: Edges
    incident: Incident = field(default_factory=lambda: Incident.of(np.zeros(0)))
    values: dict[str, Floats] = field(default_factory=dict)
    profiles: dict[str, Floats] = field(default_factory=dict)
    mean_voxels: Floats = field(default_factory=lambda: np.zeros(0))
    occupancy: Floats = field(default_factory=lambda: np.zeros(0))

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
    progress: Progress = silent,
) -> Sample:
    """Compute the observables of a shower file.

    Args:
        path: a shower file.
        names: names of `OBSERVABLES`; all that apply by default.
        edges: bin edges of the profiles; by default those that fit the file.
        max_showers: use at most so many, evenly spread over the file.
        progress: called with showers done, showers in all.

    Raises:
        CaloforgeError: if the file is not valid, is empty or holds no energy, or an observable is unknown.
    """
    from ..shower_file import ShowerFile

    for name in names or ():
        lookup(OBSERVABLES, name, "an observable")
    with ShowerFile(path) as file:
        if len(file) == 0:
            raise CaloforgeError(f"'{path}' holds no showers; give a file with some.")
        rows = chosen_rows(len(file), max_showers)
        sample = Sample(Path(path), file.detector, file.provenance, edges or first_look(file, rows))
        sample.incident = file.incident()[rows]
        wanted = [
            name for name in (names or OBSERVABLES) if OBSERVABLES[name].applies(file.detector.n_layers, sample.tilted)
        ]
        _fill(sample, wanted, pieces(file, rows), progress)
    if not sample.mean_voxels.any():
        raise CaloforgeError(f"all voxel energies in '{path}' are zero; give a file whose showers hold energy.")
    return sample


def _fill(sample: Sample, wanted: Sequence[str], parts: Iterator[Showers], progress: Progress) -> None:
    n, done = len(sample), 0
    sample.mean_voxels = np.zeros(sample.detector.n_voxels)
    sample.occupancy = np.zeros(sample.detector.n_voxels)
    for showers in parts:
        chunk = Chunk(showers, sample.edges)
        part = slice(done, done + len(chunk))
        for name in wanted:
            result = OBSERVABLES[name].of(chunk)
            table = sample.profiles if OBSERVABLES[name].kind == "profile" else sample.values
            if name not in table:
                table[name] = np.empty((n, *result.shape[1:]))
            table[name][part] = result
        sample.mean_voxels += np.bincount(showers.index, chunk.energy / n, minlength=len(sample.mean_voxels))
        sample.occupancy += np.bincount(showers.index, minlength=len(sample.occupancy)) / n
        done += len(chunk)
        progress(done, n, "measuring")
