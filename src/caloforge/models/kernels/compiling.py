"""How kernels are compiled, and kept on disk until one of their files changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ...extras import numba

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
F = TypeVar("F", bound=Callable[..., Any])
f32 = np.float32

# Numba asks whether the file of a function has changed, not whether those have that it calls: so its name tells.
_VERSION = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(Path(__file__).parent.glob("*.py")))).hexdigest()[:12]


def compiled(function: F) -> F:
    """Compile when first called, and keep it on disk. Products may be fused with sums, nothing else be reordered.

    They may make no arrays, and so do without counting references to them, which, atomic as it must be, costs more
    than what is done with a slice of some tens of numbers.
    """
    return _made(function, counted=False)


def entered(function: F) -> F:
    """Compile likewise what makes arrays for compiled functions to work in, and calls them."""
    return _made(function, counted=True)


def _made(function: F, counted: bool) -> F:
    how = {"nogil": True, "fastmath": {"contract", "nsz"}, "error_model": "numpy", "_nrt": counted}
    function.__qualname__ += f"_{_VERSION}"
    made: F
    try:
        made = numba().njit(cache=True, **how)(function)
    except RuntimeError:  # no place on disk may be written to
        made = numba().njit(**how)(function)
    return made


def is_kept(function: Any) -> bool:
    """Whether what was compiled of a function, with all files as they are now, lies on disk."""
    folder = getattr(getattr(function, "stats", None), "cache_path", None)  # a plain function has none
    return folder is not None and any(Path(folder).glob(f"*{function.__name__}_{_VERSION}-*.nbi"))
