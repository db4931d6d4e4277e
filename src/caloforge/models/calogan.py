"""CaloGAN: one stream of networks a calorimeter layer, each looking at the layer before.

Paganini, de Oliveira, Nachman, "CaloGAN: Simulating 3D High Energy Particle Showers in Multi-Layer Electromagnetic
Calorimeters with Generative Adversarial Networks", arXiv 1712.10321. The networks of one layer are in `lagan`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from ..errors import CaloforgeError
from ..options import Count, NotNegative, Positive
from .base import Batch, GenerativeModel, Objective
from .blocks import CellSpectralNorm, EnergyCondition, LocallyConnected2d, he_weights, mlp, require_image
from .lagan import SLOPE, Inspector, MinibatchFeatures, Sizes, Stream
from .losses import label_loss, percentage_error, weighted_mean

_TINY = 1e-6


class Resize(nn.Module):
    """A trainable map between images of two sizes, one matrix an axis; begins as the mean over areas."""

    def __init__(self, before: Sizes, after: Sizes) -> None:
        super().__init__()
        self.rows = nn.Parameter(_overlaps(before[0], after[0]))
        self.columns = nn.Parameter(_overlaps(before[1], after[1]))

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, Y1, X1) -> (B, C, Y2, X2)."""
        return self.rows @ image @ self.columns.T


def _overlaps(before: int, after: int) -> Tensor:
    """What part of each of ``after`` cells each of ``before`` cells covers (after, before), both over one length."""
    old, new = torch.arange(before + 1) / before, torch.arange(after + 1) / after
    common = torch.minimum(new[1:, None], old[None, 1:]) - torch.maximum(new[:-1, None], old[None, :-1])
    return common.clamp(min=0) * after


class Attention(nn.Module):
    """Mixes the image of a layer with that of the layer before, cell by cell."""

    def __init__(self, before: Sizes, here: Sizes) -> None:
        super().__init__()
        self.resize = Resize(before, here)
        self.weigh = LocallyConnected2d(2, 2, here, (3, 3), padding=1)
        with torch.no_grad():
            assert self.weigh.bias is not None
            self.weigh.bias[..., 1] = -2.0  # begins with little of the layer before

    def forward(self, image: Tensor, before: Tensor) -> Tensor:
        """(B, 1, Y2, X2), (B, 1, Y1, X1) -> (B, 1, Y2, X2)."""
        both = torch.cat([image, self.resize(before)], dim=1)
        mixed: Tensor = (both * self.weigh(both).softmax(1)).sum(1, keepdim=True)
        return mixed


class Generator(nn.Module):
    """A stream for each layer, then attention from the first to the last."""

    def __init__(self, layers: Sequence[Sizes], n_inputs: int, seeds: int, channels: Sizes) -> None:
        super().__init__()
        self.streams = nn.ModuleList(Stream(size, n_inputs, seeds, channels) for size in layers)
        self.attentions = nn.ModuleList(Attention(before, here) for before, here in pairwise(layers))

    def forward(self, noise: Tensor) -> Tensor:
        """(B, Z) -> raw values (B, V), layer after layer."""
        images: list[Tensor] = [stream(noise) for stream in self.streams]
        for i, attention in enumerate(self.attentions, start=1):
            images[i] = attention(images[i], images[i - 1])
        return torch.cat([image.flatten(1) for image in images], dim=1)


class Calibration(nn.Module):
    """Reads the incident energy off the energies in the layers, each with its own positive constant."""

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        self.log_constants = nn.Parameter(torch.zeros(n_layers))

    def forward(self, energies: Tensor) -> Tensor:
        """Layer energies (B, L) in the model's units -> (B, L) in units of the mean incident energy."""
        return energies * self.log_constants.exp()


class Discriminator(nn.Module):
    """An inspector for each layer; then what they see, and the energies, in one score."""

    def __init__(
        self,
        layers: Sequence[Sizes],
        n_conditions: int,
        channels: Sequence[int],
        sparse_below: float,
        minibatch: Sizes,
        hidden: Sequence[int],
    ) -> None:
        super().__init__()
        self.inspectors = nn.ModuleList(Inspector(size, channels, sparse_below, minibatch) for size in layers)
        self.among = MinibatchFeatures(len(layers), *minibatch)
        n_features = sum(inspector.n_features for inspector in self.inspectors if isinstance(inspector, Inspector))
        n_features += 2 * len(layers) + 3 + minibatch[0] + n_conditions
        self.score = mlp([n_features, *hidden, 1], SLOPE)

    def forward(self, images: Sequence[Tensor], energies: Tensor, energy: Tensor, condition: Tensor) -> Tensor:
        """Score showers.

        Args:
            images: (B, 1, Y, X) of each layer.
            energies: calibrated layer energies (B, L).
            energy: the incident energy (B, 1) in the same units.
            condition: (B, C).

        Returns:
            Logits (B, 1): positive if a shower looks like Geant4's.
        """
        features = [inspect(image) for inspect, image in zip(self.inspectors, images, strict=True)]
        total = energies.sum(1, keepdim=True)
        missed = (total - energy).abs()
        features += [energies, energies / energy, total, missed, missed / energy, self.among(energies), condition]
        score: Tensor = self.score(torch.cat(features, dim=1))
        return score


class CaloGan(GenerativeModel):
    """One stream a calorimeter layer, with attention from the layer before (CaloGAN, arXiv 1712.10321, section 3).

    Noise is multiplied by the incident energy and goes through one LAGAN-like stream a layer: dense, convolution,
    two locally connected layers. The image of the layer before, resized by a trainable map, is mixed in with weights
    that a locally connected layer gives each cell; a ReLU makes empty cells. The discriminator has a stream a layer
    too, minibatch discrimination, and sees sparsity, energy in each layer, their sum, and by how much that misses the
    incident energy. It is a Jensen-Shannon GAN: batches of Geant4 and of generated showers are judged apart, for
    batch normalisation and minibatch discrimination look at the whole batch. The generator's loss adds
    ``energy_weight * 100 |E_read - E| / E``.

    Phase 0 fits one calibration constant a layer to Geant4's showers, so that E_read means something for a sampling
    calorimeter and in transformed units; the paper's energies are those of all material and need none. Phase 1
    alternates discriminator and generator.

    The energy comes as a standardised condition c. The affine map ``1 + energy_spread * c``, held above 0.01 so that
    noise never changes its sign, gives the energy back in units of its mean; for a logarithmic condition
    ``exp(energy_spread * c)`` does, in units of its geometric mean. Other conditions are joined to noise and features.

    Differences from the paper: minibatch features are means over the batch, which do not saturate as tanh of the sum
    does; energies are also seen relative to the incident one; sparsity counts cells softly; the error of the energy is
    relative instead of absolute.

    Layers may differ in segmentation: ``layers`` gives their sizes, and showers are flat, layer after layer. Without,
    all L layers of ``shape`` have Y x X cells.

    Zeros: the last ReLU makes exact zeros, so the transform must map zero to zero (scale, log, box-cox, or
    standardise with ``per = "all"``, ``centre = false``).

    Trap: layer energies are sums of transformed cells: they are energies for the transform `scale` only. For a
    root-like one (box-cox of exponent 1 / p) give ``energy_power = p``; a logarithm or a division by the incident
    energy leaves the energy terms without meaning. And a calibration that is not fitted (its loss, 100 times the
    mean |log(E_read / E)|, must be near the detector's resolution) pulls the generator to wrong energies.

    Args:
        shape: (sum of Y X,), or (L, Y, X) with equal layers.
        n_conditions: C; the paper has one, the energy.
        layers: (Y, X) of each layer; training fills it in from the detector.
        latent: length Z of the normal noise.
        energy_condition: which condition is the energy, from 0.
        energy_scale: whether that condition is linear in the incident energy or in its logarithm.
        energy_spread: standard deviation over mean of the incident energies (0.57 for a uniform spectrum from 0), or
            deviation of their logarithm.
        join_energy: also join the energy to the noise it multiplies: the length of Z normal numbers tells it only to
            1 / sqrt(2 Z); not in the paper.
        energy_power: cells count as value^power in layer energies; noise is multiplied by E^(1 / power).
        energy_weight: of the energy term in the generator's loss, for an error in per cent; the paper's 0.05 for one in
            GeV is 0.025 at 50 GeV.
        seed_channels: of the image a dense layer makes in each stream.
        generator_channels: of a stream's convolution and first locally connected layer.
        discriminator_channels: of an inspector's convolution and its three locally connected layers.
        hidden: widths of dense layers before the score; none in the paper.
        minibatch: number and length of the minibatch features' vectors.
        sparse_below: transformed energy at which a cell begins to count as filled.
        spectral_norm: bound the discriminator's layers (arXiv 1802.05957); not in the paper.
        generator_steps: generator steps per discriminator step, which sees twice as many showers.
        warm_up: let phase 0 also teach the generator the mean shower for its conditions (squared error against Geant4
            showers, objective "warm_up"): the layers then begin with their share of the energy, which the
            discriminator takes long to teach; not in the paper.

    Raises:
        CaloforgeError: if the layers do not make up the shape, or there is no such condition.
    """

    takes_layers: ClassVar[bool] = True

    def __init__(
        self,
        shape: tuple[Count, ...],
        n_conditions: Count,
        layers: tuple[tuple[Count, Count], ...] | None = None,
        latent: Count = 1024,
        energy_condition: Annotated[int, Field(ge=0)] = 0,
        energy_scale: Literal["linear", "log"] = "linear",
        energy_spread: Positive = 0.57,
        join_energy: bool = False,
        energy_power: Annotated[float, Field(ge=1)] = 1.0,
        energy_weight: NotNegative = 0.025,
        seed_channels: Count = 36,
        generator_channels: tuple[Count, Count] = (16, 6),
        discriminator_channels: tuple[Count, Count, Count, Count] = (64, 16, 8, 8),
        hidden: tuple[Count, ...] = (),
        minibatch: tuple[Count, Count] = (10, 10),
        sparse_below: Positive = 0.01,
        spectral_norm: bool = False,
        generator_steps: Count = 2,
        warm_up: bool = False,
    ) -> None:
        layers = _checked_layers(shape, layers)
        super().__init__(
            shape,
            n_conditions,
            layers=layers,
            latent=latent,
            energy_condition=energy_condition,
            energy_scale=energy_scale,
            energy_spread=energy_spread,
            join_energy=join_energy,
            energy_power=energy_power,
            energy_weight=energy_weight,
            seed_channels=seed_channels,
            generator_channels=generator_channels,
            discriminator_channels=discriminator_channels,
            hidden=hidden,
            minibatch=minibatch,
            sparse_below=sparse_below,
            spectral_norm=spectral_norm,
            generator_steps=generator_steps,
            warm_up=warm_up,
        )
        self.energy_condition = EnergyCondition(
            energy_condition, n_conditions, scale=energy_scale, spread=energy_spread, smallest=0.01, model="calogan"
        )
        self.layers = layers
        self.latent_size = latent
        self.generator = Generator(layers, latent + n_conditions - 1 + join_energy, seed_channels, generator_channels)
        self.calibration = Calibration(len(layers))
        self.discriminator = Discriminator(
            layers, n_conditions, discriminator_channels, sparse_below, minibatch, hidden
        )
        he_weights(self.generator, SLOPE)
        he_weights(self.discriminator, SLOPE)
        for part in self.discriminator.modules():
            if isinstance(part, MinibatchFeatures):
                part.start_close()
        if spectral_norm:
            _bound(self.discriminator)

    def phases(self) -> Sequence[Sequence[Objective]]:
        """Calibration (and warm-up) first; then discriminator and generator."""
        first = [Objective("calibration", [self.calibration], self._calibration_loss)]
        if self.config["warm_up"]:
            first.append(Objective("warm_up", [self.generator], self._warm_up_loss))
        return [
            first,
            [
                Objective("discriminator", [self.discriminator], self._discriminator_loss),
                Objective("generator", [self.generator], self._generator_loss, self.config["generator_steps"]),
            ],
        ]

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Map latent (N, Z) and condition (N, C) to showers (N, *shape) in transformed space."""
        energy = self.energy_condition.energy(condition) ** (1 / self.config["energy_power"])
        own, noise = self.split_latent(latent)
        inputs = self.energy_condition.inputs(own, energy, condition, join=self.config["join_energy"])
        raw = self.generator(inputs).unflatten(1, self.shape)
        return self.head(raw, condition, noise)

    def generation_modules(self) -> Sequence[nn.Module]:
        """The generator."""
        return [self.generator]

    def _calibration_loss(self, batch: Batch) -> Tensor:
        energies = self._energies(self._images(batch.showers)).sum(1)
        # Of logarithms: steps are then as long for constants that are far off, whatever the transform's scale.
        ratio = (energies + _TINY).log() - self.energy_condition.energy(batch.condition)[:, 0].log()
        return 100 * weighted_mean(ratio.abs(), batch.weight)

    def _warm_up_loss(self, batch: Batch) -> Tensor:
        showers = self.sample(batch.condition, batch.rng)
        return weighted_mean((showers - batch.showers).square(), batch.weight)

    def _discriminator_loss(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            fake = self.sample(batch.condition, batch.rng)
        real_score, _ = self._judge(batch.showers, batch.condition)
        fake_score, _ = self._judge(fake, batch.condition)
        is_real = label_loss(real_score, torch.ones_like(real_score), batch.weight)
        return is_real + label_loss(fake_score, torch.zeros_like(fake_score), batch.weight)

    def _generator_loss(self, batch: Batch) -> Tensor:
        score, energies = self._judge(self.sample(batch.condition, batch.rng), batch.condition)
        missed = percentage_error(energies.sum(1), self.energy_condition.energy(batch.condition)[:, 0], batch.weight)
        weight: float = self.config["energy_weight"]
        return label_loss(score, torch.ones_like(score), batch.weight) + weight * missed

    def _judge(self, showers: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, 1) and calibrated layer energies (B, L) of showers."""
        images = self._images(showers)
        energies = self._energies(images)
        return self.discriminator(images, energies, self.energy_condition.energy(condition), condition), energies

    def _energies(self, images: Sequence[Tensor]) -> Tensor:
        power: float = self.config["energy_power"]
        sums = [image.flatten(1).clamp(min=0).pow(power).sum(1) for image in images]
        energies: Tensor = self.calibration(torch.stack(sums, dim=1))
        return energies

    def _images(self, showers: Tensor) -> list[Tensor]:
        """Showers (B, *shape) as one image (B, 1, Y, X) a layer."""
        parts = torch.split(showers.flatten(1), [y * x for y, x in self.layers], dim=1)
        return [part.reshape(len(showers), 1, *size) for part, size in zip(parts, self.layers, strict=True)]


def _checked_layers(shape: Sequence[int], layers: Sequence[Sizes] | None) -> tuple[Sizes, ...]:
    if layers is None:
        n, y, x = require_image(shape, "calogan")
        return ((y, x),) * n
    if not layers or sum(y * x for y, x in layers) != math.prod(shape):
        raise CaloforgeError(
            f"option 'layers' of model 'calogan' is {[list(size) for size in layers]}, which does not make up showers "
            f"of shape {tuple(shape)}; give (y, x) of each layer, with as many cells in all."
        )
    return tuple(layers)


def _bound(discriminator: nn.Module) -> None:
    for part in list(discriminator.modules()):
        if isinstance(part, LocallyConnected2d):
            parametrize.register_parametrization(part, "weight", CellSpectralNorm(part.weight))
        elif isinstance(part, (nn.Linear, nn.Conv2d)):
            parametrizations.spectral_norm(part)
