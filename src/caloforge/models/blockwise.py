"""The coarsest level of `coarse-to-fine`: each block's energy and how many of its towers are hit, block after block.

A shower at the border of two blocks is shared by them: what one has not, the other has. So the blocks are drawn in
turn, as the countries of a map are coloured, and each sees what its neighbours have got.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .scales import Level
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


class Blocks(nn.Module):
    """Densities of the blocks' energies, and of their numbers of towers given the energies.

    Args:
        n_context: channels of what the fast image tells of them.
        sizes: of the coarsest images (Y, X).
        n_towers: towers in a block.
        width: channels of the networks.
        components: of each mixture.
        energy_scale: energies well under it look empty to the network.
        row_eta: mean pseudorapidity of each row of blocks.
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
        row_eta: Sequence[float],
    ) -> None:
        super().__init__()
        self.energy_scale, self.n_towers, self.row_eta = energy_scale, n_towers, tuple(row_eta)
        self.of_energy = Level(n_context + 10, sizes[0], width, 1 + 4 * components)
        self.of_number = Level(n_context + 10, sizes[0], width, 1 + 4 * components)
        self.sizes, self.n_colours = sizes, math.prod(n_colours(*sizes))

    def minus_log_likelihood(
        self,
        context: Tensor,
        fast: Tensor,
        hit: Tensor,
        energy: Tensor,
        number: Tensor,
        weight: Tensor,
        rng: torch.Generator,
    ) -> Tensor:
        """Of blocks (B, 1, Y, X) of the full images: their energies and numbers of towers -> (B,).

        Args:
            context: what the fast image tells (B, C, Y, X).
            fast: the fast images' energies in the blocks (B, 1, Y, X).
            hit: numbers of towers hit there (B, 1, Y, X).
            energy: the full images' energies.
            number: numbers of towers hit there.
            weight: how much each block counts.
            rng: spreads whole numbers.
        """
        n, k = fast.shape[0], self.n_colours
        order, step = colours(*self.sizes).to(fast.device), torch.arange(k, device=fast.device)[:, None, None]
        earlier = (order < step).to(fast).repeat_interleave(n, dim=0).unsqueeze(1)  # (K B, 1, Y, X)
        now = (order == step).repeat_interleave(n, dim=0).flatten()
        context, fast, hit, energy, number, weight = (
            x.expand(k, *x.shape).flatten(0, 1) for x in (context, fast, hit, energy, number, weight)
        )
        image = torch.arange(now.shape[0], device=fast.device) // order.numel() % n
        cells = now.nonzero().flatten()
        density = self.energies(context, fast, hit, energy * earlier, number * earlier, earlier, cells)
        filled = energy.flatten()[cells] > 0
        log_energy = torch.where(filled, energy.flatten()[cells], 1.0).log()
        out = torch.zeros(n, device=fast.device)
        each = density.minus_log_likelihood(filled.long(), log_energy)
        out = out.index_add(0, image[cells], each * weight.flatten()[cells])
        cells = cells[filled]
        known = earlier + now.reshape(earlier.shape).to(earlier)
        density = self.numbers(context, fast, hit, energy * known, number * earlier, known, cells)
        whole = number.flatten()[cells]
        spread = torch.rand(whole.shape, generator=rng, device=rng.device).to(whole)
        root = (whole - spread).clamp(min=0).sqrt()
        return out.index_add(0, image[cells], density.minus_log_likelihood((whole > 1).long(), root))

    def draw(self, context: Tensor, fast: Tensor, hit: Tensor, most: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Energies and numbers of towers (N, 1, Y, X), from normal numbers (N, 4 Y X).

        Args:
            context: what the fast image tells (N, C, Y, X).
            fast: its energies in the blocks (N, 1, Y, X).
            hit: its numbers of towers hit there (N, 1, Y, X).
            most: what blocks may hold at most (N, 1, Y, X).
            noise: normal numbers.
        """
        energy, number, known = (torch.zeros_like(fast) for _ in range(3))
        parts = [part.flatten() for part in noise.reshape(fast.shape[0], self.n_noise, -1).unbind(1)]
        order = colours(*self.sizes).flatten().to(fast.device)
        first = torch.arange(fast.shape[0], device=fast.device)[:, None] * len(order)
        for colour in range(self.n_colours):
            cells = (first + (order == colour).nonzero().flatten()).flatten()
            density = self.energies(context, fast, hit, energy, number, known, cells)
            outcome, value = density.draw(parts[0][cells], parts[1][cells])
            some = torch.where(outcome == 0, 0.0, value.clamp(max=30.0).exp())
            energy = _put(energy, cells, torch.minimum(some, most.flatten()[cells]))
            known = _put(known, cells, torch.ones_like(some))
            density = self.numbers(context, fast, hit, energy, number, known, cells)
            outcome, value = density.draw(parts[2][cells], parts[3][cells])
            some = torch.where(outcome == 0, 1.0, value.clamp(min=1.0).square().ceil().clamp(max=self.n_towers))
            number = _put(number, cells, torch.where(energy.flatten()[cells] > 0, some, 0.0))
        return energy, number

    def energies(
        self, context: Tensor, fast: Tensor, hit: Tensor, energy: Tensor, number: Tensor, known: Tensor, cells: Tensor
    ) -> Density:
        """Of some blocks: empty, or the logarithm of the energy; ``energy`` and ``number`` of those ``known``."""
        raw = self.of_energy(self._inputs(context, fast, hit, energy, number, known), cells)
        fast = fast.flatten()[cells].unsqueeze(1)
        # A calorimeter's resolution, sqrt(a^2 / E + b^2), to start from.
        width = 0.5 * (0.015 + 100 * self.energy_scale / (fast + 130 * self.energy_scale)).log()
        return Density.of(raw, (fast + self.energy_scale).log(), 1, width)

    def numbers(
        self, context: Tensor, fast: Tensor, hit: Tensor, energy: Tensor, number: Tensor, known: Tensor, cells: Tensor
    ) -> Density:
        """Of some blocks: one tower, or the square root of the number of towers, spread over a whole one."""
        raw = self.of_number(self._inputs(context, fast, hit, energy, number, known), cells)
        return Density.of(raw, (hit.flatten()[cells].unsqueeze(1) + 1).sqrt(), 1, -0.5)

    def _inputs(
        self, context: Tensor, fast: Tensor, hit: Tensor, energy: Tensor, number: Tensor, known: Tensor
    ) -> Tensor:
        """What a block's network sees in it and the blocks around it; those not known yet look empty."""
        log_fast, log_full = (torch.log1p(x / self.energy_scale) for x in (fast, energy))
        roots = [0.3 * x.sqrt() for x in (hit, number)]
        response, filled = (log_full - log_fast) * known, (energy > 0).to(energy)
        more = (number.sqrt() - hit.sqrt()) * (number > 0)  # of those whose number is known
        balance = [self._balance(x) for x in (fast, torch.where(known > 0, energy, fast))]
        seen = [context, 0.3 * log_fast, 0.3 * log_full, response, known, filled, *roots, more, *balance]
        return torch.cat(seen, dim=1)

    def _balance(self, energy: Tensor) -> Tensor:
        """The sum of all transverse momenta along each block's direction, in logarithms (B, 1, Y, X).

        Momenta add up to nothing but for neutrinos: what the blocks drawn so far and the fast image's others lack or
        have too much, those to come make good. No convolution sees the whole image so directly.
        """
        n_phi = energy.shape[3]
        phi = (torch.arange(n_phi, device=energy.device) + 0.5) * (2 * math.pi / n_phi)
        cosh = torch.tensor(self.row_eta, device=energy.device)[:, None].cosh()
        x, y = ((energy / cosh * f).sum((2, 3), keepdim=True) for f in (phi.cos(), phi.sin()))
        along = (x * phi.cos() + y * phi.sin()).expand_as(energy) / (10 * self.energy_scale)
        return 0.3 * along.sign() * torch.log1p(along.abs())


def _put(image: Tensor, cells: Tensor, values: Tensor) -> Tensor:
    """The image with some of its cells replaced."""
    return image.flatten().index_copy(0, cells, values).reshape(image.shape)
