"""What users write on the command line for energies, positions and angles."""

from __future__ import annotations

import math

from .detectors.schema import Span
from .errors import CaloforgeError


def parse_energies(text: str) -> tuple[float, ...]:
    """Energies in GeV: ``"50"``, ``"10:100"`` (lowest:highest) or ``"10,20,50"``.

    Raises:
        CaloforgeError: if it is none of these.
    """
    separator = ":" if ":" in text else ","
    parts = text.split(separator)
    if separator == ":" and len(parts) != 2:
        raise CaloforgeError(f"--energy '{text}' is not an energy; give GeV as 50, 10:100 or 10,20,50.")
    return tuple(_number(part, "--energy", text, "GeV as 50, 10:100 or 10,20,50") for part in parts)


def parse_span(text: str, flag: str) -> Span:
    """A value (``"2.5"``) or a uniform spread (``"-50:50"``)."""
    parts = text.split(":")
    if len(parts) > 2:
        raise CaloforgeError(f"{flag} '{text}' is not a value or a spread; write 2.5 or -50:50.")
    values = [_number(part, flag, text, "numbers as 2.5 or -50:50") for part in parts]
    return values[0] if len(values) == 1 else (values[0], values[1])


def parse_pair(text: str, flag: str) -> tuple[Span, Span]:
    """Two values or spreads, ``"2.5,-50:50"``; one is taken for both."""
    parts = text.split(",")
    if len(parts) > 2:
        raise CaloforgeError(f"{flag} '{text}' has {len(parts)} parts; give one for x and one for y, as 2.5,-50:50.")
    first = parse_span(parts[0], flag)
    return first, (parse_span(parts[1], flag) if len(parts) == 2 else first)


def parse_angles(text: str) -> tuple[Span, Span]:
    """Tangents of two projected angles given in rad, ``"0.1,-0.2:0.2"``."""
    first, second = (_tangent(span, text) for span in parse_pair(text, "--angle"))
    return first, second


def parse_counts(text: str, flag: str) -> list[int]:
    """Whole numbers from 1, ``"1,10,100"``."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() and part.isascii() and 0 < int(part) < 10**9 for part in parts):
        raise CaloforgeError(f"{flag} '{text}' cannot be read; give whole numbers from 1, as 1,10,100.")
    return [int(part) for part in parts]


def _tangent(span: Span, text: str) -> Span:
    ends = span if isinstance(span, tuple) else (span,)
    if any(abs(end) >= 1.5 for end in ends):
        raise CaloforgeError(f"--angle '{text}' goes past the detector's plane; give rad within -1.5 to 1.5.")
    tangents = [math.tan(end) for end in ends]
    return tangents[0] if len(tangents) == 1 else (tangents[0], tangents[1])


def _number(part: str, flag: str, text: str, allowed: str) -> float:
    try:
        value = float(part)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise CaloforgeError(f"{flag} '{text}' cannot be read; give {allowed}.")
    return value
