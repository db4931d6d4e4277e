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
    from rich.table import Table

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
    """Milliseconds a shower by batch, the best beside Geant4; then what that is of the machine's peaks."""
    from rich.console import Group

    return Group(_times(found), _rates(found), *_notes(found))


def _times(found: dict[str, Any]) -> RenderableType:
    """Fits 80 columns: quartiles as half their distance over the median."""
    settings, what = found["settings"], _what(found)
    title = f"Milliseconds of {what.split('_')[0].upper()} a shower at {settings['energy_gev']:g} GeV, by request"
    table = _plain(title, *map(str, settings["batches"]), "best", "x G4")
    for (model, backend), entries in by_model(found):
        best = _best(entries, what)
        spread = (best[f"{what}_high"] - best[f"{what}_low"]) / 2 / best[what]
        ratio = "-" if best["times_geant4"] is None else f"{best['times_geant4']:.0f}"
        each = [f"{entry[what]:.3g}" for entry in entries]
        table.add_row(model, backend, *each, f"{best[what]:.3g} ±{spread:.0%}", ratio)
    return table


def _rates(found: dict[str, Any]) -> RenderableType:
    table = _plain("What the best request makes of the machine", "GFLOP/s", "of peak", "GB/s", "of peak")
    for (model, backend), entries in by_model(found):
        best = _best(entries, _what(found))
        cells = [(best[f"{name}_per_s"], best[f"share_of_peak_{name}"]) for name in ("flops", "bytes")]
        table.add_row(
            model, backend, *[text for rate, share in cells for text in (f"{rate / 1e9:.3g}", f"{share:.0%}")]
        )
    return table


def _plain(title: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Column, Table

    names = [Column(name, no_wrap=True) for name in ("model", "backend")]
    numbers = [Column(name, justify="right", no_wrap=True) for name in columns]
    return Table(*names, *numbers, title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _what(found: dict[str, Any]) -> str:
    return "cpu_ms" if found["machine"]["device"] == "cpu" else "wall_ms"


def _best(entries: list[dict[str, Any]], what: str) -> dict[str, Any]:
    return min(entries, key=lambda entry: float(entry[what]))


def _notes(found: dict[str, Any]) -> Iterator[str]:
    """What the table's numbers are beside."""
    machine, peaks, used = found["machine"], found["peaks"], found["settings"]["threads"]
    yield f"{machine['processor']}, {used} of {machine['cores']} cores, load before {machine['load_before']:.1f}"
    flops, traffic = (peaks[name] / 1e9 for name in ("flops_per_s", "bytes_per_s"))
    yield f"peaks: {flops:.3g} GFLOP/s (matrix product), {traffic:.3g} GB/s (copy)"
    for name, full in found["geant4"].items():
        yield f"Geant4 (G4) in {name}: {full['cpu_ms']:.4g} ms of CPU a shower ({full['showers']} showers)"
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
