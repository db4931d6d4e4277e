"""Pictures of showers: the average of both samples, and single showers of equal energy side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .distributions import Floats
from .sample import Sample
from .scene import pairs, read_shower
from .style import Picture, canvas, saved, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..detectors import Detector
    from .report import Result

SINGLE = 3
Mesh = tuple[Floats, Floats, Floats]  # corner x, corner y, content


def _labels(result: Result) -> tuple[str, str]:
    samples = result.data["samples"]
    return short(str(samples["reference"]["label"])), short(str(samples["generated"]["label"]))


def front_view(voxels: Floats, detector: Detector) -> Mesh:
    """Energies seen along z: summed over layers if they are segmented alike, else the layer that holds most."""
    same = len(detector.shape) == 3
    layer = 0 if same else int(np.argmax([voxels[s].sum() for s in detector.layer_slices]))
    grid = detector.grids[layer]
    content = voxels.reshape(-1, *grid.shape).sum(axis=0) if same else voxels[detector.layer_slices[layer]]
    fast, slow = np.meshgrid(grid.edges1, grid.edges0)
    if grid.kind == "polar":
        fine = np.linspace(-np.pi, np.pi, max(1, 72 // grid.shape[0]) * grid.shape[0] + 1)  # rounder circles
        fast, slow = np.meshgrid(grid.edges1, fine)
        content = np.repeat(content.reshape(grid.shape), (len(fine) - 1) // grid.shape[0], axis=0)
        return fast * np.cos(slow), fast * np.sin(slow), content
    return fast, slow, content.reshape(grid.shape)


def side_view(voxels: Floats, detector: Detector) -> Mesh:
    """Energies by layer and x (cartesian) or distance from the axis (polar)."""
    grid = detector.grids[0]
    if len(detector.shape) == 3:
        across = grid.edges1
        content = voxels.reshape(detector.shape).sum(axis=1)
    else:
        edges = np.concatenate([np.abs(g.edges1) for g in detector.grids])
        polar = all(g.kind == "polar" for g in detector.grids)
        across = np.unique(edges) if polar else np.linspace(0, float(edges.max()), 61)
        distance = np.hypot(detector.voxel_positions[:, 0], detector.voxel_positions[:, 1])
        content = np.histogram2d(
            detector.voxel_layers,
            distance,
            bins=(np.arange(detector.n_layers + 1) - 0.5, across),
            weights=voxels,
        )[0]
    x, y = np.meshgrid(np.arange(detector.n_layers + 1) - 0.5, across, indexing="ij")
    return x, y, content


def _show(axes: Axes, mesh: Mesh, low: float, high: float) -> Any:
    from matplotlib.colors import LogNorm

    axes.set_facecolor("#f7f9fb")
    axes.tick_params(which="both", direction="out", top=False, right=False)
    image = axes.pcolormesh(
        *mesh[:2], np.ma.masked_less_equal(mesh[2], low), norm=LogNorm(low, high), cmap="viridis", rasterized=True
    )
    return image


def _crop(axes: Axes, meshes: list[Mesh], low: float, centred: bool) -> None:
    """Leave out the empty outside of detectors that reach far beyond the shower."""
    reach = 0.0
    for x, y, content in meshes:
        filled = content > low
        corners = (x[1:, 1:], x[:-1, :-1], y[1:, 1:], y[:-1, :-1]) if centred else (y[1:, 1:], y[:-1, :-1])
        reach = max(reach, *(float(np.abs(c[filled]).max(initial=0)) for c in corners))
    if reach > 0:
        axes.set_ylim(-1.05 * reach if centred else 0, 1.05 * reach)
        if centred:
            axes.set_xlim(-1.05 * reach, 1.05 * reach)


def _round(detector: Detector) -> bool:
    return detector.grids[0].kind == "polar" or len(detector.shape) != 3


def _range(meshes: list[Mesh], decades: float = 4) -> tuple[float, float]:
    high = max(float(m[2].max()) for m in meshes) or 1.0
    return high / 10**decades, high


def _side_label(detector: Detector) -> str:
    cartesian = len(detector.shape) == 3 and detector.grids[0].kind == "cartesian"
    return "x [mm]" if cartesian else "distance from the axis [mm]"


def _row(axes: Any, meshes: list[Mesh], titles: list[str], labels: tuple[str, str], equal: bool) -> Any:
    low, high = _range(meshes)
    image = None
    for axis, mesh, title in zip(axes, meshes, titles, strict=True):
        image = _show(axis, mesh, low, high)
        axis.set_title(title, fontsize=9.5)
        axis.set_xlabel(labels[0])
        if equal:
            axis.set_aspect("equal")
    axes[0].set_ylabel(labels[1])
    return image


def average_showers(result: Result) -> list[Picture]:
    """Mean voxel energies of both samples, from the front and, with several layers, from the side."""
    a, b = result.reference, result.generated
    names = list(_labels(result))
    views = [(front_view, True, ("x [mm]", "y [mm]"))]
    if a.detector.n_layers > 1:
        views.append((side_view, False, ("layer", _side_label(a.detector))))
    with canvas(8.2, 3.6 * len(views)) as figure:
        grid = figure.subplots(len(views), 2, sharey="row", squeeze=False)
        for axes, (view, equal, labels) in zip(grid, views, strict=True):
            meshes = [view(s.mean_voxels, s.detector) for s in (a, b)]
            image = _row(axes, meshes, names, labels, equal)
            for axis in axes if _round(a.detector) else ():
                _crop(axis, meshes, _range(meshes)[0], equal)
            figure.colorbar(image, ax=axes[-1], label="mean energy [MeV]")
        drawn = saved(figure)
    same = len(a.detector.shape) == 3
    what = "summed over the layers" if same else "in the layer that holds most energy"
    caption = f"Mean energy of a shower, from the front {what}" + (" and from the side." if len(views) > 1 else ".")
    return [Picture("average_showers", "The average shower", caption, drawn, wide=True, photo=True)]


def _dense(sample: Sample, row: int) -> Floats:
    voxels: Floats = read_shower(sample, row).dense(np.float64).reshape(-1)
    return voxels


def single_showers(result: Result) -> list[Picture]:
    """Single showers: reference above, generated below, a column for each incident energy."""
    a, b = result.reference, result.generated
    chosen = pairs(a.incident, b.incident, SINGLE)
    several = a.detector.n_layers > 1
    view, labels = (side_view, ("layer", _side_label(a.detector))) if several else (front_view, ("x [mm]", "y [mm]"))
    with canvas(3.3 * len(chosen) + 0.8, 5.6 if several else 6.4) as figure:
        grid = figure.subplots(2, len(chosen), sharex=True, sharey=True, squeeze=False)
        columns = [[view(_dense(s, r), s.detector) for s, r in zip((a, b), pair, strict=True)] for pair in chosen]
        for side, (sample, name) in enumerate(zip((a, b), _labels(result), strict=True)):
            titles = [f"{name}, {sample.incident.energy[pair[side]] / 1e3:.4g} GeV" for pair in chosen]
            meshes = [column[side] for column in columns]
            low, high = _range([m for column in columns for m in column])
            for axis, mesh, title in zip(grid[side], meshes, titles, strict=True):
                image = _show(axis, mesh, low, high)
                axis.set_title(title, fontsize=9)
                if not several:
                    axis.set_aspect("equal")
            grid[side][0].set_ylabel(labels[1])
        for axis in grid[1]:
            axis.set_xlabel(labels[0])
        if _round(a.detector):
            _crop(grid[0][0], [m for column in columns for m in column], low, not several)
        figure.colorbar(image, ax=grid, label="energy [MeV]", shrink=0.9)
        drawn = saved(figure)
    caption = "Showers of nearly equal incident energy, picked by energy alone; no two showers should look alike."
    return [Picture("single_showers", "Single showers", caption, drawn, wide=True, photo=True)]
