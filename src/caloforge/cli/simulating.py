"""Verbs that simulate: showers, collisions, and what a detector sees of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import CaloforgeError
from ..progress import bar
from .flags import (
    Angle,
    Dask,
    Energy,
    Overwrite,
    Particle,
    Position,
    Resume,
    Seed,
    Spectrum,
    Tables,
    Workers,
    beam_options,
)
from .terminal import show


def simulate(
    detector: Annotated[str, typer.Argument(help="A detector's name (see `caloforge detectors`) or TOML file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Shower file to write.")],
    n: Annotated[int, typer.Option("-n", help="Number of showers.")],
    particle: Particle = None,
    energy: Energy = None,
    spectrum: Spectrum = None,
    angle: Angle = None,
    position: Position = None,
    seed: Seed = 0,
    workers: Workers = 1,
    dask: Dask = None,
    tables: Tables = "auto",
    fast: Annotated[str | None, typer.Option(help="Replace showers by this model's: a checkpoint or zoo:NAME.")] = None,
    threshold: Annotated[float, typer.Option(help="Energy in GeV from which --fast replaces.")] = 1.0,
    entrance: Annotated[float, typer.Option(help="Depth in mm where --fast replaces; slabs before it stay.")] = 0.0,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Simulate showers with Geant4."""
    from ..beam import Beam
    from ..detectors import Detector
    from ..simulation import FastRequest
    from ..simulation import simulate as run

    request = None if fast is None else FastRequest(fast, threshold * 1000, entrance)
    chosen = Detector.load(detector)
    beam = Beam.of(chosen, **beam_options(particle, energy, spectrum, angle, position))
    with bar("simulating", "showers") as progress:
        run(
            chosen, n, output, beam=beam, seed=seed, workers=workers, dask=dask, tables=tables, fast=request,
            resume=resume, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    show(f"{n} showers of {chosen.name} in {output}")


def simulate_events(
    process: Annotated[str, typer.Argument(help="dijet or wjet.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Event file to write.")],
    n: Annotated[int, typer.Option("-n", help="Number of events.")],
    seed: Seed = 0,
    workers: Workers = 1,
    dask: Dask = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Simulate proton collisions with Pythia 8."""
    from ..events import simulate_events as run

    with bar("simulating", "events") as progress:
        run(
            process, n, output, seed=seed, workers=workers, dask=dask, resume=resume, overwrite=overwrite,
            progress=progress,
        )  # fmt: skip
    show(f"{n} {process} events in {output}")


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
    dask: Dask = None,
    tables: Tables = "auto",
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Simulate a library of showers with Geant4, for the full side of events-to-images."""
    from ..events import Reuse, build_library

    with bar("simulating", "showers") as progress:
        build_library(
            events, output, detector=detector, n=n, reuse=Reuse.around(reuse), grow=grow, seed=seed, workers=workers,
            dask=dask, tables=tables, resume=resume, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    show(f"library in {output}")


def events_to_images(
    events: Annotated[Path, typer.Argument(help="Event file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Image file to write.")],
    fast: Annotated[bool, typer.Option("--fast", help="Towers that answer by formula, as in Delphes.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Geant4 showers; needs --library.")] = False,
    library: Annotated[Path | None, typer.Option(help="Library of showers (see shower-library).")] = None,
    calibration: Annotated[
        str | None, typer.Option(help="Full: a detector or library whose calibration to use, for older libraries.")
    ] = None,
    n: Annotated[int | None, typer.Option("-n", help="Number of events, from the first; all by default.")] = None,
    skip: Annotated[int, typer.Option(help="Leave out so many of these, from the first.")] = 0,
    seed: Seed = 0,
    smearing: Annotated[str | None, typer.Option(help="Fast: log-normal (default), gaussian or none.")] = None,
    significance: Annotated[float | None, typer.Option(help="Fast: least resolutions of a tower; 1.")] = None,
    ecal_min: Annotated[float | None, typer.Option(help="Least energy of an ECAL tower, GeV.")] = None,
    hcal_min: Annotated[float | None, typer.Option(help="Least energy of an HCAL tower, GeV.")] = None,
    ecal_noise: Annotated[float | None, typer.Option(help="Noise of an ECAL tower, GeV; 0.")] = None,
    hcal_noise: Annotated[float | None, typer.Option(help="Noise of an HCAL tower, GeV; 0.")] = None,
    dask: Dask = None,
    overwrite: Overwrite = False,
) -> None:
    """Make eta-phi images of events, by formula or with Geant4 showers."""
    from ..events import events_to_images as run

    if fast == full:
        raise CaloforgeError("say which images to make; give one of --fast and --full.")
    with bar("imaging", "events") as progress:
        made = run(
            events, output, "fast" if fast else "full", library=library, calibration=calibration, n=n, skip=skip,
            seed=seed, smearing=smearing, significance=significance, minimum=(ecal_min, hcal_min),
            noise=(ecal_noise, hcal_noise), dask=dask, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    reuse = f", each shower used {made['reuse_factor']:.1f} times" if made["reuse_factor"] else ""
    show(f"images in {output}, {made['seconds_per_event']:.3g} CPU s an event{reuse}")
