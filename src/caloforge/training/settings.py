"""What a training configuration may say and what it means.

The sections of a file such as ``configs/lhcb-wgan.toml``: ``[model]``, ``[data]``, ``[[transform]]``, ``[training]``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from ..config import Choice, Section
from ..errors import CaloforgeError, lookup
from ..incident import CONDITIONS

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]

DEFAULT = "default"
"""Name of the optimiser table from which all objectives inherit."""


class OptimiserSettings(Section):
    """How one objective moves its parameters.

    Attributes:
        name: the method.
        lr: learning rate after warm-up and before decay.
        betas: forgetting factors of Adam's first and second moments ("adam", "adamw").
        momentum: of "sgd" and "rmsprop".
        weight_decay: shrinking of the weights (decoupled for "adamw").
        warmup: iterations over which the learning rate rises linearly from zero at the start of a phase.
        decay: course of the learning rate over the rest of the phase.
        final: learning rate at the end of the phase as a fraction of ``lr``; not used if constant.
    """

    name: Literal["adam", "adamw", "sgd", "rmsprop"] = "adam"
    lr: Positive = 1e-4
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = Field(default_factory=lambda: [0.9, 0.999])
    momentum: Fraction = 0.0
    weight_decay: NotNegative = 0.0
    warmup: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    decay: Literal["constant", "linear", "cosine", "exponential"] = "constant"
    final: Annotated[float, Field(gt=0, le=1)] = 0.01


class PhaseSettings(Section):
    """One phase of the model's training; a model says how many it has.

    Attributes:
        steps: iterations; in each, every objective of the phase makes its steps, each on a new batch. None for a phase
            that a training from another's weights leaves out.
        batch_size: showers in a batch of this phase; ``training.batch_size`` if left out.
    """

    steps: Annotated[int, Field(ge=0, le=1_000_000_000)]
    batch_size: Count | None = None


class TrainingSettings(Section):
    """The section ``[training]``.

    Attributes:
        phases: one entry for each phase of the model, in order.
        seed: of the initial weights, the order of the data and all noise.
        batch_size: showers in a batch, over all processes.
        optimisers: settings by objective name; what one leaves out is taken from ``default``.
        ema_decay: how much of the average of the generation weights each iteration keeps; 0 keeps no average.
        gradient_clip: largest norm of the gradient of one objective; none if left out.
        precision: "32" (float32) or "bf16" (mixed bfloat16, for GPUs that have it).
        anew: parts of the model, by the names of their tensors, that begin with random weights though the training
            begins with another's.
        log_every: iterations that one row of the history averages.
        save_every: iterations between two saved states.
    """

    phases: Annotated[list[PhaseSettings], Field(min_length=1)]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    batch_size: Count = 128
    optimisers: dict[str, OptimiserSettings] = Field(default_factory=dict)
    ema_decay: Fraction = 0.0
    gradient_clip: Positive | None = None
    precision: Literal["32", "bf16"] = "32"
    anew: list[str] = Field(default_factory=list)
    log_every: Count = 50
    save_every: Count = 1000

    @field_validator("optimisers")
    @classmethod
    def _inherit(cls, given: dict[str, OptimiserSettings]) -> dict[str, OptimiserSettings]:
        """Complete each objective's settings by the default ones, so that each says all."""
        default = given[DEFAULT].model_dump(exclude_unset=True) if DEFAULT in given else {}
        merged = {name: default | own.model_dump(exclude_unset=True) for name, own in given.items()}
        return {name: OptimiserSettings.model_validate(settings) for name, settings in merged.items()}

    def optimiser(self, objective: str) -> OptimiserSettings:
        """The settings of one objective."""
        return self.optimisers.get(objective) or self.optimisers.get(DEFAULT) or OptimiserSettings()


class DataSettings(Section):
    """The section ``[data]``.

    Attributes:
        conditions: what the model is conditioned on, names of `caloforge.incident.CONDITIONS`; none for models of image
            pairs, whose condition is the fast image.
        validation: fraction of the showers kept apart; the losses on them go into the history.
        max_showers: showers or image pairs read from the file; all if left out.
    """

    conditions: list[str] = Field(default_factory=list)
    validation: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    max_showers: Count | None = None

    @field_validator("conditions")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            try:
                lookup(CONDITIONS, name, "a condition")
            except CaloforgeError as error:
                raise ValueError(str(error)) from None
        if len(set(names)) < len(names):
            raise ValueError(f"the conditions {', '.join(names)} name one twice")
        return names


class BoostingSettings(Section):
    """The section ``[boosting]``: how AdaGAN (arXiv 1701.02386) trains the components of its mixture.

    Attributes:
        components: how many, the first one included.
        beta: share of each new component: a number, or "uniform" (1 / number of components so far).
        steps: of the training of each mixture discriminator.
        width: of its networks.
        lr: its learning rate.
        folds: parts the showers are split in: a discriminator gives its opinion of showers it was not trained on; 1
            trains on all and judges all, as the paper does, and calls what it learnt by heart missed by the mixture.
    """

    components: Annotated[int, Field(ge=1, le=100)] = 5
    beta: Annotated[float, Field(gt=0, lt=1)] | Literal["uniform"] = "uniform"
    steps: Count = 500
    width: Annotated[int, Field(ge=1, le=4096)] = 16
    lr: Positive = 1e-3
    folds: Annotated[int, Field(ge=1, le=20)] = 2


class TrainConfig(Section):
    """A whole training configuration.

    Attributes:
        model: name in `caloforge.models.MODELS` and its options.
        data: what the model sees of the showers.
        transform: steps from voxel energies in MeV to what the model learns, in order.
        training: how it learns; with ``boosting``, how each component does.
        boosting: for the model "adagan".
    """

    model: Choice
    data: DataSettings
    transform: list[Choice] = Field(default_factory=list)
    training: TrainingSettings
    boosting: BoostingSettings | None = None

    @property
    def transform_options(self) -> list[dict[str, Any]]:
        """The steps as `caloforge.transforms.build_transform` takes them."""
        return [{"name": step.name, **step.options} for step in self.transform]
