"""Rank several files of generated images against the full simulation's, with the significance of every difference.

All are compared alike: the same events, bootstrap draws of events, halves and splits of the classifiers; so differences
are paired, see `significance`. Values and floors of distances and areas are those of the reports of the same files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ... import __version__
from ...cluster import Address, crew_of
from ...crew import Crew
from ...errors import CaloforgeError
from ...progress import Progress, named, part, silent
from ..benchmark.frechet import frechet_distance, scaled, weighted_moments
from ..checks import warn
from ..comparison import Effort
from ..distributions import Values
from ..metrics import METRICS, Metric
from ..places import SATURATED, Entry, Ranking, Rules, Score, checked_place, finished, known, names_of
from ..resampling import Draws, bootstrap, floor_replicas, halves, replicas, scaled_floor
from .chi2 import CHI2
from .contest import ImageContest
from .sample import MIN_IMAGES, ImageSample, read_samples, same_events, sample_of
from .scoring import chosen_effort, described, doubts, frechet_floor, image_frechet, variable_bins
from .variables import JET_ROWS, VARIABLES, Floats, row_variables

FORMAT, VERSION = "caloforge-image-compare", 1

RULE = (
    "samples are ordered by the largest of the classifiers' areas (a sample is as good as its worst side); those of "
    f"area {SATURATED} and more come last, ordered by their Fréchet distance"
)

_JETS = [name for row in JET_ROWS for name in row_variables(row)]
_MEANS: dict[str, tuple[Metric, list[str]]] = {
    "chi2": (CHI2, list(VARIABLES)),
    "chi2_jets": (CHI2, _JETS),
    "chi2_event": (CHI2, [name for name in VARIABLES if name not in _JETS]),
    "separation": (METRICS["separation"], list(VARIABLES)),
}
"""Scores that are means over variables: the metric, and the variables."""

SCORES: dict[str, tuple[str, str]] = {
    "frechet": ("Fréchet distance", "of the variables and sums in rings of eta, extrapolated to infinite samples"),
    "chi2": ("chi2", "chi2 distance, averaged over all variables"),
    "chi2_jets": ("chi2, jets", "chi2 distance, averaged over the variables of the jets"),
    "chi2_event": ("chi2, event", "chi2 distance, averaged over sum ET, missing ET and the number of towers"),
    "separation": ("separation", "separation power, averaged over all variables"),
    "ms_per_image": ("ms/image", "milliseconds of one core an image, as the file records"),
}
"""What image files are ranked by beside classifiers: short label and meaning by name; less is better in all."""

_OF_DRAWS = ("frechet", *_MEANS)


_SHORT = {"high": "variables", "low": "towers", "pair": "with fast"}


def rules(views: Mapping[str, tuple[str, str]]) -> Rules:
    """How image files are ranked with some of the `VIEWS`."""
    areas = {"auc": ("AUC", "the largest of the classifiers' areas in each repeat")}
    areas |= {f"auc_{name}": (f"AUC, {_SHORT[name]}", f"a classifier that {note}") for name, (_, note) in views.items()}
    return Rules(areas | SCORES, _OF_DRAWS, saturated="frechet", bare="ms_per_image")


def compare_images(
    reference: str | Path,
    generated: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    fast: str | Path | None = None,
    seed: int = 0,
    repeats: int | None = None,
    max_images: int | None = None,
    quick: bool = False,
    dask: Address | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Ranking:
    """Rank generated images of events against the full simulation's.

    Args:
        reference: image file of the full simulation.
        generated: image files of the same events, whoever made them; the fast simulation's may be one of them. The
            events are used that all files show.
        output: folder for compare.json; nothing is written by default.
        fast: image file of the fast simulation; with it there is a classifier that knows the fast image too.
        seed: of everything random: same files and seed, same compare.json.
        repeats: how often each classifier is trained; 5 by default, 2 if quick.
        max_images: use at most so many events, evenly spread.
        quick: a first look in less time.
        dask: the scheduler of a cluster that does the work, see `caloforge.cluster`; the ranking is the same.
        overwrite: replace an earlier compare.json.
        progress: called with percent done, 100 and what is being done.

    Raises:
        CaloforgeError: if a file is not valid, the files have fewer than 100 events in common, or the output exists.
    """
    effort = chosen_effort(quick, repeats, max_images)
    place = checked_place(output, overwrite)
    paths = [reference, *generated, *([] if fast is None else [fast])]
    found = read_samples(paths, max_images)
    if len(found[0]) < 2 * MIN_IMAGES:
        raise CaloforgeError(
            f"the files have {len(found[0])} events in common; a ranking needs {2 * MIN_IMAGES}, half of them for each "
            "side of the classifiers."
        )
    measured: list[ImageSample] = []
    notes: list[str] = []
    entries: list[Entry] = []
    with crew_of(dask) as crew:
        for number, (path, images) in enumerate(zip(paths, found, strict=True)):
            measured.append(sample_of(path, images, crew))
            progress(round(30 * (number + 1) / len(found)), 100, f"measuring {measured[-1].path.name}")
        full, samples = measured[0], measured[1 : 1 + len(generated)]
        warn(notes, _doubts(full, samples))
        judge = _Judge(full, None if fast is None else measured[-1], seed, effort, crew, part(progress, 30, 40))
        for number, (name, sample) in enumerate(zip(names_of(generated), samples, strict=True)):
            start, stop = (40 + 60 * i / len(samples) for i in (number, number + 1))
            entries.append((name, described(sample), judge.scores(sample, named(part(progress, start, stop), name))))
    entries.sort(key=lambda entry: judge.rules.order(entry[2], entry[0]))
    data: dict[str, Any] = {"format": FORMAT, "version": VERSION, "caloforge": __version__, "seed": seed}
    data |= {"repeats": effort.repeats, "quick": quick, "rule": RULE, "warnings": notes}
    data |= {"reference": described(full), "classifier_images": judge.contest.images}
    ranking = finished(data | judge.rules.tables(entries, judge.floors), place, overwrite)
    progress(100, 100, "done")
    return ranking


def _doubts(full: ImageSample, samples: Sequence[ImageSample]) -> list[str]:
    """What must be read with the ranking, one sentence each."""
    found = [text for sample in samples for text in doubts({"full": full, "generated": sample})]
    for number, sample in enumerate(samples):
        for other in samples[:number]:
            one, two = (s.images.rows for s in (other, sample))
            if all(np.array_equal(*pair) for pair in ((one.index, two.index), (one.energy, two.energy))):
                found.append(f"'{other.path}' and '{sample.path}' hold the same images; they share their place.")
    return list(dict.fromkeys(found))


class _Judge:
    """The full simulation with all that is common to every comparison: draws, halves, bins, floors."""

    def __init__(
        self, full: ImageSample, fast: ImageSample | None, seed: int, effort: Effort, crew: Crew, progress: Progress
    ) -> None:
        self.full, self.seed, self.crew = full, seed, crew
        self.contest = ImageContest(full, fast, seed, effort, crew)
        self.edges = {name: variable_bins(name, full.values[name]) for name in VARIABLES}
        n, rng = len(full), np.random.default_rng([seed, 1])  # draws and halves are those of `evaluate_images`
        self.draws = same_events(bootstrap(n, rng, effort.resamples))
        self.rules = rules(self.contest.views)
        self.floors = self._floors_of_means(halves(n, rng, effort.splits))
        self.floors["frechet"] = frechet_floor(full.features, seed, effort, crew).to_dict()
        for key, each in self._areas(None, progress).items():
            score = Score.of(float(each.mean()), each)
            self.floors[key] = {"value": score.value, "error": score.error, "size": self.contest.images, "scale": 1.0}

    def scores(self, sample: ImageSample, progress: Progress) -> dict[str, Score]:
        """All scores of a sample."""
        found = {}

        @cache  # of a variable that is in two means
        def replicated(metric: Metric, v: str) -> tuple[float, Floats]:
            return replicas(metric, self._values(self.full, v), self._values(sample, v), self.draws)

        for key, (metric, names) in _MEANS.items():
            pairs = [replicated(metric, v) for v in names]
            values, drawn = np.array([value for value, _ in pairs]), np.array([each for _, each in pairs])
            found[key] = Score.of(float(values.mean()), drawn.mean(axis=0))
        distance = image_frechet(self.full.features, sample.features, self.seed, self.crew).value
        found["frechet"] = Score.of(distance, frechet_draws(self.full.features, sample.features, self.draws[0]))
        progress(1, 4, "distributions compared")
        areas = self._areas(sample, part(progress, 25, 100))
        found |= {key: Score.of(float(each.mean()), each) for key, each in areas.items()}
        found["ms_per_image"] = Score(None if sample.seconds is None else known(1e3 * sample.seconds))
        return found

    def _values(self, sample: ImageSample, name: str) -> Values:
        return Values(sample.values[name], self.edges[name])

    def _floors_of_means(self, splits: Draws) -> dict[str, Any]:
        n, floors = len(self.full), {}

        @cache
        def replicated(metric: Metric, v: str) -> Floats:
            return floor_replicas(metric, self._values(self.full, v), splits)

        for key, (metric, names) in _MEANS.items():
            each = [replicated(metric, v) for v in names]
            floors[key] = scaled_floor(np.mean(each, axis=0), metric.order, n, (n, n)).to_dict()
        return floors

    def _areas(self, sample: ImageSample | None, progress: Progress) -> dict[str, Floats]:
        """Areas of every repeat (J,): the largest, and each classifier's; without a sample those of the floor."""
        told: dict[str, Floats] = {}
        views = self.contest.views
        for number, (name, (label, _)) in enumerate(views.items()):
            told[f"auc_{name}"] = np.array(self.contest.run(name, sample).repeats)
            progress(number + 1, len(views), f"classifier of {label}")
        return {"auc": np.max(list(told.values()), axis=0), **told}


def frechet_draws(full: Floats, generated: Floats, draws: Draws) -> Floats:
    """Fréchet distance of every bootstrap draw of the events (resamples,), for errors and differences.

    It is not extrapolated: what so many events add to the distance moves all draws alike.

    Args:
        full: features (N, F).
        generated: features of the same events (N, F).
        draws: how often each event appears (resamples, N).
    """
    x, y = scaled(full, generated)
    origin = x.mean(axis=0)  # moments about a nearby point lose no digits
    x, y = x - origin, y - origin
    counts = draws.astype(np.int64)
    return np.array([frechet_distance(*weighted_moments(x, w), *weighted_moments(y, w)) for w in counts])
