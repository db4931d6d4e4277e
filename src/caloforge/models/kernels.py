"""Generation's loops compiled by Numba: what runs for every layer, voxel and hit, one shower after the other.

The same numbers as `flow_on_cpu`, `NeighbourNoise`, `pick`, `HitEnergies` and `Emission.context`, up to rounding. What
NumPy does in passes over whole arrays is done here row by row, in the cache; a shower's numbers do not depend on the
showers beside it. All of it is in one file: Numba's cache of compiled code asks whether that file has changed.

Numbers are float32 throughout: a constant of another kind would make the loops twice as wide. Elementary functions
are polynomials (Cody, Waite, "Software Manual for the Elementary Functions", 1980; coefficients of exp and log from
Moshier's Cephes), which the compiler makes vectors of, as it cannot of calls.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr

from ..extras import numba
from .emission import BRIGHTEST, FAINTEST, TINY
from .flow import SMALLEST
from .noise import FINE
from .noise import spare_bits as _spare_bits

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
F = TypeVar("F", bound=Callable[..., Any])
f32 = np.float32


def compiled(function: F) -> F:
    """Compile when first called, and keep it on disk. Products may be fused with sums, nothing else be reordered."""
    how = {"nogil": True, "fastmath": {"contract", "nsz"}, "error_model": "numpy"}
    made: F
    try:
        made = numba().njit(cache=True, **how)(function)
    except RuntimeError:  # no place on disk may be written to
        made = numba().njit(**how)(function)
    return made


def _logistic_series(degree: int = 12) -> tuple[f32, ...]:
    """Coefficients of logit(Phi(z)) / z as a polynomial in 2 z^2 / `_FARTHEST`^2 - 1, a hundred millionth off."""
    x = np.cos(np.pi * (np.arange(400) + 0.5) / 400)
    z = np.sqrt((x + 1) / 2) * float(_FARTHEST)
    series = np.polynomial.chebyshev.chebfit(x, (log_ndtr(z) - log_ndtr(-z)) / z, degree)
    return tuple(f32(c) for c in np.polynomial.chebyshev.cheb2poly(series))


ZERO, HALF, ONE, TWO = f32(0), f32(0.5), f32(1), f32(2)
_MAGIC = f32(12582912.0)  # 1.5 2^23: adding it rounds to a whole number, which is then in the last bits
_LOG2E, _LN2_HIGH, _LN2_LOW = f32(1.44269504), f32(0.693359375), f32(-2.12194440e-4)
_E0, _E1, _E2, _E3, _E4, _E5 = (
    f32(c)
    for c in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
)
_EXP_LOW, _EXP_HIGH = f32(-87.3), f32(88.0)
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8 = (
    f32(c)
    for c in (
        7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
        -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
    )
)  # fmt: skip
_ROOT_HALF = np.int32(0x3F3504F3)  # bits of sqrt(1/2)
_FARTHEST = f32(5.199338)  # where the tail of the normal distribution is 1e-7, at which `logistic` ends
_TO_SERIES = f32(2 / 5.199338**2)
_N0, _N1, _N2, _N3, _N4, _N5, _N6, _N7, _N8, _N9, _N10, _N11, _N12 = _logistic_series()
_FAINTEST, _BRIGHTEST, _TINY = f32(FAINTEST), f32(1 - BRIGHTEST), f32(TINY)
_SMALLEST = f32(SMALLEST)
_SLOPE_SHIFT = f32(math.log(math.expm1(1 - SMALLEST)))
_LEAST = f32(1e-7)
_NONE = f32(-1e9)  # the key of a voxel that is not there
_FIRST_GUESS, _SECOND_GUESS, _LOWEST = f32(-0.5), f32(-3), f32(-3e38)
_MOST, _MOST_SQUARE = f32(1.5), f32(0.575)
_CEILING = f32(1 - 1e-6)
_RAW, _FAR, _BRIGHT, _DARK, _WIDE = f32(20), f32(10), f32(30), f32(-40), f32(4)
_FIFTH = f32(0.2)
_TILE = 128  # hits whose splines are in the cache at a time


@compiled
def _exp(x: f32) -> f32:
    x = min(max(x, _EXP_LOW), _EXP_HIGH)
    shifted = x * _LOG2E + _MAGIC
    n = shifted - _MAGIC
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = ((((_E0 * r + _E1) * r + _E2) * r + _E3) * r + _E4) * r + _E5
    value = p * (r * r) + r + ONE
    return np.int32(f32(value).view(np.int32) + (f32(shifted).view(np.int32) << 23)).view(np.float32)


@compiled
def _log(x: f32) -> f32:
    """Of positive, normal numbers."""
    bits = np.int32(f32(x).view(np.int32) - _ROOT_HALF)
    n = np.int32(bits >> 23)
    m = np.int32((bits & 0x007FFFFF) + _ROOT_HALF).view(np.float32) - ONE
    p = _L0 * m + _L1
    p = ((((((p * m + _L2) * m + _L3) * m + _L4) * m + _L5) * m + _L6) * m + _L7) * m + _L8
    square = m * m
    e = f32(n)
    return m + (p * m * square + e * _LN2_LOW - HALF * square) + e * _LN2_HIGH


@compiled
def _sigmoid(x: f32) -> f32:
    return ONE / (ONE + _exp(-x))


@compiled
def _silu(x: f32) -> f32:
    return x / (ONE + _exp(-x))


@compiled
def _tanh(x: f32) -> f32:
    return ONE - TWO / (ONE + _exp(TWO * x))


@compiled
def _softplus(x: f32) -> f32:
    return max(x, ZERO) + _log(ONE + _exp(-abs(x)))


@compiled
def _logistic(z: f32) -> f32:
    """Standard normal to standard logistic noise, as `emission.logistic`."""
    z = min(max(z, -_FARTHEST), _FARTHEST)
    x = z * z * _TO_SERIES - ONE
    p = ((((((_N12 * x + _N11) * x + _N10) * x + _N9) * x + _N8) * x + _N7) * x + _N6) * x + _N5
    return (((((p * x + _N4) * x + _N3) * x + _N2) * x + _N1) * x + _N0) * z


@compiled
def _add_product(out: Floats, x: Floats, weight: Floats) -> None:
    """Add x (I,) times weight (I, J) to out (J,)."""
    n = len(x) // 4 * 4
    for i in range(0, n, 4):  # four at once: a fourth of the sum's way to memory and back
        w0, w1, w2, w3 = weight[i], weight[i + 1], weight[i + 2], weight[i + 3]
        a, b, c, d = x[i], x[i + 1], x[i + 2], x[i + 3]
        for j in range(len(out)):
            out[j] += (a * w0[j] + b * w1[j]) + (c * w2[j] + d * w3[j])
    for i in range(n, len(x)):
        w0, a = weight[i], x[i]
        for j in range(len(out)):
            out[j] += a * w0[j]


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


spare_bits = compiled(_spare_bits)


@compiled
def _quantile(p: float) -> float:
    """Of the standard normal distribution, for 1e-10 < p < 0.01 (Wichura, AS 241, Appl. Statist. 37 (1988) 477)."""
    r = math.sqrt(-math.log(p)) - 1.6
    top = ((((((7.7454501427834140764e-4 * r + 0.0227238449892691845833) * r + 0.24178072517745061177) * r
              + 1.27045825245236838258) * r + 3.64784832476320460504) * r + 5.7694972214606914055) * r
           + 4.6303378461565452959) * r + 1.42343711074968357734  # fmt: skip
    bottom = ((((((1.05075007164441684324e-9 * r + 5.475938084995344946e-4) * r + 0.0151986665636164571966) * r
                 + 0.14810397642748007459) * r + 0.68976733498510000455) * r + 1.6763848301838038494) * r
              + 2.05319162663775882187) * r + 1.0  # fmt: skip
    return -top / bottom


@compiled
def normal_numbers(bits: npt.NDArray[np.uint16], table: Floats, places: npt.NDArray[np.int32], out: Floats) -> None:
    """Standard normal numbers (V,) from random bits, as `VoxelNoise` makes them.

    Args:
        bits: 16 for each number, and then more for those of the tails, in turn (V + spare,).
        table: quantiles of the 65536 steps.
        places: overwritten (more than V,).
        out: written.
    """
    steps, n = len(table), len(out)
    mine, more = bits[:n], bits[n:]
    for j in range(n):
        out[j] = table[mine[j]]
    for k in range(_outer(mine, np.uint16(FINE), places)):
        step = np.int64(mine[places[k]])
        # Both tails as the lower one: near one, a probability has no digits left.
        outer = steps - 1 - step if step >= steps // 2 else step
        x = _quantile((outer + (more[k % len(more)] + 0.5) / steps) / steps)
        out[places[k]] = -x if step >= steps // 2 else x


@compiled
def _outer(step: npt.NDArray[np.uint16], fine: np.uint16, places: npt.NDArray[np.int32]) -> int:
    """Write the places of steps that lie among the ``fine`` outermost of either side; how many."""
    n, edge = 0, np.uint16(2 * fine)
    for j in range(len(step)):
        places[n] = j
        n += int(np.uint16(step[j] + fine) < edge)  # both ends of the table, as 65535 is followed by 0
    return n


class Head(NamedTuple):
    """A dense layer, SiLU, a dense layer: weights (n_in, n_out) and biases (n_out,)."""

    first: Floats
    first_bias: Floats
    last: Floats
    last_bias: Floats


class Chain(NamedTuple):
    """A `ChainFlow`'s numbers; weights (n_in, n_out)."""

    total: Head
    start: Floats  # (C + 1, H)
    start_bias: Floats
    of_context: Floats  # (C, 4 H), to the gates
    of_place: Floats  # (L, 4 H), and all biases
    of_seen: Floats  # (4 + H, 4 H)
    hits: Head
    share: Head  # its first layer without the root's row
    of_root: Floats
    mean: Floats
    deviation: Floats
    low: Floats
    high: Floats
    bound: f32


@compiled
def _shaped(head: Head, hidden: Floats, out: Floats) -> None:
    """The end of a head: ``hidden``, which lacks its bend, is overwritten, ``out`` (n_out,) written."""
    for i in range(len(hidden)):
        hidden[i] = _silu(hidden[i])
    out[:] = head.last_bias
    _add_product(out, hidden, head.last)


@compiled
def _on_spline(x: f32, raw: Floats, bound: f32, grown: Floats) -> f32:
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
            mine[i] = _exp(values[i] - top)
        for i in range(k):
            total += mine[i]
        for i in range(k):
            mine[i] = least + mine[i] * (span / total)
    i, low, left = 0, ZERO, ZERO
    while i < k - 1 and low + grown[1, i] <= t:
        low += grown[1, i]
        left += grown[0, i]
        i += 1
    d0 = _SMALLEST + _softplus(raw[2 * k + i - 1] + _SLOPE_SHIFT) if i > 0 else ONE
    d1 = _SMALLEST + _softplus(raw[2 * k + i] + _SLOPE_SHIFT) if i < k - 1 else ONE
    return _place(t, left, left + grown[0, i], low, low + grown[1, i], d0, d1) - bound + (x - inside)


@compiled
def _bend_gates(reset: Floats, update: Floats, new: Floats, of_state: Floats, state: Floats) -> None:
    """The recurrent unit's end, from its linear parts (H,), in place."""
    for j in range(len(state)):
        reset[j] = _sigmoid(reset[j])
    for j in range(len(state)):
        new[j] = _tanh(new[j] + reset[j] * of_state[j])
    for j in range(len(state)):
        state[j] = (state[j] - new[j]) * _sigmoid(update[j]) + new[j]


@compiled
def run_chain(chain: Chain, noise: Floats, context: Floats, seen_by: Floats, energy: Floats, hits: Floats) -> None:
    """A flow forwards and what it says of layers.

    Args:
        chain: the flow.
        noise: (B, 2 L).
        context: conditions (B, C).
        seen_by: what the component is told is written here: conditions and standardised codes (B, C + 2 L).
        energy: energies of layers (B, L), written.
        hits: whole numbers (B, L), written.
    """
    n, n_context, size = len(chain.start_bias), context.shape[1], noise.shape[1]
    n_layers, n_splines = size // 2, len(chain.hits.last_bias)
    gates, spline = np.empty(4 * n, np.float32), np.empty(n_splines, np.float32)
    fixed, hidden, seen = np.empty(4 * n, np.float32), np.empty(n, np.float32), np.empty(4 + n, np.float32)
    first, grown = np.empty(len(chain.total.first_bias), np.float32), np.empty((2, n_splines // 3 + 1), np.float32)
    state = seen[4:]
    for b in range(len(noise)):
        c, z, code = context[b], noise[b], seen_by[b, n_context:]
        seen_by[b, :n_context] = c
        first[:] = chain.total.first_bias
        _add_product(first, c, chain.total.first)
        _shaped(chain.total, first, spline)
        total = _on_spline(z[0], spline, chain.bound, grown)
        code[0] = total
        seen[:4] = ZERO
        seen[0] = total
        state[:] = chain.start_bias
        _add_product(state, c, chain.start[:n_context])
        for j in range(n):
            state[j] = _tanh(state[j] + total * chain.start[n_context, j])
        fixed[:] = ZERO
        _add_product(fixed, c, chain.of_context)
        for i in range(n_layers):
            place = chain.of_place[i]
            for j in range(4 * n):
                gates[j] = fixed[j] + place[j]
            _add_product(gates, seen, chain.of_seen)
            _bend_gates(gates[:n], gates[n : 2 * n], gates[2 * n : 3 * n], gates[3 * n :], state)
            hidden[:] = chain.hits.first_bias
            _add_product(hidden, state, chain.hits.first)
            _shaped(chain.hits, hidden, spline)
            root = _on_spline(z[2 * i + 1], spline, chain.bound, grown)
            code[2 * i + 1] = root
            if i == n_layers - 1:
                break
            hidden[:] = chain.share.first_bias
            _add_product(hidden, state, chain.share.first)
            for j in range(n):
                hidden[j] += root * chain.of_root[j]
            _shaped(chain.share, hidden, spline)
            logit = _on_spline(z[2 * i + 2], spline, chain.bound, grown)
            code[2 * i + 2] = logit
            # An empty layer's logit is noise without a meaning, and it takes no energy.
            filled = root * chain.deviation[2 * i + 1] + chain.mean[2 * i + 1] >= ONE
            part = _sigmoid(logit * chain.deviation[2 * i + 2] + chain.mean[2 * i + 2])
            seen[1], seen[2] = root, logit if filled else ZERO
            seen[3] += _log(ONE - min(part, _CEILING)) if filled else ZERO
        _decode(chain, code, energy[b], hits[b])


@compiled
def _decode(chain: Chain, code: Floats, energy: Floats, hits: Floats) -> None:
    """Keep a standardised code (2 L,) within its range, and read layer energies and hits (L,) off it."""
    n_layers, left, total = len(hits), ONE, ZERO
    for j in range(len(code)):
        value = code[j] * chain.deviation[j] + chain.mean[j]
        code[j] = min(max(value, chain.low[j]), chain.high[j])
    for i in range(n_layers):
        root = max(code[2 * i + 1], ZERO)
        hits[i] = np.floor(root * root)
        share = ONE
        if i < n_layers - 1:
            share = _sigmoid(code[2 * i + 2]) if hits[i] > ZERO else ZERO
        energy[i] = left * share if hits[i] > ZERO else ZERO
        left *= ONE - share
        total += energy[i]
    scale = _exp(code[0]) / max(total, f32(1e-9))
    for i in range(n_layers):
        energy[i] *= scale
    for j in range(len(code)):
        code[j] = (code[j] - chain.mean[j]) / chain.deviation[j]


class LayerContext(NamedTuple):
    """What `Emission.context` is made of; weights (n_in, n_out)."""

    mean: Floats  # (2,), of the logarithm of the mean hit's energy and of the root of the hits
    deviation: Floats
    of_condition: Floats  # (C, H + 1): the last column is the level's
    of_known: Floats  # (2, H + 1)
    of_place: Floats  # (L, H + 1), and biases
    spread: Floats  # (C,)


@compiled
def layer_context(network: LayerContext, condition: Floats, energy: Floats, hits: Floats, out: Floats) -> None:
    """`Emission.context` (B L, H + 2) of conditions (B, C), layer energies and hits (B, L)."""
    n_layers, width = hits.shape[1], network.of_place.shape[1]
    own, known = np.empty(width, np.float32), np.empty(2, np.float32)
    for b in range(len(hits)):
        own[:] = ZERO
        _add_product(own, condition[b], network.of_condition)
        more = ZERO
        for j in range(len(network.spread)):
            more += condition[b, j] * network.spread[j]
        for i in range(n_layers):
            row, place, n = out[b * n_layers + i], network.of_place[i], hits[b, i]
            known[:] = ZERO
            if n > ZERO:
                known[0] = np.log(max(energy[b, i] / n, _TINY)) - network.mean[0]
                known[1] = np.sqrt(n) - network.mean[1]
            row[width] = known[0] + more
            known /= network.deviation
            for j in range(width):
                row[j] = own[j] + place[j]
            _add_product(row[:width], known, network.of_known)


class Neighbours(NamedTuple):
    """A `NeighbourNoise`'s numbers."""

    share: Floats  # (L, 2): level and slope
    weight: Floats  # (5,), by distance; all zero: no neighbours
    power: Floats  # (shapes, K): sum of squared weights within the layer
    inverse: Floats  # of the power; zero where there are no neighbours


@compiled
def _around(noise: Floats, size: tuple[int, int], weight: Floats, out: Floats, spare: Floats) -> None:
    """Weighted sums (Y X,) of the 24 neighbours of voxels (Y X,) of a layer of (Y, X) = ``size``.

    Args:
        noise: of the voxels.
        size: of the layer.
        weight: of the neighbours, by distance.
        out: written.
        spare: overwritten (5, more than (Y + 4) (X + 4)).
    """
    n_y, n_x = size
    wide = n_x + 4
    m = n_y * wide  # all rows in one go, with a margin: vectors are long, and what falls into the margin is not read
    padded, one, two, near, far = spare[0], spare[1], spare[2], spare[3], spare[4]
    padded[: (n_y + 4) * wide] = ZERO
    for y in range(n_y):
        target, source = padded[(y + 2) * wide + 2 :], noise[y * n_x : (y + 1) * n_x]
        for x in range(n_x):
            target[x] = source[x]
    w1, w2, w4, w5, w8 = weight[0], weight[1], weight[2], weight[3], weight[4]
    # Loops of few arrays each: of more, the compiler does not see that they are apart, and makes no vectors.
    above, here, below = padded[wide:], padded[2 * wide :], padded[3 * wide :]
    for i in range(m):
        one[i] = above[i] + below[i]
    above, below = padded, padded[4 * wide :]
    for i in range(m):
        two[i] = above[i] + below[i]
    for i in range(m):
        near[i] = w1 * here[i] + w2 * one[i] + w5 * two[i]
    for i in range(m):
        far[i] = w4 * here[i] + w5 * one[i] + w8 * two[i]
    m -= 4  # what is left of the last row's margin
    left, right, middle = near[1:], near[3:], one[2:]
    for i in range(m):
        two[i] = w1 * middle[i] + w4 * two[i + 2] + (left[i] + right[i])
    right = far[4:]
    for i in range(m):
        two[i] += far[i] + right[i]
    for y in range(n_y):
        target, source = out[y * n_x : (y + 1) * n_x], two[y * wide :]
        for x in range(n_x):
            target[x] = source[x]


@compiled
def _mix(noise: Floats, around: Floats, raw: Floats, power: Floats, own: Floats, share: Floats) -> None:
    """`NeighbourNoise` in one layer: overwrite white noise (K,) by the noise that voxels get.

    Args:
        noise: white (K,).
        around: weighted sums of the neighbours' noise (K,).
        raw: raw values (K,).
        power: sums of the neighbours' squared weights (K,).
        own: level and slope of the neighbours' share.
        share: overwritten (K,).
    """
    level, slope = own[0], own[1]
    for j in range(len(raw)):
        share[j] = _exp(level - slope * min(max(raw[j], -_FAR), _FAR))
    for j in range(len(raw)):  # apart: both at once want more registers than there are
        share[j] = _log(ONE + share[j])
    for j in range(len(raw)):
        s = share[j]
        noise[j] = (noise[j] + s * around[j]) / np.sqrt(ONE + s * s * power[j])


@compiled
def _nth(keys: Floats, n: int, spare: Floats) -> tuple[f32, f32]:
    """The n-th largest of at least n keys (K,), and the one after it; both (K,) are overwritten.

    Hoare's search (Comm. ACM 4 (1961) 321), without branches on keys, which would be guessed wrongly half of the time.
    """
    mine, other, m, below = keys, spare, len(keys), _NONE
    while True:
        a, b, c = mine[0], mine[m // 2], mine[m - 1]
        pivot = max(min(a, b), min(max(a, b), c))
        larger, smaller = 0, 0
        for k in range(m):
            x = mine[k]
            mine[larger] = x
            other[smaller] = x
            larger += x > pivot
            smaller += x < pivot
        if n <= larger:
            m, below = larger, pivot
            continue
        equal = m - larger - smaller
        if n > larger + equal:
            mine, other, m = other, mine, smaller
            n -= larger + equal
            continue
        if n < larger + equal:
            return pivot, pivot
        for k in range(smaller):
            below = max(below, other[k])
        return pivot, below


class Hit(NamedTuple):
    """What is known of each hit picked, and of its row; all (H,)."""

    voxel: Ints
    raw: Floats
    noise: Floats
    cut: Floats  # the largest key in the row that is no hit
    shift: Floats  # of the logarithm of the row's energies
    mean: Floats  # logarithm of the row's mean energy, as landmarks see it
    energy: Floats  # the row's mean energy
    hits: Floats  # of the row


class Voxels(NamedTuple):
    """A layer's voxels (K,); ``place`` and what follows are of those that may be hit, which come first."""

    logit: Floats
    around: Floats  # weighted sums of the neighbours' noise
    spare: Floats
    share: Floats
    place: npt.NDArray[np.int32]  # one more than K
    order: npt.NDArray[np.int32]  # the same
    raw: Floats
    noise: Floats
    key: Floats


@compiled
def _candidates(v: Voxels, white: Floats, neighbours: Neighbours, shape: int, own: Floats, threshold: f32) -> int:
    """Find voxels among which are all whose keys lie above a threshold, and their keys; how many.

    Noise that takes a share s of its neighbours' is (z + s a) / sqrt(1 + s^2 p), which Cauchy's inequality keeps under
    sqrt(z^2 + a^2 / p) whatever the share, and logit(Phi(x)) lies under 1.5 + 0.575 x^2. That spares most voxels the
    rest: one in seven may be hit.
    """
    power, inverse = neighbours.power[shape], neighbours.inverse[shape]
    logit, around, most = v.logit, v.around, v.spare
    for j in range(len(white)):
        most[j] = logit[j] + _MOST + _MOST_SQUARE * (white[j] * white[j] + around[j] * around[j] * inverse[j])
    m = 0
    for j in range(len(white)):
        v.place[m] = j
        m += most[j] > threshold
    for k in range(m):
        j = v.place[k]
        v.raw[k], v.noise[k], v.key[k], v.spare[k] = logit[j], white[j], around[j], power[j]
    raw, noise, key = v.raw[:m], v.noise[:m], v.key[:m]
    if inverse.any():
        _mix(noise, key, raw, v.spare[:m], own, v.share[:m])
    for k in range(m):
        noise[k] = _logistic(noise[k])
    for k in range(m):
        key[k] = raw[k] + noise[k]
    return m


@compiled
def pick_hits(
    raw: Floats, noise: Floats, bits: npt.NDArray[np.uint16], table: Floats, bias: Floats, layers: Ints,
    neighbours: Neighbours, counts: Ints, energy: Floats, context: Floats, hit: Hit,
) -> None:  # fmt: skip
    """In each layer pick the voxels with the largest keys, raw value + logistic noise: as `hits.pick`.

    Args:
        raw: (B, V), voxels layer by layer.
        noise: white, standard normal (B, V); with bits, overwritten (1, V).
        bits: instead of noise, see `normal_numbers`: one shower's numbers at a time stay in the cache; (0, ...) if not.
        table: see `normal_numbers`.
        bias: of the raw values (V,).
        layers: (L, 4): Y, X, the first voxel, the number of the layer's shape among ``neighbours.power``.
        neighbours: correlate the noise.
        counts: hits of each layer (B, L), at most its voxels.
        energy: of each layer (B, L).
        context: of each layer (B, L, hidden + 2).
        hit: where they are written, in order.
    """
    n_layers, most = len(layers), (layers[:, 0] * layers[:, 1]).max()
    spare = np.empty((5, ((layers[:, 0] + 4) * (layers[:, 1] + 4)).max()), np.float32)
    f, places = np.empty((7, most + 1), np.float32), np.empty(raw.shape[1] + 1, np.int32)
    v = Voxels(f[0], f[1], f[2], f[3], np.empty(most + 1, np.int32), np.empty(most + 1, np.int32), f[4], f[5], f[6])
    mixing, h = neighbours.weight.any(), 0
    v.around[:] = ZERO
    n_bits = raw.shape[1] + spare_bits(raw.shape[1])
    for b in range(len(raw)):
        mine = noise[0 if len(bits) else b]
        if len(bits):
            normal_numbers(bits[b, :n_bits], table, places, mine)
        for i in range(n_layers):
            n_y, n_x, start, shape = layers[i, 0], layers[i, 1], layers[i, 2], layers[i, 3]
            n, size = counts[b, i], n_y * n_x
            if n == 0:
                continue
            r, white, more = raw[b, start : start + size], mine[start : start + size], bias[start : start + size]
            logit, m, found = v.logit, 0, 0
            for j in range(size):
                logit[j] = r[j] + more[j]
            if mixing:
                _around(white, (n_y, n_x), neighbours.weight, v.around, spare)
            for threshold in (_FIRST_GUESS, _SECOND_GUESS, _LOWEST):
                if n < size or threshold == _LOWEST:
                    m = _candidates(v, white, neighbours, shape, neighbours.share[i], threshold)
                    found = _above(v.key[:m], threshold, v.spare)
                if found > n:
                    break
            if found < n:  # keys that are no numbers: their energies will be none, and be found
                for j in range(n):
                    v.place[j], v.raw[j], v.noise[j], v.key[j], v.spare[j] = j, logit[j], ZERO, ZERO, ZERO
                m = found = n
            _take(v, m, found, start, context[b, i], energy[b, i], hit, h, n)
            h += n


@compiled
def _above(keys: Floats, threshold: f32, out: Floats) -> int:
    """Copy the keys above the threshold; how many."""
    n = 0
    for k in range(len(keys)):
        out[n] = keys[k]
        n += keys[k] > threshold
    return n


@compiled
def _take(v: Voxels, m: int, found: int, start: int, context: Floats, energy: f32, hit: Hit, h: int, n: int) -> None:
    """Write the n of m candidates with the largest keys as hits from number h on; ``found`` keys are in ``v.spare``."""
    faintest, cut = _nth(v.spare[:found], n, v.share[:found])
    chosen, k_of = 0, v.order
    for k in range(m):
        k_of[chosen] = k
        chosen += v.key[k] >= faintest
    if chosen > n:  # of keys equal where the cut falls, the first are taken
        equal, chosen = n - (v.key[:m] > faintest).sum(), 0
        for k in range(m):
            if v.key[k] > faintest or (v.key[k] == faintest and equal > 0):
                equal -= v.key[k] == faintest
                k_of[chosen] = k
                chosen += 1
    for i in range(n):
        k = k_of[i]
        hit.voxel[h + i], hit.raw[h + i], hit.noise[h + i] = start + v.place[k], v.raw[k], v.noise[k]
    shift, mean = context[len(context) - 2], context[len(context) - 1]
    hits = f32(n)
    of_each = max(energy / hits, _TINY)
    for i in range(h, h + n):
        hit.cut[i], hit.hits[i], hit.shift[i], hit.mean[i], hit.energy[i] = cut, hits, shift, mean, of_each


@compiled
def hidden_of_hits(hit: Hit, counts: Ints, context: Floats, by_raw: Floats, out: Floats) -> None:
    """The first layer (hidden, H) of the network that shapes hits' energies.

    Args:
        hit: which were hit.
        counts: hits of each row (R,).
        context: of the rows (R, hidden + 2).
        by_raw: weights of the raw values (hidden,).
        out: written.
    """
    start = 0
    for row in range(len(counts)):
        n = counts[row]
        for j in range(len(by_raw)):
            target, raw, c, w = out[j, start : start + n], hit.raw[start : start + n], context[row, j], by_raw[j]
            for h in range(n):
                target[h] = c + _FIFTH * min(max(raw[h], -_RAW), _RAW) * w
        start += n
    for j in range(len(out)):  # apart: rows of few hits make short vectors
        line = out[j]
        for h in range(len(line)):
            line[h] = _silu(line[h])


@compiled
def bend(x: Floats, bias: Floats) -> None:
    """Overwrite x (n, H) by SiLU of x + bias (n,)."""
    for j in range(len(x)):
        row, b = x[j], bias[j]
        for h in range(len(row)):
            row[h] = _silu(row[h] + b)


@compiled
def energies_of_hits(
    found: Floats, bias: Floats, hit: Hit, slope: f32, bound: f32, marks: Landmarks, out: Floats
) -> None:
    """Energies (H,) of hits as `HitEnergies` draws them, before they are made to add up.

    Args:
        found: the network's last layer (5 + 3 K - 1, H) without its bias.
        bias: of that layer.
        hit: which were hit.
        slope: of the energies' dependence on the raw value.
        bound: of the splines.
        marks: shared spline.
        out: written.
    """
    k, n = (len(bias) - 4) // 3, len(out)
    grown, at = np.empty((2, k + 1, _TILE), np.float32), np.empty((6, _TILE), np.float32)
    rank, fresh, place = np.empty(_TILE, np.float32), np.empty(_TILE, np.float32), np.empty(_TILE, np.float32)
    share, bins = np.empty(_TILE, np.float32), np.empty(_TILE, np.int32)
    for begin in range(0, n, _TILE):
        m = min(_TILE, n - begin)
        end = begin + m
        raw, noise, cut = hit.raw[begin : begin + m], hit.noise[begin : begin + m], hit.cut[begin : begin + m]
        # Given that noise is above cut - raw, its rank among all such is uniform: noise for the brightness.
        for j in range(m):
            rank[j] = ONE - _sigmoid(-noise[j]) / max(_sigmoid(raw[j] - cut[j]), _LEAST)
        line, b = found[2, begin:end], bias[2]
        for j in range(m):
            share[j] = _sigmoid(line[j] + b)
        for j in range(m):
            dusty = rank[j] / share[j]
            bright = (rank[j] - share[j]) / (ONE - share[j])
            x = min(max(dusty if rank[j] < share[j] else bright, _FAINTEST), _BRIGHTEST)
            fresh[j] = _log(x / (ONE - x))
        for part in range(2):
            _grow(found, bias, (5 + part * k, begin, m), bound, grown[part], place)
        bins[:m] = 0
        for edge in range(1, k):
            line = grown[1, edge]
            for j in range(m):
                bins[j] += line[j] <= min(max(fresh[j], -bound), bound) + bound
        for j in range(m):
            i = bins[j]
            at[0, j], at[1, j], at[2, j], at[3, j] = (
                grown[0, i, j],
                grown[0, i + 1, j],
                grown[1, i, j],
                grown[1, i + 1, j],
            )
            # The outer slopes are one: so is what this number gives.
            at[4, j] = found[4 + 2 * k + i, begin + j] + bias[4 + 2 * k + i] if i > 0 else ZERO
            at[5, j] = found[5 + 2 * k + i, begin + j] + bias[5 + 2 * k + i] if i < k - 1 else ZERO
        _reach(fresh, at, m, bound, place)
        line, b = found[1, begin:end], bias[1]
        for j in range(m):
            place[j] *= _exp(min(max(line[j] + b, -_WIDE), _WIDE))
        line, b, more = found[0, begin:end], bias[0], hit.shift[begin : begin + m]
        for j in range(m):
            place[j] += line[j] + b + min(max(raw[j], -_RAW), _RAW) * slope + more[j]
        if marks.steps > 0:
            _by_landmarks(place, hit.mean[begin : begin + m], marks, at)
        line, b = found[4, begin:end], bias[4]
        for j in range(m):
            fresh[j] *= _exp(min(max(line[j] + b, -_WIDE), _WIDE))
        line, b = found[3, begin:end], bias[3]
        for j in range(m):
            x = fresh[j] + line[j] + b if rank[j] < share[j] else place[j]
            place[j] = _exp(min(max(x, _DARK), _BRIGHT))
        most, mean, values = hit.hits[begin : begin + m], hit.energy[begin : begin + m], out[begin : begin + m]
        for j in range(m):
            values[j] = min(place[j], most[j]) * mean[j]


@compiled
def _grow(raw: Floats, bias: Floats, where: tuple[int, int, int], bound: f32, ends: Floats, scale: Floats) -> None:
    """Ends (K + 1, n) of bins from 0 to 2 ``bound``, from parameters that lack their biases.

    ``where``: the first parameter's number, the first value's, and how many values. ``scale`` is overwritten.
    """
    first, begin, m = where
    end, k = begin + m, len(ends) - 1
    least, span = TWO * bound * _SMALLEST, TWO * bound * (ONE - _SMALLEST * f32(k))
    scale[:m] = _LOWEST
    for i in range(first, first + k):
        line, b = raw[i, begin:end], bias[i]
        for j in range(m):
            scale[j] = max(scale[j], line[j] + b)
    ends[0, :m] = ZERO
    for i in range(k):
        line, b, before, now = raw[first + i, begin:end], bias[first + i], ends[i], ends[i + 1]
        for j in range(m):
            now[j] = before[j] + _exp(line[j] + b - scale[j])
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
        d0[j] = _SMALLEST + _softplus(d0[j] + _SLOPE_SHIFT)
    for j in range(m):
        d1[j] = _SMALLEST + _softplus(d1[j] + _SLOPE_SHIFT)
    for j in range(m):
        inside = min(max(x[j], -bound), bound)
        found = _place(inside + bound, x0[j], x1[j], y0[j], y1[j], d0[j], d1[j])
        out[j] = found - bound + (x[j] - inside)


class Landmarks(NamedTuple):
    """Ends of bins and slopes of a spline that all hits share."""

    x: Floats
    y: Floats
    slope: Floats
    search: Floats  # what y is compared with: the inner ends from place 1 on, and infinity up to 2^n
    bound: f32
    steps: int  # n; 0: there is no spline


@compiled
def _by_landmarks(place: Floats, mean: Floats, marks: Landmarks, at: Floats) -> None:
    """Move energies on the landmarks' scale, logarithms over the mean hit's (m,), to energies proper, in place."""
    bound = marks.bound
    x0, x1, y0, y1, d0, d1 = at[0], at[1], at[2], at[3], at[4], at[5]
    for j in range(len(mean)):
        t = min(max(place[j] + mean[j], -bound), bound) + bound
        i = 0
        for step in range(marks.steps - 1, -1, -1):
            i += (marks.search[i + (1 << step)] <= t) << step
        x0[j], x1[j], y0[j], y1[j] = marks.x[i], marks.x[i + 1], marks.y[i], marks.y[i + 1]
        d0[j], d1[j] = marks.slope[i], marks.slope[i + 1]
    for j in range(len(mean)):
        x = place[j] + mean[j]
        inside = min(max(x, -bound), bound)
        found = _place(inside + bound, x0[j], x1[j], y0[j], y1[j], d0[j], d1[j])
        place[j] = found - bound + (x - inside) - mean[j]


@compiled
def scale_rows(value: Floats, counts: Ints, total: Floats, bright_first: f32) -> None:
    """`hits.scale_hits` in place: energies (H,) of rows with ``counts`` (R,) hits to sums ``total`` (R,)."""
    longest = max(counts)
    weight = np.empty(longest, np.float32)
    start = 0
    for row in range(len(counts)):
        n, want = counts[row], total[row]
        x = value[start : start + n]
        start += n
        if n == 0:
            continue
        if bright_first > ZERO:
            _bright_first(x, weight[:n], want, bright_first)
        have = ZERO
        for j in range(n):
            have += x[j]
        by = want / max(have, _TINY)
        for j in range(n):
            x[j] *= by


@compiled
def _bright_first(x: Floats, weight: Floats, want: f32, power: f32) -> None:
    """Change one row's energies x (n,), the bright ones most, as `emission.scale_to` does before its last step."""
    have, peak = ZERO, _TINY
    for j in range(len(x)):
        have += x[j]
    by = max(want / max(have, _TINY) / TWO, ONE)
    for j in range(len(x)):
        x[j] *= by
        peak = max(peak, x[j])
    have, squares = ZERO, ZERO
    for j in range(len(x)):
        x[j] /= peak
        weight[j] = x[j] if power == ONE else x[j] ** power
        have += x[j]
        squares += x[j] * weight[j]
    goal = want / peak
    if goal >= have:
        up = (goal - have) / max(squares, _TINY)
        for j in range(len(x)):
            x[j] *= ONE + up * weight[j]
        return
    mu = ZERO
    for _ in range(8):
        have, slope = ZERO, ZERO
        for j in range(len(x)):
            bottom = ONE + mu * weight[j]
            part = x[j] / bottom
            have += part
            slope += part * weight[j] / bottom
        mu += max((have - goal) / max(slope, _TINY), ZERO)
    for j in range(len(x)):
        x[j] /= ONE + mu * weight[j]
