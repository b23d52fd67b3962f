"""Threads that share a batch's work, BLAS held to one thread, and freed memory kept for reuse.

    with workers(2):
        ...

Inside, `run(function, parts)` spreads its calls over two threads. NumPy releases the interpreter's
lock while it computes, so the threads run at the same time. Where the calls are too short for that,
helper processes take their share (see helpers.py). The work is cut by its size alone, and results are
put together in the order of the parts, so the result is the same, bit for bit, for any number of
workers.

BLAS is held to one thread because a second one slows down products as small as these. The C library
keeps the memory that NumPy frees, because fresh pages from the operating system cost more than the
arithmetic done on them. Both settings belong to the whole process: they are made when the first
session needs them and undone when the last one ends.
"""

import concurrent.futures
import contextlib
import contextvars
import ctypes
import functools
import os
import sys
import threading
import time

from .errors import check_count
from .helpers import Helper, helpers_available

__all__ = [
    "Later",
    "Session",
    "default_count",
    "last_piece_of_work",
    "ready_helpers",
    "run",
    "session",
    "workers",
]

PATIENCE = 1.0  # seconds of work after which it pays to start helper processes

_session = contextvars.ContextVar("the session whose threads share the work here", default=None)
_later = contextvars.ContextVar("the Later that waits for a worker", default=None)
_beside = contextvars.ContextVar("the Later that the next `run` may begin", default=None)


def default_count():
    """The number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def workers(count=None):
    """Share the work inside among `count` threads (default: one a processor).

    Inside another `with workers(...)` it changes nothing: the outer threads share the work. Raises
    ValueError unless count is a whole number from 1 up.
    """
    with session(count) as opened, opened.at_work():
        yield


@contextlib.contextmanager
def session(count=None):
    """A Session of `count` threads, closed at the end; or the one that is at work here already."""
    if (outer := _current()) is not None:
        yield outer
        return
    opened = Session(count)
    try:
        yield opened
    finally:
        opened.close()


class Session:
    """Threads, and in time helper processes. They share the work done inside `at_work()`.

    A session may stay open across a yield. `at_work()` may not: it changes BLAS for the whole process.
    """

    def __init__(self, count=None):
        count = default_count() if count is None else count
        check_count("count", count, who="workers")
        self.count, self.process = count, os.getpid()
        self.pool = concurrent.futures.ThreadPoolExecutor(count - 1, "handgrad") if count > 1 else None
        self.helpers = []
        self._held = contextlib.ExitStack()
        self._held.enter_context(_MEMORY_KEPT)
        self._started = time.perf_counter()
        self._may_start_helpers = count > 1 and helpers_available()

    @contextlib.contextmanager
    def at_work(self):
        """Let `run` use this session, with BLAS at one thread, until the block ends."""
        token = _session.set(self)
        try:
            with _ONE_BLAS_THREAD:
                yield
        finally:
            _session.reset(token)

    def ready_helpers(self, wanted):
        """At most `wanted` helpers that are ready; the first call after PATIENCE starts them."""
        if self._may_start_helpers and time.perf_counter() - self._started >= PATIENCE:
            self._may_start_helpers = False
            with contextlib.suppress(OSError):  # no memory or no more processes: threads will do
                for _ in range(min(self.count - 1, wanted)):
                    self.helpers.append(Helper())
        return [helper for helper in self.helpers if helper.ready][:wanted]

    def close(self):
        """End the threads and the helpers."""
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)
        for helper in self.helpers:
            helper.close()
        self._held.close()


def _current():
    """The session at work here. A forked process has its parent's, which it cannot use."""
    here = _session.get()
    return here if here is not None and here.process == os.getpid() else None


def ready_helpers(wanted):
    """At most `wanted` helpers of the session at work here that are ready."""
    here = _current()
    return here.ready_helpers(wanted) if here is not None and wanted else []


# ---------------------------------------------------------------------------- sharing work


def run(function, parts):
    """[function(part) for part in parts], spread over the workers; raises the first error.

    No call is still running when it returns or raises. Inside a part, `run` spreads nothing further.
    """
    here = _current()
    count = 1 if here is None else min(here.count, len(parts))
    if count <= 1:
        return [function(part) for part in parts]
    results, waiting = [None] * len(parts), iter(range(len(parts)))

    def work():
        _session.set(None)
        try:
            for at in waiting:  # whoever is free takes the next part: a thread may be slow to wake up
                results[at] = function(parts[at])
        except BaseException:
            for _ in waiting:  # the remaining parts are not needed any more
                pass
            raise

    # Each thread gets a copy of this context, so that np.errstate holds in all of them.
    ours, *theirs = (contextvars.copy_context() for _ in range(count))
    futures = [here.pool.submit(context.run, work) for context in theirs]
    if (later := _beside.get()) is not None:
        later.begin(here.pool)
    try:
        ours.run(work)
    finally:
        for future in futures:
            future.exception()  # waits, and wakes up sooner than concurrent.futures.wait
    for future in futures:
        future.result()
    return results


class Later:
    """A call whose result is wanted after a piece of work. A worker may make it meanwhile.

        later = Later(function)
        with later:
            ...             # the work
        later.result()

    A worker begins the call when it has done its share of the last `run` of the work, which the work
    marks with `last_piece_of_work`. Earlier it would delay the work; later it would first have to be
    woken up. Without such a mark, `result` makes the call.
    """

    def __init__(self, function):
        self._function, self._future = function, None

    def __enter__(self):
        self._token = _later.set(self)
        return self

    def __exit__(self, *_):
        _later.reset(self._token)

    def begin(self, pool):
        """Have a worker make the call, unless one does so already."""
        if self._future is None:
            self._future = pool.submit(contextvars.copy_context().run, self._in_a_worker)

    def _in_a_worker(self):
        _session.set(None)
        return self._function()

    def result(self):
        """What the function returns; what it raises is raised here."""
        return self._function() if self._future is None else self._future.result()


@contextlib.contextmanager
def last_piece_of_work():
    """Say that the next `run` is the last of the work that a `Later` waits for."""
    token = _beside.set(_later.get())
    try:
        yield
    finally:
        _beside.reset(token)


# ---------------------------------------------------------------------------- settings of the process


class _Counted:
    """A setting of the whole process: the first of its users makes it, the last undoes it."""

    def __init__(self, make):
        self._make, self.users, self._lock = make, 0, threading.Lock()

    def __enter__(self):
        with self._lock:
            if self.users == 0:
                self._setting = self._make()
                self._setting.__enter__()
            self.users += 1

    def __exit__(self, *_):
        with self._lock:
            self.users -= 1
            if self.users == 0:
                self._setting.__exit__(None, None, None)


@contextlib.contextmanager
def _one_blas_thread():
    """From version 3.8 on, threadpoolctl ignores all threads but the one that set a limit first. Here
    the first and the last session may belong to different threads.
    """
    import threadpoolctl  # imported when needed: it takes time

    blas = threadpoolctl.OpenBLASController
    let_any_thread_set_it = getattr(blas, "clear_controlling_thread", lambda force: None)
    let_any_thread_set_it(force=True)
    limit = _libraries(len(sys.modules)).limit(limits=1, user_api="blas")
    try:
        yield
    finally:
        let_any_thread_set_it(force=True)
        limit.restore_original_limits()
        let_any_thread_set_it(force=True)


@functools.lru_cache(maxsize=1)
def _libraries(modules):
    """The libraries in this process. To find them takes a millisecond, so it is done again only when
    the number of modules has changed, one of which may have loaded another BLAS.
    """
    import threadpoolctl  # imported when needed: it takes time

    return threadpoolctl.ThreadpoolController()


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # the numbers of mallopt's settings in glibc's malloc.h
_KEEP = 1 << 30  # bytes
_USUAL_MMAP, _USUAL_TRIM = 32 << 20, 64 << 20  # bytes: where glibc settles by itself for large arrays


@contextlib.contextmanager
def _memory_kept():
    """Have glibc keep the memory that is freed. With another C library nothing happens."""
    try:
        libc = ctypes.CDLL(None)
        mallopt, trim = libc.mallopt, libc.malloc_trim
    except (AttributeError, OSError, TypeError):  # not glibc
        yield
        return
    mallopt(_MMAP_THRESHOLD, _KEEP)
    mallopt(_TRIM_THRESHOLD, _KEEP)
    try:
        yield
    finally:
        mallopt(_MMAP_THRESHOLD, _USUAL_MMAP)
        mallopt(_TRIM_THRESHOLD, _USUAL_TRIM)
        trim(0)


_ONE_BLAS_THREAD, _MEMORY_KEPT = _Counted(_one_blas_thread), _Counted(_memory_kept)
