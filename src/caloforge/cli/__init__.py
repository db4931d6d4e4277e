"""The command line: parse, call, show progress. No logic of its own; heavy imports wait until a verb needs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from .. import __version__
from .catalogues import datasets_app, detectors, models
from .files import convert, info
from .judging import compare, evaluate
from .learning import export, generate, train
from .simulating import events_to_images, shower_library, simulate, simulate_events
from .terminal import reported
from .trying import bench, demo

app = typer.Typer(
    name="caloforge",
    help="Fast simulation of calorimeter showers: simulate, train, generate, evaluate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"caloforge {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Fast simulation of calorimeter showers."""


_VERBS: tuple[Callable[..., None], ...] = (
    simulate, simulate_events, shower_library, events_to_images, train, generate, export, evaluate, compare, convert,
    info, detectors, models, bench, demo,
)  # fmt: skip
for _verb in _VERBS:  # help lists them in this order
    app.command()(reported(_verb))
app.add_typer(datasets_app, name="datasets")


def main() -> None:
    """Entry point of the `caloforge` command."""
    app()
