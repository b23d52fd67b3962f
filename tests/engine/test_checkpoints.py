"""Checkpoints change nothing unless all of them is right."""

import copy
import json

import hypothesis.strategies as st
import numpy as np
import pytest
from handgrad import Solver
from handgrad.engine.archives import read_archive, write_archive
from handgrad.engine.checkpoints import as_json, described, last_epoch, load_params
from handgrad.models import FullyConnectedNet
from hypothesis import given

# ---------------------------------------------------------------------------- all or nothing


def solver_of(blobs, **settings):
    model = FullyConnectedNet(
        [4], 5, 3, weight_scale="kaiming", normalization="batchnorm", dropout=0.2, seed=0
    )
    options = dict(update_rule="adam", batch_size=20, num_epochs=2, verbose=False, workers=1, seed=0)
    return Solver(model, blobs, **{**options, **settings})


@pytest.fixture
def good(blobs, tmp_path):
    """A checkpoint that a training goes on from: its arrays, and its meta."""
    solver = solver_of(blobs)
    solver.train()
    solver.save_checkpoint(tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as file:
        arrays = dict(file)
    return arrays, json.loads(arrays.pop("meta").tobytes())


def everything(solver):
    """All of a solver and its model that loading may change, as bytes and plain values."""
    names = ("epoch", "iteration", "step_in_epoch", "due", "seed", "best_val_acc", "history")
    names += ("loss_history", "train_acc_history", "val_acc_history", "stop_training")
    arrays = [solver.model.params, solver.model.state, solver.best_params, solver.best_state]
    arrays += solver.optim_configs.values()
    plain = [copy.deepcopy(getattr(solver, name)) for name in names]
    return plain, [{k: (np.shape(v), np.asarray(v).tobytes()) for k, v in a.items()} for a in arrays]


def refuses(blobs, path, arrays, meta, match=""):
    """Loading it is refused with the file's name, and changes nothing."""
    write_archive(path, arrays, meta)
    solver = solver_of(blobs, num_epochs=1)
    solver.train()
    before = everything(solver)
    with pytest.raises(ValueError, match=rf"{path.name}: .*{match}"):
        solver.load_checkpoint(path)
    assert everything(solver) == before


def test_the_good_one_is_taken(blobs, tmp_path, good):
    write_archive(tmp_path / "c.npz", *good)
    solver = solver_of(blobs)
    solver.load_checkpoint(tmp_path / "c.npz")
    assert solver.epoch == 2
    assert last_epoch(tmp_path / "c.npz") == 2
    load_params(solver.model, tmp_path / "c.npz")


ARRAYS = [  # name, what becomes of it, words of the message
    ("optim/W1/m", None, "optim/W1/nonsense"),
    ("optim/W1/m", lambda a: a[:, :2], r"optim/W1/m has shape and dtype"),
    ("optim/W1/m", lambda a: a.astype(np.float64), "optim/W1/m"),
    ("best/W1", lambda a: a[:2], "best holds"),
    ("best/W1", None, "best holds"),
    ("best_state/running_mean1", lambda a: a[:2], "best_state holds"),
    ("state/running_mean1", lambda a: a[:2], "state holds"),
    ("state/running_var1", None, "state holds"),
    ("params/W1", lambda a: a.T, "holds parameters"),
    ("params/W1", lambda a: a.astype(np.float64), "params holds"),
    ("params/b2", None, "holds parameters"),
    ("loss_history", lambda a: a[:-1], "length of loss_history is 9"),
    ("loss_history", lambda a: a.astype(np.float32), "loss_history has shape"),
    ("loss_history", lambda a: a[:, None], "loss_history has shape"),
    ("loss_history", None, "loss_history"),
    ("state/seed", lambda a: a.astype(float), "state holds"),
]


@pytest.mark.parametrize(("name", "change", "match"), ARRAYS)
def test_wrong_arrays_change_nothing(blobs, tmp_path, good, name, change, match):
    arrays, meta = good
    array = arrays.pop(name)
    if change is not None:
        arrays[name] = change(array)
    elif name == "optim/W1/m":
        arrays["optim/W1/nonsense"] = array
        match = "unknown keys .*nonsense"
    refuses(blobs, tmp_path / "c.npz", arrays, meta, match)


@pytest.mark.parametrize("name", ["other", "params", "nonsense/W1", "optim/W9/m", "optim/m", "best/W9"])
def test_unknown_arrays_change_nothing(blobs, tmp_path, good, name):
    arrays, meta = good
    refuses(blobs, tmp_path / "c.npz", {**arrays, name: np.zeros(3)}, meta)


METAS = [  # keys that lead to the entry, what stands there instead
    (["format"], 3),
    (["format"], True),
    (["settings"], []),
    (["settings", "batch_size"], 21),
    (["optim"], []),
    (["optim", "W1/t"], "x"),
    (["optim", "W1/t"], None),
    (["optim", "W1/t"], -1),
    (["optim", "W1/t"], 2.5),
    (["optim", "W1/t"], float("nan")),
    (["optim", "W1/beta3"], 0.5),
    (["optim", "W9/t"], 0.5),
    (["optim", "W1"], 0.5),
    (["optim", "W1/m"], 0.5),
    (["epoch"], "2"),
    (["epoch"], 2.0),
    (["epoch"], -1),
    (["epoch"], True),
    (["iteration"], None),
    (["iteration"], 11),
    (["seed"], "0"),
    (["seed"], 1),
    (["step_in_epoch"], 99),
    (["due"], "on_epoch_end"),
    (["due"], ["on_epoch_ends", 0]),
    (["due"], ["on_epoch_end", -1]),
    (["due"], [["on_epoch_end"], 1]),
    (["best_val_acc"], None),
    (["best_val_acc"], float("nan")),
    (["best_val_acc"], 7),
    (["val_acc_history", 0], 10**400),
    (["history"], {}),
    (["history"], [1, 2]),
    (["history", 0], {}),
    (["history", 0, "loss"], "x"),
    (["history", 0, "train_acc"], None),
    (["train_acc_history"], 3),
    (["train_acc_history", 0], "x"),
    (["val_acc_history", 0], [0.5]),
    (["val_acc_history"], [0.5] * 4),
]


@pytest.mark.parametrize(("keys", "value"), METAS)
def test_wrong_entries_change_nothing(blobs, tmp_path, good, keys, value):
    arrays, meta = good
    where = meta
    for key in keys[:-1]:
        where = where[key]
    where[keys[-1]] = value
    refuses(blobs, tmp_path / "c.npz", arrays, meta)


def test_missing_entries_change_nothing(blobs, tmp_path, good):
    arrays, meta = good
    for key in meta:
        less = {k: v for k, v in meta.items() if k != key}
        refuses(blobs, tmp_path / "c.npz", arrays, less)
    for key in meta["settings"].keys() - {"clip_norm"}:  # which came later than format 2
        less = {k: v for k, v in meta["settings"].items() if k != key}
        refuses(blobs, tmp_path / "c.npz", arrays, {**meta, "settings": less}, "was trained with")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(data=st.data())
def test_whatever_stands_in_it_is_taken_whole_or_refused(data, tmp_path_factory):
    """A mutated checkpoint is refused by a ValueError and changes nothing, or training goes on."""
    rng = np.random.default_rng(7)
    y = np.arange(40) % 3
    X = rng.standard_normal((40, 5)).astype(np.float32)
    blobs = {"X_train": X, "y_train": y, "X_val": X[:9], "y_val": y[:9]}
    path = tmp_path_factory.mktemp("c") / "c.npz"
    source = solver_of(blobs, num_epochs=1)
    source.train()
    source.save_checkpoint(path)
    arrays, meta = read_archive(path)
    if data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(meta)))
        meta[key] = data.draw(JSON)
    else:
        name = data.draw(st.sampled_from(sorted(arrays)))
        shape = data.draw(st.sampled_from([(), (0,), (3,), (2, 3), arrays[name].shape]))
        dtype = data.draw(st.sampled_from(["f4", "f8", "i8", "u1", "?", "c8", ">f4", "f2"]))
        arrays[name] = np.zeros(shape, dtype)
    write_archive(path, arrays, meta)
    solver = solver_of(blobs)
    before = everything(solver)
    try:
        solver.load_checkpoint(path)
    except ValueError as refusal:
        words = str(refusal)
    else:
        words = str(path)
        solver.train()
        before = everything(solver)
    assert str(path) in words
    assert everything(solver) == before


# ---------------------------------------------------------------------------- files of format 1


def test_a_file_of_format_1_goes_on(blobs, tmp_path, good):
    """It has its losses in the meta, and knows fewer settings."""
    whole = solver_of(blobs, num_epochs=4)
    whole.train()
    arrays, meta = good
    meta["loss_history"] = arrays.pop("loss_history").tolist()
    for key in ("step_in_epoch", "due"):
        del meta[key]
    for key in ("augment", "views", "transform", "num_train_samples", "num_val_samples"):
        del meta["settings"][key]
    meta["format"] = 1
    write_archive(tmp_path / "c.npz", arrays, meta)
    resumed = solver_of(blobs, num_epochs=4, num_val_samples=20)
    resumed.load_checkpoint(tmp_path / "c.npz")
    resumed.num_val_samples = None
    resumed.train()
    assert resumed.loss_history == whole.loss_history
    assert resumed.val_acc_history == whole.val_acc_history
    refuses(
        blobs, tmp_path / "c.npz", arrays, {**meta, "loss_history": [0.5] * 9 + ["x"]}, "loss_history"
    )


# ---------------------------------------------------------------------------- parameters alone


def test_load_params_refuses_another_state_and_leaves_the_model(blobs, tmp_path, good):
    arrays, meta = good
    model = solver_of(blobs).model
    before = {name: p.copy() for name, p in model.params.items()}
    for group in ("state", "best_state"):
        wrong = {**arrays, f"{group}/running_mean1": np.zeros(3)}
        write_archive(tmp_path / "c.npz", wrong, meta)
        with pytest.raises(ValueError, match="c.npz: holds a state with "):
            load_params(model, tmp_path / "c.npz", best=group == "best_state")
    assert all(np.array_equal(p, before[name]) for name, p in model.params.items())


# ---------------------------------------------------------------------------- settings in words


def test_described():
    array = np.arange(3.0)
    assert described([np.sum, {"a": array}]) == described((np.sum, {"a": array.copy()}))
    assert described(array) != described(array + 1)
    assert described(array) != described(array.astype(np.float32))
    assert as_json({"a": (1, object())})["a"] == [1, "<object object>"]


def test_an_epoch_beyond_all_floats(blobs, good, tmp_path):
    """A schedule would overflow in the first step."""
    arrays, meta = good
    refuses(blobs, tmp_path / "c.npz", arrays, meta | {"epoch": 10**400}, "epoch is 1000")
