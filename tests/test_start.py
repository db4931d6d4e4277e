"""Trainings that begin with the weights of another: what they take over, and what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from caloforge.checkpoint import Checkpoint
from caloforge.cli import app
from caloforge.config import read_config, to_toml
from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError
from caloforge.image_checkpoint import ImageCheckpoint
from caloforge.showers import Showers
from caloforge.training import TrainConfig, train
from conftest import some_showers
from test_image_pairs import CONFIG as IMAGES
from test_image_pairs import pair
from test_train import CONFIG

SHORT = ["training.phases.0.steps=4", "training.phases.1.steps=4"]


@pytest.fixture
def showers(tiny: Detector) -> Showers:
    return some_showers(tiny)


@pytest.fixture
def first(showers: Showers, tmp_path: Path) -> Path:
    """A checkpoint of a few iterations."""
    return train(read_config(CONFIG, TrainConfig), showers, tmp_path / "first", overrides=SHORT)


def again(first: Path, showers: Showers, folder: Path, *overrides: str, **how: object) -> Path:
    return train(read_config(CONFIG, TrainConfig), showers, folder, start=first, overrides=[*SHORT, *overrides], **how)


def test_weights_and_transforms_are_taken_over(first: Path, tiny: Detector, tmp_path: Path) -> None:
    """With a learning rate of next to nothing, and showers of a tenth of the energy, all stays."""
    faint = some_showers(tiny)
    faint.rows.energy[:] *= 0.1
    path = again(first, faint, tmp_path / "second", "training.optimisers.default.lr=1e-12")
    one, two = Checkpoint.load(first), Checkpoint.load(path)
    assert two.domain["energy"] == one.domain["energy"]
    for parts in ("model", "shower_transform", "condition_transform"):
        mine, theirs = (getattr(each, parts) for each in (one, two))
        if parts == "model":
            mine, theirs = mine.generator, theirs.generator
        for name, tensor in mine.state_dict().items():
            torch.testing.assert_close(theirs.state_dict()[name], tensor, rtol=0, atol=1e-9, msg=f"{parts} {name}")
    assert len(two.provenance["start"]) == 64 and "start" not in one.provenance


def test_a_phase_can_be_left_out(first: Path, showers: Showers, tmp_path: Path) -> None:
    """The regressor's phase alone: the generator stays to the last bit."""
    path = again(first, showers, tmp_path / "second", "training.phases.1.steps=0")
    one, two = (Checkpoint.load(p).model.generator.state_dict() for p in (first, path))
    assert all(torch.equal(one[name], two[name]) for name in one)
    with pytest.raises(CaloforgeError, match=r"all training\.phases have 0 steps"):
        again(first, showers, tmp_path / "third", "training.phases.0.steps=0", "training.phases.1.steps=0")
    assert not (tmp_path / "third").exists()


def test_a_training_is_resumed_with_the_weights_it_began_with(first: Path, showers: Showers, tmp_path: Path) -> None:
    path = again(first, showers, tmp_path / "second")
    before = path.read_bytes()
    assert again(first, showers, tmp_path / "second", resume=True).read_bytes() == before
    for other in (path, None):
        with pytest.raises(CaloforgeError, match="began with other weights; resume it with the same --from"):
            again(other, showers, tmp_path / "second", resume=True)  # type: ignore[arg-type]


def test_a_part_of_another_size_begins_anew(first: Path, showers: Showers, tmp_path: Path) -> None:
    wider = ["model.channels=[5, 4]", "training.anew=['generator']", "training.phases.0.steps=0"]
    one, two = Checkpoint.load(first), Checkpoint.load(again(first, showers, tmp_path / "second", *wider))
    mine, theirs = (each.model.generator.state_dict() for each in (one, two))
    assert any(mine[name].shape != theirs[name].shape for name in mine)
    assert one.shower_transform.config == two.shower_transform.config


def test_a_part_that_would_fit_begins_anew_when_it_is_asked(first: Path, showers: Showers, tmp_path: Path) -> None:
    still = "training.optimisers.default.lr=1e-12"
    mine = Checkpoint.load(first).model.generator.state_dict()
    for number, anew in enumerate(([], ["training.anew=['generator']"])):
        path = again(first, showers, tmp_path / str(number), still, *anew)
        theirs = Checkpoint.load(path).model.generator.state_dict()
        near = [torch.allclose(mine[name], theirs[name], rtol=0, atol=1e-9) for name in mine if name.endswith("weight")]
        assert not any(near) if anew else all(near)
    with pytest.raises(CaloforgeError, match=r"no part 'generat' that could begin anew; give training\.anew"):
        again(first, showers, tmp_path / "third", "training.anew=['generat']")
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("model.channels=[5, 4]", r"has shape .*, the configuration's and the data's needs"),
        ("model.name='wgan'", r"was trained with model\.name = lhcb-wgan, the configuration has wgan"),
        ("data.conditions=['energy']", r"was trained with data\.conditions = \['energy', 'x'\], the configuration has"),
        ("transform.0.scale=2.0", r"was trained with transform = "),
    ],
)
def test_what_does_not_fit_is_refused(change: str, told: str, first: Path, showers: Showers, tmp_path: Path) -> None:
    with pytest.raises(CaloforgeError, match=told):
        again(first, showers, tmp_path / "second", change)
    assert not (tmp_path / "second").exists()


def test_adagan_begins_with_no_weights(first: Path, showers: Showers, tmp_path: Path) -> None:
    with pytest.raises(CaloforgeError, match="leave --from out"):
        again(first, showers, tmp_path / "second", "model.name='adagan'")


def test_images_from_the_command_line(first: Path, tmp_path: Path) -> None:
    """One phase after the other gives another model than none, from the same files."""
    fast, full = pair()
    fast.write(tmp_path / "fast.h5")
    full.write(tmp_path / "full.h5")
    config = read_config(IMAGES, TrainConfig)
    (tmp_path / "config.toml").write_text(to_toml(config.model_dump(mode="json", exclude_none=True)))
    common = ["train", tmp_path / "config.toml", "--data", tmp_path / "full.h5", "--like", tmp_path / "fast.h5"]

    def run(*arguments: object) -> tuple[int, str]:
        done = CliRunner().invoke(app, [str(a) for a in (*common, *arguments)])
        return done.exit_code, done.output

    assert run("-o", tmp_path / "one")[0] == 0
    one = tmp_path / "one" / "model.safetensors"
    code, said = run("-o", tmp_path / "two", "--from", one, "--set", "training.phases.0.steps=0")
    assert code == 0, said
    models = [ImageCheckpoint.load(p).model for p in (one, tmp_path / "two" / "model.safetensors")]
    same = {name: torch.equal(value, models[1].state_dict()[name]) for name, value in models[0].state_dict().items()}
    later = "foresight", "blocks.of_energy", "blocks.of_number", "blocks.expectation"
    assert all(same[name] for name in same if not name.startswith(later))
    assert not all(same.values())
    code, said = run("-o", tmp_path / "three", "--from", first)
    assert code == 2 and "is a model of showers, not of images" in said
