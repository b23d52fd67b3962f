"""Each rule on histories whose outcome is plain, and in a Solver."""

import functools
from types import SimpleNamespace

import pytest
from handgrad import Solver
from handgrad.measures import BITS
from handgrad.models import TwoLayerNet
from handgrad.stopping import STOPPING_RULES, patience, small_gain, threshold

ROWS = [  # rule, settings, history, stops
    (patience, dict(epochs=2), [0.1, 0.5, 0.4, 0.5], True),
    (patience, dict(epochs=3), [0.1, 0.5, 0.4, 0.5], False),
    (patience, dict(epochs=1), [0.1, 0.5], False),
    (threshold, dict(limit=0.2), [0.1, 0.9, 0.87], True),  # 0.13 is 30 % above 0.10
    (threshold, dict(limit=0.4), [0.1, 0.9, 0.87], False),
    (threshold, dict(limit=0.4), [0.5, 1.0, 0.99], True),
    (threshold, dict(limit=0.0), [0.5, 0.6], False),
    (small_gain, dict(limit=0.01), [0.1, 0.9, 0.905], True),
    (small_gain, dict(limit=0.01), [0.1, 0.9, 0.92], False),
]


def test_every_rule_has_a_row():
    assert {row[0] for row in ROWS} == set(STOPPING_RULES.values())


@pytest.mark.parametrize(("rule", "settings", "history", "stops"), ROWS)
def test_rules(rule, settings, history, stops):
    solver = SimpleNamespace(val_acc_history=history, train_acc_history=history)
    assert bool(rule(solver, **settings)) == stops


BITS_ROWS = [  # of bits a word, which should fall: rule, settings, history, what it says
    (patience, dict(epochs=1), [5.0, 4.0, 3.0], ""),
    (patience, dict(epochs=1), [5.0, 4.0, 4.5], "no better validation bits a word"),
    (threshold, dict(limit=0.1), [5.0, 4.0, 3.0], ""),
    (threshold, dict(limit=0.1), [5.0, 2.0, 2.3], "the validation error is 2.3000 after a best of 2.0"),
    (small_gain, dict(limit=0.1), [5.0, 4.0, 3.0], ""),
    (small_gain, dict(limit=0.1), [5.0, 4.0, 3.95], "an epoch gained 0.0500 of training bits a word."),
    (small_gain, dict(limit=0.1), [5.0, 4.0, 4.5], "an epoch gained -0.5000 of training bits a word."),
]


@pytest.mark.parametrize(("rule", "settings", "history", "says"), BITS_ROWS)
def test_bits_are_better_when_they_fall(rule, settings, history, says):
    solver = SimpleNamespace(val_acc_history=history, train_acc_history=history, measure=BITS)
    reason = rule(solver, **settings)
    assert says in reason
    assert bool(says) == bool(reason)


def test_in_a_solver(blobs, capsys):
    solver = Solver(
        TwoLayerNet(5, 8, 3, seed=0),
        blobs,
        optim_config={"learning_rate": 1e-12},
        batch_size=20,
        print_every=0,
        stop=functools.partial(patience, epochs=3),
        seed=0,
    )
    solver.train()
    assert solver.epoch == 3
    assert "Stopped after epoch 3: no better validation accuracy" in capsys.readouterr().out


def test_without_validation_it_says_so(blobs):
    data = {k: v for k, v in blobs.items() if "train" in k}
    stop = functools.partial(patience, epochs=3)
    solver = Solver(TwoLayerNet(5, 8, 3), data, batch_size=20, verbose=False, stop=stop)
    with pytest.raises(ValueError, match="the data has no X_val"):
        solver.train()
