"""Images of events in memory: energies of towers in eta and phi, and pairs of two simulations of the same events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from ..errors import CaloforgeError, lookup
from ..incident import MAX_ENERGY
from ..sparse import Ints, SparseRows, Which
from .grid import CMS, EtaPhiGrid

Side = Literal["fast", "full", "generated", "external"]
SIDES: tuple[Side, ...] = get_args(Side)


class Paired(Protocol):
    """What pairing needs of images, in memory or in a file."""

    @property
    def event(self) -> Ints:
        """Numbers of the events."""

    @property
    def grid(self) -> EtaPhiGrid:
        """The grid."""

    @property
    def side(self) -> str:
        """Which simulation."""

    @property
    def events_digest(self) -> str:
        """Which events."""

    def __len__(self) -> int: ...


class Images:
    """Images of N events, held in memory as sparse rows.

    Attributes:
        event: number of each event in its event file (N,).
        rows: tower energies, MeV, float32.
        grid: the towers.
        side: which simulation made them: fast, full, generated or external.
        process: which events, e.g. "dijet" or "wjet".
        events_digest: of the event file they come from; images of equal digest are of the same events. "" if unknown.
        provenance: what made them.
    """

    def __init__(
        self,
        event: npt.ArrayLike,
        rows: SparseRows,
        grid: EtaPhiGrid = CMS,
        *,
        side: Side = "external",
        process: str = "",
        events_digest: str = "",
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        self.event: Ints = np.asarray(event, dtype=np.int64)
        if self.event.shape != (len(rows),) or not rows.fits():
            raise CaloforgeError(
                f"{self.event.size} event numbers, {len(rows) + 1} offsets and {len(rows.energy)} energies do not make "
                "images; give one number and one row an image."
            )
        lookup(dict.fromkeys(SIDES), side, "a side")
        self.rows = rows
        self.grid = grid
        self.side: Side = side
        self.process = process
        self.events_digest = events_digest
        self.provenance: dict[str, Any] = dict(provenance or {})

    @classmethod
    def from_dense(
        cls,
        towers: npt.NDArray[Any],
        event: npt.ArrayLike | None = None,
        grid: EtaPhiGrid = CMS,
        *,
        threshold: float = 0.0,
        **described: Any,
    ) -> Images:
        """Images of dense energies.

        Args:
            towers: (N, eta, phi) in MeV.
            event: numbers of the events (N,); 0 to N - 1 if left out.
            grid: whose towers these are.
            threshold: towers at or under it (MeV) are dropped.
            described: side, process, events_digest, provenance.

        Raises:
            CaloforgeError: if the shapes do not fit or an energy is not finite or is negative.
        """
        with np.errstate(over="ignore"):
            dense = np.asarray(towers, dtype=np.float32)
        if dense.ndim != 3 or dense.shape[1:] != grid.shape:
            raise CaloforgeError(f"energies of shape {dense.shape} are no images of {grid.shape}; give (N, eta, phi).")
        if not ((dense >= 0) & (dense <= MAX_ENERGY)).all():
            raise CaloforgeError(
                f"the tower energies hold NaN, negative values or values above {MAX_ENERGY:g} MeV; "
                "clean them before making images."
            )
        rows = SparseRows.from_dense(dense.reshape(len(dense), grid.n_towers), threshold)
        return cls(np.arange(len(dense)) if event is None else event, rows, grid, **described)

    @classmethod
    def read(cls, path: str | Path, start: int = 0, stop: int | None = None) -> Images:
        """Read images ``start`` to ``stop`` of an image file.

        Raises:
            CaloforgeError: if the file is not a whole and valid image file.
        """
        from .image_file import ImageFile  # here, because the file is built on this module

        with ImageFile(path) as file:
            return file.read(start, stop)

    def write(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write an image file; it appears under its name only when it is whole.

        Raises:
            CaloforgeError: if the file exists and ``overwrite`` is not set, or the place cannot be written.
        """
        from .image_file import ImageWriter  # as in `read`

        with ImageWriter(path, self.grid, self.provenance, overwrite=overwrite, **self.described) as writer:
            writer.append(self)

    @property
    def described(self) -> dict[str, Any]:
        """Side, process and events' digest, as the constructor takes them."""
        return {"side": self.side, "process": self.process, "events_digest": self.events_digest}

    @staticmethod
    def concatenate(parts: Sequence[Images]) -> Images:
        """Join images of one grid in order; all else is the first one's."""
        if not parts:
            raise CaloforgeError("there are no images to join; give at least one part.")
        first = parts[0]
        for part in parts[1:]:
            check_same_grid(first, part)
        return first._with(np.concatenate([p.event for p in parts]), SparseRows.concatenate([p.rows for p in parts]))

    def _with(self, event: Ints, rows: SparseRows) -> Images:
        return Images(event, rows, self.grid, provenance=self.provenance, **self.described)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: Which) -> Images:
        """Images picked by a number, a slice, a mask or numbers, in the order asked for."""
        chosen = self.rows.numbers(which)
        return self._with(self.event[chosen], self.rows.take(chosen))

    def __repr__(self) -> str:
        return f"Images({len(self)} {self.side} of '{self.process}', {self.grid.describe()})"

    @property
    def total_energy(self) -> npt.NDArray[np.float64]:
        """Sum of the tower energies of each image (N,) in MeV."""
        sums = np.bincount(self.rows.row, weights=self.rows.energy, minlength=len(self))
        return sums.astype(np.float64)

    def dense(self, which: Which | None = None, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
        """Tower energies (N, eta, phi) in MeV, of all images or of those picked."""
        rows = self.rows if which is None else self.rows.take(self.rows.numbers(which))
        return rows.dense(self.grid.n_towers, dtype).reshape(len(rows), *self.grid.shape)


def check_same_grid(first: Paired, second: Paired) -> None:
    """Raise `CaloforgeError` unless two sets of images have the same towers."""
    if first.grid != second.grid:
        raise CaloforgeError(
            f"the images have different grids ({first.grid.describe()}; {second.grid.describe()}); "
            "make both with the same one."
        )


def paired(fast: Paired, full: Paired) -> tuple[Ints, Ints]:
    """Which images show the same events.

    Returns:
        Row numbers (P,) in ``fast`` and in ``full``: pair p is ``fast[i[p]], full[j[p]]``; in the order of ``fast``.

    Raises:
        CaloforgeError: if the grids differ, the images come from other events, have none in common or an event twice.
    """
    check_same_grid(fast, full)
    for images in (fast, full):
        if not len(images):
            raise CaloforgeError(f"there are no {images.side} images to pair; give files with at least one image.")
        if len(np.unique(images.event)) < len(images):
            raise CaloforgeError(
                f"the {images.side} images show an event more than once and cannot be paired; keep one image an event."
            )
    known = fast.events_digest and full.events_digest
    if known and fast.events_digest != full.events_digest:
        raise CaloforgeError(
            f"the {fast.side} and the {full.side} images come from different event files and are no pairs; "
            "make both from the same events."
        )
    _, i, j = np.intersect1d(fast.event, full.event, assume_unique=True, return_indices=True)
    if not len(i):
        raise CaloforgeError(
            f"the {fast.side} and the {full.side} images have no event in common and are no pairs; "
            "make both from the same events."
        )
    order = np.argsort(i)
    return i[order].astype(np.int64), j[order].astype(np.int64)
