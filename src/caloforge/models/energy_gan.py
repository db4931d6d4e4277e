"""What `3dgan` and `2dgan` share: a GAN whose discriminator also reads the incident energy and sums the cells.

3DGAN: Carminati, Khattak, Vallecorsa et al., "Three dimensional Generative Adversarial Networks for fast simulation"
(J. Phys. Conf. Ser. 1085, 2018, 032016); Belayneh et al., arXiv 1912.06794. Weights of the loss: Rehm, Vallecorsa,
Borras, Krücker, arXiv 2103.13698. Spectral normalisation: arXiv 1802.05957. R1 penalty: arXiv 1801.04406.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from ..options import Count, NotNegative, Positive
from .base import Batch, GenerativeModel, Objective, relu_head
from .blocks import EnergyCondition, Sizes, dropout, he_weights, require_image
from .losses import flip_labels, label_loss, percentage_error, r1_penalty

Share = Annotated[float, Field(ge=0, lt=1)]
Width = Annotated[float, Field(gt=0, le=16)]

SLOPE = 0.3
"""Of all LeakyReLU: the default of Keras, in which the original networks are written."""

Convolution = nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d


class Block(nn.Module):
    """Zero padding, a convolution, LeakyReLU; then batch normalisation and dropout where asked.

    Args:
        convolution: the convolution.
        padding: zeros before and after, for each axis in order; none if not given.
        normalise: whether batch normalisation follows.
        drop: share of values dropped in training.
    """

    def __init__(
        self,
        convolution: Convolution,
        padding: Sequence[tuple[int, int]] = (),
        *,
        normalise: bool = True,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.sides = list(padding)
        self.padding = [n for pair in reversed(padding) for n in pair]  # the last axis first, as F.pad wants it
        self.convolution = convolution
        norm = nn.BatchNorm3d if isinstance(convolution, nn.Conv3d) else nn.BatchNorm2d
        self.norm = norm(convolution.out_channels) if normalise else nn.Identity()
        self.drop = drop

    def forward(self, x: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """(B, C, ...) -> (B, C', ...); ``rng`` draws what is dropped."""
        if any(self.padding):
            x = F.pad(x, self.padding)
        return self.after(self.convolution(x), rng)

    def after(self, x: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """What follows the convolution, whose result is overwritten where no gradients are kept."""
        x = self.norm(F.leaky_relu(x, SLOPE) if torch.is_grad_enabled() else F.leaky_relu_(x, SLOPE))
        return dropout(x, self.drop, rng if self.training else None)


def same(kernel: int) -> tuple[int, int]:
    """Padding before and after that keeps an axis as long as it is, for even kernels too."""
    return (kernel - 1) // 2, kernel // 2


def scaled(width: float, *channels: int) -> list[int]:
    """Numbers of channels times ``width``, at least one each."""
    return [max(1, round(width * n)) for n in channels]


class Painter(nn.Module):
    """A generator's network; its forward takes an ``rng`` for dropout too.

    Attributes:
        last: the convolution that makes raw values.
    """

    last: nn.Conv2d | nn.Conv3d


class Trunk(nn.Module):
    """Makes features (B, F) of showers (B, L, Y, X); its forward takes an ``rng`` for dropout too."""

    n_features: int


class Reading(NamedTuple):
    """What a discriminator says of showers.

    Attributes:
        logit: of being real (B,).
        energy: E_p as it reads it (B,).
        total: E_tot, the plain sum of the cells (B,).
    """

    logit: Tensor
    energy: Tensor
    total: Tensor


class Discriminator(nn.Module):
    """Tells real from fake showers, reads their incident energy and sums their cells."""

    def __init__(self, trunk: Trunk, n_others: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.real = nn.Linear(trunk.n_features + n_others, 1)
        self.energy = nn.Linear(trunk.n_features, 1)

    def forward(self, showers: Tensor, others: Tensor, rng: torch.Generator | None = None) -> Reading:
        """Showers (B, L, Y, X) and all conditions but the energy (B, C - 1) -> what they look like."""
        features = self.trunk(showers, rng)
        logit = self.real(torch.cat([features, others], dim=1))
        return Reading(logit.squeeze(1), self.energy(features).squeeze(1), showers.flatten(1).sum(1))


class EnergyGan(GenerativeModel):
    """Base of `3dgan` and `2dgan`, which differ in their networks only.

    Discriminator and generator minimise ``6.0 BCE + 0.2 MAPE(E_p) + 0.1 MAPE(E_tot)`` with the percentage errors in
    per cent, as in Keras. The discriminator reads E_p off real and generated showers; its E_tot is the plain sum of
    cells and has nothing to train, so that term is the generator's only. What had to be chosen:

    - Conditions arrive standardised, and both the product with the noise and a percentage want a positive energy: so
      E_p means max(1 + spread c, 0.001) for a condition c linear in the energy, exp(spread c) for a logarithmic one.
      With ``energy_spread`` the deviation over the mean of the incident energies (0.57 for a uniform spectrum from 0),
      or the deviation of their logarithm, that is the incident energy in units of its (geometric) mean.
    - E_tot is summed in the transformed space. Its target for a generated shower is the sum of the Geant4 shower in
      the same row, which has the same conditions; the original takes a fit of the mean sum against E_p.
    - Percentage errors divide by no less than 5 % of the batch's mean: the faintest showers must not rule the loss.
    - Real and generated showers go through the discriminator in separate batches, as originally, but in one step.
    - Conditions other than the energy are joined to the noise, and to the discriminator's features before real/fake.

    The last activation is LeakyReLU in the first phase ("after epoch 3" it ends) and `head`, a ReLU, in the second.
    In the first phase that is so in training only; a head that another model has put in is used from the start.

    Args:
        shape: (L, Y, X).
        n_conditions: C; the papers have one, the energy.
        latent: length Z of the normal noise.
        energy_condition: which condition is E_p.
        energy_scale: whether that condition is linear in the incident energy or in its logarithm.
        energy_spread: see above.
        join_energy: also join E_p to the noise it multiplies: the length of Z Gaussian numbers tells the energy only
            to 1 / sqrt(2 Z); not in the papers.
        generator_width: times the papers' numbers of channels.
        discriminator_width: times the papers' numbers of channels.
        discriminator_stride: of the discriminator's first convolution; 1 in the papers. 2 makes all that follows 8 (3D)
            or 4 times (2D) cheaper, which on a CPU saves more than fewer channels do.
        dropout: share of values dropped in training.
        label_flips: share of real/fake labels the discriminator is told wrongly.
        real_weight: of the cross-entropy.
        energy_weight: of the percentage error of E_p.
        total_weight: of the percentage error of E_tot.
        generator_steps: generator steps per discriminator step; the original code of 3DGAN takes two.
        spectral_norm: divide the discriminator's weights by their largest singular value (arXiv 1802.05957).
        r1: gamma of the penalty gamma / 2 E |grad logit(real)|^2 (arXiv 1801.04406, eq. 9). Batch normalisation makes
            the gradient of one shower's logit reach the others of its batch; the penalty then is of their sum.

    Raises:
        CaloforgeError: if ``shape`` is not (L, Y, X) or there is no condition ``energy_condition``.
    """

    name: ClassVar[str]

    def __init__(
        self,
        shape: tuple[Count, ...],
        n_conditions: Count,
        latent: Count = 200,
        energy_condition: Annotated[int, Field(ge=0)] = 0,
        energy_scale: Literal["linear", "log"] = "linear",
        energy_spread: Positive = 0.57,
        join_energy: bool = False,
        generator_width: Width = 1.0,
        discriminator_width: Width = 1.0,
        discriminator_stride: Annotated[int, Field(ge=1, le=8)] = 1,
        dropout: Share = 0.2,
        label_flips: Share = 0.05,
        real_weight: NotNegative = 6.0,
        energy_weight: NotNegative = 0.2,
        total_weight: NotNegative = 0.1,
        generator_steps: Count = 2,
        spectral_norm: bool = False,
        r1: NotNegative = 0.0,
    ) -> None:
        super().__init__(
            shape,
            n_conditions,
            latent=latent,
            energy_condition=energy_condition,
            energy_scale=energy_scale,
            energy_spread=energy_spread,
            join_energy=join_energy,
            generator_width=generator_width,
            discriminator_width=discriminator_width,
            discriminator_stride=discriminator_stride,
            dropout=dropout,
            label_flips=label_flips,
            real_weight=real_weight,
            energy_weight=energy_weight,
            total_weight=total_weight,
            generator_steps=generator_steps,
            spectral_norm=spectral_norm,
            r1=r1,
        )
        sizes = require_image(shape, self.name)
        self.energy_condition = EnergyCondition(
            energy_condition, n_conditions, scale=energy_scale, spread=energy_spread, smallest=1e-3, model=self.name
        )
        self.latent_size = latent
        n_others = n_conditions - 1
        self.generator = self._build_generator(sizes, latent + n_others + join_energy, generator_width, dropout)
        trunk = self._build_trunk(sizes, discriminator_width, discriminator_stride, dropout)
        self.discriminator = Discriminator(trunk, n_others)
        he_weights(self.generator, SLOPE)
        # Most voxels of a shower are nearly empty: begin faint, not with 15 000 voxels of size one.
        with torch.no_grad():
            self.generator.last.weight.mul_(0.1)
        he_weights(self.discriminator, SLOPE)
        if spectral_norm:
            for part in [m for m in self.discriminator.modules() if isinstance(m, (nn.Linear, nn.Conv2d, nn.Conv3d))]:
                parametrizations.spectral_norm(part)

    @abstractmethod
    def _build_generator(self, shape: Sizes, n_inputs: int, width: float, drop: float) -> Painter:
        """The network (B, n_inputs), rng for dropout -> raw values (B, L, Y, X)."""

    @abstractmethod
    def _build_trunk(self, shape: Sizes, width: float, stride: int, drop: float) -> Trunk:
        """The discriminator's convolutions."""

    def phases(self) -> Sequence[Sequence[Objective]]:
        """The same game twice: with a leaky last activation, then with the head that generation uses."""
        return [
            [
                Objective("discriminator", [self.discriminator], partial(self._discriminator_loss, leaky=leaky)),
                Objective(
                    "generator",
                    [self.generator],
                    partial(self._generator_loss, leaky=leaky),
                    self.config["generator_steps"],
                ),
            ]
            for leaky in (True, False)
        ]

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Map latent (N, Z) and condition (N, C) to showers (N, L, Y, X) in transformed space."""
        own, noise = self.split_latent(latent)
        return self.head(self._raw(own, condition), condition, noise)

    def generation_modules(self) -> Sequence[nn.Module]:
        """The generator."""
        return [self.generator]

    def incident_energy(self, condition: Tensor) -> Tensor:
        """E_p (N,) in units of about its mean, always positive, from conditions (N, C)."""
        return self.energy_condition.energy(condition)[:, 0]

    def _raw(self, latent: Tensor, condition: Tensor, rng: torch.Generator | None = None) -> Tensor:
        energy = self.energy_condition.energy(condition)
        join: bool = self.config["join_energy"]
        raw: Tensor = self.generator(self.energy_condition.inputs(latent, energy, condition, join=join), rng)
        return raw

    def _fake(self, batch: Batch, leaky: bool) -> Tensor:
        """Showers as `sample` would draw them, but with dropout, and a leaky end if asked."""
        latent = self.draw_latent(len(batch), batch.rng).to(batch.condition)
        raw = self._raw(latent, batch.condition, batch.rng)
        if leaky and self.head is relu_head:
            return F.leaky_relu(raw, SLOPE)
        return self.head(raw, batch.condition, self.draw_head_noise(len(batch), batch.rng).to(raw))

    def _discriminator_loss(self, batch: Batch, leaky: bool) -> Tensor:
        with torch.no_grad():
            fake = self._fake(batch, leaky)
        others = self.energy_condition.others(batch.condition)
        loss = batch.showers.new_zeros(())
        for showers, label in ((batch.showers, 1.0), (fake, 0.0)):
            read: Reading = self.discriminator(showers, others, batch.rng)
            labels = flip_labels(torch.full_like(read.logit, label), self.config["label_flips"], batch.rng)
            loss = loss + self._judge(read, labels, batch) / 2
        if self.config["r1"]:
            penalty = r1_penalty(lambda x: self.discriminator(x, others, batch.rng).logit, batch.showers, batch.weight)
            loss = loss + self.config["r1"] / 2 * penalty
        return loss

    def _generator_loss(self, batch: Batch, leaky: bool) -> Tensor:
        read: Reading = self.discriminator(
            self._fake(batch, leaky), self.energy_condition.others(batch.condition), batch.rng
        )
        target = batch.showers.flatten(1).sum(1)
        missed = percentage_error(read.total, target, batch.weight)
        loss: Tensor = self.config["total_weight"] * missed
        return loss + self._judge(read, torch.ones_like(read.logit), batch)

    def _judge(self, read: Reading, labels: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy against the labels and the percentage error of E_p: what both players have in common."""
        energy = self.incident_energy(batch.condition)
        missed = percentage_error(read.energy, energy, batch.weight)
        sure = label_loss(read.logit, labels, batch.weight)
        loss: Tensor = self.config["real_weight"] * sure + self.config["energy_weight"] * missed
        return loss
