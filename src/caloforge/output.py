"""Files that appear under their name only when they are whole, written by one process at a time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from .errors import CaloforgeError
from .hdf5 import clean


def check_output(path: Path, *, overwrite: bool) -> None:
    """Raise `CaloforgeError` unless a file may be written at ``path``; called before long work starts."""
    try:
        if "\0" in str(path):
            raise ValueError("it holds a null character")
        folder, exists, home = path.is_dir(), path.exists(), path.parent.is_dir()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise CaloforgeError(f"'{clean(path, 80)}' cannot be a file's name ({why}); give another.") from None
    if folder:
        raise CaloforgeError(f"'{path}' is a folder; give the name of a file to write.")
    if exists and not overwrite:
        raise CaloforgeError(f"'{path}' exists already; give another name or --overwrite.")
    if not home:
        raise CaloforgeError(f"folder '{path.parent}' does not exist; make it or give another place for '{path.name}'.")
    if not os.access(path.parent, os.W_OK):
        raise CaloforgeError(f"folder '{path.parent}' is not writable; give another place for '{path.name}'.")


class UnfinishedFile:
    """A file under work: it lies beside its place under a temporary name until `finish` moves it there.

    As a context manager it gives the temporary path, finishes when the block ends and discards when it fails.

    Attributes:
        path: where the file will appear.
        temporary: where it is written.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self._overwrite = overwrite
        check_output(self.path, overwrite=overwrite)
        try:
            # The name is cut short so that a long one does not become too long with what is added.
            handle, name = tempfile.mkstemp(prefix=f".{self.path.name[:80]}.", suffix=".tmp", dir=self.path.parent)
        except OSError as error:
            raise CaloforgeError(
                f"'{path}' cannot be written ({error.strerror}); give a place where you may write."
            ) from None
        os.close(handle)
        self.temporary = Path(name)

    def finish(self) -> None:
        """Give the file its name.

        Raises:
            CaloforgeError: if that fails, e.g. because the disk is full; the unfinished file is removed.
        """
        try:
            with self.temporary.open("rb") as file:
                os.fsync(file.fileno())
            # mkstemp makes private files; this one gets the permissions any new file would get.
            mask = os.umask(0)
            os.umask(mask)
            self.temporary.chmod(0o666 & ~mask)
            check_output(self.path, overwrite=self._overwrite)  # another may have appeared meanwhile
            self.temporary.replace(self.path)
        except OSError as error:
            self.discard()
            raise CaloforgeError(
                f"'{self.path}' cannot be finished ({error.strerror}); check its place and the free space."
            ) from None
        except CaloforgeError:
            self.discard()
            raise

    def discard(self) -> None:
        """Throw the unfinished file away."""
        self.temporary.unlink(missing_ok=True)

    def __enter__(self) -> Path:
        return self.temporary

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.discard()


@contextmanager
def locked(path: Path, refused: str) -> Iterator[None]:
    """Keep other processes out while the block runs; the lock falls with the process.

    Args:
        path: the lock's file, made here and left behind.
        refused: what to say if another process holds it.

    Raises:
        CaloforgeError: if another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows: no advisory locks; the user is trusted there
        yield
        return
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CaloforgeError(refused) from None
        yield
