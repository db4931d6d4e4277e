"""Losses as pure functions: tensors in, a scalar out, randomness only through a passed ``rng``."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def weighted_mean(values: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean over showers of ``values`` (B, ...) with weights (B,) of mean one; plain mean without weights."""
    per_shower = values.reshape(len(values), -1).mean(1)
    return per_shower.mean() if weight is None else (weight * per_shower).mean()


def wasserstein_critic_loss(real: Tensor, fake: Tensor, weight: Tensor | None = None) -> Tensor:
    """E[D(fake)] - E[D(real)] from scores (B,) or (B, 1) (arXiv 1701.07875, eq. 2, sign turned to a loss).

    Fake and real showers share their conditions row by row, so one weight (B,) serves both.
    """
    return weighted_mean(fake - real, weight)


def wasserstein_generator_loss(fake: Tensor, weight: Tensor | None = None) -> Tensor:
    """-E[D(fake)] from scores (B,) or (B, 1)."""
    return -weighted_mean(fake, weight)


def gradient_penalty(
    critic: Callable[[Tensor], Tensor],
    real: Tensor,
    fake: Tensor,
    rng: torch.Generator,
    weight: Tensor | None = None,
) -> Tensor:
    """E[(|grad D(x_hat)| - 1)^2] at x_hat between real and fake showers (arXiv 1704.00028, eq. 3).

    Args:
        critic: maps showers (B, ...) to scores (B,) or (B, 1); bind the conditions before.
        real: showers (B, ...).
        fake: showers (B, ...); gradients do not flow into them.
        rng: draws where between the two each x_hat lies.
        weight: of each shower (B,), mean one.

    Returns:
        Scalar, differentiable in the critic's parameters (double backward: do not compile the critic).
    """
    u = torch.rand(len(real), generator=rng, device=rng.device).to(real)
    u = u.reshape(-1, *[1] * (real.ndim - 1))
    between = torch.lerp(fake.detach(), real.detach(), u).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    # The small constant keeps the derivative of the norm finite where the gradient vanishes.
    norm = (gradient.flatten(1).square().sum(1) + 1e-12).sqrt()
    return weighted_mean((norm - 1).square(), weight)


def wgan_gp_critic_loss(
    critic: Callable[[Tensor], Tensor],
    real: Tensor,
    fake: Tensor,
    strength: float,
    rng: torch.Generator,
    weight: Tensor | None = None,
) -> Tensor:
    """E[D(fake)] - E[D(real)] + lambda E[(|grad D| - 1)^2], what a critic minimises (arXiv 1704.00028, eq. 3).

    Args:
        critic: maps showers (B, ...) to scores (B,) or (B, 1); bind the conditions before.
        real: showers (B, ...).
        fake: showers (B, ...) with the same conditions, detached from the generator.
        strength: lambda.
        rng: for `gradient_penalty`.
        weight: of each shower (B,), mean one.
    """
    distance = wasserstein_critic_loss(critic(real), critic(fake), weight)
    return distance + strength * gradient_penalty(critic, real, fake, rng, weight)


def label_loss(logit: Tensor, label: Tensor, weight: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of logits (B,) against labels (B,) in 0..1 (arXiv 1406.2661, eq. 1, as a loss)."""
    return weighted_mean(F.binary_cross_entropy_with_logits(logit, label, reduction="none"), weight)


def flip_labels(label: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Turn about ``share`` of the labels (B,) into their opposite, so that a discriminator never becomes too sure."""
    flipped = torch.rand(len(label), generator=rng, device=rng.device).to(label) < share
    return torch.where(flipped, 1 - label, label)


def percentage_error(read: Tensor, target: Tensor, weight: Tensor | None = None, floor: float = 0.05) -> Tensor:
    """Mean absolute percentage error of numbers (B,), in per cent as in Keras.

    Args:
        read: (B,).
        target: (B,).
        weight: of each shower (B,), mean one.
        floor: errors are divided by no less than this part of the mean target: with targets over several decades the
            smallest would else rule the loss.
    """
    size = target.abs()
    return 100 * weighted_mean((read - target).abs() / size.clamp(min=floor * size.mean() + 1e-9), weight)


def r1_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor, weight: Tensor | None = None) -> Tensor:
    """E[|grad D(real)|^2] of the logits (arXiv 1801.04406, eq. 9, without gamma / 2).

    Args:
        discriminator: maps showers (B, ...) to logits (B,) or (B, 1).
        real: showers (B, ...).
        weight: of each shower (B,), mean one.

    Returns:
        Scalar, differentiable in the discriminator's parameters (double backward: do not compile it).
    """
    real = real.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return weighted_mean(gradient.flatten(1).square().sum(1), weight)


def kl_divergence(mean: Tensor, log_variance: Tensor, weight: Tensor | None = None) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)), summed over latent variables (B, Z) (arXiv 1312.6114, appendix B)."""
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
    return weighted_mean(divergence.sum(1), weight)


Kernel = Callable[[Tensor], Tensor]
"""Similarity of two points as a function of their squared distance."""


def gaussian_kernel(*alphas: float) -> Kernel:
    """Sum of exp(-alpha d^2)."""
    return lambda square: functools.reduce(torch.add, (torch.exp(-alpha * square) for alpha in alphas))


def inverse_multiquadric_kernel(*scales: float) -> Kernel:
    """Sum of s / (s + d^2): its long tails pull from afar too (arXiv 1711.01558, section 4)."""
    return lambda square: functools.reduce(torch.add, (scale / (scale + square) for scale in scales))


def mmd(x: Tensor, y: Tensor, kernel: Kernel, weight_x: Tensor | None = None, weight_y: Tensor | None = None) -> Tensor:
    """Squared maximum mean discrepancy of two samples (JMLR 13 (2012) 723, eq. 5, the biased one: never negative).

    Args:
        x: (B, D).
        y: (M, D).
        kernel: see `gaussian_kernel`.
        weight_x: of each row of x (B,), mean one.
        weight_y: of each row of y (M,), mean one.
    """

    def similarity(a: Tensor, b: Tensor, weight_a: Tensor | None, weight_b: Tensor | None) -> Tensor:
        close = kernel((a.unsqueeze(1) - b).square().sum(2))
        return weighted_mean(close if weight_b is None else close * weight_b, weight_a)

    own = similarity(x, x, weight_x, weight_x) + similarity(y, y, weight_y, weight_y)
    return own - 2 * similarity(x, y, weight_x, weight_y)


def sorted_kernel_mmd(
    real: Tensor,
    fake: Tensor,
    kernel: Kernel,
    window: int = 100,
    stride: int = 25,
    cells: int = 2000,
    weight: Tensor | None = None,
) -> Tensor:
    """MMD of the cell energies of showers, among cells of similar energy rank (arXiv 2005.05334, section 3.3).

    The cells of each shower are sorted by energy. A window runs down the ranks, and the energies of the real shower in
    it are compared with those of the fake one; the mean over windows and showers is returned. All cells at once would
    cost the square of their number, and the few energetic ones would not count among the many faint ones.

    Args:
        real: showers (B, ...).
        fake: showers (B, ...), each made for the conditions of the real one in its row.
        kernel: of energies, in the showers' own unit.
        window: cells compared with each other; all ``cells`` if there are fewer.
        stride: ranks between two windows.
        cells: number of most energetic cells looked at; all, if the showers have fewer.
        weight: of each shower (B,), mean one.
    """
    n = min(cells, real[0].numel())
    a, b = (x.flatten(1).topk(n, dim=1).values.unfold(1, min(window, n), stride) for x in (real, fake))  # (B, W, K)

    def similarity(x: Tensor, y: Tensor) -> Tensor:
        return kernel((x.unsqueeze(3) - y.unsqueeze(2)).square()).mean((2, 3))

    return weighted_mean(similarity(a, a) + similarity(b, b) - 2 * similarity(a, b), weight)
