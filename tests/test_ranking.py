"""Ranking of several samples: order, pairing, significance, and what is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import norm, t
from typer.testing import CliRunner

from caloforge.cli import app
from caloforge.errors import CaloforgeError, CaloforgeWarning
from caloforge.evaluation import Ranking, compare
from caloforge.evaluation.distributions import Values
from caloforge.evaluation.metrics import METRICS
from caloforge.evaluation.places import SATURATED, Score, names_of, ranks
from caloforge.evaluation.ranking import RULES, SCORES
from caloforge.evaluation.ranking_table import short
from caloforge.evaluation.resampling import bootstrap, replicas
from caloforge.evaluation.significance import of_draws, of_repeats
from test_report import make

RNG = np.random.default_rng
pytestmark = pytest.mark.filterwarnings("ignore::caloforge.errors.CaloforgeWarning")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Reference, a sample off by 15 %, one off by 2 %, and one from the reference's own source."""
    folder = tmp_path_factory.mktemp("files")
    speed = {"producer": "generate", "seconds_per_shower": 0.002}
    return [
        make(folder / "reference.h5", 600, 1),
        make(folder / "far.h5", 500, 2, scale=1.15),
        make(folder / "near.h5", 500, 3, scale=1.02, provenance=speed),
        make(folder / "equal.h5", 520, 4),
    ]


@pytest.fixture(scope="module")
def ranking(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Ranking:
    steps: list[int] = []
    output = tmp_path_factory.mktemp("out") / "ranked"
    found = compare(files[0], files[1:], output, repeats=3, progress=lambda done, *_: steps.append(done))
    assert steps == sorted(steps) and steps[-1] == 100
    return found


def test_best_comes_first(ranking: Ranking) -> None:
    data = ranking.to_dict()
    assert data["ranking"][2]["name"] == "far" and {e["name"] for e in data["ranking"][:2]} == {"near", "equal"}
    assert [e["rank"] for e in data["ranking"]] == [1, 2, 3]
    far = data["ranking"][2]["scores"]
    assert far["response"]["value"] == pytest.approx(0.15, abs=4 * far["response"]["error"])
    for key in set(SCORES) - {"ms_per_shower"}:
        assert data["scores"][key]["floor"]["value"] is not None and data["scores"][key]["floor"]["error"] > 0
        assert all(e["scores"][key]["error"] > 0 for e in data["ranking"])
    for key in ("auc", "auc_high", "auc_worst_bin", "separation", "response"):
        assert far[key]["rank"] == 3
        assert far[key]["value"] > data["scores"][key]["floor"]["value"]
    speeds = {e["name"]: e["scores"]["ms_per_shower"]["value"] for e in data["ranking"]}
    assert speeds == {"near": 2, "equal": None, "far": None}
    assert any("500 of each are compared" in text for text in data["warnings"])
    assert all(e["showers"] == 500 for e in data["ranking"]) and data["reference"]["showers"] == 600


def test_differences(ranking: Ranking) -> None:
    """Every pair and score has a difference that is that of the values; a large one is significant, both ways."""
    data = ranking.to_dict()
    values = {e["name"]: e["scores"] for e in data["ranking"]}
    assert len(data["differences"]) == 3 * (len(SCORES) - 1)
    assert sum(d["neighbours"] for d in data["differences"]) == 2 * (len(SCORES) - 1)
    for d in data["differences"]:
        expected = values[d["second"]][d["score"]]["value"] - values[d["first"]][d["score"]]["value"]
        assert d["difference"] == pytest.approx(expected, abs=1e-12)
        assert np.sign(d["sigma"]) == np.sign(d["difference"]) and 0 <= d["p"] <= 1
    far = [d for d in data["differences"] if d["second"] == "far" and d["score"] in ("separation", "response")]
    assert len(far) == 4 and all(d["sigma"] > 5 for d in far)
    after = data["ranking"][1]["next"]
    assert after["name"] == "far" and after["score"] == "auc" and after["difference"] > 0
    assert data["ranking"][2]["next"] is None


def test_written_and_repeatable(ranking: Ranking, files: list[Path], tmp_path: Path) -> None:
    assert ranking.path is not None and [p.name for p in ranking.path.parent.iterdir()] == ["compare.json"]
    written = json.loads(ranking.path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert written == ranking.to_dict()
    again = compare(files[0], [files[3], files[1], files[2]], repeats=3)
    assert again.path is None  # and the same in whatever order they are given
    assert again.to_dict() | {"warnings": sorted(again.to_dict()["warnings"])} == written | {
        "warnings": sorted(written["warnings"])
    }
    with pytest.raises(CaloforgeError, match="exists already"):
        compare(files[0], files[1:], ranking.path.parent)
    with pytest.raises(CaloforgeError, match="is a file"):
        compare(files[0], files[1:], files[0])
    with pytest.raises(CaloforgeError, match="does not exist"):
        compare(files[0], files[1:], tmp_path / "no" / "folder")
    with pytest.raises(CaloforgeError, match="at least one shower file"):
        compare(files[0], [])


def test_nothing_half_written(files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", broken)
    with pytest.raises(OSError, match="No space left"):
        compare(files[0], files[1:3], tmp_path / "out", repeats=1, max_showers=60)
    assert list(tmp_path.iterdir()) == []


def test_same_file_twice_shares_its_place(files: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "near.h5"
    copy.write_bytes(files[2].read_bytes())
    with pytest.warns(CaloforgeWarning, match="are the same file; they share their place"):
        data = compare(files[0], [files[2], copy], repeats=1, max_showers=100).to_dict()
    one, two = data["ranking"]
    assert one["scores"] == two["scores"] and one["name"] != two["name"] and "sigma" not in one["next"]
    assert not data["differences"]


def test_command_line(files: list[Path], tmp_path: Path) -> None:
    words = ["compare", *map(str, files[:3]), "--quick", "--max-showers", "100", "--repeats", "2"]
    result = CliRunner().invoke(app, [*words, "--json", "-o", str(tmp_path / "out")])
    assert result.exit_code == 0 and json.loads(result.stdout)["quick"] is True
    assert json.loads((tmp_path / "out" / "compare.json").read_text()) == json.loads(result.stdout)
    result = CliRunner().invoke(app, words)
    assert "near" in result.stdout and "floor" in result.stdout and "σ" in result.stdout
    result = CliRunner().invoke(app, ["compare", str(files[0]), str(files[1]), str(tmp_path / "missing.h5")])
    assert result.exit_code == 2 and "missing.h5" in result.stderr and "Traceback" not in result.stderr


def test_table(ranking: Ranking) -> None:
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(ranking.table())
    console.file.close()
    text = console.export_text()
    assert "3 samples against reference.h5 (toy)" in text and "before far: AUC less by" in text
    assert "500 of each are compared" in " ".join(text.split())
    assert repr(ranking).startswith("Ranking(['")
    narrow = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    narrow.print(ranking.table())
    narrow.file.close()
    shown = "".join(narrow.export_text().split())
    for entry in ranking.to_dict()["ranking"]:  # nothing is cut off
        assert all("".join(short(score).split()) in shown for score in entry["scores"].values())
    assert short({"value": 0.53124, "error": 0.0061}) == "0.531(6)"
    assert short({"value": 1.234e-5, "error": 1.9e-6}) == "1.23(19)·10⁻⁵"
    assert short({"value": 12345.6, "error": 210.0}) == "12346(210)"
    assert short({"value": 2.5, "error": None}) == "2.5" and short(None) == "–"


def test_order_is_by_area_then_by_separation() -> None:
    """Where every shower is told, the area no longer orders samples."""

    def scores(area: float, separation: float) -> dict[str, Score]:
        return {"auc": Score(area), "separation": Score(separation)}

    samples = {"a": (0.6, 0.9), "b": (0.999, 0.1), "c": (SATURATED, 0.2), "d": (0.98, 0.5)}
    assert sorted(samples, key=lambda name: RULES.order(scores(*samples[name]), name)) == ["a", "d", "b", "c"]
    assert ranks([0.3, None, 0.1, 0.3]) == [2, None, 1, 2]
    assert names_of(["x/a.h5", "y/a.h5", "b.h5", "b.h5"]) == ["x/a.h5", "y/a.h5", "b.h5 (3)", "b.h5 (4)"]


def test_corrected_t() -> None:
    """Nadeau and Bengio's variance and Student's t, worked out by hand."""
    first, second = np.array([0.6, 0.62, 0.61, 0.6, 0.63]), np.array([0.65, 0.66, 0.63, 0.66, 0.65])
    apart = second - first
    found = of_repeats(first, second, 0.3)
    assert found is not None and found.value == pytest.approx(apart.mean())
    assert found.error == pytest.approx(np.sqrt((1 / 5 + 3 / 7) * apart.var(ddof=1)))
    assert found.p == pytest.approx(2 * t.sf(found.value / found.error, 4))
    assert found.sigma == pytest.approx(norm.isf(found.p / 2))
    other = of_repeats(second, first, 0.3)
    assert other is not None and other.sigma == pytest.approx(-found.sigma)
    assert of_repeats(first[:1], second[:1]) is None
    assert of_repeats(first, first) is None
    assert of_repeats(first, np.full(5, np.nan)) is None


def test_paired_draws_are_calibrated_and_sharper() -> None:
    """Distances of two equally wrong samples from one reference: their significance is a unit Gaussian.

    The error of the paired difference is that of repeated experiments, where the reference is one and the same.
    """
    edges = np.linspace(-3, 4, 21)
    metric, n = METRICS["wasserstein"], 400
    sigmas, paired, separate = [], [], []
    for i in range(80):
        reference = Values(RNG([i, 0]).normal(size=n), edges)
        common = bootstrap(n, RNG([i, 1]), 60)
        (one, a), (two, b) = (
            replicas(
                metric,
                reference,
                Values(RNG([i, 2, k]).normal(0.5, 1, n), edges),
                (common, bootstrap(n, RNG([i, 3, k]), 60)),
            )
            for k in range(2)
        )
        found = of_draws(one, two, a, b)
        assert found is not None
        sigmas.append(found.sigma)
        paired.append(found.error)
        separate.append(np.hypot(a.std(ddof=1), b.std(ddof=1)))
    assert np.std(sigmas) == pytest.approx(1, abs=0.25)  # three standard errors of 80
    assert abs(np.mean(sigmas)) < 0.35
    assert np.mean(paired) < 0.8 * np.mean(separate)
    assert of_draws(0, 1, a, np.full(60, np.nan)) is None and of_draws(0, 0, a, a) is None
