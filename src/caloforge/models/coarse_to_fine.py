"""Full simulation of an image given the fast one, drawn from coarse to fine; learnt by maximum likelihood.

Factorising an image into sums of neighbours and what distinguishes them goes back to wavelets; as a likelihood model of
images: Reed et al., "Parallel Multiscale Autoregressive Density Estimation", arXiv 1703.03664; of calorimeter showers:
"SuperCalo", arXiv 2308.11700. Hurdle densities: Cragg, Econometrica 39 (1971) 829.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..errors import CaloforgeError
from ..options import Count, NotNegative, Positive
from .balance import Foresight, MomentumDensity, Whole
from .base import Batch, GenerativeModel, Objective
from .blockwise import Blocks
from .fast_blocks import FastBlocks
from .frame import Frame, Places, turned
from .losses import weighted_mean
from .paired import require_pair
from .scales import Level, StepUp, WayDown, sums_around, within
from .splitting import ETA, PHI, Density, children, halved, how_shared, shared_out

_COPIED = 0.02  # of what one half holds in the fast image the other gets at first
_FEW = 8  # towers of a cell; fewer are seen through the way down
_ISOLATED = 5  # towers on every side of one, that tell whether it stands alone
_QUARTERS = 2  # halvings of a block along each axis after which its quarters are told apart
_FIRST = 6  # of the fast image's brightest blocks, which the missing momentum sees one by one
_PLACES = 6  # learnt numbers that tell a row of eta from others


class _Fast(NamedTuple):
    """Fast images as the blocks lie on them.

    Attributes:
        energy: at every size, from the coarsest.
        transverse: energies of the towers (B, 1, Y, X).
        inside: for each size, 1 where there is any of the image in a row, else 0 (B, 1, Y, 1).
        places: for each size, learnt numbers of its rows (B, P, Y, 1).
        row_cosh: cosh(eta) of the rows of towers (B, 1, Y, 1).
    """

    energy: list[Tensor]
    transverse: Tensor
    inside: list[Tensor]
    places: list[Tensor]
    row_cosh: Tensor

    def beside(self, number: int, x: Tensor) -> Tensor:
        """The numbers of a size's rows, after the channels of (B, C, Y, X)."""
        return torch.cat([x, self.places[number].expand(-1, -1, -1, x.shape[3])], dim=1)


class CoarseToFine(GenerativeModel):
    """Draws the full image's coarse energies, then splits them down to towers (ours; see arXiv 1703.03664, 2308.11700).

    The images are added up by twos, in eta and phi in turn, ``halvings`` times each. For every coarse block the
    network says, given the fast image, how likely it is empty, how its logarithm of energy is distributed and how many
    of its towers are hit. Then each block is split in two, and each of those, down to the towers: given the fast image
    *and all coarser energies of the full one*, how likely all goes to one side, and how the logarithm of the ratio is
    distributed. Everything is learnt by maximum likelihood; there is no discriminator and nothing to balance.

    So the spread is right by construction where the densities are: two draws from one fast image differ as two full
    simulations of it would. What moves together moves together: the numbers drawn for a coarse cell are latent noise of
    all towers below it; blocks are drawn in turn, so that a shower at their border is shared and not doubled
    (`Blocks`); a block's number of towers says whether its showers are wide, before they are drawn; and the way up of a
    U-Net carries to every split what has been drawn so far, far beyond its neighbours.

    Momentum is balanced in the whole image, and no convolution sees that: so each block is told the sum of transverse
    momenta along its direction, of the fast image and of what has been drawn so far, and a summary of the whole image.
    How much momentum will be missing and how many towers will be hit is drawn first. The former is learnt twice: along
    with all else, which teaches the summary what to tell, and then by a network of its own, which is what draws
    (`Foresight`). What is still missing the blocks share out by what is expected of each (`Expectation`, `Shares`).
    Last, blocks are drawn as in generation, of the full image's momentum, and judged as they come out: what one block
    more or less varies is nothing to a likelihood of thousands of towers, but jets and sums are made of it
    (`Blocks.misdrawn`).

    The blocks are laid on each fast image so that its jets are cut as little as can be (`Frame`).

    What must be nearly copied, such as an electron that fills one tower in both simulations, is copied from the start:
    the first guess of a ratio is the fast image's own. Whether a bright tower is an electron's, its surroundings tell:
    no size of the U-Net forgets where in a cell a tower lies, and coarse cells see the fast image's towers one by one.

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
        emphasis: how much more bright cells count in the likelihood: 1 + emphasis ET^0.75, with the transverse energy
            of a split's parent, or of the fast image in a block, in units of ten ``energy_scale``. Jets are made of
            few bright cells among hundreds of faint ones, and without it they are learnt last.
        ceiling: a block drawn holds at most so many times the fast image's energy in it and the eight around it, plus
            a hundred ``energy_scale``; and at most so many times that in it and a quarter of a block around it, plus
            150 ``energy_scale`` of transverse energy.
        moments: weight of a score of the blocks' mean energies and variances beside the likelihood, proper as this is
            (Dawid, Sebastiani, Ann. Statist. 27 (1999) 65). A rare component far off costs hardly any likelihood, but
            makes jets vary too much.
        draws: weight of the scores of blocks as they are drawn beside their likelihood, in the last phase.
        row_eta: pseudorapidities of the images' rows, for the transverse energies; energies stand for them if left out.
    """

    paired = True
    takes_eta = True

    def __init__(
        self,
        shape: tuple[Count, ...],
        n_conditions: Count,
        halvings: Count = 3,
        widths: tuple[Count, ...] = (16, 32, 48),
        level_widths: tuple[Count, ...] = (48, 48, 32, 32, 24, 24, 16),
        components: Count = 4,
        energy_scale: Positive = 0.1,
        emphasis: NotNegative = 1.0,
        ceiling: Positive = 3.0,
        moments: NotNegative = 0.0,
        draws: NotNegative = 3.0,
        row_eta: tuple[float, ...] = (),
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
            moments=moments,
            draws=draws,
            row_eta=row_eta,
        )
        rows, columns = require_pair(shape, n_conditions, 2**halvings, "coarse-to-fine")
        _check_widths(halvings, widths, level_widths)
        if len(row_eta) not in (0, rows):
            raise CaloforgeError(f"row_eta has {len(row_eta)} numbers for {rows} rows; give one a row, or none.")
        self.row_eta = row_eta
        self.energy_scale, self.emphasis, self.ceiling, self.draws = energy_scale, emphasis, ceiling, draws
        self.axes = [ETA, PHI] * halvings  # of the splits, from the coarsest
        small = 2**halvings
        self.places, self.down = Places(rows, _PLACES), WayDown(4 + _PLACES, widths)
        # A row of blocks more than would fit: they are laid where they cut least.
        self.laid = rows + small, columns
        sizes = [(self.laid[0] // 2**i, columns // 2**i) for i in range(halvings, -1, -1)]
        wide = list(reversed(widths))
        n_context = wide[0] + self._finer(sizes[0]) + _PLACES
        self.blocks = Blocks(n_context, sizes[0], small**2, level_widths[0], components, energy_scale, moments)
        n_towers = math.prod(self.laid)
        self.latent_size = 2 * (n_towers - n_towers // small**2) + self.blocks.n_noise
        # The full image; at the coarsest size also numbers of towers and what the whole image tells: it is carried on.
        more = [2 + Blocks.n_told, *(0 for _ in wide[1:])]
        self.up = nn.ModuleList(StepUp(n, m, 3 + k) for n, m, k in zip(wide, [0, *wide[:-1]], more, strict=True))
        levels = []
        for number, (axis, width) in enumerate(zip(self.axes, level_widths[1:], strict=True)):
            size = sizes[number // 2]
            size = size if axis == ETA else (2 * size[0], size[1])
            levels.append(Level(wide[number // 2] + 8 + self._finer(size) + _PLACES, width, 2 + 4 * components))
        self.levels = nn.ModuleList(levels)
        n_first = min(_FIRST, math.prod(sizes[0]))
        self.foresight = Foresight(n_context, components, self.blocks.unit, n_first=n_first)

    def phases(self) -> Sequence[Sequence[Objective]]:
        """Maximum likelihood of everything at once, then of the missing momentum alone, by a network of its own.

        Last, what is drawn of the blocks is judged as it comes out, see `Blocks.misdrawn`.
        """
        everything = [self.places, self.down, self.blocks, self.up, self.levels]
        return [
            [Objective("likelihood", everything, self._loss)],
            [Objective("momentum", [self.foresight], self._momentum_loss)],
            [Objective("draws", self.blocks.drawn_by(), self._drawn_loss)],
        ]

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Map latent (N, Z) and fast images (N, Y X) to images (N, 1, Y, X) in transformed space."""
        own, noise = self.split_latent(latent)
        towers = condition.reshape(-1, *self.shape).clamp(min=0)
        frame = self._frame(towers)
        fast = self._laid(frame, towers)
        down = self._down(fast)
        cells = [each.shape[2:].numel() for each in fast.energy]
        parts = torch.split(own, [self.blocks.n_noise, *(2 * n for n in cells[:-1])], dim=1)
        blocks = self._fast_blocks(down[0], fast)
        whole = self.blocks.outlook(blocks)
        whole = whole._replace(momentum=self.foresight(blocks, whole))
        image, number = self.blocks.draw(blocks, whole, self._most(fast), parts[0])
        up: tuple[Tensor, Tensor] | None = None
        for i, axis in enumerate(self.axes):
            if axis == ETA:
                up = self._up(i // 2, down, up, fast.energy[i], image, (blocks.hit, number), whole)
            assert up is not None
            choice, value = parts[i + 1].reshape(-1, 2, cells[i]).unbind(1)
            image = self._draw(i, up[axis - ETA], fast, image, choice.flatten(), value.flatten())
        return self.head(frame.back(image), condition, noise)

    def _draw(self, number: int, context: Tensor, fast: _Fast, parent: Tensor, choice: Tensor, value: Tensor) -> Tensor:
        """Split full parents (N, 1, Y, X) in two with normal numbers (N Y X,) each."""
        # Whoever compiles wants the same shapes whatever the numbers.
        cells = None if torch.compiler.is_compiling() else filled_cells(parent)
        density = self._split(number, context, fast, parent, cells)
        if cells is None:
            outcome, log_ratio = density.draw(choice, value)
        else:
            some, ratio = density.draw(choice[cells], value[cells])
            outcome = torch.zeros_like(choice, dtype=torch.long).index_copy(0, cells, some)
            log_ratio = torch.zeros_like(value).index_copy(0, cells, ratio)
        axis, outcome = self.axes[number], outcome.reshape(parent.shape)
        if axis == ETA:  # nothing goes beyond the ends
            one, two = children(fast.inside[number + 1], ETA)
            outcome = torch.where(one == 0, 1, torch.where(two == 0, 0, outcome))
        return shared_out(parent, outcome, log_ratio.reshape(parent.shape), axis)

    def _loss(self, batch: Batch) -> Tensor:
        """Minus log-likelihood of the full images given the fast ones, per tower."""
        fast, target = self._example(batch)
        down = self._down(fast)
        blocks = self._fast_blocks(down[0], fast)
        whole, hits = self.blocks.outlook(blocks), (blocks.hit, self._hit(target[-1]))
        weights = self._weights(fast, target[-1])
        given = blocks, whole, self._most(fast)
        losses = self.blocks.minus_log_likelihood(*given, target[0], hits[1], weights[0], batch.rng)
        up = None
        for i, axis in enumerate(self.axes):
            parent = target[i]
            if axis == ETA:
                up = self._up(i // 2, down, up, fast.energy[i], parent, hits, whole)
            assert up is not None
            cells = filled_cells(parent)
            outcome, log_ratio = (x.flatten()[cells] for x in how_shared(*children(target[i + 1], axis)))
            density = self._split(i, up[axis - ETA], fast, parent, cells)
            each = density.minus_log_likelihood(outcome, log_ratio)
            each = each * weights[i + 1].flatten()[cells]
            losses = losses.index_add(0, cells // parent[0].numel(), each)
        return weighted_mean(losses / self.n_conditions, batch.weight)

    def _momentum_loss(self, batch: Batch) -> Tensor:
        """Minus log-likelihood of the full images' sums of transverse momenta."""
        fast, target = self._example(batch)
        blocks = self._fast_blocks(self._down(fast)[0], fast)
        momentum = self.blocks.blurred_momentum(blocks, target[0], batch.rng)
        density = self._foreseen(blocks, self.blocks.outlook(blocks), batch.rng)
        return weighted_mean(density.minus_log_likelihood(momentum), batch.weight)

    def _drawn_loss(self, batch: Batch) -> Tensor:
        """Minus log-likelihood of the blocks, and scores of what is drawn, per tower."""
        fast, target = self._example(batch)
        blocks = self._fast_blocks(self._down(fast)[0], fast)
        weight = self._weights(fast, target[-1])[0]
        given = blocks, self.blocks.outlook(blocks), self._most(fast), target[0], self._hit(target[-1]), weight
        losses = self.blocks.minus_log_likelihood(*given, batch.rng, blocks_only=True)
        if self.draws:
            losses = losses + self.draws * self.blocks.misdrawn(*given, batch.rng)
        return weighted_mean(losses / self.n_conditions, batch.weight)

    def _foreseen(self, blocks: FastBlocks, whole: Whole, rng: torch.Generator) -> MomentumDensity:
        """The missing momentum's density; while it is learnt with dropout."""
        density: MomentumDensity = self.foresight(blocks, whole, rng if self.foresight.training else None)
        return density

    def _example(self, batch: Batch) -> tuple[_Fast, list[Tensor]]:
        """Fast images of a batch, turned at random and laid, and the full ones at every size."""
        towers = batch.condition.reshape(-1, *self.shape).clamp(min=0)
        towers, full = turned(towers, batch.showers.clamp(min=0), batch.rng)
        frame = self._frame(towers)
        return self._laid(frame, towers), self._pyramid(frame.laid(full))

    def _weights(self, fast: _Fast, full: Tensor) -> list[Tensor]:
        """Of the blocks, and of each split's parents: of what is known before, so that it is still a likelihood.

        Where one of the halves is beyond the ends of eta there is nothing to learn.
        """
        energies = [self._pyramid(fast.transverse)[0], *self._pyramid(full / fast.row_cosh)[:-1]]
        weights = [1 + self.emphasis * (each / (10 * self.energy_scale)) ** 0.75 for each in energies]
        weights[0] = weights[0] * fast.inside[0]
        for i, axis in enumerate(self.axes):
            if axis == ETA:
                one, two = children(fast.inside[i + 1], ETA)
                weights[i + 1] = weights[i + 1] * one * two
        return weights

    # -- what the networks see -----------------------------------------------------------------------------

    def _frame(self, towers: Tensor) -> Frame:
        """Where the blocks lie on fast images (B, 1, Y, X)."""
        return Frame.best(towers / self._row_cosh(towers.device)[:, None], self.laid[0] - self.shape[1])

    def _row_cosh(self, device: torch.device) -> Tensor:
        """cosh(eta) of the images' rows (Y,)."""
        return torch.tensor(self.row_eta or self.shape[1] * (0.0,), device=device).cosh()

    def _laid(self, frame: Frame, towers: Tensor) -> _Fast:
        """Fast images (B, 1, Y, X) at every size, with what their rows are."""
        energy = self._pyramid(frame.laid(towers))
        row = frame.row()
        row_cosh = self._row_cosh(towers.device)[row.clamp(0, self.shape[1] - 1)][:, None, :, None]
        inside, places = frame.inside(), self.places(row)
        sizes = [each.shape[2] for each in energy]
        return _Fast(
            energy,
            energy[-1] / row_cosh,
            [_rows(inside, n).amax(3, keepdim=True) for n in sizes],
            [_rows(places, n).mean(3, keepdim=True) for n in sizes],
            row_cosh,
        )

    def _down(self, fast: _Fast) -> list[Tensor]:
        """What the fast image tells at each size, from the coarsest."""
        alone = fast.transverse / (sums_around(fast.transverse, _ISOLATED) + self.energy_scale)
        towers = fast.energy[-1]
        seen = [self._seen(towers), (towers > 0).to(towers), alone, alone * self._seen(fast.transverse)]
        found: list[Tensor] = self.down(fast.beside(-1, torch.cat(seen, dim=1)))
        return found

    def _fast_blocks(self, context: Tensor, fast: _Fast) -> FastBlocks:
        """What the blocks are told, of the fast images at every size and what the way down has made of them."""
        towers = fast.energy[-1]
        phi = (torch.arange(towers.shape[3], device=towers.device) + 0.5) * (2 * math.pi / towers.shape[3])
        towards = torch.stack([phi.cos(), phi.sin()])[None, :, None] / fast.row_cosh
        faint = 1e-3 * self.energy_scale  # in every tower: an empty block's direction is its middle's
        aim = self._pyramid((towers + faint) * towards)[0] / self._pyramid(towers + faint)[0]
        seen = torch.cat([context, self._towers(fast, 0)], dim=1)
        return FastBlocks(fast.beside(0, seen), fast.energy[0], self._hit(towers), aim)

    def _up(
        self,
        number: int,
        down: list[Tensor],
        coarser: tuple[Tensor, Tensor] | None,
        fast: Tensor,
        full: Tensor,
        hits: tuple[Tensor, Tensor],
        whole: Whole,
    ) -> tuple[Tensor, Tensor]:
        """What the splits in eta and in phi of one size see: the fast image, and the full one so far."""
        seen = [self._seen(full), (full > 0).to(full), self._response(full, fast)]
        if coarser is None:
            seen += [0.3 * hits[1].sqrt(), 0.3 * (hits[1].sqrt() - hits[0].sqrt())]
        given = torch.cat(seen, dim=1)
        given = whole.beside(given) if coarser is None else given
        found: tuple[Tensor, Tensor] = self.up[number](down[number], None if coarser is None else coarser[0], given)
        return found

    def _split(self, number: int, context: Tensor, fast: _Fast, parent: Tensor, cells: Tensor | None) -> Density:
        """Of the split of some full parents among (B, 1, Y, X), with the fast images of every size."""
        one, two = children(fast.energy[number + 1], self.axes[number])
        floor = _COPIED * (one + two) + self.energy_scale
        log_ratio = (one + floor).log() - (two + floor).log()
        filled = [(each > 0).to(each) for each in (one, two, parent)]
        energies = [self._seen(each) for each in (one, two, parent)]
        seen = [context, *energies, *filled, 0.3 * log_ratio, self._response(parent, one + two)]
        given = fast.beside(number, torch.cat([*seen, self._towers(fast, number)], dim=1))
        raw = self.levels[number](given, cells)
        base = log_ratio.reshape(-1, 1)
        return Density.of(raw, base if cells is None else base[cells], 2, fade=0.5)

    def _finer(self, size: tuple[int, int]) -> int:
        """How many numbers the network of cells at a size sees of the fast image's towers in each, see `_towers`."""
        n = self.laid[0] * self.laid[1] // (size[0] * size[1])
        return 4 + (n if n >= _FEW else 0)

    def _towers(self, fast: _Fast, number: int) -> Tensor:
        """The fast image's brightest tower in each cell of a size, and its share of the cell and of those around it.

        Faint towers that stand alone are many and hadrons', bright ones few and electrons': the product tells them.
        If a cell has many towers, also all of them one by one.
        """
        size = fast.energy[number].shape[2:]
        towers = within(fast.transverse, *size)
        first, total = towers.amax(1, keepdim=True), towers.sum(1, keepdim=True)
        shares = [first / (x + self.energy_scale) for x in (total, sums_around(total, 1))]
        told = [*shares, self._seen(first), shares[1] * self._seen(first)]
        many = [self._seen(within(fast.energy[-1], *size))] if towers.shape[1] >= _FEW else []
        return torch.cat([*told, *many], dim=1)

    def _hit(self, image: Tensor) -> Tensor:
        """Numbers of towers hit in each block (B, 1, Y, X)."""
        return self._pyramid((image > 0).to(image))[0]

    def _response(self, full: Tensor, fast: Tensor) -> Tensor:
        """Logarithm of full over fast energies, of soft ones less."""
        return (full + self.energy_scale).log() - (fast + self.energy_scale).log()

    def _most(self, fast: _Fast) -> Tensor:
        """What a coarse block may hold at most, from what the fast image holds in it and around it."""
        most = self.ceiling * sums_around(fast.energy[0], 1) + 100 * self.energy_scale
        if len(self.axes) >= 2 * _QUARTERS:
            # Four boxes of three by three quarters cover the block and one quarter more on every side.
            near, ends = sums_around(fast.energy[2 * _QUARTERS], 1), (slice(0, None, 4), slice(3, None, 4))
            close = sum(near[:, :, y, x] for y in ends for x in ends)
            row_cosh = _rows(fast.row_cosh, fast.energy[0].shape[2]).amax(3, keepdim=True)
            most = torch.minimum(most, self.ceiling * close + 150 * self.energy_scale * row_cosh)
        most = most * fast.inside[0]
        return most

    def _pyramid(self, image: Tensor) -> list[Tensor]:
        """The image at every size, from the coarsest."""
        sizes = [image]
        for axis in reversed(self.axes):
            sizes.append(halved(sizes[-1], axis))
        return sizes[::-1]

    def _seen(self, energy: Tensor) -> Tensor:
        """Energies as a network likes to see them."""
        return 0.3 * torch.log1p(energy / self.energy_scale)


def filled_cells(image: Tensor) -> Tensor:
    """Numbers (K,) of the cells among all of (B, 1, Y, X) that hold energy."""
    return (image.flatten() > 0).nonzero().flatten()


def _rows(x: Tensor, n: int) -> Tensor:
    """What is known of rows of towers (B, C, Y, 1), for the n rows of a smaller image (B, C, n, Y / n)."""
    return x.reshape(x.shape[0], x.shape[1], n, -1)


def _check_widths(halvings: int, widths: Sequence[int], level_widths: Sequence[int]) -> None:
    if len(widths) != halvings or len(level_widths) != 1 + 2 * halvings:
        raise CaloforgeError(
            f"model 'coarse-to-fine' was given {len(widths)} widths and {len(level_widths)} level_widths for "
            f"{halvings} halvings; give {halvings} and {1 + 2 * halvings}."
        )
