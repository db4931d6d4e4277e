"""`ChainFlow` run forwards in NumPy, for generation: the chain of small steps costs calls, not arithmetic.

A step has some hundred operations on a few numbers a shower. NumPy's calls cost a third of torch's, and with showers
along the last axis they stay vectorised for many. The same numbers as `ChainFlow.forward` up to rounding.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .columns import Floats, SplineColumns, array, product, silu
from .flow import ChainFlow


def flow_on_cpu(flow: ChainFlow, noise: Floats, context: Floats) -> Floats:
    """Noise (B, 2 L) and contexts (B, C) to codes (B, 2 L), as `ChainFlow.forward`.

    Args:
        flow: on the CPU.
        noise: standard normal.
        context: of each shower.
    """
    with np.errstate(over="ignore"):  # exp(-x) to infinity in 1 / (1 + exp(-x)), which is right
        return _run(flow, np.ascontiguousarray(noise.T), np.ascontiguousarray(context.T))


def _run(flow: ChainFlow, z: Floats, c: Floats) -> Floats:
    """Noise (2 L, B) and contexts (C, B) to codes (B, 2 L)."""
    n = len(z[0])
    draw = SplineColumns((len(array(flow.hits[-1].bias)) + 1) // 3, n, flow.bound)
    mean, deviation = flow.scale.mean.tolist(), flow.scale.deviation.tolist()
    step, heads = _Step(flow, c), _Heads(flow)
    code = np.empty_like(z)
    code[0] = total = draw(z[0], _head(flow.total, c))
    # What a step sees: total, of the layer before root and logit, the logarithm of what is left, the state.
    seen = np.zeros((4 + flow.start.out_features, n), np.float32)
    seen[0] = total
    seen[4:] = np.tanh(product(flow.start.weight, np.concatenate([c, seen[:1]])) + array(flow.start.bias)[:, None])
    for i in range(flow.n_layers):
        step(seen, i)
        for_hits, for_share = heads.first(seen[4:])
        code[2 * i + 1] = root = draw(z[2 * i + 1], heads.hits(for_hits))
        if i == flow.n_layers - 1:
            break
        code[2 * i + 2] = logit = draw(z[2 * i + 2], heads.share(for_share, root))
        # An empty layer's logit is noise without a meaning, and it takes no energy.
        filled = root * np.float32(deviation[2 * i + 1]) + np.float32(mean[2 * i + 1]) >= 1
        part = 1 / (1 + np.exp(logit * np.float32(-deviation[2 * i + 2]) - np.float32(mean[2 * i + 2])))
        seen[1] = root
        np.multiply(logit, filled, out=seen[2])
        seen[3] += np.log1p(np.minimum(part, np.float32(1 - 1e-6)) * -filled.astype(np.float32))
    code *= flow.scale.deviation.numpy()[:, None]
    code += flow.scale.mean.numpy()[:, None]
    low, high = (x.numpy()[:, None] for x in (flow.scale.low, flow.scale.high))
    found: Floats = np.ascontiguousarray(np.minimum(np.maximum(code, low), high).T)
    return found


class _Step:
    """The recurrent unit (arXiv 1406.1078, eq. 5-8), what it sees and its state in one matrix product."""

    def __init__(self, flow: ChainFlow, context: Floats) -> None:
        self.matrix, of_context, of_place = chain_matrix(flow)
        self.fixed, self.places = product(of_context, context), of_place.numpy()[:, :, None]
        self.size = flow.state.hidden_size

    def __call__(self, seen: Floats, layer: int) -> None:
        """Overwrite the state within what is seen (4 + H, B)."""
        n, state = self.size, seen[4:]
        gates = product(self.matrix, seen)
        gates += self.fixed
        gates += self.places[layer]
        both = np.exp(-gates[: 2 * n])
        both += 1
        np.divide(1, both, out=both)
        new = np.tanh(gates[2 * n : 3 * n] + both[:n] * gates[3 * n :])
        state -= new
        state *= both[n:]
        state += new


def chain_matrix(flow: ChainFlow) -> tuple[Tensor, Tensor, Tensor]:
    """The recurrent unit's weights in three.

    Rows of the matrices: both gates (2 H), the new state's share of what is seen (H), and of the old state (H).

    Returns:
        Of the four numbers that change from step to step and the old state (4 H, 4 + H); of the context (4 H, C); and
        what each layer's place gives, with all biases (L, 4 H).
    """
    unit, own = flow.state, flow.start.in_features - 1
    n = unit.hidden_size
    weight, state, bias = unit.weight_ih.detach(), unit.weight_hh.detach(), unit.bias_hh.detach()
    matrix = torch.zeros(4 * n, 4 + n)
    # Of the four numbers, the last counts by a third.
    matrix[: 3 * n, :4] = weight[:, own : own + 4] * torch.tensor([1, 1, 1, 1 / 3])
    matrix[: 2 * n, 4:] = state[: 2 * n]
    matrix[3 * n :, 4:] = state[2 * n :]
    of_context = F.pad(weight[:, :own], (0, 0, 0, n))
    of_place = F.pad(flow.place.detach() @ weight[:, own + 4 :].T + unit.bias_ih.detach(), (0, n))
    of_place[:, : 2 * n] += bias[: 2 * n]
    of_place[:, 3 * n :] = bias[2 * n :]
    return matrix, of_context, of_place


def _head(network: nn.Sequential, x: Floats) -> Floats:
    """One of the flow's small networks on columns (n_in, B)."""
    first, last = dense(network[0]), dense(network[-1])
    hidden = silu(product(first.weight, x) + array(first.bias)[:, None])
    found: Floats = product(last.weight, hidden) + array(last.bias)[:, None]
    return found


class _Heads:
    """The networks that shape the splines of hits and shares: both see the state first, in one product."""

    def __init__(self, flow: ChainFlow) -> None:
        hits, share = dense(flow.hits[0]), dense(flow.share[0])
        self.size, n = hits.out_features, flow.state.hidden_size
        self.weight = torch.cat([hits.weight.detach(), share.weight.detach()[:, :n]])
        self.bias = np.concatenate([array(hits.bias), array(share.bias)])[:, None]
        self.of_root = array(share.weight)[:, n:]
        last = [dense(network[-1]) for network in (flow.hits, flow.share)]
        self.last = [(layer.weight.detach(), array(layer.bias)[:, None]) for layer in last]

    def first(self, state: Floats) -> tuple[Floats, Floats]:
        """What both make of the state (H, B), before they bend it."""
        x = product(self.weight, state)
        x += self.bias
        return x[: self.size], x[self.size :]

    def hits(self, hidden: Floats) -> Floats:
        """The splines of hits."""
        (weight, bias), _ = self.last
        return _added(product(weight, silu(hidden)), bias)

    def share(self, hidden: Floats, root: Floats) -> Floats:
        """The splines of shares, given the hits' root (B,) too."""
        _, (weight, bias) = self.last
        return _added(product(weight, silu(_added(hidden, self.of_root * root))), bias)


def _added(x: Floats, y: Floats) -> Floats:
    """Add y to x in place."""
    x += y
    return x


def dense(layer: nn.Module) -> nn.Linear:
    """A part of a network, which is a dense layer."""
    assert isinstance(layer, nn.Linear)
    return layer
