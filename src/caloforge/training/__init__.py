"""Training: from a shower file and a configuration to a checkpoint."""

from __future__ import annotations

from .engine import Engine, TrainingStopped
from .run import train
from .settings import DataSettings, OptimiserSettings, PhaseSettings, TrainConfig, TrainingSettings

__all__ = [
    "DataSettings",
    "Engine",
    "OptimiserSettings",
    "PhaseSettings",
    "TrainConfig",
    "TrainingSettings",
    "TrainingStopped",
    "train",
]
