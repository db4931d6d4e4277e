"""Pairs of images of the same events, the fast and the full simulation's, as training and generation see them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import CaloforgeError
from .image_file import ImageFile
from .images import Images, paired

Files = Sequence[str | Path]


class PairFiles(NamedTuple):
    """Image files of the full and of the fast simulation; file i of each belong together."""

    full: Files
    fast: Files


_EMPTY = 1000.0  # MeV: the scale of an event in which the fast simulation sees nothing


@dataclass(frozen=True)
class Pairs:
    """Images of the same events by two simulations.

    Attributes:
        fast: the fast simulation's, one a pair (N).
        full: the full simulation's, each once (M), also those that no pair has.
        content: SHA-256 of the files they come from.
        processes: whose events they are.
        image: which full image each pair has (N,); beside several fast ones the same may stand.
    """

    fast: Images
    full: Images
    content: str
    processes: tuple[str, ...]
    image: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.fast)

    @classmethod
    def read(cls, files: PairFiles, limit: int | None = None) -> Pairs:
        """The pairs in image files, at most ``limit``, held sparse in memory.

        A file of full images may be given several times, with another file of fast images each time; it is held once.

        Raises:
            CaloforgeError: if the files are not valid, not of one grid, or no pairs.
        """
        full, fast = files
        if len(full) != len(fast) or not full:
            raise CaloforgeError(
                f"{len(full)} files of full and {len(fast)} of fast images were given; give one --like FAST for each "
                "--data FULL, in the same order."
            )
        digest = hashlib.sha256()
        processes: list[str] = []
        fasts: list[Images] = []
        fulls: dict[str, Images] = {}  # by content
        contents: dict[Path, str] = {}
        first: dict[str, int] = {}  # number of each file's first image
        numbers: list[npt.NDArray[np.int64]] = []
        for one, two in zip(fast, full, strict=True):
            with ImageFile(one) as fast_file, ImageFile(two) as full_file:
                _check_sides(fast_file, full_file)
                i, j = paired(fast_file, full_file)
                fasts.append(fast_file.read()[i])
                processes.append(full_file.process)
                path = Path(two).resolve()
                contents[path] = content = contents.get(path) or full_file.content_hash()
                digest.update(f"{fast_file.content_hash()} {content}".encode())
                if content not in fulls:
                    first[content] = sum(len(images) for images in fulls.values())
                    fulls[content] = full_file.read()
                numbers.append(first[content] + j)
        found = cls(
            Images.concatenate(fasts),
            Images.concatenate(list(fulls.values())),
            digest.hexdigest(),
            tuple(dict.fromkeys(processes)),
            np.concatenate(numbers),
        )
        if limit is None or limit >= len(found):
            return found
        # Of several files some of each: every n-th.
        some = np.linspace(0, len(found) - 1, limit).astype(np.int64)
        return cls(found.fast[some], found.full, found.content, found.processes, found.image[some])

    def batch(self, which: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs ``which`` (B,) as (full images (B, 1, Y, X), fast images (B, 1, Y, X), scales (B,)) in MeV."""
        fast, scale = fast_tensors(self.fast[which])
        return torch.from_numpy(self.full[self.image[which]].dense()).unsqueeze(1), fast, scale


def fast_tensors(fast: Images) -> tuple[Tensor, Tensor]:
    """What a model is given of fast images: towers (N, 1, Y, X), and the largest of each (N,), its scale, in MeV."""
    towers = torch.from_numpy(fast.dense()).unsqueeze(1)
    return towers, event_scale(towers)


def event_scale(towers: Tensor) -> Tensor:
    """The scale (N,) in MeV of events: the largest of the fast image's towers (N, 1, Y, X)."""
    largest = towers.amax((1, 2, 3))
    return torch.where(largest > 0, largest, _EMPTY)


def _check_sides(fast: ImageFile, full: ImageFile) -> None:
    """Raise where the two are clearly taken for each other."""
    if fast.side == "full" or full.side == "fast":
        raise CaloforgeError(
            f"'{full.path}' holds {full.side} and '{fast.path}' {fast.side} images; give the full simulation's with "
            "--data and the fast one's with --like."
        )
