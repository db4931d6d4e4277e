"""Single showers of both samples as data for the page's viewer, small enough to travel inside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .sample import Sample, chosen_rows

if TYPE_CHECKING:
    from ..detectors import Detector
    from ..incident import Incident
    from ..showers import Showers
    from .report import Result

PAIRS = 6
MAX_HITS = 3000  # of one shower; fainter ones are left out and counted
DECADES = 5  # of voxel energy that are shown


@dataclass(frozen=True)
class Scene:
    """Pairs of showers in their detector.

    Attributes:
        data: plain data. "labels" of the two samples; "detector" with its "name", different "grids" ("kind", "edges0",
            "edges1") and "layers" ([number of the grid, front, back] in mm); "range" of voxel energies in MeV;
            "pairs": for each incident energy two showers with "energy" and "total" in MeV, "axis" (x, y in mm, tan x,
            tan y of the incident particle), "hits", "left_out" (number and MeV of the hits too faint to be shown),
            "voxels" (rising numbers, each but the first as its distance from the one before) and "energies" in MeV.
    """

    data: dict[str, Any]


def scene(result: Result) -> Scene:
    """Showers of nearly equal incident energy, from the lowest to the highest energies of the reference."""
    a, b = result.reference, result.generated
    chosen = pairs(a.incident, b.incident, PAIRS)
    showers = [[read_shower(s, row) for s, row in zip((a, b), pair, strict=True)] for pair in chosen]
    every = np.concatenate([s.energy for pair in showers for s in pair])
    high = float(every.max(initial=0)) or 1.0
    low = max(float(every[every > 0].min(initial=high)), high / 10**DECADES)
    samples = result.data["samples"]
    return Scene(
        {
            "labels": [str(samples[side]["label"]) for side in ("reference", "generated")],
            "detector": _shape(a.detector),
            "range": [_rounded(low), _rounded(max(high, 1.01 * low))],
            "pairs": [[_shower(s, low) for s in pair] for pair in showers],
        }
    )


def pairs(reference: Incident, generated: Incident, n: int) -> list[tuple[int, int]]:
    """Showers of nearly equal incident particles, picked by these alone, from low to high energy.

    Of the generated showers closest in energy the one that enters most alike is taken; no shower is taken twice as
    long as there are others.

    Returns:
        n times (row in the reference, row in the generated sample).
    """
    wanted = np.quantile(reference.energy, np.linspace(0.05, 0.95, n))
    used: tuple[list[int], list[int]] = [], []
    for energy in wanted:
        gap = np.abs(reference.energy - energy)
        gap[used[0]] += reference.energy.max()
        first = int(np.argmin(gap))
        distance = _distance(reference, first, generated)
        distance[used[1]] += np.inf if len(used[1]) < len(generated) else 0
        used[0].append(first)
        used[1].append(int(np.argmin(distance)))
    return list(zip(*used, strict=True))


def _distance(reference: Incident, row: int, generated: Incident) -> npt.NDArray[np.float64]:
    """How unlike one of the reference the generated incident particles are; 3 % of energy weigh as much as a spread."""
    energy = reference.energy[row]
    distance: npt.NDArray[np.float64] = (np.abs(generated.energy - energy) / (0.03 * max(energy, 1e-300))) ** 2
    for name in ("tan_x", "tan_y", "x", "y"):
        column = generated.column(name)
        spread = float(np.std(reference.column(name)))
        if spread > 0:
            distance = distance + ((column - reference.column(name)[row]) / spread) ** 2
    distance = distance + 1e6 * (generated.pdg != reference.pdg[row])
    return distance


def read_shower(sample: Sample, row: int) -> Showers:
    """One shower of a measured sample."""
    from ..shower_file import ShowerFile

    with ShowerFile(sample.path) as file:
        number = int(chosen_rows(len(file), len(sample))[row])
        return file.read(number, number + 1)


def _shape(detector: Detector) -> dict[str, Any]:
    """The detector's voxels without repeating segmentations that its layers share."""
    grids: list[dict[str, Any]] = []
    layers = []
    for grid in detector.grids:
        entry = {"kind": grid.kind, "edges0": _list(grid.edges0), "edges1": _list(grid.edges1)}
        if entry not in grids:
            grids.append(entry)
        layers.append([grids.index(entry), *_list(np.asarray(grid.z, dtype=np.float64))])
    return {"name": detector.name, "grids": grids, "layers": layers}


def _shower(shower: Showers, low: float) -> dict[str, Any]:
    energy, index = shower.energy.astype(np.float64), shower.index.astype(np.int64)
    bright = np.argsort(-energy, kind="stable")[:MAX_HITS]
    bright = bright[energy[bright] >= low * (1 - 1e-9)]
    order = bright[np.argsort(index[bright])]
    incident = shower.incident
    axis = [float(incident.column(name)[0]) for name in ("x", "y", "tan_x", "tan_y")]
    return {
        "energy": float(f"{incident.energy[0]:.5g}"),
        "total": float(f"{energy.sum():.5g}"),
        "axis": [float(f"{v:.4g}") for v in axis],
        "hits": len(energy),
        "left_out": [len(energy) - len(order), _rounded(max(0.0, float(energy.sum() - energy[order].sum())))],
        "voxels": np.diff(index[order], prepend=0).tolist(),
        "energies": [_rounded(e) for e in energy[order].tolist()],
    }


def _list(edges: npt.NDArray[np.float64]) -> list[float]:
    return [float(f"{e:.6g}") for e in edges]


def _rounded(value: float) -> float:
    """Three digits are more than colours show."""
    return float(f"{value:.3g}")
