"""A `ChainFlow` for many showers at once: matrix products by torch, the rest in compiled loops, showers last."""

from __future__ import annotations

import numpy as np
import torch

from . import kernels
from .columns import Floats, array, product
from .flow import ChainFlow
from .flow_on_cpu import chain_matrix, dense
from .kernels import Chain

MANY = 32
"""Showers from which on this is faster than one after the other, for which matrices are too large for the cache."""


class ManyChains:
    """The same numbers as `kernels.run_chain` up to rounding.

    Args:
        flow: on the CPU.
        chain: its numbers.
    """

    def __init__(self, flow: ChainFlow, chain: Chain) -> None:
        self.flow, self.chain, self.n_layers = flow, chain, flow.n_layers
        self.bins = (len(chain.hits.last_bias) + 1) // 3
        matrix, of_context, of_place = chain_matrix(flow)
        self.matrix, self.place = torch.cat([matrix, of_context], dim=1), of_place.numpy()
        n = flow.state.hidden_size
        firsts = dense(flow.hits[0]).weight.detach(), dense(flow.share[0]).weight.detach()[:, :n]
        self.firsts, self.n_hits = torch.cat(firsts), len(firsts[0])
        self.lasts = [dense(head[-1]).weight.detach() for head in (flow.hits, flow.share)]
        mean, deviation = chain.mean[1:], chain.deviation[1:]
        each = [mean[:-1:2], deviation[:-1:2], mean[1::2], deviation[1::2]]
        self.scales = np.stack(each, axis=1).astype(np.float32)  # (L - 1, 4), see `see_layer`

    def __call__(self, noise: Floats, context: Floats, seen_by: Floats, energy: Floats, hits: Floats) -> None:
        """See `kernels.run_chain`."""
        chain, n, n_context = self.chain, len(noise), context.shape[1]
        z, size = np.ascontiguousarray(noise.T), self.flow.state.hidden_size
        code = np.empty_like(z)
        room = kernels.SplineRoom(
            np.empty((2, self.bins + 1, n), np.float32), np.empty((6, n), np.float32), np.empty(n, np.int32)
        )
        seen = np.zeros((4 + size + n_context, n), np.float32)
        seen[4 + size :] = context.T
        state = seen[4 : 4 + size]
        hidden = product(dense(self.flow.total[0]).weight, seen[4 + size :])
        kernels.bend(hidden, chain.total.first_bias)
        found = product(dense(self.flow.total[-1]).weight, hidden)
        kernels.draw_of_many(z[0], found, chain.total.last_bias, chain.bound, room, code[0])
        seen[0] = code[0]
        state[:] = product(self.flow.start.weight, np.concatenate([seen[4 + size :], seen[:1]]))
        state += array(self.flow.start.bias)[:, None]
        np.tanh(state, out=state)
        told, of_state = torch.from_numpy(seen), torch.from_numpy(state)
        gates, both = np.empty((4 * size, n), np.float32), np.empty((len(self.firsts), n), np.float32)
        firsts = both[: self.n_hits], both[self.n_hits :]
        found = np.empty((len(self.lasts[0]), n), np.float32)
        gates_out, both_out, found_out = (torch.from_numpy(x) for x in (gates, both, found))
        for i in range(self.n_layers):
            torch.mm(self.matrix, told, out=gates_out)
            kernels.step_of_many(gates, self.place[i], state)
            torch.mm(self.firsts, of_state, out=both_out)
            kernels.bend(firsts[0], chain.hits.first_bias)
            torch.mm(self.lasts[0], both_out[: self.n_hits], out=found_out)
            root = code[2 * i + 1]
            kernels.draw_of_many(z[2 * i + 1], found, chain.hits.last_bias, chain.bound, room, root)
            if i == self.n_layers - 1:
                break
            kernels.bend_with_root(firsts[1], chain.share.first_bias, chain.of_root, root)
            torch.mm(self.lasts[1], both_out[self.n_hits :], out=found_out)
            logit = code[2 * i + 2]
            kernels.draw_of_many(z[2 * i + 2], found, chain.share.last_bias, chain.bound, room, logit)
            kernels.see_layer(root, logit, self.scales[i], seen)
        seen_by[:, :n_context] = context
        seen_by[:, n_context:] = code.T
        kernels.decode(chain, seen_by, energy, hits)
