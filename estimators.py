"""Nets as estimators of scikit-learn, for its pipelines and searches. They need the extra `sklearn`.

make_pipeline(StandardScaler(), HandgradClassifier(hidden_dims=(50,))).fit(X, y).score(X, y)
"""

import math

import numpy as np

from .engine.errors import check_count
from .engine.extras import need
from .engine.workers import workers
from .models import Affine, Net
from .models.fc_net import hidden_layers
from .solver import Solver

need("handgrad.estimators", "sklearn", "sklearn")

from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin  # noqa: E402
from sklearn.utils import check_random_state  # noqa: E402
from sklearn.utils.multiclass import check_classification_targets  # noqa: E402
from sklearn.utils.validation import check_is_fitted, validate_data  # noqa: E402

__all__ = ["HandgradClassifier", "HandgradRegressor"]

FLOATS = (np.float64, np.float32)


class _NetEstimator(BaseEstimator):
    """What both estimators share: their parameters, and a net that the Solver trains."""

    def __init__(
        self,
        hidden_dims=(100,),
        *,
        layers=None,
        input_dim=None,
        reg=0.0,
        update_rule="adam",
        learning_rate=1e-3,
        batch_size=32,
        num_epochs=50,
        workers=1,
        verbose=False,
        random_state=None,
    ):
        self.hidden_dims = hidden_dims
        self.layers = layers
        self.input_dim = input_dim
        self.reg = reg
        self.update_rule = update_rule
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.num_epochs = num_epochs
        self.workers = workers
        self.verbose = verbose
        self.random_state = random_state

    def _train(self, X, y, outputs, loss, **data):
        """Train a new net on X (N, D), in X's own precision; data: more for the Solver's dict."""
        check_count("batch_size", self.batch_size, who=type(self).__name__)
        seed = self._seed()
        layers = [*self._layers_before_the_last(), Affine(outputs)]
        shape = X.shape[1] if self.input_dim is None else self.input_dim
        net = Net(layers, shape, reg=self.reg, loss=loss, dtype=X.dtype, seed=seed)
        self.input_dim_ = net.input_dim
        solver = Solver(
            net,
            {"X_train": self._examples(X), "y_train": y, **data},
            update_rule=self.update_rule,
            optim_config={"learning_rate": self.learning_rate},
            batch_size=min(self.batch_size, len(X)),
            num_epochs=self.num_epochs,
            verbose=self.verbose,
            seed=seed,
        )
        self.net_, self.loss_history_ = net, solver.loss_history  # usable after Ctrl-C, too
        with workers(self.workers):  # for the whole training: its epochs may be short
            solver.train()
        return self

    def _seed(self):
        """A number from scikit-learn's random_state: None, a number, or a RandomState."""
        if self.random_state is None:
            return None
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _layers_before_the_last(self):
        if self.layers is None:
            return hidden_layers(type(self).__name__, self.hidden_dims, None, "relu", 0)
        if not isinstance(self.layers, list | tuple):
            raise ValueError(
                f"{type(self).__name__}: layers is {self.layers!r}, expected a list of layers."
            )
        return self.layers

    def _examples(self, X):
        """The rows as the net takes them."""
        if X.shape[1] != math.prod(self.input_dim_):
            raise ValueError(
                f"{type(self).__name__}: X has {X.shape[1]} features, but input_dim = {self.input_dim} "
                f"has {math.prod(self.input_dim_)}."
            )
        return X.reshape(-1, *self.input_dim_)

    def _checked(self, X):
        """Examples to predict, as the net takes them."""
        check_is_fitted(self)
        return self._examples(validate_data(self, X, dtype=FLOATS, reset=False))


PARAMETERS = """
    hidden_dims    widths of hidden layers: affine and relu (100)
    layers         a list as Net takes it, in place of hidden_dims; the last affine layer is added
    input_dim      (C, H, W), if a row of X holds an image; None: a row
    reg            L2 penalty (0)
    update_rule    as in the Solver ('adam')
    learning_rate  of the update rule (1e-3)
    batch_size     examples a step (32), all if there are fewer
    num_epochs     passes over the data (50)
    workers        threads that share a batch's work (1: searches have processes of their own)
    verbose        whether the Solver prints
    random_state   a number or a RandomState; None draws another net at each fit

    After `fit`: net_, the trained Net; loss_history_, a loss a step; n_features_in_.
    The net has the precision of X, float32 or float64. Scale the features first, by StandardScaler.
"""


class HandgradClassifier(ClassifierMixin, _NetEstimator):
    __doc__ = f"""A net with softmax loss; classes may have any names.
{PARAMETERS.rstrip()} classes_ has the names of the classes, sorted.
    """

    def fit(self, X, y):
        """Train a new net on rows X (N, D) and labels y (N,)."""
        X, y = validate_data(self, X, y, dtype=FLOATS)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        return self._train(X, labels, len(self.classes_), "softmax", class_names=self.classes_)

    def predict(self, X):
        """The class of each row (N,)."""
        X = self._checked(X)
        return self.classes_[self.net_.predict(X)]

    def predict_proba(self, X):
        """The probability of each class (N, C), in the order of classes_."""
        X = self._checked(X)
        return self.net_.predict_proba(X)


class HandgradRegressor(RegressorMixin, _NetEstimator):
    __doc__ = f"""A net with mean squared error as its loss, for one number or several.
{PARAMETERS}"""

    def fit(self, X, y):
        """Train a new net on rows X (N, D) and targets y, floats (N,) or (N, K)."""
        X, y = validate_data(self, X, y, dtype=FLOATS, multi_output=True, y_numeric=True)
        y = np.asarray(y, X.dtype)
        self._target_shape = y.shape[1:]
        return self._train(X, y, y.shape[1] if y.ndim == 2 else 1, "mse")

    def predict(self, X):
        """The targets of each row, shaped as in `fit`."""
        X = self._checked(X)
        return self.net_.predict(X).reshape(len(X), *self._target_shape)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
