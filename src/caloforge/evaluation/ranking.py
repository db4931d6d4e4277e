"""Rank several generated samples against one reference, with the significance of every difference.

All samples are compared alike: the same number of showers of each, the same bootstrap draws and halves of the
reference, the same splits and seeds of the classifiers. So differences between two samples are paired, see
`significance`, and floors are common to all.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..cache import Cache
from ..cluster import Address, crew_of
from ..crew import Crew
from ..errors import CaloforgeError
from ..progress import Progress, named, part, silent
from .checks import check_files, doubts, warn
from .classifier import CLASSIFIERS, Separation
from .comparison import Contest, Effort, binned_response, distributions, joint, quick_note
from .distributions import Distribution, Floats
from .images import compare_images, holds_images
from .metrics import METRICS
from .observables import OBSERVABLES
from .places import SATURATED, Entry, Ranking, Rules, Score, checked_place, finished, known, names_of
from .provenance import describe
from .resampling import Draws, bootstrap, floor_replicas, halves, replicas, scaled_floor, spread
from .response import energy_bins
from .sample import Sample, measure
from .scoring import chosen_effort

FORMAT, FORMAT_VERSION = "caloforge-compare", 1

RULE = (
    "samples are ordered by the larger of the two classifiers' areas (a sample is as good as its worst side); those "
    f"of area {SATURATED} and more come last, ordered by their mean separation power"
)

SCORES: dict[str, tuple[str, str]] = {
    "auc": ("AUC", "the larger of the two classifiers' areas in each repeat"),
    "auc_low": ("AUC, voxels", CLASSIFIERS["low"].meaning),
    "auc_high": ("AUC, observables", CLASSIFIERS["high"].meaning),
    "auc_worst_bin": ("AUC, worst bin", "the largest area of any incident-energy bin and either classifier"),
    "separation": ("separation", "separation power, averaged over the observables"),
    "response": ("response", METRICS["response"].meaning),
    "resolution": ("resolution", METRICS["resolution"].meaning),
    "correlation": ("correlation", METRICS["correlation"].meaning),
    "ms_per_shower": ("ms/shower", "milliseconds of one core a shower, as the file records"),
}
"""What samples are ranked by: short label and meaning by name; less is better in all."""

_OF_DRAWS = ("separation", "response", "resolution", "correlation")


RULES = Rules(SCORES, _OF_DRAWS, saturated="separation", bare="ms_per_shower")


def compare(
    reference: str | Path,
    generated: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    fast: str | Path | None = None,
    seed: int = 0,
    repeats: int | None = None,
    max_showers: int | None = None,
    quick: bool = False,
    cache: bool = True,
    dask: Address | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Ranking:
    """Rank generated samples against a reference.

    Args:
        reference: shower file, usually simulated; or an image file, see `caloforge.evaluation.images.ranking`.
        generated: shower files of the same detector. As many showers are used of each as the shortest holds. Or image
            files of the same events.
        output: folder for compare.json; nothing is written by default.
        fast: for image files, the fast simulation's.
        seed: of everything random: same files and seed, same compare.json.
        repeats: how often each classifier is trained; 5 by default, 2 if quick.
        max_showers: use at most so many showers of each file, evenly spread over it.
        quick: a first look in less time, see `evaluate`.
        cache: take what was measured and trained before on files of this content.
        dask: the scheduler of a cluster that does the work, see `caloforge.cluster`; the ranking is the same.
        overwrite: replace an earlier compare.json.
        progress: called with percent done, 100 and what is being done.

    Raises:
        CaloforgeError: if a file is not valid or holds fewer than 50 showers or no energy, detectors differ, or the
            output exists; all files are read before anything is trained.
    """
    if not generated:
        raise CaloforgeError("no sample to rank was given; give at least one shower file beside the reference.")
    if _are_images([reference, *generated]):
        return compare_images(
            reference, generated, output, fast=fast, seed=seed, repeats=repeats, max_images=max_showers, quick=quick,
            dask=dask, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    if fast is not None:
        raise CaloforgeError("--fast is for image files; leave it out to compare showers.")
    effort = chosen_effort(quick, repeats, max_showers)
    place = checked_place(output, overwrite)
    notes = [quick_note(effort)] if quick else []
    warn(notes, check_files([reference, *generated], max_showers))
    kept = Cache.named("evaluation") if cache else None
    names = names_of(generated)
    entries: list[Entry] = []
    with crew_of(dask) as crew:
        a, samples = _measured(reference, generated, max_showers, kept, notes, crew, part(progress, 0, 30))
        judge = _Judge(a, len(samples[0]), seed, effort, kept, crew, part(progress, 30, 40))
        step = 60 / len(samples)
        for number, (name, sample) in enumerate(zip(names, samples, strict=True)):
            start = 40 + number * step
            scores = judge.scores(sample, named(part(progress, start, start + step), name))
            entries.append((name, describe(sample, name), scores))
    entries.sort(key=lambda entry: RULES.order(entry[2], entry[0]))
    data = _data(a, entries, judge, effort) | {"seed": seed, "quick": quick, "warnings": notes}
    ranking = finished(data, place, overwrite)
    progress(100, 100, "done")
    return ranking


def _are_images(paths: Sequence[str | Path]) -> bool:
    """Whether files hold images and not showers; raises `CaloforgeError` if some do and some do not."""
    from ..shower_file import ShowerFile

    images = [path for path in paths if holds_images(path)]
    others = [path for path in paths if path not in images]
    if images and others:
        for path in others:
            ShowerFile(path).close()  # what is neither is told as such
        raise CaloforgeError(
            f"'{images[0]}' holds images of events and '{others[0]}' showers; compare images with images or showers "
            "with showers."
        )
    return bool(images)


def _measured(
    reference: str | Path,
    generated: Sequence[str | Path],
    max_showers: int | None,
    cache: Cache | None,
    notes: list[str],
    crew: Crew,
    progress: Progress,
) -> tuple[Sample, list[Sample]]:
    """Reference and samples measured, the same number of showers of each sample."""
    from ..shower_file import ShowerFile

    sizes = []
    for path in generated:
        with ShowerFile(path) as file:
            sizes.append(len(file))
    common = min(*sizes, max_showers or max(sizes), max(sizes))
    if len({min(size, max_showers or size) for size in sizes}) > 1:
        warn(notes, [f"the samples hold {min(sizes)} to {max(sizes)} showers; {common} of each are compared."])
    step = 100 / (len(generated) + 1)
    a = measure(reference, max_showers=max_showers, cache=cache, crew=crew, progress=part(progress, 0, step))
    names = [*a.values, *a.profiles]
    samples: list[Sample] = []
    for number, path in enumerate(generated, start=1):
        shown = part(progress, number * step, (number + 1) * step)
        b = measure(path, names=names, edges=a.edges, max_showers=common, cache=cache, crew=crew, progress=shown)
        label = b.path.name
        warn(notes, [text if label in text else f"'{label}': {text}" for text in doubts(a, b)])
        same = next((s for s in samples if s.content == b.content), None)
        if same is not None:
            warn(notes, [f"'{same.path}' and '{b.path}' are the same file; they share their place."])
        samples.append(b)
    return a, samples


class _Judge:
    """The reference with all that is common to every comparison: draws, halves, bins, floors."""

    def __init__(
        self, reference: Sample, n: int, seed: int, effort: Effort, cache: Cache | None, crew: Crew, progress: Progress
    ) -> None:
        self.reference = reference
        self.edges = energy_bins(reference.incident.energy)
        self.contest = Contest(reference, min(len(reference), n, effort.showers), seed, effort.repeats, cache, crew)
        self.draws = (
            bootstrap(len(reference), np.random.default_rng([seed, 1]), effort.resamples),
            bootstrap(n, np.random.default_rng([seed, 2]), effort.resamples),
        )
        splits = halves(len(reference), np.random.default_rng([seed, 4]), effort.splits)
        self.floors = self._draw_floors(splits, n) | self._area_floors(progress)

    def scores(self, sample: Sample, progress: Progress) -> dict[str, Score]:
        """All `SCORES` of a sample."""
        found = {}
        for key in _OF_DRAWS:
            pairs = [replicas(METRICS[key], one, two, self.draws) for one, two in self._compared(key, sample)]
            values, drawn = np.array([value for value, _ in pairs]), np.array([each for _, each in pairs])
            found[key] = Score.of(float(values.mean()), drawn.mean(axis=0))
        progress(1, 4, "distributions compared")
        step = 0.75 / len(CLASSIFIERS)
        told = {}
        for number, (name, kind) in enumerate(CLASSIFIERS.items()):
            start = 0.25 + number * step
            shown = named(part(progress, 100 * start, 100 * (start + step)), kind.label)
            told[name] = self.contest.run(name, sample, shown)[0]
        found |= {key: Score.of(float(each.mean()), each) for key, each in _areas(told).items()}
        seconds = describe(sample, "generated")["seconds_per_shower"]
        return {**found, "ms_per_shower": Score(None if seconds is None else 1e3 * seconds)}

    def _compared(self, key: str, sample: Sample) -> list[tuple[Distribution, Distribution]]:
        """What a metric is averaged over."""
        a = self.reference
        if key == "correlation":
            return [(joint(a)[1], joint(sample)[1])]
        if key in ("response", "resolution"):
            return [(binned_response(a, self.edges), binned_response(sample, self.edges))]
        names = [name for name in (*a.values, *a.profiles) if OBSERVABLES[name].kind != "layers"]
        return [(one, two) for name in names for _, one, two in distributions(a, sample, name)]

    def _draw_floors(self, splits: Draws, n: int) -> dict[str, Any]:
        a, floors = self.reference, {}
        for key in _OF_DRAWS:
            each = [floor_replicas(METRICS[key], one, splits) for one, _ in self._compared(key, a)]
            floors[key] = scaled_floor(np.mean(each, axis=0), METRICS[key].order, len(a), (len(a), n)).to_dict()
        return floors

    def _area_floors(self, progress: Progress) -> dict[str, Any]:
        told = {}
        for number, (name, kind) in enumerate(CLASSIFIERS.items()):
            start, stop = (100 * i / len(CLASSIFIERS) for i in (number, number + 1))
            told[name] = self.contest.run(name, None, named(part(progress, start, stop), f"{kind.label}, floor"))[0]
        return {key: _area_floor(key, each, self.contest.n // 2) for key, each in _areas(told).items()}


def _area_floor(key: str, areas: Floats, size: int) -> dict[str, Any]:
    """Floor of an area from the halves' areas (J,).

    The largest of several areas lies above 0.5 by its statistics alone, and more so for halves than for the whole: what
    is above 0.5 is scaled as one over the square root of the number of showers.
    """
    scale = float(np.sqrt(0.5)) if key in ("auc", "auc_worst_bin") else 1.0
    value, error = 0.5 + (float(areas.mean()) - 0.5) * scale, spread(areas) * scale
    return {"value": known(value), "error": known(error), "size": size, "scale": scale}


def _areas(told: dict[str, Separation]) -> dict[str, Floats]:
    """Areas of every repeat (J,): larger of the classifiers', each one's, the worst energy bin's."""
    low, high = np.array(told["low"].repeats), np.array(told["high"].repeats)
    bins = np.concatenate([each.group_areas for each in told.values()], axis=1)
    bins = bins[:, np.isfinite(bins).all(axis=0)]
    worst = bins.max(axis=1) if bins.shape[1] else np.full(len(low), np.nan)
    return {"auc": np.maximum(low, high), "auc_low": low, "auc_high": high, "auc_worst_bin": worst}


def _data(a: Sample, entries: Sequence[Entry], judge: _Judge, effort: Effort) -> dict[str, Any]:
    from .. import __version__

    d = a.detector
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "caloforge": __version__,
        "repeats": effort.repeats,
        "rule": RULE,
        "detector": {"name": d.name, "description": d.description, "layers": d.n_layers, "voxels": d.n_voxels},
        "reference": describe(a, "reference"),
        "classifier_showers": judge.contest.n,
        **RULES.tables(entries, judge.floors),
    }
