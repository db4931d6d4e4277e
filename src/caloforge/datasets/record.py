"""What a Zenodo record says about its files: written by strangers, read as data, checked, never followed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ..errors import CaloforgeError
from ..hdf5 import clean
from .catalogue import Dataset, File
from .download import Remote, download

_LIMIT = 4_000_000  # bytes
_MAX_FILES = 1000
_NAME = re.compile(r"\w[\w.+ -]{0,120}", re.ASCII)
_CHECKSUM = re.compile(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}")
_HDF5 = (".h5", ".hdf5")


def files_of_record(dataset: Dataset, folder: Path, mirror: str | None, *, anew: bool) -> tuple[File, ...]:
    """HDF5 files of a record with their sizes and checksums.

    Args:
        dataset: has a record.
        folder: where the record's description is kept, so that it is asked for once only.
        mirror: takes the place of the host.
        anew: ask again even if it is kept.

    Raises:
        CaloforgeError: if the record cannot be fetched, is not understood, or has no HDF5 file.
    """
    path = folder / f"record-{dataset.record}.json"
    if anew or not path.exists():
        # A description is short and may change: no piece of an older one may get into it.
        for old in (path, path.with_name(f"{path.name}.part")):
            old.unlink(missing_ok=True)
        by_hand = f"try again later, or download the files by hand from {dataset.page} and use `caloforge convert`"
        download(Remote(dataset.record_url(mirror), by_hand=by_hand, limit=_LIMIT), path)
    try:
        entries = json.loads(path.read_bytes())["files"]
        files = [_file(entry) for entry in entries[:_MAX_FILES]]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        path.unlink()
        raise CaloforgeError(
            f"the description of record {dataset.record} is not understood ({clean(error, 80)}); download its files by "
            f"hand from {dataset.page} and use `caloforge convert`."
        ) from None
    found = tuple(file for file in files if file.name.lower().endswith(_HDF5))
    if not found:
        names = clean(", ".join(file.name for file in files) or "nothing", 160)
        raise CaloforgeError(
            f"record {dataset.record} holds {names}, no HDF5 file; download it by hand from {dataset.page}, unpack it "
            "and use `caloforge convert`."
        )
    return found


def _file(entry: Any) -> File:
    name, size, checksum = entry["key"], entry["size"], entry.get("checksum")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"'{clean(name, 40)}' is no file's name")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 1 << 50:
        raise ValueError(f"'{name}' has a size of {clean(size, 40)}")
    known = isinstance(checksum, str) and _CHECKSUM.fullmatch(checksum.lower())
    return File(name, size=size, checksum=checksum.lower() if known else None)
