"""Scorers without Geant4: Birks' law and the time gate on made-up steps, and which layers are scored together."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError
from caloforge.simulation.scoring import RECOIL_STOPPING, Scorer, _charged_scorer, group_layers

BIRKS = 0.0794

MIXED = """
name = "mixed"
[[stack]]
slabs = [
  {{ material = "PbWO4", thickness = 10.0, sensitive = true }},
  {{ material = "polystyrene", thickness = 5.0, sensitive = true, birks = 0.0794 }},
  {{ material = "polystyrene", thickness = 5.0, sensitive = true, birks = {last} }},
]
[readout]
cells = [2, 3]
cell_size = [10.0, 10.0]
depth = {depth}
gate = 150.0
"""


class Step:
    """What a scorer asks of a step."""

    def __init__(self, energy: float, length: float, time: float = 0.0, cell: int = 4) -> None:
        self.energy, self.length, self.time, self.cell = energy, length, time, cell

    def GetTotalEnergyDeposit(self) -> float:  # noqa: N802
        return self.energy

    def GetStepLength(self) -> float:  # noqa: N802
        return self.length

    def GetPreStepPoint(self) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(GetGlobalTime=lambda: self.time)


class Base:
    """Stands in for Geant4's scorer."""

    def __init__(self, name: str) -> None:
        self.name = name


def scored(*steps: Step, gate: float = 150.0) -> dict[int, float]:
    cells = SimpleNamespace(GetIndex=lambda step: step.cell)
    scorer, deposits = _charged_scorer(SimpleNamespace(G4VPrimitiveScorer=Base), cells, BIRKS, gate)
    for step in steps:
        scorer.ProcessHits(step, None)
    return dict(deposits)


def test_birks_law_in_closed_form() -> None:
    # A minimum ionising particle loses 1.6 % of its light, a slow proton of 20 MeV/mm most of it.
    assert scored(Step(1.0, 5.0)) == {4: pytest.approx(1.0 / (1 + BIRKS * 0.2))}
    assert scored(Step(2.0, 0.1)) == {4: pytest.approx(2.0 / (1 + BIRKS * 20))}
    assert scored(Step(0.5, 0.0)) == {4: 0.5}  # a deposit without a path has no dE/dx


def test_steps_of_a_cell_add_up_after_quenching() -> None:
    one, other = 1.0 / (1 + BIRKS * 0.2), 2.0 / (1 + BIRKS * 20)
    found = scored(Step(1.0, 5.0, cell=1), Step(2.0, 0.1, cell=1), Step(1.0, 5.0, cell=2), Step(0.0, 1.0, cell=3))
    assert found == {1: pytest.approx(one + other), 2: pytest.approx(one)}


def test_the_gate_closes_at_its_time() -> None:
    found = scored(Step(1.0, 5.0, 149.9, 1), Step(1.0, 5.0, 150.0, 2), Step(1.0, 5.0, 150.1, 3))
    assert set(found) == {1, 2}
    assert set(scored(Step(1.0, 5.0, 1e9, 1), gate=float("inf"))) == {1}


def test_recoils_of_slow_protons_lose_most_of_their_light() -> None:
    # Protons of 50 keV in polystyrene: 70-80 MeV/mm, so a seventh of the light is left.
    assert pytest.approx(0.145, abs=0.01) == 1 / (1 + BIRKS * RECOIL_STOPPING * 1.06)


def test_layers_of_equal_cells_and_quenching_are_scored_together() -> None:
    detector = Detector.from_toml(MIXED.format(last=0.0794, depth='"each"'))
    assert detector.layer_birks == (0.0, 0.0794, 0.0794)
    scorers, where = group_layers(detector)
    assert [s.layers for s in scorers] == [[0], [1, 2]]
    assert [s.plain for s in scorers] == [True, False]
    assert where[2] == (scorers[1], 1)
    assert scorers[1].voxel_of.tolist() == list(range(6, 18))
    assert isinstance(scorers[0], Scorer) and scorers[1].gate == 150.0


def test_a_layer_has_one_birks_constant() -> None:
    with pytest.raises(CaloforgeError, match=r"read-out layer 0 gathers slabs of different birks: \[0.0, 0.0794\]"):
        Detector.from_toml(MIXED.format(last=0.0794, depth='"sum"'))
    with pytest.raises(CaloforgeError, match="birks"):
        Detector.from_toml(MIXED.format(last=-1.0, depth='"each"'))
