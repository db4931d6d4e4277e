"""Precision, recall, density and coverage of generated showers by their nearest neighbours (arXiv 2002.09797).

Around every shower lies a ball that reaches to its k-th nearest neighbour in its own sample. Precision: share of
generated showers within any ball of the reference. Density: in how many such balls a generated shower lies on average,
over k. Recall: share of reference showers within any ball of the generated. Coverage: share of the reference's balls
that hold a generated shower. Distances are computed block by block: memory grows with a block, not with all pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...errors import CaloforgeError
from ...progress import Progress, silent
from ..metrics import Estimate

if TYPE_CHECKING:
    import torch

NEIGHBOURS = 5
BLOCK = 1000  # showers in a block


@dataclass(frozen=True)
class Points:
    """N points of F dimensions that are made dense a block at a time.

    Attributes:
        n: how many.
        block: (start, stop) -> points (stop - start, F).
    """

    n: int
    block: Callable[[int, int], torch.Tensor]

    @classmethod
    def of(cls, matrix: npt.NDArray[np.floating], device: str = "cpu") -> Points:
        """Points that are held dense (N, F)."""
        import torch

        held = torch.from_numpy(np.ascontiguousarray(matrix)).to(device)
        return cls(len(matrix), lambda start, stop: held[start:stop])


def prdc(
    reference: Points, generated: Points, *, k: int = NEIGHBOURS, progress: Progress = silent
) -> dict[str, Estimate]:
    """Precision, recall, density and coverage; errors are those of means over showers with the balls held fixed.

    Args:
        reference: N points.
        generated: M points.
        k: number of the neighbour that a ball reaches to.
        progress: called with blocks done, blocks in all.

    Raises:
        CaloforgeError: if a sample holds no more than k points.
    """
    import torch

    if min(reference.n, generated.n) <= k:
        raise CaloforgeError(
            f"{reference.n} and {generated.n} showers have no {k}th neighbours; give at least {k + 1} of each."
        )
    rows, columns = _starts(reference.n), _starts(generated.n)
    steps, done = 2 * len(rows) + len(columns), 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done, steps, "nearest neighbours")

    radius_r, radius_g = (_radii(p, k, tick) for p in (reference, generated))
    recalled, nearest, balls = [], [], torch.zeros(generated.n, dtype=torch.float64, device=radius_g.device)
    for i in rows:
        block = reference.block(i, min(i + BLOCK, reference.n))
        radius = radius_r[i : i + BLOCK, None]
        recall = torch.zeros(len(block), dtype=torch.bool, device=block.device)
        closest = torch.full((len(block),), torch.inf, dtype=block.dtype, device=block.device)
        for j in columns:
            squares = squared_distances(block, generated.block(j, min(j + BLOCK, generated.n)))
            balls[j : j + BLOCK] += (squares < radius).sum(dim=0)
            recall |= (squares < radius_g[None, j : j + BLOCK]).any(dim=1)
            closest = torch.minimum(closest, squares.amin(dim=1))
        recalled.append(recall.double())
        nearest.append((closest < radius[:, 0]).double())
        tick()
    return {
        "precision": _mean((balls > 0).double()),
        "recall": _mean(torch.cat(recalled)),
        "density": _mean(balls / k),
        "coverage": _mean(torch.cat(nearest)),
    }


def _starts(n: int) -> range:
    return range(0, n, BLOCK)


def squared_distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Squared Euclidean distances (N, M) of points (N, F) and (M, F)."""
    squares = (a * a).sum(dim=1)[:, None] + (b * b).sum(dim=1)[None] - 2 * (a @ b.T)
    return squares.clamp_(min=0)


def _radii(points: Points, k: int, tick: Callable[[], None]) -> torch.Tensor:
    """Squared distance of every point to its k-th nearest neighbour (N,)."""
    import torch

    found = []
    for i in _starts(points.n):
        block = points.block(i, min(i + BLOCK, points.n))
        best = torch.full((len(block), k + 1), torch.inf, dtype=block.dtype, device=block.device)
        for j in _starts(points.n):
            squares = squared_distances(block, points.block(j, min(j + BLOCK, points.n)))
            if i == j:
                squares.fill_diagonal_(0)  # a point is its own first neighbour, in spite of rounding
            smallest = torch.topk(squares, min(k + 1, squares.shape[1]), largest=False).values
            best = torch.topk(torch.cat([best, smallest], dim=1), k + 1, largest=False).values
        found.append(best[:, k])
        tick()
    return torch.cat(found)


def _mean(values: torch.Tensor) -> Estimate:
    return Estimate(float(values.mean()), float(values.std() / len(values) ** 0.5))
