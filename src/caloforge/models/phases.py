"""Convolutions that enlarge an image, for generation on a CPU: one convolution makes all phases of the output at once.

Where each voxel becomes s, an output at o = s w + r - first looks at the same few voxels of the input for every phase
r = 0 .. s - 1, only with other weights. So a transposed convolution, or a convolution of an image whose voxels were
repeated, is a plain one of few taps with s^3 as many channels, whose outputs are then put beside each other (Shi et
al., arXiv 1609.05158 and 1609.07009): no zeros or copies are multiplied, and channels are as many as a CPU's registers
want. With channels last in memory; the same numbers as the plain layers up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from operator import attrgetter
from typing import Any, Generic, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def draws_on_cpu(x: Tensor) -> bool:
    """Whether this is generation on a CPU in single precision: no gradients kept, nothing compiled or exported."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    return x.device.type == "cpu" and x.dtype == torch.float32


def channels_last(x: Tensor) -> Tensor:
    """The same numbers with channels last in memory, for images of two or three axes."""
    return x.contiguous(memory_format=torch.channels_last if x.dim() == 4 else torch.channels_last_3d)


class Axis(NamedTuple):
    """How one axis is enlarged.

    Attributes:
        taps: which tap of the kernel each phase has at each place of its window (phases, window, taps), 0 or 1.
        low: place of the window's begin, against the output's w.
        first: of the outputs of w = 0, those before 0.
    """

    taps: Tensor
    low: int
    first: int


def transposed_axis(kernel: int, stride: int, padding: int) -> Axis:
    """An axis of a transposed convolution: output o = stride i - padding + k of input i and tap k."""
    return _narrowest(stride, kernel, lambda o, k: divmod(o + padding - k, stride))


def repeated_axis(kernel: int, factor: int, padding: int) -> Axis:
    """An axis of a convolution of an image whose voxels were repeated: o of inputs (o + k - padding) // factor."""
    return _narrowest(factor, kernel, lambda o, k: ((o + k - padding) // factor, 0))


def _narrowest(phases: int, kernel: int, seen: Any) -> Axis:
    """The axis whose window is narrowest; ``seen`` gives the input of output and tap, and 0 if there is one."""
    found = []
    for first in range(phases):
        places = [(r, seen(r - first, k), k) for r, k in product(range(phases), range(kernel))]
        used = [(r, i, k) for r, (i, rest), k in places if rest == 0]
        low, high = min(i for _, i, _ in used), max(i for _, i, _ in used)
        taps = torch.zeros(phases, high - low + 1, kernel)
        for r, i, k in used:
            taps[r, i - low, k] = 1
        found.append(Axis(taps, low, first))
    return min(found, key=lambda axis: axis.taps.shape[1])


class Enlarging:
    """A convolution of all phases, made once of a layer's weights.

    Args:
        weight: (groups out, in, *kernel).
        bias: (groups out,) if there is one.
        axes: how each axis is enlarged.
        groups: of the convolution; each has its phases together.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, axes: Sequence[Axis], groups: int = 1) -> None:
        self.axes, self.phases, self.groups = axes, [len(axis.taps) for axis in axes], groups
        phase, window, tap = "abc"[: len(axes)], "def"[: len(axes)], "ghi"[: len(axes)]
        each = [f"{a}{b}{c}" for a, b, c in zip(phase, window, tap, strict=True)]
        kernel = torch.einsum(
            f"{','.join(each)},zxy{tap}->z{phase}xy{window}",
            *(axis.taps for axis in axes),
            weight.detach().reshape(groups, -1, *weight.shape[1:]),
        )
        self.kernel = channels_last(kernel.flatten(0, len(axes) + 1))
        self.bias = None
        if bias is not None:
            self.bias = bias.detach().reshape(groups, -1).repeat(1, math.prod(self.phases)).flatten()

    def seen(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        """Images (B, in, ...) to all phases (B, phases out, ...) of an output of ``sizes``, channels last."""
        pads = []
        for n, size, axis in zip(x.shape[2:], sizes, self.axes, strict=True):
            places = (size - 1 + axis.first) // len(axis.taps) + 1
            pads.append((-axis.low, places - 1 + axis.low + axis.taps.shape[1] - n))
        return convolve(x, self.kernel, self.bias, pads, self.groups)

    def __call__(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        """Images (B, in, ...) to images (B, out, *sizes), a view of which channels are last."""
        return self.joined(self.seen(x, sizes), sizes)

    def joined(self, seen: Tensor, sizes: Sequence[int]) -> Tensor:
        """All phases put beside each other: (B, out, *sizes)."""
        n, places = len(self.axes), seen.shape[2:]
        apart = seen.movedim(1, -1).reshape(len(seen), *places, self.groups, *self.phases, -1)
        order = [0, *(i for axis in range(n) for i in (1 + axis, 2 + n + axis)), 1 + n, 2 + 2 * n]
        sides = [a * b for a, b in zip(places, self.phases, strict=True)]
        x = apart.permute(order).reshape(len(seen), *sides, -1).movedim(-1, 1)
        for i, (size, axis) in enumerate(zip(sizes, self.axes, strict=True), start=2):
            x = x.narrow(i, axis.first, size)
        return x


def convolve(x: Tensor, kernel: Tensor, bias: Tensor | None, pads: Sequence[tuple[int, int]], groups: int) -> Tensor:
    """A convolution of images (B, in, ...) with zeros before and after each axis; channels last.

    By the convolution itself where there are as many before as after: no copy. A small image of three axes by itself,
    with a kernel that is small too, PyTorch leaves to a slow loop of its own unless there are groups: so it is given
    twice, once for either half of the output.
    """
    if len(x) == groups == 1 and len(pads) == 3 and _left_to_a_loop(x, kernel):
        x, groups = torch.cat([x, x], dim=1), 2
    padding = [before for before, after in pads if before == after and before >= 0]
    if len(padding) < len(pads):
        x = F.pad(channels_last(x), [n for pair in reversed(pads) for n in pair])
        padding = [0] * len(pads)
    by = F.conv2d if len(pads) == 2 else F.conv3d
    return by(channels_last(x), kernel, bias, padding=tuple(padding), groups=groups)


def _left_to_a_loop(image: Tensor, kernel: Tensor) -> bool:
    """Whether PyTorch does not give a convolution to oneDNN that it would give with groups, and it matters.

    The numbers are those of its own rule (`use_mkldnn` in ATen's Convolution.cpp); of few channels the loop is as fast.
    """
    small = min(kernel.shape[3:]) <= 3 and image[..., 0].numel() <= 20480
    return small and image.shape[1] >= 8 and len(kernel) % 2 == 0 and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


T = TypeVar("T")

_VERSION = attrgetter("_version")  # goes up whenever a tensor is written to


class Memo(Generic[T]):
    """Keeps what was made of a module's weights until one of them changes; a copy starts without."""

    def __init__(self) -> None:
        self._held: list[Mapping[str, Tensor | None]] = []
        self._key: list[int] = []
        self._alive: list[Tensor] = []
        self._made: T | None = None

    def __reduce__(self) -> tuple[type[Memo[T]], tuple[()]]:
        return Memo, ()

    def __call__(self, module: nn.Module, make: Callable[[], T]) -> T:
        """What ``make`` makes of the weights as they are now; a memo is for one module."""
        if not self._held:  # looked for once: a network of a hundred parameters lists them in 0.2 ms
            self._held = [held for part in module.modules() for held in (part._parameters, part._buffers) if held]
        held = [tensor for some in self._held for tensor in some.values() if tensor is not None]
        try:
            key = [*map(Tensor.data_ptr, held), *map(_VERSION, held)]
        except RuntimeError:  # of inference mode: these do not tell when they change
            return make()
        if self._made is None or key != self._key:
            self._key, self._made = key, make()
            self._alive = [tensor.detach() for tensor in held]  # so that no others come to lie where they did
        return self._made


def transposed_phases(
    layer: nn.ConvTranspose2d | nn.ConvTranspose3d, weight: Tensor, bias: Tensor | None, groups: int = 1
) -> Enlarging:
    """A transposed convolution of these weights (groups out, in, *kernel), otherwise like ``layer``, by phases."""
    each = zip(layer.kernel_size, layer.stride, [int(p) for p in layer.padding], strict=True)
    return Enlarging(weight, bias, [transposed_axis(*axis) for axis in each], groups)


def transposed_sizes(layer: nn.ConvTranspose2d | nn.ConvTranspose3d, sizes: Sequence[int]) -> list[int]:
    """Of the output of a transposed convolution, for an input of ``sizes``."""
    padding = [int(p) for p in layer.padding]
    each = zip(sizes, layer.kernel_size, layer.stride, padding, layer.output_padding, strict=True)
    return [(n - 1) * s - 2 * p + k + extra for n, k, s, p, extra in each]


class _ByPhases:
    """A transposed convolution by phases when showers are generated on a CPU; stands before PyTorch's class."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.memo: Memo[Enlarging] = Memo()

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Images (B, in, ...) to images (B, out, ...)."""
        if output_size is not None or not draws_on_cpu(input):
            plain: Tensor = super().forward(input, output_size)  # type: ignore[misc]
            return plain
        layer = cast("nn.ConvTranspose2d | nn.ConvTranspose3d", self)
        enlarging = self.memo(layer, lambda: transposed_phases(layer, layer.weight.transpose(0, 1), layer.bias))
        return enlarging(input, transposed_sizes(layer, input.shape[2:]))


class Transposed2d(_ByPhases, nn.ConvTranspose2d):
    """A transposed convolution that is computed by phases when showers are generated on a CPU."""


class Transposed3d(_ByPhases, nn.ConvTranspose3d):
    """The same with three axes."""


class Repeated3d(nn.Module):
    """Voxels repeated, zeros around, a convolution: by phases when showers are generated on a CPU.

    Args:
        factors: how often each axis' voxels are repeated.
        padding: zeros before and after the repeated voxels of each axis.
    """

    def __init__(self, factors: Sequence[int], padding: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.factors, self.padding = list(factors), list(padding)
        self.memo: Memo[Enlarging] = Memo()

    def forward(self, x: Tensor, layer: nn.Conv3d) -> Tensor:
        """Images (B, in, Z, Y, X) through a layer of stride one that has no padding of its own."""
        each = list(zip(layer.kernel_size, self.factors, self.padding, strict=True))

        def made() -> Enlarging:
            return Enlarging(layer.weight, layer.bias, [repeated_axis(k, f, pad[0]) for k, f, pad in each])

        enlarging = self.memo(layer, made)
        sizes = [f * n + sum(pad) - k + 1 for n, (k, f, pad) in zip(x.shape[2:], each, strict=True)]
        return enlarging(x, sizes)
