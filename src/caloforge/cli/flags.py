"""Options that several verbs share, and what beam flags mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there already.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where a stopped run ended, if one did.")]
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
Particle = Annotated[str | None, typer.Option(help="gamma, e-, e+, mu-, pi+, pi-, K+, K-, K0L, p, n, ...")]
Tables = Annotated[str, typer.Option(help="Physics tables: auto, builtin, official or a directory.")]
Model = Annotated[str, typer.Argument(help="Trained model: a safetensors file, or zoo:NAME (see models).")]
ReferenceFile = Annotated[Path, typer.Argument(help="Shower or image file to compare with, e.g. Geant4's.")]
FastImages = Annotated[
    Path | None, typer.Option("--fast", "--like", help="For image files: the fast simulation's of the same events.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AllAsJson = Annotated[bool, typer.Option("--json", help="Print all that is known, as JSON.")]


def beam_options(
    particle: str | None, energy: str | None, spectrum: str | None, angle: str | None, position: str | None
) -> dict[str, Any]:
    """Beam arguments from flags; flags left out are left to the detector's default."""
    from ..parsing import parse_angles, parse_energies, parse_pair

    given: dict[str, Any] = {"particle": particle, "spectrum": spectrum}
    if energy is not None:
        given["energies_gev"] = parse_energies(energy)
    if angle is not None:
        given["tan_x"], given["tan_y"] = parse_angles(angle)
    if position is not None:
        given["x"], given["y"] = parse_pair(position, "--position")
    return given
