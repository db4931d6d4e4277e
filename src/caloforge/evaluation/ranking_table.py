"""A ranking as a terminal table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .summary import with_error

if TYPE_CHECKING:
    from rich.console import RenderableType


def short(number: Mapping[str, Any] | None) -> str:
    """A value with its error in brackets, in units of the last digit shown, e.g. "0.531(6)"."""
    text = with_error(number)
    if " ± " not in text:
        return text
    value, error = text.split(" ± ")
    error, bracket, power = error.partition(")")
    return f"{value.lstrip('(')}({error.replace('.', '').lstrip('0') or '0'}){power if bracket else ''}"


def distance(entry: Mapping[str, Any], labels: Mapping[str, Any]) -> str:
    """By how much a sample stands before the next, in words."""
    after = entry["next"]
    label = labels[after["score"]]["label"]
    if "sigma" not in after:
        return f"{entry['name']} before {after['name']}: how significantly is not known."
    gap = with_error({"value": after["difference"], "error": after["error"]})
    return f"{entry['name']} before {after['name']}: {label} less by {gap}, {abs(after['sigma']):.1f} σ"


def table(data: Mapping[str, Any]) -> RenderableType:
    """All samples, best first, with all scores, their floors, and how significant the order is."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    scores = data["scores"]
    of = data["detector"]["name"] if "detector" in data else f"{data['reference']['images']} events"
    head = Text(f"{len(data['ranking'])} samples against {data['reference']['file']} ({of})")
    # A score a row: eight scores side by side would not fit a terminal of 80 columns. Nothing is cut off: it folds.
    grid = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    grid.add_column("score")
    for entry in data["ranking"]:
        grid.add_column(Text(f"{entry['rank']} {entry['name']}"), justify="right", overflow="fold")
    grid.add_column("floor", justify="right", overflow="fold", style="dim")
    for key, score in scores.items():
        numbers = [short(entry["scores"][key]) for entry in data["ranking"]]
        grid.add_row(Text(score["label"]), *numbers, short(score["floor"]))
    order = [Text(distance(entry, scores)) for entry in data["ranking"] if entry["next"]]
    notes = [Text(f"mind: {w}", style="yellow") for w in data["warnings"]]
    return Group(head, grid, Text(f"Less is better; {data['rule']}."), *order, *notes)
