"""Chunks of showers simulated on the workers of a cluster, each with the physics tables of its own machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..children import chunk_content
from ..detectors import Detector
from ..errors import CaloforgeError
from .fast import FastRequest
from .hadron_tables import with_hadron_tables
from .physics import HADRONIC
from .physics_tables import PhysicsTables, find_tables


@dataclass(frozen=True)
class Request:
    """What all chunks of a production have in common, wherever they are simulated.

    Attributes:
        detector: its TOML.
        tables: choice of physics tables, made anew on each machine.
        digest: of the tables that the choice must give.
        physics: which list.
        seed: of the request.
        fast: what is to be replaced; a checkpoint that is given by its path must lie there on every machine.
    """

    detector: str
    tables: str
    digest: str
    physics: str
    seed: int
    fast: FastRequest | None = None


def worker_module(fast: FastRequest | None) -> str:
    """The module of the worker process."""
    # The worker that loads a model stands above this package; it is named, not imported.
    return "caloforge.simulation.worker" if fast is None else "caloforge.fast_worker"


def tables_for(detector: Detector, choice: str, physics: str) -> PhysicsTables:
    """The physics tables of this machine, see `find_tables`; with those of hadrons if they are simulated."""
    found = find_tables(detector.elements, choice)
    return with_hadron_tables(found, choice) if physics == HADRONIC else found


def set_up(detector: str, tables: PhysicsTables, physics: str, seed: int, fast: FastRequest | None) -> dict[str, Any]:
    """What a worker process is told once."""
    return {
        "detector": detector,
        "tables": str(tables.directory),
        "tables_kind": tables.kind,
        "neutrons": str(tables.neutrons or ""),
        "levels": str(tables.levels or ""),
        "physics": physics,
        "seed": seed,
        "entrance": 0.0 if fast is None else fast.entrance,
        "fast": None if fast is None else asdict(fast),
    }


def simulate_chunk(request: Request, chunk: Mapping[str, Any]) -> bytes:
    """Simulate a chunk here, in a process of its own; returns the content of its shower file.

    Raises:
        CaloforgeError: if this machine's physics tables are others, or the simulation fails.
    """
    return chunk_content(worker_module(request.fast), _set_up_here(request), chunk)


@lru_cache(maxsize=4)
def _set_up_here(request: Request) -> dict[str, Any]:
    tables = tables_for(Detector.from_toml(request.detector), request.tables, request.physics)
    if tables.digest != request.digest:
        raise CaloforgeError(
            f"a worker's physics tables ('{request.tables}': {tables.description}) differ from those of the machine "
            "that asked for showers; use --tables builtin and the same version of xraylib, or install the same tables."
        )
    return set_up(request.detector, tables, request.physics, request.seed, request.fast)


def choice_elsewhere(tables: PhysicsTables) -> str:
    """The choice that gives these tables on another machine, where "auto" might find others."""
    return str(Path(tables.directory)) if tables.kind == "directory" else tables.kind
