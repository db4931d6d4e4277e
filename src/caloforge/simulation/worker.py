"""A simulation worker: a process with one Geant4 in it, fed with chunks over a pipe.

Requests come as JSON lines on standard input, answers leave as JSON lines on what was standard output; Geant4's own
output goes to standard error, which the parent keeps as a log. The worker ends when its parent does.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ..detectors import Detector
from ..errors import CaloforgeError
from ..incident import Incident
from .physics_tables import PhysicsTables

_REPORT_EVERY = 0.3  # seconds


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


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Answer requests until there are no more: first the set-up, then one line per chunk."""

    def answer(**message: Any) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    setup = json.loads(requests.readline())
    detector = Detector.from_toml(setup["detector"])
    neutrons, levels = (Path(setup[key]) if setup[key] else None for key in ("neutrons", "levels"))
    tables = PhysicsTables(Path(setup["tables"]), setup["tables_kind"], "", "", neutrons, levels)
    from .geant4 import Geant4

    engine = Geant4(detector, tables, setup["physics"])
    answer(kind="ready")
    for line in requests:
        chunk = json.loads(line)
        incident = Incident(*(np.asarray(chunk[name], dtype=kind) for name, kind in zip(*_COLUMNS, strict=True)))
        reported = time.monotonic()

        def each(done: int, start: int = chunk["start"]) -> None:
            nonlocal reported
            if os.getppid() != setup["parent"]:
                os._exit(1)  # the parent was killed: nobody will use this chunk
            if time.monotonic() - reported > _REPORT_EVERY:
                reported = time.monotonic()
                answer(kind="progress", chunk=start, done=done)

        seeds = shower_seeds(setup["seed"], chunk["start"], chunk["start"] + len(incident))
        showers, seconds = engine.simulate(incident, seeds, each)
        showers.provenance = {
            "cpu_seconds": seconds,
            "peak_memory": peak_memory(),
            "geant4": engine.version,
            "physics": engine.physics,
        }
        showers.write(chunk["path"])
        answer(kind="done", chunk=chunk["start"], n=len(incident))


_COLUMNS = (("pdg", "energy", "direction", "position"), (np.int32, np.float64, np.float64, np.float64))


def main() -> None:
    """Run a worker on this process's standard streams."""
    # Ctrl-C reaches the whole process group; the parent decides when a worker stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Geant4 prints in C++ to descriptor 1: keep the pipe for ourselves and send what it prints to the log.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        serve(sys.stdin, answers)
    except CaloforgeError as error:
        answers.write(json.dumps({"kind": "refused", "why": str(error)}) + "\n")
        answers.flush()
    except BrokenPipeError:
        pass
    sys.stdout.flush()
    # Geant4's destructors may run in any order once Python is gone; all that matters is on disk.
    os._exit(0)


if __name__ == "__main__":
    main()
