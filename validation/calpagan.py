"""Fast to full simulation across processes: the tables that CALPAGAN (arXiv 2401.02248) could and could not fill.

    python validation/calpagan.py train CONFIG --pairs dijet=FULL,FAST --pairs wjet=FULL,FAST -o RUNS [--set ...]
    python validation/calpagan.py table --pairs dijet=FULL,FAST --pairs wjet=FULL,FAST --model dijet=M.safetensors \
        --model wjet=M.safetensors --model both=M.safetensors [--again dijet=FULL --again wjet=FULL] [--draws 1] \
        [-o table.json]
    python validation/calpagan.py iterations CONFIG --pairs dijet=FULL,FAST --pairs wjet=FULL,FAST \
        --test dijet=FULL,FAST --test wjet=FULL,FAST -o RUN [--points 5] [--set ...]
    python validation/calpagan.py curve --pairs calpagan=RUN/frechet.json --pairs pix2pix=RUN/frechet.json -o curve.png

`train` trains on every process alone and on all together (RUNS/NAME). `table` generates images for every process's test
events with every model and prints chi2 to the full simulation beside the fast simulation's, for every variable: what was
trained on one process and tested on another is the cross-process test. With two and more draws it also prints the spread
ratios, and with a second full simulation of the same events (`validation/same_events.py`) how far two right answers lie
apart. `iterations` stops a training several times and prints and keeps the Fréchet distance to the full simulation each time;
`curve` draws what it kept.
"""  # noqa: E501

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
from caloforge.evaluation.images.chi2 import CHI2
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


def train_all(config: Path, pairs: Named, output: Path, overrides: list[str]) -> None:
    """Train on every process alone and on all of them."""
    output.mkdir(parents=True, exist_ok=True)
    sets = {name: [files] for name, files in pairs.items()} | {"both": list(pairs.values())}
    for name, files in sets.items():
        if not (output / name / "model.safetensors").exists():
            full, fast = zip(*files, strict=True)
            train(config, full, output / name, like=fast, overrides=overrides, resume=(output / name).exists())
        print(f"{name}: {output / name / 'model.safetensors'}", flush=True)


def draws_of(model: Path, fast: Path, n: int, folder: Path) -> list[Path]:
    """Files of n draws, seeds 1 to n."""
    return [
        generate_images(model, folder / f"{number}.h5", fast, seed=number, overwrite=True) for number in range(1, n + 1)
    ]


def score(
    full: Path, fast: Path, models: dict[str, Path], draws: int, folder: Path, again: Path | None = None
) -> dict[str, Any]:
    """Chi2 to the full simulation of the fast one and of every model on one process's events, with errors."""
    first = read_samples([full, fast], None)
    truth, simple = sample_of(full, first[0]), sample_of(fast, first[1])
    rng, n = np.random.default_rng(0), len(truth)
    weights, splits = bootstrap(n, rng, 60), halves(n, rng, 10)
    bins = {name: fitting_bins(truth.values[name], log=v.log, whole=v.whole) for name, v in VARIABLES.items()}

    def chi2_of(sample: ImageSample) -> dict[str, dict[str, float]]:
        return {
            name: estimate(
                CHI2, *(Values(s.values[name], bins[name]) for s in (truth, sample)), (weights, weights)
            ).to_dict()
            for name in VARIABLES
        }

    found: dict[str, Any] = {"events": n, "fast": {"chi2": chi2_of(simple)}}
    found["fast"]["frechet"] = image_frechet(truth.features, simple.features, 0).to_dict()
    if again is not None:
        second = sample_of(again, read_samples([full, again], None)[1])
        found["again"] = {
            "chi2": chi2_of(second),
            "frechet": image_frechet(truth.features, second.features, 0).to_dict(),
        }
    found["floor"] = {
        name: floor(CHI2, Values(truth.values[name], bins[name]), (n, n), splits).to_dict() for name in VARIABLES
    }
    for name, path in models.items():
        files = draws_of(path, fast, draws, folder)
        samples = [sample_of(f, read_samples([full, f], None)[1]) for f in files]
        found[name] = {"chi2": chi2_of(samples[0])}
        found[name]["frechet"] = image_frechet(truth.features, samples[0].features, 0).to_dict()
        if draws > 1:
            one = quantities(truth.images, truth.values, simple.images)
            each = [quantities(s.images, s.values, simple.images) for s in samples]
            found[name]["spread"] = {q: spread_of(one[q], [e[q] for e in each], rng) for q in QUANTITIES}
    return found


def show(tables: dict[str, Any], models: list[str]) -> None:
    """Print the tables; a star marks a model that lies farther from the full simulation than the fast one."""
    for process, table in tables.items():
        print(f"\nchi2 to the full simulation, {table['events']} test events of {process}")
        columns = ["again"] * ("again" in table) + models
        print(f"{'':24}{'fast':>16}" + "".join(f"{m:>17}" for m in columns) + f"{'floor':>10}")
        for name, variable in VARIABLES.items():
            fast = table["fast"]["chi2"][name]
            row = f"{variable.label:24}{fast['value']:9.1f} +-{fast['error']:4.1f}"
            for model in columns:
                it = table[model]["chi2"][name]
                row += f"{it['value']:9.1f} +-{it['error']:4.1f}{'*' if it['value'] > fast['value'] else ' '}"
            print(row + f"{table['floor'][name]['value']:10.1f}")
        distances = [table[m]["frechet"]["value"] for m in ("fast", *columns)]
        print(f"{'Fréchet distance':24}" + "".join(f"{d:16.4f} " for d in distances))
        for model in columns:
            worse = [n for n in VARIABLES if table[model]["chi2"][n]["value"] > table["fast"]["chi2"][n]["value"]]
            print(
                f"  {model}: below the fast simulation in {len(VARIABLES) - len(worse)} of {len(VARIABLES)} variables"
            )
            for name, entry in table[model].get("spread", {}).items():
                if entry is not None:
                    ratio, covered = (
                        f"{e['value']:.3f} +- {e['error']:.3f}" for e in (entry["ratio"], entry["coverage"])
                    )
                    text = f"ratio {ratio}, coverage {covered}, shift {entry['shift']:+.2f}"
                    print(f"    spread of {QUANTITIES[name].label:36} {text}")


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
    full, fast = zip(*named(options.pairs).values(), strict=True)
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
        epoch = stop * config.training.batch_size / len(data.training)
        kept["points"].append({"iteration": stop, "epoch": epoch, "cpu_seconds": spent, "frechet": found})
        (options.output / "frechet.json").write_text(json.dumps(kept, indent=1) + "\n")
        print(f"iteration {stop:6d} (epoch {epoch:6.2f}): {in_words(found)}", flush=True)


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
    parser.add_argument("--test", action="append", default=[], help="NAME=FULL,FAST")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--points", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    if options.task == "train":
        train_all(options.config, named(options.pairs), options.output, options.set)
    elif options.task == "iterations":
        iterations(options)
    elif options.task == "curve":
        curve({name: Path(path) for name, _, path in (text.partition("=") for text in options.pairs)}, options.output)
    else:
        models, again = (
            {name: Path(path) for name, _, path in (text.partition("=") for text in texts)}
            for texts in (options.model, options.again)
        )
        tables = {}
        with tempfile.TemporaryDirectory() as folder:
            for process, (full, fast) in named(options.pairs).items():
                tables[process] = score(full, fast, models, options.draws, Path(folder), again.get(process))
        show(tables, list(models))
        if options.output:
            options.output.write_text(json.dumps(tables, indent=1) + "\n")


if __name__ == "__main__":
    main()
