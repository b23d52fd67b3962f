"""A student's function in the place of handgrad's: in nets, sandwiches and the Solver."""

import sys
import types

import handgrad.layers
import numpy as np
import pytest
from handgrad.engine import passes

MINE = """
import numpy as np

def affine_forward(x, w, b):
    return x.reshape(len(x), -1).dot(w) + b, (x, w, b)

def affine_backward(dout, cache):
    x, w, b = cache
    return dout.dot(w.T).reshape(x.shape), x.reshape(len(x), -1).T.dot(dout), dout.sum(axis=0)

def relu_forward(x):
    return np.maximum(0, x), x

def relu_backward(dout, cache):
    return dout * (cache > 0)

def dropout_forward(x, dropout_param):
    p, mode = dropout_param['p'], dropout_param['mode']
    if 'seed' in dropout_param:
        np.random.seed(dropout_param['seed'])
    mask = (np.random.rand(*x.shape) < p) / p if mode == 'train' else None
    return (x * mask if mode == 'train' else x), (dropout_param, mask)

def dropout_backward(dout, cache):
    dropout_param, mask = cache
    return dout * mask if dropout_param['mode'] == 'train' else dout

def batchnorm_forward(x, gamma, beta, bn_param):
    eps, momentum = bn_param.get('eps', 1e-5), bn_param.get('momentum', 0.9)
    mean, var = bn_param.get('running_mean'), bn_param.get('running_var')
    if bn_param['mode'] == 'train':
        mean, var = x.mean(axis=0), x.var(axis=0)
        for key, new in (('running_mean', mean), ('running_var', var)):
            bn_param[key] = momentum * bn_param.get(key, np.zeros_like(new)) + (1 - momentum) * new
    xhat = (x - mean) / np.sqrt(var + eps)
    return gamma * xhat + beta, (xhat, gamma, np.sqrt(var + eps))

def batchnorm_backward_alt(dout, cache):
    xhat, gamma, deviation = cache
    dxhat = dout * gamma
    dx = (dxhat - dxhat.mean(axis=0) - xhat * (dxhat * xhat).mean(axis=0)) / deviation
    return dx, (dout * xhat).sum(axis=0), dout.sum(axis=0)

def conv_forward_naive(x, w, b, conv_param):
    s, p = conv_param['stride'], conv_param['pad']
    xp = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    F, C, HH, WW = w.shape
    N, _, H, W = x.shape
    out = np.zeros((N, F, 1 + (H + 2 * p - HH) // s, 1 + (W + 2 * p - WW) // s))
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            window = xp[:, None, :, i * s:i * s + HH, j * s:j * s + WW]
            out[:, :, i, j] = (window * w).sum(axis=(2, 3, 4)) + b
    return out, (x, w, b, conv_param)

def conv_backward_naive(dout, cache):
    x, w, b, conv_param = cache
    s, p = conv_param['stride'], conv_param['pad']
    xp = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    dxp, dw = np.zeros_like(xp), np.zeros_like(w)
    for n, f, i, j in np.ndindex(dout.shape):
        rows, columns = slice(i * s, i * s + w.shape[2]), slice(j * s, j * s + w.shape[3])
        dxp[n, :, rows, columns] += dout[n, f, i, j] * w[f]
        dw[f] += dout[n, f, i, j] * xp[n, :, rows, columns]
    return dxp[:, :, p:p + x.shape[2], p:p + x.shape[3]], dw, dout.sum(axis=(0, 2, 3))

def max_pool_backward_naive(dout, cache):
    x, pool_param = cache
    H, W, s = pool_param['pool_height'], pool_param['pool_width'], pool_param['stride']
    dx = np.zeros_like(x)
    for n, c, i, j in np.ndindex(dout.shape):
        window = x[n, c, i * s:i * s + H, j * s:j * s + W]
        dx[n, c, i * s:i * s + H, j * s:j * s + W] += dout[n, c, i, j] * (window == window.max())
    return dx

def softmax_loss(x, y):
    p = np.exp(x - x.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    right = np.arange(len(y)), y
    loss = -np.log(p[right]).mean()
    p[right] -= 1
    return loss, p / len(y)

def sgd(w, dw, config=None):
    config = config or {}
    w -= config.setdefault('learning_rate', 1e-2) * dw
    return w, config

def helper(x):
    return x
"""
DENSE = "FullyConnectedNet([6, 5], 12, 3, dtype=np.float64, weight_scale=0.3, {more})"
CONV = "ThreeLayerConvNet((2, 6, 6), 3, 3, 5, 3, weight_scale=0.3, dtype=np.float64)"
RIGHT = [
    (("affine_forward",), DENSE, ""),
    (("affine_backward",), DENSE, "reg=0.3"),
    (("relu_forward",), DENSE, ""),
    (("relu_backward",), DENSE, ""),
    (("affine_forward", "affine_backward", "relu_backward"), DENSE, "normalization='layernorm'"),
    (("softmax_loss",), DENSE, "reg=0.1"),
    (("batchnorm_forward", "batchnorm_backward_alt"), DENSE, "normalization='batchnorm'"),
    (("dropout_backward",), DENSE, "seed=3, dropout=0.5"),
    (("conv_forward_naive",), CONV, ""),
    (("conv_backward_naive",), CONV, ""),
    (("max_pool_backward_naive",), CONV, ""),
    (("relu_forward", "affine_forward", "conv_backward_naive"), CONV, ""),
    (None, CONV, ""),
]


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path / "mine.py"


def prepared(run, net):
    run("""
import importlib.util
import cs231n.layers, cs231n.fast_layers, cs231n.optim
from cs231n.classifiers.fc_net import *
from cs231n.classifiers.cnn import *
from cs231n.solver import Solver
spec = importlib.util.spec_from_file_location('mine', 'mine.py')
mine = importlib.util.module_from_spec(spec)
spec.loader.exec_module(mine)
np.random.seed(1)
""")
    return run(f"""
model = {net}
X, y = np.random.randn(20, *model.input_dim), np.random.randint(3, size=20)
for name in model.params:
    model.params[name] = model.params[name] + 0.1 * np.random.rand(*model.params[name].shape)
state = model.state
def both():
    np.random.seed(4)
    model.state = state
    loss, grads = model.loss(X, y)
    return [loss, model.loss(X), *(grads[name] for name in sorted(grads))]
""")


def assert_close(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("names", "net", "more"), RIGHT)
def test_a_right_function_changes_nothing(notebook, mine, names, net, more):
    """In a net that was there before; and taken from the file by `use`."""
    run = notebook(2019)
    cell = prepared(run, net.format(more=more))
    handgrads = cell["both"]()
    for name in names or ():
        run(f"cs231n.layers.{name} = mine.{name}")
    if "dropout_backward" not in (names or ()):  # masks are drawn as the student's function says
        assert_close(cell["both"](), handgrads)
    notebook(2019, mine=mine, only=names)
    if "dropout_backward" not in (names or ()):
        assert_close(cell["both"](), handgrads)


@pytest.mark.parametrize(
    "names", [["dropout_forward"], ["dropout_forward", "dropout_backward"], ["dropout_backward"]]
)
@pytest.mark.parametrize("year", [2017, 2021])
def test_dropout_gets_the_editions_param(notebook, mine, year, names):
    """p, mode and seed as the course's net gives them; the gradients of the net stay right."""
    word = "dropout_keep_ratio" if year >= 2021 else "dropout"
    run = notebook(year, mine=mine, only=names)
    cell = prepared(run, DENSE.format(more=f"{word}=0.25, seed=5"))
    cell = run("""
seen = []
take = cs231n.layers.dropout_forward
def dropout_forward(x, dropout_param):
    seen.append(dict(dropout_param))
    return take(x, dropout_param)
cs231n.layers.dropout_forward = dropout_forward
loss, grads = model.loss(X, y)
assert model.loss(X, y)[0] == loss
model.loss(X)
from cs231n.gradient_check import eval_numerical_gradient
numeric = eval_numerical_gradient(lambda _: model.loss(X, y)[0], model.params['b2'], verbose=False)
assert np.allclose(numeric, grads['b2'], atol=1e-7)
""")
    assert cell["seen"][0] == {"mode": "train", "p": 0.25, "seed": 5}
    assert {param["mode"] for param in cell["seen"]} == {"train", "test"}


def test_a_wrong_function_is_found(notebook, mine):
    """The numerical gradient agrees again when the function is handgrad's again."""
    run = notebook(2024)
    prepared(run, DENSE.format(more=""))
    run("""
from cs231n.gradient_check import eval_numerical_gradient
def error():
    loss, grads = model.loss(X, y)
    numeric = eval_numerical_gradient(lambda _: model.loss(X, y)[0], model.params['b1'], verbose=False)
    return abs(numeric - grads['b1']).max()
right = cs231n.layers.relu_backward
before = error()
cs231n.layers.relu_backward = lambda dout, cache: dout
wrong = error()
cs231n.layers.relu_backward = right
assert before < 1e-8 < 1e-4 < wrong and error() == before
""")


def test_a_wrapper_may_call_what_it_replaces(notebook, mine):
    cell = prepared(notebook(2019), DENSE.format(more=""))
    notebook_cell = """
from cs231n.layers import affine_backward as original
calls = []
def counted(dout, cache):
    calls.append(len(dout))
    return original(dout, cache)
cs231n.layers.affine_backward = counted
"""
    before = cell["both"]()
    exec(notebook_cell, cell)
    assert_close(cell["both"](), before)
    assert cell["calls"] == [20, 20, 20]


@pytest.mark.parametrize("place", ["layers", "layer_utils", "classifiers.fc_net", "classifiers.cnn"])
def test_it_does_not_matter_in_which_module(notebook, mine, place):
    run = notebook(2019)
    cell = prepared(run, DENSE.format(more=""))
    run(f"""
import cs231n.{place}
calls = []
def relu_backward(dout, cache):
    calls.append(1)
    return mine.relu_backward(dout, cache)
cs231n.{place}.relu_backward = relu_backward
model.loss(X, y)
assert len(calls) == 2 and cs231n.layers.relu_backward is relu_backward
""")
    assert cell["calls"]


def test_sandwiches_use_it(notebook, mine):
    notebook(2019)("""
import numpy as np
import cs231n.layers, cs231n.fast_layers
from cs231n.layer_utils import *
x, w, b = np.random.randn(2, 3, 4), np.random.randn(12, 5), np.random.randn(5)
cs231n.layers.relu_forward = lambda x: (-x, x)
out, cache = affine_relu_forward(x, w, b)
assert np.allclose(out, -(x.reshape(2, 12).dot(w) + b))
x, w, b = np.random.randn(2, 3, 4, 4), np.random.randn(2, 3, 3, 3), np.random.randn(2)
cs231n.layers.max_pool_forward_naive = lambda x, pool_param: (x[:, :, ::2, ::2], (x, pool_param))
settings = {'stride': 1, 'pad': 1}, {'pool_height': 2, 'pool_width': 2, 'stride': 2}
out, cache = conv_relu_pool_forward(x, w, b, *settings)
assert np.allclose(out, -conv_forward_fast(x, w, b, settings[0])[0][:, :, ::2, ::2])
cs231n.fast_layers.max_pool_backward_fast = lambda dout, cache: np.zeros_like(cache[0])
assert not any(grad.any() for grad in conv_relu_pool_backward(np.ones_like(out), cache))
""")


def test_sandwiches_are_fast(notebook):
    cell = notebook(2019)("""
import numpy as np
from cs231n.layer_utils import *
x, w, b = np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)), np.ones(1)
conv_param = {'stride': 1, 'pad': 1}
pool_param = {'pool_height': 2, 'pool_width': 2, 'stride': 2}
out, ((conv, relu), pool) = conv_relu_pool_forward(x, w, b, conv_param, pool_param)
""")
    assert cell["conv"].maker is handgrad.layers.conv_forward
    assert cell["pool"].maker is handgrad.layers.max_pool_forward


def test_the_solver_uses_an_update_rule(notebook, mine):
    """One that writes to w, as the course's sgd does, leaves the best parameters alone."""
    run = notebook(2019)
    cell = prepared(run, DENSE.format(more=""))
    run("""
small_data = {'X_train': X, 'y_train': y, 'X_val': X, 'y_val': y}
def trained():
    np.random.seed(3)
    model = FullyConnectedNet([6, 5], 12, 3, dtype=np.float64, weight_scale=0.3)
    solver = Solver(model, small_data, batch_size=5, num_epochs=6, lr_decay=0.9, verbose=False,
                    optim_config={'learning_rate': 0.5})
    solver.train()
    return [solver.loss_history, solver.val_acc_history, *model.params.values()]
handgrads = trained()
calls = []
def sgd(w, dw, config=None):
    calls.append(config['learning_rate'])
    return mine.sgd(w, dw, config)
cs231n.optim.sgd = sgd
own = trained()
""")
    assert_close(cell["own"], cell["handgrads"])
    assert cell["calls"][-1] == pytest.approx(0.5 * 0.9**5)
    assert len(cell["calls"]) == 6 * 6 * 4


def test_a_rule_that_breaks_off_leaves_the_parameters_alone(notebook, mine):
    """The course's sgd writes to w; a step is done as a whole, or not at all."""
    run = notebook(2019)
    prepared(run, DENSE.format(more=""))
    run("""
def sgd(w, dw, config=None):
    w -= dw
    raise ZeroDivisionError
cs231n.optim.sgd = sgd
before = {name: p.copy() for name, p in model.params.items()}
solver = Solver(model, {'X_train': X, 'y_train': y}, verbose=False)
try:
    solver.train()
except ZeroDivisionError:
    stopped = True
assert stopped and all((model.params[name] == before[name]).all() for name in before)
""")


def test_it_stays_in_this_process_and_sees_the_whole_batch(notebook, mine):
    """A layer with a function of the student's is not sent to helpers, which would run handgrad's."""
    run = notebook(2019)
    cell = prepared(run, "ThreeLayerConvNet((1, 8, 8), 3, 3, 5, 3, dtype=np.float64)")
    model = cell["model"]
    assert model._passes._can_travel
    assert [stage.sees for stage in model._passes._cut] == ["parts"]
    run("""
sizes = []
def relu_backward(dout, cache):
    sizes.append(len(dout))
    return mine.relu_backward(dout, cache)
original, cs231n.layers.relu_backward = cs231n.layers.relu_backward, relu_backward
X, y = np.random.randn(100, 1, 8, 8), np.random.randint(3, size=100)
model.loss(X, y)
assert sizes == [100, 100]
""")
    run("""
def softmax_loss(x, y):
    sizes.append(len(y))
    return mine.softmax_loss(x, y)
cs231n.layers.relu_backward, cs231n.layers.softmax_loss = original, softmax_loss
model.loss(X, y)
assert sizes[2:] == [100]
cs231n.layers.relu_backward = relu_backward
model.loss(X, y)
""")
    assert not model._passes._can_travel
    assert not passes._is_ours(cell["relu_backward"])
    assert "whole" in [stage.sees for stage in model._passes._cut]


# ---------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("cs231n.layers.affine_forward = lambda x, w, b: None",
         "FullyConnectedNet, layer 1: affine_forward gave NoneType, expected an array and a cache"),
        ("cs231n.layers.affine_forward = lambda x, w, b: (None, (x, w, b))",
         "gave \\(NoneType, tuple\\), expected an array and a cache"),
        ("cs231n.layers.affine_backward = lambda dout, cache: (None, None, None)",
         "gave \\(NoneType, NoneType, NoneType\\), expected arrays, 3 in number"),
        ("cs231n.layers.affine_backward = lambda dout, cache: dout",
         "affine_backward gave ndarray, expected arrays, 3 in number"),
        ("cs231n.layers.batchnorm_backward = lambda dout, cache: dout",
         "batchnorm_backward is yours and batchnorm_forward is handgrad's, expected both"),
        ("cs231n.layers.batchnorm_forward = lambda *args: (args[0], None)",
         "batchnorm_forward is yours and batchnorm_backward is handgrad's"),
        ("cs231n.layers.afine_backward = lambda dout, cache: dout",
         "cs231n.layers has no function afine_backward that yours could replace. Did you mean "
         "'affine_backward'?"),
        ("cs231n.optim.adam_loss = len", "cs231n.optim has no function adam_loss"),
    ],
)  # fmt: skip
def test_messages(notebook, mine, cell, said):
    run = notebook(2019)
    prepared(run, DENSE.format(more="normalization='batchnorm'"))
    with pytest.raises((ValueError, AttributeError), match=said):
        run(f"{cell}\nmodel.loss(X, y)")


def test_a_file(notebook, mine, capsys):
    run = notebook(2019, mine=mine, only="relu_backward")
    assert "handgrad.cs231n: relu_backward yours, all else from" in capsys.readouterr().out
    run("import cs231n.layers as l\nassert l.relu_backward.__module__ == 'mine'")
    run("assert l.affine_backward.__module__ != 'mine' and not hasattr(l, 'helper')")
    mine.write_text(MINE + "\n\ndef relu_backward(dout, cache):\n    return 2 * dout\n")
    notebook(2019, mine=str(mine))  # read anew
    run("import cs231n.layers as l\nassert l.relu_backward(1, None) == 2")
    run("assert l.affine_backward.__module__ == 'mine'")
    module = types.ModuleType("mine")
    exec(MINE, vars(module))
    notebook(2019, mine=module, only=["relu_backward"])
    assert sys.modules["cs231n.layers"].relu_backward is module.relu_backward
    with pytest.raises(
        ValueError, match="unknown functions for .*mine.py.*Did you mean 'relu_backward'"
    ):
        notebook(2019, mine=mine, only=["relu_backwards"])
    mine.write_text("def helper():\n    pass\n")
    with pytest.raises(ValueError, match="no function that replaces one of handgrad's"):
        notebook(2019, mine=mine)
    with pytest.raises(FileNotFoundError, match="not_there.py"):
        notebook(2019, mine="not_there.py")


def test_use_begins_anew(notebook, mine):
    run = notebook(2019, mine=mine)
    cell = prepared(run, DENSE.format(more=""))
    cell["both"]()
    assert cell["model"].theirs
    notebook(2019)
    cell["both"]()
    assert not cell["model"].theirs


def test_other_attributes_are_free(notebook):
    notebook(2019)(
        "import cs231n.layers as l\nl.note = 'mine'\nl.DEBUG = print\nassert l.note == 'mine'"
    )
