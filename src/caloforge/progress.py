"""How long work reports where it is, without knowing who shows it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[int, int, str], None]
"""Called as ``progress(done, total, note)``; ``note`` is a short text such as the current loss."""


Bars = Callable[[str, str], AbstractContextManager[Progress]]
"""Makes the bars of work that has several stages: called as ``bars(title, unit)``, like `bar`."""


def silent(done: int, total: int, note: str = "") -> None:
    """Show nothing: the default of every library function."""


def part(progress: Progress, start: float, stop: float) -> Progress:
    """A progress that runs from ``start`` to ``stop`` percent of another."""

    def report(done: int, total: int, note: str = "") -> None:
        progress(round(start + (stop - start) * done / max(total, 1)), 100, note)

    return report


def named(progress: Progress, name: str) -> Progress:
    """A progress whose notes begin with a name."""

    def report(done: int, total: int, note: str = "") -> None:
        progress(done, total, f"{name}: {note}")

    return report


@contextmanager
def no_bars(title: str, unit: str) -> Iterator[Progress]:
    """Bars that show nothing."""
    yield silent


@contextmanager
def bar(title: str, unit: str) -> Iterator[Progress]:
    """Show progress with rate and time left: a bar on a terminal, plain lines in a batch job's log.

    Args:
        title: what is being done, e.g. ``"simulating"``.
        unit: what is counted, e.g. ``"showers"``.

    Yields:
        A `Progress` callback. The first call may start at ``done > 0`` (resumed work): the rate counts only
        what was done since.
    """
    from rich.console import Console

    console = Console(stderr=True)
    with _drawn(console, title, unit) if console.is_terminal else lines(title, unit, console.file) as progress:
        yield progress


@contextmanager
def lines(title: str, unit: str, file: IO[str], clock: Callable[[], float] = time.monotonic) -> Iterator[Progress]:
    """Write a line now and then, as files that are read while work goes on want it.

    The first line comes ten seconds after the first call, the next ones after as long again as has passed, at most ten
    minutes apart: a short job's log stays short, a long one's tells where it is. The last state is always written.

    Args:
        title: what is being done.
        unit: what is counted.
        file: where lines go; each is flushed.
        clock: seconds from any start, never going back.
    """
    rate = _Rate(clock)
    due: float | None = None
    last, written = "", ""

    def write() -> None:
        nonlocal written
        if last != written:
            print(last, file=file, flush=True)
            written = last

    def progress(done: int, total: int, note: str = "") -> None:
        nonlocal due, last
        now = clock()
        last = " ".join(filter(None, (f"{title} {done}/{total} {unit}", rate(done, total), note)))
        if due is None:
            due = now + 10
        elif now >= due:
            write()
            due = now + min(max(10, rate.passed), 600)

    try:
        yield progress
    finally:
        write()


@contextmanager
def _drawn(console: Console, title: str, unit: str) -> Iterator[Progress]:
    """A bar that is drawn anew twice a second."""
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    rate = _Rate(time.monotonic)
    with RichProgress(*columns, console=console, refresh_per_second=2) as display:
        task = display.add_task(title, total=1, unit=unit, rate="", note="")

        def progress(done: int, total: int, note: str = "") -> None:
            display.update(task, completed=done, total=total, rate=rate(done, total), note=note)

        yield progress


class _Rate:
    """How fast work goes since the first call, and how long the rest takes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock, self.passed = clock, 0.0
        self.began: tuple[float, int] | None = None

    def __call__(self, done: int, total: int) -> str:
        now = self.clock()
        if self.began is None:
            self.began = now, done
        self.passed, since = now - self.began[0], done - self.began[1]
        if since <= 0 or self.passed <= 0:
            return ""
        per_second = since / self.passed
        return f"{per_second:.3g}/s, {_duration((total - done) / per_second)} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
