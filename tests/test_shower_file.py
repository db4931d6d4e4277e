"""The shower file: what goes in comes out, and what is damaged, foreign or malicious ends in one sentence."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caloforge.errors import CaloforgeError
from caloforge.output import UnfinishedFile
from caloforge.shower_file import ShowerFile, ShowerWriter
from caloforge.showers import Showers

N = 12  # showers of the fixture `sample`


@pytest.fixture
def path(sample: Showers, tmp_path: Path) -> Path:
    sample.write(tmp_path / "showers.h5")
    return tmp_path / "showers.h5"


def refused(path: Path, *words: str) -> str:
    with pytest.raises(CaloforgeError) as caught:
        Showers.read(path)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message and len(message) < 600
    return message


# -- the file ------------------------------------------------------------------------------------------------


def test_round_trip(sample: Showers, path: Path) -> None:
    read = Showers.read(path)
    assert read.content_hash() == sample.content_hash()
    assert read.detector == sample.detector and read.provenance == sample.provenance
    with ShowerFile(path) as file:
        assert file.content_hash(size=7) == sample.content_hash()
        assert file.version == 1


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(-3, N + 3), stop=st.none() | st.integers(-3, N + 3), size=st.integers(1, N + 3))
def test_any_piece_can_be_read(sample: Showers, path: Path, start: int, stop: int | None, size: int) -> None:
    with ShowerFile(path) as file:
        piece = file.read(start, stop)
        first, last = max(start, 0), N if stop is None else max(stop, 0)
        assert piece.content_hash() == sample[first : max(first, last)].content_hash()
        assert len(file.incident(start, stop)) == len(piece)
        assert Showers.concatenate(list(file.chunks(size))).content_hash() == sample.content_hash()


def test_pieces_of_any_size_write_the_same_showers(sample: Showers, tmp_path: Path) -> None:
    with ShowerWriter(tmp_path / "a.h5", sample.detector) as writer:
        for start in range(0, N, 5):
            writer.append(sample[start : start + 5])
            writer.append(sample[:0])
    assert Showers.read(tmp_path / "a.h5").content_hash() == sample.content_hash()


def test_numpy_values_and_paths_in_the_provenance(sample: Showers, tmp_path: Path) -> None:
    sample.provenance = {"seed": np.int64(3), "cpu": np.float32(0.5), "place": Path("a/b"), "list": np.arange(2)}
    sample.write(tmp_path / "a.h5")
    assert Showers.read(tmp_path / "a.h5").provenance == {"seed": 3, "cpu": 0.5, "place": "a/b", "list": [0, 1]}
    sample.provenance = {(1, 2): 3}  # type: ignore[dict-item]
    with pytest.raises(CaloforgeError, match="provenance"):
        sample.write(tmp_path / "b.h5")
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


def test_voxels_without_energy_are_not_written(sample: Showers, tmp_path: Path) -> None:
    sample.energy[::3] = 0
    sample.write(tmp_path / "a.h5")
    read = Showers.read(tmp_path / "a.h5")
    np.testing.assert_array_equal(read.dense(), sample.dense())
    assert (read.energy > 0).all() and len(read.energy) < len(sample.energy)


@pytest.mark.parametrize("fault", ["nan", "negative", "order", "voxel", "incident"])
def test_what_may_not_be_read_is_not_written(sample: Showers, tmp_path: Path, fault: str) -> None:
    changes: dict[str, Callable[[], Any]] = {
        "nan": lambda: sample.energy.__setitem__(0, np.nan),
        "negative": lambda: sample.energy.__setitem__(0, -1),
        "order": lambda: sample.index.__setitem__(1, sample.index[0]),
        "voxel": lambda: sample.index.__setitem__(-1, 10**6),
        "incident": lambda: sample.incident.position.__setitem__(0, np.inf),
    }
    changes[fault]()
    with pytest.raises(CaloforgeError, match="to write"):
        sample.write(tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())


def test_a_file_appears_only_when_whole(sample: Showers, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), ShowerWriter(tmp_path / "a.h5", sample.detector) as writer:  # noqa: PT012
        writer.append(sample)
        assert not (tmp_path / "a.h5").exists()
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    writer = ShowerWriter(tmp_path / "a.h5", sample.detector)
    writer.close()
    writer.close()
    assert len(ShowerFile(tmp_path / "a.h5")) == 0


def test_an_existing_file_is_kept(sample: Showers, path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(CaloforgeError, match="exists already"):
        sample.write(path)
    with pytest.raises(ZeroDivisionError), ShowerWriter(path, sample.detector, overwrite=True):
        raise ZeroDivisionError
    assert path.read_bytes() == before
    sample[:3].write(path, overwrite=True)
    assert len(Showers.read(path)) == 3


def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    sample: Showers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **named: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = ShowerWriter(tmp_path / "a.h5", sample.detector)
    monkeypatch.setattr(writer, "_extend", full)
    with pytest.raises(CaloforgeError, match="No space left"):
        writer.append(sample)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("caloforge.output.os.fsync", full)
    with pytest.raises(CaloforgeError, match="No space left"):
        sample.write(tmp_path / "b.h5")
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written(sample: Showers, tmp_path: Path) -> None:
    for place, words in (
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "a.h5", "does not exist"),
        (tmp_path / ("x" * 300), "cannot be a file's name"),
        (tmp_path / "a\0b", "cannot be"),
    ):
        with pytest.raises(CaloforgeError, match=words):
            sample.write(place)
    sample.write(tmp_path / ("x" * 250))
    late = UnfinishedFile(tmp_path / "late")
    late.temporary.write_text("mine")
    (tmp_path / "late").write_text("another's")  # appeared while we worked
    with pytest.raises(CaloforgeError, match="exists already"):
        late.finish()
    assert (tmp_path / "late").read_text() == "another's"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["late", "x" * 250]


# -- files that are not whole, not ours, or mean ill ------------------------------------------------------------


def test_places_that_cannot_be_read(path: Path, tmp_path: Path) -> None:
    refused(tmp_path / "no.h5", "does not exist", "give the path of a shower file")
    refused(tmp_path, "is a folder")
    refused(Path("/dev/zero"), "not a regular file")
    refused(Path("a\0b"), "does not exist")
    refused(tmp_path / ("x" * 300), "does not exist")
    (tmp_path / "empty").touch()
    refused(tmp_path / "empty", "truncated or not an HDF5 file")
    (tmp_path / "text").write_text("hello")
    refused(tmp_path / "text", "truncated or not an HDF5 file")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = 1
    refused(tmp_path / "other.h5", "not a caloforge shower file", "caloforge convert")


def spoil(path: Path, change: Callable[[h5py.File], Any]) -> Path:
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        change(file)
    return path


def replace(name: str, data: Any, **options: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, data=data, **options)

    return change


def put(name: str, where: Any, value: Any) -> Callable[[h5py.File], None]:
    return lambda file: file[name].__setitem__(where, value)


SPOILERS: dict[str, tuple[Callable[[h5py.File], Any], str]] = {
    "no version": (lambda f: f.attrs.__delitem__("version"), "damaged"),
    "later version": (lambda f: f.attrs.__setitem__("version", 99), "upgrade caloforge"),
    "version zero": (lambda f: f.attrs.__setitem__("version", 0), "upgrade caloforge"),
    "version text": (lambda f: f.attrs.__setitem__("version", "x"), "damaged"),
    "format number": (lambda f: f.attrs.__setitem__("format", 3), "damaged"),
    "never finished": (lambda f: f.attrs.__delitem__("provenance"), "never finished"),
    "provenance list": (lambda f: f.attrs.__setitem__("provenance", "[1]"), "not a JSON object"),
    "provenance broken": (lambda f: f.attrs.__setitem__("provenance", "{"), "not a JSON object"),
    "provenance deep": (lambda f: f.attrs.__setitem__("provenance", "[" * 50000), "not a JSON object"),
    "provenance huge number": (lambda f: f.attrs.__setitem__("provenance", "9" * 5000), "not a JSON object"),
    "provenance bytes": (lambda f: f.attrs.__setitem__("provenance", np.bytes_(b"\xff\xfe")), "damaged"),
    "detector not TOML": (lambda f: f.attrs.__setitem__("detector", "=="), "not valid TOML"),
    "detector invalid": (lambda f: f.attrs.__setitem__("detector", "name = 'a'"), "not a valid detector"),
    "detector with other voxels": (
        lambda f: f.attrs.__setitem__("detector", "name='a'\n[readout]\ncells=[2,2]\ncell_size=[1,1]"),
        "more energies than its detector's 4 voxels",
    ),
    "no offsets": (lambda f: f.__delitem__("voxels/offset"), "'voxels/offset' is missing"),
    "no group": (lambda f: f.__delitem__("incident"), "is missing"),
    "group for data": (lambda f: (f.__delitem__("voxels/index"), f.create_group("voxels/index")), "is missing"),
    "scalar": (replace("voxels/energy", 1.0), "shape ()"),
    "text": (replace("voxels/energy", ["a", "b"]), "not numbers"),
    "compound": (replace("voxels/energy", np.zeros(3, "i4,f4")), "not numbers"),
    "whole energies": (replace("voxels/energy", np.ones(3, "i4")), "type int32"),
    "real offsets": (replace("voxels/offset", np.zeros(N + 1)), "type float64"),
    "empty offsets": (replace("voxels/offset", np.zeros(0, "i8")), "shape"),
    "too few energies": (lambda f: f["incident/energy"].resize(N - 1, axis=0), "has shape"),
    "flat directions": (replace("incident/direction", np.zeros(N)), "has shape"),
    "long directions": (put("incident/direction", 0, [3, 0, 4]), "length is not 1"),
    "nan direction": (put("incident/direction", 0, np.nan), "NaN"),
    "infinite energy": (put("incident/energy", 0, np.inf), "NaN or infinite"),
    "negative energy": (put("incident/energy", 0, -1), "negative"),
    "nan voxel": (put("voxels/energy", 3, np.nan), "voxel energies hold NaN"),
    "negative voxel": (put("voxels/energy", 3, -1), "voxel energies hold"),
    "zero voxel": (put("voxels/energy", 3, 0), "voxel energies hold"),
    "huge voxel": (put("voxels/energy", 3, 1e30), "voxel energies hold"),
    "voxel out of range": (put("voxels/index", 3, 60000), "60000"),
    "voxel twice": (lambda f: put("voxels/index", 1, f["voxels/index"][0])(f), "do not rise within a shower"),
    "offsets fall": (put("voxels/offset", 3, 0), "offsets do not rise"),
    "offsets too far": (put("voxels/offset", 3, 10**15), "offsets do not rise"),
    "offset negative": (put("voxels/offset", 3, -5), "offsets do not rise"),
    "first offset": (put("voxels/offset", 0, 1), "offsets do not end"),
    "last offset": (put("voxels/offset", N, 10**15), "offsets do not end"),
}


@pytest.mark.parametrize("name", SPOILERS)
def test_spoiled_files_are_refused_in_one_sentence(path: Path, name: str) -> None:
    change, words = SPOILERS[name]
    refused(spoil(path, change), words)


def test_what_lies_outside_the_file_is_not_read(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.h5"
    shutil.copy(path, other)
    copies = iter(range(9))

    def fresh(change: Callable[[h5py.File], Any]) -> Path:
        copy = tmp_path / f"copy{next(copies)}.h5"
        shutil.copy(other, copy)
        return spoil(copy, change)

    def link(target: Any, name: str = "voxels/energy") -> Callable[[h5py.File], None]:
        def change(file: h5py.File) -> None:
            del file[name]
            file[name] = target

        return change

    refused(fresh(link(h5py.ExternalLink("other.h5", "voxels/energy"))), "is a link")
    refused(fresh(link(h5py.ExternalLink("other.h5", "voxels"), "voxels")), "is a link")
    refused(fresh(link(h5py.SoftLink("/incident/energy"))), "is a link")
    (tmp_path / "secret").write_bytes(b"s" * 4096)
    hits = len(Showers.read(other).energy)
    external = {"external": [(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)], "dtype": "f4", "shape": (hits,)}
    refused(fresh(replace("voxels/energy", None, **external)), "lies in another file")

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((hits,), "f4")
        layout[:] = h5py.VirtualSource(str(other), "voxels/energy", (hits,))
        del file["voxels/energy"]
        file.create_virtual_dataset("voxels/energy", layout)

    refused(fresh(virtual), "lies in another file")
    refused(fresh(lambda f: replace("voxels/energy", np.array([f.ref] * 3, h5py.ref_dtype))(f)), "not numbers")


def test_declared_sizes_are_not_believed(path: Path) -> None:
    def huge(file: h5py.File) -> None:
        for name in list(file["incident"]):
            old = file[f"incident/{name}"]
            shape, kind = (10**12, *old.shape[1:]), old.dtype
            del file[f"incident/{name}"]
            file.create_dataset(f"incident/{name}", shape, kind, chunks=(4096, *shape[1:]))
        del file["voxels/offset"]
        file.create_dataset("voxels/offset", (10**12 + 1,), "i8", chunks=(4096,))

    refused(spoil(path, huge), "declares")


def test_a_file_of_an_older_writer_is_read(sample: Showers, path: Path) -> None:
    """Text attributes of variable length, no checksums, other number types: what other programs may write."""

    def rewrite(file: h5py.File) -> None:
        for name in ("format", "detector", "provenance"):
            text = file.attrs[name].decode()
            del file.attrs[name]
            file.attrs[name] = text
        replace("voxels/index", file["voxels/index"][:].astype(">i8"))(file)
        replace("voxels/energy", file["voxels/energy"][:].astype(">f8"), compression="lzf")(file)

    assert Showers.read(spoil(path, rewrite)).content_hash() == sample.content_hash()


def test_quick_files_hold_the_same_and_tell_damage(sample: Showers, path: Path, tmp_path: Path) -> None:
    quick = tmp_path / "quick.h5"
    with ShowerWriter(quick, sample.detector, quick=True) as writer:
        writer.append(sample)
    with ShowerFile(quick) as one, ShowerFile(path) as other:
        assert one.content_hash() == other.content_hash()
    with h5py.File(quick) as file:
        energies = file["voxels/energy"]
        assert energies.compression is None
        assert energies.fletcher32
        assert file["voxels/index"].compression_opts == 1
        place = energies.id.get_chunk_info(0).byte_offset
    raw = bytearray(quick.read_bytes())
    raw[place + 5] ^= 1
    quick.write_bytes(raw)
    refused(quick)


@pytest.mark.parametrize("seed", range(3))
def test_truncated_files_are_refused(path: Path, seed: int) -> None:
    raw = path.read_bytes()
    rng = np.random.default_rng(seed)
    for length in rng.integers(0, len(raw), 25):
        path.write_bytes(raw[:length])
        refused(path)
    path.write_bytes(raw[: len(raw) // 2] + bytes(len(raw) - len(raw) // 2))  # a hole, as after a crash
    refused(path)


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bytes_are_found(sample: Showers, path: Path, seed: int) -> None:
    """Checksums over data and metadata: a file that loads at all loads unchanged."""
    raw = path.read_bytes()
    rng = np.random.default_rng(seed)
    messages: list[str] = []
    for _ in range(60):
        spoiled = bytearray(raw)
        for place in rng.integers(0, len(raw), rng.integers(1, 4)):
            spoiled[place] ^= rng.integers(1, 256)
        path.write_bytes(spoiled)
        try:
            read = Showers.read(path)
        except CaloforgeError as error:
            messages.append(str(error))
        else:
            assert read.content_hash() == sample.content_hash()
            assert read.detector == sample.detector and read.provenance == sample.provenance
    assert len(messages) > 30 and not any("\n" in message for message in messages)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(max_size=200) | st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists).map(json.dumps)
)
def test_any_text_for_provenance_and_detector(path: Path, text: str) -> None:
    copy = path.with_name("copy.h5")
    for name in ("provenance", "detector"):
        shutil.copy(path, copy)

        def change(file: h5py.File, name: str = name) -> None:
            raw = text.encode("utf-8", "surrogatepass")
            file.attrs[name] = np.bytes_(raw) if raw else ""

        spoil(copy, change)
        try:
            provenance = Showers.read(copy).provenance
        except CaloforgeError:
            continue
        assert name == "provenance" and isinstance(provenance, dict)
