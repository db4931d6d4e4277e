"""Building a library of frozen showers: count what events need, simulate it, make calibrated spots of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import showers as shower_data
from ..chunks import check_request
from ..cluster import Address
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
from .calibration import IMPACT, Calibration
from .full import FORWARD_ETA, visitors
from .library import ENERGY_EDGES, LibraryWriter, ShowerLibrary, Showers, n_classes
from .species import KINDS
from .spots import SpotMaker

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

    soft: float = 16.0
    central: float = 18.0
    anywhere: float = 54.0

    @classmethod
    def around(cls, central: float) -> Reuse:
        """The same proportions around another number."""
        return cls(max(1.0, central * 8 / 9), central, central * 3)

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


@dataclass(frozen=True)
class _Known:
    """What is taken over of a library: showers, calibration, provenance."""

    showers: Showers
    calibration: Calibration
    provenance: dict[str, Any]


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
    grow: str | Path | None = None,
    seed: int = 0,
    workers: int = 1,
    dask: Address | None = None,
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
        grow: a library whose showers are taken over, so that only what is missing is simulated.
        seed: the same seed gives the same library, whatever the number of workers.
        workers: processes that simulate side by side.
        dask: the scheduler of a cluster that simulates instead, see `caloforge.cluster`; the showers are the same.
        tables: physics tables, as for `simulate`.
        resume: go on with a production that was stopped, if one was.
        overwrite: replace the output, and throw away an unfinished production of it.
        progress: told after each few showers.

    Returns:
        The path of the library.

    Raises:
        CaloforgeError: if the request cannot be met or a worker died; finished showers are kept for ``resume``.
    """
    output = Path(output)
    check_output(output, overwrite=overwrite)
    check_request(1, "showers", seed, workers, dask)  # before events are counted
    detector = detector if isinstance(detector, Detector) else Detector.load(detector)
    maker = SpotMaker(detector)
    reuse = reuse or Reuse()
    demand = Demand.of(events, n, reuse, grid, progress)
    known = _known(grow, detector, demand, seed)
    kinds, energies = demand.particles()
    incident, order = _incident(kinds, energies, seed)
    raw, calibrating = (output.with_name(f"{output.name}.{name}.h5") for name in ("showers", "calibration"))

    def run(particles: Incident, into: Path, seed: int) -> None:
        if resume and into.exists():
            _require_of(into, detector, particles)
            return
        simulate(
            detector, len(particles), into, incident=particles, seed=seed, workers=workers, dask=dask,
            tables=tables, resume=resume, overwrite=overwrite, progress=progress,
        )  # fmt: skip

    calibration = known.calibration if known else Calibration.of(detector, maker, calibrating, run)
    run(incident, raw, seed)
    with ShowerFile(raw) as file:
        parts = [maker.spots(part, **calibration.factors) for part in _parts(file)]
        made = _provenance(file, demand, reuse, maker)
    parts = [replace(Showers.join(parts), kind=kinds[order], energy=energies[order])]
    if known is not None:
        made["seeds"] = [*known.provenance["seeds"], seed]
        made |= {"grown_from": known.provenance, "cpu_seconds": made["cpu_seconds"] + known.provenance["cpu_seconds"]}
        parts.append(known.showers)
    with LibraryWriter(output, calibration.factors, made, overwrite=overwrite) as writer:
        writer.append(Showers.join(parts).sorted())
    raw.unlink()
    calibrating.unlink(missing_ok=True)
    return output


def _known(grow: str | Path | None, detector: Detector, demand: Demand, seed: int) -> _Known | None:
    """The library to grow, after taking what it has off what is needed."""
    if grow is None:
        return None
    with ShowerLibrary(grow) as library:
        made = library.provenance
        if made.get("detector") != detector.name or seed in made["seeds"]:
            raise CaloforgeError(
                f"the library '{grow}' is of detector '{made.get('detector')}' and of seed {made['seeds']}; it can "
                "only grow with the same detector and another seed."
            )
        demand.needed = np.maximum(demand.needed - library.counts, 0)
        if not demand.needed.any():
            raise CaloforgeError(f"the library '{grow}' has all that these events need; use it as it is.")
        return _Known(library.showers, Calibration(**library.calibration), made)


def _incident(kinds: Ints, energies: Floats, seed: int) -> tuple[Incident, Ints]:
    """Particles to simulate, in an order that spreads the work evenly, and that order."""
    rng = np.random.default_rng([seed, 0x11B])
    order = rng.permutation(len(kinds))
    place = rng.uniform(-IMPACT / 2, IMPACT / 2, (len(kinds), 2))
    return Incident.of(energies[order], np.array(KINDS)[kinds[order]], position=place), order


def _require_of(raw: Path, detector: Detector, incident: Incident) -> None:
    """Refuse a finished shower file that another request has left."""
    with ShowerFile(raw) as file:
        if file.detector != detector or not np.array_equal(file.incident().energy, incident.energy):
            raise CaloforgeError(
                f"'{raw}' holds the showers of another request; repeat the command it was started with and --resume, "
                "or start anew with --overwrite."
            )


def _parts(file: ShowerFile, size: int = 2048) -> Iterator[shower_data.Showers]:
    for first in range(0, len(file), size):
        yield file.read(first, first + size)


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
        "spots": {"pitch": maker.pitch, "smallest": maker.smallest},
        "seeds": [made["seed"]],
        "versions": made["versions"],
        "created": made["created"],
    }
