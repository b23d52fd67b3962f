"""Texts: characters as integers, windows of a long text, names, and sonnets that need no download.

sonnets.txt: Shakespeare's sonnets 18, 29, 30, 55, 60, 65, 73, 116 and 130 (1609), in the public domain.
They were typed by hand, and then compared line by line with a copy of Project Gutenberg's eBook 1041.
Spelling and punctuation are those of the copy, but for apostrophes that it had lost and two misprints.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..engine.errors import check_count, check_range
from ..engine.randomness import generator
from .download import find
from .files import opened

__all__ = ["Characters", "load_names", "load_shakespeare", "load_text", "streams", "windows"]

MOST = 1 << 30  # bytes of a text


@dataclass(frozen=True)
class Characters:
    """A vocabulary of characters. A character's word is its place in the string `characters`, which is
    sorted: Characters("abc").encode("cab") is [2, 0, 1].
    """

    characters: str

    def __len__(self):
        return len(self.characters)

    def encode(self, text):
        """The words of a text, integers (T,). ValueError names a character that is not known."""
        if not isinstance(text, str) or not self.characters:
            raise ValueError(
                f"Characters.encode: a {type(text).__name__} came for a vocabulary of {len(self)} "
                "characters, expected a text for at least one."
            )
        known, points = _points(self.characters), _points(text)
        words = np.searchsorted(known, points).clip(max=len(known) - 1)
        wrong = known[words] != points
        if wrong.any():
            raise ValueError(
                f"Characters.encode: the text holds {text[wrong.argmax()]!r}, expected one of the "
                f"{len(self)} characters {self.characters!r}."
            )
        return words.astype(np.min_scalar_type(len(known)))

    def decode(self, words):
        """The text of words (T,), integers that `encode` could have given."""
        words = np.asarray(words)
        if words.ndim != 1:
            raise ValueError(
                f"Characters.decode: words has shape {words.shape}, expected (T,), one row at a time."
            )
        whole = words.dtype.kind in "iu"
        if words.size and not (whole and 0 <= words.min() and words.max() < len(self)):
            raise ValueError(
                f"Characters.decode: words holds {words.min()} to {words.max()} of dtype "
                f"{words.dtype}, expected integers from 0 to {len(self) - 1}."
            )
        return "".join(self.characters[word] for word in words)


def _points(text):
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


def windows(words, length, stride=1):
    """Windows of a long text, and the words that follow: X and y (N, length), y one step later.

    words: (T,), integers.  stride: steps from the beginning of a window to that of the next one.
    Both are views of the text and take no memory. Raises ValueError for a text without a window.
    """
    for name, value in (("length", length), ("stride", stride)):
        check_count(name, value, who="windows")
    words = _whole_words("windows", words)
    if words.ndim != 1 or len(words) <= length:
        raise ValueError(
            f"windows: the text has shape {words.shape}, expected words (T,) with T above "
            f"length = {length}."
        )
    both = np.lib.stride_tricks.sliding_window_view(words, length + 1)[::stride]
    return both[:, :-1], both[:, 1:]


def streams(words, count, length):
    """A long text in `count` equal pieces, which are learned side by side: X and y (N, length).

    Row k * count + i is window k of piece i; window k + 1 begins where it ends. So with batches of
    `count` rows in this order each row goes on with the row of the batch before, and a net can carry
    its state (`streams` of models.Net; Solver's sampling='sequential').
    words: (T,), integers. What is left over at the end, less than count * length words, is not used.
    """
    for name, value in (("count", count), ("length", length)):
        check_count(name, value, who="streams")
    words = _whole_words("streams", words)
    steps = (words.size - 1) // (count * length)
    if words.ndim != 1 or steps < 1:
        raise ValueError(
            f"streams: the text has shape {words.shape}, expected words (T,) with T above "
            f"count * length = {count} * {length}."
        )
    X, y = (words[s : s + steps * count * length].reshape(count, steps, length) for s in (0, 1))
    return tuple(a.swapaxes(0, 1).reshape(-1, length) for a in (X, y))


def _whole_words(who, words):
    words = np.asarray(words)
    if words.size and words.dtype.kind not in "iu":
        raise ValueError(
            f"{who}: the text has dtype {words.dtype}, expected integers, as Characters.encode "
            "gives them."
        )
    return words


def load_text(path=None, length=64, stride=None, val_share=0.1, num_streams=None):
    """Windows of a text file, character by character, as the Solver takes them.

    path: a UTF-8 file; None for the sonnets that come with handgrad.
    length: characters a window.  stride: from one training window to the next (None: length, and an
    epoch reads each character once).  val_share: so much of the text, its end, is for validation, in
    windows side by side. No window crosses the border.  num_streams: the training text in so many
    `streams`, for a net that carries its state, instead of windows in any order.
    Returns a dict with X_train, y_train, X_val, y_val and `vocabulary`, a Characters.
    """
    check_range("load_text", "val_share", val_share, 0, 1, open_low=True, open_high=True)
    path = Path(__file__).with_name("sonnets.txt") if path is None else _file(path)
    text = _read(path)
    vocabulary = Characters("".join(sorted(set(text))))
    words = vocabulary.encode(text) if text else np.empty(0, np.uint8)
    end = int(len(words) * (1 - val_share))
    try:
        if num_streams is None:
            X_train, y_train = windows(words[:end], length, length if stride is None else stride)
        else:
            X_train, y_train = streams(words[:end], num_streams, length)
        X_val, y_val = windows(words[end:], length, length)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    data = {"X_train": X_train, "y_train": y_train, "X_val": X_val, "y_val": y_val}
    return data | {"vocabulary": vocabulary}


def load_shakespeare(length=64, stride=None, data_dir=None, num_streams=None):
    """Tiny Shakespeare (Karpathy 2015), 1.1 million characters of plays, by `load_text`; the last tenth
    is for validation.

    length, stride, num_streams: as in `load_text`.  data_dir: the folder with text/input.txt (None: the
    default folder). Raises FileNotFoundError if it is not there.
    """
    path = find(data_dir, "shakespeare", "text/input.txt", "text/tinyshakespeare.txt")
    return load_text(path, length, stride, num_streams=num_streams)


def load_names(data_dir=None, seed=0):
    """32,033 first names (Karpathy's makemore), one a row, to be learned character by character.

    A row of X is the word 0, '.', and then the letters; y is the letters, then 0, which ends a name,
    and -1 where nothing counts. A tenth each is for validation and test, drawn with `seed`.
    data_dir: the folder with text/names.txt (None: the default folder).
    Returns a dict with X_train, y_train, X_val, y_val, X_test, y_test and `vocabulary`. Raises
    FileNotFoundError if the file is not there, ValueError if a name holds a hyphen or the like.
    """
    path = find(data_dir, "names", "text/names.txt")
    names = _read(path).split()
    letters = set("".join(names))
    if min(letters, default="a") <= ".":  # word 0 is to be '.', and to stand in no name
        raise ValueError(f"{path}: the names hold {min(letters)!r}, expected letters alone.")
    vocabulary = Characters("".join(sorted({".", *letters})))
    shape = len(names), max(map(len, names), default=0) + 1
    dtype = np.min_scalar_type(-len(vocabulary))
    X, y = np.zeros(shape, dtype), np.full(shape, -1, dtype)
    for row, name in enumerate(names):
        words = vocabulary.encode(name)
        X[row, 1 : len(name) + 1] = y[row, : len(name)] = words
        y[row, len(name)] = 0
    order, tenth = generator(seed, "data").permutation(len(names)), len(names) // 10
    parts = {"val": order[:tenth], "test": order[tenth : 2 * tenth], "train": order[2 * tenth :]}
    data = {f"{a}_{part}": b[rows] for part, rows in parts.items() for a, b in (("X", X), ("y", y))}
    return data | {"vocabulary": vocabulary}


def _file(path):
    if isinstance(path, str) and ("\n" in path or len(path) > 255):
        raise ValueError(
            f"load_text: a text of {len(path)} characters came, expected the name of a file."
        )
    if not Path(path).exists():
        raise FileNotFoundError(f"load_text: {path} is not there, expected a text file.")
    return Path(path)


def _read(path):
    with opened(path, MOST) as file:
        raw = file.read()
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no UTF-8 text ({error}).") from error
