"""Summary numbers of a sample, gathered piece by piece in bounded memory."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from ..detectors import Detector
from ..incident import MAX_ENERGY, Incident, particle_name
from ..showers import Showers

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 40
_FINE = np.concatenate([[0.0], np.geomspace(1e-6, MAX_ENERGY, 42001)])  # MeV; fine bins that any range is built from
_MIN_ENERGY = 1e-9  # MeV; a response to less than that means nothing
_MAX_DISTINCT = 64


class Statistics:
    """Gathers what `caloforge info` tells about showers."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._n = 0
        self._particles: Counter[int] = Counter()
        self._ranges: dict[str, tuple[float, float]] = {}
        self._energies = np.zeros(len(_FINE) - 1, dtype=np.int64)
        self._distinct: set[float] | None = set()
        self._response = _Moments()
        self._hits = np.zeros(2, dtype=np.int64)  # sum, number of empty showers
        self._hit_range = (0, 0)

    def add(self, showers: Showers) -> None:
        """Take in some showers."""
        if not len(showers):
            return
        incident, hits = showers.incident, showers.n_hits
        low, high = int(hits.min()), int(hits.max())
        self._hit_range = (min(low, self._hit_range[0]) if self._n else low, max(high, self._hit_range[1]))
        self._hits += [int(hits.sum()), int((hits == 0).sum())]
        self._n += len(showers)
        for code, count in zip(*np.unique(incident.pdg, return_counts=True), strict=True):
            self._particles[int(code)] += int(count)
        self._add_energies(incident.energy)
        known = incident.energy > _MIN_ENERGY
        self._response.add(showers.total_energy[known] / incident.energy[known])
        for name, values in _places(incident).items():
            ends = (float(values.min()), float(values.max()))
            old = self._ranges.get(name, ends)
            self._ranges[name] = (min(old[0], ends[0]), max(old[1], ends[1]))

    def _add_energies(self, energy: npt.NDArray[np.float64]) -> None:
        self._energies += np.histogram(energy, _FINE)[0]
        if self._distinct is not None:
            self._distinct |= set(np.unique(energy).tolist())
            if len(self._distinct) > _MAX_DISTINCT:
                self._distinct = None

    def summary(self) -> dict[str, Any]:
        """The numbers, as plain data: MeV, mm, rad."""
        result: dict[str, Any] = {"showers": self._n}
        if not self._n:
            return result
        hits = int(self._hits[0])
        low, high = self._ranges["energy"]
        result["particles"] = {particle_name(code): count for code, count in self._particles.most_common(8)}
        result["energy"] = {"min": low, "max": high, **self._spectrum(low, high)}
        result["angles"] = {name: list(self._ranges[name]) for name in ("theta", "tan_x", "tan_y")}
        result["positions"] = {name: list(self._ranges[name]) for name in ("x", "y")}
        result["response"] = self._response.summary()
        result["hits"] = {
            "mean": hits / self._n,
            "min": self._hit_range[0],
            "max": self._hit_range[1],
            "empty": int(self._hits[1]),
        }
        result["sparsity"] = 1 - hits / (self._n * self._detector.n_voxels)
        return result

    def _spectrum(self, low: float, high: float) -> dict[str, Any]:
        """Kind of spectrum (the nearer of uniform and log-uniform, or discrete) and a small histogram."""
        if high <= _MIN_ENERGY:
            return {"spectrum": "unknown", "histogram": ""}
        if math.isclose(low, high):
            return {"spectrum": "one energy", "histogram": ""}
        if self._distinct is not None and self._n > 4 * len(self._distinct):
            return {"spectrum": f"{len(self._distinct)} energies", "histogram": ""}
        inside = (_FINE[1:] > low) & (_FINE[:-1] < high)
        counts = self._energies[inside]
        upper = np.minimum(_FINE[1:][inside], high)
        share = np.cumsum(counts) / max(counts.sum(), 1)
        shapes = {"uniform": (upper - low) / (high - low)}
        if low > 0:
            shapes["log-uniform"] = np.log(upper / low) / math.log(high / low)
        distance = {name: float(np.abs(share - expected).max()) for name, expected in shapes.items()}
        best = min(distance, key=distance.__getitem__)
        # Within the fluctuation of n showers (a Kolmogorov-Smirnov test at 0.1 %), and a little more.
        kind = best if distance[best] < 1.95 / math.sqrt(self._n) + 0.02 else "other"
        return {"spectrum": kind, "histogram": _bars(counts, upper, low, high, kind == "log-uniform")}


class _Moments:
    """Mean and spread of a stream of numbers (Welford's method, in batches)."""

    def __init__(self) -> None:
        self.n, self.mean, self.square = 0, 0.0, 0.0

    def add(self, values: npt.NDArray[np.float64]) -> None:
        n = len(values)
        if not n:
            return
        mean = float(values.mean())
        shift = mean - self.mean
        total = self.n + n
        self.square += float(np.square(values - mean).sum()) + shift**2 * self.n * n / total
        self.mean += shift * n / total
        self.n = total

    def summary(self) -> dict[str, float] | None:
        if not self.n:
            return None
        spread = math.sqrt(self.square / max(self.n - 1, 1))
        return {"mean": self.mean, "spread": spread, "error": spread / math.sqrt(self.n)}


def _places(incident: Incident) -> dict[str, npt.NDArray[np.float64]]:
    along = np.where(incident.direction[:, 2] > 1e-12, incident.direction[:, 2], np.nan)
    tangents = {f"tan_{axis}": incident.direction[:, i] / along for i, axis in enumerate("xy")}
    return {
        "energy": incident.energy,
        "theta": incident.column("theta"),
        "x": incident.position[:, 0],
        "y": incident.position[:, 1],
        **{name: np.nan_to_num(values, nan=0.0) for name, values in tangents.items()},
    }


def _bars(counts: npt.NDArray[np.int64], upper: npt.NDArray[np.float64], low: float, high: float, log: bool) -> str:
    """The energy spectrum drawn with block characters between its lowest and highest energy."""
    if high <= low:
        return ""
    where = np.log(upper / low) / math.log(high / low) if log else (upper - low) / (high - low)
    cells = np.clip((where * _WIDTH - 1e-9).astype(int), 0, _WIDTH - 1)
    heights = np.bincount(cells, weights=counts, minlength=_WIDTH)
    top = max(heights.max(), 1)
    return "".join(" " if h == 0 else _BARS[min(7, int(8 * h / top))] for h in heights)
