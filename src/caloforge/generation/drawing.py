"""What drawing showers and drawing images share: noise by chunk, groups that run together, devices, and the clock."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .. import __version__
from ..errors import CaloforgeError
from ..models import GenerativeModel
from ..models.noise import VoxelNoise

CHUNK = 64
"""Showers that share one random stream. Work shared out in multiples of it gives the same showers."""

# Voxels in one run of the network, which has at most `CHUNK` showers on a CPU: enough for a flow of many small steps to
# be no burden, few enough not to leave the cache too often.
_VOXELS_PER_RUN = {"cpu": 2**20, "cuda": 2**24}

ROWS_OF_HITS = 128
"""Showers in one run of a model that draws hits: its flow has many small steps, its voxels it takes in pieces."""


def rows_per_run(device: torch.device, n_voxels: int) -> int:
    """Showers of so many voxels in one run of the network."""
    voxels = _VOXELS_PER_RUN.get(device.type, _VOXELS_PER_RUN["cuda"])
    rows: int = 2 ** math.floor(math.log2(max(1, voxels // n_voxels)))
    return min(rows, CHUNK) if device.type == "cpu" else rows


def runs(start: int, n: int, rows: int) -> Iterator[slice]:
    """Cut n showers, the first of which has the number ``start``, into groups [k * rows, (k + 1) * rows)."""
    begin = 0
    while begin < n:
        end = min(n, ((start + begin) // rows + 1) * rows - start)
        yield slice(begin, end)
        begin = end


def blocks(start: int, n: int, batch: int, alignment: int) -> Iterator[slice]:
    """Cut n showers, the first of which has the number ``start``, into blocks of about ``batch``.

    They end at multiples of whole groups counted from zero, wherever the request starts.
    """
    return runs(start, n, alignment * -(-batch // alignment))


def draw_own_noise(model: GenerativeModel, start: int, stop: int, seed: int) -> Tensor:
    """Latent numbers (stop - start, own) of showers start to stop that are not noise of single voxels."""
    parts = []
    for chunk in range(start // CHUNK, -(-stop // CHUNK)):
        words = np.random.SeedSequence([seed, chunk]).generate_state(1, np.uint64)
        rng = torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))
        noise = model.draw_own_latent(CHUNK, rng)
        parts.append(noise[max(start - chunk * CHUNK, 0) : stop - chunk * CHUNK])
    return torch.cat(parts) if parts else model.draw_own_latent(0, torch.Generator())


def draw_noise(model: GenerativeModel, start: int, stop: int, seed: int) -> Tensor:
    """Noise (stop - start, Z) of showers start to stop, drawn on the CPU so that devices agree."""
    own = draw_own_noise(model, start, stop, seed)
    if not model.voxel_noise:
        return own
    return model.join_latent(own, VoxelNoise(seed, model.voxel_noise)(start, stop))


def pick_own_noise(model: GenerativeModel, numbers: npt.NDArray[np.int64], seed: int) -> Tensor:
    """What `draw_own_noise` gives the showers of these numbers (n, own), all of one chunk."""
    first = int(numbers[0]) // CHUNK * CHUNK
    return draw_own_noise(model, first, first + CHUNK, seed)[torch.from_numpy(numbers - first)]


def pick_noise(model: GenerativeModel, numbers: npt.NDArray[np.int64], seed: int) -> Tensor:
    """Noise (n, Z) of the showers of these numbers, all of one chunk."""
    own = pick_own_noise(model, numbers, seed)
    if not model.voxel_noise:
        return own
    return model.join_latent(own, VoxelNoise(seed, model.voxel_noise).of(numbers)(slice(0, len(numbers))))


def check_noise(seed: int, start: int) -> None:
    """Check a request's seed and the number of its first shower.

    Raises:
        CaloforgeError: if one is negative.
    """
    if seed < 0 or start < 0:
        raise CaloforgeError(f"seed {seed} and start {start} must not be negative; give whole numbers from 0.")


def check_batch(batch: int) -> int:
    """The batch, if it is one.

    Raises:
        CaloforgeError: if it is less than one.
    """
    if batch < 1:
        raise CaloforgeError(f"the batch is {batch}; it must be at least 1 shower.")
    return batch


def environment() -> dict[str, Any]:
    """Versions of what draws, for the provenance."""
    return {
        "caloforge": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


class Drawn(Protocol):
    """What the provenance tells of a checkpoint."""

    @property
    def model_name(self) -> str:
        """Its model."""

    @property
    def model_config(self) -> dict[str, Any]:
        """The model's options."""

    @property
    def provenance(self) -> dict[str, Any]:
        """What made it."""


def drawn_provenance(checkpoint: Drawn, label: str, sha256: str, seed: int, device: torch.device) -> dict[str, Any]:
    """What made showers or images that were drawn from a checkpoint."""
    return {
        "producer": "generate",
        "label": label,
        "seed": seed,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "checkpoint": sha256,
        "model": checkpoint.model_name,
        "model_config": checkpoint.model_config,
        "trained": checkpoint.provenance,
        "versions": environment(),
    }


def keep_memory() -> None:
    """Let the C library keep freed memory of up to some 60 MB for the next step instead of giving it back.

    It learns that from the largest block ever freed (glibc: of at most 32 MB). Else each step of generation asks for
    its few megabytes anew, and the system's clearing of them takes up to a third of the time. Costs nothing: the block
    is never touched.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


def find_device(name: str) -> torch.device:
    """The device of a name; "auto" takes a GPU if there is one.

    Raises:
        CaloforgeError: if there is no such device here.
    """
    found = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if name == "auto":
        name = "cuda" if found["cuda"] else "mps" if found["mps"] else "cpu"
    kind, _, number = name.partition(":")
    if kind not in found or (number and not number.isdecimal()) or int(number or 0) >= found[kind]:
        here = ", ".join(k if n == 1 else f"{k}:0 to {k}:{n - 1}" for k, n in found.items() if n)
        raise CaloforgeError(f"'{name}' is not a device of this machine; it has: {here}. Choose one or 'auto'.")
    return torch.device(name)


class Clock:
    """Sums core-seconds and wall seconds by what they were spent on."""

    def __init__(self) -> None:
        self.cpu: dict[str, float] = {}
        self.wall: dict[str, float] = {}
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def lap(self, what: str | None = None) -> None:
        """End a lap and book it under ``what``; without, drop it."""
        cpu, wall = time.process_time(), time.perf_counter()
        if what is not None:
            self.cpu[what] = self.cpu.get(what, 0.0) + cpu - self._cpu
            self.wall[what] = self.wall.get(what, 0.0) + wall - self._wall
        self._cpu, self._wall = cpu, wall

    def book(self, what: str, cpu: float, wall: float) -> None:
        """Book what a thread beside has spent: its CPU was counted in the laps, which overlap with it."""
        self.cpu = {"drawing": max(sum(self.cpu.values()) - cpu, 0.0), what: cpu}
        self.wall[what] = wall

    def per_shower(self, n: int, device: torch.device) -> dict[str, float]:
        """Seconds per shower; what runs on a GPU is timed by the wall, as core-seconds do not see it."""
        spent = self.cpu if device.type == "cpu" else self.wall
        return {
            "seconds_per_shower": spent.get("drawing", 0.0) / max(n, 1),
            "wall_seconds_per_shower": self.wall.get("drawing", 0.0) / max(n, 1),
            "writing_seconds_per_shower": self.wall.get("writing", 0.0) / max(n, 1),
        }


def device_name(device: torch.device) -> str:
    """What a device is called in a file's provenance."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
