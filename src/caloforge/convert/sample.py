"""A sample of showers that is read piece by piece, whatever file it comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..detectors import Detector
from ..detectors.schema import Span
from ..errors import CaloforgeError
from ..hdf5 import damage
from ..incident import MAX_ENERGY, Incident
from ..progress import Progress
from ..showers import Showers
from .sources import Rows, Source

CHUNK_BYTES = 32 << 20
"""Dense voxel energies that are read at once."""


@dataclass(frozen=True)
class Wanted:
    """What the user says about a file that does not say it itself.

    Attributes:
        detector: whose showers these are.
        pdg: PDG code of the incident particles.
    """

    detector: Detector | None = None
    pdg: int | None = None


@dataclass(frozen=True)
class Sample:
    """Showers of an opened file.

    Attributes:
        detector: whose showers they are.
        n: number of showers.
        chunks: gives the showers in order, in pieces of bounded size.
        notes: what the reader assumed or changed, for the provenance; complete only after `chunks` is exhausted.
        provenance: what the file itself says about its making, if it is one of caloforge's.
    """

    detector: Detector
    n: int
    chunks: Callable[[], Iterator[Showers]]
    notes: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] | None = None


def write_all(sample: Sample, append: Callable[[Showers], None], progress: Progress) -> None:
    """Give all showers of a sample to ``append``, piece by piece; ``progress`` is called with the number done."""
    done = 0
    for showers in sample.chunks():
        append(showers)
        done += len(showers)
        progress(done, sample.n, "")


Reader = Callable[[Source, Wanted], Sample | None]
"""Recognises a file by its content and says how its showers are read; None if it is of another layout."""


def default_incidence(detector: Detector) -> tuple[tuple[float, float, float], tuple[float, float]]:
    """Direction and position of incident particles where a file says nothing: the detector's own, or their middle."""

    def middle(span: Span) -> float:
        return sum(span) / 2 if isinstance(span, tuple) else span

    place = detector.incidence
    return (middle(place.tan_x), middle(place.tan_y), 1.0), (middle(place.x), middle(place.y))


def default_pdg(detector: Detector, wanted: Wanted, otherwise: int | None = None) -> int:
    """PDG code of the incident particles where a file says nothing.

    Raises:
        CaloforgeError: if neither the user, the detector nor the layout knows.
    """
    from ..incident import pdg_code

    if wanted.pdg is not None:
        return wanted.pdg
    if otherwise is not None:
        return otherwise
    if detector.particles is not None:
        return pdg_code(detector.particles.kinds[0])
    raise CaloforgeError(f"nothing says which particles hit detector '{detector.name}'; give --particle.")


def dense_sample(
    source: Source,
    detector: Detector,
    voxels: Sequence[Rows],
    incident: Callable[[slice], Incident],
    arrange: Callable[[list[npt.NDArray[Any]]], npt.NDArray[Any]] = lambda parts: parts[0],
    axis: int = 0,
    notes: dict[str, Any] | None = None,
) -> Sample:
    """A sample whose voxel energies lie in dense arrays.

    Args:
        source: the opened file.
        detector: whose voxels these are.
        voxels: the arrays, showers along ``axis``; several if each layer has its own.
        incident: gives the incident particles of a range of showers.
        arrange: makes voxel energies (n, ...) in MeV and in the detector's order from a piece of each array.
        axis: along which the showers lie.
        notes: what the reader assumed.

    Raises:
        CaloforgeError: if the arrays do not fit the detector.
    """
    n = voxels[0].shape[axis]
    per_shower = sum(int(np.prod(v.shape, dtype=object)) for v in voxels) // n if n else detector.n_voxels
    if per_shower != detector.n_voxels or any(v.shape[axis] != n for v in voxels):
        raise CaloforgeError(
            f"'{source.path}' holds showers of {per_shower} voxels, detector '{detector.name}' has "
            f"{detector.n_voxels}; give the right one with --detector."
        )
    notes = {} if notes is None else notes
    rows = rows_at_once(voxels, per_shower)

    def chunks() -> Iterator[Showers]:
        for start in range(0, n, rows):
            part = slice(start, min(start + rows, n))
            # Numbers too large for float32 become infinite and are refused below.
            with damage(source.path), np.errstate(over="ignore", invalid="ignore"):
                pieces = [v[(slice(None),) * axis + (part,)] for v in voxels]
                dense = arrange(pieces).reshape(part.stop - part.start, -1).astype(np.float32, copy=False)
                particles = incident(part)
            yield Showers.from_dense(_clipped(source, dense, part, notes), particles, detector)

    return Sample(detector, n, chunks, notes)


def rows_at_once(voxels: Sequence[Rows], per_shower: int) -> int:
    """How many showers to read at once: about `CHUNK_BYTES`, and whole chunks of the file where they are not huge."""
    row = max(1, per_shower * max(v.dtype.itemsize for v in voxels))
    rows = max(1, CHUNK_BYTES // row)
    stored = [v.chunks[0] for v in voxels if getattr(v, "chunks", None)]  # type: ignore[attr-defined]
    step = max(stored, default=1)
    if rows > step:
        return rows // step * step
    return step if step * row <= 8 * CHUNK_BYTES else rows


def _clipped(source: Source, dense: npt.NDArray[Any], part: slice, notes: dict[str, Any]) -> npt.NDArray[Any]:
    if not (dense <= MAX_ENERGY).all() or np.isneginf(dense).any():
        raise CaloforgeError(
            f"'{source.path}' holds voxel energies that are NaN, infinite or above {MAX_ENERGY:g} MeV in its showers "
            f"{part.start} to {part.stop}; take them out before converting."
        )
    negative = int(np.count_nonzero(dense < 0))
    if negative:
        notes["negative_voxels_set_to_zero"] = notes.get("negative_voxels_set_to_zero", 0) + negative
        dense = np.maximum(dense, 0)
    return dense


def energies(source: Source, data: Rows, part: slice, scale: float) -> npt.NDArray[np.float64]:
    """Incident energies of a range of showers, checked, in MeV.

    Args:
        source: the opened file, for error messages.
        data: (N,) or (N, 1).
        part: range of showers.
        scale: MeV per unit of the file.

    Raises:
        CaloforgeError: if one is not finite or not positive.
    """
    with damage(source.path), np.errstate(over="ignore", invalid="ignore"):
        values: npt.NDArray[np.float64] = np.asarray(data[part], dtype=np.float64).reshape(-1) * scale
    if len(values) != part.stop - part.start or not ((values > 0) & (values <= MAX_ENERGY)).all():
        raise CaloforgeError(
            f"'{source.path}' holds incident energies that are not numbers above 0 and up to {MAX_ENERGY:g} MeV among "
            f"its showers {part.start} to {part.stop}; take those showers out before converting."
        )
    return values
