"""Results found again by content: never wrong, bounded, harmless when damaged or shared."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from caloforge.cache import Cache, cache_directory, code_key, content_key, key_of, remember
from caloforge.errors import CaloforgeError
from caloforge.evaluation import evaluate
from caloforge.evaluation import sample as sample_module
from caloforge.evaluation.sample import Sample, measure
from test_report import make

ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([1, 2], np.uint64), "none": np.zeros((0, 4))}


def equal(one: Sample, two: Sample) -> bool:
    groups = ("values", "profiles", "edges")
    same = all(list(getattr(one, g)) == list(getattr(two, g)) for g in groups[:2])
    tables = ((getattr(one, g)[k], getattr(two, g)[k]) for g in groups for k in getattr(one, g))
    single = ((getattr(one, k), getattr(two, k)) for k in ("mean_voxels", "occupancy", "marks"))
    return same and all(np.array_equal(a, b, equal_nan=True) for a, b in (*tables, *single))


def test_round_trip(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "deep" / "down")
    assert cache.get("k" * 64) is None
    cache.put("k" * 64, {**ARRAYS, "strided": np.arange(12.0).reshape(3, 4)[:, ::2]})
    found = cache.get("k" * 64)
    assert found is not None and set(found) == {*ARRAYS, "strided"}
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
    assert found["strided"].tolist() == [[0, 2], [4, 6], [8, 10]]
    assert cache.get("other") is None and len(list((tmp_path / "deep" / "down").iterdir())) == 1


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "grow"])
def test_damage_is_made_anew(damage: str, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("key", ARRAYS)
    (entry,) = tmp_path.iterdir()
    raw = bytearray(entry.read_bytes())
    if damage == "flip":
        raw[-3] ^= 1
    entry.write_bytes({"cut": raw[:40], "empty": b"", "grow": raw + b"x"}.get(damage, bytes(raw)))
    made = remember(cache, "key", lambda: {"a": np.ones(1)})
    assert made["a"].tolist() == [1] and len(list(tmp_path.iterdir())) == 1
    again = cache.get("key")
    assert again is not None and again["a"].tolist() == [1]


def test_size_is_bounded(tmp_path: Path) -> None:
    """The entries used least recently go; one that fits nowhere is not kept; what a killed process left goes too."""
    one = len(_bytes(tmp_path / "probe"))
    cache = Cache(tmp_path / "cache", limit=3 * one)
    for number, key in enumerate("abc"):
        cache.put(key, ARRAYS)
        (entry,) = (tmp_path / "cache").glob(f"{key}.*")
        os.utime(entry, (1000 + number, 1000 + number))
    assert cache.get("a") is not None  # now the newest
    left = tmp_path / "cache" / "left.tmp"
    left.write_bytes(b"half")
    os.utime(left, (1, 1))
    cache.put("d", ARRAYS)
    assert {p.name[0] for p in (tmp_path / "cache").iterdir()} == {"a", "c", "d"}
    cache.put("e", {"large": np.zeros(10 * one)})
    assert cache.get("e") is None and cache.get("d") is not None


def _bytes(folder: Path) -> bytes:
    Cache(folder).put("probe", ARRAYS)
    return next(folder.iterdir()).read_bytes()


def test_no_place_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "cache")
    cache.put("key", ARRAYS)
    assert cache.get("key") is None
    monkeypatch.delenv("CALOFORGE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory() == tmp_path / "xdg" / "caloforge"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("pathlib.Path.home", _homeless)
    assert Cache.named("evaluation") is None
    assert remember(None, "key", lambda: ARRAYS) is ARRAYS


def _homeless() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_two_processes_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Processes that write, read and drop the same few entries at once always read what was written."""
    code = f"""
import numpy as np
from caloforge.cache import Cache
cache = Cache({str(tmp_path)!r}, limit=40_000)
for i in range(120):
    key = f"key{{i % 7}}"
    found = cache.get(key)
    assert found is None or (found["a"] == i % 7).all()
    cache.put(key, {{"a": np.full(1000, float(i % 7))}})
"""
    running = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(2)]
    for process in running:
        _, error = process.communicate(timeout=60)
        assert process.returncode == 0, error.decode()
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 40_000
    assert not list(tmp_path.glob("*.tmp"))


def test_keys(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").write_bytes(b"x")
    assert content_key(tmp_path / "a") == content_key(tmp_path / "b")
    (tmp_path / "a").write_bytes(b"y")
    assert content_key(tmp_path / "a") != content_key(tmp_path / "b")
    with pytest.raises(CaloforgeError, match="does not exist"):
        content_key(tmp_path / "c")
    edges = {"r": np.array([0.1, 0.2])}
    assert key_of(a=1, edges=edges) == key_of(edges={"r": np.array([0.1, 0.2])}, a=1) != key_of(a=1, edges=None)
    assert code_key(sample_module) != code_key(sample_module, types) != code_key(types)


def test_measured_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A renamed copy is not measured again; another file of the same name, other edges or fewer showers are."""
    cache = Cache(tmp_path / "cache")
    first = measure(make(tmp_path / "a.h5", 80, 1), cache=cache)
    assert equal(first, measure(tmp_path / "a.h5"))
    measured = []
    fill = sample_module._fill
    monkeypatch.setattr(sample_module, "_fill", lambda *args: (measured.append(1), fill(*args)))
    (tmp_path / "a.h5").rename(tmp_path / "b.h5")
    again = measure(tmp_path / "b.h5", cache=cache)
    assert not measured and equal(first, again) and again.path.name == "b.h5"
    other = measure(make(tmp_path / "a.h5", 80, 2), cache=cache)
    assert len(measured) == 1 and not equal(first, other)
    measure(tmp_path / "a.h5", cache=cache, edges=first.edges)
    measure(tmp_path / "a.h5", cache=cache, max_showers=60)
    measure(tmp_path / "a.h5", cache=cache, names=["response"])
    assert len(measured) == 4
    monkeypatch.setattr(sample_module, "code_key", lambda *_: "newer code")
    measure(tmp_path / "b.h5", cache=cache)
    assert len(measured) == 5


@pytest.mark.filterwarnings("ignore::caloforge.errors.CaloforgeWarning")
def test_evaluation_from_cache_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trained twice, and report.json does not tell where its numbers come from."""
    monkeypatch.setenv("CALOFORGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("caloforge.evaluation.gallery.draw", lambda *_: {})
    monkeypatch.setattr("caloforge.evaluation.report.render", lambda *_: "")
    files = make(tmp_path / "a.h5", 80, 1), make(tmp_path / "b.h5", 80, 2)

    def report(name: str, **options: object) -> bytes:
        return evaluate(*files, tmp_path / name, repeats=1, **options).path.with_name("report.json").read_bytes()  # type: ignore[arg-type]

    without = report("without", cache=False)
    assert not (tmp_path / "cache").exists()
    assert report("first") == without
    monkeypatch.setattr("caloforge.evaluation.comparison.separate", None)  # would raise if it were called
    assert report("second") == without
    with pytest.raises(TypeError):
        report("other seed", seed=1)
