"""What a shower costs a model: from incident particles in MeV to showers in MeV, as anyone calls it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..beam import Beam
from ..checkpoint import Checkpoint
from ..generation import Sampler
from ..generation.chain import Chain
from ..generation.drawing import draw_noise
from ..incident import Incident
from .counting import Work, count_work
from .machine import wait

_ENOUGH = 20.0  # seconds that the repeats of one batch may take; three are made in any case
_FEWEST = 3


def beam_at(checkpoint: Checkpoint, energy_gev: float) -> Beam:
    """Particles of one energy, coming in as those the model was trained on."""
    return Beam.of(checkpoint.detector, domain=checkpoint.domain, energies_gev=(energy_gev,), spectrum="discrete")


def time_batches(sampler: Sampler, incident: Incident, batches: list[int], repeats: int) -> list[dict[str, Any]]:
    """Milliseconds a shower of requests of each size: medians with quartiles, after one to warm up."""
    return [_time_batch(sampler, incident[:n], repeats) for n in batches]


def _time_batch(sampler: Sampler, incident: Incident, repeats: int) -> dict[str, Any]:
    sampler.batch = max(sampler.batch, len(incident))
    sampler(incident)
    spent: list[tuple[float, float]] = []
    began = time.perf_counter()
    while len(spent) < repeats and (len(spent) < _FEWEST or time.perf_counter() - began < _ENOUGH):
        cpu, wall = time.process_time(), time.perf_counter()
        sampler(incident, seed=len(spent) + 1)
        wait(sampler.device)
        spent.append((time.process_time() - cpu, time.perf_counter() - wall))
    cpu_ms, wall_ms = (1e3 * np.array(spent) / len(incident)).T
    return {"batch": len(incident), "repeats": len(spent), **_summary("cpu_ms", cpu_ms), **_summary("wall_ms", wall_ms)}


def _summary(name: str, values: npt.NDArray[np.float64]) -> dict[str, float]:
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return {name: median, f"{name}_low": low, f"{name}_high": high}


def work_of(checkpoint: Checkpoint, rows: int) -> Work:
    """Arithmetic and traffic of a shower in a run of so many."""
    chain = Chain(checkpoint).eval()
    device = next(chain.parameters()).device
    energy = torch.full((rows,), float(np.mean(checkpoint.domain["energy"])), device=device)
    condition = torch.zeros(rows, len(checkpoint.conditions), device=device)
    return count_work(chain, draw_noise(checkpoint.model, 0, rows, 0).to(device), condition, energy)
