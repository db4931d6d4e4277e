"""Chunks in child processes: one child for the next chunk of the same work, another when it dies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caloforge import children
from caloforge.children import chunk_content
from caloforge.errors import CaloforgeError

WORKER = """
import os
import signal
from pathlib import Path

from caloforge.chunks import serve
from caloforge.errors import CaloforgeError


def prepare(setup):
    def work(chunk, each):
        lives = Path(setup["folder"]) / "lives"
        left = int(lives.read_text()) if lives.exists() else 0
        if left:
            lives.write_text(str(left - 1))
            print("about to die", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if chunk["start"] < 0:
            raise CaloforgeError("no such chunk.")
        each(1)
        Path(chunk["path"]).write_text(f"{chunk['start']} {os.getpid()}")
        return 1

    return work


if __name__ == "__main__":
    serve(prepare)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "mortal.py").write_text(WORKER)
    monkeypatch.chdir(tmp_path)  # where `python -m` looks first
    yield "mortal"
    monkeypatch.setattr(children, "IDLE_SECONDS", 0)
    children._IDLE._end_old()


def done(module: str, folder: Path, start: int = 0) -> tuple[int, int]:
    """Number of the chunk and process that did it."""
    setup: dict[str, Any] = {"folder": str(folder)}
    number, pid = chunk_content(module, setup, {"start": start}).split()
    return int(number), int(pid)


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_a_child_does_the_next_chunk_too_and_ends_when_none_comes(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "IDLE_SECONDS", 3600)
    first, second = done(module, tmp_path, 1), done(module, tmp_path, 2)
    assert (first[0], second[0]) == (1, 2)
    other = done(module, tmp_path / "other", 3)
    assert first[1] == second[1] != other[1]  # another set-up, another process
    monkeypatch.setattr(children, "IDLE_SECONDS", 0.1)
    assert done(module, tmp_path, 4) == (4, first[1])
    stop = time.monotonic() + 30
    while not (gone(first[1]) and gone(other[1])):
        assert time.monotonic() < stop
        time.sleep(0.05)
    assert done(module, tmp_path, 5)[0] == 5


def test_a_chunk_is_begun_anew_when_its_child_dies(module: str, tmp_path: Path) -> None:
    (tmp_path / "lives").write_text("2")
    assert done(module, tmp_path, 7)[0] == 7


def test_a_chunk_that_kills_is_given_up(module: str, tmp_path: Path) -> None:
    (tmp_path / "lives").write_text("9")
    message = r"3 processes died one after the other .* was killed by signal 9 \(about to die\)"
    with pytest.raises(CaloforgeError, match=message):
        done(module, tmp_path)
    assert (tmp_path / "lives").read_text() == "6"


def test_a_refusal_is_passed_on(module: str, tmp_path: Path) -> None:
    with pytest.raises(CaloforgeError, match=r"^no such chunk\.$"):
        done(module, tmp_path, -1)
