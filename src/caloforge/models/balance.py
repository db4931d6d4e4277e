"""Transverse momentum of a whole event, for `coarse-to-fine`: how much is missing is drawn before any block.

No convolution sees a whole image. Yet momenta add up to what neutrinos and muons leave, so what one block lacks another
has too much. Whether there are neutrinos is seen in the fast image as a whole; so the full image's missing momentum is
drawn first, of a density of its own, and then shared out by the blocks.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import normal_weights
from .counts import Counts
from .fast_blocks import FastBlocks, brightest, size_of, transverse_of, unit_of, usual_variance
from .splitting import repeated

_HALF = 0.6745  # half of a normal distribution lies within so many standard deviations


class MomentumDensity(NamedTuple):
    """A mixture of M normal densities of two-dimensional momenta, along and across a direction.

    Attributes:
        direction: of length one (B, 2).
        log_share: logarithms of the components' probabilities (B, M).
        mean: along and across (B, M, 2).
        log_width: along and across (B, M, 2).
    """

    direction: Tensor
    log_share: Tensor
    mean: Tensor
    log_width: Tensor

    def minus_log_likelihood(self, momentum: Tensor) -> Tensor:
        """Of momenta (B, 2) -> (B,)."""
        x, y = self.direction.unbind(1)
        turned = torch.stack([momentum[:, 0] * x + momentum[:, 1] * y, momentum[:, 1] * x - momentum[:, 0] * y], dim=1)
        away = (turned.unsqueeze(1) - self.mean) * torch.exp(-self.log_width)
        log_normal = (-0.5 * away.square() - self.log_width - 0.5 * math.log(2 * math.pi)).sum(2)
        return -torch.logsumexp(self.log_share + log_normal, dim=1)

    def repeated(self, k: int) -> MomentumDensity:
        """The whole batch k times."""
        return MomentumDensity(*(repeated(part, k) for part in self))

    def draw(self, noise: Tensor) -> Tensor:
        """Momenta (B, 2), of standard normal numbers (B, 3)."""
        rank = torch.special.ndtr(noise[:, :1])
        which = (rank > self.log_share.exp().cumsum(1)[:, :-1]).sum(1)[:, None, None].expand(-1, 1, 2)
        mean, width = (part.gather(1, which).squeeze(1) for part in (self.mean, self.log_width.exp()))
        along, across = (mean + width * noise[:, 1:]).unbind(1)
        x, y = self.direction.unbind(1)
        return torch.stack([along * x - across * y, along * y + across * x], dim=1)


class Whole(NamedTuple):
    """What whole fast images tell.

    Attributes:
        told: to all cells (B, n_out).
        spread: logarithm of how much less well than usual each block is measured, as a variance (B, 1, Y, X).
        variance: of the blocks' transverse momenta (B, 1, Y, X).
        momentum: density of the full images' sum of transverse momenta.
        counts: how many towers are hit.
    """

    told: Tensor
    spread: Tensor
    variance: Tensor
    momentum: MomentumDensity
    counts: Counts

    def misfit(self, fast: FastBlocks, energy: Tensor, unit: float) -> Tensor:
        """How badly ``spread`` says how far the full images' energies lie from the fast ones' (B, 1, Y, X).

        Minus the log-likelihood of a Cauchy distribution, whose width is where half of the values lie: an electron is
        known well though a few of those that look like one are none. Blocks under a unit of transverse momentum do not
        count.
        """
        transverse = transverse_of(fast) / unit
        log_width = math.log(_HALF) + 0.5 * (self.spread + (usual_variance(transverse) + 1e-6).log())
        away = (energy - fast.energy) * size_of(fast) / unit
        each = log_width + torch.log1p((away * torch.exp(-log_width)).square())
        return torch.where(transverse > 1, each, 0.0)

    def repeated(self, k: int) -> Whole:
        """The whole batch k times."""
        told, spread, variance = (repeated(part, k) for part in self[:3])
        return Whole(told, spread, variance, self.momentum.repeated(k), self.counts.repeated(k))

    def beside(self, x: Tensor) -> Tensor:
        """What is told, after the channels of (B, C, Y, X)."""
        return torch.cat([x, self.told[:, :, None, None].expand(-1, -1, x.shape[2], x.shape[3])], dim=1)


class _View(NamedTuple):
    """A whole fast image, seen along its sum of transverse momenta; momenta in units of about a GeV.

    Attributes:
        cells: of each block (B, W, Y, X).
        hidden: of the whole image (B, W).
        along: direction of the sum, of length one (B, 2).
        size: of the sum (B, 1).
        turned: cosines and sines of the angles between the blocks and the sum, both (B, 1, Y, X).
        transverse: momenta of the blocks (B, 1, Y, X).
    """

    cells: Tensor
    hidden: Tensor
    along: Tensor
    size: Tensor
    turned: tuple[Tensor, Tensor]
    transverse: Tensor


class _Overview(nn.Module):
    """Looks at the blocks one by one and at what they are together; a subclass makes the layers and says what of.

    Args:
        components: of the missing momentum's mixture.
        unit: of momenta, about a GeV.
        n_first: of the brightest blocks, which are seen one by one too.
    """

    enter: nn.Conv2d
    stay: nn.Conv2d
    pooled: nn.Linear
    middle: nn.Linear

    def __init__(self, components: int, unit: float, n_first: int = 0) -> None:
        super().__init__()
        self.unit, self.components, self.n_first = unit, components, n_first

    def view(self, fast: FastBlocks) -> _View:
        """Of the fast images' blocks."""
        momentum = (fast.energy * fast.aim).sum((2, 3))
        size = momentum.square().sum(1, keepdim=True).sqrt()
        some = size > 1e-3 * self.unit
        along = torch.where(some, momentum / torch.where(some, size, 1.0), momentum.new_tensor([1.0, 0.0]))
        x, y = unit_of(fast).chunk(2, dim=1)
        to_x, to_y = (part[:, :, None, None] for part in along.chunk(2, dim=1))
        cosine, sine = x * to_x + y * to_y, y * to_x - x * to_y
        transverse = transverse_of(fast) / self.unit
        seen = torch.cat([fast.context, 0.3 * torch.log1p(10 * transverse), cosine, sine], dim=1)
        cells = F.silu(self.enter(seen))
        cells = cells + F.silu(self.stay(cells))
        total = transverse.sum((2, 3))
        weighted = (cells * transverse).sum((2, 3)) / (total + 1)
        more = [torch.log1p(total), torch.log1p(size / self.unit), size / self.unit / (total + 1).sqrt()]
        parts = [cells.mean((2, 3)), cells.amax((2, 3)), weighted, 0.3 * torch.cat(more, 1)]
        if self.n_first:
            first = brightest(transverse, self.n_first).unsqueeze(1)
            each = torch.cat([cells, 0.3 * torch.log1p(transverse), cosine, sine], dim=1).flatten(2)
            parts.append(each.gather(2, first.expand(-1, each.shape[1], -1)).flatten(1))
        hidden = self.pooled(torch.cat(parts, 1))
        hidden = hidden + self.middle(F.silu(hidden))
        return _View(cells, F.silu(hidden), along, size / self.unit, (cosine, sine), transverse)

    def density(self, view: _View, variance: Tensor, raw: Tensor) -> MomentumDensity:
        """Of the full images' sums, of raw values (B, 6 M) and the blocks' variances in units (B, 1, Y, X)."""
        m = self.components
        widths = [((variance * part.square()).sum((1, 2, 3)) + 1).sqrt() for part in view.turned]
        width = torch.stack(widths, 1)
        share, gain, shift, log_width = torch.split(raw, [m, m, 2 * m, 2 * m], dim=1)
        # From jets that are badly measured to a neutrino that is truly there.
        kept = torch.linspace(0.2, 1.0, m, device=raw.device) if m > 1 else torch.full((1,), 0.6, device=raw.device)
        mean = torch.stack([(gain + kept) * view.size, torch.zeros_like(gain)], dim=2)
        mean = mean + shift.reshape(-1, m, 2) * width.unsqueeze(1)
        log_width = log_width.reshape(-1, m, 2).clamp(-3, 3) + width.log().unsqueeze(1)
        return MomentumDensity(view.along, F.log_softmax(share, 1), self.unit * mean, log_width + math.log(self.unit))


class Outlook(_Overview):
    """What a whole fast image tells: how badly each block is measured, how much momentum is missing, how much is hit.

    Args:
        n_context: channels of what is known of a block.
        n_out: numbers that tell of the whole image.
        components: of the missing momentum's mixture.
        unit: of momenta, about a GeV.
    """

    def __init__(self, n_context: int, n_out: int, components: int, unit: float, width: int = 48) -> None:
        super().__init__(components, unit)
        self.enter, self.stay = nn.Conv2d(n_context + 3, width, 1), nn.Conv2d(width, width, 1)
        self.spread, self.count = nn.Conv2d(width, 1, 1), nn.Conv2d(width, 3, 1)
        self.pooled, self.middle = nn.Linear(3 * width + 3, width), nn.Linear(width, width)
        self.told, self.momentum = nn.Linear(width, n_out), nn.Linear(width, 6 * components)
        self.total = nn.Linear(width, 3 * components)
        for last in (self.spread, self.count, self.momentum, self.total):
            normal_weights(last, 1e-2)

    def forward(self, fast: FastBlocks) -> Whole:
        """Of the fast images' blocks."""
        view = self.view(fast)
        spread = self.spread(view.cells).clamp(-7, 4)
        # Learnt by `Whole.misfit` alone: of a block drawn last the sum tells so much that nothing else would teach it.
        variance = usual_variance(view.transverse) * spread.detach().exp()
        density = self.density(view, variance, self.momentum(view.hidden))
        counts = Counts.of(fast.hit, self.count(view.cells), self.total(view.hidden))
        return Whole(self.told(view.hidden), spread, variance * self.unit**2, density, counts)


class Foresight(_Overview):
    """The full images' sums of transverse momenta, learnt when all else has been.

    One sum is known of each event, where thousands of towers are: beside them it is learnt slowly, in small batches,
    and by heart. So it has a network of its own, large batches and dropout.

    Args:
        n_context: channels of what is known of a block.
        components: of the mixture.
        unit: of momenta, about a GeV.
        width: of the network.
        dropout: share of what is known of each block that is not seen in training.
        n_first: of the brightest blocks, which are seen one by one too.
    """

    def __init__(
        self,
        n_context: int,
        components: int,
        unit: float,
        width: int = 96,
        dropout: float = 0.1,
        n_first: int = 0,
    ) -> None:
        super().__init__(components, unit, n_first)
        self.dropout = dropout
        self.enter, self.stay = nn.Conv2d(n_context + 3, width, 1), nn.Conv2d(width, width, 1)
        self.pooled, self.middle = nn.Linear(3 * width + 3 + n_first * (width + 3), width), nn.Linear(width, width)
        self.momentum = nn.Linear(width, 6 * components)
        normal_weights(self.momentum, 1e-2)

    def forward(self, fast: FastBlocks, whole: Whole, rng: torch.Generator | None = None) -> MomentumDensity:
        """Of the fast images' blocks and what `Outlook` says of them; in training with a rng, which drops."""
        if rng is not None:
            kept = torch.rand(fast.context.shape, generator=rng, device=rng.device).to(fast.context) >= self.dropout
            fast = fast._replace(context=fast.context * kept / (1 - self.dropout))
        view = self.view(fast)
        return self.density(view, whole.variance / self.unit**2, self.momentum(view.hidden))
