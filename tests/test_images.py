"""Images of events: grid, file and pairing."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from caloforge.errors import CaloforgeError
from caloforge.jets import CMS, EtaPhiGrid, ImageFile, Images, ImageWriter, paired

SMALL = EtaPhiGrid((-1.0, -0.25, 0.5, 2.0), 4)
ENERGIES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(0, 5), st.just(3), st.just(4)),
    elements=st.one_of(st.just(0.0), st.floats(2.0**-100, 2.0**40, width=32)),
)


def images(n: int = 6, **described: Any) -> Images:
    rng = np.random.default_rng(3)
    dense = rng.exponential(1e3, (n, *CMS.shape)) * (rng.random((n, *CMS.shape)) < 0.05)
    return Images.from_dense(dense, **described)


def refused(words: str, act: Callable[[], Any]) -> None:
    with pytest.raises(CaloforgeError, match=words) as caught:
        act()
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".") and ". " not in message


# -- the grid ------------------------------------------------------------------------------------------------


def test_the_cms_grid() -> None:
    assert CMS.shape == (72, 72) and CMS.edges[36] == 0
    assert CMS.edges[36 + 19] == pytest.approx(1.653) and CMS.edges[-1] == 4.337 == -CMS.edges[0]
    np.testing.assert_allclose(np.diff(CMS.phi_edges), math.radians(5))
    assert EtaPhiGrid.from_json(CMS.to_json(), "x") == CMS


@given(row=st.integers(0, 71), column=st.integers(0, 71), turns=st.integers(-3, 3))
def test_a_tower_is_found_from_its_centre(row: int, column: int, turns: int) -> None:
    assert CMS.tower(CMS.eta[row], CMS.phi[column] + turns * 2 * math.pi) == row * 72 + column


def test_towers_at_the_edges() -> None:
    assert SMALL.tower([-1.0, 0.5, 2.0, -1.01, np.nan], [0, 0, 0, 0, 0]).tolist() == [2, 10, -1, -1, -1]
    assert SMALL.tower([0, 0], [-math.pi, math.pi]).tolist() == [4, 4]


@pytest.mark.parametrize("edges", [(1.0,), (1.0, 1.0), (0.0, math.nan), (2.0, 1.0), (0.0, math.inf)])
def test_edges_that_are_no_grid(edges: tuple[float, ...]) -> None:
    refused("no grid", lambda: EtaPhiGrid(edges, 4))


# -- in memory and in the file -------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(dense=ENERGIES, first=st.integers(0, 2**40), cut=st.integers(0, 5))
def test_what_goes_in_comes_out(tmp_path: Path, dense: npt.NDArray[np.float32], first: int, cut: int) -> None:
    event = np.arange(len(dense)) + first
    whole = Images.from_dense(dense, event, SMALL, side="fast", process="dijet", events_digest="a", provenance={"s": 1})
    with ImageWriter(tmp_path / "a.h5", SMALL, {"s": 1}, overwrite=True, **whole.described) as writer:
        writer.append(whole[:cut])
        writer.append(whole[cut:])
    with ImageFile(tmp_path / "a.h5") as file:
        read = file.read()
        pieces = [piece.dense() for piece in file.chunks(2)]
        assert file.content_hash(3) == file.content_hash()
        assert len(file) == len(dense) and file.event.tolist() == event.tolist()
    np.testing.assert_array_equal(read.dense(), dense)
    np.testing.assert_array_equal(np.concatenate([dense[:0], *pieces]), dense)
    assert (read.grid, read.described, read.provenance) == (SMALL, whole.described, {"s": 1})
    np.testing.assert_allclose(read.total_energy, dense.sum(axis=(1, 2), dtype=np.float64))


def test_images_are_picked() -> None:
    whole = images()
    dense = whole.dense()
    np.testing.assert_array_equal(whole[2:4].dense(), dense[2:4])
    np.testing.assert_array_equal(whole[[4, 1]].event, [4, 1])
    np.testing.assert_array_equal(whole.dense([4, 1]), dense[[4, 1]])
    np.testing.assert_array_equal(Images.concatenate([whole[:2], whole[2:]]).dense(), dense)


def test_what_may_not_be_in_an_image() -> None:
    refused("no images of", lambda: Images.from_dense(np.ones((2, 4, 3)), grid=SMALL))
    refused("NaN, negative", lambda: Images.from_dense(np.full((2, 3, 4), -1.0), grid=SMALL))
    refused("do not make", lambda: Images([1], images().rows))
    refused("no images to join", lambda: Images.concatenate([]))
    with pytest.raises(CaloforgeError, match="'slow' is not a side"):
        images(side="slow")


@pytest.mark.parametrize(("fault", "words"), [("nan", "hold NaN"), ("order", "do not rise"), ("grid", "do not fit")])
def test_what_may_not_be_read_is_not_written(tmp_path: Path, fault: str, words: str) -> None:
    whole = images()
    if fault == "nan":
        whole.rows.energy[0] = np.nan
    if fault == "order":
        whole.rows.index[1] = whole.rows.index[0]
    grid = SMALL if fault == "grid" else CMS

    def write() -> None:
        with ImageWriter(tmp_path / "a.h5", grid) as writer:
            writer.append(whole)

    refused(words, write)
    assert not list(tmp_path.iterdir())


SPOILERS: dict[str, tuple[Callable[[h5py.File], Any], str]] = {
    "format": (lambda f: f.attrs.__setitem__("format", "x"), "not a caloforge image file"),
    "version": (lambda f: f.attrs.__setitem__("version", 9), "upgrade"),
    "unfinished": (lambda f: f.attrs.__delitem__("provenance"), "never finished"),
    "grid": (lambda f: f.attrs.__setitem__("grid", "[]"), "not eta edges"),
    "other grid": (lambda f: f.attrs.__setitem__("grid", SMALL.to_json()), "more energies than its grid's 12 towers"),
    "side": (lambda f: f.attrs.__setitem__("side", "slow"), "is not a side"),
    "events": (lambda f: f["event"].resize(2, axis=0), "has shape"),
    "tower": (lambda f: f["towers/index"].__setitem__(0, 60000), "60000"),
    "energy": (lambda f: f["towers/energy"].__setitem__(0, -1), "tower energies hold"),
    "offset": (lambda f: f["towers/offset"].__setitem__(2, 0), "do not rise"),
}


@pytest.mark.parametrize("name", SPOILERS)
def test_spoiled_files_are_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.h5"
    images().write(path)
    change, words = SPOILERS[name]
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        change(file)
    with pytest.raises(CaloforgeError, match=words) as caught:
        Images.read(path)
    assert "\n" not in str(caught.value)


# -- pairs ---------------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(st.lists(st.integers(0, 12), unique=True, min_size=1), st.lists(st.integers(0, 12), unique=True, min_size=1))
def test_pairs_show_the_same_events(one: list[int], other: list[int]) -> None:
    fast = Images.from_dense(np.ones((len(one), 3, 4)), one, SMALL, side="fast")
    full = Images.from_dense(np.ones((len(other), 3, 4)), other, SMALL, side="full")
    common = [e for e in one if e in other]
    if not common:
        refused("no event in common", lambda: paired(fast, full))
        return
    i, j = paired(fast, full)
    assert fast.event[i].tolist() == full.event[j].tolist() == common


def test_what_is_no_pair() -> None:
    fast, full = images(side="fast", events_digest="a"), images(side="full", events_digest="b")
    refused("different event files", lambda: paired(fast, full))
    other = Images.from_dense(np.ones((6, 3, 4)), grid=SMALL, side="full")
    refused("different grids", lambda: paired(fast, other))
    refused("no full images", lambda: paired(fast, images(side="full")[:0]))
    refused("more than once", lambda: paired(fast[[0, 0]], fast))
    refused("different grids", lambda: Images.concatenate([fast, other]))
    assert len(paired(fast, images(side="external"))[0]) == 6  # files of others may not know their events' digest
