"""Full simulation: Geant4 transport of particles through a detector."""

from .production import simulate

__all__ = ["simulate"]
