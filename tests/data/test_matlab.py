"""MATLAB files are read as SciPy reads them."""

import io
import struct

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.io
from handgrad.data.matlab import read_mat
from hypothesis import given

numbers = st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]).map(np.dtype)
matrices = hnp.arrays(numbers, st.tuples(st.integers(0, 5), st.integers(0, 5)))
names = st.from_regex("[a-zA-Z][a-z]{0,9}", fullmatch=True)


@given(st.dictionaries(names, matrices, min_size=1, max_size=4), st.booleans())
def test_as_scipy(tmp_path_factory, content, compressed):
    path = tmp_path_factory.getbasetemp() / "some.mat"
    scipy.io.savemat(path, content, do_compression=compressed)
    found, expected = read_mat(path, list(content)), scipy.io.loadmat(path)
    assert list(found) == list(content)
    for name, value in found.items():
        assert value.shape == expected[name].shape
        np.testing.assert_array_equal(value, expected[name])


def test_other_variables_are_left_alone(tmp_path):
    path = tmp_path / "some.mat"
    others = {"text": "abc", "record": {"a": 1}, "cells": np.array([1, "a"], object), "z": 1j}
    scipy.io.savemat(path, {**others, "X": np.eye(3), "Y": np.eye(2)})
    found = read_mat(path, ["X", "W"])
    assert list(found) == ["X"]
    np.testing.assert_array_equal(found["X"], np.eye(3))


def big_endian(X):
    """A file as a computer of the other byte order writes it."""

    def element(kind, raw):
        return struct.pack(">II", kind, len(raw)) + raw + bytes(-len(raw) % 8)

    parts = element(6, struct.pack(">II", 6, 0)) + element(5, struct.pack(">ii", *X.shape))
    parts += struct.pack(">HH4s", 1, 1, b"X") + element(9, X.astype(">f8").tobytes(order="F"))
    return b"MATLAB 5.0".ljust(124) + b"\x01\x00MI" + element(14, parts)


def test_the_other_byte_order(tmp_path):
    X = np.arange(6.0).reshape(2, 3)
    path = tmp_path / "some.mat"
    path.write_bytes(big_endian(X))
    np.testing.assert_array_equal(scipy.io.loadmat(path)["X"], X)
    np.testing.assert_array_equal(read_mat(path, ["X"])["X"], X)


@pytest.mark.parametrize("version", ["4", "7.3"])
def test_other_formats(tmp_path, version):
    file = io.BytesIO()
    scipy.io.savemat(file, {"X": np.eye(3)}, format="4" if version == "4" else "5")
    raw = file.getvalue()
    if version == "7.3":
        raw = raw[:124] + b"\x00\x02IM" + raw[128:]
    path = tmp_path / "some.mat"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="some.mat: not a whole MATLAB 5 file .*version"):
        read_mat(path, ["X"])


def test_real_digits_mat(real_data):
    path = real_data / "digits.mat"
    expected = scipy.io.loadmat(path)
    wanted = [name for name in expected if not name.startswith("__")]
    found = read_mat(path, wanted)
    assert len(found) == 6
    for name in wanted:
        np.testing.assert_array_equal(found[name], expected[name])
