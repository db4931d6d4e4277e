"""The report's page in a real browser, opened from the file system."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from caloforge.detectors import Detector
from caloforge.errors import CaloforgeWarning
from caloforge.evaluation import evaluate
from caloforge.incident import Incident
from caloforge.showers import Showers

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

CHROMIUM = os.environ.get("CALOFORGE_CHROMIUM") or shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no browser: install Debian's chromium or set CALOFORGE_CHROMIUM to one's path"
)

# Without sandbox, because CI runs as root; without what a browser does by itself on the network.
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
EVIL = "</script><script>document.title = 1</script><img src=x onerror=alert(1)>$^_"

SHAPES: dict[str, dict[str, Any]] = {
    "cartesian": {"cells": [9, 9], "cell_size": [5.0, 5.0], "depth": 3, "z": [0.0, 10.0, 20.0, 30.0]},
    "polar": {"alpha": 8, "r_edges": [0.0, 3.0, 8.0, 20.0], "depth": 3, "z": [0.0, 10.0, 20.0, 30.0]},
    "one layer": {"cells": [9, 9], "cell_size": [5.0, 5.0], "depth": 1, "z": [0.0, 30.0]},
}


def made(path: Path, shape: str, seed: int, n: int = 60) -> Path:
    """Toy showers whose names would break a page that does not escape them."""
    d = Detector.from_mapping({"name": "toy", "description": EVIL, "readout": SHAPES[shape]})
    rng = np.random.default_rng(seed)
    incident = Incident.of(rng.uniform(1e4, 1e5, n), 22)
    x, y, z = d.voxel_positions.T
    mean = np.exp(-np.hypot(x, y) / 6 - z / 20)
    mean = 0.1 * incident.energy[:, None] * mean / mean.sum()
    label = {"label": EVIL, "producer": "generate"}
    Showers.from_dense(rng.gamma(mean / 20 + 1e-9, 20), incident, d, label, threshold=0.1).write(path)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, headless=True, args=QUIET)
        yield found
        found.close()


@pytest.fixture(scope="module", params=SHAPES)
def page(request: pytest.FixtureRequest, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page of a report of each kind of detector; whatever goes wrong in it is collected in ``page.faults``."""
    folder = tmp_path_factory.mktemp("report")
    files = [made(folder / f"{seed}.h5", request.param, seed) for seed in range(2)]
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore", CaloforgeWarning)  # few showers
        from caloforge.evaluation.gallery import SECTIONS

        some = {"overview", "showers", "response"}  # the others are more of the same
        # Not item by item: what is put back would stand at the end of the table, for all tests after this.
        sections = {name: section for name, section in SECTIONS.items() if name in some}
        patch.setattr("caloforge.evaluation.gallery.SECTIONS", sections)
        report = evaluate(*files, folder / "report", repeats=1)
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    opened = context.new_page()
    faults: list[str] = []
    opened.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else faults.append(r.url))
    opened.goto(report.path.as_uri())
    opened.faults = faults  # type: ignore[attr-defined]
    yield opened
    context.close()
    assert faults == []


def pixels(canvas: Locator) -> str:
    """What a canvas shows, once it has been drawn anew."""
    found: str = canvas.evaluate(
        "c => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(c.toDataURL()))))"
    )
    return found


def column(page: Page, name: str) -> list[float]:
    """Sorting numbers of a column of the table of all numbers, in the order shown."""
    found: list[float] = page.evaluate(
        """name => {
          const table = document.querySelector("#table-overview-1");
          const at = [...table.querySelectorAll("thead th")].findIndex(h => h.textContent === name);
          return [...table.querySelectorAll("tbody tr")].filter(r => !r.hidden)
            .map(r => r.cells[at].dataset.sort).filter(s => s !== undefined).map(Number);
        }""",
        name,
    )
    return found


def test_page_is_whole(page: Page) -> None:
    """Sections stand, figures load, names of strangers stay text, nothing went wrong."""
    found = page.eval_on_selector_all("main section", "all => all.map(s => s.id)")
    assert found == ["summary", "overview", "showers", "response", "samples"]
    assert page.eval_on_selector_all("nav a", "all => all.map(a => a.hash.slice(1))") == found
    widths = page.eval_on_selector_all("figure img", "all => all.map(i => i.naturalWidth)")
    assert len(widths) == 6 and min(widths) > 300
    assert EVIL in page.locator("h1").inner_text()
    assert page.title() != "1" and page.locator("img[src=x]").count() == 0
    assert page.faults == []  # type: ignore[attr-defined]
    for link in page.eval_on_selector_all("figcaption a", "all => all.map(a => a.href)"):
        assert Path(link.removeprefix("file://")).stat().st_size > 1000


def test_table_sorts_as_numbers(page: Page) -> None:
    """A click on a heading sorts down, another up; numbers as numbers, words as words."""
    for name in ("value", "above floor"):
        head = page.locator("#table-overview-1 thead th button", has_text=name).first
        head.click()
        down = column(page, name)
        assert len(down) > 5 and down == sorted(down, reverse=True)
        head.click()
        assert column(page, name) == sorted(down)
    assert page.locator("#table-overview-1 th[aria-sort=ascending]").inner_text() == "above floor"
    page.locator("#table-overview-1 thead th button", has_text="quantity").click()
    words = page.eval_on_selector_all("#table-overview-1 tbody th", "all => all.map(t => t.textContent.toLowerCase())")
    assert words[0][0] <= words[-1][0]


def test_table_filters(page: Page) -> None:
    """Words, choices and distance from the floor leave fewer rows, and say how many."""
    table = page.locator("#table-overview-1")
    rows = table.locator("tbody tr:not([hidden])")
    every = rows.count()
    table.locator(".words").fill("radial wasser")
    assert rows.count() == 1 and "radial profile" in rows.first.inner_text()
    assert table.locator(".count").inner_text() == f"1 of {every} rows"
    table.locator(".words").fill("")
    table.locator(".choice").select_option("separation power")
    texts = table.locator("tbody tr:not([hidden]) td:nth-child(2)").all_inner_texts()
    assert len(texts) > 3 and set(texts) == {"separation power"}
    table.locator(".choice").select_option("")
    table.locator(".level").select_option("1")
    assert all(value >= 2 for value in column(page, "above floor"))
    table.locator(".level").select_option("-1")
    assert rows.count() == every


def test_viewer_turns_and_zooms(page: Page) -> None:
    """Dragging, wheel, buttons, keys, energies and threshold change both showers; reset brings the start back."""
    box = page.locator(".viewer")
    box.scroll_into_view_if_needed()
    first, second = box.locator("canvas").all()
    start = pixels(first), pixels(second)
    assert start[0] != start[1] and min(len(s) for s in start) > 4000

    def changed() -> None:
        assert pixels(first) != start[0] and pixels(second) != start[1]
        box.get_by_role("button", name="reset").click()
        page.mouse.move(1, 1)
        assert (pixels(first), pixels(second)) == start

    place = first.bounding_box()
    assert place
    x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 80, y + 30, steps=3)
    page.mouse.up()
    changed()
    page.mouse.move(x, y)
    page.mouse.wheel(0, -240)
    page.wait_for_timeout(100)
    changed()
    for name in ("zoom in", "zoom out", "front", "side"):
        box.get_by_role("button", name=name).click()
        changed()
    for key in ("ArrowLeft", "ArrowUp", "+", "-"):
        first.press(key)
        changed()
    box.locator(".threshold").evaluate("s => { s.value = 70; s.dispatchEvent(new Event('input')); }")
    assert "MeV" in box.locator("output").inner_text()
    changed()
    assert box.locator("output").inner_text() == "all voxels"
    energies = box.locator(".energies input")
    assert energies.count() == 6
    energies.first.check()
    assert pixels(first) != start[0] and pixels(second) != start[1]


def test_viewer_tells_what_is_under_the_pointer(page: Page) -> None:
    """Somewhere in the middle of the picture there is a voxel, and the tip names its energy and place."""
    canvas = page.locator(".viewer canvas").first
    canvas.scroll_into_view_if_needed()
    place = canvas.bounding_box()
    assert place
    tip = page.locator(".viewer .tip").first
    for part in np.linspace(0.3, 0.75, 19):
        page.mouse.move(place["x"] + place["width"] / 2, place["y"] + part * place["height"])
        if tip.is_visible():
            break
    assert "MeV" in tip.inner_text() and "mm" in tip.inner_text()
    page.mouse.move(1, 1)


def test_figures_enlarge(page: Page) -> None:
    """A click opens the figure large with links to its files, arrow keys go on, Escape closes."""
    page.locator("#figure-mean_response .zoom").click()
    dialog = page.locator("dialog")
    assert dialog.is_visible() and dialog.locator("h3").inner_text() == "Mean response"
    assert dialog.locator(".pdf").get_attribute("href") == "figures/mean_response.pdf"
    assert dialog.locator("img").evaluate("i => i.naturalWidth") > 300
    page.keyboard.press("ArrowRight")
    assert dialog.locator("h3").inner_text() == "Resolution"
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_scheme_and_narrow_pages(page: Page) -> None:
    """The dark scheme changes page and viewer; a telephone's width needs no sideways scrolling."""
    background = "() => getComputedStyle(document.body).backgroundColor"
    canvas = page.locator(".viewer canvas").first
    light, shower = page.evaluate(background), pixels(canvas)
    page.locator(".scheme").click()
    assert page.evaluate(background) != light and pixels(canvas) != shower
    page.locator(".scheme").click()
    assert page.evaluate(background) == light and pixels(canvas) == shower
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1280, "height": 900})
