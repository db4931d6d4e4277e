"""From an event file to an image file, in pieces: images of any side, the same whatever the pieces."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .. import __version__
from ..chunks import check_seed
from ..errors import CaloforgeError, CaloforgeWarning
from ..jets.event_file import EventFile, Events
from ..jets.grid import EtaPhiGrid
from ..jets.image_file import ImageWriter
from ..jets.images import Images, Side
from ..output import check_output
from ..progress import Progress, silent
from ..sparse import SparseRows

CHUNK = 250
"""Events whose random numbers come from one stream. It is part of what seeds images."""


class Calorimeter(Protocol):
    """What makes images of events."""

    @property
    def grid(self) -> EtaPhiGrid:
        """The towers."""

    def images(self, events: Events, rng: np.random.Generator) -> SparseRows:
        """Images of events."""


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
        with ImageWriter(output, calorimeter.grid, provenance, overwrite=overwrite, **described) as writer:
            for start in range(skip // CHUNK * CHUNK, total, CHUNK):
                part = file.read(start, start + CHUNK)  # whole, so that fewer events are the same events
                began = time.process_time()
                rows = calorimeter.images(part, np.random.default_rng([seed, 0x1A, start]))
                seconds += time.process_time() - began
                images = Images(part.number, rows, calorimeter.grid, **described)
                images = images[max(skip - start, 0) : total - start]
                empty += int((np.diff(images.rows.offset) == 0).sum())
                writer.append(images)
                progress(min(start + CHUNK, total) - skip, total - skip, "")
            writer.provenance["seconds_per_event"] = seconds / (total - skip)
            late = getattr(calorimeter, "report", None)
            writer.provenance |= late() if late is not None else {}
            made = dict(writer.provenance)
    if empty:
        warnings.warn(f"{empty} of {total - skip} events leave nothing in the towers.", CaloforgeWarning, stacklevel=2)
    return made


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
