"""The evaluation in few words: numbers with errors as text, a verdict, the terminal table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .resampling import excess

if TYPE_CHECKING:
    from rich.console import RenderableType

Number = Mapping[str, Any]


def with_error(number: Number | None) -> str:
    """A value and its error with as many digits as the error deserves, e.g. "0.531 ± 0.006"."""
    if number is None:
        return "–"
    value, error, power = _rounded(number)
    text = f"{value} ± {error}" if error else value
    return text if not power else f"({text}){power}" if error else f"{text}{power}"


def parts(number: Number) -> tuple[str, str]:
    """A value and its error as `with_error` rounds them, one by one."""
    value, error, power = _rounded(number)
    return value + power, (error or "–") + (power if error else "")


def _rounded(number: Number) -> tuple[str, str, str]:
    """Value, error ("" for none) and their common power of ten, e.g. "·10⁻⁵", "" for none."""
    if number.get("value") is None or not math.isfinite(number["value"]):
        return "–", "", ""
    value, error = float(number["value"]), float(number.get("error") or 0)
    if not error or not math.isfinite(error):
        return f"{value:.4g}", "", ""
    scale = math.floor(math.log10(max(abs(value), error)))
    if -3 < scale < 6:
        digits, power = _digits(error), ""
    else:
        value, error = value / 10**scale, error / 10**scale
        digits = _digits(error)
        power = "·10" + str(scale).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value:.{digits}f}", f"{error:.{digits}f}", power


def _digits(error: float) -> int:
    """Decimals to show: two digits of an error that starts with 10 to 35, one of others (the PDG's rule)."""
    power = math.floor(math.log10(error))
    return min(max(0, (1 if error / 10**power < 3.55 else 0) - power), 10)


def duration(seconds: float | None) -> str:
    """Seconds in a fitting unit, e.g. "2.1 ms"."""
    if seconds is None:
        return "not recorded"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def factor(value: float | None) -> str:
    """A ratio of times, e.g. "1 240 ×"."""
    if value is None:
        return "not known"
    return f"{value:,.0f} ×".replace(",", " ") if value >= 100 else f"{value:.3g} ×"


def percent(value: float | None) -> str:
    """A fraction in percent, "–" for none."""
    if value is None:
        return "–"
    return "0" if value == 0 else f"{100 * value:.2g} %" if value >= 1e-4 else "< 0.01 %"


def sigmas(number: Number) -> str:
    """How far a number lies above its floor, in standard deviations."""
    far = above(number)
    if far is None:
        return "–"
    return "> 99 σ" if far > 99 else f"{far + 0.0:.1f} σ".replace("-0.0", "0.0")


def outside(shares: Mapping[str, float]) -> str:
    """Share of a sample that no bin of a figure shows."""
    return percent(sum(shares.values()))


def above(number: Number) -> float | None:
    """How far a number lies above its floor, in standard deviations; None where that is unknown."""
    floor = number["floor"]
    if number.get("value") is None or floor.get("value") is None:
        return None
    if number["error"] == floor["error"] == 0:  # e.g. one repeat of a classifier has no spread
        return None
    return excess(number, number["floor"])


def formats() -> dict[str, Callable[..., Any]]:
    """Filters for the template."""
    return {
        "about": about,
        "with_error": with_error,
        "duration": duration,
        "factor": factor,
        "percent": percent,
        "sigmas": sigmas,
        "outside": outside,
        "above": above,
    }


_SIGNS = {"e-": "e⁻", "e+": "e⁺", "gamma": "γ"}


def about(data: Mapping[str, Any], *, energy: bool = True) -> str:
    """Detector, particles and energies of a comparison in few words, e.g. "lhcb-ecal, e⁻, 1–100 GeV"."""
    one = data["samples"]["reference"]
    name = str(data["detector"]["name"])
    words = [name if len(name) <= 24 else name[:23] + "…", " ".join(_SIGNS.get(p, p) for p in one["particles"][:3])]
    if energy:
        low, high = (f"{one['energy_mev'][side] / 1e3:.3g}" for side in ("min", "max"))
        words.append(f"{low} GeV" if low == high else f"{low}–{high} GeV")
    return ", ".join(words)


def worst(data: Mapping[str, Any]) -> str:
    """Name of the observable that lies furthest above its floor."""
    table = data["observables"]
    known = [k for k in table if table[k]["separation"]["value"] is not None]
    name: str = max(known, key=lambda k: excess(table[k]["separation"], table[k]["separation"]["floor"]))
    return name


def verdict(data: Mapping[str, Any]) -> dict[str, Any]:
    """What to say first.

    Returns:
        "sentence", "level" (0 equal within errors, 1 close, 2 different, 3 easily told apart) and "worst".
    """
    found = data["classifiers"].values()
    best = max(found, key=lambda c: float(c["auc"]["value"]))
    area, error = float(best["auc"]["value"]), math.hypot(best["auc"]["error"], best["floor"]["error"])
    if area < float(best["floor"]["value"]) + 2 * error or area < 0.51:
        level, text = 0, "No classifier tells the generated showers from the reference within its errors."
    elif area < 0.6:
        level, text = (
            1,
            "The generated showers are close to the reference: trained classifiers are little better than chance.",
        )
    elif area < 0.8:
        level, text = 2, "The generated showers differ: a trained classifier often tells them from the reference."
    else:
        level, text = 3, "A trained classifier easily tells the generated showers from the reference."
    name = worst(data)
    return {"sentence": text, "level": level, "worst": name, "area": best["auc"]}


def table(data: Mapping[str, Any]) -> RenderableType:
    """The most important numbers as a terminal table."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    one, two = data["samples"]["reference"], data["samples"]["generated"]
    head = Text(f"{two['label']} against {one['label']}: {two['showers']} and {one['showers']} showers")
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column("")
    for column in ("value", "floor", "above floor"):
        grid.add_column(column, justify="right", no_wrap=True)

    def add(name: str, number: Number, floor: Number) -> None:
        grid.add_row(Text(name), with_error(number), with_error(floor), sigmas({**number, "floor": floor}))

    for entry in data["classifiers"].values():
        add(f"AUC, {entry['label']}", entry["auc"], entry["floor"])
    grid.add_row(Text("separation power of", style="bold"))
    for entry in data["observables"].values():
        add(f"  {entry['label']}", entry["separation"], entry["separation"]["floor"])
    add("correlation difference", data["correlation"], data["correlation"]["floor"])
    grid.add_row(Text("generated over reference", style="bold"))
    for key, label in (("mean", "mean response"), ("resolution", "resolution"), ("resolution_90", "resolution (90 %)")):
        grid.add_row(f"  {label}", with_error(data["response"]["ratio"][key]))
    speed = Text(
        f"time per shower: {duration(one['seconds_per_shower'])} and {duration(two['seconds_per_shower'])}, "
        f"faster by: {factor(data['speed_up'])}"
    )
    notes = [Text(f"mind: {w}", style="yellow") for w in data["warnings"]]
    return Group(head, Text(verdict(data)["sentence"], style="bold"), grid, speed, *notes)
