"""The command line: parse, call, show progress. No logic of its own; heavy imports wait until a verb needs them."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer

from . import __version__
from .errors import CaloforgeError, CaloforgeWarning
from .progress import bar, no_bars

P = ParamSpec("P")
R = TypeVar("R")

app = typer.Typer(
    name="caloforge",
    help="Fast simulation of calorimeter showers: simulate, train, generate, evaluate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there already.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where a stopped run ended.")]
Workers = Annotated[int, typer.Option(help="Processes that simulate side by side.")]
Dask = Annotated[
    str | None,
    typer.Option(
        metavar="SCHEDULER", help="Share the work out: tcp://host:8786, a scheduler file, or local:N (docs/cluster.md)."
    ),
]
Seed = Annotated[int, typer.Option(help="The same seed gives the same result.")]
Position = Annotated[str | None, typer.Option(help="Incident point X,Y in mm; each a value or lo:hi.")]
Angle = Annotated[
    str | None,
    typer.Option(help="Projected angles THETA_X,THETA_Y in rad; each a value or lo:hi (uniform in the tangent)."),
]
Energy = Annotated[str | None, typer.Option(help="GeV: one value, lo:hi, or with --spectrum discrete a,b,c.")]
Repeats = Annotated[int | None, typer.Option(help="Trainings of each classifier: 5, with --quick 2.")]
MaxShowers = Annotated[int | None, typer.Option(help="Use at most so many of each file.")]
Quick = Annotated[bool, typer.Option("--quick", help="A first look: fewer and smaller trainings, rougher errors.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Measure and train anew, remember nothing.")]
Spectrum = Annotated[str | None, typer.Option(help="uniform, log-uniform or discrete.")]


def reported(verb: Callable[P, R]) -> Callable[P, R]:
    """Turn what a user can cause into one sentence and an exit code: 2 for mistakes, 130 for Ctrl-C."""

    @wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        warnings.showwarning = _show_warning
        try:
            return verb(*args, **kwargs)
        except CaloforgeError as error:
            _say(f"error: {error}")
            raise typer.Exit(2) from None
        except KeyboardInterrupt as stop:
            _say(str(stop) or "stopped; unfinished work is kept where it can be: run again with --resume.")
            raise typer.Exit(130) from None
        except OSError as error:
            # A full disk or a vanished folder is nobody's bug; its name and reason are the whole story.
            name, why = error.filename or "a file", error.strerror or error
            _say(f"error: {name} cannot be used ({why}); check place and space.")
            raise typer.Exit(2) from None

    return run


def _say(text: str) -> None:
    print(f"caloforge: {text}", file=sys.stderr)


def _show_warning(message: Warning | str, category: type[Warning], *rest: Any, **named: Any) -> None:
    if issubclass(category, CaloforgeWarning):
        _say(f"warning: {message}")


def _print(rendered: object) -> None:
    from rich.console import Console

    Console().print(rendered)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"caloforge {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Fast simulation of calorimeter showers."""


@app.command()
@reported
def simulate(
    detector: Annotated[str, typer.Argument(help="A detector's name (see `caloforge detectors`) or TOML file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Shower file to write.")],
    n: Annotated[int, typer.Option("-n", help="Number of showers.")],
    particle: Annotated[str | None, typer.Option(help="gamma, e-, e+, mu-, pi+, pi-, K+, K-, K0L, p, n, ...")] = None,
    energy: Energy = None,
    spectrum: Spectrum = None,
    angle: Angle = None,
    position: Position = None,
    seed: Seed = 0,
    workers: Workers = 1,
    dask: Dask = None,
    tables: Annotated[str, typer.Option(help="Physics tables: auto, builtin, official or a directory.")] = "auto",
    fast: Annotated[str | None, typer.Option(help="Replace showers by this model's: a checkpoint or zoo:NAME.")] = None,
    threshold: Annotated[float, typer.Option(help="Energy in GeV from which --fast replaces.")] = 1.0,
    entrance: Annotated[float, typer.Option(help="Depth in mm where --fast replaces; slabs before it stay.")] = 0.0,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Simulate showers with Geant4."""
    from .beam import Beam
    from .detectors import Detector
    from .simulation import FastRequest
    from .simulation import simulate as run

    request = None if fast is None else FastRequest(fast, threshold * 1000, entrance)
    chosen = Detector.load(detector)
    beam = Beam.of(chosen, **_beam_options(particle, energy, spectrum, angle, position))
    with bar("simulating", "showers") as progress:
        run(
            chosen, n, output, beam=beam, seed=seed, workers=workers, dask=dask, tables=tables, fast=request,
            resume=resume, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    _print(f"{n} showers of {chosen.name} in {output}")


def _beam_options(
    particle: str | None, energy: str | None, spectrum: str | None, angle: str | None, position: str | None
) -> dict[str, Any]:
    """Beam arguments from flags; flags left out are left to the detector's default."""
    from .parsing import parse_angles, parse_energies, parse_pair

    given: dict[str, Any] = {"particle": particle, "spectrum": spectrum}
    if energy is not None:
        given["energies_gev"] = parse_energies(energy)
    if angle is not None:
        given["tan_x"], given["tan_y"] = parse_angles(angle)
    if position is not None:
        given["x"], given["y"] = parse_pair(position, "--position")
    return given


@app.command("simulate-events")
@reported
def simulate_events(
    process: Annotated[str, typer.Argument(help="dijet or wjet.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Event file to write.")],
    n: Annotated[int, typer.Option("-n", help="Number of events.")],
    seed: Seed = 0,
    workers: Workers = 1,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Simulate proton collisions with Pythia 8."""
    from .events import simulate_events as run

    with bar("simulating", "events") as progress:
        run(process, n, output, seed=seed, workers=workers, resume=resume, overwrite=overwrite, progress=progress)
    _print(f"{n} {process} events in {output}")


@app.command("shower-library")
@reported
def shower_library(
    events: Annotated[list[Path], typer.Argument(help="Event files to make showers for.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Library to write.")],
    n: Annotated[
        int | None, typer.Option("-n", help="Events of each file that will be mapped; all by default.")
    ] = None,
    detector: Annotated[str, typer.Option(help="A detector's name or TOML file.")] = "cms-like",
    grow: Annotated[Path | None, typer.Option(help="Library to take over: only what it lacks is simulated.")] = None,
    reuse: Annotated[float, typer.Option(help="How often showers may be used, at |eta| under 3.")] = 18.0,
    seed: Seed = 0,
    workers: Workers = 1,
    tables: Annotated[str, typer.Option(help="Physics tables: auto, builtin, official or a directory.")] = "auto",
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Simulate a library of showers with Geant4, for the full side of events-to-images."""
    from .events import Reuse, build_library

    with bar("simulating", "showers") as progress:
        build_library(
            events, output, detector=detector, n=n, reuse=Reuse.around(reuse), grow=grow, seed=seed, workers=workers,
            tables=tables, resume=resume, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    _print(f"library in {output}")


@app.command("events-to-images")
@reported
def events_to_images(
    events: Annotated[Path, typer.Argument(help="Event file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Image file to write.")],
    fast: Annotated[bool, typer.Option("--fast", help="Towers that answer by formula, as in Delphes.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Geant4 showers; needs --library.")] = False,
    library: Annotated[Path | None, typer.Option(help="Library of showers (see shower-library).")] = None,
    n: Annotated[int | None, typer.Option("-n", help="Number of events, from the first; all by default.")] = None,
    seed: Seed = 0,
    smearing: Annotated[str | None, typer.Option(help="Fast: log-normal (default), gaussian or none.")] = None,
    significance: Annotated[float | None, typer.Option(help="Fast: least resolutions of a tower; 1.")] = None,
    ecal_min: Annotated[float | None, typer.Option(help="Least energy of an ECAL tower, GeV.")] = None,
    hcal_min: Annotated[float | None, typer.Option(help="Least energy of an HCAL tower, GeV.")] = None,
    ecal_noise: Annotated[float | None, typer.Option(help="Noise of an ECAL tower, GeV; 0.")] = None,
    hcal_noise: Annotated[float | None, typer.Option(help="Noise of an HCAL tower, GeV; 0.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Make eta-phi images of events, by formula or with Geant4 showers."""
    from .events import events_to_images as run

    if fast == full:
        raise CaloforgeError("say which images to make; give one of --fast and --full.")
    with bar("imaging", "events") as progress:
        made = run(
            events, output, "fast" if fast else "full", library=library, n=n, seed=seed, smearing=smearing,
            significance=significance, minimum=(ecal_min, hcal_min), noise=(ecal_noise, hcal_noise),
            overwrite=overwrite, progress=progress,
        )  # fmt: skip
    reuse = f", each shower used {made['reuse_factor']:.1f} times" if made["reuse_factor"] else ""
    _print(f"images in {output}, {made['seconds_per_event']:.3g} CPU s an event{reuse}")


@app.command()
@reported
def train(
    config: Annotated[Path, typer.Argument(help="Training configuration (TOML).")],
    data: Annotated[list[Path], typer.Option(help="Shower file to learn from, or full images; several allowed.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Run folder to make.")],
    like: Annotated[
        list[Path] | None, typer.Option(help="Fast images, one file for each --data, for models of image pairs.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override, e.g. --set training.batch_size=64.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    devices: Annotated[int, typer.Option(help="Devices or processes to train on; torchrun starts them itself.")] = 1,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a model on showers."""
    from .training import train as run
    from .training.launched import Launch

    launch = Launch.found()
    first = launch is None or launch.rank == 0  # the others have nothing to show
    with (bar if first else no_bars)("training", "iterations") as progress:
        checkpoint = run(
            config, data, output, like=like or [], overrides=set_ or [], device=device, devices=devices,
            resume=resume, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    if first:
        _print(f"trained model in {checkpoint}")


@app.command()
@reported
def generate(
    checkpoint: Annotated[str, typer.Argument(help="Trained model: a safetensors file, or zoo:NAME (see models).")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Shower file to write.")],
    n: Annotated[int | None, typer.Option("-n", help="Number of showers.")] = None,
    like: Annotated[
        Path | None,
        typer.Option(help="Take the incident particles of this shower file, or start from its fast images."),
    ] = None,
    particle: Annotated[str | None, typer.Option(help="gamma, e-, e+, mu-, pi+, pi-, K+, K-, K0L, p, n, ...")] = None,
    energy: Energy = None,
    spectrum: Spectrum = None,
    angle: Angle = None,
    position: Position = None,
    seed: Seed = 0,
    batch: Annotated[int, typer.Option(help="Showers made at once; changes speed and memory only.")] = 1000,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    dask: Dask = None,
    backend: Annotated[
        str | None, typer.Option(help="eager, numba, compile, onnxruntime, or auto: the fastest that gives the same.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Generate showers with a trained model."""
    from .beam import Beam
    from .checkpoint import Checkpoint
    from .checkpoint_file import checkpoint_kind
    from .generation import generate as run
    from .zoo import find_checkpoint

    flags = {"-n": n, "--particle": particle, "--energy": energy, "--spectrum": spectrum, "--angle": angle}
    beam_flags = [name for name, value in {**flags, "--position": position}.items() if value is not None]
    if like is not None and [f for f in beam_flags if f != "-n"]:
        raise CaloforgeError(
            f"{beam_flags[-1]} was given with --like, which takes all from its file; leave one of them out."
        )
    if checkpoint_kind(find_checkpoint(checkpoint)) == "images":
        if backend is not None:
            raise CaloforgeError(f"'{checkpoint}' makes images of events, which have one backend; leave out --backend.")
        how: dict[str, Any] = {"n": n, "seed": seed, "batch": batch, "device": device, "dask": dask}
        how["overwrite"] = overwrite
        _generate_images(checkpoint, output, like, how)
        return
    if like is not None:
        from .shower_file import ShowerFile

        with ShowerFile(like) as file:
            incident = file.incident(0, n)
    else:
        trained = Checkpoint.load(checkpoint)
        wanted = _beam_options(particle, energy, spectrum, angle, position)
        incident = Beam.of(trained.detector, domain=trained.domain, **wanted).draw(_number(n), seed)
    with bar("generating", "showers") as progress:
        run(
            checkpoint, output, incident, seed=seed, batch=batch, device=device, backend=backend or "eager", dask=dask,
            overwrite=overwrite, progress=progress,
        )  # fmt: skip
    _print(f"{len(incident)} showers in {output}")


def _generate_images(checkpoint: str, output: Path, like: Path | None, how: dict[str, Any]) -> None:
    """Draw full images from fast ones."""
    from .generation import generate_images

    if like is None:
        raise CaloforgeError(
            f"'{checkpoint}' turns fast images of events into full ones; give the fast image file with --like FAST.h5."
        )
    with bar("generating", "images") as progress:
        generate_images(checkpoint, output, like, progress=progress, **how)
    _print(f"images in {output}")


def _number(n: int | None) -> int:
    if n is None or n < 1:
        raise CaloforgeError("the number of showers is missing; give -n with at least 1, or --like FILE.")
    return n


@app.command()
@reported
def export(
    checkpoint: Annotated[str, typer.Argument(help="Trained model: a safetensors file, or zoo:NAME (see models).")],
    output: Annotated[Path, typer.Option("-o", "--output", help="ONNX file to write.")],
    layout: Annotated[
        str, typer.Option(help="caloforge (noise, energy in MeV, conditions) or par04 (for Geant4's example).")
    ] = "caloforge",
    overwrite: Overwrite = False,
) -> None:
    """Write a trained model as an ONNX file that runs without caloforge."""
    from .generation import export as run

    run(checkpoint, output, layout=layout, overwrite=overwrite)
    _print(f"ONNX model in {output}")


@app.command()
@reported
def evaluate(
    reference: Annotated[Path, typer.Argument(help="Shower or image file to compare with, e.g. Geant4's.")],
    generated: Annotated[Path, typer.Argument(help="File to judge.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Report folder to make.")],
    fast: Annotated[
        Path | None, typer.Option("--fast", "--like", help="For image files: the fast simulation's of the same events.")
    ] = None,
    again: Annotated[
        list[Path] | None, typer.Option(help="For image files: generated with another seed, for the spread.")
    ] = None,
    seed: Seed = 0,
    repeats: Repeats = None,
    max_showers: MaxShowers = None,
    quick: Quick = False,
    no_cache: NoCache = False,
    dask: Dask = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json, and nothing else, on stdout.")] = False,
    standard: Annotated[
        str | None, typer.Option(help="Score by this standard instead and write standard.json: calochallenge.")
    ] = None,
    parts: Annotated[
        str | None, typer.Option(help="Of the standard: separation,fpd,kpd,prdc,high,low,resnet (all), normed.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Of the standard's networks; 50 is official.")] = None,
    device: Annotated[str | None, typer.Option(help="Of the standard's networks: auto, cpu, cuda.")] = None,
    double: Annotated[
        bool | None, typer.Option("--double", help="Train the standard's voxel networks in float64, as is official.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Compare two samples and write a report."""
    how = {"parts": parts and parts.split(","), "epochs": epochs, "device": device, "double": double}
    given: dict[str, Any] = {name: value for name, value in how.items() if value is not None}
    if standard is not None:
        if quick:
            raise CaloforgeError("--quick and --standard were given; leave one out, or choose fewer --parts.")
        if repeats is not None:
            given["repeats"] = repeats
        _evaluate_standard(
            reference, generated, output, as_json, standard=standard, seed=seed, max_showers=max_showers, dask=dask,
            overwrite=overwrite, **given,
        )  # fmt: skip
        return
    if given:
        raise CaloforgeError(f"--{min(given)} was given without --standard; leave it out or add --standard.")
    from .evaluation import evaluate as run

    with bar("evaluating", "steps") as progress:
        report = run(
            reference, generated, output, seed=seed, repeats=repeats, max_showers=max_showers, quick=quick,
            cache=not no_cache, dask=dask, overwrite=overwrite, fast=fast, again=again or [], progress=progress,
        )  # fmt: skip
    if as_json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        _print(report.summary())
        _print(f"report in {report.path}")


def _evaluate_standard(reference: Path, generated: Path, output: Path, as_json: bool, **how: Any) -> None:
    """Score by a standard and print the table or the JSON."""
    from .evaluation.benchmark import evaluate_standard, standard_table

    with bar("evaluating", "percent") as progress:
        found = evaluate_standard(reference, generated, output, progress=progress, **how)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _print(standard_table(found))
        _print(f"scores in {output / 'standard.json'}")


@app.command()
@reported
def compare(
    reference: Annotated[Path, typer.Argument(help="Shower or image file to compare with, e.g. Geant4's.")],
    generated: Annotated[list[Path], typer.Argument(help="Files to rank.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for compare.json.")] = None,
    fast: Annotated[
        Path | None, typer.Option("--fast", "--like", help="For image files: the fast simulation's of the same events.")
    ] = None,
    seed: Seed = 0,
    repeats: Repeats = None,
    max_showers: MaxShowers = None,
    quick: Quick = False,
    no_cache: NoCache = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print compare.json instead of the table.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Rank several samples against one reference, with the significance of every difference."""
    from .evaluation import compare as run

    with bar("comparing", "steps") as progress:
        ranking = run(
            reference, generated, output, fast=fast, seed=seed, repeats=repeats, max_showers=max_showers, quick=quick,
            cache=not no_cache, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    if as_json:
        print(json.dumps(ranking.to_dict(), indent=2))
    else:
        _print(ranking.table())


@app.command()
@reported
def convert(
    source: Annotated[Path, typer.Argument(help="File of showers, events or towers; its content tells its layout.")],
    target: Annotated[Path, typer.Argument(help="File to write.")],
    format_: Annotated[str | None, typer.Option("--format", help="caloforge or calochallenge.")] = None,
    detector: Annotated[str | None, typer.Option(help="Detector, if the content does not tell.")] = None,
    particle: Annotated[str | None, typer.Option(help="Incident particle, if the content does not tell.")] = None,
    side: Annotated[str, typer.Option(help="Of towers: fast, full, generated or external.")] = "external",
    process: Annotated[str, typer.Option(help="Of events and towers: what they show, e.g. dijet.")] = "",
    unit: Annotated[str | None, typer.Option(help="Of towers: MeV or GeV.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Read showers, events or towers of other groups, or write their showers."""
    from .convert import convert as run

    with bar("converting", "items") as progress:
        done = run(
            source, target, format=format_, detector=detector, particle=particle, side=side, process=process, unit=unit,
            overwrite=overwrite, progress=progress,
        )  # fmt: skip
    what = next(name for name in ("showers", "events", "images") if name in done)
    _print(f"{done[what]} {what} read as {done['reader']}, written to {target}")


@app.command()
@reported
def info(
    file: Annotated[Path, typer.Argument(help="A file of showers, events or images, or a trained model.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell a file's whole story on one screen."""
    from .convert import describe, render

    described = describe(file)
    if as_json:
        print(json.dumps(described, indent=2))
    else:
        _print(render(described))


@app.command()
@reported
def detectors(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the detectors that ship with the package."""
    from .detectors import DETECTORS, Detector

    found = [Detector.load(name) for name in DETECTORS]
    if as_json:
        print(json.dumps({d.name: {"shape": d.shape, "voxels": d.n_voxels, "about": d.description} for d in found}))
    else:
        _table(
            ("detector", "voxels", "particles", "about"),
            [(d.name, " x ".join(map(str, d.shape)), _particles(d), d.description) for d in found],
        )


def _particles(detector: Any) -> str:
    known = detector.particles
    if known is None:
        return "read-out only"
    low, high = known.energy_gev
    return f"{', '.join(known.kinds)}\n{low:g}-{high:g} GeV"


@app.command()
@reported
def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print all that is known, as JSON.")] = False,
) -> None:
    """List the models, their papers and the trained checkpoints that ship with caloforge."""
    from .catalogue import catalogue, table

    found = catalogue()
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        _print(table(found))


@app.command()
@reported
def bench(
    models: Annotated[
        list[str] | None, typer.Argument(help="Checkpoints or zoo:NAME; all of the zoo by default.")
    ] = None,
    energy: Annotated[float, typer.Option(help="Of the incident particles, GeV.")] = 50.0,
    batch: Annotated[str, typer.Option(help="Numbers of showers in one request.")] = "1,10,100,1000",
    backend: Annotated[
        str | None, typer.Option(help="eager,numba,onnxruntime,compile; the first three by default, where installed.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    threads: Annotated[int, typer.Option(help="Threads of torch and ONNX Runtime.")] = 1,
    repeats: Annotated[int, typer.Option(help="Of each request.")] = 7,
    geant4: Annotated[bool, typer.Option("--geant4/--no-geant4", help="Simulate in the same detectors too.")] = True,
    n: Annotated[int, typer.Option("-n", help="Geant4 showers in each detector.")] = 20,
    tables: Annotated[str, typer.Option(help="Physics tables: auto, builtin, official or a directory.")] = "auto",
    csv: Annotated[Path | None, typer.Option(help="CSV file to write.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Time models beside Geant4 and beside what the machine can do."""
    from .bench import bench as run
    from .bench import bench_table, write_csv
    from .output import check_output
    from .parsing import parse_counts

    if csv is not None:
        check_output(csv, overwrite=overwrite)
    batches, backends = parse_counts(batch, "--batch"), backend.split(",") if backend else None
    with bar("timing", "steps") as progress:
        found = run(
            models or [], energy=energy, batches=batches, backends=backends, device=device, n_threads=threads,
            repeats=repeats, geant4=geant4, geant4_showers=n, tables=tables, progress=progress,
        )  # fmt: skip
    if csv is not None:
        write_csv(found, csv, overwrite=overwrite)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        _print(bench_table(found))


datasets_app = typer.Typer(
    help="Public datasets by name: list them, download and convert them.", invoke_without_command=True
)
app.add_typer(datasets_app, name="datasets")


@datasets_app.callback()
@reported
def datasets(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print all that is known, as JSON.")] = False,
) -> None:
    """Public datasets by name: list them, download and convert them."""
    if context.invoked_subcommand is None:
        list_datasets(as_json)


@datasets_app.command("list")
@reported
def list_datasets(
    as_json: Annotated[bool, typer.Option("--json", help="Print all that is known, as JSON.")] = False,
) -> None:
    """List the public datasets."""
    from .datasets import listing, table

    if as_json:
        print(json.dumps(listing(), indent=1))
    else:
        _print(table())


@datasets_app.command("get")
@reported
def get_dataset(
    name: Annotated[str, typer.Argument(help="A dataset's name (see `caloforge datasets`).")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder to put it in; by default one of its name.")
    ] = None,
    part: Annotated[list[str] | None, typer.Option(help="train, evaluation or a file's name; repeatable.")] = None,
    keep: Annotated[bool, typer.Option("--keep/--no-keep", help="Keep the published files beside ours.")] = True,
    detector: Annotated[str | None, typer.Option(help="Detector, if the files do not tell.")] = None,
    mirror: Annotated[
        str | None, typer.Option(help="Address instead of https://zenodo.org and the like [CALOFORGE_MIRROR].")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Download a public dataset and convert it; run again, it goes on where it ended."""
    from .datasets import get

    for done in get(
        name, output, parts=part or (), keep=keep, detector=detector, mirror=mirror, overwrite=overwrite, bars=bar
    ):
        _print(str(done))


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.table import Table

    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*row)
    _print(table)


@app.command()
@reported
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to make.")] = Path("demo-run"),
    workers: Workers = 2,
    overwrite: Overwrite = False,
) -> None:
    """From nothing to a validated generator: Geant4, a trained model, a report."""
    from .demo import demo as run

    _print(run(output, workers=workers, overwrite=overwrite))


def main() -> None:
    """Entry point of the `caloforge` command."""
    app()


if __name__ == "__main__":
    main()
