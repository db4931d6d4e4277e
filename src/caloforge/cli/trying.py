"""Verbs that try the whole out: how fast it is, and that it works from nothing to a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..progress import bar
from .flags import AsJson, Overwrite, Tables, Workers
from .terminal import say_what_is_compiled, show, show_json


def bench(
    models: Annotated[
        list[str] | None, typer.Argument(help="Checkpoints or zoo:NAME; all of the zoo by default.")
    ] = None,
    energy: Annotated[float, typer.Option(help="Of the incident particles, GeV.")] = 50.0,
    batch: Annotated[str, typer.Option(help="Numbers of showers in one request.")] = "1,10,100,1000",
    backend: Annotated[
        str | None, typer.Option(help="eager,numba,onnxruntime,compile; the first three by default, where installed.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    threads: Annotated[int, typer.Option(help="Threads of torch and ONNX Runtime.")] = 1,
    repeats: Annotated[int, typer.Option(help="Of each request.")] = 7,
    geant4: Annotated[bool, typer.Option("--geant4/--no-geant4", help="Simulate in the same detectors too.")] = True,
    n: Annotated[int, typer.Option("-n", help="Geant4 showers in each detector.")] = 20,
    tables: Tables = "auto",
    csv: Annotated[Path | None, typer.Option(help="CSV file to write.")] = None,
    as_json: AsJson = False,
    overwrite: Overwrite = False,
) -> None:
    """Time models beside Geant4 and beside what the machine can do."""
    from ..bench import bench as run
    from ..bench import bench_table, write_csv
    from ..output import check_output
    from ..parsing import parse_counts

    if csv is not None:
        check_output(csv, overwrite=overwrite)
    batches, backends = parse_counts(batch, "--batch"), backend.split(",") if backend else None
    say_what_is_compiled(backends or [])
    with bar("timing", "steps") as progress:
        found = run(
            models or [], energy=energy, batches=batches, backends=backends, device=device, n_threads=threads,
            repeats=repeats, geant4=geant4, geant4_showers=n, tables=tables, progress=progress,
        )  # fmt: skip
    if csv is not None:
        write_csv(found, csv, overwrite=overwrite)
    if as_json:
        show_json(found, indent=1)
    else:
        show(bench_table(found))


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to make.")] = Path("demo-run"),
    workers: Workers = 2,
    overwrite: Overwrite = False,
) -> None:
    """From nothing to a validated generator: Geant4, a trained model, a report."""
    from ..demo import demo as run

    show(run(output, workers=workers, overwrite=overwrite))
