"""AdaGAN on a toy: five clusters of points, which one plain GAN forgets in part and five boosted ones cover.

    python examples/adagan_clusters.py [--output clusters.png]

The toy of Tolstikhin et al., arXiv 1701.02386. docs/adagan.md walks through it. Half a minute
on one core.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models import Batch, GenerativeModel, Objective
from caloforge.training import BoostingSettings, Engine, TrainingSettings
from caloforge.training.batches import TensorSource
from caloforge.training.boosting import boost, resample
from caloforge.training.discriminate import opinion_of

RING, SPREAD = 2.0, 0.1


class ClusterGan(GenerativeModel):
    """The plainest GAN (arXiv 1406.2661) for points in the plane; it forgets clusters, as such GANs do."""

    def __init__(self) -> None:
        super().__init__((2,), 0)
        self.latent_size = 2
        self.generator = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
        slope = nn.LeakyReLU(0.2)
        self.discriminator = nn.Sequential(nn.Linear(2, 32), slope, nn.Linear(32, 32), slope, nn.Linear(32, 1))

    def phases(self) -> Sequence[Sequence[Objective]]:
        """One phase: the discriminator, then the generator."""
        judge = Objective("discriminator", [self.discriminator], self._judge)
        return [[judge, Objective("generator", [self.generator], self._make)]]

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Latent (B, 2) to points (B, 2)."""
        points: Tensor = self.generator(latent)
        return points

    def _judge(self, batch: Batch) -> Tensor:
        fake = self.sample(batch.condition, batch.rng).detach()
        return (F.softplus(-self.discriminator(batch.showers)) + F.softplus(self.discriminator(fake))).mean()

    def _make(self, batch: Batch) -> Tensor:
        return F.softplus(-self.discriminator(self.sample(batch.condition, batch.rng))).mean()


class Mixture(GenerativeModel):
    """Draws the component, then the point."""

    def __init__(self, parts: Sequence[GenerativeModel], shares: Sequence[float]) -> None:
        super().__init__((2,), 0)
        self.parts, self.shares, self.latent_size = nn.ModuleList(parts), torch.tensor(shares), 3

    def phases(self) -> Sequence[Sequence[Objective]]:
        """None: its parts are trained already."""
        return []

    def draw_latent(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        """Noise and the number of the component (n, 3)."""
        noise = torch.randn(n, 2, generator=rng)
        return torch.cat([noise, torch.multinomial(self.shares, n, True, generator=rng)[:, None].float()], 1)

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Latent (B, 3) to points (B, 2)."""
        made = torch.stack([part(latent[:, :2], condition) for part in self.parts])
        return made[latent[:, 2].long(), torch.arange(len(latent))]


@dataclass
class Ensemble:
    """What boosting made.

    Attributes:
        points: the data (N, 2).
        centres: of their clusters (5, 2).
        parts: the GANs.
        shares: of the mixture.
        weights: what each GAN saw of the data, (N,) each.
    """

    points: Tensor
    centres: Tensor
    parts: list[GenerativeModel] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    weights: list[npt.NDArray[np.float64]] = field(default_factory=list)

    def drawn(self, n: int, first: int | None = None) -> Tensor:
        """Points (n, 2) of the mixture, or of its first so many GANs in equal shares."""
        shares = self.shares if first is None else [1 / first] * first
        rng = torch.Generator().manual_seed(1)
        with torch.no_grad():
            return Mixture(self.parts[: len(shares)], shares).sample(torch.zeros(n, 0), rng)

    def covered(self, points: Tensor) -> int:
        """Clusters that get at least a fifth of the points they should."""
        near = (points[:, None] - self.centres).norm(dim=2) < 5 * SPREAD
        return int((near.float().mean(0) > 0.2 / len(self.centres)).sum())


def clusters(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points (n, 2) of five clusters on a ring, and the clusters' centres (5, 2)."""
    rng = np.random.default_rng(seed)
    angle = 2 * math.pi * np.arange(5) / 5
    centres = RING * np.stack([np.cos(angle), np.sin(angle)], 1)
    points = centres[rng.integers(5, size=n)] + SPREAD * rng.standard_normal((n, 2))
    return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(centres.astype(np.float32))


def train_ensemble(n_points: int = 2000, components: int = 5) -> Ensemble:
    """Boost plain GANs on the clusters."""
    found = Ensemble(*clusters(n_points))
    source = TensorSource(found.points, torch.zeros(n_points, 0))
    how = {"phases": [{"steps": 600}], "batch_size": 64, "ema_decay": 0.5}
    how["optimisers"] = {"default": {"lr": 5e-3, "betas": [0.0, 0.9], "decay": "cosine"}}

    def fit(number: int, weights: npt.NDArray[np.float64]) -> None:
        rows = resample(weights, n_points, np.random.default_rng(number))
        torch.manual_seed(number)
        model = ClusterGan()
        settings = TrainingSettings.model_validate({**how, "seed": number})
        Engine(model, TensorSource(found.points[rows], torch.zeros(n_points, 0)), settings).run()
        found.parts.append(model.eval())
        found.weights.append(weights)

    def discriminate(step: int) -> npt.NDArray[np.float64]:
        mixture = Mixture(found.parts, [1 / step] * step).eval()
        return opinion_of(mixture, source, BoostingSettings(steps=200, width=16, lr=3e-3), [step]).probability

    with torch.random.fork_rng():
        found.shares = boost(n_points, components, "uniform", fit, discriminate)
    return found


def draw(found: Ensemble, path: Path) -> None:
    """The mixture after each step, above what the next GAN saw of the data."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 * len(found.parts), 6.2), layout="constrained")
    axes = figure.subplots(2, len(found.parts), sharex=True, sharey=True)
    x, y = found.points.T
    for number, (above, below) in enumerate(axes.T):
        made = found.drawn(2000, number + 1)
        above.scatter(x, y, s=4, c="0.8", label="data")
        above.scatter(*made.T, s=2, c="C0", label="mixture")
        above.set_title(f"{number + 1} GAN{'s' if number else ''}: {found.covered(made)} of 5 clusters", fontsize=11)
        weight = found.weights[number] * len(x)
        shown = below.scatter(x, y, s=5, c=weight, cmap="viridis", vmin=0, vmax=max(2, float(weight.max())))
        figure.colorbar(shown, ax=below, label="weight / mean weight", location="bottom")
        below.set_title(f"what GAN {number + 1} was trained on", fontsize=11)
        for ax in (above, below):
            ax.set_aspect("equal")
            ax.set(xlim=(-3, 3), ylim=(-3, 3))
        below.set_xlabel("x")
    axes[0, 0].set_ylabel("y")
    axes[1, 0].set_ylabel("y")
    axes[0, 0].legend(loc="upper left", fontsize=8, markerscale=3, framealpha=1)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("clusters.png"))
    output = parser.parse_args().output
    found = train_ensemble()
    for number in range(1, len(found.parts) + 1):
        print(f"{number} GANs: {found.covered(found.drawn(4000, number))} of 5 clusters")
    draw(found, output)
    print(f"picture in {output}")


if __name__ == "__main__":
    main()
