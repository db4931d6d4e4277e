"""What the scores of the community benchmark cost: seconds and memory.

    python benchmarks/benchmark_metrics.py [features] [distances] [memory] [--json]

features: the challenge's high-level features of 10 000 showers of 6480 voxels. distances: FPD and KPD of 10 000 showers
with 362 features, as officially sampled. memory: the largest memory of a process that takes the features of 20 000
showers of 40 500 voxels, and of one that holds them as sparse rows and makes a batch of 1000 dense. Voxels are random
with as many hits as given by --hits; what the showers look like does not matter here. Times are those of one thread if
OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.detectors import Detector
from caloforge.incident import Incident
from caloforge.shower_file import ShowerWriter
from caloforge.showers import Showers

CHUNK = 200


def random_file(path: Path, name: str, n: int, hits: float) -> None:
    """A file of n showers with about ``hits`` of their voxels hit, written piece by piece."""
    detector, rng = Detector.load(name), np.random.default_rng(0)
    with ShowerWriter(path, detector) as writer:
        for start in range(0, n, CHUNK):
            size = min(CHUNK, n - start)
            hit = rng.random((size, detector.n_voxels), dtype=np.float32) < hits
            voxels = np.zeros(hit.shape, np.float32)
            voxels[hit] = rng.exponential(5.0, int(hit.sum()))
            writer.append(
                Showers.from_dense(voxels, Incident.of(rng.uniform(1e3, 1e6, size), 11), detector, threshold=0.02)
            )


def timed(work: Callable[[], Any]) -> dict[str, float]:
    """Wall-clock and processor seconds of a piece of work: they differ on a busy machine."""
    began = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - began[0], "cpu_seconds": time.process_time() - began[1]}


def features(hits: float, folder: Path) -> dict[str, Any]:
    from caloforge.evaluation.benchmark import high_level

    random_file(folder / "a.h5", "par04-siw", 10_000, hits)
    return {"features of 10 000 showers of 6480 voxels": timed(lambda: high_level(folder / "a.h5"))}


def distances(hits: float, folder: Path) -> dict[str, Any]:
    from caloforge.evaluation.benchmark import fpd, kpd

    rng = np.random.default_rng(0)
    mix = rng.normal(size=(362, 362)) * np.exp(-np.arange(362) / 90)[:, None]
    x, y = (4 + 0.2 * rng.normal(size=(10_000, 362)) @ mix for _ in range(2))
    return {
        "FPD, 200 distances of 362 features": timed(lambda: fpd(x, y)),
        "KPD, 10 pairs of 10 000 showers, 362 features": timed(lambda: kpd(x, y)),
    }


def memory(hits: float, folder: Path) -> dict[str, Any]:
    random_file(folder / "a.h5", "par04-siw-fine", 20_000, hits)
    held = {
        "import only": "pass",
        "features of 20 000 showers of 40 500 voxels": "high_level(sys.argv[1])",
        "the same showers as sparse rows, and a dense batch of 1000": (
            "VoxelSource(read_rows(sys.argv[1], threshold=0.015)).inputs(torch.arange(1000), torch.float32)"
        ),
    }
    start = (
        "import sys, torch\nfrom caloforge.evaluation.benchmark.features import high_level\n"
        "from caloforge.evaluation.benchmark.rows import read_rows\n"
        "from caloforge.evaluation.benchmark.views import VoxelSource\n"
        "import resource\n"
    )
    end = "\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    found = {}
    for label, work in held.items():
        began = time.perf_counter()
        out = subprocess.run(
            [sys.executable, "-c", start + work + end, str(folder / "a.h5")],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ,
        )
        found[label] = {"megabytes": float(out.stdout), "seconds": time.perf_counter() - began}
    return found


PARTS = {"features": features, "distances": distances, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="features, distances, memory; all by default")
    parser.add_argument("--hits", type=float, help="share of voxels hit (0.24 for features, 0.1 for memory)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"'{min(unknown)}' is not a part; parts: {', '.join(PARTS)}")
    found: dict[str, Any] = {}
    for name in options.parts or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            found |= PARTS[name](options.hits or (0.1 if name == "memory" else 0.24), Path(folder))
    if options.json:
        print(json.dumps(found, indent=1))
        return
    for label, numbers in found.items():
        print(f"{label:62s} " + ", ".join(f"{v:.4g} {k.replace('_', ' ')}" for k, v in numbers.items()))
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"largest memory of this process: {own:.0f} megabytes; {os.getloadavg()[0]:.1f} processes ran on average")


if __name__ == "__main__":
    main()
