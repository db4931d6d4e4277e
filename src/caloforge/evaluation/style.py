"""How the report's figures look: mplhep's style at the size of a slide, colours, and saving as PNG and PDF.

Figures are made without pyplot's state: nothing global is touched but the list of fonts, to which mplhep adds its own.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REFERENCE, REFERENCE_FILL, GENERATED = "#33475b", "#d5dde6", "#d9480f"
SOFT = "#5b6b7b"

_SCALE = 0.4  # mplhep draws on 10 x 10 inches; half of that fits two to a slide and three to a page
_SIZES = ("xtick.major.size", "xtick.minor.size", "ytick.major.size", "ytick.minor.size", "axes.linewidth")

OWN: dict[str, Any] = {
    # mplhep's font has few signs; names of samples may hold any.
    "font.family": ["TeX Gyre Heros", "DejaVu Sans"],
    "font.size": 10.5,
    "axes.labelsize": 11,
    "axes.titlesize": 10,
    "axes.unicode_minus": True,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "xtick.major.pad": 4,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.borderpad": 0.2,
    "figure.facecolor": "white",
    "savefig.dpi": 140,
    # Half the small ticks, and outlines of letters instead of cut-down fonts: a third of the time.
    "xtick.minor.ndivs": 2,
    "ytick.minor.ndivs": 2,
    "pdf.fonttype": 3,
}


@cache
def style() -> dict[str, Any]:
    """Matplotlib settings: mplhep's ROOT style, scaled, and our own."""
    import mplhep

    known = dict(mplhep.style.ROOT)
    return known | {key: _SCALE * known[key] for key in _SIZES} | OWN


@dataclass(frozen=True)
class Image:
    """A drawn figure: the same thing for the screen and for papers."""

    png: bytes
    pdf: bytes


@dataclass(frozen=True)
class Picture:
    """A finished figure of the report.

    Attributes:
        name: file name without suffix.
        title: what it shows.
        caption: how to read it, one or two sentences.
        image: as PNG and PDF.
        wide: whether it needs the width of the page.
        photo: whether its colours are a scale that a dark page must not turn round.
    """

    name: str
    title: str
    caption: str
    image: Image
    wide: bool = False
    photo: bool = False


@contextmanager
def canvas(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Iterator[Figure]:
    """An empty figure of so many inches in the report's style."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with rc_context(style()):  # type: ignore[arg-type]
        # Padding in inches: labels of shared axes reach a little over their place.
        engine = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06) if layout else None
        figure = Figure(figsize=(width, height), layout=engine)
        FigureCanvasAgg(figure)
        yield figure


def png(figure: Figure) -> bytes:
    """The figure as PNG; the same figure gives the same bytes."""
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def pdf(figure: Figure) -> bytes:
    """The figure as PDF, without date and maker: the same figure gives the same bytes."""
    out = io.BytesIO()
    figure.savefig(out, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return out.getvalue()


def saved(figure: Figure) -> Image:
    """The figure as PNG and PDF; the second is not laid out again."""
    pixels = png(figure)
    figure.set_layout_engine("none")
    return Image(pixels, pdf(figure))


def short(label: str) -> str:
    """A label that fits a legend; dollars would start mathematics."""
    text = "".join(c if ord(c) < 0x2FFF else "?" for c in label).replace("$", r"\$")  # the fonts have no more
    return text if len(text) <= 28 else text[:27] + "…"
