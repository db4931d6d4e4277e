"""Showers in memory: dense and sparse, picked, joined, and as training takes them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caloforge import shower_file, showers
from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError
from caloforge.incident import Incident
from caloforge.showers import ShowerDataset, Showers

N = 12  # showers of the fixture `sample`


def test_dense_and_sparse_agree(tiny: Detector, voxels: npt.NDArray[np.float32]) -> None:
    showers = Showers.from_dense(voxels, Incident.of(np.ones(N)), tiny)
    assert showers.dense().shape == (N, *tiny.shape)
    np.testing.assert_array_equal(showers.dense().reshape(N, -1), voxels)
    np.testing.assert_allclose(showers.total_energy, voxels.sum(axis=1, dtype=np.float64), rtol=1e-6)
    np.testing.assert_array_equal(showers.n_hits, (voxels > 0).sum(axis=1))
    assert showers.n_hits[N // 2] == 0


def test_threshold_drops_what_lies_at_or_under_it(tiny: Detector) -> None:
    voxels = np.zeros((1, tiny.n_voxels))
    voxels[0, :3] = [0.5, 1.0, 1.5]
    showers = Showers.from_dense(voxels, Incident.of(1.0), tiny, threshold=1.0)
    assert showers.index.tolist() == [2]


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 1e300, 1e20])
def test_impossible_energies_are_refused(tiny: Detector, value: float) -> None:
    voxels = np.zeros((2, tiny.n_voxels))
    voxels[1, 5] = value
    with pytest.raises(CaloforgeError, match="voxel energies hold"):
        Showers.from_dense(voxels, Incident.of([1.0, 1.0]), tiny)


def test_shapes_that_do_not_fit_are_refused(tiny: Detector) -> None:
    with pytest.raises(CaloforgeError, match="do not fit"):
        Showers.from_dense(np.zeros((2, tiny.n_voxels + 1)), Incident.of([1.0, 1.0]), tiny)
    with pytest.raises(CaloforgeError, match="do not fit"):
        Showers.from_dense(np.zeros((2, tiny.n_voxels)), Incident.of([1.0]), tiny)
    with pytest.raises(CaloforgeError, match="do not make showers"):
        Showers(Incident.of([1.0]), tiny, np.array([0, 3]), np.zeros(2, np.uint32), np.ones(2, np.float32))


def test_no_showers_are_showers_too(tiny: Detector, tmp_path: Path) -> None:
    none = Showers.from_dense(np.zeros((0, tiny.n_voxels)), Incident.of([]), tiny)
    none.write(tmp_path / "none.h5")
    read = Showers.read(tmp_path / "none.h5")
    assert len(read) == 0 and read.dense().shape == (0, *tiny.shape) and read.total_energy.shape == (0,)
    assert len(Showers.from_dense([], Incident.of([]), tiny)) == 0  # type: ignore[arg-type]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.lists(st.integers(-N, N - 1), max_size=20))
def test_picking_in_any_order(sample: Showers, which: list[int]) -> None:
    picked = sample[which]
    np.testing.assert_array_equal(picked.dense(), sample.dense()[which])
    np.testing.assert_array_equal(picked.incident.energy, sample.incident.energy[which])


def test_picking_by_number_slice_and_mask(sample: Showers) -> None:
    assert len(sample[3]) == 1 and sample[3].content_hash() == sample[3:4].content_hash()
    mask = sample.n_hits > 5
    np.testing.assert_array_equal(sample[mask].dense(), sample.dense()[mask])
    assert len(list(sample)) == N  # type: ignore[call-overload]
    with pytest.raises(IndexError):
        sample[N]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, N), max_size=4))
def test_pieces_join_to_the_whole(sample: Showers, cuts: list[int]) -> None:
    ends = [0, *sorted(cuts), N]
    joined = Showers.concatenate([sample[a:b] for a, b in pairwise(ends)])
    assert joined.content_hash() == sample.content_hash()


def test_only_showers_of_one_detector_join(sample: Showers) -> None:
    lhcb = Detector.load("lhcb-ecal")
    other = Showers.from_dense(np.zeros((1, lhcb.n_voxels)), Incident.of([1.0]), lhcb)
    with pytest.raises(CaloforgeError, match="different voxels"):
        Showers.concatenate([sample, other])
    with pytest.raises(CaloforgeError, match="no showers"):
        Showers.concatenate([])


def test_hash_depends_on_every_value(sample: Showers) -> None:
    hashes = {sample.content_hash()}
    for name in ("pdg", "energy", "direction", "position"):
        changed = sample[:]
        getattr(changed.incident, name).flat[0] += 1
        hashes.add(changed.content_hash())
    changed = sample[:]
    changed.energy[0] = np.nextafter(changed.energy[0], 1)
    hashes.add(changed.content_hash())
    assert len(hashes) == 6
    changed = sample[:]
    changed.provenance["seed"] = 99
    assert changed.content_hash() in hashes


def test_dataset_gives_what_training_needs(sample: Showers) -> None:
    data = ShowerDataset(sample, ["log_energy", "x"])
    voxels, condition, energy = data.batch(np.array([4, 1]))
    torch.testing.assert_close(voxels, torch.from_numpy(sample.dense()[[4, 1]]))
    assert condition.shape == (2, 2) and condition.dtype == torch.float32
    torch.testing.assert_close(condition[:, 0], torch.log(energy))
    assert len(data) == N and data[3][0].shape == sample.detector.shape
    assert ShowerDataset(sample, []).batch(np.array([0]))[1].shape == (1, 0)


def test_the_file_is_found_beside_the_showers() -> None:
    assert showers.ShowerFile is shower_file.ShowerFile
    assert all(hasattr(showers, name) for name in showers.__all__)
    with pytest.raises(AttributeError, match="no attribute 'ShowerFiel'"):
        showers.ShowerFiel  # type: ignore[attr-defined]  # noqa: B018
