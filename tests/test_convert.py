"""Samples of other groups: read with the right units and axes, written for others, refused when they are broken."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from caloforge.convert import FORMATS, READERS, convert, describe, sample, sources
from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError, CaloforgeWarning
from caloforge.incident import Incident
from caloforge.showers import Showers

N = 6
Arrays = dict[str, npt.NDArray[Any]]


def sparse(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (rng.exponential(1.0, shape) * (rng.random(shape) < 0.2)).astype(np.float32)


def energies(n: int = N) -> npt.NDArray[np.float64]:
    return np.random.default_rng(1).uniform(10, 90, n)


def hdf5(path: Path, arrays: Arrays, **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, **options)
    return path


def npz(path: Path, arrays: Arrays, compressed: bool = True) -> Path:
    with path.open("wb") as file:
        (np.savez_compressed if compressed else np.savez)(file, **arrays)  # type: ignore[arg-type]
    return path


def converted(path: Path, **options: Any) -> Showers:
    target = path.with_name("converted.h5")
    report = convert(path, target, overwrite=True, **options)
    showers = Showers.read(target)
    assert report["showers"] == len(showers) and report["detector"] == showers.detector.name
    assert report["provenance"] == showers.provenance
    assert showers.provenance["producer"] == "convert" and showers.provenance["label"] == report["reader"]
    assert showers.provenance["source"]["file"] == path.name and len(showers.provenance["source"]["sha256"]) == 64
    return showers


def refused(path: Path, *words: str, **options: Any) -> None:
    target = path.with_name("refused.h5")
    with pytest.raises(CaloforgeError) as caught:
        convert(path, target, **options)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message and len(message) < 700
    assert not target.exists() and not list(path.parent.glob(".*tmp"))


# -- each layout -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("voxels", "detector", "pdg"),
    [
        (368, "calochallenge-photons", 22),
        (533, "calochallenge-pions", 211),
        (6480, "par04-siw", 11),
        (40500, "par04-siw-fine", 11),
    ],
)
def test_calochallenge(tmp_path: Path, voxels: int, detector: str, pdg: int) -> None:
    showers = sparse(N, voxels).astype(np.float64)
    path = hdf5(tmp_path / "a.hdf5", {"incident_energies": energies()[:, None], "showers": showers}, compression="gzip")
    read = converted(path)
    assert read.detector == Detector.load(detector) and set(read.incident.pdg) == {pdg}
    np.testing.assert_array_equal(read.dense().reshape(N, -1), showers)
    np.testing.assert_array_equal(read.incident.energy, energies())
    np.testing.assert_array_equal(read.incident.direction, [[0, 0, 1]] * N)
    assert set(converted(path, particle="e+").incident.pdg) == {-11}


def test_negative_energies_become_zero_and_that_is_said(tmp_path: Path) -> None:
    showers = sparse(N, 368)
    showers[:, 0] = -0.5
    read = converted(hdf5(tmp_path / "a.hdf5", {"incident_energies": energies(), "showers": showers}))
    assert read.provenance["negative_voxels_set_to_zero"] == N
    np.testing.assert_array_equal(read.dense(), np.maximum(showers, 0))


def test_getting_high(tmp_path: Path) -> None:
    layers = sparse(N, 30, 30, 30)
    for shape in ((N,), (N, 1)):
        path = hdf5(tmp_path / "a.h5", {"30x30/layers": layers, "30x30/energy": energies().reshape(shape)})
        read = converted(path)
        np.testing.assert_array_equal(read.dense(), layers)
        np.testing.assert_allclose(read.incident.energy, energies() * 1000)
        assert read.detector.name == "ild-ecal" and set(read.incident.pdg) == {22}
        np.testing.assert_array_equal(read.incident.position, [[2.5, 2.5]] * N)


def test_3dgan(tmp_path: Path) -> None:
    ecal = np.zeros((N, 25, 25, 25))
    ecal[:, 3, 7, 20] = 0.5  # x, y, depth
    targets = {
        "target": np.stack([np.full(N, -11.0), energies()], axis=1),
        "energy": energies(),
    }
    for name, target in targets.items():
        read = converted(hdf5(tmp_path / "a.h5", {"ECAL": ecal, name: target}))
        assert read.detector.name == "clic-ecal"
        assert set(read.incident.pdg) == ({-11} if name == "target" else {11})
        np.testing.assert_allclose(read.dense()[:, 20, 7, 3], 500)
        np.testing.assert_allclose(read.total_energy, 500)
        np.testing.assert_allclose(read.incident.energy, energies() * 1000)
        x, y, _ = read.detector.voxel_positions[read.index[0]]
        np.testing.assert_allclose([x, y], [(3 - 12) * 5.1, (7 - 12) * 5.1])
    path = hdf5(tmp_path / "b.h5", {"ECAL": sparse(2, 51, 51, 25), "energy": energies(2)})
    refused(path, "(51, 51, 25)", "--detector")
    refused(path, "(51, 51, 25)", "clic-ecal", detector="clic-ecal")
    own = tmp_path / "own.toml"
    own.write_text(Detector.load("clic-ecal").to_toml().replace("cells = [25, 25]", "cells = [51, 51]"))
    assert converted(path, detector=own).detector.shape == (25, 51, 51)


def test_calogan(tmp_path: Path) -> None:
    layers = {f"layer_{i}": sparse(N, *s) for i, s in enumerate([(3, 96), (12, 12), (12, 6)])}
    path = hdf5(tmp_path / "a.hdf5", {**layers, "energy": energies()[:, None]})
    read = converted(path)
    assert read.detector.name == "atlas-lar" and set(read.incident.pdg) == {-11}
    for array, part in zip(layers.values(), read.detector.layer_slices, strict=True):
        np.testing.assert_array_equal(read.dense()[:, part], array.reshape(N, -1))
    np.testing.assert_allclose(read.incident.energy, energies() * 1000)
    assert set(converted(path, particle="22").incident.pdg) == {22}
    refused(path, "holds layers", "ild-ecal", detector="ild-ecal")


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("last", [True, False])
def test_lhcb(tmp_path: Path, compressed: bool, order: str, last: bool) -> None:
    deposit = sparse(N, 30, 30)
    rng = np.random.default_rng(2)
    momentum = np.stack([rng.normal(0, 1, N), rng.normal(0, 1, N), rng.uniform(5, 50, N)], axis=1)
    arrays = {
        "EnergyDeposit": np.array(np.moveaxis(deposit, 0, -1)[:, :, None] if last else deposit[..., None], order=order),  # type: ignore[call-overload]
        "ParticleMomentum": momentum,
        "ParticlePoint": rng.uniform(-50, 50, (N, 3)),
        "ParticlePDG": np.full((N, 1), 22.0),
    }
    read = converted(npz(tmp_path / "a.npz", arrays, compressed))
    np.testing.assert_array_equal(read.dense()[:, 0], deposit)
    for i, axis in enumerate("xyz"):
        np.testing.assert_allclose(read.incident.column(f"p_{axis}"), momentum[:, i] * 1000, rtol=1e-9)
    np.testing.assert_allclose(read.incident.position, arrays["ParticlePoint"][:, :2])
    assert set(read.incident.pdg) == {22}
    del arrays["ParticlePDG"]
    read = converted(npz(tmp_path / "a.npz", arrays, compressed))
    assert set(read.incident.pdg) == {11}
    total = np.sqrt((momentum**2).sum(axis=1) * 1e6 + 0.51099895**2)
    np.testing.assert_allclose(read.incident.energy, total - 0.51099895, rtol=1e-9)


def test_as_many_showers_as_rows_are_not_mistaken(tmp_path: Path) -> None:
    deposit = sparse(30, 30, 30)
    arrays = {"ParticleMomentum": np.array([[0.0, 0, 5]] * 30), "ParticlePoint": np.zeros((30, 2))}
    for shape, moved in (((30, 30, 30), False), ((30, 30, 30, 1), False), ((30, 30, 1, 30), True)):
        array = np.moveaxis(deposit, 0, -1)[:, :, None] if moved else deposit.reshape(shape)
        read = converted(npz(tmp_path / "a.npz", {"EnergyDeposit": array, **arrays}))
        np.testing.assert_array_equal(read.dense()[:, 0], deposit)


def table(header: str, *lines: str) -> str:
    return "\n".join([header, *lines]) + "\n"


def test_text(tmp_path: Path, tiny_toml: Path, tiny: Detector) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        table(
            "event,col,row,energy,layer,incident_energy",
            "3,1,2,0.5,0,100",
            "3,1,2,0.25,0,100",
            "7,7,5,2,3,50",
            "9,0,0,0,0,9",
        )
    )
    read = converted(path, detector=tiny_toml)
    expected = np.zeros((3, 4, 6, 8))
    expected[0, 0, 2, 1], expected[1, 3, 5, 7] = 0.75, 2
    np.testing.assert_array_equal(read.dense(), expected)
    assert read.incident.energy.tolist() == [100, 50, 9] and set(read.incident.pdg) == {11}
    path.write_text("\ufeffEvent, col, row, energy\r\n0,29,29,1\r\n1,0,0,1")
    with pytest.warns(CaloforgeWarning, match="does not tell incident energies"):
        read = converted(path)
    assert read.detector.name == "lhcb-ecal" and read.incident.energy.tolist() == [0, 0]
    assert "unknown" in read.provenance["incident_energy"]


def test_text_in_many_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from caloforge.convert import table as module

    monkeypatch.setattr(module, "_BLOCK", 100)
    voxels = sparse(5, 900)
    voxels[:, 899] = 1
    event, voxel = np.nonzero(voxels)
    lines = [f"{e},{v % 30},{v // 30},{voxels[e, v]!r},{e + 1}" for e, v in zip(event, voxel, strict=True)]
    lines = [line.replace("np.float32(", "").replace(")", "") for line in lines]
    path = tmp_path / "a.csv"
    path.write_text(table("event,col,row,energy,incident_energy", *lines))
    read = converted(path)
    np.testing.assert_array_equal(read.dense().reshape(5, -1), voxels)
    assert read.incident.energy.tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (table("event,col,row,energy,colour", "0,0,0,1,1"), "allowed, each once"),
        (table("event,col,row,energy,event", "0,0,0,1,1"), "allowed, each once"),
        (table("a,b", "0,0"), "not known"),
        (table("event,col,row,energy", "0,0,0"), "lines of 3 numbers"),
        (table("event,col,row,energy", "0,0,0,1", "0,0"), "not 4 numbers"),
        (table("event,col,row,energy", "0,0,0,x"), "not 4 numbers"),
        (table("event,col,row,energy", "0,0,0,nan"), "'energy'"),
        (table("event,col,row,energy", "0,0,0,-1"), "'energy'"),
        (table("event,col,row,energy", "0,0.5,0,1"), "'col'"),
        (table("event,col,row,energy", "0,1e300,0,1"), "'col'"),
        (table("event,col,row,energy", "1,29,29,1", "0,0,0,1"), "not sorted"),
        (table("event,col,row,energy", "0,3,3,1"), "does not tell its detector"),
        (table("event,col,row,energy"), "does not tell its detector"),
        (table("event,col,row,energy", "1" * 5_000_000), "a line of more than"),
        ("hello", "not known"),
    ],
)  # fmt: skip
def test_wrong_text(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    refused(tmp_path / "a.csv", words)


def test_text_that_does_not_fit_its_detector(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(table("event,col,row,energy", "0,30,0,1"))
    refused(tmp_path / "a.csv", "needs 1 layers of 1 rows and 31 columns", detector="lhcb-ecal")
    (tmp_path / "a.csv").write_text(table("event,col,row,layer,energy", "0,0,5,2,1", "0,95,0,0,1", "0,7,0,2,1"))
    refused(tmp_path / "a.csv", "its layer", detector="atlas-lar")


# -- writing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lhcb-ecal", "atlas-lar", "calochallenge-pions", "par04-siw"])
def test_round_trip_through_the_calochallenge_layout(tmp_path: Path, name: str) -> None:
    detector = Detector.load(name)
    provenance = {"producer": "simulate", "label": "Geant4 11.4.1", "seed": 3}
    direction, position = sample.default_incidence(detector)
    showers = Showers.from_dense(
        sparse(N, detector.n_voxels), Incident.of(energies(), -211, direction, position), detector, provenance
    )
    showers.write(tmp_path / "a.h5")
    report = convert(tmp_path / "a.h5", tmp_path / "b.hdf5")
    assert report["format"] == "calochallenge" and report["reader"] == "caloforge"
    with h5py.File(tmp_path / "b.hdf5") as file:
        assert set(file) == {"incident_energies", "showers"}
        assert file["incident_energies"].shape == (N, 1) and file["showers"].shape == (N, detector.n_voxels)
        assert file["showers"].dtype == file["incident_energies"].dtype == np.float64
        assert file["showers"].compression == "gzip"
        np.testing.assert_array_equal(file["showers"][:], showers.dense(np.float64).reshape(N, -1))
    back = converted(tmp_path / "b.hdf5")
    assert back.content_hash() == showers.content_hash() and back.detector == detector
    assert back.provenance["previous"]["previous"] == provenance


def test_losing_what_varies_is_said(tmp_path: Path) -> None:
    detector = Detector.load("lhcb-ecal")
    rng = np.random.default_rng(0)
    incident = Incident.of(
        energies(), [11, 22] * 3, rng.normal(0, 0.1, (N, 3)) + np.array([0, 0, 1]), rng.normal(0, 5, (N, 2))
    )
    Showers.from_dense(sparse(N, 900), incident, detector).write(tmp_path / "a.h5")
    with pytest.warns(CaloforgeWarning, match="direction and particle and position of the incident particles vary"):
        report = convert(tmp_path / "a.h5", tmp_path / "b.hdf5")
    assert report["provenance"]["lost"] == ["direction", "particle", "position"]


def test_no_showers(tmp_path: Path, tiny: Detector) -> None:
    Showers.from_dense(np.zeros((0, tiny.n_voxels)), Incident.of([]), tiny).write(tmp_path / "a.h5")
    convert(tmp_path / "a.h5", tmp_path / "b.hdf5")
    assert len(converted(tmp_path / "b.hdf5", particle="e-")) == 0


def test_a_shower_file_may_only_change_its_detectors_description(
    tmp_path: Path, tiny: Detector, tiny_toml: Path
) -> None:
    showers = Showers.from_dense(sparse(N, tiny.n_voxels), Incident.of(energies()), tiny, {"seed": 1})
    showers.write(tmp_path / "a.h5")
    tiny_toml.write_text(tiny.to_toml().replace('"tiny"', '"renamed"'))
    read = converted(tmp_path / "a.h5", format="caloforge", detector=tiny_toml)
    assert read.detector.name == "renamed" and read.content_hash() == showers.content_hash()
    refused(tmp_path / "a.h5", "voxels are not those", format="caloforge", detector="ild-ecal")


def test_detectors_from_binning_files(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.hdf5", {"incident_energies": energies(), "showers": sparse(N, 12)})
    refused(path, "12 voxels", "--detector")
    refused(path, "has 900", "12 voxels", detector="lhcb-ecal")
    (tmp_path / "b.xml").write_text(
        '<Bins><Bin pid="22" name="photon"><Layer id="0" r_edges="0,1,2,3" n_bin_alpha="4"/></Bin>'
        '<Bin pid="211" name="pion"><Layer id="0" r_edges="0,1" n_bin_alpha="2"/></Bin></Bins>'
    )
    read = converted(path, detector=tmp_path / "b.xml", particle="photon")
    assert read.detector.shape == (1, 4, 3) and set(read.incident.pdg) == {22}
    refused(path, "--particle", detector=tmp_path / "b.xml")
    (tmp_path / "c.toml").write_text('name = "c"\n[readout]\ncells = [3, 4]\ncell_size = [1, 1]')
    refused(path, "--particle", detector=tmp_path / "c.toml")


# -- large, broken and malicious files -----------------------------------------------------------------------------


def test_pieces_are_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "CHUNK_BYTES", 3 * 8 * 368)
    showers = sparse(20, 368).astype(np.float64)
    path = hdf5(tmp_path / "a.hdf5", {"incident_energies": energies(20), "showers": showers}, chunks=None)
    steps: list[tuple[int, int]] = []
    convert(path, tmp_path / "b.h5", progress=lambda done, total, note: steps.append((done, total)))
    assert steps[:3] == [(0, 20), (3, 20), (6, 20)] and steps[-1] == (20, 20)
    np.testing.assert_array_equal(Showers.read(tmp_path / "b.h5").dense(), showers)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    n = 5000
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["incident_energies"] = np.full((n, 1), 1e3)
        data = file.create_dataset(
            "showers", (n, 6480), "f8", chunks=(500, 6480), compression="gzip", compression_opts=1
        )
        block = np.zeros((500, 6480))
        block[:, :300] = 1.0
        for start in range(0, n, 500):
            data[start : start + 500] = block
    code = (
        "import resource, sys; from caloforge.convert import convert; peak = lambda: "
        "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; start = peak(); "
        "report = convert(sys.argv[1], sys.argv[2]); print(report['showers'], (peak() - start) // 1024)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.hdf5"), str(tmp_path / "b.h5")]
    showers, megabytes = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert showers == n
    assert megabytes < 150  # of the 259 MB that the dense energies are


def test_every_layout_is_documented() -> None:
    text = (Path(__file__).parent.parent / "docs" / "shower-file.md").read_text()
    for name, reader in READERS.items():
        assert reader.__doc__ and ("Units" in reader.__doc__ or "MeV" in reader.__doc__)
        assert f"`{name}`" in text
    assert set(FORMATS) <= set(READERS)


CALO: Arrays = {"incident_energies": energies()[:, None], "showers": sparse(N, 368)}
BAD: dict[str, tuple[Callable[[], Arrays], str]] = {
    "nan voxel": (lambda: {**CALO, "showers": np.where(np.eye(N, 368) > 0, np.nan, 1.0)}, "NaN"),
    "minus infinity": (lambda: {**CALO, "showers": np.where(np.eye(N, 368) > 0, -np.inf, 1.0)}, "NaN, infinite"),
    "huge voxel": (lambda: {**CALO, "showers": np.full((N, 368), 1e200)}, "above 1e+15 MeV"),
    "nan energy": (lambda: {**CALO, "incident_energies": np.full(N, np.nan)}, "incident energies"),
    "zero energy": (lambda: {**CALO, "incident_energies": np.zeros(N)}, "incident energies"),
    "fewer energies": (lambda: {**CALO, "incident_energies": energies(N - 1)}, "incident energies"),
    "wide energies": (lambda: {**CALO, "incident_energies": np.ones((N, 2))}, "incident energies"),
    "scalar energy": (lambda: {**CALO, "incident_energies": np.array(1.0)}, "damaged"),
    "text": (lambda: {**CALO, "showers": np.array([b"a"] * N)}, "not numbers"),
    "complex": (lambda: {**CALO, "showers": np.ones((N, 368), complex)}, "not numbers"),
    "flat": (lambda: {**CALO, "showers": np.ones(N)}, "not known"),
    "nothing": (dict, "the HDF5 datasets none"),
    "something else": (lambda: {"a\x1b[31m": np.ones(3)}, "not known"),
    "getting high of other shape": (
        lambda: {"30x30/layers": np.ones((N, 30, 30, 29)), "30x30/energy": energies()},
        "26100 voxels",
    ),
    "3dgan without energy": (lambda: {"ECAL": np.ones((N, 25, 25, 25))}, "not known"),
    "calogan of other shape": (
        lambda: {**{f"layer_{i}": np.ones((N, 3, 3)) for i in range(3)}, "energy": energies()},
        "holds layers",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_broken_samples_are_refused_in_one_sentence(tmp_path: Path, case: str) -> None:
    arrays, words = BAD[case]
    refused(hdf5(tmp_path / "a.hdf5", arrays()), words)


LHCB: Arrays = {
    "EnergyDeposit": np.ones((N, 30, 30)),
    "ParticleMomentum": np.ones((N, 3)),
    "ParticlePoint": np.zeros((N, 2)),
}
BAD_NPZ: dict[str, tuple[Arrays, str]] = {
    "objects": ({**LHCB, "EnergyDeposit": np.array([None] * N, dtype=object)}, "not an array of numbers"),
    "structured": ({**LHCB, "EnergyDeposit": np.zeros(N, "i4,f4")}, "not an array of numbers"),
    "fewer points": ({**LHCB, "ParticlePoint": np.zeros((N - 1, 2))}, "as many of each"),
    "flat momenta": ({**LHCB, "ParticleMomentum": np.ones(N)}, "shape (6,)"),
    "away": ({**LHCB, "ParticleMomentum": -np.ones((N, 3))}, "do not point into the detector"),
    "nan momenta": ({**LHCB, "ParticleMomentum": np.full((N, 3), np.nan)}, "do not point"),
    "nan points": ({**LHCB, "ParticlePoint": np.full((N, 2), np.nan)}, "NaN"),
    "particle": ({**LHCB, "ParticlePDG": np.full(N, 99999)}, "no particle's PDG code"),
    "other arrays": ({"x": np.ones(3)}, "the arrays x"),
    "none": ({}, "without arrays"),
}


@pytest.mark.parametrize("case", BAD_NPZ)
def test_broken_archives_are_refused(tmp_path: Path, case: str) -> None:
    arrays, words = BAD_NPZ[case]
    refused(npz(tmp_path / "a.npz", arrays), words)


def member(header: str, data: bytes = b"") -> bytes:
    text = (header + " " * (118 - len(header) - 1) + "\n").encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (member("{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000,), }"), "declares"),
        (member("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -8), }", bytes(64)), "not an array of numbers"),
        (member("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", bytes(16)), "not an array of numbers"),
        (member("{'descr': '<f8', 'fortran_order': False, 'shape': (" + "1," * 20 + "), }", bytes(8)), "not an array"),
        (member("{'descr': '<f8'"), "damaged"),
        (member("__import__('os').abort()"), "damaged"),
        (b"\x93NUMPY\x09\x00" + bytes(200), "unknown"),
        (b"hello", "damaged"),
        (bytes(50_000_000), "claims to unpack"),
    ],
    ids=["size", "negative", "pickle", "axes", "header", "code", "version", "text", "bomb"],
)
def test_archives_that_lie_are_refused_before_memory_is_taken(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.npz"
    kind = zipfile.ZIP_LZMA if len(content) > 10**6 else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name in LHCB:
            archive.writestr(f"{name}.npy", content)
            content = content if len(content) < 10**6 else b""
    refused(path, words)


def test_declared_sizes_are_not_believed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_dataset("showers", (10**12, 368), "f8", chunks=(100, 368), compression="gzip")
        file.create_dataset("incident_energies", (10**12, 1), "f8", chunks=(100, 1), compression="gzip")
    refused(tmp_path / "a.hdf5", "declares")


def test_links_to_other_files_are_not_followed(tmp_path: Path) -> None:
    hdf5(tmp_path / "other.hdf5", CALO)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["showers"] = h5py.ExternalLink("other.hdf5", "showers")
        file["incident_energies"] = h5py.ExternalLink("other.hdf5", "incident_energies")
    refused(tmp_path / "a.hdf5", "is a link")


def make(kind: str, path: Path) -> Path:
    """A small file of each kind for the byte-flipping test."""
    if kind == "calochallenge":
        return hdf5(path, CALO, compression="gzip")
    if kind == "calogan":
        layers = {f"layer_{i}": sparse(N, *s) for i, s in enumerate([(3, 96), (12, 12), (12, 6)])}
        return hdf5(path, {**layers, "energy": energies()})
    if kind == "lhcb":
        return npz(path, {**LHCB, "EnergyDeposit": sparse(N, 30, 30)})
    lines = [f"{i // 30},{i % 30},{(i * 7) % 30},{i / 7:.3f},1000" for i in range(120)]
    path.write_text(table("event,col,row,energy,incident_energy", *lines))
    return path


@pytest.mark.parametrize("kind", ["calochallenge", "calogan", "lhcb", "csv"])
@pytest.mark.filterwarnings("ignore::caloforge.errors.CaloforgeWarning")
def test_damage_never_ends_in_a_traceback(tmp_path: Path, kind: str) -> None:
    raw = make(kind, tmp_path / "a").read_bytes()
    rng = np.random.default_rng(3)
    refusals = 0
    for trial in range(150):
        spoiled = bytearray(raw[: rng.integers(0, len(raw))] if trial % 10 == 0 else raw)
        for place in rng.integers(0, max(1, min(len(spoiled), 3000 if trial % 3 else len(raw))), rng.integers(1, 4)):
            if spoiled:
                spoiled[place] ^= rng.integers(1, 256)
        (tmp_path / "b").write_bytes(spoiled)
        try:
            describe(tmp_path / "b")
        except CaloforgeError as error:
            refusals += "\n" not in str(error)
    assert refusals > 20


def test_questions_of_the_user(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.hdf5", CALO)
    refused(tmp_path / "no.h5", "does not exist")
    refused(path, "did you mean 'calochallenge'", format="calochalenge")
    refused(path, "did you mean 'gamma'", particle="gama")
    refused(path, "did you mean 'ild-ecal'", detector="ild-ekal")
    with pytest.raises(CaloforgeError, match="both source and target"):
        convert(path, path, overwrite=True)
    with pytest.raises(CaloforgeError, match="exists already"):
        convert(path, path)
    before = path.read_bytes()
    (tmp_path / "b.h5").write_text("keep me")
    with pytest.raises(CaloforgeError, match="has 900"):
        convert(path, tmp_path / "b.h5", detector="lhcb-ecal", overwrite=True)
    assert (tmp_path / "b.h5").read_text() == "keep me" and path.read_bytes() == before
    for raw, words in (
        (b"", "is empty"),
        (b"\0" * 100, "neither HDF5"),
        (b"\xff\xfe,a\n", "neither HDF5"),
        (b"PK\3\4xx", "damaged"),
    ):
        (tmp_path / "c").write_bytes(raw)
        refused(tmp_path / "c", words)


def test_a_source_is_closed_again(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.hdf5", CALO)
    converted(path)
    with h5py.File(path, "r+") as file:  # impossible while it is open for reading
        file["more"] = 1
    with sources.open_source(path) as source:
        assert source.dataset("nothing") is None and source.array("nothing") is None
