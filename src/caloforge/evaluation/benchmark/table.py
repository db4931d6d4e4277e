"""A standard's scores as one page for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..summary import sigmas, with_error

if TYPE_CHECKING:
    from rich.console import RenderableType

_NAMES = {
    "energy": "layer energy",
    "centre_eta": "centre in eta",
    "centre_phi": "centre in phi",
    "width_eta": "width in eta",
    "width_phi": "width in phi",
    "sparsity": "sparsity",
    "centre_r": "mean radius",
    "width_r": "width in radius",
}


def standard_table(data: Mapping[str, Any]) -> RenderableType:
    """All scores with error, floor, and how far they lie above it."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column("", no_wrap=True)
    for column in ("value", "floor", "above floor"):
        grid.add_column(column, justify="right", no_wrap=True)
    for name, number in _rows(data):
        if number is None:
            grid.add_row(Text(name, style="bold"))
        elif "floor" in number:
            grid.add_row(Text(name), with_error(number), with_error(number["floor"]), sigmas(number))
        else:
            grid.add_row(Text(name), with_error(number), "", "")
    one, two = (data["samples"][side] for side in ("reference", "generated"))
    title = f"data set {data['dataset']}" if data["dataset"] else "none of its detectors"
    head = Text(
        f"CaloChallenge, {title}: {two['showers']} showers of {two['file']} against {one['showers']} of {one['file']}, "
        f"voxels from {data['threshold_mev']:.4g} MeV"
    )
    notes = [Text(f"note: {note}", style="dim") for note in data["warnings"]]
    return Group(head, grid, *notes)


def _rows(data: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any] | None]]:
    """Lines of the table: name and number, None for a heading."""
    rows: list[tuple[str, Mapping[str, Any] | None]] = []
    for quantity in ("auc", "jsd"):
        if data["classifiers"]:
            rows.append(({"auc": "area under the ROC curve", "jsd": "Jensen-Shannon divergence"}[quantity], None))
        for entry in data["classifiers"].values():
            rows.append((f"  {entry['label']}", entry[quantity]))
            known = [area for area in entry["by_energy"]["auc"] if area]
            if quantity == "auc" and known:  # one number for all energies can hide a bad range
                rows.append(("    worst range of energies", max(known, key=lambda area: float(area["value"]))))
    for key, label in (("fpd", "FPD x 1000"), ("kpd", "KPD x 1000")):
        if key in data:
            rows.append((label, _times(data[key], 1000)))
    if "prdc" in data:
        rows.append((f"{data['prdc']['k']} nearest of {data['prdc']['showers']} showers", None))
        rows += [(f"  {name}", data["prdc"][name]) for name in ("precision", "recall", "density", "coverage")]
    if "separation" in data:
        rows.append(("separation power of", None))
        table = data["separation"]["observables"]
        rows += [("  total over incident energy", table["response"]), ("  voxel energy", table["voxel_energy"])]
        averages = data["separation"]["averages"]
        rows.append(("separation power, mean over layers", None))
        rows += [(f"  {_NAMES[name]}", entry) for name, entry in averages.items()]
    return rows


def _times(number: Mapping[str, Any], factor: float) -> dict[str, Any]:
    def scaled(pair: Mapping[str, Any]) -> dict[str, Any]:
        return {k: None if pair[k] is None else factor * pair[k] for k in ("value", "error")}

    return {**scaled(number), "floor": scaled(number["floor"])}
