"""WGAN-GP with an energy constrainer for high-granularity showers.

Buhmann, Diefenbacher, Eren, Gaede, Kasieczka, Korol, Krüger, "Getting High: High Fidelity Simulation of High
Granularity Calorimeters with High Speed", arXiv 2005.05334, section 3.2. Gradient penalty: arXiv 1704.00028.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from ..options import Count, NotNegative
from .base import Batch, GenerativeModel, Objective
from .blocks import (
    ACTIVATIONS,
    Activation,
    Sizes,
    axes,
    centre_crop,
    convolved,
    mlp,
    normal_weights,
    require_image,
    thin_transposed,
    three,
)
from .losses import wasserstein_generator_loss, weighted_mean, wgan_gp_critic_loss
from .phases import Transposed3d


class Generator(nn.Module):
    """Noise and conditions, each through a transposed convolution, then doubled in size three times."""

    def __init__(
        self, shape: Sizes, n_conditions: int, latent: int, width: int, activation: type[nn.Module] = nn.ReLU
    ) -> None:
        super().__init__()
        self.shape = shape
        # An axis of one voxel stays one; the others start at 1/8 of their size, two voxels more for the last cut.
        base = three(1 if n == 1 else -(-(n + 2) // 8) for n in shape)
        self.from_condition = nn.ConvTranspose3d(n_conditions, 4 * width, base, bias=False)
        self.from_noise = nn.ConvTranspose3d(latent, 4 * width, base, bias=False)
        kernel, stride, padding = axes(shape, 4, 1), axes(shape, 2, 1), axes(shape, 1, 0)
        parts: list[nn.Module] = []
        size = base
        for n_in, n_out in pairwise([8 * width, 4 * width, 2 * width, width]):
            size = three(n * s for n, s in zip(size, stride, strict=True))
            parts += [
                Transposed3d(n_in, n_out, kernel, stride, padding, bias=False),
                nn.LayerNorm(size),
                activation(),
            ]
        self.up = nn.Sequential(*parts)
        self.last = nn.ConvTranspose3d(width, 1, axes(shape, 3, 1), 1, axes(shape, 2, 0), bias=False)

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """(B, Z), (B, C) -> raw values (B, L, Y, X)."""
        seed = [of_one_voxel(self.from_condition, condition), of_one_voxel(self.from_noise, latent)]
        x = self.up(torch.cat(seed, dim=1))
        if not (torch.is_grad_enabled() or torch.compiler.is_compiling()):
            return thin_transposed(x, self.last, self.shape)
        x = self.last(x)  # (B, 1, >= L, >= Y, >= X)
        return centre_crop(x.squeeze(1), self.shape)


def of_one_voxel(layer: nn.ConvTranspose3d, x: Tensor) -> Tensor:
    """A transposed convolution of an image of one voxel, (B, C) -> (B, C', *kernel): a matrix product, and as fast."""
    return (x @ layer.weight.flatten(1)).reshape(-1, *layer.weight.shape[1:])


class Critic(nn.Module):
    """Four convolutions, long in depth and strided across, then dense layers that also see the conditions."""

    def __init__(self, shape: Sizes, n_conditions: int, width: int, hidden: Sequence[int]) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        size = shape
        widths = [1, width, 2 * width, 4 * width, 1]
        for i, (depth, across, padding) in enumerate([(10, 2, 1), (6, 2, 0), (4, 2, 0), (4, 1, 0)]):
            pad = three([0, *(padding if n > 1 else 0 for n in size[1:])])
            kernel = three(min(k, n + 2 * p) for k, n, p in zip((depth, 2, 2), size, pad, strict=True))
            stride = (1, across, across)
            size = three(convolved(*each) for each in zip(size, kernel, stride, pad, strict=True))
            parts.append(nn.Conv3d(widths[i], widths[i + 1], kernel, stride, pad, bias=False))
            if i < 3:
                parts += [nn.LayerNorm(size), nn.LeakyReLU(0.2)]
        self.convolutions = nn.Sequential(*parts)
        self.score = mlp([size[0] * size[1] * size[2] + n_conditions, *hidden, 1])

    def forward(self, showers: Tensor, condition: Tensor) -> Tensor:
        """(B, L, Y, X), (B, C) -> scores (B, 1)."""
        features = self.convolutions(showers.unsqueeze(1)).flatten(1)
        score: Tensor = self.score(torch.cat([features, condition], dim=1))
        return score


class Constrainer(nn.Module):
    """Reads the conditions off a shower."""

    def __init__(self, shape: Sizes, n_conditions: int, width: int, hidden: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        size = shape
        widths = [1, width, 2 * width, width]
        for i, (k, s) in enumerate([(3, 2), (3, 2), (2, 1)]):
            kernel = three(min(k, n) for n in size)
            size = three(convolved(n, m, s, 0) for n, m in zip(size, kernel, strict=True))
            parts.append(nn.Conv3d(widths[i], widths[i + 1], kernel, s, bias=False))
            parts += [nn.LayerNorm(size), nn.LeakyReLU(0.2)] if i < 2 else [nn.LeakyReLU(0.2)]
        n_features = width * size[0] * size[1] * size[2]
        self.layers = nn.Sequential(*parts, nn.Flatten(), *mlp([n_features, hidden, n_conditions]))

    def forward(self, showers: Tensor) -> Tensor:
        """(B, L, Y, X) -> conditions (B, C)."""
        condition: Tensor = self.layers(showers.unsqueeze(1))
        return condition


class Wgan(GenerativeModel):
    """3D energy-conditioned WGAN-GP with a constrainer (arXiv 2005.05334, section 3.2).

    Phase 1 trains the constrainer a on Geant4 to read the conditions y off a shower. Phase 2 alternates
    ``L_critic = E[D(fake)] - E[D(real)] + lambda E[(|grad D| - 1)^2]`` and
    ``L_generator = -E[D(fake)] + kappa E[(y - a(fake))^2]``.

    The networks are those published with the paper (for 30^3 voxels, one condition and the default widths they have
    the same number of parameters); other shapes keep kernels and strides, and an axis of a single voxel makes the
    convolutions two-dimensional. Differences: noise is standard normal by default instead of uniform in -1..1
    (``noise="uniform"`` gives the original), and the constrainer minimises the squared instead of the absolute error.

    Zeros: the last ReLU makes exact zeros, so the transform must map zero to zero (per-incident-energy, scale, log,
    box-cox, or standardise with ``centre = false``).

    Trap: layer normalisation sees the whole shower, so faint and bright showers reach the layers after it alike; the
    energy scale of the output comes from the conditions' own transposed convolution.

    Args:
        shape: (L, Y, X).
        n_conditions: C; the paper has one, the energy.
        latent: length Z of the noise.
        noise: "normal" or "uniform" in -1..1.
        generator_width: channels at full size; 2, 4 and 8 times as many at each halving.
        critic_width: channels of the critic's first convolution; doubled twice.
        critic_hidden: widths of its dense layers.
        constrainer_width: channels of the constrainer's first convolution.
        constrainer_hidden: width of its dense layer.
        gradient_penalty: lambda.
        kappa: weight of the constrainer's term.
        critic_steps: critic steps per generator step.
        activation: of the generator: "relu", the paper's, or "silu" (x sigmoid(x)), with which likelihood learns much
            faster.
    """

    def __init__(
        self,
        shape: tuple[Count, ...],
        n_conditions: Count,
        latent: Count = 100,
        noise: Literal["normal", "uniform"] = "normal",
        generator_width: Count = 32,
        critic_width: Count = 32,
        critic_hidden: tuple[Count, ...] = (100, 200, 100, 75),
        constrainer_width: Count = 16,
        constrainer_hidden: Count = 100,
        gradient_penalty: NotNegative = 5.0,
        kappa: NotNegative = 0.01,
        critic_steps: Count = 5,
        activation: Activation = "relu",
    ) -> None:
        super().__init__(
            shape,
            n_conditions,
            latent=latent,
            noise=noise,
            generator_width=generator_width,
            critic_width=critic_width,
            critic_hidden=critic_hidden,
            constrainer_width=constrainer_width,
            constrainer_hidden=constrainer_hidden,
            gradient_penalty=gradient_penalty,
            kappa=kappa,
            critic_steps=critic_steps,
            activation=activation,
        )
        sizes = require_image(shape, "wgan")
        self.latent_size = latent
        self.generator = Generator(sizes, n_conditions, latent, generator_width, ACTIVATIONS[activation])
        self.critic = Critic(sizes, n_conditions, critic_width, critic_hidden)
        self.constrainer = Constrainer(sizes, n_conditions, constrainer_width, constrainer_hidden)
        normal_weights(self.generator)

    def phases(self) -> Sequence[Sequence[Objective]]:
        """Constrainer first; then critic and generator."""
        return [
            [Objective("constrainer", [self.constrainer], self._constrainer_loss)],
            [
                Objective("critic", [self.critic], self._critic_loss, self.config["critic_steps"]),
                Objective("generator", [self.generator], self._generator_loss),
            ],
        ]

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Map latent (N, Z) and condition (N, C) to showers (N, L, Y, X) in transformed space."""
        own, noise = self.split_latent(latent)
        return self.head(self.generator(own, condition), condition, noise)

    def draw_latent(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        """Draw noise (n, Z), normal or uniform."""
        if self.config["noise"] == "normal":
            return super().draw_latent(n, rng)
        device = rng.device if rng is not None else torch.device("cpu")
        return 2 * torch.rand(n, self.latent_size, generator=rng, device=device) - 1

    def latent_of(self, normal: Tensor) -> Tensor:
        """Noise (n, Z), normal or uniform, from standard normal numbers (n, Z)."""
        if self.config["noise"] == "normal":
            return super().latent_of(normal)
        uniform: Tensor = 2 * torch.special.ndtr(normal) - 1
        return uniform

    def generation_modules(self) -> Sequence[nn.Module]:
        """The generator."""
        return [self.generator]

    def _constrainer_loss(self, batch: Batch) -> Tensor:
        return weighted_mean((self.constrainer(batch.showers) - batch.condition).square(), batch.weight)

    def _critic_loss(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            fake = self.sample(batch.condition, batch.rng)
        return wgan_gp_critic_loss(
            lambda x: self.critic(x, batch.condition),
            batch.showers,
            fake,
            self.config["gradient_penalty"],
            batch.rng,
            batch.weight,
        )

    def _generator_loss(self, batch: Batch) -> Tensor:
        fake = self.sample(batch.condition, batch.rng)
        missed = weighted_mean((self.constrainer(fake) - batch.condition).square(), batch.weight)
        score = self.critic(fake, batch.condition)
        kappa: float = self.config["kappa"]
        return wasserstein_generator_loss(score, batch.weight) + kappa * missed
