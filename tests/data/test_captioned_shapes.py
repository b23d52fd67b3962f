"""Captioned shapes: what a caption says is what the image shows, and CaptioningRNN learns to say it."""

import re

import numpy as np
import pytest
from handgrad.data_utils import Words, captioned_shapes
from handgrad.models import CaptioningRNN
from handgrad.optim import adam

FORM = r"a (\w+) (\w+)(?: (left of|above) a (\w+) (\w+))?"
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0)}
SHAPES = {
    "circle": "..####.. .######. ###..### ##....## ##....## ###..### .######. ..####..",
    "square": "######" + 5 * " ######",
    "triangle": "...##... ...##... ..####.. ..####.. .######. .######. ########",
}


def shown(image):
    """(colour, shape) of the only shape in an image, without dark rows and columns around it."""
    lit = image.any(axis=0)
    rows, columns = (np.flatnonzero(lit.any(axis=axis)) for axis in (1, 0))
    cut = lit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    drawn = " ".join("".join(".#"[pixel] for pixel in row) for row in cut.astype(int))
    (colour,) = {tuple(pixel.tolist()) for pixel in image.swapaxes(0, 2).reshape(-1, 3) if pixel.any()}
    (name,) = (name for name, value in COLOURS.items() if value == colour)
    (shape,) = (name for name, picture in SHAPES.items() if picture == drawn)
    return name, shape


def test_an_image_shows_what_its_caption_says():
    data, relations = captioned_shapes(300, seed=1), set()
    for image, numbers in zip(data["images"], data["captions"], strict=True):
        sentence = data["vocabulary"].decode(numbers)
        colour, shape, relation, *second = re.fullmatch(FORM, sentence).groups()
        relations.add(relation)
        axis = {"left of": 2, "above": 1}.get(relation)
        parts = [image] if axis is None else np.split(image, 2, axis=axis)
        assert list(map(shown, parts)) == [(colour, shape), tuple(second)][: len(parts)]
        words = ["<START>", *sentence.split(), "<END>"]
        assert [data["vocabulary"].words[n] for n in numbers] == words + (10 - len(words)) * ["<NULL>"]
    assert relations == {None, "left of", "above"}


def test_everything_occurs_and_a_seed_gives_the_same():
    data = captioned_shapes(3000)
    assert data["images"].shape == (3000, 3, 20, 20)
    assert data["images"].dtype == np.uint8
    assert len({tuple(c) for c in data["captions"]}) == 12 + 2 * 144
    assert len({image.tobytes() for image in data["images"]}) > 2000
    assert data["features"].dtype == np.float32
    np.testing.assert_array_equal(data["features"].reshape(data["images"].shape) * 85, data["images"])
    same, other = captioned_shapes(50), captioned_shapes(50, seed=1)
    for name in ("images", "captions", "features"):
        np.testing.assert_array_equal(same[name], data[name][:50])
        assert np.any(other[name] != same[name])


def test_words():
    words = Words(("<NULL>", "<START>", "<END>", "a", "cat"))
    assert words.encode("a cat", 6).tolist() == [1, 3, 4, 2, 0, 0]
    assert words.decode([1, 3, 4, 2, 0, 4]) == "a cat"  # what follows <END> has no meaning
    assert words.decode([4, 4, 0]) == "cat cat"
    assert words.word_to_idx["cat"] == 4
    assert len(words) == 5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: captioned_shapes(0), "captioned_shapes: num_images = 0, expected a whole number"),
        (
            lambda: captioned_shapes(1)["vocabulary"].encode("a pink square", 9),
            "of which ['pink'] are not known; expected up to 9, all of ('<NULL>', '<START>', '<END>',",
        ),
        (
            lambda: captioned_shapes(1)["vocabulary"].encode("a red square", 4),
            "Words.encode: 'a red square' has 5 words with <START> and <END>, of which [] are",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_a_net_learns_to_say_what_it_sees():
    """Half of what it says of images that it has not seen is right to the last word, where chance is
    below one in a hundred.
    """
    data = captioned_shapes(1200)
    features, captions, vocabulary = data["features"], data["captions"], data["vocabulary"]
    model = CaptioningRNN(vocabulary.word_to_idx, features.shape[1], 16, 48, "rnn", seed=0)
    rng, config = np.random.default_rng(0), {name: {"learning_rate": 5e-3} for name in model.params}
    for _ in range(250):
        rows = rng.integers(1000, size=50)
        _, grads = model.loss(features[rows], captions[rows])
        for name, grad in grads.items():
            model.params[name], config[name] = adam(model.params[name], grad, config[name])
    said = map(vocabulary.decode, model.sample(features[1000:], 10))
    right = map(vocabulary.decode, captions[1000:])
    assert np.mean([a == b for a, b in zip(said, right, strict=True)]) > 0.5
