"""Building a library of frozen showers: count what events need, simulate it, calibrate, make spots of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..detectors import Detector
from ..errors import CaloforgeError
from ..incident import Floats, Incident
from ..jets.event_file import EventFile
from ..jets.grid import CMS, EtaPhiGrid
from ..output import check_output
from ..progress import Progress, silent
from ..shower_file import ShowerFile
from ..simulation import simulate
from ..sparse import Ints
from .full import FORWARD_ETA, visitors
from .library import ENERGY_EDGES, LibraryWriter, Showers, classes, n_classes
from .species import KINDS
from .spots import Calibration, SpotMaker

SOFT = 2000.0
"""MeV; showers under it are cheap and therefore used less often."""
HARDEST_MEAN = 19.0
"""Times that showers may be used on average when all events are mapped; a little under what a full side allows."""


@dataclass(frozen=True)
class Reuse:
    """How often showers of a class may be used, on average in the class.

    Attributes:
        soft: of particles under `SOFT`.
        central: of others at |eta| under 3.
        anywhere: of others, with those that go to the forward calorimeter, which take the same showers.
    """

    soft: float = 10.0
    central: float = 16.0
    anywhere: float = 48.0

    @classmethod
    def around(cls, central: float) -> Reuse:
        """The same proportions around another number."""
        return cls(max(1.0, central * 10 / 16), central, central * 3)

    def __post_init__(self) -> None:
        if not all(1 <= value <= 1000 for value in (self.soft, self.central, self.anywhere)):
            raise CaloforgeError("showers cannot be used less than once or more than 1000 times; give 1 to 1000.")


@dataclass
class Demand:
    """What the particles of event files need.

    Attributes:
        needed: showers of each class (classes,).
        energies: kinetic energies of the particles (M,), MeV.
        classes: their classes (M,).
        events: number of events.
    """

    needed: Ints
    energies: Floats
    classes: Ints
    events: int

    @classmethod
    def of(
        cls, paths: Sequence[str | Path], n: int | None, reuse: Reuse, grid: EtaPhiGrid, progress: Progress
    ) -> Demand:
        """Count what the first ``n`` events of each file need; a library serves each file on its own."""
        needed = np.zeros(n_classes())
        energies, numbers, events = [np.zeros(0)], [np.zeros(0, np.int64)], 0
        soft = np.tile(ENERGY_EDGES[1:] <= SOFT, len(KINDS))
        for path in paths:
            central, total = np.zeros(n_classes()), np.zeros(n_classes())
            with EventFile(path) as file:
                stop = len(file) if n is None else min(n, len(file))
                events += stop
                for start in range(0, stop, 1000):
                    found = visitors(file.read(start, min(start + 1000, stop)), grid)
                    number = found.shower_class
                    energies.append(found.energy)
                    numbers.append(number)
                    total += np.bincount(number, minlength=n_classes())
                    central += np.bincount(number[np.abs(found.eta) < FORWARD_ETA], minlength=n_classes())
                    progress(start, stop, f"counting particles of {Path(path).name}")
            hard = np.maximum(central / reuse.central, total / reuse.anywhere)
            needed = np.maximum(needed, _whole(np.where(soft, total / reuse.soft, hard), total))
        if not events or not needed.any():
            raise CaloforgeError("the event files hold no particles that reach the towers; give events with some.")
        return cls(needed.astype(np.int64), np.concatenate(energies), np.concatenate(numbers), events)

    def particles(self) -> tuple[Ints, Floats]:
        """Kinds (S,) and energies (S,) of the showers to make: spread evenly over the particles of a class."""
        order = np.lexsort((self.energies, self.classes))
        sorted_energies = self.energies[order]
        begin = np.searchsorted(self.classes[order], np.arange(n_classes() + 1))
        kinds, energies = [], []
        for number in np.flatnonzero(self.needed):
            first, last, n = begin[number], begin[number + 1], self.needed[number]
            rank = first + ((np.arange(n) + 0.5) / n * (last - first)).astype(np.int64)
            kinds.append(np.full(n, number // (len(ENERGY_EDGES) - 1)))
            energies.append(sorted_energies[rank])
        return np.concatenate(kinds), np.concatenate(energies)


def _whole(wanted: Floats, total: Floats) -> Floats:
    """Whole numbers of showers: rare energies share the showers of their neighbours, but no kind goes without."""
    whole = np.round(wanted)
    whole *= max(1.0, total.sum() / max(HARDEST_MEAN * whole.sum(), 1.0))
    whole = np.ceil(whole).reshape(len(KINDS), -1)
    by_kind = total.reshape(whole.shape)
    for kind in np.flatnonzero((by_kind.sum(axis=1) > 0) & (whole.sum(axis=1) == 0)):
        whole[kind, np.argmax(by_kind[kind])] = 1
    return whole.reshape(-1)


def build_library(
    events: Sequence[str | Path],
    output: str | Path,
    *,
    detector: Detector | str | Path = "cms-like",
    n: int | None = None,
    reuse: Reuse | None = None,
    grid: EtaPhiGrid = CMS,
    seed: int = 0,
    workers: int = 1,
    tables: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Path:
    """Make a library of Geant4 showers for the particles of event files.

    Args:
        events: event files; each can be mapped with the library.
        output: library to write.
        detector: whose stack is simulated; its first sensitive material is the electromagnetic calorimeter.
        n: number of events of each file that will be mapped; all if left out.
        reuse: how often showers may be used.
        grid: towers that will be filled.
        seed: the same seed gives the same library, whatever the number of workers.
        workers: processes that simulate side by side.
        tables: physics tables, as for `simulate`.
        resume: go on with a production that was stopped.
        overwrite: replace the output, and throw away an unfinished production of it.
        progress: told after each few showers.

    Returns:
        The path of the library.

    Raises:
        CaloforgeError: if the request cannot be met or a worker died; finished showers are kept for ``resume``.
    """
    output = Path(output)
    check_output(output, overwrite=overwrite)
    detector = detector if isinstance(detector, Detector) else Detector.load(detector)
    maker = SpotMaker(detector)
    reuse = reuse or Reuse()
    demand = Demand.of(events, n, reuse, grid, progress)
    kinds, energies = demand.particles()
    incident, order = _incident(kinds, energies, maker.pitch, seed)
    raw = output.with_name(output.name + ".showers.h5")
    if not (resume and raw.exists()):
        simulate(
            detector, len(incident), raw, incident=incident, seed=seed, workers=workers, tables=tables,
            resume=resume and raw.with_name(raw.name + ".parts").exists(), overwrite=overwrite, progress=progress,
        )  # fmt: skip
    with ShowerFile(raw) as file:
        calibration = Calibration.measure(file.read(0, Calibration.showers), maker)
        parts = [maker.spots(part, calibration) for part in _after(file, Calibration.showers)]
        made = _provenance(file, demand, reuse, maker)
    showers = _sorted(kinds, energies, order, parts)
    with LibraryWriter(output, calibration.factors, made, overwrite=overwrite) as writer:
        writer.append(showers)
    raw.unlink()
    return output


def _incident(kinds: Ints, energies: Floats, pitch: float, seed: int) -> tuple[Incident, Ints]:
    """Particles to simulate: those of the calibration, then the library's in an order that spreads the work evenly."""
    rng = np.random.default_rng([seed, 0x11B])
    order = rng.permutation(len(kinds))
    place = rng.uniform(-pitch / 2, pitch / 2, (len(kinds), 2))
    wanted = Incident.of(energies[order], np.array(KINDS)[kinds[order]], position=place)
    return Incident.concatenate([Calibration.incident(pitch, rng), wanted]), order


def _after(file: ShowerFile, start: int, size: int = 2048) -> Any:
    for first in range(start, len(file), size):
        yield file.read(first, first + size)


def _sorted(kinds: Ints, energies: Floats, order: Ints, parts: Sequence[Showers]) -> Showers:
    """The showers of the parts, which were made in ``order``, sorted by class and energy."""
    counts = np.concatenate([np.diff(part.offset) for part in parts])
    place, deposit, hadronic = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("place", "deposit", "hadronic")
    )
    begin = np.cumsum(counts) - counts
    number = classes(kinds[order], energies[order])
    rank = np.lexsort((energies[order], number))
    lengths = counts[rank]
    offset = np.concatenate([[0], np.cumsum(lengths)])
    take = np.arange(offset[-1]) + np.repeat(begin[rank] - offset[:-1], lengths)
    return Showers(kinds[order][rank], energies[order][rank], offset, place[take], deposit[take], hadronic[take])


def _provenance(file: ShowerFile, demand: Demand, reuse: Reuse, maker: SpotMaker) -> dict[str, Any]:
    made = file.provenance
    return {
        "producer": "shower-library",
        "detector": file.detector.name,
        "geant4": made["label"],
        "physics": made["physics"],
        "tables": made["tables"],
        "cpu_seconds": made["seconds_per_shower"] * len(file),
        "made_for_events": demand.events,
        "reuse": {"soft": reuse.soft, "central": reuse.central, "anywhere": reuse.anywhere},
        "spots": {"pitch": maker.pitch, "smallest_share": maker.smallest},
        "seed": made["seed"],
        "versions": made["versions"],
        "created": made["created"],
    }
