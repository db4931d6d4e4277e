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
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr

from ..extras import numba
from .emission import BRIGHTEST, FAINTEST, TINY
from .flow import SMALLEST
from .lanes import LANES, above, first_bit, long_product, outside
from .noise import FINE
from .noise import spare_bits as _spare_bits

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
F = TypeVar("F", bound=Callable[..., Any])
f32 = np.float32


def compiled(function: F) -> F:
    """Compile when first called, and keep it on disk. Products may be fused with sums, nothing else be reordered.

    They may make no arrays, and so do without counting references to them, which, atomic as it must be, costs more
    than what is done with a slice of some tens of numbers.
    """
    return _made(function, counted=False)


def entered(function: F) -> F:
    """Compile likewise what makes arrays for compiled functions to work in, and calls them."""
    return _made(function, counted=True)


def _made(function: F, counted: bool) -> F:
    how = {"nogil": True, "fastmath": {"contract", "nsz"}, "error_model": "numpy", "_nrt": counted}
    made: F
    try:
        made = numba().njit(cache=True, **how)(function)
    except RuntimeError:  # no place on disk may be written to
        made = numba().njit(**how)(function)
    return made


def are_kept() -> bool:
    """Whether what is compiled of this file as it is now lies on disk."""
    stats = getattr(pick_hits, "stats", None)  # a plain function has none
    if stats is None or not stats.cache_path:
        return False
    source = Path(__file__).stat().st_mtime
    return any(index.stat().st_mtime >= source for index in Path(stats.cache_path).glob("kernels.pick_hits-*.nbi"))


def _logistic_series(degree: int = 12) -> tuple[f32, ...]:
    """Coefficients of logit(Phi(z)) / z as a polynomial in 2 z^2 / `_FARTHEST`^2 - 1, a hundred millionth off."""
    x = np.cos(np.pi * (np.arange(400) + 0.5) / 400)
    z = np.sqrt((x + 1) / 2) * float(_FARTHEST)
    series = np.polynomial.chebyshev.chebfit(x, (log_ndtr(z) - log_ndtr(-z)) / z, degree)
    return tuple(f32(c) for c in np.polynomial.chebyshev.cheb2poly(series))


def _tangent(square: float) -> tuple[f32, f32]:
    """A line over logit(Phi(z)), a concave function of z^2 for positive z, that touches it at z^2 = ``square``."""
    z = math.sqrt(square)
    below, above = float(log_ndtr(z)), float(log_ndtr(-z))
    slope = math.exp(-square / 2) / math.sqrt(2 * math.pi) * (math.exp(-below) + math.exp(-above)) / (2 * z)
    return f32(below - above - slope * square + 1e-4), f32(slope + 1e-6)  # rounding may not lift it above


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
_NOWHERE = f32(-np.inf)
_FIRST_GUESS, _SECOND_GUESS, _LOWEST = f32(-0.5), f32(-3), f32(-3e38)
_NEAR, _NEAR_SQUARE = _tangent(0.7)
_MOST, _MOST_SQUARE = _tangent(4.0)
_CEILING = f32(1 - 1e-6)
_RAW, _FAR, _BRIGHT, _DARK, _WIDE = f32(20), f32(10), f32(30), f32(-40), f32(4)
_FIFTH = f32(0.2)
_TILE = 128  # hits whose splines are in the cache at a time
_NOTHING = np.uint64(0)
_TIMES_A, _TIMES_C = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_STEP_K, _STEP_M = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
WIDTH = 8
"""Numbers that loops do at once: what is left over runs one by one, and slowly. Arrays have room for so many more."""


@compiled
def _whole(n: int) -> int:
    """n, rounded up to whole vectors."""
    return (n + WIDTH - 1) // WIDTH * WIDTH


@compiled
def _copy(x: Floats, out: Floats) -> None:
    """Write x (n,) to the beginning of out; assigning a slice would make arrays."""
    for j in range(len(x)):
        out[j] = x[j]


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
def normal_numbers(bits: npt.NDArray[np.uint16], table: Floats, out: Floats) -> None:
    """Standard normal numbers (V,) from random bits, as `VoxelNoise` makes them.

    Args:
        bits: 16 for each number, and then more for those of the tails, in turn (V + spare,); spare is over `LANES`.
        table: quantiles of the 65536 steps.
        out: written.
    """
    steps, n = len(table), len(out)
    mine, more = bits[:n], bits[n:]
    for j in range(n):
        out[j] = table[mine[j]]
    k = 0
    for first in range(0, n, LANES):
        found = outside(bits, first, np.uint16(FINE))
        while found:
            j = first + first_bit(found)
            found &= found - 1
            if j >= n:  # of what follows, which the last comparison sees too
                break
            step = np.int64(mine[j])
            # Both tails as the lower one: near one, a probability has no digits left.
            outer = steps - 1 - step if step >= steps // 2 else step
            x = _quantile((outer + (more[k % len(more)] + 0.5) / steps) / steps)
            out[j] = -x if step >= steps // 2 else x
            k += 1


@compiled
def random_bits(stream: Ints, out: npt.NDArray[np.uint64]) -> None:
    """Philox4x64-10 (Salmon et al., SC 2011, section 3.3), four words (4 N,) of each counter, as NumPy has it.

    Args:
        stream: the key, and the counter before the first (3,).
        out: written.
    """
    first, second, before = np.uint64(stream[0]), np.uint64(stream[1]), np.uint64(stream[2])
    for j in range(len(out) // 4):
        a, b, c, d = np.uint64(before + np.uint64(j + 1)), _NOTHING, _NOTHING, _NOTHING
        k, m = first, second
        for _ in range(10):
            (high_a, low_a), (high_c, low_c) = long_product(_TIMES_A, a), long_product(_TIMES_C, c)
            a, b, c, d = high_c ^ b ^ k, low_c, high_a ^ d ^ m, low_a
            k, m = k + _STEP_K, m + _STEP_M
        out[4 * j], out[4 * j + 1], out[4 * j + 2], out[4 * j + 3] = a, b, c, d


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
    _copy(head.last_bias, out)
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


@entered
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
    n, n_splines = len(chain.start_bias), len(chain.hits.last_bias)
    room = ChainRoom(
        np.empty(4 * n, np.float32),
        np.empty(4 * n, np.float32),
        np.empty(n, np.float32),
        np.empty(4 + n, np.float32),
        np.empty(len(chain.total.first_bias), np.float32),
        np.empty(n_splines, np.float32),
        np.empty((2, n_splines // 3 + 1), np.float32),
    )
    _run_chain(chain, noise, context, seen_by, energy, hits, room)


class ChainRoom(NamedTuple):
    """What `run_chain` overwrites."""

    gates: Floats  # (4 H,)
    fixed: Floats  # (4 H,)
    hidden: Floats  # (H,)
    seen: Floats  # (4 + H,)
    first: Floats  # as wide as the first head
    spline: Floats
    grown: Floats  # (2, K)


@compiled
def _run_chain(
    chain: Chain, noise: Floats, context: Floats, seen_by: Floats, energy: Floats, hits: Floats, room: ChainRoom
) -> None:
    n, n_context, n_layers = len(chain.start_bias), context.shape[1], noise.shape[1] // 2
    gates, fixed, hidden, seen, first, spline, grown = room
    state = seen[4:]
    for b in range(len(noise)):
        c, z, code = context[b], noise[b], seen_by[b, n_context:]
        _copy(c, seen_by[b])
        _copy(chain.total.first_bias, first)
        _add_product(first, c, chain.total.first)
        _shaped(chain.total, first, spline)
        total = _on_spline(z[0], spline, chain.bound, grown)
        code[0] = total
        seen[:4] = ZERO
        seen[0] = total
        _copy(chain.start_bias, state)
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
            _copy(chain.hits.first_bias, hidden)
            _add_product(hidden, state, chain.hits.first)
            _shaped(chain.hits, hidden, spline)
            root = _on_spline(z[2 * i + 1], spline, chain.bound, grown)
            code[2 * i + 1] = root
            if i == n_layers - 1:
                break
            _copy(chain.share.first_bias, hidden)
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


@compiled
def decode(chain: Chain, seen_by: Floats, energy: Floats, hits: Floats) -> None:
    """What `run_chain` says of layers, from what the component is told, the end of which is kept within its range."""
    for b in range(len(seen_by)):
        _decode(chain, seen_by[b, seen_by.shape[1] - len(chain.mean) :], energy[b], hits[b])


@compiled
def step_of_many(gates: Floats, place: Floats, state: Floats) -> None:
    """The recurrent unit's end for many showers: as `_bend_gates`, with showers last.

    Args:
        gates: linear parts (4 H, B), overwritten.
        place: what is still to be added (4 H,).
        state: (H, B), changed.
    """
    n, many = state.shape
    for j in range(n):
        reset, new, of_state, update, mine = gates[j], gates[2 * n + j], gates[3 * n + j], gates[n + j], state[j]
        of_reset, of_new, of_old, of_update = place[j], place[2 * n + j], place[3 * n + j], place[n + j]
        for b in range(many):
            reset[b] = _sigmoid(reset[b] + of_reset) * (of_state[b] + of_old)
        for b in range(many):
            new[b] = _tanh(new[b] + of_new + reset[b])
        for b in range(many):
            mine[b] = (mine[b] - new[b]) * _sigmoid(update[b] + of_update) + new[b]


@compiled
def bend_with_root(x: Floats, bias: Floats, of_root: Floats, root: Floats) -> None:
    """Overwrite x (n, B) by SiLU of x + bias (n,) + of_root (n,) root (B,)."""
    for j in range(len(x)):
        row, b, more = x[j], bias[j], of_root[j]
        for i in range(len(root)):
            row[i] = _silu(row[i] + b + more * root[i])


class SplineRoom(NamedTuple):
    """What drawing from splines of many showers overwrites: for B of them with K bins."""

    grown: Floats  # (2, K + 1, B)
    at: Floats  # (6, B)
    bins: npt.NDArray[np.int32]  # (B,)


@compiled
def draw_of_many(x: Floats, raw: Floats, bias: Floats, bound: f32, room: SplineRoom, out: Floats) -> None:
    """Places (B,) on splines with parameters (3 K - 1, B), which lack their biases, at heights x (B,)."""
    _on_splines(x, raw, bias, (0, 0, len(x)), bound, room.grown, room.at, room.bins, out)


@compiled
def see_layer(root: Floats, logit: Floats, scale: Floats, seen: Floats) -> None:
    """Write what the next step sees of a layer.

    Args:
        root: of the layer's hits (B,), standardised.
        logit: of its share (B,), standardised.
        scale: mean and deviation of both (4,).
        seen: (4, B): the last row is the logarithm of what is left.
    """
    mean, deviation, of_logit, by_logit = scale[0], scale[1], scale[2], scale[3]
    own, filled, left = seen[1], seen[2], seen[3]
    for b in range(len(root)):
        own[b] = root[b]
    for b in range(len(root)):
        # An empty layer's logit is noise without a meaning, and it takes no energy.
        filled[b] = ONE if root[b] * deviation + mean >= ONE else ZERO
    for b in range(len(root)):
        left[b] += _log(ONE - min(_sigmoid(logit[b] * by_logit + of_logit) * filled[b], _CEILING))
    for b in range(len(root)):
        filled[b] *= logit[b]


class LayerContext(NamedTuple):
    """What `Emission.context` is made of; weights (n_in, n_out)."""

    mean: Floats  # (2,), of the logarithm of the mean hit's energy and of the root of the hits
    deviation: Floats
    of_condition: Floats  # (C, H + 1): the last column is the level's
    of_known: Floats  # (2, H + 1)
    of_place: Floats  # (L, H + 1), and biases
    spread: Floats  # (C,)


@entered
def layer_context(network: LayerContext, condition: Floats, energy: Floats, hits: Floats, out: Floats) -> None:
    """`Emission.context` (B L, H + 2) of conditions (B, C), layer energies and hits (B, L)."""
    own, known = np.empty(network.of_place.shape[1], np.float32), np.empty(2, np.float32)
    _layer_context(network, condition, energy, hits, out, own, known)


@compiled
def _layer_context(
    network: LayerContext, condition: Floats, energy: Floats, hits: Floats, out: Floats, own: Floats, known: Floats
) -> None:
    n_layers, width = hits.shape[1], len(own)
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
            known[0], known[1] = known[0] / network.deviation[0], known[1] / network.deviation[1]
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
        noise: of the voxels, and `WIDTH` numbers of any value.
        size: of the layer.
        weight: of the neighbours, by distance.
        out: written, also `WIDTH` numbers more.
        spare: overwritten (5, at least (Y + 4) (X + 2) + 4 `WIDTH`).
    """
    n_y, n_x = size
    wide = n_x + 2  # one margin between rows serves both
    whole = _whole(n_x)  # rows are copied as whole vectors: what is too much the next one overwrites
    m = n_y * wide + 2  # all rows in one go: vectors are long, and what falls into the margin is not read
    padded, one, two, near, far = spare[0], spare[1], spare[2], spare[3], spare[4]
    padded[: 2 * wide + 2] = ZERO
    for y in range(n_y):
        target, source = padded[(y + 2) * wide + 2 :], noise[y * n_x : y * n_x + whole]
        for x in range(whole):
            target[x] = source[x]
        target[n_x], target[n_x + 1] = ZERO, ZERO
    padded[(n_y + 2) * wide + 2 : (n_y + 4) * wide + 2 + WIDTH] = ZERO
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
    m -= 2
    left, right, middle = near[1:], near[3:], one[2:]
    for i in range(m):
        two[i] = w1 * middle[i] + w4 * two[i + 2] + (left[i] + right[i])
    right = far[4:]
    for i in range(m):
        two[i] += far[i] + right[i]
    for y in range(n_y):
        target, source = out[y * n_x : y * n_x + whole], two[y * wide :]
        for x in range(whole):
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
def _candidates(
    v: Voxels, white: Floats, size: int, neighbours: Neighbours, shape: int, own: Floats, threshold: f32
) -> int:
    """Find voxels among which are all whose keys lie above a threshold, and their keys; how many.

    Noise that takes a share s of its neighbours' is (z + s a) / sqrt(1 + s^2 p), which Cauchy's inequality keeps under
    sqrt(max(z, 0)^2 + max(a, 0)^2 / p) whatever the share; and logit(Phi(x)) lies under its tangents in x^2. That
    spares most voxels the rest.
    """
    power, inverse = neighbours.power[shape], neighbours.inverse[shape]
    logit, around, most = v.logit, v.around, v.spare
    for j in range(size):
        z, a = max(white[j], ZERO), max(around[j], ZERO)
        square = z * z + a * a * inverse[j]
        most[j] = logit[j] + min(_NEAR + _NEAR_SQUARE * square, _MOST + _MOST_SQUARE * square)
    m = 0
    most[size : size + LANES] = _NOWHERE
    for first in range(0, size, LANES):
        found = above(most, first, threshold)
        while found:
            v.place[m] = first + first_bit(found)
            found &= found - 1
            m += 1
    for k in range(m):
        j = v.place[k]
        v.raw[k], v.noise[k], v.key[k], v.spare[k] = logit[j], white[j], around[j], power[j]
    whole = _whole(m)
    for k in range(m, whole):
        v.raw[k], v.noise[k], v.key[k], v.spare[k] = ZERO, ZERO, ZERO, ZERO
    raw, noise, key = v.raw[:whole], v.noise[:whole], v.key[:whole]
    if neighbours.weight[0] > ZERO:
        _mix(noise, key, raw, v.spare[:whole], own, v.share[:whole])
    for k in range(whole):
        noise[k] = _logistic(noise[k])
    for k in range(whole):
        key[k] = raw[k] + noise[k]
    return m


@entered
def pick_hits(
    raw: Floats, noise: Floats, streams: Ints, table: Floats, bias: Floats, layers: Ints, neighbours: Neighbours,
    counts: Ints, energy: Floats, context: Floats, hit: Hit,
) -> None:  # fmt: skip
    """In each layer pick the voxels with the largest keys, raw value + logistic noise: as `hits.pick`.

    Args:
        raw: (B, V), voxels layer by layer.
        noise: white, standard normal (B, V), if there are no streams.
        streams: (B, 3) instead, see `random_bits`: one shower's numbers at a time stay in the cache; (0, 3) if not.
        table: see `normal_numbers`.
        bias: of the raw values (V,).
        layers: (L, 4): Y, X, the first voxel, the number of the layer's shape among ``neighbours.power``.
        neighbours: correlate the noise.
        counts: hits of each layer (B, L), at most its voxels.
        energy: of each layer (B, L).
        context: of each layer (B, L, hidden + 2).
        hit: where they are written, in order.
    """
    most, room = 0, 0
    for i in range(len(layers)):
        n_y, n_x = layers[i, 0], layers[i, 1]
        most, room = max(most, n_y * n_x + LANES), max(room, (n_y + 4) * (n_x + 2) + 4 * WIDTH)
    x, place = np.zeros((7, most), np.float32), np.empty((2, most), np.int32)
    v = Voxels(x[0], x[1], x[2], x[3], place[0], place[1], x[4], x[5], x[6])
    words = np.empty((raw.shape[1] + spare_bits(raw.shape[1]) + 15) // 16 * 4, np.uint64)
    white = np.zeros(raw.shape[1] + WIDTH, np.float32)
    work = Work(v, words, words.view(np.uint16), white, np.empty((5, room), np.float32))
    _pick_hits(raw, noise, streams, table, bias, layers, neighbours, counts, energy, context, hit, work)


class Work(NamedTuple):
    """What `pick_hits` overwrites."""

    voxels: Voxels
    words: npt.NDArray[np.uint64]
    bits: npt.NDArray[np.uint16]  # the same memory
    white: Floats  # (V + WIDTH,): the noise of a shower
    spare: Floats  # see `_around`


@compiled
def _pick_hits(
    raw: Floats, noise: Floats, streams: Ints, table: Floats, bias: Floats, layers: Ints, neighbours: Neighbours,
    counts: Ints, energy: Floats, context: Floats, hit: Hit, work: Work,
) -> None:  # fmt: skip
    v, h, n_voxels = work.voxels, 0, raw.shape[1]
    n_bits, whole = n_voxels + spare_bits(n_voxels), work.white[:n_voxels]
    for b in range(len(raw)):
        if len(streams):
            random_bits(streams[b], work.words)
            normal_numbers(work.bits[:n_bits], table, whole)
        else:
            _copy(noise[b], whole)
        for i in range(len(layers)):
            n_y, n_x, start, shape = layers[i, 0], layers[i, 1], layers[i, 2], layers[i, 3]
            n, size = counts[b, i], n_y * n_x
            if n == 0:
                continue
            r, white, more = raw[b, start : start + size], work.white[start : start + size + WIDTH], bias[start:]
            logit, m, found = v.logit, 0, 0
            for j in range(size):
                logit[j] = r[j] + more[j]
            if neighbours.weight[0] > ZERO:
                _around(white, (n_y, n_x), neighbours.weight, v.around, work.spare)
            for threshold in (_FIRST_GUESS, _SECOND_GUESS, _LOWEST):
                if n < size or threshold == _LOWEST:
                    m = _candidates(v, white, size, neighbours, shape, neighbours.share[i], threshold)
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
        equal, chosen = n, 0
        for k in range(m):
            equal -= v.key[k] > faintest
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
    for i in range(h, min(h + _whole(n), len(hit.cut))):  # the next row overwrites what is too much
        hit.cut[i], hit.hits[i], hit.shift[i], hit.mean[i], hit.energy[i] = cut, hits, shift, mean, of_each


@compiled
def hidden_of_hits(hit: Hit, counts: Ints, context: Floats, by_raw: Floats, out: Floats) -> None:
    """The first layer (H, hidden) of the network that shapes hits' energies.

    Args:
        hit: which were hit.
        counts: hits of each row (R,).
        context: of the rows (R, hidden + 2).
        by_raw: weights of the raw values (hidden,).
        out: written.
    """
    end = 0
    for row in range(len(counts)):
        c, first = context[row], end
        end += counts[row]
        for h in range(first, end):
            target, raw = out[h], _FIFTH * min(max(hit.raw[h], -_RAW), _RAW)
            for j in range(len(by_raw)):
                target[j] = _silu(c[j] + raw * by_raw[j])


@compiled
def bend(x: Floats, bias: Floats) -> None:
    """Overwrite x (n, H) by SiLU of x + bias (n,)."""
    for j in range(len(x)):
        row, b = x[j], bias[j]
        for h in range(len(row)):
            row[h] = _silu(row[h] + b)


@entered
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
    k = (len(bias) - 4) // 3
    grown, at = np.empty((2, k + 1, _TILE), np.float32), np.empty((10, _TILE), np.float32)
    _energies_of_hits(found, bias, hit, slope, bound, marks, out, grown, at, np.empty(_TILE, np.int32))


@compiled
def _energies_of_hits(
    found: Floats, bias: Floats, hit: Hit, slope: f32, bound: f32, marks: Landmarks, out: Floats, grown: Floats,
    at: Floats, bins: npt.NDArray[np.int32],
) -> None:  # fmt: skip
    n = len(out)
    rank, fresh, place, share = at[6], at[7], at[8], at[9]
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
        _on_splines(fresh, found, bias, (5, begin, m), bound, grown, at, bins, place)
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
def _on_splines(
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
    search: Floats  # what y is compared with: the inner ends from place 1 on, then infinity
    first: npt.NDArray[np.int32]  # of equal cells of y: the bin from which on to compare
    bound: f32
    steps: int  # comparisons; 0: there is no spline


@compiled
def _by_landmarks(place: Floats, mean: Floats, marks: Landmarks, at: Floats) -> None:
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


@entered
def scale_rows(value: Floats, counts: Ints, total: Floats, bright_first: f32) -> None:
    """`hits.scale_hits` in place: energies (H,) of rows with ``counts`` (R,) hits to sums ``total`` (R,)."""
    _scale_rows(value, counts, total, bright_first, np.empty(max(counts), np.float32))


@compiled
def _scale_rows(value: Floats, counts: Ints, total: Floats, bright_first: f32, weight: Floats) -> None:
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
