"""The training engine: runs the phases and objectives of any model; knows none.

All randomness of iteration i is drawn from (seed, i, process), and the showers in batch n from (seed, n): stopping and
resuming changes nothing, to the last bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ..errors import CaloforgeError
from ..models.base import Batch, GenerativeModel, Objective
from ..progress import Progress, silent
from .average import Average
from .batches import BatchOrder, Example, Prefetcher, Source
from .history import History
from .launched import Launch
from .meeting import mean_over_processes, meet, share_gradients
from .optimisers import build_optimiser, learning_rate
from .phases import Phase, plan_phases, set_modes
from .processes import fabric_for
from .settings import OptimiserSettings, TrainingSettings
from .signals import stop_requests
from .state import State

STATE, HISTORY = "state.safetensors", "history.jsonl"
_NOISE, _VALIDATION = 0, 1
_VALIDATED = 128  # showers, or a batch if that is more: a small batch alone tells little


class TrainingStopped(KeyboardInterrupt):
    """The training was asked to stop by Ctrl-C or a termination signal; its state is saved."""


class Engine:
    """Trains a `GenerativeModel` by its phases and objectives.

    Within a phase each iteration runs the objectives in order; each of their steps sees a new batch. Parameters
    outside the running objective are frozen. Networks that no objective of the phase trains are in evaluation mode.
    A running average of the weights that generation uses is kept; they take their averaged values at the end of each
    phase, so that a later phase sees what generation will use.

    Args:
        model: on the device of ``fabric``.
        source: training showers, on the same device.
        settings: the section ``[training]``.
        fabric: devices, precision and processes; one CPU process if not given.
        folder: where the state and the history are kept; nowhere if not given.
        identity: plain data that a resumed training must share (model, data); kept in the state.
        validation: showers kept apart, whose losses go into the history.
        progress: told of each iteration.

    Attributes:
        iteration: number of iterations done.
        history: losses and timing, see `History`.

    Raises:
        CaloforgeError: if the settings do not fit the model or the data.
    """

    def __init__(
        self,
        model: GenerativeModel,
        source: Source,
        settings: TrainingSettings,
        *,
        fabric: Fabric | None = None,
        folder: Path | None = None,
        identity: Mapping[str, Any] | None = None,
        validation: Source | None = None,
        progress: Progress = silent,
    ) -> None:
        self.model = model
        self.settings = settings
        self.fabric = fabric or fabric_for("cpu", settings.precision)
        self.phases = plan_phases(model, settings)
        self.iteration = 0
        self._source, self._validation, self._progress = source, validation, progress
        self._identity = dict(identity or {})
        self._trainable = [p for p in model.parameters() if p.requires_grad]
        for phase in self.phases:
            _check_sizes(len(source), phase.batch_size, self.fabric.world_size)
        self._state_path = folder / STATE if folder and self.fabric.is_global_zero else None
        self.history = History(folder / HISTORY if folder and self.fabric.is_global_zero else None)
        self._rng = torch.Generator(self.fabric.device)
        self._moves: dict[str, OptimiserSettings] = {}
        self._optimisers: dict[str, torch.optim.Optimizer] = {}
        self._average: Average | None = None
        self._losses: list[Tensor] = []  # of the iterations since the last row of the history
        self._note = ""

    @property
    def total(self) -> int:
        """Number of iterations of the whole training."""
        return self.phases[-1].stop

    def run(self, state: State | None = None) -> None:
        """Train to the end.

        Args:
            state: where an earlier training of the same model on the same data stopped; the start if not given.

        Raises:
            TrainingStopped: if it was asked to stop; the state is saved.
            CaloforgeError: if a loss or a weight is no longer finite, or the folder cannot be written.
        """
        devices = [self.fabric.device] if self.fabric.device.type == "cuda" else []
        with torch.random.fork_rng(devices), stop_requests(patient=Launch.found() is not None) as stop:
            self.iteration = int(state.data["iteration"]) if state else 0
            self.history.rewind(self.iteration)
            if state:
                self.model.load_state_dict(state.get("model"))
            try:
                for phase in self.phases:
                    if self.iteration < phase.stop:
                        self._run_phase(phase, state if self.iteration > phase.start else None, stop)
            finally:
                for parameter in self._trainable:
                    parameter.requires_grad_(True)
            self._progress(self.total, self.total, self._note)

    # -- one phase -----------------------------------------------------------------------------------------

    def _run_phase(self, phase: Phase, state: State | None, stop: Callable[[], bool]) -> None:
        self._enter(phase)
        if state:
            self._restore(state)
        world, rank = self.fabric.world_size, self.fabric.global_rank
        batches = (phase.first_batch(self.iteration), phase.first_batch(phase.stop))
        order = BatchOrder(len(self._source), phase.batch_size, self.settings.seed)
        with Prefetcher(self._source, order, *batches, part=slice(rank, None, world)) as ready:
            clock = _Clock(self.history.seconds, ready)
            while self.iteration < phase.stop:
                self._losses.append(self._iterate(phase, ready.next))
                self.iteration += 1
                if self.iteration % self.settings.log_every == 0 or self.iteration == phase.stop:
                    self._log(phase, clock)
                self._progress(self.iteration, self.total, self._note)
                if self.iteration < phase.stop:
                    self._pause(phase, stop)
        self._leave(phase)

    def _enter(self, phase: Phase) -> None:
        """Make the optimisers and the average of a phase and set which networks learn."""
        set_modes(self.model, phase.trained)
        self._moves = {o.name: self.settings.optimiser(o.name) for o in phase.objectives}
        self._optimisers = {name: build_optimiser(phase.parameters[name], how) for name, how in self._moves.items()}
        averaged = phase.averaged(self.model) if self.settings.ema_decay else {}
        self._average = Average(averaged, self.settings.ema_decay) if averaged else None
        self._losses = []

    def _leave(self, phase: Phase) -> None:
        """End a phase: the generation weights take their averaged values."""
        if self._average:
            self._average.apply()
        self._optimisers, self._average = {}, None
        self._save(phase)

    def _pause(self, phase: Phase, stop: Callable[[], bool]) -> None:
        """Between two iterations: save the state if it is time, stop if asked."""
        asked = stop()
        if self.fabric.world_size > 1:
            flag = torch.tensor(float(asked), device=self.fabric.device)
            asked = bool(mean_over_processes(self.fabric, flag) > 0)
        if asked or self.iteration % self.settings.save_every == 0:
            self._save(phase)
        if asked:
            kept = "; its state is saved, go on with --resume" if self._state_path else ""
            raise TrainingStopped(f"training was stopped at iteration {self.iteration} of {self.total}{kept}.")

    # -- one iteration -------------------------------------------------------------------------------------

    def _iterate(self, phase: Phase, next_batch: Callable[[], Example]) -> Tensor:
        """One iteration; returns the mean loss of each objective (n_objectives,)."""
        self._seed(_NOISE)
        losses = []
        for objective in phase.objectives:
            rate = learning_rate(self._moves[objective.name], self.iteration - phase.start, phase.steps)
            for group in self._optimisers[objective.name].param_groups:
                group["lr"] = rate
            self._freeze_others(phase.parameters[objective.name])
            steps = [self._step(phase, objective, next_batch()) for _ in range(objective.steps)]
            losses.append(torch.stack(steps).mean())
        if self._average:
            self._average.update()
        return torch.stack(losses)

    def _step(self, phase: Phase, objective: Objective, example: Example) -> Tensor:
        optimiser, parameters = self._optimisers[objective.name], phase.parameters[objective.name]
        optimiser.zero_grad(set_to_none=True)
        with self.fabric.autocast():
            loss = objective.loss(Batch(example.showers, example.condition, self._rng, example.weight))
        self.fabric.backward(loss)
        share_gradients(self.fabric, parameters)
        if self.settings.gradient_clip is not None:
            nn.utils.clip_grad_norm_(parameters, self.settings.gradient_clip)
        optimiser.step()
        return loss.detach().float()

    def _freeze_others(self, parameters: Sequence[nn.Parameter]) -> None:
        own = {id(p) for p in parameters}
        for parameter in self._trainable:
            parameter.requires_grad_(id(parameter) in own)

    def _seed(self, purpose: int) -> None:
        """Set all sources of randomness from (seed, iteration, process), also torch's own, which dropout uses."""
        key = [self.settings.seed, self.iteration, self.fabric.global_rank, purpose]
        noise, hidden = np.random.SeedSequence(key).generate_state(2, np.uint64)
        self._rng.manual_seed(int(noise) >> 1)
        torch.manual_seed(int(hidden) >> 1)

    # -- history, state and trouble ------------------------------------------------------------------------

    def _log(self, phase: Phase, clock: _Clock) -> None:
        """Average the losses since the last row, check them, write a row."""
        losses = self._take_losses(phase)
        names = [o.name for o in phase.objectives]
        row: dict[str, Any] = {"iteration": self.iteration, "phase": phase.number}
        row["losses"] = dict(zip(names, losses.mean(0).tolist(), strict=True))
        if self._validation is not None:
            row["validation"] = self._validate(phase, self._validation)
        row |= clock.read()
        self.history.append(row)
        self._losses = []
        self._note = ", ".join(f"{name} {value:.4g}" for name, value in row["losses"].items())

    def _take_losses(self, phase: Phase) -> Tensor:
        """The losses (iterations, objectives) since the last row, over all processes.

        Raises:
            CaloforgeError: if one is not finite.
        """
        losses = mean_over_processes(self.fabric, torch.stack(self._losses))
        bad = (~torch.isfinite(losses)).nonzero()
        if len(bad):
            when, which = bad[0].tolist()
            number = self.iteration - len(losses) + when + 1
            self._give_up(
                f"the loss of objective '{phase.objectives[which].name}' became "
                f"{losses[when, which].item()} in iteration {number}",
                phase.objectives[which].name,
            )
        return losses.cpu()

    def _validate(self, phase: Phase, source: Source) -> dict[str, float]:
        """Losses on showers kept apart, in evaluation mode; nothing is trained."""
        n = min(len(source), max(phase.batch_size, _VALIDATED))
        rows = np.linspace(0, len(source) - 1, n).astype(np.int64)  # of all files, which lie one behind the other
        self._seed(_VALIDATION)
        self.model.eval()
        losses = dict.fromkeys((objective.name for objective in phase.objectives), 0.0)
        for some in np.array_split(rows, -(-n // phase.batch_size)):
            example = source.take(some)
            for objective in phase.objectives:
                self._freeze_others(phase.parameters[objective.name])
                with self.fabric.autocast():
                    loss = objective.loss(Batch(example.showers, example.condition, self._rng, example.weight))
                losses[objective.name] += float(loss.detach()) * len(some) / n
        set_modes(self.model, phase.trained)
        return losses

    def _save(self, phase: Phase) -> None:
        if self._losses:
            self._take_losses(phase)
        for name, tensor in self.model.state_dict().items():
            if not torch.isfinite(tensor).all():
                owners = [o.name for o in phase.objectives if _owns(o, self.model, name)] or [phase.objectives[0].name]
                self._give_up(f"weight '{name}' is no longer finite in iteration {self.iteration}", owners[0])
        if self._state_path is not None:
            self._state().write(self._state_path)
        meet(self.fabric)

    def _state(self) -> State:
        state = State(data={"iteration": self.iteration, "identity": self._identity})
        state.put("model", self.model.state_dict())
        for name, optimiser in self._optimisers.items():
            state.put_optimiser(f"optimiser.{name}", optimiser)
        if self._average:
            state.put("average", self._average.tensors)
            state.data["averaged"] = self._average.count
        if self._losses:
            state.put("history", {"losses": torch.stack(self._losses)})
        return state

    def _restore(self, state: State) -> None:
        for name, optimiser in self._optimisers.items():
            state.load_optimiser(f"optimiser.{name}", optimiser)
        if self._average:
            self._average.load(state.get("average"), state.data["averaged"])
        losses = state.get("history").get("losses")
        self._losses = [] if losses is None else list(losses.to(self.fabric.device))

    def _give_up(self, what: str, objective: str) -> None:
        kept = " (the last good state is kept)" if self._state_path and self._state_path.exists() else ""
        rate = self.settings.optimiser(objective).lr
        clip = "" if self.settings.gradient_clip else " or clip gradients with --set training.gradient_clip=1"
        raise CaloforgeError(
            f"{what}: the training diverged{kept}; start again with a lower learning rate, "
            f"--set training.optimisers.{objective}.lr={rate / 3:.1g},{clip}, or look at the data and its transforms."
        )


class _Clock:
    """Time since the start of the training and the part of it spent waiting for data."""

    def __init__(self, before: float, batches: Prefetcher) -> None:
        self._before, self._batches = before, batches
        self._began = self._last = time.perf_counter()
        self._waited = 0.0

    def read(self) -> dict[str, float]:
        now, waited = time.perf_counter(), self._batches.waited
        part = (waited - self._waited) / max(now - self._last, 1e-9)
        self._last, self._waited = now, waited
        return {"seconds": round(self._before + now - self._began, 3), "waiting": round(part, 4)}


def _owns(objective: Objective, model: nn.Module, name: str) -> bool:
    parameter = dict(model.named_parameters()).get(name)
    return any(parameter is p for module in objective.modules for p in module.parameters())


def _check_sizes(n_showers: int, batch_size: int, processes: int) -> None:
    if n_showers < batch_size:
        raise CaloforgeError(
            f"{n_showers} showers to train on do not fill one batch of {batch_size}; give more showers or a smaller "
            "batch, e.g. --set training.batch_size=32."
        )
    if batch_size % processes:
        raise CaloforgeError(
            f"a batch of {batch_size} showers cannot be shared equally by {processes} processes; "
            f"make training.batch_size a multiple of {processes}."
        )
