"""What is expected of blocks before any is drawn, for `coarse-to-fine`: their mean energies and how far from them.

What an event still lacks is shared out by the blocks not drawn yet, and how much each can take is how far it varies.
The fast image's energy is no mean of the full one's: a hadron that stands alone may keep half of it. Taken for what is
to come, it has blocks that are drawn last make good for more than they could, and what they cannot lose they gain.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .fast_blocks import FastBlocks, size_of, transverse_of, usual_variance
from .scales import Level
from .splitting import repeated

_FAR = 5.0  # standard deviations
_FAINT = 0.5  # of about a GeV: what a block may hold that the fast image shows empty


class Expected(NamedTuple):
    """Of the full images' blocks, from the fast ones'.

    Attributes:
        energy: mean (B, 1, Y, X).
        transverse: mean of the transverse momenta (B, 1, Y, X).
        variance: of these (B, 1, Y, X).
    """

    energy: Tensor
    transverse: Tensor
    variance: Tensor

    def misfit(self, fast: FastBlocks, energy: Tensor) -> Tensor:
        """How badly means and variances foretell the full images' energies (B, 1, Y, X): as normal ones.

        The score of means and variances of Dawid and Sebastiani, Ann. Statist. 27 (1999) 65, but linear in what is more
        than five standard deviations off (Huber, Ann. Math. Statist. 35 (1964) 73): one such block in some thousands
        would be all that a batch says.
        """
        away = (energy * size_of(fast) - self.transverse) / self.variance.sqrt()
        misfit: Tensor = F.huber_loss(away, torch.zeros_like(away), reduction="none", delta=_FAR)
        return misfit + 0.5 * self.variance.log()

    def detached(self) -> Expected:
        """Without gradients: `misfit` alone is to teach them."""
        return Expected(*(part.detach() for part in self))

    def repeated(self, k: int) -> Expected:
        """The whole batch k times."""
        return Expected(*(repeated(part, k) for part in self))


class Expectation(nn.Module):
    """Expects, of what each block and those around it are in the fast image, and of what is told of the whole.

    Args:
        n_context: channels of what is known of a block.
        unit: of momenta, about a GeV.
        width: of the network.
    """

    def __init__(self, n_context: int, unit: float, width: int = 32) -> None:
        super().__init__()
        self.unit = unit
        self.level = Level(n_context + 1, width, 2)

    def forward(self, fast: FastBlocks) -> Expected:
        """Of the fast images' blocks."""
        transverse = transverse_of(fast) / self.unit
        raw = self.level(torch.cat([fast.context, 0.3 * torch.log1p(10 * transverse)], dim=1))
        n, _, rows, columns = fast.energy.shape
        gain, log_variance = raw.reshape(n, rows, columns, 2).permute(0, 3, 1, 2).chunk(2, dim=1)
        mean = self.unit * (transverse + _FAINT) * gain.clamp(-4, 2).exp()
        variance = self.unit**2 * (usual_variance(transverse) + _FAINT) * log_variance.clamp(-5, 4).exp()
        return Expected(mean / size_of(fast), mean, variance)
