"""The verb `generate` for images of events: fast images in MeV in, images as of the full simulation out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from ..checkpoint_file import checkpoint_digest
from ..cluster import Address, crew_of
from ..errors import CaloforgeError, CaloforgeWarning
from ..image_checkpoint import ImageCheckpoint, outside_images
from ..jets import ImageFile, Images, ImageWriter
from ..jets.pairs import fast_tensors
from ..output import check_output
from ..progress import Progress, silent
from .drawing import (
    CHUNK,
    Clock,
    blocks,
    check_batch,
    check_noise,
    draw_noise,
    drawn_provenance,
    find_device,
    rows_per_run,
    runs,
)


class ImageSampler:
    """Draws full images from fast ones; see `Sampler` for what results depend on.

    Attributes:
        checkpoint: what it draws from.
        device: where the network runs.
        rows: images in one run of the network.
        alignment: cut requests at multiples of this to get identical bytes.
    """

    def __init__(self, checkpoint: ImageCheckpoint, *, device: str = "auto") -> None:
        self.checkpoint = checkpoint
        self.device = find_device(device)
        self.label = checkpoint.model_name
        self.sha256 = ""
        self.rows = rows_per_run(self.device, checkpoint.grid.n_towers)
        # A lone group of few images, whose kernels may round otherwise, must not come from an odd batch.
        self.alignment = math.lcm(CHUNK, self.rows)
        self._model = checkpoint.model.to(self.device).eval()
        self._transform = checkpoint.transform.to(self.device)

    @classmethod
    def from_checkpoint(cls, path: str | Path, *, device: str = "auto") -> Self:
        """Load a checkpoint, given by its path or as ``zoo:NAME``, to draw from.

        Raises:
            CaloforgeError: if the checkpoint is not valid or there is no such device.
        """
        sampler = cls(ImageCheckpoint.load(path), device=device)
        sampler.sha256 = checkpoint_digest(path)
        return sampler

    def __call__(self, fast: Images, *, seed: int = 0, start: int = 0) -> Images:
        """Draw one image for each fast one.

        Args:
            fast: N images.
            seed: of the noise.
            start: number of the first image within a larger request, when that is shared out.

        Returns:
            N images of the same events.

        Raises:
            CaloforgeError: if the images have another grid, the seed cannot be, or the model gives no finite energies.

        Warns:
            CaloforgeWarning: if the images lie outside what the model was trained on.
        """
        self.check(fast, seed, start)
        drawn = self.block(fast, seed=seed, start=start)
        drawn.provenance = self.provenance(seed)
        return drawn

    def block(self, fast: Images, *, seed: int = 0, start: int = 0) -> Images:
        """Draw the images of `__call__`, unchecked request, without provenance."""
        towers = self.towers(fast, seed=seed, start=start)
        return Images.from_dense(towers, fast.event, fast.grid, **(fast.described | {"side": "generated"}))

    def check(self, fast: Images | ImageFile, seed: int = 0, start: int = 0) -> None:
        """Raise if the request cannot be met; warn of images outside of what the model was trained on."""
        check_noise(seed, start)
        if fast.grid != self.checkpoint.grid:
            raise CaloforgeError(
                f"the fast images have {fast.grid.describe()}, the model was trained on "
                f"{self.checkpoint.grid.describe()}; give images of that grid."
            )
        if fast.side in ("full", "generated"):
            raise CaloforgeError(
                f"the images given are of the {fast.side} side; the model starts from the fast simulation's, give "
                "those."
            )
        strange = outside_images(self.checkpoint.domain, fast) if isinstance(fast, Images) else []
        if strange:
            warnings.warn(
                f"'{self.label}' is asked to extrapolate: {'; '.join(strange)}. Do not trust these images.",
                CaloforgeWarning,
                stacklevel=3,
            )

    @torch.inference_mode()
    def towers(self, fast: Images, *, seed: int = 0, start: int = 0) -> npt.NDArray[np.float32]:
        """Dense tower energies (N, Y, X) in MeV of `__call__`, unchecked request, all in memory."""
        out = np.empty((len(fast), *fast.grid.shape), dtype=np.float32)
        latent = draw_noise(self.checkpoint.model, start, start + len(fast), seed)
        towers, scales = fast_tensors(fast)
        for part in runs(start, len(fast), self.rows):
            scale = scales[part].to(self.device)
            condition = self._transform(towers[part].to(self.device), scale).flatten(1)
            y = self._model(latent[part].to(self.device), condition)  # (rows, 1, Y, X)
            out[part] = self._transform.inverse(y, scale).clamp_(min=0).squeeze(1).cpu().numpy()
        if not np.isfinite(out).all():
            raise CaloforgeError(
                f"'{self.label}' gave energies that are not finite for these images; stay within what it was trained "
                "on, or train it again."
            )
        return out

    def provenance(self, seed: int) -> dict[str, Any]:
        """What made the images."""
        return drawn_provenance(self.checkpoint, self.label, self.sha256, seed, self.device)


def generate_images(
    checkpoint: str | Path,
    output: str | Path,
    like: str | Path,
    *,
    n: int | None = None,
    seed: int = 0,
    batch: int = 1000,
    device: str = "auto",
    dask: Address | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Path:
    """Draw a full image for each of a file of fast images and write them to an image file, block by block.

    Args:
        checkpoint: path of a checkpoint, or ``zoo:NAME``.
        output: path of the image file to write; its images are of the side "generated", with the events' numbers.
        like: the fast simulation's image file.
        n: use the first so many; all if not given.
        seed: of the noise; equal seeds give equal images.
        batch: images held in memory at once; it does not change the images.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        dask: the scheduler of a cluster that draws instead, on devices of the same kind; see `caloforge.cluster`.
        overwrite: replace an existing file.
        progress: called after each block.

    Returns:
        The path of the file. Its provenance holds ``seconds_per_image`` (core-seconds from MeV to MeV; on a GPU: wall
        time), ``wall_seconds_per_image`` and ``writing_seconds_per_image``.

    Raises:
        CaloforgeError: if the checkpoint, the device, the images or the output cannot be used.
    """
    path = Path(output)
    check_output(path, overwrite=overwrite)
    check_batch(batch)
    sampler = ImageSampler.from_checkpoint(checkpoint, device=device)
    with ImageFile(like) as file:
        sampler.check(file, seed)
        total = len(file) if n is None else min(n, len(file))
        if not total:
            raise CaloforgeError(f"'{like}' holds no images to start from; give a file with at least one.")
        sampler.check(file.read(0, total), seed)
        sampler.towers(file.read(0, 1), seed=seed)  # the first run allocates and loads: no part of an image's cost
        described: dict[str, Any] = {"process": file.process, "events_digest": file.events_digest}
        clock = Clock()
        parts = list(blocks(0, total, batch, sampler.alignment))
        with (
            crew_of(dask) as crew,
            ImageWriter(path, file.grid, side="generated", overwrite=overwrite, **described) as writer,
        ):
            progress(0, total, "")
            drawn = _blocks(sampler, file, parts, seed, clock)
            if dask is not None:
                from .distributed import drawn_images  # here, because it is built on this module

                drawn = drawn_images(crew, checkpoint, sampler, file, parts, seed, clock)
            for part, images in zip(parts, drawn, strict=True):
                clock.lap("drawing")
                writer.append(images)
                clock.lap("writing")
                progress(part.stop, total, "")
            spent = clock.per_shower(total, sampler.device)
            writer.provenance |= sampler.provenance(seed)
            writer.provenance |= {key.replace("shower", "image"): value for key, value in spent.items()}
    return path


def _blocks(
    sampler: ImageSampler, file: ImageFile, parts: Sequence[slice], seed: int, clock: Clock
) -> Iterator[Images]:
    """The blocks of a request, drawn here; reading the fast images is not booked."""
    for part in parts:
        fast = file.read(part.start, part.stop)
        clock.lap()
        yield sampler.block(fast, seed=seed, start=part.start)
