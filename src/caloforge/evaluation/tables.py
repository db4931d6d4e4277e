"""Tables of the report's page: rows of numbers with errors and floors that the reader may sort and filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from .summary import above, outside, parts, sigmas, with_error

if TYPE_CHECKING:
    from .report import Result

Number = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """One field of a table.

    Attributes:
        text: what is written.
        sort: what rows are sorted by; the text if None.
        under: small print below.
        level: 0 to 3, from "within errors of the floor" to "far above", shown as a coloured dot; None for no dot.
    """

    text: str
    sort: float | None = None
    under: str = ""
    level: int | None = None


Content = Cell | Number | str | float | None
"""What a field may be given as: a number with "value", "error" and, if it has one, "floor" is written in full."""


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        title: above it.
        columns: headings; click on one sorts by it.
        rows: fields, as many in each row as there are headings.
        caption: how to read it.
        choose: heading of a column whose texts are offered as a choice, "" for none.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Content]]
    caption: str = ""
    choose: str = ""

    @property
    def cells(self) -> list[list[Cell]]:
        """The rows as they are written."""
        return [[cell(content) for content in row] for row in self.rows]


def cell(content: Content) -> Cell:
    """A field as it is written and sorted."""
    if isinstance(content, Cell):
        return content
    if content is None:
        return Cell("–")
    if isinstance(content, str):
        return Cell(content)
    if isinstance(content, int | float):
        return Cell(f"{content:.5g}", float(content))
    value = content.get("value")
    floor = content.get("floor")
    return Cell(
        with_error(content),
        None if value is None else float(value),
        f"floor {with_error(floor)}" if floor else "",
        level(content) if floor else None,
    )


def level(number: Number) -> int | None:
    """How far a number lies above its floor: 0 under 2 standard deviations, 1 under 5, 2 under 20, 3 more."""
    far = above(number)
    return None if far is None else 0 if far < 2 else 1 if far < 5 else 2 if far < 20 else 3


NUMBER_COLUMNS = ("value", "error", "floor", "above floor")


def number_cells(number: Number, unit: str = "") -> list[Cell]:
    """A number with error and floor as four fields, for the columns `NUMBER_COLUMNS`."""
    value, error = parts(number)
    written = f"{value} {unit}" if unit and value != "–" else value
    return [
        Cell(written, number.get("value")),
        Cell(error, number.get("error")),
        Cell(with_error(number["floor"]), number["floor"].get("value")),
        Cell(sigmas(number), above(number), level=level(number)),
    ]


# -- the tables every report has -----------------------------------------------------------------------------------


def all_numbers(result: Result) -> Table:
    """Every number that compares the samples as a whole, beside its floor."""
    data = result.data
    rows: list[list[Content]] = []
    for entry in data["classifiers"].values():
        note = f"{entry['meaning']}; {entry['note']}"
        number = dict(entry["auc"], floor=entry["floor"])
        rows.append([Cell(entry["label"], under=note), "area under the curve", *number_cells(number), ""])
    for entry in data["observables"].values():
        rows += _metric_rows(entry, entry["label"], entry["meaning"])
    name = Cell("correlation difference", under="root mean square difference of all pairwise correlations")
    rows.append([name, "correlation", *number_cells(data["correlation"]), ""])
    return Table("All numbers", _COLUMNS, rows, _READING, "metric")


def layer_numbers(result: Result) -> Table:
    """The same layer by layer."""
    rows: list[list[Content]] = []
    for key, entry in result.data["layers"].items():
        rows += _metric_rows(entry, f"{entry['label']}, layer {key.partition('[')[2].rstrip(']')}", "")
    return Table("All layers", _COLUMNS, rows, "", "metric")


_COLUMNS = ("quantity", "metric", *NUMBER_COLUMNS, "outside the bins")
_READING = (
    "Separation power: 0 equal, 1 nothing in common; under- and overflow and showers without a value count as bins of "
    "their own. Wasserstein distance: how far values must move on average, in the unit of the observable (decades for "
    "logarithmic spectra). Errors: bootstrap, one standard deviation. Outside the bins: of the reference / generated."
)


def _metric_rows(entry: Mapping[str, Any], label: str, meaning: str) -> list[list[Content]]:
    shares = Cell(
        " / ".join(outside(entry["outside"][side]) for side in ("reference", "generated")),
        sum(entry["outside"]["generated"].values()),
    )
    return [
        [Cell(label, under=meaning), "separation power", *number_cells(entry["separation"]), shares],
        [Cell(label, under=meaning), "Wasserstein distance", *number_cells(entry["wasserstein"], entry["unit"]), ""],
    ]


def response_bins(result: Result) -> Table:
    """Mean response and resolution of both samples in bins of incident energy."""
    data = result.data["response"]
    rows: list[list[Content]] = []
    for number, (low, high) in enumerate(pairwise(data["edges_mev"])):
        row: list[Content] = [Cell(f"{low / 1e3:.4g} to {high / 1e3:.4g} GeV", low)]
        for key in ("mean", "resolution", "resolution_90"):
            for side in ("reference", "generated"):
                table = data[side]
                row.append({"value": table[key][number], "error": table[f"{key}_error"][number]})
        rows.append(row)
    columns = ["incident energy"]
    for name in ("mean", "σ/mean", "σ₉₀/mean₉₀"):
        columns += [f"{name}, reference", f"{name}, generated"]
    return Table("Response by incident energy", columns, rows, "Bins of fewer than 20 showers have no number.")
