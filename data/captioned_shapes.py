"""Images of coloured shapes with captions, drawn by the program: a small world for CaptioningRNN."""

from dataclasses import dataclass

import numpy as np

from ..engine.errors import check_count
from ..engine.randomness import generator

__all__ = ["Words", "captioned_shapes"]

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0)}
NULL, START, END = "<NULL>", "<START>", "<END>"
LONGEST = 10  # <START> a red circle left of a blue square <END>
SIZE, RADIUS = 20, 3.5  # pixels


@dataclass(frozen=True)
class Words:
    """A vocabulary of words, in a tuple `words`; a word's number is its place.

    Words(("<NULL>", "<START>", "<END>", "a", "cat")).encode("a cat", 5) is [1, 3, 4, 2, 0].
    """

    words: tuple

    def __len__(self):
        return len(self.words)

    @property
    def word_to_idx(self):
        """{word: its number}, as CaptioningRNN takes it."""
        return {word: k for k, word in enumerate(self.words)}

    def encode(self, sentence, length):
        """The numbers of <START>, the words, <END>, and <NULL> up to `length`: integers (length,).
        ValueError for a word that is not known, or a sentence that is too long.
        """
        known, words = self.word_to_idx, [START, *sentence.split(), END]
        unknown = [word for word in words if word not in known]
        if unknown or len(words) > length:
            raise ValueError(
                f"Words.encode: {sentence!r} has {len(words)} words with {START} and {END}, of which "
                f"{unknown} are not known; expected up to {length}, all of {self.words}."
            )
        return np.array([known[word] for word in words + (length - len(words)) * [NULL]])

    def decode(self, numbers):
        """The sentence of the numbers (T,): without <START> and <NULL>, and up to <END>."""
        words = [self.words[number] for number in numbers]
        words = words[: words.index(END)] if END in words else words
        return " ".join(word for word in words if word not in (START, NULL))


def captioned_shapes(num_images, seed=0):
    """Images of one or two shapes, and what is to be said of them.

    A caption is "a red circle", "a red circle left of a blue square" or "a red circle above a blue
    square": four colours, three shapes, 12 + 2 * 144 captions. The first shape is the one to the left
    or on top, so that an image has one right caption. Places vary by a pixel.
    Returns a dict: images (N, 3, 20, 20) uint8; features (N, 1200) float32, the images' pixels as rows,
    0 or 3, which makes the first states of a CaptioningRNN about 1; captions (N, 10), the numbers of
    <START>, the words, <END>, and <NULL> where nothing follows; `vocabulary`, a Words.
    """
    check_count("num_images", num_images, who="captioned_shapes")
    rng, vocabulary = generator(seed, "data"), Words(_all_words())
    images = np.zeros((num_images, 3, SIZE, SIZE), np.uint8)
    captions = np.empty((num_images, LONGEST), int)
    for image, caption in zip(images, captions, strict=True):
        caption[:] = vocabulary.encode(_draw(image, rng), LONGEST)
    features = images.reshape(num_images, -1) / np.float32(85)
    data = {"images": images, "features": features, "captions": captions}
    return data | {"vocabulary": vocabulary}


def _all_words():
    return NULL, START, END, "a", *COLOURS, *SHAPES, "left", "of", "above"


def _draw(image, rng):
    """Draw one or two shapes into an image of zeros; returns its caption."""
    low, middle, high = SIZE // 4, SIZE // 2, SIZE - SIZE // 4
    relation, *centres = (
        ("", (middle, middle)),
        (" left of ", (middle, low), (middle, high)),
        (" above ", (low, middle), (high, middle)),
    )[rng.integers(3)]
    said = []
    for centre in centres:
        colour, shape = (names[rng.integers(len(names))] for names in (list(COLOURS), list(SHAPES)))
        row, column = np.arange(SIZE) + 0.5 - (centre + rng.integers(-1, 2, 2))[:, None]
        image[:, SHAPES[shape](row[:, None], column)] = np.array(COLOURS[colour])[:, None]
        said.append(f"a {colour} {shape}")
    return relation.join(said)


def _circle(row, column):
    """A ring, which is told from a square at once."""
    return abs(np.hypot(row, column) - 2.9) < 1


def _square(row, column):
    return np.maximum(abs(row), abs(column)) < RADIUS


def _triangle(row, column):
    """Its tip is on top."""
    return (abs(row) <= RADIUS) & (2 * abs(column) <= row + RADIUS)


SHAPES = {"circle": _circle, "square": _square, "triangle": _triangle}
