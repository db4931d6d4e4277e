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
from caloforge.evaluation import systems_figures
from caloforge.evaluation.figures import profile_curve
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
from caloforge.evaluation.resampling import Estimate
from caloforge.evaluation.response import mean_ratio
from caloforge.evaluation.systems import split
from caloforge.shower_file import ShowerFile
from caloforge.showers import Showers

Floats = npt.NDArray[np.float64]
Samples = Mapping[str, Showers]


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
    pictures = {
        "shapes": systems_figures.shapes(reference, generated, label),
        "ssim": systems_figures.similarity(alike.reference, alike.within, alike.between, label),
        "cells": systems_figures.cells(halves_cells, cells, label),
    }
    for name, image in pictures.items():
        (args.output / f"{name}.png").write_bytes(image.png)
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
