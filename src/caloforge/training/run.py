"""The verb `train`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ..config import read_config
from ..errors import CaloforgeError, lookup
from ..jets.pairs import PairFiles
from ..models import MODELS
from ..progress import Progress, silent
from ..showers import Showers
from .adagan import train_adagan
from .job import Job, check_folder
from .launched import Launch
from .processes import device_name
from .settings import TrainConfig


def train(
    config: str | Path | TrainConfig,
    data: str | Path | Showers | Sequence[str | Path],
    output: str | Path,
    *,
    like: str | Path | Sequence[str | Path] = (),
    start: str | Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    devices: int = 1,
    progress: Progress = silent,
) -> Path:
    """Train a model on showers.

    The same configuration, data and seed give the same checkpoint, byte for byte, on one kind of machine with one
    number of threads, however often the training was stopped and resumed.

    Args:
        config: a configuration or its TOML file.
        data: showers, their file or several files of one detector, used one after the other; for a model of image pairs
            the full simulation's image file, or several.
        output: the run folder: gets ``config.toml``, ``state.safetensors``, ``history.jsonl``, ``model.safetensors``;
            for "adagan" a run folder of each component and the mixture's ``model.safetensors``.
        like: for a model of image pairs the fast simulation's image file, one for each of ``data``.
        start: checkpoint of the same model, or ``zoo:NAME``, whose weights and transforms to begin with; random weights
            and fitted transforms if not given. What only training uses, such as a critic, begins anew.
        overrides: changes to the configuration, such as ``"training.batch_size=64"``.
        resume: go on from the state in ``output``; from the beginning if there is none yet.
        overwrite: throw an earlier training in ``output`` away.
        device: "auto", "cpu", "cuda", "mps", or one CUDA device as "cuda:1".
        devices: number of devices, one process each; each batch is shared among them. With more than one, a script
            must call this under ``if __name__ == "__main__":``. In processes that torchrun has started it is their
            number, whatever is given; only that of rank 0 writes and tells of progress.
        progress: told of each iteration.

    Returns:
        The path of the checkpoint ``model.safetensors``.

    Raises:
        CaloforgeError: if the configuration, the data or the folder cannot be used, or the training diverged.
        TrainingStopped: if it was stopped by Ctrl-C; its state is saved.
    """
    launch = Launch.found()
    how: dict[str, Any] = {
        "start": start,
        "overrides": overrides,
        "resume": resume,
        "overwrite": overwrite,
        "device": device,
        "launch": launch,
    }
    with launch.together() if launch else nullcontext():
        job = _job(config, data, Path(output), like, devices=launch.processes if launch else devices, **how)
        if job.config.model.name == "adagan":
            return train_adagan(job, progress)
        return job.run(progress)


def _job(
    config: str | Path | TrainConfig,
    data: str | Path | Showers | Sequence[str | Path],
    folder: Path,
    like: str | Path | Sequence[str | Path],
    *,
    start: str | Path | None,
    overrides: Sequence[str],
    resume: bool,
    overwrite: bool,
    device: str,
    devices: int,
    launch: Launch | None,
) -> Job:
    """The training that was asked for.

    Raises:
        CaloforgeError: if it cannot be done.
    """
    plain = config.model_dump(exclude_none=True) if isinstance(config, TrainConfig) else config
    settings = read_config(plain, TrainConfig, overrides)
    if devices < 1:
        raise CaloforgeError(f"{devices} devices were asked for; ask for at least one.")
    if resume and overwrite:
        raise CaloforgeError("--resume goes on with a training and --overwrite throws it away; give one of them.")
    if settings.model.name == "adagan":
        if start:
            raise CaloforgeError("the model 'adagan' begins with no weights but its own; leave --from out.")
        if launch:
            raise CaloforgeError("the model 'adagan' cannot be trained under torchrun; use --devices on one machine.")
    elif settings.boosting:
        raise CaloforgeError(f"[boosting] is for the model 'adagan', not for '{settings.model.name}'; leave it out.")
    if launch is None or launch.rank == 0:  # the others would see what this one has begun to write
        check_folder(folder, resume=resume, overwrite=overwrite)
    found = device_name(device, launch.here if launch else devices)
    given = _checked_data(settings.model.name, data, like)
    return Job(settings, given, folder, resume, found, devices, launch, start=start)


def _checked_data(
    model: str, data: str | Path | Showers | Sequence[str | Path], like: str | Path | Sequence[str | Path]
) -> str | Path | Showers | PairFiles | list[str | Path]:
    """The showers or the pairs to learn from.

    Raises:
        CaloforgeError: if the model needs the others.
    """
    fast = [like] if isinstance(like, (str, Path)) else list(like)
    if lookup(MODELS, model, "a model").paired:
        if not fast or isinstance(data, Showers):
            raise CaloforgeError(
                f"model '{model}' turns fast images into full ones; give the fast simulation's image file with --like "
                "FAST.h5, beside the full one's with --data FULL.h5."
            )
        return PairFiles([data] if isinstance(data, (str, Path)) else list(data), fast)
    if fast:
        pairs = ", ".join(name for name, kind in MODELS.items() if kind.paired)
        raise CaloforgeError(f"model '{model}' learns from showers, --like is for {pairs}; leave it out.")
    if isinstance(data, (str, Path, Showers)):
        return data
    if not data:
        raise CaloforgeError(f"model '{model}' learns from showers, no file was given; give one or more.")
    return list(data)
