"""The coarsest level of `coarse-to-fine`: each block's energy and how many of its towers are hit, block after block.

A shower at the border of two blocks is shared by them: what one has not, the other has. So the blocks are drawn in
turn, as the countries of a map are coloured, and each sees what its neighbours have got.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .balance import Outlook, Whole
from .counts import BLUR, Counts, roots
from .expectation import Expectation, Expected
from .fast_blocks import FastBlocks, brightest, size_of, transverse_of
from .scales import Level, sums_around
from .scores import crps, energy_score
from .shares import Shares
from .splitting import Density, repeated

_LAST = 3  # of the blocks that are measured worst, drawn one by one when all others are known
_FIRST = 4  # of the fast image's brightest blocks, beside which all others are seen
_BLUR = 2.0  # GeV, about: how sharply the blocks are asked for the missing momentum that was drawn before them


def n_colours(rows: int, columns: int) -> tuple[int, int]:
    """Of the rows and of the columns; columns close, so that an odd number of them needs a third."""
    return min(rows, 2), min(columns, 2 + columns % 2)


def colours(rows: int, columns: int) -> Tensor:
    """Numbers (rows, columns) of colours: no block has that of a neighbour, also across a corner; columns close."""
    row, column = torch.arange(rows) % 2, torch.arange(columns) % 2
    if columns % 2 and columns > 1:
        column[-1] = 2  # between two of colour 0
    return row[:, None] * n_colours(rows, columns)[1] + column


class _Event(NamedTuple):
    """What a block is told but for what has been drawn: of the fast image, and what is to come out of the whole.

    Attributes:
        fast: with what the whole image tells in its context.
        target: sum of transverse momenta of the full image (B, 2, 1, 1).
        expected: of the blocks' energies; `Expected.misfit` alone teaches it.
        shares: of what is missing.
        total: how many towers of the full image are hit (B, 1, 1, 1).
        counts: how many are expected.
        spread: see `Whole` (B, 1, Y, X).
        log_energy: as networks see the fast energies (B, 1, Y, X).
        along: the fast image's sum of momenta, and this less the target, along each block (B, 2, Y, X).
        standing: of each block in the whole image (B, S, Y, X), see `Blocks._standing`.
    """

    fast: FastBlocks
    target: Tensor
    expected: Expected
    shares: Shares
    total: Tensor
    counts: Counts
    spread: Tensor
    log_energy: Tensor
    along: Tensor
    standing: Tensor

    def repeated(self, k: int) -> _Event:
        """The whole batch k times."""
        others = (repeated(x, k) for x in (self.spread, self.log_energy, self.along, self.standing))
        return _Event(
            self.fast.repeated(k),
            repeated(self.target, k),
            self.expected.repeated(k),
            self.shares.repeated(k),
            repeated(self.total, k),
            self.counts.repeated(k),
            *others,
        )


class Blocks(nn.Module):
    """Densities of the blocks' energies, and of their numbers of towers given the energies.

    Args:
        n_context: channels of what the fast image tells of them.
        sizes: of the coarsest images (Y, X).
        n_towers: towers in a block.
        width: channels of the networks.
        components: of each mixture.
        energy_scale: energies well under it look empty to the network.
        moments: weight of the score of means and variances of the energies.
    """

    n_told = 12
    """Numbers that tell of a whole image."""

    def __init__(
        self,
        n_context: int,
        sizes: tuple[int, int],
        n_towers: int,
        width: int,
        components: int,
        energy_scale: float,
        moments: float = 0.0,
    ) -> None:
        super().__init__()
        self.moments = moments
        self.energy_scale, self.n_towers, self.unit = energy_scale, n_towers, 10 * energy_scale
        self.outlook = Outlook(n_context, self.n_told, components, self.unit)
        n_context += self.n_told
        self.n_first = min(_FIRST, math.prod(sizes))
        self.expectation = Expectation(n_context, self.unit)
        self.of_energy = Level(n_context + 16, width, 1 + 5 * components, self.n_first + 3)
        self.components = components
        self.of_number = Level(n_context + 16, width, 1 + 5 * components)
        self.sizes, self.n_last = sizes, min(_LAST, sizes[0] * sizes[1])
        self.n_colours = math.prod(n_colours(*sizes))
        self.n_noise = 4 * sizes[0] * sizes[1] + 5 + 2 * self.n_colours
        """Latent numbers of an image."""

    def minus_log_likelihood(
        self,
        fast: FastBlocks,
        whole: Whole,
        most: Tensor,
        energy: Tensor,
        number: Tensor,
        weight: Tensor,
        rng: torch.Generator,
        blocks_only: bool = False,
    ) -> Tensor:
        """Of blocks (B, 1, Y, X) of the full images: their energies and numbers of towers -> (B,).

        Args:
            fast: what the fast images tell of them.
            whole: what `outlook` says of the fast images.
            most: what blocks may hold at most.
            energy: the full images' energies.
            number: numbers of towers hit there.
            weight: how much each block counts.
            rng: spreads whole numbers, and what comes out of the whole.
            blocks_only: leave out what teaches `outlook`.
        """
        n, k = energy.shape[0], self.n_colours + self.n_last
        momentum, root = self.blurred_momentum(fast, energy, rng), _blurred_root(number, rng)
        out = torch.zeros_like(root)
        if not blocks_only:
            out = whole.momentum.minus_log_likelihood(momentum)
            out = out + whole.counts.root.minus_log_likelihood(torch.zeros_like(root).long(), root)
            out = weight.amax((1, 2, 3)) * out  # it counts as a bright block does
            misfit = weight * whole.misfit(fast, energy, self.unit) + whole.counts.misfit(number)
            out = out + misfit.sum((1, 2, 3))
        event = self._event(fast, whole, momentum, root)
        out = out + (weight * event.expected.misfit(fast, energy)).sum((1, 2, 3))
        order = repeated(self._order(self._worst(event.expected.variance)), k)
        event = event.repeated(k)
        step = torch.arange(k, device=energy.device).repeat_interleave(n)[:, None, None, None]
        earlier, now = (order < step).to(energy), (order == step).flatten()  # (K B, 1, Y, X), (K B Y X,)
        energy, number, weight = (repeated(x, k) for x in (energy, number, weight))
        image = torch.arange(now.shape[0], device=energy.device) // order[0].numel() % n
        cells = now.nonzero().flatten()
        density = self.energies(event, energy * earlier, number * earlier, earlier, cells)
        filled = energy.flatten()[cells] > 0
        log_energy = torch.where(filled, energy.flatten()[cells], 1.0).log()
        each = density.minus_log_likelihood(filled.long(), log_energy)
        if self.moments:
            each = each + self.moments * self._misjudged(
                density, energy.flatten()[cells], repeated(most, k).flatten()[cells]
            )
        out = out.index_add(0, image[cells], each * weight.flatten()[cells])
        cells = cells[filled]
        known = earlier + now.reshape(earlier.shape).to(earlier)
        density = self.numbers(event, energy * known, number * earlier, known, earlier, cells)
        hit = number.flatten()[cells]
        spread = torch.rand(hit.shape, generator=rng, device=rng.device).to(hit)
        root = (hit - spread).clamp(min=0).sqrt()
        return out.index_add(0, image[cells], density.minus_log_likelihood((hit > 1).long(), root))

    def drawn_by(self) -> list[nn.Module]:
        """The networks that blocks are drawn by, when the whole is known."""
        return [self.expectation, self.of_energy, self.of_number]

    def blurred_momentum(self, fast: FastBlocks, energy: Tensor, rng: torch.Generator) -> Tensor:
        """Sums of transverse momenta (B, 2) of full images' blocks (B, 1, Y, X), as sharp as they are asked for."""
        momentum = (energy * fast.aim).sum((2, 3))
        return momentum + _BLUR * self.unit * torch.randn(momentum.shape, generator=rng, device=rng.device).to(momentum)

    def _misjudged(self, density: Density, energy: Tensor, most: Tensor) -> Tensor:
        """Score (K,) of means and variances of energies (Dawid, Sebastiani, Ann. Statist. 27 (1999) 65)."""
        mean, variance = density.moments(most + self.energy_scale)
        variance = variance + self.energy_scale**2
        return 0.5 * ((energy - mean).square() / variance + variance.log())

    def draw(self, fast: FastBlocks, whole: Whole, most: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Energies and numbers of towers (N, 1, Y, X), from normal numbers (N, ``n_noise``).

        Args:
            fast: what the fast images tell.
            whole: what `outlook` says of them.
            most: what blocks may hold at most (N, 1, Y, X).
            noise: normal numbers.
        """
        _, root = whole.counts.root.draw(noise[:, 3], noise[:, 4])
        return self._drawn(self._event(fast, whole, whole.momentum.draw(noise[:, :3]), root), most, noise)

    def _drawn(self, event: _Event, most: Tensor, noise: Tensor, learning: bool = False) -> tuple[Tensor, Tensor]:
        """What `draw` gives, when it is known what is to come out of the whole.

        When ``learning`` energies follow their densities, see `Density.followed`.
        """
        energy, number, known = (torch.zeros_like(event.fast.energy) for _ in range(3))
        # Not len(): whoever exports wants as many images as there will be.
        n = most.shape[0]
        first_part = 5 + 2 * self.n_colours
        others = noise[:, 5:first_part].reshape(n, -1, 2)
        parts = [part.flatten() for part in noise[:, first_part:].reshape(n, 4, -1).unbind(1)]
        worst = self._worst(event.expected.variance)
        order, colour = self._order(worst), colours(*self.sizes).flatten().to(most.device)
        size = colour.shape[0]
        first = torch.arange(n, device=most.device)[:, None] * size
        last = worst + first  # (N, n_last)
        for step in range(self.n_colours + self.n_last):
            ends = step - self.n_colours
            chosen = first + (colour == step).nonzero().flatten() if ends < 0 else last[:, ends : ends + 1]
            cells = chosen.flatten()
            now = (order == step).to(energy)  # the worst measured of a colour wait
            drawn, normal = now.flatten()[cells], parts[1]
            if ends < 0:  # more than one
                normal = event.shares.together(normal.reshape(now.shape), now, 1 - known, others[:, step]).flatten()
            density = self.energies(event, energy, number, known, cells)
            outcome, value = density.draw(parts[0][cells], normal[cells])
            value = density.followed(value) if learning else value
            some = torch.where(outcome == 0, 0.0, value.clamp(max=30.0).exp())
            energy = _put(energy, cells, drawn * torch.minimum(some, most.flatten()[cells]))
            counted, known = known, _put(known, cells, drawn)
            seen = energy.detach() if learning else energy  # whole numbers have no gradient to hand on
            density = self.numbers(event, seen, number, known, counted, cells)
            outcome, value = density.draw(parts[2][cells], parts[3][cells])
            some = torch.where(outcome == 0, 1.0, value.clamp(min=1.0).square().ceil().clamp(max=self.n_towers))
            number = _put(number, cells, torch.where(energy.flatten()[cells] > 0, some, 0.0))
        return energy, number

    def misdrawn(
        self,
        fast: FastBlocks,
        whole: Whole,
        most: Tensor,
        energy: Tensor,
        number: Tensor,
        weight: Tensor,
        rng: torch.Generator,
    ) -> Tensor:
        """Proper scores (B,) of two drawings of all blocks of each image: of their sums, near and of the whole.

        Beside thousands of towers the likelihood hardly sees it if all blocks vary by a tenth too much, or if those
        drawn in one step do not make good for each other; but jets and sums are made of them. So what is drawn, of the
        momentum and the number of towers that the full image has, is compared with it: transverse energies of blocks
        and of the three by three around each, in their standard deviations, and of the whole image their sum and how
        far their momentum is from the one that was asked for. Without the right momentum to ask for, what each image
        lacks would hide whether blocks add up.

        Args:
            fast: what the fast images tell of the blocks.
            whole: what `outlook` says of the fast images.
            most: what blocks may hold at most (B, 1, Y, X).
            energy: the full images' (B, 1, Y, X).
            number: of towers hit there (B, 1, Y, X).
            weight: how much each block counts (B, 1, Y, X).
            rng: for the draws.
        """
        n = energy.shape[0]
        event = self._event(fast, whole, self.blurred_momentum(fast, energy, rng), _blurred_root(number, rng))
        noise = torch.randn(2 * n, self.n_noise, generator=rng, device=rng.device).to(energy)
        drawn, _ = self._drawn(event.repeated(2), repeated(most, 2), noise, learning=True)
        three = (drawn[:n], drawn[n:], energy)
        size, variance = size_of(fast) / self.unit, event.expected.variance.detach() / self.unit**2
        near = [each * size for each in three]
        score = weight * crps(*near) / (variance + 1).sqrt()
        around = [sums_around(each, 1) for each in near]
        score = score + weight * crps(*around) / (sums_around(variance, 1) + 1).sqrt()
        total = crps(*(each.sum((1, 2, 3)) for each in near)) / (variance.sum((1, 2, 3)) + 1).sqrt()
        momentum = energy_score(*((each * fast.aim).sum((2, 3)) / self.unit for each in three)) / _BLUR
        return score.sum((1, 2, 3)) + weight.amax((1, 2, 3)) * (total + momentum)

    def energies(self, event: _Event, energy: Tensor, number: Tensor, known: Tensor, cells: Tensor) -> Density:
        """Of some blocks: empty, or the logarithm of the energy; ``energy`` and ``number`` of those ``known``."""
        seen, (owed, narrower), _ = self._seen(event, energy, number, known, known)
        raw = self.of_energy(seen, cells, event.standing)
        raw, gain = raw[:, : -self.components], raw[:, -self.components :]
        narrower = 0.5 * event.spread.detach() + narrower.log()
        simple, owed, narrower = (x.flatten()[cells].unsqueeze(1) for x in (event.fast.energy, owed, narrower))
        # A calorimeter's resolution, sqrt(a^2 / E + b^2), to start from.
        width = 0.5 * (0.015 + 10 * self.unit / (simple + 13 * self.unit)).log()
        density = Density.of(raw, (simple + self.energy_scale).log(), 1, width + narrower)
        return density._replace(mean=density.mean + 2 * gain.sigmoid() * owed.log1p())

    def numbers(
        self, event: _Event, energy: Tensor, number: Tensor, known: Tensor, counted: Tensor, cells: Tensor
    ) -> Density:
        """Of some blocks: one tower, or the square root of the number of towers, spread over a whole one.

        ``energy`` of those ``known``, ``number`` of those ``counted``.
        """
        seen, _, (owed, narrower) = self._seen(event, energy, number, known, counted)
        raw = self.of_number(seen, cells)
        raw, gain = raw[:, : -self.components], raw[:, -self.components :]
        expected, variance = event.counts.expected, event.counts.variance
        width = 0.5 * variance.log() - roots(4 * expected).log() + narrower.log()
        expected, owed, width = (x.flatten()[cells].unsqueeze(1) for x in (expected, owed, width))
        density = Density.of(raw, roots(expected), 1, width)
        return density._replace(mean=density.mean + roots(expected + 2 * gain.sigmoid() * owed) - roots(expected))

    def _event(self, fast: FastBlocks, whole: Whole, momentum: Tensor, root: Tensor) -> _Event:
        """With the full images' sums of transverse momenta (B, 2), and square roots of how many towers are hit (B,)."""
        target, simple = momentum[:, :, None, None], (fast.energy * fast.aim).sum((2, 3), keepdim=True)
        fast = fast._replace(context=whole.beside(fast.context))
        expected = self.expectation(fast)
        fixed = expected.detached()
        shares, standing = Shares.of(fast, fixed, _BLUR * self.unit), self._standing(fast, fixed)
        along = torch.cat([self._told(shares.along(x)) for x in (simple, simple - target)], dim=1)
        seen, total = torch.log1p(fast.energy / self.energy_scale), root.square()[:, None, None, None]
        counts = whole.counts.detached()
        return _Event(fast, target, expected, shares, total, counts, whole.spread, seen, along, standing)

    def _standing(self, fast: FastBlocks, expected: Expected) -> Tensor:
        """How bright each block is beside the brightest, of all, and what is expected of it (B, S, Y, X).

        An event's second jet was rather measured too low, a third of the same energy rather too high.
        """
        transverse = transverse_of(fast) / self.unit
        first = transverse.flatten(1).topk(self.n_first, dim=1).values[:, :, None, None]
        share = transverse / (transverse.sum((2, 3), keepdim=True) + 1)
        kept = (expected.transverse / self.unit + 1).log() - (transverse + 1).log()
        spread = 0.3 * (expected.variance / self.unit**2).log()
        return torch.cat([((transverse + 1) / (first + 1)).log(), share, kept, spread], dim=1)

    def _seen(
        self, event: _Event, energy: Tensor, number: Tensor, known: Tensor, counted: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """What a block's network sees in it and around it, and shares of energy and of number still to come.

        Blocks not ``known`` yet look empty; numbers are known of those ``counted``.
        """
        fast = event.fast
        log_full = torch.log1p(energy / self.energy_scale)
        root = fast.hit.sqrt(), number.sqrt()
        response, filled = (log_full - event.log_energy) * known, (energy > 0).to(energy)
        more = (root[1] - root[0]) * (number > 0)  # of those whose number is known
        so_far = torch.where(known > 0, energy, event.expected.energy.detach())
        missing = (so_far * fast.aim).sum((2, 3), keepdim=True) - event.target
        owed, narrower = event.shares(missing, 1 - known)
        seen = [fast.context, 0.3 * event.log_energy, 0.3 * log_full, response, known, filled]
        seen += [0.3 * root[0], 0.3 * root[1], more, event.along, self._told(event.shares.along(missing))]
        seen += [5 * owed, narrower.log()]
        expected = event.counts.expected
        lacking = event.total - torch.where(counted > 0, number, expected).sum((2, 3), keepdim=True)
        due = event.counts.shares(lacking, 1 - counted)
        seen += [0.3 * roots(expected), due[0] / roots(event.counts.variance), due[1].log()]
        return torch.cat(seen, dim=1), (owed, narrower), due

    def _told(self, momentum: Tensor) -> Tensor:
        """Momenta as a network likes to see them."""
        in_units = momentum / self.unit
        told: Tensor = 0.3 * in_units.sign() * torch.log1p(in_units.abs())
        return told

    def _worst(self, variance: Tensor) -> Tensor:
        """Numbers of the blocks that are measured worst in each image, the worst last (B, n_last).

        The last ones take what is still missing; a block that is known well, an electron's, is not to be asked for it.
        """
        return brightest(variance, self.n_last).flip(1)

    def _order(self, worst: Tensor) -> Tensor:
        """In which step each block (B, 1, Y, X) is drawn: colour by colour, then the `_worst` one by one."""
        order = colours(*self.sizes).flatten().to(worst).expand(worst.shape[0], -1)
        steps = torch.arange(self.n_colours, self.n_colours + self.n_last, device=worst.device)
        return order.scatter(1, worst, steps.expand_as(worst)).reshape(-1, 1, *self.sizes)


def _blurred_root(number: Tensor, rng: torch.Generator) -> Tensor:
    """Square roots of full images' numbers of towers (B,), of blocks' (B, 1, Y, X), as sharp as they are asked for."""
    total = number.sum((1, 2, 3))
    return roots(total + BLUR * torch.randn(total.shape, generator=rng, device=rng.device).to(total))


def _put(image: Tensor, cells: Tensor, values: Tensor) -> Tensor:
    """The image with some of its cells replaced."""
    return image.flatten().index_copy(0, cells, values).reshape(image.shape)
