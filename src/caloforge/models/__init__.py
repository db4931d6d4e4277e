"""Generative models: one file a paper, one line a model in `MODELS`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..errors import lookup
from ..options import checked_options
from .adagan import Adagan
from .base import Batch, GenerativeModel, Objective
from .bib_ae import BibAe
from .calogan import CaloGan
from .calpagan import Calpagan
from .coarse_to_fine import CoarseToFine
from .gan_2d import Gan2d
from .gan_3d import Gan3d
from .layer_energy import LayerEnergy
from .lhcb_wgan import LhcbWgan
from .low_rank import LowRank
from .pix2pix import Pix2pix
from .vae_gan import VaeGan
from .wgan import Wgan

MODELS: dict[str, type[GenerativeModel]] = {
    "2dgan": Gan2d,
    "3dgan": Gan3d,
    "adagan": Adagan,
    "bib-ae": BibAe,
    "calogan": CaloGan,
    "calpagan": Calpagan,
    "coarse-to-fine": CoarseToFine,
    "layer-energy": LayerEnergy,
    "lhcb-wgan": LhcbWgan,
    "low-rank": LowRank,
    "pix2pix": Pix2pix,
    "vae-gan": VaeGan,
    "wgan": Wgan,
}
"""All models by name."""

__all__ = ["MODELS", "Batch", "GenerativeModel", "Objective", "build_model"]


def build_model(name: str, shape: Sequence[int], n_conditions: int, *, seed: int = 0, **config: Any) -> GenerativeModel:
    """Build a model by name, its weights drawn from ``seed``.

    Args:
        name: a key of `MODELS`.
        shape: (L, Y, X) of a shower.
        n_conditions: number of conditions C.
        seed: of the initial weights; the global random state is left as it was.
        config: the model's own options, e.g. from a config file. ``model.config`` holds all of them with
            ``shape`` and ``n_conditions``: ``build_model(name, **model.config)`` builds the same networks.

    Raises:
        CaloforgeError: if the name or an option is unknown, or a value is not allowed.
    """
    kind = lookup(MODELS, name, "a model")
    given = {"shape": tuple(shape), "n_conditions": n_conditions, **config}
    options = checked_options(kind, given, f"model '{name}'")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return kind(**options)
