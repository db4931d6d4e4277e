"""VAE-GAN: a variational autoencoder that is judged by a critic.

Buhmann, Diefenbacher, Eren, Gaede, Kasieczka, Korol, Krüger, "Getting High: High Fidelity Simulation of High
Granularity Calorimeters with High Speed", arXiv 2005.05334, whose authors tried it before the BIB-AE. VAE and GAN
joined: Larsen, Sønderby, Larochelle, Winther, arXiv 1512.09300. Gradient penalty: arXiv 1704.00028.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..options import Count, NotNegative
from .autoencoder import Channels, CriticAutoencoder, Views, Widths
from .base import Batch, Objective
from .losses import kl_divergence, wasserstein_generator_loss, weighted_mean


class VaeGan(CriticAutoencoder):
    """VAE whose reconstruction is judged by a Wasserstein critic instead of voxel by voxel (after arXiv 2005.05334).

    ``L_critic = E[C(x')] - E[C(x)] + lambda E[(|grad C| - 1)^2]`` and
    ``L_autoencoder = -E[C(x')] + beta_kld KLD + reconstruction E[|x' - x|^2]``, where x' is x encoded and decoded;
    both alternate. The squared difference of two showers punishes a hit in the neighbouring cell as much as a missing
    one and teaches blurred showers; the critic does not.

    The authors showed this model for showers summed along depth and published neither its networks nor its weights:
    the networks here are those of the BIB-AE without its difference critic, see `BibAe`.

    Zeros: the ReLU at the end makes exact zeros, so the transform must map zero to zero (per-incident-energy, scale,
    log, box-cox, or standardise with ``centre = false``).

    Trap: the critic alone does not ask that a shower be reconstructed as itself, so the latent variables may end up
    carrying nothing; then this is a WGAN. Set ``reconstruction`` (a little blur for some information), or use
    `BibAe`, whose difference critic is the authors' answer.

    Args:
        shape: (L, Y, X).
        n_conditions: C.
        latent: number Z of latent variables.
        views: "3d" convolves along all axes; "2d" takes layers as channels of an image, several times cheaper.
        channels: of the decoder's images from the smallest to the full size, each twice as large as the one before.
        hidden: widths of the decoder's dense layers; the encoder has them in reverse.
        encoder_channels: of the encoder's convolutions from the full size on, each halving the image.
        moments: whether the encoder is also told the layers' centroids, widths and peaks (not in the paper).
        critic_channels: the same for the critic.
        critic_hidden: width of the critic's dense layers.
        gradient_penalty: lambda.
        critic_steps: critic steps per autoencoder step.
        beta_kld: weight of the Kullback-Leibler divergence.
        reconstruction: weight of the mean squared difference a voxel, in transformed space; 0 in the authors' model.
    """

    def __init__(
        self,
        shape: tuple[Count, ...],
        n_conditions: Count,
        latent: Count = 24,
        views: Views = "3d",
        channels: Channels = (64, 32, 16, 8),
        hidden: Widths = (768, 4000),
        encoder_channels: Channels = (8, 16, 32, 64),
        moments: bool = False,
        critic_channels: Channels = (128, 128, 128),
        critic_hidden: Count = 64,
        gradient_penalty: NotNegative = 10.0,
        critic_steps: Count = 5,
        beta_kld: NotNegative = 0.05,
        reconstruction: NotNegative = 0.0,
    ) -> None:
        config = {
            "latent": latent,
            "views": views,
            "channels": channels,
            "hidden": hidden,
            "encoder_channels": encoder_channels,
            "moments": moments,
            "critic_channels": critic_channels,
            "critic_hidden": critic_hidden,
            "gradient_penalty": gradient_penalty,
            "critic_steps": critic_steps,
            "beta_kld": beta_kld,
            "reconstruction": reconstruction,
        }
        super().__init__(shape, n_conditions, name="vae-gan", encoded=latent, config=config)

    def phases(self) -> Sequence[Sequence[Objective]]:
        """Critic and autoencoder alternate."""
        return [
            [
                Objective("critic", [self.critic], self._critic_loss, self.config["critic_steps"]),
                Objective("autoencoder", [self.encoder, self.decoder], self._autoencoder_loss),
            ]
        ]

    def _autoencoder_loss(self, batch: Batch) -> Tensor:
        showers, code = self.reconstruct(batch)
        score = self.score(batch.showers, showers, batch.condition)
        divergence = kl_divergence(code.mean, code.log_variance, batch.weight)
        loss: Tensor = wasserstein_generator_loss(score, batch.weight) + self.config["beta_kld"] * divergence
        if self.config["reconstruction"]:
            missed = weighted_mean((showers - batch.showers).square(), batch.weight)
            loss = loss + self.config["reconstruction"] * missed
        return loss
