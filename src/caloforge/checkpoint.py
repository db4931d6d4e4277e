"""The checkpoint: all that is needed to generate, in one safetensors file that describes itself.

Training writes it, generation reads it; nothing else passes between them. It holds the weights of the generation
modules (critics stay behind), fitted transforms, model name and config, conditions, detector, the domain of the
training data and provenance: plain tensors and JSON, no pickle, so that a file from a stranger cannot run code.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .detectors import Detector
from .errors import CaloforgeError
from .incident import CONDITIONS, Incident
from .models import GenerativeModel, build_model
from .output import UnfinishedFile
from .transforms import Compose, build_transform
from .zoo import find_checkpoint

FORMAT: Literal["caloforge-checkpoint"] = "caloforge-checkpoint"
FORMAT_VERSION = 1
MAX_PARAMETERS = 2_000_000_000
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
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self._tensors().items()}
        _check_finite(tensors, "the model to save")
        if not (self.shower_transform.fitted and self.condition_transform.fitted):
            raise CaloforgeError("the transforms of the checkpoint are not fitted; fit them before saving.")
        header = Header(
            format=FORMAT,
            version=FORMAT_VERSION,
            model_name=self.model_name,
            model_options=self.model_config,
            shower_transform=self.shower_transform.config,
            condition_transform=self.condition_transform.config,
            conditions=self.conditions,
            detector=self.detector.to_toml(),
            domain=Domain.model_validate(self.domain),
            provenance=self.provenance,
        )
        _write(Path(path), tensors, {"caloforge": header.model_dump_json()})

    @classmethod
    def load(cls, path: str | Path) -> Checkpoint:
        """Read a checkpoint, given by its path or as ``zoo:NAME``, and check it: a file that loads can generate.

        Raises:
            CaloforgeError: if it is not a whole and valid checkpoint.
        """
        header, tensors = _read(find_checkpoint(path))
        try:
            return cls._build(header, tensors)
        except CaloforgeError as error:
            raise CaloforgeError(f"'{path}' is not a usable checkpoint: {error}") from None
        except (RuntimeError, ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError) as error:
            raise _damaged(path, str(error)) from None

    def __repr__(self) -> str:
        return f"Checkpoint('{self.model_name}', '{self.detector.name}', conditions={self.conditions})"

    @classmethod
    def _build(cls, header: Header, tensors: dict[str, Tensor]) -> Self:
        detector = Detector.from_toml(header.detector, "its detector")
        for name in header.conditions:
            if name not in CONDITIONS:
                raise CaloforgeError(f"it needs the condition '{name}', which this caloforge does not know; upgrade.")
        _check_finite(tensors, "it")
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
        checkpoint._load_tensors(tensors)
        checkpoint._try_out()
        return checkpoint

    def _tensors(self) -> dict[str, Tensor]:
        """Everything the file holds, by name."""
        return {
            **{f"model.{k}": v for k, v in generation_state(self.model).items()},
            **{f"shower_transform.{k}": v for k, v in self.shower_transform.state_dict().items()},
            **{f"condition_transform.{k}": v for k, v in self.condition_transform.state_dict().items()},
        }

    def _load_tensors(self, tensors: dict[str, Tensor]) -> None:
        expected = self._tensors()
        missing, unknown = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
        if missing or unknown:
            lacks = f"lacks '{missing[0]}'" if missing else f"holds '{unknown[0]}', which its model has not"
            raise CaloforgeError(f"it {lacks}; save it again from the training that made it.")
        for name, tensor in tensors.items():
            wanted = expected[name]
            if name.startswith("model.") and (tensor.shape != wanted.shape or tensor.dtype != wanted.dtype):
                raise CaloforgeError(
                    f"'{name}' is {tuple(tensor.shape)} {tensor.dtype} but its model needs {tuple(wanted.shape)} "
                    f"{wanted.dtype}; save it again from the training that made it."
                )
        parts = {"model": self.model, "shower_transform": self.shower_transform}
        parts["condition_transform"] = self.condition_transform
        for prefix, module in parts.items():
            own = {k.removeprefix(f"{prefix}."): v for k, v in tensors.items() if k.startswith(f"{prefix}.")}
            module.load_state_dict(own, strict=module is not self.model)

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


def generation_state(model: GenerativeModel) -> dict[str, Tensor]:
    """The part of ``model.state_dict()`` that belongs to its generation modules."""
    wanted = {id(module) for module in model.generation_modules()}
    prefixes = [name for name, module in model.named_modules() if id(module) in wanted]
    return {
        key: value
        for key, value in model.state_dict().items()
        if any(not prefix or key.startswith(prefix + ".") for prefix in prefixes)
    }


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
    """Build the networks without memory first: a small file must not be able to ask for a huge model."""
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
    with torch.device("meta"):
        sketch = build_model(header.model_name, **options)
    size = sum(p.numel() for p in sketch.state_dict().values())
    if size > MAX_PARAMETERS:
        raise CaloforgeError(f"its model would have {size:.3g} parameters; at most {MAX_PARAMETERS:.3g} are allowed.")


def _check_finite(tensors: dict[str, Tensor], what: str) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CaloforgeError(f"{what} holds NaN or infinite values in '{name}'; train it again with a lower rate.")


def _read(path: Path) -> tuple[Header, dict[str, Tensor]]:
    if not path.is_file():
        raise CaloforgeError(f"checkpoint '{path}' does not exist; give the path of a checkpoint file.")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get("caloforge")
            tensors = {name: file.get_tensor(name) for name in file.keys()} if text else {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise CaloforgeError(
            f"'{path}' is truncated or not a safetensors file ({_short(error)}); copy it again or give another."
        ) from None
    if text is None:
        raise CaloforgeError(
            f"'{path}' is a safetensors file but not a caloforge checkpoint; give one made by `caloforge train`."
        )
    try:
        plain = json.loads(text)
        version = plain.get("version") if isinstance(plain, dict) and plain.get("format") == FORMAT else None
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise CaloforgeError(
                f"'{path}' has format version {version}, this caloforge reads up to {FORMAT_VERSION}; "
                "upgrade caloforge."
            )
        return Header.model_validate(plain), tensors
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise _damaged(path, f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise _damaged(path, str(error)) from None


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    with UnfinishedFile(path, overwrite=True) as temporary:
        try:
            save_file(tensors, temporary, metadata)
        except (SafetensorError, OSError) as error:
            raise CaloforgeError(
                f"'{path}' cannot be written ({_short(error)}); make room or give another place."
            ) from None


def _short(error: object) -> str:
    return " ".join(str(error).split())[:120]


def _damaged(path: str | Path, why: str) -> CaloforgeError:
    return CaloforgeError(f"'{path}' is damaged ({_short(why)}); save it again from the training that made it.")
