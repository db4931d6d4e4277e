"""Beams: which incident particles are asked for, by name, energy spectrum, angle and position."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from .detectors import Detector
from .detectors.schema import Incidence, Particles, Span
from .errors import CaloforgeError, lookup
from .incident import Incident

Spectrum = Literal["uniform", "log-uniform", "discrete"]

PARTICLES: dict[str, int] = {
    "gamma": 22, "e-": 11, "e+": -11, "mu-": 13, "mu+": -13, "pi+": 211, "pi-": -211, "K+": 321, "K-": -321,
    "K0L": 130, "K0S": 310, "p": 2212, "anti_p": -2212, "n": 2112, "anti_n": -2112, "kaon+": 321, "kaon-": -321,
    "kaon0L": 130, "kaon0S": 310, "proton": 2212, "anti_proton": -2212, "neutron": 2112, "anti_neutron": -2112,
}  # fmt: skip
"""Particles that can be asked for by name, and their PDG codes; Geant4's longer names stand last."""

MAX_ENERGY_GEV = 100_000.0  # the validity of Geant4's standard electromagnetic models
MIN_ENERGY_GEV = 1e-3


@dataclass(frozen=True)
class Beam:
    """A source of incident particles.

    Attributes:
        particle: a name of `PARTICLES`.
        energies_gev: the spectrum's lowest and highest energy; for "discrete", the energies drawn from, equally likely.
        spectrum: uniform, log-uniform or discrete.
        x: incident position at the front face, mm: a value, or the ends of a uniform spread.
        y: likewise.
        tan_x: tangent of the projected angle, p_x / p_z: a value, or the ends of a uniform spread.
        tan_y: likewise.
    """

    particle: str
    energies_gev: tuple[float, ...]
    spectrum: Spectrum = "uniform"
    x: Span = 0.0
    y: Span = 0.0
    tan_x: Span = 0.0
    tan_y: Span = 0.0

    def __post_init__(self) -> None:
        lookup(PARTICLES, self.particle, "a particle")
        if self.spectrum not in get_args(Spectrum):
            lookup(dict.fromkeys(get_args(Spectrum)), self.spectrum, "an energy spectrum")
        given = ", ".join(f"{e:g}" for e in self.energies_gev) or "none"
        if not self.energies_gev or not all(MIN_ENERGY_GEV <= e <= MAX_ENERGY_GEV for e in self.energies_gev):
            raise CaloforgeError(
                f"energies of {given} GeV cannot be simulated; "
                f"give values from {MIN_ENERGY_GEV:g} to {MAX_ENERGY_GEV:g}."
            )
        if self.spectrum != "discrete" and (len(self.energies_gev) > 2 or self.energies_gev[0] > self.energies_gev[-1]):
            raise CaloforgeError(
                f"a {self.spectrum} spectrum cannot be made of {given} GeV; give one energy or lowest:highest."
            )
        for name in ("x", "y", "tan_x", "tan_y"):
            low, high = _ends(getattr(self, name))
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise CaloforgeError(f"{name} from {low:g} to {high:g} is not a spread; give lowest:highest.")

    @classmethod
    def of(
        cls,
        detector: Detector,
        *,
        particle: str | None = None,
        energies_gev: Sequence[float] | None = None,
        spectrum: str | None = None,
        x: Span | None = None,
        y: Span | None = None,
        tan_x: Span | None = None,
        tan_y: Span | None = None,
        domain: Mapping[str, Any] | None = None,
    ) -> Beam:
        """The detector's default beam, with what is given put in its place.

        ``domain``, of a trained model, stands in for the detector's defaults: codes and ranges of its training data.

        Raises:
            CaloforgeError: if the detector does not allow it or names no default for something left out.
        """
        known = detector.particles
        place = detector.incidence
        if domain is not None:
            known, place = _defaults_of(detector, domain)
        if known is None and (particle is None or energies_gev is None):
            raise CaloforgeError(
                f"detector '{detector.name}' names no particles and energies of its own; give --particle and --energy."
            )
        if particle is None:
            assert known is not None
            particle = known.kinds[0]
        if energies_gev is None:
            assert known is not None
            energies_gev = known.energy_gev
            spectrum = spectrum or known.spectrum
        # A single energy is a spectrum of its own, whatever the detector's default.
        spectrum = spectrum or (known.spectrum if known and len(energies_gev) > 1 else "uniform")
        beam = cls(
            particle,
            tuple(float(e) for e in energies_gev),
            spectrum,  # type: ignore[arg-type]  # checked in __post_init__
            *(default if given is None else given for given, default in ((x, place.x), (y, place.y))),
            *(default if given is None else given for given, default in ((tan_x, place.tan_x), (tan_y, place.tan_y))),
        )
        beam._check_place(detector)
        return beam

    def _check_place(self, detector: Detector) -> None:
        place = detector.incidence
        fixed_place = (self.x, self.y) == (place.x, place.y)
        fixed_angle = (self.tan_x, self.tan_y) == (place.tan_x, place.tan_y)
        if not (place.free_position or fixed_place) or not (place.free_angle or fixed_angle):
            raise CaloforgeError(
                f"detector '{detector.name}' is read out around the particle, which fixes its position and angle; "
                "leave --position and --angle out."
            )
        for name, half in zip(("x", "y"), detector.half_extents, strict=True):
            reach = max(abs(end) for end in _ends(getattr(self, name)))
            if detector.slabs and reach >= half:
                raise CaloforgeError(
                    f"an incident {name} of {reach:g} mm misses detector '{detector.name}'; stay within {half:g} mm."
                )

    def draw(self, n: int, seed: int) -> Incident:
        """Draw the first ``n`` incident particles of a seed.

        Each quantity has a random stream of its own, so that a longer request starts with the shorter one's particles.
        """
        streams = [np.random.default_rng(s) for s in np.random.SeedSequence([seed, 0xBEA]).spawn(5)]
        tan_x, tan_y, x, y = (
            _uniform(rng, span, n)
            for rng, span in zip(streams[1:], (self.tan_x, self.tan_y, self.x, self.y), strict=True)
        )
        direction = np.stack([tan_x, tan_y, np.ones(n)], axis=1)
        energy = self._energies(streams[0], n) * 1000.0
        return Incident.of(energy, PARTICLES[self.particle], direction, np.stack([x, y], axis=1))

    def _energies(self, rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
        if self.spectrum == "discrete":
            return np.asarray(self.energies_gev)[rng.integers(len(self.energies_gev), size=n)]
        low, high = self.energies_gev[0], self.energies_gev[-1]
        share = rng.random(n)
        if self.spectrum == "log-uniform":
            return np.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        return low + share * (high - low)


def _defaults_of(detector: Detector, domain: Mapping[str, Any]) -> tuple[Particles, Incidence]:
    """Default particles and places out of a trained model's domain (energies in MeV)."""
    names = {code: name for name, code in PARTICLES.items()}
    kinds = [names[code] for code in domain["pdg"] if code in names] or list(PARTICLES)
    low, high = domain["energy"]
    spectrum = detector.particles.spectrum if detector.particles and low < high else "uniform"
    particles = Particles(kinds=kinds, energy_gev=(low / 1000, high / 1000), spectrum=spectrum)
    x, y, tan_x, tan_y = (_span(*domain[name]) for name in ("x", "y", "tan_x", "tan_y"))
    return particles, Incidence(x=x, y=y, tan_x=tan_x, tan_y=tan_y)


def _span(low: float, high: float) -> Span:
    return (low, high) if low < high else low


def _ends(span: Span) -> tuple[float, float]:
    return span if isinstance(span, tuple) else (span, span)


def _uniform(rng: np.random.Generator, span: Span, n: int) -> npt.NDArray[np.float64]:
    low, high = _ends(span)
    return low + (high - low) * rng.random(n)
