"""Full simulation: Geant4 transport of particles through a detector, with showers replaced where asked for."""

from .fast import FastRequest, FastShowers
from .production import simulate

__all__ = ["FastRequest", "FastShowers", "simulate"]
