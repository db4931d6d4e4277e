"""Chunks of long work done in child processes of a Dask worker.

Physics codes allow one instance of themselves a process, and a Dask worker may have threads: so every thread has a
child of its own (the same module that local workers are, see `chunks.serve`). Starting one takes seconds, so a child
that has done a chunk waits for the next of the same work, and is ended when none comes.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .chunks import close_pipes, how_it_ended, start_worker, tell
from .errors import CaloforgeError
from .extras import distributed

ATTEMPTS = 3
"""How often a chunk is begun anew when its child dies, before that is told."""

IDLE_SECONDS = 30.0
"""How long a child waits for another chunk."""


def chunk_content(module: str, setup: Mapping[str, Any], chunk: Mapping[str, Any]) -> bytes:
    """Do a chunk in a child process and return the content of its file.

    Args:
        module: that the child runs; it calls `chunks.serve`.
        setup: told to the child once.
        chunk: what it is told of the chunk, but for ``path``.

    Raises:
        CaloforgeError: if the child refused, or several died of the chunk.
    """
    kind = json.dumps([module, dict(setup)], sort_keys=True)
    ended = ""
    for _ in range(ATTEMPTS):
        child = _IDLE.take(kind) or _Child(kind, module, setup)
        try:
            answer = child.do(chunk)
        except BaseException:
            child.end()
            raise
        if answer is not None:
            _IDLE.put(child)
            return answer
        ended = child.end()
    raise CaloforgeError(f"{ATTEMPTS} processes died one after the other of the same chunk; the last {ended}.")


class _Child:
    """A process that does chunks, and a folder for its log and its files."""

    def __init__(self, kind: str, module: str, setup: Mapping[str, Any]) -> None:
        self.kind = kind
        self.since = 0.0
        self._folder = tempfile.TemporaryDirectory(prefix="chunk-", dir=_scratch(), ignore_cleanup_errors=True)
        self._log = Path(self._folder.name) / "log"
        self._process: subprocess.Popen[str] = start_worker(module, self._log)
        tell(self._process, {**setup, "parent": os.getpid()})

    def do(self, chunk: Mapping[str, Any]) -> bytes | None:
        """The content of the chunk's file; None if the child died.

        Raises:
            CaloforgeError: if it refused.
        """
        path = Path(self._folder.name) / "chunk.h5"
        tell(self._process, {**chunk, "path": str(path)})
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            if answer["kind"] == "refused":
                raise CaloforgeError(answer["why"])
            if answer["kind"] == "done":
                content = path.read_bytes()
                path.unlink()
                return content
        return None

    def end(self) -> str:
        """End it; returns how it ended, if it had already."""
        if self._process.poll() is None:
            self._process.kill()
        told = how_it_ended(self._process, self._log)
        close_pipes(self._process)
        self._folder.cleanup()
        return told


def _scratch() -> str | None:
    """The Dask worker's own folder, which is removed even if the worker is killed; None for the system's."""
    with suppress(ValueError, CaloforgeError):  # no worker, or no Dask
        return str(distributed().get_worker().local_directory)
    return None


class _Idle:
    """Children of this process that have nothing to do."""

    def __init__(self) -> None:
        self._children: list[_Child] = []
        self._lock = threading.Lock()

    def take(self, kind: str) -> _Child | None:
        """One that was started for this kind of work."""
        with self._lock:
            for child in self._children:
                if child.kind == kind:
                    self._children.remove(child)
                    return child
        return None

    def put(self, child: _Child) -> None:
        """Keep one for a while."""
        child.since = time.monotonic()
        with self._lock:
            self._children.append(child)
        timer = threading.Timer(IDLE_SECONDS, self._end_old)
        timer.daemon = True
        timer.start()

    def _end_old(self) -> None:
        with self._lock:
            old = [c for c in self._children if time.monotonic() - c.since >= IDLE_SECONDS - 0.1]
            self._children = [c for c in self._children if c not in old]
        for child in old:
            child.end()


_IDLE = _Idle()  # belongs to the process, as do its children
