"""The one door to HDF5 files of unknown origin: what is not plain numbers inside the file itself is refused.

A file from somewhere else may be truncated, may point at other files (links, virtual or external data), or may declare
far more numbers than it holds. All of that ends here in one `CaloforgeError`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from .errors import CaloforgeError

READ_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    MemoryError,
)
"""What h5py is known to raise on damaged files (UnicodeDecodeError is a ValueError, RecursionError a RuntimeError)."""

LAYOUT = ("v110", "v110")
"""HDF5's format bounds for files that caloforge writes: metadata with checksums, readable since HDF5 1.10 (2016)."""

MAX_CHUNK_BYTES = 1 << 30
MAX_TEXT_BYTES = 16 << 20
_DEFLATE_RATIO = 1100  # deflate packs 1032 to 1 at best
_OTHER_RATIO = 1_000_000
_LOW_RATIO_FILTERS = {"gzip", "lzf", "shuffle", "fletcher32", "scaleoffset"}


def clean(text: object, limit: int = 200) -> str:
    """Text from a file made safe to print: one line, no control characters, at most ``limit`` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


@contextmanager
def damage(path: str | Path) -> Iterator[None]:
    """Turn whatever reading a damaged file raises into one sentence."""
    try:
        yield
    except READ_ERRORS as error:
        why = clean(error, 120) or type(error).__name__
        raise CaloforgeError(f"'{path}' is damaged or incomplete ({why}); make it or fetch it again.") from None


def check_readable(path: Path, what: str = "a file") -> None:
    """Raise `CaloforgeError` unless ``path`` is a file that may be read."""
    try:
        exists, folder = path.exists(), path.is_dir()
    except (OSError, ValueError):
        exists = folder = False
    if not exists:
        raise CaloforgeError(f"'{clean(path)}' does not exist; give the path of {what}.")
    if folder:
        raise CaloforgeError(f"'{path}' is a folder; give the path of {what}.")
    if not path.is_file():
        raise CaloforgeError(f"'{path}' is not a regular file; give the path of {what}.")
    if not os.access(path, os.R_OK):
        raise CaloforgeError(f"'{path}' may not be read by you; change its permissions or give another.")


def open_hdf5(path: str | Path, what: str = "an HDF5 file") -> h5py.File:
    """Open an HDF5 file for reading.

    Raises:
        CaloforgeError: if there is no such file, it is not HDF5, or it is truncated.
    """
    path = Path(path)
    check_readable(path, what)
    try:
        return h5py.File(path, "r")
    except READ_ERRORS as error:
        if "lock" in str(error):
            raise CaloforgeError(f"'{path}' is being written by another program; wait until it is done.") from None
        raise CaloforgeError(f"'{path}' is truncated or not an HDF5 file; make it anew or give another.") from None


def dataset(file: h5py.File, name: str) -> h5py.Dataset | None:
    """The dataset of numbers called ``name``, or None if there is nothing of that name.

    Raises:
        CaloforgeError: if it is no dataset of numbers, lies in another file, or declares more than the file holds.
    """
    path = file.filename
    with damage(path):
        node: Any = file
        for part in name.split("/"):
            link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
            if link is None:
                return None
            if not isinstance(link, h5py.HardLink):
                raise _refused(path, name, "is a link; only data inside the file itself is read")
            node = node[part]
        if not isinstance(node, h5py.Dataset):
            return None
        if node.is_virtual or node.external:
            raise _refused(path, name, "lies in another file; only data inside the file itself is read")
        if node.dtype.kind not in "iuf":
            raise _refused(path, name, f"holds '{clean(node.dtype, 40)}', not numbers")
        _check_storage(path, name, node)
        return node


def _check_storage(path: str, name: str, data: h5py.Dataset) -> None:
    stored = data.id.get_storage_size()
    filters = set(data._filters)
    known = filters <= _LOW_RATIO_FILTERS | {"deflate"} and data.compression in (None, "gzip", "lzf")
    ratio = _DEFLATE_RATIO if known else _OTHER_RATIO
    declared = data.dtype.itemsize
    for length in data.shape or ():
        declared *= int(length)
    if declared > ratio * stored + 65536:
        raise _refused(path, name, f"declares {declared} bytes but holds {stored}")
    if data.chunks:
        chunk = data.dtype.itemsize
        for length in data.chunks:
            chunk *= int(length)
        if chunk > MAX_CHUNK_BYTES:
            raise _refused(path, name, f"is stored in pieces of {chunk} bytes; at most {MAX_CHUNK_BYTES} can be read")


def _refused(path: str, name: str, why: str) -> CaloforgeError:
    return CaloforgeError(f"'{path}' cannot be read: its dataset '{clean(name)}' {why}; make the file anew.")


def text_attribute(file: h5py.File, name: str) -> str | None:
    """A text attribute of the file, or None if it has none of that name.

    Raises:
        CaloforgeError: if it is not text or too long.
    """
    with damage(file.filename):
        if name not in file.attrs:
            return None
        size = file.attrs.get_id(name).get_storage_size()
        if size > MAX_TEXT_BYTES:
            raise ValueError(f"attribute '{name}' has {size} bytes")
        value = file.attrs[name]
        if isinstance(value, bytes):
            value = value.decode("utf-8")
        if not isinstance(value, str):
            raise ValueError(f"attribute '{name}' is not text")
        return value


def set_text_attribute(file: h5py.File, name: str, text: str) -> None:
    """Write a text attribute of fixed length: unlike HDF5's variable-length text it is covered by a checksum."""
    raw = text.encode("utf-8")
    file.attrs.create(name, raw or b" ", dtype=h5py.string_dtype("utf-8", max(len(raw), 1)))
