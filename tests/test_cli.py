"""The command line as a user meets it: one sentence and exit code 2 for mistakes, help everywhere."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import caloforge
from caloforge import cli
from caloforge.cli import terminal
from caloforge.detectors import DETECTORS, Detector
from caloforge.errors import CaloforgeError, CaloforgeWarning
from caloforge.incident import Incident
from caloforge.showers import Showers

runner = CliRunner()


def run(*words: object) -> tuple[int, str, str]:
    with warnings.catch_warnings():  # the command line replaces how warnings are shown
        result = runner.invoke(cli.app, [str(word) for word in words], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def showers_file(tmp_path: Path, tiny: Detector) -> Path:
    rng = np.random.default_rng(0)
    voxels = rng.exponential(size=(60, tiny.n_voxels)) * (rng.random((60, tiny.n_voxels)) < 0.2)
    path = tmp_path / "made.h5"
    Showers.from_dense(voxels, Incident.of(rng.uniform(100, 500, 60), 11), tiny).write(path)
    return path


@pytest.mark.parametrize(
    "verb",
    "simulate simulate-events shower-library events-to-images train generate evaluate compare convert info detectors "
    "models datasets demo".split(),
)
def test_every_verb_explains_itself(verb: str) -> None:
    code, out, _ = run(verb, "--help")
    assert code == 0
    assert "Usage" in out


def test_version_and_lists() -> None:
    assert run("--version") == (0, f"caloforge {caloforge.__version__}\n", "")
    code, out, _ = run("detectors", "--json")
    assert code == 0
    assert set(json.loads(out)) == set(DETECTORS)
    assert "lhcb-wgan" in run("models")[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["simulate", "ild-ecl", "-n", "1", "-o", "x.h5"], "did you mean 'ild-ecal'"),
        (["simulate", "lhcb-ecal", "-n", "1", "-o", "x.h5", "--particle", "elektron"], "is not a particle"),
        (["simulate", "lhcb-ecal", "-n", "1", "-o", "x.h5", "--energy", "a:b"], "--energy 'a:b' cannot be read"),
        (["simulate", "lhcb-ecal", "-n", "1", "-o", "x.h5", "--angle", "3"], "past the detector's plane"),
        (["simulate", "lhcb-ecal", "-n", "1", "-o", "x.h5", "--tables", "nowhere"], "nowhere"),
        (["info", "missing.h5"], "missing.h5"),
        (["generate", "missing.safetensors", "-n", "1", "-o", "x.h5"], "missing.safetensors"),
        (["train", "missing.toml", "--data", "missing.h5", "-o", "run"], "missing.toml"),
        (["evaluate", "a.h5", "b.h5", "-o", "report"], "a.h5"),
        (["compare", "a.h5", "b.h5", "c.h5"], "a.h5"),
        (["convert", "a.h5", "b.h5"], "a.h5"),
        (["generate", "missing.safetensors", "-o", "x.h5"], "missing"),
    ],
)
def test_mistakes_end_in_one_sentence(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, error = run(*words)
    last = error.strip().splitlines()[-1]
    assert code == 2
    assert last.startswith("caloforge: error: ")
    assert said in last
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir()), "something was left behind"


def test_wrong_flags_are_usage_errors() -> None:
    code, _, error = run("simulate", "--no-such-flag")
    assert code == 2
    assert "Traceback" not in error


def test_like_excludes_beam_flags(tmp_path: Path, showers_file: Path) -> None:
    code, _, error = run("generate", "m.safetensors", "-o", tmp_path / "x", "--like", showers_file, "--energy", "10")
    assert code == 2
    assert "--energy was given with --like" in error


def test_a_broken_file_is_one_sentence(tmp_path: Path, showers_file: Path) -> None:
    broken = tmp_path / "broken.h5"
    broken.write_bytes(showers_file.read_bytes()[:5000])
    code, _, error = run("info", broken)
    assert code == 2
    assert "broken.h5" in error
    assert "Traceback" not in error


def test_info_prints_json(showers_file: Path) -> None:
    code, out, _ = run("info", showers_file, "--json")
    assert code == 0
    assert json.loads(out)["showers"] == 60


def test_ctrl_c_and_a_full_disk_leave_no_traceback(monkeypatch: pytest.MonkeyPatch, showers_file: Path) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("caloforge.convert.describe", stop)
    assert run("info", showers_file)[0] == 130

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "x.h5")

    monkeypatch.setattr("caloforge.convert.describe", full)
    code, _, error = run("info", showers_file)
    assert code == 2
    assert "x.h5 cannot be used (No space left on device)" in error


def test_warnings_are_shown_plainly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show_warning(CaloforgeWarning("few showers"), CaloforgeWarning, "file.py", 1)
    terminal.show_warning("internal", DeprecationWarning, "file.py", 1)
    assert capsys.readouterr().err == "caloforge: warning: few showers\n"


def test_the_public_face_is_whole() -> None:
    for name in caloforge.__all__:
        assert getattr(caloforge, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = caloforge.nothing
    assert issubclass(CaloforgeError, Exception)
