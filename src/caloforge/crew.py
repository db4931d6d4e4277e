"""Who does work: this process, or the workers of a Dask scheduler; the same calls, the same results.

A piece of work is a function of its module and plain data; its result depends on these alone. Pieces are handed out in
order, a few for each worker at a time, and their results are taken in order, so that nothing depends on who did what.
Dask gives the pieces of a worker that died to others. It pickles what it sends: the scheduler and the workers are
trusted machines, as are those who can reach them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import itertools
import os
import platform
import queue
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from .errors import CaloforgeError, CaloforgeWarning
from .extras import distributed

_LOOK_EVERY = 1.0  # seconds between looks at how many workers there are
_PATIENCE = 10.0  # seconds without any worker before that is warned of
_ALONE = threading.Lock()  # held by work that a process may do only once at a time: thread numbers belong to processes


class Crew(Protocol):
    """Who does work: this process, or a cluster."""

    def each(self, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """``function(*task)`` of every task, in order."""

    def share(self, value: Any) -> Any:
        """What to put into tasks for a large value that several of them need."""


class Here:
    """This process does all work itself, one task after the other."""

    def each(self, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """``function(*task)`` of every task, in order."""
        return itertools.starmap(function, tasks)

    def share(self, value: Any) -> Any:
        """The value."""
        return value


HERE = Here()


class Cluster:
    """Workers of a Dask scheduler; made by `cluster.connect`.

    Attributes:
        name: of the scheduler, for messages.
    """

    def __init__(self, client: Any, name: str) -> None:
        self.name = name
        self._client = client
        self._expected = environment()
        self._threads = _threads_here()
        self._run = f"caloforge-{os.urandom(4).hex()}"
        self._count = itertools.count()
        self._looked, self._room = -1e9, 0
        self._alive = time.monotonic()

    def each(self, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """``function(*task)`` of every task, in order, computed with as many threads as this process uses.

        Raises:
            CaloforgeError: if a task raised, workers died of it again and again, or the scheduler is lost.
        """
        for _, result in self._results(function, tasks, ordered=True, alone=True):
            yield result

    def as_done(self, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        """Number and result of every task, whatever is done first; for work that counts on no thread numbers.

        Raises:
            CaloforgeError: see `each`.
        """
        return self._results(function, tasks, ordered=False, alone=False)

    def share(self, value: Any) -> Any:
        """A large value that several tasks need, sent once; it outlives the worker that holds it."""
        # A task that returns its argument and not Dask's own scattering: it can be done anew when a worker dies.
        return self._submit(_same, (value,), alone=False)

    def _submit(self, function: Callable[..., Any], task: tuple[Any, ...], *, alone: bool) -> Any:
        name = getattr(function, "func", function).__name__.strip("_")
        key = f"{self._run}-{name}-{next(self._count)}"
        threads = self._threads if alone else None
        return self._client.submit(_work, self._expected, threads, function, *task, key=key, pure=False)

    def _results(
        self, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]], *, ordered: bool, alone: bool
    ) -> Iterator[tuple[int, Any]]:
        waiting = enumerate(tasks)
        running: dict[int, Any] = {}  # futures by number, in order
        done: queue.SimpleQueue[int] = queue.SimpleQueue()
        try:
            while True:
                for number, task in itertools.islice(waiting, max(0, self._room_now() - len(running))):
                    running[number] = self._submit(function, task, alone=alone)
                    running[number].add_done_callback(lambda _, number=number: done.put(number))
                if not running:
                    return
                number = self._wait(running, done, ordered)
                result = self._result(running[number])
                del running[number]
                yield number, result
        finally:
            with contextlib.suppress(OSError, RuntimeError):  # the scheduler may be gone
                self._client.cancel(list(running.values()), force=True)

    def _wait(self, running: Mapping[int, Any], done: queue.SimpleQueue[int], ordered: bool) -> int:
        """The number of a task that is done: the first of those running, if ordered."""
        first: int = next(iter(running))
        while not (ordered and running[first].done()):
            with contextlib.suppress(queue.Empty):
                number = done.get(timeout=_LOOK_EVERY)
                if not ordered:
                    return number
            self._room_now()
        return first

    def _room_now(self) -> int:
        """How many tasks may be at work or waiting at the workers: they must not run dry, nor fill memory."""
        now = time.monotonic()
        if now - self._looked < _LOOK_EVERY:
            return self._room
        self._looked = now
        try:
            threads = sum(self._client.nthreads().values())
        except (OSError, RuntimeError, TimeoutError):
            raise self._lost() from None
        if threads:
            self._alive = now
        elif now - self._alive > _PATIENCE:
            self._alive = float("inf")  # once is enough
            warnings.warn(
                f"the scheduler at {self.name} has no workers; work goes on when some have come, e.g. by "
                f"`dask worker {self.name} --nthreads 1`.",
                CaloforgeWarning,
                stacklevel=2,
            )
        self._room = 2 * int(threads) + 2
        return self._room

    def _result(self, future: Any) -> Any:
        killed = distributed().scheduler.KilledWorker
        try:
            return future.result()
        except CaloforgeError:
            raise
        except killed as error:
            raise CaloforgeError(
                f"{error.allowed_failures + 1} workers of {self.name} died one after the other of the same work, the "
                f"last at {getattr(error.last_worker, 'address', 'an unknown place')}; look at their logs, most "
                "probably they lack memory."
            ) from None
        except (distributed().CancelledError, OSError, TimeoutError):
            raise self._lost() from None
        except Exception as error:
            raise CaloforgeError(
                f"work failed on a worker of {self.name} ({type(error).__name__}: {str(error)[:200]}); are caloforge "
                "and its dependencies installed there as they are here?"
            ) from error

    def _lost(self) -> CaloforgeError:
        return CaloforgeError(
            f"the scheduler at {self.name} was lost or gave the work up; look at its log and run the command again, "
            "with --resume where there is one."
        )


def _same(value: Any) -> Any:
    return value


# -- on the worker ---------------------------------------------------------------------------------------------------


def _work(
    expected: Mapping[str, str], threads: Mapping[str, int] | None, function: Callable[..., Any], *task: Any
) -> Any:
    """What a worker does: check that it is the same program, then the task."""
    differences = different(expected, environment())
    if differences:
        where = distributed().get_worker().address
        raise CaloforgeError(f"the worker at {where} has {differences}; install the same on all machines.")
    if threads is None:
        return function(*task)
    with _ALONE, _with_threads(threads):
        return function(*task)


@functools.cache
def environment() -> dict[str, str]:
    """What must be equal wherever the same work is to give the same bytes, by name."""
    found = {"Python": platform.python_version()}
    for package in ("dask", "distributed", "numpy", "scipy", "scikit-learn", "torch", "matplotlib", "mplhep"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return found | {"code of caloforge": digest.hexdigest()[:12]}


def different(expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    """What differs in two environments, in words; empty if nothing does."""
    return ", ".join(
        f"{name} {found.get(name, 'missing')} (here {value})"
        for name, value in expected.items()
        if found.get(name) != value
    )


def _threads_here() -> dict[str, int]:
    """Threads that matrix products use here: their last bits may depend on it."""
    from threadpoolctl import threadpool_info  # type: ignore[import-untyped]

    numbers = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    found = {"blas": max(numbers, default=1)}
    if "torch" in sys.modules:
        found["torch"] = sys.modules["torch"].get_num_threads()
    return found


@contextlib.contextmanager
def _with_threads(numbers: Mapping[str, int]) -> Iterator[None]:
    """Compute with so many threads as the process that asked for the work."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(numbers["blas"], user_api="blas"):
        if "torch" not in numbers:
            yield
            return
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(numbers["torch"])
        try:
            yield
        finally:
            torch.set_num_threads(before)
