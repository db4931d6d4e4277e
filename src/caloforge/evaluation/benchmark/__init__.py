"""The community benchmark: scores as the CaloChallenge 2022 defines them (arXiv 2410.21611), with errors and floors.

Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clouds import fidelity
    from .features import Features, high_level
    from .frechet import fpd
    from .kernel import kpd
    from .neighbours import prdc
    from .standard import EXTRA_PARTS, PARTS, STANDARDS, evaluate_standard, score_standard
    from .table import standard_table

_HOME = {
    "EXTRA_PARTS": "standard",
    "Features": "features",
    "PARTS": "standard",
    "STANDARDS": "standard",
    "evaluate_standard": "standard",
    "high_level": "features",
    "fidelity": "clouds",
    "fpd": "frechet",
    "kpd": "kernel",
    "prdc": "neighbours",
    "score_standard": "standard",
    "standard_table": "table",
}

__all__ = [
    "EXTRA_PARTS", "PARTS", "STANDARDS", "Features", "evaluate_standard", "fidelity", "fpd", "high_level", "kpd",
    "prdc", "score_standard", "standard_table",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
