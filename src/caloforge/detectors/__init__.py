"""Detectors as data: one TOML file each, and the class that reads it."""

from __future__ import annotations

from pathlib import Path

from .detector import Detector
from .segmentation import LayerGrid

DETECTORS: dict[str, Path] = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.toml"))}
"""Detectors that ship with the package, by name."""

__all__ = ["DETECTORS", "Detector", "LayerGrid"]
