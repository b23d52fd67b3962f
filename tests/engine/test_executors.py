"""Executors: a process that dies costs its call another start, and the other calls nothing."""

import concurrent.futures
import os
import signal
import threading

import pytest
from handgrad.engine.executors import ATTEMPTS, Processes, executor_on


def die(marks, times):
    """Kill this process unless it was called so many times before; then the process's number."""
    before = len(list(marks.iterdir()))
    (marks / str(before)).touch()
    if before < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def refuse(word):
    raise ValueError(word)


def test_calls_are_made_in_processes():
    with Processes(2) as executor:
        found = set(executor.map(pid_here, range(20)))
        assert executor.submit(int, "11", base=2).result() == 3
        with pytest.raises(ValueError, match="wrong"):
            executor.submit(refuse, "wrong").result()
    assert os.getpid() not in found
    assert 1 <= len(found) <= 2
    for pid in found:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def pid_here(_):
    return os.getpid()


@pytest.mark.parametrize("times", [1, ATTEMPTS - 1])
def test_a_call_whose_process_dies_is_made_again(tmp_path, times):
    with Processes(2) as executor:
        others = [executor.submit(int, str(k)) for k in range(30)]
        pid = executor.submit(die, tmp_path, times).result()
        assert [other.result() for other in others] == list(range(30))
        assert executor.submit(int, "7").result() == 7
    assert pid != os.getpid()
    assert len(list(tmp_path.iterdir())) == times + 1


def test_a_call_that_always_kills_is_given_up(tmp_path):
    with Processes(2) as executor:
        lost = executor.submit(die, tmp_path, 99)
        others = [executor.submit(int, str(k)) for k in range(30)]
        with pytest.raises(concurrent.futures.BrokenExecutor):
            lost.result()
        assert [other.result() for other in others] == list(range(30))
    assert len(list(tmp_path.iterdir())) == ATTEMPTS


def test_no_thread_is_left():
    before = set(threading.enumerate())
    with executor_on() as executor:
        executor.submit(int, "1").result()
    assert {thread for thread in threading.enumerate() if thread.is_alive()} <= before


@pytest.mark.parametrize("where", ["ray", "tcp://127.0.0.1:8786", ""])
def test_an_unknown_place(where):
    with pytest.raises(ValueError, match="expected dask://host:port or mpi"), executor_on(where):
        pass
