"""Compare a generated sample with a reference: everything from two shower files to the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..cache import Cache
from ..cluster import Address, crew_of
from ..crew import Crew
from ..errors import CaloforgeError
from ..progress import Progress, part, silent
from .benchmark import fidelity
from .checks import check_files, doubts, warn
from .classifier import MIN_SHOWERS
from .comparison import (
    FULL,
    QUICK,
    Contest,
    Effort,
    classifier_tables,
    correlation_table,
    distributions,
    quick_note,
    response_tables,
    scores_of,
    sparsity_table,
)
from .images import evaluate_images, holds_images
from .observables import OBSERVABLES
from .provenance import describe
from .report import Report, Result, check_folder, write_report
from .resampling import bootstrap, halves
from .sample import Sample, measure
from .systems import score_systems


def evaluate(
    reference: str | Path,
    generated: str | Path,
    output: str | Path,
    *,
    seed: int = 0,
    repeats: int | None = None,
    max_showers: int | None = None,
    quick: bool = False,
    cache: bool = True,
    dask: Address | None = None,
    overwrite: bool = False,
    fast: str | Path | None = None,
    again: Sequence[str | Path] = (),
    progress: Progress = silent,
) -> Report:
    """Score a generated sample against a reference and write a report.

    Args:
        reference: shower file, usually simulated.
        generated: shower file of the same detector, whoever made it.
        output: folder for report.html, report.json and figures/; it appears only when it is whole.
        seed: of everything random: same files and seed, same report.json.
        repeats: how often each classifier is trained; 5 by default, 2 if quick.
        max_showers: use at most so many showers of each file, evenly spread over it.
        quick: a first look in less time: fewer trainings, fewer showers in them, fewer bootstrap draws.
        cache: take what was measured and trained before on files of this content, see `caloforge.cache`.
        dask: the scheduler of a cluster that computes instead, see `caloforge.cluster`; this process reads the files
            and sends what is needed. The report is the same.
        overwrite: replace an earlier report.
        fast: for image files, the fast simulation's, see `caloforge.evaluation.images.scoring`.
        again: for image files, what the same model generated with other seeds.
        progress: called with percent done, 100 and what is being done.

    Raises:
        CaloforgeError: if a file is not valid or holds fewer than 50 showers or no energy, the detectors differ, or
            the output exists.
    """
    if holds_images(reference):
        return evaluate_images(
            reference, generated, output, fast=fast, again=again, seed=seed, repeats=repeats, max_images=max_showers,
            quick=quick, dask=dask, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    if fast is not None or again:
        raise CaloforgeError("--fast and --again are for image files; leave them out to compare showers.")
    effort = chosen_effort(quick, repeats, max_showers)
    kept = Cache.named("evaluation") if cache else None
    folder = check_folder(Path(output), overwrite=overwrite)
    notes = [quick_note(effort)] if quick else []
    warn(notes, check_files([reference, generated], max_showers))
    with crew_of(dask) as crew:
        a = measure(reference, max_showers=max_showers, cache=kept, crew=crew, progress=part(progress, 0, 12))
        how: dict[str, Any] = {"names": [*a.values, *a.profiles], "edges": a.edges, "max_showers": max_showers}
        b = measure(generated, **how, cache=kept, crew=crew, progress=part(progress, 12, 24))
        warn(notes, doubts(a, b))
        result = Result(a, b, {"seed": seed, "repeats": effort.repeats, "quick": quick, "warnings": notes})
        result.data |= _samples(a, b)
        result.data |= _metrics(result, seed, effort, crew, part(progress, 24, 45))
        contest = Contest(a, min(len(a), len(b), effort.showers), seed, effort.repeats, kept, crew)
        result.data["classifiers"], result.separations = classifier_tables(contest, b, part(progress, 45, 80))
        result.data["systems"], result.systems = score_systems(
            a, b, seed=seed, quick=quick, progress=part(progress, 80, 86)
        )
        if not quick:
            result.data["fidelity"] = fidelity(a, b, seed=seed, crew=crew, progress=part(progress, 86, 92))
        return write_report(result, folder, crew, part(progress, 92, 100))


def chosen_effort(quick: bool, repeats: int | None, max_showers: int | None) -> Effort:
    """The effort asked for.

    Raises:
        CaloforgeError: if a number is too small.
    """
    effort = QUICK if quick else FULL
    wanted = effort.repeats if repeats is None else repeats
    if wanted < 1 or (max_showers is not None and max_showers < MIN_SHOWERS):
        raise CaloforgeError(
            f"repeats {wanted} and max_showers {max_showers} were given; "
            f"at least 1 repeat and {MIN_SHOWERS} showers are needed."
        )
    return Effort(wanted, effort.resamples, effort.layer_resamples, effort.splits, effort.showers)


def _samples(a: Sample, b: Sample) -> dict[str, Any]:
    one, two = describe(a, "reference"), describe(b, "generated")
    times = one["seconds_per_shower"], two["seconds_per_shower"]
    d = a.detector
    return {
        "detector": {"name": d.name, "description": d.description, "layers": d.n_layers, "voxels": d.n_voxels},
        "samples": {"reference": one, "generated": two},
        "speed_up": times[0] / times[1] if times[0] and times[1] else None,
    }


def _metrics(result: Result, seed: int, effort: Effort, crew: Crew, progress: Progress) -> dict[str, Any]:
    a, b = result.reference, result.generated
    tables: dict[str, Any] = {"observables": {}, "layers": {}}
    names = [*a.values, *a.profiles]
    layers = [OBSERVABLES[name].kind == "layers" for name in names]
    rng = np.random.default_rng([seed, 1])
    draws = bootstrap(len(a), rng, effort.resamples), bootstrap(len(b), rng, effort.resamples)
    few = crew.share((draws[0][: effort.layer_resamples], draws[1][: effort.layer_resamples]))
    one, two, many = crew.share(a), crew.share(b), crew.share(draws)
    splits = crew.share(halves(len(a), rng, effort.splits))
    tasks = ((one, two, name, few if few_do else many, splits) for name, few_do in zip(names, layers, strict=True))
    for number, (name, found) in enumerate(zip(names, crew.each(scores_of, tasks), strict=True)):
        tables["layers" if layers[number] else "observables"] |= found
        result.distributions |= {key: (x, y) for key, x, y in distributions(a, b, name)}
        progress(number + 1, len(names) + 1, f"comparing {OBSERVABLES[name].label}")
    (tables["sparsity_curve"],) = crew.each(sparsity_table, [(one, two, many, splits)])
    (tables["correlation"],) = crew.each(correlation_table, [(one, two, many, splits)])
    (tables["response"],) = crew.each(response_tables, [(one, two, seed, many, splits)])
    progress(1, 1, "comparing correlations and response")
    return tables
