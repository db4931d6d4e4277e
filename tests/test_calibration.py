"""Calibrations: measured, shipped, taken over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError
from caloforge.events import events_to_images
from caloforge.events.calibration import KNOWN, Calibration
from caloforge.events.library import LibraryWriter, Showers
from caloforge.events.spots import SpotMaker
from caloforge.incident import Incident
from caloforge.jets import Images
from caloforge.shower_file import ShowerWriter
from caloforge.showers import Showers as VoxelShowers
from test_events import make_events, write
from test_full_side import CALORIMETERS, MADE, library


def signals(detector: Detector, incident: Incident, loud: float = 1.0) -> VoxelShowers:
    """Photons show 80 % of their energy; pions that pass leave 300 MeV, then 1 % of the rest."""
    rng = np.random.default_rng(0)
    voxels = np.zeros((len(incident), detector.n_voxels))
    photons = incident.pdg == 22
    voxels[photons, 5] = 0.8 * Calibration.energy
    early = ~photons & (rng.random(len(incident)) < 0.5)
    one, two = np.searchsorted(detector.voxel_layers, [detector.n_layers - 2, detector.n_layers - 1])
    voxels[early, 5], voxels[early, one] = 1.3e4, 100.0
    late = ~photons & ~early
    voxels[late, 5], voxels[late, one], voxels[late, two] = 300 * 0.8, 100.0, 397.0
    return VoxelShowers.from_dense(voxels * loud, incident, detector)


def test_calibration_is_measured() -> None:
    two = Detector.from_toml(CALORIMETERS)
    found = Calibration.measure(signals(two, Calibration.incident()), SpotMaker(two))
    assert found.ecal == pytest.approx(1 / 0.8)
    assert found.hcal == pytest.approx((Calibration.energy - 300) / 497.0)
    with pytest.raises(CaloforgeError, match="cannot be calibrated"):
        Calibration.measure(signals(two, Calibration.incident(), 0.0), SpotMaker(two))


def test_all_particles_to_calibrate_with_are_the_same() -> None:
    one, two = Calibration.incident(), Calibration.incident()
    np.testing.assert_array_equal(one.position, two.position)
    assert (one.pdg == 22).sum() == Calibration.photons and (one.pdg == -211).sum() == Calibration.pions
    assert abs(one.position).max() < 14.5


def test_a_detector_that_ships_is_known_and_an_edited_one_measured(tmp_path: Path) -> None:
    asked = []

    def simulate(incident: Incident, raw: Path, seed: int) -> None:
        asked.append((len(incident), seed))
        showers = signals(detector, incident)
        with ShowerWriter(raw, detector, {"producer": "test"}) as file:
            file.append(showers)

    detector = Detector.load("cms-like")
    assert Calibration.of(detector, SpotMaker(detector), tmp_path / "raw.h5", simulate) == KNOWN["cms-like"]
    assert not asked
    for edited in (detector.behind([("air", 10.0)]), Detector.from_toml(CALORIMETERS)):
        detector = edited
        found = Calibration.of(detector, SpotMaker(detector), tmp_path / f"{len(asked)}.h5", simulate)
        assert found != KNOWN["cms-like"]
    assert asked == 2 * [(Calibration.photons + Calibration.pions, Calibration.seed)]


def test_libraries_agree_with_one_calibration(tmp_path: Path) -> None:
    """A library whose hadronic calorimeter is calibrated 6 % higher, and its images with another's calibration."""
    one, high, strange = (tmp_path / f"{name}.h5" for name in ("one", "high", "strange"))
    showers = library(one).showers
    scaled = np.where(showers.hadronic, 1.06, 1.0).astype(np.float32) * showers.deposit
    like_cms = tmp_path / "like-cms.h5"
    more = ((strange, 100.0, MADE | {"detector": "other"}), (like_cms, 100.0, MADE | {"detector": "cms-like"}))
    for path, hcal, made in ((high, 106.0, MADE), *more):
        with LibraryWriter(path, {"ecal": 1.0, "hcal": hcal}, made) as writer:
            writer.append(
                Showers(showers.kind, showers.energy, showers.offset, showers.place, scaled, showers.hadronic)
            )
    events = tmp_path / "events.h5"
    write(make_events([[(211, 3e4, 0.5, 1.0), (22, 2e4, -1.5, 0.2)]] * 4), events)
    images = {}
    for name, path, calibration in (("one", one, None), ("high", high, None), ("agreed", high, one)):
        output = tmp_path / f"{name}-image.h5"
        made = events_to_images(events, output, "full", library=path, calibration=calibration)
        assert made["calibration"] == {"ecal": 1.0, "hcal": 106.0 if name == "high" else 100.0}
        images[name] = Images.read(output).total_energy
    np.testing.assert_allclose(images["high"], 1.03 * images["one"], rtol=1e-5)
    np.testing.assert_allclose(images["agreed"], images["one"], rtol=1e-5)
    for calibration, refused in (
        (strange, r"is of detector 'None', the calibration .*strange.h5' of 'other'; give a calibration of the same"),
        ("cms-like", "is of detector 'None', the calibration 'cms-like' of 'cms-like'"),
        ("nothing", "there is no library 'nothing' and no detector of that name whose calibration ships; .*cms-like"),
    ):
        with pytest.raises(CaloforgeError, match=refused):
            events_to_images(events, tmp_path / "x.h5", "full", library=one, calibration=calibration)
    with pytest.raises(CaloforgeError, match="leave --library and --calibration out"):
        events_to_images(events, tmp_path / "x.h5", "fast", calibration=one)
    assert not (tmp_path / "x.h5").exists()
    made = events_to_images(events, tmp_path / "x.h5", "full", library=like_cms, calibration="cms-like")
    assert made["calibration"] == KNOWN["cms-like"].factors
