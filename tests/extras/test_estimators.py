"""scikit-learn's own checks of an estimator, and nets in its pipelines and searches."""

import importlib
import pickle
import sys

import numpy as np
import pytest
from handgrad.data_utils import spiral
from handgrad.models import Affine, Conv, MaxPool, ReLU

pytest.importorskip("sklearn")

from handgrad.estimators import HandgradClassifier, HandgradRegressor
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

QUICK = dict(learning_rate=1e-2, num_epochs=12)


@parametrize_with_checks([HandgradClassifier(**QUICK), HandgradRegressor(**QUICK)])
def test_all_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", [HandgradClassifier(), HandgradRegressor()])
def test_its_problems_are_learned_with_the_parameters_as_they_are(estimator):
    checks = estimator_checks_generator(estimator)
    e, check = next(pair for pair in checks if "rs_train" in str(pair[1]))
    check(e)


@pytest.fixture
def arms():
    """The spiral far from 0, its arms with names."""
    X, y = spiral(60)
    order = np.random.default_rng(0).permutation(len(X))
    return 100 + 10 * X[order], np.array(["left", "right", "up"])[y[order]]


def test_a_pipeline_learns_the_spiral(arms):
    X, y = arms
    net = HandgradClassifier((100,), learning_rate=1e-2, num_epochs=60, random_state=0)
    pipeline = make_pipeline(StandardScaler(), net).fit(X, y)
    assert pipeline.score(X, y) > 0.95
    assert set(pipeline.predict(X)) == {"left", "right", "up"}
    P = pipeline.predict_proba(X)
    np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(net.classes_[P.argmax(axis=1)], pipeline.predict(X))
    assert net.net_.class_names == ["left", "right", "up"]
    assert net.n_features_in_ == 2
    assert len(net.loss_history_) == 60 * 6


def test_a_search_takes_its_parameters(arms):
    X, y = arms
    pipeline = make_pipeline(StandardScaler(), HandgradClassifier(num_epochs=30, random_state=0))
    grid = {
        "handgradclassifier__hidden_dims": [(2,), (50,)],
        "handgradclassifier__learning_rate": [1e-4, 3e-2],
    }
    search = GridSearchCV(pipeline, grid, cv=2).fit(X, y)
    assert search.best_params_ == {
        "handgradclassifier__hidden_dims": (50,),
        "handgradclassifier__learning_rate": 3e-2,
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_net_has_the_precision_of_x(arms, dtype):
    X, y = arms[0].astype(dtype), arms[1]
    estimator = HandgradClassifier(**QUICK, random_state=0).fit(X, y)
    assert {p.dtype for p in estimator.net_.params.values()} == {np.dtype(dtype)}
    assert estimator.predict_proba(X).dtype == dtype


def test_random_state_is_all_that_is_drawn(arms):
    X, y = arms

    def outcome(random_state):
        return HandgradClassifier(**QUICK, random_state=random_state).fit(X, y).predict_proba(X)

    np.testing.assert_array_equal(outcome(3), outcome(3))
    np.testing.assert_array_equal(outcome(np.random.RandomState(5)), outcome(np.random.RandomState(5)))
    assert np.any(outcome(3) != outcome(4))
    assert np.any(outcome(None) != outcome(None))


def test_clones_and_pickles(arms):
    X, y = arms
    layers = [Affine(20), ReLU()]
    estimator = HandgradClassifier(layers=layers, **QUICK, random_state=0).fit(X, y)
    again = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(again.predict_proba(X), estimator.predict_proba(X))
    np.testing.assert_array_equal(
        clone(estimator).fit(X, y).predict_proba(X), estimator.predict_proba(X)
    )
    assert estimator.net_.params["W1"].shape == (2, 20)


def test_rows_that_hold_images():
    """Stripes in rows or in columns, as rows of 64 numbers."""
    rng = np.random.default_rng(0)
    X = np.zeros((80, 8, 8))
    X[:40, ::2], X[40:, :, ::2] = 1, 1
    X = (X + 0.3 * rng.standard_normal(X.shape)).reshape(80, 64)
    y = np.repeat([0, 1], 40)
    layers = [Conv(4, 3), ReLU(), MaxPool(2)]
    net = HandgradClassifier(layers=layers, input_dim=(1, 8, 8), batch_size=10, **QUICK, random_state=0)
    assert cross_val_score(net, X, y, cv=4).mean() > 0.9
    with pytest.raises(ValueError, match=r"X has 64 features, but input_dim = \(1, 9, 9\) has 81"):
        clone(net).set_params(input_dim=(1, 9, 9)).fit(X, y)


def test_regression_of_one_and_of_several_numbers():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 3))
    Y = np.stack([X @ [1, 2, 3], np.abs(X[:, 0])], axis=1)
    for y in (Y[:, 0], Y, Y[:, :1]):
        estimator = HandgradRegressor(learning_rate=1e-2, num_epochs=40, random_state=0).fit(X, y)
        assert estimator.predict(X).shape == y.shape
        assert estimator.score(X, y) > 0.9


MISTAKES = {
    "widths": (dict(hidden_dims=50), "HandgradClassifier: hidden_dims = 50, expected a list of widths"),
    "layers": (
        dict(layers=Affine(5)),
        r"layers is Affine\(.*expected a list of layers",
    ),
    "a layer": (dict(layers=[Affine]), "layers holds <class.*expected a description such as"),
    "batch size": (
        dict(batch_size="all"),
        "batch_size = 'all', expected a whole number",
    ),
    "no batch": (dict(batch_size=0), "HandgradClassifier: batch_size = 0, expected a whole number"),
    "rule": (dict(update_rule="adm"), "unknown update_rule 'adm'.*Did you mean 'adam'"),
    "rate": (dict(learning_rate=None), "optim_config holds .*None"),
    "epochs": (dict(num_epochs=-1), "num_epochs = -1, expected"),
    "penalty": (dict(reg=-1), "reg = -1, expected"),
    "workers": (dict(workers=0), "workers: count = 0, expected"),
    "random state": (dict(random_state="x"), "'x' cannot be used to seed"),
}


@pytest.mark.parametrize(("parameters", "message"), MISTAKES.values(), ids=MISTAKES)
def test_wrong_parameters_are_told_when_they_are_used(arms, parameters, message):
    with pytest.raises(ValueError, match=message):
        HandgradClassifier(**parameters).fit(*arms)


def test_other_mistakes(arms):
    X, y = arms
    with pytest.raises(NotFittedError, match="HandgradClassifier instance is not fitted yet"):
        HandgradClassifier().predict(X)
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        HandgradClassifier().fit(X, X[:, 0])
    estimator = HandgradClassifier(**QUICK).fit(X, y)
    with pytest.raises(ValueError, match="X has 3 features, but HandgradClassifier is expecting 2"):
        estimator.predict(np.ones((2, 3)))
    with pytest.raises(ValueError, match="could not convert string to float|dtype='numeric'"):
        HandgradRegressor().fit(X, y)


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "handgrad.estimators")
    monkeypatch.setitem(sys.modules, "sklearn", None)
    message = r"handgrad.estimators needs sklearn, .* pip install 'handgrad\[sklearn\]'"
    with pytest.raises(ImportError, match=message):
        importlib.import_module("handgrad.estimators")
