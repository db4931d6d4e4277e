"""The LHCb model: a conditional WGAN-GP with a pretrained regressor.

Chekalina, Orlova, Ratnikov, Ulyanov, Ustyuzhanin, Zakharov, "Generative Models for Fast Calorimeter Simulation: the
LHCb case", arXiv 1812.01319. Gradient penalty: arXiv 1704.00028.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..options import Count, NotNegative
from .base import Batch, GenerativeModel, Head, Objective, relu_head
from .blocks import ACTIVATIONS, Activation, centre_crop, he_weights, mlp, random_features, require_image
from .losses import wasserstein_generator_loss, weighted_mean, wgan_gp_critic_loss

Channels = Annotated[tuple[Count, ...], Field(min_length=2, max_length=8)]

HEADS: dict[str, Head] = {
    "relu": relu_head,
    "softplus": lambda raw, condition, noise: F.softplus(raw),
    "linear": lambda raw, condition, noise: raw,
}
"""What may follow the last convolution."""


class Generator(nn.Module):
    """Dense layer to a small image, doubled in size until it covers the shower; layers are the last channels."""

    def __init__(
        self, shape: tuple[int, int, int], n_inputs: int, channels: Sequence[int], activation: type[nn.Module] = nn.ReLU
    ) -> None:
        super().__init__()
        self.shape = shape
        shrink = 2 ** (len(channels) - 1)
        self.base = (channels[0], -(-shape[1] // shrink), -(-shape[2] // shrink))
        self.dense = nn.Linear(n_inputs, self.base[0] * self.base[1] * self.base[2])
        parts: list[nn.Module] = [activation()]
        for n_in, n_out in pairwise(channels):
            parts += [nn.ConvTranspose2d(n_in, n_out, 4, stride=2, padding=1), activation()]
        self.up = nn.Sequential(*parts, nn.Conv2d(channels[-1], shape[0], 3, padding=1))

    def start_alive(self) -> None:
        """Begin with a faint haze everywhere: a last ReLU that begins at zero passes no gradient."""
        last = self.up[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.fill_(0.1)

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """(B, Z), (B, C) -> raw values (B, L, Y, X)."""
        x = self.dense(torch.cat([latent, condition], dim=1)).unflatten(1, self.base)  # (B, 256, 4, 4)
        return centre_crop(self.up(x), self.shape[1:])  # (B, L, 32, 32) -> (B, L, 30, 30)


class Trunk(nn.Module):
    """The generator mirrored: the convolutions that critic and regressor both consist of."""

    def __init__(self, shape: tuple[int, int, int], channels: Sequence[int]) -> None:
        super().__init__()
        halvings = len(channels) - 1
        size = [-(-n // 2**halvings) for n in shape[1:]]
        # Pad the image to the size the generator is cropped from.
        over = [n * 2**halvings - m for n, m in zip(size, shape[1:], strict=True)]
        self.padding = (over[1] // 2, over[1] - over[1] // 2, over[0] // 2, over[0] - over[0] // 2)
        parts: list[nn.Module] = [nn.Conv2d(shape[0], channels[-1], 3, padding=1), nn.LeakyReLU(0.2)]
        for n_in, n_out in pairwise(reversed(channels)):
            parts += [nn.Conv2d(n_in, n_out, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*parts, nn.Flatten())
        self.n_features = channels[0] * size[0] * size[1]

    def forward(self, showers: Tensor) -> Tensor:
        """(B, L, Y, X) -> features (B, F)."""
        features: Tensor = self.layers(F.pad(showers, self.padding))
        return features


class Regressor(nn.Module):
    """Reads the conditions off a shower; gives its hidden features too."""

    def __init__(self, shape: tuple[int, int, int], n_conditions: int, channels: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.trunk = Trunk(shape, channels)
        self.hidden = nn.Sequential(nn.Linear(self.trunk.n_features, hidden), nn.LeakyReLU(0.2))
        self.read = nn.Linear(hidden, n_conditions)

    def forward(self, showers: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L, Y, X) -> conditions (B, C), features (B, H)."""
        features = self.hidden(self.trunk(showers))
        return self.read(features), features


class Critic(nn.Module):
    """Scores a shower from its own features and what the regressor sees in it, given the true conditions."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        n_conditions: int,
        channels: Sequence[int],
        hidden: int,
        joined: int,
        norms: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.norms = tuple(norms)
        self.trunk = Trunk(shape, channels)
        self.score = mlp([self.trunk.n_features + joined + 2 * n_conditions + len(norms), hidden, 1])

    def forward(self, showers: Tensor, condition: Tensor, read: Tensor, features: Tensor) -> Tensor:
        """(B, L, Y, X), true and read conditions (B, C), regressor's features (B, H) -> scores (B, 1)."""
        norms = [_norm(showers, power) for power in self.norms]
        joined = torch.cat([self.trunk(showers), features, read - condition, condition, *norms], dim=1)
        score: Tensor = self.score(joined)
        return score


def _norm(showers: Tensor, power: int) -> Tensor:
    """p-norm (B, 1) of each shower, scaled so that its gradient is never longer than one."""
    flat = showers.flatten(1).abs()
    if power == 1:
        return flat.sum(1, keepdim=True) / math.sqrt(flat.shape[1])
    # The small constant keeps the derivative finite for an empty shower.
    total: Tensor = ((flat**power).sum(1, keepdim=True) + 1e-6) ** (1 / power)
    return total


class LhcbWgan(GenerativeModel):
    """Conditional WGAN-GP whose critic looks through a pretrained regressor (arXiv 1812.01319).

    Phase 1 trains the regressor on Geant4 to read the conditions off a shower. Phase 2 freezes it and alternates
    critic and generator (WGAN-GP, eq. 5 of the paper). The critic's last layers see its own features, the
    regressor's features, the conditions, and by how much the regressor misses them: gradients reach the generator
    through the regressor ("building up the information from the pretrained regressor into the discriminator
    gradient", section 3.3), which makes the model conditional.

    Layers of a shower are channels of its image: meant for a depth-summed calorimeter, but any (L, Y, X) will do.

    ``regressor_loss``: "mse" is the mean squared error of the (transformed) conditions. The paper found a perceptual
    loss better without saying which features it compares. Here "perceptual" means: read and true conditions are both
    sent through a fixed network of random weights (C -> 64 -> 64 -> 64, tanh), and the squared differences of the
    conditions and of all three hidden layers are added, after Johnson et al. (arXiv 1603.08155, eq. 2) with
    conditions in the place of images.

    Zeros: ``output = "relu"`` makes exact zeros and needs a transform that maps zero to zero (per-incident-energy,
    scale, log, box-cox, or standardise with ``centre = false``); "linear" and "softplus" make none, leave them to
    the transforms `threshold` or `clamp`.

    Trap: a regressor that is hardly trained teaches the critic nothing about the conditions; look at its loss
    before spending time on phase 2 (1 is as good as guessing, for standardised conditions).

    Args:
        shape: (L, Y, X).
        n_conditions: C; the paper has five: p_x, p_y, p_z, x, y.
        latent: length Z of the normal noise.
        channels: of the images from the smallest to the full size, each twice as large as the one before.
        critic_channels: the same for critic and regressor; as ``channels`` if not given.
        hidden: width of the dense layer of critic and regressor.
        output: "relu", "softplus" or "linear".
        regressor_loss: "mse" or "perceptual".
        gradient_penalty: lambda of eq. 5.
        kappa: weight of (regressor(fake) - conditions)^2 in the generator's loss, as in arXiv 2005.05334; 0 in the
            paper.
        critic_steps: critic steps per generator step.
        norms: p of the p-norms of the whole shower that the critic's last layers see too, e.g. [1, 2, 3]. They tell
            it of the summed energy, which convolutions see only dimly; none in the paper.
        activation: of the generator: "relu", or "silu" (x sigmoid(x)), which leaves no unit without a gradient.
        warm_up: let phase 1 also teach the generator the mean shower for its conditions (squared error against
            Geant4 showers, objective "warm_up"), so that phase 2 need only learn how showers fluctuate; saves most of
            the time a short training has; not in the paper.
    """

    def __init__(
        self,
        shape: tuple[Count, ...],
        n_conditions: Count,
        latent: Count = 512,
        channels: Channels = (256, 128, 64, 32),
        critic_channels: Channels | None = None,
        hidden: Count = 128,
        output: Literal["relu", "softplus", "linear"] = "relu",
        regressor_loss: Literal["mse", "perceptual"] = "perceptual",
        gradient_penalty: NotNegative = 10.0,
        kappa: NotNegative = 0.0,
        critic_steps: Count = 5,
        norms: tuple[Annotated[int, Field(ge=1, le=6)], ...] = (),
        warm_up: bool = False,
        activation: Activation = "relu",
    ) -> None:
        critic_channels = critic_channels or channels
        super().__init__(
            shape,
            n_conditions,
            latent=latent,
            channels=channels,
            critic_channels=critic_channels,
            hidden=hidden,
            output=output,
            regressor_loss=regressor_loss,
            gradient_penalty=gradient_penalty,
            kappa=kappa,
            critic_steps=critic_steps,
            norms=norms,
            warm_up=warm_up,
            activation=activation,
        )
        sizes = require_image(shape, "lhcb-wgan")
        self.latent_size = latent
        self.generator = Generator(sizes, latent + n_conditions, channels, ACTIVATIONS[activation])
        self.critic = Critic(sizes, n_conditions, critic_channels, hidden, joined=hidden, norms=norms)
        self.regressor = Regressor(sizes, n_conditions, critic_channels, hidden)
        self.head = HEADS[output]
        he_weights(self.generator)
        self.generator.start_alive()
        he_weights(self.critic, slope=0.2)
        he_weights(self.regressor, slope=0.2)
        features = random_features([n_conditions, 64, 64, 64], torch.Generator().manual_seed(0))
        for i, weight in enumerate(features):
            self.register_buffer(f"perception_{i}", weight)

    def phases(self) -> Sequence[Sequence[Objective]]:
        """Regressor (and warm-up) first; then critic and generator."""
        first = [Objective("regressor", [self.regressor], self._regressor_loss)]
        if self.config["warm_up"]:
            first.append(Objective("warm_up", [self.generator], self._warm_up_loss))
        return [
            first,
            [
                Objective("critic", [self.critic], self._critic_loss, self.config["critic_steps"]),
                Objective("generator", [self.generator], self._generator_loss),
            ],
        ]

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Map latent (N, Z) and condition (N, C) to showers (N, L, Y, X) in transformed space."""
        own, noise = self.split_latent(latent)
        return self.head(self.generator(own, condition), condition, noise)

    def generation_modules(self) -> Sequence[nn.Module]:
        """The generator."""
        return [self.generator]

    def _regressor_loss(self, batch: Batch) -> Tensor:
        read, _ = self.regressor(batch.showers)
        loss = weighted_mean((read - batch.condition).square(), batch.weight)
        if self.config["regressor_loss"] == "mse":
            return loss
        for here, there in zip(self._perceive(read), self._perceive(batch.condition), strict=True):
            loss = loss + weighted_mean((here - there).square(), batch.weight)
        return loss

    def _warm_up_loss(self, batch: Batch) -> Tensor:
        showers = self.sample(batch.condition, batch.rng)
        return weighted_mean((showers - batch.showers).square(), batch.weight)

    def _perceive(self, condition: Tensor) -> list[Tensor]:
        """Hidden layers (B, 64) of the fixed random network."""
        layers = [condition]
        for i in range(3):
            layers.append(torch.tanh(layers[-1] @ self.get_buffer(f"perception_{i}")))
        return layers[1:]

    def _critic_loss(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            fake = self.sample(batch.condition, batch.rng)
        return wgan_gp_critic_loss(
            lambda x: self._score(x, batch.condition),
            batch.showers,
            fake,
            self.config["gradient_penalty"],
            batch.rng,
            batch.weight,
        )

    def _generator_loss(self, batch: Batch) -> Tensor:
        fake = self.sample(batch.condition, batch.rng)
        read, features = self.regressor(fake)
        loss = wasserstein_generator_loss(self.critic(fake, batch.condition, read, features), batch.weight)
        if self.config["kappa"]:
            loss = loss + self.config["kappa"] * weighted_mean((read - batch.condition).square(), batch.weight)
        return loss

    def _score(self, showers: Tensor, condition: Tensor) -> Tensor:
        read, features = self.regressor(showers)
        score: Tensor = self.critic(showers, condition, read, features)
        return score
