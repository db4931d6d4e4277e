"""Long work in chunks on several worker processes, resumable after any death.

Finished chunks are files in ``OUT.parts/`` beside the output, each renamed into place whole; resuming is looking which
are missing. Workers are plain child processes that are told of chunks in JSON lines over pipes; on a cluster they are
children of Dask's workers (`children`), and the chunks come back over the network.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .cluster import Address, connect
from .errors import CaloforgeError
from .output import UnfinishedFile, locked
from .progress import Progress

_REPORT_EVERY = 0.3  # seconds


def check_request(n: int, what: str, seed: int, workers: int, dask: Address | None = None) -> None:
    """Raise `CaloforgeError` for a request of ``n`` of ``what`` that cannot be met."""
    if n < 1:
        raise CaloforgeError(f"{n} {what} were asked for; ask for at least 1.")
    check_seed(seed)
    if not 1 <= workers <= 1024:
        raise CaloforgeError(f"{workers} workers were asked for; give 1 to 1024.")
    if dask is not None and workers != 1:
        raise CaloforgeError(
            f"--workers {workers} and --dask {dask} were given; --dask tells the workers, leave one out."
        )


def check_seed(seed: int) -> None:
    """Raise `CaloforgeError` for a seed that is none."""
    if not 0 <= seed < 2**63:
        raise CaloforgeError(f"seed {seed} is out of range; give a whole number from 0 to 2^63 - 1.")


@dataclass(frozen=True)
class Chunks:
    """Work on numbered items, cut into chunks that are files.

    Attributes:
        output: what is made of the chunks in the end; they lie beside it.
        total: number of items.
        size: items in a chunk: what a killed worker loses at most.
        request: what must be equal for finished chunks to be used again.
        names: words for keys of the request, for messages.
    """

    output: Path
    total: int
    size: int
    request: Mapping[str, Any]
    names: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """Where the chunks lie."""
        return self.output.with_name(self.output.name + ".parts")

    def path(self, start: int) -> Path:
        """The file of the chunk that begins with item ``start``."""
        return self.folder / f"chunk-{start:09d}.h5"

    @property
    def starts(self) -> range:
        """First items of all chunks."""
        return range(0, self.total, self.size)

    @property
    def paths(self) -> list[Path]:
        """Files of all chunks, in order."""
        return [self.path(start) for start in self.starts]

    @contextlib.contextmanager
    def open(self, *, resume: bool, overwrite: bool) -> Iterator[None]:
        """Take hold of the folder of chunks, alone.

        With ``resume`` finished chunks stay. Without any it begins: a batch job may always ask for it.

        Raises:
            CaloforgeError: if there is unfinished work and neither is set, or of another request.
        """
        note = self.folder / "request.json"
        if self.folder.exists() and not resume and not overwrite:
            raise CaloforgeError(
                f"'{self.folder}' holds an unfinished production; go on with --resume or start anew with --overwrite."
            )
        self.folder.mkdir(exist_ok=True)
        with locked(
            self.folder / "lock",
            f"another production is writing '{self.folder}'; wait for it, or give another output.",
        ):
            going_on = resume and note.exists()
            if going_on:
                self._check_same(json.loads(note.read_text()))
            else:
                for old in [*self.folder.glob("chunk-*"), *self.folder.glob(".chunk-*")]:
                    old.unlink()
                temporary = note.with_suffix(".tmp")
                temporary.write_text(json.dumps(self.request))
                temporary.replace(note)
            try:
                yield
            except CaloforgeError:
                # Refused before any worker had begun, as by a scheduler that is not there: nothing to resume.
                if not going_on and {path.name for path in self.folder.iterdir()} <= {note.name, "lock"}:
                    self.remove()
                raise

    def _check_same(self, old: Mapping[str, Any]) -> None:
        other = [self.names.get(key, key) for key in self.request if old.get(key) != self.request[key]]
        if other:
            raise CaloforgeError(
                f"the unfinished production of '{self.output}' was asked for with another {', '.join(other)}; "
                "repeat the command it was started with and --resume, or start anew with --overwrite."
            )

    def run(self, job: Job, workers: int, progress: Progress) -> None:
        """Do the chunks that are not there yet.

        Raises:
            CaloforgeError: if a worker refused or died; finished chunks are kept.
        """
        missing, done = self._begin(job.engine, progress)
        if missing:
            with _Crew(self, job, min(workers, len(missing))) as crew:
                crew.run(missing, done, progress)

    def run_on(self, where: Address, work: Callable[[Mapping[str, Any]], bytes], job: Job, progress: Progress) -> None:
        """Do the chunks that are not there yet on a cluster; this process alone writes their files.

        Args:
            where: of the scheduler.
            work: done there: given what is told of a chunk, returns the content of its file.
            job: what is told of a chunk, and words.
            progress: told after each chunk.

        Raises:
            CaloforgeError: if a worker refused, workers died of a chunk, or the scheduler; finished chunks are kept.
        """
        missing, done = self._begin(job.engine, progress)
        if not missing:
            return
        with connect(where, threaded=True) as cluster:
            tasks = (({"start": start, **job.chunk(start)},) for start in missing)
            for number, content in cluster.as_done(work, tasks):
                start = missing[number]
                with UnfinishedFile(self.path(start), overwrite=True) as temporary:
                    temporary.write_bytes(content)
                done += min(self.size, self.total - start)
                progress(done, self.total, "")

    def _begin(self, engine: str, progress: Progress) -> tuple[list[int], int]:
        """First items of the chunks that are not there yet, and the number of items that are."""
        missing = [s for s in self.starts if not self.path(s).exists()]
        for leftover in self.folder.glob(".chunk-*"):
            leftover.unlink()
        done = self.total - sum(min(self.size, self.total - s) for s in missing)
        progress(done, self.total, f"starting {engine}")
        return missing, done

    def remove(self) -> None:
        """Remove the chunks; the output is made."""
        shutil.rmtree(self.folder)


@dataclass(frozen=True)
class Job:
    """What workers are started and told.

    Attributes:
        module: run by each worker process; it calls `serve`.
        name: of a worker, for messages.
        engine: what a worker has to start first.
        setup: told to each worker once.
        chunk: what a worker is told of the chunk at an item, beside ``start`` and ``path``.
    """

    module: str
    name: str
    engine: str
    setup: Mapping[str, Any]
    chunk: Callable[[int], Mapping[str, Any]]


class _Crew:
    """Worker processes and the one queue their answers arrive in."""

    def __init__(self, chunks: Chunks, job: Job, size: int) -> None:
        self._chunks = chunks
        self._job = job
        self._answers: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
        self._logs = [chunks.folder / f"worker-{i}.log" for i in range(size)]
        self._listeners: list[threading.Thread] = []
        self._workers = [self._start(i) for i in range(size)]

    def _start(self, number: int) -> subprocess.Popen[str]:
        worker = start_worker(self._job.module, self._logs[number])
        self._listeners.append(threading.Thread(target=self._listen, args=(number, worker), daemon=True))
        self._listeners[-1].start()
        tell(worker, {**self._job.setup, "parent": os.getpid()})
        return worker

    def _listen(self, number: int, worker: subprocess.Popen[str]) -> None:
        assert worker.stdout is not None
        for line in worker.stdout:
            self._answers.put((number, json.loads(line)))
        self._answers.put((number, None))

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._workers:
            worker.kill()
            worker.wait()
        for listener in self._listeners:
            listener.join()  # ends with the worker's output
        for worker in self._workers:
            close_pipes(worker)

    def run(self, starts: list[int], done: int, progress: Progress) -> None:
        """Hand out chunks as workers get free, until all are done."""
        waiting = list(reversed(starts))
        total = self._chunks.total
        partial: dict[int, int] = {}
        unfinished = len(starts)
        while unfinished:
            number, answer = self._answers.get()
            if answer is None or answer["kind"] == "refused":
                self._fail(number, answer)
            elif answer["kind"] == "progress":
                partial[number] = answer["done"]
            else:
                if answer["kind"] == "done":
                    done += answer["n"]
                    unfinished -= 1
                partial[number] = 0
                if waiting:
                    start = waiting.pop()
                    told = {"start": start, "path": str(self._chunks.path(start)), **self._job.chunk(start)}
                    tell(self._workers[number], told)
            progress(done + sum(partial.values()), total, "")

    def _fail(self, number: int, answer: dict[str, Any] | None) -> None:
        if answer is not None:
            raise CaloforgeError(answer["why"])
        how = how_it_ended(self._workers[number], self._logs[number])
        raise CaloforgeError(
            f"{self._job.name} {number} {how}; finished chunks are kept in '{self._chunks.folder}', go on with "
            "--resume."
        )


def start_worker(module: str, log: Path) -> subprocess.Popen[str]:
    """Start a process that calls `serve`; it is told of chunks on its standard input."""
    with log.open("w") as file:
        return subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            encoding="utf-8",
        )


def tell(worker: subprocess.Popen[str], message: Mapping[str, Any]) -> None:
    """Tell a worker its set-up or a chunk."""
    assert worker.stdin is not None
    # A worker that died in between is noticed by the end of its answers.
    with contextlib.suppress(BrokenPipeError):
        worker.stdin.write(json.dumps(message) + "\n")
        worker.stdin.flush()


def close_pipes(worker: subprocess.Popen[str]) -> None:
    """Close the pipes of a worker that has ended."""
    for pipe in (worker.stdin, worker.stdout):
        with contextlib.suppress(BrokenPipeError):
            if pipe is not None:
                pipe.close()


def how_it_ended(worker: subprocess.Popen[str], log: Path) -> str:
    """How a worker ended, with the last it said, as part of a sentence."""
    code = worker.wait()
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    said = log.read_text(errors="replace")
    reason = next((line for line in reversed(said.splitlines()) if line.strip()), "nothing in its log")
    return f"{how} ({reason.strip()[:200]})"


Work = Callable[[dict[str, Any], Callable[[int], None]], int]
"""Does a chunk: given what is told of it and a function to call with the number of items done; returns their number."""


def serve(prepare: Callable[[dict[str, Any]], Work]) -> None:
    """Be a worker on this process's standard streams until there are no more requests, then end the process.

    Answers leave on what was standard output; all that is printed goes to standard error, which the parent keeps as a
    log. The worker ends when its parent does.

    Args:
        prepare: given the set-up, returns what does a chunk.
    """
    # Ctrl-C reaches the whole process group; the parent decides when a worker stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Physics codes print in C++ to descriptor 1: keep the pipe for ourselves and send what they print to the log.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        _serve(prepare, sys.stdin, answers)
    except CaloforgeError as error:
        _answer(answers, kind="refused", why=str(error))
    except BrokenPipeError:
        pass
    sys.stdout.flush()
    # Destructors of large C++ codes may run in any order once Python is gone; all that matters is on disk.
    os._exit(0)


def _answer(answers: IO[str], **message: Any) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def _serve(prepare: Callable[[dict[str, Any]], Work], requests: IO[str], answers: IO[str]) -> None:
    setup = json.loads(requests.readline())
    work = prepare(setup)
    _answer(answers, kind="ready")
    for line in requests:
        chunk = json.loads(line)
        reported = time.monotonic()

        def each(done: int, start: int = chunk["start"]) -> None:
            nonlocal reported
            if os.getppid() != setup["parent"]:
                os._exit(1)  # the parent was killed: nobody will use this chunk
            if time.monotonic() - reported > _REPORT_EVERY:
                reported = time.monotonic()
                _answer(answers, kind="progress", chunk=start, done=done)

        _answer(answers, kind="done", chunk=chunk["start"], n=work(chunk, each))
