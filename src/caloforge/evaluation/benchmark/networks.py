"""The challenge's two classifier networks (arXiv 2410.21611, section 4; widths and counts as in its code)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

HIDDEN = 2048
PLANES = (32, 64, 64, 128)


class DenseClassifier(nn.Module):
    """Three hidden layers of 2048 nodes: the challenge's "DNN". It sees a vector; input is not scaled.

    Args:
        inputs: length of the vector.
        hidden: nodes of a hidden layer.
    """

    def __init__(self, inputs: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in (inputs, hidden, hidden):
            layers += [nn.Linear(width, hidden), nn.LeakyReLU(0.01)]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,) of being of the reference, from vectors (B, inputs)."""
        return cast(Tensor, self.layers(x))[:, 0]


class _Block(nn.Module):
    """Two 3 x 3 x 3 convolutions and a way around them (ResNet, arXiv 1512.03385, figure 2)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm3d(outputs),
            nn.ReLU(),
            nn.Conv3d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm3d(outputs),
        )
        changes = stride != 1 or inputs != outputs
        self.around = (
            nn.Sequential(nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs))
            if changes
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(cast(Tensor, self.inner(x) + self.around(x)))


class ResNetClassifier(nn.Module):
    """A three-dimensional ResNet-18 with 2 516 644 parameters: the challenge's "CNN".

    Its trap: the edges of the angle are padded with zeros, though the angle goes round.

    Args:
        shape: of one shower: (layers, angles, radii).
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        stages: list[nn.Module] = []
        width = PLANES[0]
        for planes, stride in zip(PLANES, (1, 2, 2, 2), strict=True):
            stages += [_Block(width, planes, stride), _Block(planes, planes, 1)]
            width = planes
        self.body = nn.Sequential(
            # Padded on its own: oneDNN's backward pass of this convolution with padding corrupts memory (torch 2.13,
            # float32, 5 layers).
            nn.ConstantPad3d(3, 0.0),
            nn.Conv3d(1, PLANES[0], 7, 2, bias=False),
            nn.BatchNorm3d(PLANES[0]),
            nn.ReLU(),
            nn.MaxPool3d(3, 2, 1),
            *stages,
            nn.AdaptiveAvgPool3d(1),
        )
        self.scale_energy = nn.BatchNorm1d(1)
        self.head = nn.Linear(width + 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,) from log10 of the incident energy and the voxels (B, 1 + voxels)."""
        seen = cast(Tensor, self.body(x[:, 1:].reshape(-1, 1, *self.shape))).flatten(1)
        return cast(Tensor, self.head(torch.cat([seen, self.scale_energy(x[:, :1])], dim=1)))[:, 0]


def parameters_of(network: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(p.numel() for p in network.parameters())
