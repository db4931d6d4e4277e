"""Splines of many values at once in NumPy, values along the last axis: what generation runs for each layer and hit.

The same numbers as `flow.spline` backwards, up to rounding. With values last, sums over a spline's few bins are sums of
long rows; and NumPy's calls cost a third of torch's, which matters where a single shower is asked for.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .flow import SMALLEST

Floats = npt.NDArray[np.floating[Any]]

_FEW = 16  # values for which calls cost more than arithmetic
_SHIFT64 = math.log(math.expm1(1 - SMALLEST))
_SHIFT = np.float32(_SHIFT64)


def array(parameter: object) -> Floats:
    """A parameter's numbers."""
    assert isinstance(parameter, nn.Parameter)
    found: Floats = parameter.detach().numpy()
    return found


def product(weight: nn.Parameter | Tensor, x: Floats) -> Floats:
    """Matrix product by torch: NumPy's threads know nothing of torch's, and spin where products are too small."""
    found: Floats = torch.mm(weight.detach(), torch.from_numpy(x)).numpy()
    return found


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x))."""
    with np.errstate(over="ignore"):  # to 1 / inf, which is right
        found: Floats = 1 / (1 + np.exp(-x))
    return found


def silu(x: Floats) -> Floats:
    """Overwrite x by x / (1 + exp(-x)); whoever calls it ignores that exp may overflow, to the right zero."""
    bottom = np.exp(-x)
    bottom += 1
    x /= bottom
    return x


class SplineColumns:
    """`spline` backwards for n values, each with parameters of its own.

    Args:
        bins: K.
        n: values.
        bound: half the width of the interval.
    """

    def __init__(self, bins: int, n: int, bound: float) -> None:
        self.bins, self.bound = bins, np.float32(bound)
        self.ends = np.zeros((2, bins + 1, n), np.float32)  # of the bins, from 0: along x, along y
        self.raw = np.zeros((bins + 1, n), np.float32)  # slopes at the ends; the outer ones come out as one
        column, step = np.arange(n), (bins + 1) * n
        self.corners = np.stack([column, column + n, column + step, column + step + n])  # x0, x1, y0, y1
        self.least = (2 * bound * SMALLEST * np.arange(1, bins + 1, dtype=np.float32))[:, None]
        self.span = np.float32(2 * bound * (1 - SMALLEST * bins))

    def __call__(self, x: Floats, raw: Floats) -> Floats:
        """Heights (n,) and parameters (3 K - 1, n) to places (n,)."""
        k, n = self.bins, len(x)
        if n == 1:
            return np.array([_one_place(float(x[0]), raw[:, 0].tolist(), float(self.bound))], np.float32)
        inside = np.minimum(np.maximum(x, -self.bound), self.bound)
        pair = raw[: 2 * k].reshape(2, k, n)
        grown = np.exp(pair - pair.max(axis=1, keepdims=True))
        if n < _FEW:
            np.add.accumulate(grown, axis=1, out=grown)
        else:  # a running sum along an axis of few: faster than `accumulate`, which goes value by value
            for i in range(1, k):
                grown[:, i] += grown[:, i - 1]
        np.multiply(grown, self.span / grown[:, -1:], out=self.ends[:, 1:])
        self.ends[:, 1:] += self.least
        self.raw[1:-1] = raw[2 * k :]
        t = inside + self.bound
        below = self.ends[1, 1:-1] <= t
        which = np.add.reduce(below.view(np.uint8), axis=0, dtype=np.uint8) * np.int64(n)
        (x0, x1), (y0, y1) = self.ends.take(which + self.corners).reshape(2, 2, n)
        d0, d1 = _slopes(self.raw.take(which + self.corners[:2]))
        found: Floats = _place(t, (x0, x1), (y0, y1), (d0, d1)) - self.bound + (x - inside)
        return found


def _one_place(x: float, raw: list[float], bound: float) -> float:
    """`SplineColumns` for one value in plain numbers: four times as fast as fifty calls of NumPy."""
    k = (len(raw) + 1) // 3
    least, span = 2 * bound * SMALLEST, 2 * bound * (1 - SMALLEST * k)
    inside = min(max(x, -bound), bound)
    t = inside + bound
    wide, high = ([math.exp(v - top) for v in part] for part, top in ((p, max(p)) for p in (raw[:k], raw[k : 2 * k])))
    to_x, to_y = span / sum(wide), span / sum(high)
    low, i, h = 0.0, 0, least + high[0] * to_y
    while i < k - 1 and low + h <= t:
        low, i = low + h, i + 1
        h = least + high[i] * to_y
    w, left = least + wide[i] * to_x, least * i + sum(wide[:i]) * to_x
    slopes = [1.0, *raw[2 * k :], 1.0]  # parameters but for the outer ones
    d0 = SMALLEST + _softplus(slopes[i] + _SHIFT64) if i else 1.0
    d1 = SMALLEST + _softplus(slopes[i + 1] + _SHIFT64) if i < k - 1 else 1.0
    s, v = h / w, (t - low) / h
    b, up = d0 - v * (d0 + d1 - 2 * s), s * v
    u = 2 * up / (b + math.sqrt(max(b * b + 4 * (s - b) * up, 0.0)))
    return left + min(max(u, 0.0), 1.0) * w - bound + (x - inside)


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


class SharedSpline:
    """`spline` backwards with the same parameters for all values.

    Args:
        raw: (3 K - 1,).
        bound: half the width of the interval.
    """

    def __init__(self, raw: Floats, bound: float) -> None:
        bins = (len(raw) + 1) // 3
        self.bound = np.float32(bound)
        pair = raw[: 2 * bins].reshape(2, bins).astype(np.float64)
        shares = np.exp(pair - pair.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        sizes = 2 * bound * (SMALLEST + (1 - SMALLEST * bins) * shares)
        self.x, self.y = np.pad(sizes.cumsum(axis=1), ((0, 0), (1, 0))).astype(np.float32)
        self.slopes = _slopes(np.pad(raw[2 * bins :], 1))

    def __call__(self, x: Floats) -> Floats:
        """Heights (n,) to places (n,)."""
        inside = np.minimum(np.maximum(x, -self.bound), self.bound)
        t = inside + self.bound
        low = np.searchsorted(self.y[1:-1], t, side="right")
        high = low + 1
        (x0, x1), (y0, y1), (d0, d1) = ((a.take(low), a.take(high)) for a in (self.x, self.y, self.slopes))
        found: Floats = _place(t, (x0, x1), (y0, y1), (d0, d1)) - self.bound + (x - inside)
        return found


def _slopes(raw: Floats) -> Floats:
    """Slopes at the ends of bins from their parameters."""
    found: Floats = np.float32(SMALLEST) + np.logaddexp(np.float32(0), raw + _SHIFT)
    return found


def _place(t: Floats, x: tuple[Floats, Floats], y: tuple[Floats, Floats], slope: tuple[Floats, Floats]) -> Floats:
    """Where splines reach heights t (n,), in bins with these ends and slopes (arXiv 1906.04032, eq. 6-8)."""
    (x0, x1), (y0, y1), (d0, d1) = x, y, slope
    w, h = x1 - x0, y1 - y0
    s = h / w
    v = (t - y0) / h
    b = d0 - v * (d0 + d1 - 2 * s)
    up = s * v
    u = 2 * up / (b + np.sqrt(np.maximum(b * b + 4 * (s - b) * up, 0)))
    found: Floats = x0 + np.minimum(np.maximum(u, 0), 1) * w
    return found
