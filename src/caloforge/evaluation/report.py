"""The report of an evaluation: report.html for people, report.json for programs, figures/ for slides."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from markupsafe import Markup

from .. import __version__
from ..crew import HERE, Crew
from ..errors import CaloforgeError, lookup
from ..progress import Progress, silent
from .classifier import Separation
from .distributions import Distribution
from .sample import Sample

if TYPE_CHECKING:
    from rich.console import RenderableType

    from .gallery import Drawn
    from .systems import Systems
    from .tables import Table

FORMAT, FORMAT_VERSION = "caloforge-report", 1
SCHEMA_VERSION = "1.1"  # of report.schema.json: the second number rises with what is added, the first with what changes
FILES = {"report.html", "report.json", "figures"}


@dataclass
class Result:
    """Everything an evaluation found: plain data for the report, arrays for the figures."""

    reference: Sample
    generated: Sample
    data: dict[str, Any]
    distributions: dict[str, tuple[Distribution, Distribution]] = field(default_factory=dict)
    separations: dict[str, Separation] = field(default_factory=dict)
    systems: Systems | None = None


_SCHEMAS = {"showers": "report.schema.json", "images": "images.report.schema.json"}


def schema(of: str = "showers") -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of report.json, see docs/report-schema.md.

    Args:
        of: what was evaluated, "showers" or "images".

    Raises:
        CaloforgeError: if it is something else.
    """
    found: dict[str, Any] = json.loads(page_part(lookup(_SCHEMAS, of, "a kind of report")))
    return found


class Report:
    """A finished evaluation.

    Attributes:
        path: the HTML report.
    """

    _format: ClassVar[tuple[str, int]] = (FORMAT, FORMAT_VERSION)

    def __init__(self, path: Path, data: dict[str, Any]) -> None:
        self.path = path
        self._data = data

    def to_dict(self) -> dict[str, Any]:
        """The content of report.json, see docs/evaluate.md."""
        copy: dict[str, Any] = json.loads(json.dumps(self._data))
        return copy

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """Read the report in a folder.

        Raises:
            CaloforgeError: if there is none.
        """
        path = Path(folder) / "report.json"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["format"] != cls._format[0] or data["version"] > cls._format[1]:
                raise ValueError("another format")
        except (OSError, ValueError, KeyError, TypeError):
            raise CaloforgeError(f"'{path}' is not a caloforge report; make one with `caloforge evaluate`.") from None
        return cls(path.with_name("report.html"), data)

    def summary(self) -> RenderableType:
        """The most important numbers as a table for the terminal."""
        from .summary import table

        return table(self._data)

    def __repr__(self) -> str:
        return f"Report('{self.path}')"


def check_folder(folder: Path, *, overwrite: bool) -> Path:
    """Raise `CaloforgeError` unless a report may be written to a folder; called before long work starts."""
    if folder.exists() and not folder.is_dir():
        raise CaloforgeError(f"'{folder}' is a file; give the name of a folder for the report.")
    parent = folder.resolve().parent
    if not parent.is_dir():
        raise CaloforgeError(f"folder '{parent}' does not exist; make it or give another place for the report.")
    if not os.access(parent, os.W_OK):
        raise CaloforgeError(f"folder '{parent}' is not writable; give another place for the report.")
    held = {p.name for p in folder.iterdir()} if folder.exists() else set()
    if held and not overwrite:
        raise CaloforgeError(f"'{folder}' exists already; give another name or --overwrite.")
    if held - FILES:
        raise CaloforgeError(
            f"'{folder}' holds other things than a report, e.g. '{min(held - FILES)}'; give another folder."
        )
    return folder


def write_report(result: Result, folder: Path, crew: Crew = HERE, progress: Progress = silent) -> Report:
    """Have the figures drawn and write the report; the folder appears under its name only when it is whole."""
    from .gallery import draw

    head = {"format": FORMAT, "version": FORMAT_VERSION, "schema": SCHEMA_VERSION, "caloforge": __version__}
    data = {**head, **finite(result.data)}
    sections = draw(result, crew, progress)
    return Report(write_folder(folder, data, sections, lambda: render(data, sections)), data)


def write_folder(folder: Path, data: Mapping[str, Any], sections: Mapping[str, Drawn], page: Callable[[], str]) -> Path:
    """Write a page that ``page`` makes, its figures and numbers to a folder, which appears only when it is whole.

    Returns:
        The path of the page.
    """
    folder = folder.resolve()
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        (temporary / "figures").mkdir()
        for picture in (picture for section in sections.values() for picture in section.pictures):
            (temporary / "figures" / f"{picture.name}.png").write_bytes(picture.image.png)
            (temporary / "figures" / f"{picture.name}.pdf").write_bytes(picture.image.pdf)
        (temporary / "report.json").write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        (temporary / "report.html").write_text(page(), encoding="utf-8")
        _move(temporary, folder)
    except OSError as error:
        raise CaloforgeError(f"the report cannot be written to '{folder}' ({error.strerror}); make room.") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder / "report.html"


def _move(temporary: Path, folder: Path) -> None:
    """Give a finished folder its name, taking an older report away only once the new one is whole."""
    mask = os.umask(0)
    os.umask(mask)
    temporary.chmod(0o777 & ~mask)  # mkdtemp makes private folders
    if folder.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".old", dir=folder.parent))
        folder.replace(old)
        temporary.replace(folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
        temporary.replace(folder)


def finite(data: Any) -> Any:
    """Plain data with NaN and infinities as None, so that it is valid JSON."""
    if isinstance(data, dict):
        return {k: finite(v) for k, v in data.items()}
    if isinstance(data, list | tuple):
        return [finite(v) for v in data]
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data


def render(data: dict[str, Any], sections: Mapping[str, Drawn]) -> str:
    """The HTML report: one file, figures and scripts inside, nothing loaded from elsewhere; all text escaped."""
    from .summary import verdict

    script = page_part("report.viewer.js") + page_part("report.js")
    return render_page("report.html.j2", script, data=data, sections=sections, verdict=verdict(data))


def render_page(template: str, script: str, **shown: Any) -> str:
    """A page of one of our templates with our style and a script; no other script runs."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    from .summary import formats

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        loader=FunctionLoader(page_part),
    )  # fmt: skip
    environment.filters.update(formats() | _page_filters())
    scripts = {"scheme_script": page_part("report.scheme.js"), "page_script": script}
    hashes = Markup(" ".join(_hash(text) for text in scripts.values()))
    page = environment.get_template(template)
    return page.render(css=page_part("report.css"), script_hashes=hashes, **scripts, **shown).lstrip()


def page_part(name: str) -> str:
    """Text of a template, style or script of the page."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """What the page's content security policy knows a script by; no other script runs."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}'"


def _page_filters() -> dict[str, Callable[..., Any]]:
    return {
        "base64": lambda data: base64.b64encode(data).decode("ascii"),
        "script_json": script_json,
        "kinds": _kinds,
        "highest": lambda row: max((cell.level for cell in row if cell.level is not None), default=-1),
    }


def script_json(data: Any) -> Markup:
    """Data as JSON inside a script element: no sign in it can end the element or start another."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))  # ASCII only
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # what could end the element is gone


def _kinds(table: Table) -> list[str]:
    """Of each column whether it holds "text", "number" or a "level" with its dot, which is a number too."""
    kinds = []
    for column in zip(*table.cells, strict=True):
        known = [cell for cell in column if cell.sort is not None]
        kinds.append("level" if any(c.level is not None for c in column) else "number" if known else "text")
    return kinds or ["text"] * len(table.columns)
