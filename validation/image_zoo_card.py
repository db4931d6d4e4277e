"""Write a trained model of images into the zoo with its card.

    python validation/image_zoo_card.py NAME RUN TABLE.json MODEL [--data TEXT] [--hours H] [--fault TEXT]...

RUN is a training folder; TABLE.json is what `validation/calpagan.py table` wrote, in which the model is called MODEL.
Of every number the card tells the process in which it is largest, beside the fast simulation's and the floor.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
from pathlib import Path
from typing import Any

import caloforge
from caloforge.evaluation.images.spread import QUANTITIES
from caloforge.evaluation.images.variables import VARIABLES
from caloforge.image_checkpoint import ImageCheckpoint

ZOO = Path(caloforge.__file__).parent / "zoo"


def scores(tables: dict[str, Any], model: str) -> dict[str, Any]:
    """Numbers of the card: the largest of all processes."""
    found: dict[str, Any] = {}
    for name, variable in VARIABLES.items():
        where = max(tables, key=lambda process: tables[process][model]["chi2"][name]["value"])
        table = tables[where]
        found[f"chi2, {variable.label}"] = {
            "where": where,
            **table[model]["chi2"][name],
            "fast": table["fast"]["chi2"][name]["value"],
            "floor": table["floor"][name]["value"],
        }
        if "chi2_of_mean" in table[model]:
            found[f"chi2, {variable.label}"]["mean_of_draws"] = table[model]["chi2_of_mean"][name]["value"]
    where = max(tables, key=lambda process: tables[process][model]["frechet"]["value"])
    table = tables[where]
    found["Fréchet distance"] = {
        "where": where, **table[model]["frechet"], "fast": table["fast"]["frechet"]["value"], "floor": 0.0,
    }  # fmt: skip
    return found


def spreads(tables: dict[str, Any], model: str) -> dict[str, Any]:
    """Spread ratios and coverages by process, where they were measured."""
    return {
        process: {
            QUANTITIES[name].label: {"ratio": entry["ratio"], "coverage": entry["coverage"], "draws": entry["draws"]}
            for name, entry in table[model].get("spread", {}).items()
            if entry is not None
        }
        for process, table in tables.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("run", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("model")
    parser.add_argument("--data", default="", help="how the training pairs were made")
    parser.add_argument("--hours", type=float, help="of training; from the run's history if left out")
    parser.add_argument("--hardware", default="one core of an AMD EPYC virtual machine, shared")
    parser.add_argument("--fault", action="append", default=[], help="what is known to be wrong")
    parser.add_argument("--dry-run", action="store_true", help="print only")
    options = parser.parse_args()
    path = options.run / "model.safetensors"
    checkpoint = ImageCheckpoint.load(path)
    tables = json.loads(options.table.read_text())
    last = json.loads((options.run / "history.jsonl").read_text().splitlines()[-1])
    card = {
        "kind": "images",
        "model": checkpoint.model_name,
        "components": [],
        "grid": checkpoint.grid.describe(),
        "parameters": sum(p.numel() for m in checkpoint.model.generation_modules() for p in m.parameters()),
        "training": {
            "pairs": checkpoint.provenance["data"]["pairs"],
            "processes": checkpoint.domain.processes,
            "data": options.data,
            "iterations": checkpoint.provenance["iterations"],
            "seed": checkpoint.provenance["config"]["training"]["seed"],
            "hours": round(options.hours or last["seconds"] / 3600, 2),
            "hardware": options.hardware,
        },
        "test": {process: table["events"] for process, table in tables.items()},
        "report": scores(tables, options.model),
        "spread": spreads(tables, options.model),
        "faults": options.fault,
        "made_by": f"caloforge {caloforge.__version__}, Python {platform.python_version()}",
    }
    text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    print(text)
    if not options.dry_run:
        shutil.copyfile(path, ZOO / f"{options.name}.safetensors")
        (ZOO / f"{options.name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
