"""Compare generated images of events with the full simulation's: from two or more image files to the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import __version__
from ...cluster import Address, crew_of
from ...crew import HERE, Crew
from ...errors import CaloforgeError
from ...progress import Progress, part, silent
from ..benchmark.frechet import fpd, split_floor
from ..checks import warn
from ..classifier import Separation
from ..comparison import FULL, QUICK, Effort
from ..distributions import Values, fitting_bins
from ..metrics import METRICS
from ..report import Report, check_folder, finite, write_folder
from ..resampling import Draws, Estimate, Floor, bootstrap, estimate, floor, halves
from .chi2 import CHI2, chi2_of_mean
from .contest import ImageContest
from .sample import MIN_IMAGES, ImageSample, read_samples, same_events, sample_of
from .spread import QUANTITIES, quantities, spread_of
from .variables import VARIABLES, Floats

if TYPE_CHECKING:
    from rich.console import RenderableType

FORMAT, VERSION = "caloforge-image-report", 1
SCHEMA_VERSION = "1.1"  # of images.report.schema.json, as `report.SCHEMA_VERSION`
WANTED = 1000
_MEASURES = {"chi2": CHI2, "separation": METRICS["separation"]}
PAIRS = {
    "full_generated": ("full", "generated"),
    "fast_full": ("fast", "full"),
    "fast_generated": ("fast", "generated"),
}
"""Comparisons of the paper's tables: Geant4-CALPAGAN, Delphes-Geant4, Delphes-CALPAGAN."""


@dataclass
class ImageResult:
    """Everything an evaluation of images found: plain data for the report, samples for the figures.

    ``again`` are the same model's further draws of the same events.
    """

    samples: dict[str, ImageSample]
    again: list[ImageSample]
    data: dict[str, Any]
    edges: dict[str, Floats]
    separations: dict[str, Separation]


class ImageReport(Report):
    """A finished evaluation of images."""

    _format = (FORMAT, VERSION)

    def summary(self) -> RenderableType:
        """The most important numbers as a table for the terminal."""
        from .page import summary

        return summary(self.to_dict())


def evaluate_images(
    reference: str | Path,
    generated: str | Path,
    output: str | Path,
    *,
    fast: str | Path | None = None,
    again: Sequence[str | Path] = (),
    seed: int = 0,
    repeats: int | None = None,
    max_images: int | None = None,
    quick: bool = False,
    dask: Address | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> ImageReport:
    """Score generated images of events against the full simulation's and write a report.

    Args:
        reference: image file of the full simulation.
        generated: image file of the same events, whoever made it.
        output: folder for report.html, report.json and figures/; it appears only when it is whole.
        fast: image file of the fast simulation; with it, the tables' other columns and the spread are measured.
        again: further files that the same model generated with other seeds, for the spread around one fast image and
            the chi2 of the mean of all draws.
        seed: of everything random: same files and seed, same report.json.
        repeats: how often each classifier is trained; 5 by default, 2 if quick.
        max_images: use at most so many events, evenly spread.
        quick: a first look in less time.
        dask: the scheduler of a cluster that computes instead, see `caloforge.cluster`; this process reads the files
            and sends what is needed. The report is the same.
        overwrite: replace an older report in ``output``.
        progress: told of each step.

    Raises:
        CaloforgeError: if a file, the folder or a number cannot be used, or the files have few events in common.
    """
    effort = chosen_effort(quick, repeats, max_images)
    folder = check_folder(Path(output), overwrite=overwrite)
    if again and fast is None:
        raise CaloforgeError("--again measures the spread around one fast image; give the fast images with --fast.")
    paths = {"full": reference, "generated": generated} | ({} if fast is None else {"fast": fast})
    found = read_samples([*paths.values(), *again], max_images)
    with crew_of(dask) as crew:
        samples = {}
        for number, (side, path) in enumerate(paths.items()):
            samples[side] = sample_of(path, found[number], crew)
            progress(10 * number + 10, 100, f"measuring {samples[side].label}")
        others = [sample_of(p, x, crew) for p, x in zip(again, found[len(paths) :], strict=True)]
        _check_different([samples["generated"], *others])
        notes: list[str] = []
        warn(notes, doubts(samples))
        data: dict[str, Any] = {"seed": seed, "repeats": effort.repeats, "quick": quick, "warnings": notes}
        data["samples"] = {side: described(sample) for side, sample in samples.items()}
        result = ImageResult(samples, others, data, {}, {})
        _compare(result, seed, effort, crew, part(progress, 30, 60))
        data["frechet"] = _frechet(samples, seed, effort, crew)
        _classify(result, seed, effort, crew, part(progress, 65, 85))
        if again:
            data["spread"] = _spread(samples, [samples["generated"], *others], seed)
        return _write(result, folder, crew, part(progress, 90, 100))


def _write(result: ImageResult, folder: Path, crew: Crew, progress: Progress) -> ImageReport:
    from .page import draw_images, render_images

    head = {"format": FORMAT, "version": VERSION, "schema": SCHEMA_VERSION, "caloforge": __version__}
    data = {**head, **finite(result.data)}
    sections = draw_images(result, crew, progress)
    return ImageReport(write_folder(folder, data, sections, lambda: render_images(data, sections)), data)


def chosen_effort(quick: bool, repeats: int | None, max_images: int | None) -> Effort:
    """The effort asked for.

    Raises:
        CaloforgeError: if a number is too small.
    """
    effort = QUICK if quick else FULL
    wanted = effort.repeats if repeats is None else repeats
    if wanted < 1 or (max_images is not None and max_images < MIN_IMAGES):
        raise CaloforgeError(
            f"repeats {wanted} and at most {max_images} images were given; at least 1 repeat and {MIN_IMAGES} images "
            "are needed."
        )
    return Effort(wanted, effort.resamples, effort.layer_resamples, effort.splits, effort.showers)


def described(sample: ImageSample) -> dict[str, Any]:
    """One sample as plain data for the report."""
    return {
        "file": sample.path.name,
        "label": sample.label,
        "side": sample.images.side,
        "process": sample.images.process,
        "images": len(sample),
        "mean_towers": float(sample.values["n_towers"].mean()),
        "with_two_jets": float(np.isfinite(sample.values["jet2_pt"]).mean()),
        "seconds_per_image": sample.seconds,
    }


def doubts(samples: dict[str, ImageSample]) -> list[str]:
    """What makes a comparison of full and generated images weak or unfair, one sentence each."""
    full, generated = samples["full"], samples["generated"]
    found = []
    if len(full) < WANTED:
        found.append(f"only {len(full)} events are used; errors are large and floors high under {WANTED}.")
    if full.images.side in ("fast", "generated"):
        found.append(f"'{full.path.name}', taken for the full simulation, holds {full.images.side} images.")
    if (full.images.dense() == generated.images.dense()).all(axis=(1, 2)).mean() > 0.01:
        found.append(
            f"many images in '{generated.path.name}' equal the full simulation's in every tower; a copy says nothing "
            "about a model."
        )
    return found


# -- distributions ----------------------------------------------------------------------------------------------


def _compare(result: ImageResult, seed: int, effort: Effort, crew: Crew, progress: Progress) -> None:
    """Chi2 and separation of every variable, for every pair of samples, with errors and floors."""
    n, rng = len(result.samples["full"]), np.random.default_rng([seed, 1])
    draws = crew.share(same_events(bootstrap(n, rng, effort.resamples)))
    splits = crew.share(halves(n, rng, effort.splits))
    values = {name: {side: sample.values[name] for side, sample in result.samples.items()} for name in VARIABLES}
    again = {name: [sample.values[name] for sample in result.again] for name in VARIABLES}
    found = crew.each(compare_variable, ((name, each, again[name], draws, splits) for name, each in values.items()))
    table: dict[str, Any] = {}
    for number, (name, entry) in enumerate(zip(VARIABLES, found, strict=True)):
        table[name] = entry
        result.edges[name] = np.array(entry["edges"])
        progress(number + 1, len(VARIABLES), f"comparing {VARIABLES[name].label}")
    result.data["variables"] = table


def compare_variable(
    name: str, values: dict[str, Floats], again: list[Floats], draws: tuple[Draws, Draws], splits: Draws
) -> dict[str, Any]:
    """One variable of all samples, (N,) each by side: chi2 and separation of every pair, with errors and floors.

    With further draws of the model also the chi2 of the mean of all of them.
    """
    variable, edges = VARIABLES[name], variable_bins(name, values["full"])
    each = {side: Values(x, edges) for side, x in values.items()}
    entry: dict[str, Any] = {"label": variable.label, "unit": variable.unit, "meaning": variable.meaning}
    entry["edges"] = edges.tolist()
    entry |= {key: _pairs_of(key, each, draws, splits) for key in _MEASURES}
    if again:
        every = [each["generated"], *(Values(x, edges) for x in again)]
        entry["chi2"]["full_draws"] = chi2_of_mean(each["full"], every, draws[0]).to_dict()
    return entry


def variable_bins(name: str, full: Floats) -> Floats:
    """Bin edges that fit one of `VARIABLES` of the full simulation (N,)."""
    return fitting_bins(full, log=VARIABLES[name].log, whole=VARIABLES[name].whole)


def _pairs_of(key: str, each: dict[str, Values], draws: tuple[Draws, Draws], splits: Draws) -> dict[str, Any]:
    """One metric of all pairs of samples, and its floor."""
    metric, n = _MEASURES[key], len(each["full"])
    found: dict[str, Any] = {
        name: estimate(metric, each[one], each[two], draws).to_dict()
        for name, (one, two) in PAIRS.items()
        if one in each and two in each
    }
    return found | {"floor": floor(metric, each["full"], (n, n), splits).to_dict()}


# -- many dimensions --------------------------------------------------------------------------------------------


def image_frechet(reference: Floats, generated: Floats, seed: int, crew: Crew = HERE) -> Estimate:
    """Fréchet distance of two tables of features (N, F), extrapolated to infinite samples, and its error.

    Features are scaled by the reference's largest value of each, as `fpd` does.
    """
    n = min(len(reference), len(generated))
    return fpd(reference, generated, min_samples=n, max_samples=5 * n, points=6, batches=6, seed=seed, crew=crew)


def _frechet(samples: dict[str, ImageSample], seed: int, effort: Effort, crew: Crew) -> dict[str, Any]:
    """Fréchet distances of all pairs of samples in the same features, and the floor."""
    tables = {side: sample.features for side, sample in samples.items()}
    pairs = {name: pair for name, pair in PAIRS.items() if set(pair) <= set(tables)}
    # Features are scaled by the largest of the first: the full simulation's, or what is made to be like it.
    order = {pair: sorted(sides, key=("full", "generated", "fast").index) for pair, sides in pairs.items()}
    found: dict[str, Any] = {
        pair: image_frechet(tables[one], tables[two], seed, crew).to_dict() for pair, (one, two) in order.items()
    }
    return found | {"floor": frechet_floor(tables["full"], seed, effort, crew).to_dict()}


def frechet_floor(full: Floats, seed: int, effort: Effort, crew: Crew = HERE) -> Floor:
    """Fréchet distance of one half of the full images' features (N, F) from the other, scaled to N images.

    A distance costs more than the metrics that are split ``effort.splits`` times: half as many must do.
    """
    n, rng = len(full), np.random.default_rng([seed, 2])
    return split_floor(full, (n, n), lambda a, b, _: image_frechet(a, b, seed, crew), rng, effort.splits // 2)


def _classify(result: ImageResult, seed: int, effort: Effort, crew: Crew, progress: Progress) -> None:
    """What every classifier reached beside its floor."""
    contest = ImageContest(result.samples["full"], result.samples.get("fast"), seed, effort, crew)
    table: dict[str, Any] = {}
    views = contest.views
    for number, (name, (label, note)) in enumerate(views.items()):
        told, bottom = contest.run(name, result.samples["generated"]), contest.run(name, None)
        result.separations[name] = told
        table[name] = {"label": label, "note": note, "auc": told.auc.to_dict(), "floor": bottom.auc.to_dict()}
        table[name] |= {"repeats": told.repeats, "images": contest.images}
        progress(number + 1, len(views), f"classifier of {label}")
    if table:
        result.data["classifiers"] = table


def _spread(samples: dict[str, ImageSample], draws: list[ImageSample], seed: int) -> dict[str, Any]:
    """Spread ratios and coverages of all quantities."""
    fast, rng = samples["fast"].images, np.random.default_rng([seed, 4])
    full = quantities(samples["full"].images, samples["full"].values, fast)
    each = [quantities(draw.images, draw.values, fast) for draw in draws]
    found = {name: spread_of(full[name], [x[name] for x in each], rng) for name in QUANTITIES}
    return {name: {"label": QUANTITIES[name].label, **entry} for name, entry in found.items() if entry is not None}


def _check_different(draws: list[ImageSample]) -> None:
    for one, two in combinations(draws, 2):
        if np.array_equal(one.images.rows.energy, two.images.rows.energy):
            raise CaloforgeError(
                f"'{one.path.name}' and '{two.path.name}' hold the same images; generate one of them with another "
                "--seed."
            )
