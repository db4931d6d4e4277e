"""Full simulation of an image given the fast one, drawn from coarse to fine; learnt by maximum likelihood.

Factorising an image into sums of neighbours and what distinguishes them goes back to wavelets; as a likelihood model of
images: Reed et al., "Parallel Multiscale Autoregressive Density Estimation", arXiv 1703.03664; of calorimeter showers:
"SuperCalo", arXiv 2308.11700. Hurdle densities: Cragg, Econometrica 39 (1971) 829.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CaloforgeError
from ..options import Count, NotNegative, Positive
from .base import Batch, GenerativeModel, Objective
from .blocks import normal_weights
from .losses import weighted_mean
from .paired import require_pair
from .splitting import ETA, PHI, Density, children, halved, how_shared, shared_out

_PLACES = 4  # learnt numbers that tell a row of eta from others


class Around(nn.Module):
    """3 x 3 convolution; phi closes on itself, beyond the ends of eta there is nothing."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(n_in, n_out, 3, padding=(1, 0))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Y, X) -> (B, C', Y, X)."""
        out: Tensor = self.convolution(torch.cat([x[..., -1:], x, x[..., :1]], dim=3))
        return out


class Residual(nn.Module):
    """Two convolutions beside a path that changes nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = Around(width, width), Around(width, width)
        self.second.convolution.weight.data.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Y, X) -> the same shape."""
        out: Tensor = x + self.second(F.silu(self.first(F.silu(x))))
        return out


class Context(nn.Module):
    """What the fast image tells at each size: a U-Net from half size to the coarsest.

    Args:
        n_in: channels of the image.
        widths: channels at half size, at a quarter ...
    """

    def __init__(self, n_in: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.enter = Around(4 * n_in, widths[0])
        self.down = nn.ModuleList(Around(n, m) for n, m in pairwise(widths))
        self.at = nn.ModuleList(Residual(n) for n in widths)
        self.up = nn.ModuleList(Around(n + m, n) for n, m in pairwise(widths))

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, C, Y, X) -> (B, widths[i], Y / 2^(i + 1), X / 2^(i + 1)) from the finest to the coarsest."""
        x = self.at[0](self.enter(F.pixel_unshuffle(image, 2)))
        found = [x]
        for step, stay in zip(self.down, self.at[1:], strict=True):
            x = stay(step(F.avg_pool2d(F.silu(x), 2)))
            found.append(x)
        for i in range(len(self.up) - 1, -1, -1):
            x = self.up[i](F.silu(torch.cat([found[i], F.interpolate(x, scale_factor=2.0)], dim=1)))
            found[i] = x
        return found


class Level(nn.Module):
    """The network of one level: raw values of a density for each cell, of what its 3 x 3 neighbourhood holds.

    Most cells are empty, with nothing to be said of them: it can work on chosen cells alone.
    """

    def __init__(self, n_in: int, rows: int, width: int, n_out: int) -> None:
        super().__init__()
        self.rows = rows
        self.place = nn.Parameter(0.1 * torch.randn(_PLACES, -(-rows // 2)))  # the same on both sides of eta = 0
        self.enter = Around(n_in + _PLACES, width)
        self.middle, self.last = nn.Linear(width, width), nn.Linear(width, n_out)
        normal_weights(self.last, 1e-2)

    def forward(self, x: Tensor, cells: Tensor | None = None) -> Tensor:
        """(B, C, Y, X) and numbers of cells (K,) among all B Y X of them, all if not given -> (K, n_out)."""
        place = mirrored(self.place, self.rows).expand(x.shape[0], -1, -1, x.shape[3])
        x = torch.cat([x, place], dim=1)
        hidden = self.enter(x).permute(0, 2, 3, 1).flatten(0, 2) if cells is None else self._enter_at(x, cells)
        hidden = F.silu(hidden)
        out: Tensor = self.last(F.silu(hidden + self.middle(hidden)))
        return out

    def _enter_at(self, x: Tensor, cells: Tensor) -> Tensor:
        """The first convolution at some cells only: (B, C, Y, X) -> (K, width)."""
        rows, columns = x.shape[2], x.shape[3]
        weight, bias = self.enter.convolution.weight, self.enter.convolution.bias
        x = F.pad(torch.cat([x[..., -1:], x, x[..., :1]], dim=3), (0, 0, 1, 1)).permute(0, 2, 3, 1)
        image, row, column = cells // (rows * columns), cells // columns % rows, cells % columns
        corner = (image * (rows + 2) + row) * (columns + 2) + column
        steps = torch.arange(3, device=x.device)
        near = corner[:, None] + (steps[:, None] * (columns + 2) + steps).flatten()  # (K, 9)
        patches = x.reshape(-1, x.shape[3])[near].flatten(1)  # (K, 9 C)
        return F.linear(patches, weight.permute(0, 2, 3, 1).flatten(1), bias)


def mirrored(place: Tensor, rows: int) -> Tensor:
    """Numbers (C, rows / 2) of the rows of one side for all rows: (1, C, rows, 1)."""
    return torch.cat([place[:, : rows // 2].flip(1), place], dim=1)[None, :, :, None]


class CoarseToFine(GenerativeModel):
    """Draws the full image's coarse energies, then splits them down to towers (ours; see arXiv 1703.03664, 2308.11700).

    The images are added up by twos, in eta and phi in turn, ``halvings`` times each. For every coarse block the
    network says, given the fast image, how likely it is empty and how its logarithm of energy is distributed. Then each
    block is split in two, and each of those, down to the towers: given the fast image *and all coarser energies of the
    full one*, how likely all goes to one side, and how the logarithm of the ratio is distributed. Everything is learnt
    by maximum likelihood; there is no discriminator and nothing to balance.

    So the spread is right by construction where the densities are: two draws from one fast image differ as two full
    simulations of it would. What moves together, such as the towers one hadron's shower covers, moves together because
    the numbers drawn for a coarse cell are latent noise of all towers below it, and because every split sees how its
    neighbours have come out so far. Two blocks of the coarsest level are independent given the fast image.

    Energies are used as they are, in the unit that the transforms give (a plain ``scale``): the densities are in
    logarithms, and no normalisation by a maximum is needed. In training each image is turned in phi by a random angle
    and mirrored in phi and eta at random: the calorimeter looks the same.

    Zeros: exact, from the outcomes "empty" and "all to the other side"; the transform ``threshold`` removes towers
    under the full simulation's smallest.

    Trap: densities of rare configurations have wide components. In a short training they draw blocks that are far too
    bright, which show in missing ET first; ``ceiling`` cuts the worst of them.

    Args:
        shape: (1, Y, X), Y and X multiples of 2^halvings.
        n_conditions: towers of the fast image, Y X.
        halvings: how often the image is halved in eta and in phi.
        widths: channels of the U-Net over the fast image at half size, a quarter ...; as many as there are halvings.
        level_widths: channels of the networks of the coarsest level and of the splits, two for each halving.
        components: of each mixture.
        energy_scale: energies well under it look empty to the network, in the unit of the images.
        emphasis: weight of a split in the likelihood, per logarithm of its parent's energy over ``energy_scale``.
        ceiling: a block drawn holds at most so many times the fast image's energy in it and the eight around it, plus
            about a hundred ``energy_scale``.
    """

    paired = True

    def __init__(
        self,
        shape: tuple[Count, ...],
        n_conditions: Count,
        halvings: Count = 3,
        widths: tuple[Count, ...] = (16, 32, 48),
        level_widths: tuple[Count, ...] = (48, 48, 32, 32, 24, 24, 16),
        components: Count = 4,
        energy_scale: Positive = 0.1,
        emphasis: NotNegative = 0.5,
        ceiling: Positive = 3.0,
    ) -> None:
        super().__init__(
            shape,
            n_conditions,
            halvings=halvings,
            widths=widths,
            level_widths=level_widths,
            components=components,
            energy_scale=energy_scale,
            emphasis=emphasis,
            ceiling=ceiling,
        )
        rows, _ = require_pair(shape, n_conditions, 2**halvings, "coarse-to-fine")
        _check_widths(halvings, widths, level_widths)
        self.latent_size = 2 * n_conditions
        self.energy_scale, self.emphasis, self.ceiling = energy_scale, emphasis, ceiling
        self.axes = [ETA, PHI] * halvings  # of the splits, from the coarsest
        self.context = Context(2 + _PLACES, widths)
        self.place = nn.Parameter(0.1 * torch.randn(_PLACES, -(-rows // 2)))
        contexts = [widths[-1], *(n for n in reversed(widths) for _ in range(2))]
        rows //= 2**halvings
        levels = [Level(contexts[0] + 2, rows, level_widths[0], 1 + 3 * components)]
        for axis, seen, width in zip(self.axes, contexts[1:], level_widths[1:], strict=True):
            levels.append(Level(seen + 8, rows, width, 2 + 3 * components))
            rows *= 2 if axis == ETA else 1
        self.levels = nn.ModuleList(levels)

    def phases(self) -> Sequence[Sequence[Objective]]:
        """Maximum likelihood of everything at once."""
        return [[Objective("likelihood", [self], self._loss)]]

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Map latent (N, 2 Y X) and fast images (N, Y X) to images (N, 1, Y, X) in transformed space."""
        own, noise = self.split_latent(latent)
        pyramid = self._pyramid(condition.reshape(-1, *self.shape).clamp(min=0))
        contexts = self._contexts(pyramid[-1])
        shapes = [fast.shape[2:] for fast in pyramid]
        sizes = [2 * shape.numel() for shape in (shapes[0], *shapes[:-1])]
        parts = torch.split(own, sizes, dim=1)
        choice, value = self._pair_of(parts[0], shapes[0])
        outcome, log_energy = self._coarsest(contexts[0], pyramid[0]).draw(choice, value)
        image = torch.where(outcome == 0, 0.0, log_energy.clamp(max=30.0).exp()).reshape(pyramid[0].shape)
        image = torch.minimum(image, self._most(pyramid[0]))
        for i, axis in enumerate(self.axes):
            choice, value = self._pair_of(parts[i + 1], shapes[i])
            # Whoever compiles wants the same shapes whatever the numbers.
            cells = None if torch.compiler.is_compiling() else filled_cells(image)
            density = self._split(i, contexts[i + 1], pyramid[i + 1], image, cells)
            if cells is None:
                outcome, log_ratio = density.draw(choice, value)
            else:
                some, ratio = density.draw(choice[cells], value[cells])
                outcome = torch.zeros_like(choice, dtype=torch.long).index_copy(0, cells, some)
                log_ratio = torch.zeros_like(value).index_copy(0, cells, ratio)
            image = shared_out(image, outcome.reshape(image.shape), log_ratio.reshape(image.shape), axis)
        return self.head(image, condition, noise)

    def _loss(self, batch: Batch) -> Tensor:
        """Minus log-likelihood of the full images given the fast ones, per tower."""
        fast = batch.condition.reshape(-1, *self.shape).clamp(min=0)
        fast, full = turned(fast, batch.showers.clamp(min=0), batch.rng)
        pyramid, target = self._pyramid(fast), self._pyramid(full)
        contexts = self._contexts(fast)
        empty = target[0] <= 0
        log_energy = torch.where(empty, 1.0, target[0]).log().flatten()
        density = self._coarsest(contexts[0], pyramid[0])
        each = density.minus_log_likelihood((~empty).long().flatten(), log_energy)
        losses = each.reshape(len(full), -1).sum(1) * (1 + self.emphasis)
        for i, axis in enumerate(self.axes):
            parent = target[i]
            cells = filled_cells(parent)
            outcome, log_ratio = (x.flatten()[cells] for x in how_shared(*children(target[i + 1], axis)))
            density = self._split(i, contexts[i + 1], pyramid[i + 1], parent, cells)
            each = density.minus_log_likelihood(outcome, log_ratio)
            # What a split may be weighted with is what is known before it: still a proper likelihood.
            each = each * (1 + self.emphasis * self._seen(parent).flatten()[cells])
            losses = losses.index_add(0, cells // parent[0].numel(), each)
        return weighted_mean(losses / full[0].numel(), batch.weight)

    # -- densities -----------------------------------------------------------------------------------------

    def _coarsest(self, context: Tensor, fast: Tensor) -> Density:
        """Of the coarsest energies: empty, or the logarithm of the energy."""
        raw = self.levels[0](torch.cat([context, self._seen(fast), (fast > 0).to(fast)], dim=1))
        # A calorimeter's resolution, sqrt(a^2 / E + b^2), to start from.
        width = 0.5 * (0.015 + 100 * self.energy_scale / (fast + 130 * self.energy_scale)).log()
        return Density.of(raw, (fast + self.energy_scale).log().reshape(-1, 1), 1, width.reshape(-1, 1))

    def _most(self, fast: Tensor) -> Tensor:
        """What a coarse block may hold at most, from what the fast image holds in it and around it."""
        near = F.pad(torch.cat([fast[..., -1:], fast, fast[..., :1]], dim=3), (0, 0, 1, 1))
        ceiling: Tensor = self.ceiling * (9 * F.avg_pool2d(near, 3, 1) + 33 * self.energy_scale)
        return ceiling

    def _split(self, number: int, context: Tensor, fast: Tensor, parent: Tensor, cells: Tensor | None) -> Density:
        """Of the split of some full parents among (B, 1, Y, X), with the fast image (B, 1, ...) of their children."""
        one, two = children(fast, self.axes[number])
        floor = 0.1 * self.energy_scale
        log_ratio = (one + floor).log() - (two + floor).log()
        response = (parent + self.energy_scale).log() - (one + two + self.energy_scale).log()
        filled = [(each > 0).to(each) for each in (one, two, parent)]
        seen = [context, *map(self._seen, (one, two, parent)), *filled, 0.3 * log_ratio, response]
        raw = self.levels[number + 1](torch.cat(seen, dim=1), cells)
        base = torch.where((one > 0) & (two > 0), log_ratio, 0.0).reshape(-1, 1)
        return Density.of(raw, base if cells is None else base[cells], 2)

    def _contexts(self, fast: Tensor) -> list[Tensor]:
        """What the fast image tells the coarsest level and each split, at the size of its parents."""
        place = mirrored(self.place, fast.shape[2]).expand(fast.shape[0], -1, -1, fast.shape[3])
        found = self.context(torch.cat([self._seen(fast), (fast > 0).to(fast), place], dim=1))[::-1]
        contexts = [found[0]]
        for each in found:
            # Split in eta first: the parents of the second split have twice as many rows.
            contexts += [each, each.repeat_interleave(2, dim=ETA)]
        return contexts

    def _pyramid(self, image: Tensor) -> list[Tensor]:
        """The image at every size, from the coarsest."""
        sizes = [image]
        for axis in reversed(self.axes):
            sizes.append(halved(sizes[-1], axis))
        return sizes[::-1]

    def _seen(self, energy: Tensor) -> Tensor:
        """Energies as a network likes to see them."""
        return 0.3 * torch.log1p(energy / self.energy_scale)

    @staticmethod
    def _pair_of(latent: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """Latent numbers (N, 2 Y X) as two for each of the N Y X cells."""
        one, two = latent.reshape(-1, 2, shape.numel()).unbind(1)
        return one.flatten(), two.flatten()


def filled_cells(image: Tensor) -> Tensor:
    """Numbers (K,) of the cells among all of (B, 1, Y, X) that hold energy."""
    return (image.flatten() > 0).nonzero().flatten()


def turned(fast: Tensor, full: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Turn each pair of images (B, 1, Y, X) in phi by a random angle, and mirror it in phi and in eta at random."""
    n, columns, device = len(fast), fast.shape[3], fast.device
    angle = torch.randint(columns, (n, 1), generator=rng, device=rng.device).to(device)
    mirror = torch.randint(2, (2, n, 1), generator=rng, device=rng.device).to(device)
    phi = torch.arange(columns, device=device)
    phi = (torch.where(mirror[0] > 0, columns - 1 - phi, phi) + angle) % columns
    eta = torch.arange(fast.shape[2], device=device)
    eta = torch.where(mirror[1] > 0, fast.shape[2] - 1 - eta, eta)
    row = torch.arange(n, device=device)[:, None, None]
    one, two = (image[row, 0, eta[:, :, None], phi[:, None, :]].unsqueeze(1) for image in (fast, full))
    return one, two


def _check_widths(halvings: int, widths: Sequence[int], level_widths: Sequence[int]) -> None:
    if len(widths) != halvings or len(level_widths) != 1 + 2 * halvings:
        raise CaloforgeError(
            f"model 'coarse-to-fine' was given {len(widths)} widths and {len(level_widths)} level_widths for "
            f"{halvings} halvings; give {halvings} and {1 + 2 * halvings}."
        )
