"""The contract of every generative model: networks, objectives, and a deterministic map from noise to showers.

A model knows nothing of MeV, files, optimisers or devices: transforms, the sampler and the training engine do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Head = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Makes voxel energies of a network's raw output (N, ...), the condition (N, C), and noise of its own (N, H)."""


NoiseOfShowers = Callable[[slice], Tensor]
"""Gives standard normal noise of single voxels (n, voxels) of some of the showers asked for."""


class Hits(NamedTuple):
    """Voxels hit in N showers, by shower and, within, by voxel.

    Attributes:
        counts: hits of each shower (N,).
        voxel: flat number of each (H,).
        energy: of each (H,).
    """

    counts: npt.NDArray[np.int64]
    voxel: npt.NDArray[np.int64]
    energy: npt.NDArray[np.float32]


DrawHits = Callable[[Tensor, Tensor, NoiseOfShowers], Hits]
"""`GenerativeModel.hits` of a model, by whatever means."""


def relu_head(raw: Tensor, condition: Tensor, noise: Tensor) -> Tensor:
    """Negative values become exact zeros: empty voxels."""
    return F.relu(raw)


@dataclass(frozen=True)
class Batch:
    """What an objective sees of the data.

    Attributes:
        showers: transformed voxel energies (B, L, Y, X).
        condition: transformed conditions (B, C).
        rng: the only source of randomness for losses; its state is part of a training checkpoint.
        weight: importance of each shower (B,), mean one; all ones unless showers are weighted (AdaGAN).
    """

    showers: Tensor
    condition: Tensor
    rng: torch.Generator
    weight: Tensor

    def __len__(self) -> int:
        return len(self.showers)


@dataclass(frozen=True)
class Objective:
    """One loss, the modules it may move, and how often it is stepped in one iteration.

    Each of its steps sees a new batch. Parameters outside ``modules`` are frozen while it runs.
    """

    name: str
    modules: Sequence[nn.Module]
    loss: Callable[[Batch], Tensor]
    steps: int = 1


class GenerativeModel(nn.Module, ABC):
    """Base of all models.

    Args of every subclass: ``shape`` (L, Y, X) of a shower, ``n_conditions``, then its own hyper-parameters as
    keywords; these arguments, stored as ``config``, rebuild the model from a checkpoint.

    Attributes:
        takes_layers: whether the class takes the keyword ``layers``, the (Y, X) of each calorimeter layer, for
            detectors whose layers are segmented differently; ``shape`` is then (sum of Y X,).
        paired: whether the class maps an image to an image: the condition (N, L Y X) is then an image of the same
            shape, flattened, such as a fast simulation's of the same event.
        takes_eta: whether the class takes the keyword ``row_eta``, the pseudorapidities of an image's rows.
        light: whether its network costs so little that calling it does.
        depth: of the class: 0 for a model of its own, higher for one around others, whose depth must be lower.
        latent_size: Z.
        latent_scale: standard deviation of the latent numbers; a small one lets a network first learn what does not
            depend on them.
        head: the last step of `forward`, from raw values to voxel energies. A model around this one
            (`LayerEnergy`) puts its own in its place.
        head_noise: H, how many standard normal numbers the head wants, after the Z in the latent of `forward`.
        voxel_noise: how many of the Z latent numbers are standard normal noise of single voxels, nearly all of them:
            `own_size` is the number of the others. A sampler may draw both apart and join them by `join_latent`.
        sparse: whether `hits` makes the showers of `forward` without their empty voxels.
    """

    takes_layers: ClassVar[bool] = False
    paired: ClassVar[bool] = False
    takes_eta: ClassVar[bool] = False
    light: ClassVar[bool] = False
    depth: ClassVar[int] = 0
    latent_size: int

    def __init__(self, shape: Sequence[int], n_conditions: int, **config: Any) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.n_conditions = n_conditions
        self.config: dict[str, Any] = _listed({"shape": shape, "n_conditions": n_conditions, **config})
        self.head: Head = relu_head
        self.head_noise = 0
        self.latent_scale = 1.0
        self.voxel_noise = 0

    @property
    def own_size(self) -> int:
        """Latent numbers that are not noise of single voxels."""
        return self.latent_size - self.voxel_noise

    @property
    def sparse(self) -> bool:
        """Whether there is `hits`."""
        return False

    @abstractmethod
    def phases(self) -> Sequence[Sequence[Objective]]:
        """Training phases in order; the objectives of one phase alternate within each iteration."""

    @abstractmethod
    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Map latent (N, Z) and condition (N, C) to showers (N, L, Y, X) in transformed space, deterministically."""

    def generation_modules(self) -> Sequence[nn.Module]:
        """The modules `forward` uses: averaged by EMA and all that a checkpoint for generation must hold."""
        return [self]

    def draw_latent(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        """Draw latent noise (n, Z): normal unless a model says otherwise.

        It is drawn on the device of ``rng``, so that a seed gives the same showers wherever the model runs.
        """
        device = rng.device if rng is not None else torch.device("cpu")
        return self.latent_scale * torch.randn(n, self.latent_size, generator=rng, device=device)

    def latent_of(self, normal: Tensor) -> Tensor:
        """Latent noise (n, Z), distributed as `draw_latent` draws it, from standard normal numbers (n, Z).

        For whoever has a source of normal numbers only, as a program that runs an exported model.
        """
        return self.latent_scale * normal

    def draw_own_latent(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        """Draw latent numbers (n, `own_size`): all but the noise of single voxels."""
        return self.draw_latent(n, rng)

    def join_latent(self, own: Tensor, noise: Tensor) -> Tensor:
        """The latent (n, Z) of `forward` of its two parts (n, `own_size`) and (n, `voxel_noise`)."""
        return torch.cat([own, noise], dim=1)

    def hits(self, own: Tensor, condition: Tensor, noise: NoiseOfShowers) -> Hits:
        """The showers of `forward`, in transformed space, without their empty voxels; on a CPU, without gradients.

        Args:
            own: latent numbers (N, `own_size`) but for the noise of single voxels.
            condition: (N, C).
            noise: gives that of the showers asked for.
        """
        raise NotImplementedError(f"{type(self).__name__} is not sparse")

    def compiled_hits(self) -> DrawHits:
        """`hits` in loops that Numba compiles, with the weights as they are now: the same showers up to rounding.

        Raises:
            CaloforgeError: if Numba is not installed.
        """
        raise NotImplementedError(f"{type(self).__name__} is not sparse")

    @final
    def draw_head_noise(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        """Draw the head's noise (n, H)."""
        device = rng.device if rng is not None else torch.device("cpu")
        return torch.randn(n, self.head_noise, generator=rng, device=device)

    @final
    def split_latent(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """The networks' part (N, Z) and the head's (N, H) of a latent (N, Z + H)."""
        return latent[:, : self.latent_size], latent[:, self.latent_size :]

    @final
    def sample(self, condition: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """Draw showers (N, L, Y, X) in transformed space for conditions (N, C)."""
        n = len(condition)
        latent = torch.cat([self.draw_latent(n, rng), self.draw_head_noise(n, rng)], dim=1).to(condition.device)
        showers: Tensor = self(latent, condition)
        return showers

    def extra_repr(self) -> str:
        """Shape and options, for `repr`."""
        return ", ".join(f"{k}={v}" for k, v in self.config.items())


def _listed(value: Any) -> Any:
    """The same with lists in place of tuples, as JSON gives it back."""
    if isinstance(value, dict):
        return {key: _listed(each) for key, each in value.items()}
    return [_listed(each) for each in value] if isinstance(value, (tuple, list)) else value
