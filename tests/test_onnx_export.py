"""Exported models: ONNX Runtime gives what torch gives."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from caloforge import extras
from caloforge.checkpoint import Checkpoint, domain_of
from caloforge.cli import app
from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError
from caloforge.generation import export
from caloforge.generation.chain import PAR04_MAX_ENERGY, Chain, Par04Chain, ShowerChain
from caloforge.generation.onnx_export import describe_par04, describe_showers, write_onnx
from caloforge.incident import Incident
from caloforge.models import MODELS, build_model
from caloforge.transforms import build_transform
from conftest import ROOT
from test_models import SMALL, conditions, small

TINIER = {
    "coarse-to-fine": {"halvings": 1, "widths": [2], "level_widths": [3, 2, 2]},
    "layer-energy": {"hidden": 4},
}
SHAPES = {
    "calpagan": None,
    "pix2pix": None,
    "coarse-to-fine": (1, 4, 4),
    "layer-energy": (2, 3, 4),
    "calogan": (2, 5, 4),
}


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(path, *inputs):
    """The output for inputs in the order of the file's."""
    opened = session(path)
    names = [given.name for given in opened.get_inputs()]
    return opened.run(None, dict(zip(names, (np.asarray(x) for x in inputs), strict=True)))[0]


def assert_alike(found, expected, flips=0):
    """Voxels equal to 1e-5 of the shower's energy, but for ``flips`` voxels where a decision fell otherwise."""
    found, expected = (x.reshape(len(x), -1) for x in (found, expected))
    assert found.dtype == expected.dtype == np.float32
    total = np.abs(expected).sum(1, keepdims=True)
    assert np.count_nonzero(np.abs(found - expected) > 1e-5 * total) <= flips
    assert np.count_nonzero((found > 0) != (expected > 0)) <= flips


@pytest.mark.parametrize("name", MODELS)
def test_every_model_runs_in_onnx_runtime(name, tmp_path, monkeypatch):
    for key, value in TINIER.get(name, {}).items():
        monkeypatch.setitem(SMALL[name], key, value)
    shape = SHAPES.get(name, (3, 5, 4))
    model = small(name) if shape is None else small(name, shape, int(np.prod(shape)) if MODELS[name].paired else 2)
    model.eval()
    rng = torch.Generator().manual_seed(0)
    example = {"normal": torch.randn(2, model.latent_size, generator=rng), "condition": conditions(model, 2)}

    class FromNormal(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, normal, condition):
            return self.model(self.model.latent_of(normal), condition)

    write_onnx(FromNormal().eval(), example, tmp_path / "model.onnx")
    for n in (1, 40):
        normal, condition = torch.randn(n, model.latent_size, generator=rng), conditions(model, n)
        with torch.inference_mode():
            expected = FromNormal()(normal, condition).numpy()
        assert expected.any()
        assert_alike(run(tmp_path / "model.onnx", normal, condition), expected, flips=1)


@pytest.mark.parametrize(("name", "options"), [("wgan", {"noise": "uniform"}), ("adagan", {}), ("layer-energy", {})])
def test_normal_numbers_become_the_latent_that_is_drawn(name, options):
    model = small(name, **options)
    drawn = model.draw_latent(4000, torch.Generator().manual_seed(0))
    made = model.latent_of(torch.randn(4000, model.latent_size, generator=torch.Generator().manual_seed(1)))
    assert made.shape == drawn.shape
    torch.testing.assert_close(made.mean(0), drawn.mean(0), atol=0.1, rtol=0)
    torch.testing.assert_close(made.std(0), drawn.std(0), atol=0.08, rtol=0)
    torch.testing.assert_close(made.amin(0), drawn.amin(0), atol=2.0, rtol=0)


def checkpoint_of(detector, condition_names, chain, name="lhcb-wgan", **options):
    """A checkpoint of an untrained model."""
    options = options or {"latent": 6, "channels": [8, 4], "hidden": 4}
    model = build_model(name, detector.shape, len(condition_names), seed=3, **options).eval()
    return Checkpoint(
        model=model,
        model_name=name,
        model_config=model.config,
        shower_transform=build_transform(chain),
        condition_transform=build_transform([{"name": "scale", "scale": 10.0}]),
        conditions=condition_names,
        detector=detector,
        domain=domain_of(Incident.of([100, 500], 11, position=[[-5, -5], [5, 5]])),
    )


@pytest.fixture
def checkpoint(tiny):
    """One with a read-out threshold and conditions of all kinds; a Box-Cox exponent is a tensor."""
    toml = tiny.to_toml().replace("[readout]", "[readout]\nthreshold = 0.02")
    chain = [{"name": "per-incident-energy"}, {"name": "box-cox", "offset": 0.001, "exponent": 0.2}]
    return checkpoint_of(Detector.from_toml(toml), ["x", "log_energy", "p_z"], chain)


def test_the_whole_chain(checkpoint, tmp_path):
    module, example, told = describe_showers(checkpoint)
    write_onnx(module, example, tmp_path / "model.onnx", metadata=told)
    assert str(Path(torch.__file__).parent).encode() not in (tmp_path / "model.onnx").read_bytes(), (
        "says where it was made"
    )
    rng = np.random.default_rng(0)
    energy = rng.uniform(100, 500, 300)
    incident = Incident.of(energy, 11, position=np.stack([rng.uniform(-5, 5, 300), 0 * energy], 1))
    noise = rng.standard_normal((300, 6), dtype=np.float32)
    given = np.stack([incident.column(name) for name in ("x", "p_z")], 1).astype(np.float32)
    found = run(tmp_path / "model.onnx", noise, energy.astype(np.float32), given)
    raw = np.stack([incident.column(name) for name in checkpoint.conditions], 1).astype(np.float32)
    tensors = [torch.from_numpy(x.astype(np.float32)) for x in (noise, raw, energy)]
    with torch.inference_mode():
        condition = checkpoint.condition_transform(tensors[1], tensors[2])
        expected = Chain(checkpoint)(tensors[0], condition, tensors[2]).numpy()
    assert 0.1 < np.mean(expected > 0) < 0.9
    assert expected[expected > 0].min() >= np.float32(0.02)
    assert_alike(found, expected, flips=1)
    metadata = json.loads(session(tmp_path / "model.onnx").get_modelmeta().custom_metadata_map["caloforge"])
    assert metadata["conditions"] == ["x", "p_z"]
    assert metadata["inputs"]["condition"] == "(N, 2): x [mm], p_z [MeV]"
    assert Detector.from_toml(metadata["detector"]) == checkpoint.detector


PAR04 = """
name = "rings"
[[stack]]
repeat = 5
slabs = [{ material = "Pb", thickness = 6.0 }, { material = "polystyrene", thickness = 5.0, sensitive = true }]
[readout]
alpha = 4
r_edges = [0.0, 10.0, 20.0, 40.0]
"""


def test_what_par04_feeds(tmp_path):
    """The steps of Par04InferenceSetup::GetEnergies and Par04OnnxInference::RunInference, in their order."""
    detector = Detector.from_toml(PAR04)
    made = checkpoint_of(detector, ["energy", "theta"], [{"name": "per-incident-energy"}])
    module, example, told = describe_par04(made)
    write_onnx(module, example, tmp_path / "model.onnx", metadata=told)
    energy, theta, rng = 300.0, 0.1, np.random.default_rng(0)
    vector = np.zeros(6 + 4, dtype=np.float32)
    vector[:6] = rng.standard_normal(6)
    vector[6:] = energy / PAR04_MAX_ENERGY, np.degrees(theta) / 90, 0, 1
    opened = session(tmp_path / "model.onnx")
    assert len(opened.get_inputs()) == 1
    flat = opened.run(None, {opened.get_inputs()[0].name: vector[None]})[0][0] * energy
    given = [torch.tensor(vector[None, :6]), torch.tensor([energy]), torch.tensor([[theta]])]
    with torch.inference_mode():
        layers = ShowerChain(made)(*given).numpy().reshape(5, 4, 3)
    assert layers.any()
    # Par04InferenceSetup::GetPositions counts rho, phi, z, the last fastest.
    np.testing.assert_allclose(flat.reshape(3, 4, 5), layers.transpose(2, 1, 0), rtol=1e-4, atol=1e-4)
    assert "/Par04/inference/setSizeLatentVector 6" in told["macro"]
    assert "/Par04/inference/setNbOfRhoCells 3" in told["macro"]


def test_par04_knows_one_mesh():
    detector = Detector.load("atlas-lar")
    made = checkpoint_of(
        detector, ["energy"], [], "calogan", layers=[g.shape for g in detector.grids], **SMALL["calogan"]
    )
    with pytest.raises(CaloforgeError, match="Par04 knows one mesh only; export with the layout caloforge"):
        Par04Chain(made)


def test_a_zoo_member_from_the_command_line_to_a_program_without_torch(tmp_path):
    """zoo:lhcb-wgan, then the example in a process of its own."""
    path = tmp_path / "model.onnx"
    result = CliRunner().invoke(app, ["export", "zoo:lhcb-wgan", "-o", str(path)])
    assert result.exit_code == 0, result.output
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    onnx.checker.check_model(onnx.load(path), full_check=True)
    module = ShowerChain(Checkpoint.load("zoo:lhcb-wgan")).eval()
    rng = np.random.default_rng(0)
    n = 320
    noise = rng.standard_normal((n, module.noise_size), dtype=np.float32)
    energy = rng.uniform(2e3, 99e3, n).astype(np.float32)
    place = rng.uniform([-40, -40, -0.1, -0.1], [40, 40, 0.1, 0.1], (n, 4)).astype(np.float32)
    assert module.given == ["x", "y", "tan_x", "tan_y"]
    with torch.inference_mode():
        expected = module(*(torch.from_numpy(x) for x in (noise, energy, place))).numpy()
    found = run(path, noise, energy, place)
    assert_alike(found, expected, flips=5)
    np.testing.assert_allclose(found.sum(1), expected.sum(1), rtol=1e-5)
    example = ROOT / "examples" / "onnx_without_caloforge.py"
    code = (
        f"import runpy, sys; runpy.run_path({str(example)!r}); assert not {{'torch', 'caloforge'}} & set(sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert "100 showers (1, 30, 30)" in shown.stdout


def test_export_refuses_what_it_cannot_do(tmp_path, monkeypatch):
    out = tmp_path / "model.onnx"
    with pytest.raises(CaloforgeError, match=r"'par4' is not a layout; did you mean 'par04'\?"):
        export("zoo:lhcb-wgan", out, layout="par4")
    with pytest.raises(CaloforgeError, match="makes images of events, not showers"):
        export("zoo:events-coarse-to-fine", out, layout="par04")
    with pytest.raises(CaloforgeError, match="does not exist"):
        export(tmp_path / "no.safetensors", out)
    out.write_text("mine")
    with pytest.raises(CaloforgeError, match="--overwrite"):
        export("zoo:lhcb-wgan", out)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(CaloforgeError, match=r"needs 'onnxscript', which is not installed.*'caloforge\[onnx\]'"):
        export("zoo:lhcb-wgan", out, overwrite=True)
    assert out.read_text() == "mine"
    assert extras.has_onnxruntime() in (True, False)


def test_an_operation_that_onnx_lacks_is_named(tmp_path):
    class Strange(torch.nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    with pytest.raises(CaloforgeError, match="ONNX cannot express this model"):
        write_onnx(Strange(), {"x": torch.ones(2, 3)}, tmp_path / "strange.onnx")
