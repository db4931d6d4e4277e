"""What a report shows, section by section.

A new section is one entry of `SECTIONS`: its name (the anchor on the page) with a title, a sentence or two, and a
function that takes the `Result` and gives a list of pictures (`style.Picture`, drawn with `figures.comparison` and its
like, which give PNG and PDF) and tables (`tables.Table`, whose fields may be numbers with "value", "error" and "floor"
as they stand in report.json). The page, its contents list, figures/ and the table's sorting and filtering follow by
themselves; a section that gives nothing is left out. So, for numbers that `scoring` has put under ``data["mine"]``:

    def _mine(result: Result) -> Sequence[Item]:
        rows = [[name, *number_cells(number)] for name, number in result.data["mine"].items()]
        return [Table("My numbers", ("name", *NUMBER_COLUMNS), rows)]

    SECTIONS["mine"] = Section("My section", "What it says.", _mine)

What is new in report.json goes into report.schema.json and docs/report-schema.md too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..crew import HERE, Crew
from ..progress import Progress, silent
from . import figures
from .distributions import Floats, Profile, Values
from .figures import Curve, Frame, Picture
from .observables import OBSERVABLES
from .pictures import average_showers, single_showers
from .report import Result
from .scene import Scene, scene
from .summary import about, with_error
from .systems_section import systems_items
from .tables import NUMBER_COLUMNS, Content, Table, all_numbers, layer_numbers, number_cells, response_bins

LAYERS_SHOWN = 6

Item = Picture | Table | Scene


@dataclass(frozen=True)
class Section:
    """A section of the report.

    Attributes:
        title: its heading.
        text: how to read it, in plain text.
        make: its pictures and tables in the order in which they are shown.
        reads_files: whether it needs the shower files, which are nowhere but here.
    """

    title: str
    text: str
    make: Callable[[Result], Sequence[Item]]
    reads_files: bool = False


@dataclass(frozen=True)
class Drawn:
    """A section that is ready to be shown."""

    title: str
    text: str
    items: Sequence[Item]

    @property
    def pictures(self) -> list[Picture]:
        """Its figures."""
        return [item for item in self.items if isinstance(item, Picture)]

    @property
    def tables(self) -> list[Table]:
        """Its tables."""
        return [item for item in self.items if isinstance(item, Table)]

    @property
    def scenes(self) -> list[Scene]:
        """Its showers to turn."""
        return [item for item in self.items if isinstance(item, Scene)]


def draw(result: Result, crew: Crew = HERE, progress: Progress = silent) -> dict[str, Drawn]:
    """Have everything drawn, section by section.

    Returns:
        section name -> what it shows, in the order of the report; sections without anything are left out.
    """
    drawn = {}
    shared = crew.share(result)
    made = crew.each(items_of, ((shared, name) for name, section in SECTIONS.items() if not section.reads_files))
    for number, (name, section) in enumerate(SECTIONS.items()):
        items = section.make(result) if section.reads_files else next(made)
        if items:
            drawn[name] = Drawn(section.title, section.text, items)
        progress(number + 1, len(SECTIONS), f"drawing {name}")
    return drawn


def items_of(result: Result, name: str) -> Sequence[Item]:
    """What a section shows."""
    return SECTIONS[name].make(result)


def labels(result: Result) -> tuple[str, str]:
    """What the two samples are called in legends."""
    samples = result.data["samples"]
    return str(samples["reference"]["label"]), str(samples["generated"]["label"])


def _overview(result: Result) -> Sequence[Item]:
    table = {k: v["separation"] for k, v in result.data["observables"].items()}
    table = {k: v for k, v in table.items() if np.isfinite(v["value"])}
    image = figures.overview(
        [result.data["observables"][k]["label"] for k in table],
        np.array([v["value"] for v in table.values()]),
        np.array([v["error"] for v in table.values()]),
        np.array([v["floor"]["value"] for v in table.values()]),
        np.array([v["floor"]["error"] for v in table.values()]),
        about(result.data),
    )
    caption = (
        "Separation power of every observable. The grey bar ends at the floor, which is what statistics alone give; "
        "points at the end of their bar cannot be told from the reference."
    )
    return [Picture("overview", "All observables at a glance", caption, image, wide=True), all_numbers(result)]


def _showers(result: Result) -> Sequence[Item]:
    return [scene(result), *average_showers(result), *single_showers(result)]


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
        Frame(one.edges, f"{title}{unit}", "showers per bin [%]", labels(result), log, about(result.data)),
        Curve(a.values[1:-2], a.errors[1:-2]),
        Curve(b.values[1:-2], b.errors[1:-2]),
        note=_outside(*((c[0], c[-2], c[-1], c.sum()) for c in counts)),
    )
    stem = key.replace("[", "_").replace("]", "")
    return Picture(stem, title[:1].upper() + title[1:], _caption(result, key, observable.meaning), image)


def _caption(result: Result, key: str, meaning: str) -> str:
    entry = result.data["observables"].get(key) or result.data["layers"][key]
    found, floor = entry["separation"], entry["separation"]["floor"]
    start = meaning[:1].upper() + meaning[1:]
    return f"{start}. Separation power {with_error(found)}, floor {with_error(floor)}."


def _outside(*samples: tuple[float, float, float, float]) -> str:
    """What no bin shows, of the reference and the generated sample: below, above, without value, in all."""
    lines = []
    for (below, beyond, without, total), name in zip(samples, ("ref.", "gen."), strict=True):
        shares = [100 * part / max(total, 1e-300) for part in (below, beyond, without)]
        kinds = zip(shares, ("under", "over", "no value"), strict=True)
        text = ", ".join(f"{share:.2g} % {kind}" for share, kind in kinds if share > 0)
        if text:
            lines.append(f"{name} outside: {text}")
    return "\n".join(lines)


def _values(result: Result) -> Sequence[Item]:
    return [
        _comparison(result, key, key, OBSERVABLES[key].label)
        for key in result.data["observables"]
        if OBSERVABLES[key].kind == "value"
    ]


def _layers(result: Result) -> Sequence[Item]:
    """Energy in some layers, spread over those that hold most of it."""
    mean = result.reference.values.get("layer_energy")
    if mean is None:
        return []
    share = np.cumsum(mean.mean(axis=0)) / mean.mean(axis=0).sum()
    wanted = np.searchsorted(share, np.linspace(0.02, 0.98, LAYERS_SHOWN))
    shown = sorted(set(np.minimum(wanted, len(share) - 1).tolist()))
    pictures = [_comparison(result, f"layer_energy[{i}]", "layer_energy", f"energy in layer {i}") for i in shown]
    return [*pictures, layer_numbers(result)]


def _profiles(result: Result) -> Sequence[Item]:
    found = []
    for name in result.data["observables"]:
        observable = OBSERVABLES[name]
        if observable.kind != "profile":
            continue
        one, two = result.distributions[name]
        assert isinstance(one, Profile) and isinstance(two, Profile)
        edges = result.reference.edges[observable.bins]
        counts = [d.counts for d in (one, two)]
        what = "energy" if observable.unit == "MeV" else "voxels"
        ylabel = f"mean {what} per shower and bin" + (" [MeV]" if what == "energy" else "")
        image = figures.comparison(
            Frame(edges, observable.axis, ylabel, labels(result), observable.log, about(result.data)),
            figures.profile_curve(counts[0][:, 1:-1]),
            figures.profile_curve(counts[1][:, 1:-1]),
            log_y=name != "longitudinal_profile",
            note=_outside(*((c[:, 0].sum(), c[:, -1].sum(), 0.0, c.sum()) for c in counts)),
        )
        title = observable.label[:1].upper() + observable.label[1:]
        found.append(Picture(name, title, _caption(result, name, observable.meaning), image))
    return found


def _log_energy(result: Result) -> bool:
    edges = np.asarray(result.data["response"]["edges_mev"])
    return bool(
        len(edges) > 2 and edges[0] > 0 and edges[-1] > 30 * edges[0] and np.diff(edges)[-1] > 3 * np.diff(edges)[0]
    )


_RESPONSE = {
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


def _response(result: Result) -> Sequence[Item]:
    data = result.data["response"]
    edges: Floats = np.asarray(data["edges_mev"]) / 1e3
    found = []
    for key, (title, label, caption) in _RESPONSE.items():
        a, b = (_curve(data[side], key) for side in ("reference", "generated"))
        frame = Frame(
            edges, "incident energy [GeV]", label, labels(result), _log_energy(result), about(result.data, energy=False)
        )
        image = figures.points(frame, a, b)
        ratio = f" Generated over reference: {with_error(data['ratio'][key])}."
        found.append(Picture(key if key != "mean" else "mean_response", title, caption + ratio, image))
    return [*found, response_bins(result)]


def _curve(table: dict[str, Any], key: str) -> Curve:
    values = np.array([np.nan if v is None else v for v in table[key]], dtype=np.float64)
    errors = np.array([np.nan if v is None else v for v in table[f"{key}_error"]], dtype=np.float64)
    return Curve(values, errors)


def _correlations(result: Result) -> Sequence[Item]:
    data = result.data["correlation"]
    image = figures.matrices(
        [n.replace("_", " ") for n in data["observables"]],
        np.asarray(data["reference"]),
        np.asarray(data["generated"]),
        labels(result),
    )
    caption = "Pearson correlation of every pair of observables, and generated minus reference (mind its own scale)."
    return [Picture("correlations", "Correlations", caption, image, wide=True, photo=True)]


def _classifiers(result: Result) -> Sequence[Item]:
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
    image = figures.areas(curves, middle, by_energy, log_x=log, about=about(result.data, energy=False))
    return [Picture("classifiers", "Classifiers", caption, image, wide=True)]


def _systems(result: Result) -> Sequence[Item]:
    return systems_items(result, labels(result), about(result.data, energy=False))


def _fidelity(result: Result) -> Sequence[Item]:
    data = result.data.get("fidelity")
    if data is None:
        return []
    rows: list[list[Content]] = [[label, *number_cells(data[key])] for key, label in DISTANCES.items()]
    rows += [[label, *number_cells(data["prdc"][key])] for key, label in NEIGHBOURS.items()]
    return [Table("Distances and neighbours", ("number", *NUMBER_COLUMNS), rows, " ".join(data["notes"]))]


DISTANCES = {
    "fpd": "Fréchet distance of the observables (FPD)",
    "kpd": "kernel distance of the observables (KPD)",
}
NEIGHBOURS = {
    "precision": "precision: generated showers near a real one",
    "recall": "recall: real showers near a generated one",
    "density": "density of real showers around generated ones",
    "coverage": "coverage: real showers with a generated one in their neighbourhood",
}

SECTIONS: dict[str, Section] = {
    "overview": Section(
        "Numbers",
        "Every number stands beside its floor: what the same number is when one half of the reference is held against "
        "the other, scaled to the sample sizes compared here. The last columns say by how many standard deviations it "
        "lies above. Click on a heading to sort.",
        _overview,
    ),
    "showers": Section(
        "Showers",
        "Single showers of equal incident energy side by side, to turn and to compare: drag, zoom with the wheel.",
        _showers,
        reads_files=True,
    ),
    "response": Section(
        "Response and resolution",
        "Response is total over incident energy. Bars are bootstrap errors; bins of fewer than 20 showers "
        "are left out.",
        _response,
    ),
    "observables": Section(
        "Observables",
        "Band: statistical error of the reference. Bars: of the generated sample. Triangles: ratio beyond the panel. "
        "Centres, widths and distances are taken relative to the shower axis in each layer.",
        _values,
    ),
    "profiles": Section("Profiles and spectra", "Means over all showers, with their statistical errors.", _profiles),
    "layers": Section(
        "Layers",
        "Figures of some layers, spread over the depth of the shower; numbers of all.",
        _layers,
    ),
    "correlations": Section("Correlations", "", _correlations),
    "classifiers": Section(
        "Classifiers",
        "Gradient-boosted trees trained on 70 % of both samples and tested on the rest. The error is the spread over "
        "trainings on other splits; the floor is the same with one half of the reference against the other.",
        _classifiers,
    ),
    "fidelity": Section(
        "Distances in many dimensions",
        "All observables at once: distances as JetNet defines them (arXiv 2211.10295), and nearest neighbours among "
        "the logarithms of all voxels (arXiv 2002.09797). Neither is a scale with an end: read them beside the floor.",
        _fidelity,
    ),
    "systems": Section(
        "What the published systems looked at",
        "The figures by which S0 (arXiv 2103.13698), S1 (arXiv 2005.05334) and S4 (AdaGAN ensembles) were validated. "
        "S3's asymmetries, widths and sparsity (arXiv 1812.01319) stand among the observables.",
        _systems,
    ),
}
"""The sections of a report by name, in their order."""
