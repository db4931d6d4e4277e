"""Transforms that divide: by a number, by what was fitted, or by something that each shower brings."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..errors import CaloforgeError
from ..options import Positive
from .base import Transform


class Standardise(Transform):
    """y = (x - mean) / standard deviation; where nothing varies, x - mean.

    Args:
        per: one mean and deviation for "all" values, for each "layer" (axis 1: for conditions, each condition; for
            flat showers of a detector whose layers differ, each voxel, so training refuses it), or for each "voxel".
        centre: subtract the mean; without, zero stays zero.
    """

    name = "standardise"

    def __init__(self, per: Literal["all", "layer", "voxel"] = "layer", centre: bool = True) -> None:
        super().__init__(per=per, centre=centre)
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.empty(0))
        self.register_buffer("deviation", torch.empty(0))

    def _fit(self, x: Tensor, incident_energy: Tensor) -> None:
        kept = {"all": (), "layer": (1,), "voxel": tuple(range(1, x.ndim))}[self.options["per"]]
        axes = tuple(a for a in range(x.ndim) if a not in kept)
        x = x.double()
        mean = x.mean(axes, keepdim=True)
        deviation = (x - mean).square().mean(axes, keepdim=True).sqrt()
        # Rounding leaves a constant with a tiny deviation instead of none.
        flat = deviation <= 1e-6 * mean.abs()
        self.mean = (mean if self.options["centre"] else torch.zeros_like(mean)).float()
        self.deviation = torch.where(flat, torch.ones_like(deviation), deviation).float()

    def _forward(self, x: Tensor, incident_energy: Tensor) -> Tensor:
        return (x - self.mean) / self.deviation

    def _inverse(self, y: Tensor, incident_energy: Tensor) -> Tensor:
        return y * self.deviation + self.mean


class Scale(Transform):
    """y = x / scale; zero stays zero.

    Args:
        scale: in the unit of x.
    """

    name = "scale"
    keeps_zeros = True

    def __init__(self, scale: Positive) -> None:
        super().__init__(scale=scale)
        self.scale = scale

    def _forward(self, x: Tensor, incident_energy: Tensor) -> Tensor:
        return x / self.scale

    def _inverse(self, y: Tensor, incident_energy: Tensor) -> Tensor:
        return y * self.scale


class PerIncidentEnergy(Transform):
    """y = x / incident energy: showers of all energies look alike; zero stays zero."""

    name = "per-incident-energy"
    keeps_zeros = True

    def _fit(self, x: Tensor, incident_energy: Tensor) -> None:
        if not len(incident_energy) or float(incident_energy.min()) <= 0:
            raise CaloforgeError(
                "per-incident-energy was given incident energies that are not positive; leave those showers out."
            )

    def _forward(self, x: Tensor, incident_energy: Tensor) -> Tensor:
        return x / self._column(incident_energy, x)

    def _inverse(self, y: Tensor, incident_energy: Tensor) -> Tensor:
        return y * self._column(incident_energy, y)

    @staticmethod
    def _column(incident_energy: Tensor, like: Tensor) -> Tensor:
        return incident_energy.to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))


class PerFastMaximum(PerIncidentEnergy):
    """y = x / largest tower of the event's fast image, for fast and full images alike; zero stays zero.

    For images of events the second argument of all transforms is this largest tower in MeV. CALPAGAN divides the full
    image by its own maximum, which nobody knows when generating; the fast image's is known.
    """

    name = "per-fast-maximum"
