"""Progress in words: what a batch job's log shows."""

from __future__ import annotations

import io

import pytest

from caloforge.progress import bar, lines


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_lines_come_ever_more_rarely_and_tell_rate_and_time_left() -> None:
    clock, log = Clock(), io.StringIO()
    times = []
    with lines("simulating", "showers", log, clock) as progress:
        for second in range(0, 4001):
            clock.now = 100.0 + second
            progress(1000 + 2 * second, 9000)
            if log.getvalue().count("\n") > len(times):
                times.append(second)
    # Each after as long again as has passed, at least ten seconds and at most ten minutes.
    assert times == [10, 20, 40, 80, 160, 320, 640, 1240, 1840, 2440, 3040, 3640]
    written = log.getvalue().splitlines()
    # Of resumed work only what was done since counts: 2 a second.
    assert written[0] == "simulating 1020/9000 showers 2/s, 1:06:30 left"
    assert written[-1] == "simulating 9000/9000 showers 2/s, 0:00 left"
    assert len(written) == len(times) + 1


def test_the_last_state_is_written_once_even_when_work_is_stopped() -> None:
    clock, log = Clock(), io.StringIO()

    def stopped() -> None:
        with lines("training", "steps", log, clock) as progress:
            progress(0, 100)
            clock.now += 20
            progress(40, 100, "loss 1.5")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert log.getvalue() == "training 40/100 steps 2/s, 0:30 left loss 1.5\n"


def test_work_that_never_tells_writes_nothing() -> None:
    log = io.StringIO()
    with lines("training", "steps", log, Clock()):
        pass
    assert log.getvalue() == ""


def test_no_terminal_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("simulating", "showers") as progress:
        progress(0, 3)
        progress(3, 3)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("simulating 3/3 showers")
    assert shown.err.isascii()
