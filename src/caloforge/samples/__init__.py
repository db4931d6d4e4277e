"""Small Geant4 samples that ship with the package.

Made with Geant4's official tables by ``caloforge simulate DETECTOR --tables official``, training samples with seed 1,
test samples with seed 2; ``caloforge info`` tells more. ``clic-ecal`` covers 2-100 GeV of the detector's 2-500 GeV:
showers of the upper end cost seconds each.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import lookup

_HERE = Path(__file__).parent

SAMPLES: dict[str, Path] = {path.stem: path for path in sorted(_HERE.glob("*.h5"))}
"""Shower files that ship with the package, by name."""

DEMO_CONFIG = _HERE / "lhcb-wgan-demo.toml"
"""The training configuration of the demo: a compact `lhcb-wgan` that learns in minutes."""


def sample(name: str) -> Path:
    """Path of a shipped sample.

    Raises:
        CaloforgeError: if there is none of that name.
    """
    return lookup(SAMPLES, name, "a sample")
