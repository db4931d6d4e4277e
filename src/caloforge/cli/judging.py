"""Verbs that compare samples: two in a report, several in a ranking."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import CaloforgeError
from ..progress import bar
from .flags import Dask, FastImages, MaxShowers, NoCache, Overwrite, Quick, ReferenceFile, Repeats, Seed
from .terminal import show, show_json


def evaluate(
    reference: ReferenceFile,
    generated: Annotated[Path, typer.Argument(help="File to judge.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Report folder to make.")],
    fast: FastImages = None,
    again: Annotated[
        list[Path] | None, typer.Option(help="For image files: generated with another seed, for the spread.")
    ] = None,
    seed: Seed = 0,
    repeats: Repeats = None,
    max_showers: MaxShowers = None,
    quick: Quick = False,
    no_cache: NoCache = False,
    dask: Dask = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json, and nothing else, on stdout.")] = False,
    standard: Annotated[
        str | None, typer.Option(help="Score by this standard instead and write standard.json: calochallenge.")
    ] = None,
    parts: Annotated[
        str | None, typer.Option(help="Of the standard: separation,fpd,kpd,prdc,high,low,resnet (all), normed.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Of the standard's networks; 50 is official.")] = None,
    device: Annotated[str | None, typer.Option(help="Of the standard's networks: auto, cpu, cuda.")] = None,
    double: Annotated[
        bool | None, typer.Option("--double", help="Train the standard's voxel networks in float64, as is official.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Compare two samples and write a report."""
    how = {"parts": parts and parts.split(","), "epochs": epochs, "device": device, "double": double}
    given: dict[str, Any] = {name: value for name, value in how.items() if value is not None}
    if standard is not None:
        if quick:
            raise CaloforgeError("--quick and --standard were given; leave one out, or choose fewer --parts.")
        if repeats is not None:
            given["repeats"] = repeats
        _evaluate_standard(
            reference, generated, output, as_json, standard=standard, seed=seed, max_showers=max_showers, dask=dask,
            overwrite=overwrite, **given,
        )  # fmt: skip
        return
    if given:
        raise CaloforgeError(f"--{min(given)} was given without --standard; leave it out or add --standard.")
    from ..evaluation import evaluate as run

    with bar("evaluating", "steps") as progress:
        report = run(
            reference, generated, output, seed=seed, repeats=repeats, max_showers=max_showers, quick=quick,
            cache=not no_cache, dask=dask, overwrite=overwrite, fast=fast, again=again or [], progress=progress,
        )  # fmt: skip
    if as_json:
        show_json(report.to_dict(), indent=2)
    else:
        show(report.summary())
        show(f"report in {report.path}")


def _evaluate_standard(reference: Path, generated: Path, output: Path, as_json: bool, **how: Any) -> None:
    """Score by a standard and print the table or the JSON."""
    from ..evaluation.benchmark import evaluate_standard, standard_table

    with bar("evaluating", "percent") as progress:
        found = evaluate_standard(reference, generated, output, progress=progress, **how)
    if as_json:
        show_json(found, indent=2)
    else:
        show(standard_table(found))
        show(f"scores in {output / 'standard.json'}")


def compare(
    reference: ReferenceFile,
    generated: Annotated[list[Path], typer.Argument(help="Files to rank.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for compare.json.")] = None,
    fast: FastImages = None,
    seed: Seed = 0,
    repeats: Repeats = None,
    max_showers: MaxShowers = None,
    quick: Quick = False,
    no_cache: NoCache = False,
    dask: Dask = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print compare.json instead of the table.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Rank several samples against one reference, with the significance of every difference."""
    from ..evaluation import compare as run

    with bar("comparing", "steps") as progress:
        ranking = run(
            reference, generated, output, fast=fast, seed=seed, repeats=repeats, max_showers=max_showers, quick=quick,
            cache=not no_cache, dask=dask, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    if as_json:
        show_json(ranking.to_dict(), indent=2)
    else:
        show(ranking.table())
