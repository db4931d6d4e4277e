"""Showers drawn on the workers of a cluster: the blocks that one process would draw, the same to the last bit.

The checkpoint travels as its bytes, incident particles and showers as arrays: the workers need no file.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..crew import Crew
from ..incident import Incident
from ..showers import Showers
from ..zoo import find_checkpoint
from .drawing import Clock, blocks
from .sampler import Sampler

Options = tuple[tuple[str, Any], ...]
"""Of `Sampler.from_checkpoint`, as pairs of name and value."""


@dataclass(frozen=True)
class Drawn:
    """The showers of a block as a worker sends them.

    Attributes:
        offset: see `Showers`.
        index: see `Showers`.
        energy: see `Showers`.
        cpu_seconds: what drawing them took.
    """

    offset: npt.NDArray[np.int64]
    index: npt.NDArray[np.uint32]
    energy: npt.NDArray[np.float32]
    cpu_seconds: float


def drawn_blocks(
    crew: Crew,
    checkpoint: str | Path,
    sampler: Sampler,
    incident: Incident,
    seed: int,
    options: Mapping[str, Any],
    clock: Clock,
) -> Iterator[Showers]:
    """The blocks of ``sampler.blocks(incident, seed=seed)`` in order, drawn by others.

    Args:
        crew: who draws.
        checkpoint: path of the sampler's checkpoint, or ``zoo:NAME``.
        sampler: says how the request is cut; it draws nothing.
        incident: N particles, checked.
        seed: of the noise.
        options: of `Sampler.from_checkpoint` on the workers.
        clock: on which the workers' core-seconds are booked.
    """
    data = crew.share(find_checkpoint(checkpoint).read_bytes())
    parts = list(blocks(0, len(incident), sampler.batch, sampler.alignment))
    tasks = ((data, tuple(sorted(options.items())), incident[part], seed, part.start) for part in parts)
    for part, drawn in zip(parts, crew.each(draw, tasks), strict=True):
        clock.cpu["drawing"] = clock.cpu.get("drawing", 0.0) + drawn.cpu_seconds
        yield Showers(incident[part], sampler.checkpoint.detector, drawn.offset, drawn.index, drawn.energy)


def draw(data: bytes, options: Options, incident: Incident, seed: int, start: int) -> Drawn:
    """Draw a block here.

    Args:
        data: the checkpoint's bytes.
        options: of the sampler.
        incident: of the block.
        seed: of the noise.
        start: number of the block's first shower within the request.

    Raises:
        CaloforgeError: see `Sampler`.
    """
    kept = _kept(data, options)
    sampler = kept.sampler
    if not kept.warm:  # the first run allocates and loads, which is no part of a shower's cost
        sampler.block(incident[:1], seed, start)
        kept.warm = True
    began = time.process_time()
    showers = sampler.block(incident, seed, start)
    return Drawn(showers.offset, showers.index, showers.energy, time.process_time() - began)


@dataclass
class _Kept:
    """A sampler kept for the next block, and whether it has drawn."""

    sampler: Sampler
    warm: bool = False


@lru_cache(maxsize=2)
def _kept(data: bytes, options: Options) -> _Kept:
    with tempfile.TemporaryDirectory(prefix="caloforge-") as folder:
        path = Path(folder) / "model.safetensors"
        path.write_bytes(data)
        return _Kept(Sampler.from_checkpoint(path, **dict(options)))
