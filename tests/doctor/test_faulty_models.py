"""Losses and models with one mistake each, as students write them, and the cause that must be named."""

import numpy as np
import pytest
from handgrad import layers as L
from handgrad.gradient_check import check_loss, check_model
from handgrad.models import Affine, BatchNorm, Net, ReLU, TwoLayerNet

LOSSES, MODELS = [], []
X, Y = np.random.default_rng(1).standard_normal((6, 4)), np.array([0, 2, 1, 1, 0, 2])
SCORES = np.random.default_rng(2).standard_normal((5, 3))
LABELS = np.array([0, 2, 1, 1, 0])


def wrong_loss(*causes):
    return lambda loss: LOSSES.append(pytest.param(causes, loss, id=loss.__name__)) or loss


def wrong_model(*causes, layer="", **settings):
    """A class of models is entered with its causes and the words that name the wrong layer."""

    def enter(model):
        MODELS.append(pytest.param(causes, layer, model, settings, id=model.__name__))
        return model

    return enter


def probabilities(x, axis=1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def softmax(x, y):
    p = probabilities(x)
    loss = -np.log(p[np.arange(len(y)), y]).mean()
    return loss, p


def margins_of(x, y):
    margins = np.maximum(0, x - x[np.arange(len(y)), y][:, None] + 1)
    margins[np.arange(len(y)), y] = 0
    return margins


# ---------------------------------------------------------------------------- losses


@wrong_loss("factor")
def softmax_not_divided(x, y):
    loss, p = softmax(x, y)
    p[np.arange(len(y)), y] -= 1
    return loss, p


@wrong_loss("sign")
def softmax_turned(x, y):
    loss, p = softmax(x, y)
    p = -p
    p[np.arange(len(y)), y] += 1
    return loss, p / len(y)


@wrong_loss("sign")
def softmax_adds_the_label(x, y):
    loss, p = softmax(x, y)
    p[np.arange(len(y)), y] += 1
    return loss, p / len(y)


@wrong_loss("detached")
def softmax_without_the_label(x, y):
    loss, p = softmax(x, y)
    return loss, p / len(y)


@wrong_loss("sum")
def softmax_over_the_batch(x, y):
    loss, _ = softmax(x, y)
    dx = probabilities(x, axis=0)
    dx[np.arange(len(y)), y] -= 1
    return loss, dx / len(y)


@wrong_loss("factor")
def softmax_divided_by_classes(x, y):
    loss, p = softmax(x, y)
    p[np.arange(len(y)), y] -= 1
    return loss, p / x.shape[1]


@wrong_loss("input changed")
def softmax_changes_scores(x, y):
    x -= x.max(axis=1, keepdims=True)
    loss, p = softmax(x, y)
    p[np.arange(len(y)), y] -= 1
    return loss, p / len(y)


@wrong_loss("precision")
def softmax_in_single_precision(x, y):
    loss, p = softmax(x.astype(np.float32), y)
    p[np.arange(len(y)), y] -= 1
    return loss, p / len(y)


@wrong_loss("detached")
def svm_without_the_right_class(x, y):
    margins = margins_of(x, y)
    return margins.sum() / len(y), (margins > 0) / len(y)


@wrong_loss("sign")
def svm_right_class_added(x, y):
    margins = margins_of(x, y)
    dx = (margins > 0).astype(float)
    dx[np.arange(len(y)), y] = dx.sum(axis=1)
    return margins.sum() / len(y), dx / len(y)


@wrong_loss("mask")
def svm_mask_of_scores(x, y):
    margins = margins_of(x, y)
    dx = (x > 0).astype(float)
    dx[np.arange(len(y)), y] = 0
    dx[np.arange(len(y)), y] = -dx.sum(axis=1)
    return margins.sum() / len(y), dx / len(y)


@wrong_loss("factor")
def svm_not_divided(x, y):
    margins = margins_of(x, y)
    dx = (margins > 0).astype(float)
    dx[np.arange(len(y)), y] = -dx.sum(axis=1)
    return margins.sum() / len(y), dx


@wrong_loss("factor")
def mse_without_the_two(x, y):
    d = x - np.eye(x.shape[1])[y]
    return np.mean(d**2), d / d.size


@pytest.mark.parametrize(("causes", "loss"), LOSSES)
def test_the_cause_of_a_loss_is_named(causes, loss):
    report = check_loss(loss, SCORES, LABELS)
    assert not report
    assert {d.cause for d in report.diagnoses} == set(causes), str(report)


# ---------------------------------------------------------------------------- models


class Student:
    """affine - relu - affine - softmax, as in the course; the methods are what goes wrong."""

    def __init__(self, reg=0.1, hidden=5):
        rng = np.random.default_rng(0)
        self.reg = reg
        self.params = {
            "W1": 0.5 * rng.standard_normal((4, hidden)),
            "b1": np.zeros(hidden),
            "W2": 0.5 * rng.standard_normal((hidden, 3)),
            "b2": np.zeros(3),
        }

    def loss(self, X, y=None):
        p = self.params
        a = X @ p["W1"] + p["b1"]
        h = np.maximum(0, a)
        scores = h @ p["W2"] + p["b2"]
        if y is None:
            return scores
        loss, dscores = self.softmax(scores, y)
        grads = {"W2": h.T @ dscores, "b2": dscores.sum(axis=0)}
        da = self.relu(dscores @ p["W2"].T, a)
        grads |= {"W1": X.T @ da, "b1": da.sum(axis=0)}
        loss += 0.5 * self.reg * (np.sum(p["W1"] ** 2) + np.sum(p["W2"] ** 2))
        for name in ("W1", "W2"):
            grads[name] += self.reg * p[name]
        self.spoil(grads)
        return loss, grads

    def softmax(self, scores, y):
        return L.softmax_loss(scores, y)

    def relu(self, dh, a):
        return dh * (a > 0)

    def spoil(self, grads):
        pass


def test_the_right_model_passes():
    assert check_model(Student(), X, Y).diagnoses == []


@wrong_model("regularisation", layer="layer 2")
class PenaltyMissing(Student):
    def spoil(self, grads):
        for name in ("W1", "W2"):
            grads[name] -= self.reg * self.params[name]


@wrong_model("regularisation", layer="layer 1, in W1 itself")
class PenaltyMissingOnce(Student):
    def spoil(self, grads):
        grads["W1"] -= self.reg * self.params["W1"]


@wrong_model("regularisation", layer="layer 2")
class PenaltyDoubled(Student):
    def spoil(self, grads):
        for name in ("W1", "W2"):
            grads[name] += self.reg * self.params[name]


@wrong_model("regularisation", layer="layer 2, in b2 itself")
class PenaltyOnBiases(Student):
    def spoil(self, grads):
        for name in ("b1", "b2"):
            grads[name] += self.reg * self.params[name]


@wrong_model("factor", layer="layer 2 (W2 and b2), the last one, or the loss")
class LossNotDivided(Student):
    def softmax(self, scores, y):
        loss, dscores = L.softmax_loss(scores, y)
        return loss, dscores * len(y)


@wrong_model("sign", layer="layer 2", reg=0.0)
class LossTurned(Student):
    def softmax(self, scores, y):
        loss, dscores = L.softmax_loss(scores, y)
        return loss, -dscores


@wrong_model("mask", layer="layer 1 (W1 and b1), or what lies between")
class MaskOfTheGradient(Student):
    def relu(self, dh, a):
        return dh * (dh > 0)


@wrong_model("mask", layer="layer 1 (W1 and b1), or what lies between")
class NoMask(Student):
    def relu(self, dh, a):
        return dh


@wrong_model("detached", layer="layer 1, in b1 itself")
class BiasMissing(Student):
    def spoil(self, grads):
        del grads["b1"]


@wrong_model("detached", layer="layer 1")
class FirstLayerZero(Student):
    def spoil(self, grads):
        grads["W1"][:], grads["b1"][:] = 0, 0


@wrong_model("transposed", layer="layer 2, in W2 itself", reg=0.0)
class Transposed(Student):
    def spoil(self, grads):
        grads["W2"] = grads["W2"].T


@wrong_model("sum", layer="layer 2, in b2 itself")
class BiasKeepdims(Student):
    def spoil(self, grads):
        grads["b2"] = grads["b2"][None]


@wrong_model("order", layer="layer 1, in b1 itself")
class SwappedNames(Student):
    def __init__(self):
        super().__init__(reg=0.0, hidden=3)

    def spoil(self, grads):
        grads["b1"] = grads["b2"]


@wrong_model("factor", layer="layer 2, in b2 itself")
class BiasMean(Student):
    def spoil(self, grads):
        grads["b2"] /= 6


@wrong_model("precision")
class SinglePrecision(Student):
    def loss(self, X, y=None):
        params = self.params
        self.params = {name: p.astype(np.float32) for name, p in params.items()}
        try:
            return super().loss(X.astype(np.float32), y)
        finally:
            self.params = params


@wrong_model("random")
class RandomDropout(Student):
    def relu(self, dh, a):
        return dh * (a > 0) * (np.random.default_rng().random(dh.shape) < 0.5)


@wrong_model("input changed")
class ChangesParameters(Student):
    def loss(self, X, y=None):
        self.params["b1"] += 0.1
        return super().loss(X, y)


@wrong_model("unknown")
class Raises(Student):
    def softmax(self, scores, y):
        return self.nothing(scores)


@pytest.mark.parametrize(("causes", "layer", "model", "settings"), MODELS)
def test_the_cause_in_a_model_is_named(causes, layer, model, settings):
    report = check_model(model(**settings), X, Y)
    assert not report
    assert {d.cause for d in report.diagnoses} == set(causes), str(report)
    assert layer in report.layer


# ---------------------------------------------------------------------------- pairs inside a Net


def gate_forward(x, w):
    return x * np.tanh(w), (x, w)


def gate_backward(dout, cache):
    x, w = cache
    return dout * np.tanh(w), (dout * x).sum(axis=0) / np.cosh(w) ** 2


def gate_backward_mean(dout, cache):
    dx, dw = gate_backward(dout, cache)
    return dx, dw / len(dout)


def relu_by_dout(dout, out):
    return dout * (dout > 0)


PAIRS = [
    ("mask", "layer 2 (relu)", (L.relu_forward, relu_by_dout)),
    ("sign", "layer 2 (tanh)", (L.tanh_forward, lambda dout, out: -dout * (1 - out**2))),
    ("unknown", "layer 2 (tanh)", (L.tanh_forward, lambda dout, out: dout * (1 - out))),
    ("unknown", "layer 2 (sigmoid)", (L.sigmoid_forward, lambda dout, out: [][0])),
]


@pytest.mark.parametrize(("cause", "layer", "pair"), PAIRS)
def test_the_wrong_pair_in_a_net_is_found(cause, layer, pair):
    net = Net([Affine(6), pair, Affine(5), BatchNorm(), ReLU(), Affine(3)], 4, reg=0.1, seed=0)
    report = check_model(net, X, Y)
    assert not report
    assert report.layer == layer, str(report)
    assert {d.cause for d in report.diagnoses} == {cause}, str(report)
    assert {"W1", "b1"} <= {d.array for d in report.diagnoses}
    assert not {"W2", "W3", "gamma1"} & {d.array for d in report.diagnoses if cause != "unknown"}


def test_the_gradient_of_a_pairs_own_parameter():
    from handgrad.models import Pair

    pair = Pair(gate_forward, gate_backward_mean, params=lambda shape, rng: {"w": rng.random(shape)})
    report = check_model(Net([Affine(6), pair, Affine(3)], 4, seed=0), X, Y)
    assert report.layer == "layer 2 (gate)"
    assert [(d.array, d.cause) for d in report.diagnoses] == [("w1", "factor")], str(report)


def test_a_net_whose_own_loss_is_wrong():
    def loss(x, y):
        value, dx = L.softmax_loss(x, y)
        return value, 2 * dx

    report = check_model(Net([Affine(6), ReLU(), Affine(3)], 4, loss=loss, seed=0), X, Y)
    assert report.layer == "the loss"
    assert {d.cause for d in report.diagnoses} == {"factor"}


def test_a_penalty_added_by_a_subclass():
    class Net2(TwoLayerNet):
        def loss(self, X, y=None):
            result = super().loss(X, y)
            if y is not None:
                result[1]["b1"] += self.reg * self.params["b1"]
            return result

    report = check_model(Net2(4, 6, 3, weight_scale=0.5, reg=0.2, seed=0), X, Y)
    assert [(d.array, d.cause) for d in report.diagnoses] == [("b1", "regularisation")], str(report)


def test_a_fault_above_the_wrong_layer_keeps_its_own_diagnosis():
    class Net3(Net):
        def loss(self, X, y=None):
            result = super().loss(X, y)
            if y is not None:
                result[1]["W2"] += self.reg * self.params["W2"]
            return result

    pair = (L.relu_forward, relu_by_dout)
    report = check_model(Net3([Affine(6), pair, Affine(3)], 4, reg=0.2, seed=0), X, Y)
    causes = {d.array: d.cause for d in report.diagnoses}
    assert causes == {"W1": "mask", "b1": "mask", "W2": "regularisation"}, str(report)
