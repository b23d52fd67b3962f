"""The course's net that describes an image in words."""

import math

import numpy as np

from .. import layers as L
from .. import recurrent as R
from ..engine.errors import check_count, look_up
from ..engine.randomness import generator, new_seed

__all__ = ["CaptioningRNN"]

BLOCKS = {"rnn": 1, "lstm": 4, "gru": 3}  # of columns in the weights


class CaptioningRNN:
    """Captions of images from their features, by a recurrent net (Vinyals et al. 2015).

    The features of an image, through an affine layer, are the first state h0. At each step the net
    reads a word of the caption and scores the next one.

    word_to_idx  a dict from words to their numbers, 0 to V - 1. '<NULL>' fills up short captions and
                 does not count; '<START>' and '<END>', if there are any, begin and end a caption
    input_dim    D, numbers an image
    wordvec_dim  numbers a word
    hidden_dim   H, hidden units
    cell_type    'rnn', 'lstm' or 'gru'
    dtype        of the parameters
    seed         of the first weights
    params       W_proj (D, H), b_proj, W_embed (V, W), Wx, Wh, b (of a GRU bx, bh) of the
                 cell, W_vocab (H, V), b_vocab
    """

    def __init__(
        self,
        word_to_idx,
        input_dim=512,
        wordvec_dim=128,
        hidden_dim=128,
        cell_type="rnn",
        dtype=np.float32,
        seed=None,
    ):
        blocks = look_up("CaptioningRNN", BLOCKS, cell_type, "cell_type")
        if not isinstance(word_to_idx, dict):
            came = type(word_to_idx).__name__
            raise ValueError(
                f"CaptioningRNN: word_to_idx is a {came}, expected a dict {{word: number}}."
            )
        self.cell_type, self.dtype = cell_type, np.dtype(dtype).type
        self._of_cell = ["Wx", "Wh", *(["bx", "bh"] if cell_type == "gru" else ["b"])]
        self.word_to_idx = word_to_idx
        self.idx_to_word = {i: word for word, i in word_to_idx.items()}
        if "<NULL>" not in word_to_idx:
            raise ValueError("CaptioningRNN: word_to_idx has no '<NULL>', expected one.")
        sizes = {"input_dim": input_dim, "wordvec_dim": wordvec_dim, "hidden_dim": hidden_dim}
        for name, size in sizes.items():
            check_count(name, size, who="CaptioningRNN")
        self._null, self._start = word_to_idx["<NULL>"], word_to_idx.get("<START>")
        rng = self._generator(seed)
        D, W, H, V = input_dim, wordvec_dim, hidden_dim, len(word_to_idx)

        def draw(rows, columns):
            return rng.standard_normal((rows, columns)) / math.sqrt(rows)

        params = {
            "W_embed": rng.standard_normal((V, W)) / 100,
            **{"W_proj": draw(D, H), "b_proj": np.zeros(H)},
            **{"Wx": draw(W, blocks * H), "Wh": draw(H, blocks * H)},
            **{name: np.zeros(blocks * H) for name in self._of_cell[2:]},
            **{"W_vocab": draw(H, V), "b_vocab": np.zeros(V)},
        }
        self.params = {name: p.astype(self.dtype) for name, p in params.items()}

    def _generator(self, seed):
        return generator(new_seed() if seed is None else seed, "initialisation")

    def loss(self, features, captions=None):
        """The loss of captions, and its gradients.

        features: (N, D).  captions: words (N, T + 1), integers; the net reads the first T of them and
        scores the last T. The loss is that of `temporal_softmax_loss`, without the null words.
        """
        captions = _checked_captions(captions, len(features))
        read, scored = captions[:, :-1], captions[:, 1:]
        forward, backward = (getattr(R, f"{self.cell_type}_{way}") for way in ("forward", "backward"))
        p = self.params
        h0, projection = L.affine_forward(self._as_input(features), p["W_proj"], p["b_proj"])
        x, embedding = R.word_embedding_forward(read, p["W_embed"])
        h, cell = forward(x, h0, *(p[name] for name in self._of_cell))
        scores, vocabulary = R.temporal_affine_forward(h, p["W_vocab"], p["b_vocab"])
        loss, dscores = R.temporal_softmax_loss(scores, scored, scored != self._null)
        grads = {}
        dh, grads["W_vocab"], grads["b_vocab"] = R.temporal_affine_backward(dscores, vocabulary)
        dx, dh0, *dweights = backward(dh, cell)
        grads |= zip(self._of_cell, dweights, strict=True)
        grads["W_embed"] = R.word_embedding_backward(dx, embedding)
        _, grads["W_proj"], grads["b_proj"] = L.affine_backward(dh0, projection, need_dx=False)
        return loss, grads

    def sample(self, features, max_length=30):
        """Captions (N, max_length), integers: from '<START>' on, at each step the likeliest word.

        features: (N, D). What follows '<END>' in a caption has no meaning.
        """
        check_count("max_length", max_length, who="CaptioningRNN.sample")
        if self._start is None:
            raise ValueError("CaptioningRNN.sample: word_to_idx has no '<START>', expected one.")
        p, step = self.params, getattr(R, f"{self.cell_type}_step_forward")
        h, _ = L.affine_forward(self._as_input(features), p["W_proj"], p["b_proj"])
        states = [h, np.zeros_like(h)] if self.cell_type == "lstm" else [h]
        captions = np.full((len(features), max_length), self._null, np.intp)
        words = np.full(len(features), self._start)
        for t in range(max_length):
            x, _ = R.word_embedding_forward(words, p["W_embed"])
            *states, _ = step(x, *states, *(p[name] for name in self._of_cell))
            scores, _ = L.affine_forward(states[0], p["W_vocab"], p["b_vocab"])
            captions[:, t] = words = scores.argmax(axis=1)
        return captions

    def _as_input(self, features):
        first, D = next(iter(self.params.values())), len(self.params["W_proj"])
        features = np.asarray(features)
        if features.ndim < 2 or math.prod(features.shape[1:]) != D:
            raise ValueError(f"CaptioningRNN: features has shape {features.shape}, expected (N, {D}).")
        return features.astype(first.real.dtype, copy=False)


def _checked_captions(captions, N):
    captions = np.asarray(captions)
    if captions.ndim != 2 or captions.shape[:1] != (N,) or captions.shape[1] < 2:
        raise ValueError(
            f"CaptioningRNN.loss: captions has shape {captions.shape}, expected words ({N}, T), T at "
            "least 2."
        )
    return captions
