"""Fixtures shared by the tests: a small detector that Geant4 shoots through in milliseconds."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
import torch

from caloforge.detectors import Detector
from caloforge.incident import Incident
from caloforge.showers import Showers

ROOT = Path(__file__).parent.parent


def load_example(name: str) -> ModuleType:
    """examples/NAME.py as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # data classes look their module up
    spec.loader.exec_module(module)
    return module


TINY = """
name = "tiny"
description = "Four lead-scintillator pairs, 6 x 8 cells."
range_cut = 1.0

[[stack]]
repeat = 4
slabs = [
  { material = "Pb", thickness = 6.0 },
  { material = "polystyrene", thickness = 5.0, sensitive = true },
]

[readout]
cells = [6, 8]
cell_size = [10.0, 10.0]

[particles]
kinds = ["e-", "gamma"]
energy_gev = [0.1, 0.5]

[incidence]
x = [-5.0, 5.0]
y = [-5.0, 5.0]
tan_x = [-0.1, 0.1]
tan_y = [-0.1, 0.1]
"""


@pytest.fixture
def tiny() -> Detector:
    return Detector.from_toml(TINY)


@pytest.fixture
def voxels(tiny: Detector) -> npt.NDArray[np.float32]:
    """Dense voxel energies of twelve showers in the tiny detector (12, n_voxels) in MeV; the seventh is empty."""
    rng = np.random.default_rng(0)
    energies = rng.exponential(1.0, (12, tiny.n_voxels)) * (rng.random((12, tiny.n_voxels)) < 0.1)
    energies[6] = 0
    return energies.astype(np.float32)


@pytest.fixture
def sample(tiny: Detector, voxels: npt.NDArray[np.float32]) -> Showers:
    """These showers with incident particles of all energies and directions."""
    rng = np.random.default_rng(0)
    direction = np.array([0, 0, 1]) + rng.normal(0, 0.1, (12, 3))
    incident = Incident.of(rng.uniform(1e2, 1e5, 12), 11, direction, rng.normal(0, 5, (12, 2)))
    return Showers.from_dense(voxels, incident, tiny, {"producer": "simulate", "seed": 0})


def some_showers(detector: Detector, n: int = 200, seed: int = 0) -> Showers:
    """Blobs that move with x and grow with the energy."""
    rng = np.random.default_rng(seed)
    energy, position = rng.uniform(100, 500, n), rng.uniform(-20, 20, (n, 2))
    centres = detector.voxel_positions
    distance = np.square(centres[None, :, :2] - position[:, None]).sum(-1)
    voxels = energy[:, None] * 0.1 * np.exp(-distance / 200) * rng.exponential(size=distance.shape)
    return Showers.from_dense(voxels, Incident.of(energy, 11, position=position), detector, threshold=0.05)


@pytest.fixture
def tiny_toml(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(autouse=True, scope="session")
def shared_table_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's cache out of the tests, and compute the tables once for all of a worker's tests."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.getbasetemp()
        # Under xdist each worker has a folder of its own; their common parent serves them all.
        patch.setenv("CALOFORGE_CACHE", str((root.parent if root.name.startswith("popen-") else root) / "cache"))
        for name in ("G4LEDATA", "GEANT4_DATA_DIR"):
            patch.delenv(name, raising=False)
        yield


def learn(module: torch.nn.Module, loss: Callable[[], torch.Tensor], steps: int, lr: float) -> None:
    """Lessen a loss by Adam, with a rate that falls to a fiftieth."""
    optimiser = torch.optim.Adam(module.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.02, steps)
    for _ in range(steps):
        value = loss()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        schedule.step()
