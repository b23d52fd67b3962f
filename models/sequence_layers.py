"""Descriptions of layers for sequences, as those of descriptions.py: `build(shape, draw)`.

    Net([Embedding(65, 32), LSTM(128), TemporalAffine(65)], input_dim=64)

An example is a row of T words, shape (T,), or T steps of D numbers each, shape (T, D). A net takes
sequences of any length, unless it has learned positions.
"""

from dataclasses import dataclass

import numpy as np

from .. import attention as A
from .. import recurrent as R
from .descriptions import Built, Dropout, LayerNorm, Residual, _whole

__all__ = [
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "Conv1D",
    "Embedding",
    "LastStep",
    "Positions",
    "RMSNorm",
    "SelfAttention",
    "TemporalAffine",
    "TransformerBlock",
    "WordScores",
]

# ---------------------------------------------------------------------------- words


@dataclass(frozen=True)
class Embedding:
    """`word_embedding_forward`, the first layer of a net that reads words: integers in [0, words).

    Parameter W (words, width).
    """

    words: int
    width: int

    def build(self, shape, draw):
        V, D = _whole("Embedding", "words", self.words), _whole("Embedding", "width", self.width)
        if len(shape) != 1:
            raise ValueError(f"Embedding: an example has shape {shape} here, expected words (T,).")
        params = {"W": draw((V, D), fan_in=V, fan_out=D)}
        pair = (R.word_embedding_forward, _word_embedding_backward)
        return Built(f"embedding of {V} words", *pair, params, flags={"reads_words": True})


def _word_embedding_backward(dout, cache):
    return None, R.word_embedding_backward(dout, cache)  # words have no gradient


def word_affine_backward(dout, cache):
    """`recurrent.word_affine_backward` as a net calls it."""
    return None, *R.word_affine_backward(dout, cache)


@dataclass(frozen=True)
class WordScores:
    """`word_scores_forward`: scores by the embedding's own matrix, "tied" to it. No parameters of its
    own; the net's first layer is an Embedding.
    """

    def build(self, shape, draw):
        _sequence("WordScores", shape)
        pair = (R.word_scores_forward, R.word_scores_backward)
        return Built("word scores (tied)", *pair, borrows=("W1",))


@dataclass(frozen=True)
class Positions:
    """`position_embedding_forward` with learned rows, one for each step of input_dim: a longer sequence
    is refused. Parameter W (T, D).
    """

    def build(self, shape, draw):
        T, D = _sequence("Positions", shape)
        pair = (A.position_embedding_forward, A.position_embedding_backward)
        params = {"W": draw((T, D), fan_in=T, fan_out=D)}
        return Built("positions", *pair, params, flags={"advance": _further_positions})


def _further_positions(x, start, W):
    start = start or 0
    stop = start + x.shape[1]
    return A.position_embedding_forward(x, W[start:])[0], stop


# ---------------------------------------------------------------------------- recurrent layers
# In a net they begin at the state that they are told (models/chain.py). It is no parameter: its
# gradient is left out, so backpropagation through time ends at the beginning of the batch.


@dataclass(frozen=True)
class RNN:
    """`rnn_forward` with `width` hidden units, from h = 0. Parameters Wx, Wh and b."""

    width: int

    def build(self, shape, draw):
        params = _recurrent_weights("RNN", self.width, 1, shape, draw)
        pair = (_rnn_forward, _rnn_backward)
        recurrence = (_rnn_recurrence, _rnn_recurrence_backward)
        return _recurrent("rnn", pair, recurrence, params, shape)


@dataclass(frozen=True)
class LSTM:
    """`lstm_forward` with `width` hidden units, from h = c = 0. Parameters Wx, Wh and b.

    forget_bias: b of the forget gate at first, so that c is kept (Jozefowicz et al. 2015).
    """

    width: int
    forget_bias: float = 1.0

    def build(self, shape, draw):
        params = _recurrent_weights("LSTM", self.width, 4, shape, draw)
        params["b"][self.width : 2 * self.width] = self.forget_bias
        pair = (_lstm_forward, _lstm_backward)
        recurrence = (_lstm_recurrence, _lstm_recurrence_backward)
        built = _recurrent("lstm", pair, recurrence, params, shape, states=2)
        built.flags["advance"] = _further_lstm
        return built


@dataclass(frozen=True)
class GRU:
    """`gru_forward` with `width` hidden units, from h = 0. Parameters Wx, Wh, bx and bh."""

    width: int

    def build(self, shape, draw):
        params = _recurrent_weights("GRU", self.width, 3, shape, draw)
        b = params.pop("b")
        params |= {"bx": b, "bh": b.copy()}
        pair = (_gru_forward, _gru_backward)
        recurrence = (_gru_recurrence, _gru_recurrence_backward)
        return _recurrent("gru", pair, recurrence, params, shape)


def _recurrent_weights(who, width, blocks, shape, draw):
    D, H = _sequence(who, shape)[1], _whole(who, "width", width)
    M = blocks * H
    Wx, Wh = (draw((rows, M), fan_in=rows, fan_out=H) for rows in (D, H))
    return {"Wx": Wx, "Wh": Wh, "b": np.zeros(M)}


def _recurrent(title, pair, recurrence, params, shape, states=1):
    H = len(params["Wh"])
    products = shape[0] * (params["Wx"].size + params["Wh"].size)
    flags = {"carries": states * H, "products": products, "recurrence": recurrence}
    return Built(f"{title} {H}", *pair, params, ({"state": None},), flags)


def _begun(x, Wh, begin, states=1):
    """Where the sequences begin: h, and of an LSTM c beside it, each (N, H)."""
    H, state = len(Wh), begin["state"]
    if state is None:
        state = np.zeros((len(x), states * H), x.dtype)
    return [state[:, k * H : (k + 1) * H] for k in range(states)]


def _rnn_forward(x, Wx, Wh, b, begin):
    h, cache = R.rnn_forward(x, *_begun(x, Wh, begin), Wx, Wh, b)
    return h, (cache, h[:, -1])


def _rnn_backward(dh, cache):
    dx, _, *dparams = R.rnn_backward(dh, cache[0])
    return dx, *dparams


def _lstm_forward(x, Wx, Wh, b, begin):
    h0, c0 = _begun(x, Wh, begin, states=2)
    h, cache = R.lstm_forward(x, h0, Wx, Wh, b, c0)
    return h, (cache, np.concatenate([h[:, -1], R.last_cell_state(cache)], axis=1))


def _lstm_backward(dh, cache):
    dx, _, *dparams, _ = R.lstm_backward(dh, cache[0])
    return dx, *dparams


def _further_lstm(x, state, Wx, Wh, b, begin):
    """`_lstm_forward` step by step, which costs less where there are few."""
    h, c = _begun(x, Wh, begin | {"state": state}, states=2)
    out = np.empty((*x.shape[:2], len(Wh)), h.dtype)
    for t in range(x.shape[1]):
        h, c, _ = R.lstm_step_forward(x[:, t], h, c, Wx, Wh, b)
        out[:, t] = h
    return out, np.concatenate([h, c], axis=1)


def _gru_forward(x, Wx, Wh, bx, bh, begin):
    h, cache = R.gru_forward(x, *_begun(x, Wh, begin), Wx, Wh, bx, bh)
    return h, (cache, h[:, -1])


def _gru_backward(dh, cache):
    dx, _, *dparams = R.gru_backward(dh, cache[0])
    return dx, *dparams


def _rnn_recurrence(a, Wh, begin):
    h, cache = R.rnn_recurrence_forward(a, *_begun(a, Wh, begin), Wh)
    return h, (cache, h[:, -1])


def _rnn_recurrence_backward(dh, cache):
    da, _, dWh = R.rnn_recurrence_backward(dh, cache[0])
    return da, dWh


def _lstm_recurrence(a, Wh, begin):
    h0, c0 = _begun(a, Wh, begin, states=2)
    h, cache = R.lstm_recurrence_forward(a, h0, Wh, c0)
    return h, (cache, np.concatenate([h[:, -1], R.last_cell_state(cache)], axis=1))


def _lstm_recurrence_backward(dh, cache):
    da, _, dWh, _ = R.lstm_recurrence_backward(dh, cache[0])
    return da, dWh


def _gru_recurrence(a, Wh, bh, begin):
    h, cache = R.gru_recurrence_forward(a, *_begun(a, Wh, begin), Wh, bh)
    return h, (cache, h[:, -1])


def _gru_recurrence_backward(dh, cache):
    da, _, dWh, dbh = R.gru_recurrence_backward(dh, cache[0])
    return da, dWh, dbh


@dataclass(frozen=True)
class LastStep:
    """`last_step_forward`: of a sequence the last step, a row (D,). For one answer a sequence."""

    def build(self, shape, draw):
        _sequence("LastStep", shape)
        pair = (R.last_step_forward, R.last_step_backward)
        return Built("last step", *pair, flags={"mixes_steps": True})


# ---------------------------------------------------------------------------- step by step


@dataclass(frozen=True)
class TemporalAffine:
    """`temporal_affine_forward` to `width` outputs at each step. Parameters W (D, width) and b.

    scale: the first weights are multiplied by it.
    """

    width: int
    scale: float = 1.0

    def build(self, shape, draw):
        D, M = _sequence("TemporalAffine", shape)[1], _whole("TemporalAffine", "width", self.width)
        params = {"W": self.scale * draw((D, M), fan_in=D, fan_out=M), "b": np.zeros(M)}
        pair = (R.temporal_affine_forward, R.temporal_affine_backward)
        return Built(f"affine {M} at each step", *pair, params)


@dataclass(frozen=True)
class GELU:
    """`gelu_forward`; approximate: by tanh, as in GPT-2."""

    approximate: bool = True

    def build(self, shape, draw):
        return Built("gelu", A.gelu_forward, A.gelu_backward, settings=(self.approximate,))


@dataclass(frozen=True)
class RMSNorm:
    """`rmsnorm_forward`. Parameter gamma (D,)."""

    eps: float = 1e-5

    def build(self, shape, draw):
        pair = (A.rmsnorm_forward, A.rmsnorm_backward)
        return Built("rms norm", *pair, {"gamma": np.ones(shape[-1])}, ({"eps": self.eps},))


@dataclass(frozen=True)
class Conv1D:
    """`conv1d_forward` with `filters` filters of `size` steps. Parameters W (F, D, size) and b."""

    filters: int
    size: int = 3
    stride: int = 1
    pad: int = 0

    def build(self, shape, draw):
        D = _sequence("Conv1D", shape)[1]
        F, K = _whole("Conv1D", "filters", self.filters), _whole("Conv1D", "size", self.size)
        params = {"W": draw((F, D, K), fan_in=D * K, fan_out=F * K), "b": np.zeros(F)}
        pair = (A.conv1d_forward, A.conv1d_backward)
        settings = ({"stride": self.stride, "pad": self.pad},)
        return Built(f"conv {F} of {K} steps", *pair, params, settings, {"mixes_steps": True})


# ---------------------------------------------------------------------------- attention


@dataclass(frozen=True)
class SelfAttention:
    """`multi_head_attention_forward`. Parameters W (D, 3D), b, Wo (D, D) and bo.

    causal: a step sees itself and those before it.  scale: Wo is multiplied by it at first.
    dropout: the probability of dropping a weight.
    """

    heads: int
    causal: bool = True
    scale: float = 1.0
    dropout: float = 0.0

    def build(self, shape, draw):
        T, D = _sequence("SelfAttention", shape)
        W, Wo = draw((D, 3 * D), fan_in=D, fan_out=D), draw((D, D), fan_in=D, fan_out=D)
        params = {"W": W, "b": np.zeros(3 * D), "Wo": self.scale * Wo, "bo": np.zeros(D)}
        heads = f"{self.heads} head{'' if self.heads == 1 else 's'}"
        title = f"{'causal ' if self.causal else ''}attention, {heads}"
        pair = (A.multi_head_attention_forward, A.multi_head_attention_backward)
        settings = ({"heads": self.heads, "causal": self.causal},)
        if self.dropout:
            title += f", dropout {self.dropout}"
            settings += ({"p": self.dropout, "mode": "test", "seed": None},)
        flags = {"advance": _further_attention, "mixes_steps": not self.causal}
        flags["products"] = 4 * T * D * D + 2 * T * T * D
        return Built(title, *pair, params, settings, flags)


def _further_attention(x, past, W, b, Wo, bo, attention_param, dropout_param=None):
    return A.multi_head_attention_step(x, past, W, b, Wo, bo, attention_param)  # it drops nothing


@dataclass(frozen=True)
class TransformerBlock:
    """A block of a transformer, normalised before each branch (pre-norm: Xiong et al. 2020):

        x + dropout(attention(norm(x)))     then     x + dropout(affine(gelu(affine(norm(x)))))

    hidden   the width of the inner affine layer (4 D)
    dropout  the probability of dropping, of weights of the attention and at the end of both branches
    scale    of the first weights of what ends a branch; GPT-2 takes 1 / sqrt(number of branches)
    """

    heads: int
    width: int
    hidden: int | None = None
    causal: bool = True
    dropout: float = 0.0
    scale: float = 1.0

    @property
    def layers(self):
        """The two branches."""
        dropped = [Dropout(self.dropout)] if self.dropout else []
        attention = SelfAttention(self.heads, self.causal, self.scale, self.dropout)
        up = TemporalAffine(self.hidden or 4 * self.width)
        down = TemporalAffine(self.width, self.scale)
        return [
            Residual([LayerNorm(), attention, *dropped]),
            Residual([LayerNorm(), up, GELU(), down, *dropped]),
        ]


# ---------------------------------------------------------------------------- checks


def _sequence(who, shape):
    if len(shape) != 2:
        raise ValueError(f"{who}: an example has shape {shape} here, expected a sequence (T, D).")
    return shape
