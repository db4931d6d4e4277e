"""Whether images generated from one fast image spread as full simulations of it would.

Of the full simulation there is one image an event; of a model as many as wanted. If the model is right, the full image
is one more draw: its rank among K generated ones is uniform, and its distance from their mean has the mean square
s^2 (1 + 1 / K), with s^2 the variance among them. The square root of the ratio of the two is the *spread ratio*:
above 1 the generated images spread too little (or lie beside the full ones), below 1 too much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...jets import Images
from .variables import Floats

CENTRAL = 0.6827


@dataclass(frozen=True)
class Quantity:
    """Something of an image whose spread is looked at; ``size`` of its square of towers, 0 for a variable."""

    label: str
    size: int = 0


QUANTITIES: dict[str, Quantity] = {
    "tower": Quantity("brightest tower of the fast image", 1),
    "core": Quantity("3 x 3 towers around it", 3),
    "block": Quantity("9 x 9 towers around it", 9),
    "jet1_pt": Quantity("jet 1 pT"),
    "jet2_pt": Quantity("jet 2 pT"),
    "jet1_mass": Quantity("jet 1 mass"),
    "jet1_girth": Quantity("jet 1 girth"),
    "sum_et": Quantity("sum ET"),
    "missing_et": Quantity("missing ET"),
    "n_towers": Quantity("towers hit"),
}


def block_sums(images: Images, fast: Images, size: int) -> Floats:
    """Energy (N,) in a square of ``size`` towers around the fast image's brightest one, MeV."""
    row, column = np.divmod(fast.dense().reshape(len(fast), -1).argmax(1), fast.grid.n_phi)
    steps = np.arange(size) - size // 2
    rows = row[:, None] + steps
    inside = (rows >= 0) & (rows < fast.grid.n_eta)
    columns = (column[:, None] + steps) % fast.grid.n_phi
    dense = images.dense(dtype=np.float64)
    rows = rows.clip(0, fast.grid.n_eta - 1)
    square = dense[np.arange(len(fast))[:, None, None], rows[:, :, None], columns[:, None, :]]
    sums: Floats = (square * inside[:, :, None]).sum((1, 2))
    return sums


def quantities(images: Images, values: dict[str, Floats], fast: Images) -> dict[str, Floats]:
    """All `QUANTITIES` of images of the fast images' events."""
    return {name: block_sums(images, fast, q.size) if q.size else values[name] for name, q in QUANTITIES.items()}


def spread_of(
    full: Floats, draws: Sequence[Floats], rng: np.random.Generator, resamples: int = 100
) -> dict[str, object] | None:
    """Spread ratio, coverage and ranks of one quantity.

    Args:
        full: of the full images (N,).
        draws: of K generated images of each event, K arrays (N,).
        rng: breaks ties and draws the bootstrap.
        resamples: of the bootstrap.

    Returns:
        "ratio" and "coverage" (share of full images among the central 68.27 % of the draws), each with error, the
        "ranks" as a histogram (K + 1,) and the mean "shift" in units of the spread; None where there are no two draws.
    """
    table = np.stack(draws, axis=1)  # (N, K)
    known = np.isfinite(full) & np.isfinite(table).all(1)
    if table.shape[1] < 2 or known.sum() < 20:
        return None
    full, table = full[known], table[known]
    n, k = table.shape
    away = (full - table.mean(1)) / np.sqrt(1 + 1 / k)
    variance = table.var(1, ddof=1)
    rank = _ranks(full, table, rng)
    low = (1 - CENTRAL) / 2
    inside = np.clip((rank + 1) / (k + 1) - low, 0, 1 / (k + 1)) - np.clip(
        (rank + 1) / (k + 1) - (1 - low), 0, 1 / (k + 1)
    )
    covered = inside * (k + 1)  # a rank that lies across the border counts in part
    found = []
    for weight in rng.multinomial(n, np.full(n, 1 / n), resamples):
        mean = weight @ variance
        found.append((np.sqrt(weight @ away**2 / mean) if mean > 0 else np.nan, weight @ covered / n))
    errors = np.std(found, axis=0, ddof=1)
    typical = float(np.sqrt(variance.mean()))
    return {
        "ratio": {"value": float(np.sqrt(np.mean(away**2)) / typical) if typical else None, "error": float(errors[0])},
        "coverage": {"value": float(covered.mean()), "error": float(errors[1])},
        "shift": float(away.mean() / typical) if typical else None,
        "ranks": np.bincount(rank, minlength=k + 1).tolist(),
        "events": int(n),
        "draws": int(k),
    }


def _ranks(full: Floats, table: Floats, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """How many of the draws lie below the full value (N,); ties are broken at random."""
    below = (table < full[:, None]).sum(1)
    equal = (table == full[:, None]).sum(1)
    ranks: npt.NDArray[np.int64] = below + rng.integers(0, equal + 1)
    return ranks
