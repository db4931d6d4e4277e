"""Transforms that bend: equal steps for equal ratios, or nearly so."""

from __future__ import annotations

import torch
from scipy import optimize
from torch import Tensor

from ..errors import CaloforgeError
from ..options import Positive
from .base import Transform


class Log(Transform):
    """y = log(1 + x / scale): equal steps for equal ratios above ``scale``, linear below; zero stays zero.

    Args:
        scale: in the unit of x (MeV for raw energies).
    """

    name = "log"
    keeps_zeros = True

    def __init__(self, scale: Positive = 1.0) -> None:
        super().__init__(scale=scale)
        self.scale = scale

    def _fit(self, x: Tensor, incident_energy: Tensor) -> None:
        self._require_range(x, 0.0)

    def _forward(self, x: Tensor, incident_energy: Tensor) -> Tensor:
        return torch.log1p(x / self.scale)

    def _inverse(self, y: Tensor, incident_energy: Tensor) -> Tensor:
        return self.scale * torch.expm1(y.clamp(max=60.0))


class Logit(Transform):
    """y = log(u / (1 - u)) with u = delta + (1 - 2 delta) x, for x in [0, 1] (CaloFlow, arXiv 2106.05285, eq. 9).

    Zero maps to logit(delta): not to zero.

    Args:
        delta: keeps y finite at 0 and 1.
    """

    name = "logit"

    def __init__(self, delta: Positive = 1e-6) -> None:
        super().__init__(delta=delta)
        if delta >= 0.5:
            raise CaloforgeError(f"logit's delta is {delta:g}; it must lie between 0 and 0.5, e.g. 1e-6.")
        self.delta = delta

    def _fit(self, x: Tensor, incident_energy: Tensor) -> None:
        self._require_range(x, 0.0, 1.0)

    def _forward(self, x: Tensor, incident_energy: Tensor) -> Tensor:
        span = 1 - 2 * self.delta
        # 1 - u is built from 1 - x, not from u: u near one would lose delta in float32.
        return torch.log(self.delta + span * x) - torch.log(self.delta + span * (1 - x))

    def _inverse(self, y: Tensor, incident_energy: Tensor) -> Tensor:
        return ((torch.sigmoid(y) - self.delta) / (1 - 2 * self.delta)).clamp(0, 1)


class BoxCox(Transform):
    """y = ((1 + x / offset)^lambda - 1) / lambda (Box and Cox 1964, shifted); zero stays zero.

    The shift by ``offset`` makes zeros harmless, and lambda -> 0 is `Log` with that scale. LHCb's transform
    (arXiv 1812.01319, section 3.3).

    Args:
        offset: in the unit of x.
        exponent: lambda; if not given it is fitted by maximum likelihood to the non-zero values (zeros only say how
            many there are).
    """

    name = "box-cox"
    keeps_zeros = True

    def __init__(self, offset: Positive = 1.0, exponent: float | None = None) -> None:
        super().__init__(offset=offset, exponent=exponent)
        self.offset = offset
        self.exponent: Tensor
        self.register_buffer("exponent", torch.empty(0) if exponent is None else torch.tensor([exponent]))

    def _fit(self, x: Tensor, incident_energy: Tensor) -> None:
        self._require_range(x, 0.0)
        if self.options["exponent"] is None:
            self.exponent = torch.tensor([self._most_likely(x)], device=x.device)

    def _most_likely(self, x: Tensor) -> float:
        values = x[x > 0].double()
        if len(values) < 2 or float(values.std()) == 0:
            raise CaloforgeError(
                "box-cox cannot be fitted: the sample holds fewer than two different energies above 0."
            )
        log_u = torch.log1p(values[:: max(1, len(values) // 1_000_000)] / self.offset)

        def minus_log_likelihood(power: float) -> float:
            y = log_u if abs(power) < 1e-6 else torch.expm1(power * log_u) / power
            return float(0.5 * y.var().log() - (power - 1) * log_u.mean())

        return float(optimize.minimize_scalar(minus_log_likelihood, bounds=(-2.0, 2.0), method="bounded").x)

    def _forward(self, x: Tensor, incident_energy: Tensor) -> Tensor:
        log_u = torch.log1p(x / self.offset)
        zero, power = self._power()
        return torch.where(zero, log_u, torch.expm1(power * log_u) / power)

    def _inverse(self, y: Tensor, incident_energy: Tensor) -> Tensor:
        zero, power = self._power()
        # For lambda < 0, y approaches -1 / lambda however large x: beyond it there is no inverse.
        log_u = torch.where(zero, y, torch.log1p((power * y).clamp(min=-1 + 1e-7)) / power)
        return self.offset * torch.expm1(log_u.clamp(max=60.0))

    def _power(self) -> tuple[Tensor, Tensor]:
        """Whether lambda is as good as zero, and a lambda to divide by; as tensors, so that it can be exported."""
        zero = self.exponent.abs() < 1e-6
        return zero, torch.where(zero, torch.ones_like(self.exponent), self.exponent)
