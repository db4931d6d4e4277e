"""Work done beside the caller: a block of showers is written while the next one is drawn."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Beside(Generic[T]):
    """Does one thing for item after item, in order, in a thread of its own; at most one item waits.

    As a context manager: leaving it waits until all is done. After an error, the caller's or its own, what waits
    is dropped; the thread's error is raised at the next item or on leaving. So whatever the thread writes may be thrown
    away by a context around this one.

    Args:
        work: what to do with an item.

    Attributes:
        cpu: seconds of CPU spent so far by the thread.
        wall: seconds by the wall.
    """

    def __init__(self, work: Callable[[T], object]) -> None:
        self.cpu = self.wall = 0.0
        self._work = work
        self._waiting: queue.Queue[T | None] = queue.Queue(maxsize=1)
        self._error: BaseException | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="caloforge writer", daemon=True)

    def __call__(self, item: T) -> None:
        """Hand over the next item; waits as long as another one is waiting.

        Raises:
            BaseException: what the work on an earlier item raised.
        """
        self._raise()
        self._waiting.put(item)

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            if self._stopped or self._error is not None:
                continue
            cpu, wall = time.thread_time(), time.perf_counter()
            try:
                self._work(item)
            except BaseException as error:  # it belongs to the caller
                self._error = error
            self.cpu += time.thread_time() - cpu
            self.wall += time.perf_counter() - wall

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = kind is not None
        self._waiting.put(None)
        self._thread.join()
        if kind is None:
            self._raise()
