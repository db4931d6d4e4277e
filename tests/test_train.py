from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caloforge.checkpoint import Checkpoint
from caloforge.config import read_config
from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError, CaloforgeWarning
from caloforge.models import build_model
from caloforge.showers import Showers
from caloforge.training import TrainConfig, train
from caloforge.training import data as training_data
from caloforge.training.phases import plan_phases
from conftest import some_showers

CONFIG: dict[str, Any] = {
    "model": {
        "name": "lhcb-wgan",
        "latent": 4,
        "channels": [4, 4],
        "critic_channels": [4, 2],
        "hidden": 8,
        "critic_steps": 2,
    },
    "data": {"conditions": ["energy", "x"], "validation": 0.1},
    "transform": [{"name": "log"}, {"name": "standardise", "per": "all", "centre": False}],
    "training": {
        "phases": [{"steps": 30}, {"steps": 30}],
        "batch_size": 16,
        "ema_decay": 0.9,
        "log_every": 7,
        "save_every": 5,
        "optimisers": {"default": {"lr": 1e-3, "decay": "cosine"}},
    },
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def showers(tiny: Detector) -> Showers:
    return some_showers(tiny)


@pytest.fixture
def config() -> TrainConfig:
    return read_config(CONFIG, TrainConfig)


def rows(folder: Path) -> list[dict[str, Any]]:
    read = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "waiting")} for row in read]


def test_a_run_and_its_checkpoint(showers: Showers, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    data = tmp_path / "showers.h5"
    showers.write(data)
    (tmp_path / "config.toml").write_text("")
    with pytest.raises(CaloforgeError, match="'model' is missing"):
        train(tmp_path / "config.toml", data, tmp_path / "run")
    config = read_config(CONFIG, TrainConfig)
    path = train(config, data, tmp_path / "run", progress=lambda *call: seen.append(call))
    assert path == tmp_path / "run" / "model.safetensors"
    names = {p.name for p in path.parent.iterdir()}
    assert names == {"config.toml", "state.safetensors", "history.jsonl", "model.safetensors"}
    assert read_config(path.parent / "config.toml", TrainConfig).model_dump() == config.model_dump()
    assert seen[0][:2] == (1, 60)
    assert seen[-1][:2] == (60, 60)
    assert "critic" in seen[-1][2]

    checkpoint = Checkpoint.load(path)
    assert checkpoint.conditions == ["energy", "x"]
    assert checkpoint.detector == showers.detector
    assert checkpoint.domain["pdg"] == [11]
    assert 100 <= checkpoint.domain["energy"][0] < checkpoint.domain["energy"][1] <= 500
    assert checkpoint.provenance["data"]["content_hash"] == showers.content_hash()
    assert checkpoint.provenance["data"]["showers"] == 180
    assert read_config(checkpoint.provenance["config"], TrainConfig) == read_config(CONFIG, TrainConfig)
    condition = checkpoint.condition_transform(torch.tensor([[300.0, 0.0]]), torch.tensor([300.0]))
    made = checkpoint.shower_transform.inverse(checkpoint.model.sample(condition), torch.tensor([300.0]))
    assert made.shape == (1, *showers.detector.shape)

    history = rows(path.parent)
    assert [row["iteration"] for row in history] == [7, 14, 21, 28, 30, 35, 42, 49, 56, 60]
    assert set(history[0]["losses"]) == set(history[0]["validation"]) == {"regressor"}
    assert set(history[-1]["losses"]) == {"critic", "generator"}


def test_same_seed_same_bytes(config: TrainConfig, showers: Showers, tmp_path: Path) -> None:
    a, b = (train(config, showers, tmp_path / name) for name in "ab")
    c = train(config, showers, tmp_path / "c", overrides=["training.seed=1"])
    assert a.read_bytes() == b.read_bytes() != c.read_bytes()
    assert str(tmp_path).encode() not in a.read_bytes()


# -- stopping and resuming -------------------------------------------------------------------------------------


def run_slowly(folder: str, data: str, resume: bool) -> None:
    """What a process that is to be killed does; the pauses stretch it so that kills fall anywhere."""
    torch.set_num_threads(1)

    def progress(done: int, total: int, note: str = "") -> None:
        time.sleep(0.01)

    train(read_config(CONFIG, TrainConfig), data, folder, resume=resume, progress=progress)


def test_killed_and_resumed_is_the_same_to_the_last_byte(config: TrainConfig, showers: Showers, tmp_path: Path) -> None:
    data, run = tmp_path / "showers.h5", tmp_path / "run"
    showers.write(data)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["caloforge.training"])
    chance = random.Random(7)
    killed = reached = 0
    for attempt in range(40):
        process = context.Process(target=run_slowly, args=(str(run), str(data), attempt > 0))
        process.start()
        # Wait for a sign of progress now and then, so that slow machines get on too.
        before, patience = reached, time.monotonic() + chance.choice([0.3, 60.0, 60.0])
        while process.is_alive() and reached == before and time.monotonic() < patience:
            time.sleep(0.002)
            if (run / "history.jsonl").exists():
                reached = (run / "history.jsonl").read_text().count("\n")
        if killed == 6:
            process.join()
        else:
            time.sleep(chance.uniform(0, 0.1))
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        killed += 1
    assert process.exitcode == 0
    assert killed >= 3
    whole = train(config, data, tmp_path / "whole")
    assert (run / "model.safetensors").read_bytes() == whole.read_bytes()
    assert rows(run) == rows(whole.parent)


def interrupt_at(iteration: int) -> Any:
    def progress(done: int, total: int, note: str = "") -> None:
        if done == iteration:
            os.kill(os.getpid(), signal.SIGINT)

    return progress


def test_ctrl_c_saves_and_resumes(config: TrainConfig, showers: Showers, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt, match="iteration 33 of 60; its state is saved, go on with --resume"):
        train(config, showers, run, progress=interrupt_at(33))
    assert not (run / "model.safetensors").exists()
    resumed = train(config, showers, run, resume=True, overrides=["training.save_every=9"])
    whole = train(config, showers, tmp_path / "whole", overrides=["training.save_every=9"])
    assert resumed.read_bytes() == whole.read_bytes()
    assert rows(run) == rows(tmp_path / "whole")
    again = train(config, showers, run, resume=True, overrides=["training.save_every=9"])
    assert again.read_bytes() == whole.read_bytes()


def test_only_the_same_training_is_resumed(config: TrainConfig, showers: Showers, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(config, showers, run, progress=interrupt_at(3))
    for override, said in [
        ("training.batch_size=8", "training.batch_size = 16, now 8"),
        ("training.phases.1.steps=31", r"training.phases.1.steps = 30, now 31"),
        ("model.hidden=9", "model.hidden = 8, now 9"),
        ("training.gradient_clip=1.0", "training.gradient_clip = None, now 1.0"),
    ]:
        with pytest.raises(CaloforgeError, match=said):
            train(config, showers, run, resume=True, overrides=[override])
    with pytest.raises(CaloforgeError, match="other showers"):
        train(config, showers[:150], run, resume=True)
    with pytest.raises(CaloforgeError, match="--resume the training in it, --overwrite it"):
        train(config, showers, run)
    with pytest.raises(CaloforgeError, match="give one of them"):
        train(config, showers, run, resume=True, overwrite=True)
    (run / "notes.txt").write_text("mine")
    state = (run / "state.safetensors").read_bytes()
    (run / "state.safetensors").write_bytes(state[: len(state) // 2])
    with pytest.raises(CaloforgeError, match="damaged"):
        train(config, showers, run, resume=True)
    short = ["training.phases.0.steps=1", "training.phases.1.steps=1"]
    train(config, showers, run, overwrite=True, overrides=short)
    assert (run / "notes.txt").read_text() == "mine"
    assert len(rows(run)) == 2


def test_folders_that_cannot_be_used(config: TrainConfig, showers: Showers, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(CaloforgeError, match="is a file"):
        train(config, showers, file)
    with pytest.raises(CaloforgeError, match="cannot be written"):
        train(config, showers, file / "run")
    with pytest.raises(CaloforgeError, match="no training to resume"):
        train(config, showers, tmp_path, resume=True)


# -- data ------------------------------------------------------------------------------------------------------


def test_too_few_showers(config: TrainConfig, showers: Showers, tmp_path: Path) -> None:
    for n in (0, 1, 16):
        with pytest.raises(CaloforgeError, match=f"{n} showers are too few for batches of 16 and validation"):
            train(config, showers[:n], tmp_path / "run")
    with pytest.raises(CaloforgeError, match="10 showers are too few"):
        train(config, showers, tmp_path / "run", overrides=["data.max_showers=10"])
    assert not (tmp_path / "run").exists()


def test_empty_showers(config: TrainConfig, showers: Showers, tiny: Detector, tmp_path: Path) -> None:
    empty = Showers.from_dense(np.zeros((50, tiny.n_voxels)), showers.incident[:50], tiny)
    with pytest.raises(CaloforgeError, match="all showers are empty"):
        train(config, empty, tmp_path / "run")


def test_data_that_teach_little_are_warned_about(config: TrainConfig, showers: Showers, tmp_path: Path) -> None:
    few = ["training.phases.0.steps=1", "training.phases.1.steps=1"]
    with pytest.warns(CaloforgeWarning, match="condition 'theta' is 0 for all showers"):
        train(config, showers, tmp_path / "a", overrides=[*few, "data.conditions=['energy', 'theta']"])
    showers.incident.pdg[::2] = 22
    with pytest.warns(CaloforgeWarning, match=r"2 kinds of particles \(PDG 11, 22\)"):
        path = train(config, showers, tmp_path / "b", overrides=few)
    assert Checkpoint.load(path).domain["pdg"] == [11, 22]


def test_files_larger_than_memory(
    config: TrainConfig, showers: Showers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "showers.h5"
    showers.write(data)
    needed = 2 * (len(showers.energy) * 8 + 200 * 128)
    assert training_data._free_memory() > 1e6
    monkeypatch.setattr(training_data, "_free_memory", lambda: needed // 2)
    with pytest.raises(CaloforgeError, match=r"--set data.max_showers=\d+"):
        train(config, data, tmp_path / "run")


def test_several_files_are_one_sample(showers: Showers, config: TrainConfig, tiny: Detector, tmp_path: Path) -> None:
    paths = [tmp_path / "first.h5", tmp_path / "second.h5"]
    for path, part in zip(paths, (showers[:120], showers[120:]), strict=True):
        part.write(path)
    short = ["training.phases.0.steps=1", "training.phases.1.steps=1"]
    path = train(config, paths, tmp_path / "run", overrides=short)
    assert Checkpoint.load(path).provenance["data"]["content_hash"] == showers.content_hash()
    for limit in (100, 150, 1000):
        assert training_data.read_showers(paths, limit).content_hash() == showers[:limit].content_hash()
    with pytest.raises(CaloforgeError, match="no file was given"):
        train(config, [], tmp_path / "none")
    other = some_showers(Detector.load("lhcb-ecal"), 3)
    other.write(tmp_path / "other.h5")
    with pytest.raises(CaloforgeError, match="different voxels"):
        train(config, [*paths, tmp_path / "other.h5"], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_devices_that_are_not_here(config: TrainConfig, showers: Showers, tmp_path: Path) -> None:
    for device in ("tpu", "cpu:0", "cuda:99", ""):
        with pytest.raises(CaloforgeError, match="is not here; give one of: auto, cpu"):
            train(config, showers, tmp_path / "run", device=device)
    with pytest.raises(CaloforgeError, match="at least one"):
        train(config, showers, tmp_path / "run", devices=0)


def test_two_processes_learn_as_one(config: TrainConfig, showers: Showers, tmp_path: Path) -> None:
    # The regressor's loss has no noise: only the sharing of batches could change it.
    few = ["training.phases.0.steps=8", "training.phases.1.steps=2", "training.log_every=1"]
    train(config, showers, tmp_path / "one", overrides=few)
    train(config, showers, tmp_path / "two", overrides=few, devices=2, device="cpu")
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert len(one) == len(two) == 10
    a, b = ([row["losses"]["regressor"] for row in run[:8]] for run in (one, two))
    assert a == pytest.approx(b, rel=1e-5)
    with pytest.raises(CaloforgeError, match="ran on 2 devices, now 1 are given"):
        train(config, showers, tmp_path / "two", overrides=few, resume=True)


# -- the configs that ship -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lhcb-wgan", "ild-wgan"])
def test_shipped_configs_fit_their_models(name: str) -> None:
    config = read_config(Path(__file__).parent.parent / "configs" / f"{name}.toml", TrainConfig)
    detector = Detector.load(name.replace("wgan", "ecal"))
    with torch.device("meta"):
        model = build_model(
            config.model.name, detector.shape, len(config.data.conditions), **config.model.options
        )  # fmt: skip
    assert len(plan_phases(model, config.training)) == 2


def test_helpers_that_die_are_not_waited_for(tmp_path: Path) -> None:
    # Without `if __name__ == "__main__":` the other process runs the script again and ends in an error.
    script = tmp_path / "script.py"
    script.write_text(
        "from caloforge.errors import CaloforgeError\n"
        "from caloforge.training.processes import helpers\n"
        "try:\n"
        "    with helpers(1, print):\n"
        "        pass\n"
        "except CaloforgeError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300, check=True)
    assert "another process of the training died" in done.stdout
