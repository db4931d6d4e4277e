"""Files that cannot or should not be compared: one sentence each, naming the file."""

from __future__ import annotations

import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from caloforge.errors import CaloforgeError, CaloforgeWarning
from caloforge.evaluation import compare, evaluate
from caloforge.evaluation.checks import check_files, doubts
from caloforge.evaluation.sample import marks, measure
from caloforge.showers import Showers
from test_report import detector, make

N = 60


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return make(tmp_path / "reference.h5", N, 1)


def changed(path: Path, dataset: str, value: float, at: object = 7) -> Path:
    """A file one of whose numbers was spoilt by someone else's program; h5py's checksums fit it again."""
    with h5py.File(path, "r+") as file:
        values = file[dataset][...]
        values[at] = value
        file[dataset][...] = values
    return path


@pytest.mark.filterwarnings("ignore::caloforge.errors.CaloforgeWarning")
@pytest.mark.parametrize(
    ("dataset", "value", "said"),
    [
        ("voxels/energy", np.nan, "voxel energies hold NaN"),
        ("voxels/energy", np.inf, "voxel energies hold NaN or values"),
        ("voxels/energy", -1.0, "values that are not above 0"),
        ("incident/energy", np.nan, "'incident/energy' holds NaN"),
        ("incident/energy", -5.0, "negative"),
        ("incident/energy", 0.0, "have no energy"),
        ("incident/direction", -1.0, "do not fly into the detector"),
    ],
)
def test_impossible_values(dataset: str, value: float, said: str, reference: Path, tmp_path: Path) -> None:
    bad = changed(make(tmp_path / "bad.h5", N, 2), dataset, value, (7, 2) if "direction" in dataset else 7)
    with pytest.raises(CaloforgeError, match=said) as error:
        evaluate(reference, bad, tmp_path / "report", repeats=1, cache=False)
    assert "bad.h5" in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "report").exists()


@pytest.mark.filterwarnings("ignore::caloforge.errors.CaloforgeWarning")
def test_a_broken_file_is_named_before_anything_is_trained(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caloforge.evaluation.comparison.separate", None)
    good = make(tmp_path / "good.h5", N, 2)
    cut = tmp_path / "cut.h5"
    cut.write_bytes(good.read_bytes()[:-3000])
    with pytest.raises(CaloforgeError, match=r"cut\.h5"):
        compare(reference, [good, cut], tmp_path / "out")
    spoilt = changed(make(tmp_path / "spoilt.h5", N, 3), "voxels/energy", np.nan)
    with pytest.raises(CaloforgeError, match=r"spoilt\.h5"):
        compare(reference, [good, spoilt], tmp_path / "out", cache=False)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_compared(reference: Path, tmp_path: Path) -> None:
    with pytest.raises(CaloforgeError, match=r"few\.h5' holds 49 showers"):
        check_files([reference, make(tmp_path / "few.h5", 49, 2)], None)
    with pytest.raises(CaloforgeError, match=r"'.*other\.h5' of 'toy' with 162 voxels"):
        check_files([reference, make(tmp_path / "other.h5", N, 2, where=detector(layers=2))], None)
    assert len(check_files([reference, make(tmp_path / "good.h5", N, 2)], None)) == 2  # few showers in both


def said(a: Path, b: Path) -> list[str]:
    one = measure(a)
    return doubts(one, measure(b, edges=one.edges))


def test_what_makes_a_comparison_unfair(reference: Path, tmp_path: Path) -> None:
    fair = make(tmp_path / "fair.h5", N, 2)
    assert not [s for s in said(reference, fair) if "no energy" not in s]
    (text,) = [s for s in said(reference, make(tmp_path / "low.h5", N, 2, energies=(1e3, 2e4))) if "GeV" in s]
    assert text.startswith("the incident energies differ: ")
    same = tmp_path / "renamed.h5"
    same.write_bytes(reference.read_bytes())
    assert "are the same file" in said(reference, same)[0]
    (text,) = [s for s in said(reference, fair) if "no energy" in s and "fair" in s]
    assert text.startswith(f"3 of the {N} showers in 'fair.h5' hold no energy")


def test_copies_are_found(reference: Path, tmp_path: Path) -> None:
    """Showers of the reference among the generated ones, in any order and with other incident particles."""
    own, fresh = Showers.read(reference), Showers.read(make(tmp_path / "fresh.h5", N, 2))
    mixed = Showers.concatenate([fresh[10:], own[::-1][:10]])
    mixed.incident.energy[:] = fresh.incident.energy
    mixed.write(tmp_path / "mixed.h5")
    (text,) = [s for s in said(reference, tmp_path / "mixed.h5") if "copies" in s]
    assert text.startswith(f"10 of the {N} showers in 'mixed.h5' are copies")
    fresh[[*range(50), *range(40, 50)]].write(tmp_path / "again.h5")
    (text,) = [s for s in said(reference, tmp_path / "again.h5") if "repeat" in s]
    assert text.startswith("10 of the")


def test_marks_tell_showers_apart(reference: Path) -> None:
    showers = Showers.read(reference)
    found = marks(showers)
    filled = showers.n_hits > 0
    assert len(np.unique(found[filled])) == filled.sum() and not found[~filled].any()
    assert np.array_equal(marks(showers[20:]), found[20:])  # wherever they stand
    nearly = Showers.read(reference)
    nearly.energy[0] = np.nextafter(nearly.energy[0], np.float32(0))
    assert (marks(nearly) != found).sum() == 1
    moved = Showers.read(reference)
    moved.index[-1] -= 1
    assert marks(moved)[-1] != found[-1]


@pytest.mark.usefixtures("_undrawn")
def test_warnings_are_written_down(reference: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = evaluate(reference, reference, tmp_path / "report", repeats=1).to_dict()
    texts = [str(w.message) for w in caught if issubclass(w.category, CaloforgeWarning)]
    assert texts == found["warnings"] and any("are the same file" in text for text in texts)


@pytest.fixture
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caloforge.evaluation.gallery.draw", lambda *_: {})
    monkeypatch.setattr("caloforge.evaluation.report.render", lambda *_: "")
