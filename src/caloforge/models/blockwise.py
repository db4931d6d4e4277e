"""The coarsest level of `coarse-to-fine`: each block's energy and how many of its towers are hit, block after block.

A shower at the border of two blocks is shared by them: what one has not, the other has. So the blocks are drawn in
turn, as the countries of a map are coloured, and each sees what its neighbours have got.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .scales import Level, Summary
from .splitting import Density


def n_colours(rows: int, columns: int) -> tuple[int, int]:
    """Of the rows and of the columns; columns close, so that an odd number of them needs a third."""
    return min(rows, 2), min(columns, 2 + columns % 2)


def colours(rows: int, columns: int) -> Tensor:
    """Numbers (rows, columns) of colours: no block has that of a neighbour, also across a corner; columns close."""
    row, column = torch.arange(rows) % 2, torch.arange(columns) % 2
    if columns % 2 and columns > 1:
        column[-1] = 2  # between two of colour 0
    return row[:, None] * n_colours(rows, columns)[1] + column


_SUMMARY = 12  # channels that tell of the whole event
_FARTHEST = 0.6  # by which share of its energy a block may be asked to change for balance


class FastBlocks(NamedTuple):
    """What the fast images tell of their blocks.

    Attributes:
        context: of the networks (B, C, Y, X).
        energy: in the blocks (B, 1, Y, X).
        hit: numbers of towers hit there (B, 1, Y, X).
        aim: transverse momentum over energy (B, 2, Y, X), of the towers that hold it: a block is as wide as a jet.
    """

    context: Tensor
    energy: Tensor
    hit: Tensor
    aim: Tensor


class Blocks(nn.Module):
    """Densities of the blocks' energies, and of their numbers of towers given the energies.

    Args:
        n_context: channels of what the fast image tells of them.
        sizes: of the coarsest images (Y, X).
        n_towers: towers in a block.
        width: channels of the networks.
        components: of each mixture.
        energy_scale: energies well under it look empty to the network.
    """

    n_noise = 4
    """Latent numbers for each block."""

    def __init__(
        self,
        n_context: int,
        sizes: tuple[int, int],
        n_towers: int,
        width: int,
        components: int,
        energy_scale: float,
    ) -> None:
        super().__init__()
        self.energy_scale, self.n_towers = energy_scale, n_towers
        self.summary = Summary(n_context, 3, 32, _SUMMARY)
        n_context += _SUMMARY
        self.of_energy = Level(n_context + 11, sizes[0], width, 1 + 5 * components)
        self.components = components
        self.of_number = Level(n_context + 11, sizes[0], width, 1 + 4 * components)
        self.sizes, self.n_colours = sizes, math.prod(n_colours(*sizes))

    def minus_log_likelihood(
        self, fast: FastBlocks, energy: Tensor, number: Tensor, weight: Tensor, rng: torch.Generator
    ) -> Tensor:
        """Of blocks (B, 1, Y, X) of the full images: their energies and numbers of towers -> (B,).

        Args:
            fast: what the fast images tell of them.
            energy: the full images' energies.
            number: numbers of towers hit there.
            weight: how much each block counts.
            rng: spreads whole numbers.
        """
        n, k = energy.shape[0], self.n_colours
        order, step = colours(*self.sizes).to(energy.device), torch.arange(k, device=energy.device)[:, None, None]
        earlier = (order < step).to(energy).repeat_interleave(n, dim=0).unsqueeze(1)  # (K B, 1, Y, X)
        now = (order == step).repeat_interleave(n, dim=0).flatten()
        fast = FastBlocks(*(x.expand(k, *x.shape).flatten(0, 1) for x in self._told(fast)))
        energy, number, weight = (x.expand(k, *x.shape).flatten(0, 1) for x in (energy, number, weight))
        image = torch.arange(now.shape[0], device=energy.device) // order.numel() % n
        cells = now.nonzero().flatten()
        density = self.energies(fast, energy * earlier, number * earlier, earlier, cells)
        filled = energy.flatten()[cells] > 0
        log_energy = torch.where(filled, energy.flatten()[cells], 1.0).log()
        out = torch.zeros(n, device=energy.device)
        each = density.minus_log_likelihood(filled.long(), log_energy)
        out = out.index_add(0, image[cells], each * weight.flatten()[cells])
        cells = cells[filled]
        known = earlier + now.reshape(earlier.shape).to(earlier)
        density = self.numbers(fast, energy * known, number * earlier, known, cells)
        whole = number.flatten()[cells]
        spread = torch.rand(whole.shape, generator=rng, device=rng.device).to(whole)
        root = (whole - spread).clamp(min=0).sqrt()
        return out.index_add(0, image[cells], density.minus_log_likelihood((whole > 1).long(), root))

    def draw(self, fast: FastBlocks, most: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Energies and numbers of towers (N, 1, Y, X), from normal numbers (N, 4 Y X).

        Args:
            fast: what the fast images tell.
            most: what blocks may hold at most (N, 1, Y, X).
            noise: normal numbers.
        """
        energy, number, known = (torch.zeros_like(fast.energy) for _ in range(3))
        fast = self._told(fast)
        # Not len(): whoever exports wants as many images as there will be.
        parts = [part.flatten() for part in noise.reshape(most.shape[0], self.n_noise, -1).unbind(1)]
        order = colours(*self.sizes).flatten().to(most.device)
        first = torch.arange(most.shape[0], device=most.device)[:, None] * len(order)
        for colour in range(self.n_colours):
            cells = (first + (order == colour).nonzero().flatten()).flatten()
            density = self.energies(fast, energy, number, known, cells)
            outcome, value = density.draw(parts[0][cells], parts[1][cells])
            some = torch.where(outcome == 0, 0.0, value.clamp(max=30.0).exp())
            energy = _put(energy, cells, torch.minimum(some, most.flatten()[cells]))
            known = _put(known, cells, torch.ones_like(some))
            density = self.numbers(fast, energy, number, known, cells)
            outcome, value = density.draw(parts[2][cells], parts[3][cells])
            some = torch.where(outcome == 0, 1.0, value.clamp(min=1.0).square().ceil().clamp(max=self.n_towers))
            number = _put(number, cells, torch.where(energy.flatten()[cells] > 0, some, 0.0))
        return energy, number

    def energies(self, fast: FastBlocks, energy: Tensor, number: Tensor, known: Tensor, cells: Tensor) -> Density:
        """Of some blocks: empty, or the logarithm of the energy; ``energy`` and ``number`` of those ``known``."""
        raw = self.of_energy(self._inputs(fast, energy, number, known), cells)
        raw, gain = raw[:, : -self.components], raw[:, -self.components :]
        simple = fast.energy.flatten()[cells].unsqueeze(1)
        # A calorimeter's resolution, sqrt(a^2 / E + b^2), to start from.
        width = 0.5 * (0.015 + 100 * self.energy_scale / (simple + 130 * self.energy_scale)).log()
        density = Density.of(raw, (simple + self.energy_scale).log(), 1, width)
        owed = self._owed(fast, self._so_far(fast, energy, known), 1 - known).flatten()[cells].unsqueeze(1)
        return density._replace(mean=density.mean + 2 * gain.sigmoid() * owed.log1p())

    def numbers(self, fast: FastBlocks, energy: Tensor, number: Tensor, known: Tensor, cells: Tensor) -> Density:
        """Of some blocks: one tower, or the square root of the number of towers, spread over a whole one."""
        raw = self.of_number(self._inputs(fast, energy, number, known), cells)
        return Density.of(raw, (fast.hit.flatten()[cells].unsqueeze(1) + 1).sqrt(), 1, -0.5)

    def _inputs(self, fast: FastBlocks, energy: Tensor, number: Tensor, known: Tensor) -> Tensor:
        """What a block's network sees in it and the blocks around it; those not known yet look empty."""
        log_fast, log_full = (torch.log1p(x / self.energy_scale) for x in (fast.energy, energy))
        roots = [0.3 * x.sqrt() for x in (fast.hit, number)]
        response, filled = (log_full - log_fast) * known, (energy > 0).to(energy)
        more = (number.sqrt() - fast.hit.sqrt()) * (number > 0)  # of those whose number is known
        so_far = self._so_far(fast, energy, known)
        balance = [self._balance(x, fast.aim) for x in (fast.energy, so_far)]
        owed = 5 * self._owed(fast, so_far, 1 - known)
        seen = [fast.context, 0.3 * log_fast, 0.3 * log_full, response, known, filled, *roots, more, *balance, owed]
        return torch.cat(seen, dim=1)

    def _told(self, fast: FastBlocks) -> FastBlocks:
        """With what the whole image tells in the context: are there neutrinos, or must the event be balanced?"""
        momentum = (fast.energy * fast.aim / (10 * self.energy_scale)).sum((2, 3))  # (B, 2)
        size = fast.aim.square().sum(1, keepdim=True).sqrt()
        total = (fast.energy * size / (10 * self.energy_scale)).sum((1, 2, 3))
        missing = (momentum.square().sum(1) + 1e-6).sqrt()
        more = torch.stack([torch.log1p(total), torch.log1p(missing), missing / (total + 1).sqrt()], dim=1)
        return fast._replace(context=torch.cat([fast.context, self.summary(fast.context, 0.3 * more)], dim=1))

    @staticmethod
    def _so_far(fast: FastBlocks, energy: Tensor, known: Tensor) -> Tensor:
        """Energies of the blocks (B, 1, Y, X): the full image's where they are known, else the fast one's."""
        return torch.where(known > 0, energy, fast.energy)

    def _balance(self, energy: Tensor, aim: Tensor) -> Tensor:
        """The sum of all transverse momenta along each block's direction, in logarithms (B, 1, Y, X).

        Momenta add up to nothing but for neutrinos: what the blocks drawn so far and the fast image's others lack or
        have too much, those to come make good. No convolution sees the whole image so directly.
        """
        momentum = (energy * aim).sum((2, 3), keepdim=True)
        along = (momentum * _unit(aim)).sum(1, keepdim=True) / (10 * self.energy_scale)
        told: Tensor = 0.3 * along.sign() * torch.log1p(along.abs())
        return told

    def _owed(self, fast: FastBlocks, energy: Tensor, free: Tensor) -> Tensor:
        """By which share of its fast energy each block would change if transverse momenta added up to nothing.

        The best linear estimate (Gauss, Markov): what is missing is shared out by those that are still ``free``, by
        their directions and variances (of a calorimeter, a^2 ET^2 + b^2 ET).

        Args:
            fast: what the fast images tell.
            energy: of the blocks (B, 1, Y, X): drawn where they are, else the fast image's.
            free: 1 where a block is still to be drawn, else 0.
        """
        unit = 10 * self.energy_scale
        momentum = (energy * fast.aim).sum((2, 3), keepdim=True)
        x, y = _unit(fast.aim).chunk(2, dim=1)
        transverse = fast.energy * fast.aim.square().sum(1, keepdim=True).sqrt()
        variance = 0.01 * transverse.square() + unit * transverse
        xx, xy, yy = ((variance * free * f).sum((2, 3), keepdim=True) for f in (x * x, x * y, y * y))
        own = (3 * unit) ** 2  # of what lies outside of the image
        xx, yy = xx + own, yy + own
        of_x, of_y = momentum.chunk(2, dim=1)
        shared = ((yy * of_x - xy * of_y) * x + (xx * of_y - xy * of_x) * y) / (xx * yy - xy * xy)
        owed: Tensor = -variance * shared / (transverse + unit)
        return owed.clamp(-_FARTHEST, _FARTHEST)


def _unit(aim: Tensor) -> Tensor:
    """Directions (B, 2, Y, X) of length one."""
    return aim / aim.square().sum(1, keepdim=True).sqrt()


def _put(image: Tensor, cells: Tensor, values: Tensor) -> Tensor:
    """The image with some of its cells replaced."""
    return image.flatten().index_copy(0, cells, values).reshape(image.shape)
