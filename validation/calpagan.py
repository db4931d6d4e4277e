"""Fast to full simulation across processes: the tables that CALPAGAN (arXiv 2401.02248) could and could not fill.

    python validation/calpagan.py train CONFIG --pairs dijet=FULL,FAST --pairs wjet=FULL,FAST -o RUNS [--set ...]
    python validation/calpagan.py table --pairs dijet=FULL,FAST --pairs wjet=FULL,FAST --model dijet=M.safetensors \
        --model wjet=M.safetensors --model both=M.safetensors [--again dijet=FULL --again wjet=FULL] [--draws 1] \
        [--redrawn dijet=FAST --redrawn dijet=FAST ...] [-o table.json]
    python validation/calpagan.py iterations CONFIG --pairs dijet=FULL,FAST --pairs wjet=FULL,FAST \
        --test dijet=FULL,FAST --test wjet=FULL,FAST -o RUN [--points 5] [--set ...]
    python validation/calpagan.py curve --pairs calpagan=RUN/frechet.json --pairs pix2pix=RUN/frechet.json -o curve.png

`train` trains on every process alone and on all together (RUNS/NAME); a name that is given several times, here or to
`iterations`, has several pairs of files, e.g. one full image beside several smearings. `table` generates images for
every process's test events with every model and prints chi2 to the full simulation beside the fast simulation's, for
every variable: what was trained on one process and tested on another is the cross-process test. Values are means over
the draws, each on its own. With two and more draws it also prints the chi2 of the mean of all draws and the spread
ratios; with fast simulations of the same particles with other seeds (`--redrawn`) the chi2 of their mean, and with a
second full simulation of the same events (`caloforge events-to-images EVENTS --full --library OTHER`) how far two
right answers lie apart. `iterations` stops a training several times and prints and keeps the Fréchet distance to the
full simulation each time; `curve` draws what it kept.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.config import read_config
from caloforge.evaluation.distributions import Values, fitting_bins
from caloforge.evaluation.images.chi2 import CHI2, chi2_of_mean
from caloforge.evaluation.images.sample import ImageSample, read_samples, sample_of
from caloforge.evaluation.images.scoring import image_frechet
from caloforge.evaluation.images.spread import QUANTITIES, quantities, spread_of
from caloforge.evaluation.images.variables import VARIABLES
from caloforge.evaluation.resampling import bootstrap, estimate, floor, halves
from caloforge.generation import ImageSampler, generate_images
from caloforge.image_checkpoint import ImageCheckpoint, image_domain
from caloforge.jets import Images
from caloforge.jets.pairs import PairFiles, Pairs
from caloforge.training import TrainConfig, train
from caloforge.training.job import STATE
from caloforge.training.paired_data import PairData
from caloforge.training.state import State

Named = dict[str, tuple[Path, Path]]


def named(texts: list[str]) -> Named:
    """NAME=FULL,FAST as name -> files."""
    found = {}
    for text in texts:
        name, _, files = text.rpartition("=")
        full, fast = files.split(",")
        found[name or "test"] = Path(full), Path(fast)
    return found


def by_name(texts: list[str]) -> dict[str, list[tuple[Path, Path]]]:
    """NAME=FULL,FAST as name -> pairs of files, in order."""
    found: dict[str, list[tuple[Path, Path]]] = {}
    for text in texts:
        for name, files in named([text]).items():
            found.setdefault(name, []).append(files)
    return found


def train_all(config: Path, pairs: dict[str, list[tuple[Path, Path]]], output: Path, overrides: list[str]) -> None:
    """Train on every process alone and, if there are several, on all of them."""
    output.mkdir(parents=True, exist_ok=True)
    together = {"both": [files for each in pairs.values() for files in each]} if len(pairs) > 1 else {}
    for name, files in (pairs | together).items():
        if not (output / name / "model.safetensors").exists():
            full, fast = zip(*files, strict=True)
            train(config, full, output / name, like=fast, overrides=overrides, resume=(output / name).exists())
        print(f"{name}: {output / name / 'model.safetensors'}", flush=True)


def draws_of(model: Path, fast: Path, n: int, folder: Path) -> list[Path]:
    """Files of n draws, seeds 1 to n."""
    return [
        generate_images(model, folder / f"{number}.h5", fast, seed=number, overwrite=True) for number in range(1, n + 1)
    ]


def mean_of(found: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Mean of several draws' numbers; the error stays that of one, since all are of the same events."""
    return {
        name: {key: float(np.mean([each[name][key] for each in found])) for key in ("value", "error")}
        for name in found[0]
    }


class Score:
    """Chi2 and Fréchet distances to the full images of one process's test events, with errors.

    Args:
        full: image file of the full simulation.
        fast: of the fast simulation of the same events.
    """

    def __init__(self, full: Path, fast: Path) -> None:
        first = read_samples([full, fast], None)
        self.full, self.truth, self.simple = full, sample_of(full, first[0]), sample_of(fast, first[1])
        n, rng = len(self.truth), np.random.default_rng(0)
        self.weights, self.splits = bootstrap(n, rng, 60), halves(n, rng, 10)
        self.bins = {
            name: fitting_bins(self.truth.values[name], log=v.log, whole=v.whole) for name, v in VARIABLES.items()
        }

    def read(self, path: Path) -> ImageSample:
        """Other images of the same events."""
        return sample_of(path, read_samples([self.full, path], None)[1])

    def of(self, samples: list[ImageSample]) -> dict[str, Any]:
        """Of several draws: means over each on its own, and chi2 of the mean of all."""
        found = {
            "chi2": mean_of([self._chi2_of(sample) for sample in samples]),
            "frechet": mean_of([{"": self._frechet_of(sample)} for sample in samples])[""],
        }
        return found | ({"chi2_of_mean": self.of_mean(samples)} if len(samples) > 1 else {})

    def of_mean(self, samples: list[ImageSample]) -> dict[str, Any]:
        """Chi2 of the mean of several draws."""
        return {
            name: chi2_of_mean(
                self._values(self.truth, name), [self._values(s, name) for s in samples], self.weights
            ).to_dict()
            for name in VARIABLES
        }

    def floor(self) -> dict[str, Any]:
        """One half of the full images against the other."""
        n = len(self.truth)
        return {name: floor(CHI2, self._values(self.truth, name), (n, n), self.splits).to_dict() for name in VARIABLES}

    def spread(self, samples: list[ImageSample]) -> dict[str, Any]:
        """Of draws around one fast image."""
        fast, rng = self.simple.images, np.random.default_rng(1)
        one = quantities(self.truth.images, self.truth.values, fast)
        each = [quantities(s.images, s.values, fast) for s in samples]
        return {q: spread_of(one[q], [e[q] for e in each], rng) for q in QUANTITIES}

    def _values(self, sample: ImageSample, name: str) -> Values:
        return Values(sample.values[name], self.bins[name])

    def _chi2_of(self, sample: ImageSample) -> dict[str, dict[str, float]]:
        weights = self.weights, self.weights
        return {
            name: estimate(CHI2, self._values(self.truth, name), self._values(sample, name), weights).to_dict()
            for name in VARIABLES
        }

    def _frechet_of(self, sample: ImageSample) -> dict[str, float]:
        return image_frechet(self.truth.features, sample.features, 0).to_dict()


def score(
    full: Path, fast: Path, models: dict[str, Path], draws: int, folder: Path, again: Path | None, redrawn: list[Path]
) -> dict[str, Any]:
    """Of the fast simulation and of every model on one process's events."""
    it = Score(full, fast)
    found: dict[str, Any] = {"events": len(it.truth), "fast": it.of([it.simple]), "floor": it.floor()}
    if redrawn:
        found["fast"]["chi2_of_mean"] = it.of_mean([it.simple, *(it.read(path) for path in redrawn)])
    if again is not None:
        found["again"] = it.of([it.read(again)])
    for name, path in models.items():
        samples = [it.read(file) for file in draws_of(path, fast, draws, folder)]
        found[name] = it.of(samples)
        if draws > 1:
            found[name]["spread"] = it.spread(samples)
    return found


def show(tables: dict[str, Any], models: list[str]) -> None:
    """Print the tables; a star marks a model that lies farther from the full simulation than the fast one."""
    for process, table in tables.items():
        print(f"\nchi2 to the full simulation, {table['events']} test events of {process}")
        columns = ["again"] * ("again" in table) + models
        show_chi2(table, columns, "chi2")
        distances = [table[m]["frechet"]["value"] for m in ("fast", *columns)]
        print(f"{'Fréchet distance':24}" + "".join(f"{d:16.4f} " for d in distances))
        means = [model for model in columns if "chi2_of_mean" in table[model]]
        if means:
            print("\nchi2 of the mean of all draws to the full simulation, beside one fast simulation's")
            show_chi2(table, ["fast"] * ("chi2_of_mean" in table["fast"]) + means, "chi2_of_mean")
        for model in columns:
            for name, entry in table[model].get("spread", {}).items():
                if entry is not None:
                    ratio, covered = (
                        f"{e['value']:.3f} +- {e['error']:.3f}" for e in (entry["ratio"], entry["coverage"])
                    )
                    text = f"ratio {ratio}, coverage {covered}, shift {entry['shift']:+.2f}"
                    print(f"    {model}: spread of {QUANTITIES[name].label:36} {text}")


def show_chi2(table: dict[str, Any], columns: list[str], key: str) -> None:
    """Print one kind of chi2 of several columns, and how many variables lie below the fast simulation's."""
    print(f"{'':24}{'fast':>16}" + "".join(f"{m:>17}" for m in columns) + f"{'floor':>10}")
    below = dict.fromkeys(columns, 0)
    for name, variable in VARIABLES.items():
        fast = table["fast"]["chi2"][name]
        row = f"{variable.label:24}{fast['value']:9.1f} +-{fast['error']:4.1f}"
        for model in columns:
            it = table[model][key][name]
            below[model] += it["value"] <= fast["value"]
            row += f"{it['value']:9.1f} +-{it['error']:4.1f}{'*' if it['value'] > fast['value'] else ' '}"
        print(row + f"{table['floor'][name]['value']:10.1f}")
    print("below the fast simulation: " + ", ".join(f"{m} in {n} of {len(VARIABLES)}" for m, n in below.items()))


def of_state(folder: Path, config: TrainConfig, data: PairData) -> ImageCheckpoint:
    """A checkpoint of a stopped training, averaged weights where it keeps them."""
    state = State.read(folder / STATE)
    model = data.model(config).eval()
    model.load_state_dict(state.get("model") | state.get("average"), strict=False)
    domain = image_domain(data.pairs.fast, data.pairs.processes)
    return ImageCheckpoint(model, config.model.name, model.config, data.transform, data.pairs.full.grid, domain)


def iterations(options: argparse.Namespace) -> None:
    """Stop a training several times and look at the distance each time."""
    config = read_config(options.config, TrainConfig, [*options.set, "training.save_every=1"])
    full, fast = zip(*(files for each in by_name(options.pairs).values() for files in each), strict=True)
    data = PairData.prepare(Pairs.read(PairFiles(full, fast), config.data.max_showers), config)
    tests = {name: read_samples(files, None) for name, files in named(options.test).items()}
    truths = {name: sample_of(name, full) for name, (full, _) in tests.items()}

    def distances(images: dict[str, Images]) -> dict[str, dict[str, float]]:
        """Of one image an event to the full simulation, by test sample."""
        return {
            name: image_frechet(truths[name].features, sample_of(name, it).features, 0).to_dict()
            for name, it in images.items()
        }

    kept: dict[str, Any] = {"fast": distances({name: fast for name, (_, fast) in tests.items()}), "points": []}
    print(f"fast simulation: {in_words(kept['fast'])}", flush=True)
    total = sum(phase.steps for phase in config.training.phases)
    # Early on much happens: every point at three times the iterations of the one before.
    stops = sorted({max(1, round(total / 3**k)) for k in range(options.points)})
    spent = 0.0
    for stop in stops:
        began = time.process_time()

        # The state of an iteration is written after it is told of.
        def told(done: int, _: int, __: str, stop: int = stop) -> None:
            if done == min(stop + 1, total) and stop < total:
                raise KeyboardInterrupt

        try:
            train(config, full, options.output, like=fast, resume=options.output.exists(), progress=told)
            checkpoint = ImageCheckpoint.load(options.output / "model.safetensors")
        except KeyboardInterrupt:
            checkpoint = of_state(options.output, config, data)
        spent += time.process_time() - began
        sampler = ImageSampler(checkpoint)
        found = distances({name: sampler(fast, seed=1) for name, (_, fast) in tests.items()})
        epoch = pairs_seen(config, stop) / len(data.training)
        kept["points"].append({"iteration": stop, "epoch": epoch, "cpu_seconds": spent, "frechet": found})
        (options.output / "frechet.json").write_text(json.dumps(kept, indent=1) + "\n")
        print(f"iteration {stop:6d} (epoch {epoch:6.2f}): {in_words(found)}", flush=True)


def pairs_seen(config: TrainConfig, iterations: int) -> int:
    """Image pairs in the first iterations of a training, whose phases may have batches of their own sizes."""
    seen = 0
    for phase in config.training.phases:
        here = min(iterations, phase.steps)
        seen += here * (phase.batch_size or config.training.batch_size)
        iterations -= here
    return seen


def in_words(found: dict[str, dict[str, float]]) -> str:
    return ", ".join(f"{name} {entry['value']:.4f} +- {entry['error']:.4f}" for name, entry in found.items())


def curve(runs: dict[str, Path], output: Path) -> None:
    """Draw Fréchet distances against the epoch, of several trainings and of the fast simulation."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    kept = {name: json.loads(path.read_text()) for name, path in runs.items()}
    tests = list(next(iter(kept.values()))["fast"])
    figure, axes = pyplot.subplots(1, len(tests), figsize=(4.5 * len(tests), 3.6), sharey=True, layout="constrained")
    for axis, test in zip(np.atleast_1d(axes), tests, strict=True):
        for name, run in kept.items():
            points = [(p["epoch"], p["frechet"][test]["value"], p["frechet"][test]["error"]) for p in run["points"]]
            axis.errorbar(*np.array(points).T, marker="o", ms=4, label=name)
        fast = next(iter(kept.values()))["fast"][test]["value"]
        axis.axhline(fast, color="0.4", linestyle="--", label="fast simulation")
        axis.set(xscale="log", yscale="log", xlabel="epoch", title=f"{test} test events")
    np.atleast_1d(axes)[0].set_ylabel("Fréchet distance to the full simulation")
    lines = np.atleast_1d(axes)[0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside upper center", ncols=len(lines[0]), frameon=False, fontsize=9)
    figure.savefig(output, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["train", "table", "iterations", "curve"])
    parser.add_argument("config", type=Path, nargs="?")
    parser.add_argument("--pairs", action="append", default=[], help="NAME=FULL,FAST", required=True)
    parser.add_argument("--model", action="append", default=[], help="NAME=CHECKPOINT")
    parser.add_argument("--again", action="append", default=[], help="NAME=FULL, the same events simulated anew")
    parser.add_argument(
        "--redrawn", action="append", default=[], help="NAME=FAST, the fast simulation with other seeds"
    )
    parser.add_argument("--test", action="append", default=[], help="NAME=FULL,FAST")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--points", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    if options.task == "train":
        train_all(options.config, by_name(options.pairs), options.output, options.set)
    elif options.task == "iterations":
        iterations(options)
    elif options.task == "curve":
        curve({name: Path(path) for name, _, path in (text.partition("=") for text in options.pairs)}, options.output)
    else:
        models, again = (
            {name: Path(path) for name, _, path in (text.partition("=") for text in texts)}
            for texts in (options.model, options.again)
        )
        redrawn: dict[str, list[Path]] = {}
        for name, _, path in (text.partition("=") for text in options.redrawn):
            redrawn.setdefault(name, []).append(Path(path))
        tables = {}
        with tempfile.TemporaryDirectory() as folder:
            for process, (full, fast) in named(options.pairs).items():
                others = again.get(process), redrawn.get(process, [])
                tables[process] = score(full, fast, models, options.draws, Path(folder), *others)
        show(tables, list(models))
        if options.output:
            options.output.write_text(json.dumps(tables, indent=1) + "\n")


if __name__ == "__main__":
    main()
