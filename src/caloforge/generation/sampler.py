"""The Sampler: incident particles in, showers in MeV out, the same for the same seed whoever draws them."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from ..beam import Beam
from ..checkpoint import Checkpoint, outside
from ..checkpoint_file import checkpoint_digest
from ..cluster import Address, crew_of
from ..errors import CaloforgeError, CaloforgeWarning
from ..incident import Incident
from ..models.base import NoiseOfShowers
from ..models.noise import VoxelNoise
from ..output import check_output
from ..progress import Progress, silent
from ..shower_file import ShowerWriter
from ..showers import Showers
from ..sparse import SparseRows, offsets
from .backends import Backend, Eager, Trial, choose
from .beside import Beside
from .chain import Chain
from .drawing import (
    CHUNK,
    ROWS_OF_HITS,
    Clock,
    blocks,
    check_batch,
    check_noise,
    draw_noise,
    draw_own_noise,
    drawn_provenance,
    find_device,
    keep_memory,
    pick_noise,
    pick_own_noise,
    rows_per_run,
    runs,
)

_TRIED = 2**19  # voxels by which a backend is compared with eager


class Sampler:
    """Draws showers from a checkpoint.

    The noise of shower i comes from the stream (seed, i // `CHUNK`), and the network always runs on the same groups
    of showers, ``[k * rows, (k + 1) * rows)``. So results depend on the seed and the request only: not on ``batch``,
    nor on how the request is shared out, as long as it is cut at multiples of `alignment`. (A cut elsewhere draws the
    same noise, but matrix kernels may round the last bit otherwise for another number of rows.)

    Attributes:
        checkpoint: what it draws from.
        device: where the network runs.
        batch: showers held in memory at once by `blocks`, rounded up to whole groups.
        backend: what runs the network, see `caloforge.generation.backends`.

    Each backend gives the same bytes whatever the batch; between backends (and so with "auto", which may choose another
    one on another machine) showers are equal within a tolerance only.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "auto",
        batch: int = 1000,
        backend: str = "eager",
        expected: int = 1000,
    ) -> None:
        self.checkpoint = checkpoint
        self.device = find_device(device)
        self.batch = check_batch(batch)
        self.label = " in ".join(reversed(checkpoint.model_names))
        self.sha256 = ""
        if self.device.type == "cpu":
            keep_memory()
        checkpoint.model.to(self.device).eval()
        checkpoint.shower_transform.to(self.device)
        self._to_condition = checkpoint.condition_transform
        # What a model gives as hits need not become dense, if what maps them to MeV asks for no more than their energy.
        self._sparse = self.device.type == "cpu" and checkpoint.model.sparse and checkpoint.shower_transform.by_value
        chain = Chain(checkpoint).eval()
        self.backend: Backend = Eager(chain)
        chosen = choose(backend, chain, self._trial, expected)
        self.backend, self._backend_told = chosen.backend, chosen.told

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        batch: int = 1000,
        backend: str = "eager",
        expected: int = 1000,
    ) -> Self:
        """Load a checkpoint to draw from.

        Args:
            path: of the checkpoint, or ``zoo:NAME``.
            device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps".
            batch: showers held in memory at once.
            backend: "eager", "numba", "compile", "onnxruntime", or "auto" for the fastest of them.
            expected: how many showers will be drawn, for "auto": a backend that starts slowly must pay.

        Raises:
            CaloforgeError: if the checkpoint is not valid, there is no such device or backend, or the backend does not
                give the showers that eager gives.
        """
        sampler = cls(Checkpoint.load(path), device=device, batch=batch, backend=backend, expected=expected)
        sampler.sha256 = checkpoint_digest(path)
        return sampler

    def __call__(
        self, incident: Incident, *, seed: int = 0, start: int = 0, numbers: npt.NDArray[np.int64] | None = None
    ) -> Showers:
        """Draw one shower for each incident particle.

        Args:
            incident: N particles.
            seed: of the noise.
            start: number of the first particle within a larger request, when that is shared out.
            numbers: of all particles (N,) instead, where they do not follow each other; those with the same
                ``number // CHUNK`` run together.

        Returns:
            N showers; voxels under the detector's read-out threshold are empty.

        Raises:
            CaloforgeError: if a particle or the seed cannot be used, or the model gives no finite energies.

        Warns:
            CaloforgeWarning: if particles lie outside what the model was trained on.
        """
        self.check(incident, seed, start)
        if numbers is None:
            showers = _joined(list(self._blocks(incident, seed, start)) or [self._none()])
        else:
            showers = self._numbered(incident, seed, numbers)
        showers.provenance = self._provenance(seed)
        return showers

    def blocks(self, incident: Incident, *, seed: int = 0, start: int = 0) -> Iterator[Showers]:
        """The showers of `__call__`, piece by piece: memory does not grow with their number."""
        self.check(incident, seed, start)
        yield from self._blocks(incident, seed, start)

    def check(self, incident: Incident, seed: int = 0, start: int = 0) -> None:
        """Raise if the request cannot be met, warn if it asks for more than the model was trained on."""
        check_noise(seed, start)
        if not (np.isfinite(incident.energy).all() and (incident.energy > 0).all()):
            raise CaloforgeError("incident energies must be positive and finite; correct the request (MeV).")
        if not (np.isfinite(incident.direction).all() and np.isfinite(incident.position).all()):
            raise CaloforgeError("incident directions and positions must be finite; correct the request.")
        strange = outside(self.checkpoint.domain, incident)
        if strange:
            warnings.warn(
                f"'{self.label}' is asked to extrapolate: {'; '.join(strange)}. Do not trust these showers.",
                CaloforgeWarning,
                stacklevel=3,
            )

    def _blocks(self, incident: Incident, seed: int, start: int) -> Iterator[Showers]:
        for part in blocks(start, len(incident), self.batch, self.alignment):
            yield self.block(incident[part], seed, start + part.start)

    def block(self, incident: Incident, seed: int = 0, start: int = 0) -> Showers:
        """The showers of `__call__`, unchecked request, all in memory, without provenance."""
        if self._draws_hits:
            model = self.checkpoint.model
            own = draw_own_noise(model, start, start + len(incident), seed)
            noise = self._voxel_noise(seed).beginning(start)
            return self._packed(incident, own, noise, runs(start, len(incident), self.rows))
        voxels = self.voxels(incident, seed=seed, start=start)
        return Showers.from_dense(voxels, incident, self.checkpoint.detector)

    def _numbered(self, incident: Incident, seed: int, numbers: npt.NDArray[np.int64]) -> Showers:
        if len(numbers) != len(incident) or (numbers < 0).any():
            raise CaloforgeError(
                f"{len(numbers)} numbers for {len(incident)} particles; give each one that is not negative."
            )
        model = self.checkpoint.model
        order = np.argsort(numbers, kind="stable")
        parts = [self._none()]
        # Those in between are drawn with them and thrown away only where they share a stream.
        for rows in np.split(order, np.flatnonzero(np.diff(numbers[order] // CHUNK)) + 1):
            if not len(rows):
                continue
            some, here = numbers[rows], runs(0, len(rows), min(self.rows, CHUNK))
            if self._draws_hits:
                noise = self._voxel_noise(seed).of(some)
                parts.append(self._packed(incident[rows], pick_own_noise(model, some, seed), noise, here))
            else:
                voxels = self._run(incident[rows], pick_noise(model, some, seed), here)
                parts.append(Showers.from_dense(voxels, incident[rows], self.checkpoint.detector))
        return Showers.concatenate(parts)[np.argsort(order)]

    def _voxel_noise(self, seed: int) -> VoxelNoise:
        return VoxelNoise(seed, self.checkpoint.model.voxel_noise, as_streams=self.backend.streams)

    @property
    def rows(self) -> int:
        """Showers that run together."""
        return ROWS_OF_HITS if self._draws_hits else rows_per_run(self.device, self.checkpoint.detector.n_voxels)

    @property
    def alignment(self) -> int:
        """Cut requests at multiples of this to get identical bytes."""
        return max(CHUNK, self.rows)

    @property
    def _draws_hits(self) -> bool:
        return self._sparse and self.backend.hits is not None

    @torch.inference_mode()
    def _packed(self, incident: Incident, own: torch.Tensor, noise: NoiseOfShowers, parts: Iterator[slice]) -> Showers:
        """Showers of a model that draws hits: never as rows of all voxels."""
        draw, threshold = self.backend.hits, self.checkpoint.detector.readout.threshold
        assert draw is not None
        energy, condition = self._conditions(incident)
        made = []
        for part in parts:
            hits = draw(own[part], condition[part], _after(noise, part.start))
            per_hit = torch.repeat_interleave(energy[part], torch.from_numpy(hits.counts))
            given = torch.from_numpy(hits.energy).unsqueeze(1)
            x = self.checkpoint.shower_transform.inverse(given, per_hit).squeeze(1).numpy()
            self._check_finite(x)
            rows = SparseRows(offsets(hits.counts), hits.voxel.astype(np.uint32), x)
            made.append(rows.where((x >= threshold) & (x > 0)))
        rows = made[0] if len(made) == 1 else SparseRows.concatenate(made)
        return Showers(incident, self.checkpoint.detector, rows.offset, rows.index, rows.energy)

    def _conditions(self, incident: Incident) -> tuple[torch.Tensor, torch.Tensor]:
        """Incident energies (N,) and what the model is told (N, C)."""
        energy = torch.from_numpy(incident.energy.astype(np.float32))
        columns = [incident.column(name).astype(np.float32) for name in self.checkpoint.conditions]
        raw = np.stack(columns, axis=1) if columns else np.zeros((len(incident), 0), np.float32)
        return energy.to(self.device), self._to_condition(torch.from_numpy(raw), energy).to(self.device)

    def _check_finite(self, energies: npt.NDArray[np.float32]) -> None:
        if not np.isfinite(energies).all():
            raise CaloforgeError(
                f"'{self.label}' gave energies that are not finite for this request; stay within what it was trained "
                "on, or train it again."
            )

    def _none(self) -> Showers:
        empty = np.zeros(0, np.uint32), np.zeros(0, np.float32)
        return Showers(Incident.of([]), self.checkpoint.detector, np.zeros(1, np.int64), *empty)

    def voxels(self, incident: Incident, *, seed: int = 0, start: int = 0) -> npt.NDArray[np.float32]:
        """Dense voxel energies (N, n_voxels) in MeV of `__call__`, unchecked request, all in memory."""
        latent = draw_noise(self.checkpoint.model, start, start + len(incident), seed)
        rows = rows_per_run(self.device, self.checkpoint.detector.n_voxels)
        return self._run(incident, latent, runs(start, len(incident), rows))

    @torch.inference_mode()
    def _run(self, incident: Incident, latent: torch.Tensor, parts: Iterator[slice]) -> npt.NDArray[np.float32]:
        detector = self.checkpoint.detector
        energy, condition = self._conditions(incident)
        latent = latent.to(self.device)
        out = np.empty((len(incident), detector.n_voxels), dtype=np.float32)
        for part in parts:
            out[part] = self.backend(latent[part], condition[part], energy[part]).cpu().numpy()
        self._check_finite(out)
        return out

    def _trial(self, backend: Backend) -> Trial:
        """Draw some showers with a backend: once to warm up, then for the clock."""
        beam = Beam.of(self.checkpoint.detector, domain=self.checkpoint.domain)
        # Of small showers so many that what is allowed, one voxel in 10^5, is some voxels.
        enough = min(1024, _TRIED // self.checkpoint.detector.n_voxels)
        incident = beam.draw(max(min(self.rows, CHUNK), enough), 0)
        own, self.backend = self.backend, backend
        try:
            voxels, seconds = self.block(incident).dense(), []
            for _ in range(3):
                began = time.perf_counter()
                self.block(incident)
                seconds.append(time.perf_counter() - began)
        finally:
            self.backend = own
        return Trial(voxels.reshape(len(incident), -1), min(seconds) / len(incident))

    def _provenance(self, seed: int) -> dict[str, Any]:
        made = drawn_provenance(self.checkpoint, self.label, self.sha256, seed, self.device)
        return made | {"backend": self._backend_told}

    def __repr__(self) -> str:
        return f"Sampler('{self.label}', '{self.checkpoint.detector.name}', device='{self.device}')"


def _joined(parts: list[Showers]) -> Showers:
    return parts[0] if len(parts) == 1 else Showers.concatenate(parts)


def _after(noise: NoiseOfShowers, first: int) -> NoiseOfShowers:
    """Noise of showers by their place after the ``first``."""
    return lambda some: noise(slice(first + some.start, first + some.stop))


def generate(
    checkpoint: str | Path,
    output: str | Path,
    incident: Incident,
    *,
    seed: int = 0,
    batch: int = 1000,
    device: str = "auto",
    backend: str = "eager",
    dask: Address | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Path:
    """Draw one shower for each incident particle and write them to a shower file, each block while the next is drawn.

    Args:
        checkpoint: path of a checkpoint, or ``zoo:NAME``.
        output: path of the shower file to write.
        incident: N particles.
        seed: of the noise; equal seeds give equal showers.
        batch: showers held in memory at once; it does not change the showers.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        backend: "eager", "numba", "compile", "onnxruntime", or "auto" for the fastest of them.
        dask: the scheduler of a cluster that draws instead, on devices of the same kind; see `caloforge.cluster`.
        overwrite: replace an existing file.
        progress: called after each block.

    Returns:
        The path of the file. Its provenance holds ``seconds_per_shower``: core-seconds from MeV in to MeV voxels out
        (on a GPU: wall time), after one shower to warm up; ``wall_seconds_per_shower``; and
        ``writing_seconds_per_shower``, wall time of a second thread meanwhile.

    Raises:
        CaloforgeError: if the checkpoint, the device, the request or the output cannot be used.
    """
    path = Path(output)
    check_output(path, overwrite=overwrite)
    sampler = Sampler.from_checkpoint(checkpoint, device=device, batch=batch, backend=backend, expected=len(incident))
    sampler.check(incident, seed)
    sampler.block(incident[:1], seed=seed)  # the first run allocates and loads: no part of the cost of a shower
    clock = Clock()
    done = 0
    with (
        crew_of(dask) as crew,
        ShowerWriter(path, sampler.checkpoint.detector, overwrite=overwrite, quick=True) as writer,
    ):
        progress(0, len(incident), "")
        drawn = sampler._blocks(incident, seed, 0)
        if dask is not None:
            from .distributed import drawn_blocks  # here, because it is built on this module

            options = {"device": sampler.device.type, "batch": batch, "backend": sampler.backend.name}
            drawn = drawn_blocks(crew, checkpoint, sampler, incident, seed, options, clock)
        with Beside(writer.append) as append:
            clock.lap()
            for showers in drawn:
                clock.lap("drawing")
                append(showers)
                done += len(showers)
                progress(done, len(incident), "")
                clock.lap("waiting")
        clock.lap("waiting")
        clock.book("writing", append.cpu, append.wall)
        writer.provenance |= sampler._provenance(seed) | clock.per_shower(len(incident), sampler.device)
    return path
