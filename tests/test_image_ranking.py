"""Ranking of image files: order, pairing, the numbers of the reports, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from caloforge.cli import app
from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError, CaloforgeWarning
from caloforge.evaluation import Ranking, compare, evaluate
from caloforge.evaluation.images.ranking import SCORES, frechet_draws, image_frechet
from caloforge.evaluation.resampling import bootstrap
from caloforge.evaluation.significance import of_draws
from caloforge.jets import Images
from conftest import some_showers
from test_image_evaluation import smeared, two_jets

pytest.importorskip("fastjet")
pytestmark = pytest.mark.filterwarnings("ignore::caloforge.errors.CaloforgeWarning")
RNG = np.random.default_rng


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Fast, full, and two generated files of the same 110 events, one far off."""
    folder, towers = tmp_path_factory.mktemp("images"), two_jets(110)
    sides = {
        "fast": (towers, "fast", {}),
        "full": (smeared(towers, 1), "full", {}),
        "near": (smeared(towers, 2), "generated", {"seconds_per_image": 0.004}),
        "far": (1.3 * smeared(towers, 3, 0.5), "generated", {}),
    }
    found = {}
    for name, (energies, side, provenance) in sides.items():
        found[name] = folder / f"{name}.h5"
        Images.from_dense(energies, side=side, process="toy", provenance=provenance).write(found[name])
    return found


@pytest.fixture(scope="module")
def ranking(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Ranking:
    steps: list[int] = []
    output = tmp_path_factory.mktemp("out") / "ranked"
    found = compare(
        files["full"], [files["far"], files["near"]], output, fast=files["fast"], repeats=3,
        progress=lambda done, *_: steps.append(done),
    )  # fmt: skip
    assert steps == sorted(steps) and steps[-1] == 100
    return found


def test_best_comes_first(ranking: Ranking) -> None:
    data = ranking.to_dict()
    assert [e["name"] for e in data["ranking"]] == ["near", "far"]
    assert set(data["scores"]) == set(SCORES) | {"auc", "auc_high", "auc_low", "auc_pair"}
    near, far = (e["scores"] for e in data["ranking"])
    for key in ("auc", "auc_high", "frechet", "chi2", "chi2_jets", "chi2_event", "separation"):
        assert data["scores"][key]["floor"]["value"] is not None and data["scores"][key]["floor"]["error"] > 0
        assert (near[key]["rank"], far[key]["rank"]) == (1, 2)
        assert near[key]["error"] > 0
    assert near["auc"]["value"] >= max(near[f"auc_{name}"]["value"] for name in ("high", "low", "pair"))
    assert near["ms_per_image"]["value"] == 4 and far["ms_per_image"]["value"] is None
    of_frechet = next(d for d in data["differences"] if d["score"] == "frechet")
    assert of_frechet["difference"] == far["frechet"]["value"] - near["frechet"]["value"] and of_frechet["sigma"] > 3
    assert data["ranking"][0]["next"]["name"] == "far" and data["ranking"][1]["next"] is None
    console = Console(width=120)
    with console.capture() as page:
        console.print(ranking.table())
    assert "2 samples against full.h5 (110 events)" in page.get() and "near before far: AUC less by" in page.get()


def test_numbers_are_those_of_the_report(
    ranking: Ranking, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caloforge.evaluation.images.page.draw_images", lambda *_: {})
    report = evaluate(files["full"], files["near"], tmp_path / "r", fast=files["fast"], repeats=3).to_dict()
    data = ranking.to_dict()
    near, floors = data["ranking"][0], {key: score["floor"] for key, score in data["scores"].items()}
    assert near["scores"]["frechet"]["value"] == report["frechet"]["full_generated"]["value"]
    assert floors["frechet"] == report["frechet"]["floor"]
    for name, entry in report["classifiers"].items():
        assert {k: near["scores"][f"auc_{name}"][k] for k in ("value", "error")} == entry["auc"]
        assert {k: floors[f"auc_{name}"][k] for k in ("value", "error")} == entry["floor"]
    for metric in ("chi2", "separation"):
        each = [variable[metric] for variable in report["variables"].values()]
        assert near["scores"][metric]["value"] == pytest.approx(np.mean([e["full_generated"]["value"] for e in each]))
        assert floors[metric]["value"] == pytest.approx(np.mean([e["floor"]["value"] for e in each]))
    assert {k: near[k] for k in report["samples"]["generated"]} == report["samples"]["generated"]


def test_written_and_repeatable(ranking: Ranking, files: dict[str, Path]) -> None:
    assert ranking.path is not None
    assert json.loads(ranking.path.read_text()) == ranking.to_dict()
    again = compare(files["full"], [files["near"], files["far"]], fast=files["fast"], repeats=3)
    assert again.path is None and again.to_dict() == ranking.to_dict()  # in whatever order they are given
    with pytest.raises(CaloforgeError, match="exists already"):
        compare(files["full"], [files["near"]], ranking.path.parent)


def test_same_images_share_their_place(files: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy.h5"
    Images.read(files["near"]).write(copy)
    with pytest.warns(CaloforgeWarning, match="hold the same images; they share their place"):
        data = compare(files["full"], [files["near"], copy], quick=True).to_dict()
    one, two = data["ranking"]
    assert one["scores"] == two["scores"] and one["name"] != two["name"] and "sigma" not in one["next"]
    assert "auc_pair" not in data["scores"] and data["quick"] and not data["differences"]
    assert "around the full image's brightest" in data["scores"]["auc_low"]["meaning"]


def test_paired_frechet_distances_are_calibrated() -> None:
    """Two equally wrong samples of the reference's events: the difference's significance is a unit Gaussian."""
    sigmas = []
    for i in range(80):
        events, shift = RNG([i, 0]).normal(size=(300, 4)), np.array([0.4, 0.0, 0.0, 0.0])
        full, *made = (events + 0.5 * RNG([i, 1, k]).normal(size=events.shape) + (k > 0) * shift for k in range(3))
        draws = bootstrap(300, RNG([i, 2]), 60)
        one, two = ((image_frechet(full, x, 0).value, frechet_draws(full, x, draws)) for x in made)
        found = of_draws(one[0], two[0], one[1], two[1])
        assert found is not None
        sigmas.append(found.sigma)
    assert abs(np.mean(sigmas)) < 4 / np.sqrt(80)
    assert np.std(sigmas) == pytest.approx(1, abs=4 / np.sqrt(2 * 80))


def test_what_cannot_be_ranked(files: dict[str, Path], tiny: Detector, tmp_path: Path) -> None:
    showers = tmp_path / "showers.h5"
    some_showers(tiny, 60).write(showers)
    Images.read(files["near"])[:80].write(tmp_path / "few.h5")
    cases: list[tuple[list[Path], dict[str, Any], str]] = [
        ([files["full"], files["near"], showers], {}, "full.h5' holds images of events and '.*showers.h5' showers"),
        ([showers, files["near"]], {}, "near.h5' holds images of events and '.*showers.h5' showers; compare"),
        ([files["full"], tmp_path / "none.h5"], {}, "none.h5' does not exist"),
        ([showers, showers], {"fast": files["fast"]}, "--fast is for image files"),
        ([files["full"], tmp_path / "few.h5"], {}, "80 events in common; a ranking needs 100"),
        ([files["full"], files["near"]], {"repeats": 0}, "at least 1 repeat"),
        ([files["full"]], {}, "no sample to rank"),
    ]
    for (reference, *generated), how, said in cases:
        with pytest.raises(CaloforgeError, match=said):
            compare(reference, generated, tmp_path / "out", **how)
    assert not (tmp_path / "out").exists()
    words = ["compare", str(files["full"]), str(files["near"])]
    mixed = CliRunner().invoke(app, [*words, str(showers)])
    assert mixed.exit_code == 2 and "compare images with images" in mixed.stderr and "Traceback" not in mixed.stderr
    done = CliRunner().invoke(app, [*words, "--quick", "--json", "--fast", str(files["fast"])])
    assert done.exit_code == 0 and json.loads(done.stdout)["format"] == "caloforge-image-compare"
