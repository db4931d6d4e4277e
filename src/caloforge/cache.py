"""Results that took long, kept by what they are made of; losing or damaging them costs time and nothing else.

An entry is one safetensors file of arrays, ``KEY.DIGEST.safetensors``. The key is a checksum of everything the result
depends on (contents of files, settings, the code itself), so that an entry is never wrong, only unused; the digest is
that of the entry's own bytes, so that a damaged one is noticed before it is read. Entries are written whole and then
renamed: processes that use one cache at once need no lock.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from . import __version__
from .errors import CaloforgeError
from .hdf5 import check_readable

Arrays = dict[str, npt.NDArray[Any]]

LIMIT_BYTES = 2_000_000_000
"""Entries used least recently are dropped above this size."""

_SUFFIX = ".safetensors"
_DAY = 86_400.0


def cache_directory() -> Path:
    """Where computed things are kept: $CALOFORGE_CACHE, $XDG_CACHE_HOME/caloforge or ~/.cache/caloforge."""
    if chosen := os.environ.get("CALOFORGE_CACHE"):
        return Path(chosen).expanduser().absolute()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base).expanduser().absolute() / "caloforge"
    return Path.home() / ".cache" / "caloforge"


def content_key(path: str | Path) -> str:
    """SHA-256 of a file's bytes: the same for a renamed copy, another after any change.

    Raises:
        CaloforgeError: if the file cannot be read.
    """
    path = Path(path)
    check_readable(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key_of(**parts: Any) -> str:
    """Key of a result that depends on the named parts: texts, numbers, lists and arrays of them, None."""
    text = json.dumps(parts, sort_keys=True, default=lambda array: np.asarray(array).tolist())
    return hashlib.sha256(text.encode()).hexdigest()


def code_key(*modules: ModuleType) -> str:
    """Key of the text of some modules: a result is computed anew when the code that makes it has changed."""
    texts = [__version__]
    for module in modules:
        with suppress(OSError):  # installed without its text: the version must do
            texts.append(inspect.getsource(module))
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


class Cache:
    """Arrays by key in a folder of bounded size.

    A folder that cannot be written, a full disk or a damaged entry is no error: then nothing is remembered.

    Attributes:
        folder: where the entries lie; made when first needed.
        limit: bytes all entries may take together.
    """

    def __init__(self, folder: str | Path, limit: int = LIMIT_BYTES) -> None:
        self.folder = Path(folder)
        self.limit = limit

    @classmethod
    def named(cls, name: str) -> Cache | None:
        """The user's cache for one purpose, a folder in `cache_directory`; None for a user without home folder."""
        try:
            return cls(cache_directory() / name)
        except RuntimeError:
            return None

    def get(self, key: str) -> Arrays | None:
        """The arrays under a key, or None if there are none or they are damaged."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        for path in self._entries(f"{key}.*"):
            with suppress(OSError, ValueError, CaloforgeError, SafetensorError):
                if path.stat().st_size <= self.limit and content_key(path) == path.name.split(".")[1]:
                    arrays: Arrays = load_file(path)
                    os.utime(path)  # the entries used least recently go first
                    return arrays
            with suppress(OSError):
                path.unlink()
        return None

    def put(self, key: str, arrays: Arrays) -> None:
        """Keep arrays under a key; those used least recently make room."""
        from safetensors.numpy import save

        data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
        if len(data) > self.limit:
            return
        path = self.folder / f"{key}.{hashlib.sha256(data).hexdigest()}{_SUFFIX}"
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(suffix=".tmp", dir=self.folder)
            temporary = Path(name)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            self._make_room()

    def _entries(self, pattern: str) -> Iterator[Path]:
        with suppress(OSError):
            yield from sorted(self.folder.glob(f"{pattern}{_SUFFIX}"))

    def _make_room(self) -> None:
        """Drop the entries used least recently, and what a killed process left unfinished."""
        entries = []
        for path in self._entries("*"):
            with suppress(OSError):  # another process may have dropped it
                entries.append((path.stat().st_mtime, path.stat().st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self.limit:
                break
            path.unlink(missing_ok=True)
            total -= size
        for path in self.folder.glob("*.tmp"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _DAY:
                    path.unlink()


def remember(cache: Cache | None, key: str, make: Callable[[], Arrays]) -> Arrays:
    """The arrays a cache holds under a key, made and kept if it holds none; without cache they are just made."""
    found = cache.get(key) if cache is not None else None
    if found is None:
        found = make()
        if cache is not None:
            cache.put(key, found)
    return found
