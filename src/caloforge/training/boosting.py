"""The arithmetic of AdaGAN (Tolstikhin et al., arXiv 1701.02386): weights of the showers, shares of the components."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Beta = float | Literal["uniform"]


def beta_of(step: int, beta: Beta) -> float:
    """Share of component ``step`` (1, 2, ...) when it joins: constant, or 1 / (step + 1) so that all end up equal."""
    return 1 / (step + 1) if beta == "uniform" else float(beta)


def mixture_shares(n: int, beta: Beta) -> list[float]:
    """Weights of ``n`` components: each new one takes beta, the older ones keep their proportions."""
    shares = [1.0]
    for step in range(1, n):
        new = beta_of(step, beta)
        shares = [(1 - new) * share for share in shares] + [new]
    return shares


def boosting_weights(probability: Floats, beta: float) -> tuple[float, Floats]:
    """How much the next component should see of each shower (arXiv 1701.02386, section 3, algorithm 2).

    Args:
        probability: D(X_i) (N,) of the mixture discriminator on the training showers: close to 1 where Geant4 makes
            more showers than the mixture. Opinions surer than 0.001 and 0.999 are taken as these: no single shower
            should outweigh all others on a discriminator's word.
        beta: share of the next component.

    Returns:
        lambda* and the weights ``w_i = (lambda* - (1 - beta) (1 - D) / D)_+ / (N beta)``, which sum to one.
    """
    share = 1 / len(probability)
    probability = np.clip(probability, 1e-3, 1 - 1e-3)
    odds = (1 - probability) / probability  # density of the mixture over that of the data
    rising = np.sort(odds)
    covered = share * np.arange(1, len(odds) + 1)
    # lambda* if just the k showers with the smallest odds had a weight; the right k is the last with all positive.
    candidates = beta / covered * (1 + (1 - beta) / beta * np.cumsum(share * rising))
    positive = candidates > (1 - beta) * rising
    best = float(candidates[np.flatnonzero(positive)[-1]])
    weights = np.maximum(best - (1 - beta) * odds, 0) * share / beta
    return best, weights / weights.sum()


def resample(weights: Floats, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Numbers (n,) of showers, each as often as its weight asks, to within one (systematic resampling)."""
    edges = np.cumsum(weights) / np.sum(weights)
    return np.minimum(np.searchsorted(edges, (rng.random() + np.arange(n)) / n, side="right"), len(weights) - 1)


def boost(
    n_showers: int,
    n_components: int,
    beta: Beta,
    fit: Callable[[int, Floats], None],
    discriminate: Callable[[int], Floats],
) -> list[float]:
    """Run AdaGAN.

    Args:
        n_showers: N, of the training showers.
        n_components: T + 1.
        beta: constant share of each new component, or "uniform".
        fit: trains component t on showers with weights (N,) of sum one, and keeps it.
        discriminate: trains a discriminator between the data and the mixture of the first t components, and gives its
            opinion D(X_i) (N,) of the training showers, between 0 and 1.

    Returns:
        The shares of the components.
    """
    fit(0, np.full(n_showers, 1 / n_showers))
    for step in range(1, n_components):
        _, weights = boosting_weights(discriminate(step), beta_of(step, beta))
        fit(step, weights)
    return mixture_shares(n_components, beta)
