"""How the blocks of `coarse-to-fine` share out what an event still lacks of its momentum."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .expectation import Expected
from .fast_blocks import FastBlocks, unit_of
from .splitting import repeated

_FARTHEST = 0.6  # by which share of its energy a block may be asked to change for balance
_NARROWEST = 1e-3  # to which share of its width a block's density may shrink by it


class Shares(NamedTuple):
    """How blocks share out what is missing of an event's momentum: the best linear estimate (Gauss, Markov).

    Attributes:
        direction: of the blocks, of length one (B, 2, Y, X).
        transverse: momenta that are expected of the blocks (B, 1, Y, X).
        variance: of these (B, 1, Y, X).
        products: of the variance and the direction's x x, x y and y y (B, 3, Y, X).
        blur: standard deviation of what the sum is to be.
    """

    direction: Tensor
    transverse: Tensor
    variance: Tensor
    products: Tensor
    blur: float

    @classmethod
    def of(cls, fast: FastBlocks, expected: Expected, blur: float) -> Shares:
        """Of the fast images' blocks, of whose full energies so much is expected."""
        direction, variance = unit_of(fast), expected.variance
        x, y = direction.chunk(2, dim=1)
        return cls(direction, expected.transverse, variance, variance * torch.cat([x * x, x * y, y * y], dim=1), blur)

    def repeated(self, k: int) -> Shares:
        """The whole batch k times."""
        direction, transverse, variance, products = (repeated(part, k) for part in self[:4])
        return Shares(direction, transverse, variance, products, self.blur)

    def along(self, momentum: Tensor) -> Tensor:
        """A momentum (B, 2, 1, 1) along each block's direction (B, 1, Y, X)."""
        return (momentum * self.direction).sum(1, keepdim=True)

    def __call__(self, missing: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
        """By which share of its momentum each block would change if all added up, and how much it could still.

        What is missing is shared out by the blocks that are still free, by their directions and variances; and what is
        known of the sum makes each of them better known.

        Args:
            missing: what blocks must lose (B, 2, 1, 1), their sum less what it is to be.
            free: 1 where a block is still to be drawn, else 0 (B, 1, Y, X).

        Returns:
            The shares and the factors by which standard deviations shrink, both (B, 1, Y, X).
        """
        total = self._total(free)
        owed = -self.variance * self._shared(missing, total) / (self.transverse + self.blur)
        narrower = torch.where(free > 0, self._narrower(total), 1.0)
        return owed.clamp(-_FARTHEST, _FARTHEST), narrower

    def together(self, normal: Tensor, now: Tensor, free: Tensor, others: Tensor) -> Tensor:
        """Standard normal numbers of blocks that are drawn at once, which are to add up as one by one they would.

        What one of them has too much the others lack: they vary around what they owe as parts of a sum that is known.
        Matheron's rule: numbers drawn apart, and of all that comes later one for the whole, are shifted by what they
        owe (Wilson et al., JMLR 22 (2021) 105, theorem 1).

        Args:
            normal: independent standard normal numbers of the blocks (B, 1, Y, X).
            now: 1 where a block is drawn, else 0 (B, 1, Y, X).
            free: 1 where a block is still to be drawn, those that are drawn now too, else 0 (B, 1, Y, X).
            others: standard normal numbers for those that come later (B, 2).
        """
        xx, xy, yy = total = self._total(free)
        less_xx, less_xy, less_yy = (self.products * now).sum((2, 3), keepdim=True).chunk(3, dim=1)
        one, two = others[:, :, None, None].chunk(2, dim=1)
        # Cholesky factors of the covariance of what comes later.
        size = (xx - less_xx).clamp(min=self.blur**2).sqrt()
        slope = (xy - less_xy) / size
        rest = torch.cat([size * one, slope * one + (yy - less_yy - slope.square()).clamp(min=0).sqrt() * two], dim=1)
        deviation = self.variance.sqrt()
        missing = (normal * deviation * now * self.direction).sum((2, 3), keepdim=True) + rest
        return (normal - deviation * self._shared(missing, total)) / self._narrower(total)

    def _total(self, free: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Covariance of the sum of blocks, x x, x y and y y, each (B, 1, 1, 1)."""
        xx, xy, yy = (self.products * free).sum((2, 3), keepdim=True).chunk(3, dim=1)
        return xx + self.blur**2, xy, yy + self.blur**2

    def _shared(self, missing: Tensor, total: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """A sum (B, 2, 1, 1) over its covariance, along each block (B, 1, Y, X)."""
        x, y = self.direction.chunk(2, dim=1)
        xx, xy, yy = total
        of_x, of_y = missing.chunk(2, dim=1)
        return ((yy * of_x - xy * of_y) * x + (xx * of_y - xy * of_x) * y) / (xx * yy - xy * xy)

    def _narrower(self, total: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """By which factor each block's standard deviation shrinks where the sum is known (B, 1, Y, X)."""
        xx, xy, yy = total
        known = (self.products * torch.cat([yy, -2 * xy, xx], dim=1)).sum(1, keepdim=True) / (xx * yy - xy * xy)
        return (1 - known).clamp(_NARROWEST**2, 1.0).sqrt()
