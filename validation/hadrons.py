"""Hadronic showers with the built-in neutron cross sections against showers with Geant4's official data.

    python validation/hadrons.py --official DIRECTORY [--scale 1.0] [--energies 10 50] [--folder hadron-run]

Simulates pi-, protons and electrons of 10 and 50 GeV in tile-hcal and cms-like with both sets of tables, prints visible
energy, core resolution and pi/e beside their bounds and the figures to compare with, and writes hadrons.json here.
Samples that lie in the folder already are used again; an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from caloforge.beam import Beam
from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError
from caloforge.shower_file import ShowerFile
from caloforge.simulation import simulate

Array = NDArray[np.float64]

DETECTORS = ("tile-hcal", "cms-like")
SHOWERS = {("pi-", 10): 600, ("p", 10): 600, ("e-", 10): 200, ("pi-", 50): 300, ("p", 50): 300, ("e-", 50): 100}
BOUNDS = {"visible": 0.02, "core": 0.10, "pi/e": 0.02}
REFERENCE = {  # tile-hcal without its air gaps: visible % and Gaussian core % of pi-, visible % of e-, pi/e
    10: {"pi-": 3.70, "core": 11.5, "e-": 4.11, "pi/e": 0.900},
    50: {"pi-": 3.71, "core": 5.3, "e-": 4.13, "pi/e": 0.900},
}
RESULT = Path(__file__).with_suffix(".json")
SEEDS = {"builtin": 1, "official": 2}
BOOTSTRAPS = 200


def layer_energies(path: Path) -> Array:
    """Energy of each layer: (showers, layers)."""
    with ShowerFile(path) as file:
        parts = [
            np.add.reduceat(s.dense().reshape(len(s), -1), _starts(file.detector), axis=1) for s in file.chunks(20)
        ]
    return np.concatenate(parts).astype(np.float64)


def _starts(detector: Detector) -> list[int]:
    return [part.start for part in detector.layer_slices]


def core(energy: Array) -> float:
    """Sigma over mean of the Gaussian core: the part within two sigma, found by iteration."""
    mean, sigma = float(np.median(energy)), float(energy.std())
    for _ in range(20):
        kept = energy[np.abs(energy - mean) < 2 * sigma]
        # A Gaussian cut at two sigma keeps this much of its standard deviation.
        mean, sigma = float(kept.mean()), float(kept.std()) / 0.8796
    return sigma / mean


def with_error(function: Any, *samples: Array) -> tuple[float, float]:
    """A quantity of some samples, and its bootstrap error."""
    rng = np.random.default_rng(1)
    again = [function(*(s[rng.integers(len(s), size=len(s))] for s in samples)) for _ in range(BOOTSTRAPS)]
    return float(function(*samples)), float(np.std(again, ddof=1))


def ecal_weight(layers: Array) -> float:
    """MeV of visible crystal energy that one MeV in the scintillators stands for: the smallest spread of the sum."""
    ecal, hcal = layers[:, :5].sum(axis=1), layers[:, 5:].sum(axis=1)
    weights = np.geomspace(5, 500, 400)
    spread = [(ecal + w * hcal).std() / (ecal + w * hcal).mean() for w in weights]
    return float(weights[int(np.argmin(spread))])


def produce(name: str, particle: str, energy: int, kind: str, options: argparse.Namespace) -> Path:
    """One sample, made anew or gone on with or taken as it is."""
    n = max(20, round(options.scale * SHOWERS[particle, energy]))
    path = options.folder / f"{name}-{particle}-{energy}-{kind}-{n}.h5"
    if not path.exists():
        detector = Detector.load(name)
        seed = SEEDS[kind] + 10 * energy
        simulate(
            detector,
            n,
            path,
            beam=Beam.of(detector, particle=particle, energies_gev=[energy]),
            seed=seed,
            workers=options.workers,
            tables="builtin" if kind == "builtin" else options.official,
            resume=(options.folder / f"{path.name}.parts").exists(),
        )
    return path


def measure(samples: dict[str, dict[tuple[str, int], Array]]) -> dict[str, Any]:
    """All figures of one detector; ``samples``: kind of tables -> (particle, GeV) -> visible energy (showers,)."""
    found: dict[str, Any] = {}
    for energy in sorted({energy for _, energy in samples["builtin"]}):
        for particle in ("pi-", "p", "e-"):
            both = [samples[kind][particle, energy] for kind in ("builtin", "official")]
            entry = {
                "showers": [len(s) for s in both],
                "visible": [with_error(np.mean, s) for s in both],
                "visible_ratio": with_error(lambda a, b: a.mean() / b.mean(), *both),
                "core": [with_error(core, s) for s in both],
                "core_ratio": with_error(lambda a, b: core(a) / core(b), *both),
            }
            found[f"{particle} {energy}"] = entry
        for particle in ("pi-", "p"):
            four = [samples[kind][which, energy] for kind in ("builtin", "official") for which in (particle, "e-")]
            found[f"{particle}/e {energy}"] = {
                "value": [with_error(lambda a, b: a.mean() / b.mean(), *four[i : i + 2]) for i in (0, 2)],
                "ratio": with_error(lambda a, b, c, d: a.mean() / b.mean() / (c.mean() / d.mean()), *four),
            }
    return found


def show(name: str, found: dict[str, Any]) -> Table:
    columns = ("quantity", "built-in", "official", "ratio", "bound", "to compare with")
    table = Table(*columns, title=name)

    def text(pair: tuple[float, float], scale: float = 1.0, digits: int = 3) -> str:
        return f"{scale * pair[0]:.{digits}f} ± {scale * pair[1]:.{digits}f}"

    for energy in sorted(int(key.split()[1]) for key in found if key.startswith("e- ")):
        known = REFERENCE[energy] if name == "tile-hcal" else {}
        for particle in ("pi-", "p", "e-"):
            entry, percent = found[f"{particle} {energy}"], 0.1 / energy
            row = (text(pair, percent) for pair in entry["visible"])
            reference = f"{known[particle]:.2f}" if particle in known else ""
            ratio = text(entry["visible_ratio"])
            bound = "" if particle == "e-" else f"1 ± {BOUNDS['visible']}"
            table.add_row(f"{particle} {energy} GeV: visible %", *row, ratio, bound, reference)
            row = (text(pair, 100, 2) for pair in entry["core"])
            reference = f"{known['core']}" if known and particle == "pi-" else ""
            bound = "" if particle == "e-" else f"1 ± {BOUNDS['core']}"
            table.add_row(f"{particle} {energy} GeV: core %", *row, text(entry["core_ratio"]), bound, reference)
        for particle in ("pi-", "p"):
            entry = found[f"{particle}/e {energy}"]
            reference = f"{known['pi/e']:.3f}" if known and particle == "pi-" else ""
            row = (text(pair) for pair in entry["value"])
            bound = f"1 ± {BOUNDS['pi/e']}"
            table.add_row(f"{particle}/e at {energy} GeV", *row, text(entry["ratio"]), bound, reference)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", default="official", help="directory of the official data")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the numbers of showers")
    parser.add_argument("--energies", type=int, nargs="+", default=[10, 50], choices=[10, 50], help="GeV")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("hadron-run"), help="where the samples are kept")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"bounds": BOUNDS, "detectors": {}}
    for name in DETECTORS:
        layers: dict[str, dict[tuple[str, int], Array]] = {kind: {} for kind in SEEDS}
        for particle, energy in (key for key in SHOWERS if key[1] in options.energies):
            for kind in SEEDS:
                path = produce(name, particle, energy, kind, options)
                layers[kind][particle, energy] = layer_energies(path)
                with ShowerFile(path) as file:
                    result[kind] = file.provenance["tables"]
        weight = ecal_weight(layers["official"]["pi-", max(options.energies)]) if name == "cms-like" else 1.0
        first = 5 if name == "cms-like" else 0

        def visible(energies: Array, first: int = first, weight: float = weight) -> Array:
            return np.asarray(energies[:, :first].sum(axis=1) + weight * energies[:, first:].sum(axis=1))

        samples = {kind: {key: visible(e) for key, e in of.items()} for kind, of in layers.items()}
        result["detectors"][name] = {"hcal_weight": weight, **measure(samples)}
        Console(width=120).print(show(name, result["detectors"][name]))
        RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except CaloforgeError as error:
        raise SystemExit(f"error: {error}") from None
