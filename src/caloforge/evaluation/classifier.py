"""Classifiers trained to tell generated from reference showers: if none can, nothing they look at differs.

Gradient-boosted trees are used for both views of a shower. On a few thousand showers of thousands of voxels they tell
samples apart that fully connected networks only memorise, need no scaling of their input, and give the same answer
every time.

Every training runs in one thread (more mostly wait for each other on so few showers), several trainings at a time, and
without weights (quantile bins of weighted samples take minutes): give equal numbers of both samples.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..crew import HERE, Crew
from ..errors import CaloforgeError
from ..progress import Progress, silent
from .chunk import Chunk
from .resampling import Estimate, spread
from .sample import Sample, chosen_rows, pieces

Floats = npt.NDArray[np.float64]
Features = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

MAX_SHOWERS = 20_000  # of each sample
MAX_VOXELS = 1000
MIN_SHOWERS = 50
MAX_THREADS = 4  # trainings at a time
MAX_BYTES = 2_000_000_000  # all trainings at a time; each holds its showers in float32, twice in float64, and binned
TEST_FRACTION = 0.3
MIN_IN_GROUP = 20  # of both samples among the showers tested; half of it for the floor, which is made of halves


@dataclass(frozen=True)
class Classifier:
    """One view of a shower that a classifier is trained on.

    Attributes:
        label: its name in tables.
        meaning: one line for people who see the number for the first time.
        features: (sample, reference, rows) -> what it sees of the showers ``rows`` of the sample (rows, F) and one
            sentence saying what that is.
    """

    label: str
    meaning: str
    features: Callable[[Sample, Sample, Integers], tuple[Features, str]]


def _conditions(sample: Sample, rows: Integers) -> list[Features]:
    """What is known about the incident particles, as columns."""
    incident = sample.incident[rows]
    names = ("log_energy", "tan_x", "tan_y", "x", "y")
    with np.errstate(divide="ignore"):
        return [incident.column(name).astype(np.float32)[:, None] for name in names]


def observable_features(sample: Sample, reference: Sample, rows: Integers) -> tuple[Features, str]:
    """All observables: one number a shower, by layer, and the contents of the profiles' bins."""
    tables = [*(v for k, v in sample.values.items()), *(v for k, v in sample.profiles.items() if "longitud" not in k)]
    columns = [*_conditions(sample, rows), *(t[rows].reshape(len(rows), -1).astype(np.float32) for t in tables)]
    matrix = np.concatenate(columns, axis=1)
    return matrix, f"sees the incident particle and {matrix.shape[1] - 5} numbers made of the observables"


def voxel_features(sample: Sample, reference: Sample, rows: Integers) -> tuple[Features, str]:
    """Voxel energies over the shower's total, with the total and the layer fractions.

    On detectors of more than 1000 voxels, those that hold energy most often in the reference are taken one by one and
    the rest is summed by layer, so that the table of features stays small.
    """
    from ..shower_file import ShowerFile

    n_voxels, layers = sample.detector.n_voxels, sample.detector.n_layers
    chosen = _busiest_voxels(reference, MAX_VOXELS)
    column = np.full(n_voxels, -1, dtype=np.int64)
    column[chosen] = np.arange(len(chosen))
    matrix = np.zeros((len(rows), len(chosen) + 2 * layers + 1), dtype=np.float32)
    done = 0
    with ShowerFile(sample.path) as file:
        kept = chosen_rows(len(file), len(sample))[rows]
        for showers in pieces(file, kept):
            chunk = Chunk(showers)
            part = matrix[done : done + len(chunk)]
            share = chunk.energy / chunk.total[chunk.row]
            at = column[showers.index]
            part[chunk.row[at >= 0], at[at >= 0]] = share[at >= 0]
            with np.errstate(divide="ignore", invalid="ignore"):
                part[:, len(chosen)] = chunk.total / showers.incident.energy
                part[:, len(chosen) + 1 : len(chosen) + 1 + layers] = chunk.energy_in_layer / chunk.total[:, None]
            rest = (chunk.row * layers + chunk.layer)[at < 0]
            part[:, len(chosen) + 1 + layers :] = np.bincount(
                rest, share[at < 0], minlength=len(chunk) * layers
            ).reshape(len(chunk), layers)
            done += len(chunk)
    if len(chosen) == n_voxels:
        note = f"sees all {n_voxels} voxel energies"
    else:
        note = f"sees the {len(chosen)} of {n_voxels} voxels hit most often, and the sum of the others in each layer"
    return np.concatenate([*_conditions(sample, rows), matrix], axis=1), note


def _busiest_voxels(reference: Sample, n: int) -> Integers:
    """Numbers of the n voxels that hold energy most often in the reference, rising."""
    order = np.argsort(-reference.occupancy, kind="stable")[:n]
    return np.sort(order)


CLASSIFIERS: dict[str, Classifier] = {
    "low": Classifier(
        "low-level classifier",
        "how often trained trees rank a real shower above a generated one by its voxels: 0.5 never tells, 1 always",
        voxel_features,
    ),
    "high": Classifier(
        "high-level classifier",
        "the same by its observables",
        observable_features,
    ),
}
"""Views of a shower that classifiers are trained on, by name."""


@dataclass(frozen=True)
class Separation:
    """What a classifier reached.

    Attributes:
        auc: area under the ROC curve on held-out showers; the error is the standard deviation over the repeats.
        repeats: the area of every repeat.
        curve: a ROC curve of the first repeat, (2, 101): fraction of generated, of reference showers accepted.
        by_group: for every group of showers (here: incident-energy bins) the area, None where there are too few.
        group_areas: the areas that ``by_group`` is made of (repeats, groups), NaN where there are too few showers.
    """

    auc: Estimate
    repeats: list[float]
    curve: Floats
    by_group: list[Estimate | None]
    group_areas: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    @classmethod
    def of(cls, areas: Floats, curve: Floats, group_areas: Floats) -> Separation:
        """From the arrays it is made of: areas (repeats,), curve (2, 101), areas of the groups (repeats, groups)."""
        by_group = [_estimate(column) if np.isfinite(column).all() else None for column in group_areas.T]
        return cls(_estimate(areas), areas.tolist(), curve, by_group, group_areas)

    def arrays(self) -> dict[str, Floats]:
        """What `of` makes it of, by name."""
        return {"areas": np.array(self.repeats), "curve": self.curve, "group_areas": self.group_areas}


def separate(
    reference: npt.NDArray[Any],
    generated: npt.NDArray[Any] | None,
    *,
    seed: int,
    repeats: int = 5,
    groups: tuple[Integers, Integers] | None = None,
    crew: Crew = HERE,
    progress: Progress = silent,
) -> Separation:
    """Train a classifier several times, each on another random 70 %, and test it on the held-out 30 %.

    Args:
        reference: features (N, F).
        generated: features (M, F); None for the floor: one random half of the reference against the other.
        seed: of the splits and the trees.
        repeats: how often.
        groups: group number of each reference and generated shower (-1: none), to score groups on their own; for the
            floor the second is not looked at.
        crew: who trains; this process trains several at a time, each in a thread.
        progress: called with repeats done, repeats.

    Raises:
        CaloforgeError: if there are fewer than 50 showers in either sample.
    """
    if min(len(reference), len(generated) if generated is not None else len(reference)) < MIN_SHOWERS:
        raise CaloforgeError(
            f"a classifier was given {len(reference)} and {len(reference if generated is None else generated)} "
            f"showers; it needs {MIN_SHOWERS} of each, give more."
        )

    outcomes = []
    with _silence(), ThreadPoolExecutor(_threads(reference, generated, repeats)) as pool:
        trained: Iterable[_Outcome]
        if crew is HERE:
            trained = pool.map(partial(_train, reference, generated, seed), range(repeats))
        else:
            one, two = crew.share(reference), crew.share(generated)
            trained = crew.each(_train, ((one, two, seed, repeat) for repeat in range(repeats)))
        for outcome in trained:
            outcomes.append(outcome)
            progress(len(outcomes), repeats, f"area {_auc(*outcome[:2]):.3f}")
    if generated is not None:
        return _summary(outcomes, groups, MIN_IN_GROUP)
    return _summary(outcomes, None if groups is None else (groups[0], groups[0]), MIN_IN_GROUP // 2)


@contextmanager
def _silence() -> Iterator[None]:
    """Keep warnings as they are while several trainings run.

    Each training of scikit-learn puts the filters of warnings aside for a while, and these are common to all threads:
    several at a time would leave them emptied behind and warn of what is none of the user's.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.showwarning = lambda *_, **__: None
        yield


def _threads(reference: npt.NDArray[Any], generated: npt.NDArray[Any] | None, repeats: int) -> int:
    """Trainings at a time: as many as there are cores for, and memory."""
    numbers = reference.size + (generated.size if generated is not None else 0)
    return max(1, min(repeats, MAX_THREADS, os.cpu_count() or 1, int(MAX_BYTES / (15 * numbers + 1))))


def _train(reference: npt.NDArray[Any], generated: npt.NDArray[Any] | None, seed: int, repeat: int) -> _Outcome:
    """One of the trainings of `separate`."""
    rng = np.random.default_rng([seed, repeat, generated is None])
    if generated is not None:
        return _once(reference, generated, rng)
    order = rng.permutation(len(reference))
    one, two = order[: len(order) // 2], order[len(order) // 2 :]
    p, n, tested_one, tested_two = _once(reference[one], reference[two], rng)
    return p, n, one[tested_one], two[tested_two]


_Outcome = tuple[Floats, Floats, Integers, Integers]  # test scores of both classes, and which showers they are


def _once(a: npt.NDArray[Any], b: npt.NDArray[Any], rng: np.random.Generator) -> _Outcome:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    order_a, order_b = rng.permutation(len(a)), rng.permutation(len(b))
    cut_a, cut_b = (max(5, round(TEST_FRACTION * n)) for n in (len(a), len(b)))
    train_a, train_b = order_a[cut_a:], order_b[cut_b:]
    model = HistGradientBoostingClassifier(
        max_iter=100,
        learning_rate=0.15,
        max_leaf_nodes=15,
        max_bins=63,
        max_features=min(1.0, max(0.3, 10 / a.shape[1])),
        early_stopping=True,
        validation_fraction=0.2,
        random_state=int(rng.integers(2**31)),
    )
    with threadpool_limits(1, user_api="openmp"):
        model.fit(np.concatenate([a[train_a], b[train_b]]), np.repeat([1, 0], [len(train_a), len(train_b)]))
        scores = [model.decision_function(x[o[:c]]) for x, o, c in ((a, order_a, cut_a), (b, order_b, cut_b))]
    return scores[0], scores[1], order_a[:cut_a], order_b[:cut_b]


def _auc(positive: Floats, negative: Floats) -> float:
    """Area under the ROC curve: how often a positive scores above a negative (ties count half)."""
    pooled = np.concatenate([positive, negative])
    _, where, counts = np.unique(pooled, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[where]
    n, m = len(positive), len(negative)
    return float((rank[:n].sum() - n * (n + 1) / 2) / (n * m))


def _summary(outcomes: list[_Outcome], groups: tuple[Integers, Integers] | None, least: int) -> Separation:
    areas = np.array([_auc(p, n) for p, n, _, _ in outcomes])
    number = 0 if groups is None else int(max(g.max(initial=-1) for g in groups)) + 1
    group_areas = np.full((len(outcomes), number), np.nan)
    for group in range(number):
        assert groups is not None
        inside = [(p[groups[0][i] == group], n[groups[1][j] == group]) for p, n, i, j in outcomes]
        if min(min(len(p), len(n)) for p, n in inside) >= least:
            group_areas[:, group] = [_auc(p, n) for p, n in inside]
    positive, negative = outcomes[0][:2]
    accepted = np.linspace(0, 1, 101)
    cuts = np.quantile(negative, 1 - accepted)
    curve = np.stack([accepted, [(positive >= cut).mean() for cut in cuts]])
    return Separation.of(areas, curve, group_areas)


def _estimate(values: Floats) -> Estimate:
    return Estimate(float(np.mean(values)), spread(values))
