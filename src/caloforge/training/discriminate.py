"""The mixture discriminator of AdaGAN (arXiv 1701.02386, section 3): which training showers does the mixture miss?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from ..models.base import GenerativeModel
from .batches import Source
from .boosting import Floats
from .settings import BoostingSettings

_BATCH = 64


@dataclass(frozen=True)
class Opinion:
    """What a mixture discriminator thinks.

    Attributes:
        probability: D(X_i) (N,) of the training showers, 0 to 1.
        auc: area under its ROC curve between these and as many showers of the mixture; 0.5 where it sees no difference.
    """

    probability: Floats
    auc: float


class MixtureDiscriminator(nn.Module):
    """Tells showers of the data from those of the mixture, given the condition.

    Images (B, L, Y, X) pass through strided convolutions with the layers as channels, anything else through dense
    layers. Values are compressed by log(1 + |x| / scale) first: transforms may leave them linear in energy.
    """

    def __init__(self, shape: Sequence[int], n_conditions: int, width: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        if len(shape) == 3:
            self.look = nn.Sequential(
                nn.Conv2d(shape[0], width, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
                nn.LeakyReLU(0.2),
                nn.Flatten(),
            )
            n_features = 2 * width * -(-shape[1] // 4) * -(-shape[2] // 4)
        else:
            n_features = 4 * width
            self.look = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), n_features), nn.LeakyReLU(0.2))
        self.decide = nn.Sequential(
            nn.Linear(n_features + n_conditions, 4 * width), nn.LeakyReLU(0.2), nn.Linear(4 * width, 1)
        )

    def forward(self, showers: Tensor, condition: Tensor) -> Tensor:
        """(B, *shape), (B, C) -> logits (B,), positive for data."""
        seen = showers.sign() * torch.log1p(showers.abs() / self.scale)
        logits: Tensor = self.decide(torch.cat([self.look(seen), condition], dim=1)).squeeze(1)
        return logits


def opinion_of(model: GenerativeModel, source: Source, settings: BoostingSettings, seed: Sequence[int]) -> Opinion:
    """Train a discriminator between training showers and a model with the same conditions, and ask its opinion.

    Args:
        model: the mixture so far, in evaluation mode, on the device of ``source``.
        source: the training showers, each once.
        settings: of the discriminator.
        seed: of all its randomness.
    """
    n, folds = len(source), min(settings.folds, len(source))
    part = np.random.default_rng([*seed, 0]).permutation(n) % folds
    logits, fake_logits = np.zeros(n), np.zeros(n)
    for fold in range(folds):
        rows = np.flatnonzero(part != fold) if folds > 1 else np.arange(n)
        judged = np.flatnonzero(part == fold)
        network, rng = _train(model, source, rows, settings, [*seed, fold + 1])
        logits[judged], fake_logits[judged] = _judge(network, model, source, judged, rng)
    truth = np.repeat([1, 0], n)
    auc = float(roc_auc_score(truth, np.concatenate([logits, fake_logits])))
    return Opinion(1 / (1 + np.exp(-logits)), auc)


def _train(
    model: GenerativeModel, source: Source, rows: np.ndarray, settings: BoostingSettings, seed: Sequence[int]
) -> tuple[MixtureDiscriminator, torch.Generator]:
    first = source.take(rows[:256])
    device = first.showers.device
    words = np.random.SeedSequence(list(seed)).generate_state(2, np.uint64) >> np.uint64(1)
    rng = torch.Generator(device).manual_seed(int(words[0]))
    scale = 0.1 * float(first.showers.abs().sum() / (first.showers != 0).sum().clamp(min=1)) or 1.0
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(words[1]))
        network = MixtureDiscriminator(model.shape, model.n_conditions, settings.width, scale).to(device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.lr, weight_decay=1e-2)
    draw = np.random.default_rng([*seed, 1])
    for step in range(settings.steps):
        for group in optimiser.param_groups:
            group["lr"] = settings.lr * (1 - step / settings.steps)
        example = source.take(draw.choice(rows, min(_BATCH, len(rows)), replace=False))
        with torch.no_grad():
            fake = model.sample(example.condition, rng)
        real_logits, fake_logits = network(example.showers, example.condition), network(fake, example.condition)
        loss = F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    return network, rng


@torch.no_grad()
def _judge(
    network: MixtureDiscriminator, model: GenerativeModel, source: Source, rows: np.ndarray, rng: torch.Generator
) -> tuple[Floats, Floats]:
    real, fake = [], []
    for start in range(0, len(rows), 256):
        example = source.take(rows[start : start + 256])
        real.append(network(example.showers, example.condition).cpu().double().numpy())
        fake.append(network(model.sample(example.condition, rng), example.condition).cpu().double().numpy())
    return np.concatenate(real), np.concatenate(fake)
