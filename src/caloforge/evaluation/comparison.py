"""Two measured samples compared: distributions, response and classifiers, as plain data for reports and rankings."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..cache import Arrays, Cache, code_key, key_of, remember
from ..crew import HERE, Crew
from ..progress import Progress, named, part
from . import chunk as chunk_module
from . import classifier, observables
from . import sample as sample_module
from .classifier import CLASSIFIERS, MAX_SHOWERS, Features, Integers, Separation, separate
from .distributions import Binned, Distribution, Floats, Joint, Profile, Values, fitting_bins, profile_positions
from .metrics import METRICS, correlations
from .observables import OBSERVABLES, sparsity_curve
from .resampling import Draws, estimate, floor
from .response import energy_bins, energy_groups, half_ratios, ratio_tables, response_table
from .sample import Sample, chosen_rows

Draw = tuple[Draws, Draws]


@dataclass(frozen=True)
class Effort:
    """How much an evaluation does: more makes errors better known, not numbers better.

    Attributes:
        repeats: trainings of each classifier.
        resamples: bootstrap draws of observables.
        layer_resamples: bootstrap draws of single layers.
        splits: halvings of the reference for the floors.
        showers: of each sample that classifiers are trained and tested on, at most.
    """

    repeats: int = 5
    resamples: int = 100
    layer_resamples: int = 30
    splits: int = 10
    showers: int = MAX_SHOWERS


FULL = Effort()
QUICK = Effort(repeats=2, resamples=30, layer_resamples=10, splits=5, showers=4000)


def quick_note(effort: Effort) -> str:
    """What a quick look leaves out, in one sentence."""
    return (
        f"this is a quick look: {effort.repeats} trainings of each classifier on at most {effort.showers} showers of "
        f"each sample, {effort.resamples} bootstrap draws ({effort.layer_resamples} of single layers) and "
        f"{effort.splits} splits for the floors; errors are only roughly known, and classifiers that see more showers "
        "tell samples apart better."
    )


# -- metrics of observables --------------------------------------------------------------------------------------


def distributions(a: Sample, b: Sample, name: str) -> list[tuple[str, Distribution, Distribution]]:
    """What is compared for one observable: itself, or each layer of it."""
    observable = OBSERVABLES[name]
    if observable.kind == "profile":
        at = profile_positions(a.edges[observable.bins], log=observable.log)
        return [(name, Profile(a.profiles[name], at), Profile(b.profiles[name], at))]
    one, two = a.values[name], b.values[name]
    columns = (
        [(name, one, two)] if one.ndim == 1 else [(f"{name}[{i}]", one[:, i], two[:, i]) for i in range(one.shape[1])]
    )
    found: list[tuple[str, Distribution, Distribution]] = []
    for key, x, y in columns:
        edges = fitting_bins(x, log=observable.log, whole=observable.whole)
        found.append((key, Values(x, edges), Values(y, edges)))
    return found


def scores(name: str, one: Distribution, two: Distribution, draws: Draw, splits: Draws) -> dict[str, Any]:
    """Separation power and Wasserstein distance of one observable with errors and floors, and what lies outside."""
    label, meaning = OBSERVABLES[name].label, OBSERVABLES[name].meaning
    entry: dict[str, Any] = {"label": label, "unit": _unit(name), "meaning": meaning}
    for key in ("separation", "wasserstein"):
        entry[key] = with_floor(key, one, two, draws, splits)
    return entry | _outside(one, two)


def scores_of(a: Sample, b: Sample, name: str, draws: Draw, splits: Draws) -> dict[str, dict[str, Any]]:
    """`scores` of one observable, or of each layer of it, by key."""
    return {key: scores(name, one, two, draws, splits) for key, one, two in distributions(a, b, name)}


def with_floor(metric: str, one: Distribution, two: Distribution, draws: Draw, splits: Draws) -> dict[str, Any]:
    """One of `METRICS` of two samples with its error and floor, as plain data."""
    bottom = floor(METRICS[metric], one, (len(one), len(two)), splits)
    return {**estimate(METRICS[metric], one, two, draws).to_dict(), "floor": bottom.to_dict()}


def _unit(name: str) -> str:
    """Unit of an observable's Wasserstein distance."""
    if OBSERVABLES[name].kind != "profile":
        return OBSERVABLES[name].unit
    return {"layer": "layers", "radius": "mm"}.get(OBSERVABLES[name].bins, "decades")


def _outside(one: Distribution, two: Distribution) -> dict[str, Any]:
    """Fractions under, over and without value, of both samples."""
    shares: dict[str, Any] = {}
    for side, each in (("reference", one), ("generated", two)):
        if isinstance(each, Values):
            counts = each.histogram()
            flows = {"underflow": counts[0], "overflow": counts[-2], "undefined": counts[-1]}
        else:
            assert isinstance(each, Profile)
            counts = each.counts.sum(axis=0)
            flows = {"underflow": counts[0], "overflow": counts[-1], "undefined": 0.0}
        shares[side] = {k: float(v / max(counts.sum(), 1e-300)) for k, v in flows.items()}
    return {"outside": shares}


def joint(sample: Sample) -> tuple[list[str], Joint]:
    """All observables of one number a shower together, and their names."""
    names = [k for k, v in sample.values.items() if v.ndim == 1]
    return names, Joint(np.stack([sample.values[k] for k in names], axis=1))


def correlation_table(a: Sample, b: Sample, draws: Draw, splits: Draws) -> dict[str, Any]:
    """Correlation difference and both matrices."""
    (names, one), (_, two) = joint(a), joint(b)
    return {
        **with_floor("correlation", one, two, draws, splits),
        "observables": names,
        "reference": correlations(one.values).tolist(),
        "generated": correlations(two.values).tolist(),
    }


def sparsity_table(a: Sample, b: Sample, draws: Draw, splits: Draws) -> dict[str, Any]:
    """Mean sparsity of both samples against the threshold with errors, and how far the curves lie apart."""
    edges = a.edges[OBSERVABLES["voxel_fractions"].bins]
    curves = [sparsity_curve(s.profiles["voxel_fractions"], edges, s.detector.n_voxels) for s in (a, b)]
    table: dict[str, Any] = {"thresholds": curves[0][0].tolist()}
    for side, (_, curve) in zip(("reference", "generated"), curves, strict=True):
        error = curve.std(axis=0, ddof=1) / np.sqrt(len(curve))
        table[side] = {"value": curve.mean(axis=0).tolist(), "error": error.tolist()}
    one, two = (Joint(curve) for _, curve in curves)
    return table | {"difference": with_floor("sparsity", one, two, draws, splits)}


# -- response ----------------------------------------------------------------------------------------------------


def binned_response(sample: Sample, edges: Floats) -> Binned:
    """Response in bins of incident energy."""
    return Binned(sample.values["response"], energy_groups(sample.incident.energy, edges), len(edges) - 1)


def response_tables(a: Sample, b: Sample, seed: int, draws: Draw, splits: Draws) -> dict[str, Any]:
    """Response and resolution of both samples in bins of incident energy, their ratios, and how far these lie off 1."""
    edges = energy_bins(a.incident.energy)
    tables = [
        response_table(
            s.incident.energy,
            s.values["response"],
            edges,
            np.random.default_rng([seed, 3, i]),
            resamples=len(draws[0]),
        )
        for i, s in enumerate((a, b))
    ]
    halved = half_ratios(a.incident.energy, a.values["response"], edges, splits)
    one, two = (binned_response(s, edges) for s in (a, b))
    return {
        "edges_mev": edges.tolist(),
        "reference": tables[0],
        "generated": tables[1],
        **ratio_tables(tables[0], tables[1], halved, (len(a), len(b))),
        "deviation": {k: with_floor(m, one, two, draws, splits) for k, m in _DEVIATIONS.items()},
    }


_DEVIATIONS = {"mean": "response", "resolution": "resolution"}


# -- classifiers -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contest:
    """Which showers of a reference and a generated sample classifiers are trained on, and how.

    Attributes:
        reference: the reference.
        n: showers of each sample.
        seed: of splits and trees.
        repeats: trainings.
        cache: of earlier results.
        crew: who trains.
    """

    reference: Sample
    n: int
    seed: int
    repeats: int
    cache: Cache | None = None
    crew: Crew = HERE

    def run(self, name: str, generated: Sample | None, progress: Progress) -> tuple[Separation, str]:
        """Train one of `CLASSIFIERS`; without generated sample for the floor.

        Returns:
            What it reached, and what it saw in one sentence.
        """
        a = self.reference
        edges = energy_bins(a.incident.energy)
        groups = [energy_groups(s.incident.energy[self._rows(s)], edges) for s in (a, generated or a)]

        def make() -> Arrays:
            x, note = self._features(name, a)
            y = None if generated is None else self._features(name, generated)[0]
            told = separate(
                x, y, seed=self.seed, repeats=self.repeats, groups=(groups[0], groups[1]), crew=self.crew,
                progress=progress,
            )  # fmt: skip
            return told.arrays() | {"note": np.frombuffer(note.encode(), dtype=np.uint8)}

        found = remember(self.cache, self._key(name, generated), make)
        progress(self.repeats, self.repeats, "trained")
        note = found["note"].tobytes().decode()
        return Separation.of(found["areas"], found["curve"], found["group_areas"]), note

    def _rows(self, sample: Sample) -> Integers:
        return chosen_rows(len(sample), self.n)

    def _features(self, name: str, sample: Sample) -> tuple[Features, str]:
        return CLASSIFIERS[name].features(sample, self.reference, self._rows(sample))

    def _key(self, name: str, generated: Sample | None) -> str:
        import sklearn

        samples = [s and (s.content, len(s)) for s in (self.reference, generated)]
        seen = [*self.reference.values, *self.reference.profiles]
        code = code_key(classifier, chunk_module, observables, sample_module, sys.modules[__name__])
        return key_of(
            what="classifier", code=code, numpy=np.__version__, sklearn=sklearn.__version__, name=name, samples=samples,
            seen=seen, edges=self.reference.edges, n=self.n, seed=self.seed, repeats=self.repeats,
        )  # fmt: skip


def classifier_tables(
    contest: Contest, generated: Sample, progress: Progress
) -> tuple[dict[str, Any], dict[str, Separation]]:
    """What every classifier reached beside its floor, as plain data and as found."""
    tables: dict[str, Any] = {}
    found: dict[str, Separation] = {}
    step = 100 / len(CLASSIFIERS)
    for number, (name, kind) in enumerate(CLASSIFIERS.items()):
        start, middle = number * step, (number + 0.6) * step
        told, note = contest.run(name, generated, named(part(progress, start, middle), kind.label))
        bottom, _ = contest.run(name, None, named(part(progress, middle, start + step), f"{kind.label}, floor"))
        found[name] = told
        tables[name] = _classifier_entry(name, told, bottom, contest, generated) | {
            "note": note + _cap(contest, generated)
        }
    return tables, found


def _cap(contest: Contest, generated: Sample) -> str:
    a, b, n = len(contest.reference), len(generated), contest.n
    return "" if n == max(a, b) else f"; of {a} and {b} showers, {n} each are used"


def _classifier_entry(
    name: str, told: Separation, bottom: Separation, contest: Contest, generated: Sample
) -> dict[str, Any]:
    half = contest.n // 2
    floors = [None if e is None else e.to_dict() | {"size": half} for e in bottom.by_group]
    floors += [None] * (len(told.by_group) - len(floors))
    return {
        "label": CLASSIFIERS[name].label,
        "meaning": CLASSIFIERS[name].meaning,
        "auc": told.auc.to_dict(),
        "floor": bottom.auc.to_dict() | {"size": half},
        "repeats": told.repeats,
        "by_energy": [
            None if e is None else e.to_dict() | {"floor": f} for e, f in zip(told.by_group, floors, strict=False)
        ],
        "showers": contest.n,
    }
