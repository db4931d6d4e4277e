"""Compare a generated sample with a reference: everything from two shower files to the report."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CaloforgeError, CaloforgeWarning
from ..progress import Progress, silent
from .classifier import CLASSIFIERS, MAX_SHOWERS, MIN_SHOWERS, Separation, separate
from .metrics import (
    METRICS,
    Distribution,
    Draws,
    Joint,
    Profile,
    Values,
    bootstrap,
    correlations,
    estimate,
    fitting_bins,
    floor,
    halves,
    profile_positions,
)
from .observables import OBSERVABLES, Floats
from .provenance import describe, differences
from .report import Report, Result, check_folder, write_report
from .response import energy_bins, mean_ratio, response_table
from .sample import Sample, chosen_rows, measure

WANTED_SHOWERS = 1000
LAYER_RESAMPLES = 30


def evaluate(
    reference: str | Path,
    generated: str | Path,
    output: str | Path,
    *,
    seed: int = 0,
    repeats: int = 5,
    max_showers: int | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Report:
    """Score a generated sample against a reference and write a report.

    Args:
        reference: shower file, usually simulated.
        generated: shower file of the same detector, whoever made it.
        output: folder for report.html, report.json and figures/; it appears only when it is whole.
        seed: of everything random: same files and seed, same report.json.
        repeats: how often each classifier is trained.
        max_showers: use at most so many showers of each file, evenly spread over it.
        overwrite: replace an earlier report.
        progress: called with percent done, 100 and what is being done.

    Raises:
        CaloforgeError: if a file is not valid or holds fewer than 50 showers or no energy, the detectors differ, or
            the output exists.
    """
    if repeats < 1 or (max_showers is not None and max_showers < MIN_SHOWERS):
        raise CaloforgeError(
            f"repeats {repeats} and max_showers {max_showers} were given; "
            f"at least 1 repeat and {MIN_SHOWERS} showers are needed."
        )
    folder = check_folder(Path(output), overwrite=overwrite)
    notes: list[str] = []
    _check_pair(reference, generated, max_showers, notes)
    a = measure(reference, max_showers=max_showers, progress=_part(progress, 0, 12))
    names = [*a.values, *a.profiles]
    b = measure(generated, names=names, edges=a.edges, max_showers=max_showers, progress=_part(progress, 12, 24))
    for note in differences(a, b):
        _warn(notes, note)
    result = Result(a, b, {"seed": seed, "repeats": repeats, "warnings": notes})
    result.data |= _samples(a, b)
    result.data |= _metrics(result, seed, _part(progress, 24, 45))
    result.data["response"] = _response(a, b, seed)
    result.data["classifiers"] = _classifiers(result, seed, repeats, _part(progress, 45, 92))
    return write_report(result, folder, _part(progress, 92, 100))


def _part(progress: Progress, start: float, stop: float) -> Progress:
    """A progress that runs from ``start`` to ``stop`` percent of another."""

    def report(done: int, total: int, note: str = "") -> None:
        progress(round(start + (stop - start) * done / max(total, 1)), 100, note)

    return report


def _warn(notes: list[str], sentence: str) -> None:
    notes.append(sentence)
    warnings.warn(sentence, CaloforgeWarning, stacklevel=4)


def _check_pair(reference: str | Path, generated: str | Path, limit: int | None, notes: list[str]) -> None:
    """Raise or warn about what can be seen before anything long is done."""
    from ..shower_file import ShowerFile

    with ShowerFile(reference) as a, ShowerFile(generated) as b:
        for file in (a, b):
            n = min(len(file), limit or len(file))
            if n < MIN_SHOWERS:
                raise CaloforgeError(
                    f"'{file.path}' holds {n} showers; an evaluation needs {MIN_SHOWERS}, better {WANTED_SHOWERS} "
                    "or more."
                )
            if n < WANTED_SHOWERS:
                _warn(
                    notes,
                    f"only {n} showers of '{file.path.name}' are used; errors are large and floors high "
                    f"under {WANTED_SHOWERS}.",
                )
        if not a.detector.same_voxels(b.detector):
            raise CaloforgeError(
                f"'{reference}' is of detector '{a.detector.name}' with {a.detector.n_voxels} voxels, '{generated}' "
                f"of '{b.detector.name}' with {b.detector.n_voxels} voxels of other size or place; compare samples of "
                "one detector."
            )


def _samples(a: Sample, b: Sample) -> dict[str, Any]:
    one, two = describe(a, "reference"), describe(b, "generated")
    times = one["seconds_per_shower"], two["seconds_per_shower"]
    d = a.detector
    return {
        "detector": {"name": d.name, "description": d.description, "layers": d.n_layers, "voxels": d.n_voxels},
        "samples": {"reference": one, "generated": two},
        "speed_up": times[0] / times[1] if times[0] and times[1] else None,
    }


# -- metrics of observables --------------------------------------------------------------------------------------


def _distributions(a: Sample, b: Sample, name: str) -> list[tuple[str, Distribution, Distribution]]:
    """What is compared for one observable: itself, or each layer of it."""
    observable = OBSERVABLES[name]
    if observable.kind == "profile":
        at = profile_positions(a.edges[observable.bins], log=observable.log)
        return [(name, Profile(a.profiles[name], at), Profile(b.profiles[name], at))]
    one, two = a.values[name], b.values[name]
    columns = (
        [(name, one, two)] if one.ndim == 1 else [(f"{name}[{i}]", one[:, i], two[:, i]) for i in range(one.shape[1])]
    )
    found: list[tuple[str, Distribution, Distribution]] = []
    for key, x, y in columns:
        edges = fitting_bins(x, log=observable.log, whole=observable.whole)
        found.append((key, Values(x, edges), Values(y, edges)))
    return found


def _metrics(result: Result, seed: int, progress: Progress) -> dict[str, Any]:
    a, b = result.reference, result.generated
    tables: dict[str, Any] = {"observables": {}, "layers": {}}
    names = [*a.values, *a.profiles]
    rng = np.random.default_rng([seed, 1])
    draws = bootstrap(len(a), rng), bootstrap(len(b), rng)
    few = draws[0][:LAYER_RESAMPLES], draws[1][:LAYER_RESAMPLES]
    splits = halves(len(a), rng)
    for number, name in enumerate(names):
        observable = OBSERVABLES[name]
        for key, one, two in _distributions(a, b, name):
            entry = {"label": observable.label, "unit": _unit(name), "meaning": observable.meaning}
            entry |= _score(one, two, few if observable.kind == "layers" else draws, splits) | _outside(one, two)
            tables["layers" if observable.kind == "layers" else "observables"][key] = entry
            result.distributions[key] = (one, two)
        progress(number + 1, len(names) + 1, f"comparing {observable.label}")
    tables["correlation"] = _correlations(a, b, draws, splits)
    progress(1, 1, "comparing correlations")
    return tables


def _unit(name: str) -> str:
    """Unit of an observable's Wasserstein distance."""
    if OBSERVABLES[name].kind != "profile":
        return OBSERVABLES[name].unit
    return {"layer": "layers", "radius": "mm"}.get(OBSERVABLES[name].bins, "decades")


def _score(one: Distribution, two: Distribution, draws: tuple[Draws, Draws], splits: Draws) -> dict[str, Any]:
    found = {}
    for key in ("separation", "wasserstein"):
        found[key] = estimate(METRICS[key], one, two, draws).to_dict() | {
            "floor": floor(METRICS[key], one, (len(one), len(two)), splits).to_dict()
        }
    return found


def _outside(one: Distribution, two: Distribution) -> dict[str, Any]:
    """Fractions under, over and without value, of both samples."""
    shares: dict[str, Any] = {}
    for side, each in (("reference", one), ("generated", two)):
        if isinstance(each, Values):
            counts = each.histogram()
            flows = {"underflow": counts[0], "overflow": counts[-2], "undefined": counts[-1]}
        else:
            assert isinstance(each, Profile)
            counts = each.counts.sum(axis=0)
            flows = {"underflow": counts[0], "overflow": counts[-1], "undefined": 0.0}
        shares[side] = {k: float(v / max(counts.sum(), 1e-300)) for k, v in flows.items()}
    return {"outside": shares}


def _correlations(a: Sample, b: Sample, draws: tuple[Draws, Draws], splits: Draws) -> dict[str, Any]:
    names = [k for k, v in a.values.items() if v.ndim == 1]
    one, two = (Joint(np.stack([s.values[k] for k in names], axis=1)) for s in (a, b))
    metric = METRICS["correlation"]
    return {
        **estimate(metric, one, two, draws).to_dict(),
        "floor": floor(metric, one, (len(a), len(b)), splits).to_dict(),
        "observables": names,
        "reference": correlations(one.values).tolist(),
        "generated": correlations(two.values).tolist(),
    }


# -- response and classifiers ------------------------------------------------------------------------------------


def _response(a: Sample, b: Sample, seed: int) -> dict[str, Any]:
    edges = energy_bins(a.incident.energy)
    tables = [
        response_table(s.incident.energy, s.values["response"], edges, np.random.default_rng([seed, 3, i]))
        for i, s in enumerate((a, b))
    ]
    ratios = {k: mean_ratio(tables[0], tables[1], k) for k in ("mean", "resolution", "resolution_90")}
    return {"edges_mev": edges.tolist(), "reference": tables[0], "generated": tables[1], "ratio": ratios}


def _classifiers(result: Result, seed: int, repeats: int, progress: Progress) -> dict[str, Any]:
    a, b = result.reference, result.generated
    n = min(len(a), len(b), MAX_SHOWERS)
    rows = chosen_rows(len(a), n), chosen_rows(len(b), n)
    edges = energy_bins(a.incident.energy)
    groups = tuple(_groups(s.incident.energy[r], edges) for s, r in zip((a, b), rows, strict=True))
    found = {}
    for number, (name, classifier) in enumerate(CLASSIFIERS.items()):
        start, label = number / len(CLASSIFIERS), classifier.label
        step = 1 / len(CLASSIFIERS)
        scaled = _part(progress, 100 * start, 100 * (start + 0.6 * step))
        x, note = classifier.features(a, a, rows[0])
        y, _ = classifier.features(b, a, rows[1])
        told = separate(x, y, seed=seed, repeats=repeats, groups=(groups[0], groups[1]), progress=_named(scaled, label))
        scaled = _part(progress, 100 * (start + 0.6 * step), 100 * (start + step))
        bottom = separate(x, None, seed=seed, repeats=repeats, progress=_named(scaled, f"{label}, floor"))
        result.separations[name] = told
        found[name] = _classifier_entry(told, bottom, name, n, note, len(a), len(b))
    return found


def _classifier_entry(
    told: Separation, bottom: Separation, name: str, n: int, note: str, n_a: int, n_b: int
) -> dict[str, Any]:
    cap = "" if n == max(n_a, n_b) else f"; of {n_a} and {n_b} showers, {n} each are used"
    return {
        "label": CLASSIFIERS[name].label,
        "meaning": CLASSIFIERS[name].meaning,
        "auc": told.auc.to_dict(),
        "floor": bottom.auc.to_dict() | {"size": n // 2},
        "repeats": told.repeats,
        "by_energy": [e.to_dict() if e is not None else None for e in told.by_group],
        "showers": n,
        "note": note + cap,
    }


def _named(progress: Progress, name: str) -> Progress:
    def report(done: int, total: int, note: str = "") -> None:
        progress(done, total, f"{name}: {note}")

    return report


def _groups(energy: Floats, edges: Floats) -> Any:
    at = np.searchsorted(edges, energy, side="right") - 1
    at[energy == edges[-1]] = len(edges) - 2
    at[at >= len(edges) - 1] = -1
    return at
