"""What generating, evaluating and simulating cost: time and memory against showers, voxels and workers.

    python benchmarks/cost_curves.py [--results cost-curves.jsonl] [--minutes 10] [--only generate showers]
    python benchmarks/cost_curves.py --tables    tables into docs/cost.md, and the figure
    python benchmarks/cost_curves.py --smoke     one small point of each kind

Every point is measured in a process of its own and added to the results at once: run again, what is there is not done
again (--again measures anew). A curve against showers ends before the point that would take more than --minutes of CPU,
which is noted. Times are CPU seconds, start-up included; milliseconds a shower are what the
shower file says, without start-up (evaluate: all over the number of showers). Curves against workers are wall seconds
and need the machine for themselves.

Samples to evaluate are synthetic (benchmarks/evaluate.py): points drawn from an exponential in depth and radius, right
in number and sparsity. Models are those of the zoo; against voxels also an untrained `vae-gan` of its default width,
the same architecture for every detector whose layers have equal cells.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE, FIGURE = ROOT / "docs" / "cost.md", ROOT / "docs" / "images" / "cost.png"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

FASTEST = "zoo:lhcb-low-rank"
ZOO = {
    "atlas-lar": "zoo:atlas-low-rank",
    "lhcb-ecal": FASTEST,
    "clic-ecal": "zoo:clic-low-rank",
    "ild-ecal": "zoo:ild-low-rank",
}
VOXELS = {
    "atlas-lar": 504, "lhcb-ecal": 900, "par04-siw": 6480, "clic-ecal": 15_625, "ild-ecal": 27_000,
    "par04-siw-fine": 40_500,
}  # fmt: skip
HITS = {
    "atlas-lar": (60, 400), "lhcb-ecal": (30, 300), "par04-siw": (400, 2500), "clic-ecal": (300, 2500),
    "ild-ecal": (300, 2500), "par04-siw-fine": (500, 6000),
}  # fmt: skip
"""Voxels hit at 1 and 1000 GeV in synthetic showers."""

Point = dict[str, Any]


# -- what is measured ------------------------------------------------------------------------------------------------


def curves(smoke: bool) -> dict[tuple[str, str], list[Point]]:
    """Points of each curve by verb and what it runs against, cheapest first."""
    many = (1000, 10_000, 100_000, 1_000_000)
    workers: list[Any] = [None, 1, 2, 4]
    found: dict[tuple[str, str], list[Point]] = {
        ("generate", "showers"): [
            {"model": FASTEST, "detector": "lhcb-ecal", "n": n} for n in (*many[:3], 300_000, many[3])
        ],
        ("evaluate", "showers"): [{"detector": "lhcb-ecal", "n": n} for n in many[:3]],
        ("simulate", "showers"): [{"detector": "lhcb-ecal", "energy": 1.0, "n": n} for n in (100, *many[:3])],
        ("generate", "voxels"): [
            *({"model": model, "detector": name, "n": 1000} for name, model in ZOO.items()),
            *({"model": "vae-gan", "detector": name, "n": 500} for name in VOXELS if name != "atlas-lar"),
        ],
        ("evaluate", "voxels"): [{"detector": name, "n": 2000} for name in VOXELS],
        ("simulate", "voxels"): [{"detector": name, "energy": 5.0, "n": 100} for name in VOXELS],
        ("generate", "workers"): [
            {"model": FASTEST, "detector": "lhcb-ecal", "n": 50_000, "workers": w} for w in workers
        ],
        ("evaluate", "workers"): [{"detector": "lhcb-ecal", "n": 10_000, "workers": w} for w in workers],
        ("simulate", "workers"): [{"detector": "lhcb-ecal", "energy": 5.0, "n": 1000, "workers": w} for w in workers],
    }
    if smoke:
        small = {"generate": 200, "evaluate": 400, "simulate": 10}
        return {key: [points[-1] | {"n": small[key[0]]}] for key, points in found.items()}
    return found


def measure(verb: str, point: Point) -> None:
    """Measure a point in this process and print it as JSON."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("COST_FOLDER")) as name:
        folder = Path(name)
        work = {"generate": _generate, "evaluate": _evaluate, "simulate": _simulate}[verb](folder, point)
        own = [_used(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        began = time.perf_counter()
        output = work()
        wall = time.perf_counter() - began
        after = [_used(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        told = provenance(output) if verb != "evaluate" else {}
    cpu = sum(now - before for (now, _), (before, _) in zip(after, own, strict=True))
    peak = max(each for _, each in after) / 1e3
    print(json.dumps({"wall_s": wall, "cpu_s": cpu, "peak_mb": peak} | told))


def provenance(path: Path) -> Point:
    """What a shower file says it cost, without start-up, and its size."""
    from caloforge.shower_file import ShowerFile

    with ShowerFile(path) as file:
        found = {"each_ms": 1e3 * file.provenance["seconds_per_shower"], "file_mb": path.stat().st_size / 1e6}
        if "writing_seconds_per_shower" in file.provenance:
            found["writing_ms"] = 1e3 * file.provenance["writing_seconds_per_shower"]
    return found


def _used(who: int) -> tuple[float, int]:
    """CPU seconds and peak memory (kB) so far."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime, used.ru_maxrss


def _dask(point: Point) -> str | None:
    return f"local:{point['workers']}" if point.get("workers") else None


def _generate(folder: Path, point: Point) -> Any:
    model = point["model"] if point["model"].startswith("zoo:") else str(untrained(point, folder / "model.safetensors"))

    def work() -> Path:
        from caloforge.beam import Beam
        from caloforge.checkpoint import Checkpoint
        from caloforge.generation import generate

        trained = Checkpoint.load(model)
        incident = Beam.of(trained.detector, domain=trained.domain).draw(point["n"], 0)
        return generate(model, folder / "out.h5", incident, device="cpu", dask=_dask(point))

    return work


def untrained(point: Point, path: Path) -> Path:
    """A checkpoint of an untrained model: its showers are nonsense, its cost is not."""
    import numpy as np
    import torch

    from caloforge.beam import Beam
    from caloforge.checkpoint import Checkpoint, domain_of
    from caloforge.detectors import Detector
    from caloforge.models import build_model
    from caloforge.transforms import build_transform

    detector = Detector.load(point["detector"])
    model = build_model(point["model"], detector.shape, 1, seed=0)
    with torch.inference_mode():
        raw = model.eval()(model.draw_latent(32, torch.Generator().manual_seed(0)), torch.ones(32, 1))
    # As many hits as showers have: writing costs what it costs.
    cut = float(np.quantile(raw.numpy(), 1 - HITS[point["detector"]][1] / VOXELS[point["detector"]] / 2))
    checkpoint = Checkpoint(
        model=model, model_name=point["model"], model_config=model.config,
        shower_transform=build_transform([{"name": "threshold", "threshold": cut}]),
        condition_transform=build_transform([{"name": "scale", "scale": 10.0}]), conditions=["log_energy"],
        detector=detector, domain=domain_of(Beam.of(detector).draw(1000, 0)), provenance={},
    )  # fmt: skip
    checkpoint.save(path)
    return path


def _evaluate(folder: Path, point: Point) -> Any:
    from caloforge.detectors import Detector

    spec = importlib.util.spec_from_file_location("synthetic", Path(__file__).with_name("evaluate.py"))
    assert spec is not None and spec.loader is not None
    synthetic = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(synthetic)
    detector = Detector.load(point["detector"])
    for seed, (name, scale) in enumerate((("a.h5", 1.0), ("b.h5", 1.02))):
        synthetic.write(folder / name, detector, point["n"], HITS[point["detector"]], scale, seed)

    def work() -> Path:
        from caloforge.evaluation import evaluate

        files = folder / "a.h5", folder / "b.h5"
        return evaluate(*files, folder / "report", quick=True, cache=False, dask=_dask(point)).path

    return work


def _simulate(folder: Path, point: Point) -> Any:
    from caloforge.beam import Beam
    from caloforge.detectors import Detector
    from caloforge.simulation import simulate
    from caloforge.simulation.physics_tables import find_tables

    detector = Detector.load(point["detector"])
    beam = Beam.of(detector, particle="e-", energies_gev=(point["energy"],))
    find_tables(detector.elements, "builtin")  # computed once a machine: no part of a production's cost
    return lambda: simulate(detector, point["n"], folder / "out.h5", beam=beam, tables="builtin", dask=_dask(point))


# -- points that are there, and those to come ------------------------------------------------------------------------


def run(options: argparse.Namespace) -> None:
    path = Path(options.results)
    done = {} if options.again or options.smoke else {key_of(r): r for r in read(path)}
    for (verb, axis), points in curves(options.smoke).items():
        if options.only and not {verb, axis}.issuperset(options.only):
            continue
        last: Point | None = None
        for point in points:
            record = {"verb": verb, "axis": axis, **point}
            more = 1e-3 * (each_ms(last) + last.get("writing_ms", 0.0)) * (point["n"] - last["n"]) if last else 0.0
            expected = (last["cpu_s"] + more) / 60 if last and axis == "showers" else 0.0
            if expected > options.minutes:
                record |= {"stopped": f"about {expected:.1f} minutes of CPU expected, {options.minutes:g} allowed"}
            elif key_of(record) not in done or "stopped" in done[key_of(record)]:
                record |= json.loads(_apart(verb, point)) | {"when": time.strftime("%F %R"), "machine": machine()}
            else:
                last = done[key_of(record)]
                continue
            print(json.dumps(record), flush=True)
            if not options.smoke:
                with path.open("a") as file:
                    file.write(json.dumps(record) + "\n")
            if "stopped" in record:
                break
            last = record


def _apart(verb: str, point: Point) -> str:
    """Measure in a process of its own, in one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, __file__, "--point", json.dumps([verb, point])]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()[-1]


def machine() -> str:
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return f"{os.cpu_count()} cores, {model}"


def key_of(record: Point) -> str:
    names = ("verb", "axis", "model", "detector", "energy", "n", "workers")
    return json.dumps({name: record.get(name) for name in names})


def read(path: Path) -> list[Point]:
    """The last record of every point, in the order of the curves."""
    if not path.exists():
        return []
    latest = {key_of(record): record for record in map(json.loads, path.read_text().splitlines())}
    order = [
        key_of({"verb": verb, "axis": axis, **p}) for (verb, axis), points in curves(False).items() for p in points
    ]
    return [latest[key] for key in order if key in latest]


# -- tables and the figure -------------------------------------------------------------------------------------------


def tables(records: list[Point]) -> Iterator[str]:
    """Markdown of all curves."""
    measured = [r for r in records if "wall_s" in r]
    yield f"Measured with `python benchmarks/cost_curves.py` on {', '.join(sorted({r['machine'] for r in measured}))}"
    yield f"({min(r['when'] for r in measured)} to {max(r['when'] for r in measured)})."
    for (verb, axis), _ in curves(False).items():
        chosen = [r for r in records if (r["verb"], r["axis"]) == (verb, axis)]
        if not chosen:
            continue
        yield from ("", f"### `{verb}` against {axis}", "")
        if axis == "workers":
            yield from _workers_table(chosen)
        else:
            yield from _table(chosen)


def _table(chosen: list[Point]) -> Iterator[str]:
    heads = ("detector", "what", "voxels", "showers", "CPU s", "s", "ms a shower", "writing it, ms (wall)")
    yield f"| {' | '.join((*heads, 'peak memory, MB', 'file, MB'))} |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for r in chosen:
        head = f"| {r['detector']} | {_what(r)} | {VOXELS[r['detector']]} | {r['n']} |"
        if "stopped" in r:
            yield f"{head} not measured: {r['stopped']} | | | | | |"
            continue
        writing, size = (f"{r[name]:.3g}" if name in r else "" for name in ("writing_ms", "file_mb"))
        times = f"{r['cpu_s']:.1f} | {r['wall_s']:.1f} | {each_ms(r):.3g} | {writing}"
        yield f"{head} {times} | {r['peak_mb']:.0f} | {size} |"


def each_ms(r: Point) -> float:
    """CPU milliseconds a shower: as the shower file says, which does not count start-up, else all over their number."""
    return float(r.get("each_ms", 1e3 * r["cpu_s"] / r["n"]))


def _what(r: Point) -> str:
    if r["verb"] == "generate":
        return f"`{r['model']}`" + ("" if r["model"].startswith("zoo:") else ", untrained")
    return "`--quick`, synthetic" if r["verb"] == "evaluate" else f"{r['energy']:g} GeV electrons"


def _workers_table(chosen: list[Point]) -> Iterator[str]:
    yield "| workers | showers | s | over one process | peak memory of the largest process, MB |"
    yield "|---|---|---|---|---|"
    alone = next((r["wall_s"] for r in chosen if not r["workers"]), float("nan"))
    for r in chosen:
        name = f"`local:{r['workers']}`" if r["workers"] else "one process"
        yield f"| {name} | {r['n']} | {r['wall_s']:.1f} | {alone / r['wall_s']:.2f} | {r['peak_mb']:.0f} |"


def figure(records: list[Point], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    measured = [r for r in records if "wall_s" in r]
    drawn = Figure(figsize=(13, 7), layout="constrained")
    FigureCanvasAgg(drawn)
    grid = drawn.subplots(2, 3)
    colours = {"generate": "#0072b2", "evaluate": "#d55e00", "simulate": "#009e73"}
    for verb, colour in colours.items():
        of = {
            axis: [r for r in measured if (r["verb"], r["axis"]) == (verb, axis)]
            for axis in ("showers", "voxels", "workers")
        }
        x = [r["n"] for r in of["showers"]]
        grid[0, 0].loglog(x, [r["cpu_s"] for r in of["showers"]], "o-", color=colour, label=verb)
        grid[1, 0].semilogx(x, [r["peak_mb"] / 1e3 for r in of["showers"]], "o-", color=colour, label=verb)
        groups = {"": of["voxels"]}
        if verb == "generate":
            groups = {", zoo": [r for r in of["voxels"] if r["model"].startswith("zoo:")]}
            groups[", untrained vae-gan"] = [r for r in of["voxels"] if not r["model"].startswith("zoo:")]
        for (name, rows), line in zip(groups.items(), ("o-", "s--"), strict=False):
            x = [VOXELS[r["detector"]] for r in rows]
            label = f"{verb}{name}"
            grid[0, 1].loglog(x, [each_ms(r) for r in rows], line, color=colour, label=label)
            grid[1, 1].semilogx(x, [r["peak_mb"] / 1e3 for r in rows], line, color=colour, label=label)
        alone = next((r["wall_s"] for r in of["workers"] if not r["workers"]), None)
        shared = [r for r in of["workers"] if r["workers"]]
        if alone and shared:
            x = [r["workers"] for r in shared]
            grid[0, 2].plot(x, [r["wall_s"] for r in shared], "o-", color=colour, label=verb)
            grid[0, 2].axhline(alone, color=colour, linestyle=":", linewidth=1)
            grid[1, 2].plot(x, [alone / r["wall_s"] for r in shared], "o-", color=colour, label=verb)
    _dress(grid)
    for panel in grid.flat:
        panel.set_visible(panel.has_data())  # what was not measured is not shown
    path.parent.mkdir(exist_ok=True)
    drawn.savefig(path, dpi=110, metadata={"Software": None})


def _dress(grid: Any) -> None:
    """Names of the axes, legends of what was measured, plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

    names = ("showers", "voxels of the detector", "Dask workers (dotted: one process)")
    units = (
        ("CPU seconds, start-up included", "CPU milliseconds a shower", "wall seconds, start-up included"),
        ("peak memory [GB]", "peak memory [GB]", "times faster than one process"),
    )
    for row in (0, 1):
        for column in (0, 1, 2):
            panel = grid[row, column]
            panel.set_xlabel(names[column])
            panel.set_ylabel(units[row][column])
            panel.grid(alpha=0.3)
            for line in [line for line in panel.lines if not len(line.get_xdata())]:
                line.remove()
            if panel.get_legend_handles_labels()[0]:
                if column == 1:
                    panel.set_ylim(top=panel.get_ylim()[1] * (20 if row == 0 else 1.35))  # room for the legend
                panel.legend(frameon=False, fontsize=8, loc="lower right" if (row, column) == (0, 2) else "upper left")
            if row or column == 2:
                panel.set_ylim(bottom=0)
            elif panel.lines:
                panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                panel.yaxis.set_major_formatter("{x:g}")
                panel.yaxis.set_minor_locator(NullLocator())
                panel.yaxis.set_minor_formatter(NullFormatter())
        grid[row, 2].set_xticks([1, 2, 4])


def publish(options: argparse.Namespace) -> None:
    """Put the tables into the page and draw the figure."""
    records = read(Path(options.results))
    if not any("wall_s" in r for r in records):
        raise SystemExit(f"'{options.results}' holds no measurement; run this without --tables first.")
    text = "\n".join(tables(records))
    page = PAGE.read_text()
    head, rest = page.split(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")
    figure(records, FIGURE)
    print(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", default="cost-curves.jsonl", help="where measurements are kept")
    parser.add_argument("--minutes", type=float, default=10.0, help="CPU that a point against showers may take")
    parser.add_argument("--only", nargs="+", help="verbs or axes, e.g. --only generate workers")
    for flag, about in (("again", "measure anew"), ("tables", "write tables and figure"), ("smoke", "small points")):
        parser.add_argument(f"--{flag}", action="store_true", help=about)
    parser.add_argument("--point", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        measure(*json.loads(options.point))
    elif options.tables:
        publish(options)
    else:
        run(options)


if __name__ == "__main__":
    main()
