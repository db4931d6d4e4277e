"""Standard normal noise of single voxels, as `VoxelNoise` makes it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..noise import FINE
from ..noise import spare_bits as _spare_bits
from .compiling import Floats, Ints, compiled
from .lanes import LANES, first_bit, long_product, outside

_NOTHING = np.uint64(0)
_TIMES_A, _TIMES_C = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_STEP_K, _STEP_M = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
spare_bits = compiled(_spare_bits)


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
