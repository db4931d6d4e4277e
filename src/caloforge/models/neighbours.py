"""Hits come in clusters: noise that neighbouring voxels of a layer share.

A particle that crosses a layer at an angle hits two or three voxels beside each other, so even given how likely each
voxel is hit, hits are not independent. A Gaussian copula (Sklar 1959; Joe, "Multivariate Models and Dependence
Concepts", 1997) keeps each voxel's probability and density as they are and correlates what is drawn. Its parameters are
learnt by the likelihood of pairs of voxels (composite likelihood: Varin, Reid, Firth, Statistica Sinica 21 (2011) 5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

_REACH = 2  # voxels, of the kernel
_DISTANCES = (1, 2, 4, 5, 8)  # squared, within reach
_NODES = 8  # of the quadrature
_LARGEST = 0.95  # correlation


class NeighbourNoise(nn.Module):
    """Standard normal noise correlated between neighbours, more or less so according to how likely a hit is.

    Each voxel takes a share ``s`` of its neighbours' noise, weighted by distance, and is scaled back to variance one.
    ``s`` depends on the layer and on the raw value (the logit of a hit), the weights on the distance alone.

    Args:
        layers: (Y, X) of every layer.
        width: K, voxels of a row; layers with fewer are filled up.
    """

    def __init__(self, layers: Sequence[tuple[int, int]], width: int) -> None:
        super().__init__()
        self.layers, self.width = [(y, x) for y, x in layers], width
        self.weight = nn.Parameter(torch.full((len(_DISTANCES),), -1.0))
        # Starts nearly independent; (level, slope) per layer of the share's dependence on the raw value.
        self.share = nn.Parameter(torch.tensor([[-3.0, 0.0]]).repeat(len(layers), 1))

    def forward(self, noise: Tensor, raw: Tensor) -> Tensor:
        """White noise (B, L, K) and raw values (B, L, K) to correlated noise (B, L, K), standard normal each."""
        share, kernel = self._shares(raw), self._kernel()
        out = []
        for shape, rows in self._groups():
            size = math.prod(shape)

            def group(x: Tensor, shape: tuple[int, int] = shape, rows: list[int] = rows) -> Tensor:
                # No list of numbers where all layers are alike: it would copy, and into another order of memory.
                chosen = x if len(rows) == x.shape[1] else x[:, rows]
                return _image(chosen[:, :, : math.prod(shape)], shape)

            part, s = group(noise), group(share)
            around = _summed_around(part, kernel)
            power = _power(kernel, shape)
            mixed = torch.addcmul(part, s, around) * torch.rsqrt(
                torch.addcmul(torch.ones_like(power), s.square(), power)
            )
            out.append((rows, F.pad(mixed.flatten(2), (0, self.width - size))))
        return _in_order(out)

    def power(self, shape: tuple[int, int]) -> Tensor:
        """The sum of squared weights of the neighbours that voxels of a layer (Y, X) have: (1, Y, X)."""
        return _power(self._kernel(), shape)

    def pair_loss(self, raw: Tensor, hit: Tensor) -> Tensor:
        """Minus the logarithm of the probability of pairs of neighbours, per voxel (B,).

        Args:
            raw: logits (B, L, K) of hits, known.
            hit: whether voxels are hit (B, L, K).
        """
        share, kernel = self._shares(raw), self._kernel()[0, 0]
        overlap = F.conv2d(kernel[None, None], kernel[None, None], padding=_REACH)[0, 0]
        power = kernel.square().sum()
        total = raw.new_zeros(len(raw))
        for shape, rows in self._groups():
            size = math.prod(shape)
            logit, lit, s = (_image(x[:, rows, :size], shape) for x in (raw, hit, share))
            level = torch.special.ndtri(torch.sigmoid(logit).clamp(1e-6, 1 - 1e-6))
            for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0)):
                here, there = _shifted(dy, dx, shape)
                if level[..., *here].numel() == 0:
                    continue
                a, b = s[..., *here], s[..., *there]
                direct = (a + b) * kernel[_REACH + dy, _REACH + dx]
                both = direct + a * b * overlap[_REACH + dy, _REACH + dx]
                correlation = both * torch.rsqrt((1 + a.square() * power) * (1 + b.square() * power))
                loss = minus_log_pair(
                    level[..., *here], level[..., *there], correlation, lit[..., *here], lit[..., *there]
                )
                total = total + loss.flatten(1).sum(1)
        return total / math.prod(raw.shape[1:])

    def _shares(self, raw: Tensor) -> Tensor:
        level, slope = self.share[:, 0, None], self.share[:, 1, None]
        x = torch.addcmul(level, slope, raw.clamp(-10, 10), value=-1)
        if torch.is_inference_mode_enabled() and x.device.type == "cpu":  # softplus again, three times as fast
            return x.clamp_(max=80).exp_().add_(1).log_()
        return F.softplus(x)

    def _kernel(self) -> Tensor:
        """Weights of neighbours (1, 1, 5, 5), the middle zero."""
        y, x = torch.meshgrid(*[torch.arange(-_REACH, _REACH + 1)] * 2, indexing="ij")
        squared = (y.square() + x.square()).to(self.weight.device)
        weight, kernel = F.softplus(self.weight), torch.zeros(squared.shape, device=squared.device)
        for each, distance in zip(weight, _DISTANCES, strict=True):
            kernel = kernel + each * (squared == distance)
        return kernel[None, None]

    def _groups(self) -> list[tuple[tuple[int, int], list[int]]]:
        """Layers of equal segmentation together: (Y, X) and their numbers."""
        shapes = dict.fromkeys(self.layers)
        return [(shape, [i for i, other in enumerate(self.layers) if other == shape]) for shape in shapes]


def minus_log_pair(a: Tensor, b: Tensor, correlation: Tensor, hit_a: Tensor, hit_b: Tensor) -> Tensor:
    """Minus the logarithm of the probability of two outcomes, each hit where a standard normal number is below a level.

    The probability of both is the integral of the bivariate normal density over the correlation from zero, from the
    product of both on (Plackett, Biometrika 41 (1954) 351), by Gauss-Legendre quadrature.

    Args:
        a: level of the first (...,).
        b: level of the second (...,).
        correlation: of the two numbers (...,).
        hit_a: whether the first was hit (...,).
        hit_b: whether the second was hit (...,).
    """
    correlation = correlation.clamp(-_LARGEST, _LARGEST)
    p_a, p_b = torch.special.ndtr(a), torch.special.ndtr(b)
    both = p_a * p_b
    squares, product = a.square() + b.square(), a * b
    for node, weight in zip(*np.polynomial.legendre.leggauss(_NODES), strict=True):
        r = correlation * (0.5 * (1 + float(node)))
        left = 1 - r.square()
        density = torch.exp((r * product - 0.5 * squares) / left) * torch.rsqrt(left) / (2 * math.pi)
        both = both + 0.5 * float(weight) * correlation * density
    one = torch.where(hit_a, p_a, p_b) - both
    chance = torch.where(hit_a & hit_b, both, torch.where(hit_a | hit_b, one, 1 - p_a - p_b + both))
    return -chance.clamp(min=1e-12).log()


def _image(rows: Tensor, shape: tuple[int, int]) -> Tensor:
    """(B, L, Y X) -> (B, L, Y, X)."""
    return rows.reshape(*rows.shape[:2], *shape)


def _power(kernel: Tensor, shape: tuple[int, int]) -> Tensor:
    """Sums (1, Y, X) of a kernel's squared weights that lie within a layer (Y, X)."""
    return F.conv2d(torch.ones(1, 1, *shape).to(kernel), kernel.square(), padding=_REACH)[0]


def _summed_around(images: Tensor, kernel: Tensor) -> Tensor:
    """Images (B, L, Y, X) convolved with one kernel (1, 1, 5, 5) each by itself."""
    if torch.compiler.is_compiling():
        flat = images.reshape(-1, 1, *images.shape[2:])
        return F.conv2d(flat, kernel, padding=_REACH).reshape(images.shape)
    # As channels of a single image, each a group of its own: for images of one channel PyTorch is 20 times slower.
    n = images.shape[0] * images.shape[1]
    flat = images.reshape(1, n, *images.shape[2:])
    return F.conv2d(flat, kernel.expand(n, -1, -1, -1), padding=_REACH, groups=n).reshape(images.shape)


def _shifted(dy: int, dx: int, shape: Sequence[int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of all voxels that have a neighbour at (dy, dx), and of those neighbours; dy >= 0."""
    n_y, n_x = shape
    y, y_there = slice(0, max(n_y - dy, 0)), slice(dy, n_y)
    x = slice(max(-dx, 0), max(n_x - max(dx, 0), 0))
    x_there = slice(max(dx, 0), max(n_x + min(dx, 0), 0))
    return (y, x), (y_there, x_there)


def _in_order(parts: list[tuple[list[int], Tensor]]) -> Tensor:
    """Rows of layers put back in the layers' order."""
    if len(parts) == 1:
        return parts[0][1]
    order = [i for rows, _ in parts for i in rows]
    back = [order.index(i) for i in range(len(order))]
    return torch.cat([rows for _, rows in parts], dim=1)[:, back]
