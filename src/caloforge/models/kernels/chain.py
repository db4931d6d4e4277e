"""A `ChainFlow` forwards, one shower after the other; and, for many at once, what lies between matrix products."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .compiling import Floats, compiled, entered, f32
from .elementary import ONE, ZERO, add_product, copy, exp, log, sigmoid, silu, tanh
from .splines import on_spline, on_splines

_CEILING = f32(1 - 1e-6)


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


class ChainRoom(NamedTuple):
    """What `run_chain` overwrites."""

    gates: Floats  # (4 H,)
    fixed: Floats  # (4 H,)
    hidden: Floats  # (H,)
    seen: Floats  # (4 + H,)
    first: Floats  # as wide as the first head
    spline: Floats
    grown: Floats  # (2, K)


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


@compiled
def _run_chain(
    chain: Chain, noise: Floats, context: Floats, seen_by: Floats, energy: Floats, hits: Floats, room: ChainRoom
) -> None:
    n, n_context, n_layers = len(chain.start_bias), context.shape[1], noise.shape[1] // 2
    gates, fixed, hidden, seen, first, spline, grown = room
    state = seen[4:]
    for b in range(len(noise)):
        c, z, code = context[b], noise[b], seen_by[b, n_context:]
        copy(c, seen_by[b])
        copy(chain.total.first_bias, first)
        add_product(first, c, chain.total.first)
        _shaped(chain.total, first, spline)
        total = on_spline(z[0], spline, chain.bound, grown)
        code[0] = total
        seen[:4] = ZERO
        seen[0] = total
        copy(chain.start_bias, state)
        add_product(state, c, chain.start[:n_context])
        for j in range(n):
            state[j] = tanh(state[j] + total * chain.start[n_context, j])
        fixed[:] = ZERO
        add_product(fixed, c, chain.of_context)
        for i in range(n_layers):
            place = chain.of_place[i]
            for j in range(4 * n):
                gates[j] = fixed[j] + place[j]
            add_product(gates, seen, chain.of_seen)
            _bend_gates(gates[:n], gates[n : 2 * n], gates[2 * n : 3 * n], gates[3 * n :], state)
            copy(chain.hits.first_bias, hidden)
            add_product(hidden, state, chain.hits.first)
            _shaped(chain.hits, hidden, spline)
            root = on_spline(z[2 * i + 1], spline, chain.bound, grown)
            code[2 * i + 1] = root
            if i == n_layers - 1:
                break
            copy(chain.share.first_bias, hidden)
            add_product(hidden, state, chain.share.first)
            for j in range(n):
                hidden[j] += root * chain.of_root[j]
            _shaped(chain.share, hidden, spline)
            logit = on_spline(z[2 * i + 2], spline, chain.bound, grown)
            code[2 * i + 2] = logit
            # An empty layer's logit is noise without a meaning, and it takes no energy.
            filled = root * chain.deviation[2 * i + 1] + chain.mean[2 * i + 1] >= ONE
            part = sigmoid(logit * chain.deviation[2 * i + 2] + chain.mean[2 * i + 2])
            seen[1], seen[2] = root, logit if filled else ZERO
            seen[3] += log(ONE - min(part, _CEILING)) if filled else ZERO
        _decode(chain, code, energy[b], hits[b])


@compiled
def _shaped(head: Head, hidden: Floats, out: Floats) -> None:
    """The end of a head: ``hidden``, which lacks its bend, is overwritten, ``out`` (n_out,) written."""
    for i in range(len(hidden)):
        hidden[i] = silu(hidden[i])
    copy(head.last_bias, out)
    add_product(out, hidden, head.last)


@compiled
def _bend_gates(reset: Floats, update: Floats, new: Floats, of_state: Floats, state: Floats) -> None:
    """The recurrent unit's end, from its linear parts (H,), in place."""
    for j in range(len(state)):
        reset[j] = sigmoid(reset[j])
    for j in range(len(state)):
        new[j] = tanh(new[j] + reset[j] * of_state[j])
    for j in range(len(state)):
        state[j] = (state[j] - new[j]) * sigmoid(update[j]) + new[j]


@compiled
def decode(chain: Chain, seen_by: Floats, energy: Floats, hits: Floats) -> None:
    """What `run_chain` says of layers, from what the component is told, the end of which is kept within its range."""
    for b in range(len(seen_by)):
        _decode(chain, seen_by[b, seen_by.shape[1] - len(chain.mean) :], energy[b], hits[b])


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
            share = sigmoid(code[2 * i + 2]) if hits[i] > ZERO else ZERO
        energy[i] = left * share if hits[i] > ZERO else ZERO
        left *= ONE - share
        total += energy[i]
    scale = exp(code[0]) / max(total, f32(1e-9))
    for i in range(n_layers):
        energy[i] *= scale
    for j in range(len(code)):
        code[j] = (code[j] - chain.mean[j]) / chain.deviation[j]


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
            reset[b] = sigmoid(reset[b] + of_reset) * (of_state[b] + of_old)
        for b in range(many):
            new[b] = tanh(new[b] + of_new + reset[b])
        for b in range(many):
            mine[b] = (mine[b] - new[b]) * sigmoid(update[b] + of_update) + new[b]


@compiled
def bend_with_root(x: Floats, bias: Floats, of_root: Floats, root: Floats) -> None:
    """Overwrite x (n, B) by SiLU of x + bias (n,) + of_root (n,) root (B,)."""
    for j in range(len(x)):
        row, b, more = x[j], bias[j], of_root[j]
        for i in range(len(root)):
            row[i] = silu(row[i] + b + more * root[i])


class SplineRoom(NamedTuple):
    """What drawing from splines of many showers overwrites: for B of them with K bins."""

    grown: Floats  # (2, K + 1, B)
    at: Floats  # (6, B)
    bins: npt.NDArray[np.int32]  # (B,)


@compiled
def draw_of_many(x: Floats, raw: Floats, bias: Floats, bound: f32, room: SplineRoom, out: Floats) -> None:
    """Places (B,) on splines with parameters (3 K - 1, B), which lack their biases, at heights x (B,)."""
    on_splines(x, raw, bias, (0, 0, len(x)), bound, room.grown, room.at, room.bins, out)


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
        left[b] += log(ONE - min(sigmoid(logit[b] * by_logit + of_logit) * filled[b], _CEILING))
    for b in range(len(root)):
        filled[b] *= logit[b]
