"""What rankings of showers and of images share: scores, their order, how significant differences are, the file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CaloforgeError
from ..output import UnfinishedFile, check_output
from .distributions import Floats
from .resampling import spread
from .significance import Difference, of_draws, of_repeats

if TYPE_CHECKING:
    from rich.console import RenderableType

FILE = "compare.json"

SATURATED = 0.99
"""From this area on a classifier no longer orders samples: nearly every shower is told."""


@dataclass
class Score:
    """One number of one sample.

    Attributes:
        value: the number; None where there is none.
        error: its standard deviation, None for a number without.
        found: what differences are made of: bootstrap replicas or repeats.
    """

    value: float | None
    error: float | None = None
    found: Floats = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def of(cls, value: float, found: Floats) -> Score:
        """A number, not known if it is not finite, and the replicas or repeats that its error is the spread of."""
        return cls(known(value), known(spread(found)), found)


def known(value: float) -> float | None:
    """A number, or None if it is not finite."""
    return float(value) if np.isfinite(value) else None


Entry = tuple[str, dict[str, Any], dict[str, Score]]
"""A sample in a ranking: its name, what describes it, and its scores."""


@dataclass(frozen=True)
class Rules:
    """How samples are ranked.

    Attributes:
        scores: short label and meaning of every score by name; less is better in all. One of them is "auc".
        of_draws: those that differences are made of by bootstrap draws; all others by repeats.
        saturated: the one that orders samples whose "auc" is `SATURATED`.
        bare: the one that has neither error nor differences.
    """

    scores: Mapping[str, tuple[str, str]]
    of_draws: tuple[str, ...]
    saturated: str
    bare: str

    def order(self, scores: Mapping[str, Score], name: str) -> tuple[float, float, str]:
        """Sort key of a sample."""
        area, other = scores["auc"].value, scores[self.saturated].value
        assert area is not None
        if area < SATURATED:
            return area, 0.0, name
        return SATURATED, other if other is not None else np.inf, name

    def tables(self, entries: Sequence[Entry], floors: Mapping[str, Any]) -> dict[str, Any]:
        """What compare.json says of samples in the order of their places: "scores", "ranking", "differences"."""
        places = {key: ranks([scores[key].value for _, _, scores in entries]) for key in self.scores}
        ranking: list[dict[str, Any]] = []
        for place, (name, described, scores) in enumerate(entries):
            table = {
                key: {"value": scores[key].value, "error": scores[key].error, "rank": places[key][place]}
                for key in self.scores
            }
            entry = {"rank": place + 1, "name": name, **described, "scores": table}
            ranking.append(entry | {"next": self._next(entries, place)})
        return {
            "scores": {
                key: {"label": label, "meaning": meaning, "floor": floors.get(key)}
                for key, (label, meaning) in self.scores.items()
            },
            "ranking": ranking,
            "differences": self._differences(entries),
        }

    def _difference(self, key: str, one: Score, two: Score) -> Difference | None:
        if one.value is None or two.value is None or key == self.bare:
            return None
        if key in self.of_draws:
            return of_draws(one.value, two.value, one.found, two.found)
        return of_repeats(one.found, two.found)

    def _next(self, entries: Sequence[Entry], place: int) -> dict[str, Any] | None:
        """The difference by which a sample stands before the one after it; None for the last."""
        if place + 1 == len(entries):
            return None
        (_, _, one), (name, _, two) = entries[place : place + 2]
        both = [scores["auc"].value for scores in (one, two)]
        key = self.saturated if all(area is not None and area >= SATURATED for area in both) else "auc"
        found = self._difference(key, one[key], two[key])
        return {"name": name, "score": key, **(found.to_dict() if found else {})}

    def _differences(self, entries: Sequence[Entry]) -> list[dict[str, Any]]:
        """Every score's difference of every two samples, the one ranked later minus the earlier one."""
        found = []
        for i, (first, _, one) in enumerate(entries):
            for j, (second, _, two) in enumerate(entries[i + 1 :], start=i + 1):
                for key in self.scores:
                    difference = self._difference(key, one[key], two[key])
                    if difference is not None:
                        pair = {"score": key, "first": first, "second": second, "neighbours": j == i + 1}
                        found.append(pair | difference.to_dict())
        return found


def ranks(values: Sequence[float | None]) -> list[int | None]:
    """Places from 1 by rising value; equal values share the better place."""
    there = [value for value in values if value is not None]
    return [None if value is None else 1 + sum(other < value for other in there) for value in values]


class Ranking:
    """A finished ranking.

    Attributes:
        path: of compare.json, None if it was not written.
    """

    def __init__(self, data: dict[str, Any], path: Path | None) -> None:
        self.path = path
        self._data = data

    def to_dict(self) -> dict[str, Any]:
        """The content of compare.json, see docs/compare.md."""
        copy: dict[str, Any] = json.loads(json.dumps(self._data))
        return copy

    def table(self) -> RenderableType:
        """The ranking for the terminal."""
        from .ranking_table import table

        return table(self._data)

    def __repr__(self) -> str:
        return f"Ranking({[entry['name'] for entry in self._data['ranking']]})"


# -- names and places --------------------------------------------------------------------------------------------


def names_of(paths: Sequence[str | Path]) -> list[str]:
    """A short name for each file: its stem if no other has it, else as much of the path as was given."""
    stems = [Path(path).stem for path in paths]
    names = [stem if stems.count(stem) == 1 else str(path) for stem, path in zip(stems, paths, strict=True)]
    return [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]


def checked_place(folder: str | Path | None, overwrite: bool) -> Path | None:
    """Where compare.json goes, if anywhere; raises `CaloforgeError` unless it may be written there."""
    if folder is None:
        return None
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise CaloforgeError(f"'{folder}' is a file; give the name of a folder for {FILE}.")
    # A folder that is still to be made is checked as a file would be: its own folder must be there and writable.
    check_output(folder / FILE if folder.exists() else folder, overwrite=overwrite)
    return folder / FILE


def finished(data: dict[str, Any], place: Path | None, overwrite: bool) -> Ranking:
    """The ranking, written if it has a place."""
    if place is None:
        return Ranking(data, None)
    made = not place.parent.exists()
    place.parent.mkdir(exist_ok=True)
    try:
        with UnfinishedFile(place, overwrite=overwrite) as temporary:
            temporary.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except BaseException:
        if made:
            with suppress(OSError):
                place.parent.rmdir()
        raise
    return Ranking(data, place)
