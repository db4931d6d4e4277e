"""AdaGAN on shower files (arXiv 1701.02386): an ordinary training a component, and the mixture's checkpoint.

The run folder holds a run folder of each component, ``weights-NN.npy`` with what each of them saw of the training
showers, ``boosting.jsonl`` with what the mixture discriminators found, and at the end ``model.safetensors``. What is
finished is not done again: a killed run resumes at the component it was in.
"""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..checkpoint import Checkpoint, generation_state
from ..config import Choice
from ..errors import CaloforgeError, lookup
from ..jets.pairs import PairFiles
from ..models import MODELS, GenerativeModel
from ..progress import Progress
from .boosting import Floats, beta_of, boost, boosting_weights, mixture_shares
from .data import TrainingData, model_for, read_showers
from .discriminate import Opinion, opinion_of
from .job import CHECKPOINT, CONFIG, Job, check_same, open_folder
from .settings import BoostingSettings, TrainConfig
from .state import replace_file

IDENTITY, FOUND = "identity.json", "boosting.jsonl"


def train_adagan(job: Job, progress: Progress) -> Path:
    """Boost the component of a configuration; returns the path of the mixture's checkpoint.

    Raises:
        CaloforgeError: if the configuration, the data or the folder cannot be used, or a training diverged.
        TrainingStopped: if it was stopped by Ctrl-C; what is finished and the running component's state are saved.
    """
    if not isinstance(job.config.model.options.get("component"), str):
        raise CaloforgeError(
            f"the model 'adagan' needs model.component, the name of a model; choose one of: "
            f"{', '.join(name for name in MODELS if name != 'adagan')}."
        )
    if "shares" in job.config.model.options:
        raise CaloforgeError("model.shares is what boosting finds out; leave it out, and set boosting.beta if wanted.")
    boosting = job.config.boosting or BoostingSettings()
    assert not isinstance(job.data, PairFiles), "no component is a model of image pairs"
    showers = read_showers(job.data, job.config.data.max_showers)
    identity = job.identity(showers.content_hash())
    _open(job, identity)
    prepared = TrainingData.prepare(showers, job.config)
    run = _Run(replace(job, data=showers), prepared, boosting, progress)
    run.check()
    shares = boost(len(prepared.training), boosting.components, boosting.beta, run.fit, run.discriminate)
    mixture = run.mixture(shares)
    path = job.folder / CHECKPOINT
    config = job.config.model_copy(update={"model": Choice(name="adagan")})
    total = run.steps * boosting.components
    prepared.checkpoint(mixture, config, identity, total).save(path)
    return path


def _open(job: Job, identity: dict[str, Any]) -> None:
    """Make or check the run folder."""
    note = job.folder / IDENTITY
    if job.resume and note.exists():
        check_same(job.folder, json.loads(note.read_text()), identity)
        return
    if job.folder.exists():
        for old in [*job.folder.glob("component-*"), *job.folder.glob("weights-*.npy"), job.folder / FOUND, note]:
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    open_folder(job.folder, identity["config"], keep=False)
    replace_file(note, json.dumps(identity).encode())


@dataclass
class _Run:
    """The two steps that `boost` alternates, on files."""

    job: Job
    prepared: TrainingData
    boosting: BoostingSettings
    progress: Progress

    @property
    def steps(self) -> int:
        """Iterations of one component."""
        return sum(phase.steps for phase in self.job.config.training.phases)

    def folder(self, number: int) -> Path:
        """The run folder of a component."""
        return self.job.folder / f"component-{number:02d}"

    def config(self, number: int) -> TrainConfig:
        """The configuration of a component: an ordinary one, with a seed of its own."""
        options = dict(self.job.config.model.options)
        name, own = options.pop("component"), options.pop("options", {})
        training = self.job.config.training.model_copy(update={"seed": self.job.config.training.seed + number})
        update = {"model": Choice(name=name, **own), "training": training, "boosting": None}
        return self.job.config.model_copy(update=update)

    def check(self) -> None:
        """Raise early if the mixture cannot be built, not after the first component."""
        lookup(MODELS, self.config(0).model.name, "a model")
        with torch.device("meta"):
            self._empty([1.0])

    def fit(self, number: int, weights: Floats) -> None:
        """Train component ``number`` on weighted showers, unless that is done."""
        folder = self.folder(number)
        if (folder / CHECKPOINT).exists():
            return
        begun = (folder / CONFIG).exists()
        component = replace(
            self.job,
            config=self.config(number),
            folder=folder,
            resume=begun,
            weights=weights if number else None,
            split_seed=self.job.config.training.seed,
        )
        before, total = number * self.steps, self.boosting.components * self.steps
        name = f"component {number + 1} of {self.boosting.components}"

        def told(done: int, _total: int, note: str) -> None:
            self.progress(before + done, total, f"{name}, {note}" if note else name)

        component.run(told)

    def discriminate(self, step: int) -> Floats:
        """Opinion (N,) of the training showers against the mixture of the first ``step`` components."""
        path = self.job.folder / f"weights-{step:02d}.npy"
        if path.exists():
            probability: Floats = np.load(path, allow_pickle=False)
            return probability
        self.progress(step * self.steps, self.boosting.components * self.steps, f"mixture discriminator {step}")
        mixture = self.mixture(mixture_shares(step, self.boosting.beta)).to(self.job.device)
        source, _ = self.prepared.sources(torch.device(self.job.device))
        seed = self.job.config.training.seed
        opinion = opinion_of(mixture.eval(), source, self.boosting, [seed, step])
        self._note(step, opinion)
        buffer = io.BytesIO()
        np.save(buffer, opinion.probability, allow_pickle=False)
        replace_file(path, buffer.getvalue())
        return opinion.probability

    def mixture(self, shares: list[float]) -> GenerativeModel:
        """The mixture of the first components, on the CPU."""
        model = self._empty(shares)
        state = model.state_dict()
        for number in range(len(shares)):
            part = Checkpoint.load(self.folder(number) / CHECKPOINT).model
            state |= {f"components.{number}.{key}": value for key, value in generation_state(part).items()}
        model.load_state_dict(state)
        return model

    def _empty(self, shares: list[float]) -> GenerativeModel:
        detector = self.prepared.dataset.showers.detector
        options = {**self.job.config.model.options, "shares": shares}
        return model_for(detector, "adagan", len(self.job.config.data.conditions), options)

    def _note(self, step: int, opinion: Opinion) -> None:
        beta = beta_of(step, self.boosting.beta)
        level, weights = boosting_weights(opinion.probability, beta)
        row = {
            "component": step,
            "beta": beta,
            "auc": opinion.auc,
            "lambda": level,
            "unseen": float((weights == 0).mean()),
            "effective": float(1 / (len(weights) * np.square(weights).sum())),
        }
        path = self.job.folder / FOUND
        old = path.read_text() if path.exists() else ""
        kept = [line for line in old.splitlines() if json.loads(line)["component"] < step]
        replace_file(path, "".join(line + "\n" for line in [*kept, json.dumps(row)]).encode())
