"""FPD and KPD against JetNet 0.2.5, and precision, recall, density and coverage against prdc 0.2, on the same numbers.

    python validation/jetnet_metrics.py --jetnet-python /path/to/other/bin/python [-n 12000] [--features 362 30]
    python validation/jetnet_metrics.py --jetnet-python ... --files reference.h5 generated.h5

JetNet 0.2.5 cannot be imported with NumPy 2, so it runs in an environment of its own:

    python -m venv jetnet-env
    jetnet-env/bin/pip install torch==2.13.0 'numpy<2' 'scipy<1.18' jetnet==0.2.5 prdc
    jetnet-env/bin/pip uninstall pyarrow    # newer ones want NumPy 2; JetNet does not need it

Without files the features are made up: as many as data sets 2 (362) and 1 (30) have, correlated, some of them constant,
with tails, shifted a little. With files they are the challenge's features of two shower files.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

THEIRS = """
import json, sys, time, warnings
import numpy as np
from jetnet.evaluation import fpd, kpd
from prdc import compute_prdc
warnings.simplefilter("ignore")
held = np.load(sys.argv[1], allow_pickle=False)
x, y, low, high, size, few = (held[k] for k in ("x", "y", "low", "high", "size", "few"))
found, seconds = {}, {}
for name, run in (
    ("fpd", lambda: fpd(x, y, min_samples=int(low), max_samples=int(high))),
    ("kpd", lambda: kpd(x, y, batch_size=int(size))),
    ("prdc", lambda: compute_prdc(x[:few], y[:few], nearest_k=5)),
):
    began = time.perf_counter()
    value = run()
    seconds[name] = time.perf_counter() - began
    found[name] = {k: float(v) for k, v in value.items()} if name == "prdc" else [float(v) for v in value]
print(json.dumps({"found": found, "seconds": seconds}))
"""
NEIGHBOURS = 3000


def made_up(n: int, f: int) -> tuple[Floats, Floats]:
    """Two tables of correlated features, the second shifted by a tenth of a standard deviation."""
    rng = np.random.default_rng(f)
    mix = rng.normal(size=(f, f)) * np.exp(-np.arange(f) / (f / 4))[:, None]
    tables = []
    for shift in (0.0, 0.1):
        latent = rng.normal(size=(n, f)) + shift * rng.random(f)
        table = 4 + 0.2 * latent @ mix
        table[:, 1] = np.exp(latent[:, 1])
        table[:, 2], table[:, 3] = 0.0, 1.0
        tables.append(table)
    return tables[0], tables[1]


def ours(x: Floats, y: Floats, low: int, high: int, size: int, few: int) -> tuple[dict, dict]:
    """Our values, and the seconds they took."""
    from caloforge.evaluation.benchmark import fpd, kpd, prdc
    from caloforge.evaluation.benchmark.neighbours import Points

    found, seconds = {}, {}
    began = time.perf_counter()
    a = fpd(x, y, min_samples=low, max_samples=high)
    seconds["fpd"] = time.perf_counter() - began
    began = time.perf_counter()
    b = kpd(x, y, batch_size=size)
    seconds["kpd"] = time.perf_counter() - began
    began = time.perf_counter()
    c = prdc(Points.of(x[:few]), Points.of(y[:few]))
    seconds["prdc"] = time.perf_counter() - began
    found = {"fpd": [a.value, a.error], "kpd": [b.value, b.error], "prdc": {k: e.value for k, e in c.items()}}
    return found, seconds


def compare(x: Floats, y: Floats, python: str, title: str) -> float:
    """Print both sides' values; the largest relative difference."""
    n = min(len(x), len(y))
    low, high, size, few = min(10_000, n), 5 * min(10_000, n), min(10_000, n), min(n, NEIGHBOURS)
    with tempfile.TemporaryDirectory() as folder:
        held = Path(folder) / "features.npz"
        np.savez(held, x=x, y=y, low=low, high=high, size=size, few=few)
        out = subprocess.run([python, "-c", THEIRS, str(held)], capture_output=True, text=True, check=False)
    if out.returncode:
        raise SystemExit(f"{python} failed: {out.stderr.strip().splitlines()[-1]}")
    theirs = json.loads(out.stdout.splitlines()[-1])
    found, seconds = ours(x, y, low, high, size, few)
    print(f"\n{title}: {len(x)} and {len(y)} showers, {x.shape[1]} features")
    print(f"{'':12s} {'caloforge':>24s} {'other':>24s} {'difference':>11s} {'seconds':>16s}")
    worst = 0.0
    for name in ("fpd", "kpd", "prdc"):
        pairs = (
            [(k, found[name][k], theirs["found"][name][k]) for k in found[name]]
            if name == "prdc"
            else list(zip((name, "  its error"), found[name], theirs["found"][name], strict=True))
        )
        for number, (label, one, two) in enumerate(pairs):
            difference = abs(one - two) / max(abs(two), 1e-300) if one != two else 0.0
            worst = max(worst, difference)
            took = f"{seconds[name]:7.1f} {theirs['seconds'][name]:8.1f}" if number == 0 else ""
            print(f"{label:12s} {one:24.16g} {two:24.16g} {difference:11.1e} {took:>16s}", flush=True)
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jetnet-python", required=True, help="python of the environment with JetNet and prdc")
    parser.add_argument("-n", type=int, default=12_000, help="made-up showers of each sample")
    parser.add_argument("--features", type=int, nargs="*", default=[30, 362])
    parser.add_argument("--files", type=Path, nargs=2, help="two shower files of cylindrical voxels")
    options = parser.parse_args()
    worst = 0.0
    if options.files:
        from caloforge.evaluation.benchmark import high_level

        x, y = (high_level(path).matrix for path in options.files)
        worst = compare(x, y, options.jetnet_python, " against ".join(p.name for p in options.files))
    else:
        for f in options.features:
            x, y = made_up(options.n, f)
            worst = max(worst, compare(x, y, options.jetnet_python, "made-up features"))
    print(f"\nlargest relative difference: {worst:.1e}")
    if worst > 1e-6:
        raise SystemExit("the two sides differ by more than 1e-6")


if __name__ == "__main__":
    main()
