"""Whole events: collisions, and the images that a fast and a full simulation of the calorimeters make of them."""

from .building import Reuse, build_library
from .collisions import PROCESSES, simulate_events
from .sides import events_to_images

__all__ = ["PROCESSES", "Reuse", "build_library", "events_to_images", "simulate_events"]
