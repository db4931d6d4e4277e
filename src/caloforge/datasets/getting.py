"""A public dataset by its name: downloaded, checked, converted; begun again, it goes on where it ended."""

from __future__ import annotations

import os
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..convert import convert
from ..detectors import Detector
from ..errors import CaloforgeError, CaloforgeWarning, lookup
from ..output import check_output, locked
from ..progress import Bars, no_bars
from ..shower_file import ShowerFile
from .catalogue import DATASETS, Dataset, File
from .download import MB, Remote, difference, download
from .record import files_of_record

MIRROR = "CALOFORGE_MIRROR"
"""Environment variable with the address that takes the place of the hosts' own."""


@dataclass(frozen=True)
class Fetched:
    """What became of a file.

    Attributes:
        file: as published.
        raw: where it lies, or None if it was not kept.
        target: the shower file made of it.
        showers: how many showers that holds.
        downloaded: whether something of it came over the network in this call.
        converted: whether it was converted in this call.
    """

    file: File
    raw: Path | None
    target: Path
    showers: int
    downloaded: bool
    converted: bool

    def __str__(self) -> str:
        if not self.converted:
            return f"{self.target} is there already: {self.showers} showers of {self.file.name}"
        checked = "checked" if self.file.checksum else "without a known checksum"
        how = f"downloaded, {checked}" if self.downloaded else f"there already, {checked}"
        return f"{self.showers} showers of {self.file.name} ({how}) in {self.target}"


def get(
    name: str,
    folder: str | Path | None = None,
    *,
    parts: Sequence[str] = (),
    keep: bool = True,
    detector: str | Path | None = None,
    mirror: str | None = None,
    overwrite: bool = False,
    bars: Bars = no_bars,
) -> list[Fetched]:
    """Download a public dataset and convert it to shower files.

    The published files lie in ``folder/raw`` with their own names, a shower file for each in ``folder``. What is there
    already and is what it should be is left as it is; broken downloads go on where they ended.

    Args:
        name: of the dataset, see `DATASETS`.
        folder: where to put it, made if need be; by default a folder of the dataset's name.
        parts: of its files only these: ``"train"``, ``"evaluation"`` or names of files.
        keep: whether to leave the published files there after they were converted.
        detector: whose showers these are, if the files do not tell: a name or a TOML file.
        mirror: address that takes the place of the host's, such as ``"http://localhost:8000"``; by default what the
            environment variable `MIRROR` says.
        overwrite: replace shower files, and published files that are not as published.
        bars: makes the bars that show progress, e.g. `caloforge.progress.bar`.

    Returns:
        What became of each file.

    Raises:
        CaloforgeError: if there is no such dataset or part, a file cannot be fetched or is not the published one, does
            not fit on the disk, cannot be converted, or something else lies in its place.
        KeyboardInterrupt: with what to do next, if the user stops it.
    """
    dataset = lookup(DATASETS, name, "a dataset")
    mirror = _mirror(os.environ.get(MIRROR) if mirror is None else mirror)
    wanted = None if detector is None else Detector.load(detector)  # mistakes show before gigabytes have come
    with _workplace(Path(folder or name)) as place:
        files = dataset.files or files_of_record(dataset, place / "raw", mirror, anew=overwrite)
        jobs = _jobs(name, dataset, _chosen(files, parts), place, mirror)
        done = {job.file.name: n for job in jobs if not overwrite and (n := job.showers_made(wanted)) is not None}
        for job in jobs:
            if job.file.name not in done:
                check_output(job.target, overwrite=overwrite)
        _check_room(place, [job for job in jobs if job.file.name not in done])
        return [
            job.finished(done[job.file.name], keep)
            if job.file.name in done
            else job.run(keep=keep, detector=detector, overwrite=overwrite, bars=bars)
            for job in jobs
        ]


@dataclass(frozen=True)
class _Job:
    """A file on its way."""

    file: File
    remote: Remote
    raw: Path
    target: Path
    particle: str | None
    origin: dict[str, Any]

    def showers_made(self, detector: Detector | None) -> int | None:
        """Number of showers in the shower file if it was made of this very file, or None."""
        if not self.target.is_file():
            return None
        try:
            with ShowerFile(self.target) as file:
                said = file.provenance.get("dataset")
                if not isinstance(said, dict) or (detector and not detector.same_voxels(file.detector)):
                    return None
                same = all(said.get(key) == self.origin[key] for key in ("name", "file", "checksum"))
                return len(file) if same else None
        except CaloforgeError:
            return None

    def run(self, *, keep: bool, detector: str | Path | None, overwrite: bool, bars: Bars) -> Fetched:
        downloaded = self._fetch(overwrite, bars)
        if self.file.checksum is None:
            warnings.warn(
                f"no checksum of '{self.file.name}' is known; only its length was compared.",
                CaloforgeWarning,
                stacklevel=3,
            )
        # What a killed conversion left; the lock says that nobody is at it now.
        for left in self.target.parent.glob(f".{self.target.name}.*.tmp"):
            left.unlink()
        with bars("converting", "showers") as progress:
            report = convert(
                self.raw, self.target, detector=detector, particle=self.particle, origin=self.origin,
                overwrite=overwrite, progress=progress,
            )  # fmt: skip
        return self.finished(int(report["showers"]), keep, downloaded=downloaded, converted=True)

    def _fetch(self, overwrite: bool, bars: Bars) -> bool:
        """See to it that the published file lies there; whether something had to come over the network."""
        if self.raw.exists():
            wrong = difference(self.raw, self.remote)
            if wrong is None:
                return False
            if not overwrite:
                raise CaloforgeError(
                    f"'{self.raw}' is not the published file ({wrong}); move it away or give --overwrite."
                )
            self.raw.unlink()
        with bars("downloading", "MB") as progress:
            download(self.remote, self.raw, progress)
        return True

    def finished(self, showers: int, keep: bool, *, downloaded: bool = False, converted: bool = False) -> Fetched:
        if not keep:
            self.raw.unlink(missing_ok=True)
        raw = self.raw if self.raw.exists() else None
        return Fetched(self.file, raw, self.target, showers, downloaded, converted)


def _jobs(name: str, dataset: Dataset, files: Sequence[File], place: Path, mirror: str | None) -> list[_Job]:
    particle = None if dataset.particle_in_file else dataset.particle
    stems = Counter(Path(file.name).stem for file in files)
    jobs = []
    for file in files:
        stem = Path(file.name).stem
        target = place / f"{stem if stems[stem] == 1 else file.name}.h5"
        by_hand = (
            f"run it again later, it goes on where it ended, or download the file by hand from {dataset.page} and "
            f"convert it with `caloforge convert {file.name} {target.name}`"
        )
        remote = Remote(dataset.url(file, mirror), file.size, file.checksum, by_hand)
        origin = {"name": name, "file": file.name, "checksum": file.checksum}
        origin |= {"doi": dataset.doi, "licence": dataset.licence, "paper": dataset.paper}
        jobs.append(_Job(file, remote, place / "raw" / file.name, target, particle, origin))
    return jobs


def _chosen(files: Sequence[File], parts: Sequence[str]) -> list[File]:
    allowed: dict[str, list[File]] = {}
    for file in files:
        for key in (file.part, file.name):
            if key is not None:
                allowed.setdefault(key, []).append(file)
    names = {file.name for part in parts for file in lookup(allowed, part, "a part")}
    return [file for file in files if not parts or file.name in names]


def _mirror(address: str | None) -> str | None:
    if not address:
        return None
    try:
        parsed = urlsplit(address)
        fine = parsed.scheme in ("http", "https") and bool(parsed.hostname) and not parsed.query
    except ValueError:
        fine = False
    if not fine:
        raise CaloforgeError(f"mirror '{address}' is no address; give one such as http://localhost:8000.")
    return address


def _check_room(place: Path, jobs: Sequence[_Job]) -> None:
    """Raise `CaloforgeError` if what is still to come is longer than what is free, as far as sizes are known."""
    needed = 0
    for job in jobs:
        part = job.raw.with_name(f"{job.raw.name}.part")
        here = part.stat().st_size if part.exists() else 0
        needed += 0 if job.raw.exists() else max(0, (job.file.size or 0) - here)
    free = shutil.disk_usage(place).free
    if needed > free:
        raise CaloforgeError(
            f"'{place}' has {free / MB:.0f} MB free, {needed / MB:.0f} MB are still to come; make room, give another "
            "folder with -o, or take less with --part."
        )


@contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """The folder, with ``raw`` in it, for this process alone; removed again if nothing came into it."""
    try:
        (folder / "raw").mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise CaloforgeError(f"folder '{folder}' cannot be made ({why}); give another with -o.") from None
    lock = folder / ".caloforge-lock"  # a name that nobody else has: it is removed again
    try:
        with locked(lock, f"another process is getting a dataset into '{folder}'; wait for it or give another folder."):
            try:
                yield folder
            except KeyboardInterrupt:
                raise KeyboardInterrupt("stopped; run the same command again, it goes on where it ended.") from None
            finally:
                with suppress(OSError):
                    (folder / "raw").rmdir()
                lock.unlink(missing_ok=True)
    finally:
        with suppress(OSError):
            folder.rmdir()
