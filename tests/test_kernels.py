"""Compiled loops against the functions that they stand for."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numba import njit
from scipy.special import log_ndtr, ndtri
from typer.testing import CliRunner

from caloforge.beam import Beam
from caloforge.cli import app
from caloforge.errors import CaloforgeError
from caloforge.generation import Sampler
from caloforge.generation.backends import PAYS, Agreement, worth_trying
from caloforge.models import build_model, kernels
from caloforge.models.columns import SharedSpline, SplineColumns
from caloforge.models.compiled_chain import ManyChains
from caloforge.models.compiled_hits import chain_of, landmarks_of, neighbours_of
from caloforge.models.flow_on_cpu import flow_on_cpu
from caloforge.models.hits import pick, scale_hits
from caloforge.models.kernels import compiling, elementary, normal, picking, splines
from caloforge.models.kernels.lanes import LANES, above, outside
from caloforge.models.noise import TABLE, VoxelNoise, spare_bits
from caloforge.showers import Showers
from test_backends import path  # noqa: F401
from test_hits import trained

SHAPE = (3, 8, 6)


def each(function):
    """A function of one number for many."""

    @njit
    def loop(x):
        out = np.empty_like(x)
        for i in range(len(x)):
            out[i] = function(x[i])
        return out

    return lambda x: loop(x.astype(np.float32))


@pytest.mark.parametrize(
    ("mine", "right", "low", "high"),
    [
        (elementary.exp, np.exp, -87.0, 87.0),
        (elementary.sigmoid, lambda x: 1 / (1 + np.exp(-x)), -80.0, 80.0),
        (elementary.logistic, lambda z: log_ndtr(z) - log_ndtr(-z), 0.01, 5.19),
        (elementary.logistic, lambda z: log_ndtr(z) - log_ndtr(-z), -5.19, -0.01),
    ],
)
def test_elementary_functions(mine, right, low, high):
    x = np.linspace(low, high, 100_001).astype(np.float32)
    np.testing.assert_allclose(each(mine)(x), right(x.astype(np.float64)), rtol=1e-6)


def test_logarithms_and_tanh():
    x = np.exp(np.linspace(-80, 80, 100_001)).astype(np.float32)
    np.testing.assert_allclose(each(elementary.log)(x), np.log(x.astype(np.float64)), rtol=3e-7, atol=1e-7)
    x = np.linspace(-20, 20, 100_001).astype(np.float32)
    np.testing.assert_allclose(each(elementary.tanh)(x), np.tanh(x.astype(np.float64)), atol=3e-7)
    np.testing.assert_allclose(
        each(elementary.softplus)(x), np.logaddexp(0, x.astype(np.float64)), rtol=3e-7, atol=2e-7
    )
    p = np.exp(np.linspace(np.log(1e-10), np.log(1e-2), 1001))
    np.testing.assert_allclose([normal._quantile(each) for each in p], ndtri(p), rtol=1e-12)


def test_far_away_nothing_overflows():
    np.testing.assert_allclose(each(elementary.exp)(np.array([-1e30, 0.0, 1e30])), np.exp([-87.3, 0, 88]), rtol=1e-5)
    for function in (elementary.sigmoid, elementary.tanh, elementary.logistic):
        assert np.isfinite(each(function)(np.array([-1e30, 1e30]))).all()


@pytest.mark.parametrize("n_voxels", [1, 63, 64, 65, 5000])
def test_noise_is_the_same(n_voxels):
    plain, mine = VoxelNoise(3, n_voxels), VoxelNoise(3, n_voxels, as_streams=True)
    streams = mine(7, 30).numpy()
    assert streams.shape == (23, 3)
    out, words = np.empty(n_voxels, np.float32), np.empty(4 * plain.blocks, np.uint64)
    for stream, right in zip(streams, plain(7, 30), strict=True):
        kernels.random_bits(stream, words)
        kernels.normal_numbers(words.view(np.uint16)[: n_voxels + spare_bits(n_voxels)], TABLE.numpy(), out)
        np.testing.assert_allclose(out, right, rtol=2e-7)


def test_random_bits_are_numpys():
    key, words = np.array([3, 2**64 - 5], np.uint64), np.empty(64, np.uint64)
    for before in (0, 7, 2**63):
        stream = np.array([*key, before], np.uint64).view(np.int64)
        kernels.random_bits(stream, words)
        assert np.array_equal(words, np.random.Philox(key=key, counter=[before, 0, 0, 0]).random_raw(64))


def test_bits_that_tell_which_are_above():
    rng = np.random.default_rng(6)
    x, steps = rng.standard_normal(100).astype(np.float32), rng.integers(0, 65536, 100).astype(np.uint16)
    x[40], steps[40:44] = np.nan, (0, 999, 65536 - 1000, 65535)

    @njit
    def found(x, steps):
        return above(x, 33, np.float32(0.5)), outside(steps, 33, np.uint16(1000))

    def places(bits):
        return [33 + i for i in range(LANES) if bits >> i & 1]

    high, outer = found(x, steps)
    within = np.arange(33, 33 + LANES)
    assert places(high) == within[x[within] > 0.5].tolist()
    assert places(outer) == within[(steps[within] < 1000) | (steps[within] >= 65536 - 1000)].tolist()


def test_the_lines_lie_over_the_logistic_function():
    z = np.linspace(0, 5.2, 10_001)
    right = log_ndtr(z) - log_ndtr(-z)
    for at in (0.7, 4.0):
        height, slope = (float(x) for x in picking._tangent(at))
        assert (height + slope * z**2 > right).all()
        assert height + slope * at == pytest.approx(log_ndtr(at**0.5) - log_ndtr(-(at**0.5)), abs=2e-4)


def test_the_chain_is_the_flow():
    model = trained(SHAPE, None)
    flow, rng = model.flow, np.random.default_rng(1)
    noise, context = (rng.standard_normal((200, n)).astype(np.float32) for n in (6, 2))
    told, energy, hits = np.empty((200, 8), np.float32), np.empty((200, 3), np.float32), np.empty((200, 3), np.float32)
    kernels.run_chain(chain_of(flow), noise, context, told, energy, hits)
    code = torch.from_numpy(flow_on_cpu(flow, noise, context))
    np.testing.assert_allclose(told[:, :2], context)
    np.testing.assert_allclose(told[:, 2:], flow.scale(code), rtol=1e-4, atol=1e-5)
    right = model.code.decode(code)
    assert np.array_equal(hits, right[1])
    np.testing.assert_allclose(energy, right[0], rtol=1e-4, atol=1e-7)
    many = np.empty_like(told), np.empty_like(energy), np.empty_like(hits)
    ManyChains(flow, chain_of(flow))(noise, context, *many)
    for found, one_by_one in zip(many, (told, energy, hits), strict=True):
        np.testing.assert_allclose(found, one_by_one, rtol=1e-4, atol=1e-5)


def picked(raw, noise, counts, model):
    """What the loops pick: voxels, and the cut of each row."""
    neighbours, layers = neighbours_of(model.neighbours, model.rows)
    n, shape = int(counts.sum()), counts.shape
    hit = kernels.Hit(np.empty(n, np.int64), *np.full((7, n), np.nan, np.float32))
    energy, context = np.ones(shape, np.float32), np.zeros((*shape, 3), np.float32)
    bias = np.zeros(raw.shape[1], np.float32)
    streams = np.empty((0, 3), np.int64)
    kernels.pick_hits(raw, noise, streams, TABLE.numpy(), bias, layers, neighbours, counts, energy, context, hit)
    return hit


def test_hits_are_picked_as_numpy_picks_them():
    model = build_model("layer-energy", SHAPE, 2, **{"component": "low-rank", "voxel_noise": True}).eval()
    rng = np.random.default_rng(2)
    raw, noise = np.round(rng.standard_normal((2, 40, 144)).astype(np.float32), 1)  # with many equal keys
    noise[:] = 0
    counts = rng.integers(0, 49, (40, 3))
    counts[0], counts[1] = 0, 48
    hit = picked(raw, noise, counts, model)
    right = pick(raw.reshape(120, 48), counts.ravel())
    row = right.row
    assert np.array_equal(hit.voxel, right.flat - row * 48 + row % 3 * 48)
    assert np.array_equal(hit.cut, right.cut[row])
    assert np.array_equal(hit.hits, np.repeat(counts.ravel(), counts.ravel()).astype(np.float32))
    assert np.array_equal(hit.raw, raw.ravel()[right.flat])


def test_keys_that_are_no_numbers_are_passed_on():
    model = build_model("layer-energy", SHAPE, 2, **{"component": "low-rank", "voxel_noise": True}).eval()
    raw = np.full((2, 144), np.nan, np.float32)
    hit = picked(raw, np.zeros_like(raw), np.full((2, 3), 5), model)
    assert np.array_equal(hit.voxel[:5], np.arange(5))
    assert np.isnan(hit.raw).all()


def test_neighbours_share_noise_as_in_torch():
    model = trained(SHAPE, None, neighbours=True)
    rng = np.random.default_rng(3)
    raw, noise = rng.standard_normal((2, 5, 144)).astype(np.float32)
    hit = picked(raw, noise, np.full((5, 3), 48), model)
    mixed = model.neighbours(*(torch.from_numpy(x).reshape(5, 3, 48) for x in (noise, raw))).detach().double().numpy()
    assert np.abs(mixed - noise.reshape(5, 3, 48)).max() > 0.1
    np.testing.assert_allclose(hit.noise.reshape(5, 3, 48), log_ndtr(mixed) - log_ndtr(-mixed), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("landmarks", [2, 5, 8, 64])
def test_landmarks_of_any_number(landmarks):
    model = trained(SHAPE, None, landmarks=landmarks, energy_spread=0.5)
    marks = landmarks_of(model.emission)
    shared = SharedSpline(8.0 * model.emission.landmarks.detach().numpy(), 8.0)
    x = np.linspace(-10, 10, 1001).astype(np.float32)
    found = x.copy()
    splines.by_landmarks(found, np.zeros_like(x), marks, np.empty((6, len(x)), np.float32))
    np.testing.assert_allclose(found, shared(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bins", [2, 5, 12])
def test_splines_of_one_value(bins):
    rng = np.random.default_rng(4)
    raw = rng.standard_normal((3 * bins - 1, 300)).astype(np.float32)
    x = rng.uniform(-9, 9, 300).astype(np.float32)
    right = SplineColumns(bins, 300, 8.0)(x, raw)
    spare = np.empty((2, bins), np.float32)
    found = [splines.on_spline(v, raw[:, i].copy(), np.float32(8), spare) for i, v in enumerate(x)]
    np.testing.assert_allclose(found, right, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_rows_are_scaled_to_their_sums(power):
    rng = np.random.default_rng(5)
    counts = rng.integers(0, 30, 50)
    value = rng.exponential(size=counts.sum()).astype(np.float32)
    total = (counts * rng.uniform(0.2, 5, 50)).astype(np.float32)
    found = value.copy()
    kernels.scale_rows(found, counts, total, np.float32(power))
    np.testing.assert_allclose(found, scale_hits(value.copy(), counts, total, power), rtol=2e-4)
    sums = np.add.reduceat(np.append(found, 0), np.cumsum(counts) - counts)[counts > 0]
    np.testing.assert_allclose(sums, total[counts > 0], rtol=1e-5)


@pytest.mark.parametrize("name", ["lhcb-low-rank", "lhcb-adagan", "atlas-calogan"])
def test_a_sampler_draws_eagers_showers_whatever_the_batch(name):
    sampler = Sampler.from_checkpoint(f"zoo:{name}", device="cpu", backend="numba")
    beam = Beam.of(sampler.checkpoint.detector, domain=sampler.checkpoint.domain)
    incident = beam.draw(150, 3)
    right = Sampler.from_checkpoint(f"zoo:{name}", device="cpu")(incident, seed=5)
    hashes = set()
    for batch in (1, 70, 1000):
        sampler.batch = batch
        found = sampler(incident, seed=5)
        hashes.add(found.content_hash())
    cut = sampler.alignment
    parts = [sampler(incident[a : a + cut], seed=5, start=a) for a in range(0, len(incident), cut)]
    assert {*hashes, Showers.concatenate(parts).content_hash()} == hashes
    assert len(hashes) == 1
    assert found.content_hash() != right.content_hash()
    assert found.provenance["backend"]["name"] == "numba"
    assert Agreement.of(found.dense().reshape(150, -1), right.dense().reshape(150, -1)).good
    assert abs(len(found.energy) - len(right.energy)) <= 2
    assert worth_trying(sampler.backend._chain, 1.1 * PAYS["numba"]) == ["numba"]
    assert worth_trying(sampler.backend._chain, 1.1 * PAYS["cached"]) == ["numba"]  # compiled by now, and kept


def test_what_is_kept_of_another_version_does_not_count(tmp_path):
    made = SimpleNamespace(__name__="made", stats=SimpleNamespace(cache_path=str(tmp_path)))
    assert not kernels.is_kept(made)
    (tmp_path / "chain.made_0123456789ab-7.py311.nbi").touch()
    assert not kernels.is_kept(made)
    (tmp_path / f"chain.made_{compiling._VERSION}-7.py311.nbi").touch()
    assert kernels.is_kept(made)
    assert not kernels.is_kept(abs)
    assert not kernels.is_kept(SimpleNamespace(__name__="made", stats=SimpleNamespace(cache_path=None)))


def test_without_a_place_to_keep_code_it_is_compiled_all_the_same(monkeypatch):
    def njit(cache=False, **how):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: (function, how)

    def made():
        """Some function."""

    monkeypatch.setattr(compiling, "numba", lambda: SimpleNamespace(njit=njit))
    function, how = compiling.compiled(made)
    assert function is made
    assert how["error_model"] == "numpy"


def test_a_backend_that_cannot_be_had(path, monkeypatch):  # noqa: F811
    with pytest.raises(CaloforgeError, match="the backend 'numba' is for models that draw hits voxel by voxel"):
        Sampler.from_checkpoint(path, device="cpu", backend="numba")
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(CaloforgeError, match=r"'numba' needs 'numba', which is not installed.*'caloforge\[fast\]'"):
        Sampler.from_checkpoint("zoo:lhcb-low-rank", device="cpu", backend="numba")


@pytest.mark.parametrize("kept", [True, False])
def test_who_waits_for_a_compiler_is_told(kept, tmp_path, monkeypatch):
    monkeypatch.setattr("caloforge.generation.backends.loops_are_kept", lambda: kept)
    argv = ["generate", "zoo:atlas-low-rank", "-o", str(tmp_path / "a.h5"), "-n", "3", "--backend", "numba"]
    result = CliRunner().invoke(app, argv)
    assert result.exit_code == 0, result.output
    assert ("are compiled now, once" in result.stderr) is not kept
    argv[-1], argv[3] = "eager", str(tmp_path / "b.h5")
    assert "compiled" not in CliRunner().invoke(app, argv).stderr
