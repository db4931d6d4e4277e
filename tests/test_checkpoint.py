import json
import struct
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from caloforge.checkpoint import Checkpoint, domain_of, generation_state, outside
from caloforge.errors import CaloforgeError
from caloforge.incident import Incident
from caloforge.models import build_model
from caloforge.transforms import build_transform

CONDITIONS = ["log_energy", "x"]


@pytest.fixture
def checkpoint(tiny):
    return make(tiny)


def make(detector, name="lhcb-wgan", **config):
    config = config or {"latent": 6, "channels": [4, 4], "hidden": 4}
    rng = torch.Generator().manual_seed(0)
    energy = torch.linspace(100, 500, 40)
    showers = torch.rand(40, *detector.shape, generator=rng) * energy[:, None, None, None]
    incident = Incident.of(energy.numpy(), 11, position=rng_positions(40))
    raw = torch.from_numpy(np.stack([incident.column(c) for c in CONDITIONS], 1).astype(np.float32))
    model = build_model(name, detector.shape, 2, seed=3, **config)
    return Checkpoint(
        model=model,
        model_name=name,
        model_config=model.config,
        shower_transform=build_transform(
            [{"name": "threshold"}, {"name": "per-incident-energy"}, {"name": "box-cox", "offset": 1e-3}]
        ).fit(showers, energy),
        condition_transform=build_transform([{"name": "standardise"}]).fit(raw, energy),
        conditions=CONDITIONS,
        detector=detector,
        domain=domain_of(incident),
        provenance={"producer": "train", "steps": 3},
    )


def rng_positions(n):
    return np.random.default_rng(0).uniform(-5, 5, (n, 2))


def test_round_trip(checkpoint, tmp_path):
    path = tmp_path / "model.safetensors"
    checkpoint.save(path)
    loaded = Checkpoint.load(path)
    for name in ("model_name", "model_config", "conditions", "detector", "domain", "provenance"):
        assert getattr(loaded, name) == getattr(checkpoint, name), name
    assert not loaded.model.training
    condition, energy = torch.randn(5, 2), torch.full((5,), 300.0)
    showers = [
        c.shower_transform.inverse(
            c.model.sample(c.condition_transform(condition, energy), torch.Generator().manual_seed(1)), energy
        )
        for c in (checkpoint, loaded)
    ]
    assert torch.equal(*showers)
    assert "lhcb-wgan" in repr(loaded)
    assert list(tmp_path.iterdir()) == [path]


def test_only_generation_modules_are_stored(checkpoint, tmp_path):
    checkpoint.save(tmp_path / "c")
    names = load_file(tmp_path / "c")
    assert any(n.startswith("model.generator.") for n in names)
    assert not any("critic" in n or "regressor" in n for n in names)
    assert generation_state(checkpoint.model).keys() == {
        n.removeprefix("model.") for n in names if n.startswith("model.")
    }


def test_saving_replaces_the_file_whole(checkpoint, tmp_path):
    path = tmp_path / "c"
    checkpoint.save(path)
    before = path.read_bytes()
    checkpoint.save(path)
    assert path.read_bytes() == before
    checkpoint.model.generator.dense.weight.data[0, 0] = float("nan")
    with pytest.raises(CaloforgeError, match=r"NaN or infinite values in 'model.generator.dense.weight'"):
        checkpoint.save(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("what", ["folder", "missing folder", "unfitted"])
def test_what_cannot_be_saved(checkpoint, tmp_path, what):
    path = {"folder": tmp_path, "missing folder": tmp_path / "a" / "b", "unfitted": tmp_path / "c"}[what]
    if what == "unfitted":
        checkpoint = replace(checkpoint, condition_transform=build_transform([{"name": "standardise"}]))
    words = {"folder": "is a folder", "missing folder": "does not exist", "unfitted": "not fitted"}[what]
    with pytest.raises(CaloforgeError, match=words):
        checkpoint.save(path)


def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(checkpoint, tmp_path, monkeypatch):
    def full(*arguments):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    path = tmp_path / "c"
    checkpoint.save(path)
    before = path.read_bytes()
    monkeypatch.setattr("caloforge.checkpoint_file.save_file", full)
    with pytest.raises(CaloforgeError, match=r"cannot be written .*No space left"):
        checkpoint.save(path)
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == before


def rewrite(path, change_tensors=None, change_header=None, metadata=None):
    """Write the checkpoint again with something changed in it."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["caloforge"])
    tensors = load_file(path)
    if change_tensors:
        change_tensors(tensors)
    if change_header:
        change_header(header)
    save_file(tensors, path, metadata if metadata is not None else {"caloforge": json.dumps(header)})


WEIGHT = "model.generator.dense.weight"


def poison(value):
    def change(tensors):
        tensors[WEIGHT][0, 0] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (poison(float("nan")), "NaN or infinite"),
        (poison(float("inf")), "NaN or infinite"),
        (lambda t: t.pop(WEIGHT), "lacks 'model.generator.dense.weight'"),
        (lambda t: t.update(other=torch.ones(1)), "holds 'other'"),
        (lambda t: t.update({WEIGHT: t[WEIGHT][:, :-1].contiguous()}), "its model needs"),
        (lambda t: t.update({WEIGHT: t[WEIGHT].double()}), "float64 but its model needs"),
        (lambda t: t.update({"condition_transform.parts.0.mean": torch.zeros(1, 5)}), "damaged|transforms give"),
        (lambda t: t.update({"shower_transform.parts.2.exponent": torch.zeros(0)}), "not fitted"),
        (lambda t: t.update({"shower_transform.parts.2.exponent": torch.zeros(3)}), "damaged"),
    ],
)
def test_wrong_tensors_are_refused(checkpoint, tmp_path, change, message):
    path = tmp_path / "c"
    checkpoint.save(path)
    rewrite(path, change_tensors=change)
    with pytest.raises(CaloforgeError, match=message):
        Checkpoint.load(path)


def put(**entries):
    return lambda header: header.update(entries)


def option(**entries):
    return lambda header: header["model_options"].update(entries)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(format="other"), "damaged"),
        (put(version=99), "upgrade caloforge"),
        (put(version="x"), "damaged"),
        (put(model_name="gan-o-matic"), "not a model"),
        (put(surprise=1), "surprise"),
        (lambda h: h.pop("detector"), "detector"),
        (put(detector="name = 3"), "not a valid detector"),
        (put(conditions=["log_energy", "colour"]), "'colour'"),
        (put(conditions=["x"]), "2 conditions, it names 1"),
        (put(shower_transform=[{"name": "lg"}]), "did you mean 'log'"),
        (put(shower_transform=[{"name": "log"}] * 3), "damaged|holds"),
        (put(domain={"pdg": [11]}), "domain"),
        (option(latent=10**9), "'latent'"),
        (option(latent=100_000, channels=[100_000, 4]), "at most 2e\\+09"),
        (option(shape=[1, 3, 3]), "voxels"),
        (option(shape="abc"), "voxels"),
        (option(shape=[2**62, 2**62]), "voxels"),
        (option(unheard_of=1), "no option 'unheard_of'"),
        (option(seed="x"), "damaged"),
        (option(channels=[[1]]), "channels"),
        (put(model_options={}), "voxels"),
        (put(model_options=[]), "damaged"),
    ],
)
def test_wrong_headers_are_refused(checkpoint, tmp_path, change, message):
    path = tmp_path / "c"
    checkpoint.save(path)
    rewrite(path, change_header=change)
    with pytest.raises(CaloforgeError, match=message):
        Checkpoint.load(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "not a caloforge checkpoint"),
        ({"format": "pt"}, "not a caloforge checkpoint"),
        ({"caloforge": "no json"}, "damaged"),
        ({"caloforge": "[1, 2]"}, "damaged"),
        ({"caloforge": "[" * 100_000}, "damaged"),
        ({"caloforge": '{"version": 1e400, "format": "caloforge-checkpoint"}'}, "damaged"),
    ],
)
def test_foreign_files_are_refused(checkpoint, tmp_path, metadata, message):
    path = tmp_path / "c"
    checkpoint.save(path)
    rewrite(path, metadata=metadata)
    with pytest.raises(CaloforgeError, match=message):
        Checkpoint.load(path)


def test_truncated_files_are_refused(checkpoint, tmp_path):
    path = tmp_path / "c"
    checkpoint.save(path)
    whole = path.read_bytes()
    for size in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(CaloforgeError, match="truncated or not a safetensors file"):
            Checkpoint.load(path)
    for junk in (b"\x89HDF\r\n\x1a\n" + bytes(100), struct.pack("<Q", 2**63) + b"{}", bytes(1000)):
        path.write_bytes(junk)
        with pytest.raises(CaloforgeError, match="truncated or not a safetensors file"):
            Checkpoint.load(path)
    huge = b'{"a":{"dtype":"F32","shape":[4000000000,4000000000],"data_offsets":[0,4]}}'
    path.write_bytes(struct.pack("<Q", len(huge)) + huge + bytes(4))
    with pytest.raises(CaloforgeError, match="truncated or not a safetensors file"):
        Checkpoint.load(path)


def test_flipped_bytes_never_escape_as_other_errors(checkpoint, tmp_path):
    path = tmp_path / "c"
    checkpoint.save(path)
    whole = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    header = struct.unpack("<Q", whole[:8])[0]
    for place in rng.integers(0, 8 + header, 60):
        broken = bytearray(whole)
        broken[place] = rng.integers(256)
        path.write_bytes(broken)
        with suppress(CaloforgeError):
            Checkpoint.load(path)


def test_missing_files_and_folders(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(CaloforgeError, match="does not exist"):
            Checkpoint.load(path)


def test_domain(checkpoint):
    inside = Incident.of([100, 500], 11)
    assert outside(checkpoint.domain, inside) == []
    assert outside(checkpoint.domain, Incident.of([], 11)) == []
    found = " ".join(outside(checkpoint.domain, Incident.of([50, 300], 22, (0.1, 0, 1), (0, 30))))
    for word in ("particles [22]", "energy 50 to 300", "tan_x", "y 30"):
        assert word in found
    assert "tan_y" not in found
    fixed = domain_of(Incident.of([10, 20], 22, position=(2.5, 2.5)))
    assert outside(fixed, Incident.of(15.0, 22, position=(2.5, 2.5))) == []


def test_models_without_conditions_and_other_models_round_trip(tiny, tmp_path):
    checkpoint = make(tiny, "wgan", latent=4, generator_width=2, critic_width=2, constrainer_width=2, critic_hidden=[4])
    checkpoint.save(tmp_path / "c")
    assert Checkpoint.load(tmp_path / "c").model_config == checkpoint.model_config
