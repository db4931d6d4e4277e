"""AdaGAN whole: the toy mixture of clusters, and on shower files with a kill in the middle."""

import json

import numpy as np
import pytest
import torch

from caloforge.checkpoint import Checkpoint
from caloforge.errors import CaloforgeError
from caloforge.models import build_model
from caloforge.training import train
from conftest import load_example, some_showers


@pytest.fixture(scope="module")
def ensemble():
    return load_example("adagan_clusters").train_ensemble()


def test_an_ensemble_of_five_covers_every_cluster_where_one_gan_does_not(ensemble):
    assert ensemble.covered(ensemble.drawn(4000, 1)) < 5
    assert ensemble.covered(ensemble.drawn(4000)) == 5
    assert ensemble.shares == pytest.approx([0.2] * 5)


def test_the_first_gan_sees_all_points_alike_and_the_second_more_of_what_it_misses(ensemble):
    n = len(ensemble.points)
    assert ensemble.weights[0] == pytest.approx(np.full(n, 1 / n))
    of_data, made = (
        (points[:, None] - ensemble.centres).norm(dim=2).argmin(1).numpy()
        for points in (ensemble.points, ensemble.drawn(4000, 1))
    )
    shares = np.bincount(made, minlength=5) / np.bincount(of_data, minlength=5)
    weights = [ensemble.weights[1][of_data == i].mean() for i in range(5)]
    assert np.argmax(weights) == np.argmin(shares)


CONFIG = {
    "model": {
        "name": "adagan",
        "component": "lhcb-wgan",
        "options": {"latent": 4, "channels": [8, 4], "hidden": 8, "norms": [1]},
    },
    "data": {"conditions": ["log_energy"]},
    "transform": [{"name": "per-incident-energy"}, {"name": "log", "scale": 1e-3}],
    "training": {"batch_size": 16, "phases": [{"steps": 3}, {"steps": 4}], "save_every": 2, "ema_decay": 0.5},
    "boosting": {"components": 3, "steps": 4, "width": 4},
}


@pytest.fixture
def blobs(tiny):
    return some_showers(tiny)


class KilledError(Exception):
    pass


def test_a_killed_boosting_resumes_at_its_component_and_ends_in_the_same_file(tmp_path, blobs):
    whole = train(CONFIG, blobs, tmp_path / "whole")

    def kill_at(number):
        def progress(done, total, note):
            if done >= number:
                raise KilledError

        return progress

    for number in (3, 9, 16, 20):
        with pytest.raises(KilledError):
            train(CONFIG, blobs, tmp_path / "killed", resume=True, progress=kill_at(number))
    resumed = train(CONFIG, blobs, tmp_path / "killed", resume=True)
    assert resumed.read_bytes() == whole.read_bytes()

    mixture = Checkpoint.load(whole)
    assert mixture.model_name == "adagan"
    assert mixture.model.config["shares"] == pytest.approx([1 / 3] * 3)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "boosting.jsonl").read_text().splitlines()]
    assert [row["component"] for row in rows] == [1, 2]
    assert all(0 <= row["auc"] <= 1 and row["lambda"] > 0 for row in rows)
    for number, part in enumerate(mixture.model.parts):
        alone = Checkpoint.load(tmp_path / "whole" / f"component-{number:02d}" / "model.safetensors")
        assert alone.model_name == "lhcb-wgan"
        latent, condition = torch.randn(3, 4), torch.zeros(3, 1)
        assert torch.equal(part.eval()(latent, condition), alone.model(latent, condition))
        assert alone.condition_transform.state_dict().keys() == mixture.condition_transform.state_dict().keys()
        for name, value in alone.condition_transform.state_dict().items():
            assert torch.equal(value, mixture.condition_transform.state_dict()[name])


def test_each_latent_picks_one_component():
    model = build_model(
        "adagan", (1, 6, 6), 1, component="lhcb-wgan", options=CONFIG["model"]["options"], shares=[0.25, 0.75]
    )
    rng = torch.Generator().manual_seed(0)
    latent, condition = model.draw_latent(400, rng), torch.zeros(400, 1)
    showers = model.eval()(latent, condition)
    first = latent[:, -1] < 0.25
    assert 60 < int(first.sum()) < 140
    for part, rows in zip(model.parts, (first, ~first), strict=True):
        torch.testing.assert_close(showers[rows], part(latent[rows, :-1], condition[rows]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"name": "adagan"}}, "needs model.component"),
        ({"model": {"name": "adagan", "component": "adagan"}}, "'adagan' cannot be a component here"),
        ({"model": {**CONFIG["model"], "shares": [1.0]}}, "model.shares is what boosting finds out"),
        ({"model": {**CONFIG["model"], "options": {"latnt": 3}}}, "has no option 'latnt'"),
        ({"model": {"name": "lhcb-wgan"}}, r"\[boosting\] is for the model 'adagan'"),
        ({"boosting": {"beta": 1.5}}, "beta"),
    ],
)
def test_bad_requests_are_explained(tmp_path, blobs, change, message):
    with pytest.raises(CaloforgeError, match=message):
        train({**CONFIG, **change}, blobs, tmp_path / "run")


def test_shares_must_sum_to_one():
    with pytest.raises(CaloforgeError, match="do not sum to one"):
        build_model("adagan", (1, 6, 6), 1, component="lhcb-wgan", shares=[0.5, 0.2])
