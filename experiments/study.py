"""What all studies share: the command line, the table, the section they write."""

import argparse
import functools
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from handgrad import Solver, compare
from handgrad.compare import Comparison
from handgrad.optim import cosine, linear_warmup
from handgrad.vis_utils import save
from scipy import stats

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "results.md"


class Column(NamedTuple):
    """A column of the table: the mean over the seeds of value(run), a number, as `shown` formats it.

    run is what compare keeps of a run, with what the study's `keep` gave as run["kept"].
    """

    head: str
    value: Callable
    shown: str = ".2f"


def tested(run):
    """The accuracy on the test set, in per cent."""
    return 100 * run["test_acc"]


ACCURACY = Column("%", tested)
SECONDS = Column("s an epoch", lambda run: np.mean(run["epoch_seconds"]))


@dataclass(frozen=True)
class Study:
    """A comparison with its story.

    build     gives a Solver; it takes `seed` and what `settings` and `quick` hold
    settings  {name: keyword arguments of build}
    reported  {name: the measured number elsewhere}
    quick     keyword arguments that make a run short enough for a test
    measured  the Column that the study is about, with its deviation and interval
    others    Columns that stand after it, as means
    keep      keep(solver) -> what else of a trained run is wanted, as JSON takes it (see compare)
    closing   closing(result) -> text below the table, such as samples of a language model
    figure    figure(result) draws the first figure
    caption   what stands under it, before the title
    picture   draws a second figure, if there is one
    """

    name: str
    title: str
    text: str
    build: callable
    settings: dict
    reported: dict = field(default_factory=dict)
    quick: dict = field(default_factory=dict)
    seeds: int = 5
    measured: Column = ACCURACY
    others: tuple = (SECONDS,)
    keep: callable = None
    closing: callable = None
    figure: callable = Comparison.figure
    caption: str = "Loss and accuracies by epoch"
    picture: callable = None

    def section(self, result):
        seconds = sum(run["seconds"] for run in result.runs.values())
        cost = f"{seconds / 60:.1f} minutes of training in all"
        closing = self.closing(result) if self.closing else ""
        return Section(self.name, self.title, self.text, cost, table(self, result), closing)

    def figures(self, result):
        """{file name: figure}, with what stands under each."""
        drawn = {f"{self.name}.png": (self.figure(result), f"{self.caption}: {self.title}")}
        if self.picture is not None:
            drawn[f"{self.name}_picture.png"] = (self.picture(), f"{self.title}, seen")
        return drawn


def first(data, count):
    """The first so many examples of each part of the data; None for all."""
    return {key: data[key] if key == "transform" else data[key][:count] for key in data}


def build(seed, model, learning_rate, data, num_training=None, **options):
    """A Solver of a class with its settings bound and of data(num_training); options: the Solver's."""
    return Solver(
        model(seed=seed),
        data(num_training),
        optim_config={"learning_rate": learning_rate},
        verbose=False,
        seed=seed,
        **options,
    )


def warmed_cosine(steps):
    """A schedule: up in the first tenth of the steps, down to zero along a cosine."""
    then = functools.partial(cosine, steps=steps)
    return functools.partial(linear_warmup, steps=steps // 10, then=then)


def main(study, argv=None):
    """Run a study; with --quick one short run of each setting, and nothing is written to docs/.

    Runs that fail are said to have failed, in the table and on the page; the exit code is 1 then.
    """
    parser = argument_parser(study.name, study.title)
    parser.add_argument("--seeds", type=int, default=study.seeds)
    help = "train it once, with all processors, and say how long it takes; writes nothing"
    parser.add_argument("--train", choices=[*study.settings], metavar="SETTING", help=help)
    args = parser.parse_args(argv)
    changed = study.quick if args.quick else {}
    settings = {name: {**given, **changed} for name, given in study.settings.items()}
    if args.train:
        return train_once(study, settings[args.train])
    seeds = 1 if args.quick else args.seeds
    folder = args.folder / study.name
    result = compare(study.build, settings, seeds, keep=study.keep, folder=folder)
    show(study.section(result), study.figures(result), args.folder if args.quick else None)
    return 1 if result.failures else 0


def train_once(study, given):
    """Train the first seed of a setting with a worker on each processor, as `compare` does with one."""
    solver = study.build(seed=0, **given)
    began, used = time.perf_counter(), sum(os.times()[:4])
    solver.train()
    took, used = time.perf_counter() - began, sum(os.times()[:4]) - used
    print(f"{took / 60:.1f} minutes, {used / 60:.1f} minutes of all processors")
    if study.keep:
        print("\n".join(f"{name}: {value}" for name, value in study.keep(solver).items()))
    return 0


def argument_parser(name, title):
    parser = argparse.ArgumentParser(prog=f"python -m experiments.{name}", description=title)
    parser.add_argument("--quick", action="store_true", help="short runs, for a look")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "experiments")
    return parser


def show(section, figures, folder=None):
    """Print a section; keep its figures in the folder, or, without one, put all on the page."""
    print("\n".join(filter(None, [section.title, section.table, section.closing])))
    for name, (figure, _) in figures.items():
        save(figure, (folder or PAGE.parent / "results") / name)
    if folder is None:
        write_section(section, {name: words for name, (_, words) in figures.items()})


def table(study, result):
    """Reported there, measured here: mean, deviation and 95 % interval of the mean over the seeds."""
    what, others = study.measured, study.others
    heads = ["setting", f"reported, {what.head}", f"ours, {what.head}", "deviation"]
    heads += ["95 % interval of the mean", "seeds", *(column.head for column in others)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for setting in result.names:
        runs = [run for (name, _), run in result.runs.items() if name == setting]
        cells = [measured([what.value(run) for run in runs], what.shown)]
        cells += [mean([column.value(run) for run in runs], column.shown) for column in others]
        lines.append(f"| {' | '.join([setting, study.reported.get(setting, '-'), *cells])} |")
    failed = [f"\nFailed: {name}, seed {seed}: {why}" for (name, seed), why in result.failures.items()]
    return "\n".join(lines + failed)


def measured(values, shown=".2f"):
    """Mean | deviation | interval | number, as cells of the table."""
    if len(values) < 2:
        return f"**{mean(values, shown)}** | - | - | {len(values)}"
    middle, deviation = np.mean(values), np.std(values, ddof=1)
    half = stats.t.ppf(0.975, len(values) - 1) * deviation / np.sqrt(len(values))
    interval = f"{middle - half:{shown}} to {middle + half:{shown}}"
    return f"**{middle:{shown}}** | {deviation:{shown}} | {interval} | {len(values)}"


def mean(values, shown):
    return f"{np.mean(values):{shown}}" if values else "-"


@dataclass(frozen=True)
class Section:
    """A section of the page: what is said, what it cost, the table, and what is said below it."""

    name: str
    title: str
    text: str
    cost: str
    table: str
    closing: str = ""


def write_section(section, figures):
    """Put a section on the page, between its marks; the others stay. figures: {file name: words}."""
    name = section.name
    shown = [f"![{words}](results/{file})" for file, words in figures.items()]
    command = f"`python -m experiments.{name}`, {section.cost}, {time.strftime('%Y-%m-%d')}."
    parts = [
        f"## {section.title}",
        section.text.strip(),
        command,
        section.table,
        section.closing,
        *shown,
    ]
    text = f"<!-- {name} -->\n" + "\n\n".join(filter(None, parts)) + f"\n<!-- end of {name} -->"
    page = PAGE.read_text()
    mark = re.compile(rf"<!-- {name} -->.*<!-- end of {name} -->", re.DOTALL)
    if mark.search(page):
        page = mark.sub(lambda _: text, page)
    else:
        page = f"{page.rstrip()}\n\n{text}\n"
    PAGE.write_text(page)
