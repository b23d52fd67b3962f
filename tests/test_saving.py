"""Nets in files: what comes back is the same to the last bit, and no file runs code."""

import functools
import os
import tracemalloc
import zipfile

import handgrad
import hypothesis.strategies as st
import numpy as np
import pytest
from handgrad import Solver, models
from handgrad.engine.archives import read_archive, write_archive
from handgrad.layers import conv_backward, conv_forward, softmax_loss
from handgrad.models import (
    MODELS,
    Affine,
    AvgPool,
    BatchNorm,
    Conv,
    ConvNet,
    Dropout,
    FullyConnectedNet,
    GroupNorm,
    LayerNorm,
    LeakyReLU,
    LeNet5,
    MaxPool,
    Net,
    Pair,
    ReLU,
    Sigmoid,
    Tanh,
    ThreeLayerConvNet,
    TwoLayerNet,
    load,
)
from handgrad.solver import load_params
from hypothesis import given


def filters(shape, rng):
    return {"W": rng.standard_normal((3, shape[0], 3, 3)), "b": np.zeros(3)}


def scaled_forward(x, scale):
    return x * scale["by"], scale["by"]


def scaled_backward(dout, by):
    return dout * by


def shifted_loss(scores, y, by):
    return softmax_loss(scores + by, y)


CONV = Pair(conv_forward, conv_backward, filters, ({"stride": (1, 2), "pad": 1},), by_example=True)
SCALE = Pair(scaled_forward, scaled_backward, settings=({"by": np.float32(0.3)},))
OWN = {f.__name__: f for f in (filters, scaled_forward, scaled_backward, shifted_loss)}
IMAGES = [
    *(Conv(4, np.int64(3), pad="same"), BatchNorm(eps=1e-3), "relu", MaxPool(2), GroupNorm(2)),
    *(AvgPool(2, 1), Dropout(np.float32(0.3)), CONV, SCALE, Affine(4)),
]
ROWS = [
    *(Affine(6), LayerNorm(), LeakyReLU(0.2), Affine(5), Sigmoid(), Affine(5), Tanh(), ReLU()),
    *(BatchNorm(), Affine(4)),
]
NETS = {  # the net, for further settings
    "two": functools.partial(TwoLayerNet, 12, 7, 4, reg=0.1),
    "full": functools.partial(FullyConnectedNet, [7, 6], 12, 4, normalization="batchnorm", dropout=0.3),
    "lenet": functools.partial(LeNet5, (1, 16, 16), 4, activation="tanh"),
    "three": functools.partial(ThreeLayerConvNet, (2, 8, 8), 3, 5, 6, 4, loss="svm"),
    "conv": functools.partial(ConvNet, (3, "pool"), (5,), (2, 8, 8), 4, normalization="batchnorm"),
    "images": functools.partial(Net, IMAGES, (2, 8, 8), loss=functools.partial(shifted_loss, by=2.0)),
    "rows": functools.partial(Net, ROWS, 12, loss=functools.partial(softmax_loss, smoothing=0.1)),
}


def batch(net, N=9):
    rng = np.random.default_rng(3)
    return rng.standard_normal((N, *net.input_dim)), np.arange(N) % 4


def trained(make, **settings):
    """A net whose parameters, statistics and step have moved."""
    net = make(**settings)
    X, y = batch(net)
    Solver(net, {"X_train": X, "y_train": y}, batch_size=3, num_epochs=2, verbose=False, seed=0).train()
    return net


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
        assert a[name].dtype == b[name].dtype


def test_every_net_and_description_has_a_row():
    nets = [make(seed=0) for make in NETS.values()]
    assert set(MODELS.values()) <= {type(net) for net in nets}
    used = {type(description) for net in nets for description in net.descriptions}
    known = {c for name in models.__all__ if hasattr(c := getattr(models, name), "build")}
    assert used == {c for c in known if "sequence" not in c.__module__}  # see test_sequence_models


@pytest.mark.parametrize("dtype", ["float32", np.float64])
@pytest.mark.parametrize("name", NETS)
def test_there_and_back(tmp_path, name, dtype):
    net = trained(NETS[name], dtype=dtype, seed=5)
    X, y = batch(net)
    assert net.save(tmp_path / "net") == tmp_path / "net.npz"
    back = load(tmp_path / "net.npz", pairs=OWN)
    assert type(back) is type(net)
    assert repr(back) == repr(net)
    assert back.descriptions == net.descriptions
    assert (back.reg, back.dtype, back.seed, back.step) == (net.reg, net.dtype, net.seed, net.step)
    np.testing.assert_array_equal(back.loss(X), net.loss(X))
    same(back.params, net.params)
    same(back.state, net.state)
    loss, grads = net.loss(X, y)
    again, back_grads = back.loss(X, y)
    assert loss == again
    same(grads, back_grads)
    same(back.state, net.state)


def test_it_trains_on_bit_for_bit(tmp_path):
    whole = trained(NETS["full"], seed=5)
    whole.save(tmp_path / "net")
    part = handgrad.load(tmp_path / "net")
    X, y = batch(whole)
    losses = []
    for net in (whole, part):
        solver = Solver(net, {"X_train": X, "y_train": y}, batch_size=3, verbose=False, seed=1)
        solver.train()
        losses.append(solver.loss_history)
    assert losses[0] == losses[1]


def test_where_it_is_found(tmp_path):
    net = trained(NETS["two"], seed=0)
    net.save(tmp_path / "two.npz")
    assert handgrad.load is models.load
    assert "load" in dir(handgrad)  # so that a notebook completes it
    assert isinstance(Net.load(tmp_path / "two"), TwoLayerNet)
    assert isinstance(TwoLayerNet.load(tmp_path / "two"), TwoLayerNet)
    with pytest.raises(ValueError, match=r"two: holds a TwoLayerNet, expected a LeNet5\."):
        LeNet5.load(tmp_path / "two")
    with pytest.raises(AttributeError, match="has no attribute 'laod'"):
        handgrad.laod  # noqa: B018
    other = NETS["two"](seed=1)
    load_params(other, tmp_path / "two.npz")
    same(other.params, net.params)


def test_a_net_without_a_seed_draws_new_masks_again(tmp_path):
    net = NETS["full"](seed=None)
    net.save(tmp_path / "net")
    back = load(tmp_path / "net")
    assert (back.seed, back.step) == (net.seed, net.step)
    X, y = batch(net)
    assert back.loss(X, y)[0] == net.loss(X, y)[0] != back.loss(X, y)[0]


def test_what_it_has_learned_and_what_its_classes_are_called(tmp_path):
    net = Net([Affine(2)], 3, loss="mse", seed=0)
    X = np.ones((4, 3))
    net.loss(X, np.full((4, 2), 0.5))
    net.class_names = ("cat", "dög")
    net.save(tmp_path / "net")
    back = load(tmp_path / "net")
    assert back.class_names == ["cat", "dög"]
    np.testing.assert_array_equal(back.predict(X), net.predict(X))
    assert NETS["two"]().class_names is None


class Deep(Net):
    """A class of a user's that lists layers."""

    def __init__(self, depth):
        super().__init__([Affine(4)] * depth, 5)


class Loud(Net):
    """One that does more."""

    def loss(self, X, y=None):
        return super().loss(X, y)


def test_a_class_of_ones_own_is_a_net(tmp_path):
    net = Deep(3)
    net.save(tmp_path / "net")
    back = load(tmp_path / "net")
    assert type(back) is Net
    with pytest.raises(ValueError, match="holds a Net, expected a Deep; .* saved as a Net: Net.load"):
        Deep.load(tmp_path / "net")
    np.testing.assert_array_equal(back.loss(np.ones((2, 5))), net.loss(np.ones((2, 5))))


# ---------------------------------------------------------------------------- functions of the user's


def test_functions_that_are_missing_are_named(tmp_path):
    NETS["images"](seed=0).save(tmp_path / "net")
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the words are compared below
        load(tmp_path / "net", pairs={"filters": filters, "shifted_loss": shifted_loss})
    assert str(error.value) == (
        f"{tmp_path / 'net.npz'}: needs functions of your own; expected "
        "load(path, pairs={'scaled_backward': ..., 'scaled_forward': ...})."
    )
    for wrong in ([filters], {"filters": 3}):
        with pytest.raises(ValueError, match=r"load: pairs = .*, expected a dict {name: function}"):
            load(tmp_path / "net", pairs=wrong)


def refused_net(kind):
    if kind == "array":
        return Net([Pair(scaled_forward, scaled_backward, settings=({"by": np.ones(5)},))], 5)
    if kind == "same name":
        return Net([(lambda x: (x, 1), lambda dout, cache: dout), Affine(2)], 5)
    return Loud([Affine(2)], 5)


REFUSED = {
    "array": r"the net holds array\(\[1., 1.*; expected layers of handgrad",
    "same name": r"the net holds two functions called '<lambda>'",
    "class": r"Loud has \['loss'\] of its own; expected a class that adds nothing to Net but",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_written_says_so(tmp_path, kind):
    with pytest.raises(ValueError, match=f"net.npz: not written, because {REFUSED[kind]}"):
        refused_net(kind).save(tmp_path / "net")
    assert not list(tmp_path.iterdir())


def test_a_seed_that_is_no_int64_is_refused_and_not_pickled(tmp_path):
    with pytest.raises(ValueError, match="net.npz: not written, because state/seed has dtype object"):
        NETS["two"](seed=2**80).save(tmp_path / "net")


# ---------------------------------------------------------------------------- damaged and hostile files


def parts(tmp_path):
    """The arrays and the meta of a good file, and its path."""
    trained(NETS["full"], seed=5).save(tmp_path / "net")
    return *read_archive(tmp_path / "net.npz"), tmp_path / "net.npz"


def test_hostile_names_are_not_looked_up(tmp_path, monkeypatch):
    """Neither modules nor functions that are not layers, though they are handgrad's."""
    monkeypatch.setattr(os, "system", None)
    arrays, meta, path = parts(tmp_path)
    for kind in ("function", "own"):
        for name in ("os.system", "system", "eval", "written_whole", "remove_leftovers", "__import__"):
            layers = [
                {"layer": ["Pair", {"dict": [["forward", {kind: name}], ["backward", {kind: name}]]}]}
            ]
            net = {"dict": [[k, layers if k == "layers" else v] for k, v in meta["net"]["dict"]]}
            write_archive(path, arrays, {**meta, "net": net})
            with pytest.raises(
                ValueError, match=r"net.npz: (needs functions|not a whole model .*unknown)"
            ):
                load(path)


def entry(net, key):
    return next(pair for pair in net["dict"] if pair[0] == key)


WRONG = [  # key of the description, what stands there instead
    ("class", "Solver"),
    ("class", None),
    ("layers", []),
    ("layers", [{"layer": ["Affine", {"dict": [["width", 10**9]]}]}]),
    ("layers", [{"layer": ["Affine", {"dict": [["width", "x"]]}]}]),
    ("layers", [{"layer": ["Affine", {"dict": [["wide", 4]]}]}]),
    ("layers", [{"layer": ["LOSSES", {"dict": []}]}]),
    ("layers", [{"layer": []}]),
    ("layers", [{"a": 1, "b": 2}]),
    ("layers", [{"nonsense": 1}]),
    ("layers", 3),
    ("input_dim", 13),
    ("input_dim", {"tuple": [10**6, 10**6, 10**6]}),
    ("input_dim", "x"),
    ("loss", "nonsense"),
    ("dtype", "object"),
    ("dtype", "float7"),
    ("seed", -1),
    ("reg", "x"),
    ("class_names", 5),
    ("class_names", [1, 2]),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_wrong_descriptions_name_the_file(tmp_path, key, value):
    arrays, meta, path = parts(tmp_path)
    entry(meta["net"], key)[1] = value
    write_archive(path, arrays, meta)
    with pytest.raises(ValueError, match=r"net.npz: not a whole model \(.*written by Net.save\."):
        load(path)


@pytest.mark.parametrize("widths", [[10**6], [100] * 300])
def test_layers_that_are_not_in_the_file_take_no_memory(tmp_path, widths):
    net = Net([Affine(100), Affine(100), Affine(4)], 12, seed=0)
    path = net.save(tmp_path / "net")
    arrays, meta = read_archive(path)
    layers = [{"layer": ["Affine", {"dict": [["width", width]]}]} for width in widths]
    entry(meta["net"], "layers")[1] = layers
    write_archive(path, arrays, meta)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="there is no parameter of shape"):
            load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5e6


@pytest.mark.parametrize(
    "key", ["class", "layers", "input_dim", "loss", "class_names", "learned_numbers"]
)
def test_missing_entries_name_the_file(tmp_path, key):
    arrays, meta, path = parts(tmp_path)
    meta["net"]["dict"].remove(entry(meta["net"], key))
    write_archive(path, arrays, meta)
    with pytest.raises(ValueError, match=r"net.npz: not a whole model"):
        load(path)


ARRAYS = [
    ("params/W1", None),
    ("params/W1", lambda a: a.T),
    ("params/W1", lambda a: a.astype(int)),
    ("state/running_mean1", lambda a: a[:2]),
    ("state/seed", None),
    ("state/seed", lambda a: a.astype(float)),
]


@pytest.mark.parametrize(("name", "change"), ARRAYS)
def test_wrong_arrays_name_the_file(tmp_path, name, change):
    arrays, meta, path = parts(tmp_path)
    array = arrays.pop(name)
    write_archive(path, arrays if change is None else {**arrays, name: change(array)}, meta)
    with pytest.raises(ValueError, match=r"net.npz: not a whole model"):
        load(path)


def test_other_files_say_what_they_are(tmp_path):
    arrays, meta, path = parts(tmp_path)
    net = NETS["two"](seed=0)
    X, y = batch(net)
    Solver(net, {"X_train": X, "y_train": y}, batch_size=3).save_checkpoint(path)
    with pytest.raises(ValueError, match=r"is a checkpoint of a Solver, .*load_params\(model, path\)"):
        load(path)
    write_archive(path, arrays, {**meta, "model": "handgrad model 9"})
    with pytest.raises(ValueError, match=r"its format is 'handgrad model 9'; expected .* by Net.save"):
        load(path)
    write_archive(path, arrays, {**meta, "net": 3})
    with pytest.raises(ValueError, match=r"net.npz: not a whole model"):
        load(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"net.npz: not a whole model .*written by Net.save"):
        load(path)
    with pytest.raises(FileNotFoundError, match=r"none.npz"):
        load(tmp_path / "none")
    with pytest.raises(ValueError, match="not a checkpoint, expected"):
        Solver(net, {"X_train": X, "y_train": y}, batch_size=3).load_checkpoint(net.save(path))


@given(st.integers(0, 10**4), st.integers(1, 255))
def test_one_flipped_byte_is_noticed_or_harmless(tmp_path_factory, at, by):
    net = Net([Affine(3), BatchNorm(), ReLU(), Affine(2)], 2, seed=0)
    path = net.save(tmp_path_factory.mktemp("c") / "net")
    raw = bytearray(path.read_bytes())
    raw[at % len(raw)] ^= by
    path.write_bytes(raw)
    try:
        back = load(path)
    except ValueError as refusal:
        words = str(refusal)
    else:
        words = str(path)
        np.testing.assert_array_equal(back.loss(np.eye(2)), net.loss(np.eye(2)))
    assert str(path) in words


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["tuple", "dict", "partial", "layer", "function", "own"]), inner, max_size=1
        )
    ),
    max_leaves=6,
)


@given(data=st.data())
def test_whatever_stands_in_it_is_taken_or_refused(data, tmp_path_factory):
    net = Net([Affine(3), BatchNorm(), "relu", Dropout(0.2), Affine(2)], 2, seed=0)
    path = net.save(tmp_path_factory.mktemp("c") / "net")
    arrays, meta = read_archive(path)
    place = data.draw(st.sampled_from(meta["net"]["dict"]))
    place[data.draw(st.integers(0, 1))] = data.draw(JSON)
    write_archive(path, arrays, meta)
    try:
        back = load(path)
    except ValueError as refusal:
        words = str(refusal)
    else:
        words = str(path)
        assert back.loss(np.eye(2)).shape == (2, 2)
    assert str(path) in words


def test_a_failing_or_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    net = trained(NETS["two"], seed=0)
    path = net.save(tmp_path / "net")
    before = path.read_bytes()
    for error in (OSError(28, "No space left on device"), KeyboardInterrupt()):

        def fails(file, error=error, **arrays):
            file.write(b"half of it")
            raise error

        monkeypatch.setattr(np, "savez", fails)
        with pytest.raises(type(error)):
            net.save(path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]


def test_it_holds_no_pickle(tmp_path):
    path = trained(NETS["conv"], seed=0).save(tmp_path / "net")
    with zipfile.ZipFile(path) as archive:
        assert all(
            np.load(archive.open(n), allow_pickle=False).dtype != object for n in archive.namelist()
        )
