"""Asking a training to stop: Ctrl-C or a termination signal lets it save its state first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_requests(patient: bool = False) -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or termination signal into a request; a second one acts at once, as usual.

    Outside the main thread signals cannot be caught and nothing changes.

    Args:
        patient: further ones change nothing: torchrun hands on a Ctrl-C that the terminal has sent to all already, and
            ends by force what takes too long. Nor does a termination signal after an error: torchrun sends it as soon
            as it sees that another process died, and this one has yet to say so.

    Yields:
        A function that says whether a stop was asked for.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(number: int, frame: FrameType | None) -> None:
        asked.set()
        if patient:
            return
        for each, handler in usual.items():
            signal.signal(each, handler)

    for number in usual:
        signal.signal(number, on_signal)
    try:
        yield asked.is_set
    except BaseException:
        if patient:
            usual[signal.SIGTERM] = signal.SIG_IGN
        raise
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
