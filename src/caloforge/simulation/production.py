"""Productions: many showers, in chunks, on several workers, resumable after any death.

Chunks lie in ``OUT.parts/`` beside the output until all are there; then they are joined in order and removed.
"""

from __future__ import annotations

import hashlib
import sys
import warnings
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..beam import Beam
from ..chunks import Chunks, Job, check_request
from ..cluster import Address
from ..detectors import Detector
from ..errors import CaloforgeError, CaloforgeWarning
from ..extras import require_geant4
from ..incident import INCIDENT_FIELDS, Incident
from ..output import check_output
from ..progress import Progress, silent
from ..shower_file import ShowerFile, ShowerWriter
from .fast import FastRequest, joined
from .physics import choose_physics
from .physics_tables import PhysicsTables
from .remote import Request, choice_elsewhere, set_up, simulate_chunk, tables_for, worker_module

CHUNK = 25
"""Showers in a chunk: what a killed worker loses at most. The result does not depend on it."""

FAST_CHUNK = 256
"""Likewise where showers are replaced: those of a chunk are generated in one call, which pays the more there are."""


def simulate(
    detector: Detector | str | Path,
    n: int,
    output: str | Path,
    *,
    beam: Beam | None = None,
    incident: Incident | None = None,
    seed: int = 0,
    workers: int = 1,
    dask: Address | None = None,
    tables: str = "auto",
    fast: FastRequest | None = None,
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
        incident: the n particles themselves, instead of a beam.
        seed: the same seed gives the same showers, whatever the number of workers.
        workers: processes that simulate side by side.
        dask: the scheduler of a cluster that simulates instead, see `caloforge.cluster`; the showers are the same.
        tables: physics tables: "auto", "builtin", "official" or a directory, see `find_tables`.
        fast: replace showers of particles that enter the calorimeter by those of a model.
        resume: go on with a production that was stopped, if one was.
        overwrite: replace the output, and throw away an unfinished production of it.
        progress: told after each few showers.

    Returns:
        The path of the shower file.

    Raises:
        CaloforgeError: if the request cannot be met or a worker died; finished chunks are kept for ``resume``.
        KeyboardInterrupt: passed on after the workers are stopped; finished chunks are kept.
    """
    detector = detector if isinstance(detector, Detector) else Detector.load(detector)
    if not detector.slabs:
        raise CaloforgeError(
            f"detector '{detector.name}' describes a read-out only and cannot be simulated; give one with a [[stack]]."
        )
    check_request(n, "showers", seed, workers, dask)
    require_geant4()
    if incident is None:
        beam = beam or Beam.of(detector)
        incident = beam.draw(n, seed)
    output = Path(output)
    check_output(output, overwrite=overwrite)
    physics = choose_physics(detector, incident.pdg)
    found = tables_for(detector, tables, physics)
    production = _Production(detector, beam, incident[:n], seed, found, physics, output, fast)
    with production.chunks.open(resume=resume, overwrite=overwrite):
        production.run(workers, dask, progress)
        production.join()
    return output


@dataclass
class _Production:
    detector: Detector
    beam: Beam | None
    incident: Incident
    seed: int
    tables: PhysicsTables
    physics: str
    output: Path
    fast: FastRequest | None = None

    @property
    def chunk(self) -> int:
        """Showers in a chunk."""
        return CHUNK if self.fast is None else FAST_CHUNK

    @cached_property
    def chunks(self) -> Chunks:
        digest = hashlib.sha256()
        for name in INCIDENT_FIELDS:
            digest.update(getattr(self.incident, name).tobytes())
        request = {
            "showers": len(self.incident),
            "seed": self.seed,
            "chunk": self.chunk,
            "incident": digest.hexdigest(),
            "detector": hashlib.sha256(self.detector.to_toml().encode()).hexdigest(),
            "tables": self.tables.digest,
        }
        if self.fast is not None:
            request["fast"] = asdict(self.fast)
        names = {"incident": "incident particles", "tables": "physics tables", "showers": "number of showers"}
        names["fast"] = "model, threshold or entrance"
        return Chunks(self.output, len(self.incident), self.chunk, request, names)

    def run(self, workers: int, dask: Address | None, progress: Progress) -> None:
        """Simulate the chunks that are not there yet."""
        detector = self.detector.to_toml()
        setup = set_up(detector, self.tables, self.physics, self.seed, self.fast)
        job = Job(worker_module(self.fast), "simulation worker", "Geant4", setup, self._columns)
        if dask is None:
            self.chunks.run(job, workers, progress)
            return
        choice = choice_elsewhere(self.tables)
        request = Request(detector, choice, self.tables.digest, self.physics, self.seed, self.fast)
        self.chunks.run_on(dask, partial(simulate_chunk, request), job, progress)

    def _columns(self, start: int) -> dict[str, Any]:
        part = self.incident[start : start + self.chunk]
        return {name: getattr(part, name).tolist() for name in INCIDENT_FIELDS}

    def join(self) -> None:
        """Write the output from the chunks and remove them."""
        made: list[dict[str, Any]] = []
        # The writer refuses an existing file unless told otherwise; that was checked before the work began.
        with ShowerWriter(self.output, self.detector, overwrite=True) as writer:
            for path in self.chunks.paths:
                with ShowerFile(path) as chunk:
                    writer.append(chunk.read())
                    made.append(chunk.provenance)
            writer.provenance = self._provenance(made)
        if self.fast is not None:
            self._doubt(writer.provenance["fast"]["particles"])
        self.chunks.remove()

    def _doubt(self, particles: dict[str, int]) -> None:
        """Warn if the model has done nothing."""
        if not particles.get("replaced"):
            why = ", ".join(f"{name} ({n})" for name, n in particles.items()) or "none entered"
            warnings.warn(
                f"'{self.fast and self.fast.model}' replaced no shower: {why}; see what it was trained on with "
                "`caloforge info`.",
                CaloforgeWarning,
                stacklevel=4,
            )

    def _provenance(self, made: list[dict[str, Any]]) -> dict[str, Any]:
        replaced = {} if self.fast is None else {"fast": asdict(self.fast) | joined([m["fast"] for m in made])}
        label = f"Geant4 {made[0]['geant4']}" + ("" if self.fast is None else f" with {self.fast.model}")
        return {
            "producer": "simulate",
            "label": label,
            "device": "cpu",
            "seed": self.seed,
            "seconds_per_shower": sum(m["cpu_seconds"] for m in made) / len(self.incident),
            "peak_memory_bytes": max(m["peak_memory"] for m in made),
            "physics": f"{made[0]['physics']}, range cut {self.detector.range_cut:g} mm",
            "tables": self.tables.description,
            "tables_digest": self.tables.digest,
            "beam": asdict(self.beam) if self.beam else None,
            "versions": {"caloforge": __version__, "python": sys.version.split()[0], "numpy": np.__version__},
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        } | replaced
