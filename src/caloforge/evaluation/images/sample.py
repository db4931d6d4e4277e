"""Image files of one comparison: read, matched event by event, and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...crew import HERE, Crew
from ...errors import CaloforgeError
from ...hdf5 import open_hdf5, text_attribute
from ...jets import ImageFile, Images, paired
from ...jets.image_file import FORMAT
from ..resampling import Draws
from .variables import VARIABLES, Floats, features, measure

MIN_IMAGES = 50
PIECE = 500  # images measured at once


def holds_images(path: str | Path) -> bool:
    """Whether a file is an image file, as far as its first look tells."""
    try:
        with open_hdf5(path) as file:
            return text_attribute(file, "format") == FORMAT
    except CaloforgeError:
        return False


@dataclass
class ImageSample:
    """Images of one file, in the order of the comparison's events.

    Attributes:
        path: of the file.
        label: what made them, for legends.
        images: their towers.
        values: `VARIABLES` by name (N,).
        features: see `variables.features` (N, F).
        seconds: core-seconds an image, if recorded.
    """

    path: Path
    label: str
    images: Images
    values: dict[str, Floats]
    features: Floats
    seconds: float | None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def tower_energies(self) -> Floats:
        """Of all hit towers (K,) in MeV."""
        return self.images.rows.energy.astype(np.float64)


def read_samples(paths: Sequence[str | Path], limit: int | None) -> list[Images]:
    """The images of events that all files show, in the order of the first.

    Raises:
        CaloforgeError: if a file is not valid, of another grid or other events, or too few events are common.
    """
    found: list[Images] = []
    for path in paths:
        with ImageFile(path) as file:
            found.append(file.read())
    rows = np.arange(len(found[0]))
    for images in found[1:]:
        rows = np.intersect1d(rows, paired(found[0], images)[0])
    if limit is not None and limit < len(rows):
        rows = rows[np.linspace(0, len(rows) - 1, limit).astype(np.int64)]
    if len(rows) < MIN_IMAGES:
        raise CaloforgeError(
            f"the files have {len(rows)} events in common; an evaluation needs {MIN_IMAGES}, better 1000 or more."
        )
    first = found[0][rows]
    return [first, *(images[paired(first, images)[1]] for images in found[1:])]


def sample_of(path: str | Path, images: Images, crew: Crew = HERE) -> ImageSample:
    """Have images measured, piece by piece."""
    pieces = ((images[start : start + PIECE],) for start in range(0, len(images), PIECE))
    found = list(crew.each(measure_piece, pieces))
    values = {name: np.concatenate([each[name] for each, _ in found]) for name in VARIABLES}
    seconds = images.provenance.get("seconds_per_image")
    label = str(images.provenance.get("label") or images.side)
    known = float(seconds) if isinstance(seconds, float) else None
    return ImageSample(Path(path), label, images, values, np.concatenate([table for _, table in found]), known)


def measure_piece(images: Images) -> tuple[dict[str, Floats], Floats]:
    """Variables and features of some images of a sample."""
    values = measure(images)
    return values, features(images, values)


def same_events(draws: Draws) -> tuple[Draws, Draws]:
    """Bootstrap draws of two samples of the same events: an event is drawn in both or in none."""
    return draws, draws
