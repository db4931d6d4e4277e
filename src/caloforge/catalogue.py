"""What `caloforge models` tells: every model with its paper, and the checkpoints in the zoo with their scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .models import MODELS
from .models.papers import PAPERS
from .zoo import ZOO, card

if TYPE_CHECKING:
    from rich.console import RenderableType


def catalogue() -> list[dict[str, Any]]:
    """Every model: its ``name``, ``class``, ``title``, ``year``, ``reference``, ``about``, and ``checkpoints``."""
    cards = [{"name": name, **card(name)} for name in ZOO]
    found = []
    for name, kind in MODELS.items():
        paper = PAPERS[name]
        entry: dict[str, Any] = {"name": name, "class": kind.__name__, "title": paper.title, "year": paper.year}
        entry |= {"reference": paper.reference, "about": (kind.__doc__ or "").split("\n")[0]}
        entry["checkpoints"] = [each for each in cards if name in (each["model"], *each["components"])]
        found.append(entry)
    return found


def table(found: list[dict[str, Any]]) -> RenderableType:
    """The models and, under them, the zoo with the most important numbers."""
    from rich.console import Group
    from rich.table import Column, Table

    models = Table("model", "class", "year", "reference", "checkpoints", title="Models")
    for entry in found:
        names = ", ".join(each["name"] for each in entry["checkpoints"]) or "-"
        models.add_row(entry["name"], entry["class"], str(entry["year"]), entry["reference"], names)
    # Fits 80 columns with whole names; errors, floors and the rest are in --json.
    zoo = Table(Column("zoo:", no_wrap=True), "response", "σ/mean", "profile", "hits", "AUC high", "AUC low",
                title="Zoo: over Geant4 in the worst energy bin or layer; AUC (0.5 is best)")  # fmt: skip
    # Of images of events: distances to the full simulation beside the fast one's.
    title = "Zoo: images of events, farthest of all processes (the fast simulation's in brackets)"
    images = Table(Column("zoo:", no_wrap=True), *IMAGE_SCORES, title=title)
    shipped = {each["name"]: each for entry in found for each in entry["checkpoints"]}
    for name, each in sorted(shipped.items()):
        if kind_of_card(each) == "images":
            rows = [each["report"].get(key) for key in IMAGE_SCORES]
            images.add_row(name, *("-" if r is None else f"{r['value']:.3g} ({r['fast']:.3g})" for r in rows))
        else:
            zoo.add_row(name, *(_score(each["report"], key) for key in SCORES))
    return Group(models, *(table for table in (zoo, images) if table.row_count))


SCORES = (
    "mean response, worst energy bin",
    "sigma/mean, worst energy bin",
    "longitudinal profile, worst layer",
    "hits, worst energy bin",
    "AUC, high",
    "AUC, low",
)
"""Numbers of a card that the table shows."""


IMAGE_SCORES = ("chi2, jet 1 pT", "chi2, jet 1 mass", "chi2, jet 1 girth", "Fréchet distance")
"""Numbers of a card of a model of images that the table shows."""


def kind_of_card(card: dict[str, Any]) -> str:
    """Whether a card is of a checkpoint that makes "showers" or "images"."""
    return str(card.get("kind", "showers"))


def _score(report: dict[str, dict[str, Any]], key: str) -> str:
    found = report.get(key)
    return "-" if found is None else f"{found['value']:.3f}"
