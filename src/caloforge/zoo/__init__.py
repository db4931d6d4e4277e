"""Trained checkpoints that ship with the package, each with its card.

``zoo:NAME`` stands for a checkpoint wherever one is asked for. A card (NAME.json) says what the checkpoint was trained
on, how long and where, what it measured against Geant4 showers it has not seen, and what is known to be wrong with it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import lookup

_HERE = Path(__file__).parent
PREFIX = "zoo:"

ZOO: dict[str, Path] = {path.stem: path for path in sorted(_HERE.glob("*.safetensors"))}
"""Checkpoints that ship with the package, by name."""


def find_checkpoint(checkpoint: str | Path) -> Path:
    """Path of a checkpoint given as a path or as ``zoo:NAME``.

    Raises:
        CaloforgeError: if the zoo has none of that name.
    """
    text = str(checkpoint)
    if text.startswith(PREFIX):
        return lookup(ZOO, text.removeprefix(PREFIX), "a zoo checkpoint")
    return Path(checkpoint)


def card(name: str) -> dict[str, Any]:
    """The card of a shipped checkpoint, see docs/zoo.md for its fields.

    Raises:
        CaloforgeError: if the zoo has none of that name.
    """
    path = lookup(ZOO, name, "a zoo checkpoint")
    found: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return found
