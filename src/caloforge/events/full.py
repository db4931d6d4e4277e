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
from ..sparse import Ints, SparseRows
from .library import ShowerLibrary, classes, n_classes
from .propagation import CMS_SOLENOID, Arrival, Solenoid, propagate, pseudorapidity
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
    """

    library: ShowerLibrary
    grid: EtaPhiGrid = CMS
    solenoid: Solenoid = CMS_SOLENOID
    ecal: Readout = field(default_factory=lambda: Readout(200.0))
    hcal: Readout = field(default_factory=lambda: Readout(700.0))
    limit: float = 20.0

    def __post_init__(self) -> None:
        self._energy = 0.0
        self._uses = np.zeros(len(self.library), dtype=np.int64)
        self._central = np.zeros(n_classes(), dtype=np.int64)
        self._placed = np.zeros(n_classes(), dtype=np.int64)

    def towers(self, events: Events, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Energies (N, towers) of the electromagnetic and the hadronic towers, MeV."""
        found = visitors(events, self.grid, self.solenoid)
        which = self._choose(found, rng)
        showers = self.library.showers
        first, second = across(found.direction, rng.uniform(0.0, 2 * np.pi, len(which)))
        counts = np.diff(showers.offset)[which]
        owner = np.repeat(np.arange(len(which)), counts)
        begin = np.cumsum(counts) - counts
        spot = np.arange(len(owner)) - begin[owner] + showers.offset[which][owner]
        x, y, z = showers.place[spot].T.astype(np.float64)
        at = found.position[owner]
        at += x[:, None] * first[owner] + y[:, None] * second[owner] + z[:, None] * found.direction[owner]
        tower = self.grid.tower(pseudorapidity(at), np.arctan2(at[:, 1], at[:, 0]))
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
        self._energy += float(found.energy.sum())
        self._uses += np.bincount(which, minlength=len(self._uses))
        self._placed += np.bincount(taken, minlength=len(counts))
        self._central += np.bincount(taken[np.abs(found.eta) < FORWARD_ETA], minlength=len(counts))
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
        used = max(int((self._uses > 0).sum()), 1)
        factor = float(self._uses.sum() / used)
        if factor >= self.limit:
            raise CaloforgeError(
                f"each shower of the library '{self.library.path}' would be used {factor:.1f} times on average, fewer "
                f"than {self.limit:g} are allowed; make a larger one for these events with `caloforge shower-library`."
            )
        filled = self.library.counts > 0
        return {
            "frozen_showers": True,
            "reuse_factor": factor,
            "reuse_central_largest": float((self._central[filled] / self.library.counts[filled]).max(initial=0.0)),
            "reuse_largest": int(self._uses.max(initial=0)),
            "placements": int(self._uses.sum()),
            "energy_reuse_factor": self._energy / max(float(self.library.showers.energy.sum()), 1.0),
            "library": {"showers": len(self.library), "hash": self.library.content_hash(), **self.library.provenance},
        }
