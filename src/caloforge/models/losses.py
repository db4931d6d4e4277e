"""Losses as pure functions: tensors in, a scalar out, randomness only through a passed ``rng``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


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
