"""Score a trained checkpoint on showers it has not seen, and write it into the zoo with its card.

    python validation/zoo_card.py NAME RUN TEST.h5 [--extra BIN.h5]... [--hours H] [--data TEXT] [--fault TEXT]...
        [--dry-run]

RUN is a training folder. Generates one shower for each incident particle of TEST.h5, evaluates (default settings), and
adds what the targets are about: per energy bin mean response and sigma/mean, per layer with over 2 % of the energy the
longitudinal profile, hits. Each number with its error; beside them Geant4 against itself (TEST.h5 split in two).

A bin of TEST.h5 holds some tens of showers, too few for sigma/mean to be known to 15 %. BIN.h5 is a larger sample of
one bin alone (the eight bins divide the range of TEST.h5 evenly), never trained on: mean response and sigma/mean there
stand in the card beside the worst bins of TEST.h5. They are compared with REPEATS generated showers for each incident
particle, so that the error is nearly all Geant4's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import caloforge
from caloforge.checkpoint import Checkpoint
from caloforge.evaluation.published import mip_peak
from caloforge.generation import generate
from caloforge.incident import Incident
from caloforge.showers import Showers

Floats = npt.NDArray[np.float64]
REPEATS = 8
SILICON = ("ild-ecal", "clic-ecal")


def ratio(a: Floats, b: Floats) -> tuple[float, float]:
    """Mean of b over mean of a, with its error."""
    value = b.mean() / a.mean()
    error = abs(value) * np.hypot(a.std() / a.mean() / len(a) ** 0.5, b.std() / b.mean() / len(b) ** 0.5)
    return float(value), float(error)


def spread_ratio(a: Floats, b: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """sigma/mean of b over that of a, with its bootstrap error."""

    def one(x: Floats, y: Floats) -> float:
        return float((y.std() / y.mean()) / (x.std() / x.mean()))

    draws = [one(rng.choice(a, len(a)), rng.choice(b, len(b))) for _ in range(200)]
    return one(a, b), float(np.std(draws))


def layers_of(showers: Showers) -> tuple[Floats, Floats]:
    """Energy and hits of every layer (N, L)."""
    ends = np.cumsum([grid.shape[0] * grid.shape[1] for grid in showers.detector.grids])
    n = len(ends)
    at = showers.shower_of_hit * n + np.searchsorted(ends, showers.index, side="right")
    energy = np.bincount(at, weights=showers.energy, minlength=len(showers) * n).reshape(-1, n)
    return energy, np.bincount(at, minlength=len(showers) * n).reshape(-1, n).astype(np.float64)


def worst(rows: list[tuple[str, tuple[float, float]]]) -> dict[str, Any]:
    """The row that is farthest from one."""
    where, (value, error) = max(rows, key=lambda row: abs(row[1][0] - 1))
    return {"where": where, "value": round(value, 4), "error": round(error, 4)}


def targets(a: Showers, b: Showers) -> dict[str, Any]:
    """The numbers of the targets: b over a."""
    rng = np.random.default_rng(0)
    edges = np.linspace(a.incident.energy.min(), a.incident.energy.max() * (1 + 1e-9), 9)
    ra, rb = a.total_energy / a.incident.energy, b.total_energy / b.incident.energy
    means, spreads, hits = [], [], []
    for low, high in itertools.pairwise(edges):
        ia, ib = ((s.incident.energy >= low) & (s.incident.energy < high) for s in (a, b))
        if min(ia.sum(), ib.sum()) < 30:
            continue
        name = f"{low / 1e3:.0f}-{high / 1e3:.0f} GeV"
        means.append((name, ratio(ra[ia], rb[ib])))
        spreads.append((name, spread_ratio(ra[ia], rb[ib], rng)))
        hits.append((name, ratio(a.n_hits[ia].astype(float), b.n_hits[ib].astype(float))))
    ea, eb = layers_of(a)[0], layers_of(b)[0]
    kept = ea.mean(0) > 0.02 * ea.mean(0).sum()
    profile = [(f"layer {i}", ratio(ea[:, i], eb[:, i])) for i in np.flatnonzero(kept)]
    found = {
        "mean response, worst energy bin": worst(means),
        "sigma/mean, worst energy bin": worst(spreads),
        "hits, worst energy bin": worst(hits),
        "longitudinal profile, worst layer": worst(profile),
    }
    if a.detector.name in SILICON:  # where a minimum ionising particle leaves a peak in the cell energies
        peaks = [mip_peak(s, 0.03, 3.0, rng) for s in (a, b)]
        for name in ("position", "width"):
            x, y = (getattr(peak, name) for peak in peaks)
            value = y.value / x.value
            error = value * float(np.hypot(x.error / x.value, y.error / y.value))
            found[f"peak of cell energies, {name}"] = {"value": round(value, 4), "error": round(error, 4)}
    return found


def larger_bin(checkpoint: Path, path: Path) -> dict[str, Any]:
    """Mean response and sigma/mean in a sample of one bin, generated over Geant4's."""
    reference = Showers.read(path)
    incident = Incident.concatenate([reference.incident] * REPEATS)
    with tempfile.TemporaryDirectory() as folder:
        generated = Showers.read(generate(checkpoint, Path(folder) / "fake.h5", incident, seed=1))
    half = np.arange(len(reference)) % 2 == 0
    a, b = (s.total_energy / s.incident.energy for s in (reference, generated))
    low, high = reference.incident.energy.min(), reference.incident.energy.max()
    window = f"{low / 1e3:.0f}-{high / 1e3:.0f} GeV"
    spreads = [spread_ratio(x, y, np.random.default_rng(0)) for x, y in ((a, b), (a[half], a[~half]))]
    found = {}
    for name, pairs in (("mean response", [ratio(a, b), ratio(a[half], a[~half])]), ("sigma/mean", spreads)):
        (value, error), (floor, _) = pairs
        rounded = {"value": round(value, 4), "error": round(error, 4), "floor": round(floor, 4)}
        found[f"{name}, larger sample of {window}"] = {"where": f"{len(reference)} showers", **rounded}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("run", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--extra", type=Path, action="append", default=[], help="a larger sample of one bin of energy")
    parser.add_argument("--hours", type=float, help="of training; from the run's history if left out")
    parser.add_argument("--hardware", default="one core of an AMD EPYC virtual machine, shared")
    parser.add_argument("--data", default="", help="how the training showers were made")
    parser.add_argument("--fault", action="append", default=[], help="what is known to be wrong")
    parser.add_argument("--report", type=Path, help="keep the report in this folder")
    parser.add_argument("--dry-run", action="store_true", help="print only")
    options = parser.parse_args()
    path = options.run / "model.safetensors"
    checkpoint = Checkpoint.load(path)
    reference = Showers.read(options.test)
    with tempfile.TemporaryDirectory() as folder:
        fake = generate(path, Path(folder) / "fake.h5", reference.incident, seed=1)
        report = caloforge.evaluate(options.test, fake, options.report or Path(folder) / "report", overwrite=True)
        data = report.to_dict()
        generated = Showers.read(fake)
    half = np.arange(len(reference)) % 2 == 0
    found, floors = targets(reference, generated), targets(reference[half], reference[~half])
    scores = {key: {**value, "floor": floors[key]["value"]} for key, value in found.items()}
    for sample in options.extra:
        scores |= larger_bin(path, sample)
    for kind, values in data["classifiers"].items():
        auc, bottom = values["auc"], values["floor"]
        scores[f"AUC, {kind}"] = {"value": auc["value"], "error": auc["error"], "floor": bottom["value"]}
    last = [file.read_text().splitlines()[-1] for file in options.run.rglob("history.jsonl")]
    hours = options.hours or sum(json.loads(row)["seconds"] for row in last) / 3600
    low, high = reference.incident.energy.min(), reference.incident.energy.max()
    card = {
        "model": checkpoint.model_name,
        "components": checkpoint.model_names[1:],
        "detector": checkpoint.detector.name,
        "conditions": checkpoint.conditions,
        "parameters": sum(p.numel() for m in checkpoint.model.generation_modules() for p in m.parameters()),
        "training": {
            "showers": checkpoint.provenance["data"]["showers"],
            "data": options.data,
            "energies_gev": [round(e / 1e3, 1) for e in checkpoint.domain["energy"]],
            "iterations": checkpoint.provenance["iterations"],
            "seed": checkpoint.provenance["config"]["training"]["seed"],
            "hours": round(hours, 2),
            "hardware": options.hardware,
        },
        "test": {"showers": len(reference), "energies_gev": [round(float(e) / 1e3, 1) for e in (low, high)]},
        "ms_per_shower": round(1e3 * generated.provenance["seconds_per_shower"], 4),
        "geant4_ms_per_shower": round(1e3 * reference.provenance.get("seconds_per_shower", 0), 1) or None,
        "report": scores,
        "faults": options.fault,
        "made_by": f"caloforge {caloforge.__version__}, Python {platform.python_version()}",
    }
    print(json.dumps(card, indent=1))
    if not options.dry_run:
        home = Path(caloforge.__file__).parent / "zoo"
        shutil.copyfile(path, home / f"{options.name}.safetensors")
        (home / f"{options.name}.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
