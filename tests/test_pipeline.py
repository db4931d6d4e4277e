"""End to end on real Geant4 showers: simulate, train, generate, evaluate, through the command line."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from caloforge import Sampler, Showers
from test_cli import run

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("geant4_pybind") is None,
    reason="Geant4 is not installed: pip install 'caloforge[simulation]'",
)

CONFIG = """
[model]
name = "lhcb-wgan"
latent = 8
channels = [16, 8]
hidden = 16
critic_steps = 1
[data]
conditions = ["energy", "x", "y"]
[[transform]]
name = "log"
[training]
seed = 3
batch_size = 32
log_every = 10
[[training.phases]]
steps = 20
[[training.phases]]
steps = 20
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.toml, train.h5 and test.h5, made by the command line."""
    from conftest import TINY

    folder = tmp_path_factory.mktemp("pipeline")
    (folder / "tiny.toml").write_text(TINY)
    (folder / "config.toml").write_text(CONFIG)
    for name, n, seed in (("train", 200, 1), ("test", 100, 2)):
        code, _, error = run(
            "simulate",
            folder / "tiny.toml",
            "-n",
            n,
            "--seed",
            seed,
            "--tables",
            "builtin",
            "-o",
            folder / f"{name}.h5",
        )
        assert code == 0, error
    return folder


# A hundred showers are too few for good numbers, and the evaluation says so.
@pytest.mark.filterwarnings("ignore:only 100 showers:caloforge.errors.CaloforgeWarning")
def test_from_nothing_to_a_report(folder: Path) -> None:
    code, _, error = run("train", folder / "config.toml", "--data", folder / "train.h5", "-o", folder / "run")
    assert code == 0, error
    model = folder / "run" / "model.safetensors"

    code, _, error = run("generate", model, "--like", folder / "test.h5", "-o", folder / "fake.h5", "--seed", 7)
    assert code == 0, error
    real, fake = Showers.read(folder / "test.h5"), Showers.read(folder / "fake.h5")
    assert np.array_equal(real.incident.energy, fake.incident.energy)
    assert np.array_equal(real.incident.position, fake.incident.position)
    # The same from Python gives the same showers.
    assert Sampler.from_checkpoint(model)(real.incident, seed=7).content_hash() == fake.content_hash()

    code, _, error = run("generate", model, "-n", 70, "--energy", "0.2:0.4", "-o", folder / "own.h5")
    assert code == 0, error
    own = Showers.read(folder / "own.h5")
    assert 200 <= own.incident.energy.min() <= own.incident.energy.max() <= 400
    assert np.abs(own.incident.position).max() <= 5
    assert set(own.incident.pdg) == {11}

    command = ["evaluate", folder / "test.h5", folder / "fake.h5", "-o", folder / "report", "--repeats", 1]
    code, out, error = run(*command, "--json")
    assert code == 0, error
    assert json.loads(out) == json.loads((folder / "report" / "report.json").read_text())
    assert "<html" in (folder / "report" / "report.html").read_text()[:200]
    for file in (folder / "fake.h5", model):
        code, out, error = run("info", file)
        assert code == 0, error
        assert "tiny" in out


def test_what_exists_is_not_overwritten_unless_asked(folder: Path) -> None:
    before = (folder / "test.h5").read_bytes()
    command = ["simulate", folder / "tiny.toml", "-n", 1, "--tables", "builtin", "-o", folder / "test.h5"]
    code, _, error = run(*command)
    assert code == 2
    assert "exists already" in error
    assert (folder / "test.h5").read_bytes() == before
