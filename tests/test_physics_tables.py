import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from caloforge.errors import CaloforgeError
from caloforge.simulation import physics_tables
from caloforge.simulation.bremsstrahlung import (
    ELECTRON_MASS,
    FINE_STRUCTURE,
    MOMENTUM_TRANSFERS,
    SCALE,
    Screening,
    bethe_heitler,
    coulomb_correction,
    reduced_cross_section,
    table_text,
)
from caloforge.simulation.photoelectric import POLYNOMIALS_FROM, Photoelectric, pratt_limit, sauter
from caloforge.simulation.physics_tables import PhysicsTables, find_tables, geant4_environment

xraylib = pytest.importorskip("xraylib")

OFFICIAL = Path(__file__).parents[2] / "shared" / "geant4-tables" / "G4EMLOW"
VARIABLES = ("G4LEDATA", "GEANT4_DATA_DIR", "G4LEVELGAMMADATA", "G4PARTICLEXSDATA", "G4ENSDFSTATEDATA")


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine without Geant4's data, with an empty cache."""
    for name in (*VARIABLES, "CONDA_PREFIX", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CALOFORGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(physics_tables, "_PREFIXES", ())
    return tmp_path


def read_bremsstrahlung(text):
    """Read a brem_SB file as G4Physics2DVector does: fractions (K,), ln energies (E,), values (E, K)."""
    kind, columns, rows, *numbers = text.split()
    assert kind == "4"
    values = np.array(numbers, dtype=float)
    columns, rows = int(columns), int(rows)
    assert len(values) == columns + rows + rows * columns
    return values[:columns], values[columns : columns + rows], values[columns + rows :].reshape(rows, columns)


def read_vector(text):
    """Read a table as G4PhysicsVector does: energies and values (N,)."""
    low, high, n, again, *numbers = text.split()
    energies, values = np.array(numbers, dtype=float).reshape(-1, 2).T
    assert int(n) == int(again) == len(energies)
    assert float(low) == pytest.approx(energies[0]) and float(high) == pytest.approx(energies[-1])
    assert np.all(np.diff(energies) >= 0)
    return energies, values


def read_polynomials(text):
    """Return the energy it begins at, the binding energies (S,) and the coefficients (S, 6)."""
    n, used, begin, *numbers = text.split()
    rows = np.array(numbers, dtype=float).reshape(-1, 7)
    assert int(n) == int(used) == len(rows)
    return float(begin), rows[:, 0], rows[:, 1:]


def read_shells(text):
    """Return energies and values of each shell."""
    tokens, shells = text.split(), []
    while tokens:
        n, index = int(tokens[2]), int(tokens[3])
        assert index == len(shells)
        shells.append(np.array(tokens[4 : 4 + 2 * n], dtype=float).reshape(-1, 2).T)
        tokens = tokens[4 + 2 * n :]
    return shells


def geant4_photoelectric(files, Z, energies):
    """Evaluate the files as G4LivermorePhotoElectricModel::ComputeCrossSectionPerAtom does; barn."""
    high, binding, top = read_polynomials(files[f"pe-high-{Z}.dat"])
    low, _, bottom = read_polynomials(files[f"pe-low-{Z}.dat"])
    result = []
    for E in np.maximum(energies, binding[-1]):
        powers = E ** -np.arange(1.0, 7.0)
        if high <= E:
            result.append(top[-1] @ powers)
        elif low <= E:
            result.append(bottom[-1] @ powers)
        else:
            name = "pe-cs" if binding[0] <= E else "pe-le-cs"
            result.append(np.interp(E, *read_vector(files[f"{name}-{Z}.dat"])) / E**3)
    return np.array(result)


class TestBremsstrahlung:
    def test_coulomb_correction_agrees_with_the_published_approximation(self):
        for Z in (13, 50, 82):
            z = (FINE_STRUCTURE * Z) ** 2
            assert coulomb_correction(Z) == pytest.approx(1.202 * z - 1.0369 * z**2 + 1.008 * z**3 / (1 + z), rel=3e-3)

    def test_bethe_heitler_at_high_energy(self):
        E0, k = np.array([2e4]), np.array([8e3])
        y, E = k / E0, E0 - k
        expected = (4 / 3 - 4 / 3 * y + y**2) * (4 * np.log(2 * E0 * E / k) - 2)
        np.testing.assert_allclose(bethe_heitler(E0, k), expected, rtol=1e-4)

    def test_bethe_heitler_at_low_energy(self):
        T = 1e-4
        k = np.array([0.1, 0.5, 0.9]) * T
        p0, p = np.sqrt(2 * T), np.sqrt(2 * (T - k))
        expected = 16 / 3 * np.log((p0 + p) / (p0 - p)) / p0**2
        np.testing.assert_allclose(bethe_heitler(np.array([1 + T]), k), expected, rtol=1e-3)

    def test_no_screening_changes_nothing(self):
        nothing = Screening.from_function(np.ones_like(MOMENTUM_TRANSFERS))
        for change in nothing.change(np.array([1e-6, 1e-2]), np.array([3.0, 3.0])):
            np.testing.assert_allclose(change, 0.0, atol=1e-12)

    def test_complete_screening_in_closed_form(self):
        # F = s^2 / (q^2 + s^2) per electron: then the integral for phi_1 is elementary.
        s, delta = 0.02, 1e-7
        q = MOMENTUM_TRANSFERS
        screening = Screening.from_function((q**2 / (q**2 + s**2)) ** 2)
        screened = 0.5 * (np.log((1 + s**2) / s**2) + s**2 / (1 + s**2) - 1)
        unscreened = np.log(1 / delta) - 1.5
        phi1, _ = screening.change(np.array([delta]), np.array([2.0]))
        assert phi1[0] == pytest.approx(4 * (screened - unscreened), rel=2e-3)

    @pytest.mark.parametrize("Z", [29, 74, 82])
    def test_radiation_length_is_tsais(self, Z):
        # Tsai (1974), eq. (3.66), and the integral of his complete-screening cross section.
        expected = Z**2 * (np.log(184.15 * Z ** (-1 / 3)) - coulomb_correction(Z)) + Z * np.log(1194 * Z ** (-2 / 3))
        expected = 4 * SCALE * (expected + (Z**2 + Z) / 18) / Z**2
        y = np.linspace(1e-3, 1.0, 400)
        sigma = reduced_cross_section(Z, xraylib, np.array([1e6]), y)[0]
        assert np.trapezoid(sigma, y) == pytest.approx(expected, rel=0.02)

    def test_positive_and_falling(self):
        for Z in (1, 6, 14, 74, 98):
            assert np.all(reduced_cross_section(Z, xraylib) > 0)
        sigma = reduced_cross_section(14, xraylib, np.array([0.5, 5.0, 50.0]), np.linspace(0.02, 0.95, 50))
        assert np.all(np.diff(sigma, axis=1) < 0)

    def test_goes_as_the_square_of_the_charge(self):
        y, T = np.array([0.1, 0.5, 0.8]), np.array([10.0, 100.0])
        light, heavy = (reduced_cross_section(Z, xraylib, T, y) * Z / (Z + 1) for Z in (8, 82))
        assert np.all(np.abs(heavy / light - 0.88) < 0.14)

    def test_file_reads_back(self):
        fractions, logs, values = read_bremsstrahlung(table_text(74, xraylib))
        assert fractions[0] < 1e-9 and fractions[-1] == 1.0 and np.all(np.diff(fractions) > 0)
        assert logs[0] == pytest.approx(np.log(1e-3)) and logs[-1] == pytest.approx(np.log(1e4))
        energy = np.exp(logs[30:31])
        np.testing.assert_allclose(values[30], reduced_cross_section(74, xraylib, energy, fractions)[0], rtol=1e-4)


class TestPhotoelectric:
    def test_sauter_at_high_energy(self):
        E = np.array([1e5])
        limit = 1.5 * 0.66524587 * 82**5 * FINE_STRUCTURE**4 * ELECTRON_MASS / E
        np.testing.assert_allclose(sauter(82, E), limit, rtol=1e-3)

    def test_pratt_limit_of_light_elements(self):
        assert pratt_limit(1) == pytest.approx(1 - FINE_STRUCTURE * np.pi * (1 + 4 / 15), abs=2e-3)

    @pytest.mark.parametrize("Z", [6, 14, 74, 82])
    def test_above_the_k_edge_equals_xraylib(self, Z):
        files = Photoelectric(Z, xraylib).files()
        energies = np.geomspace(max(1e-3, xraylib.EdgeEnergy(Z, 0) * 1.01e-3), 0.79, 60)
        expected = [xraylib.CSb_Photo(Z, E * 1e3) for E in energies]
        np.testing.assert_allclose(geant4_photoelectric(files, Z, energies), expected, rtol=5e-3)

    @pytest.mark.parametrize("Z", [1, 2, 3, 26, 82, 98])
    def test_continuous_and_falling_above_the_k_edge(self, Z):
        files = Photoelectric(Z, xraylib).files()
        energies = np.geomspace(max(1e-3, xraylib.EdgeEnergy(Z, 0) * 1.01e-3), 1e4, 400)
        sigma = geant4_photoelectric(files, Z, energies)
        assert np.all(sigma > 0) and np.all(np.diff(sigma) < 0)
        for border in POLYNOMIALS_FROM:
            sides = geant4_photoelectric(files, Z, np.array([border * (1 - 1e-9), border]))
            assert sides[1] == pytest.approx(sides[0], rel=5e-3)
        high = np.array([1e4, 1e5])
        np.testing.assert_allclose(np.divide(*(geant4_photoelectric(files, Z, high) * high)), 1.0, rtol=1e-3)

    def test_k_edge(self):
        files = Photoelectric(74, xraylib).files()
        edge = xraylib.EdgeEnergy(74, 0) * 1e-3
        below, above = geant4_photoelectric(files, 74, edge * np.array([0.998, 1.002]))
        assert 4 < above / below < 7

    def test_shells_add_up(self):
        files = Photoelectric(82, xraylib).files()
        shells = read_shells(files["pe-ss-cs-82.dat"])
        _, binding, rows = read_polynomials(files["pe-low-82.dat"])
        assert len(shells) == len(rows) == 24 and np.all(np.diff(binding[:4]) < 0)
        assert np.all(np.diff(rows @ 0.3 ** -np.arange(1.0, 7.0)) >= 0)  # cumulated from K outwards
        for E in (0.002, 0.014, 0.05, 0.1, 0.2):
            total = sum(np.interp(E, *s) for s, edge in zip(shells, binding, strict=True) if edge < E)
            table = "pe-cs-82.dat" if binding[0] < E else "pe-le-cs-82.dat"
            assert total == pytest.approx(np.interp(E, *read_vector(files[table])), rel=5e-3)

    def test_k_shell_share(self):
        share = Photoelectric(82, xraylib).shares(np.array([0.05, 0.1, 100.0]))[0]
        assert share[0] == 0 and 0.75 < share[1] < 0.85 and 0.75 < share[2] < 0.85


class TestCache:
    def test_built_once(self):
        first = find_tables([14, 1], "builtin")
        assert first.kind == "builtin" and "xraylib" in first.description
        stamps = {p: p.stat().st_mtime_ns for p in first.directory.rglob("*") if p.is_file()}
        assert len(stamps) == 2 * 7
        assert find_tables((1, 14), "builtin") == first
        assert all(p.stat().st_mtime_ns == t for p, t in stamps.items())

    @pytest.mark.parametrize("name", ["brem_SB/br6", "livermore/phot_epics2014/pe-cs-6.dat"])
    @pytest.mark.parametrize("damage", ["truncated", "changed", "gone"])
    def test_damage_is_repaired(self, name, damage):
        before = find_tables([6], "builtin")
        path = before.directory / name
        text = path.read_text()
        if damage == "gone":
            path.unlink()
        else:
            path.write_text(text[: len(text) // 2] if damage == "truncated" else text.replace("1", "2"))
        assert find_tables([6], "builtin").digest == before.digest
        assert path.read_text() == text

    def test_interrupted_build_is_completed(self, monkeypatch):
        written = []

        def fail_at_fourth(path, text):
            written.append(path)
            if len(written) == 4:
                raise KeyboardInterrupt
            write(path, text)

        write = physics_tables.write_atomically
        monkeypatch.setattr(physics_tables, "write_atomically", fail_at_fourth)
        with pytest.raises(KeyboardInterrupt):
            find_tables([6], "builtin")
        monkeypatch.setattr(physics_tables, "write_atomically", write)
        tables = find_tables([6], "builtin")
        assert len([p for p in tables.directory.rglob("*") if p.is_file()]) == 7

    def test_several_processes_at_once(self, machine):
        code = "from caloforge.simulation.physics_tables import find_tables as f; print(f([6, 14], 'builtin').digest)"
        workers = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
        digests = {worker.communicate()[0] for worker in workers}
        assert [worker.returncode for worker in workers] == [0, 0, 0]
        assert digests == {find_tables([6, 14], "builtin").digest + "\n"}
        assert not list((machine / "cache").rglob(".*"))

    def test_unwritable_cache(self, machine, monkeypatch):
        (machine / "file").write_text("")
        monkeypatch.setenv("CALOFORGE_CACHE", str(machine / "file" / "cache"))
        with pytest.raises(CaloforgeError, match="set CALOFORGE_CACHE"):
            find_tables([6], "builtin")
        with pytest.raises(CaloforgeError, match="set CALOFORGE_CACHE"):
            geant4_environment(PhysicsTables(machine, "directory", "", ""))

    def test_places(self, machine, monkeypatch):
        monkeypatch.delenv("CALOFORGE_CACHE")
        assert physics_tables.cache_directory() == machine / "home" / ".cache" / "caloforge"
        monkeypatch.setenv("XDG_CACHE_HOME", str(machine / "xdg"))
        assert physics_tables.cache_directory() == machine / "xdg" / "caloforge"

    def test_without_xraylib(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "xraylib", None)
        with pytest.raises(CaloforgeError, match=r"caloforge\[simulation\]"):
            find_tables([6], "builtin")


def make_data_set(directory, elements=(6, 14)):
    """Write empty stand-ins for the official tables."""
    for Z in elements:
        for name in physics_tables._files(Z):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(f"{name}\n")
    return directory


class TestChoice:
    def test_ledata_comes_first(self, machine, monkeypatch):
        first = make_data_set(machine / "a" / "G4EMLOW8.8")
        make_data_set(machine / "b" / "G4EMLOW8.7")
        monkeypatch.setenv("GEANT4_DATA_DIR", str(machine / "b"))
        assert find_tables([6]).directory == machine / "b" / "G4EMLOW8.7"
        monkeypatch.setenv("G4LEDATA", str(first))
        tables = find_tables([6])
        assert (tables.directory, tables.kind, tables.description) == (first, "official", "official G4EMLOW8.8")

    def test_the_newest_complete_one(self, machine, monkeypatch):
        make_data_set(machine / "G4EMLOW8.10", [6])
        older = make_data_set(machine / "G4EMLOW8.9")
        make_data_set(machine / "G4EMLOW8.8")
        monkeypatch.setenv("GEANT4_DATA_DIR", str(machine))
        assert find_tables([6], "official").directory.name == "G4EMLOW8.10"
        assert find_tables([6, 14], "official").directory == older

    def test_downloads_of_geant4_pybind(self, machine):
        expected = make_data_set(machine / "home" / ".geant4_pybind" / "G4EMLOW8.8")
        assert find_tables([14]).directory == expected

    def test_builtin_where_the_official_are_missing_or_incomplete(self, machine, monkeypatch):
        assert find_tables([6]).kind == "builtin"
        monkeypatch.setenv("G4LEDATA", str(make_data_set(machine / "G4EMLOW8.8", [14])))
        assert find_tables([14]).kind == "official"
        assert find_tables([14, 6]).kind == "builtin"
        assert find_tables([14], "builtin").kind == "builtin"
        with pytest.raises(CaloforgeError, match=r"No official .*\[6, 14\].*set G4LEDATA"):
            find_tables([14, 6], "official")

    def test_directory(self, machine, monkeypatch):
        data = make_data_set(machine / "parent" / "G4EMLOW8.8")
        for given in (data, machine / "parent"):
            tables = find_tables([6], str(given))
            assert (tables.directory, tables.kind) == (data, "directory")
        monkeypatch.chdir(machine)
        assert find_tables([6], "parent").directory == data
        with pytest.raises(CaloforgeError, match=r"lacks 6 of the physics tables.*brem_SB/br82"):
            find_tables([6, 82], str(data))
        with pytest.raises(CaloforgeError, match="'offical' is neither"):
            find_tables([6], "offical")

    @pytest.mark.parametrize("elements", [[], [0], [6, 99]])
    def test_elements_out_of_range(self, elements):
        with pytest.raises(CaloforgeError, match="from 1 to 98"):
            find_tables(elements)

    def test_digest_knows_the_bytes(self, machine):
        data = make_data_set(machine / "G4EMLOW8.8")
        before = find_tables([6], str(data)).digest
        assert before != find_tables([14], str(data)).digest
        (data / "brem_SB" / "br14").write_text("other\n")
        assert find_tables([6], str(data)).digest == before
        (data / "brem_SB" / "br6").write_text("other\n")
        assert find_tables([6], str(data)).digest != before

    def test_environment(self, machine, monkeypatch):
        tables = PhysicsTables(machine, "directory", "", "")
        environment = geant4_environment(tables)
        assert set(environment) == set(VARIABLES)
        assert environment["G4LEDATA"] == str(machine)
        assert all(Path(value).is_dir() for value in environment.values())
        assert (Path(environment["G4ENSDFSTATEDATA"]) / "ENSDFSTATE.dat").is_file()
        monkeypatch.setenv("G4LEVELGAMMADATA", str(machine / "home"))  # does not exist
        assert geant4_environment(tables) == environment
        (machine / "home").mkdir()
        assert geant4_environment(tables)["G4LEVELGAMMADATA"] == str(machine / "home")


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the official Geant4 tables are not beside this checkout")
class TestAgainstOfficial:
    @pytest.mark.parametrize("Z", [6, 14, 29, 74, 82])
    def test_radiated_energy(self, Z):
        fractions, logs, official = read_bremsstrahlung((OFFICIAL / "brem_SB" / f"br{Z}").read_text())
        used = (np.exp(logs) > 0.45) & (np.exp(logs) < 1100)
        ours = reduced_cross_section(Z, xraylib, np.exp(logs[used]), fractions)
        ratio = np.trapezoid(ours, fractions, axis=1) / np.trapezoid(official[used], fractions, axis=1)
        np.testing.assert_allclose(ratio, 1.0, atol=0.035)

    @pytest.mark.parametrize("Z", [6, 14, 29, 74, 82])
    def test_photoelectric(self, Z):
        folder = OFFICIAL / "livermore" / "phot_epics2014"
        official = {p.name: p.read_text() for p in folder.glob(f"pe-*-{Z}.dat")}
        edge = xraylib.EdgeEnergy(Z, 0) * 1e-3
        energies = np.geomspace(0.005, 1.0, 60)
        energies = energies[np.abs(energies / edge - 1) > 0.02]  # the two place the K edge differently
        ratio = geant4_photoelectric(Photoelectric(Z, xraylib).files(), Z, energies)
        ratio /= geant4_photoelectric(official, Z, energies)
        np.testing.assert_allclose(ratio, 1.0, atol=0.05)
