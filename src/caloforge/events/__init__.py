"""Whole events: collisions, and the images that a fast and a full simulation of the calorimeters make of them."""

from .collisions import PROCESSES, simulate_events

__all__ = ["PROCESSES", "simulate_events"]
