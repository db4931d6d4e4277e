"""Figures of the report on images: three samples in one panel, events side by side, ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..distributions import Floats
from ..figures import Curve, Frame, comparison, heading, ratio_marks
from ..style import GENERATED, REFERENCE, Image, canvas, saved, short
from .sample import ImageSample

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FAST = "#1c7ed6"
EVENTS_SHOWN = 3


def three_curves(frame: Frame, curves: Mapping[str, Curve], labels: Mapping[str, str], *, log_y: bool = False) -> Image:
    """Full (filled) and generated as in every report's figure, and the fast simulation beside them, over the ratio."""
    fast = curves.get("fast")

    def more(top: Axes, low: Axes) -> None:
        if fast is None:
            return
        top.stairs(fast.values, frame.edges, color=FAST, linewidth=1.1, linestyle="--", label=short(labels["fast"]))
        top.set_ylim(top=max(top.get_ylim()[1], float(fast.values.max()) * (4 if log_y else 1.3)))
        known = curves["full"].values > 0
        ratio = np.divide(fast.values, curves["full"].values, out=np.full(len(known), np.nan), where=known)
        error = np.divide(fast.errors, curves["full"].values, out=np.zeros(len(known)), where=known)
        ratio_marks(low, frame.middle, Curve(ratio, error), float(low.get_ylim()[1]) - 1, FAST)

    return comparison(frame, curves["full"], curves["generated"], log_y=log_y, more=more)


def spectrum_edges(energies: Floats) -> Floats:
    """Logarithmic bins of tower energies."""
    if not len(energies):
        return np.logspace(2, 6, 41)
    low, high = energies.min(), energies.max()
    return np.logspace(np.log10(low * 0.99), np.log10(max(high, low * 10) * 1.5), 41)


def events(samples: Mapping[str, ImageSample], labels: Mapping[str, str]) -> Image:
    """Some events as each sample shows them, in eta and phi."""
    from matplotlib.colors import LogNorm

    sides = [side for side in ("fast", "full", "generated") if side in samples]
    grid = samples["full"].images.grid
    shown = samples["full"].images.dense(slice(0, EVENTS_SHOWN)).shape[0]
    with canvas(3.2 * len(sides) + 0.8, 2.9 * shown) as figure:
        axes = np.atleast_2d(figure.subplots(shown, len(sides), sharex=True, sharey=True))
        for column, side in enumerate(sides):
            dense = samples[side].images.dense(slice(0, shown)) / 1e3
            for row in range(shown):
                axis = axes[row, column]
                image = np.where(dense[row] > 0, dense[row], np.nan)
                mesh = axis.pcolormesh(
                    grid.eta_edges, grid.phi_edges, image.T, norm=LogNorm(0.3, 500), cmap="viridis", rasterized=True
                )
                if row == 0:
                    axis.set_title(short(labels[side]))
                if row == shown - 1:
                    axis.set_xlabel("eta")
                if column == 0:
                    axis.set_ylabel("phi [rad]")
        figure.colorbar(mesh, ax=axes, label="tower energy [GeV]", fraction=0.03, pad=0.02)
        return saved(figure)


def rank_histograms(ranks: Mapping[str, Sequence[int]]) -> Image:
    """For every quantity how often the full value has each rank among the generated ones, over what is expected."""
    columns = 5
    rows = -(-len(ranks) // columns)
    with canvas(2.35 * columns, 2.2 * rows + 0.2) as figure:
        axes = np.atleast_1d(figure.subplots(rows, columns, sharey=True)).ravel()
        for axis in axes[len(ranks) :]:
            axis.set_visible(False)
        for axis, (label, counts) in zip(axes, ranks.items(), strict=False):
            values = np.asarray(counts, dtype=np.float64)
            mean = max(values.mean(), 1e-9)
            edges = np.arange(len(values) + 1) - 0.5
            error = 1 / np.sqrt(mean)
            axis.axhspan(1 - error, 1 + error, color=REFERENCE, alpha=0.2, linewidth=0)
            axis.stairs(values / mean, edges, color=GENERATED, linewidth=1.4)
            axis.axhline(1, color=REFERENCE, linewidth=0.8)
            axis.set_title(label if len(label) < 24 else label[:23] + "…", fontsize=8.5)
            axis.set_xlim(edges[0], edges[-1])
            axis.set_ylim(0, 2.5)
        for axis in axes[max(0, len(ranks) - columns) : len(ranks)]:
            axis.set_xlabel("rank")
        for axis in axes[::columns]:
            axis.set_ylabel("over uniform")
        return saved(figure)


def areas(curves: Mapping[str, Floats]) -> Image:
    """ROC curves (2, 101)."""
    with canvas(4.6, 4.2) as figure:
        axes = figure.subplots()
        heading(axes, "")
        axes.plot([0, 1], [0, 1], color="#99a6b3", linestyle="--", linewidth=1)
        for (label, curve), colour in zip(curves.items(), (GENERATED, FAST, "#2f9e44"), strict=False):
            axes.plot(*curve, color=colour, linewidth=1.6, label=label)
        axes.set_xlabel("generated images taken for full ones")
        axes.set_ylabel("full images taken for full ones")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.legend(loc="lower right", fontsize=8.5)
        return saved(figure)
