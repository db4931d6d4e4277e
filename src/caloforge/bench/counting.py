"""How much a shower takes: arithmetic of matrix products and convolutions, and the bytes that operations move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ..generation.chain import Chain


@dataclass(frozen=True)
class Work:
    """Of one shower in a run of many, in eager torch.

    Attributes:
        flops: multiplications and additions of matrix products and convolutions; what is element by element (splines,
            sorting, transforms) is not counted.
        bytes: inputs and outputs of all operations, each counted once, weights shared by the run's showers. Backends
            that fuse operations move less.
    """

    flops: float
    bytes: float


class _Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of what operations read and write; a view moves nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [x for x in tree_leaves((args, kwargs, made)) if isinstance(x, Tensor)]
            self.bytes += sum(x.numel() * x.element_size() for x in tensors)
        return made


@torch.no_grad()
def count_work(chain: Chain, latent: Tensor, condition: Tensor, energy: Tensor) -> Work:
    """Count the work of a run, per shower.

    Args:
        chain: in evaluation mode.
        latent: (N, Z).
        condition: transformed (N, C).
        energy: (N,) in MeV.
    """
    n = len(energy)
    traffic = _Traffic()
    with traffic:
        chain(latent, condition, energy)
    counter = FlopCounterMode(display=False)
    with counter:
        chain(latent, condition, energy)
    return Work(counter.get_total_flops() / n, traffic.bytes / n)
