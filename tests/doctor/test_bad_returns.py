"""Whatever backward returns or raises, the report says it; nothing of ours ends in a traceback."""

import numpy as np
import pytest
from handgrad.gradient_check import check_layer, check_loss, check_model

X, W = (
    np.random.default_rng(1).standard_normal((4, 3)),
    np.random.default_rng(2).standard_normal((3, 2)),
)


def product(x, w):
    return x @ w, (x, w)


def right(dout, cache):
    x, w = cache
    return dout @ w.T, x.T @ dout


def ragged(dout, cache):
    return [[1.0], [1.0, 2.0]], right(dout, cache)[1]


RETURNS = [
    lambda d, c: None,
    lambda d, c: (None, None),
    lambda d, c: right(d, c)[0],
    lambda d, c: right(d, c)[:1],
    lambda d, c: (*right(d, c), None),
    lambda d, c: (*right(d, c), right(d, c)[0], 1),
    lambda d, c: (),
    lambda d, c: [right(d, c)],
    lambda d, c: dict(x=1),
    lambda d, c: 0,
    lambda d, c: 1.5,
    lambda d, c: "dx",
    lambda d, c: right,
    lambda d, c: (g for g in right(d, c)),
    lambda d, c: tuple(g.tolist() for g in right(d, c)),
    lambda d, c: tuple(g.astype(int) for g in right(d, c)),
    lambda d, c: tuple(g > 0 for g in right(d, c)),
    lambda d, c: tuple(g + 1j for g in right(d, c)),
    lambda d, c: tuple(g.astype(object) for g in right(d, c)),
    lambda d, c: tuple(np.array(["a"]) for g in right(d, c)),
    lambda d, c: tuple(g * np.nan for g in right(d, c)),
    lambda d, c: tuple(g / np.where(g > 0, 0, 1) for g in right(d, c)),
    lambda d, c: tuple(g[..., None] for g in right(d, c)),
    lambda d, c: tuple(g.ravel() for g in right(d, c)),
    lambda d, c: tuple(g[:0] for g in right(d, c)),
    lambda d, c: (right(d, c), None),
    lambda d, c: tuple(g.astype(np.float16) for g in right(d, c)),
    ragged,
    lambda d, c: 1 // 0,
    lambda d, c: c[7],
    lambda d, c: d @ d,
    lambda d, c: nothing,  # noqa: F821
    lambda d, c: d.missing,
    lambda d: d,
]


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("backward", RETURNS)
def test_a_sentence_for_each_array_that_fails(backward):
    report = check_layer(product, backward, X, W)
    assert not report
    failed = {row.name for row in report.rows if not row.passed}
    assert failed <= {d.array for d in report.diagnoses}
    assert report.diagnoses
    for d in report.diagnoses:
        assert d.evidence.endswith(".")
        assert d.advice.endswith(".")
    assert str(report)
    assert report._repr_html_()


def test_one_gradient_too_many_is_named():
    report = check_layer(product, lambda d, c: (*right(d, c), 1.0), X, W)
    assert all(row.passed for row in report.rows)
    assert [d.array for d in report.diagnoses] == ["gradient 2"]


def test_what_backward_raised_is_told_with_its_line():
    report = check_layer(product, lambda d, c: c[7], X, W)
    assert "<lambda> raised IndexError: tuple index out of range" in report.diagnoses[0].evidence
    assert "test_bad_returns.py" in report.diagnoses[0].evidence


@pytest.mark.parametrize("out", [np.ones(3), (np.ones(3),), (1, 2, 3), None])
def test_forward_must_give_two(out):
    with pytest.raises(ValueError, match="expected two, out and cache"):
        check_layer(lambda x: out, right, X)


def test_forward_must_give_floats():
    with pytest.raises(ValueError, match="out of <lambda> has dtype int64, expected floats"):
        check_layer(lambda x: (np.ones(3, int), None), right, X)


@pytest.mark.parametrize(
    ("args", "came"),
    [((), "nothing"), ((np.arange(3), 2), "an array of int64, a int"), (([1.0, 2.0],), "a list")],
)
def test_there_must_be_an_array_of_floats(args, came):
    with pytest.raises(ValueError, match=f"got {came}, expected an array of floats"):
        check_layer(lambda *args: (np.ones(3), None), right, *args)


def test_an_exception_in_forward_is_passed_on():
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        check_layer(product, right, X)


@pytest.mark.parametrize(
    "dx", [None, [[1.0]], 1, "dx", np.ones(3), np.ones((2, 2)), np.ones((4, 3), int), np.nan * X]
)
def test_a_loss_with_a_bad_gradient(dx):
    report = check_loss(lambda x, y: (np.sum(x * x), dx), X, np.arange(4) % 3)
    assert not report
    assert [d.array for d in report.diagnoses] == ["x"]


@pytest.mark.parametrize("result", [None, 1.0, (1.0,), (np.ones(4), np.ones((4, 3)))])
def test_a_loss_must_give_a_number_and_dx(result):
    with pytest.raises(ValueError, match=r"check_loss: <lambda> gave"):
        check_loss(lambda x, y: result, X, np.arange(4) % 3)


class Model:
    def __init__(self, grads):
        self.params, self.grads = {"W": W.copy()}, grads

    def loss(self, X, y=None):
        scores = X @ self.params["W"]
        return np.sum(scores * scores), self.grads(X.T @ (2 * scores))


@pytest.mark.parametrize(
    "grads",
    [
        lambda dW: {},
        lambda dW: {"W": None},
        lambda dW: {"W": dW, "V": dW},
        lambda dW: {"w": dW},
        lambda dW: {"W": dW.tolist()},
        lambda dW: {"W": 3},
        lambda dW: {"W": dW.astype(int)},
        lambda dW: {"W": dW[0]},
        lambda dW: 1 // 0,
    ],
)
def test_a_model_with_bad_gradients(grads):
    model = Model(grads)
    before = model.params["W"].copy()
    report = check_model(model, X, np.arange(4) % 2)
    assert not report
    assert report.diagnoses
    np.testing.assert_array_equal(model.params["W"], before)


@pytest.mark.parametrize("grads", [lambda dW: None, lambda dW: [dW]])
def test_a_model_must_give_a_dict(grads):
    with pytest.raises(ValueError, match=r"check_model: Model.loss gave"):
        check_model(Model(grads), X, np.arange(4) % 2)
