"""Samples that other groups published: one small function for each layout, chosen by what the file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..detectors import Detector
from ..errors import CaloforgeError
from ..incident import Incident
from ..shower_file import FORMAT, ShowerFile
from ..showers import Showers
from .calochallenge import read_calochallenge
from .sample import Reader, Sample, Wanted, default_incidence, default_pdg, dense_sample, energies
from .sources import Rows, Source
from .table import read_table

GEV = 1000.0  # MeV


def read_caloforge(source: Source, wanted: Wanted) -> Sample | None:
    """A shower file of caloforge (docs/shower-file.md): MeV, mm."""
    if source.attribute("format") != FORMAT:
        return None
    file = source.stack.enter_context(ShowerFile(source.path))
    detector = wanted.detector or file.detector
    if not detector.same_voxels(file.detector):
        raise CaloforgeError(
            f"'{source.path}' holds showers of '{file.detector.name}', whose voxels are not those of "
            f"'{detector.name}'; leave --detector out."
        )
    rows = max(1, min(4096, (1 << 24) // detector.n_voxels))

    def chunks() -> Any:
        for part in file.chunks(rows):
            yield Showers(part.incident, detector, part.offset, part.index, part.energy, part.provenance)

    return Sample(detector, len(file), chunks, {}, file.provenance)


def read_getting_high(source: Source, wanted: Wanted) -> Sample | None:
    """Getting High (arXiv 2005.05334): group ``30x30`` with ``layers`` (N, 30, 30, 30) and ``energy`` (N, 1).

    Units: visible energies in MeV, incident energies in GeV. Axes: read-out layer, then the two transverse ones,
    taken as y and x; the showers are photons' that fall perpendicularly on one point, which the file does not tell.
    """
    layers, energy = source.dataset("30x30/layers"), source.dataset("30x30/energy")
    if layers is None or energy is None or layers.ndim != 4:
        return None
    detector = wanted.detector or Detector.load("ild-ecal")
    return dense_sample(source, detector, [layers], _alike(source, detector, wanted, energy, 22))


def read_3dgan(source: Source, wanted: Wanted) -> Sample | None:
    """3DGAN and its successors: ``ECAL`` (N, x, y, z) with ``target`` or ``energy``; 25 x 25 x 25 is `clic-ecal`.

    Units: voxel and incident energies in GeV. Axes: x, y, then depth. ``target`` is (N,) or (N, 1) with the energy, or
    has the PDG code in its first and the energy in its second column. Files whose voxel energies were multiplied by a
    factor are not told apart: the response that `caloforge info` prints shows it.
    """
    ecal = source.dataset("ECAL")
    target = source.dataset("target") if source.dataset("target") is not None else source.dataset("energy")
    if ecal is None or target is None or ecal.ndim not in (4, 5):
        return None
    shape = tuple(ecal.shape[1:4])
    if wanted.detector is None and shape != (25, 25, 25):
        raise CaloforgeError(
            f"'{source.path}' holds 3DGAN showers of {shape} voxels, which fit no detector of the package; "
            "give --detector with their TOML file."
        )
    detector = wanted.detector or Detector.load("clic-ecal")
    if detector.shape != (shape[2], shape[1], shape[0]):
        raise CaloforgeError(
            f"'{source.path}' holds showers of {shape} voxels (x, y, depth), detector '{detector.name}' has "
            f"{detector.shape} (depth, y, x); give the right one with --detector."
        )
    column = 1 if target.ndim > 1 and target.shape[-1] > 1 else 0
    fallback = default_pdg(detector, wanted, None)

    def incident(part: slice) -> Incident:
        rows = np.asarray(target[part], dtype=np.float64).reshape(part.stop - part.start, -1)
        codes = rows[:, 0] if column and wanted.pdg is None and np.isin(rows[:, 0], _CODES).all() else fallback
        direction, position = default_incidence(detector)
        values = energies(source, rows[:, column], slice(0, len(rows)), GEV)
        return Incident.of(values, np.asarray(codes, dtype=np.int32), direction, position)

    def arrange(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        return parts[0].reshape(-1, *shape).transpose(0, 3, 2, 1) * np.float32(GEV)

    return dense_sample(source, detector, [ecal], incident, arrange)


_CODES = (11, -11, 22, 13, -13, 111, 211, -211, 321, -321, 130, 310, 2112, 2212)


def read_calogan(source: Source, wanted: Wanted) -> Sample | None:
    """CaloGAN (arXiv 1712.10321): ``layer_0`` (N, 3, 96), ``layer_1`` (N, 12, 12), ``layer_2`` (N, 12, 6), ``energy``.

    Units: voxel energies in MeV, incident energies in GeV. Axes: the coarse transverse one (y), then the fine one (x).
    The particle stands in the name of the published files only: positrons unless --particle says otherwise.
    """
    layers = [source.dataset(f"layer_{i}") for i in range(3)]
    energy = source.dataset("energy")
    found: list[Rows] = [layer for layer in layers if layer is not None and layer.ndim >= 3]
    if len(found) < 3 or energy is None:
        return None
    detector = wanted.detector or Detector.load("atlas-lar")
    shapes = [grid.shape for grid in detector.grids]
    if [tuple(layer.shape[1:3]) for layer in found] != shapes:
        raise CaloforgeError(
            f"'{source.path}' holds layers of {[tuple(layer.shape[1:]) for layer in found]} voxels, detector "
            f"'{detector.name}' has {shapes}; give the right one with --detector."
        )

    def arrange(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)

    return dense_sample(source, detector, found, _alike(source, detector, wanted, energy), arrange)


def read_lhcb(source: Source, wanted: Wanted) -> Sample | None:
    """LHCb (arXiv 1812.01319), npz: ``EnergyDeposit`` (30, 30, 1, N) or (N, 30, 30, ...), ``ParticleMomentum`` (N, 3).

    Beside them ``ParticlePoint`` (N, 2 or 3) and, optionally, ``ParticlePDG`` (N,). Units: voxel energies in MeV,
    momenta in GeV, points in mm (a third coordinate is left out). Axes: y, then x.
    Momenta that do not point into the detector are refused.
    """
    names = ("EnergyDeposit", "ParticleMomentum", "ParticlePoint")
    if not set(names) <= source.members:
        return None
    deposit, momentum, point = (source.array(name) for name in names)
    assert deposit is not None and momentum is not None and point is not None
    detector = wanted.detector or Detector.load("lhcb-ecal")
    if momentum.ndim != 2 or momentum.shape[1] != 3 or point.ndim != 2 or point.shape[1] < 2 or deposit.ndim < 3:
        raise CaloforgeError(
            f"'{source.path}' holds momenta of shape {momentum.shape} and points of shape {point.shape}, not (N, 3) "
            "and (N, 2); give the published arrays."
        )
    n = len(momentum)
    axis = 0 if deposit.shape[0] == n and (deposit.ndim == 3 or deposit.shape[-1] != n) else deposit.ndim - 1
    if deposit.shape[axis] != n or len(point) != n:
        raise CaloforgeError(
            f"'{source.path}' holds deposits of shape {deposit.shape} for {n} momenta and {len(point)} points; "
            "give as many of each."
        )
    codes = source.array("ParticlePDG")
    codes = codes.reshape(-1) if codes is not None and codes.size == n and wanted.pdg is None else None
    pdg = default_pdg(detector, wanted)

    def incident(part: slice) -> Incident:
        p = np.asarray(momentum[part], dtype=np.float64) * GEV
        if not (p[:, 2] > 0).all():
            raise CaloforgeError(
                f"'{source.path}' holds momenta that do not point into the detector among its showers {part.start} to "
                f"{part.stop}; take those showers out before converting."
            )
        particles = Incident.of(
            np.ones(len(p)), pdg if codes is None else codes[part].astype(np.int32), p, point[part, :2]
        )
        return particles.with_momentum(np.linalg.norm(p, axis=1))

    def arrange(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        return np.moveaxis(parts[0], axis, 0)

    return dense_sample(source, detector, [deposit], incident, arrange, axis)


def _alike(source: Source, detector: Detector, wanted: Wanted, energy: Rows, pdg: int | None = None) -> Any:
    """Incident particles of one kind, place and direction; ``energy`` (N, 1) in GeV."""
    code = default_pdg(detector, wanted, pdg)
    direction, position = default_incidence(detector)

    def incident(part: slice) -> Incident:
        return Incident.of(energies(source, energy, part, GEV), code, direction, position)

    return incident


READERS: dict[str, Reader] = {
    "caloforge": read_caloforge,
    "calochallenge": read_calochallenge,
    "getting-high": read_getting_high,
    "3dgan": read_3dgan,
    "calogan": read_calogan,
    "lhcb": read_lhcb,
    "csv": read_table,
}
"""Layouts that can be read, in the order in which they are tried."""


def read_sample(source: Source, wanted: Wanted) -> tuple[str, Sample]:
    """Name of the reader that recognises a file, and the sample.

    Raises:
        CaloforgeError: if none does.
    """
    for name, reader in READERS.items():
        sample = reader(source, wanted)
        if sample is not None:
            return name, sample
    raise CaloforgeError(
        f"'{source.path}' holds {source.contents()}, a layout that is not known; known are {', '.join(READERS)} "
        "(see docs/shower-file.md)."
    )


def detector_of(detector: str | Path | None, particle: str | None) -> Detector | None:
    """The detector a user names: one of the package, a TOML file, or a CaloChallenge binning file (.xml)."""
    if detector is None:
        return None
    if Path(detector).suffix.lower() == ".xml":
        from ..detectors.binning_xml import detector_from_binning_xml

        return detector_from_binning_xml(detector, particle)
    return Detector.load(detector)
