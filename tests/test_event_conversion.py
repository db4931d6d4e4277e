"""Events and towers of other programs: HepMC, Delphes' ROOT layout, lists in ROOT, HDF5 and npz."""

from __future__ import annotations

import gzip
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from caloforge.convert import convert, describe, render
from caloforge.errors import CaloforgeError
from caloforge.jets import CMS, Images, paired
from caloforge.jets.event_file import EventFile

N = 5


def towers() -> dict[str, Any]:
    """Towers of five events, the third of which is empty; energies in MeV."""
    rng = np.random.default_rng(0)
    counts = np.array([3, 4, 0, 2, 6])
    offset = np.concatenate([[0], np.cumsum(counts)])
    total = int(offset[-1])
    return {
        "eta": rng.uniform(-4.5, 4.5, total), "phi": rng.uniform(-math.pi, math.pi, total),
        "energy": rng.exponential(1e4, total), "offset": offset, "event": np.repeat(np.arange(N), counts),
    }  # fmt: skip


def expected(listed: dict[str, Any]) -> np.ndarray[Any, Any]:
    dense = np.zeros((N, CMS.n_towers))
    place = CMS.tower(listed["eta"], listed["phi"])
    inside = place >= 0
    np.add.at(dense, (listed["event"][inside], place[inside]), listed["energy"][inside])
    return dense.reshape(N, *CMS.shape)


def test_lists_in_npz_and_hdf5(tmp_path: Path) -> None:
    listed = towers()
    np.savez(tmp_path / "a.npz", **{k: listed[k] for k in ("eta", "phi", "energy", "offset")})
    with h5py.File(tmp_path / "b.h5", "w") as file:
        for name in ("eta", "phi", "event"):
            file[name] = listed[name]
        file["energy"] = listed["energy"] / 1e3
    done = convert(tmp_path / "a.npz", tmp_path / "fast.h5", side="fast", process="dijet")
    assert done["images"] == N
    convert(tmp_path / "b.h5", tmp_path / "full.h5", side="full", unit="GeV")
    fast, full = Images.read(tmp_path / "fast.h5"), Images.read(tmp_path / "full.h5")
    np.testing.assert_allclose(fast.dense(), expected(listed), rtol=1e-5)
    assert (fast.side, fast.process, full.side) == ("fast", "dijet", "full")
    # A list with event numbers cannot tell of events without towers.
    assert full.event.tolist() == [0, 1, 3, 4]
    i, j = paired(fast, full)
    np.testing.assert_allclose(fast.dense(i), full.dense(j), rtol=1e-5)


def test_root_trees(tmp_path: Path) -> None:
    uproot, ak = pytest.importorskip("uproot"), pytest.importorskip("awkward")
    listed = towers()
    jagged = {k: ak.unflatten(listed[k], np.diff(listed["offset"])) for k in ("eta", "phi", "energy")}
    with uproot.recreate(tmp_path / "list.root") as file:
        file.mktree("towers", jagged)
    convert(tmp_path / "list.root", tmp_path / "list.h5")
    np.testing.assert_allclose(Images.read(tmp_path / "list.h5").dense(), expected(listed), rtol=1e-5)


def test_delphes_layout(tmp_path: Path) -> None:
    """Two towers in GeV: one of 5 degrees, one of 10 degrees that is two of ours."""
    uproot, ak = pytest.importorskip("uproot"), pytest.importorskip("awkward")
    step = math.radians(5)
    eta = np.array([[0.0435, 1.785], [0.0435, 1.785]])
    phi = np.array([[step / 2, step], [step / 2, step]])
    et = np.array([[10.0, 20.0], [30.0, 0.0]])
    half = np.array([[0.0435, 0.045], [step / 2, step]])
    edges = np.stack([eta - half[0], eta + half[0], phi - half[1], phi + half[1]], axis=2)
    branches = {"Tower.ET": et, "Tower.Eta": eta, "Tower.Phi": phi}
    content = {name: ak.from_regular(ak.Array(values)) for name, values in branches.items()}
    # uproot cannot write Delphes' own layout of this branch (a list of four numbers each): the reader takes both names.
    content["Tower.Edges"] = ak.flatten(ak.from_regular(ak.Array(edges), axis=1), axis=2)
    with uproot.recreate(tmp_path / "delphes.root") as file:
        file.mktree("Delphes", content)
    convert(tmp_path / "delphes.root", tmp_path / "fast.h5", side="fast")
    dense = Images.read(tmp_path / "fast.h5").dense()
    row, forward = CMS.shape[0] // 2, int(CMS.tower(1.785, 0.0)) // 72
    assert dense[0, row, 36] == pytest.approx(1e4 * math.cosh(0.0435), rel=1e-5)
    np.testing.assert_allclose(dense[0, forward, 36:38], 1e4 * math.cosh(1.785), rtol=1e-5)
    assert (dense[1] > 0).sum() == 1 and dense.sum() == pytest.approx(
        4e4 * math.cosh(0.0435) + 2e4 * math.cosh(1.785), rel=1e-5
    )


HEPMC2 = """HepMC::Version 2.06.09
HepMC::IO_GenEvent-START_EVENT_LISTING
E 1 -1 0 0 0 0 0 1 1 2 0 1 2.5
U GEV MM
V -1 0 0 0 0 0 2 2 0
P 1 2212 0 0 6500 6500 0.938 4 0 0 -1 0
P 2 2212 0 0 -6500 6500 0.938 4 0 0 -1 0
P 3 22 3 4 0 5 0 1 0 0 0 0
P 4 111 1 0 0 1 0.135 2 0 0 0 0
HepMC::IO_GenEvent-END_EVENT_LISTING
"""


@pytest.mark.parametrize("kind", ["hepmc2", "hepmc2.gz", "hepmc3"])
def test_hepmc(tmp_path: Path, kind: str) -> None:
    pyhepmc = pytest.importorskip("pyhepmc")
    plain = tmp_path / "plain.hepmc"
    plain.write_text(HEPMC2)
    source = tmp_path / f"events.{kind}"
    if kind == "hepmc3":
        with pyhepmc.open(str(plain)) as old, pyhepmc.open(str(source), "w", format="HepMC3") as new:
            for event in old:
                new.write(event)
    else:
        source.write_bytes(gzip.compress(HEPMC2.encode()) if kind.endswith("gz") else HEPMC2.encode())
    assert convert(source, tmp_path / "events.h5", process="dijet")["events"] == 1
    with EventFile(tmp_path / "events.h5") as file:
        events = file.read()
    assert events.pdg.tolist() == [22] and events.weight.tolist() == [2.5]
    np.testing.assert_allclose(events.momentum, [[3000, 4000, 0]])
    np.testing.assert_allclose(events.energy, [5000])


def _npz(**arrays: Any) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **arrays)


BAD: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "lengths": ("a.npz", _npz(eta=[0.0], phi=[0.0, 1], energy=[1.0], offset=[0, 1]), "of shapes"),
    "offsets": ("a.npz", _npz(eta=[0.0], phi=[0.0], energy=[1.0], offset=[0, 2]), "do not rise from 0"),
    "numbers": ("a.npz", _npz(eta=[0.0, 0], phi=[0.0, 0], energy=[1.0, 1], event=[2, 1]), "rising"),
    "nan": ("a.npz", _npz(eta=[0.0], phi=[np.nan], energy=[1.0], offset=[0, 1]), "NaN"),
    "negative": ("a.npz", _npz(eta=[0.0], phi=[0.0], energy=[-1.0], offset=[0, 1]), "negative"),
    "none": ("a.npz", _npz(eta=[], phi=[], energy=[], offset=[0]), "holds no events"),
    "root": ("a.root", lambda path: path.write_bytes(b"root" + b"\xff" * 400), "no whole ROOT file"),
    "hepmc": ("a.hepmc", lambda path: path.write_text(HEPMC2[:60]), "HepMC file"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_converted(tmp_path: Path, name: str) -> None:
    if name in ("root", "hepmc"):
        pytest.importorskip({"root": "uproot", "hepmc": "pyhepmc"}[name])
    file, make, words = BAD[name]
    make(tmp_path / file)
    with pytest.raises(CaloforgeError, match=words) as caught:
        convert(tmp_path / file, tmp_path / "out.h5")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.h5").exists()


def test_a_side_or_unit_that_is_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", eta=[0.0], phi=[0.0], energy=[1.0], offset=[0, 1])
    with pytest.raises(CaloforgeError, match="'TeV' is not a unit"):
        convert(tmp_path / "a.npz", tmp_path / "b.h5", unit="TeV")
    with pytest.raises(CaloforgeError, match="'slow' is not a side"):
        convert(tmp_path / "a.npz", tmp_path / "b.h5", side="slow")


def test_info_of_events_and_images(tmp_path: Path) -> None:
    from rich.console import Console

    pytest.importorskip("pyhepmc")
    (tmp_path / "a.hepmc").write_text(HEPMC2)
    convert(tmp_path / "a.hepmc", tmp_path / "events.h5", process="dijet")
    np.savez(tmp_path / "a.npz", **{k: towers()[k] for k in ("eta", "phi", "energy", "offset")})
    convert(tmp_path / "a.npz", tmp_path / "images.h5", side="full")
    events, images = describe(tmp_path / "events.h5"), describe(tmp_path / "images.h5")
    assert (events["kind"], events["events"], events["kinds"]) == ("events", 1, {"gamma": 1})
    assert (images["kind"], images["images"], images["side"], images["empty"]) == ("images", N, "full", 1)
    console = Console(width=80, record=True, file=io.StringIO())
    for described in (events, images):
        console.print(render(described))
    screen = console.export_text()
    assert "1 of 'dijet'" in screen and "72 x 72 towers" in screen and "1 empty" in screen
