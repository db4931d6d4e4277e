"""Detectors from the CaloChallenge's binning files (XML): polar voxels, layer by layer."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from ..errors import CaloforgeError
from .detector import Detector
from .text import read_text

MAX_XML_BYTES = 1 << 20
_NAMES = {"22": ("photon", "gamma"), "11": ("electron", "e-"), "211": ("pion", "pi+"), "2212": ("proton",)}


def detector_from_binning_xml(path: str | Path, particle: str | None = None) -> Detector:
    """Read a binning file: ``<Bins><Bin pid="22" name="photon"><Layer id="0" r_edges="0,5,10" n_bin_alpha="1"/>...``.

    Radii are in mm, angles span -pi to pi. Layers without radial bins are left out. The file does not tell depths:
    read-out layers get the numbers 0, 1, 2, ... as z.

    Args:
        path: the file.
        particle: which of its sections: a PDG code, or the name the file or people give the particle; not needed if
            there is only one section.

    Raises:
        CaloforgeError: if it is no such file, has no such section, or describes no valid detector.
    """
    path = Path(path)
    root = _parse(read_text(path, "binning file", MAX_XML_BYTES), path)
    sections = _sections(root)
    names = [" ".join(dict.fromkeys(words)) for words, _ in sections]
    chosen = [s for s in sections if particle is None or str(particle).lower() in s[0]]
    if len(chosen) != 1:
        raise CaloforgeError(
            f"'{path}' has {len(chosen)} sections for "
            f"{'any particle' if particle is None else repr(str(particle))}; choose one with --particle, as in: "
            f"{'; '.join(names)[:200] or 'none'}."
        )
    layers = [layer for element in chosen[0][1] if (layer := _layer(element, path)) is not None]
    if not layers:
        raise CaloforgeError(
            f"'{path}' has no layer with radial bins in its section; give a CaloChallenge binning file."
        )
    data: dict[str, Any] = {
        "name": re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("._-")[:64] or "binning",
        "description": "Read-out voxels from a CaloChallenge binning file.",
        "readout": {"layers": layers},
    }
    return Detector.from_mapping(data, f"the binning in '{path}'")


def _parse(text: str, path: Path) -> ET.Element:
    # Entities are how a small file becomes a huge one; a binning file has no use for them.
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise CaloforgeError(f"'{path}' declares a document type or entities, which is not allowed; take them out.")
    try:
        return ET.fromstring(text)
    except (ET.ParseError, ValueError, RecursionError) as error:
        raise CaloforgeError(f"'{path}' is not valid XML ({str(error)[:120]}); give a binning file.") from None


def _sections(root: ET.Element) -> list[tuple[list[str], list[ET.Element]]]:
    """Elements that hold layers: the words that name their particle, and the layers."""
    parents = {child: parent for parent in root.iter() for child in parent}
    sections = []
    for element in root.iter():
        layers = element.findall("Layer")
        if not layers:
            continue
        words: list[str] = []
        for holder in (element, parents.get(element)):
            if holder is not None:
                words += [holder.get(key, "").strip().lower() for key in ("pid", "name")]
        words += [name for word in words for name in _NAMES.get(word, ())]
        sections.append(([word for word in words if word], layers))
    return sections


def _layer(element: ET.Element, path: Path) -> dict[str, Any] | None:
    edges, alpha = element.get("r_edges", ""), element.get("n_bin_alpha", "")
    try:
        radii = [float(edge) for edge in edges.split(",") if edge.strip()]
        angles = int(float(alpha)) if alpha.strip() else 1
        if not all(math.isfinite(radius) for radius in radii):
            raise ValueError
    except (ValueError, OverflowError):
        raise CaloforgeError(
            f"'{path}' has a layer with r_edges '{edges[:60]}' and n_bin_alpha '{alpha[:20]}', which are not numbers; "
            "give radii in mm separated by commas and a number of angles."
        ) from None
    if len(radii) < 2:
        return None
    return {"alpha": max(angles, 1), "r_edges": radii}
