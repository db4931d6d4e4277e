"""The deterministic part of generating, from noise and conditions to MeV, as modules that can be compiled and exported.

`Chain` is what every backend runs. The modules around it take what a program without caloforge has: standard normal
numbers and physical quantities.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from ..checkpoint import Checkpoint
from ..errors import CaloforgeError
from ..image_checkpoint import ImageCheckpoint
from ..incident import particle_mass
from ..jets.pairs import event_scale

FROM_ENERGY = ("energy", "log_energy")
"""Conditions that the incident energy alone determines."""

PAR04_CONDITIONS = 4
PAR04_MAX_ENERGY = 1_024_000.0  # MeV; Par04InferenceSetup.hh divides energies by it
PAR04_MAX_ANGLE = 90.0  # degrees


class Chain(nn.Module):
    """Latent noise (N, Z), transformed conditions (N, C) and energies (N,) in MeV to voxel energies (N, V) in MeV.

    Voxels under the read-out's threshold are empty. NaN stays NaN, so that it is found.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.model = checkpoint.model
        self.to_showers = checkpoint.shower_transform
        self.threshold = checkpoint.detector.readout.threshold

    def forward(self, latent: Tensor, condition: Tensor, energy: Tensor) -> Tensor:
        """See the class."""
        x = self.to_showers.inverse(self.model(latent, condition), energy).flatten(1)
        return torch.where(x < self.threshold, 0.0, x).clamp(min=0)


class ShowerChain(nn.Module):
    """Standard normal noise (N, Z), incident energies (N,) and further conditions (N, C') to voxels (N, V), in MeV.

    Attributes:
        given: names of the further conditions, in order; those that follow from the energy are not asked for.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.chain = Chain(checkpoint)
        self.to_condition = checkpoint.condition_transform
        self.names = list(checkpoint.conditions)
        self.given = [name for name in self.names if name not in FROM_ENERGY]
        self.noise_size = checkpoint.model.latent_size

    def forward(self, noise: Tensor, energy: Tensor, condition: Tensor | None = None) -> Tensor:
        """See the class."""
        columns = [self._column(name, energy, condition) for name in self.names]
        raw = torch.stack(columns, dim=1) if columns else energy.new_zeros((energy.shape[0], 0))
        made: Tensor = self.chain(self.chain.model.latent_of(noise), self.to_condition(raw, energy), energy)
        return made

    def _column(self, name: str, energy: Tensor, condition: Tensor | None) -> Tensor:
        if name in FROM_ENERGY:
            return energy if name == "energy" else energy.log()
        assert condition is not None
        return condition[:, self.given.index(name)]


class Par04Chain(nn.Module):
    """What the C++ of Geant4's example Par04 feeds and expects (model type VAE): one input, one output.

    Input (N, Z + 4): Z standard normal numbers, the energy over 1 024 000 MeV, the polar angle over 90 degrees, and two
    numbers that tell Par04's geometries apart, ignored here. Output (N, V): voxel energies over the incident energy,
    in the order in which Par04 places them, first axis slowest: (r, phi, z), or (x, y, z) in a Cartesian detector.

    Par04 turns its mesh along the particle, so the particle is one that comes in along the axis, in the middle: only
    the energy (and the polar angle, where a model has it as a condition) changes from shower to shower.

    Raises:
        CaloforgeError: if the layers of the detector are segmented differently: Par04 has one mesh.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.detector_shape = checkpoint.detector.shape
        if len(self.detector_shape) != 3:
            raise CaloforgeError(
                f"the layers of detector '{checkpoint.detector.name}' are segmented differently, and Par04 knows one "
                "mesh only; export with the layout caloforge."
            )
        self.inner = ShowerChain(checkpoint)
        self.noise_size = self.inner.noise_size
        self.mass = float(particle_mass(np.array(checkpoint.domain["pdg"][:1]))[0])

    def forward(self, inputs: Tensor) -> Tensor:
        """See the class."""
        energy = inputs[:, self.noise_size] * PAR04_MAX_ENERGY
        theta = inputs[:, self.noise_size + 1] * math.radians(PAR04_MAX_ANGLE)
        momentum = torch.sqrt(energy * (energy + 2 * self.mass))
        known = {"theta": theta, "p_z": momentum}
        columns = [known.get(name, torch.zeros_like(energy)) for name in self.inner.given]
        condition = torch.stack(columns, dim=1) if columns else None
        voxels = self.inner(inputs[:, : self.noise_size], energy, condition) / energy.unsqueeze(1)
        turned: Tensor = voxels.reshape(-1, *self.detector_shape).permute(0, 3, 2, 1).flatten(1)
        return turned


class ImageChain(nn.Module):
    """Standard normal noise (N, Z) and fast images (N, Y, X) in MeV to full images (N, Y, X) in MeV."""

    def __init__(self, checkpoint: ImageCheckpoint) -> None:
        super().__init__()
        self.model = checkpoint.model
        self.transform = checkpoint.transform
        self.noise_size = checkpoint.model.latent_size

    def forward(self, noise: Tensor, fast: Tensor) -> Tensor:
        """See the class."""
        towers = fast.unsqueeze(1)
        scale = event_scale(towers)
        made = self.model(self.model.latent_of(noise), self.transform(towers, scale).flatten(1))
        full: Tensor = self.transform.inverse(made, scale).clamp(min=0).squeeze(1)
        return full
