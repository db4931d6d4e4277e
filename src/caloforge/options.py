"""Options given as plain data (from a config or a checkpoint), checked against the signature that takes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_type_hints

from pydantic import ConfigDict, Field, ValidationError, create_model

from .errors import CaloforgeError, nearest

Count = Annotated[int, Field(ge=1, le=100_000)]
"""A number of channels, units or voxels."""
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


def checked_options(build: Callable[..., object], given: Mapping[str, object], what: str) -> dict[str, Any]:
    """Check keyword options against the signature of a class or function.

    Args:
        build: what will be called; its type hints (with pydantic bounds in `Annotated`) say what is allowed.
        given: option name -> value, as read from TOML, YAML or JSON.
        what: whose options these are, for the message, e.g. ``"model 'wgan'"``.

    Returns:
        All options of ``build`` by name, defaults filled in, values of the right type.

    Raises:
        CaloforgeError: if an option is unknown, missing, of the wrong type or out of bounds.
    """
    function = build.__init__ if inspect.isclass(build) else build
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(build).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[name] = (hints[name], default)
    for name in given:
        if name not in fields:
            hint = nearest(str(name), list(fields)) or "."
            known = ", ".join(fields) or "none"
            raise CaloforgeError(f"{what} has no option '{name}'{hint} Its options: {known}.")
    schema = create_model("Options", __config__=ConfigDict(allow_inf_nan=False), **fields)
    try:
        checked = schema.model_validate(dict(given))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        message = str(fault["msg"]).removeprefix("Value error, ")
        raise CaloforgeError(f"option '{where}' of {what} is not valid: {message}; correct it.") from None
    return {name: getattr(checked, name) for name in fields}
