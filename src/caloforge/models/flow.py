"""A conditional autoregressive flow for a shower's layer energies and hits.

Monotonic rational-quadratic splines: Durkan, Bekasov, Murray, Papamakarios, "Neural Spline Flows", arXiv 1906.04032.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALLEST = 1e-3  # share of the interval that a bin has at least, and least slope at a knot


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
        raw: unconstrained widths, heights and inner slopes (..., 3 K - 1) of K bins, or (3 K - 1,) for all values.
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
    slopes = SMALLEST + F.softplus(raw[..., 2 * bins :] + math.log(math.expm1(1 - SMALLEST)))
    slopes = F.pad(slopes, (1, 1), value=1.0)
    start = floor if inverse else left
    which = ((t[..., None] >= start).sum(-1, keepdim=True) - 1).clamp(0, bins - 1)

    def pick(values: Tensor) -> Tensor:
        return values[which.squeeze(-1)] if values.dim() == 1 else values.gather(-1, which).squeeze(-1)

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
    width = 2 * bound * (SMALLEST + (1 - SMALLEST * bins) * raw.softmax(-1))
    return width.cumsum(-1) - width - bound, width


class ChainFlow(nn.Module):
    """Density of a shower's layer energies and hits given a context (C,), layer by layer, exact both ways.

    The chain draws the total energy; then, layer after layer, the hits and the share of the energy that is left from
    this layer on, each by a spline of its own that a recurrent network shapes. It has seen the layers before, so a
    late conversion, say, shifts all that follows. Layers share its weights, so that a few thousand showers suffice.

    The code of L layers: (total, root_0, logit_0, root_1, ..., logit_(L - 2), root_(L - 1)), see `LayerCode`.

    Args:
        n_layers: L.
        n_context: C.
        hidden: width of the recurrent state.
        bins: of the splines.
        bound: of the splines, in standard deviations.
    """

    def __init__(self, n_layers: int, n_context: int, hidden: int = 64, bins: int = 12, bound: float = 6.0) -> None:
        super().__init__()
        self.n_layers, self.size, self.bound = n_layers, 2 * n_layers, bound
        self.scale = RunningScale(self.size)
        self.place = nn.Parameter(torch.zeros(n_layers, 8))
        nn.init.normal_(self.place)
        splines = 3 * bins - 1
        self.total = _head(n_context, 32, splines)
        self.start = nn.Linear(n_context + 1, hidden)
        self.state = nn.GRUCell(n_context + 4 + 8, hidden)
        self.hits = _head(hidden, hidden, splines)
        self.share = _head(hidden + 1, hidden, splines)

    def loss(self, code: Tensor, context: Tensor) -> Tensor:
        """Minus the logarithm of the density (B,) of codes (B, 2 L), up to the constant of the scale."""
        noise, log_det = self.to_noise(code, context)
        return 0.5 * noise.square().sum(1) - log_det

    def to_noise(self, code: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (B, 2 L) to standard normal noise (B, 2 L), and the logarithm of the determinant (B,)."""
        z = self.scale(code)
        total, roots, logits = z[:, 0], z[:, 1::2], F.pad(z[:, 2::2], (0, 1))  # (B,), (B, L), (B, L)
        empty = code[:, 1::2] < 1
        share = F.pad(code[:, 2::2], (0, 1)).sigmoid().where(~empty, torch.zeros_like(roots))
        left = torch.log1p(-share.clamp(max=1 - 1e-6)).cumsum(1)
        steps = [
            self._input(context, total, i, roots[:, i - 1], logits[:, i - 1], empty[:, i - 1], left[:, i - 1])
            if i
            else self._first(context, total)
            for i in range(self.n_layers)
        ]
        states = [self._begin(context, total)]
        for step in steps:
            states.append(self.state(step, states[-1]))
        state = torch.stack(states[1:], dim=1)  # (B, L, H)
        noise_total, det_total = spline(total, self.total(context), self.bound)
        noise_roots, det_roots = spline(roots, self.hits(state), self.bound)
        shaped = self.share(torch.cat([state, roots.unsqueeze(2)], dim=2))
        noise_logits, det_logits = spline(logits[:, :-1], shaped[:, :-1], self.bound)
        noise = torch.empty_like(code)
        noise[:, 0], noise[:, 1::2], noise[:, 2::2] = noise_total, noise_roots, noise_logits
        return noise, det_total + det_roots.sum(1) + det_logits.sum(1)

    def forward(self, noise: Tensor, context: Tensor) -> Tensor:
        """Noise (B, 2 L) to codes (B, 2 L), within the range of what it was trained on."""
        mean, deviation = self.scale.mean, self.scale.deviation
        total, _ = spline(noise[:, 0], self.total(context), self.bound, inverse=True)
        state, step = self._begin(context, total), self._first(context, total)
        left = torch.zeros_like(total)
        found = [total]
        for i in range(self.n_layers):
            state = self.state(step, state)
            root, _ = spline(noise[:, 2 * i + 1], self.hits(state), self.bound, inverse=True)
            found.append(root)
            if i == self.n_layers - 1:
                break
            raw = self.share(torch.cat([state, root.unsqueeze(1)], dim=1))
            logit, _ = spline(noise[:, 2 * i + 2], raw, self.bound, inverse=True)
            found.append(logit)
            empty = root * deviation[2 * i + 1] + mean[2 * i + 1] < 1
            share = (logit * deviation[2 * i + 2] + mean[2 * i + 2]).sigmoid().clamp(max=1 - 1e-6)
            left = left + torch.log1p(-share).where(~empty, torch.zeros_like(share))
            step = self._input(context, total, i + 1, root, logit, empty, left)
        code: Tensor = self.scale.inverse(torch.stack(found, dim=1))
        return code

    def _begin(self, context: Tensor, total: Tensor) -> Tensor:
        """The recurrent state (B, H) before the first layer."""
        return torch.tanh(self.start(torch.cat([context, total.unsqueeze(1)], dim=1)))

    def _first(self, context: Tensor, total: Tensor) -> Tensor:
        nothing = torch.zeros_like(total)
        return self._input(context, total, 0, nothing, nothing, nothing.bool(), nothing)

    def _input(
        self, context: Tensor, total: Tensor, layer: int, root: Tensor, logit: Tensor, empty: Tensor, left: Tensor
    ) -> Tensor:
        """What the chain sees before a layer (B, C + 12): context, total, the layer before and what is left."""
        # An empty layer's logit is noise without a meaning.
        known = torch.stack([total, root, logit.where(~empty, torch.zeros_like(logit)), left / 3], dim=1)
        place = self.place[layer].expand(total.shape[0], -1)  # len() would fix the batch in an export
        return torch.cat([context, known, place], dim=1)


def _head(n_in: int, hidden: int, n_out: int) -> nn.Sequential:
    """A small network whose splines begin as the identity."""
    last = nn.Linear(hidden, n_out)
    nn.init.normal_(last.weight, 0.0, 1e-3)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(n_in, hidden), nn.SiLU(), last)
