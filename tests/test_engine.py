from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from caloforge.errors import CaloforgeError
from caloforge.models.base import Batch, GenerativeModel, Objective
from caloforge.training import Engine, TrainingSettings, TrainingStopped
from caloforge.training.average import Average
from caloforge.training.batches import BatchOrder, Example, Prefetcher, Rows, TensorSource
from caloforge.training.history import History
from caloforge.training.optimisers import learning_rate
from caloforge.training.settings import OptimiserSettings
from caloforge.training.state import State


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Toy(GenerativeModel):
    """A model of bare networks, without the shape of a shower."""

    latent_size = 1

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        return latent


class GaussianWgan(Toy):
    """WGAN-GP in one dimension: the generator z -> a z + b must find the spread and mean of the data."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Linear(1, 1)
        self.critic = nn.Linear(2, 1)

    def phases(self) -> Sequence[Sequence[Objective]]:
        return [
            [
                Objective("critic", [self.critic], self.critic_loss, 3),
                Objective("generator", [self.generator], lambda batch: -self.score(self.fake(batch)).mean()),
            ]
        ]

    def generation_modules(self) -> Sequence[nn.Module]:
        return [self.generator]

    def score(self, x: Tensor) -> Tensor:
        """A parabola: enough to tell Gaussians apart."""
        out: Tensor = self.critic(torch.cat([x, x.square()], 1))
        return out

    def fake(self, batch: Batch) -> Tensor:
        out: Tensor = self.generator(torch.randn(len(batch), 1, generator=batch.rng))
        return out

    def critic_loss(self, batch: Batch) -> Tensor:
        fake = self.fake(batch)
        mix = torch.rand(len(batch), 1, generator=batch.rng)
        between = (mix * batch.showers + (1 - mix) * fake).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self.score(between).sum(), between, create_graph=True)
        penalty = (gradient.norm(dim=1) - 1).relu().square().mean()  # one-sided: a parabola must be free to turn
        loss: Tensor = self.score(fake).mean() - self.score(batch.showers).mean() + 10 * penalty
        return loss


class TwoPhases(Toy):
    """A linear autoencoder with dropout beside it, then the spread of its code by maximum likelihood."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(4, 1, bias=False)
        self.decoder = nn.Linear(1, 4, bias=False)
        self.spread = nn.Linear(1, 1, bias=False)
        self.noisy = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.seen: list[dict[str, Any]] = []

    def phases(self) -> Sequence[Sequence[Objective]]:
        return [
            [
                Objective("autoencoder", [self.encoder, self.decoder], self.reconstruct, 2),
                Objective("noisy", [self.noisy], lambda batch: (self.noisy(batch.showers) - 1).square().mean()),
            ],
            [Objective("spread", [self.spread], self.likelihood)],
        ]

    def generation_modules(self) -> Sequence[nn.Module]:
        return [self.decoder, self.spread]

    def reconstruct(self, batch: Batch) -> Tensor:
        self.note(batch)
        return (self.decoder(self.encoder(batch.showers)) - batch.showers).square().sum(1).mean()

    def likelihood(self, batch: Batch) -> Tensor:
        self.note(batch)
        code = self.encoder(batch.showers) / self.encoder.weight.norm()
        log_sigma = self.spread.weight.squeeze()
        return (code * torch.exp(-log_sigma)).square().mean() / 2 + log_sigma

    def note(self, batch: Batch) -> None:
        free = {name.split(".")[0] for name, p in self.named_parameters() if p.requires_grad}
        modes = {name: m.training for name, m in self.named_modules() if name and "." not in name}
        self.seen.append({"free": free, "modes": modes, "first": batch.showers[0].clone(), "len": len(batch)})


def settings(*steps: int, **rest: Any) -> TrainingSettings:
    rest = {"batch_size": 32, "log_every": 10} | rest
    return TrainingSettings.model_validate({"phases": [{"steps": n} for n in steps], **rest})


def data_4d(n: int = 512) -> TensorSource:
    rng = torch.Generator().manual_seed(0)
    showers = torch.randn(n, 4, generator=rng) * torch.tensor([3.0, 0.5, 0.5, 0.5])
    return TensorSource(showers, torch.zeros(n, 0))


def build(kind: type[Toy], seed: int = 0) -> Toy:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind()


def same(a: nn.Module, b: nn.Module) -> bool:
    mine, other = a.state_dict(), b.state_dict()
    return all(torch.equal(mine[name], other[name]) for name in mine)


# -- learning what has a closed form ---------------------------------------------------------------------------


def test_wgan_finds_mean_and_spread() -> None:
    showers = 1 + 0.5 * torch.randn(4096, 1, generator=torch.Generator().manual_seed(1))
    model = build(GaussianWgan)
    adam = {"lr": 0.01, "betas": [0.0, 0.9], "decay": "cosine"}
    optimisers = {"default": adam, "critic": {"lr": 0.03}}
    how = settings(300, batch_size=128, ema_decay=0.95, optimisers=optimisers)
    Engine(model, TensorSource(showers, torch.zeros(4096, 0)), how).run()
    assert isinstance(model, GaussianWgan)
    assert model.generator.bias.item() == pytest.approx(1.0, abs=0.1)
    assert abs(model.generator.weight.item()) == pytest.approx(0.5, abs=0.1)


def test_phases_reach_their_closed_forms() -> None:
    source, model = data_4d(), build(TwoPhases)
    assert isinstance(model, TwoPhases)
    how = settings(300, 200, optimisers={"default": {"lr": 0.02, "decay": "cosine"}, "spread": {"lr": 0.1}})
    engine = Engine(model, source, how)
    engine.run()
    # The best linear code of one number is the first principal component: what is left are the other eigenvalues.
    values = torch.linalg.eigvalsh(source.showers.T @ source.showers / len(source))
    left = float(values[:-1].sum())
    with torch.no_grad():
        loss = float(model.reconstruct(Batch(source.showers, source.condition, torch.Generator(), torch.ones(1))))
    assert loss == pytest.approx(left, rel=0.02)
    assert model.spread.weight.item() == pytest.approx(float(values[-1].log() / 2), abs=0.05)
    assert engine.iteration == engine.total == 500
    assert [row["iteration"] for row in engine.history.rows] == list(range(10, 501, 10))


# -- the contract with the model -------------------------------------------------------------------------------


def test_others_are_frozen_and_each_step_sees_a_new_batch() -> None:
    model = build(TwoPhases)
    assert isinstance(model, TwoPhases)
    before = build(TwoPhases)
    Engine(model, data_4d(), settings(2, 2)).run()
    first, second = model.seen[:4], model.seen[4:]
    assert all(seen["free"] == {"encoder", "decoder"} for seen in first)
    assert all(seen["free"] == {"spread"} for seen in second)
    assert first[0]["modes"] == {"encoder": True, "decoder": True, "noisy": True, "spread": False}
    assert second[0]["modes"] == {"encoder": False, "decoder": False, "noisy": False, "spread": True}
    assert len({tuple(seen["first"].tolist()) for seen in model.seen}) == len(model.seen) == 6
    assert all(p.requires_grad for p in model.parameters())
    assert not same(model, before)


def test_each_phase_has_its_own_batch_size() -> None:
    model = build(TwoPhases)
    assert isinstance(model, TwoPhases)
    given = {"phases": [{"steps": 2, "batch_size": 64}, {"steps": 2}], "batch_size": 16}
    Engine(model, data_4d(), TrainingSettings.model_validate(given)).run()
    assert [seen["len"] for seen in model.seen] == [64, 64, 64, 64, 16, 16]
    given["phases"] = [{"steps": 1}, {"steps": 1, "batch_size": 1000}]
    with pytest.raises(CaloforgeError, match="do not fill one batch of 1000"):
        Engine(build(TwoPhases), data_4d(), TrainingSettings.model_validate(given))


def test_frozen_parameters_do_not_move() -> None:
    model, before = build(TwoPhases), build(TwoPhases)
    phases = model.phases()
    model.phases = lambda: phases[1:]  # type: ignore[method-assign]
    Engine(model, data_4d(), settings(5)).run()
    assert isinstance(model, TwoPhases)
    assert isinstance(before, TwoPhases)
    for part in ("encoder", "decoder", "noisy"):
        assert same(getattr(model, part), getattr(before, part))
    assert not same(model.spread, before.spread)


def test_runs_leave_no_trace_in_global_randomness() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Engine(build(TwoPhases), data_4d(), settings(2, 1)).run()
    assert torch.equal(torch.rand(3), expected)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_validation_is_reported_and_changes_nothing() -> None:
    plain, watched = build(TwoPhases), build(TwoPhases)
    Engine(plain, data_4d(), settings(20, 20)).run()
    engine = Engine(watched, data_4d(), settings(20, 20), validation=data_4d(64))
    engine.run()
    assert same(plain, watched)
    assert set(engine.history.rows[0]["validation"]) == {"autoencoder", "noisy"}


@pytest.mark.parametrize(("kept", "batch", "seen"), [(3, 32, 3), (50, 32, 50), (1000, 32, 128), (1000, 200, 200)])
def test_validation_looks_at_many_from_end_to_end(kept: int, batch: int, seen: int) -> None:
    rows: list[int] = []

    class Recorded(TensorSource):
        def take(self, some: Rows) -> Example:
            rows.extend(some.tolist())
            assert len(some) <= batch
            return super().take(some)

    data = data_4d(kept)
    engine = Engine(
        build(TwoPhases), data_4d(), settings(1, 1, batch_size=batch), validation=Recorded(data.showers, data.condition)
    )
    engine.run()
    first = rows[: len(rows) // len(engine.history.rows)]
    assert len(first) == len(set(first)) == seen
    assert (first[0], first[-1]) == (0, kept - 1)


def test_seed_decides() -> None:
    models = [build(GaussianWgan) for _ in range(3)]
    source = TensorSource(torch.randn(256, 1, generator=torch.Generator().manual_seed(0)), torch.zeros(256, 0))
    for model, seed in zip(models, (1, 1, 2), strict=True):
        Engine(model, source, settings(10, seed=seed)).run()
    assert same(models[0], models[1])
    assert not same(models[0], models[2])


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop"])
def test_all_optimisers_learn(name: str) -> None:
    how = {"default": {"name": name, "lr": 0.01, "momentum": 0.5, "warmup": 3, "decay": "linear"}}
    engine = Engine(build(TwoPhases), data_4d(), settings(60, 1, optimisers=how, gradient_clip=5.0))
    engine.run()
    losses = [row["losses"]["autoencoder"] for row in engine.history.rows if row["phase"] == 0]
    assert losses[-1] < 0.7 * losses[0]


def test_gradient_clip_bounds_the_step() -> None:
    model, before = build(TwoPhases), build(TwoPhases)
    sgd = {"default": {"name": "sgd", "lr": 1.0}}
    Engine(model, data_4d(), settings(1, 1, optimisers=sgd, gradient_clip=0.01)).run()
    moved = torch.cat([(a - b).flatten() for a, b in zip(model.parameters(), before.parameters(), strict=True)])
    assert float(moved.detach().norm()) <= 0.01 * 4 + 1e-6


def test_bf16_trains() -> None:
    engine = Engine(build(TwoPhases), data_4d(), settings(2, 1), fabric=None)
    assert engine.fabric.device.type == "cpu"
    low = Engine(build(TwoPhases), data_4d(), settings(3, 1, precision="bf16"))
    low.run()
    assert np.isfinite(low.history.rows[-1]["losses"]["spread"])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (settings(1), "has 1 training.phases, the model has 2 .0: autoencoder, noisy; 1: spread"),
        (settings(1, 1, batch_size=1000), "do not fill one batch of 1000"),
        (settings(1, 1, optimisers={"spred": {}}), "did you mean 'spread'"),
    ],
)
def test_settings_that_do_not_fit(how: TrainingSettings, said: str) -> None:
    with pytest.raises(CaloforgeError, match=said):
        Engine(build(TwoPhases), data_4d(), how)


# -- average, schedule, order ----------------------------------------------------------------------------------


def test_average_has_its_closed_form() -> None:
    x, count, d = torch.zeros(3, dtype=torch.float64), torch.tensor(0), 0.9
    average = Average({"x": x, "count": count}, d)
    values = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for value in values:
        x.copy_(value)
        count += 1
        average.update()
    powers = d ** torch.arange(19, -1, -1, dtype=torch.float64)
    assert torch.allclose(average.tensors["x"], powers @ values / powers.sum(), rtol=1e-12)
    average.apply()
    assert torch.equal(x, average.tensors["x"])
    assert int(count) == 20


def test_engine_averages_only_what_generates() -> None:
    live: list[Tensor] = []
    model = build(TwoPhases)
    assert isinstance(model, TwoPhases)
    twin = build(TwoPhases)
    assert isinstance(twin, TwoPhases)
    decoder = model.decoder.weight
    how = {"optimisers": {"default": {"lr": 0.01}}}

    def progress(done: int, total: int, note: str = "") -> None:
        live.append(decoder.detach().clone())

    Engine(model, data_4d(), settings(8, 1, ema_decay=0.8, **how), progress=progress).run()
    powers = 0.8 ** torch.arange(7, -1, -1.0)
    expected = (powers[:, None, None] * torch.stack(live[:8])).sum(0) / powers.sum()
    assert torch.allclose(decoder, expected, atol=1e-6)
    Engine(twin, data_4d(), settings(8, 1, **how)).run()
    assert torch.equal(model.encoder.weight, twin.encoder.weight)
    assert torch.equal(twin.decoder.weight, live[7])


@pytest.mark.parametrize(
    ("decay", "middle"), [("constant", 1.0), ("linear", 0.55), ("cosine", 0.55), ("exponential", 0.1**0.5)]
)
def test_schedule(decay: str, middle: float) -> None:
    how = OptimiserSettings.model_validate({"lr": 2.0, "warmup": 4, "decay": decay, "final": 0.1})
    rates = [learning_rate(how, i, 104) for i in range(105)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4] == 2.0
    assert rates[54] == pytest.approx(2 * middle)
    assert rates[104] == pytest.approx(2.0 if decay == "constant" else 0.2)


def test_order_is_a_permutation_each_epoch() -> None:
    order, again = BatchOrder(103, 10, seed=3), BatchOrder(103, 10, seed=3)
    batches = [order.rows(n) for n in range(30)]
    for epoch in range(3):
        seen = np.concatenate(batches[10 * epoch : 10 * epoch + 10])
        assert len(np.unique(seen)) == 100
    assert not np.array_equal(batches[0], batches[10])
    assert np.array_equal(again.rows(25), batches[25])
    assert not np.array_equal(BatchOrder(103, 10, seed=4).rows(0), batches[0])


def test_prefetcher_hands_on_what_goes_wrong() -> None:
    class Broken(TensorSource):
        def take(self, rows: Any) -> Any:
            raise CaloforgeError("no")

    source = Broken(torch.zeros(8, 1), torch.zeros(8, 0))
    with Prefetcher(source, BatchOrder(8, 4, 0), 0, 2) as ready, pytest.raises(CaloforgeError, match="no"):
        ready.next()


# -- state, stopping, resuming ---------------------------------------------------------------------------------


def without_clock(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in ("seconds", "waiting")} for row in rows]


def stopping_at(*moments: int) -> Callable[[int, int, str], None]:
    def progress(done: int, total: int, note: str = "") -> None:
        if done in moments:
            os.kill(os.getpid(), signal.SIGINT)

    return progress


@pytest.mark.parametrize("name", ["adam", "sgd"])
@pytest.mark.parametrize("moments", [(7,), (20, 33), (1, 2, 23, 39)])
def test_stopping_and_resuming_changes_nothing(name: str, moments: tuple[int, ...], tmp_path: Path) -> None:
    optimisers = {"default": {"name": name, "lr": 0.01, "momentum": 0.9, "decay": "cosine"}}
    how = settings(22, 18, ema_decay=0.9, save_every=1000, optimisers=optimisers)
    whole = build(TwoPhases)
    reference = Engine(whole, data_4d(), how)
    reference.run()
    state: State | None = None
    for stop in (*moments, None):
        model = build(TwoPhases, seed=stop or 99)  # the weights come from the state
        if state is None:
            model = build(TwoPhases)
        progress = stopping_at(stop) if stop else stopping_at()
        engine = Engine(model, data_4d(), how, folder=tmp_path, progress=progress)
        if stop:
            with pytest.raises(TrainingStopped, match=f"iteration {stop} of 40; its state is saved"):
                engine.run(state)
        else:
            engine.run(state)
        state = State.read(tmp_path / "state.safetensors")
    assert same(model, whole)
    assert without_clock(engine.history.rows) == without_clock(reference.history.rows)
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert without_clock(lines) == without_clock(reference.history.rows)


class Diverging(Toy):
    """Becomes NaN in iteration 15: its loss, or only its weights."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.good, self.bad, self.where, self.count = nn.Linear(1, 1), nn.Linear(1, 1), where, 0

    def phases(self) -> Sequence[Sequence[Objective]]:
        return [[Objective("good", [self.good], self.fine), Objective("bad", [self.bad], self.diverge)]]

    def fine(self, batch: Batch) -> Tensor:
        return self.good(batch.showers[:, :1]).square().mean()  # type: ignore[no-any-return]

    def diverge(self, batch: Batch) -> Tensor:
        self.count += 1
        loss: Tensor = self.bad(batch.showers[:, :1]).square().mean()
        if self.count < 15:
            return loss
        root = (loss * 0).sqrt()  # finite, its gradient is not
        return loss * float("inf") if self.where == "loss" else loss + root


@pytest.mark.parametrize(("where", "said"), [("loss", "loss of objective 'bad' became inf in iteration 15"),
                                             ("weight", "'bad'.* became nan in iteration 16")])  # fmt: skip
def test_divergence_keeps_the_last_good_state(where: str, said: str, tmp_path: Path) -> None:
    engine = Engine(Diverging(where), data_4d(), settings(40, save_every=6), folder=tmp_path)
    with pytest.raises(CaloforgeError, match=said) as caught:
        engine.run()
    assert "training.optimisers.bad.lr=" in str(caught.value)
    state = State.read(tmp_path / "state.safetensors")
    assert state.data["iteration"] == 12
    assert all(torch.isfinite(t).all() for t in state.tensors.values())


def test_bad_weights_are_never_saved(tmp_path: Path) -> None:
    engine = Engine(Diverging("weight"), data_4d(), settings(15, save_every=6), folder=tmp_path)
    with pytest.raises(CaloforgeError, match=r"weight 'bad\.weight' is no longer finite in iteration 15"):
        engine.run()
    assert State.read(tmp_path / "state.safetensors").data["iteration"] == 12


def test_damaged_state_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    state = State(data={"iteration": 3})
    state.put("model", {"w": torch.arange(4.0)})
    state.write(path)
    assert torch.equal(State.read(path).get("model")["w"], torch.arange(4.0))
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(CaloforgeError, match="--overwrite"):
            State.read(path)
    path.write_bytes(whole.replace(b"caloforge", b"caloforgf"))
    with pytest.raises(CaloforgeError, match="--overwrite"):
        State.read(path)


def test_history_drops_what_a_crash_left(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = History(path)
    for i in (10, 20, 30):
        history.append({"iteration": i, "seconds": i / 10})
    with path.open("a") as file:
        file.write('{"iteration": 40, "sec')
    again = History(path).rewind(20)
    assert [row["iteration"] for row in again.rows] == [10, 20]
    assert again.seconds == 2.0
    again.append({"iteration": 30, "seconds": 3.1})
    assert [json.loads(line)["iteration"] for line in path.read_text().splitlines()] == [10, 20, 30]
