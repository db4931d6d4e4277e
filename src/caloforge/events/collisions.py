"""Productions of events: proton collisions by Pythia 8, in chunks, on several workers, resumable after any death."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..children import chunk_content
from ..chunks import Chunks, Job, check_request
from ..cluster import Address
from ..errors import lookup
from ..extras import require_pythia
from ..jets.event_file import EventFile, EventWriter
from ..output import check_output
from ..progress import Progress, silent

CHUNK = 500
"""Events in a chunk: each begins with a new Pythia (0.7 s), so fewer would be slow. It is part of what seeds events."""


@dataclass(frozen=True)
class Process:
    """A hard process.

    Attributes:
        about: in words.
        settings: lines of Pythia settings.
    """

    about: str
    settings: tuple[str, ...]


PROCESSES: dict[str, Process] = {
    "dijet": Process(
        "two jets: all QCD 2 -> 2 processes, pT-hat above 50 GeV",
        ("HardQCD:all = on", "PhaseSpace:pTHatMin = 50"),
    ),
    "wjet": Process(
        "a W boson and a parton, pT-hat above 30 GeV; the W decays to e, mu or tau and a neutrino",
        (
            "WeakBosonAndParton:qqbar2Wg = on",
            "WeakBosonAndParton:qg2Wq = on",
            "PhaseSpace:pTHatMin = 30",
            "24:onMode = off",
            "24:onIfAny = 11 13 15",
        ),
    ),
}
"""Processes that can be asked for by name: proton-proton at 13 TeV with Pythia's own showers and underlying event."""


def simulate_events(
    process: str,
    n: int,
    output: str | Path,
    *,
    seed: int = 0,
    workers: int = 1,
    dask: Address | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Path:
    """Simulate proton collisions with Pythia 8 and write an event file.

    What lives shorter than charged pions, kaons, K0L, muons and nucleons has decayed (Pythia's defaults); where is not
    kept.

    Args:
        process: a name of `PROCESSES`.
        n: number of events.
        output: event file to write.
        seed: the same seed gives the same events, whatever the number of workers.
        workers: processes that simulate side by side.
        dask: the scheduler of a cluster that simulates instead, see `caloforge.cluster`; the events are the same.
        resume: go on with a production that was stopped, if one was.
        overwrite: replace the output, and throw away an unfinished production of it.
        progress: told after each few events.

    Returns:
        The path of the event file.

    Raises:
        CaloforgeError: if the request cannot be met or a worker died; finished chunks are kept for ``resume``.
    """
    settings = lookup(PROCESSES, process, "a process").settings
    check_request(n, "events", seed, workers, dask)
    require_pythia()
    output = Path(output)
    check_output(output, overwrite=overwrite)
    setup = {"process": process, "settings": settings, "seed": seed}
    chunks = Chunks(
        output, n, CHUNK, {"events": n, "seed": seed, "process": process, "settings": list(settings)},
        {"events": "number of events"},
    )  # fmt: skip
    job = Job("caloforge.events.pythia", "event worker", "Pythia", setup, lambda start: {"n": min(CHUNK, n - start)})
    with chunks.open(resume=resume, overwrite=overwrite):
        if dask is None:
            chunks.run(job, workers, progress)
        else:
            chunks.run_on(dask, partial(chunk_content, job.module, setup), job, progress)
        _join(chunks, process, seed)
    return output


def _join(chunks: Chunks, process: str, seed: int) -> None:
    """Write the output from the chunks and remove them."""
    made: list[dict[str, Any]] = []
    with EventWriter(chunks.output, process, overwrite=True) as writer:
        for path in chunks.paths:
            with EventFile(path) as chunk:
                writer.append(chunk.read())
                made.append(chunk.provenance)
        writer.provenance = {
            "producer": "simulate-events",
            "label": f"Pythia {made[0]['pythia']}",
            "process": PROCESSES[process].about,
            "settings": list(PROCESSES[process].settings),
            "seed": seed,
            "seconds_per_event": sum(m["cpu_seconds"] for m in made) / chunks.total,
            "versions": {"caloforge": __version__, "python": sys.version.split()[0], "numpy": np.__version__},
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    chunks.remove()
