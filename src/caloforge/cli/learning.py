"""Verbs of trained models: train one, generate with it, hand it to others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import CaloforgeError
from ..progress import bar, no_bars
from .flags import Angle, Dask, Energy, Model, Overwrite, Particle, Position, Resume, Seed, Spectrum, beam_options
from .terminal import say_what_is_compiled, show


def train(
    config: Annotated[Path, typer.Argument(help="Training configuration (TOML).")],
    data: Annotated[list[Path], typer.Option(help="Shower file to learn from, or full images; several allowed.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Run folder to make.")],
    like: Annotated[
        list[Path] | None, typer.Option(help="Fast images, one file for each --data, for models of image pairs.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Begin with the weights of this trained model, or zoo:NAME.")
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
    from ..training import train as run
    from ..training.launched import Launch

    launch = Launch.found()
    first = launch is None or launch.rank == 0  # the others have nothing to show
    with (bar if first else no_bars)("training", "iterations") as progress:
        checkpoint = run(
            config, data, output, like=like or [], start=start, overrides=set_ or [], device=device, devices=devices,
            resume=resume, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    if first:
        show(f"trained model in {checkpoint}")


def generate(
    checkpoint: Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="Shower file to write.")],
    n: Annotated[int | None, typer.Option("-n", help="Number of showers.")] = None,
    like: Annotated[
        Path | None,
        typer.Option(help="Take the incident particles of this shower file, or start from its fast images."),
    ] = None,
    particle: Particle = None,
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
    from ..beam import Beam
    from ..checkpoint import Checkpoint
    from ..checkpoint_file import checkpoint_kind
    from ..generation import generate as run
    from ..zoo import find_checkpoint

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
        from ..shower_file import ShowerFile

        with ShowerFile(like) as file:
            incident = file.incident(0, n)
    else:
        trained = Checkpoint.load(checkpoint)
        wanted = beam_options(particle, energy, spectrum, angle, position)
        incident = Beam.of(trained.detector, domain=trained.domain, **wanted).draw(_number(n), seed)
    say_what_is_compiled([backend or "eager"])
    with bar("generating", "showers") as progress:
        run(
            checkpoint, output, incident, seed=seed, batch=batch, device=device, backend=backend or "eager", dask=dask,
            overwrite=overwrite, progress=progress,
        )  # fmt: skip
    show(f"{len(incident)} showers in {output}")


def _generate_images(checkpoint: str, output: Path, like: Path | None, how: dict[str, Any]) -> None:
    """Draw full images from fast ones."""
    from ..generation import generate_images

    if like is None:
        raise CaloforgeError(
            f"'{checkpoint}' turns fast images of events into full ones; give the fast image file with --like FAST.h5."
        )
    with bar("generating", "images") as progress:
        generate_images(checkpoint, output, like, progress=progress, **how)
    show(f"images in {output}")


def _number(n: int | None) -> int:
    if n is None or n < 1:
        raise CaloforgeError("the number of showers is missing; give -n with at least 1, or --like FILE.")
    return n


def export(
    checkpoint: Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="ONNX file to write.")],
    layout: Annotated[
        str, typer.Option(help="caloforge (noise, energy in MeV, conditions) or par04 (for Geant4's example).")
    ] = "caloforge",
    overwrite: Overwrite = False,
) -> None:
    """Write a trained model as an ONNX file that runs without caloforge."""
    from ..generation import export as run

    run(checkpoint, output, layout=layout, overwrite=overwrite)
    show(f"ONNX model in {output}")
