"""Incident particles and the quantities a model may be conditioned on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloforge.errors import CaloforgeError
from caloforge.incident import CONDITIONS, PDG_CODES, Incident, particle_mass, particle_name, pdg_code

ELECTRON = 0.51099895  # MeV
finite = st.floats(-1e300, 1e300)


def test_what_is_given_once_holds_for_all() -> None:
    incident = Incident.of([1.0, 2.0, 3.0], 11, (0, 3, 4), (1, 2))
    assert len(incident) == 3 and incident.pdg.tolist() == [11] * 3
    np.testing.assert_allclose(incident.direction, [[0, 0.6, 0.8]] * 3)
    np.testing.assert_allclose(incident.position, [[1, 2]] * 3)
    assert len(Incident.of(5.0)) == 1 and len(Incident.of([])) == 0


@settings(deadline=None)
@given(direction=st.tuples(finite, finite, finite))
def test_directions_become_unit_vectors(direction: tuple[float, float, float]) -> None:
    if direction == (0, 0, 0):
        return
    incident = Incident.of(1.0, direction=direction)
    np.testing.assert_allclose(np.linalg.norm(incident.direction), 1, rtol=1e-12)


@pytest.mark.parametrize(
    "arguments",
    [
        {"energy": [1.0, np.nan]},
        {"energy": [-1.0]},
        {"energy": [1e16]},
        {"energy": [1.0], "direction": (0, 0, 0)},
        {"energy": [1.0], "direction": (np.inf, 0, 0)},
        {"energy": [1.0], "position": (np.nan, 0)},
    ],
)
def test_impossible_particles_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(CaloforgeError, match="an incident particle has"):
        Incident.of(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "arguments",
    [
        {"energy": [1.0, 2.0], "pdg": [22, 22, 22]},
        {"energy": [1.0], "direction": (0, 1)},
        {"energy": [1.0], "position": (0, 1, 2)},
        {"energy": "much"},
        {"energy": [1.0], "pdg": 2**40},
    ],
)
def test_numbers_that_do_not_fit_together_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(CaloforgeError, match="do not fit together"):
        Incident.of(**arguments)  # type: ignore[arg-type]


def test_momenta_follow_from_masses() -> None:
    incident = Incident.of([100.0, 100.0], [22, 11], (0.6, 0, 0.8))
    np.testing.assert_allclose(incident.column("p_x")[0], 60)
    momentum = np.sqrt((100 + ELECTRON) ** 2 - ELECTRON**2)
    np.testing.assert_allclose(incident.column("p_z")[1], 0.8 * momentum, rtol=1e-9)
    total = np.sqrt(sum(incident.column(f"p_{axis}") ** 2 for axis in "xyz"))
    np.testing.assert_allclose(total, [100, momentum], rtol=1e-9)


@settings(deadline=None)
@given(momentum=st.floats(1e-3, 1e9), code=st.sampled_from([22, 11, -211, 2212]))
def test_energy_and_momentum_are_inverse(momentum: float, code: int) -> None:
    incident = Incident.of(1.0, code).with_momentum([momentum])
    np.testing.assert_allclose(incident.column("p_z"), momentum, rtol=1e-9)


def test_angles() -> None:
    incident = Incident.of([1.0, 1.0], 22, [(0, 1, 1), (-1, 0, 1)], [(3, 4), (5, 6)])
    np.testing.assert_allclose(incident.column("theta"), np.pi / 4)
    np.testing.assert_allclose(incident.column("phi"), [np.pi / 2, np.pi])
    np.testing.assert_allclose(incident.column("tan_y"), [1, 0], atol=1e-15)
    np.testing.assert_allclose(incident.column("tan_x"), [0, -1], atol=1e-15)
    assert incident.column("x").tolist() == [3, 5] and incident.column("y").tolist() == [4, 6]


@pytest.mark.parametrize("name", CONDITIONS)
def test_every_condition_is_one_number_a_particle(name: str) -> None:
    incident = Incident.of([1e3, 2e4, 5e5], [22, 11, 211], (0.1, -0.2, 1), (3, -4))
    assert incident.column(name).shape == (3,)
    np.testing.assert_array_equal(incident[1:].column(name), incident.column(name)[1:])


def test_conditions_that_are_not_finite_are_refused() -> None:
    with pytest.raises(CaloforgeError, match="'log_energy' is not finite for 1 of 2"):
        Incident.of([0.0, 1.0]).column("log_energy")
    with pytest.raises(CaloforgeError, match="'tan_x' is not finite"):
        Incident.of(1.0, direction=(1, 0, 0)).column("tan_x")
    with pytest.raises(CaloforgeError, match="did you mean 'energy'"):
        Incident.of(1.0).column("energi")


def test_joining_and_picking() -> None:
    incident = Incident.of(np.arange(1.0, 7), 11, np.arange(18).reshape(6, 3) + 1, np.arange(12).reshape(6, 2))
    joined = Incident.concatenate([incident[:2], incident[2:2], incident[2:]])
    for name in ("pdg", "energy", "direction", "position"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(incident, name))


def test_particles_by_name_and_code() -> None:
    assert pdg_code("gamma") == 22 == pdg_code("22") == pdg_code(22)
    assert pdg_code("-11") == -11 == PDG_CODES["e+"]
    assert particle_name(22) == "gamma" and particle_name(-211) == "pi-" and particle_name(13122) == "13122"
    np.testing.assert_allclose(particle_mass(np.array([22, 11, 211])), [0, ELECTRON, 139.57], atol=1e-2)
    for code in PDG_CODES.values():
        particle_mass(np.array([code]))
    for wrong in ("99999", "0", "-", "", "gama", "٣", "1e3", "9" * 40):
        with pytest.raises(CaloforgeError):
            pdg_code(wrong)
