"""What beginners get wrong, over the public functions: each gets one sentence."""

import concurrent.futures
import functools

import numpy as np
import pytest
from handgrad import Solver, augment, compare, load, optim, vis_utils
from handgrad import attention as A
from handgrad import layers as L
from handgrad.data_utils import load_digits, spiral
from handgrad.gradient_check import check_layer, check_loss, check_model, eval_numerical_gradient
from handgrad.models import FullyConnectedNet, Net, ReLU, TwoLayerNet
from handgrad.report import class_report, confusion_matrix
from handgrad.stopping import patience

RNG = np.random.default_rng(0)
ROWS, IMAGES, W, B = np.ones((3, 3)), np.ones((2, 1, 6, 6)), np.ones((2, 1, 3, 3)), np.ones(2)
X, Y = spiral()
DATA = {"X_train": X, "y_train": Y}
NAMES = np.array(["cat", "dog"])


def net():
    return TwoLayerNet(2, 5, 3, seed=0)


def build(seed):
    """What a beginner ends without `return`."""


class Bare:
    def on_epoch_end(self):
        """Without the solver."""


def solver(**settings):
    return Solver(net(), DATA, num_epochs=2, verbose=False, **settings)


CALLS = [  # the call, and what its message holds
    (lambda: L.dropout_forward(ROWS, 0.5), "dropout_param = 0.5, expected a dict with some of"),
    (lambda: L.batchnorm_forward(ROWS, 1, 1, None), "its settings = None, expected a dict"),
    (lambda: L.conv_forward(IMAGES, W, B, (1, 1)), r"conv_param = \(1, 1\), expected a dict"),
    (lambda: L.max_pool_forward(IMAGES, 2), "pool_param = 2, expected a dict"),
    (lambda: A.rmsnorm_forward(ROWS, B, 1e-5), "its settings = 1e-05, expected a dict"),
    (lambda: FullyConnectedNet([5], 2, 3, dtype="int"), "dtype = 'int', expected floats"),
    (lambda: Net([ReLU()], 2, seed="one"), "seed = 'one', expected a whole number from 0 up"),
    (lambda: net().save(5), "path = 5, expected the name of a file"),
    (lambda: load(5), "path = 5, expected the name of a file"),
    (lambda: load("nothing"), "nothing.npz is not there, expected a file that Net.save wrote"),
    (lambda: load_digits(10**7), "load_digits: 10,002,000 images, expected at most 100,000; for more"),
    (lambda: load_digits("600"), "load_digits: num_training = '600', expected a whole number"),
    (lambda: solver(optim_config={"learning_rate": -1}), r"'learning_rate'\] = -1, expected a number"),
    (lambda: optim.sgd(B, B, 0.1), "sgd: config = 0.1, expected a dict such as"),
    (lambda: solver(schedule=functools.partial(optim.halving, every=0)).train(), "halving: every = 0"),
    (lambda: optim.step_decay(1, 0, every=0, factor=1), "step_decay: every = 0, expected a number"),
    (lambda: optim.cosine(1, 0, steps=0), "cosine: steps = 0, expected a number"),
    (lambda: optim.linear_warmup(1, 0, steps=-1), "linear_warmup: steps = -1, expected a number"),
    (lambda: augment.flip(IMAGES, 0), "flip: rng = 0, expected a generator"),
    (lambda: augment.crop(IMAGES, 0), "crop: rng = 0, expected a generator"),
    (lambda: augment.rotate(IMAGES, 0), "distort: rng = 0, expected a generator"),
    (lambda: augment.compose("flip"), r"compose: 'flip' came, expected functions of \(X, rng\)"),
    (lambda: compare(net(), {"a": {}}), "compare: build is a TwoLayerNet .* expected a function"),
    (lambda: compare(net, [0.1]), "and settings a list, expected .* a dict"),
    (
        lambda: compare(build, {"a": 0.1}),
        r"compare: settings\['a'\] = 0.1, expected a dict of arguments",
    ),
    (
        lambda: compare(build, {"a": {}}, seeds=2.5),
        "compare: seeds = 2.5, expected a whole number or a",
    ),
    (lambda: compare(net, {"a": {}}), r"compare: build takes \(\), expected seed and .*'a'\], \[\]"),
    (lambda: compare(build, {"a": {"lr": 1}}), r"build takes \(seed\), expected seed .*, \['lr'\]"),
    (
        lambda: compare(lambda seed: 0, {"a": {}}),
        "lambda> cannot go to other processes, expected a func",
    ),
    (lambda: compare(build, {"a": {}}, keep=lambda solver: 0), "lambda> cannot go to other processes"),
    (
        lambda: solver(stop=patience),
        r"stop takes \(solver, \*, epochs\), expected .* stop\(solver\), see",
    ),
    (
        lambda: solver(schedule=optim.cosine),
        "schedule takes .step, epoch, .* functools.partial fills in",
    ),
    (lambda: solver(callbacks=[lambda: 0]), r"lambda> takes \(\), expected a function f\(solver\)"),
    (
        lambda: solver(callbacks=[Bare()]),
        r"callback Bare.on_epoch_end takes \(\), expected .*f\(solver\)",
    ),
    (lambda: solver(trainable="W1"), "Solver: trainable = 'W1', expected a list of names"),
    (lambda: Solver(net(), DATA | {"X_train": "abc"}), "Solver: X_train is a str, expected an array"),
    (lambda: solver().load_checkpoint(net().save("model")), "not a checkpoint, .* handgrad.load reads"),
    (lambda: class_report(NAMES, NAMES), "class_report: y has dtype <U3, expected labels"),
    (lambda: confusion_matrix(Y / 2, Y, 3), "confusion_matrix: y has dtype float64, expected labels"),
    (lambda: vis_utils.show_images(X), r"show_images: X has shape \(300, 2\), expected images"),
    (lambda: vis_utils.show_filters(ROWS), r"show_filters: w has shape \(3, 3\), expected filters"),
    (lambda: vis_utils.visualize_grid(ROWS), r"visualize_grid: Xs has shape \(3, 3\), expected"),
    (lambda: vis_utils.show_mistakes(IMAGES, [0, 1], [0]), r"predicted \(1,\), expected a label and"),
    (lambda: vis_utils.plot_curves(net()), "plot_curves: a TwoLayerNet came, expected a Solver"),
    (lambda: vis_utils.save("a.png", 1), r"save: figure is a str, expected save\(figure, path\)"),
    (lambda: check_layer(ROWS, L.relu_backward), "forward is a ndarray, expected a function, not its"),
    (lambda: check_layer(L.relu_forward, None, ROWS), "backward is a NoneType, expected a function"),
    (lambda: check_layer(L.relu_forward, L.relu_backward), "relu_forward got nothing, expected"),
    (
        lambda: check_layer(L.relu_forward, L.sigmoid_backward, ROWS),
        "check_layer: relu_forward and sigmoid_backward came, expected .* relu_forward and relu_back",
    ),
    (
        lambda: Net([(L.conv_forward, L.affine_backward)], (1, 6, 6)),
        "layer 1: Pair: conv_forward and affine_backward came, expected .* conv_backward",
    ),
    (lambda: check_loss(3.5, ROWS, [0, 1, 2]), "check_loss: loss is a float, expected a function"),
    (lambda: check_model(TwoLayerNet, X, Y), "check_model: model is the class TwoLayerNet, expected"),
    (lambda: check_model(DATA, X, Y), "check_model: model is a dict, expected an object with"),
    (lambda: eval_numerical_gradient(np.exp, B), r"f gave an array of shape \(2,\), expected a number"),
]


@pytest.mark.parametrize(("call", "said"), CALLS)
def test_one_sentence(call, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=said) as caught:
        call()
    assert str(caught.value).endswith((".", "?"))


def test_a_build_without_return(tmp_path):
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        result = compare(build, {"a": {}}, 1, folder=tmp_path, executor=executor, progress=False)
    assert "build gave a NoneType, expected a Solver; does it end with" in str(result)
