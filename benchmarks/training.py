"""How fast each shipped configuration trains: showers a second in every phase, and the share of time waiting for data.

    python benchmarks/training.py [CONFIG ...] [--iterations 4] [--seconds 3] [--device cpu] [--json]

Without names, all of configs/ that learn from showers are measured, on random sparse showers of their detectors (as
many hits as Geant4's, so that making batches costs the same). A batch counts once for each step of each objective that
sees it. The first ``--iterations`` of a phase, while its first batches are made, are left out; what follows takes about
``--seconds``, at least as many iterations again.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.config import read_config
from caloforge.detectors import Detector
from caloforge.incident import Incident
from caloforge.showers import Showers
from caloforge.training import TrainConfig, train
from caloforge.training.data import model_for
from caloforge.training.phases import plan_phases

CONFIGS = Path(__file__).parent.parent / "configs"
HITS = {"ild-ecal": 900, "lhcb-ecal": 220, "clic-ecal": 900, "atlas-lar": 330}
"""Hits in a typical shower of each detector."""
Row = dict[str, Any]


def detector_of(config: Path) -> str:
    """The detector that a shipped configuration's first lines name."""
    text = config.read_text()
    return next(name for name in HITS if f"simulate {name}" in text)


def random_showers(name: str, n: int) -> Showers:
    """Showers with hits at random places: what they look like does not matter here."""
    detector = Detector.load(name)
    rng = np.random.default_rng(0)
    energy = rng.uniform(1e4, 1e5, n)
    voxels = np.zeros((n, detector.n_voxels), np.float32)
    for row in voxels:
        row[rng.choice(detector.n_voxels, HITS[name], replace=False)] = rng.exponential(1.0, HITS[name])
    position, slope = rng.uniform(-20, 20, (n, 2)), rng.uniform(-0.1, 0.1, (n, 2))
    direction = np.concatenate([slope, np.ones((n, 1))], axis=1)
    return Showers.from_dense(voxels, Incident.of(energy, 11, direction, position), detector)


def without_boosting(config: TrainConfig) -> TrainConfig:
    """The configuration; of boosting that of one component, which is what is repeated."""
    if config.model.name != "adagan":
        return config
    component = {**config.model.options.get("options", {}), "name": config.model.options["component"]}
    return TrainConfig.model_validate({**config.model_dump(exclude_none=True), "model": component, "boosting": None})


def timed(config: TrainConfig, showers: Showers, steps: list[int], every: int, device: str) -> list[list[Row]]:
    """Rows of the history of each phase: ``steps`` iterations, multiples of ``every``, a row for every ``every``."""
    phases = [phase.model_copy(update={"steps": n}) for phase, n in zip(config.training.phases, steps, strict=True)]
    training = config.training.model_copy(update={"phases": phases, "log_every": every, "save_every": 10**6})
    data = config.data.model_copy(update={"validation": 0.0})
    config = config.model_copy(update={"training": training, "data": data})
    with tempfile.TemporaryDirectory() as folder:
        train(config, showers, Path(folder) / "run", device=device)
        rows = [json.loads(line) for line in (Path(folder) / "run" / "history.jsonl").open()]
    before = 0.0
    for row in rows:
        row["took"], before = row["seconds"] - before, row["seconds"]
    return [[row for row in rows if row["phase"] == number] for number in range(len(phases))]


def measure(path: Path, iterations: int, seconds: float, device: str) -> dict[str, Any]:
    """Showers per second and waiting in each phase, once it runs."""
    config = without_boosting(read_config(path, TrainConfig))
    showers = random_showers(detector_of(path), 600)
    model = model_for(showers.detector, config.model.name, len(config.data.conditions), config.model.options)
    plan = plan_phases(model, config.training)
    trial = timed(config, showers, [2 * iterations] * len(plan), iterations, device)
    wanted = [max(1, math.ceil(seconds / max(rows[-1]["took"], 1e-6))) for rows in trial]
    steps = [iterations * (1 + n) for n in wanted]
    found = []
    for phase, n, (_, *rows) in zip(plan, wanted, timed(config, showers, steps, iterations, device), strict=True):
        took = sum(row["took"] for row in rows)
        batches = n * iterations * sum(o.steps for o in phase.objectives)
        found.append(
            {
                "phase": ", ".join(o.name for o in phase.objectives),
                "showers_per_second": batches * phase.batch_size / took,
                "seconds_per_iteration": took / (n * iterations),
                "iterations": n * iterations,
                "waiting": sum(row["waiting"] * row["took"] for row in rows) / took,
            }
        )
    return {"config": path.stem, "phases": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", type=Path)
    parser.add_argument("--iterations", type=int, default=4, help="left out at the start, and measured at least")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each phase that are measured")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = []
    for path in options.configs or [p for p in sorted(CONFIGS.glob("*.toml")) if "simulate " in p.read_text()]:
        row = measure(path, options.iterations, options.seconds, options.device)
        found.append(row)
        for phase in [] if options.json else row["phases"]:
            print(
                f"{row['config']:24s} {phase['phase'][:44]:44s} {phase['showers_per_second']:9.1f} showers/s "
                f"{phase['seconds_per_iteration']:7.3f} s/iteration, waiting {100 * phase['waiting']:4.1f} %",
                flush=True,
            )
    if options.json:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
