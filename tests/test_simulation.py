"""Geant4 in workers: physics by invariants, the same showers however they are made, death at any moment."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from caloforge.beam import Beam
from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError
from caloforge.shower_file import ShowerFile
from caloforge.showers import Showers
from caloforge.simulation import production, simulate
from conftest import TINY

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("geant4_pybind") is None,  # importing it here would ask for a download
    reason="Geant4 is not installed: pip install 'caloforge[simulation]'",
)

BLOCK = """
name = "block"
range_cut = 0.7
[[stack]]
repeat = 10
slabs = [{ material = "Pb", thickness = 40.0, sensitive = true }]
[readout]
cells = [8, 8]
cell_size = [60.0, 60.0]
[particles]
kinds = ["gamma"]
energy_gev = [0.3, 0.3]
"""


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A production of 60 showers by one worker, that others are compared with."""
    folder = tmp_path_factory.mktemp("sample")
    (folder / "tiny.toml").write_text(TINY)
    return simulate(folder / "tiny.toml", 60, folder / "one.h5", seed=5, tables="builtin")


def _datasets(path: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()].tobytes()}) if hasattr(item, "dtype") else None)
    return found


def test_energy_is_conserved_in_a_block_that_is_all_sensitive(tmp_path: Path) -> None:
    # 71 radiation lengths of lead: only neutrinos and a little albedo could leave, and there are no neutrinos.
    path = simulate(Detector.from_toml(BLOCK), 20, tmp_path / "block.h5", tables="builtin")
    showers = Showers.read(path)
    response = showers.total_energy / showers.incident.energy
    assert response.max() < 1 + 1e-6
    assert response.mean() > 0.97


def test_a_symmetric_detector_gives_symmetric_means(tmp_path: Path) -> None:
    path = simulate(Detector.from_toml(BLOCK), 150, tmp_path / "block.h5", seed=1, workers=2, tables="builtin")
    voxels = Showers.read(path).dense(np.float64).sum(axis=1)  # (N, y, x)
    for flipped in (voxels[:, ::-1, :], voxels[:, :, ::-1], voxels.transpose(0, 2, 1)):
        difference = (voxels - flipped)[:, :4, :4].reshape(len(voxels), -1)
        error = difference.std(axis=0, ddof=1) / np.sqrt(len(voxels))
        pull = difference.mean(axis=0)[error > 0] / error[error > 0]
        assert np.abs(pull).max() < 4.5


def test_the_number_of_workers_does_not_matter(sample: Path, tmp_path: Path, tiny_toml: Path) -> None:
    two = simulate(tiny_toml, 60, tmp_path / "two.h5", seed=5, workers=2, tables="builtin")
    assert _datasets(two) == _datasets(sample)
    short = simulate(tiny_toml, 30, tmp_path / "short.h5", seed=5, tables="builtin")
    assert Showers.read(short).content_hash() == Showers.read(sample, 0, 30).content_hash()
    other = simulate(tiny_toml, 30, tmp_path / "other.h5", seed=6, tables="builtin")
    assert Showers.read(other).content_hash() != Showers.read(short).content_hash()


def test_gathering_layers_adds_up_the_same_deposits(sample: Path, tmp_path: Path, tiny: Detector) -> None:
    summed = Showers.read(simulate(tiny.with_depth("sum"), 30, tmp_path / "sum.h5", seed=5, tables="builtin"))
    layered = Showers.read(sample, 0, 30)
    assert summed.dense().shape == (30, 1, 6, 8)
    assert summed.dense()[:, 0] == pytest.approx(layered.dense().sum(axis=1), rel=1e-5, abs=1e-7)


def test_scale_and_threshold_are_applied_after_the_sum(sample: Path, tmp_path: Path) -> None:
    text = TINY.replace("[readout]", "[readout]\nscale = 10.0\nthreshold = 0.5")
    scaled = Showers.read(simulate(Detector.from_toml(text), 30, tmp_path / "s.h5", seed=5, tables="builtin"))
    plain = Showers.read(sample, 0, 30).dense() * 10
    assert scaled.dense() == pytest.approx(np.where(plain > 0.5, plain, 0), rel=1e-5)


def test_polar_voxels_lie_where_the_particle_went(tmp_path: Path) -> None:
    text = """
    name = "wheel"
    transverse = 200.0
    [[stack]]
    slabs = [{ material = "polystyrene", thickness = 20.0, sensitive = true }]
    [readout]
    alpha = 8
    r_edges = [0.0, 20.0, 50.0]
    """
    wheel = Detector.from_toml(text)
    # A muon-like straight track: an electron of 5 GeV through 2 cm of plastic, in the middle of each ring and slice.
    for alpha, r in ((0, 1), (3, 0), (7, 1)):
        centre = wheel.voxel_positions.reshape(8, 2, 3)[alpha, r]
        beam = Beam("e-", (5.0,), x=float(centre[0]), y=float(centre[1]))
        path = simulate(wheel, 5, tmp_path / "w.h5", beam=beam, tables="builtin", overwrite=True)
        energy = Showers.read(path).dense().sum(axis=0)[0]
        assert np.unravel_index(energy.argmax(), energy.shape) == (alpha, r)
        # 2 MeV per g/cm2 of a minimum ionising particle, give or take radiation
        assert energy.max() / 5 == pytest.approx(2.0 * 2.0 * 1.06, rel=0.3)


def test_provenance_tells_what_made_it(sample: Path) -> None:
    provenance = Showers.read(sample).provenance
    assert provenance["producer"] == "simulate"
    assert provenance["label"].startswith("Geant4 11")
    assert provenance["seed"] == 5
    assert "range cut 1 mm" in provenance["physics"]
    assert "built-in" in provenance["tables"].lower()
    assert provenance["seconds_per_shower"] > 0
    assert 0 < provenance["peak_memory_bytes"] < 600e6


def _command(detector: Path, output: Path, *more: str) -> list[str]:
    flags = ["-n", "150", "--seed", "5", "--workers", "2", "--tables", "builtin", "-o", str(output), *more]
    return [sys.executable, "-m", "caloforge.cli", "simulate", str(detector), *flags]


def _children_of(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(p) for p in found.stdout.split()]


def _gone(pids: list[int], within: float = 20.0) -> bool:
    end = time.monotonic() + within
    while time.monotonic() < end:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_killed_at_random_moments_it_resumes_to_the_same_file(tmp_path: Path, tiny_toml: Path) -> None:
    whole = simulate(tiny_toml, 150, tmp_path / "whole.h5", seed=5, workers=2, tables="builtin")
    output = tmp_path / "killed.h5"
    parts = output.with_name("killed.h5.parts")
    moments = random.Random()
    finished: dict[str, int] = {}
    for attempt in range(3):
        process = subprocess.Popen(
            _command(tiny_toml, output, *(["--resume"] if attempt else [])), stderr=subprocess.DEVNULL
        )
        known = len(finished)
        deadline = time.monotonic() + 60
        while len(list(parts.glob("chunk-*.h5"))) <= known and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 0.5))
        workers = _children_of(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert _gone(workers), "workers outlive their parent"
        if output.exists():
            break
        for name, inode in finished.items():
            assert (parts / name).stat().st_ino == inode, "a finished chunk was written twice"
        finished = {p.name: p.stat().st_ino for p in parts.glob("chunk-*.h5")}
    if not output.exists():
        subprocess.run(_command(tiny_toml, output, "--resume"), check=True, capture_output=True)
    assert _datasets(output) == _datasets(whole)
    assert not parts.exists()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_ctrl_c_keeps_what_is_finished(tmp_path: Path, tiny_toml: Path) -> None:
    output = tmp_path / "stopped.h5"
    process = subprocess.Popen(_command(tiny_toml, output), stderr=subprocess.PIPE, text=True, start_new_session=True)
    parts = output.with_name("stopped.h5.parts")
    while not list(parts.glob("chunk-*.h5")) and process.poll() is None:
        time.sleep(0.02)
    workers = _children_of(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in said
    assert "Traceback" not in said
    assert not output.exists()
    assert list(parts.glob("chunk-*.h5"))
    assert _gone(workers)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_a_dead_worker_ends_in_one_sentence(tmp_path: Path, tiny_toml: Path) -> None:
    output = tmp_path / "dead.h5"
    process = subprocess.Popen(_command(tiny_toml, output), stderr=subprocess.PIPE, text=True)
    parts = output.with_name("dead.h5.parts")
    while not list(parts.glob("chunk-*.h5")) and process.poll() is None:
        time.sleep(0.02)
    os.kill(_children_of(process.pid)[0], signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "killed by signal 9" in said
    assert "--resume" in said
    assert "Traceback" not in said


def test_a_batch_job_may_always_ask_to_resume(tmp_path: Path, tiny_toml: Path) -> None:
    plain, resumed, cut = (tmp_path / f"{name}.h5" for name in ("plain", "resumed", "cut"))
    cut.with_name("cut.h5.parts").mkdir()  # killed before anything was noted
    simulate(tiny_toml, 10, plain, tables="builtin", seed=3)
    for output in (resumed, cut):
        simulate(tiny_toml, 10, output, tables="builtin", seed=3, resume=True)
        with ShowerFile(plain) as a, ShowerFile(output) as b:
            assert a.content_hash() == b.content_hash()
        assert not output.with_name(f"{output.name}.parts").exists()
    with pytest.raises(CaloforgeError, match="exists already"):
        simulate(tiny_toml, 10, resumed, tables="builtin", seed=3, resume=True)


def test_resume_and_overwrite_are_asked_for(tmp_path: Path, tiny_toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out.h5"
    monkeypatch.setattr(production._Production, "join", lambda self: None)
    simulate(tiny_toml, 10, output, tables="builtin")
    with pytest.raises(CaloforgeError, match=r"--resume or start anew with --overwrite"):
        simulate(tiny_toml, 10, output, tables="builtin")
    with pytest.raises(CaloforgeError, match="another seed"):
        simulate(tiny_toml, 10, output, tables="builtin", seed=1, resume=True)
    monkeypatch.undo()
    simulate(tiny_toml, 10, output, tables="builtin", resume=True)
    with pytest.raises(CaloforgeError, match="exists already"):
        simulate(tiny_toml, 10, output, tables="builtin")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"n": 0}, "at least 1"),
        ({"seed": -1}, "out of range"),
        ({"workers": 0}, "workers"),
        ({"detector": "calochallenge-pions"}, "read-out only"),
        ({"detector": "ild-ecl"}, "did you mean 'ild-ecal'"),
        ({"output": Path("nowhere") / "deep" / "out.h5"}, "does not exist"),
    ],
)
def test_requests_that_cannot_be_met(request_: dict[str, object], message: str, tmp_path: Path) -> None:
    request: dict[str, object] = {"detector": "ild-ecal", "n": 1, "output": tmp_path / "x.h5", **request_}
    with pytest.raises(CaloforgeError, match=message):
        simulate(**request)  # type: ignore[arg-type]
    assert not list(tmp_path.glob("*"))
