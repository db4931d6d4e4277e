"""Precision, recall, density and coverage of generated showers by their nearest neighbours (arXiv 2002.09797).

Around every shower lies a ball that reaches to its k-th nearest neighbour in its own sample. Precision: share of
generated showers within any ball of the reference. Density: in how many such balls a generated shower lies on average,
over k. Recall: share of reference showers within any ball of the generated. Coverage: share of the reference's balls
that hold a generated shower. Distances are computed block by block: memory grows with a block, not with all pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...crew import HERE, Crew
from ...errors import CaloforgeError
from ...progress import Progress, silent
from ..resampling import Estimate

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
    reference: Points, generated: Points, *, k: int = NEIGHBOURS, crew: Crew = HERE, progress: Progress = silent
) -> dict[str, Estimate]:
    """Precision, recall, density and coverage; errors are those of means over showers with the balls held fixed.

    Args:
        reference: N points.
        generated: M points.
        k: number of the neighbour that a ball reaches to.
        crew: who computes, block by block.
        progress: called with blocks done, blocks in all.

    Raises:
        CaloforgeError: if a sample holds no more than k points.
    """
    import torch

    if min(reference.n, generated.n) <= k:
        raise CaloforgeError(
            f"{reference.n} and {generated.n} showers have no {k}th neighbours; give at least {k + 1} of each."
        )
    rows = _starts(reference.n)
    steps, done = 2 * len(rows) + len(_starts(generated.n)), 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done, steps, "nearest neighbours")

    one, two = crew.share(reference), crew.share(generated)
    radius_r, radius_g = (_radii(p, points.n, k, crew, tick) for p, points in ((one, reference), (two, generated)))
    recalled, nearest, balls = [], [], torch.zeros(generated.n, dtype=torch.float64, device=radius_g.device)
    for recall, near, held in crew.each(_meet, ((one, two, i, radius_r[i : i + BLOCK], radius_g) for i in rows)):
        recalled.append(recall)
        nearest.append(near)
        balls += held  # whole numbers: exact in any order
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


def _radii(points: Any, n: int, k: int, crew: Crew, tick: Callable[[], None]) -> torch.Tensor:
    """Squared distance of every one of n (shared) points to its k-th nearest neighbour (n,)."""
    import torch

    found = []
    for radii in crew.each(_block_radii, ((points, k, i) for i in _starts(n))):
        found.append(radii)
        tick()
    return torch.cat(found)


def _block_radii(points: Points, k: int, i: int) -> torch.Tensor:
    """`_radii` of the block that begins with point i."""
    import torch

    block = points.block(i, min(i + BLOCK, points.n))
    best = torch.full((len(block), k + 1), torch.inf, dtype=block.dtype, device=block.device)
    for j in _starts(points.n):
        squares = squared_distances(block, points.block(j, min(j + BLOCK, points.n)))
        if i == j:
            squares.fill_diagonal_(0)  # a point is its own first neighbour, in spite of rounding
        smallest = torch.topk(squares, min(k + 1, squares.shape[1]), largest=False).values
        best = torch.topk(torch.cat([best, smallest], dim=1), k + 1, largest=False).values
    return best[:, k]


def _meet(
    reference: Points, generated: Points, i: int, radius: torch.Tensor, radius_g: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The reference's block that begins with point i against all generated points.

    Args:
        reference: N points.
        generated: M points.
        i: where the block begins.
        radius: squared radii of the block's balls (B,).
        radius_g: of the generated points' balls (M,).

    Returns:
        Which of the block lie in a ball of the generated (B,), which balls of the block hold a generated point (B,),
        and in how many of the block's balls each generated point lies (M,).
    """
    import torch

    block = reference.block(i, min(i + BLOCK, reference.n))
    recall = torch.zeros(len(block), dtype=torch.bool, device=block.device)
    closest = torch.full((len(block),), torch.inf, dtype=block.dtype, device=block.device)
    balls = torch.zeros(generated.n, dtype=torch.float64, device=block.device)
    for j in _starts(generated.n):
        squares = squared_distances(block, generated.block(j, min(j + BLOCK, generated.n)))
        balls[j : j + BLOCK] += (squares < radius[:, None]).sum(dim=0)
        recall |= (squares < radius_g[None, j : j + BLOCK]).any(dim=1)
        closest = torch.minimum(closest, squares.amin(dim=1))
    return recall.double(), (closest < radius).double(), balls


def _mean(values: torch.Tensor) -> Estimate:
    return Estimate(float(values.mean()), float(values.std() / len(values) ** 0.5))
