"""The full side with a library made up for the purpose: placing, energy, reuse; the library's own making."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError
from caloforge.events import Reuse, build_library, events_to_images
from caloforge.events.building import Demand
from caloforge.events.calibration import Calibration
from caloforge.events.full import FORWARD_Z, FullCalorimeter, across, visitors
from caloforge.events.library import ENERGY_EDGES, LibraryWriter, ShowerLibrary, Showers, classes, n_classes
from caloforge.events.species import KINDS
from caloforge.events.spots import SpotMaker
from caloforge.events.towers import Readout
from caloforge.incident import Incident
from caloforge.jets import CMS, Images
from caloforge.showers import Showers as VoxelShowers
from caloforge.simulation import simulate
from test_events import make_events, write

MADE = {"cpu_seconds": 12.0, "made_for_events": 6}


def library(path: Path, kinds: tuple[int, ...] = KINDS, spots: int = 2, spread: float = 0.0) -> ShowerLibrary:
    """Three showers in each energy class of each kind; all energy in the shower's spots, half of it hadronic."""
    rng = np.random.default_rng(0)
    edges = ENERGY_EDGES
    kind = np.repeat([KINDS.index(code) for code in kinds], 3 * (len(edges) - 1))
    energy = np.tile(np.repeat(np.sqrt(edges[1:] * edges[:-1]), 3), len(kinds))
    n = len(kind)
    place = np.zeros((n * spots, 3), np.float32)
    place[:, :2] = rng.normal(0, 1, (n * spots, 2)) * spread
    place[:, 2] = 100.0
    deposit = np.repeat(energy / spots, spots).astype(np.float32)
    showers = Showers(kind, energy, np.arange(n + 1) * spots, place, deposit, np.arange(n * spots) % 2 == 1)
    with LibraryWriter(path, {"ecal": 1.0, "hcal": 100.0}, MADE, overwrite=True) as writer:
        writer.append(showers)
    return ShowerLibrary(path)


def calorimeter(path: Path, **options: Any) -> FullCalorimeter:
    return FullCalorimeter(library(path, **options), ecal=Readout(), hcal=Readout(), limit=1e9)


PARTICLES = st.tuples(
    st.sampled_from([22, 11, -211, 130, 2112, 13]), st.floats(2e3, 1e5), st.floats(-4.0, 4.0), st.floats(-3.1, 3.1)
)


@settings(max_examples=30, deadline=None)
@given(particles=st.lists(st.lists(PARTICLES, max_size=5), min_size=1, max_size=3), seed=st.integers(0, 99))
def test_energy_is_kept_away_from_the_edges(
    tmp_path_factory: pytest.TempPathFactory, particles: list[list[tuple[int, float, float, float]]], seed: int
) -> None:
    events = make_events(particles)
    full = calorimeter(tmp_path_factory.getbasetemp() / "library.h5", spread=20.0)
    found = visitors(events)
    ecal, hcal = full.towers(events, np.random.default_rng(seed))
    energy = np.bincount(found.row, weights=found.energy, minlength=len(events))
    np.testing.assert_allclose(ecal.sum(axis=1), energy / 2, rtol=1e-6)
    np.testing.assert_allclose(hcal.sum(axis=1), energy / 2, rtol=1e-6)


@pytest.mark.parametrize("eta", [0.3, -1.2, 1.8, -2.6, 3.2, -4.1])
def test_a_neutral_particle_keeps_its_tower_at_any_depth(tmp_path: Path, eta: float) -> None:
    events = make_events([[(22, 2e4, eta, 2.5)]])
    image = calorimeter(tmp_path / "library.h5").images(events, np.random.default_rng(0))
    assert image.index.tolist() == [int(CMS.tower(eta, 2.5))]
    assert image.energy[0] == pytest.approx(2e4 * math.cosh(eta), rel=1e-5)


def test_where_particles_arrive() -> None:
    events = make_events(
        [[(22, 1e4, 0.5, 1.0), (22, 1e4, 2.0, 1.0), (22, 1e4, -3.5, 1.0), (12, 1e4, 0, 0), (22, 5, 0, 0)]]
    )
    found = visitors(events)
    assert len(found.row) == 3  # a neutrino leaves nothing, 5 MeV are too little
    np.testing.assert_allclose(np.hypot(*found.position[0, :2]), 1290)
    np.testing.assert_allclose(found.position[1:, 2], [3000, -FORWARD_Z])
    np.testing.assert_allclose(found.eta, [0.5, 2.0, -3.5], rtol=1e-5)


@given(st.lists(st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1), min_size=1, max_size=5))
def test_axes_across_are_orthonormal(vectors: list[tuple[float, float, float]]) -> None:
    direction = np.array(vectors) / np.linalg.norm(vectors, axis=1, keepdims=True)
    first, second = across(direction, np.linspace(0, 6, len(direction)))
    frame = np.stack([first, second, direction], axis=1)
    np.testing.assert_allclose(frame @ frame.transpose(0, 2, 1), np.broadcast_to(np.eye(3), frame.shape), atol=1e-12)


def test_images_of_a_file(tmp_path: Path) -> None:
    library(tmp_path / "library.h5", spread=30.0)
    rng = np.random.default_rng(1)
    particles = [[(211, *row) for row in rng.uniform([1e3, -2, -3], [3e4, 2, 3], (8, 3))] for _ in range(6)]
    path = write(make_events(particles), tmp_path / "events.h5")
    made = events_to_images(path, tmp_path / "full.h5", "full", library=tmp_path / "library.h5", seed=4)
    again = events_to_images(path, tmp_path / "again.h5", "full", library=tmp_path / "library.h5", seed=4, n=3)
    full = Images.read(tmp_path / "full.h5")
    np.testing.assert_array_equal(full.dense()[:3], Images.read(tmp_path / "again.h5").dense())
    assert full.side == "full" and full.provenance == made and made["frozen_showers"]
    assert made["placements"] == 48 and 1 <= made["reuse_factor"] < 20 and again["placements"] == 48
    assert made["seconds_per_event"] >= 2.0 == made["library_share"]  # 12 CPU seconds for 6 events


def test_showers_used_too_often(tmp_path: Path) -> None:
    library(tmp_path / "library.h5")
    path = write(make_events([[(22, 2e4, 0.3, 2.5)] * 80]), tmp_path / "events.h5")
    with pytest.raises(CaloforgeError, match="make a larger one"):
        events_to_images(path, tmp_path / "full.h5", "full", library=tmp_path / "library.h5")
    assert not (tmp_path / "full.h5").exists()


def test_a_kind_that_is_missing(tmp_path: Path) -> None:
    found = library(tmp_path / "library.h5", kinds=(22,))
    events = make_events([[(211, 2e4, 0.3, 2.5)]])
    with pytest.raises(CaloforgeError, match=r"no shower for a pi\+"):
        FullCalorimeter(found).images(events, np.random.default_rng(0))


def test_nearest_energies_stand_in(tmp_path: Path) -> None:
    kind, energy = np.array([0, 0]), np.array([1e3, 9e4])
    showers = Showers(kind, energy, np.array([0, 1, 2]), np.zeros((2, 3), np.float32), energy.astype("f4"), energy < 0)
    with LibraryWriter(tmp_path / "l.h5", {}, MADE) as writer:
        writer.append(showers)
    found = ShowerLibrary(tmp_path / "l.h5")
    wanted = classes(np.zeros(3, np.int64), np.array([20.0, 3e4, 5e6]))
    np.testing.assert_array_equal(found.stand_ins(wanted), classes(kind[[0, 0, 0]], energy[[0, 1, 1]]))
    assert classes(kind, np.array([1.0, 20.0])).tolist() == [-1, 0]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("shower/kind", 5, "unknown kind"), ("spots/x", np.nan, "NaN"), ("shower/energy", 1e6, "sorted")],
)
def test_a_spoiled_library(tmp_path: Path, name: str, value: float, words: str) -> None:
    library(tmp_path / "library.h5").close()
    with h5py.File(tmp_path / "library.h5", "r+", libver=("v110", "v110")) as file:
        file[name][0] = value
    with pytest.raises(CaloforgeError, match=words), ShowerLibrary(tmp_path / "library.h5") as found:
        found.counts.sum()


# -- making one ----------------------------------------------------------------------------------------------

CALORIMETERS = """
name = "two"
[[stack]]
slabs = [{ material = "PbWO4", thickness = 200.0, sensitive = true }]
[[stack]]
repeat = 2
slabs = [{ material = "Cu", thickness = 50.0 }, { material = "polystyrene", thickness = 5.0, sensitive = true }]
[readout]
layers = [
  { cells = [8, 8], cell_size = [20.0, 20.0] },
  { cells = [8, 8], cell_size = [20.0, 20.0] },
  { cells = [8, 8], cell_size = [20.0, 20.0] },
]
"""


@pytest.fixture
def two() -> Detector:
    return Detector.from_toml(CALORIMETERS)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), density=st.floats(0.01, 0.5))
def test_spots_keep_energy_and_middle(seed: int, density: float) -> None:
    two = Detector.from_toml(CALORIMETERS)
    rng = np.random.default_rng(seed)
    voxels = rng.exponential(1.0, (6, two.n_voxels)) * (rng.random((6, two.n_voxels)) < density)
    voxels[3] = 0
    place = rng.uniform(-10, 10, (6, 2))
    showers = VoxelShowers.from_dense(voxels, Incident.of(np.full(6, 1e3), position=place), two)
    maker = SpotMaker(two, pitch=40.0, smallest=0.0)
    spots = maker.spots(showers, ecal=2.0, hcal=50.0)
    row = np.repeat(np.arange(6), np.diff(spots.offset))
    for part, factor in ((spots.hadronic, 50.0), (~spots.hadronic, 2.0)):
        first = slice(64, None) if factor > 2 else slice(0, 64)
        energy = np.bincount(row[part], weights=spots.deposit[part], minlength=6)
        np.testing.assert_allclose(energy, showers.dense().reshape(6, -1)[:, first].sum(axis=1) * factor, rtol=1e-4)
        for axis in (0, 1):
            moment = np.bincount(row[part], weights=(spots.deposit * spots.place[:, axis])[part], minlength=6)
            where = two.voxel_positions[first, axis][None, :] - place[:, axis : axis + 1]
            expected = (showers.dense().reshape(6, -1)[:, first] * where).sum(axis=1) * factor
            np.testing.assert_allclose(moment, expected, rtol=1e-3, atol=1e-2 * factor)
    fewer = SpotMaker(two, pitch=40.0, smallest=60.0).spots(showers, ecal=2.0, hcal=50.0)
    assert len(fewer.deposit) <= len(spots.deposit)


def test_one_material_is_no_two_calorimeters(tiny: Detector) -> None:
    with pytest.raises(CaloforgeError, match="one sensitive material"):
        SpotMaker(tiny)


def test_what_events_need(tmp_path: Path) -> None:
    """Enough showers for each class: soft, central and forward particles, and no kind without any."""
    rng = np.random.default_rng(0)
    soft = [(22, 800.0, 0.5, phi) for phi in rng.uniform(-3, 3, 320)]
    hard = [(211, 8e3 / math.cosh(1.0), 1.0, phi) for phi in rng.uniform(-3, 3, 180)]
    forward = [(211, 8e3 / math.cosh(3.5), 3.5, phi) for phi in rng.uniform(-3, 3, 90)]
    rare = [(2112, 3e4, 0.0, 0.0)]
    path = write(make_events([soft + hard, forward + rare]), tmp_path / "events.h5")
    demand = Demand.of([path, path], None, Reuse(), CMS, lambda *a: None)
    placed = np.bincount(demand.classes, minlength=n_classes()) / 2  # each file is served on its own
    assert demand.events == 4 and placed.sum() == 591
    assert placed.sum() / demand.needed.sum() < 20
    kinds, energies = demand.particles()
    assert len(kinds) == demand.needed.sum()
    count = {code: int((kinds == KINDS.index(code)).sum()) for code in (22, 211, 2112)}
    assert 20 <= count[22] <= 21 and count[211] >= 10 and count[2112] == 1
    assert energies[kinds == KINDS.index(2112)][0] == pytest.approx(math.hypot(3e4, 939.565) - 939.565, rel=1e-4)
    with pytest.raises(CaloforgeError, match="no particles"):
        Demand.of([write(make_events([[]]), tmp_path / "no.h5")], None, Reuse(), CMS, lambda *a: None)
    with pytest.raises(CaloforgeError, match="1 to 1000"):
        Reuse(soft=0)


def stop_at_showers(detector: Detector, n: int, output: Path, **how: Any) -> Path:
    if output.name.endswith(".showers.h5"):
        raise KeyboardInterrupt
    return simulate(detector, n, output, **how)


def test_a_library_of_geant4_showers(tmp_path: Path, two: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    """From events to images with Geant4; the library does not depend on the number of workers."""
    if importlib.util.find_spec("geant4_pybind") is None:  # importing it here would ask for a download
        pytest.skip("geant4_pybind is not installed")
    for name, value in {"energy": 3000.0, "photons": 4, "pions": 8, "quiet": 500.0}.items():
        monkeypatch.setattr(Calibration, name, value)
    rng = np.random.default_rng(3)
    particles = [[(code, *row) for code in (22, -211) for row in rng.uniform([300, -2, -3], [3e3, 2, 3], (12, 3))]] * 2
    path = write(make_events(particles), tmp_path / "events.h5")
    reuse = Reuse(2.0, 2.0, 6.0)
    build_library([path], tmp_path / "l1.h5", detector=two, reuse=reuse, seed=5)
    with monkeypatch.context() as broken:  # two workers, stopped after the simulation
        broken.setattr(SpotMaker, "spots", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build_library([path], tmp_path / "l2.h5", detector=two, reuse=reuse, seed=5, workers=2)
    with pytest.raises(CaloforgeError, match="another request"):
        build_library([path], tmp_path / "l2.h5", detector="cms-like", reuse=reuse, seed=5, resume=True)
    with pytest.raises(CaloforgeError, match="another request"):
        build_library([path], tmp_path / "l2.h5", detector=two, reuse=Reuse(1.0, 1.0, 3.0), seed=5, resume=True)
    build_library([path], tmp_path / "l2.h5", detector=two, reuse=reuse, seed=5, resume=True)
    with ShowerLibrary(tmp_path / "l1.h5") as one, ShowerLibrary(tmp_path / "l2.h5") as other:
        assert one.content_hash() == other.content_hash() and one.calibration == other.calibration
        assert 0.9 < one.calibration["ecal"] < 1.5 < one.calibration["hcal"]
        total = np.bincount(np.repeat(np.arange(len(one)), np.diff(one.showers.offset)), one.showers.deposit)
        photons = one.showers.kind == KINDS.index(22)
        assert (total / one.showers.energy)[photons].mean() == pytest.approx(1, abs=0.15)
    more = Reuse(1.0, 1.0, 3.0)
    build_library([path], tmp_path / "more.h5", detector=two, reuse=more, seed=6, grow=tmp_path / "l1.h5")
    with ShowerLibrary(tmp_path / "l1.h5") as one, ShowerLibrary(tmp_path / "more.h5") as grown:
        assert grown.counts.sum() > one.counts.sum() and (grown.counts >= one.counts).all()
        assert grown.calibration == one.calibration
        assert set(one.showers.energy) <= set(grown.showers.energy)
    with monkeypatch.context() as broken:  # stopped between the calibration and the showers
        broken.setattr("caloforge.events.building.simulate", stop_at_showers)
        with pytest.raises(KeyboardInterrupt):
            build_library([path], tmp_path / "next.h5", detector=two, reuse=reuse, seed=7)
    build_library([path], tmp_path / "next.h5", detector=two, reuse=reuse, seed=7, resume=True)
    with ShowerLibrary(tmp_path / "l1.h5") as one, ShowerLibrary(tmp_path / "next.h5") as other:
        assert one.content_hash() != other.content_hash() and one.calibration == other.calibration
    with pytest.raises(CaloforgeError, match="another seed"):
        build_library([path], tmp_path / "no.h5", detector=two, seed=5, grow=tmp_path / "l1.h5")
    with pytest.raises(CaloforgeError, match="all that these events need"):
        build_library([path], tmp_path / "no.h5", detector=two, reuse=reuse, seed=9, grow=tmp_path / "l1.h5")
    made = events_to_images(path, tmp_path / "full.h5", "full", library=tmp_path / "more.h5", minimum=(0.0, 0.0))
    assert made["library"]["geant4"].startswith("Geant4") and made["reuse_factor"] < 6
    left = ["events.h5", "full.h5", "l1.h5", "l2.h5", "more.h5", "next.h5"]
    assert sorted(p.name for p in tmp_path.iterdir()) == left
