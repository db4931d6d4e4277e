"""Work shared out over a real cluster of three workers: the same bytes, whoever dies meanwhile."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caloforge import cluster
from caloforge import crew as crew_module
from caloforge.cluster import connect
from caloforge.crew import HERE
from caloforge.detectors import Detector
from caloforge.errors import CaloforgeError, CaloforgeWarning
from caloforge.evaluation import compare, evaluate, gallery
from caloforge.evaluation.benchmark import score_standard
from caloforge.evaluation.images import page
from caloforge.events import Reuse, build_library, collisions, events_to_images, imaging, simulate_events
from caloforge.events.calibration import Calibration
from caloforge.events.library import LibraryWriter, ShowerLibrary
from caloforge.generation import generate, generate_images
from caloforge.incident import Incident
from caloforge.jets import ImageFile, Images
from caloforge.jets.event_file import EventFile
from caloforge.samples import sample
from caloforge.shower_file import ShowerFile
from caloforge.showers import Showers
from caloforge.simulation import simulate
from conftest import TINY, some_showers
from test_benchmark_standard import make as make_cylinders
from test_events import make_events, write
from test_full_side import CALORIMETERS, MADE, library
from test_image_evaluation import smeared, two_jets

distributed = pytest.importorskip("distributed")
psutil = pytest.importorskip("psutil")

needs_geant4 = pytest.mark.skipif(
    importlib.util.find_spec("geant4_pybind") is None,
    reason="Geant4 is not installed: pip install 'caloforge[simulation]'",
)
WORKERS = 3


class Watcher:
    """A client of our own beside that of caloforge: it knows the workers' processes and what they are at."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.client = distributed.Client(address, set_as_default=False)

    def pids(self) -> dict[str, int]:
        found: dict[str, int] = self.client.run(os.getpid)
        return found

    def busy(self, worker: str) -> bool:
        return any(self.client.processing().get(worker, ()))

    def wait(self, condition: Callable[[], bool]) -> None:
        stop = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < stop, "waited in vain"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def watcher() -> Iterator[Watcher]:
    with cluster._quiet(), cluster._local(f"local:{WORKERS}") as address:
        made = Watcher(address)
        try:
            yield made
        finally:
            made.client.close()


@pytest.fixture
def workers(watcher: Watcher) -> Watcher:
    """The cluster, whole again after what the test before did to it."""
    watcher.client.wait_for_workers(WORKERS, timeout=60)
    return watcher


class Killer:
    """A progress that has a worker killed in mid-run, at a moment when the worker surely has work.

    It stops the worker as soon as the work begins: what the worker is given from then on it cannot finish. When it is
    known to have been given some, it is killed.
    """

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.worker, self.pid = "", 0
        self.killed = False
        self.thread = threading.Thread(target=self._kill)

    def __call__(self, done: int, total: int, note: str = "") -> None:
        if self.thread.ident is None:
            # Short work stays where the value is that all of it shares.
            held = self.watcher.client.has_what()
            pids = self.watcher.pids()
            self.worker = max(pids, key=lambda worker: any("-same-" in str(key) for key in held.get(worker, ())))
            self.pid = pids[self.worker]
            os.kill(self.pid, signal.SIGSTOP)
            self.thread.start()

    def _kill(self) -> None:
        try:
            self.watcher.wait(lambda: self.watcher.busy(self.worker))
            self.killed = True
        finally:
            os.kill(self.pid, signal.SIGKILL)

    def check(self) -> None:
        self.thread.join()
        assert self.killed
        assert self.pid not in self.watcher.pids().values()


# -- tasks -------------------------------------------------------------------------------------------------------------


def test_results_come_in_order_and_shared_values_once(workers: Watcher) -> None:
    with connect(workers.address) as crew:
        big = crew.share(np.arange(3_000_000.0))  # 24 MB: Dask would warn of it

        def part(values: Any, number: int) -> float:
            return float(values[number]) + number

        def tasks(values: Any) -> Iterator[tuple[Any, int]]:
            return ((values, i) for i in range(40))

        assert (
            list(crew.each(part, tasks(big))) == list(HERE.each(part, tasks(np.arange(40.0)))) == list(range(0, 80, 2))
        )
        assert sorted(crew.as_done(part, tasks(big))) == [(i, 2.0 * i) for i in range(40)]


def test_workers_of_this_machine_listen_to_it_alone(workers: Watcher) -> None:
    me = psutil.Process()
    of_workers = [child for child in me.children(recursive=True) if child.is_running()]
    heard = [c.laddr.ip for p in (me, *of_workers) for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert len(heard) >= 2 + 2 * WORKERS
    assert set(heard) == {"127.0.0.1"}


def test_a_killed_worker_s_task_is_done_by_another(workers: Watcher, tmp_path: Path) -> None:
    def work(folder: Path, number: int) -> int:
        """The first attempt of task 0 waits until it is killed."""
        if number == 0 and not (folder / "killed").exists():
            (folder / "pid.tmp").write_text(str(os.getpid()))
            (folder / "pid.tmp").rename(folder / "pid")
            time.sleep(600)
        return number * number

    seen = []
    with connect(workers.address) as crew:
        # Not in order, so that others finish while the first waits.
        for number, result in crew.as_done(work, ((tmp_path, i) for i in range(30))):
            seen.append((number, result))
            if len(seen) == 1:
                workers.wait((tmp_path / "pid").exists)
                (tmp_path / "killed").touch()
                os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert sorted(seen) == [(i, i * i) for i in range(30)]


def test_work_that_kills_every_worker_is_given_up(workers: Watcher) -> None:
    with (
        connect(workers.address) as crew,
        pytest.raises(CaloforgeError, match=r"4 workers of tcp.* died one after the"),
    ):
        list(crew.each(os._exit, [(1,)]))


def test_errors_of_tasks_are_told(workers: Watcher) -> None:
    def refuse() -> None:
        raise CaloforgeError("too many; give fewer.")

    def fail() -> None:
        raise KeyError("x")

    with connect(workers.address) as crew:
        with pytest.raises(CaloforgeError, match=r"^too many; give fewer\.$"):
            list(crew.each(refuse, [()]))
        with pytest.raises(CaloforgeError, match=r"work failed on a worker .*KeyError: 'x'"):
            list(crew.each(fail, [()]))


def test_workers_compute_with_the_threads_of_the_client(workers: Watcher) -> None:
    def threads() -> int:
        import torch

        return int(torch.get_num_threads())

    with connect(workers.address) as crew:
        crew._threads = {"blas": 1, "torch": 3}
        assert list(crew.each(threads, [(), ()])) == [3, 3]
        crew._threads = {"blas": 1, "torch": 2}
        assert list(crew.each(threads, [(), ()])) == [2, 2]


# -- simulate ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A production of one process that others are compared with."""
    return simulate(Detector.from_toml(TINY), 160, tmp_path_factory.mktemp("one") / "one.h5", seed=5, tables="builtin")


def _content(path: Path) -> str:
    with ShowerFile(path) as file:
        return file.content_hash()


@needs_geant4
def test_simulate_survives_a_killed_worker(workers: Watcher, simulated: Path, tmp_path: Path) -> None:
    out, killed = tmp_path / "out.h5", []

    def progress(done: int, total: int, note: str = "") -> None:
        if killed or not done:
            return
        # One whose Geant4 is running: its chunk is lost with it.
        for worker, pid in workers.pids().items():
            os.kill(pid, signal.SIGSTOP)
            geant4 = [p for p in psutil.Process(pid).children() if "caloforge.simulation.worker" in p.cmdline()]
            if geant4 and workers.busy(worker):
                os.kill(pid, signal.SIGKILL)
                killed.append((pid, geant4))
                return
            os.kill(pid, signal.SIGCONT)

    made = simulate(
        Detector.from_toml(TINY), 160, out, seed=5, tables="builtin", dask=workers.address, progress=progress
    )
    assert _content(made) == _content(simulated)
    assert killed
    assert killed[0][0] not in workers.pids().values()
    assert not psutil.wait_procs(killed[0][1], timeout=30)[1]  # no Geant4 is left behind
    assert not out.with_name("out.h5.parts").exists()


@needs_geant4
def test_simulate_goes_on_elsewhere(workers: Watcher, simulated: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"

    def stop(done: int, total: int, note: str = "") -> None:
        if done:
            raise KeyboardInterrupt

    how: dict[str, Any] = {"seed": 5, "tables": "builtin"}
    with pytest.raises(KeyboardInterrupt):
        simulate(Detector.from_toml(TINY), 160, out, dask=workers.address, progress=stop, **how)
    kept = list(out.with_name("out.h5.parts").glob("chunk-*.h5"))
    assert 1 <= len(kept) < 7
    simulate(Detector.from_toml(TINY), 160, out, resume=True, **how)
    assert _content(out) == _content(simulated)


@needs_geant4
def test_ctrl_c_ends_workers_of_this_machine(tmp_path: Path, tiny_toml: Path) -> None:
    out = tmp_path / "out.h5"
    flags = ["-n", "100000", "--tables", "builtin", "--dask", "local:2", "-o", str(out)]
    command = [sys.executable, "-m", "caloforge.cli", "simulate", str(tiny_toml), *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        parts = out.with_name("out.h5.parts")
        stop = time.monotonic() + 60
        while not list(parts.glob("chunk-*.h5")):
            assert running.poll() is None and time.monotonic() < stop
            time.sleep(0.1)
        children = psutil.Process(running.pid).children(recursive=True)
        assert sum("caloforge.simulation.worker" in " ".join(p.cmdline()) for p in children) >= 1
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "--resume" in said
    assert "Traceback" not in said
    assert not psutil.wait_procs(children, timeout=30)[1]
    assert list(parts.glob("chunk-*.h5"))


@needs_geant4
def test_other_physics_tables_are_refused(workers: Watcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from caloforge.simulation import production

    found = production.tables_for
    monkeypatch.setattr(production, "tables_for", lambda *how: replace(found(*how), digest="other"))
    with pytest.raises(CaloforgeError, match=r"physics tables .* differ from those of the machine"):
        simulate(Detector.from_toml(TINY), 10, tmp_path / "out.h5", tables="builtin", dask=workers.address)


# -- events ------------------------------------------------------------------------------------------------------------


def test_events_are_the_same_though_a_worker_dies(
    workers: Watcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pythia8mc")
    monkeypatch.setattr(collisions, "CHUNK", 5)
    one = simulate_events("dijet", 38, tmp_path / "one.h5", seed=3)
    killer = Killer(workers)

    def progress(done: int, total: int, note: str = "") -> None:
        if done:  # before that the workers are only looked at
            killer(done, total, note)

    many = simulate_events("dijet", 38, tmp_path / "many.h5", seed=3, dask=workers.address, progress=progress)
    killer.check()
    with EventFile(one) as a, EventFile(many) as b:
        assert len(a) == len(b) == 38 and a.content_hash() == b.content_hash()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many.h5", "one.h5"]


def test_images_of_events_are_the_same_though_a_worker_dies(
    workers: Watcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imaging, "CHUNK", 10)
    rng = np.random.default_rng(0)
    kinds, energies = rng.choice([22, 211, 2112, 11, 130], 4800).tolist(), 10 ** rng.uniform(3.8, 5, 4800)
    flat = [(kind, float(pt), *rng.uniform([-2, -3], [2, 3])) for kind, pt in zip(kinds, energies, strict=True)]
    particles = [flat[i : i + 3] for i in range(0, 4800, 3)]
    events = write(make_events(particles), tmp_path / "events.h5")
    showers = tmp_path / "library.h5"
    library(showers, spread=30.0)
    factors = {"ecal": 1.1, "hcal": 90.0}
    with LibraryWriter(tmp_path / "other.h5", factors, MADE) as writer:
        writer.append(ShowerLibrary(showers).showers)
    full = {"library": showers, "calibration": tmp_path / "other.h5"}
    for side, options in (("fast", {}), ("full", full)):
        paths = [tmp_path / f"{side}-{name}.h5" for name in ("one", "many")]
        one = events_to_images(events, paths[0], side, seed=3, skip=300, **options)
        killer = Killer(workers)
        many = events_to_images(
            events, paths[1], side, seed=3, skip=300, dask=workers.address, progress=killer, **options
        )
        killer.check()
        with ImageFile(paths[0]) as a, ImageFile(paths[1]) as b:
            assert a.content_hash() == b.content_hash()
        timing = ("seconds_per_event", "created")
        assert {k: v for k, v in one.items() if k not in timing} == {k: v for k, v in many.items() if k not in timing}
        workers.client.wait_for_workers(WORKERS, timeout=60)


@needs_geant4
def test_a_library_is_the_same_on_a_cluster(workers: Watcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"energy": 3000.0, "photons": 4, "pions": 8, "quiet": 500.0}.items():
        monkeypatch.setattr(Calibration, name, value)
    events = write(make_events([[(22, 2e3, 0.5, 1.0), (-211, 3e3, 1.0, 2.0)]] * 3), tmp_path / "events.h5")
    how: dict[str, Any] = {"detector": Detector.from_toml(CALORIMETERS), "reuse": Reuse(1, 1, 1), "tables": "builtin"}
    build_library([events], tmp_path / "one.h5", **how)
    build_library([events], tmp_path / "many.h5", dask=workers.address, **how)
    with ShowerLibrary(tmp_path / "one.h5") as one, ShowerLibrary(tmp_path / "many.h5") as many:
        assert one.content_hash() == many.content_hash() and one.calibration == many.calibration


# -- generate ----------------------------------------------------------------------------------------------------------


def test_generate_gives_the_same_bytes_though_a_worker_dies(workers: Watcher, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    incident = Incident.of(rng.uniform(2e3, 9e4, 1500), 11, position=rng.uniform(-5, 5, (1500, 2)))
    one = generate("zoo:lhcb-wgan", tmp_path / "one.h5", incident, seed=3, device="cpu")
    killer = Killer(workers)
    many = generate(
        "zoo:lhcb-wgan", tmp_path / "many.h5", incident, seed=3, device="cpu", batch=64, dask=workers.address,
        progress=killer,
    )  # fmt: skip
    killer.check()
    assert _content(many) == _content(one)
    a, b = (Showers.read(path).provenance for path in (one, many))
    timing = [key for key in a if "seconds" in key]
    assert {k: v for k, v in a.items() if k not in timing} == {k: v for k, v in b.items() if k not in timing}
    assert all(b[key] > 0 for key in timing)


def test_images_are_generated_to_the_same_bytes_though_a_worker_dies(workers: Watcher, tmp_path: Path) -> None:
    Images.read(sample("dijet-fast-test"), 0, 200).write(tmp_path / "fast.h5")
    model, how = "zoo:events-coarse-to-fine", {"seed": 3, "device": "cpu"}
    one = generate_images(model, tmp_path / "one.h5", tmp_path / "fast.h5", **how)
    killer = Killer(workers)
    many = generate_images(
        model, tmp_path / "many.h5", tmp_path / "fast.h5", batch=64, dask=workers.address, progress=killer, **how
    )
    killer.check()
    with ImageFile(one) as a, ImageFile(many) as b:
        assert a.content_hash() == b.content_hash()
        timing = [key for key in a.provenance if "seconds" in key]
        assert all(b.provenance[key] > 0 for key in timing)
        same = [{k: v for k, v in file.provenance.items() if k not in timing} for file in (a, b)]
        assert same[0] == same[1]


# -- evaluate ----------------------------------------------------------------------------------------------------------


def test_evaluate_gives_the_same_report_though_a_worker_dies(
    workers: Watcher, tiny: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Drawing takes longest: two sections are enough.
    sections = {name: gallery.SECTIONS[name] for name in ("overview", "fidelity")}
    monkeypatch.setattr(gallery, "SECTIONS", sections)
    for name, seed in (("a", 0), ("b", 1)):
        some_showers(tiny, 120, seed).write(tmp_path / f"{name}.h5")
    how: dict[str, Any] = {"repeats": 2, "cache": False}
    killer = Killer(workers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaloforgeWarning)  # few showers
        evaluate(tmp_path / "a.h5", tmp_path / "b.h5", tmp_path / "one", **how)
        evaluate(
            tmp_path / "a.h5", tmp_path / "b.h5", tmp_path / "many", dask=workers.address, progress=killer, **how
        )  # fmt: skip
    killer.check()
    one, many = written(tmp_path / "one"), written(tmp_path / "many")
    assert len(one) == 4  # the page, the numbers, one figure twice
    assert one == many


def written(folder: Path) -> dict[Path, bytes]:
    """Everything in a folder."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.filterwarnings("ignore:only 104 events")
def test_image_files_get_the_same_report_though_a_worker_dies(
    workers: Watcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastjet")
    monkeypatch.setattr(page, "SECTIONS", {name: page.SECTIONS[name] for name in ("overview", "classifiers")})
    towers = two_jets()
    for number, (side, width) in enumerate((("fast", 0.0), ("full", 0.1), ("generated", 0.1))):
        Images.from_dense(smeared(towers, number, width), side=side).write(tmp_path / f"{side}.h5")
    full, generated = tmp_path / "full.h5", tmp_path / "generated.h5"
    how: dict[str, Any] = {"fast": tmp_path / "fast.h5", "quick": True}
    killer = Killer(workers)
    evaluate(full, generated, tmp_path / "one", **how)
    evaluate(full, generated, tmp_path / "many", dask=workers.address, progress=killer, **how)
    killer.check()
    one, many = written(tmp_path / "one"), written(tmp_path / "many")
    assert len(one) == 4
    assert one == many


@pytest.mark.filterwarnings("ignore::caloforge.errors.CaloforgeWarning")
@pytest.mark.parametrize("what", ["showers", "images"])
def test_a_ranking_is_the_same_though_a_worker_dies(
    what: str, workers: Watcher, tiny: Detector, tmp_path: Path
) -> None:
    if what == "images":
        pytest.importorskip("fastjet")
    towers = two_jets()
    paths = [tmp_path / f"{number}.h5" for number in range(3)]
    for number, path in enumerate(paths):
        if what == "showers":
            some_showers(tiny, 120, number).write(path)
        else:
            Images.from_dense(smeared(towers, number, 0.1), side="full" if not number else "generated").write(path)
    how: dict[str, Any] = {"quick": True, "cache": False}
    killer = Killer(workers)
    one = compare(paths[0], paths[1:], tmp_path / "one", **how)
    many = compare(paths[0], paths[1:], tmp_path / "many", dask=workers.address, progress=killer, **how)
    killer.check()
    assert one.to_dict() == many.to_dict()
    assert (tmp_path / "one/compare.json").read_bytes() == (tmp_path / "many/compare.json").read_bytes()


@pytest.mark.filterwarnings("ignore::caloforge.errors.CaloforgeWarning")
def test_the_standard_is_the_same_though_a_worker_dies(workers: Watcher, tmp_path: Path) -> None:
    a, b = (make_cylinders(tmp_path / f"{seed}.h5", seed) for seed in (1, 2))
    parts = ["separation", "fpd", "prdc", "high"]
    how: dict[str, Any] = {"parts": parts, "repeats": 1, "epochs": 1, "device": "cpu"}
    killer = Killer(workers)
    assert score_standard(a, b, dask=workers.address, progress=killer, **how) == score_standard(a, b, **how)
    killer.check()


# -- what users get wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("tcp://127.0.0.1:9", r"no Dask scheduler answers at tcp://127.0.0.1:9 within 0.5 s"),
        ("nonsense", r"'nonsense' is neither an address nor a file; give --dask an address such as tcp://host:8786"),
        ("local:0", "'local:0' is no number of workers"),
        ("local:two", "'local:two' is no number of workers"),
        ("local", "'local' is no number of workers"),
        ("what://x", r"no Dask scheduler answers at what://x"),
    ],
)
def test_schedulers_that_are_not_there(where: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 0.5)
    with pytest.raises(CaloforgeError, match=message), connect(where):
        pass


@needs_geant4
def test_nothing_is_left_of_what_never_began(tmp_path: Path) -> None:
    with pytest.raises(CaloforgeError, match="neither an address nor a file"):
        simulate(Detector.from_toml(TINY), 10, tmp_path / "out.h5", tables="builtin", dask="nonsense")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_scheduler_file(tmp_path: Path) -> None:
    for text in ("", "no json", "{}", "[]", '{"address": 7}', '{"address": "here"}'):
        (tmp_path / "s.json").write_text(text)
        with pytest.raises(CaloforgeError, match="is not a scheduler file"), connect(tmp_path / "s.json"):
            pass


def test_workers_that_do_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "START_SECONDS", 0.01)
    with (
        pytest.raises(CaloforgeError, match=r"the workers of local:1 did not start within 0\.01 s"),
        connect("local:1"),
    ):
        pass


def test_a_scheduler_file(workers: Watcher, tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    path.write_text(json.dumps({"address": workers.address}))
    with connect(path) as crew:
        assert list(crew.each(abs, [(-2,)])) == [2]


def test_dask_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(CaloforgeError, match=r"pip install 'caloforge\[distributed\]'"), connect("local:1"):
        pass


def test_other_code_on_a_worker_is_refused(workers: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    other = crew_module.environment() | {"code of caloforge": "another"}
    monkeypatch.setattr(crew_module, "environment", lambda: other)
    with (
        connect(workers.address) as crew,
        pytest.raises(CaloforgeError, match=r"worker at tcp.* has code of caloforge \w{12} \(here another\); install"),
    ):
        list(crew.each(abs, [(-2,)]))


class FakeClient:
    """Workers as no machine of ours has them."""

    def __init__(self, caloforge: str | None) -> None:
        here = {"python": "3", "dask": "1", "distributed": "1", "numpy": "2", "torch": "2", "caloforge": "0.1"}
        there = {"packages": here | {"caloforge": caloforge}}
        self.versions = {"client": {"packages": here}, "workers": {"tcp://a:1": there}}

    def get_versions(self, packages: list[str]) -> dict[str, Any]:
        return self.versions

    def nthreads(self) -> dict[str, int]:
        return {"tcp://a:1": 16, "tcp://a:2": 1}


def test_other_versions_and_threads() -> None:
    cluster._check_versions(FakeClient("0.1"))
    with pytest.raises(CaloforgeError, match=r"worker at tcp://a:1 has caloforge 0.2 \(here 0.1\); install the same"):
        cluster._check_versions(FakeClient("0.2"))
    with pytest.raises(CaloforgeError, match="caloforge missing"):
        cluster._check_versions(FakeClient(None))
    with pytest.warns(CaloforgeWarning, match="1 workers have several threads, e.g. tcp://a:1 has 16"):
        cluster._check_threads(FakeClient("0.1"))


def test_waiting_for_workers_is_told_and_a_lost_scheduler_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew_module, "_PATIENCE", 0.2)
    monkeypatch.setattr(crew_module, "_LOOK_EVERY", 0.1)
    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 3)
    command = [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as scheduler:
        assert scheduler.stderr is not None
        address = next(line.split()[-1] for line in scheduler.stderr if "Scheduler at" in line)
        with connect(address) as crew:
            with pytest.raises(CaloforgeWarning, match="has no workers; work goes on when some have come"):
                next(crew.each(abs, [(-2,)]))  # a warning is an error here: else it would wait on
            threading.Timer(0.5, scheduler.kill).start()
            with pytest.raises(CaloforgeError, match="was lost or gave the work up"):
                next(crew.each(abs, [(-2,)]))


def test_workers_and_dask_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(CaloforgeError, match="--workers 2 and --dask local:2 were given"):
        simulate(Detector.from_toml(TINY), 10, tmp_path / "out.h5", workers=2, dask="local:2")
