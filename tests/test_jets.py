"""Jets in images: against FastJet's own objects, and jets of one and two towers in closed form."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from caloforge.errors import CaloforgeError
from caloforge.jets import CMS, EtaPhiGrid, Images
from caloforge.jets.clustering import JetFinder, find_jets
from caloforge.jets.substructure import BETA, VARIABLES, jet_observables

fastjet = pytest.importorskip("fastjet")
GEV = 1000.0


def image(*towers: tuple[int, int, float]) -> Images:
    """One image with towers (eta bin, phi bin, pT in MeV)."""
    dense = np.zeros((1, *CMS.shape))
    for row, column, pt in towers:
        dense[0, row, column] = pt * math.cosh(CMS.eta[row])
    return Images.from_dense(dense)


# Irregular, so that no two distances are equal: on an even grid ties are common, and the order of towers decides them.
UNEVEN = EtaPhiGrid(tuple(np.sort(np.random.default_rng(1).uniform(-4, 4, 500)).tolist()), 72)


@pytest.fixture(scope="module")
def busy() -> Images:
    """Images with three sprays of towers and soft ones everywhere."""
    rng = np.random.default_rng(5)
    dense = rng.exponential(300.0, (20, *UNEVEN.shape)) * (rng.random((20, *UNEVEN.shape)) < 0.005)
    for picture in dense:
        for _ in range(3):
            row, column = rng.integers(60, 440), rng.integers(0, 72)
            steps = np.rint(rng.normal(0, (9, 1.5), (12, 2))).astype(int)
            np.add.at(picture, (row + steps[:, 0], (column + steps[:, 1]) % 72), rng.exponential(20 * GEV, 12))
    return Images.from_dense(dense, grid=UNEVEN)


def fastjet_particles(picture: npt.NDArray[np.float32]) -> list[object]:
    rows, columns = np.nonzero(picture)
    eta, phi = UNEVEN.eta[rows], UNEVEN.phi[columns]
    pt = picture[rows, columns].astype(np.float64) / np.cosh(eta)
    columns_ = (pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta))
    return [fastjet.PseudoJet(*values) for values in np.stack(columns_, axis=1).tolist()]


@pytest.mark.parametrize(("radius", "fraction"), [(0.5, 0.03), (0.8, 0.1), (0.5, 0.0)])
def test_jets_are_fastjets(busy: Images, radius: float, fraction: float) -> None:
    """One event at a time through FastJet's classes, trimming by its Filter."""
    found = jet_observables(busy, JetFinder(radius=radius, trim_fraction=fraction))
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, radius)
    trimmer = fastjet.Filter(fastjet.JetDefinition(fastjet.kt_algorithm, 0.2), fastjet.SelectorPtFractionMin(fraction))
    for number, picture in enumerate(busy.dense()):
        clusters = fastjet._swig.ClusterSequence(fastjet_particles(picture), definition)
        jets = fastjet.sorted_by_pt(clusters.inclusive_jets(20 * GEV))
        for rank in range(2):
            values = {name: found[f"jet{rank + 1}_{name}"][number] for name in VARIABLES}
            if rank >= len(jets):
                assert np.isnan(list(values.values())).all()
                continue
            jet = trimmer(jets[rank]) if fraction else jets[rank]
            expected = {"pt": jet.pt(), "mass": jet.m(), "eta": jet.eta(), "phi": jet.phi_std()}
            for name, value in expected.items():
                assert values[name] == pytest.approx(value, rel=1e-6, abs=1e-3), name
            parts = jet.constituents()
            girth = sum(p.pt() * p.delta_R(jet) for p in parts) / jet.pt()
            assert values["girth"] == pytest.approx(girth, rel=1e-6)
            moment = sum(p.pt() * q.pt() * p.delta_R(q) ** BETA for p in parts for q in parts) / jet.pt() ** 2
            assert values["two_point_moment"] == pytest.approx(moment, rel=1e-6)
            assert values["tau_1"] >= values["tau_2"] >= 0


def test_a_jet_of_one_tower() -> None:
    found = jet_observables(image((40, 71, 50 * GEV)))
    assert found["jet1_pt"][0] == pytest.approx(50 * GEV, rel=1e-6)
    assert found["jet1_eta"][0] == pytest.approx(CMS.eta[40]) and found["jet1_phi"][0] == pytest.approx(CMS.phi[71])
    assert found["jet1_mass"][0] == pytest.approx(0, abs=0.1)
    for name in ("tau_1", "tau_2", "girth", "two_point_moment"):
        assert found[f"jet1_{name}"][0] == pytest.approx(0, abs=1e-7)
    assert all(np.isnan(found[name][0]) for name in found if name.startswith("jet2") or name.startswith("delta"))


def test_a_jet_of_two_towers() -> None:
    """Equal towers a step d in phi apart at eta = 0.0435: the axis is between them, p_T = 2 p cos(d / 2)."""
    p, d = 30 * GEV, math.radians(5)
    found = jet_observables(image((36, 0, p), (36, 71, p)))  # across the seam at phi = pi
    pt = 2 * p * math.cos(d / 2)
    assert found["jet1_pt"][0] == pytest.approx(pt)
    assert abs(found["jet1_phi"][0]) == pytest.approx(math.pi)
    mass = 2 * p * math.sin(d / 2)
    assert found["jet1_mass"][0] == pytest.approx(mass, rel=1e-4)
    # Rapidity of the axis differs from the towers' by the mass it has got.
    rapidity = math.asinh(2 * p * math.sinh(CMS.eta[36]) / math.hypot(pt, mass))
    step = math.hypot(d / 2, rapidity - CMS.eta[36])
    assert found["jet1_girth"][0] == pytest.approx(2 * p * step / pt)
    assert found["jet1_two_point_moment"][0] == pytest.approx(2 * p * p * d**BETA / pt**2)
    assert found["jet1_tau_1"][0] == pytest.approx(d / 2 / 0.5, rel=1e-3)
    assert found["jet1_tau_2"][0] == pytest.approx(0, abs=1e-7)


def test_trimming_drops_soft_subjets() -> None:
    towers = ((36, 20, 60 * GEV), (40, 20, 1 * GEV))
    assert jet_observables(image(*towers))["jet1_girth"][0] == pytest.approx(0, abs=1e-7)
    whole = jet_observables(image(*towers), JetFinder(trim_fraction=0))
    assert whole["jet1_girth"][0] > 1e-3 and len(find_jets(image(*towers), JetFinder(trim_fraction=0)).pt) == 2


def test_two_jets_back_to_back() -> None:
    found = jet_observables(image((30, 10, 40 * GEV), (45, 46, 60 * GEV)))
    assert found["jet1_pt"][0] > found["jet2_pt"][0]
    assert found["delta_phi"][0] == pytest.approx(math.pi)
    assert found["delta_eta"][0] == pytest.approx(abs(CMS.eta[30] - CMS.eta[45]))


def test_images_without_jets() -> None:
    nothing = Images.from_dense(np.zeros((3, 72, 72)))
    for images in (nothing, nothing[:0], image((3, 3, 1 * GEV))):
        found = jet_observables(images)
        assert all(len(values) == len(images) and np.isnan(values).all() for values in found.values())
    assert set(found) >= {f"jet{j}_{name}" for j in (1, 2) for name in VARIABLES} | {"delta_eta", "delta_phi"}


@pytest.mark.parametrize("wrong", [{"radius": 0}, {"trim_fraction": 1}, {"number": 0}, {"min_pt": math.nan}])
def test_jets_that_cannot_be_found(wrong: dict[str, float]) -> None:
    with pytest.raises(CaloforgeError, match="cannot be found"):
        JetFinder(**wrong)  # type: ignore[arg-type]


def test_images_may_be_in_any_pieces(busy: Images) -> None:
    whole = jet_observables(busy)
    parts = [jet_observables(busy[i : i + 7]) for i in range(0, 20, 7)]
    for name, values in whole.items():
        np.testing.assert_array_equal(values, np.concatenate([part[name] for part in parts]))
