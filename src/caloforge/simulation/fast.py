"""Fast showers in a running Geant4: particles that enter the calorimeter are taken off the stack and generated.

The wheel's Geant4 has no G4VFastSimulationModel in Python, and a stepping action in Python would be called for every
step of every shower that stays with Geant4. So a thin sensitive plane lies before the calorimeter: Python is called for
particles that cross it and for nothing else. What the model can do is killed there and generated with all others of a
batch of events in one call; the rest goes on in Geant4.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..detectors import Detector
from ..errors import CaloforgeError
from ..incident import Floats, Incident
from ..showers import Showers
from ..sparse import Ints

PLANE = 1e-3
"""Thickness of the entrance plane, mm."""

SLOTS = 4
"""Particles of one event with neighbouring numbers; a generator that runs 64 numbers together runs 16 events so."""

GROUP = 64 // SLOTS
"""Events that are never cut by a batch, so that the batch does not change a single bit."""

TILT = 0.01
"""By how much the tangent of the angle may differ from a fixed one: 2 mm in 20 cm of depth, less than a cell."""

Deposits = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]
OnHits = Callable[[int, Floats, Floats], None]


@dataclass(frozen=True)
class FastRequest:
    """A production with replaced showers.

    Attributes:
        model: a checkpoint's path, or ``zoo:NAME``.
        threshold: kinetic energy in MeV from which particles are replaced.
        entrance: depth in mm at which particles enter the calorimeter: where slabs that are not part of it end.
    """

    model: str
    threshold: float = 1000.0
    entrance: float = 0.0


class Generate(Protocol):
    """What makes showers; `caloforge.Sampler` is one."""

    def __call__(self, incident: Incident, *, seed: int, numbers: Ints) -> Showers:
        """One shower for each particle, whose noise depends on the seed and the particle's number alone."""


@dataclass(frozen=True)
class _Entered:
    """A particle that will be generated: as the model is asked for it, and by how many cells it is moved back."""

    pdg: int
    energy: float
    direction: tuple[float, float, float]
    position: tuple[float, float]
    cells: tuple[int, int]  # along x, y


class FastShowers:
    """Replaces showers of particles that enter a calorimeter, for as many events as a run has.

    A particle is replaced if the model knows its kind, its energy is at or above the threshold and within what the
    model was trained on, and so is its incidence; everything else stays with Geant4. ``counts`` tells both.

    * Angle: within the domain; where the model was trained with one angle only, within `TILT` of it.
    * Position: within the domain, or moved there by whole cells where all layers have the same equal cells. If the
      model is not conditioned on the position, that is exact to half a cell. Hits moved out of the read-out are lost.

    Attributes:
        detector: the calorimeter, in whose voxels the deposits are.
        threshold: kinetic energy in MeV from which particles are replaced.
        batch: events whose showers are generated in one call; rounded up to a multiple of `GROUP`.
        counts: particles that entered: "replaced", or why they were not: "kind", "below threshold", "energy", "angle",
            "position".
        replaced_energy: kinetic energy of the replaced particles, MeV.
        lost_energy: deposits that were moved out of the read-out, MeV.
    """

    def __init__(
        self,
        generate: Generate,
        detector: Detector,
        domain: Mapping[str, Sequence[float]],
        *,
        conditions: Sequence[str] = (),
        threshold: float = 0.0,
        seed: int = 0,
        batch: int = 64,
        on_hits: OnHits | None = None,
    ) -> None:
        """Prepare to replace showers.

        Args:
            generate: makes one shower for each particle of an `Incident`.
            detector: the calorimeter; its x and y are the entrance plane's.
            domain: what the model was trained on, as in a checkpoint: ``pdg`` codes, and the lowest and highest
                ``energy`` (MeV), ``x``, ``y`` (mm), ``tan_x``, ``tan_y``.
            conditions: names of what the model is told of a particle.
            threshold: MeV.
            seed: of the noise.
            batch: events in one call, at least 1; it does not change the showers.
            on_hits: called with an event's number, the voxels' centres (n, 3) in mm and energies (n,) in MeV.

        Raises:
            CaloforgeError: if the threshold or the batch cannot be, or the domain lacks something.
        """
        missing = [name for name in ("pdg", "energy", "x", "y", "tan_x", "tan_y") if name not in domain]
        if missing:
            raise CaloforgeError(f"the model's domain lacks {', '.join(missing)}; give what it was trained on.")
        if not (math.isfinite(threshold) and threshold >= 0):
            raise CaloforgeError(f"a threshold of {threshold:g} MeV cannot be; give 0 or more.")
        if batch < 1:
            raise CaloforgeError(f"a batch of {batch} events cannot be; give at least 1.")
        self.detector, self.threshold = detector, threshold
        self.batch = -(-batch // GROUP) * GROUP
        self.counts: Counter[str] = Counter()
        self.replaced_energy = self.lost_energy = 0.0
        self._generate, self._seed, self._on_hits = generate, seed, on_hits
        self._kinds = {int(code) for code in domain["pdg"]}
        self._range = {name: (float(domain[name][0]), float(domain[name][-1])) for name in domain if name != "pdg"}
        self._conditions = {"energy" if name == "log_energy" else name for name in conditions}
        self._cell = _equal_cells(detector)
        self._entered: list[_Entered] = []
        self._waiting: list[tuple[int, list[_Entered]]] = []
        self._made: dict[int, Deposits] = {}

    # -- what Geant4 tells ----------------------------------------------------------------------------------

    def sensor(self, g4: Any, name: str = "entrance") -> Any:
        """A sensitive detector for the logical volume of a thin vacuum plane before the calorimeter.

        The plane's x and y are the calorimeter's, and its z points into it, however it is placed in the world. Keep
        what is returned alive as long as the run manager.

        Args:
            g4: the Geant4 module.
            name: of the sensitive detector.
        """
        offer, boundary, kill = self.offer, g4.G4StepStatus.fGeomBoundary, g4.G4TrackStatus.fStopAndKill

        class Entrance(g4.G4VSensitiveDetector):  # type: ignore[misc]
            def ProcessHits(self, step: Any, history: Any) -> bool:  # noqa: N802
                end = step.GetPostStepPoint()
                inside = step.GetPreStepPoint().GetTouchable().GetHistory().GetTopTransform()
                direction = inside.TransformAxis(end.GetMomentumDirection())
                if direction.z <= 0.0 or end.GetStepStatus() != boundary:
                    return False  # comes back out of the calorimeter
                place = inside.TransformPoint(end.GetPosition())
                track = step.GetTrack()
                pdg, energy = track.GetParticleDefinition().GetPDGEncoding(), end.GetKineticEnergy()
                if offer(pdg, energy, (direction.x, direction.y, direction.z), (place.x, place.y)):
                    track.SetTrackStatus(kill)
                return True

        return Entrance(name)

    def offer(
        self, pdg: int, energy: float, direction: tuple[float, float, float], position: tuple[float, float]
    ) -> bool:
        """Decide on a particle of the present event that enters the calorimeter.

        Args:
            pdg: its PDG code.
            energy: kinetic, MeV.
            direction: unit vector, z into the calorimeter.
            position: x, y in mm on the front face.

        Returns:
            Whether it is taken; then it must not go on in Geant4.
        """
        asked = self._asked(pdg, energy, direction, position)
        if isinstance(asked, str):
            self.counts[asked] += 1
            return False
        self.counts["replaced"] += 1
        self.replaced_energy += energy
        self._entered.append(asked)
        return True

    def end_of_event(self, number: int) -> None:
        """Close event ``number``; generate if that ends a batch. The noise of its showers depends on this number.

        Raises:
            CaloforgeError: if the generator's showers do not fit.
        """
        if self._entered:
            self._waiting.append((number, self._entered))
            self._entered = []
        if (number + 1) % self.batch == 0:
            self.flush()

    def flush(self) -> None:
        """Generate what is waiting: to be called at the end of the run.

        Raises:
            CaloforgeError: if the generator's showers do not fit.
        """
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        particles = [particle for _, group in waiting for particle in group]
        columns = zip(*((p.energy, p.pdg, p.direction, p.position) for p in particles), strict=True)
        incident = Incident.of(*(np.array(column) for column in columns))
        numbers = np.array([_number(event, slot) for event, group in waiting for slot in range(len(group))], np.int64)
        showers = self._generate(incident, seed=self._seed, numbers=numbers)
        self._check(showers, len(particles))
        end = 0
        for event, group in waiting:
            start, end = end, end + len(group)
            self._deposit(event, group, showers, start)

    def take(self, number: int) -> Deposits:
        """Voxel numbers, each once and rising, and energies (MeV) generated in event ``number``; forgets them."""
        return self._made.pop(number, (np.zeros(0, np.int64), np.zeros(0)))

    def reset(self) -> None:
        """Set the counts and sums to zero."""
        self.counts.clear()
        self.replaced_energy = self.lost_energy = 0.0

    @property
    def account(self) -> dict[str, Any]:
        """Counts and sums, for a provenance."""
        sums = {"replaced_energy": self.replaced_energy, "lost_energy": self.lost_energy}
        return {"particles": dict(sorted(self.counts.items())), **sums}

    # -- inside ---------------------------------------------------------------------------------------------

    def _asked(
        self, pdg: int, energy: float, direction: tuple[float, float, float], position: tuple[float, float]
    ) -> _Entered | str:
        """The particle as the model is asked for it, or why it is not."""
        if pdg not in self._kinds:
            return "kind"
        if energy < self.threshold:
            return "below threshold"
        low, high = self._range["energy"]
        if not low <= energy <= high:
            return "energy"
        tangents, places, cells = [], [], []
        for axis, name in enumerate(("tan_x", "tan_y")):
            tangent = self._angle(name, direction[axis] / direction[2])
            if tangent is None:
                return "angle"
            tangents.append(tangent)
        for axis, name in enumerate(("x", "y")):
            moved = self._place(name, position[axis], axis)
            if moved is None:
                return "position"
            places.append(moved[0])
            cells.append(moved[1])
        return _Entered(pdg, energy, (tangents[0], tangents[1], 1.0), (places[0], places[1]), (cells[0], cells[1]))

    def _angle(self, name: str, tangent: float) -> float | None:
        low, high = self._range[name]
        slack = 0.0 if name in self._conditions and low < high else TILT
        return min(max(tangent, low), high) if low - slack <= tangent <= high + slack else None

    def _place(self, name: str, place: float, axis: int) -> tuple[float, int] | None:
        """Where the model is asked for it, and how many cells that is off; None if it cannot be."""
        low, high = self._range[name]
        if low <= place <= high:
            return place, 0
        if self._cell is None:
            return None
        cells = round((place - (low + high) / 2) / self._cell[axis])
        rest = place - cells * self._cell[axis]
        if name in self._conditions and not low <= rest <= high:
            return None
        return min(max(rest, low), high), cells

    def _check(self, showers: Showers, asked: int) -> None:
        if len(showers) != asked:
            raise CaloforgeError(
                f"the generator gave {len(showers)} showers for {asked} particles; it must give one for each."
            )
        require_voxels(showers.detector, self.detector)

    def _deposit(self, event: int, group: list[_Entered], showers: Showers, first: int) -> None:
        voxels, energies = [], []
        for i, particle in enumerate(group, start=first):
            here = slice(*showers.offset[i : i + 2])
            index, energy = showers.index[here].astype(np.int64), showers.energy[here].astype(np.float64)
            if particle.cells != (0, 0):
                inside, index = self._moved(index, particle.cells)
                self.lost_energy += float(energy[~inside].sum())
                energy = energy[inside]
            voxels.append(index)
            energies.append(energy)
        found, summed = add_up(np.concatenate(voxels), np.concatenate(energies))
        if self._on_hits is None:
            self._made[event] = found, summed
        else:
            self._on_hits(event, self.detector.voxel_positions[found], summed)

    def _moved(self, index: Ints, cells: tuple[int, int]) -> tuple[npt.NDArray[np.bool_], Ints]:
        """Which voxels stay in the read-out when moved by whole cells, and the numbers those have then."""
        ny, nx = self.detector.grids[0].shape
        layer, cell = np.divmod(index, ny * nx)
        row, column = cell // nx + cells[1], cell % nx + cells[0]
        inside = (row >= 0) & (row < ny) & (column >= 0) & (column < nx)
        return inside, (layer * ny * nx + row * nx + column)[inside]


def require_voxels(made: Detector, asked: Detector) -> None:
    """Check that showers of one detector can be deposited in another.

    Raises:
        CaloforgeError: if their voxels differ.
    """
    if not made.same_voxels(asked):
        raise CaloforgeError(
            f"the generator makes showers of '{made.name}', whose voxels are not those of '{asked.name}'; give one "
            "trained for it."
        )


def joined(accounts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The account of several parts of a run."""
    particles: Counter[str] = Counter()
    for account in accounts:
        particles.update(account["particles"])
    sums = {name: sum(a[name] for a in accounts) for name in ("replaced_energy", "lost_energy")}
    return {"particles": dict(sorted(particles.items())), **sums}


def add_up(voxels: Ints, energies: Floats) -> Deposits:
    """Each voxel once, in rising order, with the sum of its energies."""
    found, where = np.unique(voxels, return_inverse=True)
    return found, np.bincount(where, energies, len(found)).astype(np.float64)


def _number(event: int, slot: int) -> int:
    """Number of an event's particle: the same whatever other events hold."""
    return (slot // SLOTS << 40) + event * SLOTS + slot % SLOTS


def _equal_cells(detector: Detector) -> tuple[float, float] | None:
    """Cell size along x, y if every layer has the same cartesian cells, so that showers may be moved by cells."""
    first = detector.grids[0]
    for grid in detector.grids:
        if grid.kind != "cartesian" or grid.shape != first.shape:
            return None
        if not (np.allclose(grid.edges0, first.edges0) and np.allclose(grid.edges1, first.edges1)):
            return None
    return float(first.edges1[1] - first.edges1[0]), float(first.edges0[1] - first.edges0[0])
