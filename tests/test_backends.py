"""Backends draw eager's showers, each the same bytes whatever the batch; the one that does not is refused."""

import json
import sys

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from caloforge.cli import app
from caloforge.errors import CaloforgeError
from caloforge.generation import Sampler, backends, generate
from caloforge.generation.backends import BACKENDS, FEW, PAYS, Agreement, Eager, Trial, choose, worth_trying
from caloforge.showers import Showers
from test_sampler import path, request, small_runs  # noqa: F401


class Brighter(Eager):
    """A backend that is wrong."""

    name = "brighter"

    def __call__(self, latent, condition, energy):
        return 1.001 * super().__call__(latent, condition, energy)


@pytest.mark.parametrize("name", ["onnxruntime", "compile"])
def test_a_backend_draws_eagers_showers_whatever_the_batch(path, name):  # noqa: F811
    if name == "compile" and not backends.find_compiler():
        pytest.skip("no C++ compiler here")
    incident = request(150)
    eager = Sampler.from_checkpoint(path, device="cpu").voxels(incident, seed=5)
    sampler = small_runs(path, 16, backend=name)
    hashes = set()
    for batch in (1, 70, 1000):
        sampler.batch = batch
        hashes.add(sampler(incident, seed=5).content_hash())
    again = small_runs(path, 16, backend=name)
    hashes.add(again(incident, seed=5).content_hash())
    assert len(hashes) == 1
    assert Agreement.of(sampler.voxels(incident, seed=5), eager).good
    cut = 2 * sampler.alignment
    parts = [again(incident[a : a + cut], seed=5, start=a) for a in range(0, len(incident), cut)]
    assert Showers.concatenate(parts).content_hash() in hashes
    told = sampler(incident, seed=5).provenance["backend"]
    assert told["name"] == name
    assert told["largest_difference"] < 1e-5
    assert told["stray_voxels"] == 0
    assert 0 < told["times_eager"] < 1000
    json.dumps(told)


def test_an_export_is_made_once(path, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("CALOFORGE_CACHE", str(tmp_path))
    chain = Sampler.from_checkpoint(path, device="cpu").backend._chain
    assert not backends.is_exported(chain)
    first = Sampler.from_checkpoint(path, device="cpu", backend="onnxruntime")
    assert backends.is_exported(chain)
    monkeypatch.setattr(backends, "write_onnx", lambda *_a, **_k: pytest.fail("exported again"))
    second = Sampler.from_checkpoint(path, device="cpu", backend="onnxruntime")
    assert first(request(5)).content_hash() == second(request(5)).content_hash()
    with torch.no_grad():
        chain.model.generator.up[-1].bias.add_(1.0)
    assert not backends.is_exported(chain), "other numbers are another model"


def test_a_backend_that_draws_other_showers_is_refused(path, monkeypatch):  # noqa: F811
    monkeypatch.setitem(BACKENDS, "brighter", Brighter)
    with pytest.raises(CaloforgeError, match=r"'brighter' gives other showers than eager: \d+ of \d+ voxels"):
        Sampler.from_checkpoint(path, device="cpu", backend="brighter")


def test_agreement():
    eager = np.full((10, 100), 1.0, dtype=np.float32)
    found = eager.copy()
    found[0, 0] += 5e-4
    assert Agreement.of(found, eager) == Agreement(pytest.approx(5e-6, rel=1e-3), 0, 1000)
    found[:3, 0] += 1.0
    assert Agreement.of(found, eager).stray == 3
    assert Agreement.of(found, eager).good
    found[:4, 0] += 1.0
    assert not Agreement.of(found, eager).good
    found[0, 0] = np.nan
    assert Agreement.of(found, eager).stray == 4
    empty = np.zeros((2, 3), dtype=np.float32)
    assert Agreement.of(empty, empty).stray == 0


def trial_of(times):
    """Trials whose seconds a shower are given by backend."""
    return lambda backend: Trial(np.ones((2, 3), np.float32) * getattr(backend, "scale", 1), times[backend.name])


class Fast:
    name = "fast"

    def __init__(self, chain):
        pass


class Wrong(Fast):
    name = "wrong"
    scale = 2


def test_auto_takes_the_fastest_that_agrees(monkeypatch):
    monkeypatch.setitem(BACKENDS, "fast", Fast)
    monkeypatch.setitem(BACKENDS, "wrong", Wrong)
    monkeypatch.setattr(backends, "worth_trying", lambda *_: ["wrong", "fast"])
    times = {"eager": 1.0, "fast": 0.4, "wrong": 0.1}
    chosen = choose("auto", None, trial_of(times), 1000)
    assert chosen.backend.name == chosen.told["name"] == "fast"
    assert chosen.told["chosen"] == "auto"
    assert chosen.told["times_eager"] == pytest.approx(2.5)
    assert "other showers" in chosen.told["passed_over"]["wrong"]
    times["fast"] = 0.95  # as good as eager
    chosen = choose("auto", None, trial_of(times), 1000)
    assert chosen.backend.name == "eager"
    assert chosen.told["passed_over"]["fast"] == "1.05 times as fast as eager"


def test_auto_stays_with_eager_where_a_start_does_not_pay(path, monkeypatch):  # noqa: F811
    sampler = Sampler.from_checkpoint(path, device="cpu", backend="auto", expected=10)
    assert sampler.backend.name == "eager"
    assert sampler(request(2)).provenance["backend"]["chosen"] == f"auto: fewer than {FEW} showers"
    chain = sampler.backend._chain
    monkeypatch.setattr(backends, "is_exported", lambda _: False)
    monkeypatch.setattr(backends, "find_compiler", lambda: "g++")
    assert worth_trying(chain, PAYS["cached"] * 1.1) == []
    assert worth_trying(chain, PAYS["onnxruntime"] * 1.1) == ["onnxruntime"]
    assert worth_trying(chain, PAYS["compile"] * 1.1) == ["onnxruntime", "compile"]
    monkeypatch.setattr(backends, "is_exported", lambda _: True)
    assert worth_trying(chain, PAYS["cached"] * 1.1) == ["onnxruntime"]


def test_backends_that_cannot_be_had(path, monkeypatch):  # noqa: F811
    with pytest.raises(CaloforgeError, match=r"'onyx' is not a backend.*: auto, compile, eager, numba, onnxruntime"):
        Sampler.from_checkpoint(path, device="cpu", backend="onyx")
    monkeypatch.setattr(backends, "find_compiler", lambda: None)
    with pytest.raises(CaloforgeError, match=r"needs a C\+\+ compiler, and none is found here; install g\+\+"):
        Sampler.from_checkpoint(path, device="cpu", backend="compile")
    monkeypatch.undo()
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert backends.find_compiler() is None
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(CaloforgeError, match=r"'onnxruntime', which is not installed.*'caloforge\[onnx\]'"):
        Sampler.from_checkpoint(path, device="cpu", backend="onnxruntime")


def test_generate_with_a_backend(path, tmp_path):  # noqa: F811
    out = generate(path, tmp_path / "out.h5", request(70), device="cpu", backend="onnxruntime")
    assert Showers.read(out).provenance["backend"]["name"] == "onnxruntime"
    argv = ["generate", str(path), "-o", str(tmp_path / "b.h5"), "-n", "3", "--backend", "nothing"]
    result = CliRunner().invoke(app, argv)
    assert result.exit_code == 2
    assert not (tmp_path / "b.h5").exists()
    argv = ["generate", "zoo:events-coarse-to-fine", "-o", str(tmp_path / "c.h5"), "--backend", "compile"]
    assert CliRunner().invoke(app, argv).exit_code == 2
