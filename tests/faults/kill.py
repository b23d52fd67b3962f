"""Kills: SIGKILL, SIGTERM and SIGINT at random moments; resumed, the result is the same, bit for bit.

victim.py says in which moment it is. The killer waits for the n-th moment of a kind, and a few
milliseconds more.
"""

import contextlib
import csv
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from . import attack
from .files import a_mat

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
MARK = "HANDGRAD_FAULT"  # in the environment of a victim and of all processes that it starts


class Victim:
    """A process and those that it starts. Its files and temporary files are in a folder of its own."""

    def __init__(self, kind, folder, **options):
        self.folder, self.mark = folder, f"{MARK}={os.getpid()}-{time.monotonic_ns()}"
        (folder / "tmp").mkdir(exist_ok=True)
        if not (folder / "digits.mat").exists():
            (folder / "digits.mat").write_bytes(a_mat(np.random.default_rng(0)))
        name, _, value = self.mark.partition("=")
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.victim", kind, str(folder)],
            env={**os.environ, name: value, "TMPDIR": str(folder / "tmp")},
            start_new_session=True,
            **options,
        )

    def wait_for(self, word, number):
        """Read until it says the word for this time, or ends."""
        for line in self.process.stdout:
            number -= line == f"{word}\n"
            if number <= 0:
                return

    def kill(self, sign, whole_group):
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            (os.killpg if whole_group else os.kill)(self.process.pid, sign)

    def end(self):
        """Wait for its end, and for the end of all that it started."""
        _, error = self.process.communicate(timeout=120)
        until = time.monotonic() + 60
        while left := list(processes_with(self.mark)):
            assert time.monotonic() < until, f"processes {left} are left"
            time.sleep(0.01)
        return error


def processes_with(mark):
    """The numbers of living processes that have the mark in their environment."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)


def whole(kind, folder):
    """Let it run to its end, and return what it leaves."""
    victim = Victim(kind, folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    error = victim.end()
    assert victim.process.returncode == 0, error
    assert not list((folder / "tmp").iterdir()), "a temporary file is left"
    return what_is_left(folder / "run")


@functools.cache
def expected(kind):
    with tempfile.TemporaryDirectory() as folder:
        return whole(kind, Path(folder))


def what_is_left(folder):
    """{name of the file: its contents}, without times and pictures."""
    readers = {".npz": a_checkpoint, ".csv": a_history, ".json": a_run, ".txt": Path.read_text}
    return {path.name: readers.get(path.suffix, lambda path: "")(path) for path in folder.iterdir()}


def a_checkpoint(path):
    with np.load(path) as file:
        arrays = {name: file[name].tobytes() for name in file.files}
    meta = json.loads(arrays.pop("meta"))
    for record in meta["history"]:
        record.pop("seconds")
    return arrays, meta


def a_history(path):
    with open(path, newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def a_run(path):
    content = json.loads(path.read_text())
    return {k: v for k, v in content.items() if k not in ("seconds", "epoch_seconds", "data_dir")}


def killed(rng, folder, kind, moments):
    """Kill it once or twice in one of the moments, {word: how many there are}, and let it end."""
    before = shared_memory()
    word = str(rng.choice(list(moments)))
    for _ in range(rng.choice([1, 1, 2])):
        sign = SIGNALS[rng.integers(3)]
        victim = Victim(kind, folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        victim.wait_for(word, int(rng.integers(moments[word])))
        time.sleep(rng.uniform(0, 0.005 if rng.integers(4) else 0.5))
        victim.kill(sign, whole_group=sign == signal.SIGINT and rng.integers(2))
        victim.end()
    found, wanted = whole(kind, folder), expected(kind)
    differ = [name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)]
    assert not differ, f"{differ} differ"
    until = time.monotonic() + 10
    while left := shared_memory() - before:  # another program may just be ending
        assert time.monotonic() < until, f"shared memory {left} is left"
        time.sleep(0.1)
    return f"{sign.name} at {word}"


def shared_memory():
    """Names of shared memory that no process uses. No victim is a job of MPI, which others may run."""
    used = b""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            used += (entry / "maps").read_bytes()
    names = {path.name for path in Path("/dev/shm").glob("*")}
    return {name for name in names if name.encode() not in used and not name.startswith("mpich")}


PROMISE = "Killed at any moment, {} goes on to the same bits; no process and no temporary file is left"


@attack(PROMISE.format("`handgrad train`"), long=110, short=1)
def train(rng, folder):
    return killed(rng, folder, "train", {"start": 1, "step": 10, "write": 5, "report": 1})


@attack(PROMISE.format("a training with helper processes"), long=50, short=1)
def helpers(rng, folder):
    return killed(rng, folder, "helpers", {"step": 100, "write": 25, "answer": 80})


@attack(PROMISE.format("a comparison in several processes"), long=50, short=1)
def compare(rng, folder):
    return killed(rng, folder, "compare", {"start": 1, "step": 400, "write": 60})


# A data-parallel job takes its place here: a kind in victim.py that is started under mpiexec.
