"""From an event file to an image file, in pieces: images of any side, the same whatever the pieces."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from .. import __version__
from ..chunks import check_seed
from ..cluster import Address, crew_of
from ..errors import CaloforgeError, CaloforgeWarning
from ..jets.event_file import EventFile, Events
from ..jets.grid import EtaPhiGrid
from ..jets.image_file import ImageWriter
from ..jets.images import Images, Side
from ..output import check_output
from ..progress import Progress, silent
from ..sparse import Ints, SparseRows
from .full import FullCalorimeter, Uses

CHUNK = 250
"""Events whose random numbers come from one stream. It is part of what seeds images."""


class Calorimeter(Protocol):
    """What makes images of events."""

    @property
    def grid(self) -> EtaPhiGrid:
        """The towers."""

    def images(self, events: Events, rng: np.random.Generator) -> SparseRows:
        """Images of events."""


class _Imaged(NamedTuple):
    """Images of a chunk of events.

    Attributes:
        number: of the events.
        rows: their towers.
        uses: of a library's showers, if there is one.
        seconds: of a core.
    """

    number: Ints
    rows: SparseRows
    uses: Uses | None
    seconds: float


def write_images(
    events: str | Path,
    output: str | Path,
    calorimeter: Calorimeter,
    side: Side,
    *,
    seed: int = 0,
    n: int | None = None,
    skip: int = 0,
    notes: Mapping[str, Any] | None = None,
    dask: Address | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Make images of the events of a file.

    Args:
        events: event file.
        output: image file to write.
        calorimeter: what makes the images.
        side: which simulation that is.
        seed: the same seed gives the same images.
        n: number of the last event and all before it; all if left out.
        skip: leave out so many of these, from the first; the others' images are the same.
        notes: what else the provenance should tell; ``seconds_per_event`` in it is added to what is measured here.
        dask: the scheduler of a cluster that makes them instead, see `caloforge.cluster`; the images are the same.
        overwrite: whether an existing output may be replaced.
        progress: told after each few events.

    Returns:
        The provenance written.

    Raises:
        CaloforgeError: if there are no events, none is left or a file cannot be read or written.
    """
    check_output(Path(output), overwrite=overwrite)
    check_seed(seed)
    with EventFile(events) as file:
        total = len(file) if n is None else min(n, len(file))
        if total < 1:
            raise CaloforgeError(f"'{events}' holds no events; give an event file with at least one.")
        if not 0 <= skip < total:
            raise CaloforgeError(
                f"{skip} of {total} events cannot be left out; leave out none, or fewer than there are."
            )
        described: dict[str, Any] = {"side": side, "process": file.process, "events_digest": file.content_hash()}
        provenance = _provenance(file, side, seed, notes or {})
        empty, seconds = 0, float(provenance["seconds_per_event"]) * (total - skip)
        starts = range(skip // CHUNK * CHUNK, total, CHUNK)
        writing = ImageWriter(output, calorimeter.grid, provenance, overwrite=overwrite, **described)
        with writing as writer, crew_of(dask) as crew:
            shared = crew.share(calorimeter)
            # Chunks are whole, so that fewer events are the same events.
            tasks = ((shared, file.read(start, start + CHUNK), seed, start) for start in starts)
            for start, made in zip(starts, crew.each(_imaged, tasks), strict=True):
                seconds += made.seconds
                if made.uses is not None and isinstance(calorimeter, FullCalorimeter):
                    calorimeter.uses += made.uses
                images = Images(made.number, made.rows, calorimeter.grid, **described)
                images = images[max(skip - start, 0) : total - start]
                empty += int((np.diff(images.rows.offset) == 0).sum())
                writer.append(images)
                progress(min(start + CHUNK, total) - skip, total - skip, "")
            writer.provenance["seconds_per_event"] = seconds / (total - skip)
            if isinstance(calorimeter, FullCalorimeter):
                writer.provenance |= calorimeter.report()
            written = dict(writer.provenance)
    if empty:
        warnings.warn(f"{empty} of {total - skip} events leave nothing in the towers.", CaloforgeWarning, stacklevel=2)
    return written


def _imaged(calorimeter: Calorimeter, events: Events, seed: int, start: int) -> _Imaged:
    """Images of the chunk of a request that begins with event ``start``."""
    began = time.process_time()
    own = replace(calorimeter) if isinstance(calorimeter, FullCalorimeter) else calorimeter  # it counts its uses
    rows = own.images(events, np.random.default_rng([seed, 0x1A, start]))
    uses = own.uses if isinstance(own, FullCalorimeter) else None
    return _Imaged(events.number, rows, uses, time.process_time() - began)


def _provenance(file: EventFile, side: Side, seed: int, notes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "producer": "events-to-images",
        "label": side,
        "seed": seed,
        "reuse_factor": None,
        "seconds_per_event": 0.0,
        **notes,
        "events": {"file": file.path.name, "provenance": file.provenance},
        "versions": {"caloforge": __version__, "python": sys.version.split()[0], "numpy": np.__version__},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
