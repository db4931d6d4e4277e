"""What a file holds, found out from its content: HDF5 data, arrays of an npz archive, or text."""

from __future__ import annotations

import math
import shutil
import struct
import tempfile
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import h5py
import numpy as np
import numpy.typing as npt

from .. import hdf5
from ..errors import CaloforgeError
from ..hdf5 import clean

_ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, struct.error, SyntaxError, tokenize.TokenError)
_ZIP_RATIO = 1100
_BLOCK = 1 << 20


class Rows(Protocol):
    """An array on disk of which pieces can be read: an HDF5 dataset or a memory map."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its lengths."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its numbers."""
        ...

    def __getitem__(self, which: Any) -> npt.NDArray[Any]: ...


@dataclass(frozen=True)
class Source:
    """An opened file that a reader may recognise.

    Attributes:
        path: where it lies.
        stack: what is entered here is left when the source is closed.
        file: the file, if it is HDF5.
        members: names of the arrays, if it is an npz archive.
        header: column names, if it is a text table.
    """

    path: Path
    stack: ExitStack
    file: h5py.File | None = None
    members: frozenset[str] = frozenset()
    header: tuple[str, ...] = ()
    _extract: Callable[[str], npt.NDArray[Any]] | None = field(default=None, repr=False)

    def dataset(self, name: str) -> h5py.Dataset | None:
        """HDF5 dataset of that name, or None."""
        return hdf5.dataset(self.file, name) if self.file is not None else None

    def attribute(self, name: str) -> str | None:
        """HDF5 text attribute of that name, or None."""
        return hdf5.text_attribute(self.file, name) if self.file is not None else None

    def array(self, name: str) -> npt.NDArray[Any] | None:
        """Array of that name of an npz archive as a memory map, or None."""
        if self._extract is None or name not in self.members:
            return None
        return self._extract(name)

    def contents(self) -> str:
        """What the file holds, in a few words for an error message."""
        if self.file is not None:
            with hdf5.damage(self.path):
                found = [
                    f"{name} {getattr(self.file.get(name), 'shape', 'group')}"
                    if isinstance(self.file.get(name, getlink=True), h5py.HardLink)
                    else f"{name} link"
                    for name in list(self.file)[:8]
                ]
            return clean("the HDF5 datasets " + (", ".join(found) or "none"))
        if self.members:
            return clean("the arrays " + ", ".join(sorted(self.members)[:8]))
        return clean("text columns " + ", ".join(self.header[:8]))


@contextmanager
def open_source(path: str | Path) -> Iterator[Source]:
    """Open a file of showers of whatever kind; the content decides, not the name.

    Raises:
        CaloforgeError: if it does not exist, is damaged, or is of no kind that can hold showers.
    """
    path = Path(path)
    hdf5.check_readable(path, "a file of showers")
    with path.open("rb") as raw:
        start = raw.read(65536)
    with ExitStack() as stack:
        if start.startswith(b"\x89HDF\r\n\x1a\n") or h5py.is_hdf5(path):
            yield Source(path, stack, file=stack.enter_context(hdf5.open_hdf5(path)))
        elif start.startswith(b"PK"):
            yield _open_npz(path, stack)
        elif start and b"\0" not in start:
            yield Source(path, stack, header=_header(path, start))
        else:
            what = "is empty" if not start else "is neither HDF5, an npz archive nor text"
            raise CaloforgeError(f"'{path}' {what}; give a file of showers in a format of docs/shower-file.md.")


def _header(path: Path, start: bytes) -> tuple[str, ...]:
    try:
        line = start.split(b"\n", 1)[0].decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CaloforgeError(f"'{path}' is neither HDF5, an npz archive nor text; give a file of showers.") from None
    return tuple(name.strip().lower() for name in line.lstrip("# ").split(","))


def _open_npz(path: Path, stack: ExitStack) -> Source:
    with _archive_damage(path):
        archive = stack.enter_context(zipfile.ZipFile(path))
        members = frozenset(n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy"))

    def extract(name: str) -> npt.NDArray[Any]:
        with _archive_damage(path):
            return _memory_map(archive, f"{name}.npy", stack)

    if not members:
        raise CaloforgeError(f"'{path}' is a zip archive without arrays; give an npz file.")
    return Source(path, stack, members=members, _extract=extract)


@contextmanager
def _archive_damage(path: Path) -> Iterator[None]:
    with hdf5.damage(path):
        try:
            yield
        except _ARCHIVE_ERRORS as error:
            raise ValueError(str(error)) from None


def _memory_map(archive: zipfile.ZipFile, member: str, stack: ExitStack) -> npt.NDArray[Any]:
    """Unpack one array to an unnamed temporary file, after its header has been checked, and map it."""
    info = archive.getinfo(member)
    if info.file_size > _ZIP_RATIO * info.compress_size + 65536:
        raise ValueError(f"'{clean(member)}' claims to unpack to {info.file_size} bytes")
    with archive.open(info) as packed:
        shape, fortran, dtype = _npy_header(packed)
        size = math.prod(shape) * dtype.itemsize
        if dtype.kind not in "iuf" or any(n < 0 for n in shape) or len(shape) > 8:
            raise ValueError(f"'{clean(member)}' holds '{clean(dtype, 40)}' of shape {shape}, not an array of numbers")
        if size != info.file_size - packed.tell():
            raise ValueError(f"'{clean(member)}' declares {size} bytes but holds {info.file_size - packed.tell()}")
        if size == 0:
            return np.empty(shape, dtype)
        if size > shutil.disk_usage(tempfile.gettempdir()).free:
            raise ValueError(f"'{clean(member)}' needs {size} bytes of temporary space, more than there is")
        unpacked: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        shutil.copyfileobj(packed, unpacked, _BLOCK)
        unpacked.flush()
    if unpacked.tell() != size:
        raise ValueError(f"'{clean(member)}' ends too early")
    return np.memmap(unpacked, dtype, "r", shape=shape, order="F" if fortran else "C")


def _npy_header(packed: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(packed)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"its array format {version} is unknown")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # headers that Python 2 wrote
        shape, fortran, dtype = readers[version](packed)
    return shape, fortran, dtype
