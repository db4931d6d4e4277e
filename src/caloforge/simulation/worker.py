"""A simulation worker: a process with one Geant4 in it, fed with chunks by `caloforge.chunks`."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..chunks import Work, serve
from ..detectors import Detector
from ..incident import Incident
from .fast import FastShowers
from .physics_tables import PhysicsTables


def shower_seeds(seed: int, start: int, stop: int) -> npt.NDArray[np.uint32]:
    """Two random seeds (stop - start, 2) for each of showers ``start`` to ``stop`` of a request.

    They depend on the request's seed and the shower's number alone, so the result cannot depend on chunks or workers.
    """
    rows = [np.random.SeedSequence([seed, 0x64, i]).generate_state(2) for i in range(start, stop)]
    # Geant4 reads them as signed long and takes 0 for the end of the list.
    seeds: npt.NDArray[np.uint32] = np.asarray(rows, dtype=np.uint32).reshape(-1, 2) & np.uint32(0x7FFFFFFF)
    return np.maximum(seeds, np.uint32(1))


def peak_memory() -> int:
    """Largest resident memory of this process so far, bytes; 0 where the system does not tell."""
    # On Linux getrusage still counts what the parent had when it forked; the kernel's own mark starts anew.
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
        if found:
            return int(found[1]) * 1024
    with contextlib.suppress(ImportError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used if sys.platform == "darwin" else used * 1024
    return 0


def prepare(setup: dict[str, Any], fast: FastShowers | None = None) -> Work:
    """Start Geant4 with a detector; what is returned simulates a chunk into its file.

    Args:
        setup: what the production tells its workers.
        fast: replaces showers.
    """
    detector = Detector.from_toml(setup["detector"])
    neutrons, levels = (Path(setup[key]) if setup[key] else None for key in ("neutrons", "levels"))
    tables = PhysicsTables(Path(setup["tables"]), setup["tables_kind"], "", "", neutrons, levels)
    from .geant4 import Geant4

    engine = Geant4(detector, tables, setup["physics"], fast, setup["entrance"])

    def work(chunk: dict[str, Any], each: Callable[[int], None]) -> int:
        incident = Incident(*(np.asarray(chunk[name], dtype=kind) for name, kind in zip(*_COLUMNS, strict=True)))
        seeds = shower_seeds(setup["seed"], chunk["start"], chunk["start"] + len(incident))
        if fast is not None:
            fast.reset()
        showers, seconds = engine.simulate(incident, seeds, each, chunk["start"])
        showers.provenance = {
            "cpu_seconds": seconds,
            "peak_memory": peak_memory(),
            "geant4": engine.version,
            "physics": engine.physics,
        } | ({} if fast is None else {"fast": fast.account})
        showers.write(chunk["path"])
        return len(incident)

    return work


_COLUMNS = (("pdg", "energy", "direction", "position"), (np.int32, np.float64, np.float64, np.float64))


if __name__ == "__main__":
    serve(prepare)
