"""Inference time per image against batch size, as in CALPAGAN's figure 13 (arXiv 2401.02248).

    python benchmarks/calpagan.py [--model calpagan --model coarse-to-fine] [--device cpu --device cuda:0] [--json]

Without --device: the CPU and every GPU there is, and with two GPUs also both together, half of each batch on each. The
networks have their published or default size and random weights; the images are as sparse as those of collisions. On a
CPU times are of one process with the threads that torch has.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from caloforge.models import MODELS, GenerativeModel, build_model

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
SIDE = 72
HIT = 120 / SIDE**2  # share of towers that a collision's fast image holds
PAIRED = [name for name, kind in MODELS.items() if kind.paired]


def images(n: int) -> Tensor:
    """Random sparse images (n, towers)."""
    rng = torch.Generator().manual_seed(0)
    towers = torch.rand(n, SIDE * SIDE, generator=rng)
    return torch.where(towers < HIT, 10 * towers / HIT, 0.0)


def milliseconds(models: list[tuple[GenerativeModel, torch.device]], batch: int, least: float) -> float:
    """Wall milliseconds per image, the best of several runs; the batch is shared by the devices."""
    parts = [images(batch).chunk(len(models))[i] for i in range(min(len(models), batch))]

    def run(i: int) -> None:
        model, device = models[i]
        with torch.inference_mode():
            condition = parts[i].to(device)
            model(model.draw_latent(len(condition)).to(device), condition).cpu()

    times, began = [], time.perf_counter()
    with ThreadPoolExecutor(len(models)) as pool:
        list(pool.map(run, range(len(parts))))  # to warm up
        while len(times) < 3 or time.perf_counter() - began < least:
            start = time.perf_counter()
            list(pool.map(run, range(len(parts))))
            times.append(time.perf_counter() - start)
    return 1e3 * min(times) / batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=PAIRED)
    told = "cpu, cuda:0, cuda:0+cuda:1 for both together, cpu+cpu for two threads"
    parser.add_argument("--device", action="append", help=told)
    parser.add_argument("--largest", type=int, default=BATCHES[-1])
    parser.add_argument("--least", type=float, default=0.5, help="seconds for each number")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    devices = options.device or ["cpu", *gpus, *(["+".join(gpus[:2])] if len(gpus) > 1 else [])]
    found: dict[str, dict[str, dict[int, float]]] = {}
    for name in options.model or PAIRED:
        model = build_model(name, (1, SIDE, SIDE), SIDE * SIDE).eval()
        for device in devices:
            each = [(copy.deepcopy(model).to(d), torch.device(d)) for d in device.split("+")]
            sizes = [b for b in BATCHES if len(each) <= b <= options.largest]
            found.setdefault(name, {})[device] = {b: milliseconds(each, b, options.least) for b in sizes}
            if not options.json:
                row = "  ".join(f"{b}: {t:.3f}" for b, t in found[name][device].items())
                print(f"{name:15} {device:14} ms per image at batch {row}", flush=True)
    if options.json:
        print(json.dumps({"threads": torch.get_num_threads(), "ms_per_image": found}, indent=1))


if __name__ == "__main__":
    main()
