"""A net: a list of layers over one dict of parameters, with a loss at its end.

model = Net([Conv(6, 5, pad=2), ReLU(), MaxPool(2), Affine(10)], input_dim=(1, 28, 28), seed=0)
scores = model.loss(X)
loss, grads = model.loss(X, y)
"""

import contextlib
import dataclasses
import inspect
import math

import numpy as np

from .. import layers as L
from .. import recurrent as R
from ..engine import html
from ..engine.columns import in_columns
from ..engine.errors import check_count, check_range, look_up, refuse_unknown
from ..engine.parts import by_part
from ..engine.passes import Passes
from ..engine.randomness import generator, new_seed
from ..engine.targets import checked_kind, kind_of
from ..measures import ACCURACY, R_SQUARED
from .chain import Chain, Layer
from .descriptions import described, in_line
from .init import Draw
from .order import pool_first, product_first
from .summary import summary_lines

__all__ = ["LOSSES", "Net", "keywords"]

LOSSES = {"softmax": L.softmax_loss, "svm": L.svm_loss, "mse": L.mse_loss}
AT_EACH_STEP = {"softmax": R.word_softmax_loss, "mse": L.mse_loss}  # of nets whose output is a sequence
MEANS = (*LOSSES.values(), *AT_EACH_STEP.values())
SOFTMAX = (L.softmax_loss, R.word_softmax_loss)
OF_CLASSES = (*SOFTMAX, L.svm_loss)


class Net:
    """A net of the described layers.

    layers        a list of descriptions (Affine, Conv, MaxPool, BatchNorm, ReLU, Dropout ..., see
                  descriptions.py), names in ACTIVATIONS, and pairs of your own: Pair(forward,
                  backward, ...), or just (forward, backward)
    input_dim     the shape of one example: a whole number for rows, (C, H, W) for images, (T, D) for
                  sequences, and T for words, which an Embedding reads; `loss` takes any T
    weight_scale  the deviation of the first weights, 'xavier' or 'kaiming', or a function that draws
                  them as those do (init.py); biases are 0
    reg           L2 penalty: 0.5 * reg * sum(W * W) over weights, not over biases, gammas, betas
    loss          'softmax', 'svm' or 'mse', or a function of scores and targets, such as
                  functools.partial(softmax_loss, smoothing=0.1). 'mse' takes numbers, for regression,
                  or classes, whose one-hot rows are its targets then. If the net gives scores at
                  each step, 'softmax' is the mean over the steps whose word is not -1
    dtype         of the parameters; X is cast to it when `loss` is called. In float16 the epsilon of
                  rmsprop and adam, 1e-8, is 0: give them a larger one
    streams       B, to learn long sequences window by window: a batch has B of them, and example i goes
                  on where example i of the batch before ended. The recurrent layers' states are carried
                  over, without gradient: truncated backpropagation through time (Williams & Peng
                  1990). None: each example begins at state 0, as it does when there are no labels
    seed          of the first weights and of dropout's masks. With a seed, `loss` gives the same
                  numbers each time, as gradient checks need, and the masks change with `step`, which
                  the Solver counts. Without one, each call draws new masks.

    params is the dict of arrays W1, b1, gamma1, beta1, W2, ... It is read at every call. class_names,
    a list of words or None, is kept for whoever shows classes. Raises ValueError, with the layer's
    number, if the layers do not fit together.
    """

    def __init__(
        self,
        layers,
        input_dim,
        *,
        weight_scale="kaiming",
        reg=0.0,
        loss="softmax",
        dtype=np.float32,
        streams=None,
        seed=None,
        **unknown,
    ):
        self.name = type(self).__name__
        refuse_unknown(self.name, unknown, keywords(type(self)), "keyword arguments", TypeError)
        self.input_dim = _checked_dim(self.name, input_dim)
        check_range(self.name, "reg", reg, 0, math.inf)
        check_count("streams", streams, optional=True, who=self.name)
        check_count("seed", seed, low=0, optional=True, who=self.name)
        self.reg, self.dtype, self.streams = reg, _checked_dtype(self.name, dtype), streams
        self.new_masks_each_call = seed is None
        seed = new_seed() if seed is None else seed
        self.descriptions, self.class_names = described(self.name, layers), None
        self.layers, self._rows, params = self._build(weight_scale, seed)
        self._outputs = self._rows[-1][1]
        losses = AT_EACH_STEP if len(self._outputs) == 2 else LOSSES
        criterion = loss if callable(loss) else look_up(self.name, losses, loss, "loss")
        function = getattr(criterion, "func", criterion)  # inside functools.partial
        is_mean = function in MEANS
        self.criterion, self._loss = criterion, function
        self.learned_numbers = self.takes_numbers and self._outputs[-1] == 1
        self._connect(self.layers, criterion, is_mean, seed, params)

    def _connect(self, layers, loss, loss_is_mean, seed, params, step=0):
        """From now on compute with these layers and this loss."""
        layers = product_first(pool_first(layers))
        self._chain = Chain(self.name, layers, loss, loss_is_mean, seed, params, step)
        self.carried = self.at_rest()
        kinds = {1: "rows", 2: "sequences", 3: "images"}
        examples = "sequences" if self._reads_words else kinds[len(self.input_dim)]
        self._passes = Passes(self._chain, examples)

    # ------------------------------------------------------------------ what a net computes

    def loss(self, X, y=None):
        """Loss and gradients of a labelled batch, or without labels its scores (N, classes).

        X: (N, ...) as `input_dim` says, numbers of any kind; rows may come as images, and sequences
        with any number of steps. If there are scores at each step, (N, T, classes), labels are (N, T).
        y: labels (N,), integers, or one-hot rows (N, classes); if the loss is 'mse' or a function of
        yours, also numbers, (N, K) or (N,) for one output, which the function gets as (N, K).
        """
        X = by_part(self._as_input, X)
        if y is None:
            return self._passes.predict(X, len(self.layers))
        y = by_part(self._as_targets, y, X)
        self._check_streams(len(X))
        if self.new_masks_each_call:
            self.step += 1
        loss, grads = self._passes.loss_and_gradients(X, y)
        return self._with_penalty(loss, {name: grads[name] for name in self.params})

    def shared_parts(self, N):
        """The slices in which several processes share a batch of N examples (engine/ranks.py)."""
        return self._passes.shared_parts(N)

    def features(self, X):
        """What enters the last layer at test time: (N, ...)."""
        return self._passes.predict(self._as_input(X), len(self.layers) - 1)

    def layer_calls(self, X):
        """What a pass in training calls, for a check of each layer by itself.

        Returns a list of (title, forward, backward, forward's arguments, names of input and
        parameters), the loss function, and the scores that it gets.
        """
        chain, calls = self._chain, []

        def noted(k, x):
            layer = chain.layers[k]
            title = f"layer {layer.number} ({self._rows[layer.number - 1][0]})"
            arguments = chain.arguments(k, x, "train")
            names = (f"input of layer {layer.number}", *layer.names)
            calls.append((title, layer.forward, layer.backward, arguments, names))
            return chain.call(k, x, "train")

        scores, _ = chain.walk(self._as_input(X), range(len(chain.layers)), noted)
        return calls, chain.loss, scores

    # ------------------------------------------------------------------ what it carries

    @property
    def carried(self):
        """The states of the recurrent layers, {k: (streams, S)}, at which a labelled batch begins: 0,
        until some are assigned. Empty without `streams`.
        """
        return self._chain.carried

    @carried.setter
    def carried(self, states):
        self._chain.carried = states

    @property
    def left(self):
        """The same after the last step of the last labelled batch. `loss` changes no result of the next
        one; whoever trains goes on by `model.carried = model.left`.
        """
        return self._chain.left

    def at_rest(self):
        """The states at the beginning of a text, all 0: for `model.carried = model.at_rest()`."""
        return {} if self.streams is None else self._chain.at_rest(self.streams, self.dtype)

    def _check_streams(self, N):
        if self.streams not in (None, N):
            raise ValueError(
                f"{self.name}.loss: X has {N} sequences, but the net carries the states of "
                f"{self.streams} streams; expected {self.streams}."
            )

    def _with_penalty(self, loss, grads):
        if self.reg:
            for name, w in self.params.items():
                if name.startswith("W"):
                    loss = loss + 0.5 * self.reg * np.dot(w.ravel(), w.ravel())
                    grads[name] = grads[name] + self.reg * w
        return loss, grads

    def _as_input(self, X):
        X = np.asarray(X)
        self._check_input("loss", X)
        if self._reads_words:
            return X
        first = next(iter(self.params.values()), np.empty(0, self.dtype))
        return X.astype(first.real.dtype, copy=False)

    def _check_input(self, method, X):
        dim = self.input_dim
        if self._reads_words:
            if X.ndim != 2 or X.dtype.kind not in "iu" or not X.shape[1]:
                raise ValueError(
                    f"{self.name}.{method}: X has shape {X.shape} and dtype {X.dtype}, expected words "
                    "(N, T), integers."
                )
            return
        flat = len(dim) == 1 and math.prod(X.shape[1:]) == dim[0]
        steps = len(dim) == 2 and X.ndim == 3 and X.shape[1] > 0 and X.shape[2] == dim[1]
        if X.ndim < 2 or not (flat or steps or X.shape[1:] == dim):
            expected = f"T, {dim[1]}" if len(dim) == 2 else ", ".join(map(str, dim))
            cure = " For one example, try X[None]." if X.shape == dim else ""
            raise ValueError(
                f"{self.name}.{method}: X has shape {X.shape}, expected (N, {expected}).{cure}"
            )
        if X.dtype.kind not in "biufc":
            raise ValueError(f"{self.name}.{method}: X has dtype {X.dtype}, expected numbers.")

    def _as_targets(self, y, X):
        """Targets as the loss takes them; notes whether they are numbers."""
        y, N = np.asarray(y), len(X)
        shape = (N, *self._outputs)
        if len(shape) == 3 and y.ndim > 1:
            shape = (N, y.shape[1], shape[2])  # as many steps as come
        kind, is_ours = kind_of(y, shape), self._loss in MEANS
        if y.shape[:1] != (N,):
            raise ValueError(
                f"{self.name}.loss: X has {N} examples and y the shape {y.shape}, expected ({N},)."
            )
        if is_ours and kind != "labels":
            checked_kind(f"{self.name}.loss", "y", y, shape, self.takes_numbers)
        if kind == "one-hot":
            return y.argmax(axis=-1) if is_ours else y
        self.learned_numbers = kind == "numbers"
        return y.reshape(shape) if kind == "numbers" else y

    @property
    def _reads_words(self):
        return self.layers[0].reads_words

    @property
    def takes_numbers(self):
        """Whether the loss learns numbers, too, and not classes alone."""
        return self._loss not in OF_CLASSES

    # ------------------------------------------------------------------ what it predicts

    def predict(self, X, batch_size=100):
        """The class of each example, the one with the largest score: integers (N,). ValueError if a
        score is NaN.

        After learning numbers the outputs, (N, K), or (N,) for one. X: as for `loss`; no more than
        batch_size examples are in work at once.
        """
        measure = R_SQUARED if self.learned_numbers else ACCURACY
        return self._by_batches("predict", measure.decide, X, batch_size)

    def predict_proba(self, X, batch_size=100):
        """The probability of each class, (N, classes): the softmax of the scores.

        X and batch_size as for `predict`. ValueError if the loss is not softmax.
        """
        if self._loss not in SOFTMAX:
            raise ValueError(
                f"{self.name}.predict_proba: the loss is {self._loss.__name__}, whose scores are no "
                "probabilities; expected a net with loss='softmax'."
            )
        from ..attention import softmax_forward  # when first needed: it costs time at import

        return self._by_batches("predict_proba", lambda s: softmax_forward(s)[0], X, batch_size)

    def _by_batches(self, who, function, X, batch_size):
        """A function of the scores of all examples."""
        check_count("batch_size", batch_size, who=f"{self.name}.{who}")
        X = np.asarray(X)
        self._check_input(who, X)
        starts = range(0, max(1, len(X)), batch_size)  # no examples are a batch, too
        return np.concatenate([function(self.loss(X[k : k + batch_size])) for k in starts])

    # ------------------------------------------------------------------ what it consists of

    def _build(self, weight_scale, seed):
        """The layers, their rows in the summary, and the parameters.

        One example of ones goes through the layers as they are built: so their shapes are known, and a
        layer that does not fit is refused here, in its own words.
        """
        draw = Draw(weight_scale, self._generator(seed), self.dtype)
        x, layers, rows, params, counts = np.ones((1, *self.input_dim), self.dtype), [], [], {}, {}
        entered = []  # the shapes that entered the branches under way
        for description, forks, joins in in_line(self.descriptions):
            number = len(layers) + 1
            entered += forks * [x.shape]
            try:
                built = description.build(x.shape[1:], draw)
            except ValueError as error:
                raise ValueError(f"{self.name}, layer {number}: {error}") from error
            for kind in built.params:
                counts[kind] = counts.get(kind, 0) + 1
            new = {f"{k}{counts[k]}": p.astype(self.dtype) for k, p in built.params.items()}
            params |= new
            pair, names = (built.forward, built.backward), (*built.borrows, *new)
            layers.append(Layer(*pair, names, built.settings, number, **built.flags))
            if number == 1 and layers[0].reads_words:
                x = np.zeros(x.shape, int)
            x = Chain(self.name, layers, None, False, seed, params).predict(x, [number - 1])
            rows.append((built.title, x.shape[1:], tuple(new)))
            for shape in entered[len(entered) - joins :]:
                _check_branch(self.name, number, shape, x.shape)
            del entered[len(entered) - joins :]
            layers[-1] = dataclasses.replace(layers[-1], forks=forks, joins=joins)
        return layers, rows, params

    def _generator(self, seed):
        """What the first weights are drawn from."""
        return generator(seed, "initialisation")

    def summary(self):
        """Print the layers, their output shapes, parameters, and multiplications an example."""
        print(self)

    def __repr__(self):
        return f"{self._title}\n{in_columns(self._lines, right=(0, 3, 4))}"

    def _repr_html_(self):
        head, *lines = self._lines
        return html.table(head, lines, self._title)

    @property
    def _title(self):
        return f"{self.name}: an example is {self.input_dim}"

    @property
    def _lines(self):
        return summary_lines(self.layers, self._rows, self.params)

    # ------------------------------------------------------------------ what it keeps

    @property
    def params(self):
        """The dict of parameters."""
        return self._chain.params

    @params.setter
    def params(self, params):
        self._chain.params = params

    @property
    def seed(self):
        """The seed of dropout's masks."""
        return self._chain.seed

    @property
    def step(self):
        """The number of the training step; dropout's masks depend on it."""
        return self._chain.step

    @step.setter
    def step(self, step):
        self._chain.step = step

    @property
    def state(self):
        """What a net keeps besides its parameters: seed, step, running statistics of batch norm, what
        streams carry.

        A dict of arrays. Assign one to put it back; ValueError if it does not fit this net.
        """
        statistics = {key: bn_param[name].copy() for key, bn_param, name in self._running()}
        carried = {f"carried{k + 1}": states.copy() for k, states in self.carried.items()}
        return {"seed": np.array(self.seed), "step": np.array(self.step)} | statistics | carried

    @state.setter
    def state(self, state):
        expected = {key: np.shape(array) for key, array in self.state.items()}
        came = {key: np.shape(array) for key, array in state.items()}
        if came != expected:
            raise ValueError(f"{self.name}.state: came with shapes {came}, expected {expected}.")
        self._chain.seed, self.step = int(state["seed"]), int(state["step"])
        for key, bn_param, name in self._running():
            bn_param[name] = np.array(state[key])
        self.carried = {k: np.array(state[f"carried{k + 1}"]) for k in self.carried}

    def save(self, path):
        """Write the whole net, layers and all, to one .npz file, which `load` reads (saving.py)."""
        from .saving import save  # when first needed, as it needs all models

        return save(self, path)

    @classmethod
    def load(cls, path, pairs=None):
        """The net in a file that `save` wrote; pairs: your own functions by name (saving.load)."""
        from .saving import load

        model = load(path, pairs)
        if not isinstance(model, cls):
            is_own = issubclass(cls, type(model))
            cure = f"; a class of one's own is saved as a {model.name}: {model.name}.load" * is_own
            raise ValueError(f"{path}: holds a {model.name}, expected a {cls.__name__}{cure}.")
        return model

    @property
    def bn_params(self):
        """The bn_param of each batch norm, with its running statistics."""
        settings = [s for layer in self.layers for s in layer.settings]
        return [s for s in settings if isinstance(s, dict) and "running_mean" in s]

    def _running(self):
        """(key in `state`, bn_param, key in bn_param) of all running statistics."""
        for k, bn_param in enumerate(self.bn_params, 1):
            for name in ("running_mean", "running_var"):
                yield f"{name}{k}", bn_param, name


def keywords(model):
    """The names of the keyword arguments that a class of nets takes, those of `Net` included."""
    makers = [c.__init__ for c in model.__mro__ if issubclass(c, Net)]
    parameters = [p for maker in makers for p in inspect.signature(maker).parameters.values()]
    named = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD} - {"self"}
    return named if model is Net else named - {"layers"}


def _checked_dtype(who, dtype):
    with contextlib.suppress(TypeError):  # what NumPy does not know
        if (kind := np.dtype(dtype)).kind in "fc":
            return kind.type
    raise ValueError(f"{who}: dtype = {dtype!r}, expected floats, such as np.float32.")


def _checked_dim(who, input_dim):
    shape = tuple(input_dim) if np.iterable(input_dim) else (input_dim,)
    whole = all(isinstance(size, int | np.integer) and size > 0 for size in shape)
    if not whole or len(shape) not in (1, 2, 3):
        raise ValueError(
            f"{who}: input_dim = {input_dim!r}, expected the length of a row, (C, H, W) of an image or "
            "(T, D) of a sequence."
        )
    return shape


def _check_branch(who, number, entered, left):
    if entered != left:
        raise ValueError(
            f"{who}, layer {number}: a Residual ends with shape {left[1:]}, expected that of its "
            f"beginning, {entered[1:]}."
        )
