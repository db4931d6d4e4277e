"""Configuration files: TOML read into typed, frozen sections that are defined beside the code they configure.

This module knows no stage: `read_config` takes the type to read, e.g. ``caloforge.training.TrainConfig``. Whatever is
wrong is said in one sentence that names the file (or the ``--set``) and the key.
"""

from __future__ import annotations

import json
import math
import reprlib
import tomllib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from .errors import CaloforgeError, nearest

T = TypeVar("T", bound="Section")


class Section(BaseModel):
    """A table of a configuration file: unknown keys are errors, values are of their type and never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Choice(Section):
    """A table that picks something by ``name``; its other keys are options for whoever bears that name."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """All keys but the name."""
        return dict(self.__pydantic_extra__ or {})

    @model_validator(mode="after")
    def _plain(self) -> Choice:
        for key, value in self.options.items():
            if not _is_plain(value):
                raise ValueError(f"option '{key}' must be made of texts, finite numbers, booleans, lists and tables")
        return self


def read_config(source: str | Path | Mapping[str, Any], kind: type[T], overrides: Sequence[str] = ()) -> T:
    """Read a configuration.

    Args:
        source: path of a TOML file, or the same as plain data.
        kind: the section to read it as.
        overrides: changes such as ``"training.batch_size=64"`` or ``"training.phases.0.steps=10"`` (numbers pick
            from lists, counted from 0). Values are TOML; what is not TOML is taken as text.

    Returns:
        The checked configuration.

    Raises:
        CaloforgeError: if the file or an override cannot be read, a key is unknown or missing, or a value is wrong.
    """
    if isinstance(source, (str, Path)):
        data, origin = _read_toml(Path(source)), str(source)
    else:
        data, origin = dict(source), "the configuration"
    try:
        data = _copy(data)
        for override in overrides:
            _apply(data, override)
        return kind.model_validate(data)
    except ValidationError as error:
        raise CaloforgeError(_sentence(error, kind, origin, overrides)) from None
    except RecursionError:
        raise CaloforgeError(f"{origin} is nested too deeply to be a configuration.") from None


def to_toml(data: Mapping[str, Any]) -> str:
    """Write plain data as TOML; keys whose value is None are left out.

    Args:
        data: tables, lists, texts, numbers and booleans, e.g. ``config.model_dump()``.
    """
    lines: list[str] = []
    _write_table(lines, "", data)
    return "\n".join(lines).lstrip("\n") + "\n"


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CaloforgeError(f"configuration file '{path}' does not exist; give the path of a TOML file.") from None
    except (OSError, ValueError) as error:
        if isinstance(error, tomllib.TOMLDecodeError):
            raise CaloforgeError(f"{path} is not valid TOML: {error}.") from None
        raise CaloforgeError(f"configuration file '{path}' cannot be read as text ({error}).") from None
    except RecursionError:
        raise CaloforgeError(f"{path} is nested too deeply to be a configuration.") from None


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, (list, tuple)) else value


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    return isinstance(value, (str, int, bool)) or (isinstance(value, float) and math.isfinite(value))


# -- overrides -------------------------------------------------------------------------------------------------


def _apply(data: dict[str, Any], override: str) -> None:
    """Set one ``key=value`` in place."""
    path, equals, text = override.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or not all(keys):
        raise CaloforgeError(f"--set '{override}' is not KEY=VALUE; write e.g. --set training.batch_size=64.")
    here: Any = data
    for key, following in pairwise(keys):
        here = _step(here, key, override, {} if not following.isdigit() else None)
    if isinstance(here, list):
        here[_position(here, keys[-1], override)] = _value(text)
    else:
        here[keys[-1]] = _value(text)


def _step(here: Any, key: str, override: str, new: Any) -> Any:
    """The table or list that ``key`` names in ``here``; a missing table is made."""
    if isinstance(here, list):
        found = here[_position(here, key, override)]
    else:
        found = here.setdefault(key, {} if new is None else new)
    if not isinstance(found, (dict, list)):
        raise CaloforgeError(f"--set '{override}': '{key}' is a single value, it has no keys; set '{key}' itself.")
    return found


def _position(values: list[Any], key: str, override: str) -> int:
    if key.isascii() and key.isdigit() and len(key) < 10 and int(key) < len(values):
        return int(key)
    allowed = f"a number from 0 to {len(values) - 1}" if values else "nothing: the list is empty"
    raise CaloforgeError(f"--set '{override}': '{key}' stands where a list needs {allowed}.")


def _value(text: str) -> Any:
    """A TOML value, or the text itself where it is none."""
    text = text.strip()
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return parsed["value"] if len(parsed) == 1 else text


# -- messages --------------------------------------------------------------------------------------------------


def _sentence(error: ValidationError, kind: type[BaseModel], origin: str, overrides: Sequence[str]) -> str:
    """What is wrong, in one sentence."""
    fault = error.errors(include_url=False)[0]
    loc = [str(part) for part in fault["loc"]]
    where = ".".join(loc)
    for override in overrides:
        if loc and override.partition("=")[0].replace(" ", "").split(".")[: len(loc)] == loc:
            origin = f"--set '{override}'"
    if fault["type"] == "extra_forbidden":
        known = _keys(kind, loc[:-1])
        section = f"[{'.'.join(loc[:-1])}]" if loc[:-1] else "the configuration"
        hint = nearest(loc[-1], known) or "."
        return f"{origin}: '{loc[-1]}' is not a key of {section}{hint} Keys: {', '.join(known)}."
    if fault["type"] == "missing":
        return f"{origin}: '{where}' is missing; add it."
    message = str(fault["msg"]).removeprefix("Value error, ").rstrip(".")
    if fault["type"] == "value_error":
        return f"{origin}: {where + ': ' if where else ''}{message}."
    message = message[:1].lower() + message[1:]
    return f"{origin}: '{where}' = {reprlib.repr(fault['input'])} is not allowed: {message}."


def _keys(kind: type[BaseModel], loc: Sequence[str]) -> list[str]:
    """The keys allowed in the table at ``loc``."""
    here: Any = kind
    for part in loc:
        if _is_section(here):
            field = here.model_fields.get(part)
            here = field.annotation if field else None
        else:  # a list or a dictionary of sections: ``part`` picks one of them
            here = next(filter(_is_section, get_args(here)), None)
    return sorted(here.model_fields) if _is_section(here) else []


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and not get_args(annotation) and issubclass(annotation, BaseModel)


# -- writing ---------------------------------------------------------------------------------------------------


def _write_table(lines: list[str], prefix: str, table: Mapping[str, Any]) -> None:
    nested = {k: v for k, v in table.items() if isinstance(v, Mapping) or _is_tables(v)}
    lines.extend(f"{_key(k)} = {_inline(v)}" for k, v in table.items() if k not in nested and v is not None)
    for name, value in nested.items():
        path = f"{prefix}.{_key(name)}" if prefix else _key(name)
        for part in [value] if isinstance(value, Mapping) else value:
            lines += ["", f"[{path}]" if isinstance(value, Mapping) else f"[[{path}]]"]
            _write_table(lines, path, part)


def _is_tables(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(item, Mapping) for item in value)


def _inline(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(k)} = {_inline(v)}" for k, v in value.items() if v is not None)
        return "{" + inner + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_inline(item) for item in value) + "]"
    return repr(value)


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if bare else _inline(name)
