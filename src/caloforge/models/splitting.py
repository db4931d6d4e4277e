"""Energies of an image from coarse to fine: sums of neighbours, and densities of how they share what they hold.

An image is halved in eta and phi in turn until it is coarse; each halving adds up two neighbours. Going back, a
parent's energy is split: all to the first child, all to the second, or shared, and then the logarithm of the ratio has
a mixture of normal densities. So empty towers are exact zeros, energies add up, and a number drawn high up moves all
towers below it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

ETA, PHI = 2, 3  # axes of images (B, C, Y, X)
_LARGEST = 40.0  # logarithm of a ratio or an energy
_THINNEST = 1e-3  # density where a value drawn still follows with its whole gradient
_FAN = 0.7  # by how much the logarithms of the components' widths begin apart from the middle one


def halved(image: Tensor, axis: int) -> Tensor:
    """Add up neighbours: (B, C, Y, X) -> the same with half the cells along ``axis``."""
    one, two = children(image, axis)
    return one + two


def children(image: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The two children of each parent: (B, C, Y, X) -> two of half the cells along ``axis``."""
    if axis == ETA:
        return image[:, :, 0::2], image[:, :, 1::2]
    return image[:, :, :, 0::2], image[:, :, :, 1::2]


def joined(one: Tensor, two: Tensor, axis: int) -> Tensor:
    """The reverse of `children`."""
    return torch.stack([one, two], dim=axis + 1).flatten(axis, axis + 1)


class Density(NamedTuple):
    """Some outcomes of their own (atoms) beside a mixture of M normal densities, for each of K cells.

    Attributes:
        log_share: logarithms of the probabilities of the A atoms, then of the components (K, A + M).
        mean: of the components (K, M).
        log_width: of the components (K, M).
    """

    log_share: Tensor
    mean: Tensor
    log_width: Tensor

    @classmethod
    def of(
        cls, raw: Tensor, base: Tensor, atoms: int, log_width_base: Tensor | float = -1.0, fade: float = 0.0
    ) -> Density:
        """From a network's raw values (K, A + 4 M), a first guess (K, 1) of the value and the logarithm of its width.

        The components begin with different widths, and with ``fade`` the wide ones between the guess and zero: so what
        is copied and what is smeared are told apart early.
        """
        n = (raw.shape[1] - atoms) // 4
        share, gain, mean, log_width = torch.split(raw, [atoms + n, n, n, n], dim=1)
        fan = torch.linspace(-1.0, 1.0, n, device=raw.device) if n > 1 else torch.zeros(1, device=raw.device)
        mean = mean + base * (gain + 1 - fade * (fan + 1) / 2)
        return cls(F.log_softmax(share, 1), mean, (log_width + log_width_base + _FAN * fan).clamp(-5, 3))

    def minus_log_likelihood(self, outcome: Tensor, value: Tensor) -> Tensor:
        """Of outcomes (K,), the number of an atom or A for a shared ``value`` (K,)."""
        atoms = self.log_share.shape[1] - self.mean.shape[1]
        away = (value.unsqueeze(1) - self.mean) * torch.exp(-self.log_width)
        log_normal = -0.5 * away.square() - self.log_width - 0.5 * math.log(2 * math.pi)
        shared = torch.logsumexp(self.log_share[:, atoms:] + log_normal, dim=1)
        if not atoms:
            return -shared
        whole = self.log_share.gather(1, outcome.clamp(max=atoms - 1).unsqueeze(1)).squeeze(1)
        return -torch.where(outcome < atoms, whole, shared)

    def moments(self, most: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (K,) of exponentials of what is drawn: nought of atoms, of components ``most`` at most."""
        atoms = self.log_share.shape[1] - self.mean.shape[1]
        share, variance, top = self.log_share[:, atoms:].exp(), (2 * self.log_width).exp(), most.log().unsqueeze(1)
        first = torch.minimum(self.mean + 0.5 * variance, top).exp()
        second = torch.minimum(2 * self.mean + 2 * variance, 2 * top).exp()
        mean = (share * first).sum(1)
        return mean, ((share * second).sum(1) - mean.square()).clamp(min=0)

    def draw(self, choice: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Outcomes (K,), A and more for a component, and values (K,), from standard normal numbers (K,) each."""
        atoms = self.log_share.shape[1] - self.mean.shape[1]
        rank = torch.special.ndtr(choice).unsqueeze(1)
        outcome = (rank > self.log_share.exp().cumsum(1)[:, :-1]).sum(1)
        which = (outcome - atoms).clamp(min=0).unsqueeze(1)
        mean, width = (part.gather(1, which).squeeze(1) for part in (self.mean, self.log_width.exp()))
        return outcome, mean + width * value

    def followed(self, value: Tensor) -> Tensor:
        """Values drawn (K,), of components and not atoms, with the gradients by which they follow the density.

        A value at a fixed rank moves as the distribution function does under it, however it was drawn (implicit
        reparametrisation: Figurnov, Mohamed, Mnih, NeurIPS 2018, arXiv 1805.08498, eq. 4).
        """
        atoms = self.log_share.shape[1] - self.mean.shape[1]
        value = value.detach()
        away = (value.unsqueeze(1) - self.mean) * torch.exp(-self.log_width)
        share = self.log_share.exp()
        rank = share[:, :atoms].sum(1) + (share[:, atoms:] * torch.special.ndtr(away)).sum(1)
        normal = torch.exp(-0.5 * away.square() - self.log_width) / math.sqrt(2 * math.pi)
        density = (share[:, atoms:] * normal).sum(1).detach().clamp(min=_THINNEST)
        followed: Tensor = value - (rank - rank.detach()) / density
        return followed


def shared_out(parent: Tensor, outcome: Tensor, log_ratio: Tensor, axis: int) -> Tensor:
    """Split parents (B, 1, Y, X): outcome 0 gives all to the first child, 1 to the second, else by the ratio."""
    ratio = log_ratio.clamp(-_LARGEST, _LARGEST)
    part = torch.where(outcome == 0, 1.0, torch.where(outcome == 1, 0.0, torch.sigmoid(ratio)))
    rest = torch.where(outcome == 0, 0.0, torch.where(outcome == 1, 1.0, torch.sigmoid(-ratio)))
    return joined(parent * part, parent * rest, axis)


def how_shared(one: Tensor, two: Tensor) -> tuple[Tensor, Tensor]:
    """Outcome of a split into children (B, 1, Y, X), and the logarithm of their ratio where both hold energy."""
    both = (one > 0) & (two > 0)
    outcome = torch.where(both, 2, torch.where(two > 0, 1, 0))
    log_ratio = torch.where(both, one, 1.0).log() - torch.where(both, two, 1.0).log()
    return outcome, log_ratio


def repeated(x: Tensor, k: int) -> Tensor:
    """(B, ...) -> (K B, ...), the whole batch k times."""
    return x.expand(k, *x.shape).flatten(0, 1)
