"""Layer-energy normalisation around any model: a flow draws each layer's energy and hits, the model their pattern.

The split is that of CaloFlow (Krause, Shih, arXiv 2106.05285, flow I and II) and L2LFlows (Diefenbacher et al., arXiv
2302.11594); here the second model may be any of `MODELS`. Splines: arXiv 1906.04032.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from .. import extras
from ..options import Count, NotNegative, Positive
from .autoencoder import CriticAutoencoder
from .base import Batch, DrawHits, GenerativeModel, Head, Hits, NoiseOfShowers, Objective
from .component import Layers, build_component
from .emission import Emission
from .flow import ChainFlow
from .flow_on_cpu import flow_on_cpu
from .hits import HitDraw, pieces
from .layer_code import LayerCode
from .losses import kl_divergence, weighted_mean
from .neighbours import NeighbourNoise
from .pattern_encoder import Encoder
from .rows import Rows

# Voxels that generation's component, and the drawing of its hits, see at a time: few enough to stay in the cache.
_VOXELS = 2**18


def _raw_head(raw: Tensor, condition: Tensor, noise: Tensor) -> Tensor:
    return raw


class LayerEnergy(GenerativeModel):
    """A flow for each layer's energy and hits, and a model (`component`) for the pattern within (arXiv 2106.05285).

    Phase 0 trains the flow on Geant4: layer energies and hits given the conditions (maximum likelihood). The phases of
    the component follow. It gets the layer energies and hits as further conditions, and its output is finished by this
    model's head instead of its own: in each layer the brightest voxels, as many as there should be hits, stay, and
    are scaled to the layer's energy. So the energies, their correlations and the hits are the flow's from the first
    step on, and the component's critics need not teach what a sum is.

    Meant for the transform chain ``[per-incident-energy]`` (with ``threshold`` before it if wanted): showers are linear
    in energy on the outside; inside, the component sees ``((1 + u / offset)^exponent - 1) / exponent / scale``.

    With ``voxel_noise`` the component says how likely each voxel is hit, and `Emission` draws which ones are and how
    bright: the scattered hits around a shower's core, which some tens of latent numbers cannot draw, come free, and the
    spectrum of their energies is learnt by maximum likelihood.

    Zeros: exact, as many as the flow asks for: the faintest voxels of each layer are cut.

    Trap: the component cannot make a hit where the flow wants none, nor more energy: a bad flow spoils every shower.
    Look at the loss of phase 0 on the validation showers; it overfits on a few thousand showers, so mind its steps.

    Args:
        shape: (L, Y, X), or (n_voxels,) with ``layers``.
        n_conditions: C.
        component: name of the model of the pattern.
        options: its options.
        hidden: width of the flow's recurrent state.
        bins: of the flow's splines.
        offset: of the component's view, in units of the shower space (the incident energy).
        exponent: of the component's view, between logarithm (0) and linear (1).
        scale: of the component's view.
        warm_up: put a phase between that teaches the component the pattern for its conditions without a critic: the
            mean pattern by squared error against Geant4 showers or, with ``voxel_noise``, how often each voxel is hit
            and how bright by maximum likelihood. Its critics need only teach what is left.
        voxel_noise: see above; makes the latent as long as the shower.
        encoded: how many of the component's latent numbers the encoder gives in a second phase of the warm-up, which
            teaches how patterns differ beyond layer energies and hits: the evidence lower bound of a variational
            autoencoder whose decoder the component is (arXiv 1312.6114); 0: no such phase. An autoencoder has an
            encoder of its own, with its own option of this name; here 1 is as good as any for it.
        latent_weight: beta, of the divergence of these numbers from normal ones in the lower bound (1: the bound).
        latent_scale: standard deviation of the component's latent numbers.
        emphasis: how much more the likelihood counts voxels where much energy is expected: there are few of them.
        neighbours: correlate the noise of neighbouring voxels, see `NeighbourNoise`; learnt after the warm-up.
        landmarks: of the energies of hits, see `Emission`; 0: none.
        energy_spread: standard deviation of the logarithm of the incident energy in training, which the first condition
            must be then: with it the landmarks stand at one energy; 0: at one share of the incident energy.
        bright_first: how the energies drawn are made to add up to the layer's, see `scale_to`: 1: the bright voxels
            change, the faint ones stay; 0: all by the same factor.
        emission_hidden: width of the network that shapes the energies of hits: it runs for each of them.
        emission_bins: of the splines of these energies.
        layers: (Y, X) of every layer, where they differ.
    """

    takes_layers: ClassVar[bool] = True
    depth: ClassVar[int] = 1

    def __init__(
        self,
        shape: tuple[Count, ...],
        n_conditions: Count,
        component: str,
        options: dict[str, Any] | None = None,
        hidden: Count = 64,
        bins: Count = 12,
        offset: Positive = 1e-4,
        exponent: Positive = 0.3,
        scale: Positive = 5.0,
        warm_up: bool = False,
        voxel_noise: bool = False,
        encoded: Annotated[int, Field(ge=0)] = 0,
        latent_weight: NotNegative = 1.0,
        latent_scale: Positive = 1.0,
        emphasis: NotNegative = 0.0,
        landmarks: Annotated[int, Field(ge=0)] = 0,
        energy_spread: NotNegative = 0.0,
        neighbours: bool = False,
        bright_first: NotNegative = 1.0,
        emission_hidden: Count = 48,
        emission_bins: Count = 16,
        layers: Layers | None = None,
    ) -> None:
        super().__init__(
            shape,
            n_conditions,
            component=component,
            options=dict(options or {}),
            hidden=hidden,
            bins=bins,
            offset=offset,
            exponent=exponent,
            scale=scale,
            warm_up=warm_up,
            voxel_noise=voxel_noise,
            encoded=encoded,
            latent_weight=latent_weight,
            latent_scale=latent_scale,
            emphasis=emphasis,
            landmarks=landmarks,
            energy_spread=energy_spread,
            neighbours=neighbours,
            bright_first=bright_first,
            emission_hidden=emission_hidden,
            emission_bins=emission_bins,
            layers=layers,
        )
        self.rows = Rows(shape, layers if len(shape) != 3 else None)
        self.code = LayerCode(self.rows.n_layers)
        self.flow = ChainFlow(self.rows.n_layers, n_conditions, hidden, bins)
        self.component = build_component(
            component, shape, n_conditions + self.code.size, layers, options or {}, self.depth
        )
        self.component.head = self.finish
        self.component.latent_scale = latent_scale
        self.emission, self.encoder, self.neighbours = None, None, None
        self._most: int | None = None
        if voxel_noise:
            self.emission = Emission(
                n_conditions,
                self.rows.n_layers,
                self.rows.width,
                hidden=emission_hidden,
                bins=emission_bins,
                landmarks=landmarks,
                energy_spread=energy_spread,
                emphasis=emphasis,
                bright_first=bright_first,
            )
            if neighbours:
                self.neighbours = NeighbourNoise(self.rows.layers, self.rows.width)
            if warm_up and encoded and not isinstance(self.component, CriticAutoencoder):
                n_out = min(encoded, self.component.latent_size)
                self.encoder = Encoder(self.rows, n_conditions + self.code.size, n_out)
        self.component.head_noise = self.voxel_noise = math.prod(shape) if voxel_noise else 0
        self.latent_size = self.code.size + self.component.latent_size + self.component.head_noise

    def phases(self) -> Sequence[Sequence[Objective]]:
        """The flow first, then the warm-up if there is one, then the component's phases."""
        first = [[Objective("layer_energy", [self.flow], self._flow_loss)]]
        if self.config["warm_up"]:
            modules = [*self.component.generation_modules(), *self._voxel_modules()]
            loss = self._likelihood if self.emission else self._squared_error
            first.append([Objective("pattern", modules, loss)])
            encoder = self.component.encoder if isinstance(self.component, CriticAutoencoder) else self.encoder
            if self.config["encoded"] and encoder is not None:
                first.append([Objective("variation", [*modules, encoder], self._lower_bound)])
            if self.neighbours:
                first.append([Objective("neighbours", [self.neighbours], self._pair_loss)])
        return [*first, *([self._within(objective) for objective in phase] for phase in self.component.phases())]

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Map latent (N, Z) and condition (N, C) to showers (N, *shape), linear in energy."""
        code = self.flow(latent[:, : self.code.size], condition)
        with self._headed(self._drawn):  # not to the component's view and back
            linear: Tensor = self.component(latent[:, self.code.size :], self._joined(condition, code))
        return linear

    def draw_latent(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        """Draw the flow's noise and the component's."""
        device = rng.device if rng is not None else torch.device("cpu")
        flow = torch.randn(n, self.code.size, generator=rng, device=device)
        return torch.cat([flow, self.component.draw_latent(n, rng), self.component.draw_head_noise(n, rng)], dim=1)

    def latent_of(self, normal: Tensor) -> Tensor:
        """The flow's noise and the component's from standard normal numbers (n, Z)."""
        sizes = [self.code.size, self.component.latent_size, self.component.head_noise]
        flow, own, head = torch.split(normal, sizes, dim=1)
        return torch.cat([flow, self.component.latent_of(own), head], dim=1)

    def draw_own_latent(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        """Draw the flow's noise and the component's, not that of single voxels."""
        device = rng.device if rng is not None else torch.device("cpu")
        flow = torch.randn(n, self.code.size, generator=rng, device=device)
        return torch.cat([flow, self.component.draw_latent(n, rng)], dim=1)

    @property
    def sparse(self) -> bool:
        """Whether hits are drawn voxel by voxel."""
        return self.emission is not None

    @torch.inference_mode()
    def hits(self, own: Tensor, condition: Tensor, noise: NoiseOfShowers) -> Hits:
        """The showers of `forward` without their empty voxels, see the base class."""
        assert self.emission is not None
        code = torch.from_numpy(flow_on_cpu(self.flow, own[:, : self.code.size].numpy(), condition.numpy()))
        joined = self._joined(condition, code)
        energy, counts = self._decoded(joined)
        context = self.emission.context(condition, energy, counts)
        draw = HitDraw(self.emission, self.neighbours, self.rows, self._most or self._count_most_hits())
        parts = []
        for some in pieces(len(own), _VOXELS // math.prod(self.shape)):
            raw = self.raw_values(own[some, self.code.size :], joined[some])
            parts.append(draw(raw, noise(some), context[some], energy[some], counts[some]))
        return Hits(*(np.concatenate(each) for each in zip(*parts, strict=True)))

    def raw_values(self, own: Tensor, joined: Tensor) -> Tensor:
        """What the component's network gives (B, *shape), from its latent (B, Z) and all that it is told."""
        with self._headed(_raw_head):
            raw: Tensor = self.component(own, joined)
        return raw

    def compiled_hits(self) -> DrawHits:
        """`hits` in compiled loops, see the base class."""
        extras.numba()
        from .compiled_hits import CompiledHits

        voxels = _VOXELS * (4 if self.component.light else 1)  # the loops go shower by shower, whatever the cache
        return CompiledHits(self, self._most or self._count_most_hits(), voxels)

    def generation_modules(self) -> Sequence[nn.Module]:
        """The flow and what the component needs; the scale of the flow belongs to it."""
        drawn = [self.neighbours] if self.neighbours else []
        return [self.flow, *self.component.generation_modules(), *self._voxel_modules(), *drawn]

    def _voxel_modules(self) -> list[nn.Module]:
        return [self.emission] if self.emission else []

    def finish(self, raw: Tensor, condition: Tensor, noise: Tensor) -> Tensor:
        """The component's head: keep the brightest voxels of each layer and scale them to the layer's energy.

        Args:
            raw: output (B, *shape) of the component's network.
            condition: (B, C + 2 L), the last of them the standardised layer code.
            noise: (B, voxels) if each voxel gets noise, else (B, 0).

        Returns:
            Showers (B, *shape) in the component's view.
        """
        return self._seen(self._drawn(raw, condition, noise))

    def _drawn(self, raw: Tensor, condition: Tensor, noise: Tensor) -> Tensor:
        """The same, linear in energy."""
        energy, hits = self._decoded(condition)
        rows = self.rows.split(raw, fill=-1e9)
        if self.emission:
            context = self.emission.context(condition[:, : self.n_conditions], energy, hits)
            # A number, not a tensor, and one that training must not know from before it was resumed.
            most = self._count_most_hits() if self._most is None else self._most
            noises = self.rows.split(noise.reshape(raw.shape))
            if self.neighbours:
                noises = self.neighbours(noises, rows + self.emission.bias)
            return self.rows.join(self.emission(rows, noises, context, energy, hits, most))
        order = rows.detach().sort(dim=2, descending=True).values
        last = (hits.long() - 1).clamp(0, self.rows.width - 1).unsqueeze(2)
        lit = (rows >= order.gather(2, last)) & (hits > 0).unsqueeze(2)
        linear = self._linear(F.softplus(rows)) * lit
        # A dark row must not lose its energy: its sum may be far below one part in 10^9.
        linear = linear * (energy / linear.sum(2).clamp(min=1e-30)).unsqueeze(2)
        return self.rows.join(linear)

    def _decoded(self, joined: Tensor) -> tuple[Tensor, Tensor]:
        """Layer energies and hits, both (B, L), of what the component gets as its condition."""
        scale = self.flow.scale
        return self.code.decode(joined[:, self.n_conditions :] * scale.deviation + scale.mean)

    @contextmanager
    def _headed(self, head: Head) -> Iterator[None]:
        """Another last step of the component for a while."""
        own, self.component.head = self.component.head, head
        try:
            yield
        finally:
            self.component.head = own

    def _within(self, objective: Objective) -> Objective:
        """An objective of the component, fed with what the component sees of a batch."""
        moved = {id(p) for module in objective.modules for p in module.parameters()}
        generates = any(id(p) in moved for part in self.component.generation_modules() for p in part.parameters())
        # What a warm-up has taught of single voxels stays.
        voxels = self._voxel_modules() if generates and not self.config["warm_up"] else []
        return replace(
            objective,
            modules=[*objective.modules, *voxels],
            loss=lambda batch: objective.loss(self._component_batch(batch)),
        )

    @torch.no_grad()
    def _component_batch(self, batch: Batch) -> Batch:
        return Batch(self._seen(batch.showers), self._component_condition(batch), batch.rng, batch.weight)

    @torch.no_grad()
    def _component_condition(self, batch: Batch) -> Tensor:
        return self._joined(batch.condition, self._encode(batch))

    def _encode(self, batch: Batch) -> Tensor:
        rows = self.rows.split(batch.showers)
        return self.code.encode(rows.sum(2), (rows > 0).sum(2).to(rows), batch.rng)

    def _flow_loss(self, batch: Batch) -> Tensor:
        code = self._encode(batch)
        if self.flow.training:
            self.flow.scale.see(code)
        return weighted_mean(self.flow.loss(code, batch.condition), batch.weight) / self.code.size

    def _squared_error(self, batch: Batch) -> Tensor:
        inner = self._component_batch(batch)
        fake = self.component.sample(inner.condition, inner.rng)
        return weighted_mean((fake - inner.showers).square(), inner.weight)

    def _likelihood(self, batch: Batch) -> Tensor:
        """Minus the log-likelihood of a voxel."""
        condition = self._component_condition(batch)
        latent = self.component.draw_latent(len(batch), batch.rng).to(condition)
        return self._surprise(batch, latent, condition) / math.prod(self.shape)

    def _lower_bound(self, batch: Batch) -> Tensor:
        """Minus the evidence lower bound of a voxel (arXiv 1312.6114, eq. 10), the component being the decoder."""
        inner = self._component_batch(batch)
        mean, log_variance, latent = self._encoded(inner)
        loss = self._surprise(batch, latent, inner.condition)
        bound = loss + self.config["latent_weight"] * kl_divergence(mean, log_variance, batch.weight)
        per_voxel: Tensor = bound / math.prod(self.shape)
        return per_voxel

    def _pair_loss(self, batch: Batch) -> Tensor:
        """Minus the log-likelihood of pairs of neighbours, per voxel; only their correlation is learnt."""
        assert self.emission is not None and self.neighbours is not None
        with torch.no_grad():
            inner = self._component_batch(batch)
            if self.config["encoded"]:
                _, _, latent = self._encoded(inner)
            else:
                latent = self.component.draw_latent(len(batch), batch.rng).to(inner.condition)
            raw = self._raw(latent, inner.condition) + self.emission.bias
        return weighted_mean(self.neighbours.pair_loss(raw, self.rows.split(batch.showers) > 0), batch.weight)

    def _encoded(self, inner: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and log variance (B, E) of what the encoder reads off showers, and the component's latent (B, Z)."""
        if isinstance(self.component, CriticAutoencoder):
            code = self.component.encode(inner)
            return code.mean, code.log_variance, code.latent
        assert self.encoder is not None
        mean, log_variance = self.encoder(inner.showers, inner.condition)
        latent = self.component.draw_latent(len(inner), inner.rng).to(mean)
        n = mean.shape[1]
        drawn = self.component.latent_scale * mean + (0.5 * log_variance).exp() * latent[:, :n]
        return mean, log_variance, torch.cat([drawn, latent[:, n:]], dim=1)

    def _raw(self, latent: Tensor, condition: Tensor) -> Tensor:
        """The component's raw values (B, L, K)."""
        return self.rows.split(self.raw_values(latent, condition), fill=-1e9)

    def _surprise(self, batch: Batch, latent: Tensor, condition: Tensor) -> Tensor:
        """Minus the log-likelihood of a shower, given the component's latent and conditions."""
        assert self.emission is not None
        rows = self.rows.split(batch.showers)
        raw = self._raw(latent, condition)
        context = self.emission.context(batch.condition, rows.sum(2), (rows > 0).sum(2).to(rows))
        return weighted_mean(self.emission.minus_log_likelihood(raw, rows, context), batch.weight)

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation."""
        self._most = None if mode else self._count_most_hits()
        return super().train(mode)

    def _count_most_hits(self) -> int:
        """As many hits as a layer can get: the flow stays within the range it has seen."""
        return min(self.rows.width, int(self.flow.scale.high[1::2].max().square()) + 1)

    def _joined(self, condition: Tensor, code: Tensor) -> Tensor:
        return torch.cat([condition, self.flow.scale(code)], dim=1)

    def _seen(self, linear: Tensor) -> Tensor:
        power, offset, scale = (self.config[name] for name in ("exponent", "offset", "scale"))
        seen: Tensor = torch.expm1(power * torch.log1p(linear / offset)) / (power * scale)
        return seen

    def _linear(self, seen: Tensor) -> Tensor:
        power, offset, scale = (self.config[name] for name in ("exponent", "offset", "scale"))
        # Nothing in a shower is 10^8 times brighter than the offset; a wild network must not overflow.
        linear: Tensor = offset * torch.expm1((torch.log1p(power * scale * seen) / power).clamp(max=18.0))
        return linear
