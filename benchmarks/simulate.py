"""What the simulation costs beside the bare recipe: CPU per shower, two workers against one, memory.

    python benchmarks/simulate.py [--detector ild-ecal] [--energy 10] [-n 200] [--repeats 3] [--json]

The bare recipe is the least Geant4 program for the same physics and the same read-out: one process, a particle gun,
C++ scorers, and the sum of each shower's voxels taken in Python. Runs alternate, so that a busy machine hits all alike;
each figure is the smallest of the repeats. Prints ratios within this one run; absolute times belong to the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from caloforge.beam import Beam
from caloforge.detectors import Detector
from caloforge.showers import Showers
from caloforge.simulation import simulate
from caloforge.simulation.physics_tables import find_tables, geant4_environment

BARE = Path(__file__).with_name("bare_geant4.py")


def bare(energy: float, n: int, tables: str) -> float:
    """CPU seconds per shower of the bare recipe, in a process of its own."""
    environment = geant4_environment(find_tables(Detector.load("ild-ecal").elements, tables))
    found = subprocess.run(
        [sys.executable, str(BARE), str(energy), str(n)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(found.stdout.strip().splitlines()[-1])


def ours(energy: float, n: int, workers: int, tables: str, seed: int) -> tuple[float, float, float]:
    """CPU seconds per shower, wall seconds of the whole call, and the largest worker's bytes."""
    detector = Detector.load("ild-ecal")
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        beam = Beam.of(detector, energies_gev=[energy])
        path = simulate(detector, n, Path(folder) / "x.h5", beam=beam, seed=seed, workers=workers, tables=tables)
        wall = time.perf_counter() - began
        made = Showers.read(path).provenance
    return made["seconds_per_shower"], wall, made["peak_memory_bytes"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--energy", type=float, default=10.0, help="GeV")
    parser.add_argument("-n", type=int, default=200, help="showers a run")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tables", default="auto")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    runs: list[dict[str, Any]] = []
    for seed in range(options.repeats):
        row: dict[str, Any] = {"bare_cpu": bare(options.energy, options.n, options.tables)}
        row["cpu"], row["wall_1"], _ = ours(options.energy, options.n, 1, options.tables, seed)
        _, row["wall_2"], row["memory"] = ours(options.energy, options.n, 2, options.tables, seed)
        runs.append(row)
    best = {key: (max if key == "memory" else min)(run[key] for run in runs) for key in runs[0]}
    result = {
        "ms_per_shower_bare": 1e3 * best["bare_cpu"],
        "ms_per_shower": 1e3 * best["cpu"],
        "cpu_ratio_to_bare": best["cpu"] / best["bare_cpu"],
        "speed_of_two_workers": best["wall_1"] / best["wall_2"],
        "worker_memory_mb": best["memory"] / 1e6,
        "runs": runs,
    }
    if options.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{options.energy:g} GeV photons in ild-ecal, best of {options.repeats} runs of {options.n} showers")
    print(f"bare recipe        {result['ms_per_shower_bare']:8.1f} ms CPU per shower")
    print(
        f"caloforge          {result['ms_per_shower']:8.1f} ms CPU per shower, ratio {result['cpu_ratio_to_bare']:.3f}"
    )
    print(f"two workers / one  {result['speed_of_two_workers']:8.2f} x (whole calls, start-up included)")
    print(f"largest worker     {result['worker_memory_mb']:8.0f} MB")


if __name__ == "__main__":
    main()
