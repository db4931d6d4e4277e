"""A conditional normalising flow for vectors of some tens of numbers.

Couplings with monotonic rational-quadratic splines: Durkan, Bekasov, Murray, Papamakarios, "Neural Spline Flows", arXiv
1906.04032.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SMALLEST = 1e-3  # share of the interval that a bin has at least, and least slope at a knot


class RunningScale(nn.Module):
    """Mean, deviation and range (D,) of all it has seen in training; it rests in evaluation mode."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.count: Tensor
        self.mean: Tensor
        self.square: Tensor
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("count", torch.zeros(()))
        # Before it has seen anything: any mean and a deviation of one.
        self.register_buffer("mean", torch.full((size,), 2.0))
        self.register_buffer("square", torch.full((size,), 5.0))
        self.register_buffer("low", torch.full((size,), -1e6))
        self.register_buffer("high", torch.full((size,), 1e6))

    @torch.no_grad()
    def see(self, x: Tensor) -> None:
        """Take a batch (B, D) into the statistics."""
        first = bool(self.count == 0)
        self.count += 1
        self.mean.lerp_(x.mean(0), float(1 / self.count))
        self.square.lerp_(x.square().mean(0), float(1 / self.count))
        low, high = x.amin(0), x.amax(0)
        self.low.copy_(low if first else torch.minimum(self.low, low))
        self.high.copy_(high if first else torch.maximum(self.high, high))

    @property
    def deviation(self) -> Tensor:
        """Standard deviation (D,), at least a thousandth."""
        return (self.square - self.mean.square()).clamp(min=1e-6).sqrt()

    def forward(self, x: Tensor) -> Tensor:
        """To mean zero and deviation one."""
        return (x - self.mean) / self.deviation

    def inverse(self, y: Tensor) -> Tensor:
        """Back, within the range that was seen: what lies beyond would be extrapolation."""
        return torch.minimum(torch.maximum(y * self.deviation + self.mean, self.low), self.high)


def spline(x: Tensor, raw: Tensor, bound: float, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """Monotonic rational-quadratic spline from [-bound, bound] to itself, the identity outside.

    Args:
        x: values (...,).
        raw: unconstrained widths, heights and inner slopes (..., 3 K - 1) of K bins.
        bound: half the width of the interval.
        inverse: run it backwards.

    Returns:
        Values (...,) and the logarithm of the derivative (...,) of the direction asked for.
    """
    bins = (raw.shape[-1] + 1) // 3
    inside = (x >= -bound) & (x <= bound)
    t = x.clamp(-bound, bound)
    left, width = _knots(raw[..., :bins], bound)
    floor, height = _knots(raw[..., bins : 2 * bins], bound)
    slopes = _SMALLEST + F.softplus(raw[..., 2 * bins :] + math.log(math.expm1(1 - _SMALLEST)))
    slopes = F.pad(slopes, (1, 1), value=1.0)
    start = floor if inverse else left
    which = ((t[..., None] >= start).sum(-1, keepdim=True) - 1).clamp(0, bins - 1)

    def pick(values: Tensor) -> Tensor:
        return values.gather(-1, which).squeeze(-1)

    x0, w, y0, h = pick(left), pick(width), pick(floor), pick(height)
    d0, d1, s = pick(slopes[..., :-1]), pick(slopes[..., 1:]), pick(height / width)
    bend = d0 + d1 - 2 * s
    if inverse:
        rise = (t - y0) * bend
        a, b, c = h * (s - d0) + rise, h * d0 - rise, -s * (t - y0)
        u = (2 * c / (-b - (b.square() - 4 * a * c).clamp(min=0).sqrt())).clamp(0, 1)
        value = x0 + u * w
    else:
        u = ((t - x0) / w).clamp(0, 1)
        value = y0 + h * (s * u.square() + d0 * u * (1 - u)) / (s + bend * u * (1 - u))
    slope = s.square() * (d1 * u.square() + 2 * s * u * (1 - u) + d0 * (1 - u).square())
    log_slope = slope.log() - 2 * (s + bend * u * (1 - u)).log()
    log_slope = -log_slope if inverse else log_slope
    return torch.where(inside, value, x), torch.where(inside, log_slope, torch.zeros_like(x))


def _knots(raw: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Left ends and widths (..., K) of bins that fill [-bound, bound]."""
    bins = raw.shape[-1]
    width = 2 * bound * (_SMALLEST + (1 - _SMALLEST * bins) * raw.softmax(-1))
    return width.cumsum(-1) - width - bound, width


class Coupling(nn.Module):
    """Bends the values outside ``kept`` by splines whose shape depends on the kept ones and the context."""

    def __init__(self, size: int, n_context: int, kept: list[int], hidden: int, bins: int, bound: float) -> None:
        super().__init__()
        self.bound = bound
        moved = [i for i in range(size) if i not in set(kept)]
        order = kept + moved
        self.kept, self.moved, self.back = kept, moved, sorted(range(size), key=order.__getitem__)
        self.layers = nn.Sequential(
            nn.Linear(len(kept) + n_context, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, len(moved) * (3 * bins - 1)),
        )
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, 0.0, 1e-3)
        nn.init.zeros_(last.bias)  # equal bins and slopes: begins as the identity

    def forward(self, x: Tensor, context: Tensor, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
        """(B, D), (B, C) -> values (B, D), logarithm of the determinant (B,)."""
        kept = x[:, self.kept]
        raw = self.layers(torch.cat([kept, context], dim=1)).unflatten(1, (len(self.moved), -1))
        moved, log_slope = spline(x[:, self.moved], raw, self.bound, inverse=inverse)
        return torch.cat([kept, moved], dim=1)[:, self.back], log_slope.sum(1)


class ConditionalFlow(nn.Module):
    """Density of vectors (D,) given a context (C,), exact both ways.

    Args:
        size: D, at least 1.
        n_context: C.
        couplings: number of couplings.
        hidden: width of their networks.
        bins: of the splines.
        bound: of the splines, in standard deviations.
    """

    def __init__(
        self, size: int, n_context: int, couplings: int = 6, hidden: int = 64, bins: int = 8, bound: float = 5.0
    ) -> None:
        super().__init__()
        self.size = size
        self.scale = RunningScale(size)
        parts = [Coupling(size, n_context, kept, hidden, bins, bound) for kept in _halves(size, couplings)]
        self.couplings = nn.ModuleList(parts)

    def loss(self, x: Tensor, context: Tensor) -> Tensor:
        """Minus the logarithm of the density (B,) of vectors (B, D), up to the constant of the scale."""
        z, log_det = self.to_noise(x, context)
        return 0.5 * z.square().sum(1) - log_det

    def to_noise(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (B, D) to standard normal noise (B, D), and the logarithm of the determinant (B,)."""
        z = self.scale(x)
        total = x.new_zeros(len(x))
        for coupling in self.couplings:
            z, log_det = coupling(z, context)
            total = total + log_det
        return z, total

    def forward(self, noise: Tensor, context: Tensor) -> Tensor:
        """Noise (B, D) to vectors (B, D), within the range of what it was trained on."""
        x = noise
        for coupling in reversed(self.couplings):
            x, _ = coupling(x, context, inverse=True)
        vectors: Tensor = self.scale.inverse(x)
        return vectors


def _halves(size: int, n: int) -> list[list[int]]:
    """Which values each of ``n`` couplings keeps: a random half, then the other half, then another random half."""
    rng = np.random.default_rng(0)
    found: list[list[int]] = []
    for i in range(n):
        half = sorted(rng.permutation(size)[: size // 2].tolist())
        found.append([j for j in range(size) if j not in set(found[-1])] if i % 2 and size > 1 else half)
    return found
