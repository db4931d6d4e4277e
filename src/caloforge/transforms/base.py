"""What every transform is, and a chain of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from ..errors import CaloforgeError


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
        self._ready = False  # known to be fitted: it cannot come undone, and asking all buffers each time takes long

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
        self._ready = self._ready or self.fitted
        if not self._ready:
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
