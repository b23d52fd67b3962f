"""Pickles of plain content are read as Python's own machine reads them."""

import io
import pickle

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from handgrad.data import pickles
from handgrad.data_utils import load_pickle
from hypothesis import given

numbers = st.sampled_from(["u1", "<u2", ">u4", "<i8", "i1", ">i2", "<f4", ">f8", "<f2"]).map(np.dtype)
arrays = hnp.arrays(numbers, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=300) | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=4) | st.lists(inner, max_size=5).map(tuple),
    max_leaves=12,
)
contents = st.dictionaries(st.text(max_size=9), arrays | plain, max_size=5)


def read(raw):
    return load_pickle(io.BytesIO(raw), "some file")


@given(contents, st.sampled_from([3, 4]))
def test_as_pickle_itself(content, protocol):
    raw = pickle.dumps(content, protocol)
    expected, found = pickle.loads(raw), read(raw)
    assert list(found) == list(expected)
    for key, value in expected.items():
        if isinstance(value, np.ndarray):
            assert found[key].dtype.newbyteorder("=") == value.dtype
            np.testing.assert_array_equal(found[key], value)
        else:
            assert found[key] == value


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_orders(order):
    X = np.asarray(np.arange(24, dtype=np.uint8).reshape(2, 3, 4), order=order)
    np.testing.assert_array_equal(read(pickle.dumps({"X": X}, 4))["X"], X)


def test_lists_that_are_longer_than_a_thousand():
    content = {"names": [f"image {k}" for k in range(2500)], "labels": list(range(2500))}
    assert read(pickle.dumps(content, 4)) == content


def test_what_is_used_twice_is_one_object():
    names = ["a", "b"]
    found = read(pickle.dumps({"one": names, "two": names, "three": (names,)}, 4))
    assert found["one"] is found["two"] is found["three"][0]


def python_2(data, labels):
    """The bytes of a CIFAR-10 batch as Python 2 wrote the official ones."""
    letters = b"".join(b"K" + bytes([k]) for k in labels)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\1cnumpy\nndarray\nq\2K\0\x85U\1b\x87Rq\3(K\1"
        + (b"K%cK%c" % data.shape)
        + b"\x86cnumpy\ndtype\nq\4U\2u1K\0K\1\x87Rq\5(K\3U\1|NNN"
        + b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89T"
        + data.size.to_bytes(4, "little")
        + data.tobytes()
        + b"tb"
    )
    return b"\x80\2}q\0(U\6labels](" + letters + b"eU\4data" + array + b"u."


def test_a_batch_as_python_2_wrote_it():
    data = np.arange(255, dtype=np.uint8).reshape(5, 51)
    raw = python_2(data, [3, 9, 0, 1, 255])
    assert pickle.loads(raw, encoding="latin1")["labels"] == [3, 9, 0, 1, 255]
    found = read(raw)
    assert found["labels"] == [3, 9, 0, 1, 255]
    assert found["data"].dtype == np.uint8
    np.testing.assert_array_equal(found["data"], data)


EMPTY_STACK = [
    b"a.",
    b"e.",
    b"s.",
    b"u.",
    b"t.",
    b"\x85.",
    b"\x86.",
    b"R.",
    b"b.",
    b".",
    b"q\0.",
    b"\x93.",
]


@pytest.mark.parametrize("raw", EMPTY_STACK)
def test_an_empty_stack(raw):
    with pytest.raises(ValueError, match="some file: not a CIFAR-10 batch"):
        read(raw)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"h\0.", "uses an object that it has not made"),
        (b"j\0\0\0\0.", "uses an object that it has not made"),
        (b"K", "cut short"),
        (b"}", "cut short"),
        (b"cnumpy", "not found"),
        (b"cos\nsystem\n.", "asks for os.system, which is not admitted"),
        (b"]]\x93.", r"asks for \[\].\[\], which is not admitted"),
        (b"}(U\1au.", "strict|longer|shorter"),
        (b"}NNs.", "keys are not text"),
        (b"I01\n.", "instruction b'I' is not admitted"),
        (b"U\4abcd.", "holds a str, expected a dict"),
    ],
)
def test_damaged_pickles(raw, reason):
    with pytest.raises(ValueError, match=f"some file: .*{reason}"):
        read(raw)


def test_the_limit_of_the_file(monkeypatch):
    raw = pickle.dumps({"a": b"b" * 100}, 4)
    monkeypatch.setattr(pickles, "LARGEST_PICKLE", len(raw))
    assert read(raw) == {"a": b"b" * 100}
    monkeypatch.setattr(pickles, "LARGEST_PICKLE", len(raw) - 1)
    with pytest.raises(ValueError, match=f"some file: .*more than {len(raw) - 1} bytes"):
        read(raw)
