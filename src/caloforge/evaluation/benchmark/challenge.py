"""The data sets of the CaloChallenge 2022 (arXiv 2410.21611), as far as its scores depend on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from ...errors import CaloforgeError

if TYPE_CHECKING:
    from ...detectors import Detector

SAMPLING_THRESHOLD = 0.5e-3 / 0.033
"""Threshold of data sets 2 and 3 in MeV: 0.5 keV of deposit over the sampling fraction."""


@dataclass(frozen=True)
class DataSet:
    """What the standard says about one data set.

    Attributes:
        name: "1-photons", "1-pions", "2", "3", or "" for another detector of cylindrical voxels.
        layers: the challenge's number of each layer.
        threshold: voxels under so many MeV count as empty.
        split: showers of each sample to train on, to choose and calibrate the network ("test") and to score ("val").
        narrow: whether the histograms have the narrow ranges of data sets 2 and 3.
    """

    name: str
    layers: tuple[int, ...]
    threshold: float
    split: tuple[int, int, int]
    narrow: bool

    @property
    def showers(self) -> int:
        """Showers of each sample in the official comparison."""
        return sum(self.split)


_KNOWN = {
    "calochallenge-photons": DataSet("1-photons", (0, 1, 2, 3, 12), 1.0, (80_000, 20_000, 21_000), False),
    "calochallenge-pions": DataSet("1-pions", (0, 1, 2, 3, 12, 13, 14), 1.0, (80_000, 20_000, 20_800), False),
    "par04-siw": DataSet("2", tuple(range(45)), SAMPLING_THRESHOLD, (60_000, 20_000, 20_000), True),
    "par04-siw-fine": DataSet("3", tuple(range(45)), SAMPLING_THRESHOLD, (60_000, 20_000, 20_000), True),
}


@cache
def _segmentations() -> tuple[tuple[Detector, DataSet], ...]:
    from ...detectors import Detector

    return tuple((Detector.load(name), dataset) for name, dataset in _KNOWN.items())


def dataset_of(detector: Detector) -> DataSet:
    """The data set whose voxels a detector has; one like data set 2 for other cylindrical voxels.

    Raises:
        CaloforgeError: if the detector's voxels are not bins in angle and radius.
    """
    if any(grid.kind != "polar" for grid in detector.grids):
        raise CaloforgeError(
            f"the CaloChallenge's standard is not defined for detector '{detector.name}', whose cells are rectangular; "
            "it needs voxels in angle and radius (calochallenge-photons, calochallenge-pions, par04-siw, "
            "par04-siw-fine), for others use `caloforge evaluate` without --standard."
        )
    for known, dataset in _segmentations():
        if known.same_voxels(detector):
            return dataset
    like = _KNOWN["par04-siw"]
    return DataSet("", tuple(range(detector.n_layers)), like.threshold, like.split, like.narrow)
