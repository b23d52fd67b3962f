"""What sequences are refused for, in one table: each mistake is one clear sentence."""

import re

import numpy as np
import pytest
from handgrad import Solver
from handgrad import attention as A
from handgrad.data_utils import Characters, load_text, streams, windows
from handgrad.models import GPT, CaptioningRNN, LanguageModel, SequenceClassifier

V = 7
X = np.arange(12).reshape(3, 4) % V
lm, gpt = LanguageModel(V, 3, seed=0), GPT(V, 4, 6, 1, 2, seed=0)
caption = CaptioningRNN({"<NULL>": 0, "<START>": 1, "a": 2}, 4, 3, 5, seed=0)


def attention(**param):
    shapes = (2, 5, 6), (6, 18), (18,), (6, 6), (6,)
    return A.multi_head_attention_forward(*map(np.zeros, shapes), param)


def solver(X_train, y_train):
    return Solver(lm, {"X_train": X_train, "y_train": y_train}, batch_size=3, verbose=False)


TABLE = {
    "a text shorter than a window": [
        (lambda: windows(np.arange(4), 4), "(4,), expected words (T,) with T above length = 4"),
        (lambda: streams(np.arange(6), 2, 3), "(6,), expected words (T,) with T above count * length"),
        (lambda: windows(np.arange(4), 0), "windows: length = 0, expected a whole number from 1 up"),
        (lambda: load_text(length=10**6), "sonnets.txt: windows: the text has shape"),
        (lambda: load_text(val_share=1.5), "load_text: val_share = 1.5, expected a number in (0, 1)"),
    ],
    "characters unseen in training": [
        (
            lambda: Characters("abc").encode("abz"),
            "the text holds 'z', expected one of the 3 characters",
        ),
        (lambda: Characters("").encode("a"), "a str came for a vocabulary of 0 characters"),
        (lambda: Characters("abc").encode(None), "Characters.encode: a NoneType came for a vocabulary"),
        (
            lambda: Characters("abc").decode([0, 3]),
            "holds 0 to 3 of dtype int64, expected integers from",
        ),
        (lambda: Characters("abc").decode([0, -1]), "Characters.decode: words holds -1 to 0"),
        (
            lambda: Characters("abc").decode([[0], [1]]),
            "Characters.decode: words has shape (2, 1), exp",
        ),
    ],
    "a text that is no file": [
        (
            lambda: load_text("To be,\nor not to be"),
            "load_text: a text of 19 characters came, expected",
        ),
        (
            lambda: load_text("to be " * 50),
            "load_text: a text of 300 characters came, expected the name",
        ),
    ],
    "an empty prompt": [
        (lambda: lm.generate([], 3), "prompt has shape (0,) and dtype float64, expected words (T,) or"),
        (lambda: gpt.generate(np.zeros((2, 0), int), 3), "GPT.generate: prompt has shape (2, 0)"),
        (lambda: lm.generate("abc", 3), "prompt has shape () and dtype <U3, expected words"),
        (
            lambda: lm.generate([[1], [1, 2]], 3),
            "prompt is a ragged list, expected prompts of one length",
        ),
        (lambda: lm.generate([1], 3, seed="a"), "LanguageModel.generate: seed = 'a', expected a whole"),
        (
            lambda: caption.sample(np.zeros((1, 4)), -1),
            "CaptioningRNN.sample: max_length = -1, expected",
        ),
    ],
    "masks": [
        (
            lambda: attention(heads=2, mask=np.ones((4, 4), bool)),
            "bools that broadcast to (2, 2, 5, 5)",
        ),
        (lambda: attention(heads=2, mask=np.ones((5, 5))), "mask has shape (5, 5) and dtype float64"),
        (lambda: attention(heads=2, mask=np.arange(5) > 4), "leaves every query no key to attend to"),
        (
            lambda: attention(heads=2, causal=True, mask=np.arange(5) > 0),
            "leaves query (0,) no key to attend to; expected one",
        ),
    ],
    "a head count that does not divide the width": [
        (lambda: attention(heads=4), "heads = 4, expected a divisor of D = 6"),
        (lambda: attention(heads=True), "heads = True, expected a divisor of D = 6"),
        (lambda: GPT(V, 4, 6, 1, 0), "layer 4: multi_head_attention_forward: heads = 0, expected"),
    ],
    "sequences longer than the positions": [
        (lambda: gpt.loss(np.zeros((1, 5), int)), "has positions for 4; expected shorter sequences"),
        (lambda: gpt.predict(np.zeros((1, 5), int)), "GPT, layer 2: position_embedding_forward: x (1,"),
        (lambda: gpt.advance(np.zeros((1, 5), int)), "has positions for 4; expected shorter sequences"),
    ],
    "sizes that do not fit": [
        (lambda: GPT(V, 0, 6, 1, 2), "GPT: context = 0, expected a whole number from 1 up"),
        (
            lambda: SequenceClassifier(4, 3),
            "input_dim = 4 and no vocab_size came, expected a vocab_size",
        ),
        (lambda: SequenceClassifier((4,), 3), "input_dim = (4,) and no vocab_size came, expected"),
        (lambda: CaptioningRNN(["<NULL>"], 4), "word_to_idx is a list, expected a dict {word: number}"),
        (
            lambda: caption.loss(np.zeros((1, 3)), [[1, 2]]),
            "features has shape (1, 3), expected (N, 4)",
        ),
        (
            lambda: caption.sample(np.zeros((1, 3, 2, 2))),
            "features has shape (1, 3, 2, 2), expected (N",
        ),
        (lambda: caption.sample(np.zeros(4)), "features has shape (4,), expected (N, 4)"),
    ],
    "targets out of the vocabulary": [
        (lambda: lm.loss(X, X + 1), "y holds the word 7, expected 0 to 6"),
        (lambda: lm.loss(X, X - 8), "y holds the word -8, expected 0 to 6"),
        (lambda: solver(X, X + 1), "Solver: y_train[1, 2] = 7, but the model has 7 classes; expected"),
        (lambda: caption.loss(np.zeros((1, 4)), [[1, 2, 3]]), "y holds the word 3, expected 0 to 2"),
    ],
    "words that are floats": [
        (lambda: lm.loss(X / 1.0), "X has shape (3, 4) and dtype float64, expected words (N, T)"),
        (lambda: lm.loss(X, X / 1.0), "y has dtype float64, expected integers; try y.astype(int)"),
        (lambda: solver(X / 1.0, X), "X has shape (1, 4) and dtype float64, expected words (N, T)"),
        (lambda: solver(X, X / 1.0), "y_train has dtype float64, expected integers"),
        (lambda: windows(X.ravel() / 1.0, 3), "windows: the text has dtype float64, expected"),
        (lambda: streams(X.ravel() / 1.0, 2, 3), "streams: the text has dtype float64, expected"),
        (lambda: lm.generate([0.5], 3), "prompt has shape (1,) and dtype float64, expected words"),
        (
            lambda: caption.loss(np.zeros((1, 4)), [[1.0, 2.0]]),
            "dtype float64, expected words as integers",
        ),
        (lambda: Characters("abc").decode([0.5]), "of dtype float64, expected integers from 0 to 2"),
        (lambda: CaptioningRNN({"<NULL>": 0}, 4, 3, 2.5), "hidden_dim = 2.5, expected a whole number"),
    ],
}
ROWS = [
    pytest.param(*row, id=f"{kind}-{n}") for kind, rows in TABLE.items() for n, row in enumerate(rows)
]


@pytest.mark.parametrize(("call", "message"), ROWS)
def test_a_mistake_is_one_clear_sentence(call, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_text_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="hamlet.txt is not there, expected a text file"):
        load_text(tmp_path / "hamlet.txt")
