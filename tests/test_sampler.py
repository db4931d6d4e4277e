import json
import warnings
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from caloforge.checkpoint import Checkpoint, domain_of
from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError, CaloforgeWarning
from caloforge.generation import CHUNK, Sampler, drawing, generate
from caloforge.generation.drawing import find_device
from caloforge.incident import Incident
from caloforge.models import build_model
from caloforge.shower_file import ShowerFile, ShowerWriter
from caloforge.showers import Showers
from caloforge.transforms import build_transform


@pytest.fixture
def path(tiny, tmp_path_factory):
    """A checkpoint of an untrained model of the tiny detector."""
    model = build_model("lhcb-wgan", tiny.shape, 2, seed=3, latent=6, channels=[8, 4], hidden=4)
    domain = domain_of(Incident.of([100, 500], 11, position=[[-5, -5], [5, 5]]))
    chain = [{"name": "threshold", "threshold": 0.01}, {"name": "per-incident-energy"}]
    checkpoint = Checkpoint(
        model=model,
        model_name="lhcb-wgan",
        model_config=model.config,
        shower_transform=build_transform(chain),
        condition_transform=build_transform([{"name": "scale", "scale": 10.0}]),
        conditions=["log_energy", "x"],
        detector=tiny,
        domain=domain,
        provenance={"epochs": 3},
    )
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    checkpoint.save(path)
    return path


def request(n, seed=0):
    rng = np.random.default_rng(seed)
    return Incident.of(rng.uniform(100, 500, n), 11, position=rng.uniform(-5, 5, (n, 2)))


def small_runs(path, rows, **options):
    """A sampler whose network runs on few showers at a time, so that tests cross many borders."""
    kind = type("SmallRuns", (Sampler,), {"rows": rows})
    return kind.from_checkpoint(path, device="cpu", **options)


def test_mev_in_showers_out(path):
    sampler = Sampler.from_checkpoint(path, device="cpu")
    incident = request(10)
    showers = sampler(incident, seed=1)
    assert isinstance(showers, Showers)
    assert len(showers) == 10
    assert showers.incident is not None
    assert np.array_equal(showers.incident.energy, incident.energy)
    assert showers.detector == sampler.checkpoint.detector
    assert (showers.energy >= 0.01).all()
    assert len(showers.energy) > 0
    assert showers.provenance["producer"] == "generate"
    assert "lhcb-wgan" in repr(sampler)


def test_same_seed_same_showers(path):
    sampler = Sampler.from_checkpoint(path, device="cpu")
    first, again, other = (sampler(request(70), seed=s).content_hash() for s in (1, 1, 2))
    assert first == again != other
    state = torch.get_rng_state()
    sampler(request(3))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("rows", [4, 16, CHUNK, 4 * CHUNK])
@pytest.mark.parametrize("n", [1, 63, 64, 65, 300])
def test_the_batch_changes_no_byte(path, rows, n):
    hashes = {small_runs(path, rows, batch=batch)(request(n), seed=5).content_hash() for batch in (1, 7, 100, 10_000)}
    assert len(hashes) == 1


@pytest.mark.parametrize("rows", [16, CHUNK, 4 * CHUNK])
def test_sharing_out_changes_no_byte(path, rows):
    sampler = small_runs(path, rows)
    incident = request(9 * CHUNK + 5)
    cut = 2 * sampler.alignment
    whole = sampler(incident, seed=5)
    parts = [sampler(incident[a : a + cut], seed=5, start=a) for a in range(0, len(incident), cut)]
    assert Showers.concatenate(parts).content_hash() == whole.content_hash()


def test_a_cut_anywhere_draws_the_same_noise(path):
    sampler = small_runs(path, 16)
    incident = request(200)
    whole = sampler.voxels(incident, seed=5)
    part = sampler.voxels(incident[37:151], seed=5, start=37)
    np.testing.assert_allclose(part, whole[37:151], rtol=1e-4, atol=0.02)


def test_showers_of_different_chunks_and_seeds_differ(path):
    sampler = small_runs(path, 16)
    same = request(1)[np.zeros(3 * CHUNK, dtype=int)]
    showers = sampler.voxels(same, seed=0)
    assert len(np.unique(showers, axis=0)) == 3 * CHUNK
    assert not np.array_equal(sampler.voxels(same, seed=1), showers)


def test_no_particles_no_showers(path):
    assert len(Sampler.from_checkpoint(path, device="cpu")(request(0))) == 0


def test_generate_writes_what_the_sampler_draws(path, tmp_path, monkeypatch):
    monkeypatch.setitem(drawing._VOXELS_PER_RUN, "cpu", 192 * CHUNK)
    incident = request(3 * CHUNK + 1)
    calls = []
    out = generate(
        path,
        tmp_path / "out.h5",
        incident,
        seed=7,
        batch=CHUNK,
        device="cpu",
        progress=lambda done, total, note: calls.append((done, total)),
    )
    showers = Showers.read(out)
    assert showers.content_hash() == Sampler.from_checkpoint(path, device="cpu")(incident, seed=7).content_hash()
    assert calls[0] == (0, len(incident))
    assert calls[-1] == (len(incident), len(incident))
    assert len(calls) == 5
    made = showers.provenance
    assert made["producer"] == "generate"
    assert made["label"] == made["model"] == "lhcb-wgan"
    assert made["seed"] == 7
    assert made["device"] == "cpu"
    assert len(made["checkpoint"]) == 64
    assert made["trained"] == {"epochs": 3}
    assert made["versions"].keys() >= {"caloforge", "torch", "numpy", "python"}
    assert 0 < made["seconds_per_shower"] < 10
    assert 0 < made["wall_seconds_per_shower"] < 60
    assert 0 < made["writing_seconds_per_shower"] < 60
    json.dumps(made)


def test_generate_of_nothing(path, tmp_path):
    with ShowerFile(generate(path, tmp_path / "out.h5", request(0), device="cpu")) as file:
        assert len(file) == 0


def test_generate_keeps_existing_files_unless_told(path, tmp_path):
    out = tmp_path / "out.h5"
    generate(path, out, request(3), device="cpu")
    before = out.read_bytes()
    with pytest.raises(CaloforgeError, match="--overwrite"):
        generate(path, out, request(4), device="cpu")
    assert out.read_bytes() == before
    generate(path, out, request(4), device="cpu", overwrite=True)
    with h5py.File(out) as file:
        assert len(file["incident/energy"]) == 4


def test_a_failed_generation_leaves_nothing(path, tmp_path, monkeypatch):
    monkeypatch.setattr(Sampler, "voxels", lambda *_a, **_k: np.full((3, 192), np.nan, np.float32))
    with pytest.raises(CaloforgeError):
        generate(path, tmp_path / "out.h5", request(3), device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_writing_leaves_nothing(path, tmp_path, monkeypatch):
    """Blocks are written beside the drawing: the one sentence comes from the other thread."""

    def full(self, name, values):
        raise OSError("No space left on device")

    monkeypatch.setattr(ShowerWriter, "_extend", full)
    with pytest.raises(CaloforgeError, match=r"cannot be written \(No space left on device\); check its place"):
        generate(path, tmp_path / "out.h5", request(3 * CHUNK), batch=CHUNK, device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_generation_leaves_nothing(path, tmp_path):
    def interrupt(done, total, note):
        if done >= CHUNK:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(path, tmp_path / "out.h5", request(5 * CHUNK), batch=CHUNK, device="cpu", progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def layered(path):
    """The same with a model that draws hits."""
    checkpoint = Checkpoint.load(path)
    options = {"component": "low-rank", "options": {"hidden": [8], "rank": 4}, "hidden": 8, "bins": 4}
    model = build_model("layer-energy", checkpoint.detector.shape, 2, seed=2, **options, voxel_noise=True)
    rng = torch.Generator().manual_seed(0)
    shares = torch.rand(100, model.rows.n_layers, generator=rng) * 0.1
    hits = torch.randint(1, 7, shares.shape, generator=rng).float()
    model.flow.scale.see(model.code.encode(shares, hits, rng))
    replaced = replace(checkpoint, model=model, model_name="layer-energy", model_config=model.config)
    replaced.save(path.with_name("layered.safetensors"))
    return path.with_name("layered.safetensors")


def test_models_that_draw_hits_give_the_same_showers_sparse(path):
    sampler = Sampler.from_checkpoint(layered(path), device="cpu")
    incident = request(CHUNK + 9)
    showers = sampler(incident, seed=4)
    dense = sampler.voxels(incident, seed=4)
    found = showers.dense().reshape(dense.shape)
    assert len(showers.energy) > 100
    assert np.array_equal(found > 0, dense > 0)
    np.testing.assert_allclose(found, dense, rtol=2e-3)
    assert (showers.energy >= 0.01).all()


def test_showers_made_sparse_depend_on_seed_and_request_only(path):
    file = layered(path)
    incident = request(3 * CHUNK + 5)
    whole = small_runs(file, 16)(incident, seed=4)
    for batch in (1, CHUNK, 10 * CHUNK):
        again = small_runs(file, 16, batch=batch)(incident, seed=4)
        assert again.content_hash() == whole.content_hash()
    tail = small_runs(file, 16)(incident[slice(CHUNK, None)], seed=4, start=CHUNK)
    assert tail.content_hash() == whole[CHUNK:].content_hash()
    assert small_runs(file, 16)(incident, seed=5).content_hash() != whole.content_hash()


def test_energies_that_are_not_finite_are_refused(path):
    sampler = Sampler.from_checkpoint(path, device="cpu")
    sampler.checkpoint.model.generator.up[-1].bias.data[:] = float("nan")
    with pytest.raises(CaloforgeError, match="not finite"):
        sampler(request(3))


def test_extrapolation_is_warned_of(path):
    sampler = Sampler.from_checkpoint(path, device="cpu")
    with pytest.warns(CaloforgeWarning, match=r"particles \[22\].*energy 2000 to 2000 where .* 100 to 500"):
        sampler(Incident.of(2000.0, 22))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sampler(Incident.of(200.0, 11))


def test_the_read_out_threshold_is_applied(path):
    checkpoint = Checkpoint.load(path)
    low = Sampler(checkpoint, device="cpu").voxels(request(20))
    cut = float(np.median(low[low > 0]))
    toml = checkpoint.detector.to_toml().replace("[readout]", f"[readout]\nthreshold = {cut}")
    checkpoint.detector = Detector.from_toml(toml)
    high = Sampler(checkpoint, device="cpu").voxels(request(20))
    assert (high[high > 0] >= np.float32(cut)).all()
    assert np.array_equal(high, np.where(low >= np.float32(cut), low, 0))


@pytest.mark.parametrize(
    ("incident", "options", "message"),
    [
        (Incident.of([1.0, 0.0], 11), {}, "positive and finite"),
        (replace(Incident.of([1.0], 11), energy=np.array([np.nan])), {}, "positive and finite"),
        (replace(Incident.of([1.0], 11), position=np.full((1, 2), np.inf)), {}, "positions must be finite"),
        (Incident.of([100.0], 11), {"seed": -1}, "seed -1"),
        (Incident.of([100.0], 11), {"start": -5}, "start -5"),
    ],
)
def test_requests_that_cannot_be_met(path, incident, options, message):
    with pytest.raises(CaloforgeError, match=message):
        Sampler.from_checkpoint(path, device="cpu")(incident, **options)


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "cpu:1", "cuda:x", "", "cuda:-1"])
def test_unknown_devices(name):
    with pytest.raises(CaloforgeError, match=r"is not a device of this machine; it has: cpu"):
        find_device(name)


def test_devices_and_batches(path):
    assert find_device("cpu").type == "cpu"
    assert find_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(CaloforgeError, match="at least 1"):
        Sampler.from_checkpoint(path, device="cpu", batch=0)


def test_blocks_stream_the_same_showers(path, monkeypatch):
    monkeypatch.setitem(drawing._VOXELS_PER_RUN, "cpu", 192 * CHUNK)
    sampler = Sampler.from_checkpoint(path, device="cpu", batch=CHUNK)
    incident = request(5 * CHUNK)
    blocks = list(sampler.blocks(incident, seed=2))
    assert len(blocks) > 1
    assert Showers.concatenate(blocks).content_hash() == sampler(incident, seed=2).content_hash()
