"""Kills: SIGKILL, SIGTERM and SIGINT at random moments; resumed, the result is the same, bit for bit.

victim.py says in which moment it is. The killer waits for the n-th moment of a kind, and a few
milliseconds more.
"""

import contextlib
import csv
import functools
import importlib.util
import json
import os
import re
import shutil
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
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
MARK = "HANDGRAD_FAULT"  # in the environment of a victim and of all processes that it starts


class Victim:
    """A process and those that it starts. Its files and temporary files are in a folder of its own."""

    def __init__(self, kind, folder, ranks=None, **options):
        self.folder, self.mark = folder, f"{MARK}={os.getpid()}-{time.monotonic_ns()}"
        (folder / "tmp").mkdir(exist_ok=True)
        if not (folder / "digits.mat").exists():
            (folder / "digits.mat").write_bytes(a_mat(np.random.default_rng(0), 40 if ranks else 4))
        name, _, value = self.mark.partition("=")
        launcher = [mpiexec(), "-n", str(ranks)] if ranks else []
        self.process = subprocess.Popen(
            [*launcher, sys.executable, "-m", f"{__package__}.victim", kind, str(folder)],
            env={**os.environ, name: value, "TMPDIR": str(folder / "tmp")},
            stdin=subprocess.DEVNULL,
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

    def kill_rank(self, sign, rank):
        """True if a witness was there, who names a rank that dies; None if the rank is not there."""
        programs = {pid: program(pid) for pid in processes_with(self.mark)}
        for pid, (words, environment) in programs.items():
            if "-m" in words and f"PMI_RANK={rank}" in environment and "mpiexec" not in words[0]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sign)
                    return any("is lost" in " ".join(words) for words, _ in programs.values())
        return None

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


def program(pid):
    """The words of a process's command and its environment; none if it has ended."""
    with contextlib.suppress(OSError):
        files = (Path(f"/proc/{pid}/{name}") for name in ("cmdline", "environ"))
        return [file.read_bytes().decode(errors="replace").split("\0") for file in files]
    return [[""], [""]]


def mpiexec():
    """Its path; None without it or without mpi4py."""
    beside = Path(sys.executable).with_name("mpiexec")
    path = str(beside) if beside.exists() else shutil.which("mpiexec")
    return path if importlib.util.find_spec("mpi4py") else None


def whole(kind, folder, ranks=None):
    """Let it run to its end, and return what it leaves."""
    victim = Victim(kind, folder, ranks, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    error = victim.end()
    assert victim.process.returncode == 0, error
    assert not list((folder / "tmp").iterdir()), "a temporary file is left"
    return what_is_left(folder / "run")


@functools.cache
def expected(kind, ranks=None):
    with tempfile.TemporaryDirectory() as folder:
        return whole(kind, Path(folder), ranks)


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
    other = ("seconds", "epoch_seconds", "data_dir", "ranks")
    return {k: v for k, v in content.items() if k not in other}


def killed(rng, folder, kind, moments):
    """Kill it once or twice in one of the moments, {word: how many there are}, and let it end."""
    before = shared_memory()
    word = str(rng.choice(list(moments)))
    for _ in range(rng.choice([1, 1, 2])):
        sign = SIGNALS[rng.integers(3)]
        victim = Victim(kind, folder, **PIPES)
        victim.wait_for(word, int(rng.integers(moments[word])))
        time.sleep(rng.uniform(0, 0.005 if rng.integers(4) else 0.5))
        victim.kill(sign, whole_group=sign == signal.SIGINT and rng.integers(2))
        victim.end()
    compare_files(whole(kind, folder), expected(kind))
    until = time.monotonic() + 10
    while left := shared_memory() - before:  # another program may just be ending
        assert time.monotonic() < until, f"shared memory {left} is left"
        time.sleep(0.1)
    return f"{sign.name} at {word}"


def compare_files(found, wanted):
    differ = [name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)]
    assert not differ, f"{differ} differ"


def shared_memory():
    """Names of shared memory that no process uses, without MPI's: other users' jobs leave some, too."""
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


@attack(PROMISE.format("a comparison in several processes"), long=50, short=0)
def compare(rng, folder):
    return killed(rng, folder, "compare", {"start": 1, "step": 400, "write": 60})


@attack(PROMISE.format("a job of `mpiexec`, of any number of ranks each time,"), long=24, short=0)
def ranks(rng, folder):
    if mpiexec() is None:
        return "skipped: needs mpi4py and mpiexec"
    moments = {"start": 1, "step": 60, "write": 5, "report": 1}
    word, size = str(rng.choice(list(moments))), 3
    for _ in range(rng.choice([1, 1, 2])):
        sign, rank = SIGNALS[rng.integers(3)], int(rng.integers(-1, size))
        victim = Victim("ranks", folder, size, **PIPES)
        victim.wait_for(word, int(rng.integers(moments[word])))
        time.sleep(rng.uniform(0, 0.005 if rng.integers(4) else 0.5))
        named = victim.kill(sign, False) if rank < 0 else victim.kill_rank(sign, rank)
        error = victim.end()
        assert not named or re.search(rf"handgrad: rank {rank} of {size}\b", error), error
        if (folder / "run" / "checkpoint.npz").exists():
            a_checkpoint(folder / "run" / "checkpoint.npz")
        size = int(rng.integers(1, 4))
    compare_files(whole("ranks", folder, size), expected("ranks", 3))
    whom = "mpiexec" if rank < 0 else "a rank that was named" if named else "a rank"
    return f"{sign.name} of {whom} at {word}"
