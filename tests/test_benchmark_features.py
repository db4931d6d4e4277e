"""The challenge's features and separation powers, on showers whose answers are known on paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError
from caloforge.evaluation.benchmark import separation
from caloforge.evaluation.benchmark.challenge import SAMPLING_THRESHOLD, dataset_of
from caloforge.evaluation.benchmark.features import BY_LAYER, high_level
from caloforge.incident import Incident
from caloforge.showers import Showers

NAMES = ["calochallenge-photons", "calochallenge-pions", "par04-siw"]


def write(path: Path, detector: Detector, voxels: np.ndarray, energy: float = 1e4) -> Path:
    Showers.from_dense(voxels, Incident.of(np.full(len(voxels), energy), 11), detector).write(path)
    return path


def one_layer(detector: Detector, layer: int, values: np.ndarray) -> np.ndarray:
    voxels = np.zeros((1, detector.n_voxels))
    voxels[0, detector.layer_slices[layer]] = values.ravel()
    return voxels


@pytest.mark.parametrize(
    ("name", "length", "layers"),
    [
        ("calochallenge-photons", 30, 5),
        ("calochallenge-pions", 46, 7),
        ("par04-siw", 362, 45),
        ("par04-siw-fine", 362, 45),
    ],
)
def test_length_and_order(name: str, length: int, layers: int, tmp_path: Path) -> None:
    detector = Detector.load(name)
    voxels = np.zeros((2, detector.n_voxels))
    voxels[0, ::7] = 2.0
    found = high_level(write(tmp_path / "a.h5", detector, voxels))
    assert found.matrix.shape == (2, length)
    assert len(found.names) == length
    assert found.names[0] == "log10_incident_energy"
    assert found.names[1 : layers + 1] == [f"log10_energy[{i}]" for i in range(layers)]
    angular = len(found.angular)
    heads = ["centre_eta", "centre_phi", "width_eta", "width_phi"]
    assert [n.split("[")[0] for n in found.names[layers + 1 : layers + 1 + 4 * angular : angular]] == heads
    rest = found.names[layers + 1 + 4 * angular :]
    assert [rest[0], *(n.split("[")[0] for n in rest[1::layers])] == [
        "log10_total_energy", "sparsity", "centre_r", "width_r",
    ]  # fmt: skip
    np.testing.assert_allclose(found.matrix[0, found.names.index("log10_total_energy")], np.log10(voxels[0].sum()))
    # An empty shower: logarithms of 1e-8, nothing else but sparsity.
    empty = dict(zip(found.names, found.matrix[1], strict=True))
    assert empty["log10_energy[0]"] == pytest.approx(-8)
    assert {v for k, v in empty.items() if k.startswith(("centre", "width"))} == {0.0}
    assert {v for k, v in empty.items() if k.startswith("sparsity")} == {1.0}


@pytest.mark.parametrize("name", NAMES)
def test_a_point(name: str, tmp_path: Path) -> None:
    detector = Detector.load(name)
    layer = max(range(detector.n_layers), key=lambda i: detector.grids[i].shape)
    grid = detector.grids[layer]
    values = np.zeros(grid.shape)
    values[3, 5] = 7.0
    found = high_level(write(tmp_path / "a.h5", detector, one_layer(detector, layer, values)))
    r = (grid.edges1[5] + grid.edges1[6]) / 2
    alpha = -np.pi + 3.5 * 2 * np.pi / grid.shape[0]
    column = found.angular.index(layer)
    assert found.layers["centre_eta"][0, column] == pytest.approx(r * np.cos(alpha), abs=1e-10)
    assert found.layers["centre_phi"][0, column] == pytest.approx(r * np.sin(alpha), abs=1e-10)
    assert found.layers["centre_r"][0, layer] == pytest.approx(r, abs=1e-10)
    for width in ("width_eta", "width_phi"):
        assert found.layers[width][0, column] == pytest.approx(0, abs=1e-10)
    assert found.layers["sparsity"][0, layer] == pytest.approx(1 - 1 / values.size, abs=1e-12)
    assert found.layers["energy"][0, layer] == found.total[0] == 7.0


@pytest.mark.parametrize("name", NAMES)
def test_a_ring(name: str, tmp_path: Path) -> None:
    """Energy all around at one radius: no centre, r / sqrt(2) wide in eta and phi, not wide in r."""
    detector = Detector.load(name)
    layer = max(range(detector.n_layers), key=lambda i: detector.grids[i].shape)
    grid = detector.grids[layer]
    values = np.zeros(grid.shape)
    values[:, 4] = 1.5
    found = high_level(write(tmp_path / "a.h5", detector, one_layer(detector, layer, values)))
    r = (grid.edges1[4] + grid.edges1[5]) / 2
    column = found.angular.index(layer)
    for axis in ("eta", "phi"):
        assert found.layers[f"centre_{axis}"][0, column] == pytest.approx(0, abs=1e-10)
        assert found.layers[f"width_{axis}"][0, column] == pytest.approx(r / np.sqrt(2), abs=1e-10)
    assert found.layers["centre_r"][0, layer] == pytest.approx(r, abs=1e-10)
    assert found.layers["width_r"][0, layer] == pytest.approx(0, abs=1e-10)


def test_a_gaussian_of_voxels(tmp_path: Path) -> None:
    """All features of random showers as the formulas of the paper say, computed from dense float64 arrays."""
    detector = Detector.load("par04-siw")
    rng = np.random.default_rng(1)
    x, y, _ = detector.voxel_positions.T
    voxels = 50 * np.exp(-((x - 3) ** 2 + y**2) / 200) * rng.exponential(size=(3, detector.n_voxels))
    voxels = voxels.astype(np.float32).astype(np.float64)
    found = high_level(write(tmp_path / "a.h5", detector, voxels, 2e4))
    voxels[voxels < SAMPLING_THRESHOLD] = 0
    dense, energy = voxels.reshape(3, 45, 144), voxels.reshape(3, 45, 144).sum(axis=2)
    np.testing.assert_allclose(found.layers["energy"], energy, rtol=1e-12)
    np.testing.assert_allclose(found.layers["sparsity"], (dense == 0).mean(axis=2), atol=1e-12)
    for axis, at in {"eta": x, "phi": y, "r": np.hypot(x, y)}.items():
        centre = (dense * at.reshape(45, 144)).sum(axis=2) / energy
        square = (dense * at.reshape(45, 144) ** 2).sum(axis=2) / energy
        np.testing.assert_allclose(found.layers[f"centre_{axis}"], centre, atol=1e-10)
        np.testing.assert_allclose(found.layers[f"width_{axis}"], np.sqrt(square - centre**2), atol=1e-10)


def test_threshold_and_choice_of_showers(tmp_path: Path) -> None:
    detector = Detector.load("par04-siw")
    voxels = np.zeros((4, detector.n_voxels))
    voxels[:, 0], voxels[:, 1] = [1.0, 2.0, 3.0, 4.0], 0.01
    path = write(tmp_path / "a.h5", detector, voxels)
    assert high_level(path).total.tolist() == [1, 2, 3, 4]
    assert high_level(path, threshold=1e-3).total == pytest.approx([1.01, 2.01, 3.01, 4.01])
    assert high_level(path, max_showers=2).total.tolist() == [1, 3]
    assert high_level(path).hottest == 4.0
    for wrong in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(CaloforgeError, match="threshold"):
            high_level(path, threshold=wrong)


def test_detectors_the_standard_does_not_know(tmp_path: Path, tiny: Detector) -> None:
    with pytest.raises(CaloforgeError, match="not defined for detector 'tiny'"):
        high_level(write(tmp_path / "a.h5", tiny, np.ones((2, tiny.n_voxels))))
    with pytest.raises(CaloforgeError, match="not defined"):
        dataset_of(Detector.load("ild-ecal"))
    readout = {"alpha": 4, "r_edges": [0.0, 1.0, 2.0], "depth": 3, "z": [0.0, 1.0, 2.0, 3.0]}
    other = dataset_of(Detector.from_mapping({"name": "other", "readout": readout}))
    assert (other.name, other.layers, other.threshold) == ("", (0, 1, 2), SAMPLING_THRESHOLD)
    assert [dataset_of(Detector.load(n)).name for n in NAMES] == ["1-photons", "1-pions", "2"]


def test_particles_without_energy_and_empty_files(tmp_path: Path) -> None:
    detector = Detector.load("par04-siw")
    with pytest.raises(CaloforgeError, match="without energy"):
        high_level(write(tmp_path / "a.h5", detector, np.ones((2, detector.n_voxels)), 0.0))
    with pytest.raises(CaloforgeError, match="holds no showers"):
        high_level(write(tmp_path / "b.h5", detector, np.zeros((0, detector.n_voxels))))


# -- separation powers -------------------------------------------------------------------------------------------


def test_official_edges() -> None:
    pions, two = dataset_of(Detector.load("calochallenge-pions")), dataset_of(Detector.load("par04-siw"))

    def span(name: str, number: int, dataset: object) -> tuple[float, float, int]:
        edges = separation.edges_of(name, number, dataset, 1.0, 1e4)  # type: ignore[arg-type]
        assert np.diff(edges).min() > 0
        return round(float(edges[0]), 9), round(float(edges[-1]), 6), len(edges)

    assert span("energy", 0, pions) == (1.0, 1e4, 40)
    assert span("sparsity", 0, pions) == (0.0, 1.0, 21)
    assert [span("centre_eta", n, pions) for n in (1, 12, 14)] == [(-100, 100, 101), (-500, 500, 101), (-100, 100, 101)]
    assert [span("width_phi", n, pions) for n in (1, 13)] == [(0, 100, 101), (0, 400, 101)]
    assert [span("centre_r", n, pions) for n in (0, 14)] == [(0, 500, 101), (0, 1500, 101)]
    assert [span("width_r", n, pions) for n in (0, 12)] == [(0, 500, 101), (0, 1500, 101)]
    assert span("centre_phi", 12, two) == (-30, 30, 101)
    assert span("width_eta", 44, two) == (0, 30, 101)
    assert span("centre_r", 12, two) == (0, 42, 101)
    assert span("width_r", 12, two) == (0, 20, 101)
    np.testing.assert_allclose(np.diff(np.log(separation.energy_edges(0.1, 10.0, 50))), np.log(100) / 49)


def score_histogram(edges: np.ndarray, one: np.ndarray, two: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    return separation.score_counts(separation.filled(edges, one), separation.filled(edges, two), rng)


def test_separation_of_equal_distributions_is_its_floor() -> None:
    """n_bins / (2 N) for two samples of one distribution, and so is the floor found by splitting."""
    rng = np.random.default_rng(2)
    n, edges = 20_000, np.linspace(0, 1, 51)
    found = [score_histogram(edges, rng.random(n), rng.random(n), rng) for _ in range(20)]
    expected = 50 / (2 * n)
    assert found[0]["expected_floor"] == pytest.approx(expected)
    spread = expected * np.sqrt(2 / 50)  # chi-squared with 50 degrees of freedom
    assert np.mean([f["value"] for f in found]) == pytest.approx(expected, abs=4 * spread / np.sqrt(20))
    assert np.mean([f["floor"]["value"] for f in found]) == pytest.approx(expected, rel=0.1)
    assert all(0 < f["error"] < expected for f in found)
    assert found[0]["floor"]["size"] == n // 2
    assert found[0]["floor"]["scale"] == 0.5


def test_separation_counts_only_inside_and_tells_what_is_outside() -> None:
    rng = np.random.default_rng(3)
    edges = np.array([0.0, 1.0, 2.0])
    one, two = np.repeat([0.5, 1.5], 50), np.repeat([0.5, 1.5, -1.0, 3.0], [25, 25, 20, 30])
    found = score_histogram(edges, one, two, rng)
    assert found["value"] == 0
    assert found["with_outside"] == pytest.approx(0.5 * (2 * 0.25**2 / 0.75 + 0.2 + 0.3))
    assert found["outside"]["reference"] == {"underflow": 0.0, "overflow": 0.0}
    assert found["outside"]["generated"] == {"underflow": 0.2, "overflow": 0.3}
    apart = score_histogram(edges, np.full(50, 0.5), np.full(50, 1.5), rng)
    assert (apart["value"], apart["error"]) == (1.0, 0.0)


def test_energies_of_dataset_1_are_scored_one_by_one(tmp_path: Path) -> None:
    detector = Detector.load("calochallenge-photons")
    rng = np.random.default_rng(4)
    energy = np.repeat(2.0 ** np.array([8, 15]), 30)
    voxels = energy[:, None] * rng.random((60, detector.n_voxels)) / 200
    Showers.from_dense(voxels, Incident.of(energy, 22), detector).write(tmp_path / "a.h5")
    a = high_level(tmp_path / "a.h5")
    keys = {key: edges for key, edges, _, _ in separation.histograms(a, a)}
    assert [k for k in keys if "@" in k] == ["response@256MeV", "response@32768MeV"]
    assert keys["response@256MeV"][[0, -1]].tolist() == [0.4, 1.4]
    assert keys["response@32768MeV"][[0, -1]].tolist() == [0.9, 1.1]
    assert len(keys) == 1 + 2 + sum(len(a.layers_of(name)) for name in BY_LAYER)


def test_voxel_energies(tmp_path: Path) -> None:
    detector = Detector.load("par04-siw")
    voxels = np.zeros((60, detector.n_voxels))
    voxels[:, 0], voxels[:, 1], voxels[:, 2] = 0.001, 0.5, 5.0
    path = write(tmp_path / "a.h5", detector, voxels)
    edges = np.array([0.1, 1.0, 2.0])
    counts = separation.voxel_counts(path, edges, threshold=0.01)
    assert counts.tolist() == [[0, 1, 0, 1]] * 60  # under, two bins, over
    same = separation.score_voxels(counts, counts, (0,))
    assert same["value"] == same["floor"]["value"] == 0
    assert same["outside"]["reference"] == {"underflow": 0.0, "overflow": 0.5}
