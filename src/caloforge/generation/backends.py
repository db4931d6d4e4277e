"""What runs the deterministic part of generating: torch as it is, compiled, Numba or ONNX Runtime.

A backend maps latent noise, transformed conditions and energies to voxel energies in MeV, as `Chain` does. Every one
but eager is compared with eager when it is loaded: backends round otherwise, and one that computed something else must
not go unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .. import extras
from ..cache import Arrays, Cache, code_key, key_of, remember
from ..errors import CaloforgeError, lookup
from ..models.base import DrawHits
from .chain import Chain
from .onnx_export import quiet, write_onnx

TOLERANCE = 1e-5
"""Of a voxel's energy, over the energy of its shower."""

FEW = 256
"""Showers for which auto stays with eager without looking further."""

PAYS = {"cached": 3.0, "numba": 30.0, "onnxruntime": 120.0, "compile": 600.0}
"""Seconds of eager's time for a whole request from which on auto tries Numba with its code compiled before or ONNX
Runtime with an export that is there already, Numba, ONNX Runtime with an export to be made, and torch.compile; measured
in docs/backends.md."""

_CLEARLY = 1.1  # times as fast: less is noise
_STRAY = 1e-5  # share of voxels that may miss it: decisions that hang on the last digit of a number
_COMPILERS = ("g++", "clang++", "c++")


class Backend(Protocol):
    """Runs a chain.

    Attributes:
        name: key in `BACKENDS`.
        streams: whether its `hits` take the noise of voxels as streams, see `VoxelNoise`.
    """

    name: str
    streams: bool

    @property
    def hits(self) -> DrawHits | None:
        """`GenerativeModel.hits` of the model, if it is sparse and the backend can draw so."""

    def __call__(self, latent: Tensor, condition: Tensor, energy: Tensor) -> Tensor:
        """Latent (N, Z), transformed conditions (N, C), energies (N,) in MeV to voxels (N, V) in MeV, on one device."""


class Eager:
    """Torch, operation by operation."""

    name = "eager"
    streams = False

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    @property
    def hits(self) -> DrawHits | None:
        """See `Backend`."""
        return self._chain.model.hits if self._chain.model.sparse else None

    def __call__(self, latent: Tensor, condition: Tensor, energy: Tensor) -> Tensor:
        """See `Backend`."""
        made: Tensor = self._chain(latent, condition, energy)
        return made


class Numba(Eager):
    """Loops over layers, voxels and hits compiled by Numba, which keeps them on disk; the network itself in torch.

    Dense showers are eager's.

    Raises:
        CaloforgeError: if Numba is not installed, or the model does not draw hits on the CPU.
    """

    name = "numba"
    streams = True

    def __init__(self, chain: Chain) -> None:
        super().__init__(chain)
        if next(chain.parameters()).device.type != "cpu" or not chain.model.sparse:
            raise CaloforgeError(
                "the backend 'numba' is for models that draw hits voxel by voxel (`voxel_noise`), on the CPU; choose "
                "another backend."
            )
        self._hits = chain.model.compiled_hits()

    @property
    def hits(self) -> DrawHits | None:
        """See `Backend`."""
        return self._hits


class Compiled:
    """Torch, fused and compiled when it first runs: that takes a minute and a C++ compiler, and is kept by torch.

    Raises:
        CaloforgeError: if there is no compiler, or what it makes does not run.
    """

    name = "compile"
    hits = None
    streams = False

    def __init__(self, chain: Chain) -> None:
        if next(chain.parameters()).device.type == "cpu" and not find_compiler():
            raise CaloforgeError(
                "the backend 'compile' needs a C++ compiler, and none is found here; install g++, set CXX to one, or "
                "choose another backend."
            )
        # Dynamic from the start: otherwise the first sizes seen would decide which kernel, with which rounding, runs.
        with quiet():
            self._chain = torch.compile(chain, dynamic=True)

    def __call__(self, latent: Tensor, condition: Tensor, energy: Tensor) -> Tensor:
        """See `Backend`."""
        n = len(energy)
        if n == 1:  # torch makes another kernel for a single row, and takes as long for it again
            latent, condition, energy = (torch.cat([x, x]) for x in (latent, condition, energy))
        try:
            with quiet():
                made: Tensor = self._chain(latent, condition, energy)[:n]
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = " ".join(str(error).split())[:150]
            raise CaloforgeError(f"this model cannot be compiled here ({reason}); choose another backend.") from None
        return made


class OnnxRuntime:
    """ONNX Runtime on the CPU; the exported model is kept in the user's cache by content.

    Raises:
        CaloforgeError: if it is not installed, or the chain is not on the CPU.
    """

    name = "onnxruntime"
    hits = None
    streams = False

    def __init__(self, chain: Chain) -> None:
        runtime = extras.onnxruntime()
        if next(chain.parameters()).device.type != "cpu":
            raise CaloforgeError(
                "the backend 'onnxruntime' runs on the CPU only; choose the device 'cpu' or another backend."
            )
        file = remember(Cache.named("onnx"), onnx_key(chain), lambda: _exported(chain))["onnx"]
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = runtime.InferenceSession(file.tobytes(), options, providers=["CPUExecutionProvider"])
        self._names = [given.name for given in self._session.get_inputs()]  # without what the model does not use

    def __call__(self, latent: Tensor, condition: Tensor, energy: Tensor) -> Tensor:
        """See `Backend`."""
        given = {"latent": latent, "condition": condition, "energy": energy}
        (made,) = self._session.run(None, {name: given[name].contiguous().numpy() for name in self._names})
        return torch.from_numpy(made)


BACKENDS: dict[str, Callable[[Chain], Backend]] = {
    "eager": Eager,
    "numba": Numba,
    "compile": Compiled,
    "onnxruntime": OnnxRuntime,
}
"""All backends by name."""


def find_compiler() -> str | None:
    """The C++ compiler that torch.compile would take, if there is one."""
    chosen = os.environ.get("CXX")
    return next((found for name in ([chosen] if chosen else _COMPILERS) if (found := shutil.which(name))), None)


def onnx_key(chain: Chain) -> str:
    """Key of the exported chain in the cache: its numbers, its options and the code that makes it."""
    digest = hashlib.sha256(json.dumps([chain.model.config, chain.to_showers.config]).encode())
    for name, tensor in chain.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    package = __name__.split(".")[0]
    code = [m for n, m in sorted(sys.modules.items()) if n.startswith((f"{package}.models", f"{package}.transforms"))]
    here = [sys.modules[f"{__package__}.{name}"] for name in ("chain", "onnx_export")]
    versions = {name: getattr(extras, name)().__version__ for name in ("onnx", "onnxruntime")}
    return key_of(
        chain=digest.hexdigest(),
        threshold=chain.threshold,
        code=code_key(*code, *here),
        torch=torch.__version__,
        **versions,
    )


def is_exported(chain: Chain) -> bool:
    """Whether the cache holds the exported chain already."""
    cache = Cache.named("onnx")
    return cache is not None and cache.get(onnx_key(chain)) is not None


def _exported(chain: Chain) -> Arrays:
    """The ONNX file of a chain, as bytes."""
    n_conditions = chain.model.n_conditions
    example = {
        "latent": torch.zeros(2, chain.model.latent_size),
        "condition": torch.zeros(2, n_conditions),
        "energy": torch.full((2,), 1000.0),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(chain, example, path)
        return {"onnx": np.frombuffer(path.read_bytes(), dtype=np.uint8)}


@dataclass(frozen=True)
class Agreement:
    """How far a backend's showers are from eager's.

    Attributes:
        largest: difference of a voxel over the energy of its shower, the largest.
        stray: voxels above `TOLERANCE`.
        voxels: all voxels compared.
    """

    largest: float
    stray: int
    voxels: int

    @classmethod
    def of(cls, found: npt.NDArray[np.float32], eager: npt.NDArray[np.float32]) -> Agreement:
        """Compare voxels (N, V) of the same showers."""
        total = eager.sum(1, keepdims=True, dtype=np.float64)
        difference = np.abs(found - eager) / np.maximum(total, np.finfo(np.float32).tiny)
        difference = np.where(np.isnan(difference), np.inf, difference)
        stray = int(np.count_nonzero(difference > TOLERANCE))
        return cls(float(difference.max(initial=0.0)), stray, found.size)

    @property
    def good(self) -> bool:
        """Whether both draw the same showers: all voxels but one in 10^5, at least three, within the tolerance."""
        return self.stray <= max(3, _STRAY * self.voxels)


@dataclass(frozen=True)
class Trial:
    """A backend's showers of a small request.

    Attributes:
        voxels: energies (N, V) in MeV.
        seconds: wall time a shower, from particles to voxels, not counting what the first run costs.
    """

    voxels: npt.NDArray[np.float32]
    seconds: float


@dataclass(frozen=True)
class Choice:
    """The backend that was taken.

    Attributes:
        backend: it.
        told: what the provenance says of it.
    """

    backend: Backend
    told: dict[str, Any]


def choose(wanted: str, chain: Chain, trial: Callable[[Backend], Trial], expected: int) -> Choice:
    """Build a backend and see that it draws eager's showers; "auto" takes the fastest that does.

    Auto weighs what a backend costs before its first shower: below `PAYS` seconds of eager's time for the whole request
    it is not tried. A backend that fails or differs is passed over, and why is told.

    Args:
        wanted: a key of `BACKENDS` or "auto".
        chain: on its device, in evaluation mode.
        trial: draws a few showers with a backend.
        expected: showers that will be asked for.

    Raises:
        CaloforgeError: if there is no such backend, it cannot be used here or it draws other showers.
    """
    lookup({**BACKENDS, "auto": None}, wanted, "a backend")
    eager = Eager(chain)
    if wanted == "eager":
        return Choice(eager, {"name": "eager"})
    if wanted != "auto":
        other = BACKENDS[wanted](chain)
        return Choice(other, _compared(other, trial(other), trial(eager)))
    if expected < FEW:
        return Choice(eager, {"name": "eager", "chosen": f"auto: fewer than {FEW} showers"})
    return _fastest(eager, chain, trial, expected)


def _fastest(eager: Eager, chain: Chain, trial: Callable[[Backend], Trial], expected: int) -> Choice:
    base = trial(eager)
    spent = expected * base.seconds
    best: Backend = eager
    told: dict[str, Any] = {"name": "eager"}
    passed: dict[str, str] = {}
    for name in worth_trying(chain, spent):
        try:
            other = BACKENDS[name](chain)
            found = _compared(other, trial(other), base)
        except CaloforgeError as error:
            passed[name] = str(error)
            continue
        if found["times_eager"] > max(_CLEARLY, told.get("times_eager", 1.0)):
            best, told = other, found
        else:
            passed[name] = f"{found['times_eager']:.2f} times as fast as eager"
    return Choice(best, {**told, "chosen": "auto", "passed_over": passed})


def worth_trying(chain: Chain, seconds: float) -> list[str]:
    """Backends whose start may pay for a request that takes eager so many seconds."""
    if next(chain.parameters()).device.type != "cpu":
        return ["compile"] if seconds > PAYS["compile"] else []
    names = []
    if (
        extras.has_numba()
        and chain.model.sparse
        and (seconds > PAYS["numba"] or (seconds > PAYS["cached"] and loops_are_kept()))
    ):
        names.append("numba")
    if extras.has_onnxruntime() and (
        seconds > PAYS["onnxruntime"] or (seconds > PAYS["cached"] and is_exported(chain))
    ):
        names.append("onnxruntime")
    if find_compiler() and seconds > PAYS["compile"]:
        names.append("compile")
    return names


def loops_are_kept() -> bool:
    """Whether Numba has compiled its loops before and kept them, as they are now."""
    from ..models import kernels

    return kernels.is_kept(kernels.pick_hits)


def _compared(backend: Backend, trial: Trial, eager: Trial) -> dict[str, Any]:
    """What the provenance tells of a backend.

    Raises:
        CaloforgeError: if it does not draw eager's showers.
    """
    agreement = Agreement.of(trial.voxels, eager.voxels)
    if not agreement.good:
        raise CaloforgeError(
            f"the backend '{backend.name}' gives other showers than eager: {agreement.stray} of {agreement.voxels} "
            f"voxels differ by more than {TOLERANCE:g} of their shower's energy; choose the backend eager."
        )
    return {
        "name": backend.name,
        "largest_difference": agreement.largest,
        "stray_voxels": agreement.stray,
        "times_eager": eager.seconds / trial.seconds,
    }
