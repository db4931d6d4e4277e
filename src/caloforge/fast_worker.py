"""A simulation worker that replaces showers: one Geant4 and one generator in a process.

It stands above `simulation` and `generation`, which do not know each other: here one is given to the other, and torch
is loaded by these workers only.
"""

from __future__ import annotations

from typing import Any

from .chunks import Work, serve
from .detectors import Detector
from .generation import Sampler
from .incident import Incident
from .simulation.fast import FastShowers, require_voxels
from .simulation.production import FAST_CHUNK
from .simulation.worker import prepare


def prepare_fast(setup: dict[str, Any]) -> Work:
    """Load the model and start Geant4; what is returned simulates a chunk into its file.

    Raises:
        CaloforgeError: if the checkpoint is not valid or makes showers of another detector.
    """
    sampler = Sampler.from_checkpoint(setup["fast"]["model"], device="cpu")
    checkpoint = sampler.checkpoint
    detector = Detector.from_toml(setup["detector"])
    require_voxels(checkpoint.detector, detector)
    # The network's first run allocates and loads: no part of the cost of an event.
    sampler.block(Incident.of([float(checkpoint.domain["energy"][0])], checkpoint.domain["pdg"][0]))
    fast = FastShowers(
        sampler,
        detector,
        checkpoint.domain,
        conditions=checkpoint.conditions,
        threshold=setup["fast"]["threshold"],
        seed=setup["seed"],
        batch=FAST_CHUNK,
    )
    return prepare(setup, fast)


if __name__ == "__main__":
    serve(prepare_fast)
