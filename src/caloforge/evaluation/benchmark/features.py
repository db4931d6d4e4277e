"""The challenge's high-level features of showers, in its order (arXiv 2410.21611).

Positions are those of voxel centres in a layer's plane: radius r, and the two components r cos(alpha), which the
challenge calls eta, and r sin(alpha), which it calls phi. Centres and widths are energy-weighted means and standard
deviations in each layer, zero where a layer is empty. Showers are read piece by piece and never made dense.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...errors import CaloforgeError
from ...progress import Progress, silent
from ..sample import chosen_rows, pieces
from .challenge import DataSet, dataset_of

if TYPE_CHECKING:
    from ...detectors import Detector
    from ...showers import Showers

Floats = npt.NDArray[np.float64]

EMPTY = 1e-16  # MeV, added to a layer's energy where it divides
LOG_EMPTY = 1e-8  # MeV, added to energies of which the logarithm is taken
BY_LAYER = (
    "energy", "centre_eta", "centre_phi", "width_eta", "width_phi", "sparsity", "centre_r", "width_r",
)  # fmt: skip
"""Features with one number a layer; those in eta and phi only for layers with more than one bin in angle."""


@dataclass(frozen=True)
class Features:
    """High-level features of N showers; energies in MeV, lengths in mm.

    Attributes:
        dataset: the data set of the challenge that the detector belongs to.
        angular: layers with more than one bin in angle (A,).
        incident_energy: (N,).
        total: sum of the voxel energies (N,).
        layers: the features `BY_LAYER` by name: (N, A) for those in eta and phi, (N, L) for all others.
        hottest: highest voxel energy of all showers.
        threshold: voxels under it counted as empty.
    """

    dataset: DataSet
    angular: tuple[int, ...]
    incident_energy: Floats
    total: Floats
    layers: dict[str, Floats]
    hottest: float
    threshold: float

    def __len__(self) -> int:
        return len(self.total)

    def layers_of(self, name: str) -> tuple[int, ...]:
        """Layers that the columns of one of `BY_LAYER` belong to."""
        return self.angular if name.endswith(("eta", "phi")) else tuple(range(len(self.dataset.layers)))

    @property
    def names(self) -> list[str]:
        """Names of the columns of `matrix`."""
        found = ["log10_incident_energy", *(f"log10_energy[{i}]" for i in self.layers_of("energy"))]
        for name in BY_LAYER[1:5]:
            found += [f"{name}[{i}]" for i in self.layers_of(name)]
        found.append("log10_total_energy")
        for name in BY_LAYER[5:]:
            found += [f"{name}[{i}]" for i in self.layers_of(name)]
        return found

    @property
    def matrix(self) -> Floats:
        """The vector that classifiers and distances see (N, F): logarithms of energies, lengths in units of 100 mm.

        F is 30 for the photons of data set 1, 46 for its pions, 362 for data sets 2 and 3.
        """
        with np.errstate(divide="ignore"):
            incident = np.log10(self.incident_energy)[:, None]
        parts = [incident, np.log10(self.layers["energy"] + LOG_EMPTY)]
        parts += [self.layers[name] / 100 for name in BY_LAYER[1:5]]
        parts += [np.log10(self.total + LOG_EMPTY)[:, None], self.layers["sparsity"]]
        parts += [self.layers[name] / 100 for name in BY_LAYER[6:]]
        return np.concatenate(parts, axis=1)


def high_level(
    path: str | Path,
    *,
    threshold: float | None = None,
    max_showers: int | None = None,
    progress: Progress = silent,
) -> Features:
    """High-level features of a shower file.

    Args:
        path: a shower file of cylindrical voxels.
        threshold: voxels under so many MeV count as empty; by default the data set's.
        max_showers: use at most so many, evenly spread over the file.
        progress: called with showers done, showers in all.

    Raises:
        CaloforgeError: if the file is not valid, holds no showers, or its voxels are not bins in angle and radius.
    """
    from ...shower_file import ShowerFile

    with ShowerFile(path) as file:
        detector, dataset = file.detector, dataset_of(file.detector)
        rows = chosen_rows(len(file), max_showers)
        if len(rows) == 0:
            raise CaloforgeError(f"'{path}' holds no showers; give a file with some.")
        lowest = checked_threshold(threshold, dataset)
        n, angular = len(rows), tuple(i for i, grid in enumerate(detector.grids) if grid.shape[0] > 1)
        result = Features(dataset, angular, np.empty(n), np.empty(n), {}, 0.0, lowest)
        for name in BY_LAYER:
            result.layers[name] = np.empty((n, len(result.layers_of(name))))
        done, hottest = 0, 0.0
        for showers in pieces(file, rows):
            part = slice(done, done + len(showers))
            if not (showers.incident.energy > 0).all():
                raise CaloforgeError(f"'{path}' holds incident particles without energy; leave their showers out.")
            result.incident_energy[part] = showers.incident.energy
            hottest = max(hottest, _fill(result, part, showers, detector))
            done += len(showers)
            progress(done, n, "high-level features")
    return Features(dataset, angular, result.incident_energy, result.total, result.layers, hottest, lowest)


def checked_threshold(threshold: float | None, dataset: DataSet) -> float:
    """The threshold asked for, or the data set's.

    Raises:
        CaloforgeError: if it is not a positive energy: histograms of energies start at it.
    """
    if threshold is None:
        return dataset.threshold
    if not 0 < threshold < np.inf:
        raise CaloforgeError(f"a threshold of {threshold} MeV was given; it must be above 0 and finite.")
    return float(threshold)


def _fill(result: Features, part: slice, showers: Showers, detector: Detector) -> float:
    """Compute the features of some showers; the highest voxel energy among them."""
    kept = np.flatnonzero(showers.energy.astype(np.float64) >= result.threshold)
    energy = showers.energy[kept].astype(np.float64)
    voxel = showers.index[kept]
    n, n_layers = len(showers), detector.n_layers
    cell = showers.shower_of_hit[kept] * n_layers + detector.voxel_layers[voxel]

    def by_layer(weights: Floats | None) -> Floats:
        return np.bincount(cell, weights=weights, minlength=n * n_layers).astype(np.float64)

    layer_energy = by_layer(energy)
    sizes = np.array([s.stop - s.start for s in detector.layer_slices])
    result.layers["energy"][part] = layer_energy.reshape(n, n_layers)
    result.layers["sparsity"][part] = 1 - by_layer(None).reshape(n, n_layers) / sizes
    result.total[part] = layer_energy.reshape(n, n_layers).sum(axis=1)
    x, y = detector.voxel_positions[:, 0], detector.voxel_positions[:, 1]
    for name, position in (("eta", x), ("phi", y), ("r", _radius(detector))):
        chosen = list(result.layers_of(name))
        at = position[voxel]
        centre = by_layer(energy * at) / (layer_energy + EMPTY)
        away = at - centre[cell]  # two passes: the mean square less the squared mean loses half of the digits
        width = np.sqrt(by_layer(energy * away * away) / (layer_energy + EMPTY))
        result.layers[f"centre_{name}"][part] = centre.reshape(n, n_layers)[:, chosen]
        result.layers[f"width_{name}"][part] = width.reshape(n, n_layers)[:, chosen]
    return float(energy.max(initial=0.0))


def _radius(detector: Detector) -> Floats:
    """Radius of each voxel's centre (n_voxels,) in mm."""
    return np.hypot(detector.voxel_positions[:, 0], detector.voxel_positions[:, 1])
