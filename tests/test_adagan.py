"""AdaGAN whole: the toy mixture of clusters, and on shower files with a kill in the middle."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from caloforge.checkpoint import Checkpoint
from caloforge.errors import CaloforgeError
from caloforge.models import GenerativeModel, Objective, build_model
from caloforge.training import BoostingSettings, Engine, TrainingSettings, train
from caloforge.training.batches import TensorSource
from caloforge.training.boosting import boost, resample
from caloforge.training.discriminate import opinion_of
from conftest import some_showers


class ClusterGan(GenerativeModel):
    """The plainest GAN (arXiv 1406.2661) for points in the plane; it forgets clusters, as such GANs do."""

    def __init__(self):
        super().__init__((2,), 0)
        self.latent_size = 2
        self.generator = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
        slope = nn.LeakyReLU(0.2)
        self.discriminator = nn.Sequential(nn.Linear(2, 32), slope, nn.Linear(32, 32), slope, nn.Linear(32, 1))

    def phases(self):
        judge = Objective("discriminator", [self.discriminator], self._judge)
        return [[judge, Objective("generator", [self.generator], self._make)]]

    def forward(self, latent, condition):
        return self.generator(latent)

    def _judge(self, batch):
        fake = self.sample(batch.condition, batch.rng).detach()
        return (F.softplus(-self.discriminator(batch.showers)) + F.softplus(self.discriminator(fake))).mean()

    def _make(self, batch):
        return F.softplus(-self.discriminator(self.sample(batch.condition, batch.rng))).mean()


class Mixture(GenerativeModel):
    def __init__(self, parts, shares):
        super().__init__((2,), 0)
        self.parts, self.shares, self.latent_size = nn.ModuleList(parts), torch.tensor(shares), 3

    def phases(self):
        return []

    def draw_latent(self, n, rng=None):
        noise = torch.randn(n, 2, generator=rng)
        return torch.cat([noise, torch.multinomial(self.shares, n, True, generator=rng)[:, None].float()], 1)

    def forward(self, latent, condition):
        made = torch.stack([part(latent[:, :2], condition) for part in self.parts])
        return made[latent[:, 2].long(), torch.arange(len(latent))]


def clusters(n):
    """Five clusters on a ring."""
    rng = np.random.default_rng(0)
    angle = 2 * math.pi * np.arange(5) / 5
    centres = 2 * np.stack([np.cos(angle), np.sin(angle)], 1)
    which = rng.integers(5, size=n)
    points = centres[which] + 0.1 * rng.standard_normal((n, 2))
    return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(centres.astype(np.float32))


def covered(points, centres):
    """Clusters that get at least a fifth of the points they should."""
    near = (points[:, None] - centres).norm(dim=2) < 0.5
    share = near.float().mean(0)
    return int((share > 0.2 / 5).sum())


def test_an_ensemble_of_five_covers_every_cluster_where_one_gan_does_not():
    points, centres = clusters(2000)
    source = TensorSource(points, torch.zeros(len(points), 0))
    how = {"phases": [{"steps": 600}], "batch_size": 64, "ema_decay": 0.5}
    how["optimisers"] = {"default": {"lr": 5e-3, "betas": [0.0, 0.9], "decay": "cosine"}}
    parts = []

    def fit(number, weights):
        rows = resample(weights, len(points), np.random.default_rng(number))
        torch.manual_seed(number)
        model = ClusterGan()
        settings = TrainingSettings.model_validate({**how, "seed": number})
        Engine(model, TensorSource(points[rows], torch.zeros(len(rows), 0)), settings).run()
        parts.append(model.eval())

    def discriminate(step):
        mixture = Mixture(parts, [1 / step] * step).eval()
        return opinion_of(mixture, source, BoostingSettings(steps=200, width=16, lr=3e-3), [step]).probability

    with torch.random.fork_rng():
        shares = boost(len(points), 5, "uniform", fit, discriminate)
    rng = torch.Generator().manual_seed(1)
    nothing = torch.zeros(4000, 0)
    with torch.no_grad():
        alone = covered(parts[0].sample(nothing, rng), centres)
        together = covered(Mixture(parts, shares).sample(nothing, rng), centres)
    assert alone < 5
    assert together == 5


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
