"""From one file of showers to another, in pieces: files larger than memory pass."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import CaloforgeError, CaloforgeWarning, lookup
from ..hdf5 import check_readable
from ..incident import PDG_CODES, pdg_code
from ..jets.images import SIDES, Side
from ..output import check_output
from ..progress import Progress, silent
from ..shower_file import ShowerWriter
from .calochallenge import write_calochallenge
from .hepmc import convert_hepmc, is_hepmc
from .readers import detector_of, read_sample
from .sample import Sample, Wanted, write_all
from .sources import Source, open_source
from .towers import UNITS, convert_towers, has_towers, is_root

FORMATS = {
    "caloforge": "caloforge's shower file",
    "calochallenge": "the CaloChallenge's HDF5 layout",
}
"""Layouts that can be written."""


def convert(
    source: str | Path,
    target: str | Path,
    *,
    format: str | None = None,
    detector: str | Path | None = None,
    particle: str | None = None,
    origin: Mapping[str, Any] | None = None,
    side: str = "external",
    process: str = "",
    unit: str | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Convert a file of showers, of events (HepMC) or of towers (Delphes, lists in ROOT, HDF5 or npz).

    Args:
        source: a file in one of the layouts of `READERS`; its content decides which.
        target: file to write.
        format: a name of `FORMATS`; by default caloforge's, and the CaloChallenge's for a file that is caloforge's
            already.
        detector: whose showers these are, if the file does not tell: a name, a TOML file or a CaloChallenge binning
            file (.xml).
        particle: what hit it, if the file does not tell: a name such as ``"gamma"`` or a PDG code.
        origin: where the source was published, for the provenance (`dataset`).
        side: of towers, which simulation they are: fast, full, generated or external.
        process: of events and towers, what they show, e.g. "dijet".
        unit: of towers' energies, MeV or GeV; by default GeV for Delphes' and MeV for lists.
        overwrite: whether an existing ``target`` may be replaced.
        progress: called with the number of showers done.

    Returns:
        What was done: ``source``, ``target``, ``reader``, ``format``, ``detector``, ``showers`` (or ``events``, or
        ``images``), and the provenance written to ``target``.

    Raises:
        CaloforgeError: if the source is not valid or not known, or the target cannot be written.
    """
    target = Path(target)
    if format is not None:
        lookup(FORMATS, format, "a format")
    check_output(target, overwrite=overwrite)
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise CaloforgeError(f"'{target}' is both source and target; give the target another name.")
    check_readable(Path(source), "a file to convert")
    whose = lookup({name: name for name in SIDES}, side, "a side")
    if is_hepmc(Path(source)) or is_root(Path(source)):
        return _convert_events(Path(source), target, whose, process, unit, overwrite, progress)
    # A binning file names its particle sections as it likes; only particles known by name matter for the showers.
    binning = detector is not None and Path(detector).suffix.lower() == ".xml"
    pdg = None if particle is None or (binning and particle not in PDG_CODES) else pdg_code(particle)
    with open_source(source) as opened:
        if has_towers(opened):
            return _convert_towers(opened, target, whose, process, unit, overwrite, progress)
        reader, sample = read_sample(opened, Wanted(detector_of(detector, particle), pdg))
        format = format or ("calochallenge" if reader == "caloforge" else "caloforge")
        provenance = _provenance(Path(source), reader, sample)
        if origin is not None:
            provenance["dataset"] = dict(origin)
        _write(sample, target, format, provenance, overwrite, progress)
    if "incident_energy" in sample.notes:
        warnings.warn(
            f"'{source}' does not tell incident energies; they are stored as 0.", CaloforgeWarning, stacklevel=2
        )
    return {
        "source": str(source),
        "target": str(target),
        "reader": reader,
        "format": format,
        "detector": sample.detector.name,
        "showers": sample.n,
        "provenance": provenance,
    }


def _convert_events(
    source: Path, target: Path, side: Side, process: str, unit: str | None, overwrite: bool, progress: Progress
) -> dict[str, Any]:
    """Convert a HepMC or a ROOT file."""
    if is_root(source):
        return _convert_towers(source, target, side, process, unit, overwrite, progress)
    made = _origin(source, "hepmc")
    n = convert_hepmc(source, target, process, made, overwrite=overwrite, progress=progress)
    return {"source": str(source), "target": str(target), "reader": "hepmc", "events": n, "provenance": made}


def _convert_towers(
    source: Path | Source, target: Path, side: Side, process: str, unit: str | None, overwrite: bool, progress: Progress
) -> dict[str, Any]:
    """Convert a list of towers."""
    if unit is not None:
        lookup(UNITS, unit, "a unit")
    path = source if isinstance(source, Path) else source.path
    made = _origin(path, "towers")
    n = convert_towers(
        source, target, made, side=side, process=process, unit=unit, overwrite=overwrite, progress=progress
    )
    return {"source": str(path), "target": str(target), "reader": "towers", "images": n, "provenance": made}


def _write(
    sample: Sample, target: Path, format: str, provenance: dict[str, Any], overwrite: bool, progress: Progress
) -> None:
    progress(0, sample.n, "")
    if format == "calochallenge":
        write_calochallenge(sample, target, provenance, overwrite=overwrite, progress=progress)
        return
    with ShowerWriter(target, sample.detector, overwrite=overwrite) as writer:
        write_all(sample, writer.append, progress)
        provenance |= sample.notes
        writer.provenance = provenance


def _provenance(source: Path, reader: str, sample: Sample) -> dict[str, Any]:
    provenance = _origin(source, reader)
    if sample.provenance is not None:
        provenance["previous"] = sample.provenance
    return provenance


def _origin(source: Path, reader: str) -> dict[str, Any]:
    return {
        "producer": "convert",
        "label": reader,
        "source": {"file": source.name, "sha256": _sha256(source)},
        "versions": {"caloforge": __version__},
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
