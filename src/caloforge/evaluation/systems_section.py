"""The report's section of what the published systems were validated by: pictures and tables from `systems`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import systems_figures
from .style import Picture
from .summary import with_error
from .tables import Cell, Table

if TYPE_CHECKING:
    from .report import Result
    from .systems import Systems

NUMBER, REFERENCE, GENERATED = "number", "reference", "generated"


def systems_items(result: Result, names: tuple[str, str], about: str) -> Sequence[Picture | Table]:
    """Pictures and tables in the order of the report; nothing if the evaluation looked at none of it.

    Args:
        result: with ``data["systems"]`` and, for pictures, what `score_systems` found.
        names: of the two samples, for legends.
        about: what stands over panels.
    """
    if result.systems is None:
        return []
    return [*_pictures(result.systems, result.data["systems"], names, about), *_tables(result.data["systems"])]


def _pictures(found: Systems, data: Mapping[str, Any], names: tuple[str, str], about: str) -> Iterator[Picture]:
    if "visible_energy" in data:
        caption = (
            "Total energy of showers within 10 % of three incident energies, scaled to these (S1, arXiv 2005.05334)."
        )
        image = systems_figures.visible_energy(found.visible, names)
        yield Picture("visible_energy", "Visible energy at fixed energies", caption, image, wide=True)
    for number, row in enumerate(data.get("shapes", [])):
        window = found.windows[number]
        span = f"{window.low / 1e3:.3g}-{window.high / 1e3:.3g} GeV"
        mse = row["mse"]["mean"]
        caption = (
            f"Mean energy along x, y and the layers, incident energies {span}: linear, logarithmic, ratio (S0, arXiv "
            f"2103.13698). Mean squared error {mse['value']:.2g} ± {mse['error']:.1g} %² per bin, "
            f"floor {mse['floor']['value']:.2g}."
        )
        image = systems_figures.shapes(window.reference, {names[1]: window.generated}, names[0], span)
        yield Picture(f"shower_shapes_{number}", f"Shower shapes, {span}", caption, image, wide=True)
    if "cells" in data and found.cells and found.cells_floor:
        caption = (
            f"Ratios of mean and standard deviation of the {data['cells']['cells']} cells with the largest deposits, "
            f"{_span(data['cells'])} (S0); filled: halves of the reference."
        )
        image = systems_figures.cells(found.cells_floor, {names[1]: found.cells}, names[0])
        yield Picture("hottest_cells", "Cells with the largest deposits", caption, image, wide=True)
    if "components" in data and found.components:
        caption = (
            "Showers along the principal components of the reference's energies along x, y and the layers (S4, AdaGAN)."
        )
        image = systems_figures.components(found.components, names)
        yield Picture("principal_components", "Principal components", caption, image, wide=True)
    peaks = [peak for peak in found.peaks if peak is not None]
    if "cell_peak" in data and len(peaks) == 2:
        caption = "Cell energies about their peak, which minimum ionising particles leave; dotted: its place (S1)."
        yield Picture("cell_peak", "Peak of the cell energies", caption, systems_figures.cell_peak(peaks, names))
    if "similarity" in data:
        caption = (
            f"Structural similarity of pairs of showers of nearly equal energy, {_span(data['similarity'])} (S0). A "
            "curve within the generated sample above the reference's is a sign of mode collapse."
        )
        image = systems_figures.similarity(
            found.ssim["reference"], {names[1]: found.ssim["generated"]}, {names[1]: found.ssim["between"]}, names[0]
        )
        yield Picture("similarity", "Structural similarity", caption, image)
    if "embedding" in data and found.embedding:
        caption = (
            "t-SNE of the principal components (S4): a picture, not a measurement; distances mean nothing, but a place "
            "of one colour is a kind of shower that the other sample lacks."
        )
        yield Picture("embedding", "t-SNE", caption, systems_figures.embedding(found.embedding, names))


def _span(window: Mapping[str, Any]) -> str:
    return f"{window['low_mev'] / 1e3:.4g}-{window['high_mev'] / 1e3:.4g} GeV"


def _tables(data: Mapping[str, Any]) -> Iterator[Table]:
    compared = [*_shape_rows(data), *_cell_rows(data), *_component_rows(data), *_embedding_rows(data)]
    if compared:
        caption = (
            "Ratios are generated over reference; the floor is the same number for one half of the reference against "
            "the other."
        )
        yield Table("What S0 and S4 measured", (NUMBER, "value"), compared, caption)
    rows = [*_edge_rows(data), *_peak_rows(data), *_similarity_rows(data), *_visible_rows(data)]
    if rows:
        yield Table("The same number of both samples", (NUMBER, REFERENCE, GENERATED), rows)
    if data["missing"]:
        left_out = [[name.replace("_", " "), why] for name, why in data["missing"].items()]
        yield Table("Left out", ("what", "why"), left_out)


def _ratio(number: Mapping[str, Any]) -> Cell:
    """A ratio beside its floor: away from it in either direction is bad, so there is no "above"."""
    return Cell(with_error(number), number["value"], f"floor {with_error(number['floor'])}")


def _shape_rows(data: Mapping[str, Any]) -> Iterator[list[Any]]:
    for row in data.get("shapes", []):
        for axis, number in row["mse"].items():
            along = "average of the axes" if axis == "mean" else f"along {axis}"
            yield [f"mean squared error of shower shapes, {along}, {_span(row)} [%² per bin]", number]


def _cell_rows(data: Mapping[str, Any]) -> Iterator[list[Any]]:
    if "cells" in data:
        for key, what in (("average_mean", "mean"), ("average_std", "standard deviation")):
            yield [f"{what} of the {data['cells']['cells']} hottest cells, ratio", _ratio(data["cells"][key])]


def _component_rows(data: Mapping[str, Any]) -> Iterator[list[Any]]:
    for number, row in enumerate(data.get("components", []), start=1):
        yield [f"variance of principal component {number} ({100 * row['explained']:.0f} %), ratio", _ratio(row)]


def _embedding_rows(data: Mapping[str, Any]) -> Iterator[list[Any]]:
    if "embedding" in data:
        yield ["neighbours of the own sample in t-SNE, over chance", data["embedding"]["neighbours_alike"]]


def _edge_rows(data: Mapping[str, Any]) -> Iterator[list[Any]]:
    for edge, row in data.get("edges", {}).items():
        yield [f"share of the energy at the edge {edge.replace('_', ' ')}", row["reference"], row["generated"]]


def _peak_rows(data: Mapping[str, Any]) -> Iterator[list[Any]]:
    for key, what in (
        ("position", "peak of the cell energies"),
        ("width", "its full width at half maximum"),
    ):
        if "cell_peak" in data:
            yield [f"{what} [MeV]", data["cell_peak"][key]["reference"], data["cell_peak"][key]["generated"]]


def _similarity_rows(data: Mapping[str, Any]) -> Iterator[list[Any]]:
    if "similarity" in data:
        found = data["similarity"]
        at = f"dynamic range {found['dynamic_range_mev']:.3g} MeV"
        yield [f"structural similarity within the sample, {at}", found["reference"], found["generated"]]
        yield [f"structural similarity to the reference, {at}", found["halves"], found["between"]]


def _visible_rows(data: Mapping[str, Any]) -> Iterator[list[Any]]:
    for row in data.get("visible_energy", []):
        means = [{"value": row[s]["mean_mev"], "error": row[s]["error_mev"]} for s in ("reference", "generated")]
        yield [f"visible energy at {row['energy_mev'] / 1e3:.3g} GeV [MeV]", *means]
