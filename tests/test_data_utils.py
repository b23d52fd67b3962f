"""Readers on small files in the true formats, on broken and hostile ones, and on the real data."""

import ast
import contextlib
import functools
import gzip
import hashlib
import http.server
import importlib
import io
import os
import pickle
import pkgutil
import tarfile
import threading
import tracemalloc
from pathlib import Path

import handgrad.data
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.io
from handgrad import data_utils
from handgrad.data_utils import (
    DATA_SETS,
    download,
    get_CIFAR10_data,
    load_CIFAR10,
    load_cifar10,
    load_digits,
    load_digits_mat,
    load_mnist,
    mean_image,
    normalize_images,
    one_hot,
    read_idx,
    spiral,
    standardize,
    whitening,
)
from hypothesis import given

# ---------------------------------------------------------------------------- the face of data/


def test_data_utils_offers_what_the_rooms_define():
    """Each public name is the very object of the room that defines it."""
    rooms = [
        importlib.import_module(f"handgrad.data.{room.name}")
        for room in pkgutil.iter_modules(handgrad.data.__path__)
    ]
    defined = {name: getattr(room, name) for room in rooms for name in room.__all__}
    for name in data_utils.__all__:
        if name != "DATA_SETS":
            assert getattr(data_utils, name) is defined[name]
    assert {load.__name__ for load in DATA_SETS.values()} <= set(data_utils.__all__)


def test_the_rooms_import_only_one_another_and_the_engine():
    for room in Path(handgrad.data.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(room.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 2:
                assert node.module.startswith("engine"), room
            elif isinstance(node, ast.ImportFrom):
                assert node.module.split(".")[0] != "handgrad", room


# ---------------------------------------------------------------------------- whitening


def test_whitening_is_that_of_the_singular_value_decomposition():
    rng = np.random.default_rng(0)
    X = rng.integers(256, size=(12000, 1, 3, 4), dtype=np.uint8)
    X[:, :, 1] = X[:, :, 0] // 2 + X[:, :, 1] // 4  # correlated
    rows = whitening(X, 5, eps=0.0)(X)
    assert rows.dtype == np.float32
    assert rows.shape == (12000, 5)
    np.testing.assert_allclose(rows.T @ rows / len(X), np.eye(5), atol=2e-3)
    pixels = X.reshape(12000, -1) / 255
    U, _, _ = np.linalg.svd(pixels - pixels.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(rows), np.abs(U[:, :5]) * np.sqrt(12000), atol=2e-2)


def test_whitening_keeps_noise_down():
    """A component of variance v comes out with the variance v / (v + eps)."""
    rng = np.random.default_rng(0)
    X = rng.integers(256, size=(20000, 1, 1, 2), dtype=np.uint8) // np.array([1, 16], np.uint8)
    variances = np.var(X / 255, axis=0).ravel()
    got = whitening(X, 2, eps=0.01)(X).var(axis=0)
    np.testing.assert_allclose(got, variances / (variances + 0.01), rtol=0.02)


def test_whitening_refuses_more_components_than_pixels():
    for components in (0, 13, 2.5):
        with pytest.raises(ValueError, match=rf"components = {components}, expected .* 1 to 12"):
            whitening(np.zeros((5, 1, 3, 4), np.uint8), components)


def test_whitening_says_what_is_wrong_with_its_images():
    with pytest.raises(ValueError, match=r"X has shape \(0, 1, 3, 4\), expected at least one"):
        whitening(np.zeros((0, 1, 3, 4), np.uint8), 2)
    with pytest.raises(ValueError, match="whitening: eps = -1"):
        whitening(np.zeros((5, 1, 3, 4), np.uint8), 2, eps=-1)
    transform = whitening(np.zeros((5, 1, 3, 4), np.uint8), 2)
    assert transform(np.zeros((0, 1, 3, 4), np.uint8)).shape == (0, 2)
    with pytest.raises(ValueError, match=r"X has shape \(2, 1, 3, 5\), expected images of 12"):
        transform(np.zeros((2, 1, 3, 5), np.uint8))


# ---------------------------------------------------------------------------- small true files


def idx(array):
    header = b"\0\0\x08" + bytes([array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


def write_mnist(folder, N=20, ending="", pack=lambda raw: raw):
    rng = np.random.default_rng(0)
    (folder / "mnist").mkdir()
    for stem in ("train", "t10k"):
        X, y = rng.integers(256, size=(N, 28, 28), dtype=np.uint8), np.arange(N, dtype=np.uint8) % 10
        for kind, array in (("images-idx3", X), ("labels-idx1", y)):
            (folder / "mnist" / f"{stem}-{kind}-ubyte{ending}").write_bytes(pack(idx(array)))
    return X, y


def cifar_batch(seed=0, N=12):
    rng = np.random.default_rng(seed)
    return {
        "data": rng.integers(256, size=(N, 3072), dtype=np.uint8),
        "labels": [int(k % 10) for k in range(N)],
    }


def write_cifar(folder, N=12):
    root = folder / "cifar-10-batches-py"
    root.mkdir()
    for k, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        (root / name).write_bytes(pickle.dumps(cifar_batch(k, N), protocol=4))
    return root


def write_digits_mat(folder, **changes):
    rng = np.random.default_rng(0)
    content = {}
    for ending, N in (("", 30), ("valid", 20), ("test", 10)):
        content[f"X{ending}"] = rng.integers(256, size=(N, 256), dtype=np.uint8)
        content[f"y{ending}"] = (np.arange(N, dtype=np.uint8) % 10 + 1)[:, None]
    content.update(changes)
    scipy.io.savemat(folder / "digits.mat", content)
    return content


# ---------------------------------------------------------------------------- IDX


@pytest.mark.parametrize(("ending", "pack"), [("", bytes), (".gz", gzip.compress)])
def test_mnist(tmp_path, ending, pack):
    X, y = write_mnist(tmp_path, ending=ending, pack=pack)
    data = load_mnist(tmp_path, num_validation=5)
    assert data["X_train"].shape == (15, 1, 28, 28)
    assert data["X_val"].shape == (5, 1, 28, 28)
    assert data["X_test"].dtype == np.uint8
    np.testing.assert_array_equal(data["X_test"][:, 0], X)
    np.testing.assert_array_equal(data["y_test"], y)
    scaled = data["transform"](data["X_train"])
    assert scaled.dtype == np.float32
    assert abs(scaled.mean()) < 1e-5
    assert scaled.std() == pytest.approx(1, rel=1e-5)


def test_mnist_without_validation(tmp_path):
    write_mnist(tmp_path)
    assert "X_val" not in load_mnist(tmp_path, num_validation=0)
    with pytest.raises(ValueError, match="num_validation = 20, expected 0 to 19"):
        load_mnist(tmp_path, num_validation=20)


GOOD = idx(np.arange(24, dtype=np.uint8).reshape(4, 6))
BAD_IDX = [
    (GOOD[:-1], "its header .* asks for"),
    (GOOD + b"\0", "its header .* asks for"),
    (GOOD[:9], "its header is cut short"),
    (b"", "expected the magic number"),
    (b"\x89PNG" + GOOD, "expected the magic number"),
    (b"\0\0\x0d" + GOOD[3:], "expected the magic number"),
    (gzip.compress(GOOD)[:-4], "not a whole .gz file"),
    (gzip.compress(GOOD)[:14], "not a whole .gz file"),
    (b"\x1f\x8bxxxx", "not a whole .gz file"),
]


@pytest.mark.parametrize(("raw", "message"), BAD_IDX)
def test_broken_idx_names_the_file(tmp_path, raw, message):
    path = tmp_path / "some-idx2-ubyte"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=rf"some-idx2-ubyte: .*{message}"):
        read_idx(path)


@given(st.binary(max_size=40))
def test_whatever_the_bytes_idx_reads_or_refuses(tmp_path_factory, raw):
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(raw)
    with contextlib.suppress(ValueError):
        assert idx(read_idx(path)) == raw


@pytest.mark.parametrize(
    ("kind", "array", "message"),
    [
        ("images-idx3", np.zeros((20, 5, 5), np.uint8), r"images have shape \(20, 5, 5\)"),
        ("images-idx3", np.zeros((19, 28, 28), np.uint8), r"labels \(20,\)"),
        ("labels-idx1", np.full(20, 11, np.uint8), "labels go up to 11"),
    ],
)
def test_mnist_of_a_wrong_kind(tmp_path, kind, array, message):
    write_mnist(tmp_path)
    (tmp_path / "mnist" / f"train-{kind}-ubyte").write_bytes(idx(array))
    with pytest.raises(ValueError, match=message):
        load_mnist(tmp_path, num_validation=1)


def test_absent_data_says_where_it_looked_and_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HANDGRAD_DATA", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=rf"mnist is not in {tmp_path}.*handgrad download mnist"
    ):
        load_mnist()
    with pytest.raises(FileNotFoundError, match="looked for digits.mat"):
        load_digits_mat()


# ---------------------------------------------------------------------------- CIFAR-10


def test_cifar_folder_and_archive_hold_the_same(tmp_path):
    root = write_cifar(tmp_path)
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(root, "cifar-10-batches-py")
    for a, b in zip(load_CIFAR10(root), load_CIFAR10(tmp_path / "cifar-10-python.tar.gz"), strict=True):
        np.testing.assert_array_equal(a, b)
    data = load_cifar10(tmp_path, num_validation=10)
    assert data["X_train"].shape == (50, 3, 32, 32)
    assert data["X_train"].dtype == np.uint8
    np.testing.assert_array_equal(data["X_train"][0].ravel(), cifar_batch(0)["data"][0])
    np.testing.assert_array_equal(data["X_test"].reshape(12, -1), cifar_batch(5)["data"])


def test_cifar_is_in_memory_once(tmp_path):
    """At no time are all batches there besides the arrays that are made of them."""
    root = write_cifar(tmp_path, N=5000)
    tracemalloc.start()
    X_train, _, X_test, _ = load_CIFAR10(root)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.6 * (X_train.nbytes + X_test.nbytes)


def test_cifar_batches_are_equally_large(tmp_path):
    root = write_cifar(tmp_path)
    (root / "data_batch_4").write_bytes(pickle.dumps(cifar_batch(N=11), protocol=4))
    with pytest.raises(ValueError, match="data_batch_4: has 11 images, expected 12 as in the others"):
        load_CIFAR10(root)


def test_get_CIFAR10_data_is_the_courses(tmp_path):
    write_cifar(tmp_path)
    data = get_CIFAR10_data(40, 10, 5, data_dir=tmp_path)
    assert [data[f"X_{p}"].shape for p in ("train", "val", "test")] == [
        (n, 3, 32, 32) for n in (40, 10, 5)
    ]
    assert data["X_train"].dtype == np.float32
    np.testing.assert_allclose(data["X_train"].mean(axis=0), 0, atol=1e-4)
    whole = get_CIFAR10_data(40, 10, 5, subtract_mean=False, data_dir=tmp_path)
    np.testing.assert_array_equal(whole["X_train"][0].ravel(), cifar_batch(0)["data"][0])
    difference = whole["X_test"] - data["X_test"]
    np.testing.assert_allclose(difference[0], whole["X_train"].mean(axis=0), rtol=1e-5)
    with pytest.raises(ValueError, match="num_training .* = 61 .*expected at most 60"):
        get_CIFAR10_data(51, 10, 5, data_dir=tmp_path)


class RunsCode:
    def __reduce__(self):
        return os.system, ("touch handgrad-was-here",)


BAD_BATCHES = [
    (pickle.dumps(RunsCode()), "asks for .*system, which is not admitted"),
    (pickle.dumps(cifar_batch(), protocol=4)[:-100], "not a CIFAR-10 batch"),
    (b"", "not a CIFAR-10 batch"),
    (b"not a pickle", "not a CIFAR-10 batch"),
    (pickle.dumps([1, 2]), "holds a list, expected a dict"),
    (pickle.dumps({"labels": [1]}), "'data' is NoneType"),
    (
        pickle.dumps({**cifar_batch(), "labels": [1]}, 4),
        r"'data' is uint8 \(12, 3072\) beside 1 labels",
    ),
    (pickle.dumps({**cifar_batch(), "labels": [10] * 12}, 4), "labels are not integers from 0 to 9"),
    (pickle.dumps({**cifar_batch(), "data": np.zeros((12, 3072))}, 4), "'data' is float64"),
]


@pytest.mark.parametrize(("raw", "message"), BAD_BATCHES)
def test_broken_and_hostile_batches(tmp_path, monkeypatch, raw, message):
    monkeypatch.chdir(tmp_path)
    root = write_cifar(tmp_path)
    (root / "data_batch_3").write_bytes(raw)
    with pytest.raises(ValueError, match=rf"data_batch_3: .*{message}"):
        load_CIFAR10(root)
    assert not (tmp_path / "handgrad-was-here").exists()


@given(st.binary(max_size=60))
def test_whatever_the_bytes_a_pickle_is_refused(raw):
    with contextlib.suppress(ValueError):
        assert isinstance(data_utils.load_pickle(io.BytesIO(raw), "bytes"), dict)


def test_broken_archives(tmp_path):
    root = write_cifar(tmp_path)
    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(root, "cifar-10-batches-py")
    whole = path.read_bytes()
    for raw in (whole[:-2000], whole[:50], b"", b"not an archive"):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match="cifar-10-python.tar.gz: not (the|a) whole"):
            load_CIFAR10(path)
    with tarfile.open(path, "w:gz") as archive:
        archive.add(root / "data_batch_1", "cifar-10-batches-py/data_batch_1")
    with pytest.raises(ValueError, match="not the whole"):
        load_CIFAR10(path)


# ---------------------------------------------------------------------------- digits.mat


def test_digits_mat_is_upright_and_counts_from_zero(tmp_path):
    content = write_digits_mat(tmp_path)
    data = load_digits_mat(tmp_path)
    assert data["X_train"].shape == (30, 1, 16, 16)
    assert data["X_val"].shape == (20, 1, 16, 16)
    np.testing.assert_array_equal(data["X_test"][3, 0], content["Xtest"][3].reshape(16, 16).T)
    np.testing.assert_array_equal(data["y_train"][:10], [1, 2, 3, 4, 5, 6, 7, 8, 9, 0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Xvalid": np.zeros((20, 255), np.uint8)}, "Xvalid and yvalid have shapes"),
        ({"ytest": np.ones((9, 1), np.uint8)}, "Xtest and ytest have shapes"),
        ({"y": np.full((30, 1), 11, np.uint8)}, "labels 11 to 11, expected 1 to 10"),
    ],
)
def test_digits_mat_of_a_wrong_kind(tmp_path, changes, message):
    write_digits_mat(tmp_path, **changes)
    with pytest.raises(ValueError, match=rf"digits.mat: .*{message}"):
        load_digits_mat(tmp_path)


def test_broken_digits_mat(tmp_path):
    write_digits_mat(tmp_path)
    path = tmp_path / "digits.mat"
    whole = path.read_bytes()
    for raw in (whole[: len(whole) // 2], whole[:100], b"", b"foreign" * 40):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match="digits.mat: "):
            load_digits_mat(tmp_path)


# ---------------------------------------------------------------------------- the real ones


def test_real_mnist(real_data):
    data = load_mnist(real_data, num_validation=0)
    md5 = hashlib.md5(idx(data["X_train"][:, 0])).hexdigest()
    assert md5 == "6bbc9ace898e44ae57da46a324031adb"
    assert data["X_test"].shape == (10000, 1, 28, 28)
    assert data["transform"].keywords["mean"] / 255 == pytest.approx(0.1307, abs=1e-4)
    assert data["transform"].keywords["std"] / 255 == pytest.approx(0.3081, abs=1e-4)


def test_real_cifar10(real_data):
    """Its names are those that the data set itself lists."""
    data = load_cifar10(real_data)
    listed = (real_data / "cifar-10-batches-py" / "batches.meta").read_bytes()
    places = [listed.index(name.encode()) for name in data["class_names"]]
    assert places == sorted(places)
    assert [data[f"X_{p}"].shape[0] for p in ("train", "val", "test")] == [49000, 1000, 10000]
    assert np.bincount(data["y_test"]).tolist() == [1000] * 10
    assert data["X_train"].dtype == np.uint8


def test_real_digits_mat(real_data):
    data = load_digits_mat(real_data)
    y = np.concatenate([data[f"y_{p}"] for p in ("train", "val", "test")])
    assert np.bincount(y).tolist() == [1100] * 10


# ---------------------------------------------------------------------------- made by the program


def test_digits_are_drawn_the_same_each_time():
    sizes = dict(num_training=40, num_validation=10, num_test=10)
    one, same, other = load_digits(**sizes), load_digits(**sizes), load_digits(**sizes, seed=1)
    np.testing.assert_array_equal(one["X_train"], same["X_train"])
    assert np.any(one["X_train"] != other["X_train"])
    assert one["X_train"].shape == (40, 1, 28, 28)
    assert one["X_train"].dtype == np.uint8
    assert np.unique(
        np.concatenate([one[f"y_{p}"] for p in ("train", "val", "test")])
    ).tolist() == list(range(10))
    ink = (one["X_train"] > 100).mean(axis=(1, 2, 3))
    assert ink.min() > 0.01
    assert ink.max() < 0.5


def test_spiral():
    X, y = spiral(50, 4)
    assert X.shape == (200, 2)
    assert np.bincount(y).tolist() == [50] * 4
    assert np.hypot(*X.T).max() <= 1 + 1e-6


def test_the_table_of_data_sets(tmp_path):
    write_mnist(tmp_path, N=6000)
    write_cifar(tmp_path)
    write_digits_mat(tmp_path)
    loaders = {**DATA_SETS, "digits": functools.partial(load_digits, 20, 10, 10)}
    loaders["cifar10"] = functools.partial(load_cifar10, num_validation=10)
    for name, load in loaders.items():
        data = load() if name == "digits" else load(data_dir=tmp_path)
        for part in ("train", "val", "test"):
            assert data[f"X_{part}"].ndim == 4
            assert len(data[f"X_{part}"]) == len(data[f"y_{part}"])
        assert data["transform"](data["X_test"][:2]).dtype == np.float32
        names = data["class_names"]
        assert names == tuple("0123456789") if name != "cifar10" else names[0] == "airplane"
        assert len(names) == 10


# ---------------------------------------------------------------------------- small tools


def test_one_hot():
    np.testing.assert_array_equal(one_hot([2, 0], 3), [[0, 0, 1], [1, 0, 0]])
    assert one_hot(np.empty(0, int), 3).shape == (0, 3)
    for y in ([3], [-1], [0.5]):
        with pytest.raises(ValueError, match="one_hot: y has dtype"):
            one_hot(y, 3)
    with pytest.raises(ValueError, match=r"one_hot: y has shape \(2, 1\), expected labels \(N,\)"):
        one_hot([[2], [0]], 3)  # would have ones for all labels in each row


def test_standardize_and_mean_image():
    X = np.random.default_rng(0).integers(256, size=(7, 1, 2, 2), dtype=np.uint8)
    mean = mean_image(X)
    np.testing.assert_allclose(mean, X.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(
        standardize(X, mean, 2.0), (X - X.mean(axis=0)) / 2, rtol=1e-5, atol=1e-5
    )
    assert X.dtype == np.uint8


def test_normalize_images_one_by_one():
    X = np.random.default_rng(0).integers(256, size=(5, 3, 4, 4), dtype=np.uint8)
    X[2] = 9
    out = normalize_images(X)
    np.testing.assert_allclose(out.mean(axis=(1, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(out.std(axis=(1, 2, 3)), [1, 1, 0, 1, 1], atol=1e-6)


# ---------------------------------------------------------------------------- download


@pytest.fixture
def server(tmp_path_factory):
    """A folder, and the address at which it is served on this machine."""
    folder = tmp_path_factory.mktemp("served")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{httpd.server_port}/"
        httpd.shutdown()
        thread.join()


@pytest.fixture
def source(monkeypatch):
    content = {"a.bin": b"first" * 1000, "b.bin": b"second" * 1000}
    files = {name: hashlib.md5(raw).hexdigest() for name, raw in content.items()}
    monkeypatch.setitem(data_utils.SOURCES, "toy", {"mirrors": (), "folder": "toy", "files": files})
    return content


def test_download_takes_the_first_mirror_that_gives_the_right_file(server, source, tmp_path):
    folder, address = server
    for name, raw in source.items():
        for mirror, served in (("broken", raw[:-10]), ("error", b"<html>moved</html>"), ("good", raw)):
            (folder / mirror).mkdir(exist_ok=True)
            (folder / mirror / name).write_bytes(served)
    mirrors = [f"{address}{m}/" for m in ("absent", "error", "broken", "good")]
    paths = download("toy", tmp_path, mirrors=mirrors, progress=False)
    assert [path.read_bytes() for path in paths] == list(source.values())
    assert sorted(p.name for p in (tmp_path / "toy").iterdir()) == ["a.bin", "b.bin"]
    again = download("toy", tmp_path, mirrors=["http://127.0.0.1:9/"], progress=False)
    assert again == paths


def test_a_partial_file_is_never_taken_for_a_whole_one(server, source, tmp_path):
    folder, address = server
    (folder / "a.bin").write_bytes(source["a.bin"][:-10])
    with pytest.raises(ConnectionError, match=r"no mirror gave a.bin.*hash.*by hand"):
        download("toy", tmp_path, mirrors=[address], progress=False)
    assert list((tmp_path / "toy").iterdir()) == []


def test_download_of_an_unknown_set():
    with pytest.raises(ValueError, match="Did you mean 'mnist'"):
        download("mnits")


def test_the_sums_are_those_of_the_real_files(real_data):
    for name, md5 in data_utils.SOURCES["mnist"]["files"].items():
        if name != "train-images-idx3-ubyte.gz":  # the copy here was compressed anew
            assert hashlib.md5((real_data / "mnist" / name).read_bytes()).hexdigest() == md5
