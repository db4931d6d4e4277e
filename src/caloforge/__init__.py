"""Fast simulation of calorimeter showers: simulate, train, generate, evaluate."""

__version__ = "0.1.0"
