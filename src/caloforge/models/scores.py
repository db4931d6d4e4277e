"""Proper scores of what is drawn, each from two draws of one condition: a right model has the lowest in the mean.

Gneiting, Raftery, "Strictly proper scoring rules, prediction, and estimation", J. Am. Stat. Assoc. 102 (2007) 359.
"""

from __future__ import annotations

import torch
from torch import Tensor


def crps(one: Tensor, two: Tensor, true: Tensor) -> Tensor:
    """Continuous ranked probability score of numbers, of any shape -> the same shape (eq. 21)."""
    return ((one - true).abs() + (two - true).abs() - (one - two).abs()) / 2


def energy_score(one: Tensor, two: Tensor, true: Tensor) -> Tensor:
    """Of vectors (B, D) -> (B,) (eq. 22)."""
    return (distance(one, true) + distance(two, true) - distance(one, two)) / 2


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distance of rows (B, D), with a derivative where they are equal."""
    return torch.sqrt((a - b).square().sum(1) + 1e-12)
