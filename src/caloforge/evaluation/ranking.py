"""Rank several generated samples against one reference, with the significance of every difference.

All samples are compared alike: the same number of showers of each, the same bootstrap draws and halves of the
reference, the same splits and seeds of the classifiers. So differences between two samples are paired, see
`significance`, and floors are common to all.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cache import Cache
from ..errors import CaloforgeError
from ..output import UnfinishedFile, check_output
from ..progress import Progress, named, part, silent
from .checks import check_files, doubts, warn
from .classifier import CLASSIFIERS, Separation
from .comparison import Contest, Effort, binned_response, distributions, joint, quick_note
from .metrics import METRICS, Distribution, Draws, bootstrap, floor_replicas, halves, replicas, scaled_floor, spread
from .observables import OBSERVABLES, Floats
from .provenance import describe
from .response import energy_bins
from .sample import Sample, measure
from .scoring import chosen_effort
from .significance import Difference, of_draws, of_repeats

if TYPE_CHECKING:
    from rich.console import RenderableType

FORMAT, FORMAT_VERSION = "caloforge-compare", 1
FILE = "compare.json"

SATURATED = 0.99
"""From this area on a classifier no longer orders samples: nearly every shower is told."""

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


@dataclass
class Score:
    """One number of one sample.

    Attributes:
        value: the number; None where there is none.
        error: its standard deviation, None for a number without.
        found: what differences are made of: bootstrap replicas or repeats.
    """

    value: float | None
    error: float | None = None
    found: Floats = field(default_factory=lambda: np.zeros(0))


class Ranking:
    """A finished ranking.

    Attributes:
        path: of compare.json, None if it was not written.
    """

    def __init__(self, data: dict[str, Any], path: Path | None) -> None:
        self.path = path
        self._data = data

    def to_dict(self) -> dict[str, Any]:
        """The content of compare.json, see docs/compare.md."""
        copy: dict[str, Any] = json.loads(json.dumps(self._data))
        return copy

    def table(self) -> RenderableType:
        """The ranking for the terminal."""
        from .ranking_table import table

        return table(self._data)

    def __repr__(self) -> str:
        return f"Ranking({[entry['name'] for entry in self._data['ranking']]})"


def compare(
    reference: str | Path,
    generated: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    seed: int = 0,
    repeats: int | None = None,
    max_showers: int | None = None,
    quick: bool = False,
    cache: bool = True,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Ranking:
    """Rank generated samples against a reference.

    Args:
        reference: shower file, usually simulated.
        generated: shower files of the same detector. As many showers are used of each as the shortest holds.
        output: folder for compare.json; nothing is written by default.
        seed: of everything random: same files and seed, same compare.json.
        repeats: how often each classifier is trained; 5 by default, 2 if quick.
        max_showers: use at most so many showers of each file, evenly spread over it.
        quick: a first look in less time, see `evaluate`.
        cache: take what was measured and trained before on files of this content.
        overwrite: replace an earlier compare.json.
        progress: called with percent done, 100 and what is being done.

    Raises:
        CaloforgeError: if a file is not valid or holds fewer than 50 showers or no energy, detectors differ, or the
            output exists; all files are read before anything is trained.
    """
    effort = chosen_effort(quick, repeats, max_showers)
    if not generated:
        raise CaloforgeError("no sample to rank was given; give at least one shower file beside the reference.")
    place = None if output is None else _checked_place(Path(output), overwrite)
    notes = [quick_note(effort)] if quick else []
    warn(notes, check_files([reference, *generated], max_showers))
    a, samples = _measured(reference, generated, max_showers, cache, notes, part(progress, 0, 30))
    kept = Cache.named("evaluation") if cache else None
    judge = _Judge(a, len(samples[0]), seed, effort, kept, part(progress, 30, 40))
    step = 60 / len(samples)
    names = _names(generated)
    entries = []
    for number, (name, sample) in enumerate(zip(names, samples, strict=True)):
        start = 40 + number * step
        entries.append((name, sample, judge.scores(sample, named(part(progress, start, start + step), name))))
    entries.sort(key=lambda entry: _order(entry[2], entry[0]))
    data = _data(a, entries, judge, effort) | {"seed": seed, "quick": quick, "warnings": notes}
    if place is not None:
        _write(data, place, overwrite)
    progress(100, 100, "done")
    return Ranking(data, place)


def _measured(
    reference: str | Path,
    generated: Sequence[str | Path],
    max_showers: int | None,
    use_cache: bool,
    notes: list[str],
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
    cache = Cache.named("evaluation") if use_cache else None
    step = 100 / (len(generated) + 1)
    a = measure(reference, max_showers=max_showers, cache=cache, progress=part(progress, 0, step))
    names = [*a.values, *a.profiles]
    samples: list[Sample] = []
    for number, path in enumerate(generated, start=1):
        shown = part(progress, number * step, (number + 1) * step)
        b = measure(path, names=names, edges=a.edges, max_showers=common, cache=cache, progress=shown)
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
        self, reference: Sample, n: int, seed: int, effort: Effort, cache: Cache | None, progress: Progress
    ) -> None:
        self.reference = reference
        self.edges = energy_bins(reference.incident.energy)
        self.contest = Contest(reference, min(len(reference), n, effort.showers), seed, effort.repeats, cache)
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
            found[key] = _score(float(values.mean()), drawn.mean(axis=0))
        progress(1, 4, "distributions compared")
        step = 0.75 / len(CLASSIFIERS)
        told = {}
        for number, (name, kind) in enumerate(CLASSIFIERS.items()):
            start = 0.25 + number * step
            shown = named(part(progress, 100 * start, 100 * (start + step)), kind.label)
            told[name] = self.contest.run(name, sample, shown)[0]
        found |= {key: _score(float(each.mean()), each) for key, each in _areas(told).items()}
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
    return {"value": _known(value), "error": _known(error), "size": size, "scale": scale}


def _areas(told: dict[str, Separation]) -> dict[str, Floats]:
    """Areas of every repeat (J,): larger of the classifiers', each one's, the worst energy bin's."""
    low, high = np.array(told["low"].repeats), np.array(told["high"].repeats)
    bins = np.concatenate([each.group_areas for each in told.values()], axis=1)
    bins = bins[:, np.isfinite(bins).all(axis=0)]
    worst = bins.max(axis=1) if bins.shape[1] else np.full(len(low), np.nan)
    return {"auc": np.maximum(low, high), "auc_low": low, "auc_high": high, "auc_worst_bin": worst}


def _score(value: float, found: Floats) -> Score:
    return Score(_known(value), _known(spread(found)), found)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _order(scores: dict[str, Score], name: str) -> tuple[float, float, str]:
    """Sort key of the ranking, see `RULE`."""
    area, separation = scores["auc"].value, scores["separation"].value
    assert area is not None
    if area < SATURATED:
        return area, 0.0, name
    return SATURATED, separation if separation is not None else np.inf, name


_Entry = tuple[str, Sample, dict[str, Score]]


def _data(a: Sample, entries: list[_Entry], judge: _Judge, effort: Effort) -> dict[str, Any]:
    from .. import __version__

    d = a.detector
    ranks = {key: _ranks([scores[key].value for _, _, scores in entries]) for key in SCORES}
    ranking: list[dict[str, Any]] = []
    for place, (name, sample, scores) in enumerate(entries):
        table = {
            key: {"value": scores[key].value, "error": scores[key].error, "rank": ranks[key][place]} for key in SCORES
        }
        ranking.append(
            {"rank": place + 1, "name": name, **describe(sample, name), "scores": table, "next": _next(entries, place)}
        )
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "caloforge": __version__,
        "repeats": effort.repeats,
        "rule": RULE,
        "detector": {"name": d.name, "description": d.description, "layers": d.n_layers, "voxels": d.n_voxels},
        "reference": describe(a, "reference"),
        "classifier_showers": judge.contest.n,
        "scores": {
            key: {"label": label, "meaning": meaning, "floor": judge.floors.get(key)}
            for key, (label, meaning) in SCORES.items()
        },
        "ranking": ranking,
        "differences": _differences(entries),
    }


def _ranks(values: list[float | None]) -> list[int | None]:
    """Places from 1 by rising value; equal values share the better place."""
    known = [value for value in values if value is not None]
    return [None if value is None else 1 + sum(other < value for other in known) for value in values]


def _difference(key: str, one: Score, two: Score) -> Difference | None:
    if one.value is None or two.value is None or key == "ms_per_shower":
        return None
    return (
        of_draws(one.value, two.value, one.found, two.found) if key in _OF_DRAWS else of_repeats(one.found, two.found)
    )


def _next(entries: list[_Entry], place: int) -> dict[str, Any] | None:
    """The difference by which a sample stands before the one after it; None for the last."""
    if place + 1 == len(entries):
        return None
    (_, _, one), (name, _, two) = entries[place : place + 2]
    both = [scores["auc"].value for scores in (one, two)]
    key = "separation" if all(area is not None and area >= SATURATED for area in both) else "auc"
    found = _difference(key, one[key], two[key])
    return {"name": name, "score": key, **(found.to_dict() if found else {})}


def _differences(entries: list[_Entry]) -> list[dict[str, Any]]:
    """Every score's difference of every two samples, the one ranked later minus the earlier one."""
    found = []
    for i, (first, _, one) in enumerate(entries):
        for j, (second, _, two) in enumerate(entries[i + 1 :], start=i + 1):
            for key in SCORES:
                difference = _difference(key, one[key], two[key])
                if difference is not None:
                    pair = {"score": key, "first": first, "second": second, "neighbours": j == i + 1}
                    found.append(pair | difference.to_dict())
    return found


# -- names and places --------------------------------------------------------------------------------------------


def _names(paths: Sequence[str | Path]) -> list[str]:
    """A short name for each file: its stem if no other has it, else as much of the path as was given."""
    stems = [Path(path).stem for path in paths]
    names = [stem if stems.count(stem) == 1 else str(path) for stem, path in zip(stems, paths, strict=True)]
    return [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]


def _checked_place(folder: Path, overwrite: bool) -> Path:
    """Where compare.json goes; raises `CaloforgeError` unless it may be written there."""
    if folder.exists() and not folder.is_dir():
        raise CaloforgeError(f"'{folder}' is a file; give the name of a folder for {FILE}.")
    # A folder that is still to be made is checked as a file would be: its own folder must be there and writable.
    check_output(folder / FILE if folder.exists() else folder, overwrite=overwrite)
    return folder / FILE


def _write(data: dict[str, Any], place: Path, overwrite: bool) -> None:
    made = not place.parent.exists()
    place.parent.mkdir(exist_ok=True)
    try:
        with UnfinishedFile(place, overwrite=overwrite) as temporary:
            temporary.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except BaseException:
        if made:
            with suppress(OSError):
                place.parent.rmdir()
        raise
