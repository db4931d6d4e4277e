"""One training in its run folder: the configuration, the state, the history and the checkpoint."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..config import to_toml
from ..errors import CaloforgeError, CaloforgeWarning
from ..jets.pairs import PairFiles, Pairs
from ..progress import Progress, silent
from ..showers import Showers
from .data import TrainingData, read_showers
from .engine import HISTORY, STATE, Engine, TrainingStopped
from .launched import Launch
from .paired_data import PairData
from .processes import fabric_for, helpers
from .settings import TrainConfig
from .start import Start
from .state import State, replace_file, temporary_name

CONFIG, CHECKPOINT = "config.toml", "model.safetensors"
_FILES = (CONFIG, STATE, HISTORY, CHECKPOINT)
_FREE_KEYS = ("training.log_every", "training.save_every")  # no weight depends on them: may change on resuming


@dataclass
class Job:
    """One training, the same in every process.

    Attributes:
        config: what to train and how.
        data: showers, their file or files, or the files of image pairs.
        folder: the run folder.
        resume: go on from the state in it.
        device: name of the device.
        devices: number of devices.
        launch: this process among those that torchrun started, if it did.
        weights: how often each training shower is seen (N,), sum one; all alike if not given.
        split_seed: of the split into training and validation showers; the training's seed if not given.
        start: checkpoint whose weights to begin with; random ones if not given.
    """

    config: TrainConfig
    data: str | Path | Showers | PairFiles | list[str | Path]
    folder: Path
    resume: bool
    device: str
    devices: int
    launch: Launch | None = None
    weights: npt.NDArray[np.float64] | None = None
    split_seed: int | None = None
    start: str | Path | None = None

    def run(self, progress: Progress) -> Path:
        """Train in as many processes as there are devices; returns the path of the checkpoint."""
        if self.launch:
            self.work(self.launch.rank, 0, silent if self.launch.rank else progress)
            return self.folder / CHECKPOINT
        with helpers(self.devices - 1, self.help) as port:
            self.work(0, port, progress)
        return self.folder / CHECKPOINT

    def work(self, rank: int, port: int, progress: Progress) -> None:
        """Train; the process of rank 0 writes the files."""
        start = Start.open(self.start, self.config, isinstance(self.data, PairFiles)) if self.start else None
        prepared = self._prepared(start)
        identity = self.identity(prepared.content_hash()) | ({"start": start.digest} if start else {})
        state = self._state(identity)
        model = prepared.model(self.config)
        if start:
            start.give(model, self.config.training.anew)
        fabric = fabric_for(self.device, self.config.training.precision, self.devices, rank, port, self.launch)
        training, validation = prepared.sources(fabric.device)
        engine = Engine(
            model.to(fabric.device),
            training,
            self.config.training,
            fabric=fabric,
            folder=self.folder,
            identity=identity,
            validation=validation,
            progress=progress,
        )
        if rank == 0:
            open_folder(self.folder, identity["config"], keep=state is not None)
        engine.run(state)
        if rank == 0:
            self._save(engine, prepared, identity)

    def _prepared(self, start: Start | None) -> TrainingData | PairData:
        limit = self.config.data.max_showers
        if isinstance(self.data, PairFiles):
            return PairData.prepare(Pairs.read(self.data, limit), self.config, start)
        prepared = TrainingData.prepare(read_showers(self.data, limit), self.config, self.split_seed, start)
        return prepared if self.weights is None else prepared.weighted(self.weights, self.config.training.seed)

    def identity(self, content_hash: str) -> dict[str, Any]:
        """What a resumed training must share."""
        return {
            "config": self.config.model_dump(mode="json", exclude_none=True),
            "data": content_hash,
            "devices": self.devices,
        }

    def help(self, rank: int, port: int) -> None:
        """Train as another process than that of rank 0, which tells of all errors."""
        warnings.simplefilter("ignore", CaloforgeWarning)
        try:
            self.work(rank, port, silent)
        except (CaloforgeError, TrainingStopped) as error:
            raise SystemExit(2) from error

    def _state(self, identity: Mapping[str, Any]) -> State | None:
        path = self.folder / STATE
        if not self.resume or not path.exists():
            return None
        state = State.read(path)
        check_same(self.folder, state.data.get("identity", {}), identity)
        return state

    def _save(self, engine: Engine, prepared: TrainingData | PairData, identity: Mapping[str, Any]) -> None:
        model = engine.model.cpu()
        prepared.checkpoint(model, self.config, identity, engine.total).save(self.folder / CHECKPOINT)


# -- the run folder --------------------------------------------------------------------------------------------


def check_folder(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Raise unless a training may be kept in ``folder``; nothing is changed yet."""
    if folder.exists() and not folder.is_dir():
        raise CaloforgeError(f"'{folder}' is a file; give the name of a folder for the training.")
    there = {path.name for path in folder.iterdir()} if folder.exists() else set()
    there -= {temporary_name(folder / name).name for name in _FILES}
    if there and not (resume or overwrite):
        raise CaloforgeError(
            f"folder '{folder}' is not empty; --resume the training in it, --overwrite it, or give another folder."
        )
    if there and resume and CONFIG not in there:
        raise CaloforgeError(f"folder '{folder}' holds no training to resume; give the folder of one, or a new one.")


def open_folder(folder: Path, config: Mapping[str, Any], *, keep: bool) -> None:
    """Make the folder, write the configuration; unless ``keep``, remove the files of an earlier training."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _FILES:
            temporary_name(folder / name).unlink(missing_ok=True)
            if not keep and name != CONFIG:
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise CaloforgeError(f"'{folder}' cannot be written ({error.strerror}); give another place.") from None
    replace_file(folder / CONFIG, to_toml(config).encode())


def check_same(folder: Path, saved: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise unless a saved training is the one to go on with."""
    before, now = _flat("", saved.get("config", {})), _flat("", given["config"])
    for key in sorted(before.keys() | now.keys()):
        if key not in _FREE_KEYS and before.get(key) != now.get(key):
            raise CaloforgeError(
                f"the training in '{folder}' has {key} = {before.get(key)}, now {now.get(key)} is given; resume it "
                f"with the configuration it began with ('{folder / CONFIG}'), or start anew with --overwrite."
            )
    if saved.get("data") != given["data"]:
        raise CaloforgeError(
            f"the training in '{folder}' began with other showers; resume it with the same file, or start anew with "
            "--overwrite."
        )
    if saved.get("start") != given.get("start"):
        raise CaloforgeError(
            f"the training in '{folder}' began with other weights; resume it with the same --from, or start anew with "
            "--overwrite."
        )
    if saved.get("devices") != given["devices"]:
        raise CaloforgeError(
            f"the training in '{folder}' ran on {saved.get('devices')} devices, now {given['devices']} are given; "
            "resume it on as many, or start anew with --overwrite."
        )


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    """Nested tables and lists of tables as one: ``{"training.phases.0.steps": 10}``."""
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        items = [(str(number), item) for number, item in enumerate(value)]
    else:
        return {prefix.removesuffix("."): value}
    return {key: leaf for name, item in items for key, leaf in _flat(f"{prefix}{name}.", item).items()}
