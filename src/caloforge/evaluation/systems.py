"""What the published systems were validated by, for the report of any two samples.

S0 (arXiv 2103.13698): shower shapes in bins of incident energy and their mean squared error, the hottest cells,
structural similarity. S1 (arXiv 2005.05334): visible energy at fixed energies, the peak of the cell energies. S4
(Jaruskova & Vallecorsa 2024): edges, principal components, a t-SNE picture. Linearity, resolution, correlations,
profiles, asymmetries and sparsity, which these systems and S3 (arXiv 1812.01319) showed too, are observables.

Everything here looks at some thousands of showers at most, read once.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CaloforgeError
from ..progress import Progress, silent
from ..shower_file import ShowerFile
from ..showers import Showers
from .published import (
    CellRatios,
    MipPeak,
    PrincipalComponents,
    SsimCurve,
    cell_ratios,
    edge_fraction,
    mip_peak,
    principal_components,
    shape_mse,
    ssim_curve,
)
from .resampling import Estimate, bootstrap
from .sample import Sample, chosen_rows, pieces
from .shapes import cells_of

Floats = npt.NDArray[np.float64]

MAX_SHOWERS = 5000  # of each sample
WINDOWS = 3  # of incident energy
NARROW = 100  # showers wanted for what the systems looked at for equal energies
CELLS, COMPONENTS, PAIRS, EMBEDDED = 343, 6, 300, 600


@dataclass(frozen=True)
class Window:
    """Showers of both samples with incident energies between two limits (MeV, the upper one included)."""

    low: float
    high: float
    reference: Showers
    generated: Showers

    @property
    def limits(self) -> dict[str, Any]:
        """Limits and numbers of showers, as plain data."""
        return {
            "low_mev": self.low,
            "high_mev": self.high,
            "reference": len(self.reference),
            "generated": len(self.generated),
        }


@dataclass
class Systems:
    """What pictures need of it.

    Attributes:
        windows: incident-energy windows of the shower shapes; empty for detectors without common cells.
        narrow: showers of nearly equal energy.
        visible: total energies of both samples at fixed incident energies, by incident energy in MeV.
        cells: the hottest cells in `narrow`, generated over reference.
        cells_floor: likewise one half of the reference over the other.
        ssim: structural similarity: "reference" and "generated" within, "between", and "halves" of the reference.
        peaks: peaks of the cell energies, reference and generated; None where there is none.
        components: principal components.
        embedding: t-SNE of both samples, (n, 2) each.
    """

    windows: list[Window] = field(default_factory=list)
    narrow: Window | None = None
    visible: dict[float, tuple[Floats, Floats]] = field(default_factory=dict)
    cells: CellRatios | None = None
    cells_floor: CellRatios | None = None
    ssim: dict[str, SsimCurve] = field(default_factory=dict)
    peaks: tuple[MipPeak | None, MipPeak | None] = (None, None)
    components: PrincipalComponents | None = None
    embedding: tuple[Floats, Floats] | None = None


def score_systems(
    reference: Sample, generated: Sample, *, seed: int, quick: bool = False, progress: Progress = silent
) -> tuple[dict[str, Any], Systems]:
    """All of it, of two samples of one detector.

    What a detector or a sample cannot give (shapes of a cylinder, similarity of ten showers) is left out and said.

    Args:
        reference: measured, usually Geant4's.
        generated: measured.
        seed: of bootstraps, pairs and embedding.
        quick: no structural similarity and no embedding.
        progress: called with parts done, parts.

    Returns:
        Plain data for report.json, with "missing": what was left out and why; and what pictures need.
    """
    a, b = (_some_showers(sample) for sample in (reference, generated))
    halves = split(a, _rng(seed, 0))
    found = Systems(windows=_windows(a, b), narrow=_narrow(a, b))
    parts: dict[str, Callable[[], Any]] = {
        "visible_energy": lambda: _visible(found, a, b),
        "shapes": lambda: _shapes(found, seed),
        "edges": lambda: _edges(a, b, halves),
        "cells": lambda: _cells(found, seed),
        "cell_peak": lambda: _peaks(found, a, b, seed),
        "components": lambda: _components(found, a, b, halves, seed),
    }
    if not quick:
        parts |= {"similarity": lambda: _similarity(found, seed), "embedding": lambda: _embedding(found, seed)}
    data: dict[str, Any] = {"showers": [len(a), len(b)], "missing": {}}
    for number, (name, part) in enumerate(parts.items()):
        try:
            data[name] = part()
        except CaloforgeError as error:
            data["missing"][name] = str(error)
        progress(number + 1, len(parts), name.replace("_", " "))
    plain: dict[str, Any] = json.loads(json.dumps(data), parse_constant=lambda _: None)  # no number: None
    return plain, found


def _rng(seed: int, part: int) -> np.random.Generator:
    return np.random.default_rng([seed, 7, part])


def _some_showers(sample: Sample) -> Showers:
    with ShowerFile(sample.path) as file:
        rows = chosen_rows(len(file), len(sample))
        return Showers.concatenate(list(pieces(file, rows[chosen_rows(len(rows), MAX_SHOWERS)])))


def split(showers: Showers, rng: np.random.Generator) -> tuple[Showers, Showers]:
    """Two random halves, without what is left over."""
    order, half = rng.permutation(len(showers)), len(showers) // 2
    return showers[np.sort(order[:half])], showers[np.sort(order[half : 2 * half])]


# -- windows of incident energy --------------------------------------------------------------------------------------


def _within(low: float, high: float, samples: tuple[Showers, Showers]) -> Window:
    kept = [s[np.flatnonzero((s.incident.energy >= low) & (s.incident.energy <= high))] for s in samples]
    return Window(low, high, kept[0], kept[1])


def _windows(a: Showers, b: Showers) -> list[Window]:
    """Windows with equally many of the reference's showers."""
    energy = a.incident.energy
    n = 1 if np.ptp(energy) == 0 else WINDOWS
    edges = np.quantile(energy, np.linspace(0, 1, n + 1))
    return [_within(low, high, (a, b)) for low, high in itertools.pairwise(edges)]


def _narrow(a: Showers, b: Showers) -> Window:
    """The narrowest window about the middle energy with enough showers: the paper took 250 GeV within 0.8 %."""
    middle = float(np.median(a.incident.energy))
    widths = [np.sort(np.abs(s.incident.energy - middle)) for s in (a, b)]
    half = max(float(w[min(NARROW, len(w)) - 1]) for w in widths)
    return _within(middle - half, middle + half, (a, b))


def _fixed_energies(energy: Floats) -> list[float]:
    """Three energies, MeV: those there are, if few, else round ones about the quarters of the range."""
    points = np.unique(energy)
    if len(points) <= 20:
        return [float(points[i]) for i in sorted({0, len(points) // 2, len(points) - 1})]
    low, high = points[0], points[-1]
    log = bool(high > 30 * low and np.median(energy) < (low + high) / 4)
    inner = np.geomspace(low, high, 5)[1:4] if log else np.linspace(low, high, 5)[1:4]
    return [float(f"{v:.2g}") for v in inner]


# -- parts -----------------------------------------------------------------------------------------------------------


def _visible(found: Systems, a: Showers, b: Showers) -> list[dict[str, Any]]:
    """Visible energy at fixed incident energies: showers within 10 % of one, scaled to it (S1)."""
    rows = []
    for energy in _fixed_energies(a.incident.energy):
        window = _within(0.9 * energy, 1.1 * energy, (a, b))
        values = [s.total_energy / s.incident.energy * energy for s in (window.reference, window.generated)]
        if min(len(v) for v in values) < 20:
            continue
        found.visible[energy] = (values[0], values[1])
        row: dict[str, Any] = {"energy_mev": energy}
        for side, v in zip(("reference", "generated"), values, strict=True):
            sigma = float(v.std(ddof=1))
            row[side] = {
                "n": len(v),
                "mean_mev": float(v.mean()),
                "error_mev": sigma / len(v) ** 0.5,
                "sigma_mev": sigma,
            }
        rows.append(row)
    if not rows:
        raise CaloforgeError("fewer than 20 showers lie within 10 % of any of three energies; give more showers.")
    return rows


def _shapes(found: Systems, seed: int) -> list[dict[str, Any]]:
    rows = []
    for window in found.windows:
        compared = shape_mse(window.reference, window.generated, _rng(seed, 1))
        rows.append({**window.limits, "mse": {axis: c.to_dict() for axis, c in compared.items()}})
    return rows


def _edges(a: Showers, b: Showers, halves: tuple[Showers, Showers]) -> dict[str, Any]:
    """Share of the energy at each edge, generated minus reference, with the halves' difference as floor."""
    one, two, *own = (edge_fraction(s) for s in (a, b, *halves))
    found = {}
    for edge in one:
        floor = own[1][edge].value - own[0][edge].value
        found[edge] = {
            "reference": one[edge].to_dict(),
            "generated": two[edge].to_dict(),
            "value": two[edge].value - one[edge].value,
            "error": float(np.hypot(one[edge].error, two[edge].error)),
            "floor": {"value": abs(floor), "error": float(np.hypot(own[0][edge].error, own[1][edge].error))},
        }
    return found


def _cells(found: Systems, seed: int) -> dict[str, Any]:
    window = found.narrow
    assert window is not None
    hit = len(np.unique(window.reference.index))
    halves = split(window.reference, _rng(seed, 2))
    n = min(CELLS, hit, len(np.unique(halves[0].index)))
    found.cells = cell_ratios(window.reference, window.generated, _rng(seed, 3), n)
    found.cells_floor = cell_ratios(*halves, _rng(seed, 4), n)
    ratios = {
        key: {**getattr(found.cells, key).to_dict(), "floor": getattr(found.cells_floor, key).to_dict()}
        for key in ("average_mean", "average_std")
    }
    return {"cells": n, **window.limits, **ratios}


def _peaks(found: Systems, a: Showers, b: Showers, seed: int) -> dict[str, Any]:
    low, high = peak_limits(a.energy)
    one, two = (mip_peak(s, low, high, _rng(seed, 5)) for s in (a, b))
    found.peaks = (one, two)
    rows = {}
    for key in ("position", "width"):
        x, y = getattr(one, key), getattr(two, key)
        ratio = y.value / x.value
        error = abs(ratio) * float(np.hypot(x.error / x.value, y.error / y.value))
        rows[key] = {"reference": x.to_dict(), "generated": y.to_dict(), "value": ratio, "error": error}
    return {"low_mev": low, "high_mev": high, **rows}


def peak_limits(energy: npt.ArrayLike) -> tuple[float, float]:
    """Limits (MeV) around the highest peak of cell energies against their logarithm.

    Cells under a millionth of the highest are left out: those are dust that transport leaves, with a peak of its own.

    Raises:
        CaloforgeError: if no cell holds energy.
    """
    values = np.asarray(energy, dtype=np.float64)
    values = values[values > 1e-6 * values.max(initial=0)]
    if not len(values):
        raise CaloforgeError("no cell holds energy, so their energies have no peak; give showers that do.")
    logs = np.log(values)
    edges = np.arange(logs.min(), logs.max() + 0.4, 0.2)
    counts = np.histogram(logs, edges)[0]
    top = float(np.exp(edges[:-1][counts.argmax()] + 0.1))
    return top / 6, top * 12


def _components(
    found: Systems, a: Showers, b: Showers, halves: tuple[Showers, Showers], seed: int
) -> list[dict[str, Any]]:
    found.components = principal_components(a, b, _rng(seed, 6), COMPONENTS)
    own = principal_components(*halves, _rng(seed, 7), COMPONENTS)
    return [
        {
            "explained": float(found.components.explained[i]),
            "value": float(found.components.ratio[i]),
            "error": float(found.components.error[i]),
            "floor": {"value": float(own.ratio[i]), "error": float(own.error[i])},
        }
        for i in range(COMPONENTS)
    ]


def _similarity(found: Systems, seed: int) -> dict[str, Any]:
    window = found.narrow
    assert window is not None
    cells_of(window.reference.detector)
    a, b = window.reference, window.generated
    halves = split(a, _rng(seed, 8))
    ranges = np.logspace(-2, np.log10(float(a.energy.max())) + 1.5, 25)

    def curve(one: Showers, two: Showers) -> SsimCurve:
        most = len(one) // 2 if one is two else min(len(one), len(two))
        return ssim_curve(one, two, ranges, min(PAIRS, most), _rng(seed, 9))

    found.ssim = {"reference": curve(a, a), "generated": curve(b, b), "between": curve(a, b), "halves": curve(*halves)}
    own = found.ssim["reference"].mean
    at = int(np.abs(own - (own.min() + own.max()) / 2).argmin())  # half-way up it tells most

    def there(name: str) -> dict[str, float]:
        shown = found.ssim[name]
        return Estimate(float(shown.mean[at]), float(shown.error[at])).to_dict()

    return {
        "low_mev": window.low,
        "high_mev": window.high,
        "showers": [len(a), len(b)],
        "dynamic_range_mev": float(ranges[at]),
        **{name: there(name) for name in found.ssim},
        "curves": {
            "dynamic_range_mev": ranges.tolist(),
            **{name: {"mean": c.mean.tolist(), "error": c.error.tolist()} for name, c in found.ssim.items()},
        },
    }


def _embedding(found: Systems, seed: int) -> dict[str, Any]:
    """t-SNE of the principal components of both samples together: a picture, not a measurement (S4)."""
    if found.components is None:
        raise CaloforgeError("there are no principal components to embed; see there.")
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    sides = [v[chosen_rows(len(v), EMBEDDED)] for v in (found.components.reference, found.components.generated)]
    together = np.concatenate(sides) / sides[0].std(axis=0)
    perplexity = min(30.0, (len(together) - 1) / 4)
    with threadpool_limits(1):
        made = TSNE(perplexity=perplexity, random_state=seed, init="pca", max_iter=500).fit_transform(together)
    placed: Floats = made.astype(np.float64)
    found.embedding = (placed[: len(sides[0])], placed[len(sides[0]) :])
    apart = _neighbours_alike(found.embedding, _rng(seed, 10))
    return {"showers": [len(s) for s in sides], "perplexity": perplexity, "neighbours_alike": apart.to_dict()}


def _neighbours_alike(points: Sequence[Floats], rng: np.random.Generator, k: int = 10) -> Estimate:
    """How often the k nearest of a point are of its own sample, over what chance gives: 1 for samples that mix."""
    from scipy.spatial import cKDTree

    together = np.concatenate(list(points))
    side = np.repeat([0, 1], [len(p) for p in points])
    near = cKDTree(together).query(together, k=min(k, len(together) - 1) + 1)[1][:, 1:]
    alike = (side[near] == side[:, None]).mean(axis=1)
    sizes = np.bincount(side)
    chance = float((sizes * (sizes - 1)).sum() / (len(side) * (len(side) - 1)))
    draws = bootstrap(len(alike), rng).astype(np.float64)
    return Estimate(float(alike.mean()) / chance, float(np.std(draws @ alike / len(alike), ddof=1)) / chance)
