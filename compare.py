"""Comparisons: several settings, several seeds, the same budget for all; a table and a figure.

    def build(seed, update_rule, learning_rate):
        return Solver(LeNet5(seed=seed), data, update_rule=update_rule, seed=seed, ...)

    result = compare(build, {"sgd": dict(update_rule="sgd", learning_rate=0.1), "adam": ...}, seeds=5)
    print(result.table())
    result.figure()

Each run is a task for any `concurrent.futures.Executor`. The default is processes, one a processor,
with one thread each; docs/scaling.md shows clusters. A finished run is a file in `folder` and is not
run again, so a comparison that was stopped goes on where it was. A run that fails is reported, and the
others go on. A run whose process is lost is made again, from its last checkpoint if the new process
sees the same disk. One comparison at a time uses a folder; a second one is refused.
"""

import concurrent.futures
import contextlib
import csv
import hashlib
import inspect
import io
import json
import math
import operator
import pickle
import re
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .callbacks import Callback
from .engine.checkpoints import described, plain
from .engine.columns import in_columns
from .engine.executors import executor_on
from .engine.files import in_use, kept_aside, remove_leftovers, written_whole
from .engine.html import shown
from .engine.html import table as html_table
from .measures import ACCURACY, MEASURES

__all__ = ["Comparison", "compare", "run_one"]

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
    build,
    settings,
    seeds=3,
    *,
    folder="runs/compare",
    target=None,
    keep=None,
    executor=None,
    progress=None,
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
    keep      keep(solver), called after training with the best parameters in place, gives what else of
              a run is wanted, as JSON takes it: it is result.runs[name, seed]["kept"]
    executor  any `concurrent.futures.Executor`; None: processes, one a processor
    progress  a bar on stderr; None shows it in a terminal

    Returns a Comparison. A damaged file in the folder gets the ending '.damaged', its run is run again,
    and the table says so. Raises BlockingIOError if another comparison uses the folder.
    """
    if not callable(build) or not isinstance(settings, dict):
        raise TypeError(
            f"compare: build is a {type(build).__name__} and settings a {type(settings).__name__}, "
            "expected a function and a dict {name: keyword arguments}."
        )
    for name, given in settings.items():
        if not isinstance(given, dict):
            raise TypeError(
                f"compare: settings[{name!r}] = {given!r}, expected a dict of arguments of build."
            )
        _check_arguments(build, name, given)
    if not isinstance(seeds, int | np.integer | Iterable):
        raise TypeError(f"compare: seeds = {seeds!r}, expected a whole number or a list of seeds.")
    if executor is None:
        _check_goes_to_processes(build, keep)
    seeds = range(seeds) if isinstance(seeds, int | np.integer) else [*map(operator.index, seeds)]
    if not settings or not seeds:
        raise ValueError(
            f"compare: {len(settings)} settings and {len(seeds)} seeds, expected some of both."
        )
    where = Path(folder).absolute()
    what = described(build) if keep is None else described([build, keep])
    tasks = {
        (name, seed): _path(where, what, name, seed, given)
        for name, given in settings.items()
        for seed in seeds
    }
    result = Comparison(list(settings), {}, {}, target)
    here = executor_on() if executor is None else contextlib.nullcontext(executor)
    with in_use(folder), here as pool:
        remove_leftovers(folder)
        waiting = {}
        for (name, seed), path in tasks.items():
            if not _is_finished(path, (name, seed), result):
                waiting[pool.submit(run_one, build, seed, settings[name], path, keep)] = (name, seed)
        _gather(waiting, tasks, result, progress)
    result.runs = {key: result.runs[key] for key in tasks if key in result.runs}
    return result


def _check_arguments(build, name, given):
    """Raise TypeError unless build takes a seed and these keyword arguments."""
    signature = inspect.signature(build)
    try:
        signature.bind(seed=0, **given)
    except TypeError:
        raise TypeError(
            f"compare: build takes {signature}, expected seed and the keywords of settings[{name!r}], "
            f"{sorted(given)}."
        ) from None


def _check_goes_to_processes(*functions):
    """Raise TypeError for a function, such as a lambda, that a process could not find by its name."""
    for function in functions:
        try:
            pickle.dumps(function)
        except (AttributeError, TypeError, pickle.PicklingError):
            name = getattr(function, "__qualname__", repr(function))
            raise TypeError(
                f"compare: {name} cannot go to other processes, expected a function that is defined by "
                "def outside of other functions, or an executor such as ThreadPoolExecutor()."
            ) from None


def _is_finished(path, key, result):
    """Whether the run is in its file; if so it is taken into the result."""
    try:
        result.runs[key] = _read_run(path)
    except FileNotFoundError:
        return False
    except OSError as error:  # the file may be whole: neither run again nor the end of the others
        result.failures[key] = f"{type(error).__name__}: {error}"
    except ValueError as error:
        result.damaged.append(f"{error} It is kept as {kept_aside(path).name}; the run is made again.")
        return False
    return True


def _read_run(path):
    """A finished run. ValueError, which names the file, if it does not hold one."""
    try:
        run = json.loads(path.read_text())
        for name, kind in RUN.items():
            if not isinstance(run[name], kind):
                raise TypeError(f"{name} is {run[name]!r:.60}")
            numbers = run[name] if kind is list else [run[name] or 0]
            if not all(map(math.isfinite, numbers)):
                raise ValueError(f"{name} holds more than finite numbers")
        if run["iterations_per_epoch"] < 1:
            raise ValueError(f"iterations_per_epoch is {run['iterations_per_epoch']}")
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: not a finished run ({type(error).__name__}: {error}).") from error
    return run


def run_one(build, seed, given, path, keep=None):
    """One task: train, test, and leave the result in a file. Returns the result.

    Where the folder of the file is not seen, on another machine, the caller gets the result only, and
    checkpoints are kept in a temporary folder.
    """
    solver = build(seed=seed, **given)
    if not hasattr(solver, "train"):
        came = type(solver).__name__
        raise TypeError(f"build gave a {came}, expected a Solver; does it end with `return solver`?")
    solver.verbose, solver.workers = False, 1
    sees_folder, note = path.parent.is_dir(), {}
    begun = (path if sees_folder else Path(tempfile.gettempdir(), path.name)).with_suffix(".npz")
    try:
        solver.load_checkpoint(begun)
    except FileNotFoundError:
        pass
    except ValueError as error:
        note = {"damaged": f"{error} It is kept as {kept_aside(begun).name}; the run began anew."}
    solver.callbacks.append(SaveNowAndThen(begun))
    solver.train()
    data = solver.data
    result = {
        "seed": seed,
        "given": {key: str(described(value)) for key, value in given.items()},
        "measure": solver.measure.name,
        "iterations_per_epoch": solver.iterations_per_epoch,
        "loss_history": solver.loss_history,
        "train_acc_history": solver.train_acc_history,
        "val_acc_history": solver.val_acc_history,
        "epoch_seconds": [record["seconds"] for record in solver.history],
        "seconds": sum(record["seconds"] for record in solver.history),
        "test_acc": solver.check_accuracy(data["X_test"], data["y_test"]) if "X_test" in data else None,
        "kept": None if keep is None else keep(solver),
    }
    if sees_folder:
        _write_run(path, result)
    begun.unlink(missing_ok=True)
    return result | note


def _write_run(path, run):
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(run))


# What a finished run holds, and of which type it is.
RUN = {
    "iterations_per_epoch": int,
    "loss_history": list,
    "train_acc_history": list,
    "val_acc_history": list,
    "epoch_seconds": list,
    "seconds": int | float,
    "test_acc": int | float | None,
}


class SaveNowAndThen(Callback):
    """Saves the solver at the end of an epoch, if it has not done so for SAVE_EVERY seconds.

    A training that is told to stop is not saved: after loading it would train for one more epoch.
    """

    def __init__(self, path):
        self.path, self.saved = path, time.monotonic()

    def on_epoch_end(self, solver):
        if not solver.stop_training and time.monotonic() - self.saved >= SAVE_EVERY:
            solver.save_checkpoint(self.path)
            self.saved = time.monotonic()


def _path(folder, build, name, seed, given):
    """The run's file: its name for a reader, and a digest of all that makes it what it is.

    build: as `described`.
    """
    what = json.dumps([build, seed, described(given)], sort_keys=True, default=plain)
    mark = hashlib.sha256(what.encode()).hexdigest()[:12]
    readable = re.sub(r"[^\w.-]+", "_", str(name))
    return folder / f"{readable}-seed{seed}-{mark}.json"


def _gather(waiting, tasks, result, progress):
    """Put the runs into the result as they come, and what failed as {key: message}."""
    from tqdm import tqdm  # when first needed: it costs time at import

    total, shown = len(tasks), {"disable": None if progress is None else not progress}
    with tqdm(total=total, initial=total - len(waiting), unit=" runs", **shown) as bar:
        for future in concurrent.futures.as_completed(waiting):
            key = waiting[future]
            try:
                run = future.result()
                note = run.pop("damaged", None)
                if not tasks[key].exists():  # it was made where this disk is not seen
                    _write_run(tasks[key], run)
            except Exception as error:  # one failed run is reported and is not the end of the others
                result.failures[key] = f"{type(error).__name__}: {error}"
            else:
                result.damaged.extend(filter(None, [note]))
                result.runs[key] = run
            bar.update()


@dataclass
class Comparison:
    """What came out, and ways to look at it.

    runs      {(name, seed): what the run left}
    failures  {(name, seed): message}
    damaged   sentences on files that were damaged and set aside
    """

    names: list
    runs: dict
    failures: dict
    target: float | None = None
    damaged: list = field(default_factory=list)

    @property
    def measure(self):
        """What was measured (measures.py): the same for all runs."""
        names = {run.get("measure") for run in self.runs.values()}
        return next((m for m in MEASURES.values() if m.name in names), ACCURACY)

    def rows(self):
        """A dict for each setting, with means over its seeds; None where nothing was measured."""
        return [self._row(name) for name in self.names]

    def _row(self, name):
        runs = [run for (other, _), run in self.runs.items() if other == name]
        tests = [run["test_acc"] for run in runs if run["test_acc"] is not None]
        vals = [run["val_acc_history"] for run in runs if run["val_acc_history"]]
        best = self.measure.best
        return {
            "setting": name,
            "runs": len(runs),
            "test_acc": _mean(tests),
            "spread": float(np.std(tests, ddof=1)) if len(tests) > 1 else None,
            "val_acc": _mean([best(history) for history in vals]),
            "best_epoch": _mean([history.index(best(history)) for history in vals]),
            "seconds": _mean([_mean(run["epoch_seconds"]) for run in runs if run["epoch_seconds"]]),
            "to_target": self._to_target(runs),
        }

    def _to_target(self, runs):
        """The mean time until validation reached the target; None unless every run did."""
        times = []
        for run in runs:
            reached = [
                e
                for e, acc in enumerate(run["val_acc_history"])
                if self.target is not None and self.measure.best(acc, self.target) == acc
            ]
            if not reached:
                return None
            times.append(sum(run["epoch_seconds"][: reached[0]]))
        return _mean(times)

    def __repr__(self):
        return self.table()

    def table(self):
        """The rows as text in columns, and what failed or was damaged."""
        lines = [
            self._titles(),
            *(list(map(shown, row.values())) for row in self.rows()),
        ]
        return "\n".join([in_columns(lines), *self._notes()])

    def markdown(self):
        """The rows as a Markdown table, and what failed or was damaged."""
        lines = [self._titles(), ["---"] * len(COLUMNS)]
        lines += [list(map(shown, row.values())) for row in self.rows()]
        return "\n".join(["| " + " | ".join(line) + " |" for line in lines] + self._notes())

    def _repr_html_(self):
        rows = [list(map(shown, row.values())) for row in self.rows()]
        return html_table(self._titles(), rows, "; ".join(self._notes()))

    def csv(self):
        """The rows with all their digits."""
        file = io.StringIO()
        writer = csv.DictWriter(file, [key for key, _ in COLUMNS], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows())
        return file.getvalue()

    def _titles(self):
        return [title.replace("accuracy", self.measure.name) for _, title in COLUMNS]

    def _notes(self):
        failed = [f"failed: {name}, seed {seed}: {why}" for (name, seed), why in self.failures.items()]
        return failed + [f"damaged: {note}" for note in self.damaged]

    def figure(self):
        """Loss, training accuracy and validation accuracy: a line for the mean of each setting, and a
        band from the lowest to the highest of its seeds.
        """
        from .vis_utils import plot_bands

        curves, measured = {}, self.measure.name
        for name in self.names:
            runs = [run for (other, _), run in self.runs.items() if other == name]
            if runs:
                curves[name] = {
                    "loss": [_by_epoch(run) for run in runs],
                    f"training {measured}": [run["train_acc_history"] for run in runs],
                    f"validation {measured}": [run["val_acc_history"] for run in runs],
                }
        return plot_bands(curves)


def _by_epoch(run):
    """The mean loss of each epoch."""
    losses, step = run["loss_history"], run["iterations_per_epoch"]
    return [float(np.mean(losses[k : k + step])) for k in range(0, len(losses), step)]


def _mean(values):
    return float(np.mean(values)) if values else None
