"""Optimisers and their learning rates, from settings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from .settings import OptimiserSettings


def build_optimiser(parameters: Sequence[nn.Parameter], settings: OptimiserSettings) -> torch.optim.Optimizer:
    """The optimiser of one objective."""
    lr, decay = settings.lr, settings.weight_decay
    if settings.name in ("adam", "adamw"):
        kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
        return kind(parameters, lr=lr, betas=(settings.betas[0], settings.betas[1]), weight_decay=decay)
    if settings.name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=settings.momentum, weight_decay=decay)
    return torch.optim.RMSprop(parameters, lr=lr, momentum=settings.momentum, weight_decay=decay)


def learning_rate(settings: OptimiserSettings, iteration: int, steps: int) -> float:
    """Learning rate of iteration 0, 1, ..., ``steps`` - 1 of a phase.

    Linear warm-up to ``lr`` in ``warmup`` iterations, then the decay, which would reach ``final * lr`` one iteration
    after the last.
    """
    if iteration < settings.warmup:
        return settings.lr * (iteration + 1) / settings.warmup
    passed = (iteration - settings.warmup) / max(steps - settings.warmup, 1)
    final = settings.final
    factor: float = {
        "constant": 1.0,
        "linear": 1 + (final - 1) * passed,
        "cosine": final + (1 - final) * (1 + math.cos(math.pi * passed)) / 2,
        "exponential": final**passed,
    }[settings.decay]
    return settings.lr * factor
