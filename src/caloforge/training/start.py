"""Weights of a trained model that a training begins with, instead of random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoint import Checkpoint
from ..checkpoint_file import checkpoint_digest, generation_state
from ..errors import CaloforgeError
from ..image_checkpoint import ImageCheckpoint
from ..models import GenerativeModel
from ..transforms import Compose, build_transform
from .settings import TrainConfig


@dataclass(frozen=True)
class Start:
    """A trained model to go on from.

    Attributes:
        path: of its checkpoint, or ``zoo:NAME``.
        checkpoint: of showers or of images.
        digest: SHA-256 of the file.
    """

    path: str | Path
    checkpoint: Checkpoint | ImageCheckpoint
    digest: str

    @classmethod
    def open(cls, path: str | Path, config: TrainConfig, images: bool) -> Start:
        """Read a checkpoint for a training of showers, or of images.

        Raises:
            CaloforgeError: if it is none, or of another model, other transforms or conditions than the configuration's.
        """
        checkpoint = (ImageCheckpoint if images else Checkpoint).load(path)
        start = cls(path, checkpoint, checkpoint_digest(path))
        start._same("model.name", checkpoint.model_name, config.model.name)
        wanted = build_transform(config.transform_options)
        start._same("transform", start.transform.config, wanted.config)
        if isinstance(checkpoint, Checkpoint):
            start._same("data.conditions", list(checkpoint.conditions), list(config.data.conditions))
        return start

    @property
    def transform(self) -> Compose:
        """Of showers or images, as it was fitted for the model."""
        found = self.checkpoint
        return found.transform if isinstance(found, ImageCheckpoint) else found.shower_transform

    @property
    def condition_transform(self) -> Compose | None:
        """Of conditions, as it was fitted for a model of showers."""
        return self.checkpoint.condition_transform if isinstance(self.checkpoint, Checkpoint) else None

    def give(self, model: GenerativeModel, anew: Sequence[str] = ()) -> None:
        """Give a new model the weights; what only training uses, such as a critic, stays as it is.

        Args:
            model: gets them.
            anew: parts that stay as they are too, and need not fit.

        Raises:
            CaloforgeError: if they do not fit.
        """
        own, wanted = generation_state(self.checkpoint.model), generation_state(model)
        for part in anew:
            inside = [name for name in wanted if name == part or name.startswith(part + ".")]
            if not inside:
                raise CaloforgeError(
                    f"the model has no part '{part}' that could begin anew; give training.anew the beginning of a "
                    f"name such as '{next(iter(wanted))}'."
                )
            own, wanted = ({n: x for n, x in state.items() if n not in inside} for state in (own, wanted))
        for name in sorted(own.keys() | wanted.keys()):
            shapes = [tuple(state[name].shape) if name in state else None for state in (own, wanted)]
            if shapes[0] != shapes[1]:
                raise CaloforgeError(
                    f"'{name}' of '{self.path}' has shape {shapes[0]}, the configuration's and the data's needs "
                    f"{shapes[1]}; give the configuration that the checkpoint was trained with, and data of the same "
                    "shape."
                )
        model.load_state_dict(own, strict=False)

    def _same(self, key: str, own: Any, wanted: Any) -> None:
        if own != wanted:
            raise CaloforgeError(
                f"'{self.path}' was trained with {key} = {own}, the configuration has {wanted}; give the one it was "
                "trained with, or another checkpoint."
            )
