"""Threads change nothing but the time: results, errors, interruptions and settings."""

import contextvars
import ctypes
import sys
import threading
import time

import numpy as np
import pytest
import threadpoolctl
from handgrad import Solver
from handgrad.engine import workers as engine_workers
from handgrad.engine.workers import Later, last_piece_of_work, run, session, workers
from handgrad.models import LeNet5, TwoLayerNet


@pytest.fixture(autouse=True)
def nothing_is_left_running():
    before = threading.active_count()
    yield
    assert threading.active_count() == before
    assert engine_workers._current() is None
    assert engine_workers._ONE_BLAS_THREAD.users == engine_workers._MEMORY_KEPT.users == 0


def images(N=100):
    rng = np.random.default_rng(5)
    y = np.arange(N) % 3
    X = rng.standard_normal((N, 1, 12, 12)).astype(np.float32)
    X[np.arange(N), 0, y] += 2
    return {"X_train": X, "y_train": y}


def test_run_keeps_the_order_and_uses_the_threads():
    with workers(3):
        names = set()

        def slow(k):
            names.add(threading.current_thread().name)
            time.sleep(0.01)
            return k * k

        assert run(slow, range(7)) == [k * k for k in range(7)]
        assert len(names) == 3
    assert run(lambda k: k, []) == []


def test_inside_a_part_nothing_is_spread_further():
    def threads_of_a_run(_):
        return set(run(lambda _: (time.sleep(0.005), threading.current_thread().name)[1], range(4)))

    with workers(3):
        assert [len(names) for names in run(threads_of_a_run, range(3))] == [1, 1, 1]


@pytest.mark.parametrize("where", [0, 1])
def test_the_first_error_is_raised_in_the_caller_when_all_have_ended(where):
    running = []

    def task(k):
        running.append(k)
        try:
            if k == where:
                raise ValueError(f"conv_forward: part {k}")
            time.sleep(0.05)
        finally:
            running.remove(k)

    with workers(2):
        with pytest.raises(ValueError, match=f"conv_forward: part {where}"):
            run(task, [0, 1])
        assert running == []
        assert run(lambda k: k, [1, 2, 3]) == [1, 2, 3]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("here", [True, False])
def test_after_an_error_no_part_is_begun_any_more(error, here):
    begun, both_at_work = [], threading.Barrier(2, timeout=10)

    def task(k):
        begun.append(k)
        if k < 2:
            both_at_work.wait()
        if k < 2 and (threading.current_thread() is threading.main_thread()) == here:
            raise error
        time.sleep(0.02)

    with workers(2), pytest.raises(error):
        run(task, range(100))
    assert len(begun) < 10


def test_np_errstate_holds_in_the_threads():
    with workers(2), np.errstate(over="ignore"):
        run(lambda k: np.exp(np.full(3, 1e4)), [0, 1])
    with workers(2), np.errstate(over="raise"), pytest.raises(FloatingPointError):
        run(lambda k: np.exp(np.full(3, 1e4 * k)), [0, 1])


def by_whom():
    return threading.current_thread() is threading.main_thread()


@pytest.mark.parametrize(
    ("threads", "marked", "here"),
    [(1, 2, True), (2, None, True), (2, 1, False), (2, 2, False)],
)
def test_a_worker_makes_what_comes_later_at_the_marked_run(threads, marked, here):
    """Of work with two runs, the marked one; without a mark it is made by whoever asks."""
    log, made = [], threading.Event()

    def function():
        log.append("later")
        made.set()
        return by_whom()

    def piece(at):
        log.append(at)
        run(lambda k: time.sleep(0.01), [0, 1])
        made.wait(10 if at == marked and not here else 0.02)

    with workers(threads):
        later = Later(function)
        with later:
            for at in (1, 2):
                if at == marked:
                    with last_piece_of_work():
                        piece(at)
                else:
                    piece(at)
        log.append("after")
        run(lambda k: k, [0, 1])
        assert later.result() == here
    when = "after" if here else marked
    assert log.index("later") == log.index(when) + 1
    assert log.count("later") == 1


def test_what_comes_later_spreads_nothing_and_raises_where_its_result_is_wanted():
    def function():
        assert run(lambda k: by_whom(), [0, 1]) == [False, False]
        return np.exp(np.full(3, 1e4, np.float32))

    with workers(2), np.errstate(over="raise"):
        later = Later(function)
        with later, last_piece_of_work():
            run(lambda k: k, [0, 1])
            run(lambda k: k, [0, 1])  # the second does not begin it again
        with pytest.raises(FloatingPointError):
            later.result()


class Drawing:
    """A transform with a state of its own; it fails at a call if told so."""

    def __init__(self):
        self.rng, self.callers, self.fails = np.random.default_rng(3), [], 0

    def __call__(self, X):
        self.callers.append(by_whom())
        if len(self.callers) == self.fails:
            raise OSError("this batch cannot be read")
        return X.reshape(len(X), -1) + self.rng.standard_normal(X.shape[-1]).astype(np.float32)


def dense(threads, transform, **settings):
    """A net whose first layer is large enough to be shared."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((640, 2048)).astype(np.float32), np.arange(640) % 3
    data = {"X_train": X, "y_train": y, "X_val": X[:50], "y_val": y[:50], "transform": transform}
    model = TwoLayerNet(2048, 128, 3, seed=0)
    settings = {
        "batch_size": 128,
        "num_epochs": 2,
        "num_train_samples": 50,
        "verbose": False,
    } | settings
    return Solver(model, data, workers=threads, seed=0, **settings)


def augmented(X, rng):
    return X + rng.standard_normal(X.shape).astype(np.float32)


@pytest.mark.parametrize(
    # Of five batches an epoch all but the first, unless accuracies are measured before it: after the
    # first step and where `validate_every` says so. None that is augmented.
    ("settings", "by_workers"),
    [({}, 7), ({"validate_every": 3}, 4), ({"augment": augmented}, 0)],
)
def test_batches_made_ahead_are_the_same_in_the_same_order(settings, by_workers):
    solvers = [dense(threads, Drawing(), **settings) for threads in (1, 2, 4)]
    for solver in solvers:
        solver.train()
    one, *others = (solver.data["transform"].callers for solver in solvers)
    assert all(one)
    for callers in others:
        assert len(callers) == len(one)
        assert callers.count(False) == by_workers
    for other in solvers[1:]:
        assert other.loss_history == solvers[0].loss_history
        for name, p in solvers[0].model.params.items():
            np.testing.assert_array_equal(other.model.params[name], p)


@pytest.mark.parametrize("fails", [1, 3, 5])
def test_a_batch_that_cannot_be_made_stops_training_at_its_own_step(fails):
    """And training goes on from there, with nothing left of what had been made ahead."""
    found = []
    for threads in (1, 2):
        transform = Drawing()
        solver = dense(threads, transform)
        transform.fails = len(transform.callers) + fails
        with pytest.raises(OSError, match="this batch cannot be read"):
            solver.train()
        steps = solver.iteration
        solver.train()
        found.append((steps, solver.loss_history))
    assert found[0] == found[1]


def blas_threads():
    return [
        info["num_threads"] for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"
    ]


AT_FIRST = blas_threads()


@pytest.fixture(autouse=True)
def blas_stays_as_it_was_at_first():
    """Were a test to leave BLAS at one thread, the next ones would see nothing wrong."""
    yield
    assert set(blas_threads()) == set(AT_FIRST)  # as a set: SciPy may bring a second library meanwhile


def test_blas_is_put_back():
    before = blas_threads()
    with workers(2):
        assert set(blas_threads()) <= {1}
        with workers(1):
            assert engine_workers._current().count == 2
    assert blas_threads() == before

    def fails():
        with workers(2):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert blas_threads() == before


def test_libraries_are_looked_for_once_until_a_module_is_imported(monkeypatch):
    looks = lambda: engine_workers._libraries.cache_info().misses  # noqa: E731
    before = looks()
    for k, name in enumerate(("a_new_module", "another_new_module"), 1):
        monkeypatch.setitem(sys.modules, name, None)
        for _ in range(3):
            with workers(1):
                assert set(blas_threads()) <= {1}
        assert looks() == before + k


def test_it_works_where_no_blas_is_known_and_malloc_is_another(monkeypatch):
    class NotGlibc:
        def __init__(self, name):
            pass

    monkeypatch.setattr(ctypes, "CDLL", NotGlibc)
    monkeypatch.setattr(threadpoolctl.ThreadpoolController, "_load_libraries", lambda self: None)
    monkeypatch.setattr(engine_workers, "_libraries", engine_workers._libraries.__wrapped__)
    model = LeNet5((1, 12, 12), 3, seed=0)
    solver = Solver(model, images(), batch_size=50, num_epochs=1, verbose=False, seed=0)
    solver.train()
    assert solver.epoch == 1


def at_once(count, function):
    """The results of `function(k)` in threads of their own, begun together."""
    barrier, results = threading.Barrier(count), [None] * count

    def work(k):
        barrier.wait(10)
        results[k] = function(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_trainings_in_several_threads_do_not_disturb_each_other():
    """Each has a session, whichever ends first; the same bits; BLAS is put back at the end."""

    def train(k):
        solver = Solver(
            LeNet5((1, 12, 12), 3, seed=0),
            images(),
            batch_size=50,
            num_epochs=2 + k,
            verbose=False,
            workers=2,
            seed=0,
        )
        solver.train()
        return solver.loss_history

    before = blas_threads()
    alone = train(2)
    for _ in range(3):
        histories = at_once(3, train)
        assert [len(h) for h in histories] == [4, 6, 8]
        assert all(h == alone[: len(h)] for h in histories)
    assert blas_threads() == before


def test_sessions_that_overlap_put_blas_back_when_the_last_one_ends():
    before, inside, go_on = blas_threads(), threading.Event(), threading.Event()

    def other(_):
        with workers(2):
            inside.set()
            assert go_on.wait(10)
            assert set(blas_threads()) <= {1}

    thread = threading.Thread(target=other, args=(0,))
    with workers(2):
        thread.start()
        assert inside.wait(10)
    assert set(blas_threads()) <= {1}  # the other one is still at work
    go_on.set()
    thread.join()
    assert blas_threads() == before


def test_an_open_session_changes_blas_only_while_it_is_at_work():
    before = blas_threads()
    with session(2) as opened:
        assert blas_threads() == before
        assert run(lambda k: by_whom(), range(50)) == [True] * 50
        for _ in range(2):
            with opened.at_work(), opened.at_work():
                assert set(blas_threads()) <= {1}
                with session(4) as inner:
                    assert inner is opened
            assert blas_threads() == before


def test_another_context_has_no_session():
    with workers(2):
        assert contextvars.Context().run(engine_workers._current) is None


def test_a_count_may_be_numpys():
    with workers(np.int64(2)):
        assert engine_workers._current().count == 2


@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_a_wrong_number_of_workers(count):
    with pytest.raises(ValueError, match="expected a whole number from 1 up"), workers(count):
        pass


def test_the_default_is_a_thread_a_processor():
    assert engine_workers.default_count() >= 1
