"""Mean response and resolution against incident energy, with errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MIN_IN_BIN = 20


def energy_bins(energy: Floats) -> Floats:
    """Edges of incident-energy bins that fit the reference.

    A few discrete energies get a bin each; a spectrum over more than a factor of 30 gets logarithmic bins.
    """
    points = np.unique(energy)
    if len(points) == 1:
        return np.array([points[0] * 0.999, points[0] * 1.001]) + (np.array([-1e-9, 1e-9]) if points[0] == 0 else 0)
    if len(points) <= 20:
        middle = np.sqrt(points[1:] * points[:-1])
        return np.concatenate([[points[0] * 0.9 - 1e-9], middle, [points[-1] * 1.1]])
    n = int(np.clip(len(energy) // 200, 2, 9))
    low, high = energy.min(), energy.max() * (1 + 1e-9)
    if low > 0 and high > 30 * low and np.median(energy) < (low + high) / 4:
        return np.logspace(np.log10(low), np.log10(high), n + 1)
    return np.linspace(low, high, n + 1)


def sigma_90(values: npt.NDArray[np.floating[Any]]) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the narrowest interval that holds 90 % of the values.

    Args:
        values: (..., N), sorted along the last axis.

    Returns:
        mean_90 and sigma_90, each (...). A Gaussian has sigma_90 = 0.79 sigma.
    """
    n = values.shape[-1]
    inside = max(2, int(np.ceil(0.9 * n)))
    start = np.argmin(values[..., inside - 1 :] - values[..., : n - inside + 1], axis=-1)
    kept = np.take_along_axis(values, start[..., None] + np.arange(inside), axis=-1)
    return kept.mean(axis=-1), kept.std(axis=-1, ddof=1)


def _figures(values: Floats) -> Floats:
    """Mean, sigma/mean and sigma_90/mean_90 (..., 3) of responses (..., N)."""
    mean, sigma = values.mean(axis=-1), values.std(axis=-1, ddof=1)
    mean_90, s90 = sigma_90(np.sort(values, axis=-1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.stack([mean, sigma / mean, s90 / mean_90], axis=-1)


def response_table(
    energy: Floats, response: Floats, edges: Floats, rng: np.random.Generator, resamples: int = 100
) -> dict[str, list[Any]]:
    """Response and resolution in bins of incident energy.

    Args:
        energy: incident energies (N,) in MeV.
        response: total over incident energy (N,).
        edges: of the bins (B + 1,).
        rng: for the bootstrap errors.
        resamples: bootstrap samples.

    Returns:
        Columns of B rows: "n", and "mean", "resolution", "resolution_90" each with "..._error"; None in bins of
        fewer than 20 showers. Showers outside all bins are counted in "outside" (one number).
    """
    names = ("mean", "resolution", "resolution_90")
    table: dict[str, list[Any]] = {"n": [], **{f"{k}{e}": [] for k in names for e in ("", "_error")}}
    at = np.searchsorted(edges, energy, side="right") - 1
    at[energy == edges[-1]] = len(edges) - 2
    for b in range(len(edges) - 1):
        values = response[(at == b) & np.isfinite(response)]
        table["n"].append(len(values))
        if len(values) < MIN_IN_BIN:
            for k in names:
                table[k].append(None)
                table[f"{k}_error"].append(None)
            continue
        errors = np.std(
            [_figures(values[rng.integers(len(values), size=len(values))]) for _ in range(resamples)], axis=0, ddof=1
        )
        for k, v, e in zip(names, _figures(values), errors, strict=True):
            table[k].append(float(v))
            table[f"{k}_error"].append(float(e))
    table["outside"] = [int(((at < 0) | (at >= len(edges) - 1)).sum())]
    return table


def mean_ratio(reference: dict[str, list[Any]], generated: dict[str, list[Any]], name: str) -> dict[str, float] | None:
    """Generated over reference of a column of two response tables, averaged over bins by their errors."""
    ratios, weights = [], []
    for a, ea, b, eb in zip(
        reference[name], reference[f"{name}_error"], generated[name], generated[f"{name}_error"], strict=True
    ):
        if a and b is not None and np.hypot(ea, eb) > 0:
            ratios.append(b / a)
            weights.append(1 / ((eb / a) ** 2 + (b * ea / a**2) ** 2))
    if not ratios:
        return None
    return {
        "value": float(np.average(ratios, weights=weights)),
        "error": float(1 / np.sqrt(np.sum(weights))),
    }
