"""The schema of a detector file (TOML): what may be written in it and what it means."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Length = Annotated[float, Field(ge=1e-6, le=1e7, allow_inf_nan=False)]
"""mm; from a nanometre to ten kilometres, so that sums and products stay finite."""

Place = Annotated[float, Field(ge=-1e7, le=1e7, allow_inf_nan=False)]
Span = Finite | tuple[Finite, Finite]
"""One value, or the lowest and highest of a uniform spread."""

MAX_VOXELS = 50_000_000
MAX_SLABS = 20_000


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Slab(_Strict):
    """One plate of the stack; thickness in mm, Birks' constant of its scintillator in mm/MeV."""

    material: str
    thickness: Length
    sensitive: bool = False
    birks: Annotated[float, Field(ge=0, le=1e3, allow_inf_nan=False)] = 0.0


class StackGroup(_Strict):
    """Slabs in the order in which the particle meets them, repeated."""

    slabs: Annotated[list[Slab], Field(min_length=1)]
    repeat: Annotated[int, Field(ge=1, le=10_000)] = 1


class MaterialDefinition(_Strict):
    """A mixture: density in g/cm3, mass fractions by element symbol (they must sum to one)."""

    density: Positive
    mass_fractions: dict[str, Positive]

    @model_validator(mode="after")
    def _sums_to_one(self) -> MaterialDefinition:
        total = sum(self.mass_fractions.values())
        if not math.isclose(total, 1.0, abs_tol=1e-3):
            raise ValueError(f"the mass fractions sum to {total:g}; they must sum to 1")
        return self


class Particles(_Strict):
    """Which particles the detector is meant for; the first is simulated by default."""

    kinds: Annotated[list[str], Field(min_length=1)]
    energy_gev: tuple[Positive, Positive]
    spectrum: Literal["uniform", "log-uniform", "discrete"] = "uniform"

    @model_validator(mode="after")
    def _ordered(self) -> Particles:
        if self.energy_gev[0] > self.energy_gev[1]:
            raise ValueError(f"energy_gev must be [lowest, highest], not {list(self.energy_gev)}")
        return self


class Incidence(_Strict):
    """Where and under what angle particles enter by default, and how far a user may go.

    Positions in mm at the front face; ``tan_x`` = p_x / p_z, uniform in the tangent.
    """

    x: Span = 0.0
    y: Span = 0.0
    tan_x: Span = 0.0
    tan_y: Span = 0.0
    free_position: bool = True
    free_angle: bool = True

    @model_validator(mode="after")
    def _ordered(self) -> Incidence:
        for name in ("x", "y", "tan_x", "tan_y"):
            span = getattr(self, name)
            if isinstance(span, tuple) and span[0] > span[1]:
                raise ValueError(f"{name} must be [lowest, highest], not {list(span)}")
        return self


class ReadoutLayer(_Strict):
    """One read-out layer of its own segmentation (detectors whose layers differ).

    Cartesian: ``cells`` = [rows along y, columns along x] of ``cell_size`` = [y, x] mm, centred.
    Polar: ``alpha`` equal angular bins from -pi to pi and radial bin edges ``r_edges`` in mm.
    ``slabs``: how many sensitive slabs of the stack add up in it.
    """

    cells: tuple[int, int] | None = None
    cell_size: tuple[Length, Length] | None = None
    alpha: Annotated[int, Field(ge=1, le=100_000)] | None = None
    r_edges: Annotated[list[Place], Field(min_length=2)] | None = None
    slabs: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> ReadoutLayer:
        cartesian = self.cells is not None and self.cell_size is not None
        polar = self.alpha is not None and self.r_edges is not None
        given = [value is not None for value in (self.cells, self.cell_size, self.alpha, self.r_edges)]
        if cartesian == polar or sum(given) != 2:
            raise ValueError("a read-out layer needs either cells and cell_size, or alpha and r_edges")
        if self.cells is not None and min(self.cells) < 1:
            raise ValueError(f"cells must be two positive numbers, not {list(self.cells)}")
        if self.r_edges is not None and (self.r_edges[0] < 0 or any(b <= a for a, b in pairwise(self.r_edges))):
            raise ValueError("r_edges must rise and start at 0 or above")
        return self


class Readout(_Strict):
    """How the deposits are read out.

    Either one segmentation for all layers (``cells``/``cell_size`` or ``alpha``/``r_edges``) with ``depth``
    telling how sensitive slabs are gathered in read-out layers ("each", "sum", or a number of slabs), or
    ``layers``, one entry each. Without a stack, ``depth`` gives the number of layers.
    ``scale`` multiplies every deposit (e.g. 1 / sampling fraction); voxels under ``threshold`` MeV are
    dropped. From ``gate`` ns after the particle's start on, neutrons are not followed and slabs with ``birks`` not
    read out. ``z`` are the layer boundaries in mm, for detectors described without a stack.
    """

    cells: tuple[int, int] | None = None
    cell_size: tuple[Length, Length] | None = None
    alpha: Annotated[int, Field(ge=1, le=100_000)] | None = None
    r_edges: list[Place] | None = None
    depth: Literal["each", "sum"] | Annotated[int, Field(ge=1, le=10_000)] = "each"
    layers: Annotated[list[ReadoutLayer], Field(max_length=10_000)] | None = None
    z: list[Place] | None = None
    scale: Positive = 1.0
    threshold: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    gate: Positive | None = None

    @model_validator(mode="after")
    def _one_segmentation(self) -> Readout:
        common = [n for n in ("cells", "cell_size", "alpha", "r_edges") if getattr(self, n) is not None]
        if self.layers is not None and common:
            raise ValueError(f"give either layers or {common[0]}, not both")
        if self.layers is None and not common:
            raise ValueError("give cells and cell_size, alpha and r_edges, or layers")
        if self.z is not None and any(b <= a for a, b in pairwise(self.z)):
            raise ValueError("z must rise")
        return self


class DetectorFile(_Strict):
    """A whole detector file."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    description: str = ""
    range_cut: Length = 0.7
    physics: Literal["auto", "FTFP_BERT"] = "auto"
    transverse: Length | None = None
    stack: list[StackGroup] = []
    materials: dict[str, MaterialDefinition] = {}
    particles: Particles | None = None
    incidence: Incidence = Incidence()
    readout: Readout

    @model_validator(mode="after")
    def _not_too_large(self) -> DetectorFile:
        slabs = sum(group.repeat * len(group.slabs) for group in self.stack)
        if slabs > MAX_SLABS:
            raise ValueError(f"the stack has {slabs} slabs; at most {MAX_SLABS} are allowed")
        if self.stack and not any(slab.sensitive for group in self.stack for slab in group.slabs):
            raise ValueError("no slab of the stack is sensitive; mark those that are read out")
        return self
