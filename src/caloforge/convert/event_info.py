"""What an event file, an image file or a shower library holds, for `info`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import hdf5
from ..incident import particle_name
from ..jets import event_file, image_file
from ..jets.event_file import EventFile
from ..jets.image_file import ImageFile

_HDF5 = b"\x89HDF\r\n\x1a\n"


def format_of(path: Path, start: bytes) -> str | None:
    """The format an HDF5 file says it has, if it says one; ``start`` are its first bytes."""
    if not start.startswith(_HDF5):
        return None
    with hdf5.open_hdf5(path) as file:
        return hdf5.text_attribute(file, "format")


def describe_images(path: Path) -> dict[str, Any]:
    """Statistics of an image file; every image is read once."""
    with ImageFile(path) as file:
        totals, hits = [np.zeros(0)], [np.zeros(0, np.int64)]
        for images in file.chunks():
            totals.append(images.total_energy)
            hits.append(np.diff(images.rows.offset))
        energy, towers = np.concatenate(totals), np.concatenate(hits)
        return {
            "format_version": file.version,
            "images": len(file),
            "side": file.side,
            "process": file.process,
            "grid": file.grid.describe(),
            "events_digest": file.events_digest,
            "energy": float(energy.mean()) if len(energy) else None,
            "towers": float(towers.mean()) if len(towers) else None,
            "empty": int((towers == 0).sum()),
            "content_hash": file.content_hash(),
            "provenance": file.provenance,
        }


def describe_events(path: Path) -> dict[str, Any]:
    """Statistics of an event file; every event is read once."""
    with EventFile(path) as file:
        counts: dict[int, int] = {}
        lowest = np.inf
        for events in file.chunks():
            codes, numbers = np.unique(events.pdg, return_counts=True)
            for code, number in zip(codes.tolist(), numbers.tolist(), strict=True):
                counts[code] = counts.get(code, 0) + number
            lowest = min(lowest, float(events.pthat.min(initial=np.inf)))
        return {
            "format_version": file.version,
            "events": len(file),
            "process": file.process,
            "particles": sum(counts.values()) / max(len(file), 1),
            "kinds": {particle_name(code): counts[code] for code in sorted(counts, key=lambda c: -counts[c])},
            "lowest_pthat": lowest if np.isfinite(lowest) else None,
            "content_hash": file.content_hash(),
            "provenance": file.provenance,
        }


FORMATS: Mapping[str, tuple[str, Callable[[Path], dict[str, Any]]]] = {
    image_file.FORMAT: ("images", describe_images),
    event_file.FORMAT: ("events", describe_events),
}
"""Formats of our own files of events: their kind, and what describes them."""


def lines_of(d: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A description of an event or image file, line by line."""
    kind = d["kind"]
    lines = [
        ("file", f"{d['file']}: caloforge {kind}, version {d['format_version']}, {d['bytes'] / 1e6:.3g} MB"),
        (kind, f"{d[kind]} of '{d['process']}'"),
    ]
    if kind == "images":
        lines += [("side", d["side"]), ("grid", d["grid"])]
        if d["images"]:
            lines.append(("towers", f"{d['towers']:.1f} an image, {d['energy'] / 1e3:.4g} GeV; {d['empty']} empty"))
        lines.append(("of events", d["events_digest"] or "not told"))
    else:
        most = ", ".join(f"{number} {name}" for name, number in list(d["kinds"].items())[:6])
        lines.append(("particles", f"{d['particles']:.1f} an event ({most})"))
        if d["lowest_pthat"]:
            lines.append(("pT-hat", f"from {d['lowest_pthat'] / 1e3:.4g} GeV"))
    return [*lines, ("sha256", d["content_hash"])]
