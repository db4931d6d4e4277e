"""Small text files in and out: their size and encoding are checked before anything reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import CaloforgeError

MAX_TEXT_BYTES = 4 << 20


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or holds a null character
        return False


def read_text(path: Path, what: str, limit: int = MAX_TEXT_BYTES) -> str:
    """Text of a small file.

    Args:
        path: the file.
        what: what it is, for the error message.
        limit: its largest size in bytes.

    Raises:
        CaloforgeError: if there is no such file, it is too large, or it is not text.
    """
    if not is_file(path):
        raise CaloforgeError(f"{what} '{str(path)[:200]}' does not exist; give the path of one.")
    try:
        with path.open("rb") as file:
            raw = file.read(limit + 1)
        if len(raw) > limit:
            raise CaloforgeError(f"{what} '{path}' is larger than {limit} bytes; give a smaller one.")
        return raw.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CaloforgeError(f"{what} '{path}' cannot be read as text ({error}); give another.") from None


def to_toml(data: dict[str, Any]) -> str:
    """Write plain data as TOML: enough for a detector file (the standard library only reads it)."""

    def value(item: Any) -> str:
        if isinstance(item, dict):
            return "{" + ", ".join(f"{value(k)} = {value(v)}" for k, v in item.items() if v is not None) + "}"
        if isinstance(item, (list, tuple)):
            return "[" + ", ".join(value(v) for v in item) + "]"
        # As in JSON, but TOML knows no surrogate pairs and wants DEL escaped.
        return json.dumps(item, ensure_ascii=False).replace("\x7f", "\\u007f")

    return "".join(f"{key} = {value(item)}\n" for key, item in data.items() if item is not None)
