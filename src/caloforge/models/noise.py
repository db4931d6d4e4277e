"""Standard normal noise of single voxels: of any shower of a request at once, and fast.

A shower of 27 000 voxels wants as many normal numbers; drawn one by one they cost as much as all that is made of them.
Here a counter-based generator (Philox: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC
2011) gives 16 bits a voxel, and a table makes quantiles of them. Where the table is coarse, beyond 1 in 256, 16 bits
more tell where in its step a number lies: the tails decide about voxels that are hit once in thousands of showers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import ndtri
from torch import Tensor

Array = npt.NDArray[Any]
STEPS = 65536
FINE = 256  # outermost steps of the table on each side that are divided further
_DOMAIN = 0x766F78656C  # keeps these streams apart from those of the other latent numbers

TABLE = torch.from_numpy(ndtri((np.arange(STEPS) + 0.5) / STEPS).astype(np.float32))


def spare_bits(n_voxels: int) -> int:
    """How many numbers more a shower gets for those in the tails.

    On average 1 in 128 wants one; four times as many are there, twenty standard deviations and more away.
    """
    return n_voxels // 32 + 64


class VoxelNoise:
    """Standard normal numbers (showers, voxels) of a request, the same whoever asks for which of them.

    Args:
        seed: of the request.
        n_voxels: numbers a shower.
        as_streams: instead of numbers give what they are made of, for `kernels.random_bits`: the key and the counter
            before each shower's first, int64 (showers, 3).
    """

    def __init__(self, seed: int, n_voxels: int, *, as_streams: bool = False) -> None:
        self.n_voxels, self.as_streams, self.spare = n_voxels, as_streams, spare_bits(n_voxels)
        self.blocks = -(-(n_voxels + self.spare) // 16)  # of 256 bits a shower
        self._key = np.random.SeedSequence([seed, _DOMAIN]).generate_state(2, np.uint64)

    def __call__(self, start: int, stop: int) -> Tensor:
        """Noise (stop - start, n_voxels) of showers start to stop."""
        if self.as_streams:
            streams = np.empty((stop - start, 3), np.uint64)
            streams[:, :2] = self._key
            streams[:, 2] = np.arange(start, stop, dtype=np.uint64) * np.uint64(self.blocks)
            return torch.from_numpy(streams.view(np.int64))
        source = np.random.Philox(key=self._key, counter=[start * self.blocks, 0, 0, 0])
        words = source.random_raw(4 * self.blocks * (stop - start))
        bits = words.astype("<u8", copy=False).view("<u2").reshape(stop - start, 16 * self.blocks)
        step = bits[:, : self.n_voxels].astype(np.int32)
        noise = TABLE.index_select(0, torch.from_numpy(step.ravel())).reshape(step.shape)
        self._refine(noise.numpy(), step, bits[:, self.n_voxels : self.n_voxels + self.spare])
        return noise

    def beginning(self, first: int) -> Callable[[slice], Tensor]:
        """The noise of showers by their place after the ``first``."""
        return lambda part: self(first + part.start, first + part.stop)

    def of(self, numbers: npt.NDArray[np.int64]) -> Callable[[slice], Tensor]:
        """The noise of showers by their place among those of these numbers."""
        return lambda part: torch.cat([self(int(n), int(n) + 1) for n in numbers[part]])

    def _refine(
        self, noise: npt.NDArray[np.float32], step: npt.NDArray[np.int32], more: npt.NDArray[np.uint16]
    ) -> None:
        """Put numbers of the outer steps anew, within their step."""
        shower, voxel = np.nonzero((step < FINE) | (step >= STEPS - FINE))
        first = np.searchsorted(shower, np.arange(len(step)))
        nth = np.arange(len(shower)) - first[shower]
        outer = step[shower, voxel]
        above = outer >= STEPS // 2
        # Both tails as the lower one: near one, a probability has no digits left.
        outer = np.where(above, STEPS - 1 - outer, outer)
        x = ndtri((outer + (more[shower, nth % self.spare] + 0.5) / STEPS) / STEPS)
        noise[shower, voxel] = np.where(above, -x, x)
