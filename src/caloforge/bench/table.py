"""The benchmark's results as a table on the screen and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..output import UnfinishedFile

if TYPE_CHECKING:
    from rich.console import RenderableType

COLUMNS = (
    "model", "detector", "backend", "batch", "repeats", "cpu_ms", "cpu_ms_low", "cpu_ms_high", "wall_ms", "wall_ms_low",
    "wall_ms_high", "times_geant4", "flops_per_shower", "bytes_per_shower", "flops_per_s", "bytes_per_s",
    "share_of_peak_flops", "share_of_peak_bytes",
)  # fmt: skip
"""Of the CSV file."""


def by_model(found: dict[str, Any]) -> Iterator[tuple[tuple[str, str], list[dict[str, Any]]]]:
    """The results of each model and backend, in order."""
    grouped = groupby(found["results"], key=lambda entry: (entry["model"], entry["backend"]))
    return ((key, list(entries)) for key, entries in grouped)


def bench_table(found: dict[str, Any]) -> RenderableType:
    """Milliseconds a shower by batch, the best beside Geant4 and beside the machine's peaks."""
    from rich.console import Group
    from rich.table import Column, Table

    settings, machine = found["settings"], found["machine"]
    on_cpu = machine["device"] == "cpu"
    what = "cpu_ms" if on_cpu else "wall_ms"
    columns = [Column(str(n), justify="right") for n in settings["batches"]]
    table = Table(
        Column("model", no_wrap=True), "backend", *columns, "best, quartiles", "x Geant4", "GFLOP/s", "GB/s",
        title=f"Milliseconds of {'CPU' if on_cpu else 'wall'} a shower at {settings['energy_gev']:g} GeV, by batch",
    )  # fmt: skip
    for (model, backend), entries in by_model(found):
        best = min(entries, key=lambda entry: entry[what])
        spread = f"{best[what]:.3g} ({best[f'{what}_low']:.3g}-{best[f'{what}_high']:.3g})"
        ratio = "-" if best["times_geant4"] is None else f"{best['times_geant4']:.0f}"
        flops = f"{best['flops_per_s'] / 1e9:.3g} ({best['share_of_peak_flops']:.0%})"
        traffic = f"{best['bytes_per_s'] / 1e9:.3g} ({best['share_of_peak_bytes']:.0%})"
        table.add_row(model, backend, *[f"{entry[what]:.3g}" for entry in entries], spread, ratio, flops, traffic)
    return Group(table, *_notes(found))


def _notes(found: dict[str, Any]) -> Iterator[str]:
    """What the table's numbers are beside."""
    machine, peaks, used = found["machine"], found["peaks"], found["settings"]["threads"]
    yield f"{machine['processor']}, {used} of {machine['cores']} cores, load before {machine['load_before']:.1f}"
    flops, traffic = (peaks[name] / 1e9 for name in ("flops_per_s", "bytes_per_s"))
    yield f"peaks: {flops:.3g} GFLOP/s (matrix product), {traffic:.3g} GB/s (copy)"
    for name, full in found["geant4"].items():
        yield f"Geant4 in {name}: {full['cpu_ms']:.4g} ms of CPU a shower ({full['showers']} showers)"
    for each in found["failed"]:
        yield f"{each['model']}, {each['backend']}: {each['why']}"


def write_csv(found: dict[str, Any], path: str | Path, *, overwrite: bool = False) -> Path:
    """Write one line for each model, backend and batch; times in ms.

    Raises:
        CaloforgeError: if the file exists or cannot be written.
    """
    rows = [{name: entry[name] for name in COLUMNS} for entry in found["results"]]
    with UnfinishedFile(path, overwrite=overwrite) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return Path(path)
