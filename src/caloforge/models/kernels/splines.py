"""Rational-quadratic splines backwards (arXiv 1906.04032): one value, many, and many on a shared one."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..flow import SMALLEST
from .compiling import Floats, compiled, f32
from .elementary import LOWEST, ONE, TWO, ZERO, exp, softplus

_SMALLEST = f32(SMALLEST)
_SLOPE_SHIFT = f32(math.log(math.expm1(1 - SMALLEST)))


@compiled
def _place(t: f32, x0: f32, x1: f32, y0: f32, y1: f32, d0: f32, d1: f32) -> f32:
    """Where a spline reaches height t in a bin with these ends and slopes (arXiv 1906.04032, eq. 6-8)."""
    w, h = x1 - x0, y1 - y0
    s, v = h / w, (t - y0) / h
    b = d0 - v * (d0 + d1 - TWO * s)
    up = s * v
    root = b * b + TWO * TWO * (s - b) * up
    u = TWO * up / (b + np.sqrt(max(root, ZERO)))
    found: f32 = x0 + min(max(u, ZERO), ONE) * w
    return found


@compiled
def on_spline(x: f32, raw: Floats, bound: f32, grown: Floats) -> f32:
    """`flow.spline` backwards for one value; ``grown`` (2, K) is overwritten."""
    k = len(raw) // 3 + 1
    least, span = TWO * bound * _SMALLEST, TWO * bound * (ONE - _SMALLEST * f32(k))
    inside = min(max(x, -bound), bound)
    t = inside + bound
    for part in range(2):
        mine, values = grown[part], raw[part * k : (part + 1) * k]
        top, total = values[0], ZERO
        for i in range(1, k):
            top = max(top, values[i])
        for i in range(k):
            mine[i] = exp(values[i] - top)
        for i in range(k):
            total += mine[i]
        for i in range(k):
            mine[i] = least + mine[i] * (span / total)
    i, low, left = 0, ZERO, ZERO
    while i < k - 1 and low + grown[1, i] <= t:
        low += grown[1, i]
        left += grown[0, i]
        i += 1
    d0 = _SMALLEST + softplus(raw[2 * k + i - 1] + _SLOPE_SHIFT) if i > 0 else ONE
    d1 = _SMALLEST + softplus(raw[2 * k + i] + _SLOPE_SHIFT) if i < k - 1 else ONE
    return _place(t, left, left + grown[0, i], low, low + grown[1, i], d0, d1) - bound + (x - inside)


@compiled
def on_splines(
    x: Floats, raw: Floats, bias: Floats, where: tuple[int, int, int], bound: f32, grown: Floats, at: Floats,
    bins: npt.NDArray[np.int32], out: Floats,
) -> None:  # fmt: skip
    """`flow.spline` backwards for m values x, each with parameters of its own; ``out`` is written.

    Args:
        x: (m,).
        raw: parameters (first + 3 K - 1, more than m), which lack their biases.
        bias: of them.
        where: number of the first parameter, of the first value, and m.
        bound: of the splines.
        grown: overwritten (2, K + 1, at least m).
        at: overwritten (6, at least m).
        bins: overwritten.
        out: written (m,).
    """
    first, begin, m = where
    k = grown.shape[1] - 1
    for part in range(2):
        _grow(raw, bias, (first + part * k, begin, m), bound, grown[part], out)
    bins[:m] = 0
    for edge in range(1, k):
        line = grown[1, edge]
        for j in range(m):
            bins[j] += line[j] <= min(max(x[j], -bound), bound) + bound
    slope = first + 2 * k - 1
    for j in range(m):
        i = bins[j]
        at[0, j], at[1, j], at[2, j], at[3, j] = grown[0, i, j], grown[0, i + 1, j], grown[1, i, j], grown[1, i + 1, j]
        # The outer slopes are one: so is what this number gives.
        at[4, j] = raw[slope + i, begin + j] + bias[slope + i] if i > 0 else ZERO
        at[5, j] = raw[slope + 1 + i, begin + j] + bias[slope + 1 + i] if i < k - 1 else ZERO
    _reach(x, at, m, bound, out)


@compiled
def _grow(raw: Floats, bias: Floats, where: tuple[int, int, int], bound: f32, ends: Floats, scale: Floats) -> None:
    """Ends (K + 1, n) of bins from 0 to 2 ``bound``, from parameters that lack their biases.

    ``where``: the first parameter's number, the first value's, and how many values. ``scale`` is overwritten.
    """
    first, begin, m = where
    end, k = begin + m, len(ends) - 1
    least, span = TWO * bound * _SMALLEST, TWO * bound * (ONE - _SMALLEST * f32(k))
    scale[:m] = LOWEST
    for i in range(first, first + k):
        line, b = raw[i, begin:end], bias[i]
        for j in range(m):
            scale[j] = max(scale[j], line[j] + b)
    ends[0, :m] = ZERO
    for i in range(k):
        line, b, before, now = raw[first + i, begin:end], bias[first + i], ends[i], ends[i + 1]
        for j in range(m):
            now[j] = before[j] + exp(line[j] + b - scale[j])
    last = ends[k]
    for j in range(m):
        scale[j] = span / last[j]
    for i in range(1, k + 1):
        now, more = ends[i], least * f32(i)
        for j in range(m):
            now[j] = now[j] * scale[j] + more


@compiled
def _reach(x: Floats, at: Floats, m: int, bound: f32, out: Floats) -> None:
    """`flow.spline` backwards for m values in bins with these ends (x0, x1, y0, y1) and slopes' parameters (6, n)."""
    x0, x1, y0, y1, d0, d1 = at[0], at[1], at[2], at[3], at[4], at[5]
    for j in range(m):
        d0[j] = _SMALLEST + softplus(d0[j] + _SLOPE_SHIFT)
    for j in range(m):
        d1[j] = _SMALLEST + softplus(d1[j] + _SLOPE_SHIFT)
    for j in range(m):
        inside = min(max(x[j], -bound), bound)
        found = _place(inside + bound, x0[j], x1[j], y0[j], y1[j], d0[j], d1[j])
        out[j] = found - bound + (x[j] - inside)


class Landmarks(NamedTuple):
    """Ends of bins and slopes of a spline that all hits share."""

    x: Floats
    y: Floats
    slope: Floats
    search: Floats  # what y is compared with: the inner ends from place 1 on, then infinity
    first: npt.NDArray[np.int32]  # of equal cells of y: the bin from which on to compare
    bound: f32
    steps: int  # comparisons; 0: there is no spline


@compiled
def by_landmarks(place: Floats, mean: Floats, marks: Landmarks, at: Floats) -> None:
    """Move energies on the landmarks' scale, logarithms over the mean hit's (m,), to energies proper, in place."""
    bound = marks.bound
    x0, x1, y0, y1, d0, d1 = at[0], at[1], at[2], at[3], at[4], at[5]
    scale, last = f32(len(marks.first)) / (TWO * bound), len(marks.first) - 1
    for j in range(len(mean)):
        t = min(max(place[j] + mean[j], -bound), bound) + bound
        cell = min(int(t * scale), last) if t >= ZERO else 0  # what is no number must not lead anywhere
        i = np.int64(marks.first[cell])
        for _ in range(marks.steps):
            i += marks.search[i + 1] <= t
        x0[j], x1[j], y0[j], y1[j] = marks.x[i], marks.x[i + 1], marks.y[i], marks.y[i + 1]
        d0[j], d1[j] = marks.slope[i], marks.slope[i + 1]
    for j in range(len(mean)):
        x = place[j] + mean[j]
        inside = min(max(x, -bound), bound)
        found = _place(inside + bound, x0[j], x1[j], y0[j], y1[j], d0[j], d1[j])
        place[j] = found - bound + (x - inside) - mean[j]
