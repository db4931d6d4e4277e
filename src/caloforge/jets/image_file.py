"""The file that holds images of events: tower energies in eta and phi, sparse as in the shower file.

`events-to-images`, `convert` and `generate` write it, training and evaluation read it. See docs/events.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CaloforgeError, lookup
from ..hdf5 import clean
from ..incident import MAX_ENERGY
from ..row_file import Layout, RowFile, RowWriter
from ..sparse import Ints
from .grid import CMS, EtaPhiGrid
from .images import SIDES, Images, Side

FORMAT = "caloforge-images"
_LAYOUT = Layout(
    format=FORMAT,
    version=1,
    what="image file",
    remedy="make images with `caloforge events-to-images` or `caloforge convert IN OUT`.",
    rows={"event": ("i8", ())},
    offset="towers/offset",
    items={"towers/index": "u4", "towers/energy": "f4"},
    texts=("grid", "side", "process", "events_digest", "provenance"),
)


class ImageFile(RowFile):
    """An image file opened for reading, checked when opened; images are read piece by piece.

    Attributes:
        path: where it lies.
        grid: the towers.
        side: which simulation made the images: fast, full, generated or external.
        process: which events, e.g. "dijet".
        events_digest: of the event file; "" if unknown.
        event: numbers of all events (N,).
        provenance: what made it.
        version: of its format.
    """

    layout = _LAYOUT

    def _open(self) -> None:
        super()._open()
        self.event: Ints = self._row_values(0, self._n)["event"]

    def _describe(self, texts: Mapping[str, str]) -> None:
        self.grid = EtaPhiGrid.from_json(texts["grid"], str(self.path))
        side = clean(texts["side"])
        self.side: Side = lookup({name: name for name in SIDES}, side, "a side")
        self.process = clean(texts["process"])
        self.events_digest = clean(texts["events_digest"])

    def read(self, start: int = 0, stop: int | None = None) -> Images:
        """Images ``start`` to ``stop``, checked.

        Raises:
            CaloforgeError: if a value in them cannot be: NaN, negative, a tower the grid has not.
        """
        start, stop = self._range(start, stop)
        n_towers = self.grid.n_towers
        rows = self._sparse(start, stop, n_towers, "image", "tower", f"its grid's {n_towers} towers")
        return Images(
            self.event[start:stop], rows, self.grid, side=self.side, process=self.process,
            events_digest=self.events_digest, provenance=self.provenance,
        )  # fmt: skip

    def chunks(self, size: int = 1024) -> Iterator[Images]:
        """All images in pieces of at most ``size``."""
        for start in range(0, self._n, size):
            yield self.read(start, start + size)


class ImageWriter(RowWriter):
    """Writes an image file piece by piece; the file appears under its name only when it is closed whole."""

    layout = _LAYOUT

    def __init__(
        self,
        path: str | Path,
        grid: EtaPhiGrid = CMS,
        provenance: Mapping[str, Any] | None = None,
        *,
        side: Side = "external",
        process: str = "",
        events_digest: str = "",
        overwrite: bool = False,
    ) -> None:
        lookup(dict.fromkeys(SIDES), side, "a side")
        self.grid = grid
        texts = {"grid": grid.to_json(), "side": side, "process": process, "events_digest": events_digest}
        narrow = {"towers/index": "u2"} if grid.n_towers <= 65536 else {}
        super().__init__(path, texts, provenance, narrow=narrow, overwrite=overwrite)

    def append(self, images: Images) -> None:
        """Add images at the end.

        Raises:
            CaloforgeError: if they have another grid or an energy that cannot be.
        """
        if images.grid != self.grid:
            raise CaloforgeError(
                f"images of {images.grid.describe()} do not fit a file of {self.grid.describe()}; "
                "write them to a file of their own."
            )
        rows = images.rows.without_zeros()
        energy = images.rows.energy
        if not ((energy >= 0) & (energy <= MAX_ENERGY)).all():
            raise CaloforgeError(
                f"the images to write hold NaN, or energies that are negative or above {MAX_ENERGY:g} MeV; clean them "
                "before writing an image file."
            )
        if not rows.rising() or (rows.index >= self.grid.n_towers).any():
            raise CaloforgeError(
                f"the tower numbers of the images to write do not rise below {self.grid.n_towers} within an image; "
                "make the images with Images.from_dense."
            )
        values = {"towers/index": rows.index, "towers/energy": rows.energy.astype(np.float32, copy=False)}
        self._append({"event": images.event}, rows.offset, values)
