"""What all studies share: the command line, the table, the section they write."""

import argparse
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from handgrad import compare
from handgrad.vis_utils import save
from scipy import stats

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "results.md"


@dataclass(frozen=True)
class Study:
    """A comparison with its story.

    build     gives a Solver; it takes `seed` and what `settings` and `quick` hold
    settings  {name: keyword arguments of build}
    reported  {name: test accuracy elsewhere, in per cent}
    quick     keyword arguments that make a run short enough for a test
    """

    name: str
    title: str
    text: str
    build: callable
    settings: dict
    reported: dict = field(default_factory=dict)
    quick: dict = field(default_factory=dict)
    seeds: int = 5


def main(study, argv=None):
    """Run a study; with --quick one short run of each setting, and nothing is written to docs/.

    Runs that fail are said to have failed, in the table and on the page; the exit code is 1 then.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m experiments.{study.name}", description=study.title
    )
    parser.add_argument("--quick", action="store_true", help="a short run of each setting, for a look")
    parser.add_argument("--seeds", type=int, default=study.seeds)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "experiments")
    args = parser.parse_args(argv)
    changed = study.quick if args.quick else {}
    settings = {name: {**given, **changed} for name, given in study.settings.items()}
    seeds = 1 if args.quick else args.seeds
    result = compare(study.build, settings, seeds, folder=args.folder / study.name)
    print(f"{study.title}\n{table(study, result)}")
    figure = result.figure()
    if args.quick:
        save(figure, args.folder / f"{study.name}.png")
    else:
        save(figure, PAGE.parent / "results" / f"{study.name}.png")
        write_section(study, result)
    return 1 if result.failures else 0


def table(study, result):
    """Reported there, measured here: mean, deviation and 95 % interval of the mean over the seeds."""
    head = (
        "setting | reported, % | ours, % | deviation | 95 % interval of the mean | seeds | s an epoch"
    )
    lines = [f"| {head} |", "|---" * 7 + "|"]
    for row in result.rows():
        tests = [
            100 * run["test_acc"] for (name, _), run in result.runs.items() if name == row["setting"]
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


def write_section(study, result):
    """The study's section of the page, between its marks; the others stay."""
    seconds = sum(run["seconds"] for run in result.runs.values())
    section = "\n".join(
        [
            f"<!-- {study.name} -->",
            f"## {study.title}",
            "",
            study.text.strip(),
            "",
            f"`python -m experiments.{study.name}`, {seconds / 60:.1f} minutes of training in all, "
            f"{time.strftime('%Y-%m-%d')}.",
            "",
            table(study, result),
            "",
            f"![Loss and accuracies by epoch: {study.title}](results/{study.name}.png)",
            f"<!-- end of {study.name} -->",
        ]
    )
    page = PAGE.read_text()
    mark = re.compile(rf"<!-- {study.name} -->.*<!-- end of {study.name} -->", re.DOTALL)
    if mark.search(page):
        page = mark.sub(lambda _: section, page)
    else:
        page = f"{page.rstrip()}\n\n{section}\n"
    PAGE.write_text(page)
