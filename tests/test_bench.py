"""The benchmark: what it counts, what it times, what it writes."""

import csv
import importlib.util
import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from caloforge.bench import bench, running
from caloforge.bench.counting import count_work
from caloforge.bench.machine import peaks, threads
from caloforge.bench.table import COLUMNS
from caloforge.cli import app
from caloforge.errors import CaloforgeError
from caloforge.parsing import parse_counts
from test_sampler import path  # noqa: F401

GEANT4 = {"detector": "tiny", "showers": 2, "cpu_ms": 50.0, "geant4": "Geant4", "physics": "", "tables": ""}


class Known(torch.nn.Module):
    """A matrix product of known size, and a sum that is not counted as arithmetic."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(5, 7))

    def forward(self, latent, condition, energy):
        return (latent @ self.weight + 1.0).view(-1)


def test_work_is_counted():
    work = count_work(Known(), torch.ones(4, 5), torch.ones(4, 1), torch.ones(4))
    assert work.flops == 2 * 5 * 7
    product, add = 4 * (4 * 5 + 5 * 7 + 4 * 7), 4 * (4 * 7 + 4 * 7)
    assert work.bytes == (product + add) / 4  # the view moves nothing


def test_peaks_and_threads():
    before = torch.get_num_threads()
    with threads(1):
        assert torch.get_num_threads() == 1
        found = peaks(torch.device("cpu"))
    assert torch.get_num_threads() == before
    assert 1e8 < found["flops_per_s"] < 1e14
    assert 1e8 < found["bytes_per_s"] < 1e13


@pytest.fixture
def simulated(monkeypatch):
    """Geant4 replaced by its result; requests to it are kept."""
    asked = []
    monkeypatch.setattr(running, "time_geant4", lambda *given: asked.append(given) or GEANT4)
    return asked


def test_one_run(path, simulated):  # noqa: F811
    told = []
    progress = lambda done, total, note: told.append((done, total, note))  # noqa: E731
    found = bench([str(path)], energy=0.3, batches=[1, 70], backends=["eager"], repeats=3, progress=progress)
    (detector, beam, n, tables), *rest = simulated
    assert not rest
    assert (detector.name, beam.energies_gev, n, tables) == ("tiny", (0.3,), 20, "auto")
    assert [entry["batch"] for entry in found["results"]] == [1, 70]
    for entry in found["results"]:
        assert 0 < entry["cpu_ms_low"] <= entry["cpu_ms"] <= entry["cpu_ms_high"] < 1000
        assert entry["repeats"] == 3
        assert entry["times_geant4"] == pytest.approx(50.0 / entry["cpu_ms"])
        assert entry["flops_per_s"] == pytest.approx(1e3 * entry["flops_per_shower"] / entry["cpu_ms"])
        assert 0 < entry["share_of_peak_flops"] < 1.5
    one, many = found["results"]
    assert one["cpu_ms"] > many["cpu_ms"], "a request of one pays for all small steps alone"
    assert told[0] == (0, 2, "Geant4 in tiny")
    assert told[-1][:2] == (2, 2)
    json.dumps(found)


@pytest.mark.skipif(importlib.util.find_spec("geant4_pybind") is None, reason="needs Geant4")
def test_geant4_is_timed_in_the_models_detector(tiny):
    from caloforge.beam import Beam
    from caloforge.bench.full import time_geant4

    found = time_geant4(tiny, Beam.of(tiny, energies_gev=(0.2,), spectrum="discrete"), 3, "builtin")
    assert found["showers"] == 3
    assert 0 < found["cpu_ms"] < 5000
    assert found["geant4"].startswith("Geant4")


def test_the_command(path, tmp_path, simulated):  # noqa: F811
    out = tmp_path / "bench.csv"
    argv = ["bench", str(path), "--energy", "0.3", "--batch", "1,5", "--backend", "eager", "--repeats", "3"]
    shown = CliRunner().invoke(app, [*argv, "--csv", str(out)], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert "x G4" in shown.output
    assert "Geant4 (G4) in tiny: 50 ms" in shown.output
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert [row["batch"] for row in rows] == ["1", "5"]
    again = CliRunner().invoke(app, [*argv, "--csv", str(out)])
    assert again.exit_code == 2
    assert len(simulated) == 1, "refused before any work"
    shown = CliRunner().invoke(app, [*argv, "--json", "--no-geant4"])
    found = json.loads(shown.stdout)
    assert found["geant4"] == {}
    assert all(entry["times_geant4"] is None for entry in found["results"])


def test_a_backend_that_fails_is_told_and_costs_nothing_else(path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("caloforge.generation.backends.find_compiler", lambda: None)
    given = {"energy": 0.3, "batches": [2], "repeats": 3, "geant4": False}
    found = bench([str(path)], backends=["compile", "eager"], **given)
    assert [entry["backend"] for entry in found["results"]] == ["eager"]
    assert "needs a C++ compiler" in found["failed"][0]["why"]


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        (["zoo:events-coarse-to-fine"], {}, "makes images of events"),
        (["zoo:nothing"], {}, "'nothing' is not a zoo checkpoint"),
        ([], {"backends": ["onyx"]}, "'onyx' is not a backend"),
        ([], {"batches": [0]}, "batch is 0; give at least 1"),
        ([], {"n_threads": 0}, "threads is 0"),
    ],
)
def test_requests_that_cannot_be_met(models, options, message):
    with pytest.raises(CaloforgeError, match=message):
        bench(models, geant4=False, **options)


def test_counts_on_the_command_line():
    assert parse_counts("1,10,100", "--batch") == [1, 10, 100]
    for text in ("", "1,", "0", "x", "-1", "1.5"):
        with pytest.raises(CaloforgeError, match=r"--batch .* cannot be read; give whole numbers"):
            parse_counts(text, "--batch")
    assert np.isfinite(parse_counts("1", "--batch")[0])
