"""Separation powers of the challenge's histograms, with its bins (arXiv 2009.03796, equation 15; 2410.21611).

The official number ignores what lies outside the bins: empty layers, and everything above the reference's maximum. So
the share outside is told beside it, and the number that counts under- and overflow as bins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...progress import Progress, silent
from ..distributions import Profile, Values
from ..metrics import METRICS, separation_power
from ..resampling import bootstrap, estimate, floor, halves
from ..sample import chosen_rows, pieces
from .challenge import DataSet
from .features import Features

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

RESAMPLES = 100
SPLITS = 10
_WIDE = (12, 13, 14)  # layers of data set 1 that reach far out; the official ranges of eta and phi know the first two


def edges_of(name: str, number: int, dataset: DataSet, threshold: float, highest: float) -> Floats:
    """Official bin edges of a feature by layer.

    Args:
        name: "energy", "centre_eta", ..., one of `features.BY_LAYER`.
        number: the challenge's number of the layer.
        dataset: the data set.
        threshold: lowest voxel energy in MeV.
        highest: the reference's highest layer energy in MeV.
    """
    if name == "energy":
        return energy_edges(threshold, highest, 40)
    if name == "sparsity":
        return np.linspace(0, 1, 21)
    quantity, axis = name.split("_")
    if axis == "r":
        narrow = 42.0 if quantity == "centre" else 20.0
        return np.linspace(0, narrow if dataset.narrow else 1500.0 if number in _WIDE else 500.0, 101)
    wide = number in _WIDE[:2]
    if quantity == "centre":
        reach = 30.0 if dataset.narrow else 500.0 if wide else 100.0
        return np.linspace(-reach, reach, 101)
    return np.linspace(0, 30.0 if dataset.narrow else 400.0 if wide else 100.0, 101)


def energy_edges(threshold: float, highest: float, n: int) -> Floats:
    """N logarithmic edges from the threshold to the reference's highest energy, MeV."""
    return np.logspace(np.log10(threshold), np.log10(max(highest, 1.0001 * threshold)), n)


def histograms(a: Features, b: Features) -> Iterator[tuple[str, Floats, Floats, Floats]]:
    """Everything that is filled once a shower: (key, edges, values of the reference, values of the generated)."""
    response = a.total / a.incident_energy, b.total / b.incident_energy
    yield "response", np.linspace(0.5, 1.5, 101), *response
    if not a.dataset.narrow:
        for energy in 2.0 ** np.arange(8, 23):
            sharp = a.dataset.name == "1-photons" and energy >= 4096
            edges = np.linspace(0.9, 1.1, 21) if sharp else np.linspace(0.4, 1.4, 21)
            chosen = [r[np.abs(f.incident_energy / energy - 1) < 1e-3] for f, r in zip((a, b), response, strict=True)]
            if all(map(len, chosen)):
                yield f"response@{energy:.0f}MeV", edges, *chosen
    for name in a.layers:
        for column, layer in enumerate(a.layers_of(name)):
            one, two = a.layers[name][:, column], b.layers[name][:, column]
            edges = edges_of(name, a.dataset.layers[layer], a.dataset, a.threshold, float(one.max()))
            yield f"{name}[{layer}]", edges, one, two


def filled(edges: Floats, values: Floats) -> Counts:
    """Contents of a histogram (bins + 2,), with under- and overflow."""
    return Values(values, edges).histogram()[:-1].astype(np.int64)


def score_feature(table: dict[str, tuple[Counts, Counts]], seed: Sequence[int]) -> dict[str, dict[str, Any]]:
    """`score_counts` of the histograms of both samples of one feature, by key; ``seed`` is of their draws."""
    rng = np.random.default_rng(list(seed))
    return {key: score_counts(p, q, rng) for key, (p, q) in table.items()}


def score_counts(p: Counts, q: Counts, rng: np.random.Generator) -> dict[str, Any]:
    """Separation power of two histograms, with error, floor and shares outside.

    Drawing showers with replacement makes the contents of the bins multinomial, and splitting a sample in halves
    makes them hypergeometric: so they are drawn directly, without the showers.

    Args:
        p: contents of the reference's (bins + 2,), see `filled`.
        q: of the generated showers'.
        rng: for the bootstrap and the splits.
    """
    n, m, half = int(p.sum()), int(q.sum()), int(p.sum()) // 2
    draws = zip(rng.multinomial(n, p / n, RESAMPLES), rng.multinomial(m, q / m, RESAMPLES), strict=True)
    replicas = [_inner(x, y) for x, y in draws]
    splits = rng.multivariate_hypergeometric(p, half, SPLITS) if half else np.zeros((0, len(p)), dtype=np.int64)
    within = [_inner(x, p - x) for x in splits]
    scale = (1 / n + 1 / m) * half / 2
    return {
        "value": _inner(p, q),
        "error": _spread(replicas),
        "floor": {"value": _mean(within) * scale, "error": _spread(within) * scale, "size": half, "scale": scale},
        **_beside(len(p) - 2, n, m, p, q),
    }


def _beside(n_bins: int, n: int, m: int, p: Counts, q: Counts) -> dict[str, Any]:
    """What is told beside the official number: expected floor, number with the bins outside, shares outside."""
    shares = [{"underflow": float(c[0] / c.sum()), "overflow": float(c[-1] / c.sum())} for c in (p, q)]
    return {
        "expected_floor": n_bins / 4 * (1 / n + 1 / m),
        "with_outside": separation_power(p, q),
        "bins": n_bins,
        "outside": {"reference": shares[0], "generated": shares[1]},
    }


def _inner(p: Counts, q: Counts) -> float:
    return separation_power(p[1:-1], q[1:-1])


def _mean(values: list[float]) -> float:
    known = [v for v in values if np.isfinite(v)]
    return float(np.mean(known)) if known else float("nan")


def _spread(values: list[float]) -> float:
    known = [v for v in values if np.isfinite(v)]
    if len(known) < 2:
        return float("nan")
    spread = float(np.std(known, ddof=1))
    return spread if spread > 1e-12 else 0.0  # rounding errors of equal numbers


def voxel_counts(
    path: str | Path,
    edges: Floats,
    *,
    threshold: float,
    max_showers: int | None = None,
    progress: Progress = silent,
) -> Counts:
    """Voxels at or over the threshold of each shower by energy (N, bins + 2), with under- and overflow.

    Raises:
        CaloforgeError: if the file is not valid.
    """
    from ...shower_file import ShowerFile

    columns, done = len(edges) + 1, 0
    with ShowerFile(path) as file:
        rows = chosen_rows(len(file), max_showers)
        found = np.zeros((len(rows), columns), dtype=np.int64)
        for showers in pieces(file, rows):
            energy = showers.energy.astype(np.float64)
            kept = energy >= threshold
            flat = showers.shower_of_hit[kept] * columns + Values(energy[kept], edges).bins
            n = len(showers)
            found[done : done + n] = np.bincount(flat, minlength=n * columns).reshape(n, columns)
            done += n
            progress(done, len(rows), "voxel energies")
    return found


def score_voxels(one: Counts, two: Counts, seed: Sequence[int]) -> dict[str, Any]:
    """Separation power of the voxel energies of all layers; showers, not voxels, are drawn for error and floor.

    Args:
        one: `voxel_counts` of the reference (N, bins + 2).
        two: of the generated showers (M, bins + 2).
        seed: of the bootstrap and the splits.
    """
    rng = np.random.default_rng(list(seed))
    inside = [Profile(c[:, 1:-1].astype(np.float64), np.arange(c.shape[1] - 2.0)) for c in (one, two)]
    draws = bootstrap(len(one), rng), bootstrap(len(two), rng)
    metric = METRICS["separation"]
    p, q = one.sum(axis=0), two.sum(axis=0)
    bottom = floor(metric, inside[0], (len(one), len(two)), halves(len(one), rng, SPLITS))
    beside = _beside(one.shape[1] - 2, int(p.sum()), int(q.sum()), p, q) if p.sum() and q.sum() else {}
    return estimate(metric, inside[0], inside[1], draws).to_dict() | {"floor": bottom.to_dict()} | beside


def averages(table: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Means over the layers of every feature that has one number a layer.

    Errors are averaged too: layers rise and fall together, so they do not average out.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for key, entry in table.items():
        if key.endswith("]"):
            groups.setdefault(key.split("[")[0], []).append(entry)
    found = {}
    for name, entries in groups.items():
        bottom = {k: _mean([e["floor"][k] for e in entries]) for k in ("value", "error")}
        numbers = {k: _mean([e[k] for e in entries]) for k in ("value", "error", "expected_floor", "with_outside")}
        found[name] = {**numbers, "floor": bottom, "layers": len(entries)}
    return found
