"""What the processes of a training do together: means and meetings that end when one of them dies."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

_LOOK = timedelta(seconds=1)
_LATE = "Operation timed out"  # what torch says when a wait, and not the work itself, took too long


class LostError(RuntimeError):
    """Another process of the training died while this one waited for it."""


class Work(Protocol):
    """Something that all processes do, of which torch tells when it is done."""

    def wait(self, timeout: timedelta = ...) -> bool:
        """Wait for the end; raises RuntimeError if it does not come in time, or failed."""


class Processes(Fabric):
    """Fabric that knows the numbers (PIDs) of this training's other processes on this machine.

    Attributes:
        neighbours: PIDs; none where another backend than gloo looks after its processes itself.
    """

    neighbours: Sequence[int] = ()

    def meet_neighbours(self, here: int) -> None:
        """Learn their numbers; ``here`` processes of consecutive ranks run on each machine."""
        if self.world_size == 1 or torch.distributed.get_backend() != "gloo":
            return
        first = self.global_rank // here * here
        pids = torch.zeros(self.world_size, dtype=torch.int64)
        pids[self.global_rank] = os.getpid()
        finish(torch.distributed.all_reduce(pids, async_op=True), ())
        self.neighbours = [pid for pid in pids[first : first + here].tolist() if pid != os.getpid()]


def share_gradients(fabric: Fabric, parameters: Sequence[nn.Parameter]) -> None:
    """Average the gradients over all processes.

    Done here and not by a wrapper around the modules, because losses may use second derivatives and several modules.
    """
    if fabric.world_size == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = mean_over_processes(fabric, torch.cat([g.flatten() for g in gradients]))
    for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def mean_over_processes(fabric: Fabric, tensor: Tensor) -> Tensor:
    """The mean of a tensor over all processes; the tensor given is overwritten.

    Raises:
        RuntimeError: if another one died; of this machine within seconds, as `LostError` if gloo did not notice.
    """
    if fabric.world_size > 1:
        finish(torch.distributed.all_reduce(tensor, async_op=True), _neighbours(fabric))
        tensor.div_(fabric.world_size)
    return tensor


def meet(fabric: Fabric) -> None:
    """Go on when all processes have come here.

    Raises:
        RuntimeError: as `mean_over_processes`.
    """
    if fabric.world_size > 1:
        finish(torch.distributed.barrier(async_op=True), _neighbours(fabric))


def finish(work: Work | None, neighbours: Sequence[int]) -> None:
    """Wait for what all processes do together.

    gloo does not always notice that a process died (one killed in a hundred, torch 2.13), and waits for half an hour.

    Raises:
        LostError: if a neighbour is no longer there.
        RuntimeError: if the work failed.
    """
    assert work is not None
    if torch.distributed.is_initialized() and torch.distributed.get_backend() != "gloo":
        work.wait()
        return
    while True:
        try:
            work.wait(_LOOK)
            return
        except RuntimeError as error:
            if _LATE not in str(error):
                raise
        if not all(_lives(pid) for pid in neighbours):
            if torch.distributed.is_initialized():
                atexit.register(_leave, torch.distributed.group.WORLD)
            raise LostError("gloo has not noticed that another process of the training died")


def _neighbours(fabric: Fabric) -> Sequence[int]:
    return fabric.neighbours if isinstance(fabric, Processes) else ()


def _lives(pid: int) -> bool:
    multiprocessing.active_children()  # lets go of those that ended
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _leave(group: object) -> None:
    """End at once: gloo's thread still waits for who died, and who destroys its group waits for it.

    The group is kept until then, whoever lets go of it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2)
