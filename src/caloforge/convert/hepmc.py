"""HepMC files (version 2 and 3, also packed) into event files."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CaloforgeError
from ..extras import pyhepmc
from ..hdf5 import clean
from ..jets.event_file import Events, EventWriter
from ..progress import Progress
from ..sparse import offsets

GEV = 1000.0  # MeV
_MARKS = (b"HepMC::Version", b"HepMC::IO_GenEvent", b"HepMC::Asciiv3")
_FINAL = 1  # status of particles that fly out
_BATCH = 500


def is_hepmc(path: Path) -> bool:
    """Whether a file begins like HepMC text."""
    with path.open("rb") as file:
        start = file.read(4096)
    if start.startswith(b"\x1f\x8b"):
        try:
            with gzip.open(path) as packed:
                start = packed.read(4096)
        except (OSError, EOFError):
            return False
    return any(mark in start for mark in _MARKS)


def convert_hepmc(
    source: Path, target: Path, process: str, provenance: dict[str, Any], *, overwrite: bool, progress: Progress
) -> int:
    """Write the stable particles of HepMC events to an event file.

    Returns:
        The number of events.

    Raises:
        CaloforgeError: if pyhepmc is not installed, the file is damaged or holds no events.
    """
    done = 0
    with EventWriter(target, process, provenance, overwrite=overwrite) as writer:
        for events in _batches(source):
            writer.append(events)
            done += len(events)
            progress(done, done, "")
        if not done:
            raise CaloforgeError(f"'{source}' holds no events; give a HepMC file with at least one.")
    return done


def _batches(source: Path) -> Iterator[Events]:
    weights, rows = [], []
    for event in _events(source):
        weights.append(float(event.weights[0]) if len(event.weights) else 1.0)
        rows.append(_final(event))
        if len(rows) == _BATCH:
            yield _joined(weights, rows)
            weights, rows = [], []
    if rows:
        yield _joined(weights, rows)


def _events(source: Path) -> Iterator[Any]:
    hepmc = pyhepmc()
    try:
        with hepmc.open(str(source)) as file:
            yield from file
    except (OSError, ValueError, RuntimeError, EOFError) as error:
        raise CaloforgeError(
            f"'{source}' is no whole HepMC file ({clean(error, 120)}); make or fetch it anew."
        ) from None


def _final(event: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    particles = event.numpy.particles
    unit = GEV if "GEV" in str(event.momentum_unit).upper() else 1.0
    out = particles.status == _FINAL
    columns = (particles.px, particles.py, particles.pz, particles.e)
    return np.stack([particles.pid[out].astype(np.float64), *(c[out] * unit for c in columns)], axis=1)


def _joined(weights: list[float], rows: list[np.ndarray[Any, np.dtype[np.float64]]]) -> Events:
    table = np.concatenate(rows)
    return Events(
        np.array(weights), np.zeros(len(weights)), offsets(np.array([len(r) for r in rows], dtype=np.int64)),
        table[:, 0].astype(np.int32), table[:, 1:4].astype(np.float32), table[:, 4].astype(np.float32),
    )  # fmt: skip
