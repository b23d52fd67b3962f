"""The checker is checked: on functions with known derivatives, and on gradients wrong by 0.1 %."""

import numpy as np
import pytest
import threadpoolctl
from handgrad import layers as L
from handgrad.gradient_check import (
    check_layer,
    check_loss,
    check_model,
    eval_numerical_gradient,
    eval_numerical_gradient_array,
    eval_numerical_gradient_blobs,
    grad_check_sparse,
    rel_error,
)
from handgrad.models import TwoLayerNet


def test_rel_error():
    assert rel_error(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == 0
    assert rel_error(np.array([1.0, 3.0]), np.array([1.0, 1.0])) == 0.5
    assert rel_error(np.zeros(2), np.zeros(2)) == 0
    assert rel_error(np.array([]), np.array([])) == 0
    with pytest.raises(ValueError, match=r"x has shape \(2,\) and y \(2, 1\)"):
        rel_error(np.zeros(2), np.zeros((2, 1)))


def test_eval_numerical_gradient_and_what_it_prints(rng, capsys):
    x = rng.standard_normal((2, 3))
    np.testing.assert_allclose(eval_numerical_gradient(lambda x: np.sum(x**3), x), 3 * x**2, rtol=1e-8)
    assert capsys.readouterr().out == ""
    eval_numerical_gradient(lambda x: np.sum(x), x, verbose=True)
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_functions_that_ignore_their_argument_see_the_change(rng):
    x = rng.standard_normal((2, 3))
    before = x.copy()
    np.testing.assert_allclose(eval_numerical_gradient(lambda _: np.sum(x * x), x), 2 * x, rtol=1e-8)
    np.testing.assert_array_equal(x, before)


def test_x_is_restored_when_the_function_fails(rng):
    x = rng.standard_normal(3)
    before = x.copy()

    def fails(_):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        eval_numerical_gradient(fails, x)
    np.testing.assert_array_equal(x, before)


def test_eval_numerical_gradient_array(rng):
    x, df = rng.standard_normal((2, 3)), rng.standard_normal((2, 3))
    grad = eval_numerical_gradient_array(np.tanh, x, df)
    np.testing.assert_allclose(grad, df / np.cosh(x) ** 2, rtol=1e-8)
    # a function that gives back the very array it was given, which is then changed again
    np.testing.assert_allclose(eval_numerical_gradient_array(lambda x: x, x, df), df, rtol=1e-9)


class Blob:
    def __init__(self, vals, diffs=None):
        self.vals, self.diffs = vals, diffs


def test_eval_numerical_gradient_blobs(rng):
    a, b = Blob(rng.standard_normal((2, 3))), Blob(rng.standard_normal((3, 4)))
    out = Blob(np.zeros((2, 4)), rng.standard_normal((2, 4)))

    def product(a, b, out):
        out.vals = a.vals @ b.vals

    da, db = eval_numerical_gradient_blobs(product, (a, b), out)
    np.testing.assert_allclose(da, out.diffs @ b.vals.T, rtol=1e-7)
    np.testing.assert_allclose(db, a.vals.T @ out.diffs, rtol=1e-7)


def test_grad_check_sparse_can_fail(rng, capsys):
    x = rng.standard_normal((4, 5))
    right = grad_check_sparse(lambda x: np.sum(x * x), x, 2 * x, num_checks=5, seed=0)
    wrong = grad_check_sparse(lambda x: np.sum(x * x), x, 2.002 * x, num_checks=5, seed=0)
    assert right < 1e-8
    assert wrong == pytest.approx(0.0005, rel=0.01)
    assert capsys.readouterr().out.count("relative error") == 10


def test_grad_check_sparse_of_a_vanishing_gradient():
    assert grad_check_sparse(lambda x: 1.0, np.ones(3), np.zeros(3), num_checks=3) == 0


@pytest.mark.parametrize("x", [np.arange(3), [1.0, 2.0], np.ones(2, complex)])
def test_only_floats_can_be_perturbed(x):
    with pytest.raises(TypeError, match="expected an array of floats"):
        eval_numerical_gradient(np.sum, x)
    with pytest.raises(TypeError, match="expected an array of floats"):
        grad_check_sparse(np.sum, x, x)


# ---------------------------------------------------------------------------- reports


def wrong_at(entry, factor):
    def backward(dout, cache):
        dx = L.tanh_backward(dout, cache)
        dx[entry] *= factor
        return dx

    return backward


@pytest.mark.parametrize("factor", [1.001, 1 + 1e-9])
def test_a_gradient_wrong_in_one_entry_is_found_and_named(factor):
    x = np.linspace(-1, 1, 12).reshape(3, 4)
    report = check_layer(L.tanh_forward, wrong_at((2, 1), factor), x)
    assert not report
    (row,) = report.rows
    assert row.where == (2, 1)
    assert row.error == pytest.approx(factor - 1, rel=1e-3)
    with pytest.raises(AssertionError, match="WRONG"):
        report.require()


def test_a_right_gradient_passes_and_prints_as_a_table():
    report = check_layer(L.tanh_forward, L.tanh_backward, np.linspace(-1, 1, 12).reshape(3, 4))
    assert report
    assert report.error < 1e-13
    title, head, row = str(report).splitlines()
    assert title == "tanh_forward (complex step)"
    assert head.split() == ["array", "shape", "checked", "error", "at", "written", "numeric", "verdict"]
    assert "(3, 4)" in row
    assert row.endswith("ok")


def test_kinds_of_faults_have_names():
    x = np.ones((2, 3))
    assert "shape (6,)" in str(check_layer(L.tanh_forward, lambda d, c: d.ravel(), x))
    assert "not finite" in str(check_layer(L.tanh_forward, lambda d, c: d * np.nan, x))
    assert "missing" in str(check_layer(L.tanh_forward, lambda d, c: None, x))
    assert "raised" in str(check_layer(L.tanh_forward, lambda d, c: 1 / 0, x))


def magnitude_forward(x):
    return np.abs(x), x


def magnitude_backward(dout, cache, factor=1.0):
    return factor * dout * np.sign(cache)


def cast_forward(x):
    return np.asarray(x, dtype=float) ** 2, x


def cast_backward(dout, cache):
    return 2 * dout * cache


@pytest.mark.parametrize(
    ("forward", "backward"), [(magnitude_forward, magnitude_backward), (cast_forward, cast_backward)]
)
def test_functions_that_a_complex_step_cannot_see_through(forward, backward):
    x = np.array([-1.5, 0.5, 2.0])
    report = check_layer(forward, backward, x)
    assert report
    assert report.rows[0].method == "central differences"
    assert not check_layer(forward, lambda d, c: 1.001 * backward(d, c), x)


def test_settings_are_fresh_for_each_call():
    bn_param = {"mode": "train"}
    rng = np.random.default_rng(0)
    check_layer(
        L.batchnorm_forward, L.batchnorm_backward, rng.random((5, 2)), np.ones(2), np.ones(2), bn_param
    )
    assert bn_param == {"mode": "train"}


def test_check_loss_finds_a_wrong_gradient(rng):
    def wrong(x, y):
        value, dx = L.softmax_loss(x, y)
        return value, 1.001 * dx

    x, y = rng.standard_normal((4, 3)), np.array([0, 1, 2, 0])
    assert check_loss(L.softmax_loss, x, y)
    assert not check_loss(wrong, x, y)


class WrongNet(TwoLayerNet):
    """Its gradient of W2 is wrong by 0.1 % in one entry."""

    entry = (3, 1)

    def loss(self, X, y=None):
        if y is None:
            return super().loss(X)
        loss, grads = super().loss(X, y)
        grads["W2"][self.entry] *= 1.001
        return loss, grads


@pytest.mark.parametrize("entries", [None, 5])
def test_check_model_names_the_wrong_parameter(rng, entries):
    model = WrongNet(4, 6, 3, seed=0, weight_scale=1.0)
    X, y = rng.standard_normal((5, 4)), np.array([0, 1, 2, 0, 1])
    before = {name: p.copy() for name, p in model.params.items()}
    report = check_model(model, X, y, entries=entries)
    assert [row.name for row in report.rows if not row.passed] == ["W2"]
    if entries is None:
        assert report.rows[2].where == (3, 1)
        assert report.rows[2].error == pytest.approx(1e-3, rel=0.01)
    for name, p in model.params.items():
        np.testing.assert_array_equal(p, before[name])
        assert p.dtype == np.float32


def test_check_model_wants_a_function(rng):
    from handgrad.models import FullyConnectedNet

    X, y = rng.standard_normal((5, 4)), np.array([0, 1, 2, 0, 1])
    report = check_model(FullyConnectedNet([8], 4, 3, dropout=0.5), X, y)
    assert not report
    assert {d.cause for d in report.diagnoses} == {"random"}
    check_model(FullyConnectedNet([8], 4, 3, dropout=0.5, seed=1), X, y).require()


def test_numbers_that_the_complex_step_loses_in_silence(rng):
    """np.var is real for complex numbers: by complex step alone, the variance would look constant."""

    def forward(x):
        return (x - x.mean(axis=0)) / np.sqrt(np.var(x, axis=0) + 1e-5), x

    def without_variance(dout, x):
        return (dout - dout.mean(axis=0)) / np.sqrt(np.var(x, axis=0) + 1e-5)

    report = check_layer(forward, without_variance, rng.standard_normal((6, 3)))
    assert report.rows[0].method == "central differences"
    assert [d.cause for d in report.diagnoses] == ["statistics"]


def test_dout_is_not_what_the_caller_drew():
    """With x and dout from one seed, a mask of dout in place of x would pass."""
    x = np.random.default_rng(0).standard_normal((4, 5))
    report = check_layer(L.relu_forward, lambda dout, out: dout * (dout > 0), x)
    assert [d.cause for d in report.diagnoses] == ["mask"]


# ---------------------------------------------------------------------------- kinks


def relu(x):
    return np.maximum(0, x), x


@pytest.mark.parametrize("slope_at_0", [0, 0.3, 1])
def test_a_point_on_a_kink_is_noted_and_no_fault(slope_at_0):
    x = np.array([-1.0, 0.0, 2.0])
    report = check_layer(relu, lambda dout, x: dout * np.where(x == 0, slope_at_0, x > 0), x)
    assert report
    assert [(d.array, d.cause) for d in report.diagnoses] == [("x", "kink")]
    assert "on a kink" in str(report)
    assert report.rows[0].kink == (1,)


def test_a_fault_beside_a_kink_is_found():
    report = check_layer(relu, lambda dout, x: -dout * (x > 0), np.array([-1.0, 0.0, 2.0, 3.0]))
    assert not report
    assert [d.cause for d in report.diagnoses] == ["sign"]


def test_ties_of_windows_that_overlap():
    """Each window may choose another of the equal entries; the sum may lie outside of both sides."""
    x = np.ones((1, 1, 3, 3))
    param = {"pool_height": 2, "pool_width": 2, "stride": 1}
    report = check_layer(L.max_pool_forward, L.max_pool_backward, x, param)
    assert report
    assert [d.cause for d in report.diagnoses] == ["kink"]


def test_a_gradient_that_is_right_close_by_is_no_fault():
    """max(x, 0) - 2 max(-x, 0) has the slopes 2 and 1 at 0; its backward passes add up to 0 there."""
    report = check_layer(
        lambda x: (np.maximum(x, 0) - 2 * np.maximum(-x, 0), x),
        lambda dout, x: dout * ((x > 0) + 2.0 * (x < 0)),
        np.array([-1.0, 0.0, 2.0]),
    )
    assert report
    assert [d.cause for d in report.diagnoses] == ["kink"]


def test_a_model_on_a_kink(rng):
    """A black image meets a first layer with biases of 0; they are moved, so that no kink is left."""
    X, y = np.zeros((3, 4)), np.array([0, 1, 2])
    assert check_model(TwoLayerNet(4, 6, 3, seed=0), X, y)


# ---------------------------------------------------------------------------- what reports show


def test_a_report_reads_well_in_a_terminal_and_in_a_notebook():
    report = check_layer(L.tanh_forward, lambda dout, out: 2 * dout * (1 - out**2), np.ones((2, 3)))
    table, words = str(report).split("\nx: factor. ")
    assert "WRONG" in table
    assert words.startswith("written = 2 * numeric at 6 of 6 entries; 2 is N or 2")
    assert max(map(len, str(report).splitlines())) <= 100
    page = report._repr_html_()
    assert page.count("<table>") == 2
    assert "<td>factor</td>" in page
    right = check_layer(L.tanh_forward, L.tanh_backward, np.ones(3))
    assert right.diagnoses == []
    assert right._repr_html_().count("<table>") == 1


def test_what_looks_like_html_is_shown_as_text():
    def backward(dout, cache):
        raise ValueError("<script>")

    assert "<script>" not in check_layer(relu, backward, np.ones(3))._repr_html_()


@pytest.mark.parametrize("kind", ["layer", "loss", "model"])
def test_functions_are_called_with_one_thread_of_blas(kind):
    threads = set()

    def seen(x):
        libraries = threadpoolctl.threadpool_info()
        threads.update(lib["num_threads"] for lib in libraries if lib["user_api"] == "blas")
        return x

    class Model:
        params = {"w": np.array([2.0, 3.0])}  # noqa: RUF012

        def loss(self, X, y):
            w = seen(self.params["w"])
            return (w * w).sum(), {"w": 2 * w}

    if kind == "layer":
        report = check_layer(lambda x: (seen(x), None), lambda dout, cache: dout, np.ones(2))
    elif kind == "loss":
        report = check_loss(
            lambda x, y: ((seen(x) * x).sum(), 2 * x), np.ones((1, 2)), np.zeros(1, int)
        )
    else:
        report = check_model(Model(), np.ones((1, 2)), np.zeros(1, int))
    report.require()
    assert threads == {1}


def test_a_report_shows_itself_as_its_table():
    report = check_loss(L.softmax_loss, np.ones((2, 3)), np.array([0, 2]))
    assert repr(report) == str(report)
    assert repr(report).startswith("softmax_loss (complex step)\narray")
