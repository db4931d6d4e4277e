"""One run of the benchmark: the machine, Geant4, every model with every backend and batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import __version__, extras
from ..checkpoint import Checkpoint
from ..checkpoint_file import checkpoint_kind
from ..errors import CaloforgeError, lookup
from ..generation import Sampler
from ..generation.backends import BACKENDS
from ..generation.drawing import device_name, find_device, rows_per_run
from ..progress import Progress, silent
from ..zoo import PREFIX, ZOO, find_checkpoint
from .full import time_geant4
from .machine import describe_machine, peaks, threads
from .timing import beam_at, time_batches, work_of

BATCHES = (1, 10, 100, 1000)
Bench = dict[str, Any]


def bench(
    models: Sequence[str] = (),
    *,
    energy: float = 50.0,
    batches: Sequence[int] = BATCHES,
    backends: Sequence[str] | None = None,
    device: str = "cpu",
    n_threads: int = 1,
    repeats: int = 7,
    geant4: bool = True,
    geant4_showers: int = 20,
    tables: str = "auto",
    progress: Progress = silent,
) -> Bench:
    """Time models beside Geant4 in the same detectors and beside the machine's peaks, all in one run.

    Args:
        models: paths of checkpoints, or ``zoo:NAME``; all of the zoo's models of showers if none is given.
        energy: of the incident particles, GeV.
        batches: numbers of showers in one request.
        backends: keys of `BACKENDS`; if not given: eager, and Numba and ONNX Runtime where they are installed.
        device: "cpu", "cuda", ... or "auto".
        n_threads: of torch and ONNX Runtime.
        repeats: of each request.
        geant4: simulate as well.
        geant4_showers: how many in each detector.
        tables: Geant4's physics tables, see `caloforge.simulation.simulate`.
        progress: told after each detector and each model with a backend.

    Returns:
        Plain data: ``machine``, ``settings``, ``peaks``, ``geant4`` by detector, and ``results``, one entry for each
        model, backend and batch; ``failed`` tells which backends could not run which model, and why.

    Raises:
        CaloforgeError: if a model, backend, batch or device cannot be used, or Geant4 is wanted and not installed.
    """
    names = list(models) or [PREFIX + name for name in ZOO if checkpoint_kind(ZOO[name]) == "showers"]
    installed = {"eager": True, "numba": extras.has_numba(), "onnxruntime": extras.has_onnxruntime()}
    chosen = list(backends or [name for name, there in installed.items() if there])
    _check(chosen, batches, n_threads, repeats, geant4_showers)
    if geant4:
        extras.require_geant4()
    where = find_device(device)
    checkpoints = {name: _load(name) for name in names}
    simulated = {c.detector.name: c for c in checkpoints.values() if c.detector.slabs} if geant4 else {}
    total, done = len(simulated) + len(names) * len(chosen), 0
    found: Bench = {
        "caloforge": __version__,
        "machine": describe_machine() | {"device": device_name(where)},
        "settings": {"energy_gev": energy, "batches": list(batches), "threads": n_threads, "repeats": repeats},
        "geant4": {},
        "results": [],
        "failed": [],
    }
    with threads(n_threads):
        found["peaks"] = peaks(where)
        for detector, checkpoint in simulated.items():
            progress(done, total, f"Geant4 in {detector}")
            beam = beam_at(checkpoint, energy)
            found["geant4"][detector] = time_geant4(checkpoint.detector, beam, geant4_showers, tables)
            done += 1
        for name, checkpoint in checkpoints.items():
            incident = beam_at(checkpoint, energy).draw(max(batches), 1)
            work = work_of(checkpoint, rows_per_run(where, checkpoint.detector.n_voxels))
            for backend in chosen:
                progress(done, total, f"{name}, {backend}")
                done += 1
                try:
                    sampler = Sampler.from_checkpoint(name, device=device, backend=backend)
                except CaloforgeError as error:  # a backend that cannot run one model must not cost all others
                    found["failed"].append({"model": name, "backend": backend, "why": str(error)})
                    continue
                head: Bench = {"model": name, "detector": checkpoint.detector.name, "backend": backend}
                head |= {"flops_per_shower": work.flops, "bytes_per_shower": work.bytes}
                for timed in time_batches(sampler, incident, list(batches), repeats):
                    found["results"].append(head | timed | _rated(timed, head, found, on_cpu=where.type == "cpu"))
    progress(total, total, "")
    return found


def _rated(timed: Bench, head: Bench, found: Bench, *, on_cpu: bool) -> Bench:
    """How far a time is from the machine's limits and from Geant4's."""
    milliseconds = timed["cpu_ms" if on_cpu else "wall_ms"]
    shares = found["settings"]["threads"] if on_cpu else 1
    rates = {name: 1e3 * head[f"{name}_per_shower"] * shares / milliseconds for name in ("flops", "bytes")}
    simulated = found["geant4"].get(head["detector"])
    return {
        "flops_per_s": rates["flops"],
        "bytes_per_s": rates["bytes"],
        "share_of_peak_flops": rates["flops"] / found["peaks"]["flops_per_s"],
        "share_of_peak_bytes": rates["bytes"] / found["peaks"]["bytes_per_s"],
        "times_geant4": simulated["cpu_ms"] / milliseconds if simulated else None,
    }


def _load(name: str) -> Checkpoint:
    if checkpoint_kind(find_checkpoint(name)) != "showers":
        raise CaloforgeError(f"'{name}' makes images of events; the benchmark times models of showers, give those.")
    return Checkpoint.load(name if name.startswith(PREFIX) else Path(name))


def _check(backends: Sequence[str], batches: Sequence[int], n_threads: int, repeats: int, showers: int) -> None:
    for backend in backends:
        lookup(BACKENDS, backend, "a backend")
    numbers = {"batch": min(batches, default=0), "threads": n_threads, "repeats": repeats, "Geant4 showers": showers}
    for name, value in numbers.items():
        if value < 1:
            raise CaloforgeError(f"the benchmark's {name} is {value}; give at least 1.")
