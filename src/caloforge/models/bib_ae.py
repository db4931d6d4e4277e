"""BIB-AE: bounded-information-bottleneck autoencoder with a post-processor.

Buhmann, Diefenbacher, Eren, Gaede, Kasieczka, Korol, Krüger, "Getting High: High Fidelity Simulation of High
Granularity Calorimeters with High Speed", arXiv 2005.05334, section 3.3 and the code published with it.
The autoencoder: Voloshynovskiy, Kondah, Rezaeifar, Taran, Holotyak, Rezende, arXiv 1912.00830.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..options import Count, NotNegative, Positive
from .autoencoder import Channels, CriticAutoencoder, Views, Widths
from .base import Batch, Objective
from .blocks import he_weights, mlp
from .losses import (
    gaussian_kernel,
    kl_divergence,
    mmd,
    sorted_kernel_mmd,
    wasserstein_generator_loss,
    weighted_mean,
    wgan_gp_critic_loss,
)
from .phases import draws_on_cpu

Alphas = Annotated[tuple[Positive, ...], Field(min_length=1, max_length=8)]


class PostProcessor(nn.Module):
    """Changes each voxel's value by itself, given the conditions and the summed energy.

    The paper's convolutions of kernel 1 are dense layers here, the same but with channels last: many times faster.
    """

    def __init__(self, n_conditions: int, width: int) -> None:
        super().__init__()
        half = max(1, width // 2)
        self.context = nn.Sequential(*mlp([n_conditions + 1, half, half, width]))
        self.first = nn.Linear(1, width)
        self.layers = nn.Sequential(
            nn.LeakyReLU(0.2),
            nn.Linear(width, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, width),
            nn.LeakyReLU(0.2),
        )
        self.last = nn.Linear(width, 1)
        he_weights(self, slope=0.2)

    def start_as_identity(self) -> None:
        """Change nothing yet: training begins with the showers of the autoencoder."""
        nn.init.zeros_(self.last.weight)

    def forward(self, raw: Tensor, condition: Tensor, total: Tensor) -> Tensor:
        """Raw values (B, L, Y, X), (B, C), summed energies (B, 1) -> raw values (B, L, Y, X)."""
        context = self.context(torch.cat([condition, total.clamp(min=0).log1p()], dim=1))  # (B, width)
        if draws_on_cpu(raw):
            return self._quick(raw, context)
        x = self.first(raw.flatten(1).unsqueeze(2)) + context.unsqueeze(1)  # (B, L Y X, width)
        change: Tensor = self.last(self.layers(x))  # (B, L Y X, 1)
        return raw + change.reshape(raw.shape)

    def _quick(self, raw: Tensor, context: Tensor) -> Tensor:
        """The same shower by shower, which stays in the cache, and with voxels last: ten times faster where narrow."""
        out, start = torch.empty_like(raw, memory_format=torch.contiguous_format), context + self.first.bias
        for shower, begin, result in zip(raw, start, out, strict=True):
            voxels = shower.reshape(1, -1)
            x = torch.addmm(begin[:, None], self.first.weight, voxels)  # (width, L Y X)
            for layer in self.layers:
                if isinstance(layer, nn.Linear):
                    x = torch.addmm(layer.bias[:, None], layer.weight, x)
                else:
                    x = F.leaky_relu_(x, 0.2)
            change = torch.addmm(self.last.bias[:, None], self.last.weight, x)
            torch.add(voxels, change, out=result.view(1, -1))
        return out


class BibAe(CriticAutoencoder):
    """Bounded-information-bottleneck autoencoder with post-processor (arXiv 2005.05334, section 3.3).

    Phase 1 alternates critic, latent critic and autoencoder. With z the encoded variables and x' the reconstruction,
    ``L_autoencoder = -beta_critic E[C(x', x' - x)] - beta_latent_critic E[C_z(z)] + beta_kld KLD + beta_mmd MMD``:

    - the critic judges the reconstruction and its difference to the input, against true showers and no difference;
      as in the published code both sit in one network: convolutions over x', a dense layer over x' - x;
    - the latent critic compares all single latent variables of the batch with the normal distribution (published
      code), KLD does so shower by shower, and MMD (two Gaussian kernels) for all variables jointly.

    Phase 2 freezes all this and trains the post-processor, which changes the voxels one by one:
    ``beta_spectrum SK-MMD + beta_kept E[|post(x') - x'|^2]``, where the sorted-kernel MMD compares cells of the same
    energy rank in true and generated showers. It mends the cell-energy spectrum around the peak of minimum ionising
    particles.

    Of the latent variables only ``encoded`` come from the encoder; the rest is noise for what the latent variables do
    not describe. Weights beta are those of the published code, where energies are in MeV.

    Differences to the published code: the decoder doubles its image up to the full size instead of going through
    twice that size and back (71 million parameters in all there, 39 million here with the default widths for 30^3
    voxels); no layer normalisation; no second look of the critic at the logarithm of the energies (the transforms
    make one); latent critic and MMD see the encoded variables only, the rest being noise anyway; the post-processor
    adds to its input, starts as the identity and is trained on a finished autoencoder.

    Zeros: the ReLU at the end makes exact zeros, so the transform must map zero to zero (per-incident-energy, scale,
    log, box-cox, or standardise with ``centre = false``).

    Trap: ``spectrum_alphas`` are inverse squared energies in transformed space: kernels must be about as wide as the
    structure they shall mend (0.05 MeV in the paper, 200 / MeV^2), or the post-processor learns nothing. So check
    them when the transform changes.

    Args:
        shape: (L, Y, X).
        n_conditions: C; the paper has one, the energy.
        latent: number Z of latent variables.
        encoded: how many of them the encoder sets.
        views: "3d" convolves along all axes; "2d" takes layers as channels of an image, several times cheaper.
        channels: of the decoder's images from the smallest to the full size, each twice as large as the one before.
        hidden: widths of the decoder's dense layers; the encoder has them in reverse.
        encoder_channels: of the encoder's convolutions from the full size on, each halving the image.
        moments: whether the encoder is also told the layers' centroids, widths and peaks (not in the paper).
        critic_channels: the same for the critic.
        critic_hidden: width of the critic's dense layers.
        latent_critic_hidden: widths of the latent critic.
        gradient_penalty: lambda of both critics.
        critic_steps: steps of both critics per autoencoder step.
        beta_critic: weight of the critic's opinion.
        beta_latent_critic: weight of the latent critic's opinion.
        beta_kld: weight of the Kullback-Leibler divergence.
        beta_mmd: weight of the latent MMD.
        mmd_alphas: of its Gaussian kernels exp(-alpha d^2), which are added.
        post_processor: whether there is one, and with it phase 2.
        post_processor_width: its channels.
        beta_spectrum: weight of the sorted-kernel MMD.
        beta_kept: weight of the mean squared change a voxel.
        spectrum_alphas: of the sorted-kernel MMD's Gaussian kernels.
        spectrum_window: how many cells of neighbouring ranks a kernel compares.
        spectrum_stride: ranks between two windows.
        spectrum_cells: how many of the most energetic cells are compared.
    """

    def __init__(
        self,
        shape: tuple[Count, ...],
        n_conditions: Count,
        latent: Count = 512,
        encoded: Count = 24,
        views: Views = "3d",
        channels: Channels = (64, 32, 16, 8),
        hidden: Widths = (768, 4000),
        encoder_channels: Channels = (8, 16, 32, 64),
        moments: bool = False,
        critic_channels: Channels = (128, 128, 128),
        critic_hidden: Count = 64,
        latent_critic_hidden: Widths = (50, 100, 50),
        gradient_penalty: NotNegative = 10.0,
        critic_steps: Count = 5,
        beta_critic: NotNegative = 1.0,
        beta_latent_critic: NotNegative = 100.0,
        beta_kld: NotNegative = 0.05,
        beta_mmd: NotNegative = 100.0,
        mmd_alphas: Alphas = (1.0, 0.01),
        post_processor: bool = True,
        post_processor_width: Count = 128,
        beta_spectrum: NotNegative = 5.0,
        beta_kept: NotNegative = 1.0,
        spectrum_alphas: Alphas = (200.0,),
        spectrum_window: Count = 100,
        spectrum_stride: Count = 25,
        spectrum_cells: Count = 2000,
    ) -> None:
        config = {
            "latent": latent,
            "encoded": encoded,
            "views": views,
            "channels": channels,
            "hidden": hidden,
            "encoder_channels": encoder_channels,
            "moments": moments,
            "critic_channels": critic_channels,
            "critic_hidden": critic_hidden,
            "latent_critic_hidden": latent_critic_hidden,
            "gradient_penalty": gradient_penalty,
            "critic_steps": critic_steps,
            "beta_critic": beta_critic,
            "beta_latent_critic": beta_latent_critic,
            "beta_kld": beta_kld,
            "beta_mmd": beta_mmd,
            "mmd_alphas": mmd_alphas,
            "post_processor": post_processor,
            "post_processor_width": post_processor_width,
            "beta_spectrum": beta_spectrum,
            "beta_kept": beta_kept,
            "spectrum_alphas": spectrum_alphas,
            "spectrum_window": spectrum_window,
            "spectrum_stride": spectrum_stride,
            "spectrum_cells": spectrum_cells,
        }
        super().__init__(shape, n_conditions, name="bib-ae", encoded=encoded, config=config)
        self.latent_critic = mlp([1, *latent_critic_hidden, 1])
        he_weights(self.latent_critic, slope=0.2)
        self.post_processor: PostProcessor | None = None
        if post_processor:
            self.post_processor = PostProcessor(n_conditions, post_processor_width)
            self.post_processor.start_as_identity()

    def phases(self) -> Sequence[Sequence[Objective]]:
        """Critics and autoencoder first; then the post-processor."""
        steps: int = self.config["critic_steps"]
        first = [
            Objective("critic", [self.critic], self._critic_loss, steps),
            Objective("latent_critic", [self.latent_critic], self._latent_critic_loss, steps),
            Objective("autoencoder", [self.encoder, self.decoder], self._autoencoder_loss),
        ]
        if self.post_processor is None:
            return [first]
        return [first, [Objective("post_processor", [self.post_processor], self._post_processor_loss)]]

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Map latent (N, Z) and condition (N, C) to showers (N, L, Y, X) in transformed space."""
        own, noise = self.split_latent(latent)
        return self._finish(self.decoder(own, condition), condition, noise)

    def generation_modules(self) -> Sequence[nn.Module]:
        """Decoder and post-processor."""
        return [self.decoder] if self.post_processor is None else [self.decoder, self.post_processor]

    def score(self, showers: Tensor, reconstructed: Tensor, condition: Tensor) -> Tensor:
        """Critic's scores (B, 1) of reconstructed showers and of their difference to the original ones."""
        score: Tensor = self.critic(reconstructed, reconstructed - showers, condition)
        return score

    def _finish(self, raw: Tensor, condition: Tensor, noise: Tensor) -> Tensor:
        """Post-process raw values; the head comes last, so that what it guarantees holds for the showers."""
        if self.post_processor is not None:
            total = F.relu(raw).flatten(1).sum(1, keepdim=True)
            raw = self.post_processor(raw, condition, total)
        return self.head(raw, condition, noise)

    def _judge_latent(self, encoded: Tensor) -> Tensor:
        """Latent critic's scores (B, E) of single latent variables (B, E)."""
        scores: Tensor = self.latent_critic(encoded.reshape(-1, 1))
        return scores.reshape(encoded.shape)

    def _latent_critic_loss(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            encoded = self.encode(batch).encoded
        normal = torch.randn(encoded.shape, generator=batch.rng, device=batch.rng.device).to(encoded)
        return wgan_gp_critic_loss(
            self.latent_critic,
            normal.reshape(-1, 1),
            encoded.reshape(-1, 1),
            self.config["gradient_penalty"],
            batch.rng,
            batch.weight.repeat_interleave(encoded.shape[1]),
        )

    def _autoencoder_loss(self, batch: Batch) -> Tensor:
        beta, weight = self.config, batch.weight
        showers, code = self.reconstruct(batch)
        normal = torch.randn(code.encoded.shape, generator=batch.rng, device=batch.rng.device).to(showers)
        kernel = gaussian_kernel(*beta["mmd_alphas"])
        loss: Tensor = (
            beta["beta_critic"]
            * wasserstein_generator_loss(self.score(batch.showers, showers, batch.condition), weight)
            + beta["beta_latent_critic"] * wasserstein_generator_loss(self._judge_latent(code.encoded), weight)
            + beta["beta_kld"] * kl_divergence(code.mean, code.log_variance, weight)
            + beta["beta_mmd"] * mmd(code.encoded, normal, kernel, weight)
        )
        return loss

    def _post_processor_loss(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            raw = self.decoder(self.encode(batch).latent, batch.condition)
            noise = self.draw_head_noise(len(batch), batch.rng).to(raw)
            before = self.head(raw, batch.condition, noise)
        after = self._finish(raw, batch.condition, noise)
        spectrum = sorted_kernel_mmd(
            batch.showers,
            after,
            gaussian_kernel(*self.config["spectrum_alphas"]),
            window=self.config["spectrum_window"],
            stride=self.config["spectrum_stride"],
            cells=self.config["spectrum_cells"],
            weight=batch.weight,
        )
        kept = weighted_mean((after - before).square(), batch.weight)
        loss: Tensor = self.config["beta_spectrum"] * spectrum + self.config["beta_kept"] * kept
        return loss
