"""The figures by which S0 (3DGAN, 2DGAN; arXiv 2103.13698) and S4 (AdaGAN) were validated, for any generated samples.

    python validation/published_figures.py REFERENCE.h5 NAME=GENERATED.h5 [NAME=...] [--output FOLDER]
        [--energy LOW:HIGH] [--cells N] [--edge N] [--components N] [--mip LOW:HIGH] [--pairs N] [--seed N]

Prints a table of `caloforge.evaluation.published`'s numbers, each with its error, beside the reference's own and beside
the floor: the same number for one half of the reference against the other (that of the MSE is scaled to the sizes
compared, see `shape_mse`; the others are of halves as they are). Writes FOLDER/published.json with all numbers and
curves, and shapes.png, ssim.png, cells.png. The papers look at one energy (250 +- 2 GeV): use --energy, in GeV.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from caloforge.errors import CaloforgeError
from caloforge.evaluation.figures import GENERATED, REFERENCE, REFERENCE_FILL, canvas, png, profile_curve
from caloforge.evaluation.metrics import Estimate
from caloforge.evaluation.published import (
    CellRatios,
    SamplingFraction,
    SsimCurve,
    cell_ratios,
    edge_fraction,
    energies_along,
    mip_peak,
    principal_components,
    sampling_fraction,
    shape_mse,
    ssim_curve,
)
from caloforge.evaluation.response import mean_ratio
from caloforge.shower_file import ShowerFile
from caloforge.showers import Showers

Floats = npt.NDArray[np.float64]
Samples = Mapping[str, Showers]
COLOURS = (GENERATED, "#1c7ed6", "#2f9e44", "#9c36b5", "#e0a100", "#0b7285")


@dataclass
class Row:
    """One line of the table: a number of the reference itself or its floor, and of every generated sample."""

    name: str
    unit: str = ""
    reference: Estimate | None = None
    floor: Estimate | None = None
    generated: Mapping[str, Estimate | None] = field(default_factory=dict)


# -- numbers --------------------------------------------------------------------------------------------------------


def load(path: str, window: tuple[float, float] | None) -> Showers:
    """Showers of a file, those with an incident energy in a window (GeV) only."""
    parts = []
    with ShowerFile(path) as file:
        for part in file.chunks():
            gev = part.incident.energy / 1e3
            parts.append(part[(gev >= window[0]) & (gev <= window[1])] if window else part)
    showers = Showers.concatenate(parts) if parts else None
    if not showers:
        raise CaloforgeError(f"'{path}' holds no showers{' in that energy window' if window else ''}; give another.")
    return showers


def split(showers: Showers, rng: np.random.Generator) -> tuple[Showers, Showers]:
    """Two random halves."""
    order, half = rng.permutation(len(showers)), len(showers) // 2
    return showers[np.sort(order[:half])], showers[np.sort(order[half : 2 * half])]


def mse_rows(reference: Showers, generated: Samples, seed: int) -> Iterator[Row]:
    found = {name: shape_mse(reference, s, np.random.default_rng(seed)) for name, s in generated.items()}
    first = next(iter(found.values()))
    for axis, compared in first.items():
        floor = Estimate(compared.floor.value, compared.floor.error)
        title = "shape MSE, average" if axis == "mean" else f"shape MSE along {axis}"
        yield Row(title, "%²/bin", None, floor, {name: f[axis].estimate for name, f in found.items()})


def cell_rows(reference: CellRatios, generated: Mapping[str, CellRatios]) -> Iterator[Row]:
    n = len(reference.cells)
    for title, key in ((f"mean of {n} cells, ratio", "average_mean"), (f"std of {n} cells, ratio", "average_std")):
        yield Row(title, "", None, getattr(reference, key), {k: getattr(c, key) for k, c in generated.items()})


def edge_rows(reference: Showers, generated: Samples, cells: int) -> Iterator[Row]:
    found = {name: edge_fraction(s, cells) for name, s in generated.items()}
    for edge, estimate in edge_fraction(reference, cells).items():
        values = {name: percent(f[edge]) for name, f in found.items()}
        yield Row(f"energy at {edge.replace('_', ', ')} edge", "%", percent(estimate), None, values)


def percent(estimate: Estimate) -> Estimate:
    return Estimate(100 * estimate.value, 100 * estimate.error)


def sampling_row(
    reference: SamplingFraction, halves: tuple[SamplingFraction, SamplingFraction], generated: Mapping[str, Any]
) -> Row:
    return Row(
        "sampling fraction, ratio",
        "",
        None,
        sampling_ratio(*halves),
        {name: sampling_ratio(reference, s) for name, s in generated.items()},
    )


def sampling_ratio(reference: SamplingFraction, generated: SamplingFraction) -> Estimate | None:
    """Generated over reference, averaged over bins by their errors."""
    columns = [
        {"mean": plain(np.where(s.error > 0, s.mean, np.nan)), "mean_error": np.nan_to_num(s.error).tolist()}
        for s in (reference, generated)
    ]
    found = mean_ratio(columns[0], columns[1], "mean")
    return Estimate(found["value"], found["error"]) if found else None


def component_rows(
    reference: Showers, halves: tuple[Showers, Showers], generated: Samples, n: int, seed: int
) -> Iterator[Row]:
    floor = principal_components(*halves, np.random.default_rng(seed), n)
    found = {k: principal_components(reference, s, np.random.default_rng(seed), n) for k, s in generated.items()}
    explained = next(iter(found.values())).explained
    for i in range(n):
        values: dict[str, Estimate | None] = {
            k: Estimate(float(f.ratio[i]), float(f.error[i])) for k, f in found.items()
        }
        own = Estimate(float(floor.ratio[i]), float(floor.error[i]))
        yield Row(f"variance of component {i + 1} ({100 * explained[i]:.0f} %), ratio", "", None, own, values)


def mip_rows(reference: Showers, generated: Samples, limits: tuple[float, float], seed: int) -> Iterator[Row]:
    """Position and width of the peak; nothing where there is none."""
    found: dict[str, tuple[Estimate | None, Estimate | None]] = {}
    for name, showers in (("", reference), *generated.items()):
        try:
            peak = mip_peak(showers, *limits, np.random.default_rng(seed))
            found[name] = peak.position, peak.width
        except CaloforgeError as error:
            print(f"{name or 'reference'}: {error}", file=sys.stderr)
            found[name] = None, None
    for i, title in enumerate(("peak of cell energies", "its full width at half maximum")):
        yield Row(title, "MeV", found[""][i], None, {name: found[name][i] for name in generated})


@dataclass
class Similarities:
    """Curves of structural similarity."""

    reference: SsimCurve
    halves: SsimCurve
    within: dict[str, SsimCurve]
    between: dict[str, SsimCurve]

    def rows(self) -> Iterator[Row]:
        """At the dynamic range where the reference's curve is half-way up: there it tells most."""
        curve = self.reference.mean
        at = int(np.abs(curve - (curve.min() + curve.max()) / 2).argmin())
        for title, own, floor, found in (
            ("SSIM within sample", self.reference, None, self.within),
            ("SSIM to reference", None, self.halves, self.between),
        ):
            yield Row(
                f"{title}, L = {self.reference.dynamic_ranges[at]:.3g} MeV",
                "",
                at_range(own, at),
                at_range(floor, at),
                {name: at_range(c, at) for name, c in found.items()},
            )


def at_range(curve: SsimCurve | None, at: int) -> Estimate | None:
    return Estimate(float(curve.mean[at]), float(curve.error[at])) if curve else None


def similarities(
    reference: Showers, halves: tuple[Showers, Showers], generated: Samples, pairs: int, seed: int
) -> Similarities:
    ranges = np.logspace(-2, np.log10(float(reference.energy.max())) + 1.5, 29)

    def curve(a: Showers, b: Showers) -> SsimCurve:
        most = len(a) // 2 if a is b else min(len(a), len(b))
        return ssim_curve(a, b, ranges, min(pairs, most), np.random.default_rng(seed))

    return Similarities(
        curve(reference, reference),
        curve(*halves),
        {name: curve(s, s) for name, s in generated.items()},
        {name: curve(reference, s) for name, s in generated.items()},
    )


# -- table and file -------------------------------------------------------------------------------------------------


def text(estimate: Estimate | None) -> str:
    """Value and error to the error's second digit."""
    if estimate is None or not np.isfinite(estimate.value):
        return "–"
    if not estimate.error > 0:
        return f"{estimate.value:.4g}"
    size = int(np.floor(np.log10(estimate.error)))
    if -5 < size < 2:
        digits = max(0, 1 - size)
        return f"{estimate.value:.{digits}f} ± {estimate.error:.{digits}f}"
    return f"{estimate.value:.3g} ± {estimate.error:.1g}"


def table(rows: Sequence[Row], names: Sequence[str], label: str) -> Table:
    from rich import box

    drawn = Table(box=box.MARKDOWN)
    drawn.add_column("number")
    for column in (label, "floor", *names):
        drawn.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        title = f"{row.name} [{row.unit}]" if row.unit else row.name
        cells = (row.reference, row.floor, *(row.generated.get(n) for n in names))
        drawn.add_row(title.replace("[", r"\["), *map(text, cells))
    return drawn


def plain(value: Any) -> Any:
    """As JSON data; NaN becomes null."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    return None if isinstance(value, float) and not np.isfinite(value) else value


# -- pictures -------------------------------------------------------------------------------------------------------


def shapes_picture(reference: Showers, generated: Samples, label: str) -> bytes:
    """Mean energies along x, y and layer: linear, logarithmic, ratio."""
    grid = reference.detector.grids[0]
    edges = (grid.edges1, grid.edges0, np.arange(reference.detector.n_layers + 1) - 0.5)
    below = [[profile_curve(v) for v in energies_along(s)] for s in generated.values()]
    columns = 3 if reference.detector.n_layers > 1 else 2  # a single layer has no shape
    with canvas(0.4 + 3.7 * columns, 8.2) as figure:
        panels = figure.subplots(3, columns, sharex="col", height_ratios=[2, 2, 1.3])
        own_energies = energies_along(reference)
        for column, xlabel in enumerate(("x [mm]", "y [mm]", "layer")[:columns]):
            along = own_energies[column]
            own, at = profile_curve(along), edges[column]
            middle = (at[1:] + at[:-1]) / 2
            known = own.values > 0
            safe = np.where(known, own.values, np.nan)
            for panel in panels[:2, column]:
                panel.stairs(own.values, at, fill=True, color=REFERENCE_FILL)
                panel.stairs(own.values, at, color=REFERENCE, linewidth=1.1, label=label)
            ratios = []
            for (name, curves), colour in zip(zip(generated, below, strict=True), COLOURS, strict=False):
                curve = curves[column]
                for panel in panels[:2, column]:
                    panel.stairs(curve.values, at, color=colour, linewidth=1.3, label=name)
                ratios.append((curve.values / safe, curve.errors / safe, colour))
            band = own.errors / safe
            panels[2, column].stairs(
                1 + np.nan_to_num(band), at, baseline=1 - np.nan_to_num(band), fill=True, color=REFERENCE, alpha=0.25
            )
            panels[2, column].axhline(1, color=REFERENCE, linewidth=0.9)
            far = [np.abs(ratio - 1) + error for ratio, error, _ in ratios]
            wanted = 1.2 * float(np.nanquantile(np.concatenate([*far, band]), 0.9))
            half = next((h for h in (0.02, 0.05, 0.1, 0.2, 0.5) if h >= wanted), 1.0)
            for i, (ratio, error, colour) in enumerate(ratios):
                place = middle + np.diff(at) * 0.6 * ((i + 0.5) / len(ratios) - 0.5)  # side by side
                inside = np.abs(ratio - 1) <= half
                panels[2, column].errorbar(
                    place[inside], ratio[inside], error[inside], fmt="o", markersize=2.6, color=colour, elinewidth=0.9
                )
                for beyond, marker, y in (
                    (ratio > 1 + half, "^", 1 + 0.93 * half),
                    (ratio < 1 - half, "v", 1 - 0.93 * half),
                ):
                    panels[2, column].plot(
                        place[beyond], np.full(beyond.sum(), y), marker, markersize=3.5, color=colour
                    )
            panels[2, column].set_ylim(1 - half, 1 + half)
            panels[1, column].set_yscale("log")
            panels[1, column].set_ylim(np.nanmin(safe) / 3, np.nanmax(safe) * 4)
            panels[0, column].set_ylim(bottom=0)
            panels[2, column].set_xlim(at[0], at[-1])
            panels[2, column].set_xlabel(xlabel)
        for panel in panels[:2, 0]:
            panel.set_ylabel("mean energy a bin [MeV]")
        panels[2, 0].set_ylabel(f"ratio to {label.split()[0]}")
        figure.align_ylabels(panels[:, 0])
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
        return png(figure)


def ssim_picture(found: Similarities, label: str) -> bytes:
    """Structural similarity against the dynamic range, and its difference to the reference's own."""
    with canvas(7.4, 6.0) as figure:
        top, low = figure.subplots(2, 1, sharex=True, height_ratios=[2.4, 1.2])
        x = found.reference.dynamic_ranges
        short = label.split()[0]
        curves = [(f"within {short}", found.reference, REFERENCE, "-")]
        for name, colour in zip(found.within, COLOURS, strict=False):
            curves += [
                (f"within {name}", found.within[name], colour, "-"),
                (f"between {short} and {name}", found.between[name], colour, "--"),
            ]
        for title, curve, colour, line in curves:
            own = curve is found.reference  # wide, to be seen under the others
            top.plot(
                x, curve.mean, line, color=colour, linewidth=4 if own else 1.4, alpha=0.45 if own else 1, label=title
            )
            away = curve.mean - found.reference.mean
            low.plot(x, away, line, color=colour, linewidth=0.9 if own else 1.2)
            low.fill_between(
                x, away - curve.error, away + curve.error, color=colour, alpha=0.25 if own else 0.13, linewidth=0
            )
        top.set_ylabel("mean SSIM of pairs of showers")
        top.set_ylim(min(0.0, float(min(c.mean.min() for _, c, _, _ in curves)) * 1.1), 1.03)
        low.set_ylabel(f"difference to\nwithin {short}")
        low.set_xlabel("dynamic range L [MeV]")
        low.set_xscale("log")
        low.set_xlim(x[0], x[-1])
        figure.align_ylabels([top, low])
        figure.legend(*top.get_legend_handles_labels(), loc="outside upper center", ncols=3)
        return png(figure)


def cells_picture(halves: CellRatios, generated: Mapping[str, CellRatios], label: str) -> bytes:
    """Histograms over the hottest cells of the ratios of their means and standard deviations."""
    short = label.split()[0]
    with canvas(9.6, 4.2) as figure:
        for panel, (title, key) in zip(
            figure.subplots(1, 2), (("mean energy", "mean"), ("standard deviation", "std")), strict=True
        ):
            samples = {k: v[np.isfinite(v)] for k, c in generated.items() for v in [getattr(c, key)]}
            own = getattr(halves, key)
            own = own[np.isfinite(own)]
            low, high = np.quantile(np.concatenate([own, *samples.values()]), [0.005, 0.995])
            edges = np.linspace(min(low, 0.9), max(high, 1.1), 41)

            def counts(values: Floats, edges: Floats = edges) -> npt.NDArray[Any]:
                return np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]  # what lies beyond at the ends

            panel.stairs(counts(own), edges, fill=True, color=REFERENCE_FILL, label=f"{short}, half / half")
            for (name, values), colour in zip(samples.items(), COLOURS, strict=False):
                panel.stairs(counts(values), edges, color=colour, linewidth=1.4, label=f"{name} / {short}")
            panel.axvline(1, color=REFERENCE, linewidth=0.9, linestyle=":")
            panel.set_xlabel(f"ratio of the cells' {title}")
            panel.set_ylabel("cells")
            panel.set_xlim(edges[0], edges[-1])
            handles = panel.get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper center", ncols=4)
        return png(figure)


# -- all of it ------------------------------------------------------------------------------------------------------


def interval(given: str) -> tuple[float, float]:
    try:
        low, high = (float(v) for v in given.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{given}' is not LOW:HIGH; write two numbers, as in 245:255") from None
    return low, high


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", help="shower file, usually Geant4")
    parser.add_argument("generated", nargs="+", metavar="NAME=FILE", help="shower file with the name to show")
    parser.add_argument("--output", type=Path, default=Path("published"), help="folder for the figures and numbers")
    parser.add_argument("--energy", type=interval, help="incident energies used, LOW:HIGH in GeV")
    parser.add_argument("--cells", type=int, default=343, help="number of hottest cells compared")
    parser.add_argument("--edge", type=int, default=1, help="cells and layers that count as edge")
    parser.add_argument("--components", type=int, default=6, help="number of principal components")
    parser.add_argument("--mip", type=interval, default=(0.03, 3.0), help="limits of the cell energies' peak in MeV")
    parser.add_argument("--pairs", type=int, default=300, help="pairs of showers for the structural similarity")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    reference = load(args.reference, args.energy)
    generated: dict[str, Showers] = {}
    for given in args.generated:
        name, equals, path = given.partition("=")
        if not (name and equals and path) or name in generated:
            raise CaloforgeError(f"'{given}' is not NAME=FILE with a name of its own; write one, as in 2dgan=fake.h5.")
        generated[name] = load(path, args.energy)
    gev = reference.incident.energy / 1e3
    label = str(reference.provenance.get("label") or "reference")
    if gev.max() > 1.1 * gev.min():
        print(
            f"incident energies from {gev.min():.1f} to {gev.max():.1f} GeV: cells, SSIM and the MSE's floor "
            "include that spread; choose a narrow window with --energy",
            file=sys.stderr,
        )
    halves = split(reference, np.random.default_rng(args.seed))

    def rng() -> np.random.Generator:
        return np.random.default_rng(args.seed)

    cells = {name: cell_ratios(reference, s, rng(), args.cells) for name, s in generated.items()}
    halves_cells = cell_ratios(*halves, rng(), args.cells)
    own_fraction = sampling_fraction(reference)
    edges = own_fraction.edges_gev
    fractions = {name: sampling_fraction(s, edges_gev=edges) for name, s in generated.items()}
    half_fractions = sampling_fraction(halves[0], edges_gev=edges), sampling_fraction(halves[1], edges_gev=edges)
    alike = similarities(reference, halves, generated, args.pairs, args.seed)
    rows = [
        *mse_rows(reference, generated, args.seed),
        *cell_rows(halves_cells, cells),
        *alike.rows(),
        *edge_rows(reference, generated, args.edge),
        sampling_row(own_fraction, half_fractions, fractions),
        *component_rows(reference, halves, generated, args.components, args.seed),
        *mip_rows(reference, generated, args.mip, args.seed),
    ]
    Console(width=max(100, 60 + 22 * (len(generated) + 1))).print(table(rows, list(generated), label))
    args.output.mkdir(parents=True, exist_ok=True)
    shapes = {name: dict(shapes_of(s)) for name, s in (("reference", reference), *generated.items())}
    numbers = {
        "showers": {name: len(s) for name, s in (("reference", reference), *generated.items())},
        "energy_gev": [float(gev.min()), float(gev.max())],
        "table": rows,
        "shapes_mev": shapes,
        "cells": cells,
        "cells_floor": halves_cells,
        "ssim": alike,
        "sampling_fraction": {"reference": own_fraction, **fractions},
    }
    (args.output / "published.json").write_text(json.dumps(plain(numbers), indent=1, allow_nan=False) + "\n")
    (args.output / "shapes.png").write_bytes(shapes_picture(reference, generated, label))
    (args.output / "ssim.png").write_bytes(ssim_picture(alike, label))
    (args.output / "cells.png").write_bytes(cells_picture(halves_cells, cells, label))
    print(f"written: {args.output}/published.json, shapes.png, ssim.png, cells.png")


def shapes_of(showers: Showers) -> Iterator[tuple[str, dict[str, Floats]]]:
    """Mean energies along each axis with their errors."""
    along = energies_along(showers)
    for name, values in zip(along._fields, along, strict=True):
        curve = profile_curve(values)
        yield name, {"mean": curve.values, "error": curve.errors}


if __name__ == "__main__":
    try:
        main()
    except CaloforgeError as error:
        sys.exit(str(error))
