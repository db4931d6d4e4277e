"""Numbers of an image of an event: the jets' that CALPAGAN compares (arXiv 2401.02248), and the event's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...jets import Images
from ...jets.substructure import jet_observables

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Variable:
    """One number of an image.

    Attributes:
        label: its name in figures and tables.
        unit: "" for a pure number.
        meaning: one line for people who see it for the first time.
        log: whether its bins may be logarithmic.
        whole: whether its values are whole numbers.
    """

    label: str
    unit: str
    meaning: str
    log: bool = False
    whole: bool = False


_JET = {
    "tau_1": Variable("tau_1", "", "1-subjettiness: how far from one axis the jet's energy lies"),
    "tau_2": Variable("tau_2", "", "2-subjettiness: how far from two axes the jet's energy lies"),
    "girth": Variable("girth", "", "mean distance of the jet's energy from its axis"),
    "two_point_moment": Variable("two-point moment", "", "mean distance^0.2 of pairs of towers, by their energies"),
    "pt": Variable("pT", "MeV", "transverse momentum", log=True),
    "mass": Variable("mass", "MeV", "invariant mass", log=True),
    "eta": Variable("eta", "", "pseudorapidity"),
    "phi": Variable("phi", "rad", "azimuth"),
}


def _of_jet(rank: int, variable: Variable) -> Variable:
    return Variable(f"jet {rank} {variable.label}", variable.unit, variable.meaning, variable.log)


VARIABLES: dict[str, Variable] = {
    **{f"jet{rank}_{name}": _of_jet(rank, v) for rank in (1, 2) for name, v in _JET.items()},
    "delta_eta": Variable("delta eta", "", "distance of the two hardest jets in pseudorapidity"),
    "delta_phi": Variable("delta phi", "rad", "distance of the two hardest jets in azimuth"),
    "sum_et": Variable("sum ET", "MeV", "sum of the towers' transverse energies", log=True),
    "missing_et": Variable("missing ET", "MeV", "size of the vector sum of the towers' transverse energies", log=True),
    "n_towers": Variable("towers hit", "", "number of towers that hold energy", whole=True),
}
"""Variables by name; those of jets have no value where an image has no such jet."""

JET_ROWS = (*_JET, "delta_eta", "delta_phi")
"""Rows of the paper's tables 1 and 2."""


def row_variables(row: str) -> tuple[str, ...]:
    """Variables in a row of the paper's tables: of jet 1 and 2, or of both together."""
    return (f"jet1_{row}", f"jet2_{row}") if row in _JET else (row,)


def transverse(images: Images) -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Transverse energy of every hit tower (K,) in MeV, its bin of eta (K,) and of phi (K,)."""
    row, column = np.divmod(images.rows.index.astype(np.int64), images.grid.n_phi)
    return images.rows.energy.astype(np.float64) / np.cosh(images.grid.eta[row]), row, column


def measure(images: Images) -> dict[str, Floats]:
    """All `VARIABLES` of N images, each (N,).

    Raises:
        CaloforgeError: if FastJet is not installed.
    """
    n, image = len(images), images.rows.row
    et, _, column = transverse(images)
    phi = images.grid.phi[column]
    x, y = (np.bincount(image, et * f(phi), n) for f in (np.cos, np.sin))
    event = {
        "sum_et": np.bincount(image, et, n).astype(np.float64),
        "missing_et": np.hypot(x, y),
        "n_towers": np.bincount(image, minlength=n).astype(np.float64),
    }
    found = jet_observables(images) | event
    return {name: found[name] for name in VARIABLES}


RINGS = (0.0, 0.8, 1.5, 2.5, 3.2, 10.0)


def ring_sums(images: Images) -> Floats:
    """Logarithms of transverse energy, and numbers of towers, in five rings of |eta| (N, 10)."""
    et, row, _ = transverse(images)
    ring = np.searchsorted(RINGS, np.abs(images.grid.eta[row]), side="right") - 1
    place, size = images.rows.row * 5 + ring, 5 * len(images)
    energy, number = np.bincount(place, et, size), np.bincount(place, minlength=size)
    table: Floats = np.concatenate([np.log1p(energy / 1e3).reshape(-1, 5), number.reshape(-1, 5)], axis=1)
    return table


def features(images: Images, values: dict[str, Floats]) -> Floats:
    """What the Fréchet distance and classifiers see of images (N, F): no downloaded network.

    All variables, energies as logarithms, angles of the jets only relative to each other; what an image has not (no
    second jet) as zeros and one column that says so; and `ring_sums`.
    """
    columns = []
    for name, variable in VARIABLES.items():
        if name in ("jet1_phi", "jet2_phi"):
            continue
        column = np.log1p(values[name] / 1e3) if variable.unit == "MeV" else values[name]
        columns.append(np.nan_to_num(column))
    jets = [np.isfinite(values[f"jet{rank}_pt"]).astype(np.float64) for rank in (1, 2)]
    table: Floats = np.concatenate([np.stack([*columns, *jets], axis=1), ring_sums(images)], axis=1)
    return table


NEAR = 5
"""Towers on each side of the brightest that `patches` shows."""


def patches(images: Images, fast: Images) -> Floats:
    """Logarithms of the towers around the fast image's brightest one, and its place in eta (N, 122)."""
    at = fast.dense().reshape(len(fast), -1).argmax(1)
    row, column = np.divmod(at, fast.grid.n_phi)
    steps = np.arange(-NEAR, NEAR + 1)
    rows, columns = row[:, None] + steps, (column[:, None] + steps) % fast.grid.n_phi
    inside = (rows >= 0) & (rows < fast.grid.n_eta)
    dense = images.dense()
    picked = dense[np.arange(len(fast))[:, None, None], rows.clip(0, fast.grid.n_eta - 1)[:, :, None], columns[:, None]]
    near = np.log1p(picked * inside[:, :, None] / 100.0).reshape(len(fast), -1)
    table: Floats = np.concatenate([near, row[:, None]], axis=1).astype(np.float64)
    return table
