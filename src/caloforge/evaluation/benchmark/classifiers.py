"""The challenge's classifiers, repeated, with errors, floors and a number for every range of energy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ...crew import HERE, Crew
from ...progress import Progress, silent
from ..distributions import MIN_IN_BIN
from .contest import Outcome, Settings, Source, View, contest, split_sizes
from .features import Features
from .networks import DenseClassifier, ResNetClassifier, parameters_of
from .rows import Rows
from .views import FeatureSource, NormedVoxelSource, VoxelSource

Floats = npt.NDArray[np.float64]

ENERGY_BINS = 4


@dataclass(frozen=True)
class Competitors:
    """Both samples in all the forms that classifiers see.

    Attributes:
        reference: features of the reference.
        generated: of the generated showers.
        matrices: both as the vectors of the standard.
        rows: both as sparse rows, if they were read.
        split: official numbers of showers to train, test and score on.
        device: where to train.
    """

    reference: Features
    generated: Features
    matrices: tuple[Floats, Floats]
    rows: tuple[Rows, Rows] | None
    split: tuple[int, int, int]
    device: torch.device


@dataclass(frozen=True)
class Network:
    """One of the challenge's classifiers.

    Attributes:
        label: its name in tables.
        voxels: makes a source of sparse rows; None: it sees the features.
        convolutional: whether it wants all layers to have the same voxels.
    """

    label: str
    voxels: Callable[[Rows], Source] | None
    convolutional: bool = False

    def defined(self, rows: tuple[Rows, Rows] | None) -> bool:
        """Whether it can see such showers."""
        return not self.convolutional or rows is None or len(rows[0].detector.shape) == 3


NETWORKS: dict[str, Network] = {
    "high": Network("high-level network (features)", None),
    "low": Network("low-level network (voxels)", VoxelSource),
    "normed": Network("low-level network (voxels over layer energies)", NormedVoxelSource),
    "resnet": Network("ResNet (voxels)", VoxelSource, convolutional=True),
}
"""The classifiers by name."""


Seen = tuple[Floats, Floats] | tuple[Rows, Rows]
"""Both samples in the form that one of the networks sees."""


@dataclass(frozen=True)
class Training:
    """How one of `NETWORKS` is trained: plain data, whoever trains it.

    Attributes:
        name: of the network.
        settings: the challenge's or others.
        split: official numbers of showers to train, test and score on.
        device: where to.
        seed: of splits, starts and batches.
    """

    name: str
    settings: Settings
    split: tuple[int, int, int]
    device: torch.device
    seed: int


def compete(
    name: str,
    samples: Competitors,
    settings: Settings,
    *,
    double: bool,
    seed: int,
    repeats: int,
    crew: Crew = HERE,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train one of `NETWORKS` several times, and half as often on halves of the reference for the floor.

    Args:
        name: of the network.
        samples: what it sees.
        settings: how it is trained.
        double: whether one that sees voxels is trained in float64.
        seed: of splits, starts and batches.
        repeats: how often.
        crew: who trains, once at a time; only this process tells of every epoch.
        progress: called with percent done, 100 and what is being done.

    Returns:
        Plain data: "auc" and "jsd" with "value", "error", "floor", "by_energy", "repeats" and how it was trained.
    """
    network = NETWORKS[name]
    settings = Settings(settings.epochs, settings.batch, settings.learning_rate, double or network.voxels is None)
    trainings = repeats + max(1, repeats // 2)
    seen: Seen | None = samples.matrices if network.voxels is None else samples.rows
    assert seen is not None
    how = Training(name, settings, samples.split, samples.device, seed)

    def shown(repeat: int, done: int, total: int, note: str = "") -> None:
        text = f"{network.label}, training {repeat + 1} of {trainings}, epoch {done} of {total}, {note}"
        progress(round(100 * (repeat + done / total) / trainings), 100, text)

    shared = crew.share(seen)
    tasks = (
        (how, shared, repeat, repeat >= repeats, partial(shown, repeat) if crew is HERE else silent)
        for repeat in range(trainings)
    )
    outcomes: list[Outcome] = []
    for outcome in crew.each(train_once, tasks):
        outcomes.append(outcome)
        progress(round(100 * len(outcomes) / trainings), 100, f"{network.label}, {len(outcomes)} of {trainings}")
    told, bottom = outcomes[:repeats], outcomes[repeats:]
    build = _builder(network, seen, how)
    with torch.device("meta"):  # only to count
        parameters = parameters_of(build())
    n = min(map(len, seen))
    return {
        "label": network.label,
        **{quantity: _number(quantity, told, bottom, len(seen[0]) // 2) for quantity in ("auc", "jsd")},
        "by_energy": _by_energy(told, samples),
        "repeats": [_plain(o) for o in told],
        "parameters": parameters,
        "precision": "float64" if settings.double else "float32",
        "split": list(split_sizes(min(n, sum(samples.split)), samples.split)),
    }


def train_once(how: Training, seen: Seen, repeat: int, for_floor: bool, progress: Progress) -> Outcome:
    """Train a network on both samples, or for the floor on two halves of the reference.

    Args:
        how: the network and how it is trained.
        seen: the reference's and the generated showers.
        repeat: number of the training.
        for_floor: whether it is for the floor.
        progress: called with epochs done, epochs.
    """
    network = NETWORKS[how.name]
    sources = [_source(network, each, how.device) for each in seen]
    views = [View(source, np.arange(len(source))) for source in sources]
    if for_floor:
        order = np.random.default_rng([how.seed, 11, repeat]).permutation(len(sources[0]))
        views = [View(sources[0], half) for half in np.array_split(order, 2)]
    return contest(
        views[0], views[1], _builder(network, seen, how), split=how.split, settings=how.settings,
        seed=(how.seed, list(NETWORKS).index(how.name), repeat), device=how.device, progress=progress,
    )  # fmt: skip


def _source(network: Network, seen: Floats | Rows, device: torch.device) -> Source:
    if not isinstance(seen, Rows):
        return FeatureSource(torch.from_numpy(seen).to(device))
    assert network.voxels is not None
    return network.voxels(seen.to(device))


def _builder(network: Network, seen: Seen, how: Training) -> Callable[[], nn.Module]:
    """What makes the network for such showers."""
    if network.convolutional:
        assert isinstance(seen[0], Rows)
        return partial(ResNetClassifier, seen[0].detector.shape)
    first = _source(network, seen[0], how.device).inputs(
        torch.zeros(1, dtype=torch.long, device=how.device), how.settings.dtype
    )
    return partial(DenseClassifier, first.shape[1])


def _number(quantity: str, told: Sequence[Outcome], bottom: Sequence[Outcome], half: int) -> dict[str, Any]:
    """Mean and standard deviation over the repeats; a single one has the error of its number of showers."""
    found = []
    for outcomes in (told, bottom):
        each = [getattr(o, quantity) for o in outcomes]
        values = [e.value for e in each]
        error = float(np.std(values, ddof=1)) if len(values) > 1 else each[0].error
        found.append({"value": float(np.mean(values)), "error": error})
    return {**found[0], "floor": {**found[1], "size": half, "repeats": len(bottom)}}


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {
        "auc": outcome.auc.value,
        "jsd": outcome.jsd.value,
        "accuracy": outcome.accuracy,
        "epoch": outcome.epoch,
        "steps": outcome.steps,
    }


def _by_energy(outcomes: Sequence[Outcome], samples: Competitors) -> dict[str, Any]:
    """Areas under the ROC curve in ranges of incident energy with as many reference showers each."""
    from sklearn.metrics import roc_auc_score

    energies = samples.reference.incident_energy, samples.generated.incident_energy
    edges = np.unique(np.quantile(energies[0], np.linspace(0, 1, ENERGY_BINS + 1)))
    areas: list[dict[str, float] | None] = []
    for number in range(len(edges) - 1):
        found = []
        for outcome in outcomes:
            energy = np.concatenate([e[r] for e, r in zip(energies, outcome.rows, strict=True)])
            label = np.repeat([1, 0], [len(r) for r in outcome.rows])
            last = number == len(edges) - 2
            inside = (energy >= edges[number]) & (
                (energy <= edges[number + 1]) if last else (energy < edges[number + 1])
            )
            counts = np.bincount(label[inside], minlength=2)
            if counts.min() >= MIN_IN_BIN:
                found.append(float(roc_auc_score(label[inside], outcome.scores[inside])))
        spread = float(np.std(found, ddof=1)) if len(found) > 1 else float("nan")
        areas.append({"value": float(np.mean(found)), "error": spread} if found else None)
    return {"edges_mev": edges.tolist(), "auc": areas}
