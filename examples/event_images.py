"""A picture of events in both simulations: the mean images, and one event side by side.

    python examples/event_images.py FAST.h5 FULL.h5 [--output events.png] [--event 0]

docs/events.md says how to make the two files.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from caloforge.evaluation.style import style
from caloforge.jets import EtaPhiGrid, Images, paired


def draw(fast: Images, full: Images, pair: int) -> Figure:
    """Mean transverse energies of both sides, and those of one event."""
    i, j = paired(fast, full)
    to_transverse = 1e-3 / np.cosh(fast.grid.eta)[:, None]  # MeV to GeV of transverse energy
    pictures = [images.dense(which) * to_transverse for images, which in ((fast, i), (full, j))]
    figure = Figure(figsize=(9, 7), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    names = ("fast: Delphes' manner", "full: Geant4 showers")
    for axis, picture, name in zip(axes[0], pictures, names, strict=True):
        _picture(figure, axis, picture.mean(axis=0), fast.grid, (3e-3, 1.0), f"{name}, mean of {len(i)} events")
    for axis, picture, name in zip(axes[1], pictures, names, strict=True):
        _picture(figure, axis, picture[pair], fast.grid, (0.1, 100.0), f"{name}, event {fast.event[i[pair]]}")
    for axis in axes[1]:
        axis.set_xlabel(r"$\phi$ [rad]")
    for axis in axes[:, 0]:
        axis.set_ylabel(r"$\eta$")
    return figure


def _picture(
    figure: Figure, axis: mpl.axes.Axes, values: npt.NDArray[np.float32], grid: EtaPhiGrid,
    limits: tuple[float, float], title: str,
) -> None:  # fmt: skip
    shown = np.where(values > 0, values, np.nan)
    mesh = axis.pcolormesh(
        grid.phi_edges, grid.eta_edges, shown, norm=LogNorm(*limits), cmap="viridis", rasterized=True
    )
    axis.set_title(title)
    figure.colorbar(mesh, ax=axis, label=r"$E_T$ of a tower [GeV]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fast", type=Path)
    parser.add_argument("full", type=Path)
    parser.add_argument("--output", type=Path, default=Path("events.png"))
    parser.add_argument("--event", type=int, default=0, help="which pair to show")
    given = parser.parse_args()
    with mpl.rc_context(style()):
        figure = draw(Images.read(given.fast), Images.read(given.full), given.event)
        FigureCanvasAgg(figure).print_png(str(given.output))


if __name__ == "__main__":
    main()
