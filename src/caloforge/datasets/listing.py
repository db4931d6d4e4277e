"""What `caloforge datasets` tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .catalogue import DATASETS, Dataset
from .download import MB

if TYPE_CHECKING:
    from rich.console import RenderableType


def listing() -> dict[str, dict[str, Any]]:
    """Every dataset by name, as plain data; what is not known is null, no files mean that the record is asked."""
    return {name: dataset.to_dict() for name, dataset in DATASETS.items()}


def table() -> RenderableType:
    """Every dataset in a few lines that fit a terminal, and how to get one."""
    from rich.console import Group
    from rich.table import Table

    found = Table("dataset", "what it is, whose voxels, where it lies", box=None, padding=(0, 1, 1, 0))
    for name, dataset in DATASETS.items():
        voxels = f"{dataset.detector or 'no detector of the package'}, layout {dataset.layout}"
        source = f"doi {dataset.doi}; {dataset.paper}; {dataset.licence or 'licence not known'}"
        lines = [dataset.about, f"{dataset.particle}, {dataset.energies}; {voxels}", _files(dataset), source]
        found.add_row(name, "\n".join([*lines, dataset.note]).strip())
    return Group(found, "caloforge datasets get NAME; all that is known: --json")


def _files(dataset: Dataset) -> str:
    if not dataset.files:
        return f"files as Zenodo record {dataset.record} lists them"
    parts = [file.part for file in dataset.files]
    told = ", ".join(f"{parts.count(part)} {part}" for part in dict.fromkeys(parts) if part is not None)
    number = f"{len(parts)} {'file' if len(parts) == 1 else 'files'}" + (f" ({told})" if told else "")
    showers = [file.showers for file in dataset.files if file.showers is not None]
    size = "size not known" if dataset.size is None else f"{dataset.size / MB:.0f} MB"
    return f"{number}, {sum(showers)} showers, {size}"
