"""The state of a training in one safetensors file: tensors, and the rest as JSON in its header. Nothing is pickled."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import CaloforgeError

FORMAT = "caloforge-training-state"
FORMAT_VERSION = 1


@dataclass
class State:
    """Tensors by name, and plain data (texts, numbers, lists, mappings)."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)

    def put(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        """Copy tensors in as ``prefix.name``."""
        for name, tensor in tensors.items():
            self.tensors[f"{prefix}.{name}"] = tensor.detach().to("cpu", copy=True).contiguous()

    def get(self, prefix: str) -> dict[str, Tensor]:
        """The tensors that were put in under ``prefix``."""
        return {k.removeprefix(prefix + "."): v for k, v in self.tensors.items() if k.startswith(prefix + ".")}

    def put_optimiser(self, prefix: str, optimiser: torch.optim.Optimizer) -> None:
        """Copy the moments and counters of an optimiser in."""
        tensors: dict[str, Tensor] = {}
        numbers: dict[str, Any] = {}
        for parameter, entries in optimiser.state_dict()["state"].items():
            for key, value in entries.items():
                if isinstance(value, Tensor):
                    tensors[f"{parameter}.{key}"] = value
                elif value is not None:
                    numbers[f"{parameter}.{key}"] = value
        self.put(prefix, tensors)
        self.data[prefix] = numbers

    def load_optimiser(self, prefix: str, optimiser: torch.optim.Optimizer) -> None:
        """Give an optimiser the moments and counters that were put in under ``prefix``."""
        entries: dict[int, dict[str, Any]] = {}
        for name, value in (self.get(prefix) | self.data[prefix]).items():
            parameter, key = name.split(".", 1)
            entries.setdefault(int(parameter), {})[key] = value
        optimiser.load_state_dict({"state": entries, "param_groups": optimiser.state_dict()["param_groups"]})

    def write(self, path: Path) -> None:
        """Write to ``path``, which holds the old state or the new one whole, whatever happens meanwhile.

        Raises:
            CaloforgeError: if it cannot be written; the old state is kept.
        """
        header = {"format": FORMAT, "version": FORMAT_VERSION, "data": self.data}
        replace_file(path, save(self.tensors, {"caloforge": json.dumps(header)}))

    @classmethod
    def read(cls, path: Path) -> State:
        """Read a state.

        Raises:
            CaloforgeError: if the file is not the whole state of a training.
        """
        try:
            with safe_open(path, "pt") as file:
                header = json.loads((file.metadata() or {})["caloforge"])
                if (header["format"], header["version"]) != (FORMAT, FORMAT_VERSION):
                    raise CaloforgeError(
                        f"'{path}' is not a training state that this caloforge reads; start anew with --overwrite."
                    )
                return cls({name: file.get_tensor(name) for name in file.keys()}, header["data"])  # noqa: SIM118
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise CaloforgeError(
                f"training state '{path}' is damaged ({str(error)[:100]}); start anew with --overwrite."
            ) from None


def replace_file(path: Path, content: bytes) -> None:
    """Give ``path`` new content at once: a crash leaves the old content or the new, never a part.

    Raises:
        CaloforgeError: if it cannot be written.
    """
    temporary = temporary_name(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CaloforgeError(
            f"'{path}' cannot be written ({error.strerror}); free space or give another place."
        ) from None


def temporary_name(path: Path) -> Path:
    """Where the new content of ``path`` is gathered; left behind by a crash."""
    return path.with_name(f".{path.name}.tmp")
