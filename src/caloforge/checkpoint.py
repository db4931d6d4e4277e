"""The checkpoint: all that is needed to generate, in one safetensors file that describes itself.

Training writes it, generation reads it; nothing else passes between them. It holds the weights of the generation
modules (critics stay behind), fitted transforms, model name and config, conditions, detector, the domain of the
training data and provenance: plain tensors and JSON, no pickle, so that a file from a stranger cannot run code.
"""

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
    generation_state,
    load_state,
    read_checkpoint,
    usable,
    write_checkpoint,
)
from .detectors import Detector
from .errors import CaloforgeError
from .incident import CONDITIONS, Incident
from .models import GenerativeModel, build_model
from .transforms import Compose, build_transform
from .zoo import find_checkpoint

__all__ = ["Checkpoint", "Domain", "Header", "domain_of", "generation_state", "outside"]

DOMAIN_RANGES = ("energy", "x", "y", "tan_x", "tan_y")


class Domain(BaseModel):
    """What the training data covered: PDG codes and [lowest, highest] of each quantity."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    pdg: list[int]
    energy: tuple[float, float]
    x: tuple[float, float]
    y: tuple[float, float]
    tan_x: tuple[float, float]
    tan_y: tuple[float, float]


class Header(BaseModel):
    """What stands in the file's metadata, as JSON under the key ``caloforge``."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    format: Literal["caloforge-checkpoint"]
    version: Annotated[int, Field(ge=1)]
    model_name: str
    model_options: dict[str, Any]
    shower_transform: list[dict[str, Any]]
    condition_transform: list[dict[str, Any]]
    conditions: list[str]
    detector: str
    domain: Domain
    provenance: dict[str, Any]


@dataclass(repr=False)
class Checkpoint:
    """A trained model with all it needs to generate showers.

    Attributes:
        model: on the CPU, in evaluation mode after `load`; its generation modules hold the (EMA) weights. Modules
            that only training uses are not in the file: after `load` they are freshly initialised.
        model_name: its key in `MODELS`.
        model_config: ``model.config``.
        shower_transform: fitted, MeV (B, *shape) to the model's space.
        condition_transform: fitted, conditions (B, C) to the model's.
        conditions: names of the conditions (keys of `CONDITIONS`), in order.
        detector: whose showers it makes.
        domain: what the training data held, from `domain_of`.
        provenance: what made it.
    """

    model: GenerativeModel
    model_name: str
    model_config: dict[str, Any]
    shower_transform: Compose
    condition_transform: Compose
    conditions: list[str]
    detector: Detector
    domain: dict[str, list[Any]]
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def model_names(self) -> list[str]:
        """The model's name and, if it is made of others, theirs from the outside in."""
        names, config = [self.model_name], self.model_config
        while config.get("component"):
            names.append(config["component"])
            config = config["options"]
        return names

    def save(self, path: str | Path) -> None:
        """Write the file; it appears under its name only when it is whole, replacing an older one.

        Raises:
            CaloforgeError: if a weight is not finite, a transform is not fitted, or the place cannot be written.
        """
        if not (self.shower_transform.fitted and self.condition_transform.fitted):
            raise CaloforgeError("the transforms of the checkpoint are not fitted; fit them before saving.")
        header = Header(
            format=FORMAT,
            version=VERSIONS["showers"],
            model_name=self.model_name,
            model_options=self.model_config,
            shower_transform=self.shower_transform.config,
            condition_transform=self.condition_transform.config,
            conditions=self.conditions,
            detector=self.detector.to_toml(),
            domain=Domain.model_validate(self.domain),
            provenance=self.provenance,
        )
        write_checkpoint(Path(path), self._parts, header)

    @classmethod
    def load(cls, path: str | Path) -> Checkpoint:
        """Read a checkpoint, given by its path or as ``zoo:NAME``, and check it: a file that loads can generate.

        Raises:
            CaloforgeError: if it is not a whole and valid checkpoint.
        """
        header, tensors = read_checkpoint(find_checkpoint(path), "showers", Header)
        with usable(path):
            return cls._build(header, tensors)

    def __repr__(self) -> str:
        return f"Checkpoint('{self.model_name}', '{self.detector.name}', conditions={self.conditions})"

    @classmethod
    def _build(cls, header: Header, tensors: dict[str, Tensor]) -> Self:
        detector = Detector.from_toml(header.detector, "its detector")
        for name in header.conditions:
            if name not in CONDITIONS:
                raise CaloforgeError(f"it needs the condition '{name}', which this caloforge does not know; upgrade.")
        check_finite(tensors, "it")
        _check_size(header, detector)
        checkpoint = cls(
            model=build_model(header.model_name, **header.model_options).eval(),
            model_name=header.model_name,
            model_config=header.model_options,
            shower_transform=build_transform(header.shower_transform),
            condition_transform=build_transform(header.condition_transform),
            conditions=header.conditions,
            detector=detector,
            domain=header.domain.model_dump(mode="json"),
            provenance=header.provenance,
        )
        load_state(checkpoint._parts, tensors)
        checkpoint._try_out()
        return checkpoint

    @property
    def _parts(self) -> dict[str, nn.Module]:
        """Everything the file holds, by name."""
        return {
            "model": self.model,
            "shower_transform": self.shower_transform,
            "condition_transform": self.condition_transform,
        }

    @torch.no_grad()
    def _try_out(self) -> None:
        """Run one shower through everything: shapes that do not fit show here, not in the middle of a production."""
        energy = torch.tensor([float(np.mean(self.domain["energy"]))])
        condition = self.condition_transform(torch.ones(1, len(self.conditions)), energy)
        latent = self.model.draw_latent(1, torch.Generator().manual_seed(0))
        voxels = self.shower_transform.inverse(self.model(latent, condition), energy)
        if condition.shape != (1, len(self.conditions)) or voxels.numel() != self.detector.n_voxels:
            raise CaloforgeError(
                f"its transforms give {tuple(condition.shape)} conditions and {voxels.numel()} voxels where "
                f"{(1, len(self.conditions))} and {self.detector.n_voxels} are needed; train it again."
            )


def domain_of(incident: Incident) -> dict[str, list[Any]]:
    """What a sample of incident particles covers: its PDG codes, and [lowest, highest] energy (MeV), x, y (mm) and
    tangents of the angles.
    """  # noqa: D205
    ranges = {name: incident.column(name) for name in DOMAIN_RANGES}
    domain: dict[str, list[Any]] = {"pdg": np.unique(incident.pdg).tolist()}
    return domain | {name: [float(values.min()), float(values.max())] for name, values in ranges.items()}


def outside(domain: dict[str, list[Any]], incident: Incident) -> list[str]:
    """Say in what respect incident particles lie outside a domain; empty if they do not."""
    found = []
    strange = sorted(set(np.unique(incident.pdg).tolist()) - set(domain["pdg"]))
    if strange:
        found.append(f"particles {strange} where it was trained on {domain['pdg']}")
    for name in DOMAIN_RANGES:
        low, high = domain[name]
        values = incident.column(name)
        # The outermost of a few hundred training showers lie a few per cent inside the beam they were drawn from.
        slack = 0.05 * (high - low) + 1e-6 * max(abs(low), abs(high), 1e-3)
        if len(values) and (values.min() < low - slack or values.max() > high + slack):
            given = f"{values.min():.4g} to {values.max():.4g}"
            found.append(f"{name} {given} where it was trained on {low:.4g} to {high:.4g}")
    return found


def _check_size(header: Header, detector: Detector) -> None:
    """See that the networks fit the detector and are of a size that can be."""
    options = header.model_options
    shape = options.get("shape")
    if (
        not isinstance(shape, list)
        or not all(isinstance(n, int) for n in shape)
        or math.prod(shape) != detector.n_voxels
    ):
        raise CaloforgeError(
            f"its model makes showers of shape {shape}, its detector '{detector.name}' has {detector.n_voxels} voxels."
        )
    if options.get("n_conditions") != len(header.conditions):
        raise CaloforgeError(
            f"its model takes {options.get('n_conditions')} conditions, it names {len(header.conditions)}."
        )
    check_parameters(header.model_name, options)
