"""Productions: many showers, in chunks, on several workers, resumable after any death.

Chunks lie in ``OUT.parts/`` beside the output until all are there; then they are joined in order and removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..beam import Beam
from ..detectors import Detector
from ..errors import CaloforgeError
from ..extras import require_geant4
from ..incident import INCIDENT_FIELDS, Incident
from ..output import check_output, locked
from ..progress import Progress, silent
from ..shower_file import ShowerFile, ShowerWriter
from .hadron_tables import with_hadron_tables
from .physics import HADRONIC, choose_physics
from .physics_tables import PhysicsTables, find_tables

CHUNK = 25
"""Showers in a chunk: what a killed worker loses at most. The result does not depend on it."""


def simulate(
    detector: Detector | str | Path,
    n: int,
    output: str | Path,
    *,
    beam: Beam | None = None,
    seed: int = 0,
    workers: int = 1,
    tables: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Path:
    """Simulate showers with Geant4 and write a shower file.

    Args:
        detector: a detector, its name, or the path of its TOML file.
        n: number of showers.
        output: shower file to write.
        beam: incident particles; the detector's default beam if left out.
        seed: the same seed gives the same showers, whatever the number of workers.
        workers: processes that simulate side by side.
        tables: physics tables: "auto", "builtin", "official" or a directory, see `find_tables`.
        resume: go on with a production that was stopped.
        overwrite: replace the output, and throw away an unfinished production of it.
        progress: told after each few showers.

    Returns:
        The path of the shower file.

    Raises:
        CaloforgeError: if the request cannot be met or a worker died; finished chunks are kept for ``resume``.
        KeyboardInterrupt: passed on after the workers are stopped; finished chunks are kept.
    """
    detector = detector if isinstance(detector, Detector) else Detector.load(detector)
    _check_request(detector, n, seed, workers)
    require_geant4()
    beam = beam or Beam.of(detector)
    output = Path(output)
    check_output(output, overwrite=overwrite)
    incident = beam.draw(n, seed)
    physics = choose_physics(detector, incident.pdg)
    found = find_tables(detector.elements, tables)
    if physics == HADRONIC:
        found = with_hadron_tables(found, tables)
    production = _Production(detector, beam, incident, seed, found, physics, output)
    with production.open(resume=resume, overwrite=overwrite):
        production.run(workers, progress)
        production.join()
    return output


def _check_request(detector: Detector, n: int, seed: int, workers: int) -> None:
    if not detector.slabs:
        raise CaloforgeError(
            f"detector '{detector.name}' describes a read-out only and cannot be simulated; give one with a [[stack]]."
        )
    if n < 1:
        raise CaloforgeError(f"{n} showers were asked for; ask for at least 1.")
    if not 0 <= seed < 2**63:
        raise CaloforgeError(f"seed {seed} is out of range; give a whole number from 0 to 2^63 - 1.")
    if not 1 <= workers <= 1024:
        raise CaloforgeError(f"{workers} workers were asked for; give 1 to 1024.")


@dataclass
class _Production:
    detector: Detector
    beam: Beam
    incident: Incident
    seed: int
    tables: PhysicsTables
    physics: str
    output: Path

    @property
    def folder(self) -> Path:
        return self.output.with_name(self.output.name + ".parts")

    def chunk_path(self, start: int) -> Path:
        return self.folder / f"chunk-{start:09d}.h5"

    @property
    def starts(self) -> range:
        return range(0, len(self.incident), CHUNK)

    def request(self) -> dict[str, Any]:
        """What must be equal for finished chunks to be used again."""
        digest = hashlib.sha256()
        for name in INCIDENT_FIELDS:
            digest.update(getattr(self.incident, name).tobytes())
        return {
            "showers": len(self.incident),
            "seed": self.seed,
            "chunk": CHUNK,
            "incident": digest.hexdigest(),
            "detector": hashlib.sha256(self.detector.to_toml().encode()).hexdigest(),
            "tables": self.tables.digest,
        }

    @contextlib.contextmanager
    def open(self, *, resume: bool, overwrite: bool) -> Iterator[None]:
        """Take hold of the folder of chunks, alone."""
        note = self.folder / "request.json"
        if self.folder.exists() and not resume and not overwrite:
            raise CaloforgeError(
                f"'{self.folder}' holds an unfinished production; go on with --resume or start anew with --overwrite."
            )
        if resume and not note.exists():
            raise CaloforgeError(f"there is no unfinished production of '{self.output}'; leave --resume out.")
        self.folder.mkdir(exist_ok=True)
        with locked(
            self.folder / "lock",
            f"another production is writing '{self.folder}'; wait for it, or give another output.",
        ):
            if resume:
                _check_same(json.loads(note.read_text()), self.request(), self.output)
            else:
                for old in [*self.folder.glob("chunk-*"), *self.folder.glob(".chunk-*")]:
                    old.unlink()
                temporary = note.with_suffix(".tmp")
                temporary.write_text(json.dumps(self.request()))
                temporary.replace(note)
            yield

    def run(self, workers: int, progress: Progress) -> None:
        """Simulate the chunks that are not there yet."""
        missing = [s for s in self.starts if not self.chunk_path(s).exists()]
        for leftover in self.folder.glob(".chunk-*"):
            leftover.unlink()
        total = len(self.incident)
        done = total - sum(min(CHUNK, total - s) for s in missing)
        progress(done, total, "starting Geant4")
        if missing:
            with _Crew(self, min(workers, len(missing))) as crew:
                crew.run(missing, done, progress)

    def chunk_request(self, start: int) -> dict[str, Any]:
        part = self.incident[start : start + CHUNK]
        columns = {name: getattr(part, name).tolist() for name in INCIDENT_FIELDS}
        return {"start": start, "path": str(self.chunk_path(start)), **columns}

    def join(self) -> None:
        """Write the output from the chunks and remove them."""
        made: list[dict[str, Any]] = []
        # The writer refuses an existing file unless told otherwise; that was checked before the work began.
        with ShowerWriter(self.output, self.detector, overwrite=True) as writer:
            for start in self.starts:
                with ShowerFile(self.chunk_path(start)) as chunk:
                    writer.append(chunk.read())
                    made.append(chunk.provenance)
            writer.provenance = self._provenance(made)
        shutil.rmtree(self.folder)

    def _provenance(self, made: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "producer": "simulate",
            "label": f"Geant4 {made[0]['geant4']}",
            "device": "cpu",
            "seed": self.seed,
            "seconds_per_shower": sum(m["cpu_seconds"] for m in made) / len(self.incident),
            "peak_memory_bytes": max(m["peak_memory"] for m in made),
            "physics": f"{made[0]['physics']}, range cut {self.detector.range_cut:g} mm",
            "tables": self.tables.description,
            "tables_digest": self.tables.digest,
            "beam": asdict(self.beam),
            "versions": {"caloforge": __version__, "python": sys.version.split()[0], "numpy": np.__version__},
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def _check_same(old: dict[str, Any], new: dict[str, Any], output: Path) -> None:
    names = {"incident": "incident particles", "tables": "physics tables", "showers": "number of showers"}
    other = [names.get(key, key) for key in new if old.get(key) != new[key]]
    if other:
        raise CaloforgeError(
            f"the unfinished production of '{output}' was asked for with another {', '.join(other)}; "
            "repeat the command it was started with and --resume, or start anew with --overwrite."
        )


class _Crew:
    """Worker processes and the one queue their answers arrive in."""

    def __init__(self, production: _Production, size: int) -> None:
        self._production = production
        self._answers: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
        self._logs = [production.folder / f"worker-{i}.log" for i in range(size)]
        self._listeners: list[threading.Thread] = []
        self._workers = [self._start(i) for i in range(size)]

    def _start(self, number: int) -> subprocess.Popen[str]:
        production = self._production
        with self._logs[number].open("w") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "caloforge.simulation.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
            )
        self._listeners.append(threading.Thread(target=self._listen, args=(number, worker), daemon=True))
        self._listeners[-1].start()
        setup = {
            "detector": production.detector.to_toml(),
            "tables": str(production.tables.directory),
            "tables_kind": production.tables.kind,
            "neutrons": str(production.tables.neutrons or ""),
            "levels": str(production.tables.levels or ""),
            "physics": production.physics,
            "seed": production.seed,
            "parent": os.getpid(),
        }
        self._tell(worker, setup)
        return worker

    def _listen(self, number: int, worker: subprocess.Popen[str]) -> None:
        assert worker.stdout is not None
        for line in worker.stdout:
            self._answers.put((number, json.loads(line)))
        self._answers.put((number, None))

    @staticmethod
    def _tell(worker: subprocess.Popen[str], message: dict[str, Any]) -> None:
        assert worker.stdin is not None
        # A worker that died in between is noticed by the end of its answers.
        with contextlib.suppress(BrokenPipeError):
            worker.stdin.write(json.dumps(message) + "\n")
            worker.stdin.flush()

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._workers:
            worker.kill()
            worker.wait()
        for listener in self._listeners:
            listener.join()  # ends with the worker's output
        for worker in self._workers:
            for pipe in (worker.stdin, worker.stdout):
                with contextlib.suppress(BrokenPipeError):
                    if pipe is not None:
                        pipe.close()

    def run(self, chunks: list[int], done: int, progress: Progress) -> None:
        """Hand out chunks as workers get free, until all are done."""
        waiting = list(reversed(chunks))
        total = len(self._production.incident)
        partial: dict[int, int] = {}
        unfinished = len(chunks)
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
                    self._tell(self._workers[number], self._production.chunk_request(waiting.pop()))
            progress(done + sum(partial.values()), total, "")

    def _fail(self, number: int, answer: dict[str, Any] | None) -> None:
        if answer is not None:
            raise CaloforgeError(answer["why"])
        code = self._workers[number].wait()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        log = self._logs[number].read_text(errors="replace")
        reason = next((line for line in reversed(log.splitlines()) if line.strip()), "nothing in its log")
        raise CaloforgeError(
            f"simulation worker {number} {how} ({reason.strip()[:200]}); finished chunks are kept in "
            f"'{self._production.folder}', go on with --resume."
        )
