"""The classifier's area under the curve where it is known."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.stats import norm

from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError
from caloforge.evaluation import CLASSIFIERS
from caloforge.evaluation.classifier import Separation, _auc, separate
from caloforge.evaluation.distributions import Floats
from caloforge.evaluation.sample import measure
from caloforge.incident import Incident
from caloforge.showers import Showers


def normal(seed: int, n: int, shift: float = 0.0, d: int = 1) -> Floats:
    x = np.random.default_rng(seed).normal(size=(n, d))
    x[:, 0] += shift
    return x


def test_area_is_sklearns() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 50).astype(float), rng.integers(2, 12, 80).astype(float)
    assert _auc(a, b) == pytest.approx(roc_auc_score(np.repeat([1, 0], [50, 80]), np.concatenate([a, b])))


@pytest.mark.parametrize("shift", [0.5, 1.5])
def test_gaussian_shift(shift: float) -> None:
    """No classifier beats Phi(d / sqrt 2) on two Gaussians d apart; this one comes close."""
    found = separate(normal(1, 5000), normal(2, 5000, shift), seed=0, repeats=3)
    expected = norm.cdf(shift / np.sqrt(2))
    assert found.auc.value == pytest.approx(expected, abs=0.02)
    assert len(found.repeats) == 3 and 0 < found.auc.error < 0.02


def test_separable_and_equal() -> None:
    assert separate(normal(1, 300, d=3), normal(2, 300, 50, d=3), seed=0, repeats=2).auc.value > 0.998
    same = separate(normal(1, 2000, d=3), normal(2, 2000, d=3), seed=0, repeats=3)
    assert same.auc.value == pytest.approx(0.5, abs=0.04)
    floor = separate(normal(1, 2000, d=3), None, seed=0, repeats=3)
    assert floor.auc.value == pytest.approx(0.5, abs=0.05)


def test_same_seed_same_answer() -> None:
    a, b = normal(1, 500, d=2), normal(2, 500, 0.5, d=2)
    one, two, other = (separate(a, b, seed=s, repeats=2).repeats for s in (3, 3, 4))
    assert one == two != other


def test_groups_are_scored_on_their_own() -> None:
    """A good average hides a bad group: half of the showers differ, the other half does not."""
    a, b = normal(1, 2000, d=2), normal(2, 2000, d=2)
    group = np.repeat([0, 1], 1000)
    a[:, 1] = b[:, 1] = group
    b[1000:, 0] += 3
    found = separate(a, b, seed=0, repeats=2, groups=(group, group))
    assert found.by_group[0] is not None and found.by_group[1] is not None
    assert found.by_group[0].value == pytest.approx(0.5, abs=0.06)
    assert found.by_group[1].value > 0.95
    assert found.curve.shape == (2, 101) and found.curve[1, -1] == 1


def test_too_few() -> None:
    with pytest.raises(CaloforgeError, match="needs 50"):
        separate(normal(1, 49), normal(2, 49), seed=0)


@pytest.mark.parametrize("cells", [6, 40], ids=["all voxels", "busiest voxels"])
def test_features_of_showers(tmp_path, cells: int) -> None:
    """The low-level view holds every voxel or the busiest ones and keeps all the energy."""
    detector = Detector.from_mapping(
        {"name": "d", "readout": {"cells": [cells, cells], "cell_size": [5.0, 5.0], "depth": 2, "z": [0.0, 1.0, 2.0]}}
    )
    rng = np.random.default_rng(0)
    dense = rng.exponential(size=(60, detector.n_voxels)) * (rng.random((60, detector.n_voxels)) < 0.3)
    dense[5] = 0
    Showers.from_dense(dense, Incident.of(rng.uniform(1e3, 2e3, 60)), detector).write(tmp_path / "a.h5")
    sample = measure(tmp_path / "a.h5")
    rows = np.arange(0, 60, 3)
    features, note = CLASSIFIERS["low"].features(sample, sample, rows)
    kept = min(detector.n_voxels, 1000)
    assert features.shape == (20, 5 + kept + 1 + 2 + 2)
    assert ("1000 of 3200" if cells == 40 else "all 72") in note
    filled = dense[rows].sum(axis=1) > 0
    total = features[:, 5 : 5 + kept].sum(axis=1) + features[:, -2:].sum(axis=1)
    np.testing.assert_allclose(total[filled], 1, rtol=1e-5)
    features, note = CLASSIFIERS["high"].features(sample, sample, rows)
    assert len(features) == 20 and "observables" in note


def test_warnings_are_left_as_they_were() -> None:
    """Trainings side by side neither warn of scikit-learn's own affairs nor change what is warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        separate(normal(1, 300, d=40), normal(2, 300, d=40), seed=0, repeats=4)
        assert warnings.filters == before
        warnings.warn("still heard", UserWarning, stacklevel=1)
    assert [str(w.message) for w in caught] == ["still heard"]


def test_floor_has_groups_too() -> None:
    """The reference against itself is scored by group as well, with the showers' own groups."""
    x = normal(1, 1200, d=2)
    group = (x[:, 1] > 0).astype(np.int64)
    found = separate(x, None, seed=0, repeats=2, groups=(group, group))
    assert found.group_areas.shape == (2, 2) and np.isfinite(found.group_areas).all()
    assert all(e is not None and abs(e.value - 0.5) < 0.1 for e in found.by_group)
    again = Separation.of(found.arrays()["areas"], found.curve, found.group_areas)
    assert again.auc == found.auc and again.by_group == found.by_group and again.repeats == found.repeats
