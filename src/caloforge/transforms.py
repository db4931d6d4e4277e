"""Invertible maps between MeV and what a network likes to see, for voxel energies and for conditions.

Every transform is an `nn.Module` whose fitted state lies in buffers, so that it travels in a state dict, and whose
options rebuild it: ``build_transform(transform.config)``. Transforms act on showers (B, L, Y, X), or (B, n_voxels) if
layers differ, and on conditions (B, C) alike; ``incident_energy`` (B,) in MeV is passed to all, because some need it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, final

import torch
from scipy import optimize
from torch import Tensor, nn

from .errors import CaloforgeError, lookup
from .options import NotNegative, Positive, checked_options


class Transform(nn.Module, ABC):
    """Base of all transforms.

    A transform with fitted state raises if it is used before `fit`: a normaliser that silently does nothing is
    worse than an error. Its buffers are empty until then.
    """

    name: ClassVar[str]
    keeps_zeros: ClassVar[bool] = False
    """Whether `inverse` takes each value by itself, wherever it stands, and zero to zero."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    @property
    def by_value(self) -> bool:
        """Whether `inverse` may be given only the values that are not zero."""
        return self.keeps_zeros

    @property
    def config(self) -> list[dict[str, Any]]:
        """What `build_transform` needs to make the same transform, unfitted."""
        return [{"name": self.name, **self.options}]

    @property
    def fitted(self) -> bool:
        """Whether all fitted state is there."""
        return all(buffer.numel() > 0 for buffer in self.buffers())

    @final
    def fit(self, x: Tensor, incident_energy: Tensor) -> Self:
        """Fit the state to a sample, e.g. a few thousand showers of the training data.

        Args:
            x: showers (B, L, Y, X) or conditions (B, C).
            incident_energy: (B,) in MeV.

        Raises:
            CaloforgeError: if the sample is empty, not finite, or outside what the transform can map.
        """
        if not len(x) or not torch.isfinite(x).all():
            raise CaloforgeError(
                f"transform '{self.name}' cannot be fitted to a sample of {len(x)} rows that is empty or holds NaN or "
                "infinite values; give a clean sample, or transforms before this one that keep it finite."
            )
        self._fit(x.detach(), incident_energy)
        return self

    def forward(self, x: Tensor, incident_energy: Tensor) -> Tensor:
        """Map ``x`` to the network's space, same shape."""
        self._require_fitted()
        return self._forward(x, incident_energy)

    @final
    def inverse(self, y: Tensor, incident_energy: Tensor) -> Tensor:
        """Map back; any finite ``y``, as a network may give, is allowed."""
        self._require_fitted()
        return self._inverse(y, incident_energy)

    def _fit(self, x: Tensor, incident_energy: Tensor) -> None:
        """Nothing to fit unless a transform says otherwise."""

    @abstractmethod
    def _forward(self, x: Tensor, incident_energy: Tensor) -> Tensor: ...

    @abstractmethod
    def _inverse(self, y: Tensor, incident_energy: Tensor) -> Tensor: ...

    def _require_fitted(self) -> None:
        if not self.fitted:
            raise CaloforgeError(
                f"transform '{self.name}' is not fitted; call fit(x, incident_energy) before using it."
            )

    def _require_range(self, x: Tensor, low: float, high: float = float("inf")) -> None:
        if float(x.min()) < low or float(x.max()) > high:
            raise CaloforgeError(
                f"transform '{self.name}' was given values from {float(x.min()):.4g} to {float(x.max()):.4g}, it maps "
                f"{low:g} to {high:g}; put another transform before it or leave it out."
            )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # Unfitted buffers are empty: take the shape of what is loaded.
        for name, buffer in list(self.named_buffers(recurse=False)):
            given = state_dict.get(prefix + name)
            if isinstance(given, Tensor) and given.shape != buffer.shape:
                setattr(self, name, torch.empty_like(given, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """The options, for `repr`."""
        return ", ".join(f"{k}={v!r}" for k, v in self.options.items())


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


class Compose(Transform):
    """Transforms one after the other; the inverse runs through them backwards. An empty list changes nothing."""

    name = "compose"

    def __init__(self, parts: Sequence[Transform] = ()) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    @property
    def config(self) -> list[dict[str, Any]]:
        """What `build_transform` needs to make the same transform, unfitted."""
        return [entry for part in self for entry in part.config]

    @property
    def by_value(self) -> bool:
        """Whether all parts' are."""
        return all(part.by_value for part in self)

    def __iter__(self) -> Any:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def _fit(self, x: Tensor, incident_energy: Tensor) -> None:
        for part in self:
            x = part.fit(x, incident_energy)(x, incident_energy)

    def _forward(self, x: Tensor, incident_energy: Tensor) -> Tensor:
        for part in self:
            x = part(x, incident_energy)
        return x

    def _inverse(self, y: Tensor, incident_energy: Tensor) -> Tensor:
        for part in reversed(self.parts):
            assert isinstance(part, Transform)
            y = part.inverse(y, incident_energy)
        return y


TRANSFORMS: dict[str, type[Transform]] = {
    t.name: t for t in (Log, Logit, BoxCox, Standardise, Scale, PerIncidentEnergy, PerFastMaximum, Threshold, Clamp)
}
"""All transforms by the name used in configs."""


def build_transform(config: Sequence[Mapping[str, Any]]) -> Compose:
    """Build a chain of transforms from plain data.

    Args:
        config: one mapping a transform: its ``name`` and its options, e.g.
            ``[{"name": "per-incident-energy"}, {"name": "log", "scale": 1e-5}]``.

    Raises:
        CaloforgeError: if a name or an option is unknown or a value is not allowed.
    """
    parts = []
    for entry in config:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
            raise CaloforgeError(
                f"a transform is given as {str(entry)[:80]!r}; give a table with its name and options, "
                'e.g. {name = "log", scale = 1.0}.'
            )
        kind = lookup(TRANSFORMS, entry["name"], "a transform")
        given = {k: v for k, v in entry.items() if k != "name"}
        parts.append(kind(**checked_options(kind, given, f"transform '{entry['name']}'")))
    return Compose(parts)
