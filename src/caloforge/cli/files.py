"""Verbs of files: read those of others, tell what one holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..progress import bar
from .flags import AsJson, Overwrite
from .terminal import show, show_json


def convert(
    source: Annotated[Path, typer.Argument(help="File of showers, events or towers; its content tells its layout.")],
    target: Annotated[Path, typer.Argument(help="File to write.")],
    format_: Annotated[str | None, typer.Option("--format", help="caloforge or calochallenge.")] = None,
    detector: Annotated[str | None, typer.Option(help="Detector, if the content does not tell.")] = None,
    particle: Annotated[str | None, typer.Option(help="Incident particle, if the content does not tell.")] = None,
    side: Annotated[str, typer.Option(help="Of towers: fast, full, generated or external.")] = "external",
    process: Annotated[str, typer.Option(help="Of events and towers: what they show, e.g. dijet.")] = "",
    unit: Annotated[str | None, typer.Option(help="Of towers: MeV or GeV.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Read showers, events or towers of other groups, or write their showers."""
    from ..convert import convert as run

    with bar("converting", "items") as progress:
        done = run(
            source, target, format=format_, detector=detector, particle=particle, side=side, process=process, unit=unit,
            overwrite=overwrite, progress=progress,
        )  # fmt: skip
    what = next(name for name in ("showers", "events", "images") if name in done)
    show(f"{done[what]} {what} read as {done['reader']}, written to {target}")


def info(
    file: Annotated[Path, typer.Argument(help="A file of showers, events or images, or a trained model.")],
    as_json: AsJson = False,
) -> None:
    """Tell a file's whole story on one screen."""
    from ..convert import describe, render

    described = describe(file)
    if as_json:
        show_json(described, indent=2)
    else:
        show(render(described))
