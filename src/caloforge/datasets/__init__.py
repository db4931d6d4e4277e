"""Public shower datasets by name: what there is, and how it gets here as shower files."""

from __future__ import annotations

from .catalogue import DATASETS, Dataset, File
from .getting import MIRROR, Fetched, get
from .listing import listing, table

__all__ = ["DATASETS", "MIRROR", "Dataset", "Fetched", "File", "get", "listing", "table"]
