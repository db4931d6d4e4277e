"""Verbs of what is to be had by name: detectors, models, public datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..progress import bar
from .flags import AllAsJson, AsJson, Overwrite
from .terminal import reported, show, show_json, show_table


def detectors(as_json: AsJson = False) -> None:
    """List the detectors that ship with the package."""
    from ..detectors import DETECTORS, Detector

    found = [Detector.load(name) for name in DETECTORS]
    if as_json:
        show_json({d.name: {"shape": d.shape, "voxels": d.n_voxels, "about": d.description} for d in found})
    else:
        show_table(
            ("detector", "voxels", "particles", "about"),
            [(d.name, " x ".join(map(str, d.shape)), _particles(d), d.description) for d in found],
        )


def _particles(detector: Any) -> str:
    known = detector.particles
    if known is None:
        return "read-out only"
    low, high = known.energy_gev
    return f"{', '.join(known.kinds)}\n{low:g}-{high:g} GeV"


def models(as_json: AllAsJson = False) -> None:
    """List the models, their papers and the trained checkpoints that ship with caloforge."""
    from ..catalogue import catalogue, table

    found = catalogue()
    if as_json:
        show_json(found, indent=1)
    else:
        show(table(found))


datasets_app = typer.Typer(
    help="Public datasets by name: list them, download and convert them.", invoke_without_command=True
)


@datasets_app.callback()
@reported
def datasets(context: typer.Context, as_json: AllAsJson = False) -> None:
    """Public datasets by name: list them, download and convert them."""
    if context.invoked_subcommand is None:
        list_datasets(as_json)


@datasets_app.command("list")
@reported
def list_datasets(as_json: AllAsJson = False) -> None:
    """List the public datasets."""
    from ..datasets import listing, table

    if as_json:
        show_json(listing(), indent=1)
    else:
        show(table())


@datasets_app.command("get")
@reported
def get_dataset(
    name: Annotated[str, typer.Argument(help="A dataset's name (see `caloforge datasets`).")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder to put it in; by default one of its name.")
    ] = None,
    part: Annotated[list[str] | None, typer.Option(help="train, evaluation or a file's name; repeatable.")] = None,
    keep: Annotated[bool, typer.Option("--keep/--no-keep", help="Keep the published files beside ours.")] = True,
    detector: Annotated[str | None, typer.Option(help="Detector, if the files do not tell.")] = None,
    mirror: Annotated[
        str | None, typer.Option(help="Address instead of https://zenodo.org and the like [CALOFORGE_MIRROR].")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Download a public dataset and convert it; run again, it goes on where it ended."""
    from ..datasets import get

    for done in get(
        name, output, parts=part or (), keep=keep, detector=detector, mirror=mirror, overwrite=overwrite, bars=bar
    ):
        show(str(done))
