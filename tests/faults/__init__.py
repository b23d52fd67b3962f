"""Attacks on handgrad: files that lie, disks that fail, kills, neighbours, time, numbers at the edge.

    python -m tests.faults                     the short form, which the normal test run holds, too
    python -m tests.faults --long kill disk    the long form, here of two modules
    python -m tests.faults --long --write      the counts of what was run go into docs/reliability.md
    python -m tests.faults files.idx --case 41     one case again, as a failure names it

An attack is a function `attack(rng, folder)` with the decorator `attack`. It tries one case, which the
random numbers choose, and raises an error if a promise is broken. It may return a word for what came
out, and these words are counted. The seed of a case is made of the attack's name and its number.
"""

import contextlib
import faulthandler
import tempfile
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

__all__ = ["ATTACKS", "Attack", "Result", "attack", "carried_out"]

ATTACKS = {}  # {'module.function': Attack}
PATIENCE = 300  # seconds: a case that takes longer hangs, and ends the process


@dataclass(frozen=True)
class Attack:
    """promise: a sentence, what the attack would break.  long, short: how many cases each form has."""

    name: str
    promise: str
    try_case: Callable
    long: int
    short: int


@dataclass
class Result:
    """outcomes: {word: count}.  failures: {number of the case: traceback}."""

    cases: int = 0
    outcomes: Counter = field(default_factory=Counter)
    failures: dict = field(default_factory=dict)


def attack(promise, *, long, short):
    """Enter the function into ATTACKS."""

    def entered(function):
        name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        ATTACKS[name] = Attack(name, promise, function, long, short)
        return function

    return entered


def carried_out(attack, numbers):
    """Try the cases of these numbers, whatever fails."""
    result = Result()
    for number in numbers:
        result.cases += 1
        try:
            with in_time(), tempfile.TemporaryDirectory(prefix="handgrad-fault-") as folder:
                seed = zlib.crc32(attack.name.encode()), number
                outcome = attack.try_case(np.random.default_rng(seed), Path(folder))
        except Exception:
            result.failures[number] = traceback.format_exc()
        else:
            result.outcomes.update([outcome] if outcome else [])
    return result


@contextlib.contextmanager
def in_time():
    """End the process, and show where it is, if the block takes longer than PATIENCE."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
