"""Training: from a shower file and a configuration to a checkpoint."""

from __future__ import annotations

from .engine import Engine, TrainingStopped
from .run import train
from .settings import BoostingSettings, DataSettings, OptimiserSettings, PhaseSettings, TrainConfig, TrainingSettings

__all__ = [
    "BoostingSettings",
    "DataSettings",
    "Engine",
    "OptimiserSettings",
    "PhaseSettings",
    "TrainConfig",
    "TrainingSettings",
    "TrainingStopped",
    "train",
]
