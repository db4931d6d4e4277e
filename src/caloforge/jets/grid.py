"""The grid of an image: towers in eta and phi.

The eta edges of `CMS` are those of the CMS calorimeter towers in Delphes' card (arXiv 1307.6346), cut at 4.337 and
without overlaps, as CALPAGAN uses them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..errors import CaloforgeError

Floats = npt.NDArray[np.float64]
MAX_TOWERS = 1 << 24


@dataclass(frozen=True)
class EtaPhiGrid:
    """Towers: bins of eta between given edges, equal bins of phi from -pi to pi.

    A tower's flat number is ``eta_bin * n_phi + phi_bin``; an image is an array (eta, phi).

    Attributes:
        edges: of the eta bins, rising.
        n_phi: number of phi bins.
    """

    edges: tuple[float, ...]
    n_phi: int

    def __post_init__(self) -> None:
        rising = len(self.edges) > 1 and all(a < b for a, b in zip(self.edges, self.edges[1:], strict=False))
        if not rising or not all(map(math.isfinite, self.edges)):
            raise CaloforgeError(
                f"{len(self.edges)} eta edges are no grid: they must be finite and rise; give 2 or more."
            )
        if not 1 <= self.n_phi <= MAX_TOWERS // self.n_eta:
            raise CaloforgeError(f"{self.n_phi} phi bins are no grid; give 1 to {MAX_TOWERS // self.n_eta}.")

    @property
    def n_eta(self) -> int:
        """Number of eta bins."""
        return len(self.edges) - 1

    @property
    def shape(self) -> tuple[int, int]:
        """(eta, phi) of an image."""
        return self.n_eta, self.n_phi

    @property
    def n_towers(self) -> int:
        """Number of towers of an image."""
        return self.n_eta * self.n_phi

    @cached_property
    def eta_edges(self) -> Floats:
        """Edges of the eta bins (n_eta + 1,)."""
        return np.array(self.edges)

    @cached_property
    def phi_edges(self) -> Floats:
        """Edges of the phi bins (n_phi + 1,)."""
        return np.linspace(-math.pi, math.pi, self.n_phi + 1)

    @property
    def eta(self) -> Floats:
        """Centres of the eta bins (n_eta,)."""
        return (self.eta_edges[1:] + self.eta_edges[:-1]) / 2

    @property
    def phi(self) -> Floats:
        """Centres of the phi bins (n_phi,)."""
        return (self.phi_edges[1:] + self.phi_edges[:-1]) / 2

    def tower(self, eta: npt.ArrayLike, phi: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Flat numbers (N,) of the towers at eta (N,) and any phi (N,) in rad; -1 where there is none."""
        eta = np.asarray(eta, dtype=np.float64)
        row = np.searchsorted(self.eta_edges, eta, side="right") - 1
        turn = (np.asarray(phi, dtype=np.float64) + math.pi) / (2 * math.pi)
        column = np.minimum(((turn - np.floor(turn)) * self.n_phi).astype(np.int64), self.n_phi - 1)
        inside = (row >= 0) & (row < self.n_eta)
        return np.where(inside, row * self.n_phi + column, -1)

    def to_json(self) -> str:
        """The grid as text."""
        return json.dumps({"eta_edges": self.edges, "n_phi": self.n_phi})

    @classmethod
    def from_json(cls, text: str, where: str) -> EtaPhiGrid:
        """The grid in a text.

        Raises:
            CaloforgeError: if it is none; ``where`` says whose.
        """
        try:
            raw = json.loads(text)
            edges, n_phi = tuple(float(e) for e in raw["eta_edges"]), int(raw["n_phi"])
        except (ValueError, TypeError, LookupError, RecursionError, OverflowError):
            raise CaloforgeError(
                f"the grid in '{where}' is not eta edges and a number of phi bins; make it anew."
            ) from None
        return cls(edges, n_phi)

    def describe(self) -> str:
        """The grid in a few words, for messages."""
        return f"{self.n_eta} x {self.n_phi} towers, eta {self.edges[0]:g} to {self.edges[-1]:g}"


def _mirrored(positive: Sequence[float]) -> tuple[float, ...]:
    return (*(-e for e in reversed(positive)), 0.0, *positive)


CMS = EtaPhiGrid(
    _mirrored(
        [round(0.087 * i, 3) for i in range(1, 20)]
        + [1.74, 1.83, 1.93, 2.043, 2.172, 2.322, 2.5, 2.65, 3.0, 3.11, 3.285, 3.46, 3.635, 3.81, 3.985, 4.159, 4.337]
    ),
    72,
)
"""72 x 72 towers of the CMS calorimeters."""
