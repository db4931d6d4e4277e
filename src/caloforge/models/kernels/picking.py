"""Which voxels are hit: noise that neighbours share, keys, and the largest of them in each layer."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr

from ..emission import TINY
from .compiling import Floats, Ints, compiled, entered, f32
from .elementary import LOWEST, ONE, WIDTH, ZERO, copy, exp, log, logistic, rounded_up
from .lanes import LANES, above, first_bit
from .normal import normal_numbers, random_bits, spare_bits


def _tangent(square: float) -> tuple[f32, f32]:
    """A line over logit(Phi(z)), a concave function of z^2 for positive z, that touches it at z^2 = ``square``."""
    z = math.sqrt(square)
    below, above = float(log_ndtr(z)), float(log_ndtr(-z))
    slope = math.exp(-square / 2) / math.sqrt(2 * math.pi) * (math.exp(-below) + math.exp(-above)) / (2 * z)
    return f32(below - above - slope * square + 1e-4), f32(slope + 1e-6)  # rounding may not lift it above


_TINY, _FAR = f32(TINY), f32(10)
_NONE = f32(-1e9)  # the key of a voxel that is not there
_NOWHERE = f32(-np.inf)
_FIRST_GUESS, _SECOND_GUESS = f32(-0.5), f32(-3)
_NEAR, _NEAR_SQUARE = _tangent(0.7)
_MOST, _MOST_SQUARE = _tangent(4.0)


class Neighbours(NamedTuple):
    """A `NeighbourNoise`'s numbers."""

    share: Floats  # (L, 2): level and slope
    weight: Floats  # (5,), by distance; all zero: no neighbours
    power: Floats  # (shapes, K): sum of squared weights within the layer
    inverse: Floats  # of the power; zero where there are no neighbours


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


class Work(NamedTuple):
    """What `pick_hits` overwrites."""

    voxels: Voxels
    words: npt.NDArray[np.uint64]
    bits: npt.NDArray[np.uint16]  # the same memory
    white: Floats  # (V + WIDTH,): the noise of a shower
    spare: Floats  # see `_around`


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
            copy(noise[b], whole)
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
            for threshold in (_FIRST_GUESS, _SECOND_GUESS, LOWEST):
                if n < size or threshold == LOWEST:
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
    whole = rounded_up(n_x)  # rows are copied as whole vectors: what is too much the next one overwrites
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
    whole = rounded_up(m)
    for k in range(m, whole):
        v.raw[k], v.noise[k], v.key[k], v.spare[k] = ZERO, ZERO, ZERO, ZERO
    raw, noise, key = v.raw[:whole], v.noise[:whole], v.key[:whole]
    if neighbours.weight[0] > ZERO:
        _mix(noise, key, raw, v.spare[:whole], own, v.share[:whole])
    for k in range(whole):
        noise[k] = logistic(noise[k])
    for k in range(whole):
        key[k] = raw[k] + noise[k]
    return m


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
        share[j] = exp(level - slope * min(max(raw[j], -_FAR), _FAR))
    for j in range(len(raw)):  # apart: both at once want more registers than there are
        share[j] = log(ONE + share[j])
    for j in range(len(raw)):
        s = share[j]
        noise[j] = (noise[j] + s * around[j]) / np.sqrt(ONE + s * s * power[j])


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
    for i in range(h, min(h + rounded_up(n), len(hit.cut))):  # the next row overwrites what is too much
        hit.cut[i], hit.hits[i], hit.shift[i], hit.mean[i], hit.energy[i] = cut, hits, shift, mean, of_each


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
