"""Score a sample by the CaloChallenge's standard: every number with its error and its floor."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...cluster import Address, crew_of
from ...crew import Crew
from ...errors import CaloforgeError, CaloforgeWarning, lookup
from ...output import UnfinishedFile, check_output
from ...progress import Progress, part, silent
from ..report import check_folder
from .challenge import DataSet, dataset_of
from .classifiers import NETWORKS, Competitors, compete
from .clouds import DISTANCES, distance, few_neighbours, few_showers, neighbourhood
from .contest import MIN_SHOWERS, Settings, find_device, split_sizes
from .features import Features, high_level
from .rows import Rows, read_rows
from .separation import (
    Counts,
    averages,
    energy_edges,
    filled,
    histograms,
    score_feature,
    score_voxels,
    voxel_counts,
)

FORMAT, FORMAT_VERSION = "caloforge-standard", 1
OFFICIAL_REPEATS = 10

PARTS: dict[str, int] = {"separation": 3, "fpd": 5, "kpd": 5, "prdc": 5, "high": 20, "low": 40, "resnet": 60}
"""Parts of the standard by name, with the share of the time they are thought to take."""
EXTRA_PARTS: dict[str, int] = {"normed": 40}
"""Parts that are made when asked for: the classifier of voxels over their layer's energy."""


@dataclass
class _Samples:
    """Two samples as the parts need them."""

    paths: tuple[Path, Path]
    reference: Features
    generated: Features
    rows: tuple[Rows, Rows] | None


def score_standard(
    reference: str | Path,
    generated: str | Path,
    *,
    seed: int = 0,
    repeats: int = OFFICIAL_REPEATS,
    epochs: int = 50,
    device: str = "auto",
    parts: Sequence[str] = tuple(PARTS),
    double: bool = False,
    threshold: float | None = None,
    max_showers: int | None = None,
    dask: Address | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Score a sample by the standard of the CaloChallenge 2022 (arXiv 2410.21611).

    Args:
        reference: shower file, usually simulated.
        generated: shower file of the same detector.
        seed: of everything random but the draws of FPD and KPD, which are JetNet's.
        repeats: trainings of each network; officially 10.
        epochs: of each training; officially 50.
        device: for networks and neighbours: "auto", "cpu" or "cuda".
        parts: names of `PARTS` and `EXTRA_PARTS`.
        double: train the networks that see voxels in float64, as is official, and not in float32; the one that sees
            features always computes in float64.
        threshold: voxels under so many MeV count as empty; by default the data set's.
        max_showers: use at most so many of each file, evenly spread.
        dask: the scheduler of a cluster that computes instead, on devices of the same kind, see `caloforge.cluster`;
            this process reads the files and sends what is needed. The numbers are the same.
        progress: called with percent done, 100 and what is being done.

    Returns:
        Plain data that JSON can hold; see docs/benchmark.md. Numbers that do not exist are None.

    Raises:
        CaloforgeError: if a file is not valid or holds fewer than 50 showers, the detectors differ or have no
            cylindrical voxels, or an argument cannot be.
    """
    for name in parts:
        lookup(PARTS | EXTRA_PARTS, name, "a part")
    if repeats < 1 or epochs < 1 or seed < 0:
        raise CaloforgeError(
            f"repeats {repeats}, epochs {epochs} and seed {seed} were given; at least 1 repeat, 1 epoch and seed 0 are "
            "needed."
        )
    where = find_device(device)
    stages = _stages(parts, progress)
    paths = Path(reference), Path(generated)
    dataset = _check_pair(paths, max_showers)
    with crew_of(dask) as crew:
        samples = _read(paths, parts, threshold, max_showers, stages["reading"])
        notes: list[str] = []
        _warn(notes, _notes(samples, dataset, parts, repeats, epochs, double))
        found: dict[str, Any] = {"format": FORMAT, "version": FORMAT_VERSION, "standard": "calochallenge"}
        found |= {"dataset": dataset.name or None, "samples": _describe(samples), "device": str(where)}
        found |= {"warnings": notes, "threshold_mev": samples.reference.threshold, "seed": seed}
        found |= {"repeats": repeats, "epochs": epochs}
        if "separation" in parts:
            found["separation"] = _separations(samples, seed, max_showers, crew, stages["separation"])
        matrices = samples.reference.matrix, samples.generated.matrix
        for name in [name for name in DISTANCES if name in parts]:
            found[name] = distance(name, *matrices, seed=seed, crew=crew, progress=stages[name])
        if "prdc" in parts and samples.rows is not None:
            found["prdc"] = neighbourhood(*samples.rows, seed=seed, device=where, crew=crew, progress=stages["prdc"])
            _warn(notes, few_neighbours(found["prdc"]["showers"], min(map(len, matrices))))
        competitors = Competitors(samples.reference, samples.generated, matrices, samples.rows, dataset.split, where)
        how: dict[str, Any] = {"double": double, "seed": seed, "repeats": repeats, "crew": crew}
        found["classifiers"] = {
            name: compete(name, competitors, Settings(epochs=epochs), **how, progress=stages[name])
            for name in NETWORKS
            if name in parts and NETWORKS[name].defined(samples.rows)
        }
    progress(100, 100, "done")
    plain: dict[str, Any] = json.loads(json.dumps(found), parse_constant=lambda _: None)  # NaN is not JSON
    return plain


def _warn(notes: list[str], sentences: list[str]) -> None:
    """Warn now, before hours of training, and keep what was said for the result."""
    notes += sentences
    for sentence in sentences:
        warnings.warn(sentence, CaloforgeWarning, stacklevel=3)


def _describe(samples: _Samples) -> dict[str, Any]:
    sides = zip(("reference", "generated"), samples.paths, (samples.reference, samples.generated), strict=True)
    return {side: {"file": path.name, "showers": len(measured)} for side, path, measured in sides}


def _stages(parts: Sequence[str], progress: Progress) -> dict[str, Progress]:
    """A progress for reading and each part; together they run to 100 percent."""
    known = PARTS | EXTRA_PARTS
    order = [*(k for k in known if k not in NETWORKS), *NETWORKS]  # that of the work
    weights = {"reading": 2} | {k: known[k] for k in order if k in parts}
    ends = np.cumsum(list(weights.values())) / sum(weights.values())
    starts = [0.0, *ends[:-1]]
    return {
        name: part(progress, 100 * low, 100 * high)
        for name, low, high in zip(weights, starts, ends.tolist(), strict=True)
    }


def _check_pair(paths: tuple[Path, Path], limit: int | None) -> DataSet:
    """The data set of both files; raise before anything long is done."""
    from ...shower_file import ShowerFile

    with ShowerFile(paths[0]) as a, ShowerFile(paths[1]) as b:
        dataset = dataset_of(a.detector)
        dataset_of(b.detector)
        if not a.detector.same_voxels(b.detector):
            raise CaloforgeError(
                f"'{paths[0]}' has {a.detector.n_voxels} voxels of '{a.detector.name}', '{paths[1]}' has "
                f"{b.detector.n_voxels} of '{b.detector.name}'; the standard compares samples with the same voxels."
            )
        for file in (a, b):
            n = len(file) if limit is None else min(len(file), limit)
            if n < MIN_SHOWERS:
                raise CaloforgeError(f"{n} showers of '{file.path}' are too few for the standard; use {MIN_SHOWERS}.")
    return dataset


def _read(
    paths: tuple[Path, Path], parts: Sequence[str], threshold: float | None, limit: int | None, progress: Progress
) -> _Samples:
    shown = [part(progress, 25 * i, 25 * (i + 1)) for i in range(4)]
    a, b = (high_level(p, threshold=threshold, max_showers=limit, progress=shown[i]) for i, p in enumerate(paths))
    if not {"prdc", *NETWORKS}.difference({"high"}).intersection(parts):
        return _Samples(paths, a, b, None)
    one, two = (
        read_rows(p, threshold=a.threshold, max_showers=limit, progress=shown[2 + i]) for i, p in enumerate(paths)
    )
    return _Samples(paths, a, b, (one, two))


def _notes(
    samples: _Samples, dataset: DataSet, parts: Sequence[str], repeats: int, epochs: int, double: bool
) -> list[str]:
    """What is not as the standard wants it, one sentence each."""
    from scipy.stats import ks_2samp

    n = min(len(samples.reference), len(samples.generated))
    notes = []
    if not dataset.name:
        notes.append("this is none of the challenge's detectors: threshold, bins and split are those of data set 2.")
    if n < dataset.showers:
        notes.append(
            f"{n} showers of each sample are compared, officially {dataset.showers}: floors are higher, so read every "
            "number beside its floor and not beside published ones."
        )
    energies = samples.reference.incident_energy, samples.generated.incident_energy
    if ks_2samp(*energies, method="asymp").pvalue < 1e-3:
        notes.append("the incident energies of the two samples are distributed differently; all numbers see that too.")
    if {"fpd", "kpd"}.intersection(parts):
        notes += few_showers(n)
    networks = [name for name in NETWORKS if name in parts]
    official = Settings()
    if networks and (repeats != OFFICIAL_REPEATS or epochs != official.epochs or n < dataset.showers):
        steps = Settings(epochs=epochs).steps(split_sizes(min(n, dataset.showers), dataset.split)[0])
        notes.append(
            f"each network is trained {repeats} times with {steps} steps in {epochs} epochs, officially "
            f"{OFFICIAL_REPEATS} times with {official.steps(dataset.split[0])} in {official.epochs}; "
            "one that takes too few steps sees nothing."
        )
    if not double and set(networks) - {"high"}:
        notes.append("networks that see voxels are trained in float32, officially in float64.")
    if "resnet" in networks and not NETWORKS["resnet"].defined(samples.rows):
        notes.append("the convolutional network is left out: the detector's layers have different voxels.")
    return notes


def _separations(samples: _Samples, seed: int, limit: int | None, crew: Crew, progress: Progress) -> dict[str, Any]:
    """Separation powers: histograms are filled here, their bootstrap is shared out, feature by feature."""
    a, b = samples.reference, samples.generated
    features: dict[str, dict[str, tuple[Counts, Counts]]] = {}
    for key, edges, one, two in histograms(a, b):
        features.setdefault(key.partition("[")[0], {})[key] = filled(edges, one), filled(edges, two)
    table: dict[str, dict[str, Any]] = {}
    tasks = ((counts, (seed, 3, number)) for number, counts in enumerate(features.values()))
    for scored in crew.each(score_feature, tasks):
        table |= scored
    edges = energy_edges(a.threshold, a.hottest, 50)
    shown = part(progress, 0, 50), part(progress, 50, 100)
    voxels = [
        voxel_counts(path, edges, threshold=a.threshold, max_showers=limit, progress=each)
        for path, each in zip(samples.paths, shown, strict=True)
    ]
    (table["voxel_energy"],) = crew.each(score_voxels, [(*voxels, (seed, 3, len(features)))])
    return {"observables": table, "averages": averages(table)}


# -- the command line ------------------------------------------------------------------------------------------


def evaluate_standard(
    reference: str | Path,
    generated: str | Path,
    output: str | Path,
    *,
    standard: str = "calochallenge",
    overwrite: bool = False,
    **how: Any,
) -> dict[str, Any]:
    """Score a sample by a standard and write standard.json.

    Args:
        reference: shower file, usually simulated.
        generated: shower file of the same detector.
        output: folder for standard.json, beside a report if there is one.
        standard: name of `STANDARDS`.
        overwrite: replace an earlier standard.json.
        how: arguments of the standard's function, see `score_standard`.

    Raises:
        CaloforgeError: see `score_standard`; if the output exists or cannot be written.
    """
    from ... import __version__

    score = lookup(STANDARDS, standard, "a standard")
    folder = Path(output)
    path = folder / "standard.json"
    if folder.is_dir():
        check_output(path, overwrite=overwrite)
    else:
        check_folder(folder, overwrite=overwrite)
    found = score(reference, generated, **how) | {"caloforge": __version__}
    folder.mkdir(exist_ok=True)
    with UnfinishedFile(path, overwrite=overwrite) as temporary:
        temporary.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return found


STANDARDS: dict[str, Callable[..., dict[str, Any]]] = {"calochallenge": score_standard}
"""Standards of scoring by name."""
