"""Train a classifier network to tell generated showers from the reference, as the challenge does (arXiv 2410.21611).

Showers of each sample are split at random: on the first part the network learns, on the second ("test") the epoch with
the best accuracy is chosen and the scores are calibrated, on the third ("val") the area under the ROC curve and the
Jensen-Shannon divergence are measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ...errors import CaloforgeError
from ...progress import Progress, silent
from ..resampling import Estimate

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MIN_SHOWERS = 50


@dataclass(frozen=True)
class Settings:
    """How a network is trained; the defaults are the challenge's.

    Attributes:
        epochs: passes through the training showers.
        batch: showers in a batch, of both samples together.
        learning_rate: of Adam.
        double: compute in float64, else in float32.
    """

    epochs: int = 50
    batch: int = 1000
    learning_rate: float = 2e-4
    double: bool = True

    def steps(self, train: int) -> int:
        """Optimisation steps with so many showers of each sample to train on."""
        return self.epochs * len(_batches(np.arange(2 * train), self.batch))

    @property
    def dtype(self) -> torch.dtype:
        """Type of all numbers."""
        return torch.float64 if self.double else torch.float32


class Source(Protocol):
    """What a network sees of the showers of one sample."""

    def __len__(self) -> int: ...

    def inputs(self, which: Tensor, dtype: torch.dtype) -> Tensor:
        """Vectors of showers ``which`` (B, F)."""


@dataclass(frozen=True)
class View:
    """Some showers of a source.

    Attributes:
        source: the sample.
        rows: which of its showers.
    """

    source: Source
    rows: Integers


@dataclass(frozen=True)
class Outcome:
    """What one training reached.

    Attributes:
        auc: area under the ROC curve on "val", scores calibrated; its error is that of so many showers.
        jsd: Jensen-Shannon divergence there: 1 - binary cross-entropy / ln 2; likewise.
        accuracy: best accuracy on "test".
        epoch: the epoch it was reached in, from 1.
        steps: optimisation steps of the whole training.
        scores: calibrated scores on "val", reference first.
        rows: the showers they belong to: of the reference's source, of the generated's.
    """

    auc: Estimate
    jsd: Estimate
    accuracy: float
    epoch: int
    steps: int
    scores: Floats = field(repr=False)
    rows: tuple[Integers, Integers] = field(repr=False)


def contest(
    reference: View,
    generated: View,
    build: Callable[[], nn.Module],
    *,
    split: tuple[int, int, int],
    settings: Settings,
    seed: Sequence[int],
    device: torch.device,
    progress: Progress = silent,
) -> Outcome:
    """Train a network once and score it; the same seed gives the same split, start and batches.

    Args:
        reference: showers with label 1.
        generated: showers with label 0; if the numbers differ, the larger sample is cut at random.
        build: makes the network.
        split: official numbers of showers; fewer are split in proportion.
        settings: how to train.
        seed: of everything random; any numbers.
        device: where to.
        progress: called with epochs done, epochs.

    Raises:
        CaloforgeError: if there are fewer than 50 showers in either sample.
    """
    n = min(len(reference.rows), len(generated.rows), sum(split))
    if n < MIN_SHOWERS:
        raise CaloforgeError(
            f"a classifier was given {len(reference.rows)} and {len(generated.rows)} showers; "
            f"it needs {MIN_SHOWERS} of each, give more."
        )
    rng = np.random.default_rng(list(seed))
    sizes = split_sizes(n, split)
    cuts = [np.split(rng.permutation(v.rows)[:n], np.cumsum(sizes)[:-1]) for v in (reference, generated)]
    sets = [_Pool((reference.source, generated.source), (a, b), device) for a, b in zip(*cuts, strict=True)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**62)))
        network = build().to(device=device, dtype=settings.dtype)
    accuracy, epoch, steps = _train(network, sets[0], sets[1], settings, rng, progress)
    scores = [_scores(network, s, settings) for s in sets[1:]]
    found = calibrated(scores[0], sets[1].labels, scores[1])
    auc, jsd = area_and_divergence(found, sets[2].labels)
    return Outcome(auc, jsd, accuracy, epoch, steps, found, (cuts[0][2], cuts[1][2]))


def split_sizes(n: int, official: tuple[int, int, int]) -> tuple[int, int, int]:
    """Numbers of showers to train, test and score on: the official ones, scaled down in proportion to n showers."""
    train, test, _ = (size * n // sum(official) for size in official)
    return train, test, n - train - test


class _Pool:
    """Showers of both samples with their labels, made dense a batch at a time."""

    def __init__(self, sources: tuple[Source, Source], rows: tuple[Integers, Integers], device: torch.device) -> None:
        self._sources = sources
        self._rows = torch.from_numpy(np.concatenate(rows)).to(device)
        self._device = device
        self.labels: Floats = np.repeat([1.0, 0.0], [len(r) for r in rows])
        self._first = len(rows[0])

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, which: Integers, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Inputs (B, F) and labels (B,), reference first."""
        ordered = np.sort(which)
        cut = int(np.searchsorted(ordered, self._first))
        rows = self._rows[torch.from_numpy(ordered).to(self._device)]
        parts = [s.inputs(r, dtype) for s, r in zip(self._sources, (rows[:cut], rows[cut:]), strict=True) if len(r)]
        return torch.cat(parts), torch.from_numpy(self.labels[ordered]).to(self._device, dtype)


def _batches(order: Integers, size: int) -> list[Integers]:
    """Parts of ``size``; a last part of one joins the one before it, as batch normalisation needs two."""
    parts = np.split(order, range(size, len(order), size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [np.concatenate(parts[-2:])]
    return parts


def _train(
    network: nn.Module,
    train: _Pool,
    test: _Pool,
    settings: Settings,
    rng: np.random.Generator,
    progress: Progress,
) -> tuple[float, int, int]:
    """Train and leave the network as it was in its best epoch; the accuracy and number of that, and all steps."""
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    best, best_epoch, steps = -math.inf, 0, 0
    kept: dict[str, Any] = {}
    for epoch in range(1, settings.epochs + 1):
        network.train()
        for which in _batches(rng.permutation(len(train)), settings.batch):
            inputs, labels = train.batch(which, settings.dtype)
            loss = nn.functional.binary_cross_entropy_with_logits(network(inputs), labels)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            steps += 1
        accuracy = float(np.mean((_scores(network, test, settings) > 0.5) == (test.labels == 1)))
        if accuracy > best:
            best, best_epoch = accuracy, epoch
            kept = {name: value.clone() for name, value in network.state_dict().items()}
        progress(epoch, settings.epochs, f"accuracy {accuracy:.3f}")
        if accuracy == 1:
            progress(settings.epochs, settings.epochs, "accuracy 1, stopped")
            break
    network.load_state_dict(kept)
    return best, best_epoch, steps


@torch.no_grad()
def _scores(network: nn.Module, pool: _Pool, settings: Settings) -> Floats:
    """Probability of being of the reference (N,)."""
    network.eval()
    parts = [
        torch.sigmoid(network(pool.batch(which, settings.dtype)[0])).cpu().double()
        for which in _batches(np.arange(len(pool)), settings.batch)
    ]
    scores: Floats = torch.cat(parts).numpy()
    return scores


def calibrated(known: Floats, labels: Floats, scores: Floats) -> Floats:
    """Scores made probabilities by isotonic regression.

    Args:
        known: scores of showers whose labels it is fitted on (N,).
        labels: 1 for the reference, 0 for generated (N,).
        scores: to be calibrated (M,).
    """
    from sklearn.isotonic import IsotonicRegression

    fit = IsotonicRegression(out_of_bounds="clip", y_min=1e-6, y_max=1 - 1e-6).fit(known, labels)
    found: Floats = fit.predict(scores)
    return found


def area_and_divergence(scores: Floats, labels: Floats) -> tuple[Estimate, Estimate]:
    """Area under the ROC curve, and Jensen-Shannon divergence: 1 - binary cross-entropy / ln 2.

    Errors are those of so many independent showers; the area's after Hanley and McNeil (Radiology 143 (1982) 29).

    Args:
        scores: probabilities of label 1 (N,).
        labels: 0 or 1 (N,).
    """
    from sklearn.metrics import roc_auc_score

    safe = scores.clip(1e-12, 1 - 1e-12)
    entropy = -(labels * np.log(safe) + (1 - labels) * np.log1p(-safe)) / math.log(2)
    area = float(roc_auc_score(labels, scores))
    n, m = (labels == 1).sum(), (labels == 0).sum()
    ties = (n - 1) * (area / (2 - area) - area**2) + (m - 1) * (2 * area**2 / (1 + area) - area**2)
    variance = max(0.0, float((area * (1 - area) + ties) / (n * m)))
    jsd = Estimate(float(1 - entropy.mean()), float(entropy.std() / math.sqrt(len(entropy))))
    return Estimate(area, math.sqrt(variance)), jsd


def find_device(name: str) -> torch.device:
    """A device by name; "auto" is a GPU if there is one.

    Raises:
        CaloforgeError: if it is not there.
    """
    known = ["cpu"]
    if torch.cuda.is_available():
        known += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if name == "auto":
        name = known[1] if len(known) > 1 else "cpu"
    if name not in known:
        raise CaloforgeError(f"'{name}' is not a device that is here; use auto or one of {', '.join(known)}.")
    return torch.device(name)
