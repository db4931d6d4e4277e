"""Neutron cross sections found or computed, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from caloforge.errors import CaloforgeError
from caloforge.simulation import hadron_tables, physics_tables
from caloforge.simulation.hadron_tables import with_hadron_tables
from caloforge.simulation.physics_tables import PhysicsTables, geant4_environment

EM = PhysicsTables(Path("em"), "builtin", "electromagnetic", "digest")


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without Geant4's data, with an empty cache."""
    names = ("G4LEDATA", "GEANT4_DATA_DIR", "G4LEVELGAMMADATA", "G4PARTICLEXSDATA", "CONDA_PREFIX")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CALOFORGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(physics_tables, "_PREFIXES", ())
    return tmp_path


def make_official(folder: Path, but: str = "") -> Path:
    """A data set of the official layout with made-up contents."""
    data = folder / "G4PARTICLEXS4.1"
    (data / "neutron").mkdir(parents=True)
    for name in hadron_tables._FILES:
        if name != but:
            (data / name).write_text("1 2 2\n2\n1 1e-23\n2 1e-23\n")
    return data


def test_built_in_tables_are_complete_and_made_once() -> None:
    tables = with_hadron_tables(EM, "builtin")
    assert tables.neutrons is not None and tables.levels is None
    assert len(list((tables.neutrons / "neutron").iterdir())) == 3 * 92
    assert "built-in neutron cross sections v1; no level data" in tables.description
    before = (tables.neutrons / "neutron" / "el26").stat().st_mtime_ns
    assert with_hadron_tables(EM, "auto") == tables
    assert (tables.neutrons / "neutron" / "el26").stat().st_mtime_ns == before


def test_damaged_tables_are_made_again() -> None:
    tables = with_hadron_tables(EM, "builtin")
    assert tables.neutrons is not None
    (tables.neutrons / "neutron" / "inel82").write_text("nonsense")
    assert with_hadron_tables(EM, "builtin").digest == tables.digest


def test_official_tables_are_used_first(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_official(machine)
    (machine / "PhotonEvaporation6.1").mkdir()
    (machine / "PhotonEvaporation6.1" / "z26.a56").write_text("levels")
    monkeypatch.setenv("GEANT4_DATA_DIR", str(machine))
    tables = with_hadron_tables(EM, "auto")
    assert tables.neutrons == data
    assert tables.description == "electromagnetic; official G4PARTICLEXS4.1; PhotonEvaporation6.1"
    environment = geant4_environment(tables)
    assert environment["G4PARTICLEXSDATA"] == str(data)
    assert environment["G4LEVELGAMMADATA"] == str(machine / "PhotonEvaporation6.1")
    assert with_hadron_tables(EM, "builtin").neutrons != data
    monkeypatch.delenv("GEANT4_DATA_DIR")
    monkeypatch.setenv("G4PARTICLEXSDATA", str(data))
    assert with_hadron_tables(EM, "official").neutrons == data


def test_the_digest_follows_the_files(machine: Path) -> None:
    data = make_official(machine)
    before = with_hadron_tables(EM, str(machine)).digest
    (data / "neutron" / "cap1").write_text("1 2 2\n2\n1 2e-23\n2 1e-23\n")
    assert with_hadron_tables(EM, str(data)).digest != before


def test_what_cannot_be_used(machine: Path) -> None:
    with pytest.raises(CaloforgeError, match="G4PARTICLEXSDATA") as caught:
        with_hadron_tables(EM, "official")
    assert "\n" not in str(caught.value)
    make_official(machine, but="neutron/el92")
    with pytest.raises(CaloforgeError, match="holds no complete neutron cross sections"):
        with_hadron_tables(EM, str(machine))
