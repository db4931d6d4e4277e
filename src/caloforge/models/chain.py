"""`ChainFlow` run forwards in NumPy, for generation: the chain of small steps costs calls, not arithmetic.

A step has some hundred operations on a few numbers a shower. NumPy's calls cost a third of torch's, and with showers
along the last axis they stay vectorised for many. The same numbers as `ChainFlow.forward` up to rounding.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from .columns import Floats, SplineColumns, array, product, sigmoid, silu
from .flow import ChainFlow


def run_chain(flow: ChainFlow, noise: Floats, context: Floats) -> Floats:
    """Noise (B, 2 L) and contexts (B, C) to codes (B, 2 L), as `ChainFlow.forward`.

    Args:
        flow: on the CPU.
        noise: standard normal.
        context: of each shower.
    """
    z, c = np.ascontiguousarray(noise.T), np.ascontiguousarray(context.T)  # (2 L, B), (C, B)
    n = len(z[0])
    draw = SplineColumns((len(array(flow.hits[-1].bias)) + 1) // 3, n, flow.bound)
    mean, deviation = (x.numpy()[:, None] for x in (flow.scale.mean, flow.scale.deviation))
    hits, share = _Head(flow.hits), _Head(flow.share)
    state_bias, weight, own = array(flow.state.bias_hh)[:, None], flow.state.weight_ih.detach(), len(c)
    # Context and place do not change from step to step; of the four numbers that do, the last counts by a third.
    fixed = product(weight[:, :own], c) + array(flow.state.bias_ih)[:, None]  # (3 H, B)
    places = product(weight[:, own + 4 :], array(flow.place).T)  # (3 H, L)
    seen_weight = weight[:, own : own + 4] * torch.tensor([1, 1, 1, 1 / 3])
    code = np.empty_like(z)
    code[0] = total = draw(z[0], _Head(flow.total)(c))
    known = np.zeros((4, n), np.float32)  # total, the layer before: root and logit, and the logarithm of what is left
    known[0] = total
    h = np.tanh(product(flow.start.weight, np.concatenate([c, known[:1]])) + array(flow.start.bias)[:, None])
    for i in range(flow.n_layers):
        gates = fixed + places[:, i, None] + product(seen_weight, known)
        h = _step(gates, product(flow.state.weight_hh, h) + state_bias, h)
        code[2 * i + 1] = root = draw(z[2 * i + 1], hits(h))
        if i == flow.n_layers - 1:
            break
        code[2 * i + 2] = logit = draw(z[2 * i + 2], share(np.concatenate([h, root[None]])))
        # An empty layer's logit is noise without a meaning, and it takes no energy.
        filled = root * deviation[2 * i + 1] + mean[2 * i + 1] >= 1
        part = np.minimum(sigmoid(logit * deviation[2 * i + 2] + mean[2 * i + 2]), np.float32(1 - 1e-6))
        known[1] = root
        np.multiply(logit, filled, out=known[2])
        known[3] += np.log1p(-part * filled)
    code *= deviation
    code += mean
    low, high = (x.numpy()[:, None] for x in (flow.scale.low, flow.scale.high))
    found: Floats = np.ascontiguousarray(np.minimum(np.maximum(code, low), high).T)
    return found


def _step(gates: Floats, own: Floats, state: Floats) -> Floats:
    """One step of the recurrent unit (arXiv 1406.1078, eq. 5-8): both shares of the gates (3 H, B), state (H, B)."""
    n = len(state)
    both = sigmoid(gates[: 2 * n] + own[: 2 * n])
    new = np.tanh(gates[2 * n :] + both[:n] * own[2 * n :])
    found: Floats = new + both[n:] * (state - new)
    return found


class _Head:
    """One of the flow's small networks on columns (n_in, B)."""

    def __init__(self, network: nn.Sequential) -> None:
        first, last = network[0], network[-1]
        assert isinstance(first, nn.Linear)
        assert isinstance(last, nn.Linear)
        self.weights = first.weight, last.weight
        self.biases = array(first.bias)[:, None], array(last.bias)[:, None]

    def __call__(self, x: Floats) -> Floats:
        hidden = silu(product(self.weights[0], x) + self.biases[0])
        found: Floats = product(self.weights[1], hidden) + self.biases[1]
        return found
