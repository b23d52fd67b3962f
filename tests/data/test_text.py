"""Texts: characters, windows that never cross a border, names, damaged files."""

import numpy as np
import pytest
from handgrad.data_utils import Characters, load_names, load_shakespeare, load_text, streams, windows


def test_characters_there_and_back():
    vocabulary = Characters("abcé𝄞")
    words = vocabulary.encode("é𝄞ab")
    assert words.tolist() == [3, 4, 0, 1]
    assert words.dtype == np.uint8
    assert vocabulary.decode(words) == "é𝄞ab"
    assert vocabulary.encode("").shape == (0,)
    assert len(vocabulary) == 5


def test_a_character_that_was_not_seen_is_named():
    for unseen in "!", "z", "\n":
        with pytest.raises(ValueError, match=r"Characters.encode: the text holds .*, expected one of"):
            Characters("abc").encode("ab" + unseen)


@pytest.mark.parametrize(("stride", "starts"), [(1, [0, 1, 2, 3, 4, 5]), (3, [0, 3]), (4, [0, 4])])
def test_windows(stride, starts):
    text = np.arange(10, dtype=np.uint8)
    X, y = windows(text, 4, stride)
    assert X[:, 0].tolist() == starts
    np.testing.assert_array_equal(X, X[:, :1] + np.arange(4))
    np.testing.assert_array_equal(y, X + 1)
    assert np.shares_memory(X, text)


@pytest.mark.parametrize("text", [np.arange(4), np.arange(0), np.zeros((9, 9), int)])
def test_a_text_without_a_window_is_refused(text):
    with pytest.raises(ValueError, match=r"windows: the text has shape .* length = 4"):
        windows(text, 4)


@pytest.mark.parametrize(("length", "steps"), [(37, 3), (48, 3), (49, 4), (36, 2), (13, 1)])
def test_streams(length, steps):
    text = np.arange(length, dtype=np.uint8)
    X, y = streams(text, 3, 4)
    assert X.shape == (3 * steps, 4)
    assert X.dtype == np.uint8
    for stream in range(3):
        one = X[stream::3].ravel()
        np.testing.assert_array_equal(one, stream * 4 * steps + np.arange(4 * steps))
    np.testing.assert_array_equal(y, X + 1)


@pytest.mark.parametrize(
    ("text", "count", "length", "message"),
    [
        (np.arange(12), 3, 4, r"streams: the text has shape \(12,\), expected words .* above .*3 \* 4"),
        (np.zeros((9, 9), int), 3, 4, r"streams: the text has shape \(9, 9\)"),
        (np.arange(12), 0, 4, "streams: count = 0, expected a whole number from 1 up"),
        (np.arange(12), 3, 2.5, "streams: length = 2.5, expected a whole number from 1 up"),
    ],
)
def test_a_text_without_streams_is_refused(text, count, length, message):
    with pytest.raises(ValueError, match=message):
        streams(text, count, length)


def test_a_text_of_ones_own(tmp_path):
    path = tmp_path / "some.txt"
    path.write_text("abcd" * 20 + "xyz" * 6 + "xy", encoding="utf-8")
    data = load_text(path, length=5, val_share=0.2)
    decode = data["vocabulary"].decode
    assert [decode(x) for x in data["X_train"][:2]] == ["abcda", "bcdab"]
    assert decode(data["y_train"][1]) == "cdabc"
    assert set("".join(map(decode, data["X_val"]))) <= set("xyz")  # no window crosses the border
    assert len(load_text(path, length=5, stride=1, val_share=0.2)["X_train"]) == 80 - 5
    in_streams = load_text(path, length=5, val_share=0.2, num_streams=2)
    assert [decode(x) for x in in_streams["X_train"][:4]] == ["abcda", "dabcd", "bcdab", "abcda"]
    np.testing.assert_array_equal(in_streams["X_val"], data["X_val"])


def test_the_sonnets_come_along():
    data = load_text(length=64)
    assert data["vocabulary"].decode(data["X_train"][0]).startswith("Shall I compare thee")
    assert len(data["X_train"]) > 70
    assert len(data["X_val"]) > 5


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "some.txt: windows: the text has shape"), (b"\xff" * 900, "some.txt: no UTF-8 text")],
)
def test_a_file_that_does_not_fit_is_named(tmp_path, content, message):
    path = tmp_path / "some.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_text(path)


def test_names(tmp_path):
    (tmp_path / "text").mkdir()
    names = [f"{a}{b}" for a in ("ab", "c", "dea") for b in "abcdefghij"]
    (tmp_path / "text" / "names.txt").write_text("\n".join(names))
    data = load_names(tmp_path)
    decode = data["vocabulary"].decode
    came = []
    for part in ("train", "val", "test"):
        for x, y in zip(data[f"X_{part}"], data[f"y_{part}"], strict=True):
            length = np.count_nonzero(y != -1)
            came.append(decode(y[: length - 1]))
            assert y[length - 1] == 0
            assert np.all(y[length:] == -1)
            assert x[0] == 0
            np.testing.assert_array_equal(x[1:length], y[: length - 1])
    assert sorted(came) == sorted(names)
    assert [len(data[f"X_{part}"]) for part in ("train", "val", "test")] == [24, 3, 3]


@pytest.mark.parametrize("name", ["o'hara", "anne-marie", "st.john"])
def test_names_hold_nothing_that_may_be_taken_for_their_end(tmp_path, name):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "names.txt").write_text(f"anna {name}")
    with pytest.raises(ValueError, match=r"names.txt: the names hold .['.-].*, expected letters"):
        load_names(tmp_path)


def test_names_may_have_more_letters_than_a_byte_counts(tmp_path):
    (tmp_path / "text").mkdir()
    names = [chr(ord("一") + k) for k in range(300)]
    (tmp_path / "text" / "names.txt").write_text(" ".join(names), encoding="utf-8")
    data = load_names(tmp_path)
    assert data["y_train"].max() == 300
    assert data["y_train"].min() == 0  # each name is as long as the longest
    assert set(data["vocabulary"].decode(data["X_train"][:, 1])) < set(names)


def test_a_text_that_is_not_there_says_where_it_was_sought(tmp_path):
    for load, name in ((load_names, "names"), (load_shakespeare, "shakespeare")):
        with pytest.raises(FileNotFoundError, match=rf"{name} is not in .*handgrad download {name}"):
            load(data_dir=tmp_path)


def test_the_true_texts(real_data):
    data = load_shakespeare(data_dir=real_data)
    assert len(data["vocabulary"]) == 65
    assert len(data["X_train"]) == (1003854 - 1) // 64
    names = load_names(real_data)
    assert len(names["X_train"]) + len(names["X_val"]) + len(names["X_test"]) == 32033
    assert len(names["vocabulary"]) == 27
