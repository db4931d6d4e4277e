"""From image files to what the training of a model of pairs sees: checks, the split, and fitted transforms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..errors import CaloforgeError
from ..image_checkpoint import ImageCheckpoint, image_domain
from ..jets.pairs import Pairs
from ..models import MODELS, GenerativeModel, build_model
from ..transforms import Compose, build_transform
from .batches import Rows, ShowerSource
from .data import check_number, split, training_provenance
from .settings import TrainConfig
from .start import Start

_FIT_IMAGES = 4096  # to which the transforms are fitted at most


@dataclass(frozen=True)
class PairData:
    """Pairs of images split in two, and transforms fitted to the first part.

    Attributes:
        pairs: all of them.
        training: which of them are trained on.
        validation: which are kept apart.
        transform: MeV to the model's space, of fast and full images alike.
    """

    pairs: Pairs
    training: Rows
    validation: Rows
    transform: Compose

    @classmethod
    def prepare(cls, pairs: Pairs, config: TrainConfig, start: Start | None = None) -> PairData:
        """Check, split, fit to the full images unless the model to start from has been.

        Raises:
            CaloforgeError: if the pairs are too few or empty, or the configuration is one for showers.
        """
        check_number(len(pairs), "image pairs", config)
        if config.data.conditions:
            raise CaloforgeError(
                f"data.conditions names {', '.join(config.data.conditions)}, but the condition of model "
                f"'{config.model.name}' is the fast image; leave data.conditions out."
            )
        # An image seen in training beside one fast image is not unseen beside another.
        images, image = np.unique(pairs.image, return_inverse=True)
        if not np.diff(pairs.full.rows.offset)[images].any() or not len(pairs.fast.rows.energy):
            raise CaloforgeError("all images of one side are empty: no tower has energy; check how they were made.")
        parts = split(len(images), config.data.validation, config.training.seed)
        training, validation = (np.flatnonzero(np.isin(image, part)) for part in parts)
        if start:
            return cls(pairs, training, validation, start.transform)
        some = training[np.linspace(0, len(training) - 1, min(len(training), _FIT_IMAGES)).astype(np.int64)]
        full, _, scale = pairs.batch(some)
        transform = build_transform(config.transform_options)
        transform.fit(full, scale)
        return cls(pairs, training, validation, transform)

    def content_hash(self) -> str:
        """Equal for equal pairs."""
        return self.pairs.content

    def sources(self, device: torch.device) -> tuple[ShowerSource, ShowerSource | None]:
        """Where batches of training and of validation pairs come from; the transform moves to ``device``."""
        transform = self.transform.to(device)
        training = ShowerSource(self.pairs, transform, transform, device, self.training)
        validation = ShowerSource(self.pairs, transform, transform, device, self.validation)
        return training, validation if len(self.validation) else None

    def model(self, config: TrainConfig) -> GenerativeModel:
        """A new model for these images."""
        grid = self.pairs.full.grid
        options = {"seed": config.training.seed, **config.model.options}
        if config.model.name in MODELS and MODELS[config.model.name].takes_eta:
            options = {"row_eta": np.round(grid.eta, 4).tolist(), **options}
        return build_model(config.model.name, (1, *grid.shape), grid.n_towers, **options)

    def checkpoint(
        self, model: GenerativeModel, config: TrainConfig, identity: Mapping[str, Any], iterations: int
    ) -> ImageCheckpoint:
        """A trained model on the CPU with all that generation needs."""
        return ImageCheckpoint(
            model=model,
            model_name=config.model.name,
            model_config=model.config,
            transform=self.transform.cpu(),
            grid=self.pairs.full.grid,
            domain=image_domain(self.pairs.fast[self.training], self.pairs.processes),
            provenance=training_provenance(identity, iterations)
            | {
                "data": {
                    "content_hash": identity["data"],
                    "pairs": len(self.training),
                    "provenance": {"full": self.pairs.full.provenance, "fast": self.pairs.fast.provenance},
                }
            },
        )
