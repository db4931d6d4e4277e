"""Files of showers from elsewhere: read into caloforge's own, written for others, and described."""

from __future__ import annotations

from .conversion import FORMATS, convert
from .info import DESCRIBERS, describe, render
from .readers import READERS

__all__ = ["DESCRIBERS", "FORMATS", "READERS", "convert", "describe", "render"]
