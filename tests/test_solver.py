"""The Solver: what the documents rely on, what the course's code got wrong, and resuming."""

import functools
import html
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import threadpoolctl
from handgrad import Solver, optim
from handgrad.engine.archives import read_archive, write_archive
from handgrad.engine.randomness import generator
from handgrad.models import ConvNet, FullyConnectedNet, TwoLayerNet
from handgrad.solver import DivergenceError, load_params


def net(**settings):
    options = dict(input_dim=5, hidden_dim=8, num_classes=3, weight_scale=0.1, seed=0)
    return TwoLayerNet(**{**options, **settings})


def solve(data, model=None, **settings):
    options = dict(
        optim_config={"learning_rate": 0.1}, batch_size=20, num_epochs=4, verbose=False, seed=0
    )
    return Solver(model or net(), data, **{**options, **settings})


def bn_net():
    """Everything that has state: batch norm, dropout."""
    return FullyConnectedNet(
        [8, 6], 5, 3, weight_scale="kaiming", normalization="batchnorm", dropout=0.2, seed=0
    )


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


# ---------------------------------------------------------------------------- learning


def test_it_learns_and_keeps_the_best(blobs):
    solver = solve(blobs, num_epochs=10)
    solver.train()
    assert solver.best_val_acc > 0.9
    assert solver.best_val_acc == max(solver.val_acc_history)
    assert solver.check_accuracy(blobs["X_val"], blobs["y_val"]) == solver.best_val_acc
    assert same(solver.model.params, solver.best_params)
    assert len(solver.loss_history) == solver.iteration == 50
    assert len(solver.train_acc_history) == len(solver.val_acc_history) == 11
    assert [record["epoch"] for record in solver.history] == list(range(1, 11))


@pytest.mark.parametrize("hidden_dims", [[100, 100], [100] * 4], ids=["three-layers", "five-layers"])
def test_over_fits_fifty_images(real_data, hidden_dims):
    """As the documents do, with 50 images of CIFAR-10 in 20 epochs."""
    from handgrad.data_utils import get_CIFAR10_data

    data = get_CIFAR10_data(num_training=50, num_validation=100, num_test=1, data_dir=real_data)
    model = FullyConnectedNet(hidden_dims, weight_scale="kaiming", seed=0)
    solver = Solver(
        model,
        data,
        num_epochs=20,
        batch_size=25,
        optim_config={"learning_rate": 2e-4},
        verbose=False,
        seed=0,
    )
    solver.train()
    assert solver.train_acc_history[-1] == 1.0


def test_the_courses_lines(blobs, capsys):
    solver = solve(blobs, verbose=True, num_epochs=2, print_every=4)
    solver.train()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"(Iteration 1 / 10) loss: {solver.loss_history[0]:f}"
    train, val = solver.train_acc_history[0], solver.val_acc_history[0]
    assert lines[1] == f"(Epoch 0 / 2) train acc: {train:f}; val_acc: {val:f}"
    assert [line.split(")")[0] for line in lines] == [
        "(Iteration 1 / 10",
        "(Epoch 0 / 2",
        "(Iteration 5 / 10",
        "(Epoch 1 / 2",
        "(Iteration 9 / 10",
        "(Epoch 2 / 2",
    ]


def test_quiet_in_a_pipe_and_when_told(blobs, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # as another test may import it
    solve(blobs).train()
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    solve(blobs, verbose=True).train()
    assert capsys.readouterr().err == ""


def test_the_bar_shows_what_it_should(blobs, capsys):
    solve(blobs, verbose=True, progress=True, num_epochs=1).train()
    shown = capsys.readouterr().err
    assert "epoch 1/1" in shown
    assert "examples/s" in shown
    assert "loss=" in shown
    assert shown.count("\r") < 20


def test_validation_is_not_needed(blobs):
    data = {k: v for k, v in blobs.items() if "train" in k}
    solver = solve(data, num_epochs=10)
    solver.train()
    assert solver.val_acc_history == []
    assert solver.history[-1]["val_acc"] is None
    assert solver.train_acc_history[-1] > 0.9


class Hopeless:
    """Wrong about every validation example: always says class 1."""

    def __init__(self):
        self.params = {"W": np.zeros((5, 3))}

    def loss(self, X, y=None):
        scores = np.tile([0.0, 1.0, 0.0], (len(X), 1))
        return scores if y is None else (1.0, {"W": np.ones((5, 3))})


def test_a_validation_accuracy_of_zero_loses_no_parameters(blobs):
    model = Hopeless()
    solve({**blobs, "y_val": np.zeros(50, int)}, model).train()
    assert model.params.keys() == {"W"}


def test_of_equal_accuracies_the_first_is_the_best(blobs):
    model = Hopeless()
    solver = solve(blobs, model)
    solver.train()
    assert len(set(solver.val_acc_history)) == 1
    np.testing.assert_allclose(model.params["W"], -0.1)  # after the first of twenty steps


# ---------------------------------------------------------------------------- batches


class Recorder(Hopeless):
    """Remembers the first column of what it is shown."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def loss(self, X, y=None):
        if y is not None:
            self.seen.append(X[:, 0].astype(int).tolist())
        return super().loss(X, y)


def numbered(n=53):
    X = np.arange(n, dtype=float)[:, None].repeat(5, axis=1)
    return {"X_train": X, "y_train": np.zeros(n, int), "X_val": X, "y_val": np.zeros(n, int)}


def test_each_epoch_is_a_new_permutation_with_the_last_part_kept():
    model = Recorder()
    solve(numbered(), model, num_epochs=2).train()
    assert [len(batch) for batch in model.seen] == [20, 20, 13] * 2
    first, second = np.concatenate(model.seen[:3]).tolist(), np.concatenate(model.seen[3:]).tolist()
    assert sorted(first) == sorted(second) == list(range(53))
    assert first != second
    assert first != sorted(first)


def test_replacement_is_the_courses_way():
    model = Recorder()
    solver = solve(numbered(), model, num_epochs=2, sampling="replacement")
    solver.train()
    assert [len(batch) for batch in model.seen] == [20, 20] * 2
    assert len(set(model.seen[0])) < 20
    solve(numbered(), model := Recorder(), num_epochs=2, sampling="replacement", batch_size=60).train()
    assert [len(batch) for batch in model.seen] == [60, 60]


def test_the_same_seed_repeats_bit_for_bit(blobs):
    runs = [solve(blobs, bn_net(), update_rule="adam", seed=seed) for seed in (3, 3, 4)]
    for solver in runs:
        solver.train()
    assert runs[0].loss_history == runs[1].loss_history != runs[2].loss_history
    assert same(runs[0].model.params, runs[1].model.params)


def test_a_run_without_a_seed_can_be_repeated_by_the_one_it_drew(blobs):
    first = solve(blobs, seed=None)
    first.train()
    again = solve(blobs, seed=first.seed)
    again.train()
    assert first.loss_history == again.loss_history


def test_numpys_global_generator_is_left_alone(blobs):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    solve(blobs, bn_net()).train()
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_every_step_has_a_dropout_mask_of_its_own(blobs):
    model = FullyConnectedNet([8], 5, 3, dropout=0.5, seed=0, weight_scale=0.1)
    steps = []
    original = model.loss

    def loss(X, y=None):
        if y is not None:
            steps.append(model.step)
        return original(X, y)

    model.loss = loss
    solve(blobs, model, num_epochs=2).train()
    assert steps == list(range(10))


def test_transform_and_augment(blobs):
    data = {**blobs, "transform": lambda X: X / 2}
    model = Recorder()
    given = []

    def augment(X, rng):
        given.append(rng.random())
        return 0 * X + 8

    solve(data, model, augment=augment).train()
    assert {v for batch in model.seen for v in batch} == {4}
    assert len(set(given)) == len(model.seen) == 20


# ---------------------------------------------------------------------------- rules and schedules


def test_views_are_added_up_to_predict(blobs):
    solver = solve(blobs, num_epochs=1, views=[lambda X: X, lambda X: 3 - 2 * X])
    X = blobs["X_val"]
    scores = solver.model.loss(X) + solver.model.loss(3 - 2 * X)
    predicted = solver.predict(X, batch_size=7)
    np.testing.assert_array_equal(predicted, scores.argmax(axis=1))
    assert (predicted != solver.model.loss(X).argmax(axis=1)).any()
    with pytest.raises(ValueError, match="views is empty"):
        solve(blobs, views=[])
    for wrong in (np.flip, [1]):
        with pytest.raises(ValueError, match="views = .* expected a list of functions"):
            solve(blobs, views=wrong)


def test_the_callers_config_is_not_written_to(blobs):
    config = {"learning_rate": 1e-2}
    solver = solve(blobs, update_rule="adam", optim_config=config)
    solver.train()
    assert config == {"learning_rate": 1e-2}
    m = [c["m"] for c in solver.optim_configs.values()]
    assert len({id(a) for a in m}) == len(solver.model.params)


def test_a_step_leaves_the_rules_old_state_as_it_was(blobs):
    """So a step that is broken off can be forgotten."""
    solver = solve(blobs, update_rule="adam", num_epochs=2)
    epochs = solver.epochs()
    next(epochs)
    held = {name: config["m"] for name, config in solver.optim_configs.items()}
    before = {name: m.copy() for name, m in held.items()}
    next(epochs)
    assert same(held, before)
    assert not same({name: config["m"] for name, config in solver.optim_configs.items()}, before)


def test_float32_stays_float32(blobs):
    solver = solve(blobs, update_rule="adam", optim_config={"learning_rate": np.float64(1e-2)})
    solver.train()
    assert {p.dtype for p in solver.model.params.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        ({"lr_decay": 0.5}, [0.1, 0.05, 0.025]),
        ({"schedule": functools.partial(optim.halving, every=2)}, [0.1, 0.1, 0.05]),
        ({"schedule": lambda step, epoch: 1 / (1 + epoch)}, [0.1, 0.05, 0.1 / 3]),
    ],
)
def test_learning_rates(blobs, settings, rates):
    solver = solve(blobs, num_epochs=3, **settings)
    solver.train()
    assert [record["learning_rate"] for record in solver.history] == pytest.approx(rates)


def test_a_loop_may_change_the_learning_rate(blobs):
    solver = solve(blobs, num_epochs=3, lr_decay=0.5)
    for _ in solver.epochs():
        solver.optim_config["learning_rate"] *= 10
    assert [record["learning_rate"] for record in solver.history] == pytest.approx([0.1, 0.5, 2.5])


def test_the_rules_default_rate_is_decayed_too(blobs):
    solver = solve(blobs, optim_config=None, lr_decay=0.5, num_epochs=2)
    solver.train()
    assert [record["learning_rate"] for record in solver.history] == [1e-2, 5e-3]


# ---------------------------------------------------------------------------- clipping


def norm_of(grads):
    return np.sqrt(sum(np.sum(np.square(g, dtype=float)) for g in grads.values()))


class Steep:
    """Records the gradients that a rule is given; its own are a hundred times those of a net."""

    def __init__(self):
        self.net, self.state = net(), {}
        self.params = self.net.params

    def loss(self, X, y=None):
        if y is None:
            return self.net.loss(X)
        loss, grads = self.net.loss(X, y)
        return loss, {name: 100 * g for name, g in grads.items()}


@pytest.mark.parametrize("trainable", [None, ["W2", "b2"]])
def test_the_gradient_of_all_that_is_trained_is_clipped(blobs, trainable):
    given = []

    def rule(w, dw, config):
        given.append(dw)
        return w - 0.1 * dw, config

    solver = solve(blobs, Steep(), update_rule=rule, clip_norm=0.5, trainable=trainable, num_epochs=2)
    solver.train()
    size = 2 if trainable else 4
    steps = [dict(enumerate(given[k : k + size])) for k in range(0, len(given), size)]
    assert len(steps) == 10
    np.testing.assert_allclose([norm_of(step) for step in steps], 0.5, rtol=1e-6)


@pytest.mark.parametrize("rule", optim.UPDATE_RULES)
def test_clipping_with_every_rule_and_resumed(blobs, tmp_path, rule):
    run = dict(update_rule=rule, optim_config={"learning_rate": 0.01}, clip_norm=0.1)
    whole = solve(blobs, bn_net(), **run)
    whole.train()
    first = solve(blobs, bn_net(), **run | dict(num_epochs=2, checkpoint_name=tmp_path / "run"))
    first.train()
    resumed = solve(blobs, bn_net(), **run)
    resumed.load_checkpoint(tmp_path / "run.npz")
    resumed.train()
    assert resumed.loss_history == whole.loss_history
    assert whole.loss_history != _without_clipping(blobs, rule)
    for other in (None, 0.2):
        with pytest.raises(ValueError, match="was trained with clip_norm = 0.1, but the Solver has"):
            solve(blobs, bn_net(), **run | dict(clip_norm=other)).load_checkpoint(tmp_path / "run.npz")


def _without_clipping(blobs, rule):
    solver = solve(blobs, bn_net(), update_rule=rule, optim_config={"learning_rate": 0.01})
    solver.train()
    return solver.loss_history


def test_clipping_that_never_clips_changes_no_bit(blobs):
    runs = [solve(blobs, bn_net(), clip_norm=clip_norm) for clip_norm in (None, 1e9)]
    for solver in runs:
        solver.train()
    assert runs[0].loss_history == runs[1].loss_history


def test_clipping_is_the_same_for_any_number_of_workers():
    rng = np.random.default_rng(0)
    data = {"X_train": rng.standard_normal((64, 1, 12, 12)), "y_train": np.arange(64) % 3}
    runs = []
    for workers in (1, 2):
        model = ConvNet((3, "pool"), (40,), (1, 12, 12), 3, seed=0)
        runs.append(solve(data, model, batch_size=32, num_epochs=2, clip_norm=0.2, workers=workers))
        runs[-1].train()
    assert runs[0].loss_history == runs[1].loss_history
    assert same(runs[0].model.params, runs[1].model.params)


def test_gradients_that_are_not_finite_diverge_also_when_clipped(blobs):
    class Broken(Steep):
        def loss(self, X, y=None):
            result = super().loss(X, y)
            return result if y is None else (result[0], {**result[1], "W1": np.full((5, 8), np.nan)})

    with pytest.raises(DivergenceError, match="The first parameter W1 that is not finite"):
        solve(blobs, Broken(), clip_norm=1.0).train()


def test_a_checkpoint_from_before_clipping_is_one_without_it(blobs, tmp_path):
    solver = solve(blobs)
    solver.save_checkpoint(tmp_path / "run.npz")
    arrays, meta = read_archive(tmp_path / "run.npz")
    del meta["settings"]["clip_norm"]
    write_archive(tmp_path / "run.npz", arrays, meta)
    solve(blobs).load_checkpoint(tmp_path / "run.npz")
    with pytest.raises(ValueError, match="was trained with clip_norm = None, but the Solver has 1.0"):
        solve(blobs, clip_norm=1.0).load_checkpoint(tmp_path / "run.npz")


# ---------------------------------------------------------------------------- control


def test_only_what_is_trainable_changes(blobs):
    model = net()
    before = {name: p.copy() for name, p in model.params.items()}
    solve(blobs, model, trainable=["W2", "b2"], num_epochs=2).train()
    changed = {name for name, p in model.params.items() if np.any(p != before[name])}
    assert changed == {"W2", "b2"}


def test_validation_between_epochs_keeps_the_best(blobs):
    looks = []

    class Watched(Solver):
        def check_accuracy(self, X, *args):
            if X is self.X_val:
                looks.append(self.iteration)
            return super().check_accuracy(X, *args)

    options = dict(batch_size=20, num_epochs=2, verbose=False, validate_every=3, seed=0)
    solver = Watched(net(), blobs, **options)
    solver.train()
    assert looks == [1, 3, 5, 6, 9, 10]
    assert len(solver.val_acc_history) == 3
    assert solver.check_accuracy(blobs["X_val"], blobs["y_val"]) == solver.best_val_acc
    with pytest.raises(ValueError, match="validate_every came, but data has no X_val"):
        solve({k: v for k, v in blobs.items() if "train" in k}, validate_every=3)


def test_epochs_is_an_iterator(blobs):
    solver = solve(blobs)
    for record in solver.epochs():
        assert record is solver.history[-1]
        if record["epoch"] == 2:
            break
    assert solver.epoch == 2
    assert same(solver.model.params, solver.best_params)


@pytest.mark.parametrize("reason", [True, "far enough"])
def test_stop(blobs, capsys, reason):
    solver = solve(blobs, verbose=True, print_every=0, stop=lambda s: s.epoch >= 2 and reason)
    solver.train()
    assert solver.epoch == 2
    assert ("Stopped after epoch 2: far enough" in capsys.readouterr().out) == isinstance(reason, str)


def test_training_on_goes_on_from_the_last_parameters(blobs):
    data = {**blobs, "y_val": (blobs["y_val"] + 1) % 3}  # the better it learns, the worse this goes
    whole = solve(data, bn_net(), update_rule="adam", num_epochs=6)
    whole.train()
    parts = solve(data, bn_net(), update_rule="adam", num_epochs=2)
    parts.train()
    assert not same(parts.model.params, parts.last[0])
    parts.num_epochs = 6
    parts.train()
    assert parts.loss_history == whole.loss_history


def test_a_checkpoint_of_training_on_holds_what_was_trained_on(blobs, tmp_path):
    run = dict(update_rule="adam", checkpoint_name=tmp_path / "run")
    whole = solve(blobs, bn_net(), update_rule="adam", num_epochs=6)
    whole.train()
    parts = solve(blobs, bn_net(), num_epochs=2, **run)
    parts.train()
    parts.num_epochs = 4
    parts.train()
    resumed = solve(blobs, bn_net(), num_epochs=6, update_rule="adam")
    resumed.load_checkpoint(tmp_path / "run.npz")
    resumed.train()
    assert resumed.loss_history == whole.loss_history
    assert same(resumed.model.params, whole.model.params)


def test_interrupted_by_the_keyboard(blobs):
    model = net()
    original = model.loss

    def loss(X, y=None):
        if y is not None and solver.iteration == 7:
            raise KeyboardInterrupt
        return original(X, y)

    solver = solve(blobs, model)
    model.loss = loss
    with pytest.raises(KeyboardInterrupt):
        solver.train()
    assert solver.iteration == 7
    assert model.loss(blobs["X_val"]).shape == (50, 3)


# ---------------------------------------------------------------------------- divergence


def test_divergence_stops_and_says_where(blobs):
    model = net(weight_scale=1.0)
    solver = solve(blobs, model, optim_config={"learning_rate": 1e30}, num_epochs=50)
    with pytest.raises(
        DivergenceError, match=r"iteration \d+ .*(W1|b1|W2|b2).*learning rate of 1e\+30"
    ):
        solver.train()
    assert not np.isfinite(solver.loss_history[-1])
    assert len(solver.loss_history) < 250
    assert all(np.all(np.isfinite(p)) for p in model.params.values())


def test_after_divergence_it_goes_on_at_the_same_step(blobs, tmp_path):
    """With a smaller rate, also from a checkpoint of then."""
    settings = dict(optim_config={"learning_rate": 1e30}, num_epochs=2)
    solver = solve(blobs, net(weight_scale=1.0), **settings)
    with pytest.raises(DivergenceError):
        solver.train()
    taken = solver.iteration
    assert len(solver.loss_history) == taken + 1
    with pytest.raises(DivergenceError, match=f"at iteration {taken + 1} "):
        solver.train()
    solver.save_checkpoint(tmp_path / "run.npz")
    resumed = solve(blobs, net(weight_scale=1.0), **settings)
    resumed.load_checkpoint(tmp_path / "run.npz")
    assert resumed.loss_history == solver.loss_history[:-1]
    assert np.all(np.isfinite(resumed.loss_history))


def test_divergence_blames_unscaled_inputs(blobs):
    data = {**blobs, "X_train": 1e6 * blobs["X_train"]}
    with pytest.raises(DivergenceError, match="scale the inputs"):
        solve(data, net(weight_scale=1.0), optim_config={"learning_rate": 1e25}, num_epochs=50).train()


def test_divergence_blames_the_data(blobs):
    data = {**blobs, "transform": lambda X: np.where(np.arange(len(X))[:, None] == 3, np.nan, X)}
    with pytest.raises(DivergenceError, match="batch itself is not finite"):
        solve(data).train()


# ---------------------------------------------------------------------------- checkpoints

RUN = dict(update_rule="adam", optim_config={"learning_rate": 0.02}, lr_decay=0.9)


@pytest.mark.parametrize("rule", optim.UPDATE_RULES)
def test_resumed_equals_uninterrupted(blobs, tmp_path, rule):
    run = dict(RUN, update_rule=rule)
    whole = solve(blobs, bn_net(), num_epochs=6, **run)
    whole.train()
    first = solve(blobs, bn_net(), num_epochs=3, checkpoint_name=tmp_path / "run", **run)
    first.train()
    resumed = solve(blobs, bn_net(), num_epochs=6, **run)
    resumed.load_checkpoint(tmp_path / "run.npz")
    resumed.train()
    assert resumed.loss_history == whole.loss_history
    assert resumed.val_acc_history == whole.val_acc_history
    assert resumed.best_val_acc == whole.best_val_acc
    assert same(resumed.model.params, whole.model.params)
    assert same(resumed.model.state, whole.model.state)
    for name, config in whole.optim_configs.items():
        assert same(config, resumed.optim_configs[name])


SCRIPT = """
    import sys
    import numpy as np
    from handgrad import Solver
    from handgrad.models import FullyConnectedNet

    rng = np.random.default_rng(7)
    y = np.arange(150) % 3
    X = (rng.standard_normal((150, 5)) + 3 * np.eye(3, 5)[y]).astype(np.float32)
    data = {"X_train": X[:100], "y_train": y[:100], "X_val": X[100:], "y_val": y[100:]}
    model = FullyConnectedNet([8, 6], 5, 3, weight_scale="kaiming", normalization="batchnorm",
                              dropout=0.2, seed=0)
    solver = Solver(model, data, update_rule="adam", optim_config={"learning_rate": 0.02},
                    lr_decay=0.9, batch_size=20, num_epochs=200000, verbose=False, seed=0,
                    checkpoint_name=sys.argv[1])
    for record in solver.epochs():
        print(record["epoch"], flush=True)
"""


def test_killed_and_resumed_equals_uninterrupted(blobs, tmp_path):
    """kill -9 at whatever moment: the checkpoint is whole, and the rest repeats bit for bit."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path / "run")], stdout=subprocess.PIPE
    )
    while int(process.stdout.readline()) < 5:
        pass
    process.kill()
    process.wait()
    process.stdout.close()
    resumed = solve(blobs, bn_net(), num_epochs=10**6, **RUN)
    resumed.load_checkpoint(tmp_path / "run.npz")
    assert resumed.epoch >= 5
    resumed.num_epochs = resumed.epoch + 2
    resumed.train()
    whole = solve(blobs, bn_net(), num_epochs=resumed.epoch, **RUN)
    whole.train()
    assert resumed.loss_history == whole.loss_history
    assert same(resumed.model.params, whole.model.params)


def test_a_failing_write_leaves_the_old_checkpoint(blobs, tmp_path, monkeypatch):
    solver = solve(blobs, **RUN)
    solver.train()
    path = tmp_path / "run.npz"
    solver.save_checkpoint(path)
    before = path.read_bytes()

    def full_disk(*args, **kwargs):
        args[0].write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="No space left"):
        solver.save_checkpoint(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_load_params_takes_the_best_or_the_last(blobs, tmp_path):
    solver = solve(blobs, bn_net(), **RUN)
    solver.train()
    solver.save_checkpoint(tmp_path / "run.npz")
    model = bn_net()
    load_params(model, tmp_path / "run.npz")
    np.testing.assert_array_equal(model.loss(blobs["X_val"]), solver.model.loss(blobs["X_val"]))
    load_params(model, tmp_path / "run.npz", best=False)
    assert same(model.params, solver.last[0])
    with pytest.raises(ValueError, match="holds parameters"):
        load_params(net(), tmp_path / "run.npz")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (dict(update_rule="sgd"), "was trained with update_rule = 'adam', but the Solver has 'sgd'"),
        (dict(optim_config={"learning_rate": 0.5}), "was trained with optim_config"),
        (dict(lr_decay=0.5), "was trained with schedule"),
        (dict(batch_size=10), "was trained with batch_size = 20"),
        (dict(seed=5), "was trained with seed = 0"),
        (dict(model="net"), "expected a checkpoint of the same model"),
    ],
)
def test_checkpoints_of_other_runs_are_refused(blobs, tmp_path, other, message):
    solver = solve(blobs, bn_net(), **RUN)
    solver.save_checkpoint(tmp_path / "run.npz")
    model = net() if other.pop("model", None) else bn_net()
    stranger = solve(blobs, model, **{**RUN, **other})
    before = {name: p.copy() for name, p in model.params.items()}
    with pytest.raises(ValueError, match=message):
        stranger.load_checkpoint(tmp_path / "run.npz")
    assert same(model.params, before)


def test_a_solver_without_a_seed_takes_the_checkpoints(blobs, tmp_path):
    solver = solve(blobs, **RUN)
    solver.save_checkpoint(tmp_path / "run.npz")
    other = solve(blobs, seed=None, **RUN)
    other.load_checkpoint(tmp_path / "run.npz")
    assert other.seed == 0


# ---------------------------------------------------------------------------- what it refuses


def broken(name, value):
    return lambda data: {**data, name: value(data)}


DATA_ERRORS = [
    (lambda d: {k: v for k, v in d.items() if k != "y_train"}, r"data has no \['y_train'\]"),
    (lambda d: {k: v for k, v in d.items() if k != "y_val"}, r"data has no \['y_val'\]"),
    (broken("y_train", lambda d: d["y_train"][:-1]), "X_train has 100 examples and y_train the shape"),
    (broken("X_train", lambda d: d["X_train"][:0]), "X_train has 0 examples"),
    (broken("y_train", lambda d: d["y_train"].astype(float)), "dtype float64, expected integers"),
    (broken("y_val", lambda d: d["y_val"] - 1), r"y_val\[2\] = -1, but the model has 3 classes"),
    (broken("y_train", lambda d: d["y_train"] + 1), r"y_train\[2\] = 3, but the model has 3 classes"),
    (
        broken("X_train", lambda d: np.where(d["X_train"] == d["X_train"][7, 2], np.nan, d["X_train"])),
        "X_train.7.",
    ),
    (broken("X_val", lambda d: d["X_val"] + np.inf), r"X_val\[0\] holds NaN or infinity"),
    (broken("X_train", lambda d: d["X_train"][:, :4]), r"X has shape \(1, 4\), expected \(N, 5\)"),
]


@pytest.mark.parametrize(("spoil", "message"), DATA_ERRORS)
def test_bad_data_is_refused_before_training(blobs, spoil, message):
    with pytest.raises(ValueError, match=message):
        solve(spoil(blobs))


SETTING_ERRORS = [
    (
        dict(num_epoch=3),
        TypeError,
        r"unknown keyword arguments \['num_epoch'\].*Did you mean 'num_epochs'",
    ),
    (dict(update_rule="np"), ValueError, "unknown update_rule 'np'"),
    (dict(update_rule="sgd_momntum"), ValueError, "Did you mean 'sgd_momentum'"),
    (dict(optim_config={"learning_rat": 1.0}), ValueError, "Did you mean 'learning_rate'"),
    (dict(optim_config={"learning_rate": np.ones(3)}), ValueError, "expected one number for each key"),
    (dict(batch_size=101), ValueError, "batch_size = 101, but there are 100 training examples"),
    (dict(trainable=["W9"]), ValueError, "unknown names in trainable"),
    (dict(validate_every=0), ValueError, "validate_every = 0"),
    (dict(batch_size=0), ValueError, "batch_size = 0, expected a whole number from 1 up"),
    (dict(num_epochs=1.5), ValueError, "num_epochs = 1.5, expected a whole number"),
    (dict(sampling="replace"), ValueError, "Did you mean 'replacement'"),
    (dict(lr_decay=0), ValueError, "lr_decay = 0, expected a number in"),
    (dict(clip_norm=0), ValueError, r"clip_norm = 0, expected a number in \(0, inf"),
    (dict(clip_norm="1"), ValueError, "clip_norm = '1', expected a number in"),
    (dict(max_grad_norm=1.0), TypeError, "Did you mean 'clip_norm'"),
    (dict(lr_decay=0.9, schedule=optim.constant), ValueError, "both lr_decay and schedule"),
]


@pytest.mark.parametrize(("settings", "error", "message"), SETTING_ERRORS)
def test_bad_settings_are_refused(blobs, settings, error, message):
    with pytest.raises(error, match=message):
        solve(blobs, **settings)


def test_check_accuracy(blobs):
    solver = solve(blobs, Hopeless())
    assert solver.check_accuracy(blobs["X_train"], blobs["y_train"], batch_size=7) == pytest.approx(
        0.33
    )
    assert 0 < solver.check_accuracy(blobs["X_train"], blobs["y_train"], num_samples=10) < 1
    with pytest.raises(ValueError, match=r"X has 100 examples and y the shape \(99,\)"):
        solver.check_accuracy(blobs["X_train"], blobs["y_train"][:99])
    assert solver.predict(blobs["X_train"][:0]).shape == (0,)


def test_lists_are_predicted_and_measured_as_arrays(blobs):
    solver, X, y = solve(blobs), blobs["X_val"], blobs["y_val"]
    np.testing.assert_array_equal(solver.predict(X.tolist()), solver.predict(X))
    accuracies = [solver.check_accuracy(*a, num_samples=9) for a in ((X, y), (X.tolist(), y.tolist()))]
    assert accuracies[0] == accuracies[1]


MEASURED_WRONG = [  # what to change of X, y and the numbers, what the message says
    (lambda X, y: (X, y[:, None]), {}, r"y has shape \(50, 1\), expected integers .*try y\[..., 0\]"),
    (lambda X, y: (X, y.astype(str)), {}, "y has dtype <U"),
    (lambda X, y: (X, y + 0.5), {}, "y has dtype float64"),
    (lambda X, y: (iter(X), y), {}, "X is a .*iterator.*, expected an array"),
    (lambda X, y: (X, 1), {}, "expected as many of both"),
    (
        lambda X, y: (X, y),
        dict(batch_size=0),
        "check_accuracy: batch_size = 0, expected a whole number",
    ),
    (lambda X, y: (X, y), dict(batch_size=-1), "batch_size = -1, expected a whole number from 1"),
    (lambda X, y: (X, y), dict(num_samples=0), "num_samples = 0, expected a whole number from 1"),
    (lambda X, y: (X, y), dict(num_samples=2.5), "num_samples = 2.5, expected a whole number from 1"),
]


@pytest.mark.parametrize(("change", "numbers", "message"), MEASURED_WRONG)
def test_what_cannot_be_measured_is_refused(blobs, change, numbers, message):
    with pytest.raises(ValueError, match=message):
        solve(blobs).check_accuracy(*change(blobs["X_val"], blobs["y_val"]), **numbers)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5])
def test_predict_takes_whole_batches_only(blobs, batch_size):
    with pytest.raises(ValueError, match=f"Solver.predict: batch_size = {batch_size}, expected"):
        solve(blobs).predict(blobs["X_val"], batch_size)


# ---------------------------------------------------------------------------- rules as functions


def lion(w, dw, config):
    """A rule as a user writes it, with state that is no array, too."""
    config["steps"] = config.get("steps", 0) + 1
    m = config.get("m", np.zeros_like(w))
    config["m"] = 0.9 * m + 0.1 * dw
    return w - config.get("learning_rate", 0.01) * np.sign(config["m"]), config


def test_a_rule_may_be_a_function(blobs, tmp_path):
    run = dict(update_rule=lion, optim_config={"learning_rate": 0.01}, lr_decay=0.9)
    whole = solve(blobs, num_epochs=4, **run)
    whole.train()
    assert whole.history[-1]["loss"] < whole.history[0]["loss"]
    assert whole.optim_configs["W1"]["steps"] == whole.iteration
    assert [record["learning_rate"] for record in whole.history[:2]] == pytest.approx([0.01, 0.009])
    first = solve(blobs, num_epochs=2, checkpoint_name=tmp_path / "run", **run)
    first.train()
    resumed = solve(blobs, num_epochs=4, **run)
    resumed.load_checkpoint(tmp_path / "run.npz")
    resumed.train()
    assert resumed.loss_history == whole.loss_history
    assert same(resumed.optim_configs["W1"], whole.optim_configs["W1"])
    with pytest.raises(ValueError, match="was trained with update_rule = .*lion"):
        solve(blobs).load_checkpoint(tmp_path / "run.npz")


def test_a_function_of_the_table_is_what_its_name_is(blobs):
    runs = [solve(blobs, update_rule=rule, optim_config=None) for rule in ("adam", optim.adam)]
    for solver in runs:
        solver.train()
    assert runs[0].loss_history == runs[1].loss_history
    assert runs[1].update_rule == "adam"
    assert runs[1].history[0]["learning_rate"] == 1e-3
    with pytest.raises(ValueError, match="Did you mean 'beta[12]'"):
        solve(blobs, update_rule=optim.adam, optim_config={"beta": 0.9})


WRONG_RULES = [
    (lambda w, dw, config: w - dw, "gave a ndarray for W1, expected next_w, config"),
    (lambda w, dw, config: (w, None), "expected next_w, config"),
    (lambda w, dw, config: (w.sum(axis=0), config), r"gave W1 the shape \(8,\), expected \(5, 8\)"),
]


@pytest.mark.parametrize(("rule", "message"), WRONG_RULES)
def test_what_a_rule_gives_is_checked(blobs, rule, message):
    with pytest.raises((TypeError, ValueError), match=message):
        solve(blobs, update_rule=rule).train()


def test_a_model_without_a_gradient_is_told_so(blobs):
    model = net()
    original = model.loss

    def loss(X, y=None):
        result = original(X, y)
        return result if y is None else (result[0], {"W1": result[1]["W1"]})

    model.loss = loss
    with pytest.raises(ValueError, match=r"gradients of \['W1'\], but none of \['b1', 'W2', 'b2'\]"):
        solve(blobs, model).train()


GRADIENTS = {"W": np.zeros((5, 3))}


class Scripted:
    """A model of a user's that gives what it is told to give."""

    def __init__(self, scores=None, result=(1.0, GRADIENTS)):
        self.params, self.scores, self.result = dict(GRADIENTS), scores, result

    def loss(self, X, y=None):
        if y is not None:
            return self.result
        return X[:, :3] if self.scores is None else self.scores(X)


SCRIPTS = [  # what a model gives, what the message says
    (dict(scores=lambda X: 3.0), r"model.loss\(X\) gave a float of shape \(\) for 1 example, expected"),
    (dict(scores=lambda X: X[:0]), r"gave a ndarray of shape \(0, 5\) for 1 example"),
    (dict(scores=lambda X: (X, None)), "gave a tuple .* expected an array of scores"),
    (dict(result=1.0), "model.loss gave a float, expected a loss and a dict of gradients"),
    (dict(result=(1.0,)), "model.loss gave 1 value, expected a loss and a dict"),
    (dict(result=(1.0, GRADIENTS, None)), "model.loss gave 3 values, expected a loss and a dict"),
    (
        dict(result=(np.ones(1), GRADIENTS)),
        r"model.loss gave a loss of shape \(1,\), expected a number",
    ),
    (dict(result=(1.0, [GRADIENTS["W"]])), "model.loss gave gradients in a list, expected a dict"),
    (
        dict(result=(1.0, {"W": np.zeros((3, 5))})),
        r"model.loss gave W a gradient of shape \(3, 5\), expected \(5, 3\)",
    ),
]


@pytest.mark.parametrize(("script", "message"), SCRIPTS)
def test_what_a_model_of_ones_own_gives_is_checked(blobs, script, message):
    with pytest.raises((TypeError, ValueError), match=message):
        solve(blobs, Scripted(**script)).train()


def test_a_model_of_ones_own_that_gives_what_it_should(blobs):
    solver = solve(blobs, Scripted())
    solver.train()
    assert set(solver.loss_history) == {1.0}


# ---------------------------------------------------------------------------- mistakes of beginners

BEGINNERS = [  # keyword arguments, what the message says
    (dict(learning_rate=1e-3), r"expected optim_config={'learning_rate': 0.001}"),
    (dict(lr=1e-3), r"expected optim_config={'learning_rate': 0.001}"),
    (dict(momentum=0.9), r"expected optim_config={'momentum': 0.9}"),
    (dict(least_ndim=2), r"expected optim_config={'least_ndim': 2}"),
    (dict(X_val=1), r"expected one dict as `data`: {'X_train': X"),
    (dict(optimizer="adam"), "Did you mean 'update_rule'"),
    (dict(epochs=3), "Did you mean 'num_epochs'"),
    (dict(optim_config=0.1), "optim_config = 0.1, expected a dict such as"),
    (dict(schedule="cosine"), "schedule = 'cosine', expected a function"),
    (dict(augment="flip"), "augment = 'flip', expected a function"),
    (dict(stop=5), r"stop = 5, expected a function stop\(solver\)"),
    (dict(callbacks=print), "callbacks = .*expected a list"),
    (
        dict(update_rule=lion, lr_decay=0.9, optim_config=None),
        "the learning rate of .*lion is not known",
    ),
    (
        dict(update_rule=lion, schedule=optim.constant, optim_config={}),
        "is not known; expected optim_config",
    ),
    (dict(num_train_samples=0), "num_train_samples = 0, expected a whole number from 1"),
    (dict(num_val_samples=0.5), "num_val_samples = 0.5, expected a whole number from 1"),
    (dict(print_every=-1), "print_every = -1"),
    (dict(seed="x"), "seed = 'x', expected a whole number from 0"),
    (dict(batch_size=True), "batch_size = True"),
]


@pytest.mark.parametrize(("settings", "message"), BEGINNERS)
def test_beginners_are_told_where_things_go(blobs, settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        solve(blobs, **settings)


def test_a_class_is_no_model_and_arrays_are_no_data(blobs):
    X, y = blobs["X_train"], blobs["y_train"]
    rows = [
        ((TwoLayerNet, blobs), {}, r"the class TwoLayerNet, expected a model: TwoLayerNet\(...\)"),
        ((blobs, net()), {}, "model is a dict, .*Are model and data swapped"),
        ((len, blobs), {}, "model is a builtin_function_or_method, expected an object with `params`"),
        ((net(), (X, y)), {}, "data came as tuple; expected one dict"),
        ((net(), X, y), {}, "data came as ndarray, ndarray; expected one dict"),
        ((net(),), {}, "data came as NoneType; expected one dict"),
        ((net(),), dict(X_train=X, y_train=y), "Images and labels come together; expected one dict"),
        ((net(), {"X": X, "y": y}), {}, r"data has no \['X_train', 'y_train'\]; it holds \['X', 'y'\]"),
        ((net(), {**blobs, "X_train": X.astype(str)}), {}, "X_train has dtype <U"),
        ((net(), {**blobs, "transform": 255}), {}, "transform = 255, expected a function"),
    ]
    for args, settings, message in rows:
        with pytest.raises((TypeError, ValueError), match=message):
            Solver(*args, **settings)


def test_repr_says_what_it_will_do(blobs):
    text = repr(solve(blobs, update_rule="adam", lr_decay=0.9, num_epochs=7))
    for part in (
        "TwoLayerNet with 75 parameters",
        "100 examples, 50 to validate",
        "adam, learning_rate 0.1",
        "schedule epoch_decay, factor 0.9;",
        "7 epochs of 5 steps, 20 examples each",
        "0 epochs and 0 steps done",
    ):
        assert part in text


def test_a_schedule_is_told_in_words(blobs):
    class Own:
        def __call__(self, step, epoch):
            return 1.0

    after = functools.partial(optim.cosine, steps=9)
    warmup = functools.partial(optim.linear_warmup, steps=5, then=after)
    assert "schedule linear_warmup, steps 5, then cosine, steps 9" in repr(
        solve(blobs, schedule=warmup)
    )
    assert "schedule Own;" in repr(solve(blobs, schedule=Own()))


def test_in_a_notebook_a_solver_is_what_it_says_and_its_epochs(blobs):
    solver = solve(blobs, num_epochs=22, clip_norm=2.0)
    page = solver._repr_html_()
    for fact in repr(solver).removeprefix("Solver: ").split(";\n  "):
        assert f"<td>{html.escape(fact)}</td>" in page
    assert "clip_norm 2" in page
    assert page.count("<table>") == 1
    solver.train()
    page = solver._repr_html_()
    assert page.count("<table>") == 2
    assert "<th>epoch</th><th>loss</th><th>train_acc</th><th>val_acc</th>" in page
    assert "<caption>the last 20 epochs</caption>" in page
    assert "<td>22</td>" in page
    assert f"<td>{solver.history[-1]['loss']:.4g}</td>" in page
    assert "<td>2</td><td>" not in page


# ---------------------------------------------------------------------------- settings of the process


def test_a_loop_over_epochs_finds_the_process_as_it_was(blobs):
    """Two iterators, taken in turn; the first ends first."""
    blas = lambda: [lib["num_threads"] for lib in threadpoolctl.threadpool_info()]  # noqa: E731
    before = np.geterr(), blas()
    one, two = solve(blobs, num_epochs=2), solve(blobs, num_epochs=4)
    first, second = one.epochs(), two.epochs()
    for _ in range(2):
        next(first)
        assert (np.geterr(), blas()) == before
        next(second)
        assert (np.geterr(), blas()) == before
    assert next(first, None) is None
    assert (np.geterr(), blas()) == before
    next(second)
    assert (np.geterr(), blas()) == before
    assert len(list(second)) == 1
    assert (np.geterr(), blas()) == before
    alone = solve(blobs, num_epochs=4)
    alone.train()
    assert alone.loss_history == two.loss_history


def test_augmentation_knows_its_step(blobs):
    """Its generator depends on the step alone, so a step that is taken again draws the same."""
    drawn = []
    solver = solve(blobs, num_epochs=1, augment=lambda X, rng: drawn.append(rng.random()) or X)
    solver.train()
    again = [generator(0, "augmentation", step).random() for step in range(5)]
    assert drawn == again


OTHER_SETTINGS = [
    dict(augment=lambda X, rng: X),
    dict(views=[np.negative]),
    dict(num_train_samples=7),
    dict(num_val_samples=7),
    dict(transform=np.negative),
    dict(views=[functools.partial(np.multiply, np.arange(5))]),
]


@pytest.mark.parametrize("other", OTHER_SETTINGS)
def test_other_augmentation_views_and_samples_are_another_run(blobs, tmp_path, other):
    path, other = tmp_path / "run.npz", dict(other)
    data = {**blobs, "transform": other.pop("transform")} if "transform" in other else blobs
    first = solve(data, **other)
    first.save_checkpoint(path)
    solve(data, **other).load_checkpoint(path)
    with pytest.raises(
        ValueError, match=r"was trained with (augment|views|num_|transform).*same settings"
    ):
        solve(blobs).load_checkpoint(path)


def test_settings_that_bind_arrays_are_told_apart(blobs, tmp_path):
    one, two = (functools.partial(np.multiply, np.full(5, scale)) for scale in (1.0, 2.0))
    solve(blobs, views=[one]).save_checkpoint(tmp_path / "run.npz")
    solve(blobs, views=[one]).load_checkpoint(tmp_path / "run.npz")
    with pytest.raises(ValueError, match="was trained with views"):
        solve(blobs, views=[two]).load_checkpoint(tmp_path / "run.npz")


def test_the_names_of_classes_go_to_the_model(blobs):
    model = TwoLayerNet(5, 6, 3, seed=0)
    Solver(model, {**blobs, "class_names": ("ant", "bee", "cat")})
    assert model.class_names == ["ant", "bee", "cat"]
    Solver(model, blobs)
    assert model.class_names == ["ant", "bee", "cat"]
