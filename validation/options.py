"""What each option of layered training does: one short training a variant, all else equal, scored by the classifiers.

    python validation/options.py [--data TRAIN.h5] [--test TEST.h5] [--steps 600] [--output options.json] [NAME ...]

Variants of configs/lhcb-wgan-layers.toml on the shipped samples of lhcb-ecal. Each has the same flow (same seed, same
showers) and ``--steps`` iterations of likelihood; variants with a critic go on with as many steps as their line says.
AUC: area under the ROC curve of the classifiers of `caloforge evaluate` with three repeats, 0.5 is best.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import caloforge
from caloforge.generation import generate
from caloforge.samples import sample
from caloforge.showers import Showers

CONFIG = Path(__file__).parent.parent / "configs" / "lhcb-wgan-layers.toml"

VARIANTS: dict[str, tuple[str, list[str]]] = {
    "base": ("likelihood alone", []),
    "relu": ("ReLU, as in the paper, for SiLU in the generator", ["model.options.activation=relu"]),
    "latent": ("latent numbers of deviation 1 for 0.1", ["model.latent_scale=1.0"]),
    "emphasis": ("no emphasis on voxels that hold much energy", ["model.emphasis=0.0"]),
    "no-ema": ("the last weights for their average", ["training.ema_decay=0.0"]),
    "independent": ("hits drawn independently of their neighbours", ["model.neighbours=false"]),
    "encoder": ("half of the steps with an encoder (16 latent numbers)", ["model.encoded=16"]),
    "mean": (
        "squared error to the mean shower, no noise on voxels",
        ["model.voxel_noise=false", "model.neighbours=false"],
    ),
    "critic": ("then critic and generator, 150 steps, 1e-6", []),
    "critic-fast": ("then critic and generator, 150 steps, 2e-5", ["training.optimisers.generator.lr=2e-5"]),
}


def phases(name: str, steps: int) -> list[dict[str, int]]:
    """Steps of each phase."""
    likelihood = [steps // 2, steps - steps // 2] if name == "encoder" else [steps]
    neighbours = [] if name in ("independent", "mean") else [{"steps": 100, "batch_size": 32}]
    regressor, critic = (300, 150) if name.startswith("critic") else (1, 0)
    rest = [{"steps": regressor}, {"steps": max(critic, 1)}]
    return [{"steps": 800, "batch_size": 256}, *({"steps": n} for n in likelihood), *neighbours, *rest]


def measure(name: str, data: Path, test: Path, steps: int) -> dict[str, Any]:
    """Train one variant and score it."""
    from caloforge.config import read_config
    from caloforge.training import TrainConfig, train

    label, overrides = VARIANTS[name]
    plain = read_config(CONFIG, TrainConfig, overrides).model_dump(exclude_none=True)
    plain["training"] |= {"phases": phases(name, steps), "save_every": 10**6}
    config = TrainConfig.model_validate(plain)
    reference = Showers.read(test)
    with tempfile.TemporaryDirectory() as folder:
        model = train(config, data, Path(folder) / "run", device="cpu")
        row = json.loads((Path(folder) / "run" / "history.jsonl").read_text().splitlines()[-1])
        fake = generate(model, Path(folder) / "fake.h5", reference.incident, seed=1, device="cpu")
        report = caloforge.evaluate(test, fake, Path(folder) / "report", repeats=3).to_dict()
    scores = {kind: report["classifiers"][kind]["auc"] for kind in ("high", "low")}
    return {"name": name, "what": label, "seconds": row["seconds"], **scores}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(VARIANTS))
    parser.add_argument("--data", type=Path, default=sample("lhcb-ecal-train"))
    parser.add_argument("--test", type=Path, default=sample("lhcb-ecal-test"))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    found = []
    for name in options.names or VARIANTS:
        found.append(row := measure(name, options.data, options.test, options.steps))
        high, low = row["high"], row["low"]
        print(
            f"| {row['name']} | {row['what']} | {high['value']:.3f} ± {high['error']:.3f} | "
            f"{low['value']:.3f} ± {low['error']:.3f} | {row['seconds']:.0f} s |",
            flush=True,
        )
        if options.output:
            options.output.write_text(json.dumps({"steps": options.steps, "variants": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
