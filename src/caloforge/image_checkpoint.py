"""The checkpoint of a model that turns fast images of events into full ones: see `checkpoint_file` for the file."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from .checkpoint_file import (
    FORMAT,
    VERSIONS,
    check_finite,
    check_parameters,
    load_state,
    read_checkpoint,
    usable,
    write_checkpoint,
)
from .errors import CaloforgeError
from .jets import EtaPhiGrid, Images
from .models import MODELS, GenerativeModel, build_model
from .transforms import Compose, build_transform
from .zoo import find_checkpoint

Range = tuple[float, float]


class ImageDomain(BaseModel):
    """What the training data covered: processes, [lowest, highest] sum of a fast image's towers in MeV."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    processes: list[str]
    fast_energy: Range


class ImageHeader(BaseModel):
    """What stands in the file's metadata, as JSON under the key ``caloforge``."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    format: Literal["caloforge-checkpoint"]
    version: Annotated[int, Field(ge=1)]
    kind: Literal["images"]
    model_name: str
    model_options: dict[str, Any]
    transform: list[dict[str, Any]]
    grid: str
    domain: ImageDomain
    provenance: dict[str, Any]


@dataclass(repr=False)
class ImageCheckpoint:
    """A trained model with all it needs to turn fast images into full ones.

    Attributes:
        model: on the CPU, in evaluation mode after `load`.
        model_name: its key in `MODELS`.
        model_config: ``model.config``.
        transform: fitted; MeV to the model's space, of fast and of full images alike, with the largest tower of the
            fast image as an event's scale.
        grid: whose towers the images have.
        domain: what the training data held.
        provenance: what made it.
    """

    model: GenerativeModel
    model_name: str
    model_config: dict[str, Any]
    transform: Compose
    grid: EtaPhiGrid
    domain: ImageDomain
    provenance: dict[str, Any] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write the file; it appears under its name only when it is whole, replacing an older one.

        Raises:
            CaloforgeError: if a weight is not finite, the transform is not fitted, or the place cannot be written.
        """
        if not self.transform.fitted:
            raise CaloforgeError("the transform of the checkpoint is not fitted; fit it before saving.")
        header = ImageHeader(
            format=FORMAT,
            version=VERSIONS["images"],
            kind="images",
            model_name=self.model_name,
            model_options=self.model_config,
            transform=self.transform.config,
            grid=self.grid.to_json(),
            domain=self.domain,
            provenance=self.provenance,
        )
        write_checkpoint(Path(path), self._parts, header)

    @classmethod
    def load(cls, path: str | Path) -> ImageCheckpoint:
        """Read a checkpoint, given by its path or as ``zoo:NAME``, and check it: a file that loads can generate.

        Raises:
            CaloforgeError: if it is not a whole and valid checkpoint of a model of images.
        """
        header, tensors = read_checkpoint(find_checkpoint(path), "images", ImageHeader)
        with usable(path):
            return cls._build(header, tensors)

    def __repr__(self) -> str:
        return f"ImageCheckpoint('{self.model_name}', {self.grid.describe()})"

    @classmethod
    def _build(cls, header: ImageHeader, tensors: dict[str, Tensor]) -> Self:
        grid = EtaPhiGrid.from_json(header.grid, "it")
        shape = header.model_options.get("shape")
        if shape != [1, *grid.shape] or header.model_options.get("n_conditions") != math.prod(grid.shape):
            raise CaloforgeError(f"its model makes images of shape {shape}, its grid has {grid.describe()}.")
        if header.model_name in MODELS and not MODELS[header.model_name].paired:
            raise CaloforgeError(f"its model '{header.model_name}' does not turn images into images.")
        check_finite(tensors, "it")
        check_parameters(header.model_name, header.model_options)
        checkpoint = cls(
            model=build_model(header.model_name, **header.model_options).eval(),
            model_name=header.model_name,
            model_config=header.model_options,
            transform=build_transform(header.transform),
            grid=grid,
            domain=header.domain,
            provenance=header.provenance,
        )
        load_state(checkpoint._parts, tensors)
        checkpoint._try_out()
        return checkpoint

    @property
    def _parts(self) -> dict[str, nn.Module]:
        """Everything the file holds, by name."""
        return {"model": self.model, "transform": self.transform}

    @torch.no_grad()
    def _try_out(self) -> None:
        """Run one image through everything: shapes that do not fit show here, not in the middle of a production."""
        scale = torch.ones(1)
        fast = self.transform(torch.ones(1, 1, *self.grid.shape), scale).flatten(1)
        latent = self.model.draw_latent(1, torch.Generator().manual_seed(0))
        towers = self.transform.inverse(self.model(latent, fast), scale)
        if towers.numel() != self.grid.n_towers:
            raise CaloforgeError(f"it gives {towers.numel()} towers where its grid has {self.grid.n_towers}.")


def image_domain(fast: Images, processes: tuple[str, ...]) -> ImageDomain:
    """What fast images cover."""
    energy = fast.total_energy
    return ImageDomain(processes=list(processes), fast_energy=(float(energy.min()), float(energy.max())))


def outside_images(domain: ImageDomain, fast: Images) -> list[str]:
    """Say in what respect fast images lie outside a domain; empty if they do not."""
    low, high = domain.fast_energy
    energy = fast.total_energy
    found = []
    if fast.process and any(domain.processes) and fast.process not in domain.processes:
        found.append(f"events of '{fast.process}' where it was trained on {', '.join(domain.processes)}")
    if len(energy) and np.quantile(energy, 0.99) > high:
        found.append(f"energies up to {energy.max():.4g} MeV where it was trained on {low:.4g} to {high:.4g}")
    return found
