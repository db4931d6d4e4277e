"""An encoder for the warm-up of a model inside `LayerEnergy` (variational autoencoder, arXiv 1312.6114)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import mlp
from .moments import MomentReader
from .rows import Rows


class Encoder(nn.Module):
    """Reads mean and log variance of latent numbers off a shower, for the warm-up.

    Over a batch both are scaled so that the numbers drawn have mean zero and variance one: a young decoder otherwise
    uses latent numbers far from what is drawn in generation as if they were biases.
    """

    def __init__(self, rows: Rows, n_conditions: int, n_out: int, hidden: int = 128) -> None:
        super().__init__()
        self.rows = rows
        self.first = nn.Linear(math.prod(rows.shape), hidden)
        self.rest = mlp([hidden + n_conditions, hidden, 2 * n_out])
        self.from_moments = MomentReader(rows.layers, rows.width, n_conditions, n_out)

    def forward(self, showers: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """(B, *shape), (B, C) -> mean and log variance, both (B, Z)."""
        features = F.leaky_relu(self.first(showers.flatten(1)), 0.2)
        read = self.rest(torch.cat([features, condition], dim=1))
        read = read + self.from_moments(self.rows.split(showers), condition)
        mean, log_variance = read.chunk(2, dim=1)
        log_variance = log_variance.clamp(-8, 8)
        mean = mean - mean.mean(0)
        scale = (mean.square() + log_variance.exp()).mean(0)
        return mean / scale.sqrt(), log_variance - scale.log()
