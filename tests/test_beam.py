from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caloforge.beam import Beam
from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError


def test_defaults_come_from_the_detector() -> None:
    beam = Beam.of(Detector.load("lhcb-ecal"))
    assert (beam.particle, beam.energies_gev, beam.spectrum) == ("e-", (1.0, 100.0), "uniform")
    assert (beam.x, beam.tan_y) == ((-50.0, 50.0), (-0.2, 0.2))


def test_moments_of_the_spectra() -> None:
    n = 200_000
    uniform = Beam("e-", (1.0, 100.0)).draw(n, 0).energy / 1e3
    assert uniform.mean() == pytest.approx(50.5, abs=5 * 99 / np.sqrt(12 * n))
    log = np.log(Beam("e-", (1.0, 1000.0), "log-uniform").draw(n, 0).energy / 1e3)
    assert log.mean() == pytest.approx(np.log(1000) / 2, abs=5 * np.log(1000) / np.sqrt(12 * n))
    energies, counts = np.unique(Beam("gamma", (10.0, 20.0, 50.0), "discrete").draw(n, 0).energy, return_counts=True)
    assert energies.tolist() == [10e3, 20e3, 50e3]
    assert np.abs(counts - n / 3).max() < 5 * np.sqrt(n * 2 / 9)


def test_a_longer_request_starts_with_the_shorter_one() -> None:
    beam = Beam.of(Detector.load("lhcb-ecal"))
    short, long = beam.draw(10, 3), beam.draw(1000, 3)
    assert np.array_equal(short.energy, long.energy[:10])
    assert np.array_equal(short.direction, long.direction[:10])
    assert np.array_equal(short.position, long.position[:10])
    assert not np.array_equal(short.energy, beam.draw(10, 4).energy)


def test_angles_are_uniform_in_the_tangent_and_directions_are_unit_vectors() -> None:
    incident = Beam("e-", (10.0,), tan_x=(-0.2, 0.2), tan_y=0.1).draw(50_000, 0)
    assert np.linalg.norm(incident.direction, axis=1) == pytest.approx(1, abs=1e-12)
    tan_x = incident.column("tan_x")
    assert np.histogram(tan_x, 4, (-0.2, 0.2))[0] / 50_000 == pytest.approx(0.25, abs=0.01)
    assert incident.column("tan_y") == pytest.approx(0.1, abs=1e-12)


@given(
    st.lists(st.floats(allow_nan=True), max_size=4),
    st.sampled_from(["uniform", "log-uniform", "discrete", "flat"]),
    st.floats(),
)
def test_any_request_is_drawn_or_refused_in_one_sentence(energies: list[float], spectrum: str, x: float) -> None:
    try:
        beam = Beam("e-", tuple(energies), spectrum, x=x)  # type: ignore[arg-type]
    except CaloforgeError as error:
        assert "\n" not in str(error)
    else:
        drawn = beam.draw(5, 0)
        assert np.isfinite(drawn.energy).all()
        assert (drawn.energy > 0).all()


@pytest.mark.parametrize(
    ("detector", "request_", "message"),
    [
        ("lhcb-ecal", {"particle": "e"}, "did you mean 'e-'"),
        ("lhcb-ecal", {"spectrum": "lognormal"}, "is not an energy spectrum"),
        ("lhcb-ecal", {"energies_gev": (100.0, 10.0)}, "lowest:highest"),
        ("lhcb-ecal", {"energies_gev": (0.0,)}, "cannot be simulated"),
        ("lhcb-ecal", {"x": 400.0}, "misses detector"),
        ("par04-siw", {"x": 1.0}, "leave --position and --angle out"),
        ("calochallenge-photons", {}, "give --particle and --energy"),
    ],
)
def test_refusals(detector: str, request_: dict[str, object], message: str) -> None:
    with pytest.raises(CaloforgeError, match=message):
        Beam.of(Detector.load(detector), **request_)  # type: ignore[arg-type]
