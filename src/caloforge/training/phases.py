"""What a phase of training means for a model: its place among the iterations and the parameters it moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ..errors import CaloforgeError, lookup
from ..models.base import GenerativeModel, Objective
from .settings import DEFAULT, TrainingSettings


@dataclass(frozen=True)
class Phase:
    """A phase placed in the training.

    Attributes:
        number: 0, 1, ...
        objectives: what alternates in each iteration.
        parameters: what each objective moves, by its name.
        start: iterations done before the phase.
        steps: iterations of the phase.
        batches_before: batches used before the phase.
        batch_size: showers in a batch, over all processes.
    """

    number: int
    objectives: Sequence[Objective]
    parameters: dict[str, list[nn.Parameter]]
    start: int
    steps: int
    batches_before: int
    batch_size: int

    @property
    def stop(self) -> int:
        """Iterations done after the phase."""
        return self.start + self.steps

    @property
    def trained(self) -> set[int]:
        """Identities of all parameters that the phase moves."""
        return {id(p) for parameters in self.parameters.values() for p in parameters}

    def first_batch(self, iteration: int) -> int:
        """Number of the first batch of an iteration of this phase."""
        return self.batches_before + (iteration - self.start) * sum(o.steps for o in self.objectives)

    def averaged(self, model: GenerativeModel) -> dict[str, Tensor]:
        """Weights and buffers by name that both this phase trains and generation uses."""
        found: dict[str, Tensor] = {}
        names = {id(module): name for name, module in model.named_modules()}
        for part in model.generation_modules():
            for name, module in part.named_modules():
                own = list(module.parameters(recurse=False))
                if not any(id(p) in self.trained for p in own):
                    continue
                path = names[id(part)] + ("." if names[id(part)] and name else "") + name
                tensors = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
                found |= {f"{path}.{key}".lstrip("."): tensor for key, tensor in tensors.items()}
        return found


def plan_phases(model: GenerativeModel, settings: TrainingSettings) -> list[Phase]:
    """Place the phases of a model in the training.

    Raises:
        CaloforgeError: if the settings have another number of phases or name an objective that the model has not.
    """
    all_objectives = model.phases()
    told = "; ".join(f"{i}: {', '.join(o.name for o in phase)}" for i, phase in enumerate(all_objectives))
    if len(all_objectives) != len(settings.phases):
        raise CaloforgeError(
            f"the configuration has {len(settings.phases)} training.phases, the model has {len(all_objectives)} "
            f"({told}); give one [[training.phases]] each."
        )
    if not any(given.steps for given in settings.phases):
        raise CaloforgeError("all training.phases have 0 steps; give at least one of them some.")
    known = {o.name: None for phase in all_objectives for o in phase} | {DEFAULT: None}
    for name in settings.optimisers:
        lookup(known, name, "an objective")
    phases: list[Phase] = []
    start = batches = 0
    for number, (objectives, given) in enumerate(zip(all_objectives, settings.phases, strict=True)):
        parameters = {o.name: _parameters(o) for o in objectives}
        assert objectives and len(parameters) == len(objectives), "objectives of one phase need different names"
        size = given.batch_size or settings.batch_size
        phases.append(Phase(number, objectives, parameters, start, given.steps, batches, size))
        start, batches = start + given.steps, phases[-1].first_batch(start + given.steps)
    return phases


def set_modes(model: nn.Module, trained: set[int]) -> None:
    """Put networks with trained parameters in training mode, those whose parameters all rest in evaluation mode."""
    parameters = [id(p) for p in model.parameters()]
    if parameters and trained.isdisjoint(parameters):
        model.eval()
        return
    model.training = True
    for child in model.children():
        set_modes(child, trained)


def _parameters(objective: Objective) -> list[nn.Parameter]:
    """The parameters an objective moves, each once."""
    found = {id(p): p for module in objective.modules for p in module.parameters() if p.requires_grad}
    assert found, f"objective '{objective.name}' has nothing to train"
    return list(found.values())
