"""The only door to Pythia 8: proton collisions and the stable particles that fly out. A worker of `collisions`.

Each chunk of events is made by a Pythia started anew with the chunk's seed, since Pythia learns while it runs: events
depend on their seed and number only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..chunks import Work, serve
from ..errors import CaloforgeError
from ..extras import pythia
from ..jets.event_file import Events, EventWriter
from ..sparse import offsets

GEV = 1000.0  # MeV
_PATIENCE = 100  # events in a row that Pythia may give up
_CM = 13_000.0  # GeV


class Collisions:
    """Pythia 8 set up for a process.

    Args:
        settings: lines of Pythia settings.
        seed: of its random numbers, 1 to 900 000 000.

    Raises:
        CaloforgeError: if Pythia is not installed or refuses a setting.
    """

    def __init__(self, settings: Sequence[str], seed: int) -> None:
        self._pythia = made = pythia().Pythia("", False)
        own = (f"Beams:eCM = {_CM}", "Print:quiet = on", "Random:setSeed = on", f"Random:seed = {seed}")
        for line in (*own, *settings):
            if not made.readString(line):
                raise CaloforgeError(f"Pythia does not know the setting '{line}'; correct it.")
        if not made.init():
            raise CaloforgeError("Pythia cannot start with these settings; its log says why.")

    @property
    def version(self) -> str:
        """Pythia's version, e.g. ``"8.317"``."""
        return f"{self._pythia.parm('Pythia:versionNumber'):.3f}"

    def draw(self, n: int, each: Callable[[int], None] = lambda done: None) -> Events:
        """The next ``n`` events."""
        weights, scales, counts, rows = [], [], [], []
        for done in range(n):
            particles = self._next()
            info = self._pythia.infoPython()
            weights.append(info.weight())
            scales.append(info.pTHat() * GEV)
            counts.append(len(particles))
            rows += particles
            each(done + 1)
        table = np.array(rows, dtype=np.float64).reshape(-1, 5)
        return Events(
            np.array(weights, dtype=np.float64),
            np.array(scales, dtype=np.float64),
            offsets(np.array(counts, dtype=np.int64)),
            table[:, 0].astype(np.int32),
            (table[:, 1:4] * GEV).astype(np.float32),
            (table[:, 4] * GEV).astype(np.float32),
        )

    def _next(self) -> list[tuple[float, ...]]:
        for _ in range(_PATIENCE):
            if self._pythia.next():
                break
        else:
            raise CaloforgeError(f"Pythia gave up {_PATIENCE} events in a row; its log says why.")
        return [(p.id(), p.px(), p.py(), p.pz(), p.e()) for p in self._pythia.event if p.isFinal()]


def chunk_seed(seed: int, start: int) -> int:
    """Pythia's seed for the chunk of a request that begins with event ``start``."""
    return 1 + int(np.random.SeedSequence([seed, 0x50, start]).generate_state(1, np.uint64)[0] % 900_000_000)


def prepare(setup: dict[str, Any]) -> Work:
    """What makes a chunk of events into its file."""
    pythia()

    def work(chunk: dict[str, Any], each: Callable[[int], None]) -> int:
        began = time.process_time()
        collisions = Collisions(setup["settings"], chunk_seed(setup["seed"], chunk["start"]))
        events = collisions.draw(chunk["n"], each)
        made = {"cpu_seconds": time.process_time() - began, "pythia": collisions.version}
        with EventWriter(chunk["path"], setup["process"], made) as writer:
            writer.append(events)
        return len(events)

    return work


if __name__ == "__main__":
    serve(prepare)
