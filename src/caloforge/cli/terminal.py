"""What is said on the terminal: results on stdout; errors and warnings on stderr, one sentence each."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import typer

from ..errors import CaloforgeError, CaloforgeWarning

P = ParamSpec("P")
R = TypeVar("R")


def reported(verb: Callable[P, R]) -> Callable[P, R]:
    """Turn what a user can cause into one sentence and an exit code: 2 for mistakes, 130 for Ctrl-C."""

    @wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        warnings.showwarning = show_warning
        try:
            return verb(*args, **kwargs)
        except CaloforgeError as error:
            say(f"error: {error}")
            raise typer.Exit(2) from None
        except KeyboardInterrupt as stop:
            say(str(stop) or "stopped; unfinished work is kept where it can be: run again with --resume.")
            raise typer.Exit(130) from None
        except OSError as error:
            # A full disk or a vanished folder is nobody's bug; its name and reason are the whole story.
            name, why = error.filename or "a file", error.strerror or error
            say(f"error: {name} cannot be used ({why}); check place and space.")
            raise typer.Exit(2) from None

    return run


def say(text: str) -> None:
    """One line on stderr."""
    print(f"caloforge: {text}", file=sys.stderr)


def say_what_is_compiled(backends: Iterable[str]) -> None:
    """Say so if the first shower will wait for loops to be compiled."""
    from ..extras import has_numba
    from ..generation.backends import loops_are_kept

    if "numba" in backends and has_numba() and not loops_are_kept():
        say("the loops of the backend numba are compiled now, once for this version: that takes about half a minute.")


def show_warning(message: Warning | str, category: type[Warning], *rest: Any, **named: Any) -> None:
    """What `warnings.showwarning` becomes: our own warnings in one line, others' not at all."""
    if issubclass(category, CaloforgeWarning):
        say(f"warning: {message}")


def show(rendered: object) -> None:
    """Print a text or a table of rich."""
    from rich.console import Console

    Console().print(rendered)


def show_json(plain: object, indent: int | None = None) -> None:
    """Print plain data as JSON, for programs."""
    import json

    print(json.dumps(plain, indent=indent))


def show_table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print rows under the names of their columns."""
    from rich.table import Table

    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*row)
    show(table)
