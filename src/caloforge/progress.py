"""How long work reports where it is, without knowing who shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[int, int, str], None]
"""Called as ``progress(done, total, note)``; ``note`` is a short text such as the current loss."""


def silent(done: int, total: int, note: str = "") -> None:
    """Show nothing: the default of every library function."""


def share(progress: Progress, start: float, stop: float) -> Progress:
    """A progress that runs from one fraction of another to a second one, in percent."""

    def report(done: int, total: int, note: str = "") -> None:
        progress(round(100 * (start + (stop - start) * done / max(total, 1))), 100, note)

    return report


@contextmanager
def bar(title: str, unit: str) -> Iterator[Progress]:
    """Show a terminal progress bar with rate and time left.

    Args:
        title: what is being done, e.g. ``"simulating"``.
        unit: what is counted, e.g. ``"showers"``.

    Yields:
        A `Progress` callback. The first call may start at ``done > 0`` (resumed work): the rate counts only
        what was done since.
    """
    import time

    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with RichProgress(*columns, console=console, refresh_per_second=2) as display:
        task = display.add_task(title, total=1, unit=unit, rate="", note="")
        began: list[float] = []

        def progress(done: int, total: int, note: str = "") -> None:
            now = time.monotonic()
            if not began:
                began.extend((now, done))
            rate = ""
            if done > began[1] and now > began[0]:
                per_second = (done - began[1]) / (now - began[0])
                rate = f"{per_second:.3g}/s, {_duration((total - done) / per_second)} left"
            display.update(task, completed=done, total=total, rate=rate, note=note)

        yield progress


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
