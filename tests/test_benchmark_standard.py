"""The standard from two files to standard.json and the table."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from caloforge import cli
from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError, CaloforgeWarning
from caloforge.evaluation.benchmark import classifiers, score_standard, standard_table
from caloforge.evaluation.benchmark.networks import DenseClassifier
from caloforge.incident import Incident
from caloforge.showers import Showers

LIKE_PAR04 = {"alpha": 8, "r_edges": [0.0, 4.65, 9.3, 13.95, 18.6], "depth": 5, "z": [0.0, 3.4, 6.8, 10.2, 13.6, 17.0]}
WHOLE = ["separation", "fpd", "kpd", "prdc", "high", "low", "resnet", "normed"]


def make(path: Path, seed: int, scale: float = 1.0, n: int = 150, readout: dict[str, Any] = LIKE_PAR04) -> Path:
    """Showers that fall off with radius and depth."""
    rng = np.random.default_rng(seed)
    detector = Detector.from_mapping({"name": "toy", "readout": readout})
    energy = np.exp(rng.uniform(np.log(1e3), np.log(1e5), n))
    x, y, z = detector.voxel_positions.T
    mean = np.exp(-np.hypot(x, y) / (6 * scale) - z / 20)
    voxels = 0.8 * energy[:, None] * (mean / mean.sum()) * rng.gamma(2, 0.5, (n, detector.n_voxels))
    Showers.from_dense(voxels, Incident.of(energy, 11), detector, threshold=0.02).write(path)
    return path


@pytest.fixture
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight nodes a layer instead of 2048, and ranges of energy scored with few showers."""
    monkeypatch.setattr(classifiers, "MIN_IN_BIN", 3)
    monkeypatch.setattr(classifiers, "DenseClassifier", lambda inputs: DenseClassifier(inputs, 8))


def numbers(data: Any) -> list[dict[str, Any]]:
    """Everything that has a value and an error."""
    if isinstance(data, list):
        return [n for item in data for n in numbers(item)]
    if not isinstance(data, dict):
        return []
    own = [data] if "value" in data and "error" in data else []
    return own + [n for item in data.values() for n in numbers(item)]


@pytest.mark.usefixtures("small_networks")
def test_the_whole_standard(tmp_path: Path) -> None:
    a, b = make(tmp_path / "a.h5", 1), make(tmp_path / "b.h5", 2, 1.3)
    steps: list[int] = []
    with pytest.warns(CaloforgeWarning) as caught:
        found = score_standard(
            a, b, parts=WHOLE, repeats=2, epochs=2, device="cpu", progress=lambda done, *_: steps.append(done)
        )
    assert [str(w.message) for w in caught] == found["warnings"]
    for said in (
        "none of the challenge's detectors",
        "150 showers",
        "150 to 750 showers",
        "2 times with 2 steps in 2 epochs, officially 10 times with 6000 in 50",
        "float32",
    ):
        assert any(said in note for note in found["warnings"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert steps == sorted(steps) and steps[-1] == 100
    assert set(found["classifiers"]) == {"high", "low", "normed", "resnet"}
    for entry in found["classifiers"].values():
        assert entry["split"] == [90, 30, 30]
        assert len(entry["repeats"]) == 2
        assert 0 <= entry["auc"]["value"] <= 1 and entry["auc"]["error"] >= 0
        assert len(entry["by_energy"]["auc"]) == 4 and len(entry["by_energy"]["edges_mev"]) == 5
        assert entry["auc"]["floor"]["size"] == 75 and entry["auc"]["floor"]["repeats"] == 1
    precisions = {name: entry["precision"] for name, entry in found["classifiers"].items()}
    assert precisions == {"high": "float64", "low": "float32", "normed": "float32", "resnet": "float32"}
    assert found["classifiers"]["resnet"]["parameters"] == 2_516_644
    # 5 layers: energy, sparsity, two of radius, four of eta and phi; response and voxels
    assert len(found["separation"]["observables"]) == 8 * 5 + 2
    wide = found["separation"]["averages"]["width_r"]
    assert wide["value"] > 3 * wide["floor"]["value"]
    assert found["fpd"]["features"] == 1 + 5 + 20 + 1 + 15
    assert found["fpd"]["value"] > 3 * found["fpd"]["floor"]["value"]
    assert found["prdc"]["showers"] == 150 and found["prdc"]["recall"]["floor"]["size"] == 75
    assert len(numbers(found)) > 100
    console = Console(width=160)
    with console.capture() as page:
        console.print(standard_table(found))
    for said in ("FPD x 1000", "ResNet", "worst range of energies", "precision", "width in radius", "note:"):
        assert said in page.get()


@pytest.mark.usefixtures("small_networks")
def test_same_seed_same_scores_and_equal_samples_at_their_floor(tmp_path: Path) -> None:
    a, b = make(tmp_path / "a.h5", 1), make(tmp_path / "b.h5", 2)
    with pytest.warns(CaloforgeWarning):
        one, two = (
            score_standard(a, b, parts=["separation", "fpd", "high"], repeats=1, epochs=1, device="cpu", seed=4)
            for _ in range(2)
        )
    assert one == two
    assert one["fpd"]["value"] < 3 * one["fpd"]["floor"]["value"]
    for name, entry in one["separation"]["averages"].items():
        assert entry["value"] <= entry["floor"]["value"] + 5 * entry["floor"]["error"], name
    assert one["classifiers"]["high"]["auc"]["error"] > 0  # of a single training: that of so many showers


def test_layers_of_different_voxels_have_no_convolutional_network(tmp_path: Path) -> None:
    layers = [{"alpha": 1, "r_edges": [0.0, 5.0, 10.0]}, {"alpha": 4, "r_edges": [0.0, 5.0, 10.0]}]
    a = make(tmp_path / "a.h5", 1, readout={"layers": layers, "z": [0.0, 1.0, 2.0]})
    with pytest.warns(CaloforgeWarning):
        found = score_standard(a, a, parts=["resnet"], device="cpu")
    assert found["classifiers"] == {}
    assert any("convolutional network is left out" in note for note in found["warnings"])


def test_mistakes(tmp_path: Path, tiny: Detector) -> None:
    a, few = make(tmp_path / "a.h5", 1), make(tmp_path / "few.h5", 1, n=20)
    other = make(tmp_path / "other.h5", 1, readout={**LIKE_PAR04, "alpha": 4})
    square = tmp_path / "square.h5"
    Showers.from_dense(np.ones((60, tiny.n_voxels)), Incident.of(np.ones(60), 11), tiny).write(square)
    for arguments, how, said in (
        ((a, few), {}, "20 showers"),
        ((a, other), {}, "same voxels"),
        ((square, square), {}, "not defined"),
        ((a, a), {"parts": ["fdp"]}, "did you mean 'fpd'"),
        ((a, a), {"repeats": 0}, "at least 1 repeat"),
        ((a, a), {"seed": -1}, "seed"),
        ((a, a), {"device": "abacus"}, "not a device"),
        ((a, tmp_path / "none.h5"), {}, "none.h5"),
    ):
        with pytest.raises(CaloforgeError, match=said):
            score_standard(*arguments, **how)  # type: ignore[arg-type]


def run(*words: object) -> tuple[int, str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("always")  # the command line shows them
        result = CliRunner().invoke(cli.app, [str(word) for word in words], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def test_command_line(tmp_path: Path) -> None:
    a, b = make(tmp_path / "a.h5", 1), make(tmp_path / "b.h5", 2)
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "report.html").write_text("a report")
    words = ["evaluate", a, b, "-o", tmp_path / "scores", "--standard", "calochallenge", "--parts", "separation"]
    code, out, err = run(*words)
    assert (code, "warning" in err) == (0, True)
    assert "voxel energy" in out and "standard.json" in out
    data = json.loads((tmp_path / "scores" / "standard.json").read_text())
    assert data["format"] == "caloforge-standard" and "fpd" not in data
    assert {p.name for p in (tmp_path / "scores").iterdir()} == {"report.html", "standard.json"}
    code, _, err = run(*words)
    assert code == 2 and "--overwrite" in err
    code, out, _ = run(*words, "--overwrite", "--json", "--seed", 1)
    assert code == 0 and json.loads(out)["seed"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--standard", "calochalenge"], "did you mean 'calochallenge'"),
        (["--epochs", 3], "--epochs was given without --standard"),
        (["--standard", "calochallenge", "--quick"], "leave one out"),
        (["--standard", "calochallenge", "--parts", "high,lo"], "did you mean 'low'"),
    ],
)
def test_command_line_mistakes(words: list[object], said: str, tmp_path: Path) -> None:
    a = make(tmp_path / "a.h5", 1)
    code, _, err = run("evaluate", a, a, "-o", tmp_path / "scores", *words)
    assert code == 2 and said in err
    assert not (tmp_path / "scores").exists()
