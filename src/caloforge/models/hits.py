"""Hits of a few hundred voxels drawn and kept as such, never as whole showers: generation's way through `Emission`.

The same draws as `Emission.forward`, up to rounding: that one, whose shapes do not depend on what is drawn, is for
training and export; this one is for generation on a CPU, where thousands of empty voxels would cost more than the hits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .base import Hits
from .columns import Floats, SharedSpline, SplineColumns, array, product, sigmoid, silu
from .emission import BOUND, BRIGHTEST, FAINTEST, LANDMARK_GAIN, TINY, Emission
from .neighbours import NeighbourNoise
from .rows import Rows

Ints = npt.NDArray[np.int64]


class Picked(NamedTuple):
    """Hits picked from rows of voxels: row by row, in the order of places.

    Attributes:
        flat: row * K + place (H,).
        row: of each (H,).
        counts: hits of each row (R,).
        cut: the largest key in each row that is no hit (R,), very negative if there is none.
    """

    flat: Ints
    row: Ints
    counts: Ints
    cut: Floats


def pick(keys: Floats, counts: Ints) -> Picked:
    """In each row of keys (R, K) pick the ``counts`` (R,) largest.

    Of equal keys where the cut falls, the first are taken.
    """
    width = keys.shape[1]
    ranked = np.sort(keys, axis=1)  # vectorised: five times as fast as a partial sort that must tell places
    every = np.arange(len(keys))
    faintest = ranked[every, np.minimum(width - counts, width - 1)]
    faintest[counts == 0] = np.inf
    cut = np.where(counts < width, ranked[every, np.maximum(width - counts - 1, 0)], np.float32(-1e9))
    flat = np.flatnonzero(keys >= faintest[:, None])
    if len(flat) != counts.sum():
        flat = _without_ties(flat, keys, faintest, counts)
    return Picked(flat, np.repeat(every, counts), counts, cut)


def _without_ties(flat: Ints, keys: Floats, faintest: Floats, counts: Ints) -> Ints:
    """Picked places without those of keys equal to the faintest that are too many in their row, the last ones."""
    row = flat // keys.shape[1]
    tied = keys.ravel()[flat] == faintest[row]
    above = np.bincount(row[~tied], minlength=len(counts))
    ties = np.cumsum(tied)  # counted over all rows: those of the rows before are taken off
    before = np.concatenate([[0], ties])[np.searchsorted(row, row)]
    kept: Ints = flat[~tied | (ties - before <= (counts - above)[row])]
    return kept


def pieces(n: int, size: int) -> Iterator[slice]:
    """Cut n into slices of ``size``, at least one."""
    size = max(1, size)
    for start in range(0, max(n, 1), size):
        yield slice(start, min(start + size, n))


class HitDraw:
    """Draws the hits of showers from a component's raw values.

    Args:
        emission: says how bright they are.
        neighbours: correlates their noise, if there is one.
        rows: the shower's layers.
        most: hits that a layer may have at most.
    """

    def __init__(self, emission: Emission, neighbours: NeighbourNoise | None, rows: Rows, most: int) -> None:
        self.bias, self.neighbours, self.rows = emission.bias, neighbours, rows
        self.most = min(most, rows.width)
        self.energies = HitEnergies(emission)
        self.first = np.cumsum([0, *rows.sizes[:-1]]) - np.arange(rows.n_layers) * rows.width

    def __call__(self, raw: Tensor, noise: Tensor, context: Tensor, energy: Tensor, counts: Tensor) -> Hits:
        """Hits of showers.

        Args:
            raw: the component's raw values (B, *shape).
            noise: standard normal, of every voxel (B, voxels).
            context: of their layers (B, L, ...), see `Emission.context`.
            energy: of their layers (B, L).
            counts: hits of their layers (B, L), whole numbers.
        """
        logit = self.rows.split(raw, fill=-1e9) + self.bias
        noises = self.rows.split(noise.reshape(raw.shape))
        if self.neighbours:
            noises = self.neighbours(noises, logit)
        noises = logistic_noise(noises)
        keys = (logit + noises).flatten(0, 1).numpy()
        wanted = np.minimum(counts.flatten().numpy().astype(np.int64), self.most)
        picked = pick(keys, wanted)
        r, e = (x.numpy().take(picked.flat) for x in (logit, noises))
        values = self.energies(picked, r, e, context.flatten(0, 1).numpy(), energy.flatten().numpy())
        shower, layer = np.divmod(np.arange(len(wanted)), self.rows.n_layers)
        voxel = picked.flat + (self.first[layer] - shower * self.rows.n_layers * self.rows.width)[picked.row]
        return Hits(wanted.reshape(len(raw), -1).sum(axis=1), voxel, values)


class HitEnergies:
    """Energies of hits as an `Emission` draws them.

    Args:
        emission: on the CPU.
    """

    def __init__(self, emission: Emission) -> None:
        self.bright_first = emission.bright_first
        self.slope = float(emission.slope.detach())
        self.by_raw = array(emission.by_raw.weight)[:, 0]
        self.layers = [(part.weight, array(part.bias)[:, None]) for part in (emission.middle, emission.last)]
        self.bins = (len(self.layers[1][1]) - 4) // 3
        shared = emission.landmarks
        self.landmarks = None if shared is None else SharedSpline(LANDMARK_GAIN * array(shared), BOUND)

    def __call__(self, picked: Picked, raw: Floats, noise: Floats, context: Floats, energy: Floats) -> Floats:
        """Energies (H,) of hits that add up to those of their rows.

        Args:
            picked: which were hit.
            raw: their raw values (H,).
            noise: their logistic noise (H,).
            context: of the rows (R, ...), see `Emission.context`.
            energy: of the rows (R,).
        """
        # Given that noise is above cut - r, its rank among all such is uniform: noise of its own for the brightness.
        above = sigmoid(-noise) / np.maximum(sigmoid(raw - picked.cut[picked.row]), np.float32(1e-7))
        value = self._over_mean(raw, above, context, picked.row)
        value = np.minimum(value, picked.counts[picked.row].astype(np.float32))  # no more than its layer
        value *= np.maximum(energy / np.maximum(picked.counts, 1), TINY).astype(np.float32)[picked.row]
        return scale_hits(value, picked.counts, energy, self.bright_first)

    def _over_mean(self, raw: Floats, above: Floats, context: Floats, row: Ints) -> Floats:
        raw = np.clip(raw, -20, 20)
        known = context[row]  # (H, hidden + 2)
        first = known[:, :-2] + (np.float32(0.2) * raw)[:, None] * self.by_raw
        (weight, bias), (last_weight, last_bias) = self.layers
        with np.errstate(over="ignore"):
            middle = silu(product(weight, silu(first).T) + bias)
        found = product(last_weight, middle) + last_bias  # (5 + 3 bins - 1, H)
        shift = found[0] + raw * np.float32(self.slope) + known[:, -2]
        width, dust_width = (np.exp(np.clip(found[i], -4, 4)) for i in (1, 4))
        rank, share = 1 - above, sigmoid(found[2])
        is_dust = rank < share
        rank = np.where(is_dust, rank / share, (rank - share) / (1 - share))
        rank = np.clip(rank, np.float32(FAINTEST), np.float32(1 - BRIGHTEST))
        fresh = np.log(rank / (1 - rank))
        place = SplineColumns(self.bins, len(raw), BOUND)(fresh, found[5:]) * width + shift
        if self.landmarks:
            place = self.landmarks(place + known[:, -1]) - known[:, -1]
        x = np.where(is_dust, fresh * dust_width + found[3], place)
        value: Floats = np.exp(np.clip(x, -40, 30))
        return value


def scale_hits(value: Floats, counts: Ints, total: Floats, bright_first: float) -> Floats:
    """`scale_to` for energies (H,) of which row by row ``counts`` (R,) follow each other, to sums ``total`` (R,)."""
    filled = counts > 0
    counts, want = counts[filled], total[filled].astype(np.float32)
    if not len(counts):
        return value
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])

    def summed(x: Floats) -> Floats:
        return np.maximum(np.add.reduceat(x, starts), np.float32(TINY))

    def spread(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.repeat(x, counts)

    if bright_first:
        value = value * spread(np.maximum(want / summed(value) / 2, 1))
        peak = np.maximum(np.maximum.reduceat(value, starts), np.float32(TINY))
        x = value / spread(peak)
        have, goal = summed(x), want / peak
        weight = x if bright_first == 1 else x ** np.float32(bright_first)
        up = np.maximum((goal - have) / summed(x * weight), 0)
        value = x * (1 + spread(up) * weight)
        down = goal < have
        if down.any():  # only these rows need the equation solved
            inside = spread(down)
            mu = _solved(x[inside], weight[inside], counts[down], goal[down])
            value[inside] = x[inside] / (1 + np.repeat(mu, counts[down]) * weight[inside])
    scaled: Floats = value * spread(want / summed(value))
    return scaled


def _solved(x: Floats, weight: Floats, counts: Ints, goal: Floats) -> Floats:
    """The mu (R,) for which x / (1 + mu weight) add up to ``goal``, as in `scale_to`."""
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    mu = np.zeros(len(counts), np.float32)
    for _ in range(8):
        bottom = 1 + np.repeat(mu, counts) * weight
        part = x / bottom
        slope = np.maximum(np.add.reduceat(part * weight / bottom, starts), np.float32(TINY))
        mu += np.maximum((np.add.reduceat(part, starts) - goal) / slope, 0)
    return mu


def logistic_noise(noise: Tensor) -> Tensor:
    """`emission.logistic` in fewer passes."""
    tail: Tensor = torch.special.ndtr(noise.abs().neg_())
    return torch.copysign(tail.clamp_(min=1e-7).logit_(), noise)
