"""What `caloforge info` tells: right numbers, one screen, nothing from a file that could harm a terminal."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from rich.console import Console

from caloforge.checkpoint import Checkpoint, domain_of
from caloforge.convert import convert, describe, render, sample
from caloforge.convert.statistics import Statistics
from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError
from caloforge.incident import Incident
from caloforge.models import build_model
from caloforge.showers import Showers
from caloforge.transforms import build_transform

MADE = {
    "producer": "simulate",
    "label": "Geant4 11.4.1",
    "seconds_per_shower": 0.4321,
    "device": "cpu",
    "seed": 12,
    "versions": {"caloforge": "0.1.0", "Geant4": "11.4.1"},
    "physics": "FTFP_BERT_EMV",
    "tables": "official",
    "room": "left",
}


def shown(description: dict[str, Any], width: int = 80) -> str:
    console = Console(width=width, force_terminal=True, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        console.print(render(description))
    return capture.get()


def some(detector: Detector, n: int = 50, energy: Any = None, provenance: Any = None) -> Showers:
    rng = np.random.default_rng(0)
    voxels = rng.exponential(1, (n, detector.n_voxels)) * (rng.random((n, detector.n_voxels)) < 0.25)
    voxels[0] = 0
    incident = Incident.of(
        rng.uniform(1e3, 1e5, n) if energy is None else energy,
        np.where(np.arange(n) % 5 == 0, 11, 22),
        np.stack([np.full(n, 0.1), rng.uniform(-0.2, 0.2, n), np.ones(n)], axis=1),
        np.stack([rng.uniform(-5, 5, n), np.full(n, 2.0)], axis=1),
    )
    return Showers.from_dense(voxels, incident, detector, MADE if provenance is None else provenance)


def test_numbers_of_a_shower_file(tmp_path: Path, tiny: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    showers = some(tiny)
    showers.write(tmp_path / "a.h5")
    description = describe(tmp_path / "a.h5")
    assert json.loads(json.dumps(description, allow_nan=False)) == description
    assert description["kind"] == "showers" and description["layout"] == "caloforge"
    assert description["file"] == "a.h5" and description["bytes"] == (tmp_path / "a.h5").stat().st_size
    assert description["bytes_per_shower"] == description["bytes"] / 50
    assert description["format_version"] == 1 and description["voxels"] == 4 * 6 * 8
    assert description["detector"]["name"] == "tiny" and description["detector"]["shape"] == [4, 6, 8]
    assert description["showers"] == 50 and description["particles"] == {"gamma": 40, "e-": 10}
    assert description["content_hash"] == showers.content_hash() and description["provenance"] == MADE
    energy = showers.incident.energy
    assert (description["energy"]["min"], description["energy"]["max"]) == (energy.min(), energy.max())
    response = showers.total_energy / energy
    np.testing.assert_allclose(description["response"]["mean"], response.mean())
    np.testing.assert_allclose(description["response"]["spread"], response.std(ddof=1))
    np.testing.assert_allclose(description["response"]["error"], response.std(ddof=1) / math.sqrt(50))
    hits = showers.n_hits
    assert description["hits"] == {"mean": hits.mean(), "min": 0, "max": hits.max(), "empty": 1}
    np.testing.assert_allclose(description["sparsity"], (showers.dense() == 0).mean())
    np.testing.assert_allclose(description["angles"]["tan_x"], [0.1, 0.1])
    tan_y = showers.incident.column("tan_y")
    np.testing.assert_allclose(description["angles"]["tan_y"], [tan_y.min(), tan_y.max()])
    np.testing.assert_allclose(description["positions"]["y"], [2, 2])


def test_pieces_add_up_to_the_whole(tiny: Detector) -> None:
    showers = some(tiny)
    whole, pieces = Statistics(tiny), Statistics(tiny)
    whole.add(showers)
    for start in range(0, 50, 7):
        pieces.add(showers[start : start + 7])
        pieces.add(showers[:0])
    a, b = whole.summary(), pieces.summary()
    for name in ("mean", "spread", "error"):
        np.testing.assert_allclose(a["response"].pop(name), b["response"].pop(name))
    assert a == b


@pytest.mark.parametrize(
    ("energies", "spectrum"),
    [
        (np.random.default_rng(0).uniform(1e3, 1e5, 2000), "uniform"),
        (np.exp(np.random.default_rng(0).uniform(math.log(1e3), math.log(1e6), 2000)), "log-uniform"),
        (np.random.default_rng(0).choice(2.0 ** np.arange(8, 23), 2000), "15 energies"),
        (np.full(2000, 5e4), "one energy"),
        (1e3 + np.random.default_rng(0).beta(5, 1, 2000) * 1e4, "other"),
        (np.zeros(2000), "unknown"),
        ([7.0], "one energy"),
        (np.linspace(1e10, 2e10, 300), "uniform"),
    ],
)
def test_spectra_are_told_apart(energies: Any, spectrum: str) -> None:
    detector = Detector.load("lhcb-ecal")
    n = len(energies)
    statistics = Statistics(detector)
    statistics.add(Showers.from_dense(np.ones((n, 900)), Incident.of(energies), detector))
    found = statistics.summary()["energy"]
    assert found["spectrum"] == spectrum
    assert len(found["histogram"]) == (40 if spectrum in ("uniform", "log-uniform", "other") else 0)


def test_the_screen(tmp_path: Path, tiny: Detector) -> None:
    some(tiny).write(tmp_path / "a.h5")
    text = shown(describe(tmp_path / "a.h5"))
    lines = text.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    for words in (
        "version 1", "tiny", "192 (4 x 6 x 8)", "50 (40 gamma, 10 e-)", "uniform", "tan x 0.1,", "y 2 mm", "response",
        "), 1 empty", "% of voxels without energy", "simulate Geant4 11.4.1", "0.4321 s a shower", "seed", "12",
        "FTFP_BERT_EMV", "official", "caloforge 0.1.0, Geant4 11.4.1", "room left", some(tiny).content_hash(),
    ):  # fmt: skip
        assert words in text, words


def test_every_layout_can_be_described(tmp_path: Path, tiny: Detector) -> None:
    detector = Detector.load("lhcb-ecal")
    some(detector, provenance={"producer": "simulate"}).write(tmp_path / "a.h5")
    with pytest.warns(UserWarning, match="vary"):
        convert(tmp_path / "a.h5", tmp_path / "b.hdf5")
    description = describe(tmp_path / "b.hdf5")
    assert description["layout"] == "calochallenge" and description["content_hash"] is None
    assert description["provenance"]["previous"] == {"producer": "simulate"}
    text = shown(description)
    assert "calochallenge layout" in text and "before" in text and "convert caloforge" in text and "along z" in text
    with h5py.File(tmp_path / "c.hdf5", "w") as file:
        file["incident_energies"], file["showers"] = np.full((3, 1), 1e3), -np.ones((3, 368))
    description = describe(tmp_path / "c.hdf5")
    assert description["notes"] == {"negative_voxels_set_to_zero": 3 * 368} and description["provenance"] is None
    assert description["hits"]["empty"] == 3 and description["detector"]["shape"] is None
    assert "368 (5 layers)" in shown(description) and "not told" in shown(description)


def test_no_showers(tmp_path: Path, tiny: Detector) -> None:
    some(tiny)[:0].write(tmp_path / "a.h5")
    description = describe(tmp_path / "a.h5")
    assert description["showers"] == 0 and description["bytes_per_shower"] is None
    assert "none" in shown(description)


@pytest.mark.parametrize(
    "provenance",
    [
        {},
        {"producer": None, "label": 3, "seconds_per_shower": "fast", "versions": [1, {"a": None}], "previous": "x"},
        {"versions": {}, "seed": {"a": [1] * 100}, "previous": {}, "source": 1.5, "seconds_per_shower": True},
        {"x" * 5000: "y" * 5000},
    ],
)
def test_strange_provenance_is_shown_gracefully(tmp_path: Path, tiny: Detector, provenance: dict[str, Any]) -> None:
    some(tiny, provenance=provenance).write(tmp_path / "a.h5")
    lines = shown(describe(tmp_path / "a.h5")).splitlines()
    assert len(lines) < 40 and max(map(len, lines)) <= 80


def test_text_from_a_file_cannot_harm_the_terminal(tmp_path: Path, tiny: Detector) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07[bold red]x[/] [link=file:///etc/passwd]y[/link]\r\n\u202e\x9b31m"
    provenance = {"producer": evil, "label": evil, "physics": evil, evil: evil, "versions": {evil: evil}}
    detector = Detector.from_toml(tiny.to_toml().replace("Four lead", "[red]Four"))
    some(detector, provenance=provenance).write(tmp_path / "[red]a.h5")
    text = shown(describe(tmp_path / "[red]a.h5"))
    for character in ("\x07", "\x9b", "\r", "\u202e", "\x1b[2J", "\x1b]"):
        assert character not in text
    assert "[bold red]x[/]" in text and "[red]a.h5" in text


def test_files_that_cannot_be_described(tmp_path: Path) -> None:
    for name, raw in (("empty", b""), ("text", b"hello\n"), ("binary", bytes(100)), ("zip", b"PK\x03\x04")):
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(CaloforgeError):
            describe(tmp_path / name)
    for path in (tmp_path, tmp_path / "no", Path("a\0b")):
        with pytest.raises(CaloforgeError):
            describe(path)


def test_a_trained_model(tmp_path: Path, tiny: Detector) -> None:
    model = build_model("lhcb-wgan", tiny.shape, 1, seed=3, latent=6, channels=[4, 4], hidden=4)
    Checkpoint(
        model=model,
        model_name="lhcb-wgan",
        model_config=model.config,
        shower_transform=build_transform([{"name": "per-incident-energy"}]),
        condition_transform=build_transform([{"name": "scale", "scale": 10.0}]),
        conditions=["log_energy"],
        detector=tiny,
        domain=domain_of(Incident.of([100.0, 500.0], 11)),
        provenance={"producer": "train", "seed": 3},
    ).save(tmp_path / "model.safetensors")
    description = describe(tmp_path / "model.safetensors")
    assert json.loads(json.dumps(description)) == description
    assert description["kind"] == "checkpoint" and description["model"] == "lhcb-wgan"
    assert description["parameters"] == sum(p.numel() for m in model.generation_modules() for p in m.parameters())
    text = shown(description)
    for words in ("trained model", "lhcb-wgan", "latent 6", "tiny, 192 voxels", "log_energy", "100.0, 500.0", "train"):
        assert words in text, words


def test_a_checkpoint_that_is_broken_is_refused(tmp_path: Path) -> None:
    header = b'{"a":1}'
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CaloforgeError):
        describe(tmp_path / "a.safetensors")


def test_large_files_are_described_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Detector.load("lhcb-ecal")
    some(detector, 200).write(tmp_path / "a.h5")
    with pytest.warns(UserWarning, match="vary"):
        convert(tmp_path / "a.h5", tmp_path / "b.hdf5")
    monkeypatch.setattr(sample, "CHUNK_BYTES", 8 * 900 * 10)
    sizes: list[int] = []
    add = Statistics.add

    def spy(self: Statistics, showers: Showers) -> None:
        sizes.append(len(showers))
        add(self, showers)

    monkeypatch.setattr(Statistics, "add", spy)
    describe(tmp_path / "b.hdf5")
    assert sum(sizes) == 200 and len(sizes) > 1
