"""Where the runs of a comparison are made: processes here, a dask cluster, the processes of mpiexec.

Each is a `concurrent.futures.Executor`.
"""

import concurrent.futures
import contextlib
import importlib
import os
import queue
import threading

from .extras import need
from .workers import default_count

__all__ = ["Processes", "executor_on"]

ATTEMPTS = 3  # processes that a call may lose before it is given up


@contextlib.contextmanager
def executor_on(where=None):
    """The executor that `where` names, for this block.

    where: None for processes here, one a processor; 'dask://host:port' for the cluster of that dask
    scheduler; 'mpi' for the other processes of mpiexec. In those the block gets None and has nothing to
    do: they work before it, until the first process has left its own.
    """
    if where is None:
        with Processes(default_count()) as executor:
            yield executor
    elif where == "mpi":
        if need("--on mpi", "mpi4py.MPI", "mpi").COMM_WORLD.size < 2:
            raise ValueError("--on mpi: one process came, expected `mpiexec -n 4 handgrad ...`.")
        with importlib.import_module("mpi4py.futures").MPICommExecutor() as executor:
            yield executor
    elif where.startswith("dask://"):
        distributed = need(f"--on {where}", "distributed", "dask")
        address = where.replace("dask://", "tcp://", 1)
        with distributed.Client(address) as client:
            yield client.get_executor(pure=False)
    else:
        raise ValueError(f"--on {where}, expected dask://host:port or mpi.")


class Processes(concurrent.futures.Executor):
    """Processes, one call at a time in each. A call whose process dies is made again in a new one.

    With `ProcessPoolExecutor` the death of one process is the end of all calls. So each process is a
    pool by itself here. The third process that a call loses is the last one: BrokenProcessPool.
    """

    def __init__(self, count):
        self._threads = concurrent.futures.ThreadPoolExecutor(count)
        self._starting = threading.Lock()  # a fork beside a fork would inherit its pipes
        self._idle = queue.SimpleQueue()
        for _ in range(count):
            self._idle.put(self._started())

    def _started(self):
        with self._starting:
            pool = concurrent.futures.ProcessPoolExecutor(1, initializer=_end_with_parent)
            pool.submit(os.getpid)  # now, since later there are threads to be forked with it
        return pool

    def submit(self, function, /, *args, **kwargs):
        """The future of function(*args, **kwargs)."""
        return self._threads.submit(self._call, function, *args, **kwargs)

    def _call(self, function, *args, **kwargs):
        pool = self._idle.get()
        try:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    return pool.submit(function, *args, **kwargs).result()
                except concurrent.futures.BrokenExecutor:
                    pool.shutdown()
                    pool = self._started()
                    if attempt == ATTEMPTS:
                        raise
        finally:
            self._idle.put(pool)

    def shutdown(self, wait=True, *, cancel_futures=False):
        """End the processes, when their calls are done."""
        self._threads.shutdown(wait=True, cancel_futures=cancel_futures)
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().shutdown()


def _end_with_parent():
    """End this process when its parent has been killed. Else it would wait for tasks without end."""

    import multiprocessing  # when first needed: it costs time at import

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
