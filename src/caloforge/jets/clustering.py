"""Jets in images: FastJet's anti-kT algorithm on towers as massless particles, and trimming.

Cacciari, Salam, Soyez, arXiv 0802.1189 (anti-kT) and 1111.6097 (FastJet); Krohn, Thaler, Wang, arXiv 0912.1342
(trimming). A tower is a massless particle at its centre: jets are only as fine as towers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import CaloforgeError
from ..extras import awkward, fastjet
from ..incident import Floats
from ..sparse import Ints, offsets
from .images import Images


@dataclass(frozen=True)
class JetFinder:
    """How jets are found and trimmed.

    Attributes:
        radius: of anti-kT.
        min_pt: jets under it (MeV), before trimming, are none.
        number: of jets kept in each image, hardest first, as they are before trimming.
        trim_radius: of the kT subjets.
        trim_fraction: subjets with less than this share of the jet's pT are dropped; 0 for no trimming.
    """

    radius: float = 0.5
    min_pt: float = 20_000.0
    number: int = 2
    trim_radius: float = 0.2
    trim_fraction: float = 0.03

    def __post_init__(self) -> None:
        if not (0 < self.radius < 3 and 0 < self.trim_radius < 3 and 0 <= self.trim_fraction < 1):
            raise CaloforgeError(
                f"jets of radius {self.radius:g} with subjets of {self.trim_radius:g} above {self.trim_fraction:g} of "
                "them cannot be found; give radii between 0 and 3 and a fraction from 0 to 1."
            )
        if not (self.min_pt > 0 and self.number >= 1):
            raise CaloforgeError(
                f"{self.number} jets above {self.min_pt:g} MeV cannot be found; give at least 1 and an energy above 0."
            )


@dataclass(frozen=True)
class Jets:
    """J jets with K towers in all; those of jet j are ``offset[j]`` to ``offset[j + 1]``.

    Attributes:
        row: which image each jet is in (J,), rising.
        rank: which of its image's jets it is (J,), 0 the hardest before trimming.
        offset: where each jet's towers begin (J + 1,).
        pt: transverse momenta of the towers (K,), MeV.
        eta: of the towers (K,).
        phi: of the towers (K,).
    """

    row: Ints
    rank: Ints
    offset: Ints
    pt: Floats
    eta: Floats
    phi: Floats

    def __len__(self) -> int:
        return len(self.row)

    @property
    def owner(self) -> Ints:
        """Which jet each tower belongs to (K,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.offset))

    def sum(self, values: Floats) -> Floats:
        """Sum over each jet's towers (J,) of values (K,)."""
        return np.bincount(self.owner, weights=values, minlength=len(self)).astype(np.float64)

    @property
    def momentum(self) -> Floats:
        """Four-momenta (J, 4): px, py, pz, E, MeV."""
        parts = (np.cos(self.phi), np.sin(self.phi), np.sinh(self.eta), np.cosh(self.eta))
        return np.stack([self.sum(self.pt * part) for part in parts], axis=1)

    def particles(self) -> Any:
        """The towers as FastJet takes them: lists of records, one list a jet."""
        return _particles(self.offset, self.pt, self.eta, self.phi)


def find_jets(images: Images, finder: JetFinder | None = None) -> Jets:
    """The hardest jets of images, trimmed.

    Raises:
        CaloforgeError: if FastJet is not installed.
    """
    finder = finder or JetFinder()
    grid, rows = images.grid, images.rows
    eta = grid.eta[rows.index // grid.n_phi]
    phi = grid.phi[rows.index % grid.n_phi]
    pt = rows.energy.astype(np.float64) / np.cosh(eta)
    whole = Jets(np.arange(len(rows)), np.zeros(len(rows), np.int64), rows.offset, pt, eta, phi)
    found = _hardest(_clusters(whole, "antikt", finder.radius, finder.min_pt), finder.number)
    return _trimmed(found, finder) if finder.trim_fraction else found


def _clusters(parts: Jets, algorithm: str, radius: float, min_pt: float) -> Jets:
    """Clusters of the towers of each part; ``row`` is the part's number, hardest first in each."""
    ak, fj = awkward(), fastjet()
    if not len(parts.pt):
        return _empty()
    definition = fj.JetDefinition(getattr(fj, f"{algorithm}_algorithm"), radius)
    clusters = fj.ClusterSequence(parts.particles(), definition)
    index = clusters.constituent_index(min_pt=min_pt)  # part, jet, tower
    n_jets = ak.to_numpy(ak.num(index, axis=1))
    sizes = ak.to_numpy(ak.flatten(ak.num(index, axis=2), axis=1)).astype(np.int64)
    row = np.repeat(np.arange(len(parts)), n_jets)
    flat = ak.to_numpy(ak.flatten(index, axis=None)).astype(np.int64) + np.repeat(parts.offset[:-1][row], sizes)
    jets = Jets(row, np.zeros(len(row), np.int64), offsets(sizes), parts.pt[flat], parts.eta[flat], parts.phi[flat])
    p = jets.momentum
    order = np.lexsort((-np.hypot(p[:, 0], p[:, 1]), row))
    first = np.searchsorted(row, np.arange(len(parts)))
    return _pick(jets, order, np.arange(len(row)) - first[row])


def _hardest(jets: Jets, number: int) -> Jets:
    keep = np.flatnonzero(jets.rank < number)
    return _pick(jets, keep, jets.rank[keep])


def _trimmed(jets: Jets, finder: JetFinder) -> Jets:
    """Jets without their soft subjets."""
    subjets = _clusters(jets, "kt", finder.trim_radius, 0.0)
    whole, part = jets.momentum, subjets.momentum
    share = np.hypot(part[:, 0], part[:, 1]) / np.hypot(whole[:, 0], whole[:, 1])[subjets.row]
    kept = _pick(subjets, np.flatnonzero(share >= finder.trim_fraction), None)
    sizes = np.bincount(kept.row, weights=np.diff(kept.offset), minlength=len(jets)).astype(np.int64)
    return Jets(jets.row, jets.rank, offsets(sizes), kept.pt, kept.eta, kept.phi)


def _pick(jets: Jets, which: Ints, rank: Ints | None) -> Jets:
    counts = np.diff(jets.offset)[which]
    offset = offsets(counts)
    take = np.arange(offset[-1]) + np.repeat(jets.offset[:-1][which] - offset[:-1], counts)
    new_rank = jets.rank[which] if rank is None else rank
    return Jets(jets.row[which], new_rank, offset, jets.pt[take], jets.eta[take], jets.phi[take])


def _empty() -> Jets:
    none, floats = np.zeros(0, np.int64), np.zeros(0)
    return Jets(none, none, np.zeros(1, np.int64), floats, floats, floats)


def _particles(offset: Ints, pt: Floats, eta: Floats, phi: Floats) -> Any:
    ak = awkward()
    columns = {"px": pt * np.cos(phi), "py": pt * np.sin(phi), "pz": pt * np.sinh(eta), "E": pt * np.cosh(eta)}
    contents = [ak.contents.NumpyArray(np.ascontiguousarray(values)) for values in columns.values()]
    record = ak.contents.RecordArray(contents, list(columns))
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offset), record))
