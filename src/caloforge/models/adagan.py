"""AdaGAN: a mixture of models, each trained on what the ones before it miss.

Tolstikhin, Gelly, Bousquet, Simon-Gabriel, Schölkopf, "AdaGAN: Boosting Generative Models", arXiv 1701.02386; for
calorimeter showers: Jaruskova, Vallecorsa, "Ensemble Models for Calorimeter Simulations" (2024). The boosting itself is
in `caloforge.training.adagan`; this is the mixture it ends in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from ..errors import CaloforgeError
from ..options import Count
from ..sparse import offsets, places_of
from .base import DrawHits, GenerativeModel, Hits, NoiseOfShowers, Objective
from .component import Layers, build_component

Shares = tuple[Annotated[float, Field(gt=0, le=1)], ...]


class Adagan(GenerativeModel):
    """A mixture of components of one kind (arXiv 1701.02386).

    A shower is made in two steps: the last latent number, uniform in 0..1, picks the component by the mixture's
    weights; the rest of the latent is that component's noise.

    ``caloforge train`` boosts: component after component, each on the showers that the mixture so far makes too seldom.
    The phases given here train all components one after the other on the same showers: a bagged ensemble, no boosting.

    Zeros: those of the components.

    Trap: a mixture cannot take back what a component does wrong: one bad component spoils its share of the showers.

    Args:
        shape: (L, Y, X), or (n_voxels,) with ``layers``.
        n_conditions: C.
        component: name of the components' model.
        options: its options.
        shares: the weight of each component, sum one; their number is the number of components.
        layers: (Y, X) of every layer, where they differ.
    """

    takes_layers: ClassVar[bool] = True
    depth: ClassVar[int] = 2

    def __init__(
        self,
        shape: tuple[Count, ...],
        n_conditions: Count,
        component: str,
        options: dict[str, Any] | None = None,
        shares: Shares = (1.0,),
        layers: Layers | None = None,
    ) -> None:
        super().__init__(
            shape,
            n_conditions,
            component=component,
            options=dict(options or {}),
            shares=shares,
            layers=layers,
        )
        if not shares or abs(sum(shares) - 1) > 1e-6:
            raise CaloforgeError(f"adagan's shares {list(shares)} do not sum to one; give one share a component.")
        parts = [build_component(component, shape, n_conditions, layers, options or {}, self.depth) for _ in shares]
        self.components = nn.ModuleList(parts)
        self.latent_size = parts[0].latent_size + 1
        self.voxel_noise = parts[0].voxel_noise

    @property
    def parts(self) -> list[GenerativeModel]:
        """The components."""
        return [part for part in self.components if isinstance(part, GenerativeModel)]

    def phases(self) -> Sequence[Sequence[Objective]]:
        """The phases of all components, one component after the other."""
        return [
            [replace(objective, name=f"{objective.name}_{i}") for objective in phase]
            for i, part in enumerate(self.parts)
            for phase in part.phases()
        ]

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Map latent (N, Z) and condition (N, C) to showers (N, *shape) in transformed space."""
        noise, which = latent[:, :-1], self._picked(latent[:, -1])
        if torch.compiler.is_exporting():  # a fixed graph: every component makes every shower, one is taken
            made = torch.stack([part(noise, condition) for part in self.parts], dim=1)
            return made[torch.arange(made.shape[0], device=made.device), which]
        showers = noise.new_empty((len(latent), *self.shape))
        for i, part in enumerate(self.parts):
            rows = torch.nonzero(which == i).flatten()
            if len(rows):
                showers[rows] = part(noise[rows], condition[rows])
        return showers

    def _picked(self, pick: Tensor) -> Tensor:
        """Numbers of the components that uniform numbers (N,) pick."""
        edges = pick.new_tensor(list(accumulate(self.config["shares"]))[:-1])
        return (pick.unsqueeze(1) >= edges).sum(1)

    def draw_latent(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        """Draw a component's noise and the number that picks the component."""
        noise = self.parts[0].draw_latent(n, rng)
        return torch.cat([noise, torch.rand(n, 1, generator=rng, device=noise.device)], dim=1)

    def latent_of(self, normal: Tensor) -> Tensor:
        """A component's noise and the number that picks the component, from standard normal numbers (n, Z)."""
        noise = self.parts[0].latent_of(normal[:, :-1])
        return torch.cat([noise, torch.special.ndtr(normal[:, -1:])], dim=1)

    def draw_own_latent(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        """The same without the noise of single voxels."""
        noise = self.parts[0].draw_own_latent(n, rng)
        return torch.cat([noise, torch.rand(n, 1, generator=rng, device=noise.device)], dim=1)

    def join_latent(self, own: Tensor, noise: Tensor) -> Tensor:
        """The component's latent and the number that picks it."""
        return torch.cat([self.parts[0].join_latent(own[:, :-1], noise), own[:, -1:]], dim=1)

    @property
    def sparse(self) -> bool:
        """Whether the components are."""
        return all(part.sparse for part in self.parts)

    @torch.inference_mode()
    def hits(self, own: Tensor, condition: Tensor, noise: NoiseOfShowers) -> Hits:
        """The showers of `forward` without their empty voxels, see the base class."""
        return self._hits_by([part.hits for part in self.parts], own, condition, noise)

    def compiled_hits(self) -> DrawHits:
        """`hits` in compiled loops, see the base class."""
        return partial(self._hits_by, [part.compiled_hits() for part in self.parts])

    def _hits_by(self, draws: Sequence[DrawHits], own: Tensor, condition: Tensor, noise: NoiseOfShowers) -> Hits:
        which = self._picked(own[:, -1])
        every = noise(slice(0, len(own)))
        found, numbers = [], []
        for i, draw in enumerate(draws):
            rows = torch.nonzero(which == i).flatten()
            if len(rows):
                found.append(draw(own[rows, :-1], condition[rows], every[rows].__getitem__))
                numbers.append(rows.numpy())
        return _in_order(found, np.concatenate(numbers))

    def generation_modules(self) -> Sequence[nn.Module]:
        """What the components need."""
        return [module for part in self.parts for module in part.generation_modules()]


def _in_order(parts: Sequence[Hits], numbers: npt.NDArray[np.int64]) -> Hits:
    """Hits of showers made in parts, the showers put in the order of their numbers."""
    counts, voxel, energy = (np.concatenate(each) for each in zip(*parts, strict=True))
    order = np.argsort(numbers)
    _, place = places_of(offsets(counts), order)
    return Hits(counts[order], voxel[place], energy[place])
