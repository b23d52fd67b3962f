"""Comparisons: several settings, several seeds, the same budget for all; a table and a figure.

    def build(seed, update_rule, learning_rate):
        return Solver(LeNet5(seed=seed), data, update_rule=update_rule, seed=seed, ...)

    result = compare(build, {"sgd": dict(update_rule="sgd", learning_rate=0.1), "adam": ...}, seeds=5)
    print(result.table())
    result.figure()

Each run is a task for any `concurrent.futures.Executor`; by default processes, one a processor, with
one thread each. A finished run is a file in `folder` and is not run again, so that a comparison which
was stopped goes on where it was. A run that fails is reported, and the others go on.
"""

import concurrent.futures
import csv
import hashlib
import io
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .engine.files import written_whole
from .engine.workers import default_count
from .solver import described

COLUMNS = (
    ("setting", "setting"),
    ("runs", "runs"),
    ("test_acc", "test accuracy"),
    ("spread", "deviation"),
    ("val_acc", "best validation"),
    ("best_epoch", "best epoch"),
    ("seconds", "seconds an epoch"),
    ("to_target", "seconds to target"),
)

SAVE_EVERY = 60.0  # seconds: a run that is stopped loses no more, and an epoch more


def compare(
    build, settings, seeds=3, *, folder="runs/compare", target=None, executor=None, progress=None
):
    """Train and test `build(seed=seed, **settings[name])` for every name and seed.

    build     gives a Solver that has not trained; for processes it must be importable. Its data may
              hold X_test and y_test, which are looked at once, with the parameters that are best on
              validation.
    settings  {name: keyword arguments of build}
    seeds     how many (0, 1, ...), or the seeds themselves; the same for every setting
    folder    where finished runs are kept, and unfinished ones once a minute, which go on from there
              when compare is called again; a run with other arguments is another run
    target    a validation accuracy, for the column 'seconds to target'
    executor  whatever runs the tasks; None: processes, one a processor
    progress  a bar on stderr; None shows it in a terminal

    Returns a Comparison.
    """
    seeds = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not settings or not seeds:
        raise ValueError(
            f"compare: {len(settings)} settings and {len(seeds)} seeds, expected some of both."
        )
    tasks = {
        (name, seed): _path(folder, build, name, seed, given)
        for name, given in settings.items()
        for seed in seeds
    }
    runs, waiting = {}, {}
    for key, path in tasks.items():
        if path.exists():
            runs[key] = json.loads(path.read_text())
    own = executor is None
    pool = concurrent.futures.ProcessPoolExecutor(default_count()) if own else executor
    try:
        for (name, seed), path in tasks.items():
            if (name, seed) not in runs:
                waiting[pool.submit(run_one, build, seed, settings[name], path)] = (name, seed)
        failures = _gather(waiting, runs, len(tasks), progress)
    finally:
        if own:
            pool.shutdown(wait=True, cancel_futures=True)
    in_order = {key: runs[key] for key in tasks if key in runs}
    return Comparison(list(settings), in_order, failures, target)


def run_one(build, seed, given, path):
    """One task: train, test, and leave the result in a file."""
    solver = build(seed=seed, **given)
    solver.verbose, solver.workers = False, 1
    begun = path.with_suffix(".npz")
    if begun.exists():
        solver.load_checkpoint(begun)
    solver.stop = _saving(begun, solver.stop)
    solver.train()
    data = solver.data
    result = {
        "seed": seed,
        "given": {key: str(described(value)) for key, value in given.items()},
        "iterations_per_epoch": solver.iterations_per_epoch,
        "loss_history": solver.loss_history,
        "train_acc_history": solver.train_acc_history,
        "val_acc_history": solver.val_acc_history,
        "epoch_seconds": [record["seconds"] for record in solver.history],
        "seconds": sum(record["seconds"] for record in solver.history),
        "test_acc": solver.check_accuracy(data["X_test"], data["y_test"]) if "X_test" in data else None,
    }
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(result))
    begun.unlink(missing_ok=True)
    return result


def _saving(path, stop):
    """A Solver's `stop` that also saves the solver, if it has not done so for SAVE_EVERY seconds."""
    saved = time.monotonic()

    def save_and_ask(solver):
        nonlocal saved
        answer = stop(solver) if stop is not None else False
        if not answer and time.monotonic() - saved >= SAVE_EVERY:
            solver.save_checkpoint(path)
            saved = time.monotonic()
        return answer

    return save_and_ask


def _path(folder, build, name, seed, given):
    """The run's file: its name for a reader, and a sum of all that makes it what it is."""
    what = json.dumps([described(build), seed, described(given)], sort_keys=True, default=repr)
    mark = hashlib.sha256(what.encode()).hexdigest()[:12]
    plain = re.sub(r"[^\w.-]+", "_", str(name))
    return Path(folder) / f"{plain}-seed{seed}-{mark}.json"


def _gather(waiting, runs, total, progress):
    """Results into `runs` as they come; what failed, as {key: message}."""
    from tqdm import tqdm  # when first needed: it costs time at import

    failures = {}
    shown = {"disable": None if progress is None else not progress}
    with tqdm(total=total, initial=total - len(waiting), unit=" runs", **shown) as bar:
        for future in concurrent.futures.as_completed(waiting):
            key = waiting[future]
            try:
                runs[key] = future.result()
            except Exception as error:  # one failed run is reported and is not the end of the others
                failures[key] = f"{type(error).__name__}: {error}"
            bar.update()
    return failures


@dataclass
class Comparison:
    """What came out: `runs` by (name, seed), `failures` likewise, and ways to look at them."""

    names: list
    runs: dict
    failures: dict
    target: float | None = None

    def rows(self):
        """A dict for each setting, with means over its seeds; None where nothing was measured."""
        return [self._row(name) for name in self.names]

    def _row(self, name):
        runs = [run for (other, _), run in self.runs.items() if other == name]
        tests = [run["test_acc"] for run in runs if run["test_acc"] is not None]
        vals = [run["val_acc_history"] for run in runs if run["val_acc_history"]]
        return {
            "setting": name,
            "runs": len(runs),
            "test_acc": _mean(tests),
            "spread": float(np.std(tests, ddof=1)) if len(tests) > 1 else None,
            "val_acc": _mean([max(history) for history in vals]),
            "best_epoch": _mean([int(np.argmax(history)) for history in vals]),
            "seconds": _mean([_mean(run["epoch_seconds"]) for run in runs if run["epoch_seconds"]]),
            "to_target": self._to_target(runs),
        }

    def _to_target(self, runs):
        """The mean time until validation reached the target; None unless every run did."""
        times = []
        for run in runs:
            reached = [
                e for e, acc in enumerate(run["val_acc_history"]) if self.target and acc >= self.target
            ]
            if not reached:
                return None
            times.append(sum(run["epoch_seconds"][: reached[0]]))
        return _mean(times)

    def table(self):
        """The rows as text in columns, and the failures."""
        lines = [
            [title for _, title in COLUMNS],
            *(list(map(_shown, row.values())) for row in self.rows()),
        ]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [
            "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]
        return "\n".join(text + self._failed())

    def markdown(self):
        """The rows as a Markdown table, and the failures."""
        lines = [[title for _, title in COLUMNS], ["---"] * len(COLUMNS)]
        lines += [list(map(_shown, row.values())) for row in self.rows()]
        return "\n".join(["| " + " | ".join(line) + " |" for line in lines] + self._failed())

    def csv(self):
        """The rows with all their digits."""
        file = io.StringIO()
        writer = csv.DictWriter(file, [key for key, _ in COLUMNS], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows())
        return file.getvalue()

    def _failed(self):
        return [f"failed: {name}, seed {seed}: {why}" for (name, seed), why in self.failures.items()]

    def figure(self):
        """Loss, training accuracy and validation accuracy: a line for the mean of each setting, and a
        band from the lowest to the highest of its seeds.
        """
        from .vis_utils import plot_bands

        curves = {}
        for name in self.names:
            runs = [run for (other, _), run in self.runs.items() if other == name]
            if runs:
                curves[name] = {
                    "loss": [_by_epoch(run) for run in runs],
                    "training accuracy": [run["train_acc_history"] for run in runs],
                    "validation accuracy": [run["val_acc_history"] for run in runs],
                }
        return plot_bands(curves)


def _by_epoch(run):
    """The mean loss of each epoch."""
    losses, step = run["loss_history"], run["iterations_per_epoch"]
    return [float(np.mean(losses[k : k + step])) for k in range(0, len(losses), step)]


def _mean(values):
    return float(np.mean(values)) if values else None


def _shown(value):
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
