"""What a file holds, on one screen: `describe` reads it in pieces, `render` makes it fit to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CaloforgeError
from ..hdf5 import check_readable, clean
from ..shower_file import ShowerFile
from . import event_info
from .readers import read_sample
from .sample import Wanted
from .sources import open_source
from .statistics import Statistics

if TYPE_CHECKING:
    from rich.console import RenderableType

Description = dict[str, Any]


def describe(path: str | Path) -> Description:
    """What a file holds, as plain data that can be written as JSON.

    Args:
        path: a file of showers in any layout of `READERS`, of events, of images, or of a kind in `DESCRIBERS`.

    Returns:
        ``kind``, ``file``, ``bytes`` and what the kind's describer finds; in MeV, mm and rad.

    Raises:
        CaloforgeError: if it is of no known kind or damaged.
    """
    path = Path(path)
    check_readable(path)
    with path.open("rb") as file:
        start = file.read(64)
    common = {"file": path.name, "bytes": path.stat().st_size}
    own = event_info.format_of(path, start) or ""
    if own in event_info.FORMATS:
        kind, describer = event_info.FORMATS[own]
        return {"kind": kind, **common, **describer(path)}
    for kind, (recognises, describer) in DESCRIBERS.items():
        if recognises(start):
            return {"kind": kind, **common, **describer(path)}
    raise CaloforgeError(f"'{path}' is of no kind that can be described; known are {', '.join(DESCRIBERS)}.")


def describe_showers(path: Path) -> Description:
    """Statistics of a file of showers in any layout that can be read; every shower is read once."""
    with open_source(path) as source:
        reader, sample = read_sample(source, Wanted())
        statistics = Statistics(sample.detector)
        for showers in sample.chunks():
            statistics.add(showers)
        layers = {grid.shape for grid in sample.detector.grids}
        return {
            "layout": reader,
            **_of_own_file(path, reader),
            "detector": {
                "name": sample.detector.name,
                "description": sample.detector.description,
                "layers": sample.detector.n_layers,
                "shape": list(sample.detector.shape) if len(layers) == 1 else None,
            },
            "voxels": sample.detector.n_voxels,
            **statistics.summary(),
            "bytes_per_shower": path.stat().st_size / sample.n if sample.n else None,
            "provenance": sample.provenance,
            "notes": dict(sample.notes),
        }


def _of_own_file(path: Path, reader: str) -> dict[str, Any]:
    """What only caloforge's own shower file has."""
    if reader != "caloforge":
        return {"format_version": None, "content_hash": None}
    with ShowerFile(path) as file:
        return {"format_version": file.version, "content_hash": file.content_hash()}


def _is_safetensors(start: bytes) -> bool:
    """A safetensors file: the length of its header, then the header, which is JSON."""
    return len(start) > 9 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 30


def describe_checkpoint(path: Path) -> Description:
    """A trained model: what it is, what it was trained on, how large it is."""
    from ..checkpoint import Checkpoint
    from ..checkpoint_file import checkpoint_kind

    if checkpoint_kind(path) == "images":
        return _describe_image_checkpoint(path)
    checkpoint = Checkpoint.load(path)
    return {
        "model": checkpoint.model_name,
        "options": checkpoint.model_config,
        "parameters": sum(p.numel() for m in checkpoint.model.generation_modules() for p in m.parameters()),
        "detector": {"name": checkpoint.detector.name, "description": checkpoint.detector.description},
        "voxels": checkpoint.detector.n_voxels,
        "conditions": list(checkpoint.conditions),
        "domain": checkpoint.domain,
        "provenance": checkpoint.provenance,
    }


DESCRIBERS: dict[str, tuple[Callable[[bytes], bool], Callable[[Path], Description]]] = {
    "checkpoint": (_is_safetensors, describe_checkpoint),
    "showers": (lambda start: True, describe_showers),
}
"""Kinds of files: whether the first bytes are of that kind, and what finds out the rest."""


def render(description: Mapping[str, Any]) -> RenderableType:
    """A description as a table for the terminal (80 columns, one screen)."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for name, text in _lines(description):
        # Text from a file is neither markup nor may it hold control characters.
        grid.add_row(Text(name), Text(clean(text, 220)))
    return grid


def _lines(d: Mapping[str, Any]) -> list[tuple[str, str]]:
    known = {"checkpoint": _checkpoint_lines, "events": event_info.lines_of, "images": event_info.lines_of}
    lines = known.get(d["kind"], _shower_lines)(d)
    return [*lines, *_provenance_lines(d.get("provenance"))]


def _shower_lines(d: Mapping[str, Any]) -> list[tuple[str, str]]:
    detector, layout = d["detector"], d["layout"]
    kind = f"caloforge showers, version {d['format_version']}" if layout == "caloforge" else f"showers, {layout} layout"
    shape = " x ".join(map(str, detector["shape"])) if detector["shape"] else f"{detector['layers']} layers"
    per_shower = f", {_size(d['bytes_per_shower'])} a shower" if d["bytes_per_shower"] else ""
    lines = [
        ("file", f"{d['file']}: {kind}, {_size(d['bytes'])}{per_shower}"),
        ("detector", detector["name"]),
        ("voxels", f"{d['voxels']} ({shape})"),
    ]
    if not d["showers"]:
        return [*lines, ("showers", "none")]
    particles = ", ".join(f"{count} {name}" for name, count in d["particles"].items())
    energy, response, hits = d["energy"], d["response"], d["hits"]
    lines += [
        ("showers", f"{d['showers']} ({particles})"),
        ("energies", f"{_energy(energy['min'])} to {_energy(energy['max'])}, {energy['spectrum']}"),
        ("", energy["histogram"]),
        ("angles", _angles(d["angles"])),
        ("positions", ", ".join(f"{axis} {_range(d['positions'][axis])} mm" for axis in "xy")),
    ]
    if response is not None:
        lines.append(("response", f"{response['mean']:.4g} ± {response['spread']:.2g} of the incident energy"))
    lines += [
        ("hits", f"{hits['mean']:.1f} a shower ({hits['min']} to {hits['max']}), {hits['empty']} empty"),
        ("sparsity", f"{100 * d['sparsity']:.1f} % of voxels without energy"),
    ]
    if d["content_hash"]:
        lines.append(("sha256", d["content_hash"]))
    return lines + [(name.replace("_", " "), str(value)) for name, value in d["notes"].items()]


def _describe_image_checkpoint(path: Path) -> Description:
    """A model that turns fast images into full ones."""
    from ..image_checkpoint import ImageCheckpoint

    checkpoint = ImageCheckpoint.load(path)
    return {
        "model": checkpoint.model_name,
        "options": checkpoint.model_config,
        "parameters": sum(p.numel() for m in checkpoint.model.generation_modules() for p in m.parameters()),
        "grid": checkpoint.grid.describe(),
        "domain": checkpoint.domain.model_dump(mode="json"),
        "provenance": checkpoint.provenance,
    }


def _checkpoint_lines(d: Mapping[str, Any]) -> list[tuple[str, str]]:
    options = ", ".join(f"{k} {v}" for k, v in d["options"].items()) or "none"
    domain = d["domain"]
    if "grid" in d:
        makes = [("images", d["grid"]), ("condition", "the fast simulation's image")]
    else:
        makes = [("detector", f"{d['detector']['name']}, {d['voxels']} voxels")]
        makes.append(("conditions", ", ".join(d["conditions"]) or "none"))
    return [
        ("file", f"{d['file']}: trained model, {_size(d['bytes'])}"),
        ("model", f"{d['model']}, {d['parameters']} parameters"),
        ("options", options),
        *makes,
        *((name, f"{value}") for name, value in domain.items()),
    ]


def _provenance_lines(provenance: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if not provenance:
        return [("provenance", "not told")]
    known = ("producer", "label", "seed", "device", "physics", "tables", "seconds_per_shower", "versions", "source")
    lines = [("made by", _maker(provenance))]
    seconds = provenance.get("seconds_per_shower")
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool):
        lines.append(("CPU time", f"{seconds:.4g} s a shower"))
    for name in known[2:6] + known[7:]:
        if provenance.get(name) is not None:
            lines.append((name, _plain(provenance[name])))
    previous = provenance.get("previous")
    if isinstance(previous, Mapping):
        lines.append(("before", _maker(previous)))
    rest = {k: v for k, v in provenance.items() if k not in (*known, "previous")}
    if rest:
        lines.append(("also", _plain(rest)))
    return lines


def _maker(provenance: Mapping[str, Any]) -> str:
    return " ".join(str(provenance[k]) for k in ("producer", "label") if provenance.get(k)) or "not told"


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in list(value.items())[:20])
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(v) for v in value[:20])
    return str(value)


def _size(n: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}" if n < 100 or unit == "bytes" else f"{n:.0f} {unit}"
        n /= 1000
    return f"{n:.3g} TB"


def _energy(mev: float) -> str:
    for unit, scale in (("TeV", 1e6), ("GeV", 1e3)):
        if mev >= scale:
            return f"{mev / scale:.4g} {unit}"
    return f"{mev:.4g} MeV"


def _range(ends: tuple[float, float]) -> str:
    low, high = ends
    return f"{low:.4g}" if abs(high - low) < 1e-9 else f"{low:.4g} to {high:.4g}"


def _angles(angles: Mapping[str, Any]) -> str:
    low, high = angles["theta"]
    if high < 1e-9:
        return "along z"
    return f"theta {_range((low, high))} rad, tan x {_range(angles['tan_x'])}, tan y {_range(angles['tan_y'])}"
