"""What all studies share: the command line, the table, the section they write."""

import argparse
import functools
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from handgrad import Solver, compare
from handgrad.optim import cosine, linear_warmup
from handgrad.vis_utils import save
from scipy import stats

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "results.md"


def tested(run):
    """The accuracy on the test set, as a share."""
    return run["test_acc"]


@dataclass(frozen=True)
class Study:
    """A comparison with its story.

    build     gives a Solver; it takes `seed` and what `settings` and `quick` hold
    settings  {name: keyword arguments of build}
    reported  {name: test accuracy elsewhere, in per cent}
    quick     keyword arguments that make a run short enough for a test
    accuracy  what of a run stands in the table
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
    accuracy: callable = tested
    picture: callable = None

    def section(self, result):
        seconds = sum(run["seconds"] for run in result.runs.values())
        cost = f"{seconds / 60:.1f} minutes of training in all"
        return Section(self.name, self.title, self.text, cost, table(self, result))

    def figures(self, result):
        """{file name: figure}, with what stands under each."""
        drawn = {f"{self.name}.png": (result.figure(), f"Loss and accuracies by epoch: {self.title}")}
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
    args = parser.parse_args(argv)
    changed = study.quick if args.quick else {}
    settings = {name: {**given, **changed} for name, given in study.settings.items()}
    seeds = 1 if args.quick else args.seeds
    result = compare(study.build, settings, seeds, folder=args.folder / study.name)
    show(study.section(result), study.figures(result), args.folder if args.quick else None)
    return 1 if result.failures else 0


def argument_parser(name, title):
    parser = argparse.ArgumentParser(prog=f"python -m experiments.{name}", description=title)
    parser.add_argument("--quick", action="store_true", help="short runs, for a look")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "experiments")
    return parser


def show(section, figures, folder=None):
    """Print a section; keep its figures in the folder, or, without one, put all on the page."""
    print(f"{section.title}\n{section.table}")
    for name, (figure, _) in figures.items():
        save(figure, (folder or PAGE.parent / "results") / name)
    if folder is None:
        write_section(section, {name: words for name, (_, words) in figures.items()})


def table(study, result):
    """Reported there, measured here: mean, deviation and 95 % interval of the mean over the seeds."""
    head = (
        "setting | reported, % | ours, % | deviation | 95 % interval of the mean | seeds | s an epoch"
    )
    lines = [f"| {head} |", "|---" * 7 + "|"]
    for row in result.rows():
        tests = [
            100 * study.accuracy(run)
            for (name, _), run in result.runs.items()
            if name == row["setting"]
        ]
        reported = study.reported.get(row["setting"], "-")
        lines.append(f"| {row['setting']} | {reported} | {measured(tests)} | {row['seconds']:.2f} |")
    failed = [f"\nFailed: {name}, seed {seed}: {why}" for (name, seed), why in result.failures.items()]
    return "\n".join(lines + failed)


def measured(tests):
    """Mean | deviation | interval | number, as cells of the table."""
    if len(tests) < 2:
        return f"**{tests[0]:.2f}** | - | - | 1" if tests else "- | - | - | 0"
    mean, deviation = np.mean(tests), np.std(tests, ddof=1)
    half = stats.t.ppf(0.975, len(tests) - 1) * deviation / np.sqrt(len(tests))
    return f"**{mean:.2f}** | {deviation:.2f} | {mean - half:.2f} to {mean + half:.2f} | {len(tests)}"


@dataclass(frozen=True)
class Section:
    """A section of the page: what is said, what it cost, and the table."""

    name: str
    title: str
    text: str
    cost: str
    table: str


def write_section(section, figures):
    """Put a section on the page, between its marks; the others stay. figures: {file name: words}."""
    name = section.name
    shown = [f"![{words}](results/{file})" for file, words in figures.items()]
    command = f"`python -m experiments.{name}`, {section.cost}, {time.strftime('%Y-%m-%d')}."
    parts = [f"## {section.title}", section.text.strip(), command, section.table, *shown]
    text = f"<!-- {name} -->\n" + "\n\n".join(parts) + f"\n<!-- end of {name} -->"
    page = PAGE.read_text()
    mark = re.compile(rf"<!-- {name} -->.*<!-- end of {name} -->", re.DOTALL)
    if mark.search(page):
        page = mark.sub(lambda _: text, page)
    else:
        page = f"{page.rstrip()}\n\n{text}\n"
    PAGE.write_text(page)
