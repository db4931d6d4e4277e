"""Evaluation of images of events: jets, event quantities and the spread around one fast image.

Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .ranking import compare_images
    from .sample import holds_images
    from .scoring import evaluate_images
    from .variables import VARIABLES

_HOME = {
    "VARIABLES": "variables",
    "compare_images": "ranking",
    "evaluate_images": "scoring",
    "holds_images": "sample",
}

__all__ = ["VARIABLES", "compare_images", "evaluate_images", "holds_images"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
