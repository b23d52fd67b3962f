"""The range test on a valley whose stable rates are known, and what it leaves of a model."""

import numpy as np
import pytest
from handgrad import Solver, vis_utils
from handgrad.data_utils import spiral
from handgrad.lr_finder import RangeTest, find_learning_rate
from handgrad.models import FullyConnectedNet, TwoLayerNet
from handgrad.solver import DivergenceError


class Valley:
    """loss = curvature * |w|^2 / 2 + floor. A step shrinks w if its rate is below 2 / curvature."""

    def __init__(self, curvature, floor=1.0):
        self.curvature, self.floor = curvature, floor
        self.params = {"w": np.array([1.0, -2.0])}

    def loss(self, X, y=None):
        if y is None:
            return np.zeros((len(X), 2))
        w = self.params["w"]
        return 0.5 * self.curvature * w @ w + self.floor, {"w": self.curvature * w}


DATA = {"X_train": np.zeros((60, 1)), "y_train": np.zeros(60, int)}


def wavy():
    """All that has state: batch norm, dropout."""
    return FullyConnectedNet([8], 5, 3, normalization="batchnorm", dropout=0.3, seed=0)


def everything(model):
    named = {**model.params, **model.state}
    return {name: np.array(array).tobytes() for name, array in named.items()}


@pytest.mark.parametrize("curvature", [4.0, 30.0, 900.0])
@pytest.mark.parametrize("floor", [0.0, 1.0])
def test_in_a_valley_it_finds_a_stable_rate(curvature, floor):
    found = find_learning_rate(Valley(curvature, floor), DATA, batch_size=10)
    limit, factor = 2 / curvature, found.rates[1] / found.rates[0]
    lowest = found.rates[np.argmin(found.losses)]
    assert lowest <= limit < lowest * factor  # the last rate that shrinks w
    assert limit / 10 < found.suggestion < limit
    assert found.diverged
    assert found.rates[-1] < 10


def test_rates_rise_by_a_factor_over_an_epoch_or_a_hundred_steps():
    for examples, steps in ((60, 102), (3000, 300)):  # 17 epochs of 6 steps; one epoch
        data = {"X_train": np.zeros((examples, 1)), "y_train": np.zeros(examples, int)}
        found = find_learning_rate(Valley(1e-9), data, low=1e-3, high=1.0, batch_size=10)
        expected = np.geomspace(1e-3, 1.0, steps)[:-1]  # after the last step no batch is left
        np.testing.assert_allclose(found.rates, expected, rtol=1e-9)
        assert found.losses.shape == found.smoothed.shape == found.rates.shape
        assert not found.diverged


def test_a_rate_goes_with_the_loss_after_its_step():
    found = find_learning_rate(Valley(1.0, 0.0), DATA, low=0.1, high=0.2, batch_size=10)
    w, losses = np.array([1.0, -2.0]), []
    for rate in found.rates:
        w = w * (1 - rate)
        losses.append(0.5 * w @ w)
    np.testing.assert_allclose(found.losses, losses, rtol=1e-9)


def test_the_smoothed_loss_is_a_mean_of_those_so_far():
    class Ramp(Valley):
        calls = 0

        def loss(self, X, y=None):
            if y is not None:
                self.calls += 1
            return np.zeros((len(X), 2)) if y is None else (float(self.calls), {"w": np.zeros(2)})

    found = find_learning_rate(Ramp(1.0), {k: v[:10] for k, v in DATA.items()}, batch_size=10)
    weights = 0.8 ** np.arange(4)[::-1]  # a hundred steps: a fifth of the newest
    assert found.smoothed[2] == pytest.approx(np.average([1, 2, 3, 4], weights=weights))
    assert found.diverged
    assert found.smoothed[-1] > 4 * 1 > found.smoothed[-2]  # the first loss, 1, is the lowest


@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_the_suggestion_trains_a_net(rule):
    X, y = spiral()
    data = {"X_train": X, "y_train": y}
    model = FullyConnectedNet([30], 2, 3, weight_scale="kaiming", seed=0)
    found = find_learning_rate(model, data, update_rule=rule, batch_size=30, seed=0)
    config = {"learning_rate": found.suggestion}
    options = dict(batch_size=30, num_epochs=60, verbose=False, seed=0)
    solver = Solver(model, data, update_rule=rule, optim_config=config, **options)
    solver.train()
    assert solver.loss_history[-1] < 0.7 * solver.loss_history[0]
    repeated = find_learning_rate(
        FullyConnectedNet([30], 2, 3, weight_scale="kaiming", seed=0),
        data,
        update_rule=rule,
        batch_size=30,
        seed=0,
    )
    np.testing.assert_array_equal(found.losses, repeated.losses)


# ---------------------------------------------------------------------------- what it leaves


def test_the_model_is_as_it_was(blobs):
    model = wavy()
    before, arrays = everything(model), dict(model.params)
    find_learning_rate(model, blobs, update_rule="adam", batch_size=20, seed=0)
    assert everything(model) == before
    assert all(model.params[name] is array for name, array in arrays.items())


def test_the_model_is_as_it_was_after_an_interrupt_or_an_error(blobs):
    for error in (KeyboardInterrupt, RuntimeError):
        model = wavy()
        before, calls = everything(model), []

        def augment(X, rng, calls=calls, error=error):
            calls.append(1)
            if len(calls) == 30:
                raise error
            return X

        with pytest.raises(error):
            find_learning_rate(model, blobs, batch_size=20, augment=augment)
        assert everything(model) == before


def test_the_callers_dicts_are_left_alone(blobs):
    config, data = {"momentum": 0.8}, dict(blobs)
    find_learning_rate(
        TwoLayerNet(5, 8, 3), data, update_rule="sgd_momentum", optim_config=config, batch_size=20
    )
    assert config == {"momentum": 0.8}
    assert data.keys() == blobs.keys()


# ---------------------------------------------------------------------------- what it shows


def test_it_prints_and_plots(tmp_path):
    found = find_learning_rate(Valley(7.0), DATA, batch_size=10)
    assert f"suggestion {found.suggestion:.2g}, a tenth of it." in repr(found)
    figure = found.plot()
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), found.smoothed)
    assert axes.lines[2].get_xdata()[0] == found.suggestion
    vis_utils.save(figure, tmp_path / "rates.png")


def test_rates_that_are_all_too_low_or_too_high():
    slow = find_learning_rate(Valley(1.0), DATA, high=1e-3, batch_size=10)
    assert "The loss still falls there; try a larger `high`." in repr(slow)
    fast = find_learning_rate(Valley(1.0), DATA, low=5.0, batch_size=10)
    assert fast.suggestion is None
    assert "the loss never fell; try a smaller `low`" in repr(fast)
    fast.plot()
    none = RangeTest(np.array([]), np.array([]), np.array([]), True)
    assert none.suggestion is None
    none.plot()


def test_a_loss_that_overflows_ends_it():
    found = find_learning_rate(Valley(1.0, 0.0), DATA, low=1.5, high=1e300, batch_size=10)
    assert found.diverged
    assert np.all(np.isfinite(found.losses))


# ---------------------------------------------------------------------------- what it refuses

REFUSED = [
    (dict(low=0), ValueError, r"find_learning_rate: low = 0, expected a number in \(0, inf"),
    (dict(low=1.0, high=0.1), ValueError, r"high = 0.1, expected a number in \(1.0, inf"),
    (dict(high=float("inf")), ValueError, "high = inf, expected"),
    (dict(num_epochs=3), TypeError, r"find_learning_rate: unknown keyword arguments \['num_epochs'\]"),
    (dict(batchsize=3), TypeError, "Did you mean 'batch_size'"),
    (dict(optim_config={"learning_rate": 1}), ValueError, "holds learning_rate, which is to be found"),
    (dict(optim_config={"momentum": 1}), ValueError, r"unknown keys of optim_config \['momentum'\]"),
    (dict(batch_size=100), ValueError, "batch_size = 100, but there are 60 training examples"),
]


@pytest.mark.parametrize(("settings", "error", "message"), REFUSED)
def test_mistakes(settings, error, message):
    with pytest.raises(error, match=message):
        find_learning_rate(Valley(1.0), DATA, **{"batch_size": 10, **settings})


def test_a_model_that_is_broken_from_the_start_says_so():
    with pytest.raises(DivergenceError, match="at iteration 1"):
        find_learning_rate(Valley(1.0, np.nan), DATA, batch_size=10)
