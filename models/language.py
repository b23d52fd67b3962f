"""Nets for words and other sequences: language models with recurrent cells, GPT, a classifier."""

import math
import sys

import numpy as np

from .. import attention as A
from ..engine.diagnosis import check_count
from ..engine.errors import check_range, look_up
from ..engine.randomness import generator, new_seed
from .chain import Chain
from .descriptions import Affine, Dropout, LayerNorm, _whole
from .net import Net
from .sequence_layers import (
    GRU,
    LSTM,
    RNN,
    Embedding,
    LastStep,
    Positions,
    TemporalAffine,
    TransformerBlock,
    WordScores,
)

__all__ = ["CELLS", "GPT", "LanguageModel", "SequenceClassifier", "WordModel"]

CELLS = {"rnn": RNN, "lstm": LSTM, "gru": GRU}


class WordModel(Net):
    """A net that gives scores of the next word at each step, and goes on with a text.

    loss(X) gives scores (N, T, V): at step t those of the word after X[:, : t + 1]. loss(X, y), with
    the words that follow as y (N, T), gives the mean loss over those that are not -1, and gradients.
    A step may depend on those before it only: layers that look ahead are refused.
    """

    def __init__(self, layers, input_dim, **common):
        super().__init__(layers, input_dim, **common)
        for layer in self.layers:
            if layer.mixes_steps:
                raise ValueError(
                    f"{self.name}, layer {layer.number}: {layer.forward.__name__} does not go step by "
                    "step, expected layers whose steps depend on those before them only."
                )

    @property
    def memory(self):
        """The steps that it looks back at most: as many as learned positions; None for no limit."""
        lengths = [
            len(self.params[layer.names[0]])
            for layer in self.layers
            if layer.forward is A.position_embedding_forward
        ]
        return min(lengths, default=None)

    def advance(self, X, states=None):
        """Scores (N, T, V) of the next T steps, and what the layers carry to those after them.

        X: words (N, T).  states: from the call for the steps before; None at the beginning.
        """
        chain = Chain(self.name, self.layers, None, False, self.seed, self.params)
        return chain.advance(self._as_input(X), states or [None] * len(self.layers))

    def generate(self, prompt, n, temperature=1.0, top_k=None, seed=None):
        """`n` words that go on with each prompt, drawn one by one: integers (N, n).

        prompt       words (N, T), or (T,) for one, which gets (n,)
        temperature  the scores are divided by it: below 1 likely words become likelier; 0 takes the
                     likeliest
        top_k        draws from the k likeliest words (None: from all)
        seed         of the draws; an equal one gives equal words (None: new ones each time)

        A word costs one step, since what the layers carry is kept. A net with learned positions that
        has used them all goes on from the last half of its words.
        """
        drawn = list(self.words(prompt, n, temperature, top_k, seed))
        return np.stack(drawn, axis=-1) if drawn else np.empty((*np.shape(prompt)[:-1], 0), np.intp)

    def words(self, prompt, n, temperature=1.0, top_k=None, seed=None):
        """The words of `generate` one after the other, each as it is drawn: (N,), or a number."""
        prompt = _checked_prompt(f"{self.name}.generate", prompt)
        _check_choice(f"{self.name}.generate", n, temperature, top_k)
        check_count("seed", seed, low=0, optional=True, who=f"{self.name}.generate")
        rng, memory = (
            generator(new_seed() if seed is None else seed, "words"),
            self.memory or sys.maxsize,
        )
        text = list(np.atleast_2d(prompt).T)  # (N,) for each step
        states, read, unread = None, 0, text[-memory:]
        for _ in range(n):
            if read + len(unread) > memory:
                states, read, unread = None, 0, text[-max(1, memory // 2) :]
            scores, states = self.advance(np.stack(unread, axis=1), states)
            read += len(unread)
            unread = [_drawn(scores[:, -1], temperature, top_k, rng)]
            text += unread
            yield unread[0] if prompt.ndim == 2 else unread[0][0]


def _drawn(scores, temperature, top_k, rng):
    """A word for each row of scores (N, V)."""
    if temperature == 0:
        return scores.argmax(axis=1)
    scores = scores.astype(np.float64) / temperature
    if top_k is not None and top_k < scores.shape[1]:
        least = np.partition(scores, -top_k, axis=1)[:, -top_k, None]
        scores[scores < least] = -np.inf
    p = np.exp(scores - scores.max(axis=1, keepdims=True)).cumsum(axis=1)
    return (p < rng.random((len(p), 1)) * p[:, -1:]).sum(axis=1)


def _checked_prompt(who, prompt):
    try:
        prompt = np.asarray(prompt)
    except ValueError:
        raise ValueError(f"{who}: prompt is a ragged list, expected prompts of one length.") from None
    if prompt.ndim not in (1, 2) or not prompt.size or prompt.dtype.kind not in "iu":
        raise ValueError(
            f"{who}: prompt has shape {prompt.shape} and dtype {prompt.dtype}, expected words (T,) or "
            "(N, T), integers, and one at least."
        )
    return prompt


def _check_choice(who, n, temperature, top_k):
    check_range(who, "temperature", temperature, 0, math.inf, open_high=True)
    if top_k is not None:
        _whole(who, "top_k", top_k)
    if n != 0:
        _whole(who, "n", n)


class LanguageModel(WordModel):
    """embedding - {cell - [dropout]} x depth - scores of the next word.

    vocab_size   how many words, or characters, there are
    hidden_dim   hidden units of each cell
    wordvec_dim  numbers a word (None: hidden_dim)
    cell         'rnn', 'lstm' or 'gru'
    dropout      the probability of dropping, after each cell
    context      the steps that summary() shows; it reads any number of them
    common       streams, reg, dtype, seed, as in `Net`
    """

    def __init__(
        self,
        vocab_size,
        hidden_dim=256,
        wordvec_dim=None,
        *,
        cell="lstm",
        depth=1,
        dropout=0,
        context=64,
        weight_scale="xavier",
        **common,
    ):
        width = hidden_dim if wordvec_dim is None else wordvec_dim
        cells = _cells("LanguageModel", cell, hidden_dim, depth, dropout)
        layers = [Embedding(vocab_size, width), *cells, TemporalAffine(vocab_size)]
        super().__init__(layers, context, weight_scale=weight_scale, **common)


class GPT(WordModel):
    """The transformer of GPT-2 (Radford et al. 2019): embedding + learned positions - [dropout] -
    blocks - layer norm - scores of the next word.

    vocab_size  how many words, or characters, there are
    context     the number of positions: the longest sequence that it reads
    width       numbers a word
    depth       blocks
    heads       attention heads a block, a divisor of width
    dropout     the probability of dropping, after the embedding, of weights of the attention and at the
                end of each branch
    tied        the scores use the embedding's matrix, else one of their own
    common      reg, dtype, seed, as in `Net`

    First weights are normal with deviation 0.02, biases 0. There are 2 * depth branches that add to the
    way through; the weights at their ends are divided by the root of this number, so that the sum does
    not grow with depth.
    """

    def __init__(
        self,
        vocab_size,
        context=64,
        width=128,
        depth=4,
        heads=4,
        *,
        dropout=0,
        tied=True,
        weight_scale=0.02,
        **common,
    ):
        scale = 1 / math.sqrt(2 * _whole("GPT", "depth", depth))
        layers = [
            *(Embedding(vocab_size, width), Positions(), *([Dropout(dropout)] if dropout else [])),
            *depth * [TransformerBlock(heads, width, dropout=dropout, scale=scale)],
            *(LayerNorm(), WordScores() if tied else TemporalAffine(vocab_size)),
        ]
        context = _whole("GPT", "context", context)
        super().__init__(layers, context, weight_scale=weight_scale, **common)


class SequenceClassifier(Net):
    """{cell - [dropout]} x depth - last step - affine: one answer for a sequence.

    input_dim    (T, D) for T steps of D numbers, or T for words; it reads any number of steps
    num_classes  scores; 1 with loss='mse' learns a number
    hidden_dim   hidden units of each cell
    vocab_size   how many words there are, for sequences of words
    wordvec_dim  numbers a word (None: hidden_dim)
    cell         'rnn', 'lstm' or 'gru'
    dropout      the probability of dropping, after each cell
    common       loss, reg, dtype, seed, as in `Net`
    """

    def __init__(
        self,
        input_dim,
        num_classes=10,
        hidden_dim=128,
        *,
        vocab_size=None,
        wordvec_dim=None,
        cell="lstm",
        depth=1,
        dropout=0,
        weight_scale="xavier",
        **common,
    ):
        width = hidden_dim if wordvec_dim is None else wordvec_dim
        if vocab_size is None and np.size(input_dim) < 2:
            raise ValueError(
                f"SequenceClassifier: input_dim = {input_dim!r} and no vocab_size came, expected a "
                "vocab_size for words, or input_dim = (T, D)."
            )
        words = [] if vocab_size is None else [Embedding(vocab_size, width)]
        cells = _cells("SequenceClassifier", cell, hidden_dim, depth, dropout)
        layers = [*words, *cells, LastStep(), Affine(num_classes)]
        super().__init__(layers, input_dim, weight_scale=weight_scale, **common)


def _cells(who, cell, width, depth, dropout):
    """{cell - [dropout]} x depth."""
    kind = look_up(who, CELLS, cell, "cell")
    return _whole(who, "depth", depth) * [kind(width), *([Dropout(dropout)] if dropout else [])]
