"""Figures of the report: every comparison with a ratio panel and statistical bands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .style import GENERATED, REFERENCE, REFERENCE_FILL, SOFT, Image, Picture, canvas, png, saved, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["GENERATED", "REFERENCE", "REFERENCE_FILL", "Curve", "Frame", "Image", "Picture", "canvas", "png", "saved"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Binned values (B,) with errors (B,)."""

    values: Floats
    errors: Floats


def histogram_curve(counts: Floats) -> Curve:
    """A histogram of showers (B,) as a percentage of all showers a bin, with Poisson errors."""
    total = max(counts.sum(), 1.0)
    return Curve(100 * counts / total, 100 * np.sqrt(counts) / total)


def profile_curve(counts: Floats) -> Curve:
    """Mean and its error over showers of a profile (N, B)."""
    return Curve(counts.mean(axis=0), counts.std(axis=0, ddof=1) / np.sqrt(len(counts)))


@dataclass(frozen=True)
class Frame:
    """What two curves are drawn in.

    Attributes:
        edges: of the bins (B + 1,).
        xlabel: what the bins are of.
        ylabel: what the curves are.
        labels: names of the reference and of the generated sample.
        log_x: whether the bins stand on a logarithmic axis.
        about: what stands over the panel: detector, particles, energies.
    """

    edges: Floats
    xlabel: str
    ylabel: str
    labels: tuple[str, str]
    log_x: bool = False
    about: str = ""

    @property
    def middle(self) -> Floats:
        """Middle of each bin (B,) as the eye sees it."""
        low, high = self.edges[:-1], self.edges[1:]
        middle: Floats = np.sqrt(high * low) if self.log_x else (high + low) / 2
        return middle


def comparison(
    frame: Frame,
    reference: Curve,
    generated: Curve,
    *,
    log_y: bool = False,
    note: str = "",
    more: Callable[[Axes, Axes], None] | None = None,
) -> Image:
    """Two binned curves above their ratio; the band is the reference's error, the bars the generated sample's.

    Args:
        frame: axes and names.
        reference: filled, with a band of its errors.
        generated: a line with error bars.
        log_y: whether the values stand on a logarithmic axis.
        note: small print in the upper right corner, e.g. what no bin shows.
        more: draws what else belongs into the two panels.
    """

    def draw(top: Axes, low: Axes) -> None:
        _steps(top, frame, reference, generated)
        _limits(top, reference, generated, log_y)
        _ratio(low, frame, reference, generated)
        if more:
            more(top, low)
        if note:
            top.text(0.975, 0.965, note, transform=top.transAxes, ha="right", va="top", fontsize=7.5, color=SOFT)

    return _two_panels(frame, draw)


def _two_panels(frame: Frame, draw: Callable[[Axes, Axes], None]) -> Image:
    """A panel and a lower one for the ratio; laid out by hand, which is three times as fast."""
    from matplotlib.ticker import MaxNLocator

    with canvas(5.0, 4.5, None) as figure:
        figure.subplots_adjust(left=0.17, right=0.965, top=0.935, bottom=0.12, hspace=0.07)
        top, low = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.15])
        draw(top, low)
        if top.get_yscale() == "linear":
            top.yaxis.set_major_locator(MaxNLocator(6))
        low.yaxis.set_major_locator(MaxNLocator(4, prune="both"))  # outer labels would touch the upper panel's
        heading(top, frame.about)
        top.set_ylabel(frame.ylabel)
        low.set_ylabel("gen. / ref.", loc="center")
        low.set_xlabel(frame.xlabel)
        for axis, place in ((top.yaxis, (-0.145, 1.0)), (low.yaxis, (-0.145, 0.5)), (low.xaxis, (1.0, -0.2))):
            axis.set_label_coords(*place)
        if frame.log_x:
            low.set_xscale("log")
        low.set_xlim(frame.edges[0], frame.edges[-1])
        top.legend(loc="upper left", handlelength=1.5, borderaxespad=0.35, labelspacing=0.3)
        return saved(figure)


def heading(axes: Axes, about: str) -> None:
    """What made a figure and what it is of, above a panel, as experiments write it."""
    # With y given nobody measures all labels to find a free place.
    axes.set_title("caloforge", loc="left", fontweight="bold", fontstyle="italic", y=1.0, pad=4)
    axes.set_title(about.replace("$", r"\$"), loc="right", fontsize=9, color=SOFT, y=1.0, pad=4)


def _steps(axes: Axes, frame: Frame, reference: Curve, generated: Curve) -> None:
    axes.stairs(
        reference.values,
        frame.edges,
        fill=True,
        facecolor=REFERENCE_FILL,
        edgecolor=REFERENCE,
        linewidth=1.1,
        label=short(frame.labels[0]),
    )
    axes.stairs(
        reference.values + reference.errors,
        frame.edges,
        baseline=np.maximum(reference.values - reference.errors, 0),
        fill=True,
        color=REFERENCE,
        alpha=0.25,
        linewidth=0,
    )
    axes.stairs(generated.values, frame.edges, color=GENERATED, linewidth=1.3)
    axes.errorbar(
        frame.middle,
        generated.values,
        generated.errors,
        fmt="o",
        markersize=2.2,
        color=GENERATED,
        elinewidth=0.9,
        label=short(frame.labels[1]),
    )


HEADROOM = 0.27  # share of the panel kept free for legend and small print


def _limits(axes: Axes, reference: Curve, generated: Curve, log: bool) -> None:
    highest = max(float(np.max(c.values + c.errors)) for c in (reference, generated)) or 1.0
    if log:
        positive = np.concatenate([c.values[c.values > 0] for c in (reference, generated)])
        lowest = max(float(positive.min()) if len(positive) else highest / 10, highest * 1e-6) / 2
        axes.set_yscale("log")
        axes.set_ylim(lowest, lowest * (highest / lowest) ** (1 / (1 - HEADROOM)))
    else:
        axes.set_ylim(0, highest / (1 - HEADROOM))


def _ratio(axes: Axes, frame: Frame, reference: Curve, generated: Curve) -> None:
    edges, middle = frame.edges, frame.middle
    known = reference.values > 0
    safe = np.where(known, reference.values, 1.0)
    ratio = np.where(known, generated.values / safe, np.nan)
    band = np.where(known, reference.errors / safe, 0.0)
    error = np.where(known, generated.errors / safe, 0.0)
    half = _half_range(ratio, np.hypot(band, error))
    axes.stairs(1 + band, edges, baseline=1 - band, fill=True, color=REFERENCE, alpha=0.25, linewidth=0)
    axes.axhline(1, color=REFERENCE, linewidth=0.9)
    ratio_marks(axes, middle, Curve(ratio, error), half, GENERATED)
    axes.set_ylim(1 - half, 1 + half)


def ratio_marks(axes: Axes, place: Floats, ratio: Curve, half: float, colour: str) -> None:
    """Ratios (B,) at ``place``; a triangle at the edge of 1 - half to 1 + half for what lies beyond."""
    values = ratio.values
    inside = np.abs(values - 1) <= half
    axes.errorbar(
        place[inside], values[inside], ratio.errors[inside], fmt="o", markersize=2.6, color=colour, elinewidth=0.9
    )
    for beyond, marker, y in ((values > 1 + half, "^", 1 + 0.93 * half), (values < 1 - half, "v", 1 - 0.93 * half)):
        axes.plot(place[beyond], np.full(beyond.sum(), y), marker, markersize=3.5, color=colour)


def _half_range(ratio: Floats, error: Floats) -> float:
    """Half the height of a ratio panel: what holds the well-measured bins."""
    good = np.isfinite(ratio) & (error < 0.3)
    wanted = float(np.quantile(np.abs(ratio[good] - 1) + error[good], 0.8)) * 1.2 if good.any() else 0.5
    return round_half(wanted)


def round_half(wanted: float) -> float:
    """The next round half height of a ratio panel, at most 1."""
    return next((h for h in (0.02, 0.05, 0.1, 0.2, 0.5) if h >= wanted), 1.0)


def points(frame: Frame, reference: Curve, generated: Curve) -> Image:
    """Two sets of points with errors in incident-energy bins above their ratio; NaN are left out."""
    width = None if frame.log_x else np.diff(frame.edges) / 2

    def draw(top: Axes, low: Axes) -> None:
        for curve, colour, marker, label in (
            (reference, REFERENCE, "s", frame.labels[0]),
            (generated, GENERATED, "o", frame.labels[1]),
        ):
            top.errorbar(
                frame.middle,
                curve.values,
                curve.errors,
                xerr=width,
                fmt=marker,
                color=colour,
                markersize=4,
                elinewidth=1,
                label=short(label),
                markerfacecolor="white" if marker == "s" else colour,
            )
        top.margins(y=0.12)
        low_y, high_y = top.get_ylim()
        top.set_ylim(low_y, low_y + (high_y - low_y) / (1 - 0.8 * HEADROOM))
        _ratio_points(low, frame.middle, reference, generated)

    return _two_panels(frame, draw)


def _ratio_points(axes: Axes, x: Floats, reference: Curve, generated: Curve) -> None:
    ratio = generated.values / reference.values
    band = np.abs(reference.errors / reference.values)
    error = np.abs(generated.errors / reference.values)
    axes.axhline(1, color=REFERENCE, linewidth=0.9)
    axes.errorbar(x, np.ones_like(x), band, fmt="none", color=REFERENCE, alpha=0.3, elinewidth=7)
    axes.errorbar(x, ratio, error, fmt="o", color=GENERATED, markersize=4, elinewidth=1)
    spread = np.maximum(error, band)
    low, high = np.nanmin([*(ratio - spread), *(1 - band), 1]), np.nanmax([*(ratio + spread), *(1 + band), 1])
    margin = max(0.15 * (high - low), 1e-3)
    axes.set_ylim(low - margin, high + margin)


def matrices(names: Sequence[str], reference: Floats, generated: Floats, labels: tuple[str, str]) -> Image:
    """Two correlation matrices and their difference."""
    size = max(2.6, 0.25 * len(names))
    with canvas(3 * size + 3.2, size + 2.0) as figure:
        axes = figure.subplots(1, 3, sharey=True)
        largest = max(0.05, float(np.abs(generated - reference).max()))
        for axis, values, title, limit in zip(
            axes,
            (reference, generated, generated - reference),
            (short(labels[0]), short(labels[1]), "difference"),
            (1.0, 1.0, largest),
            strict=True,
        ):
            axis.tick_params(which="both", top=False, right=False, bottom=False, left=False)
            axis.minorticks_off()
            image = axis.imshow(values, vmin=-limit, vmax=limit, cmap="RdBu_r")
            axis.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
            axis.set_yticks(range(len(names)), names, fontsize=8)
            axis.set_title(title)
            if axis is not axes[0]:
                bar = figure.colorbar(image, ax=axis, fraction=0.046, pad=0.03)
                bar.ax.tick_params(labelsize=8)
        return saved(figure)


def overview(
    names: Sequence[str], values: Floats, errors: Floats, floors: Floats, floor_errors: Floats, about: str = ""
) -> Image:
    """Separation power of every observable beside its floor, on one logarithmic axis."""
    order = np.argsort(values)
    y = np.arange(len(names))
    with canvas(7.2, 1.2 + 0.26 * len(names)) as figure:
        axes = figure.subplots()
        heading(axes, about)
        low = max(min(float(values[values > 0].min(initial=1)), float(floors[floors > 0].min(initial=1))) / 3, 1e-8)
        axes.barh(y, floors[order] - low, left=low, height=0.62, color=REFERENCE_FILL, label="floor: reference halves")
        axes.errorbar(floors[order], y, xerr=floor_errors[order], fmt="none", color=REFERENCE, elinewidth=1)
        axes.errorbar(values[order], y, xerr=errors[order], fmt="o", color=GENERATED, markersize=4.5, label="generated")
        axes.set_xscale("log")
        axes.set_xlim(low, max(float((values + errors).max()), float(floors.max())) * 2)
        axes.set_yticks(y, [names[i] for i in order])
        axes.set_ylim(-0.8, len(names) - 0.2)
        axes.tick_params(axis="y", which="both", length=0)
        axes.set_xlabel("separation power")
        axes.grid(axis="x", which="major", color="#e6ebf0", linewidth=0.8)
        axes.set_axisbelow(True)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        return saved(figure)


def areas(
    curves: Sequence[tuple[str, Floats]],
    middle: Floats,
    by_energy: Sequence[tuple[str, Floats, Floats]],
    *,
    log_x: bool = False,
    about: str = "",
) -> Image:
    """ROC curves beside the area under them in bins of incident energy."""
    colours = (GENERATED, "#1c7ed6", "#2f9e44")
    with canvas(9.6, 3.9) as figure:
        left, right = figure.subplots(1, 2)
        heading(left, "")
        heading(right, about)
        right.set_title("", loc="left")
        left.plot([0, 1], [0, 1], color="#99a6b3", linestyle="--", linewidth=1)
        for (name, curve), colour in zip(curves, colours, strict=False):
            left.plot(*curve, color=colour, linewidth=1.6, label=name)
        left.set_xlabel("generated showers taken for real")
        left.set_ylabel("real showers taken for real")
        left.set_xlim(0, 1)
        left.set_ylim(0, 1)
        left.legend(loc="lower right")
        right.axhline(0.5, color="#99a6b3", linestyle="--", linewidth=1)
        for (_, value, error), colour in zip(by_energy, colours, strict=False):
            right.errorbar(middle, value, error, fmt="o-", color=colour, markersize=4, linewidth=1)
        right.set_xlabel("incident energy [GeV]")
        right.set_ylabel("area under the curve")
        right.set_ylim(0.4, 1.02)
        if not any(np.isfinite(value).any() for _, value, _ in by_energy):
            right.text(0.5, 0.6, "too few showers in each bin", transform=right.transAxes, ha="center")
            right.set_xlim(middle.min() * 0.8, middle.max() * 1.25)  # an axis of logarithms needs something positive
        if log_x:
            right.set_xscale("log")
        return saved(figure)
