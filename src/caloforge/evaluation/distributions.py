"""What metrics compare: numbers, profiles and curves of showers, and the bins they are counted in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MIN_IN_BIN = 20
"""Fewest showers of a bin of incident energy of which a mean and a width are given."""


@dataclass(frozen=True)
class Values:
    """A distribution of one number a shower.

    Attributes:
        values: (N,), NaN where a shower has none.
        edges: bin edges; under-, overflow and undefined (NaN) are bins of their own.
    """

    values: Floats
    edges: Floats

    def __len__(self) -> int:
        return len(self.values)

    @property
    def bins(self) -> Integers:
        """Bin of each shower: 0 is underflow, then the bins, then overflow, then undefined."""
        at = np.searchsorted(self.edges, self.values, side="right")
        at[self.values == self.edges[-1]] = len(self.edges) - 1  # the last bin is closed, as in numpy
        at[np.isnan(self.values)] = len(self.edges) + 1
        return at.astype(np.int64)

    def histogram(self, weights: Floats | None = None) -> Floats:
        """Showers in each bin (bins + 3,), see `bins`."""
        return np.bincount(self.bins, weights=weights, minlength=len(self.edges) + 2).astype(np.float64)


@dataclass(frozen=True)
class Profile:
    """Something summed in bins, e.g. energy by layer.

    Attributes:
        counts: (N, bins + 2) by shower, the first and last column are under- and overflow.
        positions: where the bins lie (bins + 2,), in the unit in which distances are wanted.
    """

    counts: Floats
    positions: Floats

    def __len__(self) -> int:
        return len(self.counts)


@dataclass(frozen=True)
class Joint:
    """Several numbers a shower, looked at together: values (N, D)."""

    values: Floats

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Binned:
    """One number a shower in bins of another, e.g. the response in bins of incident energy.

    Attributes:
        values: (N,), NaN where a shower has none.
        group: bin of each shower (N,), -1 for none.
        groups: number of bins.
    """

    values: Floats
    group: Integers
    groups: int

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def kept(self) -> tuple[npt.NDArray[np.bool_], Integers, Floats]:
        """Which showers have a value and a bin (N,), and these bins and values."""
        kept: npt.NDArray[np.bool_] = np.isfinite(self.values) & (self.group >= 0)
        return kept, self.group[kept], self.values[kept]

    @cached_property
    def enough(self) -> npt.NDArray[np.bool_]:
        """Bins (groups,) of at least 20 showers."""
        enough: npt.NDArray[np.bool_] = np.bincount(self.kept[1], minlength=self.groups) >= MIN_IN_BIN
        return enough

    def moments(self, weights: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation in each bin (groups,) each, for weights (N,); NaN in bins of too few showers."""
        kept, group, values = self.kept
        w = weights[kept]
        total = np.bincount(group, w, self.groups)
        known = self.enough & (total > 1)
        total = np.where(known, total, np.nan)
        mean = np.bincount(group, w * values, self.groups) / total
        away = values - mean[group]
        with np.errstate(invalid="ignore"):
            return mean, np.sqrt(np.bincount(group, w * away * away, self.groups) / (total - 1))


Distribution = Values | Profile | Joint | Binned


def fitting_bins(values: Floats, *, log: bool = False, whole: bool = False) -> Floats:
    """Bin edges that fit the reference: at most 50 bins over all but its outermost 0.2 % on either side.

    Args:
        values: of the reference (N,); NaN are ignored.
        log: logarithmic bins if the values span more than a factor of 30.
        whole: the values are whole numbers; bins are centred on them.
    """
    finite = values[np.isfinite(values)]
    n_bins = int(np.clip(np.sqrt(len(finite)), 10, 50))
    if len(finite) == 0:
        return np.linspace(0, 1, n_bins + 1)
    positive = finite[finite > 0]
    if log and len(positive):
        low, high = np.quantile(positive, [0.002, 0.998])
        if high > 30 * low:
            return np.logspace(np.log10(low / 1.05), np.log10(high * 1.05), n_bins + 1)
    low, high = np.quantile(finite, [0.002, 0.998])
    if whole:
        step = max(1, int(np.ceil((high - low + 1) / n_bins)))
        edges: Floats = np.floor(low) - 0.5 + step * np.arange(int(np.ceil((high - low + 1) / step)) + 1)
        return edges
    margin = 0.02 * (high - low) or 0.01 * abs(high) or 0.5
    return np.linspace(low - margin, high + margin, n_bins + 1)


def profile_positions(edges: Floats, *, log: bool) -> Floats:
    """Where the bins of a profile lie for its Wasserstein distance, flows one bin outside; log10 if ``log``."""
    e = np.log10(edges) if log else edges
    centres = (e[1:] + e[:-1]) / 2
    return np.concatenate([[2 * e[0] - centres[0]], centres, [2 * e[-1] - centres[-1]]])
