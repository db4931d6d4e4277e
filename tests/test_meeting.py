"""What processes do together: it waits for who is slow, and not for who died."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from datetime import timedelta

import pytest

from caloforge.training.meeting import LostError, finish
from caloforge.training.processes import _free_port

PROCESS = """
import os, signal, sys, time
import torch
from caloforge.training.launched import Launch
from caloforge.training.meeting import mean_over_processes, meet
from caloforge.training.processes import fabric_for

with Launch.found().together():
    fabric = fabric_for("cpu", "32", launch=Launch.found())
    assert len(fabric.neighbours) == 1
    meet(fabric)
    if fabric.global_rank:
        time.sleep(2.5)
    mean = mean_over_processes(fabric, torch.tensor([1.0, 3.0]) * fabric.global_rank)
    assert mean.tolist() == [0.5, 1.5], mean
    print("slow ones are awaited", flush=True)
    if fabric.global_rank:
        os.kill(os.getpid(), signal.SIGKILL)
    meet(fabric)
"""

STANDS_STILL = """
import os, signal
from caloforge.training.launched import Launch
from caloforge.training.meeting import meet
from caloforge.training.processes import fabric_for

with Launch.found().together():
    fabric = fabric_for("cpu", "32", launch=Launch.found())
    meet(fabric)
    fabric.neighbours = [DEAD]
    if fabric.global_rank:
        os.kill(os.getpid(), signal.SIGSTOP)
    meet(fabric)
"""


class Stuck:
    """Work that ends after so many looks, or never."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def wait(self, timeout: timedelta = timedelta(0)) -> bool:
        self.looks -= 1
        if self.looks:
            raise RuntimeError("Operation timed out!")
        return True


def ended() -> int:
    """Number of a process that is no more."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.mark.parametrize("neighbours", [(), [os.getpid()], [os.getpid(), os.getppid()]])
def test_who_lives_is_awaited(neighbours: Sequence[int]) -> None:
    work = Stuck(5)
    finish(work, neighbours)
    assert work.looks == 0


def test_who_died_is_not_awaited() -> None:
    with pytest.raises(LostError, match="another process of the training died"):
        finish(Stuck(-1), [os.getpid(), ended()])


def test_what_went_wrong_is_told() -> None:
    class Failed(Stuck):
        def wait(self, timeout: timedelta = timedelta(0)) -> bool:
            raise RuntimeError("Timed out waiting 1800000ms for recv operation to complete")

    with pytest.raises(RuntimeError, match="Timed out waiting"):
        finish(Failed(1), [ended()])


def test_a_wait_that_never_ends_does_not_keep_who_noticed() -> None:
    """Process 1 stands still, which no network notices, and process 0 takes it for dead."""
    told = {
        "TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()),
    }  # fmt: skip
    code = STANDS_STILL.replace("DEAD", str(ended()))
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, **told, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        _, said = started[0].communicate(timeout=60)
    finally:
        for process in started:
            process.kill()
        started[1].communicate()
    assert started[0].returncode == 2
    assert "another process of the training died" in said


def test_real_processes_wait_for_each_other_and_end_with_each_other() -> None:
    began = time.monotonic()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    done = subprocess.run(
        [*launcher, sys.executable, "-c", textwrap.dedent(PROCESS)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0
    assert done.stdout.count("slow ones are awaited") == 2, done.stderr
    assert done.stderr.count("another process of the training died") == 1, done.stderr
    assert time.monotonic() - began < 60
