"""Which physics list a request gets."""

from __future__ import annotations

import numpy as np
import pytest

from caloforge.beam import PARTICLES
from caloforge.detectors import Detector
from caloforge.simulation.physics import ELECTROMAGNETIC, HADRONIC, choose_physics


@pytest.mark.parametrize("name", sorted(PARTICLES))
def test_hadrons_and_muons_get_the_hadronic_list(name: str) -> None:
    expected = ELECTROMAGNETIC if name in ("gamma", "e-", "e+") else HADRONIC
    assert choose_physics(Detector.load("ild-ecal"), np.array([PARTICLES[name]])) == expected


def test_one_hadron_decides_for_all() -> None:
    assert choose_physics(Detector.load("ild-ecal"), np.array([22, 11, 211])) == HADRONIC


@pytest.mark.parametrize("name", ["tile-hcal", "cms-like"])
def test_a_detector_may_ask_for_it(name: str) -> None:
    assert choose_physics(Detector.load(name), np.array([11])) == HADRONIC
