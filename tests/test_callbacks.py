"""Callbacks: when they are called, what they may be, how they stop a training."""

import functools
import subprocess
import sys

import numpy as np
import pytest
from handgrad import Solver
from handgrad.callbacks import Callback, Checkpoint, EarlyStopping, ProgressBar
from handgrad.engine.files import _this_process
from handgrad.models import TwoLayerNet
from handgrad.stopping import patience


def solve(data, **settings):
    model = TwoLayerNet(5, 8, 3, weight_scale=0.1, seed=0)
    options = dict(
        optim_config={"learning_rate": 0.1}, batch_size=20, num_epochs=2, verbose=False, seed=0
    )
    return Solver(model, data, **{**options, **settings})


class Diary(Callback):
    """Writes down each call, with where the solver is."""

    def __init__(self, calls=None, name=""):
        self.calls, self.name = [] if calls is None else calls, name

    def note(self, moment, solver):
        self.calls.append((f"{self.name}{moment}", solver.epoch, solver.iteration))

    def on_train_begin(self, solver):
        self.note("begin", solver)

    def on_step_end(self, solver):
        self.note("step", solver)

    def on_epoch_end(self, solver):
        self.note("epoch", solver)

    def on_train_end(self, solver):
        self.note("end", solver)


def test_the_moments(blobs):
    diary = Diary()
    solve(blobs, callbacks=[diary], batch_size=50).train()
    assert diary.calls == [
        ("begin", 0, 0),
        ("step", 0, 1),
        ("step", 0, 2),
        ("epoch", 1, 2),
        ("step", 1, 3),
        ("step", 1, 4),
        ("epoch", 2, 4),
        ("end", 2, 4),
    ]


def test_the_base_does_nothing(blobs):
    solvers = [solve(blobs, callbacks=given) for given in ([], [Callback(), Callback()])]
    for solver in solvers:
        solver.train()
    assert solvers[0].loss_history == solvers[1].loss_history


def test_a_plain_function_is_called_after_each_epoch_with_everything_in_place(blobs):
    seen = []

    def look(solver):
        losses = solver.loss_history[-5:]
        assert solver.history[-1]["loss"] == pytest.approx(np.mean(losses))
        assert len(solver.val_acc_history) == len(solver.history) + 1 == solver.epoch + 1
        assert solver.best_val_acc == max(solver.val_acc_history)
        seen.append(solver.epoch)

    solve(blobs, callbacks=[look, functools.partial(look)]).train()
    assert seen == [1, 1, 2, 2]


def test_an_object_with_some_of_the_methods_will_do(blobs):
    class Steps:
        count = 0

        def on_step_end(self, solver):
            self.count += 1

        def __call__(self, solver):
            raise AssertionError("it has a moment, so it is no plain function")

    steps = Steps()
    solve(blobs, callbacks=[steps]).train()
    assert steps.count == 10


@pytest.mark.parametrize("reason", [True, "far enough."])
def test_stopping_after_an_epoch(blobs, capsys, reason):
    def stop(solver):
        solver.stop_training = solver.epoch == 2 and reason

    solver = solve(blobs, callbacks=[stop], num_epochs=9, verbose=True, print_every=0)
    solver.train()
    assert solver.epoch == len(solver.history) == 2
    assert ("Stopped after epoch 2: far enough." in capsys.readouterr().out) == isinstance(reason, str)
    solver.train()
    assert solver.epoch == 9


def test_stopping_in_an_epoch_and_going_on(blobs, capsys):
    class After(Callback):
        def on_step_end(self, solver):
            if solver.iteration == 7:
                solver.stop_training = "time is up."

    whole = solve(blobs, num_epochs=3)
    whole.train()
    solver = solve(blobs, callbacks=[After()], num_epochs=3, verbose=True, print_every=0)
    records = list(solver.epochs())
    assert [record["epoch"] for record in records] == [1]
    assert (solver.epoch, solver.iteration, solver.step_in_epoch) == (1, 7, 2)
    assert "Stopped in epoch 2, after step 7: time is up." in capsys.readouterr().out
    solver.train()
    assert solver.loss_history == whole.loss_history
    assert solver.val_acc_history == whole.val_acc_history


def test_stopping_at_the_last_step_of_an_epoch_ends_the_epoch(blobs):
    class After(Callback):
        def on_step_end(self, solver):
            solver.stop_training = solver.iteration == 5

    solver = solve(blobs, callbacks=[After()])
    solver.train()
    assert (solver.epoch, len(solver.history)) == (1, 1)


def test_a_loop_stops_a_training_too(blobs):
    solver = solve(blobs, num_epochs=9)
    for record in solver.epochs():
        solver.stop_training = record["epoch"] == 3
    assert solver.epoch == 3


def test_the_end_is_told_however_it_comes(blobs):
    class Failing(Callback):
        def on_step_end(self, solver):
            if solver.iteration == 3:
                raise RuntimeError("broken")

    diary = Diary()
    with pytest.raises(RuntimeError, match="broken"):
        solve(blobs, callbacks=[diary, Failing()]).train()
    assert diary.calls[-1] == ("end", 0, 3)
    diary = Diary()
    for _ in solve(blobs, callbacks=[diary]).epochs():
        break
    assert diary.calls[-2:] == [("epoch", 1, 5), ("end", 1, 5)]


def test_at_the_end_the_best_parameters_are_in_place(blobs):
    seen = []

    class End(Callback):
        def on_train_end(self, solver):
            accuracy = solver.check_accuracy(solver.X_val, solver.y_val)
            seen.append(accuracy == solver.best_val_acc)

    data = {**blobs, "y_val": (blobs["y_val"] + 1) % 3}  # the better it learns, the worse this goes
    solver = solve(data, callbacks=[End()])
    solver.train()
    assert solver.val_acc_history[-1] < solver.best_val_acc
    assert seen == [True]


def test_only_what_was_broken_off_is_called_again(blobs):
    calls = []

    class FailsOnce(Callback):
        fails = True

        def on_epoch_end(self, solver):
            calls.append(("fails", solver.epoch, solver.iteration))
            if self.fails:
                self.fails = False
                raise RuntimeError("broken")

    callbacks = [Diary(calls, "first "), FailsOnce(), Diary(calls, "last ")]
    solver = solve(blobs, callbacks=callbacks, num_epochs=1)
    with pytest.raises(RuntimeError, match="broken"):
        solver.train()
    del calls[:]
    assert [record["epoch"] for record in solver.epochs()] == [1]
    assert [name for name, _, _ in calls] == [
        "first begin",
        "last begin",
        "fails",
        "last epoch",
        "last end",
        "first end",
    ]


def test_what_a_callback_saves_goes_on_after_it(blobs, tmp_path):
    """Those after the one that saves are called when the file is taken up; the others are not."""
    calls = []

    def save(solver):
        solver.save_checkpoint(tmp_path / "run.npz")
        if solver.epoch == 1:
            raise KeyboardInterrupt

    def build():
        callbacks = [Diary(calls, "first "), save, Diary(calls, "last ")]
        return solve(blobs, callbacks=callbacks, num_epochs=1)

    with pytest.raises(KeyboardInterrupt):
        build().train()
    del calls[:]
    resumed = build()
    resumed.load_checkpoint(tmp_path / "run.npz")
    resumed.train()
    assert [name for name, _, _ in calls] == [
        "first begin",
        "last begin",
        "last epoch",
        "last end",
        "first end",
    ]


def test_the_built_in_ones_may_be_called_twice(blobs, tmp_path):
    """An interrupt may come when a callback has done its work, and before this is noted."""
    stop = functools.partial(patience, epochs=99)
    settings = dict(stop=stop, validate_every=2, checkpoint_name=tmp_path / "run")
    once, twice = solve(blobs, **settings), solve(blobs, **settings)
    twice.callbacks = [callback for callback in twice.callbacks for _ in range(2)]
    once.train()
    twice.train()
    for name in ("loss_history", "train_acc_history", "val_acc_history", "best_val_acc"):
        assert getattr(once, name) == getattr(twice, name)
    assert [r["loss"] for r in once.history] == [r["loss"] for r in twice.history]


def test_the_built_in_ones_in_the_users_list(blobs, tmp_path):
    stopping = EarlyStopping(functools.partial(patience, epochs=1))
    solver = solve(blobs, callbacks=[stopping, Checkpoint(tmp_path / "run.npz")], num_epochs=50)
    solver.train()
    assert solver.epoch < 50
    other = solve(blobs)
    other.load_checkpoint(tmp_path / "run.npz")
    assert other.epoch == solver.epoch


def test_a_checkpoint_removes_what_a_killed_process_left_of_it(blobs, tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left, other = (tmp_path / f".{stem}-{_this_process(dead.pid)}-x.npz" for stem in ("run", "other"))
    for path in (left, other):
        path.write_text("half")
    solve(blobs, checkpoint_name=tmp_path / "run", num_epochs=1).train()
    assert sorted(tmp_path.iterdir()) == sorted([other, tmp_path / "run.npz"])


def test_a_checkpoint_name_may_have_its_ending(blobs, tmp_path):
    for name in ("one", "two.npz"):
        solve(blobs, checkpoint_name=tmp_path / name, num_epochs=1).train()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.npz", "two.npz"]


@pytest.mark.parametrize(("shape", "unit"), [((1, 1, 5), "images/s"), ((5,), "examples/s")])
def test_the_bar_says_what_it_counts(shape, unit, blobs, capsys):
    data = {k: v.reshape(-1, *shape) if k.startswith("X") else v for k, v in blobs.items()}
    solve(data, progress=True, verbose=True, num_epochs=1).train()
    assert unit in capsys.readouterr().err


def test_the_bar_counts_examples_and_goes_on_where_it_was(blobs, capsys):
    bar = ProgressBar(show=True)
    solver = solve(blobs, callbacks=[bar], verbose=True, print_every=0, batch_size=30)
    counts = []
    solver.callbacks.append(lambda solver: counts.append((bar.bar.n, bar.bar.total)))
    for _ in solver.epochs():
        break
    assert bar.bar is None
    solver.train()
    assert counts == [(100, 200), (200, 200)]
    assert solver.print_line is print
    captured = capsys.readouterr()
    assert "(Epoch 2 / 2)" in captured.out
    assert "epoch 2/2" in captured.err


class Misspelt:
    def on_epoch_ends(self, solver):
        pass


WRONG = [
    (Diary, r"the callback Diary is a class, expected an object: Diary\(...\)"),
    (Misspelt(), r"has methods \['on_epoch_ends'\], expected some of .*Did you mean 'on_epoch_end'"),
    (7, "the callback 7 has methods"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_what_is_no_callback(blobs, wrong, message):
    with pytest.raises(TypeError, match=message):
        solve(blobs, callbacks=[wrong])
