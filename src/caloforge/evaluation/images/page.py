"""The report of an evaluation of images: its sections, the page, and the table for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...crew import Crew
from ...progress import Progress
from .. import figures
from ..distributions import Floats, Values
from ..figures import Curve, Frame, Picture
from ..gallery import Drawn
from ..report import page_part, render_page
from ..summary import with_error
from ..tables import Content, Table
from .pictures import areas, events, rank_histograms, spectrum_edges, three_curves
from .scoring import PAIRS, ImageResult
from .variables import JET_ROWS, VARIABLES, row_variables

if TYPE_CHECKING:
    from rich.console import RenderableType

Item = Picture | Table


def draw_images(result: ImageResult, crew: Crew, progress: Progress) -> dict[str, Drawn]:
    """Have everything drawn: section name -> what it shows."""
    drawn = {}
    shared = crew.share(result)
    made = crew.each(items_of, ((shared, name) for name in SECTIONS))
    for number, ((name, (title, text, _)), items) in enumerate(zip(SECTIONS.items(), made, strict=True)):
        if items:
            drawn[name] = Drawn(title, text, items)
        progress(number + 1, len(SECTIONS), f"drawing {name}")
    return drawn


def items_of(result: ImageResult, name: str) -> Sequence[Item]:
    """What a section shows."""
    return SECTIONS[name][2](result)


def render_images(data: dict[str, Any], sections: Mapping[str, Drawn]) -> str:
    """The page: one file, figures and scripts inside, nothing loaded from elsewhere."""
    return render_page(
        "images.report.html.j2", page_part("report.viewer.js") + page_part("report.js"), data=data, sections=sections
    )


def names(result: ImageResult) -> dict[str, str]:
    """What the samples are called in legends."""
    return {side: str(entry["label"]) for side, entry in result.data["samples"].items()}


def chi2_table(result: ImageResult) -> Table:
    """The paper's tables 1 and 2: chi2 distances of jet 1 and jet 2."""
    data, rows = result.data["variables"], []
    known = [pair for pair in (*PAIRS, "full_draws") if pair in data["jet1_pt"]["chi2"]]
    called = names(result)
    heads = [f"{called[a]} – {called[b]}" for a, b in (PAIRS[pair] for pair in known if pair in PAIRS)]
    if "full_draws" in known:
        heads.append(f"{called['full']} – mean of {len(result.again) + 1} draws")
    for row in JET_ROWS:
        both = row_variables(row)
        label = VARIABLES[both[0]].label.removeprefix("jet 1 ")
        cells: list[Content] = [label]
        for pair in known:
            cells += [data[name]["chi2"][pair] for name in both] + ([None] if len(both) == 1 else [])
        rows.append([*cells, data[both[0]]["chi2"]["floor"]])
    columns = ["variable", *(f"{head}, jet {rank}" for head in heads for rank in (1, 2)), "floor, jet 1"]
    caption = (
        "Sum over bins of (a - b)² / (a + b), at most 50 bins with under- and overflow and missing jets; the distances "
        "between jets stand in the column of jet 1. The floor is one half of the full images against the other, which "
        "are other events; images of the same events may lie below it. The mean of several draws has less "
        "of the model's own chance."
    )
    return Table("Chi2 distances", columns, rows, caption)


def _overview(result: ImageResult) -> Sequence[Item]:
    data = result.data
    rows: list[list[Content]] = []
    for entry in data.get("classifiers", {}).values():
        rows.append([f"AUC, {entry['label']}: {entry['note']}", entry["auc"], entry["floor"]])
    called = names(result)
    for pair, (a, b) in PAIRS.items():
        if pair in data["frechet"]:
            title = f"Fréchet distance, {called[a]} – {called[b]}"
            rows.append([title, data["frechet"][pair], data["frechet"]["floor"]])
    for name in ("sum_et", "missing_et", "n_towers"):
        entry = data["variables"][name]
        rows.append([f"chi2 of {entry['label']}", entry["chi2"]["full_generated"], entry["chi2"]["floor"]])
    return [chi2_table(result), Table("In many dimensions, and the event", ("number", "value", "floor"), rows)]


def _variable(result: ImageResult, name: str) -> Picture:
    """Histograms of one variable of all samples above their ratio to the full simulation."""
    variable, edges = VARIABLES[name], result.edges[name]
    counts = {side: Values(sample.values[name], edges).histogram() for side, sample in result.samples.items()}
    curves = {side: figures.histogram_curve(c) for side, c in counts.items()}
    shown = {side: Curve(c.values[1:-2], c.errors[1:-2]) for side, c in curves.items()}
    unit = {"MeV": " [GeV]", "": ""}.get(variable.unit, f" [{variable.unit}]")
    steps = np.diff(edges)
    log = bool(steps[-1] > 1.5 * steps[0])
    scale = 1e3 if variable.unit == "MeV" else 1.0
    called = names(result)
    frame = Frame(
        edges / scale, variable.label + unit, "events per bin [%]", (called["full"], called["generated"]), log,
        str(result.data["samples"]["full"]["process"]),
    )  # fmt: skip
    image = three_curves(frame, shown, called)
    chi2 = result.data["variables"][name]["chi2"]
    pieces = [f"{called[a]} – {called[b]} {with_error(chi2[p])}" for p, (a, b) in PAIRS.items() if p in chi2]
    meaning = variable.meaning[:1].upper() + variable.meaning[1:]
    return Picture(
        name, variable.label[:1].upper() + variable.label[1:], f"{meaning}. Chi2: {'; '.join(pieces)}.", image
    )


def _jets(result: ImageResult) -> Sequence[Item]:
    return [_variable(result, name) for row in JET_ROWS for name in row_variables(row)]


def _event(result: ImageResult) -> Sequence[Item]:
    return [_spectrum(result), *(_variable(result, name) for name in ("n_towers", "sum_et", "missing_et"))]


def _spectrum(result: ImageResult) -> Picture:
    edges = spectrum_edges(result.samples["full"].tower_energies)
    curves: dict[str, Curve] = {}
    for side, sample in result.samples.items():
        counts: Floats = np.histogram(sample.tower_energies, edges)[0].astype(np.float64)
        curves[side] = Curve(counts / len(sample), np.sqrt(counts) / len(sample))
    called = names(result)
    frame = Frame(
        edges / 1e3, "tower energy [GeV]", "towers per event and bin", (called["full"], called["generated"]), True,
        str(result.data["samples"]["full"]["process"]),
    )  # fmt: skip
    text = "Energies of all hit towers, mean number an event."
    return Picture("tower_energy", "Tower spectrum", text, three_curves(frame, curves, called, log_y=True))


def _spread(result: ImageResult) -> Sequence[Item]:
    data = result.data.get("spread")
    if not data:
        return []
    rows: list[list[Content]] = [
        [e["label"], e["ratio"], e["coverage"], e["shift"], float(e["events"]), float(e["draws"])]
        for e in data.values()
    ]
    table = Table(
        "Spread around one fast image",
        ("quantity", "spread ratio", "coverage of 68.3 %", "mean shift / spread", "events", "draws"),
        rows,
        "Ratio 1, coverage 0.683 and shift 0 where the full image is one more draw of the model.",
    )
    image = rank_histograms({str(e["label"]): e["ranks"] for e in data.values()})
    text = "Rank of the full simulation's value among those generated from the same fast image: flat if all is right."
    return [Picture("ranks", "Ranks", text, image, wide=True), table]


def _classifiers(result: ImageResult) -> Sequence[Item]:
    entries = result.data.get("classifiers")
    if not entries:
        return []
    image = areas({f"{e['label']}: {e['auc']['value']:.3f}": result.separations[k].curve for k, e in entries.items()})
    return [Picture("classifiers", "Classifiers", "The further from the diagonal, the better told apart.", image)]


def _pictures(result: ImageResult) -> Sequence[Item]:
    text = "Three events as each simulation sees them; energies on a logarithmic scale."
    return [Picture("events", "Events", text, events(result.samples, names(result)), wide=True, photo=True)]


SECTIONS: dict[str, tuple[str, str, Callable[[ImageResult], Sequence[Item]]]] = {
    "overview": (
        "Numbers",
        "Chi2 distances as in CALPAGAN's tables 1 and 2 (arXiv 2401.02248), and all variables at once.",
        _overview,
    ),
    "events": ("Events", "", _pictures),
    "jets": (
        "Jets",
        "Anti-kT jets of radius 0.5 above 20 GeV, trimmed. Band: statistical error of the full simulation.",
        _jets,
    ),
    "event": ("Towers and the event", "", _event),
    "spread": (
        "Spread",
        "Generating again from one fast image must differ as the full simulation of the event would.",
        _spread,
    ),
    "classifiers": (
        "Classifiers",
        "Gradient-boosted trees on full images of one half of the events and generated ones of the other half.",
        _classifiers,
    ),
}
"""Sections of the page: title, text, and what makes its pictures and tables."""


def summary(data: dict[str, Any]) -> RenderableType:
    """The most important numbers as a terminal table."""
    from rich.console import Group
    from rich.table import Table as Rich
    from rich.text import Text

    samples = data["samples"]
    head = Text(
        f"{samples['generated']['label']} against {samples['full']['label']}: {samples['full']['images']} events"
    )
    grid = Rich(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table = data["variables"]["jet1_pt"]["chi2"]
    # A terminal has 80 columns: what says least gives way to the mean of draws.
    wanted = ("full_generated", "full_draws", "fast_full") if "full_draws" in table else PAIRS
    known = [pair for pair in wanted if pair in table]
    for column in ("chi2 of", *(pair.replace("_", "–").replace("generated", "gen.") for pair in known), "floor"):
        grid.add_column(column, justify="left" if column == "chi2 of" else "right", no_wrap=True)
    for entry in data["variables"].values():
        grid.add_row(entry["label"], *(with_error(entry["chi2"][pair]) for pair in (*known, "floor")))
    frechet = data["frechet"]
    grid.add_row("Fréchet distance", *(with_error(frechet[p]) if p in frechet else "" for p in (*known, "floor")))
    more = [
        Text(f"AUC, {entry['label']}: {with_error(entry['auc'])} (floor {with_error(entry['floor'])})")
        for entry in data.get("classifiers", {}).values()
    ]
    more += [
        Text(
            f"spread of {entry['label']}: ratio {with_error(entry['ratio'])}, coverage {with_error(entry['coverage'])}"
        )
        for entry in data.get("spread", {}).values()
    ]
    notes = [Text(f"mind: {w}", style="yellow") for w in data["warnings"]]
    return Group(head, grid, *more, *notes)
