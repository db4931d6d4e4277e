"""How a detector file divides its read-out: which slabs make a layer, and the grid of voxels of each layer."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from .schema import MAX_VOXELS, DetectorFile, ReadoutLayer, Slab

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


def slabs_per_layer(file: DetectorFile) -> list[int]:
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


def layer_grids(file: DetectorFile) -> list[LayerGrid]:
    """The grid of each read-out layer; raises `ValueError` where the file contradicts itself."""
    readout = file.readout
    counts = slabs_per_layer(file)
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


def layer_birks(slabs: tuple[Slab, ...], layers: tuple[int, ...], n_layers: int) -> tuple[float, ...]:
    """Birks' constant of each read-out layer."""
    found: list[set[float]] = [set() for _ in range(n_layers)]
    for slab, layer in zip(slabs, layers, strict=True):
        if layer >= 0:
            found[layer].add(slab.birks)
    mixed = next((i for i, constants in enumerate(found) if len(constants) > 1), None)
    if mixed is not None:
        raise ValueError(f"read-out layer {mixed} gathers slabs of different birks: {sorted(found[mixed])}")
    return tuple(next(iter(constants), 0.0) for constants in found)
