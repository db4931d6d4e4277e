"""How many towers of a whole event are hit, for `coarse-to-fine`: how many is drawn before any block.

Most towers of a full image are faint and beyond what the fast one shows. How many there are varies from event to event
as a whole, with the soft particles that the fast simulation does not show, and blocks that only see their neighbours
would vary each for itself.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .splitting import Density, repeated

BLUR = 3.0  # towers, about: how sharply the blocks are asked for the number that was drawn before them
_FEWEST = 0.05  # towers that are expected of any block


class Counts(NamedTuple):
    """What whole fast images tell of how many towers are hit in the full ones.

    Attributes:
        expected: in each block (B, 1, Y, X).
        variance: of these (B, 1, Y, X).
        root: density of the square root of how many in the whole image, of B cells.
    """

    expected: Tensor
    variance: Tensor
    root: Density

    @classmethod
    def of(cls, hit: Tensor, raw: Tensor, whole: Tensor) -> Counts:
        """Of the fast images' numbers (B, 1, Y, X) and raw values of blocks (B, 3, Y, X) and of the whole (B, 3 M)."""
        gain, shift, log_width = raw.chunk(3, dim=1)
        expected = ((hit + 1).sqrt() * (1 + gain) + 1 + shift).square() + _FEWEST
        variance = (expected + _FEWEST) * (1 + log_width.clamp(-5, 4)).exp()
        total, width = (x.detach().sum((1, 2, 3)).unsqueeze(1) for x in (expected, variance))
        root = (total + 1).sqrt()
        width = 0.5 * (width + BLUR**2).sqrt() / root
        share, mean, log_width = whole.chunk(3, dim=1)
        log_width = log_width.clamp(-3, 3) + width.log()
        return cls(expected, variance, Density(F.log_softmax(share, 1), root + width * mean, log_width))

    def misfit(self, number: Tensor) -> Tensor:
        """How badly ``expected`` and ``variance`` foretell the full images' numbers (B, 1, Y, X): as normal ones."""
        misfit: Tensor = 0.5 * ((number - self.expected).square() / self.variance + self.variance.log())
        return misfit

    def shares(self, missing: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
        """How many towers more than ``expected`` each block should have, and how much less it could vary still.

        Args:
            missing: of the number that is to come out, beside those known and those expected of all free (B, 1, 1, 1).
            free: 1 where a block's number is still to be drawn, else 0 (B, 1, Y, X).

        Returns:
            Towers, and the factors by which standard deviations shrink, both (B, 1, Y, X).
        """
        share = self.variance / ((self.variance * free).sum((2, 3), keepdim=True) + BLUR**2)
        return share * missing, torch.where(free > 0, 1 - share, 1.0).clamp(1e-2, 1.0).sqrt()

    def detached(self) -> Counts:
        """Without gradients: `misfit` alone is to teach them."""
        return self._replace(expected=self.expected.detach(), variance=self.variance.detach())

    def repeated(self, k: int) -> Counts:
        """The whole batch k times."""
        root = Density(*(repeated(part, k) for part in self.root))
        return Counts(repeated(self.expected, k), repeated(self.variance, k), root)


def roots(number: Tensor) -> Tensor:
    """Square roots of numbers that may be a little under zero."""
    return torch.sqrt(number.clamp(min=_FEWEST))
