"""Showers replaced in Geant4: what is taken, what is left, where the energy goes, and that batches change nothing.

Geant4 allows one run manager a process, so each of its runs is a process here; generators are fakes of known deposits.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from caloforge.beam import Beam
from caloforge.cli import app
from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError, CaloforgeWarning
from caloforge.generation import Sampler
from caloforge.incident import Incident
from caloforge.showers import Showers
from caloforge.simulation import FastShowers, simulate
from caloforge.simulation.fast import FastRequest
from conftest import TINY

DOMAIN: dict[str, list[Any]] = {
    "pdg": [11], "energy": [100.0, 500.0], "x": [-5.0, 5.0], "y": [-5.0, 5.0], "tan_x": [-0.1, 0.1], "tan_y": [0.0, 0.0]
}  # fmt: skip
AHEAD = (0.0, 0.0, 1.0)
needs_geant4 = pytest.mark.skipif(
    importlib.util.find_spec("geant4_pybind") is None,
    reason="Geant4 is not installed: pip install 'caloforge[simulation]'",
)


def deposits(incident: Incident, *, seed: int, numbers: npt.NDArray[np.int64]) -> Showers:
    """Half of the energy in the voxel whose cell the particle meets in the first layer, a tenth in the last voxel."""
    detector = Detector.from_toml(TINY)
    voxels = np.zeros((len(incident), detector.n_voxels))
    cell = np.floor(incident.position / 10.0).astype(int) + np.array([4, 3])
    voxels[np.arange(len(incident)), cell[:, 1] * 8 + cell[:, 0]] = incident.energy / 2
    voxels[:, -1] += incident.energy / 10
    return Showers.from_dense(voxels, incident, detector)


def noise(incident: Incident, *, seed: int, numbers: npt.NDArray[np.int64]) -> Showers:
    """Voxels of noise that depends on the seed and the number alone."""
    detector = Detector.from_toml(TINY)
    rows = [np.random.default_rng([seed, int(n)]).random(detector.n_voxels) for n in numbers]
    return Showers.from_dense(np.array(rows), incident, detector)


def fast(generate: Any = deposits, domain: dict[str, list[Any]] = DOMAIN, **options: Any) -> FastShowers:
    return FastShowers(generate, Detector.from_toml(TINY), domain, **options)


def test_only_what_the_model_can_do_is_taken_and_each_reason_counted() -> None:
    showers = fast(conditions=["log_energy", "x", "tan_x"], threshold=200.0)
    assert showers.offer(11, 300.0, AHEAD, (0.0, 0.0))
    assert showers.offer(11, 200.0, AHEAD, (0.0, 0.0))  # at the threshold
    assert not showers.offer(22, 300.0, AHEAD, (0.0, 0.0))
    assert not showers.offer(11, 199.9, AHEAD, (0.0, 0.0))
    assert not showers.offer(11, 501.0, AHEAD, (0.0, 0.0))
    assert not showers.offer(11, 300.0, (0.11, 0.0, 1.0), (0.0, 0.0))  # beyond a condition's range
    assert showers.offer(11, 300.0, (0.0, 0.009, 1.0), (0.0, 0.0))  # one angle, a little off
    assert not showers.offer(11, 300.0, (0.0, 0.011, 1.0), (0.0, 0.0))
    assert showers.counts == {"replaced": 3, "kind": 1, "below threshold": 1, "energy": 1, "angle": 2}
    assert showers.replaced_energy == 800.0


def test_the_hits_are_what_the_generator_gave() -> None:
    showers = fast()
    showers.offer(11, 300.0, AHEAD, (1.0, 2.0))
    showers.offer(11, 400.0, AHEAD, (-1.0, 2.0))
    showers.end_of_event(7)
    showers.flush()
    voxels, energies = showers.take(7)
    assert dict(zip(voxels.tolist(), energies.tolist(), strict=True)) == {
        3 * 8 + 4: 150.0, 3 * 8 + 3: 200.0, 191: 70.0
    }  # fmt: skip
    assert len(showers.take(7)[0]) == 0  # handed out once


def test_a_shower_far_from_where_the_model_was_trained_is_moved_by_whole_cells() -> None:
    showers = fast(domain={**DOMAIN, "x": [-5.0, 5.0], "y": [2.0, 2.0]})
    showers.offer(11, 300.0, AHEAD, (-23.0, 14.0))  # two cells to the left, one up
    showers.end_of_event(0)
    showers.flush()
    voxels, energies = showers.take(0)
    # Asked for at x = -3 (cell 3), y = 2 (row 3): found in column 1, row 4; the last voxel moves out at the top.
    assert (voxels.tolist(), energies.tolist()) == ([4 * 8 + 1], [150.0])
    assert showers.lost_energy == 30.0


def test_where_cells_are_not_equal_nothing_is_moved() -> None:
    polar = Detector.load("calochallenge-photons")
    showers = FastShowers(deposits, polar, DOMAIN)
    assert not showers.offer(11, 300.0, AHEAD, (23.0, 0.0))
    assert showers.counts == {"position": 1}


def test_a_condition_on_the_position_forbids_moving_outside_its_range() -> None:
    narrow = {**DOMAIN, "x": [-1.0, 1.0]}
    assert not fast(domain=narrow, conditions=["x"]).offer(11, 300.0, AHEAD, (14.0, 0.0))
    assert fast(domain=narrow, conditions=["x"]).offer(11, 300.0, AHEAD, (20.5, 0.0))  # one of its cells away
    assert fast(domain=narrow).offer(11, 300.0, AHEAD, (14.0, 0.0))


def _run(batch: int, events: range, generate: Any = noise) -> dict[int, list[bytes]]:
    showers = fast(generate, seed=3, batch=batch)
    rng = np.random.default_rng(0)
    particles = [rng.uniform(100, 500, k) for k in rng.integers(0, 7, 40)]
    for event in events:
        for energy in particles[event].tolist():
            showers.offer(11, energy, AHEAD, (0.0, 0.0))
        showers.end_of_event(event)
    showers.flush()
    return {event: [part.tobytes() for part in showers.take(event)] for event in events}


def test_batches_and_other_events_do_not_change_an_event() -> None:
    whole = _run(1, range(40))
    assert whole == _run(1000, range(40))
    assert all(whole[event] == found for event, found in _run(16, range(9, 31)).items())
    assert len({part[1] for part in whole.values() if part[1]}) > 30  # and they differ from each other


def test_a_sampler_gives_an_event_the_same_bytes_in_any_batch() -> None:
    sampler = Sampler.from_checkpoint("zoo:lhcb-wgan", device="cpu")
    domain, conditions = sampler.checkpoint.domain, sampler.checkpoint.conditions

    def run(batch: int) -> list[bytes]:
        showers = FastShowers(sampler, sampler.checkpoint.detector, domain, conditions=conditions, seed=1, batch=batch)
        for event in range(40):
            for energy in (5000.0, 7000.0, 9000.0, 20000.0, 30000.0)[: event % 6]:
                assert showers.offer(11, energy, AHEAD, (0.0, 0.0))
            showers.end_of_event(event)
        showers.flush()
        return [part.tobytes() for event in range(40) for part in showers.take(event)]

    assert run(16) == run(1000)


def test_numbers_in_order_are_those_of_a_whole_request() -> None:
    sampler = Sampler.from_checkpoint("zoo:lhcb-wgan", device="cpu")
    incident = Incident.of(np.linspace(5000.0, 50000.0, 70), 11)
    whole = sampler(incident, seed=2)
    picked = np.array([69, 3, 64, 40])
    numbered = sampler(incident[picked], seed=2, numbers=picked)
    assert np.array_equal(numbered.incident.energy, incident.energy[picked])
    np.testing.assert_allclose(numbered.total_energy, whole.total_energy[picked], rtol=1e-5)
    with pytest.raises(CaloforgeError, match="3 numbers for 4 particles"):
        sampler(incident[picked], numbers=picked[:3])


def test_a_wrong_number_of_showers_or_other_voxels_are_refused() -> None:
    showers = fast(lambda incident, **_: deposits(incident[:1], seed=0, numbers=np.zeros(1, np.int64)))
    showers.offer(11, 300.0, AHEAD, (0.0, 0.0))
    showers.offer(11, 300.0, AHEAD, (0.0, 0.0))
    showers.end_of_event(0)
    with pytest.raises(CaloforgeError, match="gave 1 showers for 2 particles; it must give one for each"):
        showers.flush()
    other = FastShowers(deposits, Detector.load("lhcb-ecal"), DOMAIN)
    other.offer(11, 300.0, AHEAD, (0.0, 0.0))
    other.end_of_event(0)
    with pytest.raises(CaloforgeError, match="voxels are not those of 'lhcb-ecal'"):
        other.flush()


@pytest.mark.parametrize(
    ("options", "why"),
    [({"threshold": -1.0}, "threshold of -1"), ({"batch": 0}, "batch of 0"), ({"domain": {}}, "lacks")],
)
def test_what_cannot_be_asked_for_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(CaloforgeError, match=why):
        fast(**options)


def test_hits_go_to_the_applications_own_detectors_in_mm_and_mev() -> None:
    got: list[Any] = []
    showers = fast(on_hits=lambda event, places, energies: got.append((event, places.tolist(), energies.tolist())))
    showers.offer(11, 300.0, AHEAD, (1.0, 2.0))
    showers.end_of_event(4)
    showers.flush()
    assert got == [(4, [[5.0, 5.0, 8.5], [35.0, 25.0, 41.5]], [150.0, 30.0])]


SCRIPT = """
import json, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_fast_showers import DOMAIN, TINY, deposits
from caloforge.detectors import Detector
from caloforge.incident import Incident
from caloforge.simulation.fast import FastShowers
from caloforge.simulation.geant4 import Geant4
from caloforge.simulation.physics_tables import find_tables
from caloforge.simulation.worker import shower_seeds

asked = json.loads(sys.argv[2])
detector = Detector.from_toml(TINY)
if asked["front"]:
    detector = detector.behind(asked["front"])
entrance = sum(t for _, t in asked["front"])
domain = {**DOMAIN, "energy": [1.0, 500.0], "tan_x": [-1.0, 1.0], "tan_y": [-1.0, 1.0]}
fast = FastShowers(deposits, detector, domain, threshold=asked["threshold"], batch=16)
engine = Geant4(detector, find_tables(detector.elements, "builtin"), fast=fast, entrance=entrance)
n = asked["n"]
incident = Incident.of(np.linspace(200.0, 500.0, n), asked["pdg"])
showers, _ = engine.simulate(incident, shower_seeds(1, 0, n), first=0)
again, _ = engine.simulate(incident[4:8], shower_seeds(1, 4, 8), first=4)
same = showers[np.arange(4, 8)]
found = {
    "counts": dict(fast.counts), "total": showers.total_energy.tolist(), "incident": incident.energy.tolist(),
    "hits": showers.n_hits.tolist(), "replaced": fast.replaced_energy,
    "same": again.energy.tobytes() == same.energy.tobytes() and again.index.tobytes() == same.index.tobytes(),
}
print("\\n" + json.dumps(found))
"""


def _geant4(n: int = 20, pdg: int = 11, threshold: float = 50.0, front: tuple[tuple[str, float], ...] = ()) -> Any:
    asked = json.dumps({"n": n, "pdg": pdg, "threshold": threshold, "front": front})
    here = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", SCRIPT, here, asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"counts"')))


@needs_geant4
def test_a_replaced_particle_leaves_nothing_of_geant4_behind() -> None:
    found = _geant4()
    assert found["counts"] == {"replaced": 24}  # twenty, and four of them once more
    np.testing.assert_allclose(found["total"], 0.6 * np.array(found["incident"]), rtol=1e-6)
    assert set(found["hits"]) == {2}
    assert found["same"]


@needs_geant4
@pytest.mark.parametrize(("pdg", "threshold", "why"), [(22, 50.0, "kind"), (11, 600.0, "below threshold")])
def test_what_is_not_replaced_is_simulated_in_full(pdg: int, threshold: float, why: str) -> None:
    found = _geant4(pdg=pdg, threshold=threshold)
    assert found["counts"].keys() >= {why} and "replaced" not in found["counts"]
    visible = np.array(found["total"]) / found["incident"]
    assert 0.02 < visible.mean() < 0.5  # a sampling calorimeter's share, not the fake's six tenths
    assert found["same"]


@needs_geant4
def test_behind_a_slab_electrons_are_replaced_and_their_photons_are_not() -> None:
    found = _geant4(front=(("Al", 20.0), ("air", 50.0)), threshold=20.0)
    counts = found["counts"]
    assert counts["replaced"] >= 20 and counts["kind"] > 10
    total, given = np.array(found["total"]), np.array(found["incident"])
    assert total.sum() < 0.6 * given.sum()  # what went into the slab or photons does not show the fake's share
    assert found["replaced"] < given.sum() + given[4:8].sum()
    assert found["same"]


@needs_geant4
def test_from_the_command_line(tmp_path: Path) -> None:
    """The same showers for any number of workers; a model of another detector is refused, one that idles warned of."""
    electrons = ["simulate", "lhcb-ecal", "-n", "6", "--energy", "5", "--fast", "zoo:lhcb-wgan", "--seed", "3"]
    runner = CliRunner()
    for name, more in (("one.h5", []), ("two.h5", ["--workers", "2"])):
        done = runner.invoke(app, [*electrons, "-o", str(tmp_path / name), *more])
        assert done.exit_code == 0, done.output
    one, two = (Showers.read(tmp_path / name) for name in ("one.h5", "two.h5"))
    assert one.provenance["fast"]["particles"] == {"replaced": 6}
    np.testing.assert_array_equal(one.energy, two.energy)
    np.testing.assert_array_equal(one.index, two.index)
    other = runner.invoke(app, [*electrons, "--fast", "zoo:ild-low-rank", "-o", str(tmp_path / "other.h5")])
    assert other.exit_code == 2 and "whose voxels are not those of 'lhcb-ecal'" in " ".join(other.output.split())
    assert not (tmp_path / "other.h5").exists()
    muons = Beam.of(Detector.load("lhcb-ecal"), particle="mu-", energies_gev=[5, 5])
    with pytest.warns(CaloforgeWarning, match=r"replaced no shower: kind \(2\)"):
        simulate("lhcb-ecal", 2, tmp_path / "muons.h5", beam=muons, fast=FastRequest("zoo:lhcb-wgan"))
