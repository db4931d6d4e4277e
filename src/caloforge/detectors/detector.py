"""The Detector: geometry, segmentation and defaults, read from a TOML file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from ..errors import CaloforgeError, lookup
from .materials import MATERIALS, Material
from .schema import MAX_VOXELS, DetectorFile, Incidence, Particles, Readout, ReadoutLayer, Slab

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LayerGrid:
    """The segmentation of one read-out layer.

    Attributes:
        kind: "cartesian" (axes y, x in mm) or "polar" (axes alpha in rad, r in mm).
        edges0: bin edges of the slow axis (y or alpha).
        edges1: bin edges of the fast axis (x or r).
        z: front and back of the layer, mm from the detector's front face.
    """

    kind: str
    edges0: Floats
    edges1: Floats
    z: tuple[float, float]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of bins (slow axis, fast axis)."""
        return len(self.edges0) - 1, len(self.edges1) - 1

    def centres(self) -> Floats:
        """Voxel centres (n_voxels, 3) in mm, slow axis first."""
        c0 = (self.edges0[1:] + self.edges0[:-1]) / 2
        c1 = (self.edges1[1:] + self.edges1[:-1]) / 2
        a, b = np.meshgrid(c0, c1, indexing="ij")
        x, y = (b, a) if self.kind == "cartesian" else (b * np.cos(a), b * np.sin(a))
        z = np.full(a.shape, sum(self.z) / 2)
        return np.stack([x, y, z], axis=-1).reshape(-1, 3)


class Detector:
    """A calorimeter: stack of slabs, segmentation, particles it is meant for.

    Lengths in mm, energies in MeV (GeV where the name says so), z along the detector's depth from its front
    face at z = 0. Voxels are numbered layer first, then y (or alpha), then x (or r).

    Two detectors are equal if their files say the same, whatever the formatting.

    Attributes:
        grids: the segmentation of each read-out layer.
        layer_birks: Birks' constant of each read-out layer in mm/MeV, 0 where deposits are not quenched.
    """

    def __init__(self, description: DetectorFile, toml: str) -> None:
        self._file = description
        self._toml = toml
        self._check_materials()
        self.grids = tuple(_grids(description))
        self.layer_birks = _layer_birks(self.slabs, self.slab_layers, len(self.grids))

    # -- reading -------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, name_or_path: str | Path) -> Detector:
        """Load a detector of the package by name, or any detector file by path.

        Raises:
            CaloforgeError: if there is no such detector or its file is not valid.
        """
        from . import DETECTORS

        path = Path(name_or_path)
        if path.suffix != ".toml" and not _is_file(path):
            path = lookup(DETECTORS, str(name_or_path), "a detector")
        return cls.from_toml(read_text(path, "detector file"), str(path))

    @classmethod
    def from_toml(cls, text: str, origin: str = "the detector description") -> Detector:
        """Build a detector from the text of a detector file.

        Args:
            text: TOML.
            origin: where the text comes from, for error messages.

        Raises:
            CaloforgeError: if it is not TOML or breaks the schema.
        """
        if len(text) > MAX_TEXT_BYTES or _LONG_KEY.search(text):
            raise CaloforgeError(f"{origin} is too long or too deep to be a detector file; write it plainly.")
        try:
            return cls(DetectorFile.model_validate(tomllib.loads(text)), text)
        except tomllib.TOMLDecodeError as error:
            raise CaloforgeError(f"{origin} is not valid TOML: {error}.") from None
        except ValidationError as error:
            raise CaloforgeError(f"{origin} is not a valid detector: {_first_fault(error)}.") from None
        except RecursionError:
            raise CaloforgeError(f"{origin} is nested too deeply to be a detector file.") from None
        except ValueError as error:
            raise CaloforgeError(f"{origin} is not a valid detector: {error}.") from None

    def to_toml(self) -> str:
        """The text this detector was read from."""
        return self._toml

    def with_depth(self, depth: str | int) -> Detector:
        """The same detector with its sensitive slabs gathered otherwise ("each", "sum" or a number).

        Raises:
            CaloforgeError: if its layers have segmentations of their own, or their number does not allow it.
        """
        if self._file.readout.layers is not None:
            raise CaloforgeError(
                f"the layers of detector '{self.name}' have segmentations of their own; write another detector file."
            )
        data = self._file.model_dump()
        data["readout"]["depth"] = depth
        return Detector.from_mapping(data)

    def behind(self, slabs: Sequence[tuple[str, float]]) -> Detector:
        """The same detector behind more slabs, each a material and a thickness in mm, first the one met first.

        Positions of incident particles are those on the first of them; the read-out stays as it is.

        Raises:
            CaloforgeError: if a material is not known or a thickness cannot be.
        """
        data = self._file.model_dump()
        front = [{"material": material, "thickness": thickness} for material, thickness in slabs]
        data["stack"] = [{"repeat": 1, "slabs": front}, *data["stack"]]
        return Detector.from_mapping(data)

    @classmethod
    def from_mapping(cls, data: dict[str, Any], origin: str = "the detector description") -> Detector:
        """Build a detector from plain data of the same form as the TOML file."""
        return cls.from_toml(_to_toml(data), origin)

    # -- what it is ----------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Short name, e.g. ``"ild-ecal"``."""
        return self._file.name

    @property
    def description(self) -> str:
        """One or two sentences."""
        return self._file.description

    @property
    def range_cut(self) -> float:
        """Geant4's production threshold as a range, mm."""
        return self._file.range_cut

    @property
    def physics(self) -> str:
        """``"auto"``: the incident particles decide; ``"FTFP_BERT"``: hadronic physics for all of them."""
        return self._file.physics

    @property
    def particles(self) -> Particles | None:
        """Particles, energies and spectrum it is meant for, or None for a foreign detector."""
        return self._file.particles

    @property
    def incidence(self) -> Incidence:
        """Default incident positions and angles."""
        return self._file.incidence

    @property
    def readout(self) -> Readout:
        """Read-out scale, threshold and segmentation as written."""
        return self._file.readout

    @cached_property
    def slabs(self) -> tuple[Slab, ...]:
        """All slabs in the order in which the particle meets them; empty for a foreign detector."""
        return tuple(slab for g in self._file.stack for _ in range(g.repeat) for slab in g.slabs)

    @cached_property
    def slab_layers(self) -> tuple[int, ...]:
        """Read-out layer of each slab; -1 for slabs that are not read out."""
        layers = np.repeat(np.arange(len(self.grids)), _slabs_per_layer(self._file))
        numbers = iter(layers.tolist())
        return tuple(next(numbers) if slab.sensitive else -1 for slab in self.slabs)

    @property
    def depth(self) -> float:
        """Thickness of the whole stack, mm."""
        return sum(slab.thickness for slab in self.slabs)

    @property
    def half_extents(self) -> tuple[float, float]:
        """Half extents of the slabs in x and y (or radius, twice), mm: the read-out's unless the file says more."""
        least = (self._file.transverse or 0.0) / 2
        x = max(float(np.abs(g.edges1).max()) for g in self.grids)
        y = max(float(np.abs(g.edges0 if g.kind == "cartesian" else g.edges1).max()) for g in self.grids)
        return max(x, least), max(y, least)

    @property
    def materials(self) -> dict[str, Material]:
        """The materials of the stack by the name used in it."""
        own = {name: _mixture(name, m.density, m.mass_fractions) for name, m in self._file.materials.items()}
        return {s.material: own.get(s.material) or MATERIALS[s.material] for s in self.slabs}

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers of all elements in the stack and in the vacuum around it, sorted."""
        found = {z for material in self.materials.values() for z in material.elements}
        return tuple(sorted(found | set(MATERIALS["vacuum"].elements)))

    # -- voxels --------------------------------------------------------------------------------------------

    @property
    def n_layers(self) -> int:
        """Number of read-out layers."""
        return len(self.grids)

    @cached_property
    def n_voxels(self) -> int:
        """Number of voxels of one shower."""
        return sum(g.shape[0] * g.shape[1] for g in self.grids)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of one dense shower: (layers, y or alpha, x or r); (n_voxels,) if the layers differ."""
        shapes = {g.shape for g in self.grids}
        return (len(self.grids), *shapes.pop()) if len(shapes) == 1 else (self.n_voxels,)

    @cached_property
    def layer_slices(self) -> tuple[slice, ...]:
        """Where each layer's voxels lie in the flat voxel order."""
        ends = np.cumsum([g.shape[0] * g.shape[1] for g in self.grids]).tolist()
        return tuple(slice(a, b) for a, b in zip([0, *ends], ends, strict=False))

    @cached_property
    def voxel_layers(self) -> npt.NDArray[np.int32]:
        """Layer number of each voxel (n_voxels,)."""
        return np.repeat(np.arange(self.n_layers, dtype=np.int32), [s.stop - s.start for s in self.layer_slices])

    @cached_property
    def voxel_positions(self) -> Floats:
        """Voxel centres (n_voxels, 3) as x, y, z in mm."""
        return np.concatenate([g.centres() for g in self.grids])

    def same_voxels(self, other: Detector) -> bool:
        """Whether both detectors have the same segmentation, so that their showers can be compared."""
        return len(self.grids) == len(other.grids) and all(
            a.kind == b.kind
            and a.shape == b.shape
            and np.allclose(a.edges0, b.edges0)
            and np.allclose(a.edges1, b.edges1)
            for a, b in zip(self.grids, other.grids, strict=True)
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Detector) and self._file == other._file

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"Detector('{self.name}', shape={self.shape})"

    def _check_materials(self) -> None:
        known = MATERIALS.keys() | self._file.materials.keys()
        for slab in self.slabs:
            if slab.material not in known:
                lookup(dict.fromkeys(known), slab.material, "a material")
        for name, mixture in self._file.materials.items():
            _mixture(name, mixture.density, mixture.mass_fractions)


MAX_TEXT_BYTES = 4 << 20
# Keys of very many parts (a.b.c. ...) take the TOML reader a time that grows with their square.
_LONG_KEY = re.compile(r"""(?<![\w"'-])(?:[\w"'-]++[ \t]*+\.[ \t]*+){50}""")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or holds a null character
        return False


def read_text(path: Path, what: str, limit: int = MAX_TEXT_BYTES) -> str:
    """Text of a small file.

    Args:
        path: the file.
        what: what it is, for the error message.
        limit: its largest size in bytes.

    Raises:
        CaloforgeError: if there is no such file, it is too large, or it is not text.
    """
    if not _is_file(path):
        raise CaloforgeError(f"{what} '{str(path)[:200]}' does not exist; give the path of one.")
    try:
        with path.open("rb") as file:
            raw = file.read(limit + 1)
        if len(raw) > limit:
            raise CaloforgeError(f"{what} '{path}' is larger than {limit} bytes; give a smaller one.")
        return raw.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CaloforgeError(f"{what} '{path}' cannot be read as text ({error}); give another.") from None


SYMBOLS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y "
    "Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re "
    "Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U"
).split()


def _mixture(name: str, density: float, fractions: dict[str, float]) -> Material:
    numbers = {symbol: z for z, symbol in enumerate(SYMBOLS, start=1)}
    mass = {lookup(numbers, symbol, "an element"): f for symbol, f in fractions.items()}
    return Material("", tuple(sorted(mass)), density, tuple(sorted(mass.items())))


def _slabs_per_layer(file: DetectorFile) -> list[int]:
    """Number of sensitive slabs in each read-out layer."""
    sensitive = sum(g.repeat * sum(s.sensitive for s in g.slabs) for g in file.stack)
    readout = file.readout
    if readout.layers is not None:
        if not file.stack:
            return [0] * len(readout.layers)
        counts = [layer.slabs or 1 for layer in readout.layers]
        if sum(counts) != sensitive:
            raise ValueError(f"the read-out layers gather {sum(counts)} slabs, the stack has {sensitive}")
        return counts
    if not file.stack:
        return [0] * (readout.depth if isinstance(readout.depth, int) else 1)
    per_layer = {"each": 1, "sum": sensitive}.get(str(readout.depth), readout.depth)
    assert isinstance(per_layer, int)
    if sensitive % per_layer:
        raise ValueError(f"{sensitive} sensitive slabs cannot be gathered by {per_layer}")
    return [per_layer] * (sensitive // per_layer)


def _grids(file: DetectorFile) -> list[LayerGrid]:
    readout = file.readout
    counts = _slabs_per_layer(file)
    layers = readout.layers
    if layers is None:
        one = ReadoutLayer(
            cells=readout.cells, cell_size=readout.cell_size, alpha=readout.alpha, r_edges=readout.r_edges
        )
        layers = [one] * len(counts)
    if sum(_bins(layer) for layer in layers) > MAX_VOXELS:
        raise ValueError(f"it has more than {MAX_VOXELS} voxels")
    if not layers:
        raise ValueError("it has no read-out layer")
    return [_grid(layer, z) for layer, z in zip(layers, _layer_depths(file, counts), strict=True)]


def _bins(layer: ReadoutLayer) -> int:
    if layer.cells is not None:
        return layer.cells[0] * layer.cells[1]
    assert layer.alpha is not None and layer.r_edges is not None
    return layer.alpha * (len(layer.r_edges) - 1)


def _layer_depths(file: DetectorFile, counts: list[int]) -> list[tuple[float, float]]:
    """Front and back in mm of each read-out layer: the span of its sensitive slabs."""
    if not file.stack:
        z = file.readout.z or list(range(len(counts) + 1))
        if len(z) != len(counts) + 1:
            raise ValueError(f"z must hold {len(counts) + 1} boundaries for {len(counts)} layers, not {len(z)}")
        return list(pairwise(z))
    spans: list[tuple[float, float]] = []
    here = 0.0
    for group in file.stack:
        for slab in group.slabs * group.repeat:
            if slab.sensitive:
                spans.append((here, here + slab.thickness))
            here += slab.thickness
    ends = np.cumsum(counts).tolist()
    return [(spans[a][0], spans[b - 1][1]) for a, b in zip([0, *ends], ends, strict=False)]


def _grid(layer: ReadoutLayer, z: tuple[float, float]) -> LayerGrid:
    if layer.cells is not None and layer.cell_size is not None:
        (ny, nx), (dy, dx) = layer.cells, layer.cell_size
        y: Floats = (np.arange(ny + 1, dtype=np.float64) - ny / 2) * dy
        x: Floats = (np.arange(nx + 1, dtype=np.float64) - nx / 2) * dx
        return LayerGrid("cartesian", y, x, z)
    assert layer.alpha is not None and layer.r_edges is not None
    alpha = np.linspace(-np.pi, np.pi, layer.alpha + 1)
    return LayerGrid("polar", alpha, np.asarray(layer.r_edges, dtype=np.float64), z)


def _layer_birks(slabs: tuple[Slab, ...], layers: tuple[int, ...], n_layers: int) -> tuple[float, ...]:
    """Birks' constant of each read-out layer."""
    found: list[set[float]] = [set() for _ in range(n_layers)]
    for slab, layer in zip(slabs, layers, strict=True):
        if layer >= 0:
            found[layer].add(slab.birks)
    mixed = next((i for i, constants in enumerate(found) if len(constants) > 1), None)
    if mixed is not None:
        raise ValueError(f"read-out layer {mixed} gathers slabs of different birks: {sorted(found[mixed])}")
    return tuple(next(iter(constants), 0.0) for constants in found)


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    message = str(fault["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _to_toml(data: dict[str, Any]) -> str:
    """Write plain data as TOML: enough for a detector file (the standard library only reads it)."""
    import json

    def value(item: Any) -> str:
        if isinstance(item, dict):
            return "{" + ", ".join(f"{value(k)} = {value(v)}" for k, v in item.items() if v is not None) + "}"
        if isinstance(item, (list, tuple)):
            return "[" + ", ".join(value(v) for v in item) + "]"
        # As in JSON, but TOML knows no surrogate pairs and wants DEL escaped.
        return json.dumps(item, ensure_ascii=False).replace("\x7f", "\\u007f")

    return "".join(f"{key} = {value(item)}\n" for key, item in data.items() if item is not None)
