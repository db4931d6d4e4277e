"""What two shower files say about themselves, and what about them makes a comparison unfair."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..showers import Provenance
from .sample import Sample

_MAX_TEXT = 80


def text(provenance: Provenance, key: str) -> str | None:
    """A text of the provenance, shortened; None if there is none."""
    value = provenance.get(key) if isinstance(provenance, dict) else None
    if not isinstance(value, str) or not value.strip():
        return None
    value = " ".join(value.split())
    return value if len(value) <= _MAX_TEXT else value[: _MAX_TEXT - 1] + "…"


def seconds_per_shower(provenance: Provenance) -> float | None:
    """CPU core-seconds a shower took; None if not recorded."""
    value = provenance.get("seconds_per_shower") if isinstance(provenance, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        return None
    return float(value)


def particle_names(sample: Sample) -> list[str]:
    """Names of the incident particles by PDG code, e.g. ["gamma"]; the code itself where it has no name."""
    from particle import Particle, ParticleNotFound

    names = []
    for code in np.unique(sample.incident.pdg).tolist():
        try:
            names.append(str(Particle.from_pdgid(code).name))
        except ParticleNotFound:
            names.append(str(code))
    return names


def describe(sample: Sample, fallback: str) -> dict[str, Any]:
    """One sample as plain data for the report."""
    energy = sample.incident.energy
    return {
        "file": sample.path.name,
        "label": text(sample.provenance, "label") or text(sample.provenance, "producer") or fallback,
        "producer": text(sample.provenance, "producer"),
        "device": text(sample.provenance, "device"),
        "seconds_per_shower": seconds_per_shower(sample.provenance),
        "showers": len(sample),
        "empty_showers": int((sample.values["total_energy"] <= 0).sum()),
        "particles": particle_names(sample),
        "energy_mev": {"min": float(energy.min()), "max": float(energy.max()), "mean": float(energy.mean())},
        "mean_hits": float(sample.values["n_hits"].mean()),
    }


def differences(reference: Sample, generated: Sample) -> list[str]:
    """What differs in the incident particles of two samples, one sentence each."""
    from scipy.stats import ks_2samp

    found = []
    kinds = [", ".join(particle_names(s)) for s in (reference, generated)]
    if kinds[0] != kinds[1]:
        found.append(f"the particles differ: {kinds[0]} in the reference, {kinds[1]} in the generated sample.")
    a, b = reference.incident, generated.incident
    width = max(np.ptp(a.energy), np.ptp(b.energy), 1e-3 * a.energy.max())
    if max(abs(a.energy.min() - b.energy.min()), abs(a.energy.max() - b.energy.max())) > 0.05 * width:
        found.append(
            f"the incident energies differ: {_span(a.energy)} in the reference, {_span(b.energy)} in the generated "
            "sample; every number that depends on energy is off."
        )
    columns = {
        "energy": "energies",
        "tan_x": "angles (x)",
        "tan_y": "angles (y)",
        "x": "positions in x",
        "y": "positions in y",
    }
    for name, label in columns.items():
        one, two = a.column(name), b.column(name)
        if max(np.ptp(one), np.ptp(two)) < 1e-9 and abs(one[0] - two[0]) < 1e-6:
            continue
        result = ks_2samp(one, two, method="asymp")
        if result.pvalue < 1e-4 and result.statistic > 0.05:
            found.append(
                f"the spectra of incident {label} differ (largest difference of their cumulative distributions "
                f"{result.statistic:.2f}); generate with the reference's incident particles to compare fairly."
            )
    return found


def _span(energy: Any) -> str:
    return f"{energy.min() / 1e3:.4g} to {energy.max() / 1e3:.4g} GeV"
