"""Image pairs through the verbs: train, resume, generate, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from caloforge.checkpoint import Checkpoint
from caloforge.cli import app
from caloforge.config import read_config, to_toml
from caloforge.convert import describe, render
from caloforge.errors import CaloforgeError, CaloforgeWarning
from caloforge.generation import ImageSampler, generate_images
from caloforge.image_checkpoint import ImageCheckpoint
from caloforge.jets import EtaPhiGrid, ImageFile, Images
from caloforge.jets.pairs import PairFiles, Pairs, fast_tensors
from caloforge.models import build_model
from caloforge.showers import Showers
from caloforge.training import TrainConfig, train
from caloforge.training.paired_data import PairData
from caloforge.training.phases import plan_phases

GRID = EtaPhiGrid(tuple(np.linspace(-1, 1, 9)), 8)
CONFIG: dict[str, Any] = {
    "model": {
        "name": "coarse-to-fine",
        "halvings": 1,
        "widths": [4],
        "level_widths": [4, 4, 4],
        "components": 2,
    },
    "data": {"validation": 0.1},
    "transform": [{"name": "threshold"}, {"name": "scale", "scale": 1000.0}],
    "training": {
        "batch_size": 16,
        "log_every": 4,
        "save_every": 4,
        "ema_decay": 0.9,
        "phases": [{"steps": 12}, {"steps": 4}, {"steps": 4}],
    },
}


def pair(n: int = 100, seed: int = 0, process: str = "toy", digest: str = "abc") -> tuple[Images, Images]:
    """Fast images of random towers, and full ones: the fast ones smeared."""
    rng = np.random.default_rng(seed)
    towers = rng.exponential(5000, (n, *GRID.shape)) * (rng.random((n, *GRID.shape)) < 0.3)
    described = {"process": process, "events_digest": digest}
    fast = Images.from_dense(towers, np.arange(n), GRID, side="fast", **described)
    smeared = towers * rng.lognormal(0, 0.3, towers.shape)
    return fast, Images.from_dense(smeared, np.arange(n), GRID, side="full", threshold=100.0, **described)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Files (full, fast) of a hundred pairs."""
    fast, full = pair()
    fast.write(tmp_path / "fast.h5")
    full.write(tmp_path / "full.h5")
    return tmp_path / "full.h5", tmp_path / "fast.h5"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a few iterations."""
    folder = tmp_path_factory.mktemp("trained")
    fast, full = pair()
    fast.write(folder / "fast.h5")
    full.write(folder / "full.h5")
    return train(read_config(CONFIG, TrainConfig), folder / "full.h5", folder / "run", like=folder / "fast.h5")


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    return done.exit_code, done.output


# -- pairs ---------------------------------------------------------------------------------------------------------


def test_pairs_are_matched_by_event(tmp_path: Path) -> None:
    fast, full = pair(20)
    fast.write(tmp_path / "fast.h5")
    order = np.random.default_rng(1).permutation(20)[:15]
    full[order].write(tmp_path / "full.h5")
    pairs = Pairs.read(PairFiles([tmp_path / "full.h5"], [tmp_path / "fast.h5"]))
    assert len(pairs) == 15
    towers, seen, scale = pairs.batch(np.arange(15))
    assert towers.shape == seen.shape == (15, 1, *GRID.shape)
    for row, event in enumerate(pairs.fast.event):
        np.testing.assert_array_equal(towers[row, 0], full.dense()[event])
        assert scale[row] == fast.dense()[event].max()
    assert len(Pairs.read(PairFiles([tmp_path / "full.h5"], [tmp_path / "fast.h5"]), limit=4)) == 4


def test_a_full_image_is_not_kept_apart_beside_one_fast_image_and_trained_on_beside_another(tmp_path: Path) -> None:
    like = []
    for number, process in enumerate(("dijet", "wjet")):
        fast, full = pair(30, seed=number, process=process, digest=process)
        full[np.arange(25)].write(tmp_path / f"{process}.h5")
        for smearing in range(3):
            path = tmp_path / f"{process}-{smearing}.h5"
            factor = 1 + 0.1 * smearing
            described = {"side": "fast", "process": process, "events_digest": process}
            Images.from_dense(factor * fast.dense(), fast.event, GRID, **described).write(path)
            like.append((tmp_path / f"{process}.h5", path))
    pairs = Pairs.read(PairFiles(*zip(*like, strict=True)))
    assert len(pairs) == 150 and np.bincount(pairs.image).tolist() == 50 * [3], "five of thirty have no full image"
    assert len(pairs.full) == 50, "each is held once"
    for number in range(50):
        same = np.flatnonzero(pairs.image == number)
        towers = pairs.batch(same)[0][:, 0].numpy()
        np.testing.assert_array_equal(towers, 3 * [pairs.full.dense(slice(number, number + 1))[0]])
        assert len({round(pairs.fast[same[i : i + 1]].total_energy[0], 3) for i in range(3)}) == 3
    data = PairData.prepare(pairs, read_config(CONFIG, TrainConfig))
    training, validation = (set(pairs.image[rows]) for rows in (data.training, data.validation))
    assert len(data.training) == 135 and len(data.validation) == 15
    assert len(training) == 45 and len(validation) == 5 and not training & validation


def test_an_empty_fast_image_has_a_scale() -> None:
    fast = Images.from_dense(np.zeros((1, *GRID.shape)), grid=GRID)
    assert fast_tensors(fast)[1].tolist() == [1000.0]


def test_several_files_are_joined(tmp_path: Path) -> None:
    names = []
    for number, process in enumerate(("dijet", "wjet")):
        fast, full = pair(30, seed=number, process=process, digest=process)
        fast.write(tmp_path / f"{process}_fast.h5")
        full.write(tmp_path / f"{process}_full.h5")
        names.append((tmp_path / f"{process}_full.h5", tmp_path / f"{process}_fast.h5"))
    path = train(
        read_config(CONFIG, TrainConfig, ["training.phases.0.steps=2"]),
        [full for full, _ in names],
        tmp_path / "run",
        like=[fast for _, fast in names],
    )
    checkpoint = ImageCheckpoint.load(path)
    assert checkpoint.domain.processes == ["dijet", "wjet"]
    assert checkpoint.provenance["data"]["pairs"] == 54
    with pytest.raises(CaloforgeError, match="one --like FAST for each --data FULL"):
        train(read_config(CONFIG, TrainConfig), names[0][0], tmp_path / "other", like=[f for _, f in names])


# -- training and generation ---------------------------------------------------------------------------------------


def test_a_stopped_training_resumes_bit_for_bit(files: tuple[Path, Path], tmp_path: Path) -> None:
    full, fast = files
    config = read_config(CONFIG, TrainConfig)
    whole = train(config, full, tmp_path / "whole", like=fast)

    def stop(done: int, total: int, note: str) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, full, tmp_path / "parts", like=fast, progress=stop)
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    again = train(config, full, tmp_path / "parts", like=fast, resume=True)
    assert again.read_bytes() == whole.read_bytes()
    rows = [json.loads(line) for line in (tmp_path / "whole" / "history.jsonl").read_text().splitlines()]
    ends = rows[2:]
    assert [row["iteration"] for row in ends] == [12, 16, 20]
    for row, name in zip(ends, ("likelihood", "momentum", "draws"), strict=True):
        assert {name} == set(row["losses"]) == set(row["validation"])
    other_fast, other_full = pair(seed=9)
    other_fast.write(tmp_path / "other_fast.h5")
    other_full.write(tmp_path / "other_full.h5")
    with pytest.raises(CaloforgeError, match="began with other showers"):
        train(config, tmp_path / "other_full.h5", tmp_path / "parts", like=tmp_path / "other_fast.h5", resume=True)


@pytest.mark.parametrize("name", ["calpagan", "pix2pix"])
def test_adversarial_models_train_too(name: str, tmp_path: Path) -> None:
    grid = EtaPhiGrid(tuple(np.linspace(-3, 3, 73)), 72)
    rng = np.random.default_rng(0)
    for side in ("fast", "full"):
        towers = rng.exponential(5000, (6, 72, 72)) * (rng.random((6, 72, 72)) < 0.1)
        Images.from_dense(towers, grid=grid, side=side).write(tmp_path / f"{side}.h5")
    config = {
        "model": {"name": name, "width": 1, "discriminator_width": 1},
        "data": {},
        "transform": [{"name": "threshold"}, {"name": "per-fast-maximum"}],
        "training": {"batch_size": 4, "phases": [{"steps": 2}]},
    }
    path = train(read_config(config, TrainConfig), tmp_path / "full.h5", tmp_path / "run", like=tmp_path / "fast.h5")
    fast = Images.read(tmp_path / "fast.h5")
    images = ImageSampler.from_checkpoint(path, device="cpu")(fast)
    assert images.dense().shape == (6, 72, 72)
    least = float(torch.tensor(Images.read(tmp_path / "full.h5").rows.energy).min())
    assert images.rows.energy.min() >= 0.99 * least, "no haze under the full simulation's faintest tower"


def test_generation_does_not_depend_on_the_batch(trained: Path, tmp_path: Path) -> None:
    fast, _ = pair(150, seed=5)
    fast.write(tmp_path / "fast.h5")
    outs = []
    for batch in (1, 64, 1000):
        out = generate_images(trained, tmp_path / f"{batch}.h5", tmp_path / "fast.h5", batch=batch, seed=3)
        with ImageFile(out) as file:
            outs.append(file.content_hash())
            np.testing.assert_array_equal(file.event, fast.event)
            assert (file.side, file.process, file.events_digest) == ("generated", "toy", "abc")
            assert file.provenance["seconds_per_image"] > 0
    assert len(set(outs)) == 1
    sampler = ImageSampler.from_checkpoint(trained, device="cpu")
    at_once = sampler(fast, seed=3)
    np.testing.assert_array_equal(at_once.dense(), Images.read(tmp_path / "64.h5").dense())
    tail = sampler(fast[128:], seed=3, start=128)
    np.testing.assert_array_equal(tail.dense(), at_once[128:].dense())
    assert not np.array_equal(sampler(fast, seed=4).dense(), at_once.dense())


def test_the_command_line(files: tuple[Path, Path], tmp_path: Path) -> None:
    full, fast = files

    (tmp_path / "config.toml").write_text(
        to_toml(CONFIG | {"training": CONFIG["training"] | {"phases": [{"steps": 2}, {"steps": 1}, {"steps": 1}]}})
    )
    code, said = run("train", tmp_path / "config.toml", "--data", full, "--like", fast, "-o", tmp_path / "run")
    assert code == 0, said
    model = tmp_path / "run" / "model.safetensors"
    code, said = run("generate", model, "--like", fast, "-o", tmp_path / "generated.h5", "-n", 20)
    assert code == 0, said
    assert len(Images.read(tmp_path / "generated.h5")) == 20
    code, said = run("generate", model, "-o", tmp_path / "x.h5", "-n", 20)
    assert code == 2 and "--like FAST.h5" in said


def test_checkpoints_survive_saving(trained: Path, tmp_path: Path) -> None:
    checkpoint = ImageCheckpoint.load(trained)
    checkpoint.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == trained.read_bytes()
    assert "coarse-to-fine" in repr(checkpoint)
    described = describe(trained)
    assert described["model"] == "coarse-to-fine" and described["grid"].startswith("8 x 8 towers")
    render(described)
    with pytest.raises(CaloforgeError, match=r"a model of images, not of showers.*--like FAST"):
        Checkpoint.load(trained)


# -- bad input -----------------------------------------------------------------------------------------------------


def test_shower_models_and_image_files_do_not_mix(
    files: tuple[Path, Path], trained: Path, sample: Showers, tmp_path: Path
) -> None:
    full, fast = files
    shower_config = {
        "model": {"name": "lhcb-wgan"},
        "data": {"conditions": ["energy"]},
        "training": {"batch_size": 4, "phases": [{"steps": 1}, {"steps": 1}]},
    }
    with pytest.raises(CaloforgeError, match="learns from showers, --like is for"):
        train(read_config(shower_config, TrainConfig), full, tmp_path / "a", like=fast)
    with pytest.raises(CaloforgeError, match="not a caloforge shower file"):
        train(read_config(shower_config, TrainConfig), full, tmp_path / "a")
    with pytest.raises(CaloforgeError, match="with --like"):
        train(read_config(CONFIG, TrainConfig), full, tmp_path / "a")
    sample.write(tmp_path / "showers.h5")
    with pytest.raises(CaloforgeError, match="not a caloforge image file"):
        train(read_config(CONFIG, TrainConfig), tmp_path / "showers.h5", tmp_path / "a", like=fast)
    with pytest.raises(CaloforgeError, match="not a caloforge image file"):
        generate_images(trained, tmp_path / "x.h5", tmp_path / "showers.h5")
    with pytest.raises(CaloforgeError, match=r"leave data\.conditions out"):
        train(read_config(CONFIG, TrainConfig, ["data.conditions=['energy']"]), full, tmp_path / "a", like=fast)
    with pytest.raises(CaloforgeError, match=r"data\.conditions is empty"):
        train(read_config(shower_config, TrainConfig, ["data.conditions=[]"]), sample, tmp_path / "a")


def test_images_that_are_no_pairs(files: tuple[Path, Path], tmp_path: Path) -> None:
    full, fast = files
    config = read_config(CONFIG, TrainConfig)
    pair(digest="other")[0].write(tmp_path / "other.h5")
    with pytest.raises(CaloforgeError, match="different event files"):
        train(config, full, tmp_path / "a", like=tmp_path / "other.h5")
    with pytest.raises(CaloforgeError, match="give the full simulation's with --data"):
        train(config, fast, tmp_path / "a", like=full)
    with pytest.raises(CaloforgeError, match="too few for batches of 16"):
        train(read_config(CONFIG, TrainConfig, ["data.max_showers=10"]), full, tmp_path / "a", like=fast)
    Images.from_dense(np.zeros((20, *GRID.shape)), grid=GRID, side="full").write(tmp_path / "empty.h5")
    with pytest.raises(CaloforgeError, match="are empty"):
        train(config, tmp_path / "empty.h5", tmp_path / "a", like=fast)


def test_images_a_model_cannot_start_from(trained: Path, files: tuple[Path, Path], tmp_path: Path) -> None:
    other = EtaPhiGrid(GRID.edges, 16)
    Images.from_dense(np.zeros((2, *other.shape)), grid=other, side="fast").write(tmp_path / "grid.h5")
    with pytest.raises(CaloforgeError, match=r"have 8 x 16 towers.*trained on 8 x 8"):
        generate_images(trained, tmp_path / "x.h5", tmp_path / "grid.h5")
    with pytest.raises(CaloforgeError, match="of the full side"):
        generate_images(trained, tmp_path / "x.h5", files[0])
    fast, _ = pair(2)
    fast[:0].write(tmp_path / "none.h5")
    with pytest.raises(CaloforgeError, match="holds no images"):
        generate_images(trained, tmp_path / "x.h5", tmp_path / "none.h5")
    strange = Images.from_dense(10 * fast.dense(), fast.event, GRID, side="fast", process="top")
    sampler = ImageSampler.from_checkpoint(trained, device="cpu")
    with pytest.warns(CaloforgeWarning, match=r"events of 'top'.*energies up to"):
        sampler(strange)
    with pytest.raises(CaloforgeError, match="must not be negative"):
        sampler(fast, seed=-1)


# -- the configs that ship -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["calpagan", "pix2pix", "coarse-to-fine"])
def test_shipped_configs_fit_their_models(name: str) -> None:
    config = read_config(Path(__file__).parent.parent / "configs" / f"{name}.toml", TrainConfig)
    with torch.device("meta"):
        model = build_model(config.model.name, (1, 72, 72), 72 * 72, **config.model.options)
    assert len(plan_phases(model, config.training)) == (3 if name == "coarse-to-fine" else 1)
