"""The history of a training: one JSON object a line, readable with ``pandas.read_json(path, lines=True)``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self


class History:
    """Rows of a training, appended to a file or only kept in memory.

    Attributes:
        rows: all rows up to now.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.rows: list[dict[str, Any]] = []
        self._path = path

    def rewind(self, iteration: int) -> Self:
        """Read the file and drop all rows after ``iteration``, also one that was cut short by a crash."""
        self.rows = []
        if self._path is None or not self._path.exists():
            return self
        end = 0
        with self._path.open("rb+") as file:
            for line in file:
                row = _row(line)
                if row is None or row["iteration"] > iteration:
                    break
                self.rows.append(row)
                end += len(line)
            file.truncate(end)
        return self

    def append(self, row: dict[str, Any]) -> None:
        """Add one row."""
        self.rows.append(row)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    @property
    def seconds(self) -> float:
        """Training time up to the last row."""
        return float(self.rows[-1]["seconds"]) if self.rows else 0.0


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    whole = line.endswith(b"\n") and isinstance(row, dict) and isinstance(row.get("iteration"), int)
    return row if whole else None
