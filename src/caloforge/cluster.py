"""Clusters: the workers of a Dask scheduler that is there already, or workers of this machine."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .crew import HERE, Cluster, Crew
from .errors import CaloforgeError, CaloforgeWarning
from .extras import dask, distributed

ANSWER_SECONDS = 10.0
"""How long a scheduler may take to answer."""

START_SECONDS = 120.0
"""How long workers of this machine may take to start."""

_FORMS = "an address such as tcp://host:8786, a scheduler file, or local:N for N workers of this machine"

Address = str | Path
"""Of a scheduler: ``"tcp://host:8786"``, the path of a scheduler file, or ``"local:N"``."""


@contextlib.contextmanager
def crew_of(where: Address | None) -> Iterator[Crew]:
    """A cluster, or this process if none is given."""
    if where is None:
        yield HERE
        return
    with connect(where) as cluster:
        yield cluster


@contextlib.contextmanager
def connect(where: Address, *, threaded: bool = False) -> Iterator[Cluster]:
    """Be the client of a scheduler while the block runs.

    Args:
        where: see `Address`; for ``"local:N"`` a scheduler and N workers of one thread each are started, which listen
            on 127.0.0.1 alone and end with the block.
        threaded: whether the work can use several threads of a worker; else those that have some are warned of.

    Raises:
        CaloforgeError: if dask is not installed, there is no such scheduler, it does not answer within seconds, or
            workers have other versions than this process.
    """
    distributed()
    text = str(where)
    if text == "local" or text.startswith("local:"):
        with _quiet(), _local(text) as address, _client(text, address=address) as client:
            try:
                client.wait_for_workers(_number(text), timeout=START_SECONDS)
            except TimeoutError:
                raise CaloforgeError(
                    f"the workers of {text} did not start within {START_SECONDS:g} s; ask for fewer, or free the "
                    "machine."
                ) from None
            yield Cluster(client, text)
        return
    with _quiet(), _client(text, address=_address(text)) as client:
        _check_versions(client)
        if not threaded:
            _check_threads(client)
        yield Cluster(client, text)


def _address(text: str) -> str:
    """An address, or the one in a scheduler file."""
    if "://" in text:
        return text
    if not Path(text).is_file():
        raise CaloforgeError(f"'{text}' is neither an address nor a file; give --dask {_FORMS}.")
    try:
        address = json.loads(Path(text).read_text())["address"]
        if not isinstance(address, str) or "://" not in address:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise CaloforgeError(
            f"'{text}' is not a scheduler file; give the one that `dask scheduler --scheduler-file FILE` wrote."
        ) from None
    return address


@contextlib.contextmanager
def _client(name: str, address: str) -> Iterator[Any]:
    try:
        client = distributed().Client(address, timeout=ANSWER_SECONDS, set_as_default=False, name="caloforge")
    except (OSError, TimeoutError, ValueError) as error:
        raise CaloforgeError(
            f"no Dask scheduler answers at {name} within {ANSWER_SECONDS:g} s ({type(error).__name__}); start one with "
            f"`dask scheduler`, or give --dask {_FORMS}."
        ) from None
    try:
        yield client
    finally:
        client.close()


def _check_versions(client: Any) -> None:
    """Raise unless all workers that are there now have what is here; those that come later are told by their work."""
    packages = ("dask", "distributed", "numpy", "torch", "caloforge")
    found = client.get_versions(packages=list(packages))
    here = found["client"]["packages"]
    for where, worker in found["workers"].items():
        there = worker["packages"]
        wrong = [
            f"{p} {there.get(p) or 'missing'} (here {here[p]})"
            for p in ("python", *packages)
            if there.get(p) != here[p]
        ]
        if wrong:
            raise CaloforgeError(f"the worker at {where} has {', '.join(wrong)}; install the same on all machines.")


def _check_threads(client: Any) -> None:
    """Warn of workers whose threads would wait for each other."""
    idle = {where: n for where, n in client.nthreads().items() if n > 1}
    if idle:
        where, n = next(iter(idle.items()))
        warnings.warn(
            f"{len(idle)} workers have several threads, e.g. {where} has {n}, and use one at a time for this; start "
            f"them with `dask worker SCHEDULER --nworkers {n} --nthreads 1`.",
            CaloforgeWarning,
            stacklevel=4,
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask's log of workers that come and go, and of large pieces of work, out of the progress bar.

    What matters is raised.
    """
    # Several of them have levels of their own.
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "distributed"]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with dask().config.set({"distributed.admin.large-graph-warning-threshold": "1 TB"}):
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


# -- workers of this machine -----------------------------------------------------------------------------------------


def _number(text: str) -> int:
    number = text.partition(":")[2]
    if not number.isdecimal() or not 1 <= int(number) <= 1024:
        raise CaloforgeError(f"'{text}' is no number of workers; give local:N with N from 1 to 1024.")
    return int(number)


@contextlib.contextmanager
def _local(text: str) -> Iterator[str]:
    """Start a scheduler in this process and workers in others; yields its address."""
    n = _number(text)
    with tempfile.TemporaryDirectory(prefix="caloforge-dask-", ignore_cleanup_errors=True) as folder:
        # No dashboard; the scheduler serves its own numbers nevertheless: on any free port, not 8787, and here alone.
        served = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
        scheduler = distributed().LocalCluster(
            n_workers=0, processes=False, protocol="tcp://", host="127.0.0.1", silence_logs=False,
            scheduler_kwargs=served,
        )  # fmt: skip
        workers: list[subprocess.Popen[bytes]] = []
        try:
            workers += [_start_worker(scheduler.scheduler_address, i, Path(folder)) for i in range(n)]
            yield scheduler.scheduler_address
        finally:
            for worker in workers:
                # The whole group: a nanny, the worker it watches over, and what that has started.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()
            scheduler.close()


def _start_worker(address: str, number: int, folder: Path) -> subprocess.Popen[bytes]:
    """One worker with its nanny, a plain child process: a user's script needs no `__main__` guard."""
    flags = ["--nthreads", "1", "--host", "127.0.0.1", "--memory-limit", "0"]
    flags += ["--no-dashboard", "--dashboard-address", "127.0.0.1:0"]  # its own numbers, see `_local`
    names = ["--name", str(number), "--local-directory", str(folder)]
    with (folder / f"worker-{number}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", "worker", address, *flags, *names],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us: we decide when workers end
        )
