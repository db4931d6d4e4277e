"""The one door to the network: files over HTTP with pooch, resumed after any death, under their name only when whole.

A file grows in ``NAME.part`` beside its place. What lies there is not asked for again (HTTP Range); a server that does
not know Range sends all, and the file starts anew. Servers are strangers: nothing longer than announced is written.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .. import __version__
from ..errors import CaloforgeError
from ..hdf5 import clean
from ..progress import Progress, silent

WAITS = (1.0, 4.0, 15.0)
"""Seconds between tries that got nowhere; there is one try more."""
TIMEOUT = (15, 60)  # seconds: until a server answers, and between two pieces of its answer
MB = 1_000_000
_HEADWAY = MB  # bytes a broken transfer must have brought for its tries to count from the start again
_PIECE = 1 << 16  # bytes; what a broken connection loses at most
_LONGEST_WAIT = 120.0  # seconds; what a busy server may ask for
_SPARE = 1 << 30  # bytes that a file of unknown length leaves free on the disk
_BUSY = {408, 425, 429, 500, 502, 503, 504}
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)
_RANGE = re.compile(r"bytes (?:(\d{1,18})-\d{1,18}|\*)/(\d{1,18}|\*)", re.ASCII)


@dataclass(frozen=True)
class Remote:
    """A file elsewhere.

    Attributes:
        url: where.
        size: its length in bytes, if known.
        checksum: ``"md5:..."`` or the like, if known.
        by_hand: what to do if it cannot be fetched; ends the sentence that says so.
        limit: bytes it may have at most, if its length is not known.
    """

    url: str
    size: int | None = None
    checksum: str | None = None
    by_hand: str = "try again later"
    limit: int | None = None

    @property
    def host(self) -> str:
        """Who has it."""
        return clean(urlsplit(self.url).netloc, 80)


class _TryAgainError(Exception):
    """A transfer ended early; another may go on. ``wait``: seconds the server asked for."""

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


class _RefusedError(Exception):
    """A transfer that no further try would mend."""


class _NothingLeft(Exception):  # noqa: N818 - no error
    """What lies here is the whole file already."""


def difference(path: Path, remote: Remote) -> str | None:
    """In what a file is not the published one: its length, its checksum, or, as far as known, nothing (None)."""
    from pooch import file_hash

    size = path.stat().st_size
    if remote.size is not None and size != remote.size:
        return f"it has {size} bytes, not {remote.size}"
    if remote.checksum is not None:
        kind, _, wanted = remote.checksum.partition(":")
        found = file_hash(str(path), kind)
        if found != wanted.lower():
            return f"its {kind} is {found}, not {wanted}"
    return None


def download(remote: Remote, target: Path, progress: Progress = silent) -> None:
    """Fetch a file, going on where an earlier call was interrupted.

    Args:
        remote: the file.
        target: where it shall lie; its folder exists, it does not.
        progress: called with megabytes done and in all.

    Raises:
        CaloforgeError: if it cannot be fetched, is not what it should be, or does not fit on the disk. A broken
            transfer is kept for the next call, a wrong file is not.
    """
    part = target.with_name(f"{target.name}.part")
    if part.exists() and remote.size is not None and part.stat().st_size > remote.size:
        part.unlink()
    with _Partial(part, remote, lambda done, total: progress(done // MB, (total or done) // MB, target.name)) as sink:
        _transfer(remote, sink, target.name)
        os.fsync(sink.file.fileno())
    wrong = difference(part, remote)
    if wrong is not None:
        part.unlink()
        raise CaloforgeError(
            f"'{target.name}' from {remote.host} is not the published file ({wrong}) and was thrown away; "
            f"{remote.by_hand}."
        )
    part.replace(target)


def _transfer(remote: Remote, sink: _Partial, name: str) -> None:
    """Try until the file is whole; tries that bring much of it do not count."""
    failures, last = 0, sink.done
    while True:
        try:
            if remote.size is None or sink.done < remote.size:
                _try(remote, sink)
            return
        except _NothingLeft:
            return
        except _TryAgainError as error:
            failures = 1 if sink.done >= last + _HEADWAY else failures + 1
            last = max(last, sink.done)
            if failures > len(WAITS):
                kept = "; what has come is kept" if sink.done else ""
                raise CaloforgeError(
                    f"'{name}' cannot be fetched from {remote.host} ({error}; {failures} tries{kept}); "
                    f"{remote.by_hand}."
                ) from None
            time.sleep(max(WAITS[failures - 1], min(error.wait, _LONGEST_WAIT)))
        except _RefusedError as error:
            raise CaloforgeError(f"'{name}' cannot be fetched: {remote.host} {error}; {remote.by_hand}.") from None


def _try(remote: Remote, sink: _Partial) -> None:
    from pooch import HTTPDownloader

    # Zenodo slows down programs that do not say their name. Packed answers could not be resumed.
    headers = {"User-Agent": f"caloforge/{__version__}", "Accept-Encoding": "identity"}
    if sink.done:
        headers["Range"] = f"bytes={sink.done}-"
    fetch = HTTPDownloader(chunk_size=_PIECE, headers=headers, hooks={"response": sink.begin}, timeout=TIMEOUT)
    try:
        fetch(remote.url, sink, None)
        if sink.total is not None and sink.done < sink.total:
            raise _TryAgainError(sink.told())
    except OSError as error:  # all that can happen on a network, in requests' words
        raise _TryAgainError(_reason(error) or sink.told() or clean(error, 120)) from None
    finally:
        sink.end()


class _Partial:
    """The partial file of a download; it looks at the head of each answer before it takes its body.

    Attributes:
        file: opened for writing.
        done: bytes in it.
        total: bytes it will have, if known.
    """

    def __init__(self, path: Path, remote: Remote, progress: Callable[[int, int | None], None]) -> None:
        self._path, self._remote, self._progress = path, remote, progress
        self._answer: Any = None
        self._most = 0
        try:
            self.file = path.open("ab")
        except OSError as error:
            raise self._unwritable(error) from None
        self.done = path.stat().st_size
        self.total = remote.size

    def __enter__(self) -> _Partial:
        self._progress(self.done, self.total)
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        if not self.done:
            self._path.unlink(missing_ok=True)

    def begin(self, answer: Any, *_: object, **__: object) -> None:
        """Judge the head of an answer; called before its body is read, once more for each redirection."""
        if answer.is_redirect:
            return
        self._answer = answer
        self.total = self._remote.size
        if answer.status_code not in (200, 206):
            self._judge_status(answer)
        self._judge_body(answer.headers)
        said = self._announced(answer)
        if said is not None and self.total is not None and said != self.total:
            raise _RefusedError(f"announces {said} bytes, not {self.total}")
        if answer.status_code == 200:
            self._restart()  # only now: a server's excuse must not cost what has come
        self.total = said if self.total is None else self.total
        if self.total is not None:
            self._most = self.total
            _check_space(self._path, self.total - self.done)
        else:
            room = self.done + shutil.disk_usage(self._path.parent).free - _SPARE
            self._most = room if self._remote.limit is None else min(room, self._remote.limit)

    def _judge_status(self, answer: Any) -> None:
        """Say why an answer without the file's bytes came."""
        if answer.status_code == 416 and self.done:
            found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if found is not None and found[2] == str(self.done) and self.total in (None, self.done):
                raise _NothingLeft
            self._restart()
            raise _TryAgainError("it does not go on with what lies here")
        if answer.status_code in _BUSY:
            wait = answer.headers.get("Retry-After", "")
            raise _TryAgainError(_status(answer), float(wait) if wait.isdecimal() and len(wait) < 6 else 0.0)
        raise _RefusedError(f"answers {_status(answer)}")

    def _judge_body(self, headers: Any) -> None:
        if headers.get("Content-Type", "").lower().startswith("text/html"):
            raise _RefusedError("sends a web page in its place")
        if headers.get("Content-Encoding", "identity").lower() != "identity":
            raise _RefusedError("sends it packed, unasked")
        if not _NUMBER.fullmatch(headers.get("Content-Length", "0")):
            raise _RefusedError("does not know its length")

    def _announced(self, answer: Any) -> int | None:
        """Length of the whole file as the server has it."""
        if answer.status_code == 200:
            length = answer.headers.get("Content-Length")
            return None if length is None else int(length)
        found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if found is None or found[1] is None or int(found[1]) != self.done:
            raise _RefusedError("sends another piece of it than was asked for")
        return None if found[2] == "*" else int(found[2])

    def _restart(self) -> None:
        self.file.truncate(0)
        self.done = 0

    def write(self, piece: bytes) -> None:
        """Take a piece of the body."""
        if self.done + len(piece) > self._most:
            why = "does not fit on the disk" if self.total is None and self._remote.limit is None else "is too long"
            self._restart()
            raise _RefusedError(f"sends more than {self._most} bytes, which {why}")
        try:
            self.file.write(piece)
        except OSError as error:
            raise self._unwritable(error) from None
        self.done += len(piece)
        self._progress(self.done, self.total)

    def flush(self) -> None:
        """Hand over to the system what was taken, so that it outlives this process."""
        try:
            self.file.flush()
        except OSError as error:
            raise self._unwritable(error) from None

    def end(self) -> None:
        """Let the connection go."""
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def told(self) -> str:
        """How far an answer came that ended early; nothing if there was none."""
        total = "an unknown number of" if self.total is None else self.total
        return "" if self._answer is None else f"the connection ended after {self.done} of {total} bytes"

    def _unwritable(self, error: OSError) -> CaloforgeError:
        return CaloforgeError(
            f"'{self._path}' cannot be written ({error.strerror}); check place and space and run again, it goes on "
            "where it ended."
        )


def _check_space(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise CaloforgeError(
            f"'{path.parent}' has {free / MB:.0f} MB free, {needed / MB:.0f} MB are still to come; make room or give "
            "another folder with -o."
        )


def _status(answer: Any) -> str:
    return clean(f"HTTP {answer.status_code} {answer.reason or ''}", 60)


def _reason(error: BaseException) -> str:
    """The system's own words in an error that was wrapped again and again, or nothing."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting and len(seen) < 20:
        error = waiting.pop()
        seen.append(error)
        nested = (error.__cause__, error.__context__, getattr(error, "reason", None), *error.args)
        waiting += [each for each in nested if isinstance(each, BaseException) and each not in seen]
    for each in reversed(seen):
        if isinstance(each, OSError) and each.strerror and isinstance(each.strerror, str):
            return clean(each.strerror, 80)
    return ""
