"""Trainings whose two processes torchrun has started: the same losses as one process, and what becomes of errors."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from caloforge.config import read_config, to_toml
from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError
from caloforge.training import TrainConfig, train
from caloforge.training.launched import Launch
from caloforge.training.signals import stop_requests
from conftest import some_showers
from test_train import CONFIG

psutil = pytest.importorskip("psutil")

STEPS = ["training.phases.0.steps=8", "training.phases.1.steps=2", "training.log_every=1"]


@pytest.fixture
def folder(tiny: Detector, tmp_path: Path) -> Path:
    """Showers and a configuration."""
    some_showers(tiny).write(tmp_path / "showers.h5")
    config = read_config(CONFIG, TrainConfig)
    (tmp_path / "config.toml").write_text(to_toml(config.model_dump(mode="json", exclude_none=True)))
    return tmp_path


def command(folder: Path, output: str, changes: list[str]) -> list[str]:
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "caloforge.cli"]
    files = [str(folder / "config.toml"), "--data", str(folder / "showers.h5"), "-o", str(folder / output)]
    settings = [text for change in changes for text in ("--set", change)]
    return [sys.executable, "-m", *launcher, "train", *files, "--device", "cpu", *settings]


def losses(folder: Path, output: str) -> list[dict[str, float]]:
    return [json.loads(line)["losses"] for line in (folder / output / "history.jsonl").read_text().splitlines()]


def running(folder: Path, output: str, rank: int) -> tuple[subprocess.Popen[str], Any]:
    """A long training that has begun, and the process of a rank."""
    changes = ["training.phases.0.steps=1000000", "training.log_every=1", "training.save_every=5"]
    process = subprocess.Popen(command(folder, output, changes), stderr=subprocess.PIPE, text=True)
    stop = time.monotonic() + 120
    while not (folder / output / "state.safetensors").exists():
        assert process.poll() is None and time.monotonic() < stop
        time.sleep(0.1)
    found = [p for p in psutil.Process(process.pid).children() if p.environ().get("RANK") == str(rank)]
    return process, found[0]


def test_two_processes_of_torchrun_learn_as_one(folder: Path) -> None:
    # The regressor's loss has no noise: only the sharing of batches could change it.
    train(folder / "config.toml", folder / "showers.h5", folder / "one", overrides=STEPS, device="cpu")
    done = subprocess.run(command(folder, "two", STEPS), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    one, two = losses(folder, "one"), losses(folder, "two")
    assert len(one) == len(two) == 10
    assert [a["regressor"] for a in one[:8]] == pytest.approx([b["regressor"] for b in two[:8]], rel=1e-5)
    assert {p.name for p in (folder / "two").iterdir()} == {p.name for p in (folder / "one").iterdir()}
    assert done.stdout.count("trained model in") == 1
    assert "10/10 iterations" in done.stderr
    with pytest.raises(CaloforgeError, match="ran on 2 devices, now 1 are given"):
        train(folder / "config.toml", folder / "showers.h5", folder / "two", overrides=STEPS, resume=True)


def test_a_killed_process_ends_all_in_one_sentence(folder: Path) -> None:
    process, rank = running(folder, "run", 1)
    rank.kill()
    _, said = process.communicate(timeout=120)
    assert process.returncode != 0
    assert (
        said.count("another process of the training died; look at what it wrote, and start again with --resume.") == 1
    )
    assert not (folder / "run" / "model.safetensors").exists()
    assert (folder / "run" / "state.safetensors").exists()


def test_who_has_an_error_to_tell_is_not_ended_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        for patient, after in ((False, before), (True, signal.SIG_IGN)):
            with pytest.raises(RuntimeError), stop_requests(patient=patient):
                raise RuntimeError("Connection closed by peer")
            assert signal.getsignal(signal.SIGTERM) == after
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    with stop_requests(patient=True):
        pass
    assert signal.getsignal(signal.SIGTERM) == before


def test_ctrl_c_saves_the_state_once(folder: Path) -> None:
    process, rank = running(folder, "run", 0)
    others = psutil.Process(process.pid).children()
    for each in (process, *others):  # as a terminal does
        each.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert said.count("training was stopped at iteration") == 1
    assert not psutil.wait_procs(others, timeout=30)[1]
    assert (folder / "run" / "state.safetensors").exists()
    assert not rank.is_running()


def test_what_all_say_is_said_once(tmp_path: Path) -> None:
    def fail(rank: int, text: str) -> None:
        with Launch(rank, 2, 2, tmp_path).together():
            raise CaloforgeError(text)

    with pytest.raises(CaloforgeError, match="give less"):
        fail(1, "give less.")
    with pytest.raises(SystemExit):
        fail(0, "give less.")
    with pytest.raises(CaloforgeError, match="give more"):
        fail(0, "give more.")


def test_errors_of_the_network_are_told_and_bugs_are_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(CaloforgeError, match="another process of the training died"), Launch(0, 2, 2).together():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:39371")
    with pytest.raises(RuntimeError, match="shapes"), Launch(0, 2, 2).together():
        raise RuntimeError("shapes do not match")


def test_what_torchrun_says() -> None:
    said = {
        "TORCHELASTIC_RUN_ID": "none", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4",
        "TORCHELASTIC_ERROR_FILE": "/tmp/x/none_y/attempt_0/1/error.json",
    }  # fmt: skip
    assert Launch.found(said) == Launch(5, 8, 4, Path("/tmp/x/none_y/attempt_0"))
    assert Launch.found(said | {"WORLD_SIZE": "1"}) is None
    assert Launch.found({}) is None


def test_adagan_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(CaloforgeError, match="'adagan' cannot be trained under torchrun; use --devices"):
        train(folder / "config.toml", folder / "showers.h5", folder / "x", overrides=["model.name='adagan'"])
