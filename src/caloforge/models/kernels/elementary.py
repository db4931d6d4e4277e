"""Elementary functions of float32 as polynomials, which the compiler makes vectors of, as it cannot of calls.

Cody, Waite, "Software Manual for the Elementary Functions", 1980; coefficients of exp and log from Moshier's Cephes.
Numbers are float32 throughout: a constant of another kind would make the loops twice as wide.
"""

from __future__ import annotations

import numpy as np
from scipy.special import log_ndtr

from .compiling import Floats, compiled, f32


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
LOWEST = f32(-3e38)
WIDTH = 8
"""Numbers that loops do at once: what is left over runs one by one, and slowly. Arrays have room for so many more."""


@compiled
def rounded_up(n: int) -> int:
    """n, rounded up to whole vectors."""
    return (n + WIDTH - 1) // WIDTH * WIDTH


@compiled
def copy(x: Floats, out: Floats) -> None:
    """Write x (n,) to the beginning of out; assigning a slice would make arrays."""
    for j in range(len(x)):
        out[j] = x[j]


@compiled
def exp(x: f32) -> f32:
    """e^x, of what is too large or small for float32 the last that is not."""
    x = min(max(x, _EXP_LOW), _EXP_HIGH)
    shifted = x * _LOG2E + _MAGIC
    n = shifted - _MAGIC
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = ((((_E0 * r + _E1) * r + _E2) * r + _E3) * r + _E4) * r + _E5
    value = p * (r * r) + r + ONE
    return np.int32(f32(value).view(np.int32) + (f32(shifted).view(np.int32) << 23)).view(np.float32)


@compiled
def log(x: f32) -> f32:
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
def sigmoid(x: f32) -> f32:
    """1 / (1 + exp(-x))."""
    return ONE / (ONE + exp(-x))


@compiled
def silu(x: f32) -> f32:
    """X / (1 + exp(-x))."""
    return x / (ONE + exp(-x))


@compiled
def tanh(x: f32) -> f32:
    """The hyperbolic tangent."""
    return ONE - TWO / (ONE + exp(TWO * x))


@compiled
def softplus(x: f32) -> f32:
    """log(1 + exp(x))."""
    return max(x, ZERO) + log(ONE + exp(-abs(x)))


@compiled
def logistic(z: f32) -> f32:
    """Standard normal to standard logistic noise, as `emission.logistic`."""
    z = min(max(z, -_FARTHEST), _FARTHEST)
    x = z * z * _TO_SERIES - ONE
    p = ((((((_N12 * x + _N11) * x + _N10) * x + _N9) * x + _N8) * x + _N7) * x + _N6) * x + _N5
    return (((((p * x + _N4) * x + _N3) * x + _N2) * x + _N1) * x + _N0) * z


@compiled
def add_product(out: Floats, x: Floats, weight: Floats) -> None:
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
