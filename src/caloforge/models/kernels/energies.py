"""How bright hits are: what their layers tell, the network's bends and splines, and sums that must be met."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..emission import BRIGHTEST, FAINTEST, TINY
from .compiling import Floats, Ints, compiled, entered, f32
from .elementary import ONE, TWO, ZERO, add_product, exp, log, sigmoid, silu
from .picking import Hit
from .splines import Landmarks, by_landmarks, on_splines

_FAINTEST, _BRIGHTEST, _TINY = f32(FAINTEST), f32(1 - BRIGHTEST), f32(TINY)
_LEAST = f32(1e-7)
_RAW, _BRIGHT, _DARK, _WIDE = f32(20), f32(30), f32(-40), f32(4)
_FIFTH = f32(0.2)
_TILE = 128  # hits whose splines are in the cache at a time


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
        add_product(own, condition[b], network.of_condition)
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
            add_product(row[:width], known, network.of_known)


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
                target[j] = silu(c[j] + raw * by_raw[j])


@compiled
def bend(x: Floats, bias: Floats) -> None:
    """Overwrite x (n, H) by SiLU of x + bias (n,)."""
    for j in range(len(x)):
        row, b = x[j], bias[j]
        for h in range(len(row)):
            row[h] = silu(row[h] + b)


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
            rank[j] = ONE - sigmoid(-noise[j]) / max(sigmoid(raw[j] - cut[j]), _LEAST)
        line, b = found[2, begin:end], bias[2]
        for j in range(m):
            share[j] = sigmoid(line[j] + b)
        for j in range(m):
            dusty = rank[j] / share[j]
            bright = (rank[j] - share[j]) / (ONE - share[j])
            x = min(max(dusty if rank[j] < share[j] else bright, _FAINTEST), _BRIGHTEST)
            fresh[j] = log(x / (ONE - x))
        on_splines(fresh, found, bias, (5, begin, m), bound, grown, at, bins, place)
        line, b = found[1, begin:end], bias[1]
        for j in range(m):
            place[j] *= exp(min(max(line[j] + b, -_WIDE), _WIDE))
        line, b, more = found[0, begin:end], bias[0], hit.shift[begin : begin + m]
        for j in range(m):
            place[j] += line[j] + b + min(max(raw[j], -_RAW), _RAW) * slope + more[j]
        if marks.steps > 0:
            by_landmarks(place, hit.mean[begin : begin + m], marks, at)
        line, b = found[4, begin:end], bias[4]
        for j in range(m):
            fresh[j] *= exp(min(max(line[j] + b, -_WIDE), _WIDE))
        line, b = found[3, begin:end], bias[3]
        for j in range(m):
            x = fresh[j] + line[j] + b if rank[j] < share[j] else place[j]
            place[j] = exp(min(max(x, _DARK), _BRIGHT))
        most, mean, values = hit.hits[begin : begin + m], hit.energy[begin : begin + m], out[begin : begin + m]
        for j in range(m):
            values[j] = min(place[j], most[j]) * mean[j]


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
