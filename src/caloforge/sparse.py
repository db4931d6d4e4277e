"""Sparse rows: the energies of many showers or images, only those that are not zero.

The energies of row i are ``energy[offset[i]:offset[i + 1]]`` at places ``index[offset[i]:offset[i + 1]]``, which rise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Which = int | slice | npt.NDArray[Any] | Sequence[int]


@dataclass(frozen=True)
class SparseRows:
    """Energies of N rows.

    Attributes:
        offset: where each row begins, and the end (N + 1,).
        index: flat numbers of the places hit.
        energy: their energies, MeV.
    """

    offset: Ints
    index: npt.NDArray[np.uint32]
    energy: npt.NDArray[np.float32]

    @classmethod
    def from_dense(cls, flat: npt.NDArray[np.float32], threshold: float = 0.0) -> SparseRows:
        """The rows of dense energies (N, places); what is at or under the threshold is dropped."""
        row, column = np.nonzero(flat > threshold)
        return cls(offsets(np.bincount(row, minlength=len(flat))), column.astype(np.uint32), flat[row, column])

    @staticmethod
    def concatenate(parts: Sequence[SparseRows]) -> SparseRows:
        """Join rows in order; at least one part."""
        shift = np.cumsum([0] + [len(p.index) for p in parts])
        return SparseRows(
            np.concatenate([parts[0].offset[:1], *(p.offset[1:] + s for p, s in zip(parts, shift, strict=False))]),
            np.concatenate([p.index for p in parts]),
            np.concatenate([p.energy for p in parts]),
        )

    def __len__(self) -> int:
        return len(self.offset) - 1

    @property
    def row(self) -> Ints:
        """Row number of each energy."""
        return np.repeat(np.arange(len(self)), np.diff(self.offset))

    def numbers(self, which: Which) -> Ints:
        """The row numbers that a number, a slice, a mask or numbers pick."""
        picked = np.asarray(which, dtype=np.int64) if isinstance(which, Sequence) and not len(which) else which
        return np.atleast_1d(np.arange(len(self))[picked])

    def take(self, rows: Ints) -> SparseRows:
        """These rows, in the order asked for."""
        offset, place = places_of(self.offset, rows)
        return SparseRows(offset, self.index[place], self.energy[place])

    def dense(self, places: int, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
        """Dense energies (N, places)."""
        out = np.zeros((len(self), places), dtype=dtype)
        out[self.row, self.index] = self.energy
        return out

    def without_zeros(self) -> SparseRows:
        """The same without places of no energy (a deposit too small for float32 becomes zero)."""
        return self.where(self.energy > 0)

    def where(self, keep: npt.NDArray[np.bool_]) -> SparseRows:
        """The same with only those energies that a mask (H,) keeps."""
        if keep.all():
            return self
        offset = np.concatenate([[0], np.cumsum(keep)])[self.offset]
        return SparseRows(offset, self.index[keep], self.energy[keep])

    def rising(self) -> bool:
        """Whether the places rise within each row."""
        falls = np.flatnonzero(np.diff(self.index.astype(np.int64)) <= 0) + 1
        return bool(np.isin(falls, self.offset).all())

    def fits(self) -> bool:
        """Whether the offsets run from 0 to the number of energies, each of which has a place."""
        return bool(self.offset[0] == 0 <= self.offset[-1] == len(self.index) == len(self.energy))


def offsets(counts: npt.NDArray[np.integer[Any]]) -> Ints:
    """Where rows of these lengths (N,) begin, and the end (N + 1,)."""
    out = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=out[1:])
    return out


def places_of(offset: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """Offsets (n + 1,) of rows picked from others by number (n,), and where their items lie there."""
    counts = np.diff(offset)[rows]
    new = offsets(counts)
    return new, np.arange(new[-1]) + np.repeat(offset[:-1][rows] - new[:-1], counts)
