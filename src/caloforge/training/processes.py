"""Devices and processes, through Lightning Fabric."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from ..errors import CaloforgeError
from .launched import Launch
from .meeting import Processes

_PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed"}


class _OneMachine(ClusterEnvironment):
    """Several processes of this machine, started by `processes`."""

    def __init__(self, rank: int, processes: int, port: int) -> None:
        super().__init__()
        self._rank, self._processes, self._port = rank, processes, port

    creates_processes_externally = True
    main_address = "127.0.0.1"

    @property
    def main_port(self) -> int:
        return self._port

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._processes

    def set_world_size(self, size: int) -> None:
        pass

    def global_rank(self) -> int:
        return self._rank

    def set_global_rank(self, rank: int) -> None:
        pass

    def local_rank(self) -> int:
        return self._rank

    def node_rank(self) -> int:
        return 0


def fabric_for(
    device: str, precision: str, processes: int = 1, rank: int = 0, port: int = 0, launch: Launch | None = None
) -> Processes:
    """Launch Fabric.

    Args:
        device: "auto", "cpu", "cuda", "mps", or one CUDA device as "cuda:1".
        precision: "32" or "bf16".
        processes: number of devices of this machine.
        rank: which of them this process is.
        port: free TCP port on which the processes meet.
        launch: this process among those that torchrun started, which then says all of this.

    Raises:
        CaloforgeError: if there is no such device or not as many.
    """
    processes = launch.here if launch else processes
    accelerator, _, number = device_name(device, processes).partition(":")
    options: dict[str, Any] = {"accelerator": accelerator, "precision": _PRECISIONS[precision]}
    if launch:
        nodes = launch.processes // launch.here
        fabric = Processes(
            devices=launch.here, num_nodes=nodes, strategy="ddp", plugins=[TorchElasticEnvironment()], **options
        )
    elif processes > 1:
        environment = _OneMachine(rank, processes, port)
        fabric = Processes(devices=processes, strategy="ddp", plugins=[environment], **options)
    else:
        fabric = Processes(devices=[int(number)] if number else 1, **options)
    logger = logging.getLogger("lightning_fabric")
    before = logger.level
    logger.setLevel(logging.WARNING)  # it tells of each process, amidst the progress bar
    try:
        fabric.launch()
    finally:
        logger.setLevel(before)
    fabric.meet_neighbours(launch.here if launch else processes)
    return fabric


def device_name(device: str, processes: int = 1) -> str:
    """The device asked for, "auto" resolved, checked to be there.

    Raises:
        CaloforgeError: if it is not.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
    kind, _, number = device.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    allowed = [name for name, found in there.items() if found]
    if kind not in allowed or (number and not (kind == "cuda" and number.isdigit() and int(number) < count)):
        raise CaloforgeError(f"device '{device}' is not here; give one of: auto, {', '.join(allowed)}.")
    if processes > 1 and (kind == "mps" or (kind == "cuda" and processes > count)):
        raise CaloforgeError(f"{processes} devices '{kind}' were asked for, here is {count}; ask for at most as many.")
    if processes > 1 and number:
        raise CaloforgeError(f"device '{device}' is one device; give '{kind}' to train on {processes}.")
    return device


@contextmanager
def helpers(count: int, work: Callable[[int, int], None]) -> Iterator[int]:
    """Start ``count`` more processes, each calling ``work(rank, port)`` with rank 1, 2, ...

    Yields:
        The port on which this process, rank 0, meets them; 0 if there are none. If the block fails they are ended,
        else they are awaited.

    Raises:
        CaloforgeError: if one of them dies.
    """
    if not count:
        yield 0
        return
    port = _free_port()
    context = multiprocessing.get_context("spawn")
    lines = [context.Pipe() for _ in range(count)]
    started = [
        context.Process(target=_help, args=(theirs, rank, port), daemon=True)
        for rank, (_, theirs) in enumerate(lines, start=1)
    ]
    try:
        for process in started:
            process.start()
        for process, (ours, _) in zip(started, lines, strict=True):
            # Work is handed over to a process that is known to live: a dead one would be waited for in vain.
            if ours not in wait([ours, process.sentinel]):
                raise CaloforgeError(_DIED)
            ours.send(work)
        yield port
        for process in started:
            process.join()
    except RuntimeError as error:
        if any(process.exitcode for process in started):
            raise CaloforgeError(_DIED) from error
        raise
    finally:
        for process in started:
            if process.pid is not None:
                process.terminate()
                process.join()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


_DIED = (
    "another process of the training died; look at what it wrote, ask for fewer devices, and in a script call train() "
    "under `if __name__ == '__main__':`."
)


def _help(line: Connection, rank: int, port: int) -> None:
    """What another process does; rank 0 hears Ctrl-C for all."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line.send(rank)
    work: Callable[[int, int], None] = line.recv()
    work(rank, port)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
