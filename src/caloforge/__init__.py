"""Fast simulation of calorimeter showers: simulate, train, generate, evaluate.

import caloforge

caloforge.simulate("lhcb-ecal", 1000, "train.h5", workers=2)
caloforge.train("configs/lhcb-wgan.toml", "train.h5", "runs/lhcb")
sampler = caloforge.Sampler.from_checkpoint("runs/lhcb/model.safetensors")
showers = sampler(caloforge.Showers.read("test.h5").incident, seed=1)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .beam import Beam
    from .detectors import DETECTORS, Detector
    from .errors import CaloforgeError, CaloforgeWarning
    from .evaluation import compare, evaluate
    from .generation import Sampler, generate
    from .incident import Incident
    from .models import MODELS
    from .showers import Showers
    from .simulation import simulate
    from .training import train

# Loaded when first asked for: `import caloforge` costs nothing, and simulating does not load torch.
_HOME = {
    "Beam": "beam",
    "CaloforgeError": "errors",
    "CaloforgeWarning": "errors",
    "DETECTORS": "detectors",
    "Detector": "detectors",
    "Incident": "incident",
    "MODELS": "models",
    "Sampler": "generation",
    "Showers": "showers",
    "compare": "evaluation",
    "evaluate": "evaluation",
    "generate": "generation",
    "simulate": "simulation",
    "train": "training",
}

__all__ = [
    "DETECTORS",
    "MODELS",
    "Beam",
    "CaloforgeError",
    "CaloforgeWarning",
    "Detector",
    "Incident",
    "Sampler",
    "Showers",
    "compare",
    "evaluate",
    "generate",
    "simulate",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'caloforge' has no attribute '{name}'")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
