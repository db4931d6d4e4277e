"""All figures of a report, by section."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..progress import Progress, silent
from . import figures
from .figures import Curve, Frame, Picture
from .metrics import Profile, Values
from .observables import OBSERVABLES, Floats
from .pictures import average_showers, single_showers
from .report import Result

LAYERS_SHOWN = 6


def draw(result: Result, progress: Progress = silent) -> dict[str, list[Picture]]:
    """Draw everything.

    Returns:
        section name -> figures, in the order of the report.
    """
    sections: dict[str, Callable[[Result], list[Picture]]] = {
        "overview": _overview,
        "showers": lambda r: [*average_showers(r), *single_showers(r)],
        "response": _response,
        "observables": _values,
        "profiles": _profiles,
        "layers": _layers,
        "correlations": _correlations,
        "classifiers": _classifiers,
    }
    drawn = {}
    for number, (name, make) in enumerate(sections.items()):
        drawn[name] = make(result)
        progress(number + 1, len(sections), f"drawing {name}")
    return drawn


def labels(result: Result) -> tuple[str, str]:
    """What the two samples are called in legends."""
    samples = result.data["samples"]
    return str(samples["reference"]["label"]), str(samples["generated"]["label"])


def _overview(result: Result) -> list[Picture]:
    table = {k: v["separation"] for k, v in result.data["observables"].items()}
    table = {k: v for k, v in table.items() if np.isfinite(v["value"])}
    image = figures.overview(
        [result.data["observables"][k]["label"] for k in table],
        np.array([v["value"] for v in table.values()]),
        np.array([v["error"] for v in table.values()]),
        np.array([v["floor"]["value"] for v in table.values()]),
        np.array([v["floor"]["error"] for v in table.values()]),
    )
    caption = (
        "Separation power of every observable. The grey bar ends at the floor, which is what statistics alone give; "
        "points at the end of their bar cannot be told from the reference."
    )
    return [Picture("overview", "All observables at a glance", caption, image, wide=True)]


def _comparison(result: Result, key: str, name: str, title: str) -> Picture:
    """Histogram of one number a shower."""
    one, two = result.distributions[key]
    assert isinstance(one, Values) and isinstance(two, Values)
    counts = [d.histogram() for d in (one, two)]
    a, b = (figures.histogram_curve(c) for c in counts)
    observable = OBSERVABLES[name]
    steps = np.diff(one.edges)
    log = bool(len(steps) > 1 and steps[-1] > 1.5 * steps[0])
    unit = f" [{observable.unit}]" if observable.unit else ""
    image = figures.comparison(
        Frame(one.edges, f"{title}{unit}", "showers per bin [%]", labels(result), log),
        Curve(a.values[1:-2], a.errors[1:-2]),
        Curve(b.values[1:-2], b.errors[1:-2]),
        note=_outside(*(100 * (c[0] + c[-2] + c[-1]) / max(c.sum(), 1) for c in counts)),
    )
    stem = key.replace("[", "_").replace("]", "")
    return Picture(stem, title[:1].upper() + title[1:], observable.meaning + ".", image)


def _outside(reference: float, generated: float) -> str:
    return f"not shown: {reference:.2g} % and {generated:.2g} %" if reference or generated else ""


def _values(result: Result) -> list[Picture]:
    return [
        _comparison(result, key, key, OBSERVABLES[key].label)
        for key in result.data["observables"]
        if OBSERVABLES[key].kind == "value"
    ]


def _layers(result: Result) -> list[Picture]:
    """Energy in some layers, spread over those that hold most of it."""
    mean = result.reference.values.get("layer_energy")
    if mean is None:
        return []
    share = np.cumsum(mean.mean(axis=0)) / mean.mean(axis=0).sum()
    wanted = np.searchsorted(share, np.linspace(0.02, 0.98, LAYERS_SHOWN))
    shown = sorted(set(np.minimum(wanted, len(share) - 1).tolist()))
    return [_comparison(result, f"layer_energy[{i}]", "layer_energy", f"energy in layer {i}") for i in shown]


def _profiles(result: Result) -> list[Picture]:
    found = []
    for name in result.data["observables"]:
        observable = OBSERVABLES[name]
        if observable.kind != "profile":
            continue
        one, two = result.distributions[name]
        assert isinstance(one, Profile) and isinstance(two, Profile)
        edges = result.reference.edges[observable.bins]
        counts = [d.counts for d in (one, two)]
        share = [100 * (c[:, 0].sum() + c[:, -1].sum()) / max(c.sum(), 1e-300) for c in counts]
        what = "energy" if observable.unit == "MeV" else "voxels"
        ylabel = f"mean {what} per shower and bin" + (" [MeV]" if what == "energy" else "")
        image = figures.comparison(
            Frame(edges, observable.axis, ylabel, labels(result), observable.log),
            figures.profile_curve(counts[0][:, 1:-1]),
            figures.profile_curve(counts[1][:, 1:-1]),
            log_y=name != "longitudinal_profile",
            note=_outside(share[0], share[1]),
        )
        title = observable.label[:1].upper() + observable.label[1:]
        found.append(Picture(name, title, observable.meaning + ".", image))
    return found


def _log_energy(result: Result) -> bool:
    edges = np.asarray(result.data["response"]["edges_mev"])
    return bool(
        len(edges) > 2 and edges[0] > 0 and edges[-1] > 30 * edges[0] and np.diff(edges)[-1] > 3 * np.diff(edges)[0]
    )


def _response(result: Result) -> list[Picture]:
    data = result.data["response"]
    edges: Floats = np.asarray(data["edges_mev"]) / 1e3
    texts = {
        "mean": (
            "Mean response",
            "mean total / incident energy",
            "Linearity: the mean response in bins of incident energy.",
        ),
        "resolution": (
            "Resolution",
            "σ / mean of the response",
            "Standard deviation over mean of the response in bins of incident energy.",
        ),
        "resolution_90": (
            "Resolution without tails",
            "σ₉₀ / mean₉₀ of the response",
            "The same for the narrowest 90 % of the showers, which tails do not move.",
        ),
    }
    found = []
    for key, (title, label, caption) in texts.items():
        a, b = (_curve(data[side], key) for side in ("reference", "generated"))
        frame = Frame(edges, "incident energy [GeV]", label, labels(result), _log_energy(result))
        image = figures.points(frame, a, b)
        found.append(Picture(key if key != "mean" else "mean_response", title, caption, image))
    return found


def _curve(table: dict[str, Any], key: str) -> Curve:
    values = np.array([np.nan if v is None else v for v in table[key]], dtype=np.float64)
    errors = np.array([np.nan if v is None else v for v in table[f"{key}_error"]], dtype=np.float64)
    return Curve(values, errors)


def _correlations(result: Result) -> list[Picture]:
    data = result.data["correlation"]
    image = figures.matrices(
        [n.replace("_", " ") for n in data["observables"]],
        np.asarray(data["reference"]),
        np.asarray(data["generated"]),
        labels(result),
    )
    caption = "Pearson correlation of every pair of observables, and generated minus reference (mind its own scale)."
    return [Picture("correlations", "Correlations", caption, image, wide=True)]


def _classifiers(result: Result) -> list[Picture]:
    edges = np.asarray(result.data["response"]["edges_mev"]) / 1e3
    curves, by_energy = [], []
    for name, entry in result.data["classifiers"].items():
        curves.append(
            (f"{entry['label'].split()[0]}: area {entry['auc']['value']:.3f}", result.separations[name].curve)
        )
        found = result.separations[name].by_group + [None] * (len(edges) - 1)
        rows = np.array([(np.nan, np.nan) if e is None else (e.value, e.error) for e in found[: len(edges) - 1]])
        by_energy.append((name, rows[:, 0], rows[:, 1]))
    log = _log_energy(result)
    middle = np.sqrt(edges[1:] * edges[:-1]) if log else (edges[1:] + edges[:-1]) / 2
    caption = (
        "Left: the better a classifier tells the samples apart, the further its curve from the diagonal. Right: the "
        "same classifier's area in bins of incident energy; a good average can hide a bad energy range."
    )
    return [
        Picture("classifiers", "Classifiers", caption, figures.areas(curves, middle, by_energy, log_x=log), wide=True)
    ]
