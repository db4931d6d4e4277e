"""The evaluation from two files to the report."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from rich.console import Console
from typer.testing import CliRunner

from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError, CaloforgeWarning
from caloforge.evaluation import OBSERVABLES, Report, evaluate
from caloforge.evaluation.figures import Curve, Frame, comparison
from caloforge.evaluation.gallery import SECTIONS, Section
from caloforge.evaluation.report import SCHEMA_VERSION, Result, schema
from caloforge.evaluation.sample import measure
from caloforge.evaluation.scene import pairs, scene
from caloforge.evaluation.summary import duration, factor, parts, percent, with_error
from caloforge.evaluation.tables import Table
from caloforge.incident import Incident
from caloforge.showers import Showers

EVIL = '<script src="http://example.org/x.js">$x^2_"</script>'


def detector(layers: int = 3, kind: str = "cartesian") -> Detector:
    cells = {"cells": [9, 9], "cell_size": [5.0, 5.0]}
    rings = {"alpha": 8, "r_edges": [0.0, 3.0, 8.0, 20.0]}
    z = [10.0 * i for i in range(layers + 1)]
    readout = {**(cells if kind == "cartesian" else rings), "depth": layers, "z": z}
    return Detector.from_mapping({"name": "toy", "readout": readout})


def make(
    path: Path,
    n: int,
    seed: int,
    *,
    scale: float = 1.0,
    where: Detector | None = None,
    energies: tuple[float, float] = (1e4, 1e5),
    pdg: int = 22,
    tilted: bool = False,
    provenance: dict[str, object] | None = None,
) -> Path:
    """Toy showers: exponential in radius and depth, with cell fluctuations; some are empty."""
    rng = np.random.default_rng(seed)
    d = where or detector()
    tan = rng.uniform(-0.2, 0.2, (n, 2)) if tilted else np.zeros((n, 2))
    position = rng.uniform(-5, 5, (n, 2)) if tilted else np.zeros((n, 2))
    incident = Incident.of(rng.uniform(*energies, n), pdg, np.column_stack([tan, np.ones(n)]), position)
    x, y, z = d.voxel_positions.T
    away = np.hypot(x - position[:, :1] - tan[:, :1] * z, y - position[:, 1:] - tan[:, 1:] * z)
    mean = np.exp(-away / 6 - z / 20)
    mean *= 0.1 * scale * incident.energy[:, None] / mean.sum(axis=1, keepdims=True)
    dense = rng.gamma(mean / 20 + 1e-9, 20)
    dense[:3] = 0
    Showers.from_dense(dense, incident, d, provenance, threshold=0.1).write(path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("files")
    simulated = {"producer": "simulate", "label": "Geant4", "seconds_per_shower": 1.5, "device": "cpu", "seed": 1}
    generated = {"producer": "generate", "label": EVIL, "seconds_per_shower": 0.003, "device": None, "extra": [1]}
    return (
        make(folder / "test.h5", 1000, 1, provenance=simulated),
        make(folder / "fake.h5", 1000, 2, scale=1.03, provenance=generated),
    )


@pytest.fixture(scope="module")
def report(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Report:
    steps: list[tuple[int, int, str]] = []
    found = evaluate(
        *files, tmp_path_factory.mktemp("out") / "report", repeats=2, progress=lambda *step: steps.append(step)
    )
    assert [s[0] for s in steps] == sorted(s[0] for s in steps)
    assert steps[-1][:2] == (100, 100)
    return found


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the figures out where they are not looked at."""
    monkeypatch.setattr("caloforge.evaluation.gallery.draw", lambda *_: {})


def test_json(report: Report, files: tuple[Path, Path]) -> None:
    """report.json is strict JSON and holds every number with error and floor."""
    data = json.loads(
        report.path.with_name("report.json").read_text(),
        parse_constant=lambda name: pytest.fail(f"{name} in report.json"),
    )
    assert data == report.to_dict() == Report.read(report.path.parent).to_dict()
    assert data["format"] == "caloforge-report" and data["version"] == 1
    assert data["samples"]["reference"]["file"] == "test.h5"
    assert data["samples"]["reference"]["empty_showers"] == 3
    assert data["speed_up"] == pytest.approx(500)
    assert data["samples"]["generated"]["device"] is None
    for entry in (*data["observables"].values(), *data["layers"].values()):
        for metric in ("separation", "wasserstein"):
            assert entry[metric]["error"] >= 0 and entry[metric]["floor"]["size"] == 500
    ratios = data["response"]["ratio_by_energy"]
    for name, average in data["response"]["ratio"].items():
        for entry in (average, *ratios[name]):
            assert entry["error"] > 0 and abs(entry["floor"]["value"] - 1) < 5 * entry["floor"]["error"]
    curve = data["sparsity_curve"]
    assert curve["thresholds"][0] == pytest.approx(1e-5) and curve["thresholds"][-1] == pytest.approx(0.1)
    assert np.all(np.diff(curve["reference"]["value"]) >= 0) and curve["difference"]["floor"]["error"] > 0
    assert data["quick"] is False
    assert set(data["observables"]) | {"layer_energy", "layer_hits", "layer_radius"} == {
        k for k, o in OBSERVABLES.items() if o.needs != "tilt"
    }
    assert len(data["layers"]) == 9
    assert data["observables"]["centre_x"]["outside"]["reference"]["undefined"] == pytest.approx(0.003)
    assert data["response"]["ratio"]["mean"]["value"] == pytest.approx(1.03, abs=0.01)
    assert set(data["classifiers"]) == {"low", "high"}
    for entry in data["classifiers"].values():
        assert 0.4 < entry["auc"]["value"] < 1 and len(entry["repeats"]) == 2
        assert abs(entry["floor"]["value"] - 0.5) < 0.15
        known = [e for e in entry["by_energy"] if e is not None]
        assert len(known) == 5 and all(0.2 < e["floor"]["value"] < 0.8 for e in known)


def test_html_is_self_contained(report: Report) -> None:
    """Nothing is loaded from elsewhere, text of strangers is escaped, every figure is inside."""
    html = report.path.read_text()
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?\s*(https?:)?//""", html)
    assert EVIL not in html and "&lt;script src" in html
    assert html.count("<script") == html.count("</script>") == 3  # scheme, showers, page
    assert html.count(r"\u003cscript src") == 1  # the label again, as data of the viewer
    assert "http://" not in html.replace("http://example.org/x.js", "") and "https://" not in html
    figures = sorted(p.name for p in (report.path.parent / "figures").iterdir())
    stems = [name.removesuffix(".pdf") for name in figures if name.endswith(".pdf")]
    assert figures == sorted(f"{stem}.{kind}" for stem in stems for kind in ("pdf", "png"))
    assert html.count("data:image/png;base64,") == len(stems) >= 20
    for name in figures:
        assert html.count(f'href="figures/{name}"') == (2 if name.endswith(".png") else 1)
    assert "±" in html and "floor" in html


def test_only_our_scripts_may_run(report: Report) -> None:
    """The page's policy names every script by its hash and allows nothing to be loaded."""
    html = report.path.read_text()
    found = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert found
    policy = dict(part.strip().split(" ", 1) for part in found[1].split(";"))
    assert policy["default-src"] == "'none'" and policy["img-src"] == "data:"
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert policy["script-src"].split() == [f"'sha256-{h}'" for h in hashes]


def test_schema(report: Report) -> None:
    """Reports follow the schema that ships, and the schema notices mistakes."""
    check = Draft202012Validator(schema())
    Draft202012Validator.check_schema(schema())
    data = report.to_dict()
    check.validate(data)
    assert data["schema"] == SCHEMA_VERSION and re.fullmatch(schema()["properties"]["schema"]["pattern"], "1.0")
    for damage in (
        lambda d: d.pop("schema"),
        lambda d: d.update(versoin=1),
        lambda d: d["observables"]["response"]["separation"].pop("floor"),
        lambda d: d["observables"]["response"]["separation"].update(error=-1.0),
        lambda d: d["observables"].update({"a name": d["observables"]["response"]}),
        lambda d: d["classifiers"]["low"]["auc"].update(value=1.2),
        lambda d: d["samples"]["reference"].update(showers="1000"),
        lambda d: d["response"]["reference"].pop("n"),
        lambda d: d["layers"].update({"layer_energy": d["layers"]["layer_energy[0]"]}),
        lambda d: d["correlation"]["reference"][0].__setitem__(0, 2.0),
    ):
        broken = report.to_dict()
        damage(broken)
        assert not check.is_valid(broken)


def test_schema_page_names_every_key(report: Report) -> None:
    """docs/report-schema.md tells of everything that stands in the schema."""
    text = (Path(__file__).parents[1] / "docs" / "report-schema.md").read_text()
    known = schema()
    names = set(known["properties"])
    for part in known["$defs"].values():
        names |= set(part.get("properties", {}))
    assert {name for name in names if f"`{name}`" not in text} == set()


def test_figures_are_the_same_every_time(report: Report) -> None:
    """PNG and PDF hold no dates: the same numbers give the same bytes."""
    edges = np.linspace(0, 1, 5)
    curve = Curve(np.arange(1.0, 5.0), np.full(4, 0.5))
    frame = Frame(edges, "x [mm]", "y", ("one €", "two $x^2_"), about="toy, e⁻, 1–2 GeV")
    one, two = (comparison(frame, curve, curve) for _ in range(2))
    assert one == two
    assert one.pdf.startswith(b"%PDF") and b"CreationDate" not in one.pdf
    assert one.png.startswith(b"\x89PNG")


def test_a_new_section_is_one_entry(files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of strangers' texts are escaped; numbers show floor and distance; empty sections are left out."""
    floor = {"value": 1.0, "error": 0.1, "size": 2, "scale": 1.0}
    number = {"value": 2.0, "error": 0.1, "floor": floor}
    rows = [[EVIL, 3, None, number], ["b", 4.5, "text", {"value": None, "error": None}]]

    def make(result: Result) -> list[Table]:
        assert len(result.reference) == 60
        return [Table("mine <b>", ("name", "n", "x", "number"), rows, "read it")]

    sections = {"mine": Section("My section", "", make), "none": Section("Nothing here", "", lambda _: [])}
    monkeypatch.setattr("caloforge.evaluation.gallery.SECTIONS", sections)
    with pytest.warns(CaloforgeWarning):
        html = evaluate(*files, tmp_path / "report", repeats=1, max_showers=60).path.read_text()
    assert "My section" in html and "Nothing here" not in html
    assert EVIL not in html and "mine &lt;b&gt;" in html
    assert "2.00 ± 0.10" in html and "floor 1.00 ± 0.10" in html and 'class="dot level2"' in html


def test_folder_is_whole_and_alone(report: Report) -> None:
    assert {p.name for p in report.path.parent.iterdir()} == {"report.html", "report.json", "figures"}
    assert [p.name for p in report.path.parent.parent.iterdir()] == ["report"]


def test_summary(report: Report) -> None:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(report.summary())
    console.file.close()
    text = console.export_text()
    assert "low-level classifier" in text and "±" in text and "500 ×" in text and "1.5 s" in text
    assert repr(report).startswith("Report(")


@pytest.mark.usefixtures("undrawn")
def test_deterministic_and_seeded(report: Report, files: tuple[Path, Path], tmp_path: Path) -> None:
    evaluate(*files, tmp_path / "a", repeats=2, cache=False)
    again = (tmp_path / "a" / "report.json").read_bytes()
    assert again == report.path.with_name("report.json").read_bytes()
    other = evaluate(*files, tmp_path / "b", repeats=2, seed=1).to_dict()
    assert other["observables"]["response"] != report.to_dict()["observables"]["response"]


@pytest.mark.usefixtures("undrawn")
def test_quick_says_so(files: tuple[Path, Path], tmp_path: Path) -> None:
    data = evaluate(*files, tmp_path / "r", quick=True).to_dict()
    assert data["quick"] is True and data["repeats"] == 2
    assert "quick look: 2 trainings" in data["warnings"][0] and len(data["warnings"]) == 1


@pytest.mark.usefixtures("undrawn")
def test_json_alone_on_stdout(files: tuple[Path, Path], tmp_path: Path) -> None:
    """`caloforge evaluate --json` prints one document; progress and warnings go elsewhere."""
    from caloforge.cli import app

    words = ["evaluate", *map(str, files), "-o", str(tmp_path / "r"), "--json", "--repeats", "1", "--max-showers", "60"]
    with warnings.catch_warnings():  # the command line replaces how warnings are shown
        warnings.simplefilter("default", CaloforgeWarning)
        result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == Report.read(tmp_path / "r").to_dict()
    assert "warning: only 60 showers" in result.stderr


@pytest.mark.usefixtures("undrawn")
@pytest.mark.filterwarnings("ignore::caloforge.errors.CaloforgeWarning")
def test_overwrite(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "report"
    out.mkdir()
    evaluate(*files, out, repeats=1, max_showers=60)
    with pytest.raises(CaloforgeError, match="exists already"):
        evaluate(*files, out, repeats=1, max_showers=60)
    assert (
        evaluate(*files, out, repeats=1, max_showers=70, overwrite=True).to_dict()["samples"]["reference"]["showers"]
        == 70
    )
    (out / "thesis.tex").write_text("mine")
    with pytest.raises(CaloforgeError, match=r"thesis\.tex"):
        evaluate(*files, out, overwrite=True)
    assert (out / "thesis.tex").exists()
    with pytest.raises(CaloforgeError, match="is a file"):
        evaluate(*files, files[0], overwrite=True)
    with pytest.raises(CaloforgeError, match="does not exist"):
        evaluate(*files, tmp_path / "no" / "report")
    with pytest.raises(CaloforgeError, match="is not a caloforge report"):
        Report.read(tmp_path)


@pytest.mark.filterwarnings("ignore::caloforge.errors.CaloforgeWarning")
def test_nothing_half_written(files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("caloforge.evaluation.gallery.draw", lambda *_: {})
    monkeypatch.setattr("caloforge.evaluation.report.render", broken)
    with pytest.raises(CaloforgeError, match="No space left"):
        evaluate(*files, tmp_path / "report", repeats=1, max_showers=60)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("undrawn")
def test_what_differs_is_said(tmp_path: Path) -> None:
    a = make(tmp_path / "a.h5", 200, 1)
    b = make(tmp_path / "b.h5", 200, 2, energies=(1e3, 2e4), pdg=11, tilted=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = evaluate(a, b, tmp_path / "report", repeats=1)
    said = [str(w.message) for w in caught if issubclass(w.category, CaloforgeWarning)]
    assert said == found.to_dict()["warnings"]
    text = " ".join(said)
    for part in ("only 200 showers", "particles differ", "energies differ", "angles", "positions"):
        assert part in text
    html = found.path.read_text()
    assert html.count('class="warning"') == len(said)
    assert found.to_dict()["speed_up"] is None and "not recorded" in html


def test_pairs_are_of_like_particles() -> None:
    """Pairs for the viewer: by energy first, then by place; none twice while others are left."""
    energy = np.array([100.0, 200.0, 300.0, 400.0])
    place = np.array([[0.0, 0.0], [5.0, 0.0], [-5.0, 0.0], [0.0, 5.0]])
    one = Incident.of(energy, 11, position=place)
    order = [2, 0, 3, 1]
    assert pairs(one, one[np.array(order)], 4) == [(i, order.index(i)) for i in range(4)]
    same = Incident.of(np.full(4, 50.0), 11, position=place)
    assert pairs(same, same, 4) == [(i, i) for i in range(4)]
    assert len(pairs(same, same, 6)) == 6  # more than there are: some twice


def test_scene(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The viewer's data give the brightest voxels back, and count the rest."""
    monkeypatch.setattr("caloforge.evaluation.scene.MAX_HITS", 20)
    samples = [measure(path) for path in files]
    data = {"samples": {"reference": {"label": "a"}, "generated": {"label": "b"}}}
    found = scene(Result(*samples, data)).data
    json.dumps(found, allow_nan=False)
    d = samples[0].detector
    assert [len(layer) for layer in found["detector"]["layers"]] == [3] * d.n_layers
    assert len(found["detector"]["grids"]) == 1  # all layers share one
    chosen = pairs(samples[0].incident, samples[1].incident, 6)
    for rows, pair in zip(chosen, found["pairs"], strict=True):
        for path, row, shower in zip(files, rows, pair, strict=True):
            truth = Showers.read(path)[row : row + 1].dense(np.float64).reshape(-1)
            index = np.cumsum(shower["voxels"])
            assert len(index) == 20 and shower["hits"] - shower["left_out"][0] == 20
            np.testing.assert_allclose(shower["energies"], truth[index], rtol=0.01)
            assert truth[index].min() >= np.sort(truth)[-20] * 0.999
            assert shower["total"] == pytest.approx(truth.sum(), rel=1e-4)
            assert shower["left_out"][1] == pytest.approx(truth.sum() - truth[index].sum(), rel=0.02)


def test_errors(tmp_path: Path, files: tuple[Path, Path]) -> None:
    few = make(tmp_path / "few.h5", 49, 1)
    with pytest.raises(CaloforgeError, match="holds 49 showers"):
        evaluate(files[0], few, tmp_path / "r")
    other = make(tmp_path / "other.h5", 60, 1, where=detector(layers=2))
    with pytest.raises(CaloforgeError, match="compare samples of one detector"):
        evaluate(files[0], other, tmp_path / "r")
    with pytest.raises(CaloforgeError, match="at least 1 repeat"):
        evaluate(*files, tmp_path / "r", repeats=0)
    with pytest.raises(CaloforgeError, match="does not exist"):
        evaluate(files[0], tmp_path / "no.h5", tmp_path / "r")


@pytest.mark.filterwarnings("ignore::caloforge.errors.CaloforgeWarning")
@pytest.mark.parametrize("kind", ["polar", "one layer, tilted", "one energy"])
def test_other_detectors(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn for round, for depth-summed detectors and for a single incident energy."""
    same = {"overview", "observables", "layers", "correlations"}  # as elsewhere
    sections = {name: section for name, section in SECTIONS.items() if name not in same}
    monkeypatch.setattr("caloforge.evaluation.gallery.SECTIONS", sections)
    where = detector(kind="polar") if kind == "polar" else detector(layers=1) if "layer" in kind else detector()
    energies = (5e4, 5e4) if kind == "one energy" else (1e3, 1e5)
    a, b = (
        make(tmp_path / f"{i}.h5", 80, i, where=where, energies=energies, tilted="tilted" in kind) for i in range(2)
    )
    found = evaluate(a, b, tmp_path / "report", repeats=1).to_dict()
    assert ("asymmetry_along" in found["observables"]) == ("tilted" in kind)
    assert ("depth" in found["observables"]) == ("layer" not in kind)
    assert len(found["response"]["edges_mev"]) == (2 if kind == "one energy" else 3)
    Draft202012Validator(schema()).validate(found)


def test_numbers_as_text() -> None:
    assert with_error({"value": float("nan"), "error": 1.0}) == "–"
    assert with_error({"value": 2.0, "error": float("nan")}) == "2"
    assert with_error({"value": 0.53124, "error": 0.0061}) == "0.531 ± 0.006"
    assert with_error({"value": 0.53124, "error": 0.0211}) == "0.531 ± 0.021"
    assert with_error({"value": 12345.6, "error": 210.0}) == "12346 ± 210"
    assert with_error({"value": 1.234e-5, "error": 1.9e-6}) == "(1.23 ± 0.19)·10⁻⁵"
    assert with_error({"value": None, "error": None}) == with_error(None) == "–"
    assert with_error({"value": 1.0, "error": 0.0}) == "1"
    assert with_error({"value": 0.0, "error": 0.0}) == "0"
    assert [duration(t) for t in (2.0, 0.0021, 3e-6, 4e-9, None)] == ["2 s", "2.1 ms", "3 µs", "4 ns", "not recorded"]
    assert [factor(f) for f in (12345.0, 2.5, None)] == ["12 345 ×", "2.5 ×", "not known"]
    assert [percent(p) for p in (0.0, 1e-6, 0.0123, None)] == ["0", "< 0.01 %", "1.2 %", "–"]


def test_import_is_cheap() -> None:
    code = (
        "import sys, caloforge.evaluation; "
        "print(sorted({'torch', 'sklearn', 'matplotlib', 'scipy', 'rich', 'jinja2'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_numbers_in_two_fields() -> None:
    """Value and error apart, rounded as they are together."""
    assert parts({"value": 0.53124, "error": 0.0061}) == ("0.531", "0.006")
    assert parts({"value": 1.234e-5, "error": 1.9e-6}) == ("1.23·10⁻⁵", "0.19·10⁻⁵")
    assert parts({"value": 1.0, "error": 0.0}) == ("1", "–")
    assert parts({"value": None, "error": None}) == ("–", "–")


def test_what_has_no_spread_has_no_distance_from_its_floor() -> None:
    from caloforge.evaluation.summary import above, sigmas

    number = {"value": 1.0, "error": 0.0, "floor": {"value": 0.5, "error": 0.0}}
    assert above(number) is None
    assert sigmas(number) == "–"
    assert sigmas({**number, "error": 0.1}) == "5.0 σ"
