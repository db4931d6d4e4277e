"""What models that turn one image into another share: the pair's shape, and the conditional GAN around a generator.

Isola, Zhu, Zhou, Efros, "Image-to-Image Translation with Conditional Adversarial Networks", arXiv 1611.07004.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CaloforgeError
from .base import Batch, GenerativeModel, Objective
from .losses import label_loss, weighted_mean


def require_pair(shape: Sequence[int], n_conditions: int, multiple: int, model: str) -> tuple[int, int]:
    """Return (Y, X) of images of ``shape`` (1, Y, X) whose condition is an image of the same shape.

    Args:
        shape: of an image.
        n_conditions: numbers in the condition.
        multiple: of which Y and X must be.
        model: its name, for messages.

    Raises:
        CaloforgeError: if the model cannot work on such images.
    """
    if len(shape) != 3 or shape[0] != 1 or any(n < 1 or n % multiple for n in shape[1:]):
        raise CaloforgeError(
            f"model '{model}' needs images of shape (1, y, x) with y and x multiples of {multiple}, not "
            f"{tuple(shape)}; choose another model or other images."
        )
    if n_conditions != math.prod(shape):
        raise CaloforgeError(
            f"model '{model}' turns an image into an image: 'n_conditions' is {n_conditions} where the condition must "
            f"be an image of {math.prod(shape)} towers; train it with --like FAST."
        )
    return shape[1], shape[2]


class PairedGan(GenerativeModel):
    """A generator and a discriminator that takes patches for real or not, with an L1 term (arXiv 1611.07004, eq. 4).

    A subclass sets ``generator``, ``discriminator`` and ``conditional``, and says in `raw` what the networks give.
    """

    paired = True
    generator: nn.Module
    discriminator: nn.Module
    conditional: bool

    def __init__(self, shape: Sequence[int], n_conditions: int, weight_l1: float, **config: Any) -> None:
        super().__init__(shape, n_conditions, weight_l1=weight_l1, **config)
        self.weight_l1 = weight_l1

    @abstractmethod
    def raw(self, latent: Tensor, fast: Tensor) -> Tensor:
        """Latent (N, Z), fast image (N, 1, Y, X) -> image (N, 1, Y, X), which may be negative."""

    def phases(self) -> Sequence[Sequence[Objective]]:
        """Discriminator and generator in turn."""
        return [
            [
                Objective("discriminator", [self.discriminator], self._discriminator_loss),
                Objective("generator", [self.generator], self._generator_loss),
            ]
        ]

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Map latent (N, Z) and fast images (N, Y X) to images (N, 1, Y, X) in transformed space."""
        own, noise = self.split_latent(latent)
        return self.head(self.raw(own, self.image(condition)), condition, noise)

    def image(self, condition: Tensor) -> Tensor:
        """The fast image (N, 1, Y, X) in a condition (N, Y X)."""
        return condition.reshape(-1, *self.shape)

    def generation_modules(self) -> Sequence[nn.Module]:
        """The generator."""
        return [self.generator]

    def _score(self, image: Tensor, fast: Tensor) -> Tensor:
        """Logits (B, 1, y, x) of an image's patches, seen beside the fast image if ``conditional``."""
        logit: Tensor = self.discriminator(torch.cat([fast, image], dim=1) if self.conditional else image)
        return logit

    def _fake(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """A generated and its fast image (B, 1, Y, X)."""
        if len(batch) < 2:
            raise CaloforgeError(
                "batches of a single image cannot be normalised; make them larger, e.g. --set training.batch_size=64."
            )
        fast = self.image(batch.condition)
        return self.raw(self.draw_latent(len(batch), batch.rng).to(fast), fast), fast

    def _discriminator_loss(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            fake, fast = self._fake(batch)
        real, false = self._score(batch.showers, fast), self._score(fake, fast)
        # Halved, so that the discriminator learns slowly beside the generator (arXiv 1611.07004, section 3.3).
        return 0.5 * (
            label_loss(real, torch.ones_like(real), batch.weight)
            + label_loss(false, torch.zeros_like(false), batch.weight)
        )

    def _generator_loss(self, batch: Batch) -> Tensor:
        fake, fast = self._fake(batch)
        score = self._score(fake, fast)
        missed = weighted_mean((fake - batch.showers).abs(), batch.weight)
        return label_loss(score, torch.ones_like(score), batch.weight) + self.weight_l1 * missed
