"""What the machine can do, measured: a matrix product for arithmetic, a copy for memory."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

_SIZE = 1024  # of the matrices
_FLOATS = 16 * 2**20  # of the copy: 64 MiB, beyond the caches of a core
_REPEATS = 7


def peaks(device: torch.device) -> dict[str, float]:
    """FLOP/s of a float32 matrix product and bytes/s of a copy (read and written), with as many threads as are set.

    On a CPU by the CPU time over the threads: what others do on the machine then does not count.
    """
    a, b = (torch.randn(_SIZE, _SIZE, device=device) for _ in range(2))
    source = torch.ones(_FLOATS, device=device)
    target = torch.empty_like(source)
    return {
        "flops_per_s": 2 * _SIZE**3 / _shortest(lambda: a @ b, device),
        "bytes_per_s": 8 * _FLOATS / _shortest(lambda: target.copy_(source), device),
    }


def _shortest(run: Callable[[], object], device: torch.device) -> float:
    """Least seconds of several runs: what the machine can do, not what others leave of it."""
    clock, shares = (time.process_time, torch.get_num_threads()) if device.type == "cpu" else (time.perf_counter, 1)
    run()
    seconds = []
    for _ in range(_REPEATS):
        wait(device)
        began = clock()
        run()
        wait(device)
        seconds.append((clock() - began) / shares)
    return min(seconds)


def wait(device: torch.device) -> None:
    """Wait for what a GPU has been given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Run torch on so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def describe_machine() -> dict[str, Any]:
    """Processor, cores and how busy it is with other work."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {"processor": _processor(), "cores": os.cpu_count(), "load_before": load, "torch": torch.__version__}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
