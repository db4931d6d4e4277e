"""From a network's raw values to hits: which voxels are hit, how bright they are, and a layer's energy kept.

A network of some tens of latent numbers cannot draw the hundreds of scattered hits around a shower's core. Here it
says only how likely each voxel is hit; which ones are, and how bright, is drawn voxel by voxel from densities that are
learnt by maximum likelihood. Hurdle models: Cragg, Econometrica 39 (1971) 829.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .flow import RunningScale, spline

BOUND = 8.0  # of the spline, in units of standard logistic noise; of the landmarks, in logarithms of energy
# Chances of what lies beyond the faint and the bright end: the spline's ends have seen few hits, and while one that is
# too faint does no harm, one that is too bright takes its layer's energy from all others.
FAINTEST, BRIGHTEST = 1e-5, 1e-3
TINY = 1e-30
LANDMARK_GAIN = 8.0  # of their parameters: few, shared by all hits, and slow to settle at the networks' learning rate
_DUST = -15.0  # logarithm of a hit's energy over the mean hit's, below which it counts as dust


def logistic(noise: Tensor) -> Tensor:
    """Standard normal noise to standard logistic noise of the same rank."""
    # From the smaller of p and 1 - p: the other has lost its digits, and hits are ordered by them.
    tail: Tensor = torch.special.ndtr(-noise.abs()).clamp(min=1e-7)
    size = torch.log1p(-tail) - tail.log()
    return torch.where(noise < 0, -size, size)


def scale_to(energy: Tensor, total: Tensor, bright_first: float = 1.0) -> Tensor:
    """Make each row of energies (B, L, K) add up to its total (B, L).

    Voxels of standard deviation proportional to their energy, whose sum is then known, change by their variance over
    the sum of variances: by the square of their energy, so that faint ones stay where they are. That is
    ``bright_first`` of 1; with 0 all change by the same factor, and the brightest need not make up for what all others
    lack. A sum that is too small by more than half is scaled as a whole first.

    Args:
        energy: (B, L, K).
        total: (B, L).
        bright_first: q; energies change by E^(1 + q) as long as the change is small.
    """
    have = energy.sum(2, keepdim=True).clamp(min=TINY)
    want = total.unsqueeze(2)
    energy = energy * (want / have / 2).clamp(min=1)
    peak = energy.amax(2, keepdim=True).clamp(min=TINY)
    x = energy / peak  # 0..1: powers stay in range
    weight = x.pow(bright_first)
    have, want = x.sum(2, keepdim=True), want / peak
    up = ((want - have) / (x * weight).sum(2, keepdim=True).clamp(min=TINY)).clamp(min=0)
    # Downwards x / (1 + mu weight) keeps all energies positive and in order; mu by Newton's method, which from 0 rises
    # to the root without passing it: the sum is convex and falls with mu.
    mu = torch.zeros_like(up)
    with torch.no_grad():
        for _ in range(8):
            part = x / (1 + mu * weight)
            slope = (part * weight / (1 + mu * weight)).sum(2, keepdim=True).clamp(min=TINY)
            mu = mu + ((part.sum(2, keepdim=True) - want) / slope).clamp(min=0)
    x = torch.where(want >= have, x * (1 + up * weight), x / (1 + mu * weight))
    return x * (total.unsqueeze(2) / x.sum(2, keepdim=True).clamp(min=TINY))


class Shape(NamedTuple):
    """Densities of the logarithm of a hit's energy over the mean hit's; all (...,), ``knots`` (..., 3 bins - 1)."""

    shift: Tensor
    log_width: Tensor
    knots: Tensor
    dust: Tensor  # logit of the probability of dust
    dust_shift: Tensor
    dust_log_width: Tensor
    mean: Tensor  # logarithm of the mean hit's energy


class Emission(nn.Module):
    """Hits of a layer from raw values r: hit with probability sigmoid(r), its energy from a spline that r shapes.

    The energy of a hit, over the mean energy of the layer's hits, is a monotonic function of logistic noise (an affine
    map of a spline in the logarithm), whose parameters a small network makes of r, the conditions, the layer and the
    layer's energy and hits. Some hits in a thousand are dust: Geant4 leaves some 10^-10 MeV in a voxel that a particle
    just touches, with nothing between that and an eV. They have a probability and a (logistic) density of their own.

    Args:
        n_conditions: C.
        n_layers: L.
        width: K, voxels of a layer.
        hidden: width of the small network.
        bins: of the spline.
        landmarks: bins of a second spline, the same for all hits, in the logarithm of the energy, for what stands at
            one energy in every shower and is too sharp for a network to shape: the edge below the peak of minimum
            ionising particles. 0: none.
        energy_spread: by how much the logarithm of the incident energy, which energies here are over, changes with the
            first condition, for the landmarks; 0: they stand at one share of the incident energy.
        emphasis: weight of a hit's brightness in the likelihood, per expected energy over the layer's mean hit.
        bright_first: how a layer's energy is met, see `scale_to`.
    """

    def __init__(
        self,
        n_conditions: int,
        n_layers: int,
        width: int,
        hidden: int = 48,
        bins: int = 16,
        landmarks: int = 0,
        energy_spread: float = 0,
        emphasis: float = 0,
        bright_first: float = 1.0,
    ) -> None:
        super().__init__()
        self.scale = RunningScale(2)
        self.bias = nn.Parameter(torch.zeros(n_layers, width))  # what the network need not learn
        self.place = nn.Parameter(torch.zeros(n_layers, 4))
        nn.init.normal_(self.place)
        self.emphasis, self.bright_first = emphasis, bright_first
        self.slope = nn.Parameter(torch.ones(()))
        self.by_layer = nn.Linear(n_conditions + 2 + 4, hidden)
        # The peak of minimum ionising particles stands at the same energy whatever the mean hit's: in what follows its
        # place is a straight line in the logarithms of this and of the incident energy.
        self.level = nn.Linear(n_conditions + 2 + 4, 1)
        nn.init.zeros_(self.level.weight)
        nn.init.zeros_(self.level.bias)
        # Zeros: the identity.
        self.landmarks = nn.Parameter(torch.zeros(3 * landmarks - 1)) if landmarks else None
        # Given, not learnt: four of five trainings let it drift to half its value and less, and the edge blurred.
        spread = F.pad(torch.tensor([float(energy_spread)]), (0, n_conditions))[:n_conditions]
        self.spread: Tensor | None
        self.register_buffer("spread", spread if landmarks else None)
        self.by_raw = nn.Linear(1, hidden, bias=False)
        self.middle = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, 5 + 3 * bins - 1)
        nn.init.normal_(self.last.weight, 0.0, 1e-2)
        nn.init.zeros_(self.last.bias)
        with torch.no_grad():
            self.last.bias[2:5] = torch.tensor([-5.0, -22.0, 0.0])  # how much dust, where, how wide

    def context(self, condition: Tensor, energy: Tensor, hits: Tensor) -> Tensor:
        """What shapes a layer's hits (B, L, H + 2) from conditions (B, C), layer energies (B, L) and hits (B, L)."""
        known = torch.stack([self._mean(energy, hits).log(), hits.sqrt()], dim=2)
        known = torch.where((hits > 0).unsqueeze(2), known, self.scale.mean)
        if self.training:
            self.scale.see(known.detach()[hits > 0])
        n_layers = hits.shape[1]
        parts = [
            condition.unsqueeze(1).expand(-1, n_layers, -1),
            self.scale(known),
            self.place.expand(hits.shape[0], -1, -1),
        ]
        seen = torch.cat(parts, dim=2)
        # The mean hit's energy itself, not over the incident one, up to a constant.
        mean = known[:, :, :1] - self.scale.mean[0]
        if self.spread is not None:
            mean = mean + (condition @ self.spread)[:, None, None]
        return torch.cat([self.by_layer(seen), self.level(seen), mean], dim=2)

    def minus_log_likelihood(self, raw: Tensor, seen: Tensor, context: Tensor) -> Tensor:
        """Of layers (B, L, K) of energies ``seen`` for raw values (B, L, K); summed over voxels (B,)."""
        raw = raw + self.bias
        hit = seen > 0
        total = F.softplus(torch.where(hit, -raw, raw)).sum((1, 2))
        shower, layer, _ = hit.nonzero(as_tuple=True)
        mean = self._mean(seen.sum(2), hit.sum(2).to(seen))[shower, layer]
        shape = self._shape(raw[hit], context[shower, layer])
        x = (seen[hit] / mean).log()
        place, log_slope = self._landmarked(x, shape.mean)
        noise, more = spline((place - shape.shift) * torch.exp(-shape.log_width), shape.knots, BOUND)
        log_slope = log_slope + more
        is_dust = x < _DUST
        dust_noise = (x - shape.dust_shift) * torch.exp(-shape.dust_log_width)
        # Density of the standard logistic distribution: sigmoid(x) sigmoid(-x).
        bright = F.softplus(noise) + F.softplus(-noise) - log_slope + shape.log_width + F.softplus(shape.dust)
        dust = F.softplus(dust_noise) + F.softplus(-dust_noise) + shape.dust_log_width + F.softplus(-shape.dust)
        each = torch.where(is_dust, dust, bright)
        # Where energy is expected, its density counts for more (proper still: the weight knows nothing of the outcome).
        each = each * (1 + self.emphasis * shape.shift.detach().exp().clamp(max=100))
        return total.index_add(0, shower, each)

    def forward(self, raw: Tensor, noise: Tensor, context: Tensor, energy: Tensor, hits: Tensor, most: int) -> Tensor:
        """Draw layers (B, L, K) of the given energies (B, L) and hits (B, L).

        Args:
            raw: raw values (B, L, K), very negative where there is no voxel.
            noise: standard normal (B, L, K).
            context: see `context`.
            energy: of the layers.
            hits: whole numbers, at most ``most``.
            most: K' <= K, hits that a layer may have at most.
        """
        raw, noise = raw + self.bias, logistic(noise)
        top = torch.topk((raw + noise).detach(), min(most + 1, raw.shape[2]), dim=2)
        index = top.indices[:, :, :most]
        order = torch.arange(index.shape[2], device=raw.device)
        lit = order < hits.unsqueeze(2)
        # Given the first that is not hit, those that are lie anywhere above it, independently.
        after = hits.long().clamp(0, top.values.shape[2] - 1).unsqueeze(2)
        cut = top.values.gather(2, after).where(after == hits.long().unsqueeze(2), -1e9)
        r, e = raw.gather(2, index), noise.gather(2, index)
        # Given that noise is above cut - r, its rank among all such is uniform: noise of its own for the brightness.
        above = torch.sigmoid(-e) / torch.sigmoid(r - cut).clamp(min=1e-7)
        if torch.compiler.is_compiling():  # which wants the same shapes whatever the numbers
            value = lit * self._brightness(r, above, context.unsqueeze(2).expand(-1, -1, r.shape[2], -1))
        else:  # most rows hold far fewer hits than the fullest
            shower, layer, _ = lit.nonzero(as_tuple=True)
            value = torch.zeros_like(r).masked_scatter(
                lit, self._brightness(r[lit], above[lit], context[shower, layer])
            )
        value = torch.minimum(value, hits.unsqueeze(2))  # one voxel holds no more than its layer
        value = scale_to(value * self._mean(energy, hits).unsqueeze(2), energy, self.bright_first)
        return torch.zeros_like(raw).scatter(2, index, value)

    def _brightness(self, raw: Tensor, above: Tensor, context: Tensor) -> Tensor:
        """Energies (...,) over the mean hit's, from raw values (...,) and how much noise lies above each (...,)."""
        shape = self._shape(raw, context)
        rank, share = 1 - above, torch.sigmoid(shape.dust)
        is_dust = rank < share
        rank = torch.where(is_dust, rank / share, (rank - share) / (1 - share)).clamp(FAINTEST, 1 - BRIGHTEST)
        fresh = rank.log() - torch.log1p(-rank)
        bright, _ = spline(fresh, shape.knots, BOUND, inverse=True)
        place, _ = self._landmarked(bright * shape.log_width.exp() + shape.shift, shape.mean, inverse=True)
        x = torch.where(is_dust, fresh * shape.dust_log_width.exp() + shape.dust_shift, place)
        return x.clamp(-40, 30).exp()

    def _landmarked(self, x: Tensor, mean: Tensor, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
        """Energies over the mean hit's (...,) on the landmarks' scale, or back, and the derivative's logarithm."""
        if self.landmarks is None:
            return x, torch.zeros_like(x)
        there, log_slope = spline(x + mean, LANDMARK_GAIN * self.landmarks, BOUND, inverse=inverse)
        return there - mean, log_slope

    def _shape(self, raw: Tensor, context: Tensor) -> Shape:
        """The densities of hits of raw values (...,) in layers of context (..., H + 2)."""
        raw = raw.clamp(-20, 20)
        x = F.silu(context[..., :-2] + self.by_raw(0.2 * raw.unsqueeze(-1)))
        found = self.last(F.silu(self.middle(x)))
        shift, log_width, dust, dust_shift, dust_log_width = found[..., :5].unbind(-1)
        # What is likely hit is bright: known from the start, so that bright voxels pull at the network at once.
        shift = shift + raw * self.slope + context[..., -2]
        log_width, dust_log_width = log_width.clamp(-4, 4), dust_log_width.clamp(-4, 4)
        return Shape(shift, log_width, found[..., 5:], dust, dust_shift, dust_log_width, context[..., -1])

    @staticmethod
    def _mean(energy: Tensor, hits: Tensor) -> Tensor:
        """Mean energy of a layer's hits, tiny where there are none."""
        return (energy / hits.clamp(min=1)).clamp(min=TINY)
