"""Figures by which the published systems were validated, for one or several generated samples of one reference.

Several samples share a panel in `COLOURS`; the reference is drawn as everywhere in the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .figures import Curve, profile_curve, ratio_marks, round_half
from .published import CellRatios, MipPeak, PrincipalComponents, SsimCurve, energies_along
from .style import GENERATED, REFERENCE, REFERENCE_FILL, SOFT, Image, canvas, saved, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .shapes import Source

Floats = npt.NDArray[np.float64]

COLOURS = (GENERATED, "#1c7ed6", "#2f9e44", "#9c36b5", "#e0a100", "#0b7285")


def _legend(figure: Figure, axes: Axes, columns: int = 4) -> None:
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=columns)


# -- shower shapes ---------------------------------------------------------------------------------------------------


def shapes(reference: Source, generated: Mapping[str, Source], label: str, about: str = "") -> Image:
    """Mean energies along x, y and layer (S0, S4): linear, logarithmic, ratio.

    Args:
        reference: its showers.
        generated: showers of other samples of the same detector by name.
        label: the reference's name.
        about: what stands over the panels.

    Raises:
        CaloforgeError: if the layers are not all cut into the same cells in x and y.
    """
    detector = reference.detector
    grid = detector.grids[0]
    edges: list[Floats] = [grid.edges1, grid.edges0, np.arange(detector.n_layers + 1, dtype=np.float64) - 0.5]
    own = [profile_curve(along) for along in energies_along(reference)]
    others = {name: [profile_curve(along) for along in energies_along(s)] for name, s in generated.items()}
    axes = ("x [mm]", "y [mm]", "layer")[: 3 if detector.n_layers > 1 else 2]  # a single layer has no shape
    with canvas(0.4 + 3.5 * len(axes), 7.6) as figure:
        panels = figure.subplots(3, len(axes), sharex="col", height_ratios=[2, 2, 1.3])
        for column, xlabel in enumerate(axes):
            curves = {name: found[column] for name, found in others.items()}
            _shape_column(panels[:, column], edges[column], own[column], curves, label)
            panels[2, column].set_xlabel(xlabel)
        for panel in panels[:2, 0]:
            panel.set_ylabel("mean energy per bin [MeV]")
        panels[2, 0].set_ylabel("ratio")
        if about:
            panels[0, -1].text(0.98, 0.95, about, transform=panels[0, -1].transAxes, ha="right", va="top", fontsize=8)
        figure.align_ylabels(panels[:, 0])
        _legend(figure, panels[0, 0])
        return saved(figure)


def _shape_column(panels: Sequence[Axes], edges: Floats, own: Curve, others: Mapping[str, Curve], label: str) -> None:
    linear, log, low = panels
    safe = np.where(own.values > 0, own.values, np.nan)
    for panel in (linear, log):
        panel.stairs(own.values, edges, fill=True, color=REFERENCE_FILL)
        panel.stairs(own.values, edges, color=REFERENCE, linewidth=1.1, label=short(label))
        for (name, curve), colour in zip(others.items(), COLOURS, strict=False):
            panel.stairs(curve.values, edges, color=colour, linewidth=1.3, label=short(name))
    linear.set_ylim(bottom=0)
    log.set_yscale("log")
    log.set_ylim(np.nanmin(safe) / 3, np.nanmax(safe) * 4)
    low.set_xlim(edges[0], edges[-1])
    _shape_ratios(low, edges, Curve(safe, own.errors), list(others.values()))


def _shape_ratios(panel: Axes, edges: Floats, own: Curve, others: Sequence[Curve]) -> None:
    band = np.nan_to_num(own.errors / own.values)
    ratios = [(c.values / own.values, c.errors / own.values) for c in others]
    panel.stairs(1 + band, edges, baseline=1 - band, fill=True, color=REFERENCE, alpha=0.25, linewidth=0)
    panel.axhline(1, color=REFERENCE, linewidth=0.9)
    far = [np.abs(ratio - 1) + error for ratio, error in ratios]
    wanted = 1.2 * float(np.nanquantile(np.concatenate([*far, band]), 0.9))
    half = round_half(wanted)
    middle = (edges[1:] + edges[:-1]) / 2
    for i, ((ratio, error), colour) in enumerate(zip(ratios, COLOURS, strict=False)):
        place = middle + np.diff(edges) * 0.6 * ((i + 0.5) / len(ratios) - 0.5)  # side by side
        ratio_marks(panel, place, Curve(ratio, error), half, colour)
    panel.set_ylim(1 - half, 1 + half)


# -- structural similarity, hottest cells ------------------------------------------------------------------------------


def similarity(
    reference: SsimCurve, within: Mapping[str, SsimCurve], between: Mapping[str, SsimCurve], label: str
) -> Image:
    """Structural similarity against the dynamic range (S0), and its difference to the reference's own.

    Args:
        reference: pairs within the reference.
        within: pairs within other samples, by name.
        between: pairs of the reference and each of them.
        label: the reference's name.
    """
    own, x = short(label).split()[0], reference.dynamic_ranges
    curves = [(f"within {own}", reference, REFERENCE, "-")]
    for name, colour in zip(within, COLOURS, strict=False):
        curves += [
            (f"within {short(name)}", within[name], colour, "-"),
            (f"between {own} and {short(name)}", between[name], colour, "--"),
        ]
    with canvas(7.4, 6.0) as figure:
        top, low = figure.subplots(2, 1, sharex=True, height_ratios=[2.4, 1.2])
        for title, curve, colour, line in curves:
            wide = curve is reference  # to be seen under the others
            top.plot(
                x, curve.mean, line, color=colour, linewidth=4 if wide else 1.4, alpha=0.45 if wide else 1, label=title
            )
            away = curve.mean - reference.mean
            low.plot(x, away, line, color=colour, linewidth=0.9 if wide else 1.2)
            low.fill_between(
                x, away - curve.error, away + curve.error, color=colour, alpha=0.25 if wide else 0.13, linewidth=0
            )
        top.set_ylabel("mean SSIM of pairs of showers")
        top.set_ylim(min(0.0, float(min(c.mean.min() for _, c, _, _ in curves)) * 1.1), 1.03)
        low.set_ylabel(f"difference to\nwithin {own}")
        low.set_xlabel("dynamic range L [MeV]")
        low.set_xscale("log")
        low.set_xlim(x[0], x[-1])
        figure.align_ylabels([top, low])
        _legend(figure, top, 3)
        return saved(figure)


def cells(halves: CellRatios, generated: Mapping[str, CellRatios], label: str) -> Image:
    """Histograms over the hottest cells of the ratios of their means and standard deviations (S0).

    Args:
        halves: of one half of the reference over the other.
        generated: of other samples over the reference, by name.
        label: the reference's name.
    """
    own = short(label).split()[0]
    with canvas(9.6, 4.2) as figure:
        panels = figure.subplots(1, 2)
        for panel, title, key in zip(panels, ("mean energy", "standard deviation"), ("mean", "std"), strict=True):
            samples = {k: v[np.isfinite(v)] for k, c in generated.items() for v in [getattr(c, key)]}
            floor = getattr(halves, key)
            floor = floor[np.isfinite(floor)]
            low, high = np.quantile(np.concatenate([floor, *samples.values()]), [0.005, 0.995])
            edges = np.linspace(min(low, 0.9), max(high, 1.1), 41)
            panel.stairs(_within(floor, edges), edges, fill=True, color=REFERENCE_FILL, label=f"{own}, half / half")
            for (name, values), colour in zip(samples.items(), COLOURS, strict=False):
                label_of = f"{short(name)} / {own}"
                panel.stairs(_within(values, edges), edges, color=colour, linewidth=1.4, label=label_of)
            panel.axvline(1, color=REFERENCE, linewidth=0.9, linestyle=":")
            panel.set_xlabel(f"ratio of the cells' {title}")
            panel.set_ylabel("cells")
            panel.set_xlim(edges[0], edges[-1])
        _legend(figure, panels[0])
        return saved(figure)


def _within(values: Floats, edges: Floats) -> npt.NDArray[np.int64]:
    """Histogram with what lies beyond counted in the outermost bins."""
    return np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]


# -- visible energy, the peak of the cell energies ---------------------------------------------------------------------


def visible_energy(samples: Mapping[float, tuple[Floats, Floats]], names: tuple[str, str]) -> Image:
    """Histograms of the visible energy at fixed incident energies (S1).

    Args:
        samples: visible energies (N,) in MeV of reference and generated showers by incident energy in MeV.
        names: of the two.
    """
    with canvas(3.4 * len(samples) + 0.3, 3.7) as figure:
        panels = np.atleast_1d(figure.subplots(1, len(samples)))
        for panel, (energy, values) in zip(panels, samples.items(), strict=True):
            low, high = np.quantile(np.concatenate(values), [0.002, 0.998])
            margin = 0.15 * (high - low)
            edges = np.linspace(low - margin, high + margin, int(np.clip(np.sqrt(len(values[0])), 10, 40)) + 1)
            for v, colour, name in zip(values, (REFERENCE, GENERATED), names, strict=True):
                counts = np.histogram(v, edges)[0]
                share, error = 100 * counts / len(v), 100 * np.sqrt(counts) / len(v)
                if colour == REFERENCE:
                    panel.stairs(share, edges, fill=True, color=REFERENCE_FILL)
                panel.stairs(share, edges, color=colour, linewidth=1.3, label=short(name))
                middle = (edges[1:] + edges[:-1]) / 2
                panel.errorbar(middle, share, error, fmt="none", color=colour, elinewidth=0.8)
            panel.set_title(f"{energy / 1e3:.3g} GeV")
            panel.set_xlabel("visible energy [MeV]")
            panel.set_ylim(bottom=0)
            panel.set_ylim(top=1.1 * panel.get_ylim()[1])
        panels[0].set_ylabel("showers per bin [%]")
        _legend(figure, panels[0])
        return saved(figure)


def cell_peak(peaks: Sequence[MipPeak], names: Sequence[str]) -> Image:
    """Cell energies about their peak (S1), with the peak's place marked.

    Args:
        peaks: of samples, the reference first.
        names: of the samples.
    """
    with canvas(5.6, 3.9) as figure:
        panel = figure.subplots()
        for peak, name, colour in zip(peaks, names, (REFERENCE, *COLOURS), strict=False):
            if colour == REFERENCE:
                panel.stairs(peak.counts, peak.edges, fill=True, color=REFERENCE_FILL)
            panel.stairs(peak.counts, peak.edges, color=colour, linewidth=1.3, label=short(name))
            panel.axvline(peak.position.value, color=colour, linewidth=1, linestyle=":")
        panel.set_xscale("log")
        panel.set_xlim(peaks[0].edges[0], peaks[0].edges[-1])
        panel.set_ylim(bottom=0)
        panel.set_xlabel("cell energy [MeV]")
        panel.set_ylabel("cells per bin and shower")
        _legend(figure, panel)
        return saved(figure)


# -- principal components ----------------------------------------------------------------------------------------------


def components(found: PrincipalComponents, names: tuple[str, str]) -> Image:
    """Histograms along the principal components of the reference (S4)."""
    n = found.reference.shape[1]
    rows, columns = -(-n // 3), min(n, 3)
    with canvas(3.4 * columns + 0.3, 2.9 * rows + 0.4) as figure:
        panels = np.atleast_2d(figure.subplots(rows, columns, squeeze=False))
        for i, panel in enumerate(panels.flat):
            if i >= n:
                panel.set_axis_off()
                continue
            values = found.reference[:, i], found.generated[:, i]
            low, high = np.quantile(values[0], [0.002, 0.998])
            margin = 0.15 * (high - low)
            edges = np.linspace(low - margin, high + margin, 31)
            for v, colour, name in zip(values, (REFERENCE, GENERATED), names, strict=True):
                share = 100 * _within(v, edges) / len(v)
                if colour == REFERENCE:
                    panel.stairs(share, edges, fill=True, color=REFERENCE_FILL)
                panel.stairs(share, edges, color=colour, linewidth=1.3, label=short(name))
            text = (
                f"{100 * found.explained[i]:.0f} % of the variance\nratio {found.ratio[i]:.2f} ± {found.error[i]:.2f}"
            )
            panel.text(0.97, 0.95, text, transform=panel.transAxes, ha="right", va="top", fontsize=8, color=SOFT)
            panel.set_ylim(top=1.3 * panel.get_ylim()[1])
            panel.set_xlabel(f"component {i + 1}")
        for panel in panels[:, 0]:
            panel.set_ylabel("showers per bin [%]")
        _legend(figure, panels[0, 0])
        return saved(figure)


def embedding(points: tuple[Floats, Floats], names: tuple[str, str]) -> Image:
    """A t-SNE picture of both samples (S4): where one colour stands alone, the other sample has no such showers."""
    with canvas(6.0, 5.4) as figure:
        panel = figure.subplots()
        for place, colour, name in zip(points, (REFERENCE, GENERATED), names, strict=True):
            panel.scatter(place[:, 0], place[:, 1], s=7, color=colour, alpha=0.6, linewidths=0, label=short(name))
        panel.set_aspect("equal", adjustable="datalim")
        panel.set_xticks([])
        panel.set_yticks([])
        panel.set_xlabel("t-SNE 1 (no unit)")
        panel.set_ylabel("t-SNE 2 (no unit)")
        figure.legend(*panel.get_legend_handles_labels(), loc="outside upper center", ncols=2, markerscale=2.5)
        return saved(figure)
