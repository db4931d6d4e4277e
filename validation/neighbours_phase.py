"""Teach a trained layered checkpoint which hits come together, and nothing else: only the phase `neighbours` is run.

    python validation/neighbours_phase.py CHECKPOINT CONFIG --data TRAIN.h5 [--data MORE.h5] --output RUN

For checkpoints from before `neighbours` (models/neighbours.py), whose whole training is not repeated. CHECKPOINT is a
file or zoo:NAME, of `layer-energy` or of an `adagan` of it, whose components are all taught on the showers as they are,
not as boosting weighted them. CONFIG is the configuration with the phase: its steps, batch size, optimiser and seed are
used, the model's options are the checkpoint's. All other weights stay, which is checked. RUN gets model.safetensors and
history.jsonl; score it with validation/zoo_card.py.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from caloforge.checkpoint import Checkpoint
from caloforge.config import read_config
from caloforge.models import GenerativeModel, build_model
from caloforge.training import TrainConfig
from caloforge.training.batches import ShowerSource
from caloforge.training.data import TrainingData, read_showers
from caloforge.training.engine import Engine
from caloforge.training.state import State

PHASE = "neighbours"


def with_neighbours(checkpoint: Checkpoint) -> tuple[GenerativeModel, list[GenerativeModel], dict[str, Any]]:
    """The checkpoint's model with `neighbours`, still untaught; its layered parts; its options."""
    options = dict(checkpoint.model_config)
    if checkpoint.model_name == "adagan":
        options["options"] = {**options["options"], PHASE: True}
    else:
        options[PHASE] = True
    model = build_model(checkpoint.model_name, **options)
    found = model.load_state_dict(checkpoint.model.state_dict(), strict=False)
    if found.unexpected_keys or not all(f"{PHASE}." in name for name in found.missing_keys):
        raise SystemExit(f"'{checkpoint.model_name}' has other weights beside those of {PHASE}: {found}.")
    if not found.missing_keys:
        raise SystemExit(f"this checkpoint has {PHASE} already.")
    parts = list(model.components) if checkpoint.model_name == "adagan" else [model]
    return model, [part for part in parts if isinstance(part, GenerativeModel)], options


def teach(part: GenerativeModel, source: ShowerSource, config: TrainConfig, seed: int, folder: Path) -> int:
    """Run the phase; returns its iterations."""
    engine = Engine(part, source, config.training.model_copy(update={"seed": seed}), folder=folder)
    engine.phases = [phase for phase in engine.phases if [o.name for o in phase.objectives] == [PHASE]]
    if not engine.phases:
        raise SystemExit(f"the configuration has no phase {PHASE}; give one with neighbours = true.")
    state = State(data={"iteration": engine.phases[0].start})
    state.put("model", part.state_dict())
    engine.run(state)
    return engine.phases[0].steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    began = time.perf_counter()
    checkpoint = Checkpoint.load(options.checkpoint)
    config = read_config(options.config, TrainConfig)
    data = TrainingData.prepare(read_showers(options.data, config.data.max_showers), config)
    if not data.dataset.showers.detector.same_voxels(checkpoint.detector):
        raise SystemExit(f"the checkpoint is of '{checkpoint.detector.name}'; give showers of that detector.")
    transforms = checkpoint.shower_transform, checkpoint.condition_transform
    source = ShowerSource(data.dataset, *transforms, torch.device("cpu"), data.training)
    model, parts, model_config = with_neighbours(checkpoint)
    iterations = int(checkpoint.provenance["iterations"])
    for number, part in enumerate(parts):
        folder = options.output if len(parts) == 1 else options.output / f"component-{number:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        iterations += teach(part, source, config, config.training.seed + number, folder)
    now = model.state_dict()
    assert all(torch.equal(now[name], tensor) for name, tensor in checkpoint.model.state_dict().items())
    note = {
        "config": config.model_dump(mode="json", exclude_none=True),
        "data": data.content_hash(),
        "seconds": round(time.perf_counter() - began, 1),
    }
    provenance = {**checkpoint.provenance, "iterations": iterations, f"{PHASE}_alone": note}
    path = options.output / "model.safetensors"
    replace(checkpoint, model=model.eval(), model_config=model_config, provenance=provenance).save(path)
    print(f"taught {PHASE} of {len(parts)} networks in {note['seconds']} s: {path}")


if __name__ == "__main__":
    main()
