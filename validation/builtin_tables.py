"""Full showers with the built-in physics tables against the same with Geant4's official ones.

Prints, for 10 GeV photons in ild-ecal and 10 GeV electrons in lhcb-ecal (its 66 layers kept apart), the ratio of
built-in to official of the mean visible energy, of sigma/mean and of every layer with over 1 % of the energy, each
with its statistical error, and writes them to validation/builtin_tables.json, which the tests check against the bounds.

Both samples are made with the same seed: a shower's first interactions need no table and so are the same in both, which
takes the largest fluctuation, the depth at which the shower starts, out of the ratios. Errors are those of pairs.

    python validation/builtin_tables.py --official DIR [-n 6000] [--workers 2] [--folder tables-run]

Stopped, it goes on where it was. The official tables are Geant4's
G4EMLOW data, found as `caloforge simulate --tables official` finds them unless a directory is given.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from caloforge.beam import Beam
from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError
from caloforge.progress import bar
from caloforge.shower_file import ShowerFile
from caloforge.simulation import simulate

CASES = {"ild-ecal": "gamma", "lhcb-ecal": "e-"}
BOUNDS = {"mean": 0.01, "resolution": 0.05, "layer": 0.025}
LAYER_SHARE = 0.01
SEED = 11
RESULT = Path(__file__).with_suffix(".json")


def layer_energies(path: Path) -> np.ndarray:
    """Visible energies (N, layers) in MeV of a shower file."""
    parts = []
    with ShowerFile(path) as file:
        layers = file.detector.voxel_layers
        for showers in file.chunks():
            where = showers.shower_of_hit * file.detector.n_layers + layers[showers.index]
            size = len(showers) * file.detector.n_layers
            parts.append(np.bincount(where, weights=showers.energy, minlength=size).reshape(len(showers), -1))
    return np.concatenate(parts)


def ratio_of_means(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ratio of the means over showers and its statistical error; shower i of both has the same seed."""
    ratio = a.mean(axis=0) / b.mean(axis=0)
    difference = a / a.mean(axis=0) - b / b.mean(axis=0)
    return ratio, ratio * difference.std(axis=0, ddof=1) / np.sqrt(len(a))


def resolution(x: np.ndarray) -> float:
    """sigma/mean."""
    return float(x.std(ddof=1) / x.mean())


def ratio_of_resolutions(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Ratio of sigma/mean and its bootstrap error, resampling pairs."""
    rng = np.random.default_rng(0)
    picks = [rng.integers(len(a), size=len(a)) for _ in range(200)]
    spread = np.std([resolution(a[pick]) / resolution(b[pick]) for pick in picks], ddof=1)
    return resolution(a) / resolution(b), float(spread)


def compare(builtin: np.ndarray, official: np.ndarray) -> dict[str, Any]:
    """All ratios of one case."""
    mean, mean_error = ratio_of_means(builtin.sum(axis=1), official.sum(axis=1))
    share = official.sum(axis=0) / official.sum()
    kept = np.flatnonzero(share > LAYER_SHARE)
    layers, layer_errors = ratio_of_means(builtin[:, kept], official[:, kept])
    return {
        "showers": [len(builtin), len(official)],
        "visible_mev": [float(builtin.sum(axis=1).mean()), float(official.sum(axis=1).mean())],
        "sigma_over_mean": [resolution(x.sum(axis=1)) for x in (builtin, official)],
        "mean_ratio": [float(mean), float(mean_error)],
        "resolution_ratio": list(ratio_of_resolutions(builtin.sum(axis=1), official.sum(axis=1))),
        "layers": [
            {"layer": int(i), "share": float(share[i]), "ratio": float(r), "error": float(e)}
            for i, r, e in zip(kept, layers, layer_errors, strict=True)
        ],
    }


def show(name: str, case: dict[str, Any]) -> Table:
    table = Table(
        "quantity", "built-in / official", "bound", title=f"{name}, 10 GeV {CASES[name]}, {case['showers']} showers"
    )
    for label, key, bound in (("mean visible energy", "mean", "mean"), ("sigma/mean", "resolution", "resolution")):
        value, error = case[f"{key}_ratio"]
        table.add_row(label, f"{value:.4f} ± {error:.4f}", f"1 ± {BOUNDS[bound]}")
    for row in case["layers"]:
        label = f"layer {row['layer']} ({100 * row['share']:.1f} % of the energy)"
        table.add_row(label, f"{row['ratio']:.4f} ± {row['error']:.4f}", f"1 ± {BOUNDS['layer']}")
    return table


def produce(name: str, choice: str, n: int, workers: int, folder: Path) -> Path:
    """One sample, made anew or gone on with or taken as it is."""
    path = folder / f"{name}-{'builtin' if choice == 'builtin' else 'official'}-{n}.h5"
    if path.exists():
        return path
    detector = Detector.load(name)
    detector = detector.with_depth("each") if detector.n_layers == 1 else detector
    place = detector.incidence
    # Perpendicular and off the cells' edges, so that nothing but the tables can make a difference.
    x, y = (place.x, place.y) if name == "ild-ecal" else (0.0, 0.0)
    beam = Beam(CASES[name], (10.0,), x=x, y=y)
    resume = (folder / f"{path.name}.parts").exists()
    with bar(path.stem, "showers") as progress:
        simulate(
            detector, n, path, beam=beam, seed=SEED, workers=workers, tables=choice, resume=resume, progress=progress
        )
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", default="official", help="directory of the official tables")
    parser.add_argument("-n", type=int, default=6000, help="showers of each sample")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("validation-run"), help="where the samples are kept")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"bounds": BOUNDS, "cases": {}}
    for name in CASES:
        paths = [
            produce(name, choice, options.n, options.workers, options.folder)
            for choice in ("builtin", options.official)
        ]
        for key, path in zip(("builtin", "official"), paths, strict=True):
            with ShowerFile(path) as file:
                result[key] = file.provenance["tables"]
        result["cases"][name] = compare(*(layer_energies(path) for path in paths))
        Console().print(show(name, result["cases"][name]))
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except CaloforgeError as error:
        raise SystemExit(f"error: {error}") from None
