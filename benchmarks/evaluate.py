"""What an evaluation costs: seconds and memory, on synthetic showers of any detector and number.

    python benchmarks/evaluate.py [--detector par04-siw] [-n 10000] [--hits 400 2500] [--quick] [--profile] [--json]
    python benchmarks/evaluate.py --observables [--detector lhcb-ecal] [-n 10000] [--hits 30 300]

Two files of n showers are made in a temporary folder, then evaluated in a process of its own, without cache unless
--cache is given. Showers are points drawn from an exponential in depth and radius with exponential energies: right in
number, place and sparsity, which is all that time and memory depend on. --observables times each observable on showers
in memory. Times belong to the machine and to what else it does: CPU seconds are printed beside wall seconds.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.detectors import Detector
from caloforge.evaluation import OBSERVABLES, evaluate
from caloforge.evaluation.chunk import Chunk, fitting_edges
from caloforge.evaluation.sample import pieces
from caloforge.incident import Incident
from caloforge.shower_file import ShowerFile, ShowerWriter
from caloforge.showers import Showers

CHUNK = 2000


def synthetic(detector: Detector, n: int, hits: tuple[int, int], scale: float, rng: np.random.Generator) -> Showers:
    """Showers of log-uniform 1-1000 GeV whose voxels hit rise with the energy from hits[0] to hits[1]."""
    tilt = rng.uniform(-0.1, 0.1, (n, 2))
    energy = 10 ** rng.uniform(3, 6, n)
    incident = Incident.of(energy, 11, np.column_stack([tilt, np.ones(n)]))
    x, y, z = detector.voxel_positions.T
    away, depth = np.hypot(x, y) / np.hypot(x, y).max(), z / max(z.max(), 1.0)
    reach = np.cumsum(np.exp(-away / 0.3 / scale - np.abs(depth - 0.35) / 0.25))
    table = np.searchsorted(reach, (np.arange(1 << 20) + 0.5) / (1 << 20) * reach[-1])  # many quantiles: a fast draw
    wanted = (hits[0] * (hits[1] / hits[0]) ** ((np.log10(energy) - 3) / 3) * rng.uniform(0.9, 1.1, n)).astype(int)
    row = np.repeat(np.arange(n), wanted)
    drawn = np.sort(row * detector.n_voxels + table[rng.integers(1 << 20, size=len(row))])
    at = drawn[np.append(True, np.diff(drawn) > 0)]
    row = at // detector.n_voxels
    offset = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n))])
    deposit = rng.exponential(size=len(at)) * (0.8 * energy / wanted)[row]
    return Showers(incident, detector, offset, (at % detector.n_voxels).astype(np.uint32), deposit.astype(np.float32))


def write(path: Path, detector: Detector, n: int, hits: tuple[int, int], scale: float, seed: int) -> None:
    with ShowerWriter(path, detector, {"producer": "benchmark", "seconds_per_shower": 1e-3}) as writer:
        for start in range(0, n, CHUNK):
            rng = np.random.default_rng([seed, start])
            writer.append(synthetic(detector, min(CHUNK, n - start), hits, scale, rng))


def run(folder: Path, quick: bool, profile: bool, cache: bool) -> None:
    """Evaluate the two files in a folder; this is what the process of its own does."""
    import cProfile
    import pstats

    def once() -> None:
        evaluate(folder / "a.h5", folder / "b.h5", folder / "report", overwrite=True, quick=quick, cache=cache)

    if not profile:
        once()
        return
    profiler = cProfile.Profile()
    profiler.runcall(once)
    pstats.Stats(profiler).sort_stats("cumulative").print_stats(45)


def whole(options: argparse.Namespace) -> dict[str, Any]:
    detector = Detector.load(options.detector)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        for seed, (file, scale) in enumerate((("a.h5", 1.0), ("b.h5", 1.02))):
            write(folder / file, detector, options.n, tuple(options.hits), scale, seed)
        size = (folder / "a.h5").stat().st_size
        flags = [f"--{k}" for k in ("quick", "profile", "cache") if getattr(options, k)]
        times = []
        for _ in range(2 if options.cache else 1):
            began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, __file__, "--run", name, *flags], check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            times.append({"wall_s": time.perf_counter() - began, "cpu_s": cpu})
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {"detector": detector.name, "showers": options.n, "file_mb": size / 1e6, "peak_gb": peak / 1e9} | {
        "runs": times
    }


def observables(options: argparse.Namespace) -> dict[str, Any]:
    """CPU seconds each observable takes, its shared parts counted where they are first needed."""
    detector = Detector.load(options.detector)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        path = Path(name) / "a.h5"
        write(path, detector, options.n, tuple(options.hits), 1.0, 0)
        began = time.process_time()
        with ShowerFile(path) as file:
            parts = list(pieces(file, np.arange(len(file))))
        reading = time.process_time() - began
    edges = fitting_edges(parts[0])
    seconds = dict.fromkeys(OBSERVABLES, 0.0)
    for showers in parts:
        chunk = Chunk(showers, edges)
        for key, observable in OBSERVABLES.items():
            began = time.process_time()
            observable.of(chunk)
            seconds[key] += time.process_time() - began
    hits = sum(len(p.energy) for p in parts)
    return {"detector": detector.name, "showers": options.n, "hits": hits, "reading_s": reading} | {
        "total_s": sum(seconds.values()),
        "observables_s": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default=None)
    parser.add_argument("-n", type=int, default=10_000, help="showers of each file")
    parser.add_argument("--hits", type=int, nargs=2, default=None, help="voxels hit at 1 and 1000 GeV")
    parser.add_argument("--folder", default=None, help="where the temporary files lie")
    for flag in ("quick", "profile", "cache", "observables", "json"):
        parser.add_argument(f"--{flag}", action="store_true")
    parser.add_argument("--run", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(Path(options.run), options.quick, options.profile, options.cache)
        return
    options.detector = options.detector or ("lhcb-ecal" if options.observables else "par04-siw")
    options.hits = options.hits or ([30, 300] if options.observables else [400, 2500])
    result = observables(options) if options.observables else whole(options)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
