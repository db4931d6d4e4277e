"""The tour: live Geant4 showers, a model trained on a shipped sample, 10 000 generated showers, a report, one table."""

from __future__ import annotations

import shutil
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .beam import Beam
from .detectors import Detector
from .errors import CaloforgeError
from .evaluation import evaluate
from .generation import generate
from .progress import bar
from .samples import DEMO_CONFIG, sample
from .shower_file import ShowerFile
from .simulation import simulate
from .training import train

if TYPE_CHECKING:
    from rich.console import RenderableType

LIVE_SHOWERS = 300
GENERATED_SHOWERS = 10_000
_MADE = {"live.h5", "live.h5.parts", "run", "generated.h5", "report"}


def demo(
    output: str | Path,
    *,
    workers: int = 2,
    overwrite: bool = False,
    n: int = GENERATED_SHOWERS,
    live: int = LIVE_SHOWERS,
    overrides: tuple[str, ...] = (),
    repeats: int = 3,
) -> RenderableType:
    """Go from nothing to a validated generator of lhcb-ecal showers in a few minutes.

    Args:
        output: folder to make; it will hold the showers, the trained model and the report.
        workers: processes that simulate side by side.
        overwrite: replace what an earlier demo left in the folder.
        n: showers to generate.
        live: showers to simulate.
        overrides: changes to the demo's training configuration.
        repeats: trainings of each classifier of the evaluation.

    Returns:
        The closing table.

    Raises:
        CaloforgeError: if the folder holds something already or a step fails.
    """
    folder = _folder(Path(output), overwrite)
    detector = Detector.load("lhcb-ecal")
    test = sample("lhcb-ecal-test")
    began = time.monotonic()
    with bar("1/4 Geant4", "showers") as progress:
        simulate(detector, live, folder / "live.h5", seed=3, workers=workers, progress=progress)
    with bar("2/4 training", "iterations") as progress:
        data = sample("lhcb-ecal-train")
        model = train(DEMO_CONFIG, data, folder / "run", overrides=overrides, device="cpu", progress=progress)
    with bar("3/4 generating", "showers") as progress:
        incident = Beam.of(detector).draw(n, seed=4)
        generate(model, folder / "generated.h5", incident, seed=5, device="cpu", progress=progress)
    with bar("4/4 evaluating", "steps") as progress:
        report = evaluate(test, folder / "generated.h5", folder / "report", repeats=repeats, progress=progress)
    minutes = (time.monotonic() - began) / 60
    return _closing(folder, report.to_dict(), report.path, minutes)


def _folder(folder: Path, overwrite: bool) -> Path:
    held = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
    if folder.exists() and not folder.is_dir():
        raise CaloforgeError(f"'{folder}' is a file; give the name of a folder for the demo.")
    if held and (not overwrite or held - _MADE):
        raise CaloforgeError(
            f"'{folder}' holds something already; give another folder, or --overwrite an older demo's."
        )
    for name in held:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _closing(folder: Path, report: dict[str, Any], page: Path, minutes: float) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    speed = Table("", "Geant4", "model", title="CPU ms per shower in this run", title_justify="left")
    geant4, model = (_milliseconds(folder / name) for name in ("live.h5", "generated.h5"))
    speed.add_row("ms per shower", f"{geant4:.1f}", f"{model:.3f}")
    speed.add_row("ratio", "", f"{geant4 / model:.0f} x faster")
    trust = Table("classifier", "AUC", "floor (Geant4 against itself)", title="0.5: cannot be told from Geant4")
    for found in report["classifiers"].values():
        trust.add_row(found["label"], *(_with_error(found[key]) for key in ("auc", "floor")))
    where = Text(f"report: {page} (open it in a browser); the whole demo took {minutes:.1f} minutes", overflow="fold")
    return Group(_response(report["response"]), speed, trust, where)


def _response(response: dict[str, Any]) -> RenderableType:
    from rich.table import Table

    table = Table(
        "energy [GeV]", "mean Geant4", "mean model", "σ/mean Geant4", "σ/mean model",
        title="Response: visible over incident energy", title_justify="left",
    )  # fmt: skip
    edges = [e / 1000 for e in response["edges_mev"]]
    sides = response["reference"], response["generated"]
    for i, (low, high) in enumerate(pairwise(edges)):
        cells = [_cell(side, key, i) for key in ("mean", "resolution") for side in sides]
        table.add_row(f"{low:.3g}-{high:.3g}", *cells)
    return table


def _cell(side: dict[str, Any], key: str, row: int) -> str:
    value, error = side[key][row], side[f"{key}_error"][row]
    return "too few" if value is None else f"{value:.3f}±{error:.3f}"


def _with_error(found: dict[str, Any]) -> str:
    return f"{found['value']:.3f} ± {found['error']:.3f}"


def _milliseconds(path: Path) -> float:
    with ShowerFile(path) as file:
        return 1e3 * float(file.provenance["seconds_per_shower"])
