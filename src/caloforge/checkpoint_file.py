"""The file of a trained model: safetensors with a JSON header; plain tensors and JSON, no pickle, so nothing runs.

`checkpoint` keeps models of showers in it, `image_checkpoint` models of event images.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .errors import CaloforgeError
from .models import GenerativeModel, build_model
from .output import UnfinishedFile
from .zoo import find_checkpoint

FORMAT: Literal["caloforge-checkpoint"] = "caloforge-checkpoint"
VERSIONS = {"showers": 1, "images": 2}
"""Highest format version of each kind of checkpoint."""
MAX_PARAMETERS = 2_000_000_000

H = TypeVar("H", bound=BaseModel)
Tensors = dict[str, Tensor]


def write_checkpoint(path: Path, parts: Mapping[str, nn.Module], header: BaseModel) -> None:
    """Write a file; it appears under its name only when it is whole, replacing an older one.

    Raises:
        CaloforgeError: if a weight is not finite or the place cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state_of(parts).items()}
    check_finite(tensors, "the model to save")
    with UnfinishedFile(path, overwrite=True) as temporary:
        try:
            save_file(tensors, temporary, {"caloforge": header.model_dump_json()})
        except (SafetensorError, OSError) as error:
            raise CaloforgeError(
                f"'{path}' cannot be written ({_short(error)}); make room or give another place."
            ) from None


def read_checkpoint(path: Path, kind: str, header: type[H]) -> tuple[H, Tensors]:
    """Header and tensors of a file of a kind.

    Raises:
        CaloforgeError: if it is damaged, of another kind, or made by a later caloforge.
    """
    plain, tensors = _read(path)
    found = kind_of(plain)
    if found != kind:
        wanted = "image files (`caloforge generate MODEL --like FAST.h5`)" if found == "images" else "shower files"
        raise CaloforgeError(f"'{path}' is a model of {found}, not of {kind}; use it with {wanted}, or give another.")
    try:
        version = plain.get("version") if isinstance(plain, dict) and plain.get("format") == FORMAT else None
        if isinstance(version, int) and version > VERSIONS[kind]:
            raise CaloforgeError(
                f"'{path}' has format version {version}, this caloforge reads up to {VERSIONS[kind]}; "
                "upgrade caloforge."
            )
        return header.model_validate(plain), tensors
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise damaged(path, f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged(path, str(error)) from None


def checkpoint_kind(path: Path) -> str:
    """Whether a checkpoint makes "showers" or "images".

    Raises:
        CaloforgeError: if it is no checkpoint.
    """
    return kind_of(_read(path, weights=False)[0])


def checkpoint_digest(path: str | Path) -> str:
    """SHA-256 of a checkpoint, given by its path or as ``zoo:NAME``, for the provenance."""
    with find_checkpoint(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def kind_of(plain: Any) -> str:
    """The kind that a header tells; those of showers, the older ones, tell none."""
    return "images" if isinstance(plain, dict) and plain.get("kind") == "images" else "showers"


def _read(path: Path, *, weights: bool = True) -> tuple[Any, Tensors]:
    if not path.is_file():
        raise CaloforgeError(f"checkpoint '{path}' does not exist; give the path of a checkpoint file.")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get("caloforge")
            names = file.keys() if text and weights else ()
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise CaloforgeError(
            f"'{path}' is truncated or not a safetensors file ({_short(error)}); copy it again or give another."
        ) from None
    if text is None:
        raise CaloforgeError(
            f"'{path}' is a safetensors file but not a caloforge checkpoint; give one made by `caloforge train`."
        )
    try:
        return json.loads(text), tensors
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged(path, str(error)) from None


def state_of(parts: Mapping[str, nn.Module]) -> Tensors:
    """All tensors that a file holds of its parts, by name; of models only what generation needs."""
    return {
        f"{prefix}.{name}": tensor
        for prefix, part in parts.items()
        for name, tensor in (generation_state(part) if isinstance(part, GenerativeModel) else part.state_dict()).items()
    }


def load_state(parts: Mapping[str, nn.Module], tensors: Tensors) -> None:
    """Give the parts the tensors of a file.

    Raises:
        CaloforgeError: if names, shapes or types do not fit.
    """
    expected = state_of(parts)
    missing, unknown = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unknown:
        lacks = f"lacks '{missing[0]}'" if missing else f"holds '{unknown[0]}', which its model has not"
        raise CaloforgeError(f"it {lacks}; save it again from the training that made it.")
    for name, tensor in tensors.items():
        wanted = expected[name]
        if name.startswith("model.") and (tensor.shape != wanted.shape or tensor.dtype != wanted.dtype):
            raise CaloforgeError(
                f"'{name}' is {tuple(tensor.shape)} {tensor.dtype} but its model needs {tuple(wanted.shape)} "
                f"{wanted.dtype}; save it again from the training that made it."
            )
    for prefix, module in parts.items():
        own = {k.removeprefix(f"{prefix}."): v for k, v in tensors.items() if k.startswith(f"{prefix}.")}
        module.load_state_dict(own, strict=not isinstance(module, GenerativeModel))


def generation_state(model: GenerativeModel) -> Tensors:
    """The part of ``model.state_dict()`` that belongs to its generation modules."""
    wanted = {id(module) for module in model.generation_modules()}
    prefixes = [name for name, module in model.named_modules() if id(module) in wanted]
    return {
        key: value
        for key, value in model.state_dict().items()
        if any(not prefix or key.startswith(prefix + ".") for prefix in prefixes)
    }


def check_parameters(name: str, options: Mapping[str, Any]) -> None:
    """Build the networks without memory first: a small file must not be able to ask for a huge model."""
    with torch.device("meta"):
        sketch = build_model(name, **options)
    size = sum(p.numel() for p in sketch.state_dict().values())
    if size > MAX_PARAMETERS:
        raise CaloforgeError(f"its model would have {size:.3g} parameters; at most {MAX_PARAMETERS:.3g} are allowed.")


def check_finite(tensors: Tensors, what: str) -> None:
    """Raise unless all numbers are finite."""
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CaloforgeError(f"{what} holds NaN or infinite values in '{name}'; train it again with a lower rate.")


@contextmanager
def usable(path: str | Path) -> Iterator[None]:
    """Say of which file it is that a checkpoint cannot be built.

    Raises:
        CaloforgeError: for whatever building one from a stranger's header and tensors raises.
    """
    try:
        yield
    except CaloforgeError as error:
        raise CaloforgeError(f"'{path}' is not a usable checkpoint: {error}") from None
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError) as error:
        raise damaged(path, str(error)) from None


def damaged(path: str | Path, why: str) -> CaloforgeError:
    """What to say of a file that cannot be understood."""
    return CaloforgeError(f"'{path}' is damaged ({_short(why)}); save it again from the training that made it.")


def _short(error: object) -> str:
    return " ".join(str(error).split())[:120]
