"""Showers or images drawn on the workers of a cluster: the blocks that one process would draw, bit for bit.

The checkpoint travels as its bytes, incident particles, showers and images as arrays: the workers need no file.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..crew import Crew
from ..incident import Incident
from ..jets import ImageFile, Images
from ..showers import Showers
from ..zoo import find_checkpoint
from .drawing import Clock, blocks
from .images import ImageSampler
from .sampler import Sampler

Options = tuple[tuple[str, Any], ...]
"""Of a sampler's `from_checkpoint`, as pairs of name and value."""

S = TypeVar("S", Sampler, ImageSampler)


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
    sampler = _ready(Sampler, data, options, lambda made: made.block(incident[:1], seed, start))
    began = time.process_time()
    showers = sampler.block(incident, seed, start)
    return Drawn(showers.offset, showers.index, showers.energy, time.process_time() - began)


def drawn_images(
    crew: Crew,
    checkpoint: str | Path,
    sampler: ImageSampler,
    file: ImageFile,
    parts: Sequence[slice],
    seed: int,
    clock: Clock,
) -> Iterator[Images]:
    """Full images of a file's fast ones, drawn by others.

    Args:
        crew: who draws.
        checkpoint: path of the sampler's checkpoint, or ``zoo:NAME``.
        sampler: says where to draw; it draws nothing.
        file: the fast images, checked; this process reads them.
        parts: the blocks to draw, in order.
        seed: of the noise.
        clock: on which the workers' core-seconds are booked.
    """
    data = crew.share(find_checkpoint(checkpoint).read_bytes())
    options = (("device", sampler.device.type),)
    tasks = ((data, options, file.read(part.start, part.stop), seed, part.start) for part in parts)
    for images, cpu_seconds in crew.each(draw_images, tasks):
        clock.cpu["drawing"] = clock.cpu.get("drawing", 0.0) + cpu_seconds
        yield images


def draw_images(data: bytes, options: Options, fast: Images, seed: int, start: int) -> tuple[Images, float]:
    """Draw a block of images here.

    Args:
        data: the checkpoint's bytes.
        options: of the sampler.
        fast: of the block.
        seed: of the noise.
        start: number of the block's first image within the request.

    Returns:
        The images, and the core-seconds that drawing them took.

    Raises:
        CaloforgeError: see `ImageSampler`.
    """
    sampler = _ready(ImageSampler, data, options, lambda made: made.towers(fast[:1], seed=seed, start=start))
    began = time.process_time()
    return sampler.block(fast, seed=seed, start=start), time.process_time() - began


@dataclass
class _Kept:
    """A sampler kept for the next block, and whether it has drawn."""

    sampler: Sampler | ImageSampler
    warm: bool = False


def _ready(kind: type[S], data: bytes, options: Options, first: Callable[[S], object]) -> S:
    """A sampler that has drawn ``first``: the first run allocates and loads, which is no part of a shower's cost."""
    kept = _kept(kind is ImageSampler, data, options)
    sampler = kept.sampler
    assert isinstance(sampler, kind)
    if not kept.warm:
        first(sampler)
        kept.warm = True
    return sampler


@lru_cache(maxsize=2)
def _kept(of_images: bool, data: bytes, options: Options) -> _Kept:
    with tempfile.TemporaryDirectory(prefix="caloforge-") as folder:
        path = Path(folder) / "model.safetensors"
        path.write_bytes(data)
        kind = ImageSampler if of_images else Sampler
        return _Kept(kind.from_checkpoint(path, **dict(options)))
