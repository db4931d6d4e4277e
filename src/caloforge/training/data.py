"""From a shower file to what training sees: reading, checks, the split, and fitted transforms."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import torch

from .. import __version__
from ..checkpoint import Checkpoint, domain_of
from ..detectors import Detector
from ..errors import CaloforgeError, CaloforgeWarning, lookup
from ..incident import CONDITIONS
from ..models import MODELS, GenerativeModel, build_model
from ..shower_file import ShowerFile
from ..showers import ShowerDataset, Showers
from ..transforms import Compose, build_transform
from .batches import Rows, ShowerSource
from .boosting import resample
from .settings import TrainConfig
from .start import Start

_FIT_VOXELS = 1 << 26  # dense voxels to which the transforms are fitted at most: 256 MB
_BYTES_A_HIT = 8  # voxel number and energy
_BYTES_A_SHOWER = 128  # incident particle, conditions, offset


@dataclass(frozen=True)
class TrainingData:
    """Showers split in two, and transforms fitted to the first part.

    Attributes:
        dataset: all showers.
        training: which of them are trained on.
        validation: which are kept apart.
        shower_transform: MeV to the model's space.
        condition_transform: conditions with mean zero and standard deviation one.
    """

    dataset: ShowerDataset
    training: Rows
    validation: Rows
    shower_transform: Compose
    condition_transform: Compose

    @classmethod
    def prepare(
        cls, showers: Showers, config: TrainConfig, split_seed: int | None = None, start: Start | None = None
    ) -> TrainingData:
        """Check, split, fit unless a model to start from was; the split's seed is the training's if not given."""
        _check(showers, config)
        seed = config.training.seed if split_seed is None else split_seed
        training, validation = split(len(showers), config.data.validation, seed)
        dataset = ShowerDataset(showers, config.data.conditions)
        if start and start.condition_transform is not None:
            return cls(dataset, training, validation, start.transform, start.condition_transform)
        n_fit = max(1, min(len(training), _FIT_VOXELS // showers.detector.n_voxels))
        sample = training[np.linspace(0, len(training) - 1, n_fit).astype(np.int64)]
        voxels, condition, energy = dataset.batch(sample)
        shower_transform = build_transform(config.transform_options)
        condition_transform = build_transform([{"name": "standardise", "per": "layer"}])
        shower_transform.fit(voxels, energy)
        condition_transform.fit(condition, energy)
        return cls(dataset, training, validation, shower_transform, condition_transform)

    def weighted(self, weights: npt.NDArray[np.float64], seed: int) -> TrainingData:
        """The same, with training showers as often as their weights (N,) ask for; the transforms stay."""
        rows = resample(weights, len(self.training), np.random.default_rng(seed))
        return replace(self, training=self.training[rows])

    def sources(self, device: torch.device) -> tuple[ShowerSource, ShowerSource | None]:
        """Where batches of training and of validation showers come from; the transforms move to ``device``."""
        transforms = self.shower_transform.to(device), self.condition_transform.to(device)
        training = ShowerSource(self.dataset, *transforms, device, self.training)
        validation = ShowerSource(self.dataset, *transforms, device, self.validation) if len(self.validation) else None
        return training, validation

    def content_hash(self) -> str:
        """Equal for equal showers."""
        return self.dataset.showers.content_hash()

    def model(self, config: TrainConfig) -> GenerativeModel:
        """A new model for these showers."""
        options = {"seed": config.training.seed, **config.model.options}
        return model_for(self.dataset.showers.detector, config.model.name, len(config.data.conditions), options)

    def checkpoint(
        self, model: GenerativeModel, config: TrainConfig, identity: Mapping[str, Any], iterations: int
    ) -> Checkpoint:
        """A trained model on the CPU with all that generation needs."""
        showers = self.dataset.showers
        return Checkpoint(
            model=model,
            model_name=config.model.name,
            model_config=model.config,
            shower_transform=self.shower_transform.cpu(),
            condition_transform=self.condition_transform.cpu(),
            conditions=list(config.data.conditions),
            detector=showers.detector,
            domain=domain_of(showers.incident[self.training]),
            provenance=training_provenance(identity, iterations)
            | {
                "data": {
                    "content_hash": identity["data"],
                    "showers": len(self.training),
                    "provenance": showers.provenance,
                }
            },
        )


def training_provenance(identity: Mapping[str, Any], iterations: int) -> dict[str, Any]:
    """What a checkpoint says of how it was made, without the data."""
    told = {
        "made_by": f"caloforge {__version__}, torch {torch.__version__}",
        "config": identity["config"],
        "iterations": iterations,
    }
    return told | ({"start": identity["start"]} if "start" in identity else {})


def split(n: int, validation: float, seed: int) -> tuple[Rows, Rows]:
    """Which of n showers are trained on and which kept apart, drawn from a seed.

    Raises:
        CaloforgeError: if none is left to train on.
    """
    order = np.random.default_rng(seed).permutation(n)
    n_validation = round(validation * n)
    if n_validation >= n:
        raise CaloforgeError(f"{n} showers are too few to train on; give at least one batch.")
    return np.sort(order[n_validation:]), np.sort(order[:n_validation])


def model_for(detector: Detector, name: str, n_conditions: int, options: Mapping[str, Any]) -> GenerativeModel:
    """A new model for a detector's showers, told of its layers if it wants to know.

    Raises:
        CaloforgeError: if the model or an option is unknown, or the detector does not suit it.
    """
    given = dict(options)
    if lookup(MODELS, name, "a model").takes_layers:
        given["layers"] = [list(grid.shape) for grid in detector.grids]
    return build_model(name, detector.shape, n_conditions, **given)


def read_showers(data: str | Path | Showers | Sequence[str | Path], limit: int | None) -> Showers:
    """The showers to train on, those of several files one file after the other, at most ``limit``, held sparse.

    Raises:
        CaloforgeError: if a file is not valid, they are of different detectors, or larger than the memory that is free.
    """
    if isinstance(data, Showers):
        return data if limit is None else data[:limit]
    parts: list[Showers] = []
    for path in [data] if isinstance(data, (str, Path)) else data:
        with ShowerFile(path) as file:
            n = len(file) if limit is None else min(limit - sum(map(len, parts)), len(file))
            _check_memory(Path(path), n, _free_memory())
            parts.append(file.read(0, n))
    return parts[0] if len(parts) == 1 else Showers.concatenate(parts)


def _check_memory(path: Path, n: int, free: int) -> None:
    """Raise unless the first ``n`` showers fit: twice, because reading copies."""
    with h5py.File(path, "r") as file:
        hits = int(file["voxels/offset"][n])
    needed = 2 * (hits * _BYTES_A_HIT + n * _BYTES_A_SHOWER)
    if needed > free:
        raise CaloforgeError(
            f"the {n} showers of '{path}' need {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free; "
            f"train on fewer, e.g. --set data.max_showers={max(1, n * free // needed)}."
        )


def _free_memory() -> int:
    """Bytes of memory that are free; very many where the system does not say."""
    try:
        with Path("/proc/meminfo").open() as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 1 << 62


def _check(showers: Showers, config: TrainConfig) -> None:
    """Raise or warn about showers that a model cannot learn much from."""
    check_number(len(showers), "showers", config)
    if not config.data.conditions:
        raise CaloforgeError(
            f"data.conditions is empty; name what the model is told of a shower, from: {', '.join(CONDITIONS)}."
        )
    if not len(showers.energy):
        raise CaloforgeError("all showers are empty: no voxel has energy; check how they were simulated.")
    for transform in config.transform:
        # A flat shower has no axis of layers: the transform would take each voxel for one.
        per_layer = transform.name == "standardise" and transform.options.get("per", "layer") == "layer"
        if per_layer and len(showers.detector.shape) == 1:
            raise CaloforgeError(
                f"transform 'standardise' cannot work per layer on '{showers.detector.name}', whose layers are "
                'segmented differently; give it per = "all" or per = "voxel".'
            )
    for name in config.data.conditions:
        column = showers.incident.column(name)
        if not np.isfinite(column).all():
            raise CaloforgeError(f"condition '{name}' is not finite for all showers; leave it out of data.conditions.")
        if np.ptp(column) <= 1e-6 * np.abs(column).max():
            _warn(f"condition '{name}' is {column[0]:g} for all showers: the model cannot learn what it changes.")
    kinds = np.unique(showers.incident.pdg)
    if len(kinds) > 1:
        _warn(
            f"the showers are of {len(kinds)} kinds of particles (PDG {', '.join(map(str, kinds))}): no condition "
            "tells the model which is which, it will mix them."
        )


def check_number(n: int, what: str, config: TrainConfig) -> None:
    """Raise unless n showers or pairs fill a batch of every phase."""
    needed = max(phase.batch_size or config.training.batch_size for phase in config.training.phases)
    if n * (1 - config.data.validation) < needed:
        raise CaloforgeError(
            f"{n} {what} are too few for batches of {needed}"
            f"{' and validation' if config.data.validation else ''}; simulate more or make batches smaller, "
            "e.g. --set training.batch_size=32."
        )


def _warn(message: str) -> None:
    warnings.warn(message, CaloforgeWarning, stacklevel=4)
