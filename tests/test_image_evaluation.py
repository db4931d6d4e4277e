"""Evaluation of image files: closed forms, calibrated toys, the report, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from caloforge.cli import app
from caloforge.errors import CaloforgeError
from caloforge.evaluation import evaluate
from caloforge.evaluation.distributions import Values
from caloforge.evaluation.images import VARIABLES, holds_images
from caloforge.evaluation.images.chi2 import CHI2, chi2, chi2_of_mean
from caloforge.evaluation.images.pictures import events, rank_histograms
from caloforge.evaluation.images.sample import sample_of
from caloforge.evaluation.images.scoring import SCHEMA_VERSION, ImageReport
from caloforge.evaluation.images.spread import block_sums, spread_of
from caloforge.evaluation.images.variables import JET_ROWS, features, measure, patches, row_variables
from caloforge.evaluation.report import schema
from caloforge.evaluation.resampling import bootstrap, estimate
from caloforge.jets import CMS, Images

pytest.importorskip("fastjet")


def two_jets(n: int = 104, seed: int = 0) -> np.ndarray:
    """Images (n, 72, 72) of two back-to-back clusters of towers, in MeV."""
    rng = np.random.default_rng(seed)
    towers = np.zeros((n, *CMS.shape))
    for image in range(n):
        phi, energy = rng.integers(72), rng.uniform(60e3, 150e3)
        for turn, share in ((0, 1.0), (36, 0.8)):
            eta = rng.integers(25, 47)
            for step in range(12):
                row, column = eta + rng.integers(-2, 3), (phi + turn + rng.integers(-2, 3)) % 72
                towers[image, row, column] += share * energy * rng.dirichlet(np.ones(12))[step] + 500
    return towers


def smeared(towers: np.ndarray, seed: int, width: float = 0.1) -> np.ndarray:
    return towers * np.random.default_rng(seed).lognormal(0, width, towers.shape)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A fast, a full and three generated files of 104 events."""
    folder = tmp_path_factory.mktemp("images")
    towers = two_jets()
    sides = {"fast": towers, "full": smeared(towers, 1), **{f"generated{i}": smeared(towers, i) for i in (2, 3, 4)}}
    found = {}
    for name, energies in sides.items():
        found[name] = folder / f"{name}.h5"
        side = name.rstrip("234")
        Images.from_dense(energies, side=side, process="toy", events_digest="abc").write(found[name])
    return found


# -- numbers -------------------------------------------------------------------------------------------------------


def test_chi2_of_histograms() -> None:
    assert chi2(np.array([10.0, 20, 0]), np.array([20.0, 10, 0])) == pytest.approx(100 / 30 + 100 / 30)
    # Twice the images of the same distribution lie at zero distance.
    assert chi2(np.array([10.0, 20]), np.array([20.0, 40])) == pytest.approx(0)
    rng = np.random.default_rng(0)
    edges = np.linspace(-2, 2, 21)
    found = [
        CHI2.of(Values(rng.normal(size=500), edges), Values(rng.normal(size=900), edges))(np.ones(500), np.ones(900))
        for _ in range(400)
    ]
    assert np.mean(found) == pytest.approx(22 - 1, abs=1), "as many as there are bins, less one"
    a = Values(rng.normal(size=500), edges)
    draws = bootstrap(500, rng, 20)
    assert estimate(CHI2, a, a, (draws, draws)).value == 0


def test_chi2_of_the_mean_of_draws() -> None:
    """Of one draw it is the chi2; a right model's mean has (1 + 1/K) / 2 of it, a wrong one's keeps what is wrong."""
    rng = np.random.default_rng(0)
    edges, n = np.linspace(-2, 2, 21), 2000
    centre = rng.normal(size=n)

    def draw(shift: float = 0.0) -> Values:
        return Values(centre + shift + 0.2 * rng.normal(size=n), edges)

    resamples = bootstrap(n, rng, 20)
    one, other = draw(), draw()
    alone = chi2_of_mean(one, [other], resamples)
    assert alone.value == pytest.approx(chi2(one.histogram(), other.histogram()))
    assert alone.error == estimate(CHI2, one, other, (resamples, resamples)).error
    single, several = (
        np.mean([chi2_of_mean(draw(), [draw() for _ in range(k)], resamples[:0]).value for _ in range(400)])
        for k in (1, 4)
    )
    assert several / single == pytest.approx(5 / 8, abs=0.06)
    wrong = chi2_of_mean(one, [draw(0.3) for _ in range(8)], resamples)
    assert wrong.value > single + 5 * wrong.error


def test_variables_of_a_single_tower() -> None:
    towers = np.zeros((2, *CMS.shape))
    towers[0, 40, 10] = 50e3
    found = measure(Images.from_dense(towers))
    assert set(found) == set(VARIABLES)
    et = 50e3 / np.cosh(CMS.eta[40])
    assert found["sum_et"] == pytest.approx([et, 0])
    assert found["missing_et"] == pytest.approx([et, 0])
    assert found["n_towers"].tolist() == [1, 0]
    assert found["jet1_pt"][0] == pytest.approx(et, rel=1e-6)
    assert np.isnan(found["jet1_pt"][1]) and np.isnan(found["jet2_pt"]).all()
    assert np.isfinite(features(Images.from_dense(towers), found)).all()
    assert [len(row_variables(row)) for row in JET_ROWS] == [2] * 8 + [1] * 2


def test_patches_and_blocks_stand_around_the_brightest_tower() -> None:
    towers = two_jets(5)
    fast = Images.from_dense(towers)
    turned = Images.from_dense(np.roll(towers, 9, axis=2))
    np.testing.assert_allclose(patches(fast, fast), patches(turned, turned), rtol=1e-6)
    np.testing.assert_allclose(block_sums(fast, fast, 1), towers.reshape(5, -1).max(1), rtol=1e-6)
    np.testing.assert_allclose(block_sums(fast, fast, 9), block_sums(turned, turned, 9), rtol=1e-6)
    assert (block_sums(fast, fast, 3) <= block_sums(fast, fast, 9)).all()


@pytest.mark.parametrize(("width", "ratio", "coverage"), [(1.0, 1.0, 0.683), (0.5, None, None), (2.0, None, None)])
def test_spread_of_draws(width: float, ratio: float | None, coverage: float | None) -> None:
    rng = np.random.default_rng(0)
    centre = rng.normal(size=4000) * 5
    full = centre + rng.normal(size=4000)
    draws = [centre + width * rng.normal(size=4000) for _ in range(6)]
    found = spread_of(full, draws, rng)
    assert found is not None and found["events"] == 4000 and sum(found["ranks"]) == 4000
    if ratio is None:
        wrong = found["ratio"]["value"]
        # Of the full images' and the draws' own contributions to the mean square distance.
        assert wrong == pytest.approx(np.sqrt((1 + width**2 / 6) / (width**2 * (1 + 1 / 6))), rel=0.03)
        assert (found["coverage"]["value"] < 0.6) is (width < 1)
    else:
        assert found["ratio"]["value"] == pytest.approx(ratio, abs=4 * found["ratio"]["error"])
        assert found["coverage"]["value"] == pytest.approx(coverage, abs=4 * found["coverage"]["error"])
    assert spread_of(full, draws[:1], rng) is None
    shifted = spread_of(full + 1, draws, rng)
    assert shifted is not None and shifted["shift"] > 0.4


# -- the report ----------------------------------------------------------------------------------------------------


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take their time; all but one test do without."""
    monkeypatch.setattr("caloforge.evaluation.images.page.draw_images", lambda *_: {})


@pytest.mark.filterwarnings("ignore:only 104 events")
@pytest.mark.usefixtures("undrawn")
def test_the_report(files: dict[str, Path], tmp_path: Path) -> None:
    again = [files["generated3"], files["generated4"]]
    reports = [
        evaluate(files["full"], files["generated2"], tmp_path / name, fast=files["fast"], again=again, repeats=1)
        for name in "ab"
    ]
    data = reports[0].to_dict()
    one, two = ((tmp_path / name / "report.json").read_bytes() for name in "ab")
    assert one == two
    assert data["samples"]["full"]["images"] == 104
    pairs = {"full_generated", "fast_full", "fast_generated", "floor"}
    assert set(data["variables"]["jet1_pt"]["chi2"]) == pairs | {"full_draws"}
    assert set(data["variables"]["jet1_pt"]["separation"]) == pairs
    assert set(data["frechet"]) == pairs
    assert set(data["classifiers"]) == {"high", "low", "pair"}
    assert data["spread"]["core"]["draws"] == 3
    assert ImageReport.read(tmp_path / "a").to_dict() == data
    check_schema(data)
    page = (tmp_path / "a" / "report.html").read_text()
    assert "generated2.h5" in page and "only 104 events" in page
    reports[0].summary()


def check_schema(data: dict[str, Any]) -> None:
    """A report follows the schema that ships, and the schema notices mistakes."""
    check = Draft202012Validator(schema("images"))
    Draft202012Validator.check_schema(schema("images"))
    check.validate(data)
    assert data["schema"] == SCHEMA_VERSION
    check.validate({key: value for key, value in data.items() if key not in ("spread", "classifiers")})
    damages: list[Callable[[Any], object]] = [
        lambda d: d.pop("schema"),
        lambda d: d.update(version=2),
        lambda d: d.update(versoin=1),
        lambda d: d["variables"]["jet1_pt"]["chi2"].pop("floor"),
        lambda d: d["variables"]["jet1_pt"]["chi2"].pop("fast_full"),
        lambda d: d["variables"]["jet1_pt"]["chi2"]["full_generated"].update(error=-1.0),
        lambda d: d["variables"].update({"a name": d["variables"]["jet1_pt"]}),
        lambda d: d["frechet"].update(full_generated=0.5),
        lambda d: d["classifiers"]["low"]["auc"].update(value=1.2),
        lambda d: d["samples"]["full"].update(side="half"),
        lambda d: d["samples"].pop("generated"),
        lambda d: d["spread"]["core"].pop("ranks"),
    ]
    for damage in damages:
        broken = json.loads(json.dumps(data))
        damage(broken)
        assert not check.is_valid(broken)


def test_the_schema_s_page_names_every_key() -> None:
    """docs/report-schema.md tells of everything that stands in the schema, in the part on images."""
    text = (Path(__file__).parents[1] / "docs" / "report-schema.md").read_text().split("## Images")[1]
    known = schema("images")
    names = set(known["properties"])
    for part in [*known["$defs"].values(), known["properties"]["samples"]]:
        names |= set(part.get("properties", {}))
    assert {name for name in names if f"`{name}`" not in text} == set()
    with pytest.raises(CaloforgeError, match="'image' is not a kind of report; did you mean 'images'"):
        schema("image")


@pytest.mark.filterwarnings("ignore:only 104 events")
@pytest.mark.usefixtures("undrawn")
def test_the_command_line(files: dict[str, Path], tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app,
        ["evaluate", str(files["full"]), str(files["generated2"]), "-o", str(tmp_path / "r"), "--quick", "--json"],
    )
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    Draft202012Validator(schema("images")).validate(data)
    assert set(data["frechet"]) == {"full_generated", "floor"}
    assert "spread" not in data and "pair" not in data["classifiers"]


def test_figures_can_be_drawn(files: dict[str, Path]) -> None:
    samples = {side: sample_of(files[name], Images.read(files[name])[:1]) for side, name in
               (("fast", "fast"), ("full", "full"), ("generated", "generated2"))}  # fmt: skip
    assert events(samples, dict.fromkeys(samples, "x")).png.startswith(b"\x89PNG")
    assert rank_histograms({"a": [1, 2, 3], "b": [2, 2, 2]}).pdf.startswith(b"%PDF")


def test_what_cannot_be_compared(files: dict[str, Path], tmp_path: Path) -> None:
    assert holds_images(files["full"]) and not holds_images(tmp_path / "none.h5")
    images = Images.read(files["full"])
    images[:20].write(tmp_path / "few.h5")
    with pytest.raises(CaloforgeError, match="20 events in common"):
        evaluate(files["full"], tmp_path / "few.h5", tmp_path / "r")
    Images.from_dense(images.dense(), np.arange(104) + 500, side="generated").write(tmp_path / "other.h5")
    with pytest.raises(CaloforgeError, match="no event in common"):
        evaluate(files["full"], tmp_path / "other.h5", tmp_path / "r")
    with pytest.raises(CaloforgeError, match="give the fast images with --fast"):
        evaluate(files["full"], files["generated2"], tmp_path / "r", again=[files["generated3"]])
    with pytest.raises(CaloforgeError, match="at least 1 repeat and 50 images"):
        evaluate(files["full"], files["generated2"], tmp_path / "r", max_showers=10)
    with pytest.raises(CaloforgeError, match="hold the same images"):
        evaluate(files["full"], files["generated2"], tmp_path / "r", fast=files["fast"], again=[files["generated2"]])
    assert not (tmp_path / "r").exists()
