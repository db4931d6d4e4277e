"""The full side: Geant4 showers of a library, placed where the particles of events meet the calorimeters.

Every particle takes a shower of its kind and energy class, scaled to its energy, turned at random about its axis and
set to the particle's place and direction. Spots fall into towers by their place in space. What is simpler than in a
real detector: one stack of materials at every eta, as deep along any particle's way; no cracks, no tracker material, no
magnetic field within showers; particles at |eta| above 3 fly on to a forward calorimeter of the same stack.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import CaloforgeError
from ..incident import Floats
from ..jets.event_file import Events
from ..jets.grid import CMS, EtaPhiGrid
from ..sparse import Ints, SparseRows, places_of
from .library import ShowerLibrary, classes, n_classes
from .propagation import CMS_SOLENOID, Arrival, Solenoid, propagate
from .species import charges, kind_of, kinetic_energy
from .towers import Readout, fill

FORWARD_ETA = 3.0
FORWARD_Z = 11_150.0
"""mm; where CMS's forward calorimeter begins."""
MARGIN = 0.3
"""How far outside the grid in eta particles are still looked at, since their showers reach in."""


@dataclass(frozen=True)
class Visitors:
    """M particles that meet the calorimeters.

    Attributes:
        row: which event each belongs to (M,).
        kind: number in `KINDS` (M,).
        energy: kinetic energies (M,), MeV.
        position: where they meet them (M, 3), mm.
        direction: of flight there (M, 3).
        eta: of the position (M,).
    """

    row: Ints
    kind: Ints
    energy: Floats
    position: Floats
    direction: Floats
    eta: Floats

    @property
    def shower_class(self) -> Ints:
        """Class of shower that each needs (M,); -1 for those too slow to matter."""
        return classes(self.kind, self.energy)


def visitors(events: Events, grid: EtaPhiGrid = CMS, solenoid: Solenoid = CMS_SOLENOID) -> Visitors:
    """The particles of events that leave something in the towers."""
    arrival = propagate(events.momentum, charges(events.pdg), solenoid)
    eta = arrival.eta
    with np.errstate(invalid="ignore"):
        near = (eta > grid.edges[0] - MARGIN) & (eta < grid.edges[-1] + MARGIN)
    which = np.flatnonzero(near & events.visible)
    position = forward(arrival, which)
    pdg = events.pdg[which]
    found = Visitors(
        events.row[which], kind_of(pdg), kinetic_energy(pdg, events.momentum[which]), position,
        arrival.direction[which], eta[which],
    )  # fmt: skip
    fast = np.flatnonzero(found.shower_class >= 0)
    return Visitors(
        found.row[fast], found.kind[fast], found.energy[fast], found.position[fast], found.direction[fast],
        found.eta[fast],
    )  # fmt: skip


def forward(arrival: Arrival, which: Ints) -> Floats:
    """Where particles ``which`` meet the calorimeters: those at large eta fly straight on to the forward one."""
    position, direction = arrival.position[which].copy(), arrival.direction[which]
    far = (np.abs(arrival.eta[which]) > FORWARD_ETA) & (direction[:, 2] != 0)
    steps = (np.copysign(FORWARD_Z, position[far, 2]) - position[far, 2]) / direction[far, 2]
    position[far] += steps[:, None] * direction[far]
    return position


def across(direction: Floats, angle: Floats) -> tuple[Floats, Floats]:
    """Two unit vectors (M, 3) across directions (M, 3) and each other, turned by an angle (M,)."""
    other = np.where(np.abs(direction[:, 2:]) < 0.9, [0.0, 0.0, 1.0], [1.0, 0.0, 0.0])
    first = np.cross(direction, other)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(direction, first)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    return cos * first + sin * second, cos * second - sin * first


@dataclass(frozen=True)
class Uses:
    """How often the showers of a library were used.

    Attributes:
        energy: of the particles they stood for, MeV.
        showers: uses of each shower (S,).
        central: uses of each class (classes,) for particles at |eta| under `FORWARD_ETA`.
    """

    energy: float
    showers: Ints
    central: Ints

    @classmethod
    def none(cls, n: int) -> Uses:
        """Of n showers, none used."""
        return cls(0.0, np.zeros(n, dtype=np.int64), np.zeros(n_classes(), dtype=np.int64))

    def __add__(self, other: Uses) -> Uses:
        return Uses(self.energy + other.energy, self.showers + other.showers, self.central + other.central)


@dataclass
class FullCalorimeter:
    """Calorimeters that answer with the showers of a library.

    Attributes:
        library: the showers.
        grid: the towers.
        solenoid: what bends the particles on their way.
        ecal: what is kept of electromagnetic towers.
        hcal: what is kept of hadronic towers.
        limit: how often showers may be used on average.
        uses: how often they were used so far.
    """

    library: ShowerLibrary
    grid: EtaPhiGrid = CMS
    solenoid: Solenoid = CMS_SOLENOID
    ecal: Readout = field(default_factory=lambda: Readout(200.0))
    hcal: Readout = field(default_factory=lambda: Readout(700.0))
    limit: float = 20.0

    def __post_init__(self) -> None:
        self.uses = Uses.none(len(self.library))

    def towers(self, events: Events, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Energies (N, towers) of the electromagnetic and the hadronic towers, MeV."""
        found = visitors(events, self.grid, self.solenoid)
        which = self._choose(found, rng)
        showers = self.library.showers
        first, second = across(found.direction, rng.uniform(0.0, 2 * np.pi, len(which)))
        offset, spot = places_of(showers.offset, which)
        counts = np.diff(offset)
        # In single precision: a micrometre matters to no tower, and memory is what this costs.
        frame = np.stack([first, second, found.direction, found.position], axis=1).astype(np.float32)  # (P, 4, 3)
        x, y, z = showers.place[spot].T
        at = [
            np.repeat(frame[:, 3, k], counts)
            + x * np.repeat(frame[:, 0, k], counts)
            + y * np.repeat(frame[:, 1, k], counts)
            + z * np.repeat(frame[:, 2, k], counts)
            for k in range(3)
        ]
        with np.errstate(divide="ignore", invalid="ignore"):
            tower = self.grid.tower(np.arcsinh(at[2] / np.hypot(at[0], at[1])), np.arctan2(at[1], at[0]))
        owner = np.repeat(np.arange(len(which)), counts)
        deposit = showers.deposit[spot] * (found.energy / showers.energy[which])[owner]
        hadronic = showers.hadronic[spot]
        row = found.row[owner]
        ecal = fill(self.grid, row[~hadronic], tower[~hadronic], deposit[~hadronic], len(events))
        return ecal, fill(self.grid, row[hadronic], tower[hadronic], deposit[hadronic], len(events))

    def _choose(self, found: Visitors, rng: np.random.Generator) -> Ints:
        """A shower for each particle, at random in its class."""
        wanted = found.shower_class
        taken = self.library.stand_ins(wanted)
        counts = self.library.counts
        begin = np.cumsum(counts) - counts
        which = begin[taken] + (rng.random(len(taken)) * counts[taken]).astype(np.int64)
        self.uses += Uses(
            float(found.energy.sum()),
            np.bincount(which, minlength=len(self.uses.showers)),
            np.bincount(taken[np.abs(found.eta) < FORWARD_ETA], minlength=len(counts)),
        )
        return which

    def images(self, events: Events, rng: np.random.Generator) -> SparseRows:
        """Images of events: sums of both calorimeters' towers after noise and thresholds."""
        total = np.zeros((len(events), self.grid.n_towers))
        for energy, readout in zip(self.towers(events, rng), (self.ecal, self.hcal), strict=True):
            total += readout.kept(readout.noisy(energy, rng))
        return SparseRows.from_dense(total.astype(np.float32))

    def report(self) -> dict[str, Any]:
        """How often showers were used so far.

        Raises:
            CaloforgeError: if that is more than the limit.
        """
        uses, counts = self.uses, self.library.counts
        factor = float(uses.showers.sum() / max(int((uses.showers > 0).sum()), 1))
        if factor >= self.limit:
            raise CaloforgeError(
                f"each shower of the library '{self.library.path}' would be used {factor:.1f} times on average, fewer "
                f"than {self.limit:g} are allowed; make a larger one for these events with `caloforge shower-library`."
            )
        filled = counts > 0
        return {
            "frozen_showers": True,
            "reuse_factor": factor,
            "reuse_central_largest": float((uses.central[filled] / counts[filled]).max(initial=0.0)),
            "reuse_largest": int(uses.showers.max(initial=0)),
            "placements": int(uses.showers.sum()),
            "energy_reuse_factor": uses.energy / max(float(self.library.showers.energy.sum()), 1.0),
            "library": {"showers": len(self.library), "hash": self.library.content_hash(), **self.library.provenance},
        }
