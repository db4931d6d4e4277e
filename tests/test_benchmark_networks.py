"""The challenge's networks, how they are trained, and what they are fed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError
from caloforge.evaluation.benchmark.contest import (
    Settings,
    View,
    area_and_divergence,
    calibrated,
    contest,
    find_device,
    split_sizes,
)  # fmt: skip
from caloforge.evaluation.benchmark.networks import DenseClassifier, ResNetClassifier, parameters_of
from caloforge.evaluation.benchmark.rows import read_rows
from caloforge.evaluation.benchmark.views import FeatureSource, NormedVoxelSource, VoxelSource
from caloforge.incident import Incident
from caloforge.showers import Showers

CPU = torch.device("cpu")


def source(n: int, shift: float, seed: int = 0) -> FeatureSource:
    return FeatureSource(torch.from_numpy(np.random.default_rng(seed).normal(size=(n, 3)) + shift))


def train(a: FeatureSource, b: FeatureSource, seed: int = 0, epochs: int = 4, double: bool = True):  # type: ignore[no-untyped-def]
    views = (View(s, np.arange(len(s))) for s in (a, b))
    settings = Settings(epochs=epochs, batch=50, learning_rate=1e-2, double=double)
    build = lambda: DenseClassifier(3, 16)  # noqa: E731
    return contest(*views, build, split=(60, 20, 20), settings=settings, seed=(seed,), device=CPU)


@pytest.mark.parametrize(
    ("inputs", "count"),
    [(369, 9_152_513), (534, 9_490_433), (6481, 21_669_889), (30, 8_458_241), (362, 9_138_177)],
)
def test_parameters_of_the_dense_network(inputs: int, count: int) -> None:
    with torch.device("meta"):
        network = DenseClassifier(inputs)
    assert parameters_of(network) == count
    kinds = [type(m) for m in network.modules() if not list(m.children())]
    assert kinds == [nn.Linear, nn.LeakyReLU] * 3 + [nn.Linear]


@pytest.mark.parametrize("shape", [(45, 16, 9), (45, 50, 18)])
def test_parameters_of_the_convolutional_network(shape: tuple[int, ...]) -> None:
    """It averages over what is left of the shower, so their number does not depend on the voxels."""
    assert parameters_of(ResNetClassifier(shape)) == 2_516_644


def test_convolutional_network_sees_energy_and_voxels() -> None:
    torch.manual_seed(0)
    network = ResNetClassifier((9, 8, 7)).eval()
    x = torch.rand(3, 1 + 9 * 8 * 7)
    before = network(x)
    assert before.shape == (3,)
    for changed in (0, 1, 9 * 8 * 7):
        y = x.clone()
        y[0, changed] += 5
        assert (network(y) != before).tolist() == [True, False, False]


def test_split_in_proportion() -> None:
    assert split_sizes(121_000, (80_000, 20_000, 21_000)) == (80_000, 20_000, 21_000)
    assert split_sizes(1000, (60_000, 20_000, 20_000)) == (600, 200, 200)
    assert sum(split_sizes(997, (80_000, 20_000, 20_800))) == 997


def test_calibration_makes_probabilities() -> None:
    """Scores in three groups with 1/4, 1/2 and all of the reference in them."""
    known = np.repeat([0.2, 0.5, 0.9], 4)
    labels = np.array([1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1.0])
    found = calibrated(known, labels, np.array([0.0, 0.2, 0.5, 0.9, 1.0]))
    np.testing.assert_allclose(found, [0.25, 0.25, 0.5, 1 - 1e-6, 1 - 1e-6])


def test_area_and_divergence_in_closed_form() -> None:
    labels = np.repeat([1.0, 0.0], 8)
    nothing = area_and_divergence(np.full(16, 0.5), labels)
    assert (nothing[0].value, nothing[1].value) == (0.5, pytest.approx(0, abs=1e-15))
    scores = np.concatenate([np.repeat([0.75, 0.25], [6, 2]), np.repeat([0.75, 0.25], [2, 6])])
    area, divergence = area_and_divergence(scores, labels)
    assert area.value == pytest.approx(0.75 * 0.75 + 0.5 * (2 * 0.75 * 0.25))
    entropy = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25))
    assert divergence.value == pytest.approx(1 - entropy)
    assert area.error > 0 and divergence.error > 0
    assert area_and_divergence(labels, labels)[0].value == 1


def test_error_of_the_area_is_that_of_its_spread() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([1.0, 0.0], [80, 120])
    draws = [area_and_divergence(rng.random(200) * 0.8 + 0.1 * labels, labels)[0] for _ in range(300)]
    spread = np.std([d.value for d in draws])
    assert np.mean([d.error for d in draws]) == pytest.approx(spread, rel=0.15)


def test_contest_tells_what_differs_and_only_that() -> None:
    same = train(source(300, 0), source(300, 0, 1))
    apart = train(source(300, 0), source(300, 2.0, 1))
    assert abs(same.auc.value - 0.5) < 4 * same.auc.error
    assert apart.auc.value > 0.85
    assert same.steps == 4 * -(-120 // 50)
    assert [len(r) for r in apart.rows] == [20, 20] and len(apart.scores) == 40


def test_contest_depends_on_its_seed_only() -> None:
    a, b = source(200, 0), source(150, 0.5, 1)
    torch.manual_seed(5)
    one = train(a, b, seed=3)
    torch.manual_seed(6)
    before = torch.get_rng_state()
    two = train(a, b, seed=3)
    assert torch.equal(before, torch.get_rng_state())
    assert (one.auc, one.jsd, one.epoch) == (two.auc, two.jsd, two.epoch)
    assert np.array_equal(one.scores, two.scores)
    assert not np.array_equal(one.scores, train(a, b, seed=4).scores)


def test_contest_stops_when_nothing_is_wrong() -> None:
    found = train(source(200, 0), source(200, 50.0, 1), epochs=200)
    assert found.accuracy == 1
    assert found.steps < 200 * 3
    assert found.auc.value == 1 and found.jsd.value > 0.9


def test_contest_needs_showers_and_find_device_a_device() -> None:
    with pytest.raises(CaloforgeError, match="it needs 50"):
        train(source(49, 0), source(100, 0))
    assert find_device("auto").type in ("cpu", "cuda")
    with pytest.raises(CaloforgeError, match="'gpu' is not a device"):
        find_device("gpu")


@pytest.fixture
def showers(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    detector = Detector.load("calochallenge-photons")
    rng = np.random.default_rng(0)
    voxels = (rng.exponential(20.0, (9, 368)) * (rng.random((9, 368)) < 0.3)).astype(np.float32)
    voxels[4] = 0
    energy = rng.uniform(1e3, 1e5, 9)
    Showers.from_dense(voxels, Incident.of(energy, 22), detector).write(tmp_path / "a.h5")
    return tmp_path / "a.h5", np.where(voxels < 1, 0, voxels), energy


def test_sources_are_the_dense_showers(showers: tuple[Path, np.ndarray, np.ndarray]) -> None:
    path, voxels, energy = showers
    rows = read_rows(path, threshold=1.0)
    assert rows.index.dtype == torch.int16
    which = torch.tensor([7, 4, 0, 7])
    dense, incident = voxels[which], energy[which][:, None]
    np.testing.assert_array_equal(rows.dense(which), dense)
    low = VoxelSource(rows).inputs(which, torch.float64)
    np.testing.assert_allclose(low, np.concatenate([np.log10(incident), dense / incident], axis=1), rtol=1e-12)
    slices = Detector.load("calochallenge-photons").layer_slices
    sums = np.stack([dense[:, s].sum(axis=1, dtype=float) for s in slices], axis=1)
    normed = [dense[:, s] / (sums[:, [i]] + 1e-16) for i, s in enumerate(slices)]
    expected = np.concatenate([np.log10(incident), *normed, np.log10(sums + 1e-8)], axis=1)
    np.testing.assert_allclose(NormedVoxelSource(rows).inputs(which, torch.float64), expected, rtol=1e-12)


def test_voxels_beyond_the_reach_of_int16(tmp_path: Path) -> None:
    """Voxel numbers from 32 768 wrap around in memory and come back."""
    readout = {"alpha": 50, "r_edges": list(range(21)), "depth": 45, "z": list(range(46))}
    for cells, kind in ((50, torch.int16), (100, torch.int32)):
        detector = Detector.from_mapping({"name": "big", "readout": {**readout, "alpha": cells}})
        voxels = np.zeros((2, detector.n_voxels), np.float32)
        voxels[0, [0, 32_767, 32_768, detector.n_voxels - 1]] = [1, 2, 3, 4]
        Showers.from_dense(voxels, Incident.of(np.ones(2), 11), detector).write(tmp_path / f"{cells}.h5")
        rows = read_rows(tmp_path / f"{cells}.h5", threshold=0.5)
        assert rows.index.dtype == kind
        np.testing.assert_array_equal(rows.dense(torch.arange(2)), voxels)
