"""What events cost: collisions, images of both sides, jets.

    python benchmarks/events.py [-n 10000] [--process dijet] [--events FILE] [--library FILE] [--json]

Without --events, collisions are simulated first. Without --library, the full side is left out: a library takes about an
hour of CPU for 10 000 events (`caloforge shower-library`) and tells its own cost. Times belong to the machine and to
what else it does: CPU seconds are printed beside wall seconds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from caloforge.events import events_to_images, simulate_events
from caloforge.jets import Images
from caloforge.jets.substructure import jet_observables


def timed(work: Callable[[], Any]) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=10_000)
    parser.add_argument("--process", default="dijet")
    parser.add_argument("--events", type=Path)
    parser.add_argument("--library", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, dict[str, float]] = {}
        events = given.events or Path(folder) / "events.h5"
        if given.events is None:
            # Workers are processes of their own, so only wall seconds tell.
            found["collisions"] = timed(lambda: simulate_events(given.process, given.n, events))
        for side, library in (("fast", None), ("full", given.library)):
            if side == "full" and library is None:
                continue
            output = Path(folder) / f"{side}.h5"
            made: dict[str, Any] = {}
            found[f"images, {side}"] = timed(
                lambda side=side, output=output, library=library, made=made: made.update(
                    events_to_images(events, output, side, n=given.n, library=library)
                )
            )
            if made["reuse_factor"]:
                found["reuse"] = {key: made[key] for key in ("reuse_factor", "reuse_central_largest", "library_share")}
        images = Images.read(Path(folder) / "fast.h5")
        found["jets"] = timed(lambda: jet_observables(images))
    if given.json:
        print(json.dumps({"events": given.n, **found}, indent=1))
        return
    for name, numbers in found.items():
        print(f"{name:14s} " + ", ".join(f"{key.replace('_', ' ')} {value:.4g}" for key, value in numbers.items()))


if __name__ == "__main__":
    main()
