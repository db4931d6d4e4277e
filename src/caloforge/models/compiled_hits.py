"""The showers of a `LayerEnergy` as hits, by the loops of `kernels`; the component's network runs in torch as ever."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import kernels
from .base import Hits, NoiseOfShowers
from .columns import Floats, SharedSpline, array, product
from .compiled_chain import MANY, ManyChains
from .emission import BOUND, LANDMARK_GAIN, Emission
from .flow import ChainFlow
from .flow_on_cpu import chain_matrix, dense
from .hits import pieces
from .kernels import Chain, Head, Hit, Landmarks, LayerContext, Neighbours
from .kernels.compiling import Ints
from .neighbours import NeighbourNoise
from .noise import TABLE
from .rows import Rows

if TYPE_CHECKING:
    from .layer_energy import LayerEnergy


_CELLS = 1024  # of the landmarks' scale: about one landmark each where they are densest


class CompiledHits:
    """Draws the hits of showers as `LayerEnergy.hits` does, with its weights as they are now.

    Args:
        model: on the CPU, one that draws hits voxel by voxel.
        most: hits that a layer may have at most.
        voxels: that the network sees at a time.
    """

    def __init__(self, model: LayerEnergy, most: int, voxels: int) -> None:
        assert model.emission is not None
        self.raw_of, self.rows, self.most = model.raw_values, model.rows, most
        self.showers = max(1, voxels // math.prod(model.shape))
        self.n_noise, self.n_conditions = model.code.size, model.n_conditions
        self.chain, self.network = chain_of(model.flow), _context_of(model.emission)
        self.chains = ManyChains(model.flow, self.chain)
        self.neighbours, self.layers = neighbours_of(model.neighbours, self.rows)
        bias = model.emission.bias.detach()
        self.bias = torch.cat([row[:size] for row, size in zip(bias, self.rows.sizes, strict=True)]).numpy()
        self.emission = model.emission
        self.by_raw = array(self.emission.by_raw.weight)[:, 0].copy()
        self.marks = landmarks_of(self.emission)

    def __call__(self, own: Tensor, condition: Tensor, noise: NoiseOfShowers) -> Hits:
        """See `GenerativeModel.hits`."""
        n, n_layers = len(own), self.rows.n_layers
        told = np.empty((n, self.n_conditions + self.n_noise), np.float32)
        energy, hits = np.empty((2, n, n_layers), np.float32)
        conditions = np.ascontiguousarray(condition.numpy())
        noises = np.ascontiguousarray(own[:, : self.n_noise].numpy())
        if n < MANY:
            kernels.run_chain(self.chain, noises, conditions, told, energy, hits)
        else:
            self.chains(noises, conditions, told, energy, hits)
        context = np.empty((n, n_layers, self.by_raw.size + 2), np.float32)
        kernels.layer_context(self.network, conditions, energy, hits, context.reshape(n * n_layers, -1))
        joined = torch.from_numpy(told)
        parts = []
        for some in pieces(n, self.showers):
            raw = self.raw_of(own[some, self.n_noise :], joined[some]).flatten(1).numpy()
            parts.append(self._draw(raw, noise(some), context[some], energy[some], hits[some]))
        return Hits(*(np.concatenate(each) for each in zip(*parts, strict=True)))

    def _draw(self, raw: Floats, noise: Tensor, context: Floats, energy: Floats, hits: Floats) -> Hits:
        counts = np.minimum(hits.astype(np.int64), self.most)
        n = int(counts.sum())
        picked = Hit(np.empty(n, np.int64), *np.empty((7, n + kernels.WIDTH), np.float32))
        white, streams = _white(noise)
        kernels.pick_hits(
            raw, white, streams, TABLE.numpy(), self.bias, self.layers, self.neighbours, counts, energy, context, picked
        )
        values, rows = np.empty(n, np.float32), context.reshape(counts.size, -1)
        middle, last = self.emission.middle, self.emission.last
        first = np.empty((n, self.by_raw.size), np.float32)
        kernels.hidden_of_hits(picked, counts.ravel(), rows, self.by_raw, first)
        hidden = product(middle.weight, first.T)
        kernels.bend(hidden, array(middle.bias))
        found = product(last.weight, hidden)
        kernels.energies_of_hits(
            found,
            array(last.bias),
            picked,
            np.float32(self.emission.slope.item()),
            np.float32(BOUND),
            self.marks,
            values,
        )
        kernels.scale_rows(values, counts.ravel(), energy.ravel(), np.float32(self.emission.bright_first))
        return Hits(counts.sum(axis=1), picked.voxel, values)


def _white(noise: Tensor) -> tuple[Floats, Ints]:
    """Noise and no streams, or the reverse."""
    if noise.dtype == torch.float32:
        return noise.numpy(), np.empty((0, 3), np.int64)
    return np.empty((0, 0), np.float32), noise.numpy()


def chain_of(flow: ChainFlow) -> Chain:
    """A flow's numbers."""
    matrix, of_context, of_place = chain_matrix(flow)
    hits, share, n = _head(flow.hits), _head(flow.share), flow.state.hidden_size
    scale = flow.scale
    return Chain(
        total=_head(flow.total),
        start=_turned(flow.start.weight),
        start_bias=array(flow.start.bias),
        of_context=_turned(of_context),
        of_place=of_place.numpy(),
        of_seen=_turned(matrix),
        hits=hits,
        share=share._replace(first=share.first[:n].copy()),
        of_root=share.first[n].copy(),
        mean=scale.mean.numpy(),
        deviation=scale.deviation.numpy(),
        low=scale.low.numpy(),
        high=scale.high.numpy(),
        bound=np.float32(flow.bound),
    )


def _context_of(emission: Emission) -> LayerContext:
    weight = torch.cat([emission.by_layer.weight, emission.level.weight]).detach().T  # (C + 6, H + 1)
    bias = torch.cat([emission.by_layer.bias, emission.level.bias]).detach()
    n = weight.shape[0] - 6
    spread = torch.zeros(n) if emission.spread is None else emission.spread
    return LayerContext(
        mean=emission.scale.mean.numpy(),
        deviation=emission.scale.deviation.numpy(),
        of_condition=weight[:n].numpy().copy(),
        of_known=weight[n : n + 2].numpy().copy(),
        of_place=(emission.place.detach() @ weight[n + 2 :] + bias).numpy(),
        spread=spread.numpy(),
    )


def neighbours_of(neighbours: NeighbourNoise | None, rows: Rows) -> tuple[Neighbours, Ints]:
    """The numbers of what correlates noise, and of layers (L, 4): Y, X, first voxel, number of the shape."""
    shapes = list(dict.fromkeys(rows.layers))
    first = np.cumsum([0, *rows.sizes[:-1]])
    layers = [(*shape, start, shapes.index(shape)) for shape, start in zip(rows.layers, first, strict=True)]
    power = np.zeros((len(shapes), rows.width), np.float32)
    share, weight = np.zeros((rows.n_layers, 2), np.float32), np.zeros(5, np.float32)
    if neighbours is not None:
        share, weight = array(neighbours.share), F.softplus(neighbours.weight.detach()).numpy()
        for row, shape in zip(power, shapes, strict=True):
            row[: math.prod(shape)] = neighbours.power(shape).detach().flatten().numpy()
    inverse = np.divide(1, power, out=np.zeros_like(power), where=power > 0)
    return Neighbours(share, weight, power, inverse), np.array(layers, np.int64)


def landmarks_of(emission: Emission) -> Landmarks:
    """The numbers of the spline that all hits share."""
    if emission.landmarks is None:
        nothing = np.zeros(2, np.float32)
        return Landmarks(nothing, nothing, nothing, nothing, np.zeros(1, np.int32), np.float32(BOUND), 0)
    shared = SharedSpline(LANDMARK_GAIN * array(emission.landmarks), BOUND)
    inner = shared.y[1:-1]
    # A little wider on both sides: in which cell a number at its edge lies, rounding says.
    edges = np.linspace(0, 2 * BOUND, _CELLS + 1)
    first = np.searchsorted(inner, edges[:-1] - 1e-4).astype(np.int32)
    steps = int((np.searchsorted(inner, edges[1:] + 1e-4) - first).max())
    search = np.concatenate([[0], inner, np.full(steps, np.inf)]).astype(np.float32)
    return Landmarks(shared.x, shared.y, shared.slopes, search, first, np.float32(BOUND), steps)


def _head(network: nn.Sequential) -> Head:
    first, last = dense(network[0]), dense(network[-1])
    return Head(_turned(first.weight), array(first.bias), _turned(last.weight), array(last.bias))


def _turned(weight: Tensor) -> Floats:
    """(n_out, n_in) -> (n_in, n_out)."""
    return np.ascontiguousarray(weight.detach().numpy().T)
