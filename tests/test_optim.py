"""One table of rules and one of schedules; a new one is a new row."""

import functools
import inspect
import math

import numpy as np
import pytest
from handgrad import optim
from handgrad.optim import CONFIGS, SCHEDULES, UPDATE_RULES

W = np.linspace(-0.4, 0.6, 20).reshape(4, 5)
DW = np.linspace(-0.6, 0.4, 20).reshape(4, 5)

# Two steps from w = 1 with gradients 0.5 and then -1, worked by hand with learning_rate 0.1.
BY_HAND = {
    "sgd": ({}, [0.95, 1.05]),
    # v = -0.05, then 0.9 * -0.05 + 0.1 = 0.055
    "sgd_momentum": ({}, [0.95, 1.005]),
    # v = -0.05: 1 - 0.045 - 0.05;  v = 0.055: 0.905 + 0.0495 + 0.1
    "nesterov_momentum": ({}, [0.905, 1.0545]),
    # cache = 0.125: 1 - 0.05 / 0.3535534;  cache = 0.5625: + 0.1 / 0.75
    "rmsprop": ({"decay_rate": 0.5}, [0.858578644, 0.991911977]),
    # m, v = 0.25, 0.0625, unbiased (/ 0.5, / 0.25) 0.5, 0.25: a step of 0.1;
    # m, v = -0.375, 0.296875, unbiased (/ 0.75, / 0.4375) -0.5, 0.6785714: back by 0.05 / 0.8237545
    "adam": ({"beta1": 0.5, "beta2": 0.75}, [0.9, 0.960697698]),
    # the same steps from w * (1 - 0.1 * 0.2): 0.98 - 0.1 = 0.88; 0.8624 + 0.0606977
    "adamw": ({"beta1": 0.5, "beta2": 0.75, "weight_decay": 0.2}, [0.88, 0.923097698]),
}


def test_tables_are_complete():
    functions = {
        f
        for name, f in inspect.getmembers(optim, inspect.isfunction)
        if not name.startswith("_")
        and f.__module__ == optim.__name__
        and name not in ("update_rule", "clip_by_norm")
    }
    assert functions == set(UPDATE_RULES.values()) | set(SCHEDULES.values())
    assert set(UPDATE_RULES) == set(CONFIGS) == set(BY_HAND)
    assert set(SCHEDULES) == {row.func.__name__ for row, _ in SCHEDULE_ROWS}


@pytest.mark.parametrize("name", UPDATE_RULES)
class TestRules:
    def test_two_steps_by_hand(self, name):
        settings, expected = BY_HAND[name]
        config = {"learning_rate": 0.1, **settings}
        w = np.array([1.0])
        for dw, value in zip((0.5, -1.0), expected, strict=True):
            w, config = UPDATE_RULES[name](w, np.array([dw]), config)
            np.testing.assert_allclose(w, value, atol=2e-8)

    @pytest.mark.parametrize("function", ["bowl", "rosenbrock"])
    def test_converges_to_the_known_minimum(self, name, function):
        if function == "bowl":
            w, target, rate, steps = np.array([2.0, -3.0]), np.array([0.5, 1.0]), 0.05, 500
            gradient = lambda w: np.array([1.0, 4.0]) * (w - target)  # noqa: E731
        else:
            w, target, rate, steps = np.array([0.5, 0.5]), np.array([1.0, 1.0]), 1e-3, 40000
            gradient = lambda w: np.array(  # noqa: E731
                [-2 * (1 - w[0]) - 400 * w[0] * (w[1] - w[0] ** 2), 200 * (w[1] - w[0] ** 2)]
            )
        config = {"learning_rate": rate}
        if name == "adamw":
            config["weight_decay"] = 0.0
        for t in range(steps):
            config["learning_rate"] = rate * (
                1 - t / steps
            )  # rmsprop ends in a cycle as wide as its step
            w, config = UPDATE_RULES[name](w, gradient(w), config)
        np.testing.assert_allclose(w, target, atol=5e-3)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
    def test_dtype_is_the_weights(self, name, dtype):
        config = {"learning_rate": np.float64(1e-3)}  # as from np.logspace
        w = W.astype(dtype)
        for _ in range(2):
            w, config = UPDATE_RULES[name](w, DW, config)
            assert w.dtype == dtype
            assert all(s.dtype == dtype for s in config.values() if isinstance(s, np.ndarray))

    def test_arguments_are_not_written_to(self, name):
        w, dw = W.copy(), DW.copy()
        config = {}
        next_w, returned = UPDATE_RULES[name](w, dw, config)
        state = {k: v.copy() for k, v in config.items() if isinstance(v, np.ndarray)}
        kept = {k: config[k] for k in state}
        UPDATE_RULES[name](next_w, dw, config)
        np.testing.assert_array_equal(w, W)
        np.testing.assert_array_equal(dw, DW)
        assert returned is config
        assert not np.shares_memory(w, next_w)
        for k in state:
            np.testing.assert_array_equal(kept[k], state[k])

    def test_row_by_row(self, name):
        """Each entry is updated by itself."""
        w, *dws = np.random.default_rng(0).standard_normal((3, 100, 110)).astype(np.float32)
        whole, rows, config, configs = w, list(w), {}, [{} for _ in w]
        for dw in dws:
            whole, config = UPDATE_RULES[name](whole, dw, config)
            for n in range(len(rows)):
                rows[n], configs[n] = UPDATE_RULES[name](rows[n], dw[n], configs[n])
        np.testing.assert_array_equal(whole, rows)
        for key, value in config.items():
            np.testing.assert_array_equal(
                value, np.array([c[key] for c in configs]) if np.ndim(value) else value
            )
            assert np.shape(value) in (w.shape, ())

    @pytest.mark.parametrize("kind", [np.asfortranarray, np.float64], ids=["order", "precision"])
    def test_arrays_of_another_order_or_precision(self, name, kind):
        """All results are in C order and of w's dtype: orders decide on how products are summed."""
        w, dw, state = np.random.default_rng(1).random((3, 40, 50)).astype(np.float32)
        keys = [key for key, default in CONFIGS[name].items() if default is None]
        plain, other = ({key: make(state) for key in keys} for make in (np.array, kind))
        expected, plain = UPDATE_RULES[name](w, dw, plain)
        found, other = UPDATE_RULES[name](w, kind(dw), other)
        for one, two in ((expected, found), *((plain[key], other[key]) for key in keys)):
            np.testing.assert_array_equal(one, two)
            assert two.dtype == w.dtype
            assert two.flags.c_contiguous

    def test_only_state_goes_into_the_config(self, name):
        config = {}
        UPDATE_RULES[name](W, DW, config)
        state = {key for key, default in CONFIGS[name].items() if default is None or key == "t"}
        assert set(config) == state

    def test_no_config_at_all(self, name):
        next_w, config = UPDATE_RULES[name](W, DW)
        assert next_w.shape == W.shape
        assert config is not None

    def test_errors(self, name):
        with pytest.raises(
            ValueError, match=rf"{name}: unknown config keys.*Did you mean 'learning_rate'"
        ):
            UPDATE_RULES[name](W, DW, {"learning_rat": 1.0})
        with pytest.raises(ValueError, match=rf"{name}: dw has shape"):
            UPDATE_RULES[name](W, DW.T, {})
        with pytest.raises(TypeError, match=rf"{name}: w is of int64, expected an array of floats"):
            UPDATE_RULES[name](np.arange(3), np.ones(3))
        with pytest.raises(TypeError, match=rf"{name}: w is of list, expected an array of floats"):
            UPDATE_RULES[name]([1.0], [2.0])


def test_known_value_of_momentum():
    config = {"learning_rate": 1e-3, "velocity": np.linspace(0.6, 0.9, 20).reshape(4, 5)}
    next_w, _ = optim.sgd_momentum(W, DW, config)
    assert next_w[0, 0] == pytest.approx(0.1406, abs=1e-10)
    assert config["velocity"][0, 0] == pytest.approx(0.5406, abs=1e-10)


def test_a_rule_of_the_users_keeps_the_dtype_of_the_weights():
    @optim.update_rule(learning_rate=0.1, mean=None)
    def wide(w, dw, learning_rate, mean):
        return w - np.float64(learning_rate) * dw, {"mean": mean + dw.astype(np.float64)}

    next_w, config = wide(W.astype(np.float32), DW)
    assert next_w.dtype == config["mean"].dtype == np.float32


def test_state_of_a_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"sgd_momentum: velocity has shape \(3,\), but w has"):
        optim.sgd_momentum(W, DW, {"velocity": np.zeros(3)})


p = functools.partial
SCHEDULE_ROWS = [  # a schedule, and its factor at (step, epoch)
    (p(optim.constant), {(0, 0): 1, (99, 9): 1}),
    (p(optim.epoch_decay, factor=0.8), {(0, 0): 1, (50, 1): 0.8, (99, 2): 0.64}),
    (p(optim.halving, every=3), {(0, 2): 1, (0, 3): 0.5, (0, 6): 0.25}),
    (p(optim.step_decay, every=5000, factor=0.9), {(4999, 7): 1, (5000, 7): 0.9, (15000, 7): 0.729}),
    (p(optim.cosine, steps=100), {(0, 0): 1, (50, 0): 0.5, (100, 0): 0, (200, 0): 0}),
    (p(optim.cosine, steps=100, floor=0.2), {(0, 0): 1, (50, 0): 0.6, (100, 0): 0.2}),
    (p(optim.linear_warmup, steps=4), {(0, 0): 0.25, (3, 0): 1, (9, 0): 1}),
    (p(optim.linear_warmup, steps=4, then=p(optim.halving, every=1)), {(1, 0): 0.5, (9, 2): 0.25}),
]


@pytest.mark.parametrize(("schedule", "factors"), SCHEDULE_ROWS)
def test_schedules(schedule, factors):
    for (step, epoch), factor in factors.items():
        assert schedule(step, epoch) == pytest.approx(factor)


# ---------------------------------------------------------------------------- clipping

CLIPPED = [  # grads, max_norm, what comes out; numbers by hand
    ({"W": [[3.0]], "b": [4.0]}, 1.0, {"W": [[0.6]], "b": [0.8]}),
    ({"W": [[3.0]], "b": [4.0]}, 5.0, {"W": [[3.0]], "b": [4.0]}),
    ({"W": [[3.0]], "b": [4.0]}, 2.5, {"W": [[1.5]], "b": [2.0]}),
    ({"W": [2.0, -2.0, 1.0]}, 1, {"W": [2 / 3, -2 / 3, 1 / 3]}),
    ({"W": [0.0, 0.0]}, 1e-9, {"W": [0.0, 0.0]}),
    ({"W": [3e25, 4e25]}, 1.0, {"W": [0.6, 0.8]}),  # float32 has no room for the squares
    ({}, 1.0, {}),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("grads", "max_norm", "expected"), CLIPPED)
def test_clipping_by_hand(grads, max_norm, expected, dtype):
    grads = {name: np.array(g, dtype) for name, g in grads.items()}
    before = {name: g.copy() for name, g in grads.items()}
    clipped = optim.clip_by_norm(grads, max_norm)
    assert clipped.keys() == expected.keys()
    for name, g in clipped.items():
        np.testing.assert_allclose(g, expected[name], rtol=1e-6)
        assert g.dtype == dtype
        np.testing.assert_array_equal(grads[name], before[name])


def test_the_norm_is_right_to_the_last_digits_of_float64():
    """One large entry and many small ones, whose squares float32 would lose; and in any order."""
    g = np.full(10**5, 1e-4, np.float32)
    g[7] = 1.0
    norm = math.sqrt(math.fsum(float(v) ** 2 for v in g))
    clipped = optim.clip_by_norm({"W": g.astype(np.float64).reshape(100, -1)}, 0.5)["W"]
    np.testing.assert_allclose(clipped.ravel(), g * 0.5 / norm, rtol=1e-7)
    assert clipped.ravel()[7] == pytest.approx(0.5 / norm, rel=1e-14)


@pytest.mark.parametrize("wrong", [np.inf, -np.inf, np.nan, 1e200])
def test_what_no_factor_cures_stays_as_it_is(wrong):
    grads = {"W": np.array([1.0, wrong])}
    with np.errstate(over="ignore"):
        assert optim.clip_by_norm(grads, 1.0) is grads


@pytest.mark.parametrize("max_norm", [0, -1.0, float("nan"), "1", None])
def test_clipping_refuses(max_norm):
    with pytest.raises(
        ValueError, match=r"clip_by_norm: max_norm = .*, expected a number in \(0, inf\]"
    ):
        optim.clip_by_norm({"W": np.ones(2)}, max_norm)
    with pytest.raises(TypeError, match="clip_by_norm: grads is a list, expected a dict {name: array}"):
        optim.clip_by_norm([np.ones(2)], 1.0)


@pytest.mark.parametrize(
    ("least_ndim", "decays"), [(0, (True, True)), (2, (False, True)), (3, (False, False))]
)
def test_adamw_decays_arrays_of_so_many_axes(least_ndim, decays):
    config = {"learning_rate": 0.1, "weight_decay": 0.5, "least_ndim": least_ndim}
    for w, decayed in zip((np.ones(3), np.ones((2, 2))), decays, strict=True):
        next_w, _ = UPDATE_RULES["adamw"](w, np.zeros_like(w), dict(config))
        np.testing.assert_allclose(next_w, 0.95 if decayed else 1)
