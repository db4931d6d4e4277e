"""Collisions and the fast side: event files, determinism, energy, what is refused."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloforge.errors import CaloforgeError, CaloforgeWarning
from caloforge.events import collisions as collisions_module
from caloforge.events import events_to_images, simulate_events
from caloforge.events.fast import FastCalorimeter, ecal_resolution, fractions, hcal_resolution
from caloforge.events.imaging import write_images
from caloforge.events.towers import Readout
from caloforge.jets import CMS, EtaPhiGrid, Images, paired
from caloforge.jets.event_file import EventFile, Events, EventWriter
from caloforge.sparse import offsets

pytest.importorskip("pythia8mc")


def make_events(particles: list[list[tuple[int, float, float, float]]]) -> Events:
    """Events of massless particles: (pdg, pT, eta, phi)."""
    rows = np.array([p for event in particles for p in event], dtype=np.float64).reshape(-1, 4)
    pt, eta, phi = rows[:, 1], rows[:, 2], rows[:, 3]
    momentum = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=1).astype(np.float32)
    n = len(particles)
    return Events(
        np.ones(n), np.zeros(n), offsets(np.array([len(e) for e in particles], dtype=np.int64)),
        rows[:, 0].astype(np.int32), momentum, (pt * np.cosh(eta)).astype(np.float32),
    )  # fmt: skip


def write(events: Events, path: Path) -> Path:
    with EventWriter(path, "test", {"seed": 0}, overwrite=True) as writer:
        writer.append(events)
    return path


@pytest.fixture(scope="module")
def dijets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_events("dijet", 30, tmp_path_factory.mktemp("events") / "dijet.h5", seed=3)


# -- collisions ----------------------------------------------------------------------------------------------


def test_momentum_is_conserved(dijets: Path) -> None:
    with EventFile(dijets) as file:
        events = file.read()
        assert file.process == "dijet" and file.provenance["seconds_per_event"] > 0
    n = len(events)
    for axis in range(3):
        assert np.abs(np.bincount(events.row, weights=events.momentum[:, axis], minlength=n)).max() < 30
    np.testing.assert_allclose(np.bincount(events.row, weights=events.energy, minlength=n), 13e6, rtol=1e-5)
    assert (events.pthat > 50_000 * (1 - 1e-6)).all() and (events.weight == 1).all()


def test_w_bosons_decay_to_leptons(tmp_path: Path) -> None:
    simulate_events("wjet", 10, tmp_path / "w.h5", seed=1)
    with EventFile(tmp_path / "w.h5") as file:
        events = file.read()
    neutrinos = ~events.visible & (np.hypot(*events.momentum.T[:2]) > 1000)
    assert len(np.unique(events.row[neutrinos])) == 10
    assert (events.pthat > 30_000 * (1 - 1e-6)).all()


def test_workers_and_length_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collisions_module, "CHUNK", 4)
    one = simulate_events("dijet", 12, tmp_path / "one.h5", seed=5, workers=1)
    two = simulate_events("dijet", 12, tmp_path / "two.h5", seed=5, workers=2)
    short = simulate_events("dijet", 6, tmp_path / "short.h5", seed=5)
    other = simulate_events("dijet", 6, tmp_path / "other.h5", seed=6)
    with EventFile(one) as a, EventFile(two) as b, EventFile(short) as c, EventFile(other) as d:
        assert a.content_hash() == b.content_hash()
        np.testing.assert_array_equal(a.read(0, 6).momentum, c.read().momentum)
        assert c.content_hash() != d.content_hash()


_KILLED = """
import sys
from caloforge.events import collisions
collisions.CHUNK = 3
collisions.simulate_events("dijet", 12, sys.argv[1], seed=5, workers=2, resume=len(sys.argv) > 2)
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="kills process groups")
def test_a_killed_production_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "killed.h5"
    command = [sys.executable, "-c", _KILLED, str(output)]
    process = subprocess.Popen(command, start_new_session=True)
    parts = output.with_name("killed.h5.parts")
    while not list(parts.glob("chunk-*.h5")) and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not output.exists()
    subprocess.run([*command, "resume"], check=True)
    monkeypatch.setattr(collisions_module, "CHUNK", 3)
    whole = simulate_events("dijet", 12, tmp_path / "whole.h5", seed=5)
    with EventFile(output) as a, EventFile(whole) as b:
        assert a.content_hash() == b.content_hash()
    assert not parts.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"process": "dijets"}, "did you mean 'dijet'"),
        ({"n": 0}, "at least 1"),
        ({"seed": -1}, "out of range"),
        ({"workers": 0}, "workers"),
        ({"output": Path("no") / "where.h5"}, "does not exist"),
    ],
)
def test_requests_that_cannot_be_met(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    request: dict[str, Any] = {"process": "dijet", "n": 1, "output": tmp_path / "a.h5", **change}
    with pytest.raises(CaloforgeError, match=words):
        simulate_events(**request)
    assert not list(tmp_path.iterdir())


def test_events_that_may_not_be_written_or_read(tmp_path: Path) -> None:
    events = make_events([[(22, 1e3, 0, 0)]])
    events.energy[0] = np.nan
    with pytest.raises(CaloforgeError, match="NaN"):
        write(events, tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())
    Images.from_dense(np.zeros((1, 72, 72))).write(tmp_path / "images.h5")
    with pytest.raises(CaloforgeError, match="not a caloforge event file"):
        EventFile(tmp_path / "images.h5")


# -- the fast side -------------------------------------------------------------------------------------------

TOWERS = st.tuples(
    st.sampled_from([22, 11, 211, -211, 130, 2112, 13, 12, 310]),
    st.floats(1e3, 1e5),
    st.floats(-4.2, 4.2),
    st.floats(-3.1, 3.1),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(TOWERS, max_size=6), min_size=1, max_size=4))
def test_energy_is_kept(particles: list[list[tuple[int, float, float, float]]]) -> None:
    """Before smearing, the towers hold what the particles leave; those near the grid's edge may bend out of it."""
    events = make_events(particles)
    ecal, hcal = FastCalorimeter().towers(events)
    shares = fractions(events.pdg) * events.energy[:, None]
    for found, share in zip((ecal, hcal), shares.T, strict=True):
        expected = np.bincount(events.row, weights=share, minlength=len(events))
        np.testing.assert_allclose(found.sum(axis=1), expected, rtol=1e-6)


def test_a_photon_hits_its_tower() -> None:
    events = make_events([[(22, 2e4, 1.0, 2.0)]])
    image = FastCalorimeter(smearing="none").images(events, np.random.default_rng(0))
    assert image.index.tolist() == [int(CMS.tower(1.0, 2.0))]
    assert image.energy[0] == pytest.approx(2e4 * math.cosh(1.0), rel=1e-6)


def test_fractions_and_resolutions_of_the_card() -> None:
    pdg = np.array([11, -11, 22, 13, -13, 12, 310, 3122, 211, 2112])
    assert fractions(pdg).tolist() == [[1, 0]] * 3 + [[0, 0]] * 3 + [[0.3, 0.7]] * 2 + [[0, 1]] * 2
    e, eta = np.array([1e5, 1e5, 1e5]), np.array([0.0, 2.0, -4.0])
    central = math.sqrt(0.8**2 + 0.11**2 * 100 + 0.4**2)
    forward = math.sqrt(10.7**2 + 2.08**2 * 100)
    np.testing.assert_allclose(ecal_resolution(e, eta) / 1e3, [central, 2.16 * central, forward])
    np.testing.assert_allclose(
        hcal_resolution(e, eta) / 1e3, [math.hypot(5, 15), math.hypot(5, 15), math.hypot(13, 27)]
    )


@pytest.mark.parametrize("smearing", ["log-normal", "gaussian"])
def test_smearing_has_the_mean_and_width_of_the_card(smearing: Any) -> None:
    events = make_events([[(211, 5e4, 0.04, 0.5)]] * 4000)
    fast = FastCalorimeter(EtaPhiGrid((-0.1, 0.0, 0.1), 8), smearing=smearing, hcal=Readout())
    energy = fast.images(events, np.random.default_rng(1)).energy
    sigma = float(hcal_resolution(np.array([5e4]), np.array([0.0]))[0])
    assert energy.mean() == pytest.approx(5e4, abs=5 * sigma / math.sqrt(4000))
    assert energy.std() == pytest.approx(sigma, rel=0.06)


def test_thresholds_significance_and_noise() -> None:
    readout = Readout(minimum=100.0, significance=2.0)
    energy = np.array([[50.0, 150, 150, -5]])
    assert readout.kept(energy, np.array([[1.0, 70, 80, 1]])).tolist() == [[0, 150, 0, 0]]
    noise = Readout(noise=30.0).noisy(np.zeros((1, 20000)), np.random.default_rng(0))
    assert noise.std() == pytest.approx(30, rel=0.05)
    with pytest.raises(CaloforgeError, match="cannot be"):
        Readout(minimum=-1)


def test_images_do_not_depend_on_how_many_are_made(dijets: Path, tmp_path: Path) -> None:
    made = events_to_images(dijets, tmp_path / "all.h5", "fast", seed=2)
    events_to_images(dijets, tmp_path / "some.h5", "fast", seed=2, n=10)
    whole, some = Images.read(tmp_path / "all.h5"), Images.read(tmp_path / "some.h5")
    assert len(whole) == 30 and len(some) == 10 and whole.process == "dijet" and whole.side == "fast"
    assert made["seconds_per_event"] > 0 and made["reuse_factor"] is None
    assert len(paired(some, whole)[0]) == 10
    np.testing.assert_array_equal(some.dense(), whole.dense()[:10])
    json.dumps(whole.provenance)
    again = tmp_path / "again.h5"
    events_to_images(dijets, again, "fast", seed=2)
    np.testing.assert_array_equal(Images.read(again).dense(), whole.dense())


def test_events_that_leave_nothing(tmp_path: Path) -> None:
    path = write(make_events([[(12, 1e5, 0, 0)], [], [(22, 1e5, 0, 0)]]), tmp_path / "e.h5")
    with pytest.warns(CaloforgeWarning, match="2 of 3 events leave nothing"):
        events_to_images(path, tmp_path / "i.h5", "fast")
    assert np.diff(Images.read(tmp_path / "i.h5").rows.offset).tolist() == [0, 0, 1]
    empty = write(make_events([]), tmp_path / "none.h5")
    with pytest.raises(CaloforgeError, match="holds no events"):
        events_to_images(empty, tmp_path / "j.h5", "fast")
    assert not (tmp_path / "j.h5").exists()


@pytest.mark.parametrize(
    ("side", "options", "words"),
    [
        ("fast", {"library": "l.h5"}, "takes no library"),
        ("fast", {"smearing": "round"}, "not a smearing"),
        ("full", {}, "needs a library"),
        ("full", {"smearing": "none"}, "fast side's"),
        ("fast", {"minimum": (-1.0, None)}, "cannot be"),
        ("fast", {"seed": -1}, "out of range"),
    ],
)
def test_options_that_do_not_fit(dijets: Path, tmp_path: Path, side: Any, options: Any, words: str) -> None:
    with pytest.raises(CaloforgeError, match=words):
        events_to_images(dijets, tmp_path / "a.h5", side, **options)
    assert not list(tmp_path.iterdir())


def test_progress_and_overwrite(dijets: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    fast = FastCalorimeter()
    write_images(
        dijets, tmp_path / "a.h5", fast, "fast", progress=lambda done, total, note="": seen.append((done, total))
    )
    assert seen[-1] == (30, 30)
    with pytest.raises(CaloforgeError, match="exists already"):
        write_images(dijets, tmp_path / "a.h5", fast, "fast")


def test_events_left_out_change_no_other(dijets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caloforge.events.imaging.CHUNK", 8)
    every = tmp_path / "every.h5"
    events_to_images(dijets, every, "fast", seed=3)
    for skip, n, kept in ((0, 30, 30), (5, None, 25), (16, 20, 4), (29, None, 1)):
        some = tmp_path / f"{skip}.h5"
        told = events_to_images(dijets, some, "fast", seed=3, n=n, skip=skip)
        images, right = Images.read(some), Images.read(every)[skip : n or 30]
        assert images.event.tolist() == list(range(skip, skip + kept)) == right.event.tolist()
        assert np.array_equal(images.dense(), right.dense())
        assert told["seconds_per_event"] > 0
    for skip in (-1, 30):
        with pytest.raises(CaloforgeError, match="of 30 events cannot be left out"):
            events_to_images(dijets, tmp_path / "none.h5", "fast", skip=skip)


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from caloforge import cli

    def run(*words: object) -> tuple[int, str]:
        result = CliRunner().invoke(cli.app, [str(word) for word in words])
        return result.exit_code, " ".join((result.stdout + result.stderr).split())

    monkeypatch.chdir(tmp_path)
    assert run("simulate-events", "dijet", "-n", 3, "-o", "e.h5")[0] == 0
    code, said = run("events-to-images", "e.h5", "--fast", "-o", "i.h5", "--ecal-min", 0.1, "--smearing", "none")
    assert code == 0 and "images in i.h5" in said
    assert Images.read("i.h5").provenance["minimum_gev"] == [0.1, 1.0]
    for words, expected in (
        (["events-to-images", "e.h5", "-o", "j.h5"], "give one of --fast and --full"),
        (["events-to-images", "e.h5", "--full", "-o", "j.h5"], "needs a library"),
        (["events-to-images", "i.h5", "--fast", "-o", "j.h5"], "not a caloforge event file"),
        (["shower-library", "no.h5", "-o", "l.h5"], "does not exist"),
        (["simulate-events", "dijets", "-n", 3, "-o", "f.h5"], "did you mean 'dijet'"),
    ):
        code, said = run(*words)
        assert code == 2 and expected in said and "Traceback" not in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e.h5", "i.h5"]
