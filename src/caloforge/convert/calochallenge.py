"""The CaloChallenge's HDF5 layout (arXiv 2410.21611): read and written."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from .. import hdf5
from ..detectors import Detector
from ..errors import CaloforgeError, CaloforgeWarning
from ..incident import Incident
from ..output import UnfinishedFile
from ..progress import Progress
from ..row_file import provenance_from_json, provenance_to_json
from ..showers import Showers
from .sample import CHUNK_BYTES, Sample, Wanted, default_incidence, default_pdg, dense_sample, energies, write_all
from .sources import Source

DETECTOR_OF_VOXELS = {
    368: ("calochallenge-photons", 22),
    533: ("calochallenge-pions", 211),
    6480: ("par04-siw", 11),
    40500: ("par04-siw-fine", 11),
}
"""The challenge's data sets by number of voxels: detector and PDG code of the particle."""


def read_calochallenge(source: Source, wanted: Wanted) -> Sample | None:
    """CaloChallenge: ``incident_energies`` (N, 1) and ``showers`` (N, voxels), both in MeV.

    Voxels are numbered layer first, then angle, then radius, as caloforge numbers them. Particles fall on the voxels'
    axis. Negative energies become zero, as they did when the challenge's files were made, and are counted in the
    provenance. A file that caloforge wrote in this layout says its detector and particle itself.
    """
    showers, energy = source.dataset("showers"), source.dataset("incident_energies")
    if showers is None or energy is None or showers.ndim != 2:
        return None
    detector, pdg = _detector(source, wanted, int(showers.shape[1]))
    code = default_pdg(detector, wanted, pdg)
    direction, position = default_incidence(detector)

    def incident(part: slice) -> Incident:
        return Incident.of(energies(source, energy, part, 1.0), code, direction, position)

    sample = dense_sample(source, detector, [showers], incident)
    text = source.attribute("caloforge_provenance")
    if text is None:
        return sample
    return Sample(detector, sample.n, sample.chunks, sample.notes, provenance_from_json(text, source.path))


def _detector(source: Source, wanted: Wanted, n_voxels: int) -> tuple[Detector, int | None]:
    """The detector of a file, and the PDG code of its particle if the file or the layout tells it."""
    text, known = source.attribute("caloforge_detector"), DETECTOR_OF_VOXELS.get(n_voxels)
    written = source.attribute("caloforge_pdg")
    pdg = int(written) if written is not None and written.removeprefix("-").isdecimal() and len(written) < 11 else None
    if wanted.detector is not None:
        return wanted.detector, pdg
    if text is not None:
        return Detector.from_toml(text, f"the detector in '{source.path}'"), pdg
    if known is None:
        raise CaloforgeError(
            f"'{source.path}' holds CaloChallenge showers of {n_voxels} voxels, not "
            f"{', '.join(map(str, DETECTOR_OF_VOXELS))}; give --detector with a detector of as many voxels or the "
            "challenge's binning XML."
        )
    return Detector.load(known[0]), known[1] if pdg is None else pdg


class CaloChallengeWriter:
    """Writes showers in the challenge's layout, piece by piece, as float64 like the challenge's own files.

    What the layout cannot hold is lost: particle, direction and position of each incident particle. Losing values that
    vary from shower to shower raises a `CaloforgeWarning`.
    """

    def __init__(self, file: h5py.File, detector: Detector, n: int) -> None:
        self._file = file
        self._detector = detector
        self._done = 0
        self._first: Incident | None = None
        self.lost: set[str] = set()
        rows = max(1, min(n or 1, (1 << 20) // (8 * detector.n_voxels)))
        packing: dict[str, Any] = {"compression": "gzip", "compression_opts": 4, "shuffle": True, "fletcher32": True}
        # Growable only because HDF5 wants that of a data set in chunks that is empty.
        for name, width, length in (("incident_energies", 1, min(n, 4096) or 1), ("showers", detector.n_voxels, rows)):
            file.create_dataset(name, (n, width), "f8", maxshape=(None, width), chunks=(length, width), **packing)
        hdf5.set_text_attribute(file, "caloforge_detector", detector.to_toml())

    def append(self, showers: Showers) -> None:
        """Add showers at the end, some at a time so that the dense energies stay small."""
        if len(showers) and self._first is None:
            self._first = showers.incident[:1]
            hdf5.set_text_attribute(self._file, "caloforge_pdg", str(int(self._first.pdg[0])))
        self._note_lost(showers.incident)
        step = max(1, CHUNK_BYTES // (8 * self._detector.n_voxels))
        for start in range(0, len(showers), step):
            part = showers[start : start + step]
            end = self._done + len(part)
            self._file["incident_energies"][self._done : end, 0] = part.incident.energy
            self._file["showers"][self._done : end] = part.dense(np.float64).reshape(len(part), -1)
            self._done = end

    def _note_lost(self, incident: Incident) -> None:
        if self._first is None:
            return
        for name in ("pdg", "direction", "position"):
            values: npt.NDArray[Any] = getattr(incident, name)
            if not np.allclose(values, getattr(self._first, name), rtol=0, atol=1e-9):
                self.lost.add("particle" if name == "pdg" else name)


def write_calochallenge(
    sample: Sample, target: Path, provenance: dict[str, Any], *, overwrite: bool, progress: Progress
) -> None:
    """Write a sample in the challenge's layout; the file appears under its name only when it is whole.

    Raises:
        CaloforgeError: if the file exists and ``overwrite`` is not set, or cannot be written.
    """
    with (
        UnfinishedFile(target, overwrite=overwrite) as temporary,
        h5py.File(temporary, "w", libver=hdf5.LAYOUT) as file,
    ):
        writer = CaloChallengeWriter(file, sample.detector, sample.n)
        write_all(sample, writer.append, progress)
        provenance |= sample.notes
        if writer.lost:
            provenance["lost"] = sorted(writer.lost)
        hdf5.set_text_attribute(file, "caloforge_provenance", provenance_to_json(provenance))
    if writer.lost:
        warnings.warn(
            f"the {' and '.join(sorted(writer.lost))} of the incident particles vary, which the CaloChallenge layout "
            f"cannot hold: '{target}' has lost them.",
            CaloforgeWarning,
            stacklevel=3,
        )
