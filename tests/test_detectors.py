"""Detectors as data: geometry by closed form, and files that are wrong or mean ill."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloforge.detectors import DETECTORS, Detector
from caloforge.detectors.binning_xml import detector_from_binning_xml
from caloforge.detectors.materials import MATERIALS
from caloforge.detectors.schema import (
    DetectorFile,
    Incidence,
    MaterialDefinition,
    Particles,
    Readout,
    ReadoutLayer,
    Slab,
    StackGroup,
)
from caloforge.errors import CaloforgeError

VOXELS = {
    "atlas-lar": 504,
    "calochallenge-photons": 368,
    "calochallenge-pions": 533,
    "clic-ecal": 25**3,
    "ild-ecal": 30**3,
    "lhcb-ecal": 900,
    "par04-siw": 6480,
    "par04-siw-fine": 40500,
}
DEPTH = {
    "ild-ecal": 20 * 4.6 + 10 * 6.7,
    "clic-ecal": 25 * 5.1,
    "lhcb-ecal": 66 * 6.0,
    "par04-siw": 153.0,
    "atlas-lar": 480.0,
}


@pytest.mark.parametrize("name", DETECTORS)
def test_geometry_of_every_detector(name: str) -> None:
    detector = Detector.load(name)
    assert detector.name == name and detector.n_voxels == VOXELS.get(name, detector.n_voxels)
    positions, layers = detector.voxel_positions, detector.voxel_layers
    assert positions.shape == (detector.n_voxels, 3) and np.isfinite(positions).all()
    assert int(np.prod(detector.shape)) == detector.n_voxels == detector.layer_slices[-1].stop
    for number, (part, grid) in enumerate(zip(detector.layer_slices, detector.grids, strict=True)):
        assert set(layers[part].tolist()) == {number}
        assert part.stop - part.start == grid.shape[0] * grid.shape[1]
        x, y = positions[part, 0], positions[part, 1]
        if grid.kind == "cartesian" or grid.shape[0] > 1:  # a full ring's centre is put on the x axis
            np.testing.assert_allclose([x.sum(), y.sum()], 0, atol=1e-6 * np.abs(positions).max())
        assert grid.z[0] < grid.z[1]
    z = np.array([grid.z for grid in detector.grids])
    assert (z[1:, 0] >= z[:-1, 1]).all()
    np.testing.assert_allclose(detector.depth, DEPTH.get(name, detector.depth))
    if detector.slabs:
        assert z[-1, 1] <= detector.depth + 1e-9
        assert sorted(set(detector.slab_layers) - {-1}) == list(range(detector.n_layers))


def test_voxels_are_numbered_layer_then_y_then_x() -> None:
    positions = Detector.load("ild-ecal").voxel_positions.reshape(30, 30, 30, 3)
    np.testing.assert_allclose(positions[0, :, 0, 1], (np.arange(30) - 14.5) * 5)
    np.testing.assert_allclose(positions[0, 0, :, 0], (np.arange(30) - 14.5) * 5)
    assert (np.diff(positions[:, 0, 0, 2]) > 0).all()
    np.testing.assert_allclose(positions[3, 15, 15, :2], 2.5)


def test_areas_of_polar_voxels_sum_to_the_disc() -> None:
    for grid in Detector.load("par04-siw").grids:
        area = np.diff(grid.edges0)[:, None] * np.diff(grid.edges1**2)[None] / 2
        np.testing.assert_allclose(area.sum(), np.pi * 41.85**2)
        r = np.hypot(*grid.centres()[:, :2].T).reshape(grid.shape)
        np.testing.assert_allclose(r, np.broadcast_to(np.arange(9) * 4.65 + 2.325, grid.shape))


def test_depth_can_be_gathered_otherwise() -> None:
    detector = Detector.load("ild-ecal")
    assert detector.with_depth("sum").shape == (1, 30, 30)
    assert detector.with_depth(3).shape == (10, 30, 30)
    assert detector.with_depth("each") == detector
    assert not detector.with_depth("sum").same_voxels(detector)
    with pytest.raises(CaloforgeError, match="30 sensitive slabs cannot be gathered by 7"):
        detector.with_depth(7)
    with pytest.raises(CaloforgeError, match="segmentations of their own"):
        Detector.load("atlas-lar").with_depth("sum")


def test_equality_ignores_formatting(tiny: Detector) -> None:
    text = tiny.to_toml()
    assert Detector.from_toml(text.replace("\n\n", "\n# why\n")) == tiny
    assert Detector.from_toml(text.replace("6.0", "6.1")) != tiny
    assert hash(Detector.from_toml(text)) == hash(tiny) and "tiny" in repr(tiny)


MINIMAL: dict[str, Any] = {"name": "a", "readout": {"cells": [2, 3], "cell_size": [1.0, 2.0]}}
STACK = [{"slabs": [{"material": "Pb", "thickness": 1.0}, {"material": "Si", "thickness": 0.5, "sensitive": True}]}]


@settings(max_examples=60, deadline=None)
@given(
    cells=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.tuples(st.floats(1e-6, 1e7), st.floats(1e-6, 1e7)),
    repeat=st.integers(1, 30),
    thickness=st.floats(1e-6, 1e7),
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
)
def test_any_valid_description_survives_its_text(
    cells: tuple[int, int], size: tuple[float, float], repeat: int, thickness: float, text: str
) -> None:
    data = {
        "name": "x1",
        "description": text,
        "stack": [{"repeat": repeat, "slabs": [{"material": "Si", "thickness": thickness, "sensitive": True}]}],
        "readout": {"cells": cells, "cell_size": size},
    }
    detector = Detector.from_mapping(data)
    assert detector.description == text and detector.shape == (repeat, *cells)
    assert Detector.from_toml(detector.to_toml()) == detector
    y = detector.grids[0].edges0
    assert (np.diff(y) > 0).all()
    np.testing.assert_allclose(y, -y[::-1])
    np.testing.assert_allclose(y[-1] - y[0], cells[0] * size[0])
    np.testing.assert_allclose(detector.depth, repeat * thickness)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"colour": "red"}, "colour"),
    "name": ({"name": "A b"}, "name"),
    "long name": ({"name": "a" * 65}, "name"),
    "no segmentation": ({"readout": {}}, "give cells"),
    "half a segmentation": ({"readout": {"cells": [2, 2]}}, "cells"),
    "two segmentations": ({"readout": {**MINIMAL["readout"], "alpha": 3, "r_edges": [0, 1]}}, "either"),
    "mixed segmentation": ({"readout": {**MINIMAL["readout"], "alpha": 3}}, "either"),
    "layers and cells": ({"readout": {**MINIMAL["readout"], "layers": [MINIMAL["readout"]]}}, "not both"),
    "no layers": ({"readout": {"layers": []}}, "no read-out layer"),
    "no cells": ({"readout": {"cells": [0, 2], "cell_size": [1, 1]}}, "cells"),
    "many voxels": ({"readout": {"cells": [10**6, 10**6], "cell_size": [1, 1]}}, "more than"),
    "endless voxels": ({"readout": {"cells": [10**30, 2], "cell_size": [1, 1]}}, "a valid detector"),
    "tiny cells": ({"readout": {"cells": [2, 2], "cell_size": [5e-324, 1]}}, "cell_size"),
    "huge cells": ({"readout": {"cells": [2, 2], "cell_size": [1e308, 1]}}, "cell_size"),
    "falling edges": ({"readout": {"alpha": 2, "r_edges": [0, 2, 1]}}, "rise"),
    "negative edges": ({"readout": {"alpha": 2, "r_edges": [-1, 2]}}, "rise"),
    "no angles": ({"readout": {"alpha": 0, "r_edges": [0, 2]}}, "alpha"),
    "falling z": ({"readout": {**MINIMAL["readout"], "z": [1, 0]}}, "z must rise"),
    "z of other length": ({"readout": {**MINIMAL["readout"], "z": [0, 1, 2]}}, "2 boundaries"),
    "negative scale": ({"readout": {**MINIMAL["readout"], "scale": -1}}, "scale"),
    "negative threshold": ({"readout": {**MINIMAL["readout"], "threshold": -1}}, "threshold"),
    "unknown material": ({"stack": [{"slabs": [{"material": "Xx", "thickness": 1, "sensitive": True}]}]}, "material"),
    "nothing sensitive": ({"stack": [{"slabs": [{"material": "Pb", "thickness": 1}]}]}, "sensitive"),
    "no thickness": ({"stack": [{"slabs": [{"material": "Pb", "thickness": 0, "sensitive": True}]}]}, "thickness"),
    "empty group": ({"stack": [{"slabs": []}]}, "slabs"),
    "many slabs": ({"stack": [{"repeat": 10000, "slabs": STACK[0]["slabs"] * 2}]}, "at most"),
    "slabs that do not gather": (
        {"stack": [{"repeat": 5, **STACK[0]}], "readout": {**MINIMAL["readout"], "depth": 2}},
        "gathered",
    ),
    "layers that do not gather": (
        {"stack": [{"repeat": 5, **STACK[0]}], "readout": {"layers": [{**MINIMAL["readout"], "slabs": 3}]}},
        "gather 3 slabs",
    ),
    "mass fractions": ({"materials": {"m": {"density": 1.0, "mass_fractions": {"H": 0.5}}}}, "sum to"),
    "unknown element": ({"materials": {"m": {"density": 1.0, "mass_fractions": {"Xx": 1.0}}}}, "element"),
    "energies": ({"particles": {"kinds": ["e-"], "energy_gev": [2, 1]}}, "lowest, highest"),
    "spread": ({"incidence": {"x": [2, 1]}}, "lowest, highest"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_descriptions_are_refused_in_one_sentence(case: str) -> None:
    change, words = WRONG[case]
    with pytest.raises(CaloforgeError) as caught:
        Detector.from_mapping({**MINIMAL, **change})
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_the_minimal_description_and_own_materials() -> None:
    assert Detector.from_mapping(MINIMAL).shape == (1, 2, 3)
    glass = {"density": 4.0, "mass_fractions": {"Si": 0.4, "O": 0.5, "Pb": 0.1}}
    slabs = [{"material": "lead glass", "thickness": 1.0, "sensitive": True}]
    detector = Detector.from_mapping({**MINIMAL, "materials": {"lead glass": glass}, "stack": [{"slabs": slabs}]})
    assert detector.materials["lead glass"].density == 4.0
    assert set(detector.elements) == {8, 14, 82} | set(MATERIALS["vacuum"].elements)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "readout", "cells", "layers", "stack", "slabs", "z"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(
    data=st.dictionaries(st.sampled_from(["name", "readout", "stack", "particles", "incidence"]), json_like, max_size=4)
)
def test_any_data_is_a_detector_or_refused(data: dict[str, Any]) -> None:
    try:
        Detector.from_mapping(data)
    except CaloforgeError as error:
        assert "\n" not in str(error)


@settings(max_examples=100, deadline=None)
@given(
    text=st.text(max_size=120)
    | st.lists(st.sampled_from(["[", "]", "{", "}", "=", "a", ".", '"', "\n", "1"])).map("".join)
)
def test_any_text_is_a_detector_or_refused(text: str) -> None:
    with pytest.raises(CaloforgeError):
        Detector.from_toml(text)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 100_000,
        "a = " + "{a=" * 50_000,
        "a." * 200_000 + "a = 1",
        "[" + "a." * 200_000 + "a]",
        "x = {" + '"a".' * 100_000 + "a = 1}",
        "a = " + "9" * 100_000,
        "a" * (5 << 20),
        "# " + "a" * 1_000_000,
    ],
    ids=["arrays", "tables", "keys", "header", "inline", "number", "long", "comment"],
)
def test_text_made_to_hang_is_refused_at_once(text: str) -> None:
    began = time.process_time()
    with pytest.raises(CaloforgeError):
        Detector.from_toml(text)
    assert time.process_time() - began < 5


def test_files_that_cannot_be_read(tmp_path: Path, tiny: Detector) -> None:
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "big.toml").write_bytes(b"#" * (5 << 20))
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "bom.toml").write_text("\ufeff" + tiny.to_toml())
    for path, words in (
        (tmp_path / "a.toml", "cannot be read as text"),
        (tmp_path / "big.toml", "larger than"),
        (tmp_path / "folder.toml", "does not exist"),
        (tmp_path / "no.toml", "does not exist"),
        ("ild-ekal", "did you mean 'ild-ecal'"),
        ("x" * 5000, "is not a detector"),
        ("a\0b.toml", "does not exist"),
        ("", "is not a detector"),
    ):
        with pytest.raises(CaloforgeError, match=words):
            Detector.load(path)
    assert Detector.load(tmp_path / "bom.toml") == tiny


# -- binning files of the CaloChallenge ------------------------------------------------------------------------


def binning(detector: Detector, pid: int, name: str) -> str:
    layers = "".join(
        f'<Layer id="{i}" r_edges="{",".join(map(str, g.edges1))}" n_bin_alpha="{g.shape[0]}"/>'
        for i, g in enumerate(detector.grids)
    )
    layers += '<Layer id="23" r_edges="0" n_bin_alpha="1"/>'  # as unused layers are written
    return f'<Bin pid="{pid}" etaMin="20" etaMax="25" name="{name}">{layers}</Bin>'


@pytest.mark.parametrize("name", ["calochallenge-photons", "calochallenge-pions", "par04-siw", "par04-siw-fine"])
def test_binning_files_give_the_detectors_of_the_package(tmp_path: Path, name: str) -> None:
    (tmp_path / "Binning 1.xml").write_text(f"<Bins>{binning(Detector.load(name), 22, 'photon')}</Bins>")
    detector = detector_from_binning_xml(tmp_path / "Binning 1.xml")
    assert detector.same_voxels(Detector.load(name)) and detector.name == "binning-1"
    assert Detector.from_toml(detector.to_toml()) == detector


def test_binning_sections_are_chosen_by_particle(tmp_path: Path) -> None:
    photons, pions = Detector.load("calochallenge-photons"), Detector.load("calochallenge-pions")
    path = tmp_path / "a.xml"
    path.write_text(f'<?xml version="1.0"?><Bins>{binning(photons, 22, "photon")}{binning(pions, 211, "pion")}</Bins>')
    for particle in ("22", "photon", "gamma"):
        assert detector_from_binning_xml(path, particle).n_voxels == 368
    assert detector_from_binning_xml(path, "pion").n_voxels == 533
    for wrong in (None, "electron"):
        with pytest.raises(CaloforgeError, match=r"choose one with --particle.*22 photon"):
            detector_from_binning_xml(path, wrong)


BAD_XML = {
    "not xml": ("hello", "not valid XML"),
    "empty": ("", "not valid XML"),
    "entities": ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "document type"),
    "no layers": ("<Bins><Bin/></Bins>", "0 sections"),
    "no bins": ('<Bins><Bin><Layer id="0" r_edges="0" n_bin_alpha="1"/></Bin></Bins>', "no layer with radial bins"),
    "letters": ('<Bins><Bin><Layer r_edges="a,b" n_bin_alpha="1"/></Bin></Bins>', "not numbers"),
    "infinite": ('<Bins><Bin><Layer r_edges="0,inf" n_bin_alpha="1"/></Bin></Bins>', "not numbers"),
    "nan": ('<Bins><Bin><Layer r_edges="0,nan" n_bin_alpha="1"/></Bin></Bins>', "not numbers"),
    "angles": ('<Bins><Bin><Layer r_edges="0,1" n_bin_alpha="1e300"/></Bin></Bins>', "not a valid"),
    "infinite angles": ('<Bins><Bin><Layer r_edges="0,1" n_bin_alpha="inf"/></Bin></Bins>', "not numbers"),
    "falling": ('<Bins><Bin><Layer r_edges="1,0" n_bin_alpha="1"/></Bin></Bins>', "rise"),
    "deep": ("<a>" * 100_000, "not valid XML"),
    "deep and closed": ("<a>" * 60_000 + "</a>" * 60_000, "0 sections"),
    "long": ("<a>" + " " * (2 << 20) + "</a>", "larger than"),
}


@pytest.mark.parametrize("case", BAD_XML)
def test_wrong_binning_files_are_refused(tmp_path: Path, case: str) -> None:
    text, words = BAD_XML[case]
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(CaloforgeError) as caught:
        detector_from_binning_xml(tmp_path / "a.xml")
    assert words in str(caught.value) and "\n" not in str(caught.value)


# -- the documentation -------------------------------------------------------------------------------------------


def test_the_documentation_names_every_key_and_its_example_is_valid() -> None:
    text = (Path(__file__).parent.parent / "docs" / "detectors.md").read_text()
    example = text.split("```toml\n")[1].split("```")[0]
    assert Detector.from_toml(example).shape == (20, 16, 16)
    models = (DetectorFile, StackGroup, Slab, MaterialDefinition, Readout, ReadoutLayer, Particles, Incidence)
    for model in models:
        for key in model.model_fields:
            assert re.search(rf"[`.]{key}`|{key} =", text) or key == "readout", f"{key} of {model.__name__}"
    for material in MATERIALS:
        assert material in " ".join(text.split())
