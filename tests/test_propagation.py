"""Helices to the calorimeters: against closed forms, and against small steps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caloforge.errors import CaloforgeError
from caloforge.events.propagation import LIGHT, Solenoid, propagate
from caloforge.events.species import KINDS, charges, kind_of, kinetic_energy

FIELD = Solenoid()
MOMENTA = st.floats(-5e4, 5e4).filter(lambda p: abs(p) > 30)


def arrive(px: float, py: float, pz: float, charge: float, solenoid: Solenoid = FIELD) -> tuple[np.ndarray, np.ndarray]:
    found = propagate(np.array([[px, py, pz]]), np.array([charge]), solenoid)
    return found.position[0], found.direction[0]


@given(MOMENTA, MOMENTA, MOMENTA)
def test_neutral_particles_fly_straight(px: float, py: float, pz: float) -> None:
    position, direction = arrive(px, py, pz, 0.0)
    p = np.array([px, py, pz]) / math.sqrt(px**2 + py**2 + pz**2)
    np.testing.assert_allclose(direction, p, atol=1e-12)
    np.testing.assert_allclose(np.cross(position, p), 0, atol=1e-6)
    on_barrel = math.hypot(position[0], position[1]) == pytest.approx(1290)
    assert on_barrel or abs(position[2]) == pytest.approx(3000)


@given(MOMENTA, MOMENTA, MOMENTA, st.sampled_from([-1.0, 1.0]))
def test_charged_particles_lie_on_their_circle(px: float, py: float, pz: float, charge: float) -> None:
    position, direction = arrive(px, py, pz, charge)
    pt = math.hypot(px, py)
    radius = pt / (LIGHT * 3.8)
    # A positive charge in a field along +z turns clockwise: the centre lies to its right.
    centre = np.array([py, -px]) / pt * radius * charge
    assert math.hypot(*(position[:2] - centre)) == pytest.approx(radius, rel=1e-6)
    assert np.dot(position[:2] - centre, direction[:2]) == pytest.approx(0, abs=1e-5 * radius)
    assert np.linalg.norm(direction) == pytest.approx(1)
    assert math.hypot(position[0], position[1]) <= 1290 * (1 + 1e-9) and abs(position[2]) <= 3000 * (1 + 1e-9)


def test_radius_and_turns() -> None:
    """0.3 B R: 1 GeV of transverse momentum bends on a circle of 878 mm in 3.8 T."""
    assert pytest.approx(877.8, abs=0.1) == 1000 / (LIGHT * 3.8)
    # Its diameter of 1755 mm reaches 1290 mm after a turn of 2 arcsin(1290 / 1755).
    turn = 2 * math.asin(1290 * LIGHT * 3.8 / 2000)
    position, direction = arrive(1000, 0, 0, 1.0)
    assert math.atan2(position[1], position[0]) == pytest.approx(-turn / 2)
    assert math.atan2(direction[1], direction[0]) == pytest.approx(-turn)
    # 300 MeV never reaches it: it spirals to the end, pz / pt R a = 3000 mm.
    position, direction = arrive(300, 0, 100, -1.0)
    turns = 3000 * 3 / (300 / (LIGHT * 3.8))
    assert position[2] == pytest.approx(3000)
    assert math.atan2(direction[1], direction[0]) == pytest.approx(math.remainder(turns, 2 * math.pi))


def test_against_small_steps() -> None:
    rng = np.random.default_rng(0)
    momenta, charge = rng.normal(0, 1500, (20, 3)), rng.choice([-1.0, 1.0], 20)
    found = propagate(momenta, charge)
    for p, q, position in zip(momenta, charge, found.position, strict=True):
        place, step = np.zeros(3), 0.05
        turn = -q * LIGHT * 3.8 * step / np.linalg.norm(p)
        cos, sin = math.cos(turn), math.sin(turn)
        unit = p / np.linalg.norm(p)
        half = np.array([math.cos(turn / 2), math.sin(turn / 2)])
        while math.hypot(place[0], place[1]) < 1290 and abs(place[2]) < 3000:
            middle = [unit[0] * half[0] - unit[1] * half[1], unit[0] * half[1] + unit[1] * half[0], unit[2]]
            place = place + step * np.array(middle)
            unit = np.array([unit[0] * cos - unit[1] * sin, unit[0] * sin + unit[1] * cos, unit[2]])
        np.testing.assert_allclose(place, position, atol=0.5)


def test_particles_that_never_arrive() -> None:
    found = propagate(np.array([[0.0, 0, 0], [100, 0, 0], [0, 0, 500]]), np.array([0.0, 1, 1]))
    assert np.isnan(found.position[:2]).all()
    assert found.position[2].tolist() == [0, 0, 3000]
    with pytest.raises(CaloforgeError, match="cannot be"):
        Solenoid(radius=0)


def test_kinds() -> None:
    pdg = np.array([22, -11, 11, 211, -211, 310, 130, 2212, -2112, 3122, -3122, 13, 1000010020, 411, 99999999])
    names = [22, 11, 11, 211, -211, 130, 130, 2212, -2112, 2112, -2112, 13, 211, 211, 130]
    assert [KINDS[k] for k in kind_of(pdg)] == names
    assert charges(np.array([11, -11, 22, 2212, 99999999])).tolist() == [-1, 1, 0, 1, 0]
    momentum = np.array([[300.0, 0, 400]])
    assert kinetic_energy(np.array([22]), momentum)[0] == pytest.approx(500)
    assert kinetic_energy(np.array([2212]), momentum)[0] == pytest.approx(math.hypot(500, 938.272) - 938.272, rel=1e-6)
