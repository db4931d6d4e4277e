"""Exponential moving average of the weights that generation uses."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Average:
    """Exponential moving average with exact bias correction.

    After T updates the average of weights x_1 ... x_T is sum_t d^(T-t) x_t / sum_t d^(T-t): the initial weights do
    not enter, and the first update copies. Whole numbers (counters) are copied.

    Args:
        tensors: the live weights and buffers by name; they are read at each `update`.
        decay: d, how much each update keeps.
    """

    def __init__(self, tensors: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.count = 0
        self._live = dict(tensors)
        self.tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the live weights into the average."""
        self.count += 1
        share = (1 - self.decay) / (1 - self.decay**self.count)
        for name, tensor in self.tensors.items():
            live = self._live[name].detach()
            if share == 1 or not tensor.is_floating_point():
                tensor.copy_(live)
            else:
                tensor.lerp_(live, share)

    @torch.no_grad()
    def apply(self) -> None:
        """Give the live weights their averaged values; without any update nothing changes."""
        if self.count:
            for name, tensor in self.tensors.items():
                self._live[name].copy_(tensor)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], count: int) -> None:
        """Continue from an average saved after ``count`` updates."""
        self.count = count
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])
