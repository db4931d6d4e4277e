"""Evaluation: score generated samples against a reference, from their shower files alone.

Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .classifier import CLASSIFIERS
    from .metrics import METRICS
    from .observables import OBSERVABLES
    from .places import Ranking
    from .ranking import compare
    from .report import Report
    from .scoring import evaluate

_HOME = {
    "CLASSIFIERS": "classifier",
    "METRICS": "metrics",
    "OBSERVABLES": "observables",
    "Ranking": "places",
    "Report": "report",
    "compare": "ranking",
    "evaluate": "scoring",
}

__all__ = ["CLASSIFIERS", "METRICS", "OBSERVABLES", "Ranking", "Report", "compare", "evaluate"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
