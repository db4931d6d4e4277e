"""Where the time of a generated shower goes: milliseconds of CPU a shower by part, for one checkpoint.

    python benchmarks/generation_parts.py zoo:NAME [-n 1 100 1000] [--energy 50] [--write]

Give OMP_NUM_THREADS=1 for figures of one core. Each part is the least of several runs: machines are noisy. "other" is
what is not listed: splitting into runs, transforms, packing. With --write, the showers of the last -n go to a file too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from caloforge import Sampler
from caloforge.generation import generate
from caloforge.generation import sampler as sampling
from caloforge.incident import Incident
from caloforge.models import GenerativeModel, hits, layer_energy
from caloforge.models.layer_energy import LayerEnergy


class Parts:
    """Sums of CPU seconds by part, of functions while they are watched."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def watch(self, owner: Any, name: str, part: str) -> Iterator[None]:
        """Time all calls of ``owner.name``; what it calls that is watched too is not counted twice."""
        own: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            inside = sum(self.seconds.values())
            start = time.process_time()
            result = own(*args, **kwargs)
            spent = time.process_time() - start - (sum(self.seconds.values()) - inside)
            self.seconds[part] = self.seconds.get(part, 0.0) + spent
            return result

        setattr(owner, name, timed)
        try:
            yield
        finally:
            setattr(owner, name, own)


def layers(model: GenerativeModel) -> list[LayerEnergy]:
    """The layer-energy models in a model, itself or in a mixture."""
    return [part for part in model.modules() if isinstance(part, LayerEnergy)]


def watches(parts: Parts, model: GenerativeModel) -> list[Any]:
    """What is timed of a model that draws hits."""
    found = [
        parts.watch(sampling, "draw_own_noise", "noise: flow and network"),
        parts.watch(sampling.VoxelNoise, "__call__", "noise: voxels"),
        parts.watch(layer_energy, "flow_on_cpu", "flow"),
        parts.watch(hits, "logistic_noise", "noise to logits"),
        parts.watch(hits, "pick", "pick hits"),
        parts.watch(hits.HitEnergies, "__call__", "energies of hits"),
        parts.watch(hits, "scale_hits", "layer energies met"),
    ]
    for part in layers(model):
        found.append(parts.watch(part.component, "forward", "network"))
        if part.neighbours:
            found.append(parts.watch(part.neighbours, "forward", "neighbours"))
    return found


@contextmanager
def all_of(contexts: list[Any]) -> Iterator[None]:
    """Several contexts at once."""
    if not contexts:
        yield
        return
    with contexts[0], all_of(contexts[1:]):
        yield


def table(sampler: Sampler, incident: Incident, repeats: int) -> dict[str, float]:
    """Milliseconds a shower by part, each the least of ``repeats`` runs."""
    rows = []
    sampler(incident)
    for _ in range(repeats):
        parts = Parts()
        start = time.process_time()
        with all_of(watches(parts, sampler.checkpoint.model)):
            sampler(incident)
        total = time.process_time() - start
        rows.append(parts.seconds | {"other": total - sum(parts.seconds.values()), "all": total})
    return {name: 1e3 * min(row[name] for row in rows) / len(incident) for name in rows[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="path, or zoo:NAME")
    parser.add_argument("-n", type=int, nargs="+", default=[1, 100, 1000], help="showers asked for at once")
    parser.add_argument("--energy", type=float, default=50.0, help="of the incident particles, GeV")
    parser.add_argument("--write", action="store_true", help="write a file too")
    options = parser.parse_args()
    sampler = Sampler.from_checkpoint(options.checkpoint)
    domain = sampler.checkpoint.domain
    place = [sum(domain[axis]) / 2 for axis in "xy"]

    def asked(n: int) -> Incident:
        return Incident.of(np.full(n, 1e3 * options.energy), domain["pdg"][0], (0, 0, 1), place)

    columns = {n: table(sampler, asked(n), max(3, min(30, 300 // n))) for n in options.n}
    print(f"{sampler.label} in {sampler.checkpoint.detector.name}, {options.energy:g} GeV: ms of CPU a shower")
    print(f"{'at once':24s}" + "".join(f"{n:10d}" for n in columns))
    for name in columns[options.n[0]]:
        print(f"{name:24s}" + "".join(f"{column.get(name, 0):10.4f}" for column in columns.values()))
    if options.write:
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time(), time.perf_counter()
            path = generate(options.checkpoint, Path(folder) / "showers.h5", asked(options.n[-1]))
            cpu, wall = time.process_time() - start[0], time.perf_counter() - start[1]
            size = path.stat().st_size / options.n[-1]
        print(
            f"generate to a file: {1e3 * cpu / options.n[-1]:.4f} ms of CPU, {1e3 * wall / options.n[-1]:.4f} by the",
            end="",
        )
        print(f" wall a shower, loading included; {size:.0f} bytes each")


if __name__ == "__main__":
    main()
