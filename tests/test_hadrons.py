"""Hadronic showers through Geant4: a handful each."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from caloforge.beam import Beam
from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError
from caloforge.showers import Showers
from caloforge.simulation import simulate

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("geant4_pybind") is None,
    reason="Geant4 is not installed: pip install 'caloforge[simulation]'",
)

PLASTIC = """
name = "plastic"
[[stack]]
repeat = 20
slabs = [{{ material = "polystyrene", thickness = 5.0, sensitive = true, birks = {birks} }}]
[readout]
cells = [2, 2]
cell_size = [100.0, 100.0]
gate = {gate}
"""


def shoot(folder: Path, detector: Detector | str, particle: str, gev: float, n: int, workers: int = 1) -> Showers:
    chosen = Detector.load(detector) if isinstance(detector, str) else detector
    beam = Beam.of(chosen, particle=particle, energies_gev=[gev])
    output = folder / f"{workers}.h5"
    return Showers.read(
        simulate(chosen, n, output, beam=beam, seed=3, workers=workers, tables="builtin", overwrite=True)
    )


def plastic(birks: float, gate: float = 150.0) -> Detector:
    return Detector.from_toml(PLASTIC.format(birks=birks, gate=gate))


def test_the_same_showers_for_any_number_of_workers(tmp_path: Path) -> None:
    one, two = (shoot(tmp_path, "tile-hcal", "pi-", 5.0, 50, workers) for workers in (1, 2))
    assert one.energy.tobytes() == two.energy.tobytes()
    assert one.index.tobytes() == two.index.tobytes()
    assert "FTFP_BERT" in one.provenance["physics"]
    assert "neutron cross sections" in one.provenance["tables"]
    # about 3.5 % of the energy is seen; fifty showers know it within 2.5 %
    assert one.total_energy.mean() / 5000 == pytest.approx(0.035, rel=0.12)


@pytest.mark.parametrize("particle", ["K0L", "n", "anti_p", "mu-"])
def test_every_particle_in_the_cms_like_detector(particle: str, tmp_path: Path) -> None:
    showers = shoot(tmp_path, "cms-like", particle, 10.0, 3)
    assert (showers.total_energy > (150 if particle == "mu-" else 0)).all()
    # annihilation gives more than the kinetic energy
    assert showers.total_energy.max() < 12_000


def test_birks_law_takes_its_share(tmp_path: Path) -> None:
    # A muon loses 0.2 MeV/mm: 1 - 1/(1 + 0.0794 * 0.2) = 1.6 % of its light, delta electrons a little more.
    plain = shoot(tmp_path, plastic(0.0), "mu-", 5.0, 25).total_energy
    quenched = shoot(tmp_path, plastic(0.0794), "mu-", 5.0, 25).total_energy
    assert plain.mean() == pytest.approx(0.2 * 100, rel=0.15)
    assert quenched.sum() / plain.sum() == pytest.approx(1 / (1 + 0.0794 * 0.2), abs=0.008)


def test_the_gate_cuts_off_what_comes_late(tmp_path: Path) -> None:
    # A muon needs a third of a nanosecond for 100 mm, and is in the eleventh of twenty slabs after 0.17 ns.
    layers = shoot(tmp_path, plastic(1e-9, 0.17), "mu-", 5.0, 10).dense().sum(axis=(2, 3))
    assert (layers[:, :10] > 0.3).all()
    assert layers[:, 12:].sum() < 0.01 * layers.sum()  # photons' deposits are not timed


def test_an_unknown_particle_ends_in_one_sentence() -> None:
    with pytest.raises(CaloforgeError, match=r"'protn' is not a particle; did you mean 'proton'\?") as caught:
        Beam.of(Detector.load("tile-hcal"), particle="protn")
    assert "\n" not in str(caught.value)


def test_electrons_elsewhere_keep_their_physics(tmp_path: Path) -> None:
    showers = shoot(tmp_path, "lhcb-ecal", "e-", 1.0, 2)
    assert showers.provenance["physics"] == "G4EmStandardPhysics_option1, range cut 0.7 mm"
    assert "neutron" not in showers.provenance["tables"]
    assert np.isfinite(showers.energy).all()
