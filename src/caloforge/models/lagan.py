"""LAGAN: the networks that make and judge the image of one calorimeter layer.

de Oliveira, Paganini, Nachman, "Learning Particle Physics by Example: Location-Aware Generative Adversarial Networks
for Physics Synthesis", arXiv 1701.05927. Minibatch discrimination is that of arXiv 1606.03498, section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .blocks import LocallyConnected2d

Sizes = tuple[int, int]
SLOPE = 0.3
"""Of the leaky ReLUs."""


class Stream(nn.Module):
    """Noise to the image of one layer: LAGAN's generator, its last layers locally connected."""

    def __init__(self, size: Sizes, n_inputs: int, seeds: int, channels: Sizes) -> None:
        super().__init__()
        y, x = size
        first, second = channels
        self.base = (seeds, y + 2, x + 2)
        self.dense = nn.Linear(n_inputs, seeds * (y + 2) * (x + 2))
        self.layers = nn.Sequential(
            nn.ZeroPad2d((0, 1, 0, 1)),
            nn.Conv2d(seeds, first, 2),
            nn.LeakyReLU(SLOPE),
            nn.BatchNorm2d(first),
            LocallyConnected2d(first, second, (y + 2, x + 2), (2, 2), slope=SLOPE),
            nn.LeakyReLU(SLOPE),
            LocallyConnected2d(second, 1, (y + 1, x + 1), (2, 2), bias=False),
        )

    def forward(self, noise: Tensor) -> Tensor:
        """(B, Z) -> raw values (B, 1, Y, X)."""
        image: Tensor = self.layers(self.dense(noise).unflatten(1, self.base))
        return image


class MinibatchFeatures(nn.Module):
    """How close each shower is to the others of its batch (arXiv 1606.03498, section 3.2).

    The mean over the batch, not the sum: so its size does not depend on the batch's.
    """

    def __init__(self, n_inputs: int, features: int, size: int) -> None:
        super().__init__()
        self.features = features
        self.project = nn.Linear(n_inputs, features * size, bias=False)  # a bias would cancel in differences

    def start_close(self) -> None:
        """Begin with distances near one: exp(-distance) of far showers passes no gradient."""
        size = self.project.out_features // self.features
        nn.init.normal_(self.project.weight, 0.0, 1 / (size * math.sqrt(self.project.in_features)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, F) -> (B, features)."""
        points = self.project(x).unflatten(1, (self.features, -1)).transpose(0, 1)  # (features, B, size)
        return torch.exp(-torch.cdist(points, points, p=1.0)).mean(2).T


class Inspector(nn.Module):
    """Features of one layer's image: locally connected convolutions, sparsity, and both against the batch."""

    def __init__(self, size: Sizes, channels: Sequence[int], sparse_below: float, minibatch: Sizes) -> None:
        super().__init__()
        self.sparse_below = sparse_below
        y, x = size
        first, *rest = channels
        parts: list[nn.Module] = [nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(1, first, 2), nn.LeakyReLU(SLOPE)]
        # LAGAN's kernels and strides; only the long axis of a layer is strided.
        for n_out, kernel, stride in zip(rest, (3, 2, 2), ((1, 2), (1, 1), (1, 2)), strict=True):
            local = LocallyConnected2d(first, n_out, (y, x), (kernel, kernel), stride, padding=1, slope=SLOPE)
            parts += [local, nn.LeakyReLU(SLOPE), nn.BatchNorm2d(n_out)]
            first, (y, x) = n_out, local.out_size
        self.layers = nn.Sequential(*parts, nn.Flatten())
        n_features = first * y * x
        self.among = MinibatchFeatures(n_features, *minibatch)
        self.sparsity_among = MinibatchFeatures(1, *minibatch)
        self.n_features = n_features + 1 + 2 * minibatch[0]

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, Y, X) -> features (B, F)."""
        features = self.layers(image)
        # A count of cells has no gradient: each cell counts as tanh(energy / small energy) instead.
        filled = torch.tanh(image / self.sparse_below).flatten(1).mean(1, keepdim=True)
        return torch.cat([features, self.among(features), filled, self.sparsity_among(filled)], dim=1)
