"""Layer energies and hits as numbers for a flow (CaloFlow, Krause, Shih, arXiv 2106.05285)."""

from __future__ import annotations

import torch
from torch import Tensor

_TINY = 1e-9


class LayerCode:
    """Layer energies and hits as numbers that a flow can learn, and back.

    Of L layers: the logarithm of the total energy; then of each layer sqrt(hits + u), u uniform in 0..1, so that whole
    numbers become continuous, and, of all but the last, the logit of its share of the energy that is left from it on
    (arXiv 2106.05285, eq. 7). A layer without hits has no share: noise takes its place and is ignored on the
    way back. It lies about half a per cent, as a single hit would: a flow cannot tell no hit from one with perfect
    sharpness, and a layer that gets one by mistake must not get half of the shower's energy with it.
    """

    def __init__(self, n_layers: int) -> None:
        self.n_layers = n_layers
        self.size = 2 * n_layers

    def encode(self, energy: Tensor, hits: Tensor, rng: torch.Generator) -> Tensor:
        """Energies (B, L) and hits (B, L) -> (B, 2 L)."""
        u = torch.rand(hits.shape, generator=rng, device=rng.device).to(energy)
        # Off the edges, so that rounding on the way back cannot reach another whole number.
        roots = (hits + 0.01 + 0.98 * u).sqrt()
        left = energy.flip(1).cumsum(1).flip(1)
        share = (energy / left.clamp(min=_TINY)).clamp(1e-7, 1 - 1e-7)
        noise = torch.randn(share.shape, generator=rng, device=rng.device).to(energy) - 5
        logits = torch.where(hits > 0, share.logit(), noise)
        total = energy.sum(1, keepdim=True).clamp(min=_TINY).log()
        code = energy.new_empty(len(energy), self.size)
        code[:, :1], code[:, 1::2], code[:, 2::2] = total, roots, logits[:, :-1]
        return code

    def decode(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 2 L) -> energies (B, L), hits (B, L) as whole numbers in float; energies are zero where hits are."""
        hits = code[:, 1::2].clamp(min=0).square().floor()
        share = torch.where(hits[:, :-1] > 0, code[:, 2::2].sigmoid(), torch.zeros_like(hits[:, :-1]))
        kept = torch.cat([torch.ones_like(hits[:, :1]), (1 - share).cumprod(1)], dim=1)
        part = kept * torch.cat([share, torch.ones_like(hits[:, :1])], dim=1)
        part = torch.where(hits > 0, part, torch.zeros_like(part))
        part = part / part.sum(1, keepdim=True).clamp(min=_TINY)
        return part * code[:, :1].exp(), hits
