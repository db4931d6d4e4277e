"""Images of a file of events by name of the side: the calorimeters with the options a user gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from ..cluster import Address
from ..errors import CaloforgeError, lookup
from ..progress import Progress, silent
from .calibration import calibrate_as
from .fast import FastCalorimeter
from .full import FullCalorimeter
from .imaging import write_images
from .library import ShowerLibrary
from .towers import Readout

GEV = 1000.0  # MeV
Pair = tuple[float | None, float | None]
SMEARINGS: dict[str, Literal["log-normal", "gaussian", "none"]] = {
    "log-normal": "log-normal", "gaussian": "gaussian", "none": "none",
}  # fmt: skip
_MINIMUM = {"fast": (0.5, 1.0), "full": (0.2, 0.7)}


def events_to_images(
    events: str | Path,
    output: str | Path,
    side: Literal["fast", "full"],
    *,
    library: str | Path | None = None,
    calibration: str | Path | None = None,
    n: int | None = None,
    skip: int = 0,
    seed: int = 0,
    smearing: str | None = None,
    significance: float | None = None,
    minimum: Pair = (None, None),
    noise: Pair = (None, None),
    dask: Address | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Make images of the events of a file.

    Args:
        events: event file.
        output: image file to write.
        side: "fast" for towers that answer by formula, "full" for Geant4 showers.
        library: library of Geant4 showers, for the full side.
        calibration: detector or library whose calibration is used instead of that library's own.
        n: number of the last event and all before it; all if left out.
        skip: leave out so many of these, from the first; the others' images are the same.
        seed: the same seed gives the same images.
        smearing: of the fast side, a name of `SMEARINGS`.
        significance: least energy of the fast side's towers in resolutions.
        minimum: least energies of electromagnetic and hadronic towers, GeV.
        noise: of electromagnetic and hadronic towers, GeV.
        dask: the scheduler of a cluster that makes them instead, see `caloforge.cluster`; the images are the same.
        overwrite: whether an existing output may be replaced.
        progress: told after each few events.

    Returns:
        The provenance written.

    Raises:
        CaloforgeError: if an option does not belong to the side, or a file cannot be read or written.
    """
    least = [default if given is None else given for given, default in zip(minimum, _MINIMUM[side], strict=True)]
    sigma = 1.0 if significance is None else significance
    ecal, hcal = (
        Readout(m * GEV, sigma if side == "fast" else 0.0, (s or 0.0) * GEV) for m, s in zip(least, noise, strict=True)
    )
    notes: dict[str, Any] = {"minimum_gev": least, "noise_gev": [s or 0.0 for s in noise]}
    how: dict[str, Any] = {
        "seed": seed,
        "n": n,
        "skip": skip,
        "dask": dask,
        "overwrite": overwrite,
        "progress": progress,
    }
    if side == "fast":
        if library is not None or calibration is not None:
            raise CaloforgeError(
                "the fast side takes no library of showers; leave --library and --calibration out or ask for --full."
            )
        shape = lookup(SMEARINGS, smearing or "log-normal", "a smearing")
        notes |= {"smearing": shape, "significance": sigma}
        fast = FastCalorimeter(ecal=ecal, hcal=hcal, smearing=shape)
        return write_images(events, output, fast, "fast", notes=notes, **how)
    if smearing is not None or significance is not None:
        raise CaloforgeError("smearing and significance are the fast side's; leave them out or ask for --fast.")
    if library is None:
        raise CaloforgeError(
            "the full side needs a library of showers; make one with `caloforge shower-library` and give --library."
        )
    with ShowerLibrary(library) as showers:
        if calibration is not None:
            calibrate_as(showers, calibration)
        notes["calibration"] = showers.calibration
        share = float(showers.provenance["cpu_seconds"]) / float(showers.provenance["made_for_events"])
        full = FullCalorimeter(showers, ecal=ecal, hcal=hcal)
        return write_images(
            events, output, full, "full", notes=notes | {"seconds_per_event": share, "library_share": share}, **how
        )
