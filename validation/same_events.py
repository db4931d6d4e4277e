"""A second full simulation of events that were simulated before: how far two right answers lie apart.

    python validation/same_events.py EVENTS.h5 FULL.h5 --library LIBRARY.h5 -o AGAIN.h5 [--seed 9]

EVENTS.h5 holds (at least) the events of the image file FULL.h5 under the same numbers, as `caloforge simulate-events`
gives them again for the same seed; LIBRARY.h5 is a library of showers that FULL.h5 was not made with. Prints how the
sums of transverse energy of both agree, which says whether the events are the same. `validation/calpagan.py table
--again NAME=AGAIN.h5` puts the chi2 distances between the two beside those of models: no model can be asked for less.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from caloforge.errors import CaloforgeError
from caloforge.evaluation.images.variables import transverse
from caloforge.events.full import FullCalorimeter
from caloforge.events.imaging import CHUNK
from caloforge.events.library import ShowerLibrary
from caloforge.jets import ImageFile, Images, ImageWriter
from caloforge.jets.event_file import EventFile


def again(events: EventFile, full: Images, calorimeter: FullCalorimeter, seed: int) -> Images:
    """Images of the same events as ``full``, in their order."""
    first, last = int(full.event[0]), int(full.event[-1]) + 1
    if not np.array_equal(full.event, np.arange(first, last)) or last > len(events):
        raise CaloforgeError(f"'{events.path}' has not the events {first} to {last - 1}, in this order.")
    parts = []
    for start in range(first, last, CHUNK):
        sample = events.read(start, min(start + CHUNK, last))
        rows = calorimeter.images(sample, np.random.default_rng([seed, 0x1A, start]))
        parts.append(Images(sample.number, rows, full.grid, **full.described))
    return Images.concatenate(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("events", type=Path)
    parser.add_argument("full", type=Path)
    parser.add_argument("--library", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=9)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    with ImageFile(options.full) as file:
        full = file.read()
    with EventFile(options.events) as events, ShowerLibrary(options.library) as library:
        calorimeter = FullCalorimeter(library, grid=full.grid)
        found = again(events, full, calorimeter, options.seed)
        notes = {"producer": "same_events", "label": "full", "seed": options.seed, **calorimeter.report()}
    with ImageWriter(options.output, full.grid, notes, **full.described) as writer:
        writer.append(found)
    sums = []
    for images in (full, found):
        et, _, _ = transverse(images)
        sums.append(np.bincount(images.rows.row, et, len(images)))
    print(f"{len(full)} events; correlation of sum ET with '{options.full.name}': {np.corrcoef(*sums)[0, 1]:.4f}")


if __name__ == "__main__":
    try:
        main()
    except CaloforgeError as error:
        raise SystemExit(f"error: {error}") from None
