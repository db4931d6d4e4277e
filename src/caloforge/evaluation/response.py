"""Mean response and resolution against incident energy, with errors and floors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .distributions import MIN_IN_BIN
from .resampling import Draws, spread

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

FIGURES = ("mean", "resolution", "resolution_90")
"""What is known of the response in a bin of incident energy, in the order of `_figures`."""


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


def energy_groups(energy: Floats, edges: Floats) -> Integers:
    """Bin of each incident energy (N,), -1 for none; the last bin is closed."""
    at = np.searchsorted(edges, energy, side="right") - 1
    at[energy == edges[-1]] = len(edges) - 2
    at[at >= len(edges) - 1] = -1
    return at.astype(np.int64)


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
    table: dict[str, list[Any]] = {"n": [], **{f"{k}{e}": [] for k in FIGURES for e in ("", "_error")}}
    at = energy_groups(energy, edges)
    for b in range(len(edges) - 1):
        values = response[(at == b) & np.isfinite(response)]
        table["n"].append(len(values))
        if len(values) < MIN_IN_BIN:
            for k in FIGURES:
                table[k].append(None)
                table[f"{k}_error"].append(None)
            continue
        errors = np.std(
            [_figures(values[rng.integers(len(values), size=len(values))]) for _ in range(resamples)], axis=0, ddof=1
        )
        for k, v, e in zip(FIGURES, _figures(values), errors, strict=True):
            table[k].append(float(v))
            table[f"{k}_error"].append(float(e))
    table["outside"] = [int((at < 0).sum())]
    return table


def bin_ratios(reference: dict[str, list[Any]], generated: dict[str, list[Any]], name: str) -> Floats:
    """Generated over reference of a column of two response tables and its error (2, B); NaN where there is none."""
    found = np.full((2, len(reference[name])), np.nan)
    columns = (reference[name], reference[f"{name}_error"], generated[name], generated[f"{name}_error"])
    for b, (x, ex, y, ey) in enumerate(zip(*columns, strict=True)):
        if x and y is not None and np.hypot(ex, ey) > 0:
            found[:, b] = y / x, np.hypot(ey / x, y * ex / x**2)
    return found


def mean_ratio(reference: dict[str, list[Any]], generated: dict[str, list[Any]], name: str) -> dict[str, float] | None:
    """Generated over reference of a column of two response tables, averaged over bins by their errors."""
    ratio, error = bin_ratios(reference, generated, name)
    known = np.isfinite(ratio)
    if not known.any():
        return None
    weights = error[known] ** -2
    return {"value": float(np.average(ratio[known], weights=weights)), "error": float(weights.sum() ** -0.5)}


def half_ratios(energy: Floats, response: Floats, edges: Floats, splits: Draws) -> Floats:
    """Ratios of one half of a sample to the other: (splits, B, 3) in the order of `FIGURES`, NaN where there is none.

    Args:
        energy: incident energies (N,) in MeV.
        response: total over incident energy (N,).
        edges: of the bins (B + 1,).
        splits: halves (splits, N), see `resampling.halves`.
    """
    at = energy_groups(energy, edges)
    found = np.full((len(splits), len(edges) - 1, len(FIGURES)), np.nan)
    for b in range(found.shape[1]):
        inside = (at == b) & np.isfinite(response)
        if inside.sum() < MIN_IN_BIN:
            continue
        for s, split in enumerate(splits):
            one, two = (response[inside & (split == side)] for side in (0, 1))
            if min(len(one), len(two)) > 2:
                with np.errstate(divide="ignore", invalid="ignore"):
                    found[s, b] = _figures(two) / _figures(one)
    return found


def ratio_tables(
    reference: dict[str, list[Any]], generated: dict[str, list[Any]], halves_found: Floats, compared: tuple[int, int]
) -> dict[str, Any]:
    """Ratios of two response tables with errors and floors.

    The floor of a ratio is what one half of the reference gives over the other: 1 with its spread, both brought to the
    sizes compared as the square root of 1/N_1 + 1/N_2.

    Args:
        reference: a `response_table`.
        generated: another, of the same bins.
        halves_found: the `half_ratios` of the reference.
        compared: showers of both samples.

    Returns:
        "ratio": averages over the bins by name of `FIGURES`, {value, error, floor} or None; "ratio_by_energy": lists
        of the same for each bin.
    """
    size = sum(reference["n"])
    scale = float(np.sqrt((1 / compared[0] + 1 / compared[1]) * (size // 2) / 2))

    def floor(ratios: Floats) -> dict[str, Any]:
        known = ratios[np.isfinite(ratios)]
        value, error = (1 + (known.mean() - 1) * scale, spread(known) * scale) if len(known) > 1 else (None, None)
        return {"value": value, "error": error, "size": size // 2, "scale": scale}

    averages: dict[str, Any] = {}
    by_energy: dict[str, list[Any]] = {}
    for column, name in enumerate(FIGURES):
        ratio, error = bin_ratios(reference, generated, name)
        known = np.isfinite(ratio)
        bottom = halves_found[:, :, column]
        by_energy[name] = [
            {"value": float(ratio[b]), "error": float(error[b]), "floor": floor(bottom[:, b])} if known[b] else None
            for b in range(len(ratio))
        ]
        average = mean_ratio(reference, generated, name)
        if average is not None:
            weights = error[known] ** -2
            averages[name] = {**average, "floor": floor(bottom[:, known] @ weights / weights.sum())}
        else:
            averages[name] = None
    return {"ratio": averages, "ratio_by_energy": by_energy}
