"""Public datasets: downloaded from a server of our own that misbehaves in all the ways of real ones."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from caloforge import __version__, cli
from caloforge.convert import READERS, convert
from caloforge.datasets import DATASETS, MIRROR, File, download, get, getting
from caloforge.detectors import DETECTORS, Detector
from caloforge.errors import CaloforgeError, CaloforgeWarning
from caloforge.incident import PDG_CODES
from caloforge.output import locked
from caloforge.progress import Progress
from caloforge.showers import Showers

N = 4
Trick = Callable[[BaseHTTPRequestHandler, bytes], None]


class Host:
    """A server on this machine: the files it has, the requests it saw, the tricks it plays on the next ones."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.seen: list[tuple[str, str | None]] = []
        self.agents: set[str] = set()
        self.tricks: list[Trick] = []
        self.ranges = True
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path, wanted = request.path.split("?")[0], request.headers.get("Range")
        self.seen.append((path, wanted))
        self.agents.add(request.headers.get("User-Agent", ""))
        body = self.files.get(path)
        if body is None:
            status(404)(request, b"")
        elif self.tricks:
            self.tricks.pop(0)(request, body)
        else:
            self.plain(request, body)

    def plain(self, request: BaseHTTPRequestHandler, body: bytes, sent: int | None = None) -> None:
        """The whole file, or the rest that was asked for; ``sent``: only so many bytes of it before the line is cut."""
        wanted, start = request.headers.get("Range"), 0
        if wanted is not None and self.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                status(416, **{"Content-Range": f"bytes */{len(body)}"})(request, b"")
                return
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            request.send_response(200)
        request.send_header("Content-Length", str(len(body) - start))
        request.end_headers()
        request.wfile.write(body[start:] if sent is None else body[start : start + sent])

    def cut(self, sent: int) -> Trick:
        """Drop the connection after so many bytes."""
        return lambda request, body: self.plain(request, body, sent)


def status(code: int, **headers: str) -> Trick:
    def answer(request: BaseHTTPRequestHandler, _: bytes) -> None:
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def answering(body: bytes | None = None, **headers: str) -> Trick:
    """Status 200, just these headers, and the body until the connection is closed."""

    def answer(request: BaseHTTPRequestHandler, whole: bytes) -> None:
        request.send_response(200)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(whole if body is None else body)

    return answer


def endless(request: BaseHTTPRequestHandler, body: bytes) -> None:
    request.send_response(200)
    request.end_headers()
    try:
        while True:
            request.wfile.write(body)
    except OSError:
        pass  # what the client should do: hang up


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv(MIRROR, raising=False)
    monkeypatch.setattr(download, "WAITS", (0.0, 0.0, 0.0))
    monkeypatch.setattr(download, "_PIECE", 512)
    server = Host()
    yield server
    server.close()


def hdf5(arrays: dict[str, npt.NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
    return buffer.getvalue()


def sparse(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.float32]:
    return (rng.exponential(1.0, (N, *shape)) * (rng.random((N, *shape)) < 0.2)).astype(np.float32)


def content(name: str, seed: int = 0) -> bytes:
    """A small file in a dataset's own layout."""
    rng = np.random.default_rng(seed)
    layout, energy = DATASETS[name].layout, rng.uniform(10, 90, (N, 1))
    if layout == "calochallenge":
        voxels = Detector.load(str(DATASETS[name].detector)).n_voxels
        return hdf5({"incident_energies": energy * 1000, "showers": sparse(rng, voxels).astype(np.float64)})
    if layout == "getting-high":
        return hdf5({"30x30/layers": sparse(rng, 30, 30, 30), "30x30/energy": energy})
    if layout == "3dgan":
        return hdf5({"ECAL": sparse(rng, 25, 25, 25), "energy": energy[:, 0]})
    layers = [sparse(rng, *shape) for shape in ((3, 96), (12, 12), (12, 6))]
    return hdf5({**{f"layer_{i}": layer for i, layer in enumerate(layers)}, "energy": energy})


Publish = Callable[..., dict[str, bytes]]


@pytest.fixture
def publish(host: Host, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Put small files in the place of a dataset's own; the table is told their sizes and checksums, or other ones."""

    def publish(name: str, *, told: bool = True, **lies: Any) -> dict[str, bytes]:
        dataset = DATASETS[name]
        files = dataset.files or (File("a.h5"), File("b.hdf5"))
        bodies = {file.name: content(name, i) for i, file in enumerate(files)}
        for file in files:
            host.files[urlsplit(dataset.url(file)).path] = bodies[file.name]
        known = [replace(file, **(facts(bodies[file.name]) | lies)) for file in files]
        if dataset.files:
            blank = tuple(replace(file, size=None, checksum=None) for file in files)
            monkeypatch.setitem(DATASETS, name, replace(dataset, files=tuple(known) if told else blank))
        else:
            entries = [{"key": f.name, "size": f.size, "checksum": f.checksum, "links": {"self": "x"}} for f in known]
            entries.append({"key": "README.txt", "size": 5, "checksum": "md5:0"})
            host.files[urlsplit(dataset.record_url()).path] = json.dumps({"files": entries}).encode()
        return bodies

    return publish


def facts(body: bytes) -> dict[str, Any]:
    return {"size": len(body), "checksum": f"md5:{hashlib.md5(body).hexdigest()}"}


def refused(host: Host, folder: Path, *words: str, name: str = "calogan-photons", **options: Any) -> str:
    with pytest.raises(CaloforgeError) as caught:
        get(name, folder, mirror=host.address, **options)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message and len(message) < 600
    return message


def left(folder: Path) -> set[str]:
    """Files in a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


CALOGAN = "/public-files/datasets/pvn3xc3wy5/files/1141aa57-edc0-477a-a32c-a38e5934b453/file_downloaded"
WHOLE = {"gamma.h5", "raw/gamma.hdf5"}


# -- the table ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DATASETS)
def test_the_table_fits_the_rest_of_the_package(name: str) -> None:
    dataset = DATASETS[name]
    assert dataset.layout in READERS and dataset.particle in PDG_CODES
    assert dataset.detector is None or dataset.detector in DETECTORS
    assert dataset.files or dataset.record is not None
    names = [file.name for file in dataset.files]
    assert len(set(names)) == len(names)
    for file in dataset.files:
        assert file.checksum is None or (file.checksum.startswith("md5:") and len(file.checksum) == 36)
        assert dataset.url(file).startswith("https://") and " " not in dataset.url(file)


def test_addresses() -> None:
    dataset = DATASETS["calochallenge-2"]
    path = "/records/6366271/files/dataset_2_1.hdf5?download=1"
    assert dataset.url(dataset.files[0]) == f"https://zenodo.org{path}"
    assert dataset.url(dataset.files[0], "http://localhost:1/a/") == f"http://localhost:1/a{path}"
    assert dataset.record_url() == "https://zenodo.org/api/records/6366271"
    assert dataset.size == 1_356_475_617 + 1_366_708_391 and DATASETS["calochallenge-3"].size is None
    assert DATASETS["calogan-photons"].url(DATASETS["calogan-photons"].files[0]) == (
        f"https://data.mendeley.com{CALOGAN}"
    )


# -- all goes well -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DATASETS)
def test_downloaded_and_converted_is_as_converted_by_hand(
    name: str, host: Host, publish: Publish, tmp_path: Path
) -> None:
    bodies, dataset = publish(name), DATASETS[name]
    fetched = get(name, tmp_path / "out", mirror=host.address)
    assert [each.file.name for each in fetched] == list(bodies)
    for each in fetched:
        assert each.raw is not None and each.raw.read_bytes() == bodies[each.file.name]
        assert each.downloaded and each.converted and each.showers == N
        by_hand = tmp_path / "by_hand.h5"
        convert(each.raw, by_hand, particle=dataset.particle, overwrite=True)
        ours, theirs = Showers.read(each.target), Showers.read(by_hand)
        assert ours.detector == theirs.detector == Detector.load(dataset.detector or "clic-ecal")
        assert set(ours.incident.pdg) == {PDG_CODES[dataset.particle]}
        for key in ("energy", "direction", "position", "pdg"):
            np.testing.assert_array_equal(getattr(ours.incident, key), getattr(theirs.incident, key))
        np.testing.assert_array_equal(ours.dense(), theirs.dense())
        assert ours.provenance["source"] == theirs.provenance["source"]
        assert ours.provenance["dataset"] | {"file": 0, "checksum": 0} == {
            "name": name, "file": 0, "checksum": 0, "doi": dataset.doi, "licence": dataset.licence,
            "paper": dataset.paper,
        }  # fmt: skip
    assert host.agents == {f"caloforge/{__version__}"}
    record = {f"raw/record-{dataset.record}.json"} if not dataset.files else set()
    targets = {f"{Path(file).stem}.h5" for file in bodies}
    assert left(tmp_path / "out") == {f"raw/{file}" for file in bodies} | targets | record


def test_run_again_nothing_happens(host: Host, publish: Publish, tmp_path: Path) -> None:
    publish("getting-high")
    get("getting-high", tmp_path / "out", mirror=host.address)
    before = {path: (tmp_path / "out" / path).stat().st_mtime_ns for path in left(tmp_path / "out")}
    host.seen.clear()
    again = get("getting-high", tmp_path / "out", mirror=host.address)
    assert host.seen == [] and not any(each.downloaded or each.converted for each in again)
    assert {path: (tmp_path / "out" / path).stat().st_mtime_ns for path in left(tmp_path / "out")} == before
    assert "is there already" in str(again[0])


def test_parts(host: Host, publish: Publish, tmp_path: Path) -> None:
    publish("calochallenge-1-photons")
    name, train, evaluation = "calochallenge-1-photons", "dataset_1_photons_1", "dataset_1_photons_2"
    get(name, tmp_path / "a", parts=["evaluation"], mirror=host.address)
    assert left(tmp_path / "a") == {f"{evaluation}.h5", f"raw/{evaluation}.hdf5"}
    get(name, tmp_path / "b", parts=[f"{train}.hdf5", "train"], mirror=host.address)
    assert left(tmp_path / "b") == {f"{train}.h5", f"raw/{train}.hdf5"}
    refused(host, tmp_path / "c", "did you mean 'train'", name=name, parts=["trian"])
    assert not (tmp_path / "c").exists()


def test_published_files_need_not_be_kept(host: Host, publish: Publish, tmp_path: Path) -> None:
    publish("calogan-photons")
    fetched = get("calogan-photons", tmp_path / "out", keep=False, mirror=host.address)
    assert fetched[0].raw is None and left(tmp_path / "out") == {"gamma.h5"}
    host.seen.clear()
    assert not get("calogan-photons", tmp_path / "out", keep=False, mirror=host.address)[0].converted
    assert host.seen == []


def test_without_a_checksum_a_warning_says_so(host: Host, publish: Publish, tmp_path: Path) -> None:
    publish("calogan-photons", told=False)
    with pytest.warns(CaloforgeWarning, match="no checksum of 'gamma.hdf5'"):
        fetched = get("calogan-photons", tmp_path, mirror=host.address)
    assert "without a known checksum" in str(fetched[0]) and left(tmp_path) == WHOLE


def test_a_published_file_of_before_is_used(host: Host, publish: Publish, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "gamma.hdf5").write_bytes(publish("calogan-photons")["gamma.hdf5"])
    assert not get("calogan-photons", tmp_path, mirror=host.address)[0].downloaded
    assert host.seen == [] and left(tmp_path) == WHOLE
    (tmp_path / "gamma.h5").unlink()
    (tmp_path / "raw" / "gamma.hdf5").write_bytes(b"another")
    refused(host, tmp_path, "is not the published file (it has 7 bytes", "--overwrite")
    assert (tmp_path / "raw" / "gamma.hdf5").read_bytes() == b"another"
    assert get("calogan-photons", tmp_path, mirror=host.address, overwrite=True)[0].downloaded


def test_a_shower_file_of_others_is_not_replaced(host: Host, publish: Publish, tmp_path: Path) -> None:
    bodies = publish("calogan-photons")
    for other in (b"mine", None):
        if other is None:  # the same showers, but of a file that nobody compared with the published one
            (tmp_path / "x.hdf5").write_bytes(bodies["gamma.hdf5"])
            convert(tmp_path / "x.hdf5", tmp_path / "gamma.h5", overwrite=True)
        else:
            (tmp_path / "gamma.h5").write_bytes(other)
        before = (tmp_path / "gamma.h5").read_bytes()
        refused(host, tmp_path, "exists already", "--overwrite")
        assert (tmp_path / "gamma.h5").read_bytes() == before and host.seen == []
    assert get("calogan-photons", tmp_path, mirror=host.address, overwrite=True)[0].converted
    assert Showers.read(tmp_path / "gamma.h5").provenance["dataset"]["name"] == "calogan-photons"


def test_a_detector_of_ones_own(host: Host, publish: Publish, tmp_path: Path) -> None:
    publish("3dgan")
    own = tmp_path / "own.toml"
    own.write_text(Detector.load("clic-ecal").to_toml().replace('"clic-ecal"', '"my-ecal"'))
    fetched = get("3dgan", tmp_path / "out", parts=["a.h5"], detector=own, mirror=host.address)
    assert Showers.read(fetched[0].target).detector.name == "my-ecal"
    refused(host, tmp_path / "no", "did you mean 'clic-ecal'", name="3dgan", detector="clic-ekal")
    with pytest.raises(CaloforgeError, match="exists already"):  # it holds other voxels than are asked for now
        get("3dgan", tmp_path / "out", parts=["a.h5"], detector="ild-ecal", mirror=host.address)


# -- resuming ----------------------------------------------------------------------------------------------------


def test_a_broken_download_goes_on_where_it_ended(host: Host, publish: Publish, tmp_path: Path) -> None:
    body = publish("calogan-photons")["gamma.hdf5"]
    half = len(body) // 2 // 512 * 512
    host.tricks = [host.cut(half)]
    get("calogan-photons", tmp_path, mirror=host.address)
    assert host.seen == [(CALOGAN, None), (CALOGAN, f"bytes={half}-")]
    assert left(tmp_path) == WHOLE and (tmp_path / "raw/gamma.hdf5").read_bytes() == body


def test_it_goes_on_in_the_next_call_too(host: Host, publish: Publish, tmp_path: Path) -> None:
    body = publish("calogan-photons")["gamma.hdf5"]
    host.tricks = [host.cut(5120), *[host.cut(0)] * 3]
    refused(host, tmp_path, "the connection ended after 5120 of", "4 tries; what has come is kept", "by hand from")
    assert left(tmp_path) == {"raw/gamma.hdf5.part"}
    assert (tmp_path / "raw/gamma.hdf5.part").read_bytes() == body[:5120]
    host.seen.clear()
    get("calogan-photons", tmp_path, mirror=host.address)
    assert host.seen == [(CALOGAN, "bytes=5120-")] and left(tmp_path) == WHOLE


def test_tries_that_bring_much_do_not_count(
    host: Host, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("calogan-photons")
    host.tricks = [host.cut(1024)] * 8
    monkeypatch.setattr(download, "_HEADWAY", 2048)
    refused(host, tmp_path / "a", "4 tries")
    host.tricks = [host.cut(1024)] * 8
    monkeypatch.setattr(download, "_HEADWAY", 1024)
    get("calogan-photons", tmp_path / "b", mirror=host.address)
    assert host.seen[-1] == (CALOGAN, "bytes=8192-")


def test_a_server_without_ranges_starts_again(host: Host, publish: Publish, tmp_path: Path) -> None:
    body = publish("calogan-photons")["gamma.hdf5"]
    host.ranges = False
    host.tricks = [host.cut(5120)]
    get("calogan-photons", tmp_path, mirror=host.address)
    assert [wanted for _, wanted in host.seen] == [None, "bytes=5120-"]
    assert (tmp_path / "raw/gamma.hdf5").read_bytes() == body


def test_what_lies_there_may_be_whole_already_or_too_long(host: Host, publish: Publish, tmp_path: Path) -> None:
    body = publish("calogan-photons")["gamma.hdf5"]
    part = tmp_path / "raw/gamma.hdf5.part"
    part.parent.mkdir()
    part.write_bytes(body)  # killed between the last byte and the renaming
    get("calogan-photons", tmp_path, mirror=host.address)
    assert host.seen == [] and left(tmp_path) == WHOLE
    for name in WHOLE:
        (tmp_path / name).unlink()
    part.write_bytes(body + b"more")
    get("calogan-photons", tmp_path, mirror=host.address)
    assert host.seen == [(CALOGAN, None)] and (tmp_path / "raw/gamma.hdf5").read_bytes() == body


@pytest.mark.filterwarnings("ignore::caloforge.errors.CaloforgeWarning")
@pytest.mark.parametrize("more", [b"", b"more"])
def test_the_same_where_only_the_server_knows_the_length(
    more: bytes, host: Host, publish: Publish, tmp_path: Path
) -> None:
    body = publish("calogan-photons", told=False)["gamma.hdf5"]
    part = tmp_path / "raw/gamma.hdf5.part"
    part.parent.mkdir()
    part.write_bytes(body + more)
    get("calogan-photons", tmp_path, mirror=host.address)
    assert [wanted for _, wanted in host.seen] == [f"bytes={len(body + more)}-"] + [None] * bool(more)
    assert left(tmp_path) == WHOLE and (tmp_path / "raw/gamma.hdf5").read_bytes() == body


def test_another_piece_than_asked_for_is_refused(host: Host, publish: Publish, tmp_path: Path) -> None:
    publish("calogan-photons")

    def shifted(request: BaseHTTPRequestHandler, body: bytes) -> None:
        request.send_response(206)
        request.send_header("Content-Range", f"bytes 5000-{len(body) - 1}/{len(body)}")
        request.end_headers()
        request.wfile.write(body[5000:])

    host.tricks = [host.cut(5120), shifted]
    refused(host, tmp_path, "sends another piece")
    assert (tmp_path / "raw/gamma.hdf5.part").stat().st_size == 5120


@pytest.mark.parametrize(
    "excuse", [answering(b"<html>", Content_Type="text/html"), answering(b"x", Content_Length="1"), status(404)]
)
def test_an_excuse_does_not_cost_what_has_come(excuse: Trick, host: Host, publish: Publish, tmp_path: Path) -> None:
    publish("calogan-photons")
    host.tricks = [host.cut(5120), excuse]
    refused(host, tmp_path, "cannot be fetched")
    get("calogan-photons", tmp_path, mirror=host.address)
    assert host.seen[-1] == (CALOGAN, "bytes=5120-") and left(tmp_path) == WHOLE


def test_ctrl_c_keeps_what_came(host: Host, publish: Publish, tmp_path: Path) -> None:
    publish("calogan-photons")

    @contextmanager
    def stopping(title: str, unit: str) -> Iterator[Progress]:
        calls = iter([None] * 10)

        def progress(done: int, total: int, note: str = "") -> None:
            if next(calls, "no more") == "no more":
                raise KeyboardInterrupt

        yield progress

    with pytest.raises(KeyboardInterrupt, match="it goes on where it ended"):
        get("calogan-photons", tmp_path, mirror=host.address, bars=stopping)
    kept = (tmp_path / "raw/gamma.hdf5.part").stat().st_size
    assert left(tmp_path) == {"raw/gamma.hdf5.part"} and kept > 4000
    get("calogan-photons", tmp_path, mirror=host.address)
    assert host.seen[-1] == (CALOGAN, f"bytes={kept}-") and left(tmp_path) == WHOLE


def test_killed_at_the_command_line(host: Host, publish: Publish, tmp_path: Path) -> None:
    body, wait = publish("calogan-photons")["gamma.hdf5"], threading.Event()

    def slow(request: BaseHTTPRequestHandler, whole: bytes) -> None:
        host.plain(request, whole, 200_000)
        request.wfile.flush()
        wait.wait(60)

    body = host.files[CALOGAN] = content("calogan-photons") + b"\0" * 300_000  # HDF5 does not mind what follows it
    host.tricks = [slow]
    command = [sys.executable, "-m", "caloforge.cli", "datasets", "get", "calogan-photons", "-o", str(tmp_path)]
    command += ["--mirror", host.address]
    source = str(Path(cli.__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": source}
    part = tmp_path / "raw/gamma.hdf5.part"
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (part.exists() and part.stat().st_size > 100_000):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    wait.set()
    kept = part.stat().st_size
    assert 100_000 < kept <= 200_000 and "gamma.h5" not in left(tmp_path)
    (tmp_path / ".gamma.h5.abc.tmp").write_bytes(b"half a conversion")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert host.seen == [(CALOGAN, None), (CALOGAN, f"bytes={kept}-")]
    assert left(tmp_path) == WHOLE and (tmp_path / "raw/gamma.hdf5").read_bytes() == body
    assert f"{N} showers of gamma.hdf5" in done.stdout and "no checksum" in done.stderr


# -- all goes wrong ----------------------------------------------------------------------------------------------


def test_a_wrong_checksum(host: Host, publish: Publish, tmp_path: Path) -> None:
    publish("calogan-photons", checksum="md5:" + "0" * 32)
    refused(host, tmp_path / "out", "its md5 is", "not 000", "thrown away", "by hand from https://doi.org/10.17632")
    assert not (tmp_path / "out").exists()


def test_a_wrong_length(host: Host, publish: Publish, tmp_path: Path) -> None:
    body = publish("calogan-photons", size=10_000)["gamma.hdf5"]
    refused(host, tmp_path / "out", f"announces {len(body)} bytes, not 10000")
    assert not (tmp_path / "out").exists() and len(host.seen) == 1


def test_a_truncated_body_of_unknown_length(host: Host, publish: Publish, tmp_path: Path) -> None:
    body = publish("calogan-photons")["gamma.hdf5"]
    host.tricks = [answering(body[:9000])]  # no length, and the line closed as if all were there
    get("calogan-photons", tmp_path, mirror=host.address)
    assert len(host.seen) == 2 and host.seen[1][1] is not None and left(tmp_path) == WHOLE


def test_an_endless_file_ends(host: Host, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = publish("calogan-photons")["gamma.hdf5"]
    host.tricks = [endless]
    refused(host, tmp_path / "a", f"sends more than {len(body)} bytes")
    publish("calogan-photons", told=False)
    room = shutil.disk_usage(tmp_path)._replace(free=(1 << 30) + 50_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room)
    host.tricks = [endless]
    refused(host, tmp_path / "b", "sends more than 50000 bytes", "does not fit on the disk")
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def test_an_endless_record_ends(host: Host, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish("getting-high")
    monkeypatch.setattr("caloforge.datasets.record._LIMIT", 20_000)
    host.tricks = [endless]
    refused(host, tmp_path / "out", "sends more than 20000 bytes", name="getting-high")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("trick", "words", "tries"),
    [
        (status(404), "answers HTTP 404 Not Found", 1),
        (status(403), "answers HTTP 403", 1),
        (status(304), "answers HTTP 304", 1),
        (status(503), "HTTP 503 Service Unavailable; 4 tries", 4),
        (status(302, Location="http://127.0.0.1:9/x"), "Connection refused; 4 tries", 4),
        (answering(b"<html>log in</html>", Content_Type="text/html; charset=utf-8"), "a web page", 1),
        (answering(b"x", Content_Encoding="gzip"), "packed", 1),
        (answering(b"x", Content_Length="many"), "does not know its length", 1),
    ],
)  # fmt: skip
def test_bad_answers(trick: Trick, words: str, tries: int, host: Host, publish: Publish, tmp_path: Path) -> None:
    publish("calogan-photons")
    host.tricks = [trick] * tries
    message = refused(host, tmp_path / "out", words, "caloforge convert gamma.hdf5 gamma.h5")
    assert len(host.seen) == tries and not (tmp_path / "out").exists()
    assert "127.0.0.1" in message


def test_a_busy_server_is_given_the_time_it_asks_for(
    host: Host, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("calogan-photons")
    waits: list[float] = []
    monkeypatch.setattr(download, "WAITS", (1.0, 2.0, 3.0))
    monkeypatch.setattr(download.time, "sleep", waits.append)
    host.tricks = [status(429, Retry_After="7"), status(500, Retry_After="9999"), status(502)]
    get("calogan-photons", tmp_path, mirror=host.address)
    assert waits == [7, 120, 3]


def test_no_server_at_all(host: Host, publish: Publish, tmp_path: Path) -> None:
    publish("calogan-photons")
    nobody = "http://127.0.0.1:9"
    with pytest.raises(CaloforgeError, match=r"127\.0\.0\.1:9 \(Connection refused; 4 tries\)"):
        get("calogan-photons", tmp_path / "out", mirror=nobody)
    assert not (tmp_path / "out").exists()
    with pytest.raises(CaloforgeError, match="is no address"):
        get("calogan-photons", tmp_path / "out", mirror="localhost:8000")


def test_a_full_disk_is_seen_before(
    host: Host, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = publish("calogan-photons")["gamma.hdf5"]
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=len(body) - 1))
    refused(host, tmp_path / "out", "MB free", "still to come", "--part")
    assert host.seen == []
    publish("calogan-photons", told=False)
    refused(host, tmp_path / "out", "MB free", "make room")
    assert len(host.seen) == 1 and not (tmp_path / "out").exists()


def test_a_disk_that_fills_up_meanwhile(
    host: Host, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("calogan-photons")

    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(28, "No space left on device")

    begin = download._Partial.begin

    def begin_and_fill(sink: Any, *args: Any, **named: Any) -> None:
        begin(sink, *args, **named)
        sink.file.close()
        sink.file = Full()

    monkeypatch.setattr(download._Partial, "begin", begin_and_fill)
    refused(host, tmp_path / "out", "cannot be written (No space left on device)", "it goes on where it ended")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (b"<nonsense", "is not understood"),
        (b"[]", "is not understood"),
        (b'{"files": [{"key": "../../evil.h5", "size": 1}]}', "is no file's name"),
        (b'{"files": [{"key": "a.h5", "size": -1}]}', "has a size of"),
        (b'{"files": [{"key": "a.h5"}]}', "is not understood"),
        (b"[" * 100_000, "is not understood"),
        (b'{"files": []}', "holds nothing, no HDF5 file"),
        (b'{"files": [{"key": "all.tar.gz", "size": 9}]}', "holds all.tar.gz, no HDF5 file"),
    ],
)
def test_records_are_read_as_data(record: bytes, words: str, host: Host, tmp_path: Path) -> None:
    host.files[urlsplit(DATASETS["getting-high"].record_url()).path] = record
    refused(host, tmp_path / "out", words, "10.5281/zenodo.3826103", name="getting-high")
    assert len(host.seen) == 1


def test_a_checksum_of_unknown_kind_is_none(host: Host, publish: Publish, tmp_path: Path) -> None:
    publish("getting-high", checksum="crc:1234")
    with pytest.warns(CaloforgeWarning, match="no checksum"):
        get("getting-high", tmp_path, parts=["a.h5"], mirror=host.address)


def test_two_at_once(host: Host, publish: Publish, tmp_path: Path) -> None:
    publish("calogan-photons")
    with locked(tmp_path / ".caloforge-lock", "busy"):
        refused(host, tmp_path, "another process is getting")
    (tmp_path / "file").write_text("x")
    refused(host, tmp_path / "file", "cannot be made")


def test_a_file_that_cannot_be_converted_stays(host: Host, publish: Publish, tmp_path: Path) -> None:
    publish("3dgan")
    path = next(path for path in host.files if path.endswith("a.h5"))
    body = host.files[path] = hdf5({"ECAL": np.ones((2, 51, 51, 25)), "energy": np.ones(2)})
    host.files[urlsplit(DATASETS["3dgan"].record_url()).path] = json.dumps(
        {"files": [{"key": "a.h5", **facts(body)}]}
    ).encode()
    refused(host, tmp_path, "(51, 51, 25)", "--detector", name="3dgan")
    assert left(tmp_path) == {"raw/a.h5", "raw/record-3603086.json"}


# -- the command line --------------------------------------------------------------------------------------------


def run(*words: object) -> tuple[int, str, str]:
    with warnings.catch_warnings():  # the command line replaces how warnings are shown
        result = CliRunner().invoke(cli.app, ["datasets", *map(str, words)], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def test_the_list() -> None:
    for words in (["--json"], ["list", "--json"]):
        code, out, _ = run(*words)
        told = json.loads(out)
        assert code == 0 and set(told) == set(DATASETS)
    second = told["calochallenge-2"]
    assert second["files"][0]["checksum"] == "md5:e590333e9a2da51b258288d74bd8357a"
    assert second["files"][0]["url"].endswith("dataset_2_1.hdf5?download=1") and second["size"] == 2_723_184_008
    assert told["getting-high"]["files"] == [] and told["getting-high"]["licence"] is None
    for words in ([], ["list"]):
        code, out, _ = run(*words)
        assert code == 0 and all(name in out for name in DATASETS) and "2 files (1 train, 1 evaluation)" in out


def test_getting_at_the_command_line(
    host: Host, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("calochallenge-2")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(MIRROR, host.address)
    code, out, _ = run("get", "calochallenge-2", "--part", "train", "--no-keep")
    assert code == 0 and "4 showers of dataset_2_1.hdf5 (downloaded, checked) in" in out.replace("\n", " ")
    assert left(tmp_path) == {"calochallenge-2/dataset_2_1.h5"}
    code, _, said = run("get", "calochallenge-2", "-o", "x", "--mirror", "http://127.0.0.1:9")
    assert code == 2 and "Connection refused" in said and "Traceback" not in said
    code, _, said = run("get", "calochalenge-2")
    assert code == 2 and "did you mean 'calochallenge-2'" in said
    assert left(tmp_path) == {"calochallenge-2/dataset_2_1.h5"}


def test_ctrl_c_at_the_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(getting, "download", stop)
    code, _, said = run("get", "calogan-pions", "-o", tmp_path / "out")
    assert code == 130 and "run the same command again" in said and not (tmp_path / "out").exists()
