"""Observables against showers whose numbers are known in closed form."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError
from caloforge.evaluation import OBSERVABLES
from caloforge.evaluation.chunk import fitting_edges
from caloforge.evaluation.observables import compute, sparsity_curve
from caloforge.evaluation.sample import chosen_rows, measure
from caloforge.incident import Incident
from caloforge.showers import Showers

TOLERANCE = 1e-10


def grid(layers: int = 5, cells: int = 21, size: float = 4.0, pitch: float = 10.0) -> Detector:
    return Detector.from_mapping(
        {
            "name": "grid",
            "readout": {
                "cells": [cells, cells],
                "cell_size": [size, size],
                "depth": layers,
                "z": [pitch * i for i in range(layers + 1)],
            },
        }
    )


def polar() -> Detector:
    return Detector.from_mapping(
        {
            "name": "round",
            "readout": {"alpha": 12, "r_edges": [0.0, 2.0, 5.0, 9.0, 20.0], "depth": 3, "z": [0.0, 5.0, 10.0, 30.0]},
        }
    )


def of(detector: Detector, voxels: dict[int, float], energy: float = 1000.0, **incident: object) -> Showers:
    """One shower with the given voxel energies."""
    dense = np.zeros((1, detector.n_voxels), dtype=np.float32)
    for index, value in voxels.items():
        dense[0, index] = value
    return Showers.from_dense(dense, Incident.of(energy, **incident), detector)  # type: ignore[arg-type]


def one(name: str, showers: Showers) -> float:
    return float(compute(name, showers)[0])


def voxel(detector: Detector, x: float, y: float, layer: int = 0) -> int:
    distance = np.hypot(*(detector.voxel_positions[:, :2] - (x, y)).T) + 1e6 * (detector.voxel_layers != layer)
    return int(np.argmin(distance))


@pytest.mark.parametrize("detector", [grid(), polar()], ids=["cartesian", "polar"])
def test_point(detector: Detector) -> None:
    """All energy in one voxel: it is where the voxel is and has no size."""
    index = detector.layer_slices[1].start + 7
    x, y, z = detector.voxel_positions[index]
    showers = of(detector, {index: 50.0})
    expected = {
        "total_energy": 50,
        "response": 0.05,
        "n_hits": 1,
        "sparsity": 1 - 1 / detector.n_voxels,
        "peak_fraction": 1,
        "centre_x": x,
        "centre_y": y,
        "depth": z,
        "radius": np.hypot(x, y),
        **dict.fromkeys(["width_x", "width_y", "width_along", "width_across", "length"], 0),
    }
    for name, value in expected.items():
        assert one(name, showers) == pytest.approx(value, abs=TOLERANCE), name
    energy = compute("layer_energy", showers)
    assert energy.tolist() == [[50.0 if i == 1 else 0.0 for i in range(detector.n_layers)]]
    assert compute("layer_radius", showers)[0, 1] == pytest.approx(np.hypot(x, y))
    assert np.isnan(compute("layer_radius", showers)[0, 0])


def test_plane() -> None:
    """A layer filled evenly has the width of a uniform distribution of n cells."""
    detector = grid(layers=3, cells=20, size=4.0)
    showers = of(detector, dict.fromkeys(range(*detector.layer_slices[2].indices(detector.n_voxels)), 1.0))
    width = 4.0 * np.sqrt((20**2 - 1) / 12)
    for name in ("width_x", "width_y"):
        assert one(name, showers) == pytest.approx(width, abs=TOLERANCE)
    assert one("centre_x", showers) == pytest.approx(0, abs=TOLERANCE)
    assert one("depth", showers) == pytest.approx(25, abs=TOLERANCE)
    assert one("length", showers) == pytest.approx(0, abs=TOLERANCE)
    assert one("sparsity", showers) == pytest.approx(2 / 3)


def test_gaussian() -> None:
    """A Gaussian sampled finely on a wide grid keeps its centre and width."""
    detector = grid(layers=1, cells=121, size=1.0)
    x, y, _ = detector.voxel_positions.T
    weights = np.exp(-((x - 3) ** 2) / (2 * 5.0**2) - (y + 2) ** 2 / (2 * 4.0**2))
    showers = of(detector, dict(enumerate(weights)))
    assert one("centre_x", showers) == pytest.approx(3, abs=1e-6)
    assert one("centre_y", showers) == pytest.approx(-2, abs=1e-6)
    assert one("width_x", showers) == pytest.approx(5, abs=1e-6)
    assert one("width_y", showers) == pytest.approx(4, abs=1e-6)


cells_of = st.dictionaries(
    st.tuples(st.integers(-3, 3), st.integers(-3, 3), st.integers(0, 4)), st.floats(0.125, 64, width=16), min_size=1
)


@given(cells_of, st.integers(-6, 6), st.integers(-6, 6))
@settings(max_examples=30, deadline=None)
def test_shifted_with_its_incident_point(cells: dict[tuple[int, int, int], float], dx: int, dy: int) -> None:
    """A shower moved with its incident point by whole cells keeps all observables."""
    detector = grid()
    at = {voxel(detector, 4 * x, 4 * y, k): e for (x, y, k), e in cells.items()}
    moved = {voxel(detector, 4 * (x + dx), 4 * (y + dy), k): e for (x, y, k), e in cells.items()}
    a, b = of(detector, at), of(detector, moved, position=(4 * dx, 4 * dy))
    for name, observable in OBSERVABLES.items():
        if observable.kind == "value":
            assert one(name, b) == pytest.approx(one(name, a), abs=TOLERANCE), name


@given(cells_of)
@settings(max_examples=30, deadline=None)
def test_turned_with_its_direction(cells: dict[tuple[int, int, int], float]) -> None:
    """A tilted shower turned by 90 degrees keeps its widths and asymmetries along and across the tilt."""
    detector = grid()
    at = {voxel(detector, 4 * x, 4 * y, k): e for (x, y, k), e in cells.items()}
    turned = {voxel(detector, -4 * y, 4 * x, k): e for (x, y, k), e in cells.items()}
    a = of(detector, at, direction=(0.13, 0.05, 1), position=(0.3, 0.7))
    b = of(detector, turned, direction=(-0.05, 0.13, 1), position=(-0.7, 0.3))
    for name in ("width_along", "width_across", "asymmetry_along", "asymmetry_across", "radius", "depth"):
        assert one(name, b) == pytest.approx(one(name, a), abs=TOLERANCE), name
    assert one("centre_y", b) == pytest.approx(one("centre_x", a), abs=TOLERANCE)


def test_tilted_line_has_no_width() -> None:
    """Voxels on the shower axis are at distance zero in every layer, wherever the particle entered."""
    detector = grid(layers=5, size=4.0, pitch=10.0)
    line = {voxel(detector, 4.0 + 4.0 * k, -8.0, k): 1.0 + k for k in range(5)}
    showers = of(detector, line, direction=(0.4, 0, 1), position=(4.0 - 0.4 * 5, -8.0))
    for name in ("radius", "centre_x", "centre_y", "width_x", "width_across"):
        assert one(name, showers) == pytest.approx(0, abs=TOLERANCE), name


def test_asymmetry_counts_sides() -> None:
    detector = grid(layers=1, cells=20)
    showers = of(detector, {voxel(detector, 6, 2): 3.0, voxel(detector, -6, 2): 1.0}, direction=(1e-3, 0, 1))
    assert one("asymmetry_along", showers) == pytest.approx(0.5)
    assert one("asymmetry_across", showers) == pytest.approx(1.0)


def test_empty_shower_has_no_centre() -> None:
    detector = grid()
    showers = of(detector, {})
    assert one("total_energy", showers) == 0
    assert one("peak_fraction", showers) != one("peak_fraction", showers)
    assert np.isnan(one("centre_x", showers)) and np.isnan(one("depth", showers))


def test_profiles_keep_all_energy() -> None:
    """Nothing is lost: flows included, profiles sum to the total energy and to the hits."""
    rng = np.random.default_rng(1)
    detector = grid()
    dense = rng.exponential(size=(40, detector.n_voxels)) * (rng.random((40, detector.n_voxels)) < 0.1)
    showers = Showers.from_dense(dense, Incident.of(np.full(40, 1e4)), detector)
    edges = fitting_edges(showers[:3])
    for name in ("longitudinal_profile", "radial_profile"):
        np.testing.assert_allclose(compute(name, showers, edges).sum(axis=1), showers.total_energy)
    for name in ("voxel_spectrum", "voxel_fractions"):
        np.testing.assert_array_equal(compute(name, showers, edges).sum(axis=1), showers.n_hits)
    np.testing.assert_allclose(
        compute("longitudinal_profile", showers, edges)[:, 1:-1], compute("layer_energy", showers)
    )


def test_measure_reads_by_pieces(tmp_path, monkeypatch) -> None:
    """Measuring a file piece by piece gives what measuring it at once gives; a limit takes evenly spread showers."""
    rng = np.random.default_rng(2)
    detector = grid(layers=2, cells=5)
    showers = Showers.from_dense(
        rng.random((101, detector.n_voxels)), Incident.of(rng.uniform(1e3, 1e4, 101)), detector
    )
    showers.write(tmp_path / "a.h5")
    whole = measure(tmp_path / "a.h5")
    monkeypatch.setattr("caloforge.evaluation.sample._VOXELS_AT_ONCE", 1)
    parts = measure(tmp_path / "a.h5", edges=whole.edges)
    for name in whole.values:
        np.testing.assert_array_equal(parts.values[name], whole.values[name])
    np.testing.assert_allclose(whole.mean_voxels.sum(), showers.total_energy.mean())
    some = measure(tmp_path / "a.h5", names=["total_energy"], max_showers=10)
    np.testing.assert_array_equal(some.values["total_energy"], whole.values["total_energy"][chosen_rows(101, 10)])


def test_errors(tmp_path) -> None:
    detector = grid(layers=1, cells=3)
    with pytest.raises(CaloforgeError, match="did you mean 'radius'"):
        compute("radus", of(detector, {0: 1.0}))
    with pytest.raises(CaloforgeError, match="do not fly into the detector"):
        compute("radius", of(detector, {0: 1.0}, direction=(1, 0, 0)))
    of(detector, {}).write(tmp_path / "dark.h5")
    with pytest.raises(CaloforgeError, match="are zero"):
        measure(tmp_path / "dark.h5")
    of(detector, {0: 1.0})[:0].write(tmp_path / "none.h5")
    with pytest.raises(CaloforgeError, match="holds no showers"):
        measure(tmp_path / "none.h5")


def binomial(detector: Detector, nx: int, ny: int) -> Showers:
    """A Gaussian made of voxels whose moments are whole: binomial weights in x and y, exact in float32."""
    x = np.array([comb(nx, k) for k in range(nx + 1)], dtype=np.float64)
    y = np.array([comb(ny, k) for k in range(ny + 1)], dtype=np.float64)
    weights = np.zeros(detector.shape[-2:])
    top, left = (weights.shape[0] - ny - 1) // 2, (weights.shape[1] - nx - 1) // 2
    weights[top : top + ny + 1, left : left + nx + 1] = y[:, None] * x
    return Showers.from_dense(
        weights.reshape(1, -1), Incident.of(1e9, direction=(3e-3, 4e-3, 1), position=(0.7, -0.3)), detector
    )


def test_gaussian_of_binomials() -> None:
    """Binomial weights of n steps have the variance n / 4 of a cell, in x, in y, and along and across any tilt."""
    detector = grid(layers=1, cells=21, size=4.0, pitch=10.0)
    showers = binomial(detector, 12, 16)
    sx, sy = 4 * np.sqrt(12 / 4), 4 * np.sqrt(16 / 4)
    expected = {
        "total_energy": 2.0**28,
        "response": 2.0**28 / 1e9,
        "n_hits": 13 * 17,
        "peak_fraction": comb(12, 6) * comb(16, 8) / 2**28,
        "centre_x": -0.7 - 3e-3 * 5,  # the axis has gone on by half the depth
        "centre_y": 0.3 - 4e-3 * 5,
        "width_x": sx,
        "width_y": sy,
        "width_along": np.hypot(0.6 * sx, 0.8 * sy),
        "width_across": np.hypot(0.8 * sx, 0.6 * sy),
    }
    for name, value in expected.items():
        assert one(name, showers) == pytest.approx(value, rel=TOLERANCE, abs=TOLERANCE), name


def test_half_plane() -> None:
    """A plane filled evenly ahead of the incident point and to one part behind it: asymmetry, width, radius by hand."""
    detector = grid(layers=2, cells=20, size=4.0, pitch=10.0)
    x, y, _ = detector.voxel_positions.T
    first = detector.voxel_layers == 0
    filled = np.flatnonzero(first & ((x > 0) | (x < -30)))  # 10 columns ahead, 2 behind
    showers = of(detector, dict.fromkeys(filled.tolist(), 0.5), direction=(1e-7, 0, 1))
    columns = np.array([*np.arange(2, 40, 4), -38, -34], dtype=np.float64)
    assert one("asymmetry_along", showers) == pytest.approx((10 - 2) / 12, abs=TOLERANCE)
    assert one("asymmetry_across", showers) == pytest.approx(0, abs=TOLERANCE)
    assert one("width_along", showers) == pytest.approx(columns.std(), abs=TOLERANCE)
    assert one("width_across", showers) == pytest.approx(4 * np.sqrt((20**2 - 1) / 12), abs=TOLERANCE)
    away = np.hypot(x[filled] - 1e-7 * 5, y[filled])
    assert one("radius", showers) == pytest.approx(away.mean(), abs=TOLERANCE)
    assert compute("layer_radius", showers)[0, 0] == pytest.approx(away.mean(), abs=TOLERANCE)
    assert compute("layer_hits", showers).tolist() == [[240, 0]]


def test_sparsity_curve() -> None:
    """Voxels of 0.9, 0.09, 0.009 and 0.0009 of the energy drop out one by one as the threshold rises."""
    detector = grid(layers=1, cells=5)
    showers = Showers.concatenate([of(detector, {0: 1000.0, 3: 100.0, 7: 10.0, 9: 1.0}), of(detector, {})])
    edges = fitting_edges(showers)
    thresholds, curve = sparsity_curve(compute("voxel_fractions", showers, edges), edges["voxel_fraction"], 25)
    assert thresholds[0] == pytest.approx(1e-5) and thresholds[-1] == pytest.approx(1e-1)
    at = {t: curve[0, np.argmin(np.abs(np.log(thresholds / t)))] for t in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)}
    expected = {1e-5: 4, 1e-4: 4, 1e-3: 3, 1e-2: 2, 1e-1: 1}
    assert at == pytest.approx({t: 1 - n / 25 for t, n in expected.items()}, abs=TOLERANCE)
    assert (curve[1] == 1).all() and curve.shape == (2, len(thresholds))
