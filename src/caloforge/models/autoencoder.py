"""What the variational autoencoders with critics share: encoder, decoder, critic, and the way through them.

Kingma and Welling, "Auto-Encoding Variational Bayes", arXiv 1312.6114. Sizes are those of the code published with
"Getting High" (arXiv 2005.05334), from which `VaeGan` and `BibAe` are taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ..errors import CaloforgeError
from ..options import Count
from .base import Batch, GenerativeModel
from .blocks import Sizes, centre_crop, convolved, he_weights, mlp, require_image
from .losses import wgan_gp_critic_loss
from .moments import MomentReader
from .phases import Transposed2d, Transposed3d

Views = Literal["2d", "3d"]
Channels = Annotated[tuple[Count, ...], Field(min_length=1, max_length=8)]
Widths = Annotated[tuple[Count, ...], Field(max_length=8)]

_CONVOLUTION: dict[str, type[nn.Conv2d] | type[nn.Conv3d]] = {"2d": nn.Conv2d, "3d": nn.Conv3d}
_TRANSPOSED: dict[str, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    "2d": Transposed2d,
    "3d": Transposed3d,
}


def seen_as(shape: Sizes, views: Views) -> tuple[int, tuple[int, ...]]:
    """Channels and sizes of a shower's image: layers are channels in "2d" and an axis in "3d"."""
    return (shape[0], shape[1:]) if views == "2d" else (1, shape)


class Down(nn.Module):
    """Convolutions that halve each axis while it has four voxels or more."""

    def __init__(self, shape: Sizes, views: Views, channels: Sequence[int]) -> None:
        super().__init__()
        n_in, size = seen_as(shape, views)
        self.image = (n_in, *size)
        parts: list[nn.Module] = []
        for a, b in pairwise([n_in, *channels]):
            kernel, stride, padding = zip(*(_halving(n) for n in size), strict=True)
            parts += [_CONVOLUTION[views](a, b, kernel, stride, padding), nn.LeakyReLU(0.2)]
            size = tuple(convolved(*axis) for axis in zip(size, kernel, stride, padding, strict=True))
        self.layers = nn.Sequential(*parts, nn.Flatten())
        self.n_features = channels[-1] * math.prod(size)

    def forward(self, showers: Tensor) -> Tensor:
        """(B, L, Y, X) -> features (B, F)."""
        features: Tensor = self.layers(showers.reshape(-1, *self.image))
        return features


class Encoder(nn.Module):
    """Reads mean and log variance of the latent variables off a shower and its conditions."""

    def __init__(
        self,
        shape: Sizes,
        n_conditions: int,
        views: Views,
        channels: Sequence[int],
        hidden: Sequence[int],
        encoded: int,
        moments: bool = False,
    ) -> None:
        super().__init__()
        self.down = Down(shape, views, channels)
        self.read = mlp([self.down.n_features + n_conditions, *reversed(hidden), 2 * encoded])
        self.from_moments = None
        if moments:
            n_layers, n_y, n_x = shape
            self.from_moments = MomentReader([(n_y, n_x)] * n_layers, n_y * n_x, n_conditions, encoded)

    def forward(self, showers: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L, Y, X), (B, C) -> mean and log variance, both (B, E)."""
        read = self.read(torch.cat([self.down(showers), condition], dim=1))
        if self.from_moments:
            read = read + self.from_moments(showers.flatten(2), condition)
        mean, log_variance = read.chunk(2, dim=1)
        # Standard deviations between 0.007 and 150: no exponential runs away early in training.
        return mean, log_variance.clamp(-10, 10)


class Decoder(nn.Module):
    """Dense layers to a small image, doubled in size until it covers the shower; ends without activation."""

    def __init__(
        self, shape: Sizes, n_inputs: int, views: Views, channels: Sequence[int], hidden: Sequence[int]
    ) -> None:
        super().__init__()
        self.shape = shape
        n_out, self.size = seen_as(shape, views)
        halvings = len(channels) - 1
        self.base = (channels[0], *(-(-n // 2**halvings) for n in self.size))
        self.dense = mlp([n_inputs, *hidden, math.prod(self.base)])
        parts: list[nn.Module] = [nn.LeakyReLU(0.2)]
        for a, b in pairwise(channels):
            # An axis of one voxel stays one: there is nothing to double.
            kernel, stride, padding = zip(*((1, 1, 0) if n == 1 else (4, 2, 1) for n in self.size), strict=True)
            parts += [_TRANSPOSED[views](a, b, kernel, stride, padding), nn.LeakyReLU(0.2)]
        self.up = nn.Sequential(*parts)
        kernel, padding = zip(*((1, 0) if n == 1 else (3, 1) for n in self.size), strict=True)
        self.last = _CONVOLUTION[views](channels[-1], n_out, kernel, 1, padding)

    def start_alive(self) -> None:
        """Begin with a faint haze everywhere: a ReLU behind that begins at zero passes no gradient."""
        assert self.last.bias is not None
        with torch.no_grad():
            self.last.weight.mul_(0.1)
            self.last.bias.fill_(0.1)

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """(B, Z), (B, C) -> raw values (B, L, Y, X)."""
        x = self.dense(torch.cat([latent, condition], dim=1)).unflatten(1, self.base)  # (B, 64, 4, 4, 4)
        raw = self.last(centre_crop(self.up(x), self.size))  # (B, 1, 30, 30, 30), or (B, 30, 30, 30) if 2d
        showers: Tensor = raw.reshape(-1, *self.shape)
        return showers


class Critic(nn.Module):
    """Scores a shower from convolutions over it, a dense layer over voxels given directly, and the conditions."""

    def __init__(self, shape: Sizes, n_conditions: int, views: Views, channels: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.down = Down(shape, views, channels)
        self.from_image = nn.Linear(self.down.n_features, hidden)
        self.from_voxels = nn.Linear(math.prod(shape), hidden)
        self.from_condition = nn.Linear(n_conditions, hidden)
        self.score = nn.Sequential(nn.LeakyReLU(0.2), *mlp([3 * hidden, *[4 * hidden] * 3, 1]))

    def forward(self, showers: Tensor, voxels: Tensor, condition: Tensor) -> Tensor:
        """(B, L, Y, X) twice, (B, C) -> scores (B, 1)."""
        seen = [
            self.from_image(self.down(showers)),
            self.from_voxels(voxels.flatten(1)),
            self.from_condition(condition),
        ]
        score: Tensor = self.score(torch.cat(seen, dim=1))
        return score


@dataclass(frozen=True)
class Code:
    """What the encoder makes of showers.

    Attributes:
        mean: (B, E) of the encoded variables.
        log_variance: (B, E) of the encoded variables.
        latent: (B, Z) as drawn: E encoded variables, then standard normal noise.
    """

    mean: Tensor
    log_variance: Tensor
    latent: Tensor

    @property
    def encoded(self) -> Tensor:
        """The encoded variables (B, E) as drawn."""
        return self.latent[:, : self.mean.shape[1]]


class CriticAutoencoder(GenerativeModel):
    """Base of the autoencoders whose reconstruction a Wasserstein critic judges.

    Args:
        shape: (L, Y, X).
        n_conditions: C.
        name: the model's name, for messages.
        encoded: how many of the latent variables the encoder sets; the others are noise.
        config: the model's options; those read here are ``latent``, ``views``, ``channels``, ``hidden``,
            ``encoder_channels``, ``moments``, ``critic_channels`` and ``critic_hidden``.
    """

    def __init__(
        self, shape: Sequence[int], n_conditions: int, *, name: str, encoded: int, config: dict[str, Any]
    ) -> None:
        super().__init__(shape, n_conditions, **config)
        sizes = require_image(shape, name)
        views: Views = config["views"]
        self.latent_size: int = config["latent"]
        if encoded > self.latent_size:
            raise CaloforgeError(
                f"option 'encoded' of model '{name}' is {encoded}, more than its {self.latent_size} latent variables; "
                "lower it or raise 'latent'."
            )
        self.encoder = Encoder(
            sizes, n_conditions, views, config["encoder_channels"], config["hidden"], encoded, config["moments"]
        )
        self.decoder = Decoder(sizes, self.latent_size + n_conditions, views, config["channels"], config["hidden"])
        self.critic = Critic(sizes, n_conditions, views, config["critic_channels"], config["critic_hidden"])
        for network in (self.encoder, self.decoder, self.critic):
            he_weights(network, slope=0.2)
        self.decoder.start_alive()
        if self.encoder.from_moments:
            self.encoder.from_moments.start_small()

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Map latent (N, Z) and condition (N, C) to showers (N, L, Y, X) in transformed space."""
        own, noise = self.split_latent(latent)
        return self.head(self.decoder(own, condition), condition, noise)

    def generation_modules(self) -> Sequence[nn.Module]:
        """The decoder."""
        return [self.decoder]

    def encode(self, batch: Batch) -> Code:
        """Encode showers and draw their latent variables (arXiv 1312.6114, section 2.4)."""
        mean, log_variance = self.encoder(batch.showers, batch.condition)
        noise = self.draw_latent(len(batch), batch.rng).to(mean)
        n = mean.shape[1]
        drawn = mean + (0.5 * log_variance).exp() * noise[:, :n]
        return Code(mean, log_variance, torch.cat([drawn, noise[:, n:]], dim=1))

    def reconstruct(self, batch: Batch) -> tuple[Tensor, Code]:
        """Encode showers and decode them: showers (B, L, Y, X) and their code."""
        code = self.encode(batch)
        noise = self.draw_head_noise(len(batch), batch.rng).to(batch.condition)
        return self.head(self.decoder(code.latent, batch.condition), batch.condition, noise), code

    def score(self, showers: Tensor, reconstructed: Tensor, condition: Tensor) -> Tensor:
        """Critic's scores (B, 1) of reconstructed showers, given those they were reconstructed from."""
        score: Tensor = self.critic(reconstructed, reconstructed, condition)
        return score

    def _critic_loss(self, batch: Batch) -> Tensor:
        """True showers reconstruct themselves: the critic compares pairs (x, x) with pairs (x, reconstructed)."""
        with torch.no_grad():
            reconstructed, _ = self.reconstruct(batch)
        return wgan_gp_critic_loss(
            lambda pair: self.score(pair[:, 0], pair[:, 1], batch.condition),
            torch.stack([batch.showers, batch.showers], dim=1),
            torch.stack([batch.showers, reconstructed], dim=1),
            self.config["gradient_penalty"],
            batch.rng,
            batch.weight,
        )


def _halving(size: int) -> tuple[int, int, int]:
    """Kernel, stride and padding along an axis."""
    if size == 1:
        return 1, 1, 0
    return (4, 2, 1) if size >= 4 else (3, 1, 1)
