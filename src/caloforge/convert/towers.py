"""Lists of towers of other programs into image files: Delphes' ROOT output, and lists in ROOT, HDF5 or npz.

A list of towers is three arrays named ``eta``, ``phi`` and ``energy``, and either ``offset`` (where each event's towers
begin, and the end) or ``event`` (the number of each tower's event); in ROOT, a tree with such branches, one entry an
event.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CaloforgeError
from ..extras import awkward, uproot
from ..hdf5 import clean
from ..incident import MAX_ENERGY, Floats
from ..jets.grid import CMS, EtaPhiGrid
from ..jets.image_file import ImageWriter
from ..jets.images import Images, Side
from ..progress import Progress
from ..sparse import Ints, SparseRows
from .sources import Source

UNITS = {"MeV": 1.0, "GeV": 1000.0}
_BATCH = 1000
_STEPS = 4  # points across a tower in each direction over which its energy is spread
_DELPHES = {"eta": "Tower.Eta", "phi": "Tower.Phi", "energy": "Tower.E", "et": "Tower.ET", "edges": "Tower.Edges"}


@dataclass(frozen=True)
class Towers:
    """Towers of events as other programs list them.

    Attributes:
        event: numbers of the events (N,).
        row: which of the events each tower belongs to (T,).
        eta: middles (T,).
        phi: middles (T,).
        energy: in the list's own unit (T,).
        edges: lowest and highest eta and phi (T, 4), if known.
    """

    event: Ints
    row: Ints
    eta: Floats
    phi: Floats
    energy: Floats
    edges: Floats | None = None


def is_root(path: Path) -> bool:
    """Whether a file begins like a ROOT file."""
    with path.open("rb") as file:
        return file.read(4) == b"root"


def has_towers(source: Source) -> bool:
    """Whether an HDF5 file or an npz archive holds a list of towers."""
    listed = _array(source, "offset") is not None or _array(source, "event") is not None
    return listed and all(_array(source, name) is not None for name in ("eta", "phi", "energy"))


def convert_towers(
    source: Path | Source,
    target: Path,
    provenance: dict[str, Any],
    *,
    side: Side,
    process: str,
    unit: str | None,
    grid: EtaPhiGrid = CMS,
    overwrite: bool,
    progress: Progress,
) -> int:
    """Write lists of towers as images; towers outside the grid are lost.

    Returns:
        The number of images.

    Raises:
        CaloforgeError: if there is no list of towers in the file, or it holds what cannot be.
    """
    path = source if isinstance(source, Path) else source.path
    parts = _root_towers(source) if isinstance(source, Path) else _listed_towers(source)
    done = 0
    with ImageWriter(target, grid, provenance, side=side, process=process, overwrite=overwrite) as writer:
        for towers, own_unit in parts:
            scale = UNITS[unit or own_unit]
            rows = _filled(towers, scale, grid, path)
            writer.append(Images(towers.event, rows, grid, side=side, process=process))
            done += len(towers.event)
            progress(done, done, "")
        if not done:
            raise CaloforgeError(f"'{path}' holds no events; give a file with at least one.")
    return done


def _filled(towers: Towers, scale: float, grid: EtaPhiGrid, path: Path) -> SparseRows:
    energy = towers.energy * scale
    known = np.isfinite(towers.eta) & np.isfinite(towers.phi) & (energy >= 0) & (energy <= MAX_ENERGY)
    if not known.all():
        raise CaloforgeError(f"'{path}' has towers with NaN, negative or huge values; clean it before converting.")
    row, eta, phi = towers.row, towers.eta, towers.phi
    if towers.edges is not None:
        step = (np.arange(_STEPS) + 0.5) / _STEPS
        low_eta, high_eta, low_phi, high_phi = towers.edges.T[:, :, None]
        across = (low_eta + step * (high_eta - low_eta))[:, :, None]
        around = (low_phi + step * (high_phi - low_phi))[:, None, :]
        shape = (len(row), _STEPS, _STEPS)
        eta, phi = (np.broadcast_to(v, shape).reshape(-1) for v in (across, around))
        row, energy = np.repeat(row, _STEPS**2), np.repeat(energy / _STEPS**2, _STEPS**2)
    place = grid.tower(eta, phi)
    inside = place >= 0
    key, where = np.unique(row[inside] * grid.n_towers + place[inside], return_inverse=True)
    total = np.bincount(where, weights=energy[inside], minlength=len(key)).astype(np.float32)
    counts = np.bincount(key // grid.n_towers, minlength=len(towers.event))
    offset = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return SparseRows(offset, (key % grid.n_towers).astype(np.uint32), total).without_zeros()


def _array(source: Source, name: str) -> Any:
    for spelling in (name, name.capitalize(), f"{name}s"):
        found = source.dataset(spelling)
        found = source.array(spelling) if found is None else found
        if found is not None:
            return found
    return None


def _listed_towers(source: Source) -> Iterator[tuple[Towers, str]]:
    """Towers of an HDF5 file or npz archive."""
    arrays = {name: _array(source, name) for name in ("eta", "phi", "energy")}
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) > 1 or len(next(iter(shapes))) != 1:
        raise CaloforgeError(
            f"'{source.path}' has arrays eta, phi and energy of shapes {sorted(shapes)}; give one a tower in each."
        )
    n_towers = next(iter(shapes))[0]
    event, offset = _event_offsets(source, n_towers)
    for start in range(0, len(event), _BATCH):
        stop = min(start + _BATCH, len(event))
        first, last = int(offset[start]), int(offset[stop])
        eta, phi, energy = (array[first:last].astype(np.float64) for array in arrays.values())
        row = np.repeat(np.arange(stop - start), np.diff(offset[start : stop + 1]))
        yield Towers(event[start:stop], row, eta, phi, energy), "MeV"


def _event_offsets(source: Source, n_towers: int) -> tuple[Ints, Ints]:
    """Event numbers (N,) and where their towers begin (N + 1,)."""
    listed = _array(source, "offset")
    if listed is not None:
        offset = np.asarray(listed[:], dtype=np.int64)
        if (
            offset.ndim != 1
            or not len(offset)
            or offset[0] != 0
            or offset[-1] != n_towers
            or (np.diff(offset) < 0).any()
        ):
            raise CaloforgeError(
                f"the offsets in '{source.path}' do not rise from 0 to its {n_towers} towers; give where each event's "
                "towers begin, and the end."
            )
        return np.arange(len(offset) - 1), offset
    number = np.asarray(_array(source, "event")[:], dtype=np.int64)
    if number.shape != (n_towers,) or (np.diff(number) < 0).any():
        raise CaloforgeError(
            f"the event numbers in '{source.path}' are not one for each of its {n_towers} towers, rising; sort them."
        )
    event, first = np.unique(number, return_index=True)
    return event, np.concatenate([first, [n_towers]]).astype(np.int64)


def _root_towers(path: Path) -> Iterator[tuple[Towers, str]]:
    """Towers of a ROOT tree: Delphes' own, or one with branches eta, phi and energy."""
    root, ak = uproot(), awkward()
    try:
        with root.open(path) as file:
            tree, names, unit = _tree(file, path)
            first = 0
            for part in tree.iterate(list(names.values()), step_size=_BATCH, library="ak"):
                columns = {name: part[branch] for name, branch in names.items()}
                counts = ak.to_numpy(ak.num(columns["eta"], axis=1))
                flat = {name: _flat(ak, values) for name, values in columns.items()}
                if "energy" not in flat:
                    flat["energy"] = flat.pop("et") * np.cosh(flat["eta"])
                edges = flat["edges"].reshape(-1, 4) if "edges" in flat else None
                number = np.arange(first, first + len(counts))
                row = np.repeat(np.arange(len(counts)), counts)
                yield Towers(number, row, flat["eta"], flat["phi"], flat["energy"], edges), unit
                first += len(counts)
    except CaloforgeError:
        raise
    except Exception as error:  # uproot raises whatever a damaged file makes it meet
        raise CaloforgeError(f"'{path}' is no whole ROOT file ({clean(error, 120)}); make or fetch it anew.") from None


def _flat(ak: Any, values: Any) -> npt.NDArray[np.float64]:
    return np.asarray(ak.to_numpy(ak.flatten(values, axis=None)), dtype=np.float64)


def _tree(file: Any, path: Path) -> tuple[Any, dict[str, str], str]:
    """The tree with towers, the branches of each quantity, and its unit."""
    for tree in (file[key] for key in file.keys(cycle=False)):
        if not hasattr(tree, "iterate"):
            continue  # a histogram, a note
        branches = {branch.split("/")[-1].removesuffix("[4]"): branch for branch in tree.keys()}  # noqa: SIM118
        if _DELPHES["eta"] in branches:
            found = {name: branches[branch] for name, branch in _DELPHES.items() if branch in branches}
            if "energy" in found:
                found.pop("et", None)
            if {"phi"} <= set(found) and ("energy" in found or "et" in found):
                return tree, found, "GeV"
        lower = {name.lower(): branch for name, branch in branches.items()}
        if {"eta", "phi", "energy"} <= set(lower):
            return tree, {name: lower[name] for name in ("eta", "phi", "energy")}, "MeV"
    raise CaloforgeError(
        f"'{path}' has no tree of towers; give Delphes' output with its Tower branch, or a tree with branches eta, phi "
        "and energy."
    )
