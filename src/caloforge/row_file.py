"""Files of rows: fixed values for each row and, in pieces, lists of any length. Shower, event and image files are such.

Datasets lie in HDF5: one value (or vector) a row, one offset a row and the end, one value an item. Texts are
attributes. Everything is checked when opened and when read; a file appears under its name only when it is whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, NoReturn, Self

import h5py
import numpy as np
import numpy.typing as npt

from . import hdf5
from .errors import CaloforgeError
from .incident import MAX_ENERGY
from .output import UnfinishedFile
from .sparse import Ints, SparseRows

Array = npt.NDArray[Any]
_ROWS = 4096  # rows an HDF5 chunk of the per-row datasets holds
_ITEMS = 65536  # items an HDF5 chunk holds
_QUICKER = {"compression_opts": 1}


@dataclass(frozen=True)
class Layout:
    """What a kind of file holds.

    Attributes:
        format: its name, in the file.
        version: of the format that is written; it and all before are read.
        what: the file in words, e.g. "shower file".
        remedy: what to do with an HDF5 file of another kind.
        rows: dataset -> type and shape of one row's value.
        offset: dataset of the offsets.
        items: dataset -> type of one item's value.
        texts: attributes beside format and version; "provenance", written last, must be among them.
    """

    format: str
    version: int
    what: str
    remedy: str
    rows: Mapping[str, tuple[str, tuple[int, ...]]]
    offset: str
    items: Mapping[str, str]
    texts: tuple[str, ...]

    @property
    def kinds(self) -> dict[str, str]:
        """Type of every dataset, in the order in which their content is hashed."""
        return {name: kind for name, (kind, _) in self.rows.items()} | {self.offset: "i8"} | dict(self.items)


class RowFile:
    """A file of rows opened for reading, checked when opened; rows are read piece by piece.

    Attributes:
        path: where it lies.
        version: of its format.
        provenance: what made it.
    """

    layout: ClassVar[Layout]

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = hdf5.open_hdf5(self.path, self._wanted())
        try:
            with hdf5.damage(self.path):
                self._open()
        except BaseException:
            self._file.close()
            raise

    def _wanted(self) -> str:
        kind = self.layout.what
        return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"

    def _open(self) -> None:
        file, layout = self._file, self.layout
        if (found := hdf5.text_attribute(file, "format")) != layout.format:
            if found and found.startswith("caloforge"):
                other = hdf5.clean(found, 40)
                raise CaloforgeError(
                    f"'{self.path}' is not a caloforge {layout.what} but one of {other}; give {self._wanted()}."
                )
            raise CaloforgeError(f"'{self.path}' is an HDF5 file but not a caloforge {layout.what}; {layout.remedy}")
        self.version = int(file.attrs["version"])
        if not 1 <= self.version <= layout.version:
            raise CaloforgeError(
                f"'{self.path}' has format version {self.version}, this caloforge reads 1 to {layout.version}; "
                "upgrade caloforge."
            )
        texts = {name: hdf5.text_attribute(file, name) for name in layout.texts}
        given = {name: text for name, text in texts.items() if text is not None}
        if len(given) < len(texts):
            self._reject(f"it was never finished, its {' or '.join(layout.texts)} is missing")
        self._describe(given)
        self.provenance = provenance_from_json(given["provenance"], self.path)
        self._data = {name: self._dataset(name) for name in layout.kinds}
        self._check_shapes()

    def _describe(self, texts: Mapping[str, str]) -> None:
        """Read the file's own texts; a kind of file says how."""

    def _check_shapes(self) -> None:
        layout = self.layout
        first = next(iter(layout.items))
        self._n = n = len(self._data[layout.offset]) - 1
        self._n_items = items = len(self._data[first])
        expected: dict[str, tuple[int, ...]] = {name: (n, *shape) for name, (_, shape) in layout.rows.items()}
        expected |= {layout.offset: (n + 1,)} | dict.fromkeys(layout.items, (items,))
        for name, shape in expected.items():
            if n < 0 or self._data[name].shape != shape:
                self._reject(f"dataset '{name}' has shape {self._data[name].shape}, not {shape}")
        offset = self._data[layout.offset]
        if int(offset[0]) != 0 or int(offset[-1]) != items:
            self._reject(f"its offsets do not end at its {items} {_plural(first)}")

    def _dataset(self, name: str) -> h5py.Dataset:
        data = hdf5.dataset(self._file, name)
        if data is None:
            self._reject(f"dataset '{name}' is missing")
        kinds = "f" if np.dtype(self.layout.kinds[name]).kind == "f" else "iu"
        if data.dtype.kind not in kinds or data.ndim < 1:
            self._reject(f"dataset '{name}' has type {data.dtype} and shape {data.shape}")
        return data

    def _reject(self, why: str) -> NoReturn:
        raise CaloforgeError(
            f"'{self.path}' is not a valid {self.layout.what}: {why}; make it anew or convert it again."
        )

    def __len__(self) -> int:
        return self._n

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _range(self, start: int, stop: int | None) -> tuple[int, int]:
        stop = self._n if stop is None else max(0, min(stop, self._n))
        return min(max(start, 0), stop), stop

    def _row_values(self, start: int, stop: int) -> dict[str, Array]:
        with hdf5.damage(self.path):
            values = {
                name: self._data[name][start:stop].astype(np.dtype(kind), copy=False)
                for name, (kind, _) in self.layout.rows.items()
            }
        for name, array in values.items():
            if not np.isfinite(array).all():
                self._reject(f"'{name}' holds NaN or infinite values")
        return values

    def _item_values(self, start: int, stop: int, most: int | None = None, most_words: str = "") -> list[Array]:
        """Offsets from 0 of these rows and the items' values; a row may have at most ``most``."""
        with hdf5.damage(self.path):
            offset = self._data[self.layout.offset][start : stop + 1].astype(np.int64)
            if offset[0] < 0 or offset[-1] > self._n_items or (np.diff(offset) < 0).any():
                self._reject("its offsets do not rise")
            if most is not None and (np.diff(offset) > most).any():
                self._reject(most_words)
            items = []
            for name, kind in self.layout.items.items():
                wide = "i8" if np.dtype(kind).kind in "iu" else kind  # what a damaged file holds must not wrap round
                items.append(self._data[name][offset[0] : offset[-1]].astype(wide, copy=False))
        return [offset - offset[0], *items]

    def _sparse(self, start: int, stop: int, places: int, row: str, place: str, owner: str) -> SparseRows:
        """These rows of energies, checked: offset, place and energy; the words are for the messages.

        Raises:
            CaloforgeError: if a place lies outside, comes twice or has an energy that cannot be.
        """
        words = f"a {row} has more energies than {owner}"
        offset, index, energy = self._item_values(start, stop, places, words)
        if len(index) and (int(index.max()) >= places or int(index.min()) < 0):
            self._reject(f"it holds {place} {index.max()}, more than {owner}")
        rows = SparseRows(offset, index.astype(np.uint32, copy=False), energy)
        if not rows.rising():
            self._reject(f"its {place} numbers do not rise within a {row}")
        if not ((energy > 0) & (energy <= MAX_ENERGY)).all():
            self._reject(f"its {place} energies hold NaN or values that are not above 0 and up to {MAX_ENERGY:g} MeV")
        return rows

    def content_hash(self, size: int = 1 << 20) -> str:
        """SHA-256 over all rows and items, read in pieces of ``size`` values: equal for equal content."""
        digest = hashlib.sha256()
        for name, kind in self.layout.kinds.items():
            data = self._data[name]
            for start in range(0, len(data), size):
                with hdf5.damage(self.path):
                    values = data[start : start + size].astype(np.dtype(kind), copy=False)
                digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()


class RowWriter:
    """Writes a file of rows piece by piece; it appears under its name only when it is closed whole.

    Attributes:
        path: where it will appear.
        provenance: what makes it; may be changed until it is closed.
        quick: whether items are packed in a third of the time and a sixth more space: the digits of an energy are
            random, and most of the time goes into finding that they cannot be compressed.
    """

    layout: ClassVar[Layout]
    quick: bool = False

    def __init__(
        self,
        path: str | Path,
        texts: Mapping[str, str],
        provenance: Mapping[str, Any] | None = None,
        *,
        narrow: Mapping[str, str] | None = None,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        self.provenance: dict[str, Any] = dict(provenance or {})
        provenance_to_json(self.provenance)  # better now than after hours of work
        self._unfinished = UnfinishedFile(path, overwrite=overwrite)
        self._closed = False
        with self._writing():
            self._file = h5py.File(self._unfinished.temporary, "w", libver=hdf5.LAYOUT)
            self._create(texts, narrow or {})

    def _create(self, texts: Mapping[str, str], narrow: Mapping[str, str]) -> None:
        """Make the datasets; ``narrow`` names smaller types for some, which hold all that can occur."""
        file, layout = self._file, self.layout
        hdf5.set_text_attribute(file, "format", layout.format)
        file.attrs["version"] = layout.version
        for name, text in texts.items():
            hdf5.set_text_attribute(file, name, text)
        packing = {"compression": "gzip", "compression_opts": 4, "shuffle": True, "fletcher32": True}
        for name, (kind, shape) in layout.rows.items():
            file.create_dataset(name, (0, *shape), kind, maxshape=(None, *shape), chunks=(_ROWS, *shape), **packing)
        for name, kind in layout.items.items():
            kind = narrow.get(name, kind)
            how = packing if not self.quick else {"fletcher32": True} if kind == "f4" else packing | _QUICKER
            file.create_dataset(name, (0,), kind, maxshape=(None,), chunks=(_ITEMS,), **how)
        file.create_dataset(layout.offset, data=np.zeros(1, "i8"), maxshape=(None,), chunks=(_ROWS,), **packing)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Throw the unfinished file away and say so if it cannot be written, e.g. because the disk is full."""
        try:
            yield
        except (OSError, RuntimeError) as error:
            self.discard()
            raise CaloforgeError(
                f"'{self.path}' cannot be written ({hdf5.clean(error, 120)}); check its place and the free space."
            ) from None
        except BaseException:
            self.discard()
            raise

    def _append(self, rows: Mapping[str, Array], offset: Ints, items: Mapping[str, Array]) -> None:
        """Add rows whose items begin at ``offset`` (from 0) at the end."""
        with self._writing():
            for name, values in rows.items():
                self._extend(name, values)
            last = self._file[self.layout.offset][-1]
            self._extend(self.layout.offset, offset[1:] + last)
            for name, values in items.items():
                self._extend(name, values)

    def _extend(self, name: str, values: Array) -> None:
        data = self._file[name]
        old = len(data)
        data.resize(old + len(values), axis=0)
        data[old:] = values

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def close(self) -> None:
        """Finish the file and give it its name.

        Raises:
            CaloforgeError: if it cannot be written; nothing of it is left then.
        """
        if self._closed:
            return
        with self._writing():
            hdf5.set_text_attribute(self._file, "provenance", provenance_to_json(self.provenance))
            self._file.close()
        self._closed = True
        self._unfinished.finish()

    def discard(self) -> None:
        """Throw the unfinished file away."""
        self._closed = True
        if hasattr(self, "_file"):
            with suppress(OSError, RuntimeError):  # a full disk again
                self._file.close()
        self._unfinished.discard()


def _plural(dataset: str) -> str:
    """``"voxel energies"`` of ``"voxels/energy"``."""
    group, name = dataset.split("/")
    return f"{group.removesuffix('s')} {name.removesuffix('y')}{'ies' if name.endswith('y') else 's'}"


def provenance_from_json(text: str, path: str | Path) -> dict[str, Any]:
    """The provenance in a file.

    Raises:
        CaloforgeError: if it is not a JSON object.
    """
    try:
        provenance = json.loads(text)
    except (ValueError, RecursionError):
        provenance = None
    if not isinstance(provenance, dict):
        raise CaloforgeError(f"'{path}' is damaged: its provenance is not a JSON object; make it anew.")
    return provenance


def provenance_to_json(provenance: Mapping[str, Any]) -> str:
    """A provenance as JSON; NumPy numbers become plain ones, paths and the like text.

    Raises:
        CaloforgeError: if it cannot be written as JSON.
    """

    def plain(value: object) -> object:
        return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else str(value)

    try:
        return json.dumps(dict(provenance), default=plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise CaloforgeError(f"the provenance cannot be written as JSON ({error}); use text keys and values.") from None
