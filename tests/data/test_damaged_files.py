"""Whatever happens to a file's bytes: it is read, or refused by an error that names it."""

import gzip
import io
import pickle
import struct
import tarfile

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.io
from handgrad.data_utils import (
    load_CIFAR10,
    load_cifar10,
    load_CIFAR_batch,
    load_digits_mat,
    load_mnist,
    read_idx,
)
from hypothesis import given

NAMES = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]


def idx(array):
    return struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


def batch(protocol=4, N=2):
    images = np.random.default_rng(0).integers(256, size=(N, 3072), dtype=np.uint8)
    return pickle.dumps({"batch_label": "a batch", "data": images, "labels": [7] * N}, protocol)


def tar(raw):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in NAMES:
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return file.getvalue()


def mat(compressed):
    rng = np.random.default_rng(0)
    content = {}
    for ending in ("", "valid", "test"):
        content[f"X{ending}"] = rng.integers(256, size=(4, 256), dtype=np.uint8)
        content[f"y{ending}"] = rng.integers(1, 11, size=(4, 1), dtype=np.uint8)
    file = io.BytesIO()
    scipy.io.savemat(file, content, do_compression=compressed)
    return file.getvalue()


IMAGES = idx(np.arange(2 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(2, 28, 28))
LABELS = idx(np.array([3, 9], np.uint8))

# What is damaged: the bytes, what is done to them afterwards, the name of the file, its reader.
FILES = {
    "idx": (IMAGES, bytes, "images", read_idx),
    "idx.gz, damaged inside": (IMAGES, gzip.compress, "images", read_idx),
    "idx.gz, damaged outside": (gzip.compress(IMAGES), bytes, "images", read_idx),
    "mnist": (LABELS, bytes, "mnist/train-labels-idx1-ubyte", load_mnist),
    "batch of protocol 3": (batch(3), bytes, "data_batch_1", load_CIFAR_batch),
    "batch of protocol 4": (batch(4), bytes, "data_batch_1", load_CIFAR_batch),
    "cifar10": (batch(), bytes, "cifar-10-batches-py/data_batch_4", load_cifar10),
    "tar": (tar(batch()), bytes, "cifar.tar", load_CIFAR10),
    "tar.gz, damaged inside": (tar(batch()), gzip.compress, "cifar.tar.gz", load_CIFAR10),
    "tar.gz, damaged outside": (gzip.compress(tar(batch())), bytes, "cifar.tar.gz", load_CIFAR10),
    "mat": (mat(False), bytes, "digits.mat", load_digits_mat),
    "mat, compressed": (mat(True), bytes, "digits.mat", load_digits_mat),
}
OF_A_FOLDER = (load_mnist, load_cifar10, load_digits_mat)

EXTREMES = [0, 1, 0x7F, 0xFF, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1]
places = st.floats(0, 1, exclude_max=True)
near_the_start = places.map(lambda place: place**6)  # headers are near the start
damages = st.lists(
    st.one_of(
        st.tuples(st.just("byte"), places | near_the_start, st.integers(0, 255)),
        st.tuples(st.just("bit"), places | near_the_start, st.integers(0, 7)),
        st.tuples(st.just("word"), places | near_the_start, st.sampled_from(EXTREMES)),
        st.tuples(st.just("cut"), places, st.none()),
        st.tuples(st.just("splice"), places, st.tuples(places, st.integers(1, 600))),
        st.tuples(st.just("remove"), places | near_the_start, st.integers(1, 600)),
    ),
    min_size=1,
    max_size=4,
)


def damaged(raw, damages):
    """The bytes after each of the damages: (kind, place from 0 to 1, how)."""
    raw = bytearray(raw)
    for kind, place, how in damages:
        at = int(place * len(raw))
        if kind == "byte":
            raw[at : at + 1] = bytes([how])
        elif kind == "bit" and raw:
            raw[at] ^= 1 << how
        elif kind == "word":
            raw[at : at + 4] = struct.pack("<I" if at % 2 else ">I", how)
        elif kind == "cut":
            del raw[at:]
        elif kind == "splice":
            start = int(how[0] * len(raw))
            raw[at:at] = raw[start : start + how[1]]
        elif kind == "remove":
            del raw[at : at + how]
    return bytes(raw)


def test_the_files_are_good_before_they_are_damaged(tmp_path):
    for number, (raw, pack, name, reader) in enumerate(FILES.values()):
        folder = tmp_path / str(number)
        read(folder, name, reader, pack(raw))


def read(folder, name, reader, raw):
    """Put the file where its reader looks for it, beside the others that it needs, and read it."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if reader is load_mnist:
        for stem in ("train", "t10k"):
            (folder / f"mnist/{stem}-images-idx3-ubyte").write_bytes(IMAGES)
            (folder / f"mnist/{stem}-labels-idx1-ubyte").write_bytes(LABELS)
    elif reader is load_cifar10:
        for other in NAMES:
            (path.parent / other).write_bytes(batch())
    path.write_bytes(raw)
    if reader in (load_mnist, load_cifar10):
        return reader(folder, num_validation=1)
    return reader(folder if reader in OF_A_FOLDER else path)


@pytest.mark.parametrize("file", FILES)
@given(damages=damages)
def test_a_damaged_file_is_read_or_named(tmp_path_factory, file, damages):
    raw, pack, name, reader = FILES[file]
    folder = tmp_path_factory.getbasetemp() / "damaged"
    found = outcome(folder, name, reader, pack(damaged(raw, damages)))
    if isinstance(found, Exception):
        assert isinstance(found, ValueError | OSError)
        assert str(folder) in str(found)
        assert str(folder / name) in str(found)
    else:
        assert_sound(found)


def outcome(*args):
    """What is read, or the error that is raised."""
    try:
        return read(*args)
    except Exception as error:
        return error


def assert_sound(found):
    """Images are bytes, labels are integers from 0 to 9, and there are as many of both."""
    if isinstance(found, tuple):
        found = dict(zip(("X_1", "y_1", "X_2", "y_2"), found, strict=False))
    elif isinstance(found, np.ndarray):
        found = {"X_1": found}
    for key, values in found.items():
        if key.startswith("X"):
            assert values.dtype == np.uint8
            assert len(found.get(key.replace("X", "y"), values)) == len(values)
        elif key.startswith("y"):
            assert values.dtype == np.int64
            assert set(values.tolist()) <= set(range(10))


LABELS_OF_A_BATCH = {
    "no list": ("abc", "the labels are a str, expected a list"),
    "a number": (3, "the labels are a int, expected a list"),
    "none": (None, "the labels are a NoneType, expected a list"),
    "a tuple": ((1, 2), "the labels are a tuple, expected a list"),
    "lists": ([[1], [2]], "not integers from 0 to 9"),
    "truth values": ([True, False], "not integers from 0 to 9"),
    "text": (["1", "2"], "not integers from 0 to 9"),
    "too large": ([1, 10], "not integers from 0 to 9"),
    "negative": ([1, -1], "not integers from 0 to 9"),
    "too large for NumPy": ([1, 2**100], "not integers from 0 to 9"),
    "two dimensions": (np.array([[1], [2]]), "the labels are a ndarray, expected a list"),
    "no dimension": (np.array(1), "the labels are a ndarray, expected a list"),
    "floats": (np.array([1.0, 2.0]), "the labels are a ndarray, expected a list"),
    "one too many": ([1, 2, 3], "beside 3 labels"),
}


@pytest.mark.parametrize(("labels", "reason"), LABELS_OF_A_BATCH.values(), ids=LABELS_OF_A_BATCH)
def test_labels_that_are_none(tmp_path, labels, reason):
    path = tmp_path / "data_batch_1"
    content = {"data": np.zeros((2, 3072), np.uint8), "labels": labels}
    path.write_bytes(pickle.dumps(content, 4))
    with pytest.raises(ValueError, match=f"data_batch_1: .*{reason}"):
        load_CIFAR_batch(path)


def test_labels_may_be_an_array(tmp_path):
    path = tmp_path / "data_batch_1"
    content = {"data": np.zeros((2, 3072), np.uint8), "labels": np.array([9, 0], np.uint8)}
    path.write_bytes(pickle.dumps(content, 4))
    _, y = load_CIFAR_batch(path)
    assert y.dtype == np.int64
    assert y.tolist() == [9, 0]


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.full((2, 256), 0.5), "that are not whole numbers"),
        (np.full((2, 256), 256.0), "256.0 to 256.0, expected 0 to 255"),
        (np.full((2, 256), -1, np.int16), "-1 to -1, expected 0 to 255"),
        (np.full((2, 256), np.nan), "nan to nan, expected 0 to 255"),
        (np.zeros((0, 256), np.uint8), "have shapes"),
        (np.full((2, 256), 1j), "X is not a full matrix of real numbers"),
        (scipy.sparse.csc_array(np.eye(2, 256)), "X is not a full matrix of real numbers"),
        ("text", "X is not a full matrix of real numbers"),
        ({"a": 1}, "X is not a full matrix of real numbers"),
    ],
)
def test_pixels_that_are_none(tmp_path, pixels, reason):
    y = np.ones((2, 1), np.uint8)
    content = {"X": pixels, "y": y[: pixels.shape[0]] if hasattr(pixels, "shape") else y}
    for ending in ("valid", "test"):
        content |= {f"X{ending}": np.zeros((2, 256), np.uint8), f"y{ending}": y}
    scipy.io.savemat(tmp_path / "digits.mat", content)
    with pytest.raises(ValueError, match=f"digits.mat: .*{reason}"):
        load_digits_mat(tmp_path)


def test_labels_of_digits_that_are_no_whole_numbers(tmp_path):
    X, y = np.zeros((2, 256), np.uint8), np.array([[1.0], [2.5]])
    content = {f"{k}{ending}": v for ending in ("", "valid", "test") for k, v in (("X", X), ("y", y))}
    scipy.io.savemat(tmp_path / "digits.mat", content)
    with pytest.raises(ValueError, match="digits.mat: y has labels that are not whole numbers"):
        load_digits_mat(tmp_path)


IDX_SHAPES = [
    (b"\0\0\x08\x46" + b"\0\0\0\1" * 70 + b"A", "at most 8 dimensions"),
    (b"\0\0\x08\x04" + bytes(4) + b"\xff\xff\xff\xff" * 3, "asks for too much"),
    (b"\0\0\x08\x03" + b"\0\0\xff\xff" * 3 + bytes(99), "asks for too much"),
]


@pytest.mark.parametrize(("raw", "reason"), IDX_SHAPES)
def test_idx_shapes_that_no_array_has(tmp_path, raw, reason):
    path = tmp_path / "images"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=f"images: .*{reason}"):
        read_idx(path)


def test_an_idx_file_of_no_dimensions_and_one_without_examples(tmp_path):
    path = tmp_path / "images"
    for array in (np.array(7, np.uint8), np.empty((0, 28, 28), np.uint8)):
        path.write_bytes(idx(array))
        np.testing.assert_array_equal(read_idx(path), array)


def test_a_training_set_without_examples_is_named(tmp_path):
    empty = idx(np.empty((0, 28, 28), np.uint8)), idx(np.empty(0, np.uint8))
    for stem in ("train", "t10k"):
        for kind, raw in zip(("images-idx3", "labels-idx1"), empty, strict=True):
            (tmp_path / f"{stem}-{kind}-ubyte").write_bytes(raw)
    with pytest.raises(
        ValueError, match="train-images-idx3-ubyte: num_validation = 0, expected 0 to -1"
    ):
        load_mnist(tmp_path, num_validation=0)
