"""Errors and warnings that a user can cause, and the one look-up that names near misses."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


class CaloforgeError(Exception):
    """A mistake in what was asked, not in the program.

    Its message is one sentence: what was given, what is allowed, what to do. The command line prints it
    without a traceback and exits with code 2.
    """


class CaloforgeWarning(UserWarning):
    """Something that makes a result less trustworthy than it looks, e.g. too few showers."""


def nearest(name: str, known: Mapping[str, object] | list[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def lookup(table: Mapping[str, T], name: str, kind: str) -> T:
    """Return ``table[name]``.

    Args:
        table: the table to look in, e.g. ``MODELS``.
        name: the name given by the user.
        kind: what the table holds, with its article, e.g. ``"a model"``.

    Raises:
        CaloforgeError: if the name is unknown; the message names the nearest and lists all.
    """
    try:
        return table[name]
    except KeyError:
        noun = kind.split(" ", 1)[1].capitalize()
        plural = noun + ("es" if noun.endswith("s") else "s")
        hint = nearest(name, list(table)) or "."
        raise CaloforgeError(f"'{name}' is not {kind}{hint} {plural}: {', '.join(sorted(table))}.") from None
