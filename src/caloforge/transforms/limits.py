"""Transforms that act on the way back only: they keep what a network gives within what showers can be."""

from __future__ import annotations

import torch
from torch import Tensor

from ..options import NotNegative, Positive
from .base import Transform


class Threshold(Transform):
    """Values under a threshold become zero on the way back; forward changes nothing.

    Use it first in a list (so last on the way back) to remove the faint haze networks leave in empty voxels.

    Args:
        threshold: in the unit of x; if not given, just under the smallest non-zero value of the fitted sample.
    """

    name = "threshold"
    keeps_zeros = True

    def __init__(self, threshold: NotNegative | None = None) -> None:
        super().__init__(threshold=threshold)
        self.threshold: Tensor
        self.register_buffer("threshold", torch.empty(0) if threshold is None else torch.tensor([threshold]))

    def _fit(self, x: Tensor, incident_energy: Tensor) -> None:
        if self.options["threshold"] is None:
            hits = x[x > 0]
            # A hair under the smallest value, which may come back rounded down.
            self.threshold = hits.min().reshape(1) * 0.999 if len(hits) else torch.zeros(1, device=x.device)

    def _forward(self, x: Tensor, incident_energy: Tensor) -> Tensor:
        return x

    def _inverse(self, y: Tensor, incident_energy: Tensor) -> Tensor:
        # Written so that NaN stays NaN and is found, not turned to zero.
        return torch.where(y < self.threshold, torch.zeros_like(y), y)


class Clamp(Transform):
    """Values are clamped to [low, high] on the way back; forward changes nothing.

    Args:
        low: lowest value.
        high: highest value; if not given, ``margin`` times the largest value of the fitted sample.
        margin: how far above the sample generated values may go.
    """

    name = "clamp"

    def __init__(self, low: float = 0.0, high: float | None = None, margin: Positive = 2.0) -> None:
        super().__init__(low=low, high=high, margin=margin)
        self.low = low
        self.high: Tensor
        self.register_buffer("high", torch.empty(0) if high is None else torch.tensor([high]))

    def _fit(self, x: Tensor, incident_energy: Tensor) -> None:
        if self.options["high"] is None:
            self.high = (x.max() * self.options["margin"]).reshape(1).clamp(min=self.low)

    def _forward(self, x: Tensor, incident_energy: Tensor) -> Tensor:
        return x

    def _inverse(self, y: Tensor, incident_energy: Tensor) -> Tensor:
        return y.clamp(min=self.low).minimum(self.high)
