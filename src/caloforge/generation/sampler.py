"""The Sampler: incident particles in, showers in MeV out, the same for the same seed whoever draws them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from ..checkpoint import Checkpoint, outside
from ..errors import CaloforgeError, CaloforgeWarning
from ..incident import Incident
from ..output import check_output
from ..progress import Progress, silent
from ..shower_file import ShowerWriter
from ..showers import Showers
from ..sparse import SparseRows, offsets
from .beside import Beside
from .drawing import (
    CHUNK,
    ROWS_OF_HITS,
    Clock,
    blocks,
    check_batch,
    check_noise,
    checkpoint_digest,
    draw_noise,
    draw_own_noise,
    drawn_provenance,
    find_device,
    rows_per_run,
    runs,
)
from .noise import VoxelNoise


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
        alignment: cut requests at multiples of this to get identical bytes.
    """

    def __init__(self, checkpoint: Checkpoint, *, device: str = "auto", batch: int = 1000) -> None:
        self.checkpoint = checkpoint
        self.device = find_device(device)
        self.batch = check_batch(batch)
        self.label = " in ".join(reversed(checkpoint.model_names))
        self.sha256 = ""
        self.rows = rows_per_run(self.device, checkpoint.detector.n_voxels)
        self.alignment = max(CHUNK, self.rows)
        self._model = checkpoint.model.to(self.device).eval()
        self._to_showers = checkpoint.shower_transform.to(self.device)
        self._to_condition = checkpoint.condition_transform
        # What a model gives as hits need not become dense, if what maps them to MeV asks for no more than their energy.
        self._sparse = self.device.type == "cpu" and self._model.sparse and self._to_showers.by_value
        if self._sparse:
            self.rows = self.alignment = ROWS_OF_HITS

    @classmethod
    def from_checkpoint(cls, path: str | Path, *, device: str = "auto", batch: int = 1000) -> Self:
        """Load a checkpoint to draw from.

        Args:
            path: of the checkpoint, or ``zoo:NAME``.
            device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps".
            batch: showers held in memory at once.

        Raises:
            CaloforgeError: if the checkpoint is not valid or there is no such device.
        """
        sampler = cls(Checkpoint.load(path), device=device, batch=batch)
        sampler.sha256 = checkpoint_digest(path)
        return sampler

    def __call__(self, incident: Incident, *, seed: int = 0, start: int = 0) -> Showers:
        """Draw one shower for each incident particle.

        Args:
            incident: N particles.
            seed: of the noise.
            start: number of the first particle within a larger request, when that is shared out.

        Returns:
            N showers; voxels under the detector's read-out threshold are empty.

        Raises:
            CaloforgeError: if a particle or the seed cannot be used, or the model gives no finite energies.

        Warns:
            CaloforgeWarning: if particles lie outside what the model was trained on.
        """
        self.check(incident, seed, start)
        showers = Showers.concatenate(list(self._blocks(incident, seed, start)) or [self._none()])
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
            yield self._block(incident[part], seed, start + part.start)

    def _block(self, incident: Incident, seed: int, start: int) -> Showers:
        if self._sparse:
            return self._packed(incident, seed, start)
        voxels = self.voxels(incident, seed=seed, start=start)
        return Showers.from_dense(voxels, incident, self.checkpoint.detector)

    @torch.inference_mode()
    def _packed(self, incident: Incident, seed: int, start: int) -> Showers:
        """Showers of a model that draws hits: never as rows of all voxels."""
        model, detector = self._model, self.checkpoint.detector
        energy, condition = self._conditions(incident)
        own = draw_own_noise(model, start, start + len(incident), seed)
        noise = VoxelNoise(seed, model.voxel_noise)
        parts = []
        for part in runs(start, len(incident), self.rows):
            hits = model.hits(own[part], condition[part], noise.beginning(start + part.start))
            per_hit = torch.repeat_interleave(energy[part], torch.from_numpy(hits.counts))
            x = self._to_showers.inverse(torch.from_numpy(hits.energy).unsqueeze(1), per_hit).squeeze(1).numpy()
            self._check_finite(x)
            rows = SparseRows(offsets(hits.counts), hits.voxel.astype(np.uint32), x)
            parts.append(rows.where((x >= detector.readout.threshold) & (x > 0)))
        rows = SparseRows.concatenate(parts)
        return Showers(incident, detector, rows.offset, rows.index, rows.energy)

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

    @torch.inference_mode()
    def voxels(self, incident: Incident, *, seed: int = 0, start: int = 0) -> npt.NDArray[np.float32]:
        """Dense voxel energies (N, n_voxels) in MeV of `__call__`, unchecked request, all in memory."""
        detector = self.checkpoint.detector
        energy, condition = self._conditions(incident)
        latent = draw_noise(self.checkpoint.model, start, start + len(incident), seed).to(self.device)
        out = np.empty((len(incident), detector.n_voxels), dtype=np.float32)
        rows = min(self.rows, rows_per_run(self.device, detector.n_voxels))
        for part in runs(start, len(incident), rows):
            y = self._model(latent[part], condition[part])  # (rows, L, Y, X)
            x = self._to_showers.inverse(y, energy[part]).flatten(1)
            out[part] = torch.where(x < detector.readout.threshold, 0.0, x).clamp_(min=0).cpu().numpy()
        self._check_finite(out)
        return out

    def _provenance(self, seed: int) -> dict[str, Any]:
        return drawn_provenance(self.checkpoint, self.label, self.sha256, seed, self.device)

    def __repr__(self) -> str:
        return f"Sampler('{self.label}', '{self.checkpoint.detector.name}', device='{self.device}')"


def generate(
    checkpoint: str | Path,
    output: str | Path,
    incident: Incident,
    *,
    seed: int = 0,
    batch: int = 1000,
    device: str = "auto",
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
    sampler = Sampler.from_checkpoint(checkpoint, device=device, batch=batch)
    sampler.check(incident, seed)
    sampler.voxels(incident[:1], seed=seed)  # the first run allocates and loads: no part of the cost of a shower
    clock = Clock()
    done = 0
    with ShowerWriter(path, sampler.checkpoint.detector, overwrite=overwrite) as writer:
        progress(0, len(incident), "")
        with Beside(writer.append) as append:
            clock.lap()
            for showers in sampler._blocks(incident, seed, 0):
                clock.lap("drawing")
                append(showers)
                done += len(showers)
                progress(done, len(incident), "")
                clock.lap("waiting")
        clock.lap("waiting")
        clock.book("writing", append.cpu, append.wall)
        writer.provenance |= sampler._provenance(seed) | clock.per_shower(len(incident), sampler.device)
    return path
