"""Training that is broken off at any moment goes on as if it had never been."""

import sys
from pathlib import Path

import handgrad
import numpy as np
import pytest
from handgrad import Solver
from handgrad.callbacks import Callback
from handgrad.models import FullyConnectedNet

ROOT = Path(handgrad.__file__).parent
WATCHED = (
    *("solver.py", "callbacks.py", "optim.py"),
    *("engine/resuming.py", "engine/checkpoints.py", "engine/archives.py"),
)
FILES = {str(ROOT / name) for name in WATCHED}


def halved(X):
    return X / 2


def noisy(X, rng):
    return X + 0.1 * rng.standard_normal(X.shape)


class Norms(Callback):
    """A user's callback with a memory, which bears being called twice for the same epoch."""

    def __init__(self):
        self.by_epoch = {}

    def on_epoch_end(self, solver):
        self.by_epoch[solver.epoch] = [float(np.linalg.norm(p)) for p in solver.model.params.values()]


def training(blobs, path=None, **settings):
    """Everything that has state: batch norm, dropout, Adam, augmentation, looks in between, a stop."""
    small = {key: value[:40] for key, value in blobs.items()}
    model = FullyConnectedNet(
        [6], 5, 3, weight_scale="kaiming", normalization="batchnorm", dropout=0.2, seed=0
    )
    options = dict(
        update_rule="adam",
        optim_config={"learning_rate": 0.02},
        lr_decay=0.9,
        batch_size=16,
        num_epochs=3,
        validate_every=2,
        stop=lambda solver: solver.epoch == 2 and "enough.",
        augment=noisy,
        callbacks=[Norms()],
        checkpoint_name=path,
        verbose=False,
        workers=1,
        seed=0,
    )
    return Solver(model, {**small, "transform": halved}, **{**options, **settings})


def outcome(solver):
    """All that a training leaves but the seconds."""
    history = [{k: v for k, v in record.items() if k != "seconds"} for record in solver.history]
    arrays = [solver.model.params, solver.model.state, *solver.last, solver.best_params]
    arrays += solver.optim_configs.values()
    return {
        "history": history,
        "losses": solver.loss_history,
        "accuracies": (solver.train_acc_history, solver.val_acc_history, solver.best_val_acc),
        "place": (solver.epoch, solver.iteration, solver.step_in_epoch, solver.due),
        "arrays": [{k: np.array(v).tobytes() for k, v in named.items()} for named in arrays],
        "callback": [c.by_epoch for c in solver.callbacks if isinstance(c, Norms)],
    }


class InterruptedAt:
    """Raises KeyboardInterrupt at the line event of this number in the watched files; notes all."""

    def __init__(self, number=None):
        self.number, self.lines = number, []

    def __enter__(self):
        sys.settrace(self._called)
        return self

    def __exit__(self, *_):
        sys.settrace(None)

    def _called(self, frame, event, _):
        return self._line if frame.f_code.co_filename in FILES else None

    def _line(self, frame, event, _):
        if event == "line":
            if len(self.lines) == self.number:
                raise KeyboardInterrupt
            self.lines.append((frame.f_code.co_filename, frame.f_lineno))
        return self._line


def places(lines):
    """The numbers of some events: one of each line, at a time that differs from line to line."""
    numbers = {}
    for number, line in enumerate(lines):
        numbers.setdefault(line, []).append(number)
    return sorted(of_line[7 * k % len(of_line)] for k, of_line in enumerate(numbers.values()))


# Between open(...) and its `with`, an interrupt leaves a file to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupted_at_any_line_it_goes_on_bit_for_bit(blobs, tmp_path):
    whole = training(blobs, tmp_path / "whole")
    with InterruptedAt() as trace:
        whole.train()
    expected, at = outcome(whole), places(trace.lines)
    assert whole.epoch == 2
    assert len(at) > 200
    for number in at:
        solver = training(blobs, tmp_path / "parts")
        with pytest.raises(KeyboardInterrupt), InterruptedAt(number):
            solver.train()
        solver.train()
        assert outcome(solver) == expected, f"interrupted at {trace.lines[number]}"


def test_saved_after_an_interrupt_it_resumes_bit_for_bit(blobs, tmp_path):
    """In another process: a new Solver takes up what was saved in mid-epoch."""
    settings = dict(stop=None, callbacks=[])
    whole = training(blobs, **settings)
    with InterruptedAt() as trace:
        whole.train()
    expected = outcome(whole)
    for number in places(trace.lines):
        solver, resumed = training(blobs, **settings), training(blobs, **settings)
        with pytest.raises(KeyboardInterrupt), InterruptedAt(number):
            solver.train()
        solver.save_checkpoint(tmp_path / "run.npz")
        resumed.load_checkpoint(tmp_path / "run.npz")
        resumed.train()
        assert outcome(resumed) == expected, f"interrupted at {trace.lines[number]}"


class Failing:
    """A function that fails in its call of a number, and does nothing else."""

    def __init__(self, fails_at):
        self.fails_at, self.calls = fails_at, 0

    def __call__(self, X, *_):
        self.calls += 1
        if self.calls == self.fails_at:
            raise RuntimeError("broken")
        return X


class FailingAt(Callback):
    """Fails at its call of a number, at one moment."""

    def __init__(self, moment, fails_at):
        setattr(self, moment, Failing(fails_at))


def stops_never(at):
    fails = Failing(at)
    return {"stop": lambda solver: fails(solver) is None}


USERS = {  # what fails, and at which of its calls
    "augment": (lambda at: {"augment": Failing(at)}, (1, 4)),
    "stop": (stops_never, (1, 2)),
    "a callback after a step": (lambda at: {"callbacks": [FailingAt("on_step_end", at)]}, (1, 3)),
    "a callback after an epoch": (lambda at: {"callbacks": [FailingAt("on_epoch_end", at)]}, (1, 3)),
    "a function after an epoch": (lambda at: {"callbacks": [Failing(at)]}, (2,)),
    "a callback at the begin": (lambda at: {"callbacks": [FailingAt("on_train_begin", at)]}, (1,)),
    "a callback at the end": (lambda at: {"callbacks": [FailingAt("on_train_end", at)]}, (1,)),
    "a view": (lambda at: {"views": [Failing(at)]}, (1, 2, 3, 9)),
}
ROWS = [(kind, at) for kind, (_, calls) in USERS.items() for at in calls]


@pytest.mark.parametrize(("kind", "at"), ROWS)
def test_after_an_error_of_the_users_it_goes_on_bit_for_bit(blobs, kind, at):
    common, (settings, _) = dict(stop=None, augment=None), USERS[kind]
    whole = training(blobs, **{**common, **settings(None)})
    whole.train()
    solver = training(blobs, **{**common, **settings(at)})
    with pytest.raises(RuntimeError, match="broken"):
        solver.train()
    solver.train()
    assert outcome(solver) == outcome(whole)


def test_a_transform_that_fails_while_a_worker_calls_it(blobs):
    whole = training(blobs, augment=None)
    whole.train()
    for at in (1, 3, 7, 9):
        solver = training(blobs, augment=None, workers=2)
        calls = Failing(at)
        solver.transform = lambda X, calls=calls: halved(calls(X))
        with pytest.raises(RuntimeError, match="broken"):
            solver.train()
        solver.train()
        assert outcome(solver) == outcome(whole)
