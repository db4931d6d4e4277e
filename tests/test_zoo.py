"""The checkpoints that ship: each loads, generates sensible showers, and tells the truth about itself."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from caloforge.beam import Beam
from caloforge.catalogue import IMAGE_SCORES, SCORES, catalogue, kind_of_card
from caloforge.checkpoint import Checkpoint
from caloforge.cli import app
from caloforge.errors import CaloforgeError
from caloforge.generation import Sampler, generate_images
from caloforge.image_checkpoint import ImageCheckpoint
from caloforge.jets import CMS, Images
from caloforge.models import MODELS
from caloforge.models.papers import PAPERS
from caloforge.zoo import ZOO, card, find_checkpoint

SHOWERS = [name for name in ZOO if kind_of_card(card(name)) == "showers"]
IMAGES = [name for name in ZOO if kind_of_card(card(name)) == "images"]


def test_every_model_has_a_paper():
    assert set(PAPERS) == set(MODELS)


def test_the_zoo_is_not_empty():
    assert ZOO


@pytest.mark.parametrize("name", SHOWERS)
def test_a_shipped_checkpoint_is_what_its_card_says(name):
    path = ZOO[name]
    assert path.stat().st_size < 12e6
    found, checkpoint = card(name), Checkpoint.load(path)
    assert found["model"] == checkpoint.model_name
    assert found["detector"] == checkpoint.detector.name
    assert found["conditions"] == checkpoint.conditions
    modules = checkpoint.model.generation_modules()
    assert found["parameters"] == sum(p.numel() for module in modules for p in module.parameters())
    assert set(SCORES) <= set(found["report"])
    assert all({"value", "error", "floor"} <= set(score) for score in found["report"].values())
    assert found["faults"], "no model is without fault: say which"


@pytest.mark.parametrize("name", SHOWERS)
def test_a_shipped_checkpoint_generates_at_once(name):
    sampler = Sampler.from_checkpoint(f"zoo:{name}")
    beam = Beam.of(sampler.checkpoint.detector, domain=sampler.checkpoint.domain)
    assert sampler.label == " in ".join([*reversed(card(name)["components"]), card(name)["model"]])
    incident = beam.draw(200, 1)
    showers = sampler(incident, seed=3)
    response = showers.total_energy / incident.energy
    assert np.isfinite(response).all()
    assert 0.01 < response.mean() < 1
    assert response.std() / response.mean() < 1
    whole = sampler.alignment  # a request may be cut at its multiples
    again = sampler(incident[:whole], seed=3)
    assert again.content_hash() == showers[:whole].content_hash()


@pytest.mark.parametrize("name", IMAGES)
def test_a_shipped_checkpoint_of_images_is_what_its_card_says(name):
    path = ZOO[name]
    assert path.stat().st_size < 12e6
    found, checkpoint = card(name), ImageCheckpoint.load(f"zoo:{name}")
    assert (found["model"], found["components"]) == (checkpoint.model_name, [])
    modules = checkpoint.model.generation_modules()
    assert found["parameters"] == sum(p.numel() for module in modules for p in module.parameters())
    assert found["training"]["pairs"] == checkpoint.provenance["data"]["pairs"]
    assert set(IMAGE_SCORES) <= set(found["report"])
    assert all({"value", "error", "fast", "floor"} <= set(score) for score in found["report"].values())
    assert found["faults"], "no model is without fault: say which"


@pytest.mark.parametrize("name", IMAGES)
def test_a_shipped_checkpoint_of_images_generates_at_once(name, tmp_path):
    rng = np.random.default_rng(0)
    towers = rng.exponential(10e3, (70, *CMS.shape)) * (rng.random((70, *CMS.shape)) < 0.02)
    Images.from_dense(towers, side="fast").write(tmp_path / "fast.h5")
    generate_images(f"zoo:{name}", tmp_path / "full.h5", tmp_path / "fast.h5", seed=1)
    generate_images(f"zoo:{name}", tmp_path / "again.h5", tmp_path / "fast.h5", seed=1, batch=64)
    one, two = (Images.read(tmp_path / f"{n}.h5") for n in ("full", "again"))
    assert np.array_equal(one.dense(), two.dense())
    response = one.total_energy / towers.sum((1, 2))
    assert 0.5 < np.median(response) < 2


def test_unknown_names_are_explained():
    with pytest.raises(CaloforgeError, match="'nothing' is not a zoo checkpoint"):
        Checkpoint.load("zoo:nothing")
    assert find_checkpoint("some/model.safetensors").name == "model.safetensors"


def test_the_catalogue_on_the_command_line(tmp_path):
    result = CliRunner().invoke(app, ["models", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == catalogue()
    shown = CliRunner().invoke(app, ["models"], env={"COLUMNS": "200"}).stdout
    assert all(name in shown for name in (*MODELS, *ZOO))
