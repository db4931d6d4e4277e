"""Showers as sums of a few patterns that all layers share: a dense network says how much of each.

Collins, Dasgupta, Schapire, "A Generalization of Principal Component Analysis to the Exponential Family", NIPS 14
(2001): the logits of what is seen lie in a space of few dimensions. By itself it is trained by the energy score
(Gneiting, Raftery, J. Am. Stat. Assoc. 102 (2007) 359, eq. 22; as a loss of conditional generators: Pacchiardi,
Adewoyin, Dueben, Dutta, arXiv 2112.08217).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..options import Count
from .base import Batch, GenerativeModel, Objective
from .blocks import require_image
from .component import Layers
from .losses import weighted_mean
from .scores import energy_score


class Painter(nn.Module):
    """Coefficients of every layer from a dense network, and the patterns of which they make sums.

    Args:
        layers: (Y, X) of every layer; layers of equal segmentation share their patterns.
        n_inputs: of the network.
        hidden: widths of the network.
        rank: R, patterns.
    """

    def __init__(self, layers: Sequence[tuple[int, int]], n_inputs: int, hidden: Sequence[int], rank: int) -> None:
        super().__init__()
        sizes = [n_inputs, *hidden]
        parts: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            parts += [nn.Linear(n_in, n_out), nn.SiLU()]
        self.rank = rank
        self.coefficients = nn.Sequential(*parts, nn.Linear(sizes[-1], len(layers) * rank))
        shapes = list(dict.fromkeys(layers))
        self.patterns = nn.ParameterList([torch.randn(rank, y * x) / math.sqrt(rank) for y, x in shapes])
        # Runs of layers that share patterns: those of a detector with one segmentation are a single one.
        self.runs: list[tuple[int, int]] = []
        for layer in layers:
            which = shapes.index(layer)
            if self.runs and self.runs[-1][0] == which:
                self.runs[-1] = (which, self.runs[-1][1] + 1)
            else:
                self.runs.append((which, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (B, I) to raw values (B, voxels), layer by layer."""
        coefficients = self.coefficients(x).unflatten(1, (-1, self.rank))  # (B, L, R)
        parts = coefficients.split([n for _, n in self.runs], dim=1)
        rows = [(part @ self.patterns[which]).flatten(1) for part, (which, _) in zip(parts, self.runs, strict=True)]
        return rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)


class LowRank(GenerativeModel):
    """Raw values of layer l: ``sum_r c_lr(latent, condition) V_r``, V_r patterns that all layers share (NIPS 14, 2001).

    A million multiplications at most for 27 000 voxels: it costs less than drawing their noise. As a component of
    `LayerEnergy` with ``voxel_noise`` its raw values are logits of hits, and likelihood teaches all of it; what differs
    between showers of equal layer energies and hits is then left to the hits' own noise and their neighbours.

    By itself it is trained by the energy score ``E|x - s| - E|s - s'| / 2`` of two showers s, s' drawn for the
    conditions of a real shower x: a proper score, least where the model is right, without a critic (arXiv 2112.08217).

    Zeros: the ReLU at the end makes exact zeros, so the transform must map zero to zero.

    Trap: by itself it draws blurred showers: some tens of numbers a layer do not make hundreds of scattered hits, and
    the energy score, which is a distance of whole showers, hardly asks for them.

    Args:
        shape: (L, Y, X), or (n_voxels,) with ``layers``.
        n_conditions: C.
        latent: number Z of latent numbers.
        hidden: widths of the dense network.
        rank: patterns.
        layers: (Y, X) of every layer, where they differ.
    """

    takes_layers: ClassVar[bool] = True
    light: ClassVar[bool] = True

    def __init__(
        self,
        shape: tuple[Count, ...],
        n_conditions: Count,
        latent: Count = 8,
        hidden: tuple[Count, ...] = (64, 64),
        rank: Count = 16,
        layers: Layers | None = None,
    ) -> None:
        super().__init__(shape, n_conditions, latent=latent, hidden=hidden, rank=rank, layers=layers)
        if layers is None or len(shape) == 3:
            depth, y, x = require_image(shape, "low-rank")
            layers = ((y, x),) * depth
        self.latent_size = latent
        self.painter = Painter(layers, latent + n_conditions, hidden, rank)

    def phases(self) -> Sequence[Sequence[Objective]]:
        """One phase with one objective."""
        return [[Objective("energy_score", [self.painter], self._energy_score)]]

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Map latent (N, Z) and condition (N, C) to showers (N, *shape)."""
        own, noise = self.split_latent(latent)
        raw = self.painter(torch.cat([own, condition], dim=1)).reshape(-1, *self.shape)
        return self.head(raw, condition, noise)

    def _energy_score(self, batch: Batch) -> Tensor:
        one, other = (self.sample(batch.condition, batch.rng).flatten(1) for _ in range(2))
        real = batch.showers.flatten(1)
        return weighted_mean(energy_score(one, other, real), batch.weight)
