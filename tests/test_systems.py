"""The published systems' figures as a report has them: whole on a small detector, left out where they mean nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest

from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError
from caloforge.evaluation import systems
from caloforge.evaluation.sample import measure
from caloforge.evaluation.systems import peak_limits, score_systems
from caloforge.incident import Incident
from caloforge.showers import Showers
from conftest import some_showers


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    from conftest import TINY

    tiny = Detector.from_toml(TINY)
    folder = tmp_path_factory.mktemp("systems")
    some_showers(tiny, 400, 1).write(folder / "a.h5")
    b = some_showers(tiny, 400, 2)
    # Half of the generated showers are 40 % too bright.
    brighter = b.dense() * np.where(np.arange(400) % 2, 1.4, 1.0)[:, None, None, None].astype(np.float32)
    Showers.from_dense(brighter, b.incident, tiny).write(folder / "b.h5")
    one = measure(folder / "a.h5")
    two, same = (measure(folder / name, edges=one.edges) for name in ("b.h5", "a.h5"))
    return score_systems(one, two, seed=3), score_systems(one, same, seed=3), (one, two)


def test_all_parts_are_there_and_plain(scored):
    (data, found), _, _ = scored
    assert data["missing"] == {}
    parts = "visible_energy shapes edges cells cell_peak components similarity embedding".split()
    assert set(parts) < set(data)
    json.dumps(data, allow_nan=False)
    assert found.embedding is not None and found.embedding[0].shape == (400, 2)


def test_a_sample_against_itself_differs_in_nothing(scored):
    _, (data, _), _ = scored
    for window in data["shapes"]:
        assert all(axis["value"] == 0 for axis in window["mse"].values())
    assert all(edge["value"] == 0 for edge in data["edges"].values())
    assert data["cells"]["average_mean"]["value"] == 1 and data["cells"]["average_std"]["value"] == 1
    assert all(row["value"] == pytest.approx(1) for row in data["components"])
    assert data["cell_peak"]["position"]["value"] == 1


def test_what_was_changed_is_found(scored):
    (data, _), _, _ = scored
    for row in data["visible_energy"]:
        one, two = row["reference"], row["generated"]
        error = np.hypot(two["error_mev"], 1.2 * one["error_mev"])
        assert abs(two["mean_mev"] - 1.2 * one["mean_mev"]) < 3 * error < 0.2 * one["mean_mev"]
        assert row["generated"]["sigma_mev"] > row["reference"]["sigma_mev"]
    for window in data["shapes"]:
        mean = window["mse"]["mean"]
        assert mean["value"] > mean["floor"]["value"] + 3 * mean["floor"]["error"]
    ratio = data["cells"]["average_mean"]
    assert ratio["value"] == pytest.approx(1.2, abs=3 * ratio["error"] + 0.02)
    assert abs(data["cells"]["average_mean"]["floor"]["value"] - 1) < 0.2


def test_windows_hold_every_shower_once(scored):
    (data, found), _, _ = scored
    assert sum(len(w.reference) for w in found.windows) >= 400
    energies = np.sort(np.concatenate([w.reference.incident.energy for w in found.windows]))
    assert len(np.unique(energies)) == 400
    assert len(found.narrow.reference) >= systems.NARROW and len(found.narrow.generated) >= systems.NARROW
    assert data["cells"]["reference"] == len(found.narrow.reference)


def test_same_seed_same_numbers(scored):
    (data, _), _, (one, two) = scored
    again, _ = score_systems(one, two, seed=3)
    assert json.dumps(again) == json.dumps(data)
    quick, found = score_systems(one, two, seed=3, quick=True)
    assert "similarity" not in quick and "embedding" not in quick and found.ssim == {}
    assert quick["shapes"] == data["shapes"]


def test_what_cannot_be_had_is_left_out_and_said(tmp_path):
    detector = Detector.load("calochallenge-photons")
    rng = np.random.default_rng(0)
    voxels = rng.exponential(size=(80, detector.n_voxels)) * (rng.random((80, detector.n_voxels)) < 0.2)
    Showers.from_dense(voxels, Incident.of(np.full(80, 1e3)), detector).write(tmp_path / "a.h5")
    one = measure(tmp_path / "a.h5")
    data, found = score_systems(one, one, seed=0)
    assert {"shapes", "edges", "components", "similarity", "embedding"} <= {*data["missing"]}
    assert "not all cut into the same cells" in data["missing"]["shapes"]
    assert found.components is None and data["visible_energy"][0]["reference"]["n"] == 80


def test_limits_of_the_peak_leave_the_dust_out():
    rng = np.random.default_rng(0)
    cells = np.concatenate([np.exp(rng.normal(np.log(0.15), 0.3, 5000)), np.full(20_000, 1e-10)])
    low, high = peak_limits(cells)
    assert low < 0.15 / 4 and 0.15 * 8 < high < 0.15 * 18
    with pytest.raises(CaloforgeError, match="no cell holds energy"):
        peak_limits(np.zeros(3))
