"""The table of public shower datasets: what they hold, where they lie, how they are checked, whom to cite.

Nothing in it is guessed. What no source told is None: the licence of a record, the size or the checksum of a file. A
dataset without files is one whose record is asked for them when it is fetched. docs/datasets.md names the sources.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

ZENODO = "https://zenodo.org"
MENDELEY = "https://data.mendeley.com"

TRAIN, EVALUATION = "train", "evaluation"


@dataclass(frozen=True)
class File:
    """A published file.

    Attributes:
        name: what it is called.
        part: `TRAIN`, `EVALUATION` or None where the authors did not divide their showers.
        showers: how many it holds, if known.
        size: its length in bytes, if known.
        checksum: ``"md5:..."`` or ``"sha256:..."``, if known.
        address: where its host keeps it, where that does not follow from its name.
    """

    name: str
    part: str | None = None
    showers: int | None = None
    size: int | None = None
    checksum: str | None = None
    address: str | None = None


@dataclass(frozen=True)
class Dataset:
    """Showers that somebody published.

    Attributes:
        about: what they are, in a line.
        particle: the incident particles, in caloforge's words.
        energies: of the incident particles.
        detector: the package's detector whose voxels these are, or None if it has none.
        layout: the reader of `caloforge.convert.READERS` that takes the files.
        doi: of the data.
        paper: whom to cite.
        host: where the files lie.
        record: number of the Zenodo record, if it is one.
        licence: of the data, if known.
        files: its files; none if the record must be asked.
        particle_in_file: whether files or layout tell the particle; if not, `convert` must be told.
        note: what to know before using it.
    """

    about: str
    particle: str
    energies: str
    detector: str | None
    layout: str
    doi: str
    paper: str
    host: str = ZENODO
    record: int | None = None
    licence: str | None = None
    files: tuple[File, ...] = ()
    particle_in_file: bool = True
    note: str = ""

    @property
    def page(self) -> str:
        """Where a browser finds it."""
        return f"https://doi.org/{self.doi}"

    @property
    def size(self) -> int | None:
        """Bytes of all its files, or None if that is not known."""
        sizes = [file.size for file in self.files if file.size is not None]
        return sum(sizes) if sizes and len(sizes) == len(self.files) else None

    def url(self, file: File, mirror: str | None = None) -> str:
        """Address of a file; ``mirror`` takes the place of the host."""
        path = file.address or f"/records/{self.record}/files/{quote(file.name)}?download=1"
        return (mirror or self.host).rstrip("/") + path

    def record_url(self, mirror: str | None = None) -> str:
        """Address of the record's description: its files with sizes and checksums, in JSON."""
        return (mirror or self.host).rstrip("/") + f"/api/records/{self.record}"

    def to_dict(self) -> dict[str, Any]:
        """All that is known, as plain data; each file with its address."""
        plain = asdict(self)
        for entry, file in zip(plain["files"], self.files, strict=True):
            entry["url"] = self.url(file)
            del entry["address"]
        return plain | {"page": self.page, "size": self.size}


def _challenge(record: int, doi: str, **given: Any) -> Dataset:
    return Dataset(
        layout="calochallenge", record=record, doi=f"10.5281/zenodo.{doi}", paper="arXiv 2410.21611", **given
    )


def _calogan(about: str, particle: str, name: str, key: str) -> Dataset:
    address = f"/public-files/datasets/pvn3xc3wy5/files/{key}/file_downloaded"
    return Dataset(
        about=f"CaloGAN: {about} in a lead-liquid-argon calorimeter of three layers after ATLAS's",
        particle=particle,
        energies="1-100 GeV, uniform",
        detector="atlas-lar",
        layout="calogan",
        doi="10.17632/pvn3xc3wy5.1",
        paper="arXiv 1712.10321",
        host=MENDELEY,
        licence="CC BY 4.0",
        files=(File(f"{name}.hdf5", showers=100_000, address=address),),
        particle_in_file=False,
    )


def _files(names: Callable[[int], str], showers: int, *told: tuple[str, str, int | None]) -> tuple[File, ...]:
    """Files numbered from 1; of each its part, its md5 and its size."""
    return tuple(File(names(i), part, showers, size, f"md5:{md5}") for i, (part, md5, size) in enumerate(told, start=1))


_ATLAS = "15 energies from 256 MeV to 4.2 TeV"
_LOG = "1 GeV-1 TeV, log-uniform"

DATASETS: dict[str, Dataset] = {
    "calochallenge-1-photons": _challenge(
        8099322,
        "8099322",
        about="CaloChallenge dataset 1: photons in ATLAS, eta 0.2-0.25, 368 voxels",
        particle="gamma",
        energies=_ATLAS,
        detector="calochallenge-photons",
        licence="CC BY 4.0",
        files=_files(
            "dataset_1_photons_{}.hdf5".format,
            121_000,
            (TRAIN, "005d2adeda7db034b388112661265656", None),
            (EVALUATION, "4767715ed56e99565fd9c67340661e70", None),
        ),
    ),
    "calochallenge-1-pions": _challenge(
        8099322,
        "8099322",
        about="CaloChallenge dataset 1: charged pions in ATLAS, eta 0.2-0.25, 533 voxels",
        particle="pi+",
        energies=_ATLAS,
        detector="calochallenge-pions",
        licence="CC BY 4.0",
        files=_files(
            "dataset_1_pions_{}.hdf5".format,
            120_800,
            (TRAIN, "6a5f52722064a1bcd8a0bc002f16515d", None),
            (EVALUATION, "fee7457b40127bc23c8ab909e2638ca0", None),
        ),
        note="The two files come from two productions that a classifier tells apart (published AUC 0.56 and 0.61).",
    ),
    "calochallenge-2": _challenge(
        6366271,
        "6366271",
        about="CaloChallenge dataset 2: electrons in a silicon-tungsten cylinder, 45 x 16 x 9 voxels",
        particle="e-",
        energies=_LOG,
        detector="par04-siw",
        licence="CC BY 4.0",
        files=_files(
            "dataset_2_{}.hdf5".format,
            100_000,
            (TRAIN, "e590333e9a2da51b258288d74bd8357a", 1_356_475_617),
            (EVALUATION, "7a56fd68aa53ded37c2ac445694d9736", 1_366_708_391),
        ),
    ),
    "calochallenge-3": _challenge(
        6366324,
        "6366324",
        about="CaloChallenge dataset 3: electrons in the same cylinder, 45 x 50 x 18 voxels",
        particle="e-",
        energies=_LOG,
        detector="par04-siw-fine",
        files=_files(
            "dataset_3_{}.hdf5".format,
            50_000,
            (TRAIN, "d33f03418aa311b0965452fcbef1ff87", None),
            (TRAIN, "911dec2c40aafa64a07b7450b80881bf", None),
            (EVALUATION, "5ea62f6831a1821bb5035fafc9f030e8", None),
            (EVALUATION, "5e8d82e6a6c28c6914a3b602a1cfa299", None),
        ),
    ),
    "getting-high": Dataset(
        about="Getting High: photons in the silicon-tungsten calorimeter of the ILD, 30 x 30 x 30 voxels",
        particle="gamma",
        energies="10-100 GeV, uniform",
        detector="ild-ecal",
        layout="getting-high",
        doi="10.5281/zenodo.3826103",
        paper="arXiv 2005.05334",
        record=3826103,
        note="A sample of the paper's training data, about 24 000 of 950 000 showers.",
    ),
    "3dgan": Dataset(
        about="3DGAN: electrons in CLIC's silicon-tungsten calorimeter, with variable angle",
        particle="e-",
        energies="2-500 GeV, or 100-200 GeV: sources differ",
        detector=None,
        layout="3dgan",
        doi="10.5281/zenodo.3603086",
        paper="doi 10.1140/epjc/s10052-022-10258-4",
        record=3603086,
        note="The record is said to be compressed, its showers to have 51 x 51 x 25 voxels: see docs/datasets.md.",
    ),
    "calogan-positrons": _calogan("positrons", "e+", "eplus", "82030895-c680-432d-ac68-a6f2c8ed2641"),
    "calogan-photons": _calogan("photons", "gamma", "gamma", "1141aa57-edc0-477a-a32c-a38e5934b453"),
    "calogan-pions": _calogan("charged pions", "pi+", "piplus", "292fa8da-1877-482b-9fd3-df237d43b142"),
}
"""Public datasets by name."""
