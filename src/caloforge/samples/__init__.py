"""Small samples that ship with the package: Geant4 showers, and pairs of images of whole events.

Made with Geant4's official tables by ``caloforge simulate DETECTOR --tables official``, training samples with seed 1,
test samples with seed 2; ``caloforge info`` tells more. ``clic-ecal`` covers 2-100 GeV of the detector's 2-500 GeV:
showers of the upper end cost seconds each.

Image pairs: events 0-1999 of 10 000 dijet (seed 2021) and of 10 000 W + jet events (2022) of ``caloforge
simulate-events``, the first 1600 to train on: ``PROCESS-fast-train`` and ``PROCESS-full-train``, the others ``-test``.
The full side comes from one library for both (``caloforge shower-library dijet.h5 wjet.h5 -n 2000 --seed 42`` with
official neutron data, then ``events-to-images --full --seed 8``); `Images` cut the files in two.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import lookup

_HERE = Path(__file__).parent

SAMPLES: dict[str, Path] = {path.stem: path for path in sorted(_HERE.glob("*.h5"))}
"""Shower and image files that ship with the package, by name."""

DEMO_CONFIG = _HERE / "lhcb-wgan-demo.toml"
"""The training configuration of the demo: a compact `lhcb-wgan` that learns in minutes."""


def sample(name: str) -> Path:
    """Path of a shipped sample.

    Raises:
        CaloforgeError: if there is none of that name.
    """
    return lookup(SAMPLES, name, "a sample")
