"""What the signals of two calorimeters are worth, and who measures it: a detector has one calibration.

Both calorimeters are calibrated as CMS does: the electromagnetic one to photons, the hadronic one to pions of 50 GeV
that do not shower before it. Hadrons that do shower there are measured at no scale of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from .. import showers as shower_data
from ..detectors import Detector
from ..detectors.text import is_file
from ..errors import CaloforgeError
from ..incident import Incident
from ..shower_file import ShowerFile
from .library import ShowerLibrary
from .spots import SpotMaker

IMPACT = 29.0
"""mm; width of the spread of impact points, which is that of the widest cells."""

Simulate = Callable[[Incident, Path, int], object]
"""Simulates showers of particles into a shower file, with a seed."""


@dataclass(frozen=True)
class Calibration:
    """Factors from visible energy to the particles' energy.

    Attributes:
        ecal: of the electromagnetic calorimeter, from photons.
        hcal: of the hadronic calorimeter, from pions that do not shower in the first one.
    """

    ecal: float
    hcal: float

    energy: ClassVar[float] = 50_000.0
    photons: ClassVar[int] = 50
    pions: ClassVar[int] = 1000
    seed: ClassVar[int] = 50
    """The same for everyone: the error of a calibration is shared by all libraries of a detector."""
    quiet: ClassVar[float] = 1000.0
    """MeV in the electromagnetic calorimeter under which a pion has not showered there."""

    @classmethod
    def incident(cls) -> Incident:
        """The particles to calibrate with."""
        rng = np.random.default_rng(0xCA1)
        pdg = np.repeat([22, -211], [cls.photons, cls.pions])
        place = rng.uniform(-IMPACT / 2, IMPACT / 2, (len(pdg), 2))
        return Incident.of(np.full(len(pdg), cls.energy), pdg, position=place)

    @classmethod
    def measure(cls, showers: shower_data.Showers, maker: SpotMaker) -> Calibration:
        """The factors from the showers of `incident`.

        Raises:
            CaloforgeError: if the detector has no signal, or no pion passes its electromagnetic calorimeter.
        """
        ecal, hcal = maker.visible(showers)
        photons = showers.incident.pdg == 22
        seen = float(ecal[photons].mean())
        factor = cls.energy / seen if seen > 0 else 0.0
        passed = ~photons & (ecal * factor < cls.quiet)
        if factor == 0 or not passed.any() or hcal[passed].mean() <= 0:
            raise CaloforgeError(
                f"detector '{showers.detector.name}' cannot be calibrated: photons or pions of 50 GeV leave no signal "
                "in it; give one like 'cms-like'."
            )
        left = cls.energy - (ecal[passed] * factor).mean()
        return cls(factor, float(left / hcal[passed].mean()))

    @classmethod
    def of(cls, detector: Detector, maker: SpotMaker, raw: Path, simulate: Simulate) -> Calibration:
        """A detector's calibration: the one that ships, else measured by showers of one seed.

        Args:
            detector: an edited copy of one that ships is another and measured anew.
            maker: says what is seen of a shower.
            raw: shower file to simulate into, if need be; left to the caller.
            simulate: simulates particles.

        Raises:
            CaloforgeError: as `measure`.
        """
        if detector.name in KNOWN and detector == Detector.load(detector.name):
            return KNOWN[detector.name]
        incident = cls.incident()
        simulate(incident, raw, cls.seed)
        with ShowerFile(raw) as file:
            return cls.measure(file.read(0, len(incident)), maker)

    @property
    def factors(self) -> dict[str, float]:
        """Both by name."""
        return {"ecal": self.ecal, "hcal": self.hcal}


KNOWN = {"cms-like": Calibration(1.01168, 126.346)}
"""Of detectors that ship, by name: what `Calibration.of` would measure with built-in tables.

validation/calibration.py measures it again and tells the errors.
"""


def calibrate_as(library: ShowerLibrary, chosen: str | Path) -> None:
    """Give a library the calibration of a detector that ships, by name, or of another library.

    Raises:
        CaloforgeError: if there is no such calibration, or it is another detector's.
    """
    if is_file(Path(chosen)):
        with ShowerLibrary(chosen) as other:
            factors, detector = other.calibration, other.provenance.get("detector")
    elif str(chosen) in KNOWN:
        factors, detector = KNOWN[str(chosen)].factors, str(chosen)
    else:
        raise CaloforgeError(
            f"there is no library '{str(chosen)[:200]}' and no detector of that name whose calibration ships; give a "
            f"library or one of: {', '.join(KNOWN)}."
        )
    if library.provenance.get("detector") != detector:
        raise CaloforgeError(
            f"the library '{library.path}' is of detector '{library.provenance.get('detector')}', the calibration "
            f"'{chosen}' of '{detector}'; give a calibration of the same detector."
        )
    library.calibrate(factors)
