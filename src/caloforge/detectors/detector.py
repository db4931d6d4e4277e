"""The Detector: geometry, segmentation and defaults, read from a TOML file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from ..errors import CaloforgeError, lookup
from .materials import MATERIALS, Material, mixed_material
from .schema import DetectorFile, Incidence, Particles, Readout, Slab
from .segmentation import Floats, layer_birks, layer_grids, slabs_per_layer
from .text import MAX_TEXT_BYTES, is_file, read_text, to_toml


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
        self.grids = tuple(layer_grids(description))
        self.layer_birks = layer_birks(self.slabs, self.slab_layers, len(self.grids))

    # -- reading -------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, name_or_path: str | Path) -> Detector:
        """Load a detector of the package by name, or any detector file by path.

        Raises:
            CaloforgeError: if there is no such detector or its file is not valid.
        """
        from . import DETECTORS

        path = Path(name_or_path)
        if path.suffix != ".toml" and not is_file(path):
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
        return cls.from_toml(to_toml(data), origin)

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
        layers = np.repeat(np.arange(len(self.grids)), slabs_per_layer(self._file))
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
        own = {name: mixed_material(m.density, m.mass_fractions) for name, m in self._file.materials.items()}
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
        for mixture in self._file.materials.values():
            mixed_material(mixture.density, mixture.mass_fractions)


# Keys of very many parts (a.b.c. ...) take the TOML reader a time that grows with their square.
_LONG_KEY = re.compile(r"""(?<![\w"'-])(?:[\w"'-]++[ \t]*+\.[ \t]*+){50}""")


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    message = str(fault["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
