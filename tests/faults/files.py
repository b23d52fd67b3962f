"""Files: whatever their bytes, they are read, or refused by an error that names them.

Each case damages a good file in one to three ways, and reads it. While it is read no code may run, no
other file may be opened, and memory stays below a gigabyte. The interpreter reports what is opened,
executed, started or looked up (PEP 578), and the operating system limits the memory.
"""

import codecs
import contextlib
import functools
import gzip
import importlib.util
import io
import json
import pickle
import re
import resource
import struct
import sys
import tarfile
import tempfile
import warnings
from pathlib import Path

import handgrad
import numpy as np
from handgrad import Solver, data_utils
from handgrad.cli import images
from handgrad.cli.settings import checked_settings, named, solver_of
from handgrad.data_utils import spiral
from handgrad.engine import checkpoints
from handgrad.engine.checkpoints import load_params
from handgrad.models import Affine, BatchNorm, Conv, Dropout, FullyConnectedNet, Net

from . import attack

compare_module = importlib.import_module("handgrad.compare")  # the package has a function of this name

MEMORY = 2**30  # bytes more than there are before the file is read

# ---------------------------------------------------------------------------- what is watched

REFUSED = ("os.system", "subprocess", "socket", "pickle.find_class", "os.exec", "os.fork", "os.remove")
REFUSED += ("os.rename", "os.mkdir", "os.chmod", "shutil", "exec", "ctypes")
watching = {}  # 'folder': where files may be opened; empty: nothing is watched


def hook(event, arguments):
    if not watching:
        return
    folder = watching["folder"]
    if event == "open" and isinstance(arguments[0], str | bytes):
        opened, mode = arguments[0], arguments[1]
        if not str(opened).startswith(folder) or set(mode or "r") & set("wax+"):
            watching["seen"].append(f"opens {opened!r} for {mode!r}")
    elif event.startswith(REFUSED):
        watching["seen"].append(f"{event}{arguments!r:.99}")


@functools.cache
def install_hook():
    for encoding in ("utf_16_le", "utf_16_be", "utf_32_le", "utf_32_be"):
        codecs.lookup(encoding)  # imported when first needed: JSON may come in them
    sys.addaudithook(hook)  # for good: Python has no way to remove one


@contextlib.contextmanager
def watched(folder):
    """Raise AssertionError if the block runs code or opens files elsewhere; limit its memory."""
    install_hook()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, limits[1]))
    watching.update(folder=str(folder), seen=[])
    try:
        yield
    finally:
        seen = watching.pop("seen")
        watching.clear()
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert not seen, seen


# ---------------------------------------------------------------------------- damages

EXTREMES = [0, 1, 0x7F, 0xFF, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1]


class Calls:
    """What a hostile pickle holds: a call."""

    def __reduce__(self):
        return print, ("this ran",)


CALL = pickle.dumps(Calls(), 2)
BOMB = gzip.compress(bytes(2**24)) * 200  # 3 GB
PATHS = [b"../../../../etc/passwd", b"/etc/passwd", b"/dev/zero", b"..", b"\0", b"/proc/self/mem"]


def place(rng, raw):
    """Anywhere, or near the start, where headers are, or near the end, where zip's table is."""
    share = rng.random() ** rng.choice([1, 6])
    return int((share if rng.integers(3) else 1 - share) * max(0, len(raw) - 1))


def with_bits(rng, raw):
    raw = bytearray(raw)
    for _ in range(rng.integers(1, 5) if raw else 0):
        raw[place(rng, raw)] ^= 1 << int(rng.integers(8))
    return bytes(raw)


def with_a_lie(rng, raw):
    """A number as sizes are, in either order of bytes, or digits."""
    at, order = place(rng, raw), rng.choice(["<", ">"])
    size, letter = [(1, "B"), (2, "H"), (4, "I"), (8, "Q")][rng.integers(4)]
    number = int(rng.choice(EXTREMES)) * int(rng.choice([1, 1, 2**31])) % 2 ** (8 * size)
    lie = struct.pack(order + letter, number) if rng.integers(4) else b"%o" % number
    return raw[:at] + lie + raw[at + len(lie) :]


def cut_short(rng, raw):
    return raw[: place(rng, raw)]


def spliced(rng, raw):
    at, start = place(rng, raw), place(rng, raw)
    return (
        raw[:at] + raw[start : start + int(rng.integers(1, 600))] + raw[at + int(rng.integers(600)) :]
    )


def with_a_call(rng, raw):
    at = place(rng, raw)
    return CALL if rng.integers(4) == 0 else raw[:at] + CALL[2:-1] + raw[at:]


def with_a_path(rng, raw):
    """A path that leads elsewhere, over the name of a member if there is one."""
    path = PATHS[rng.integers(len(PATHS))]
    at = raw.find(rng.choice([b"cifar-10-batches-py/", b"params/", b"meta", b"null"]))
    at = at if at >= 0 else place(rng, raw)
    return raw[:at] + path + raw[at + len(path) :]


def with_a_bomb(rng, raw):
    """Three gigabytes behind the file, packed in three megabytes."""
    return (gzip.compress(raw) if raw[:2] != b"\x1f\x8b" else raw) + BOMB


TOKEN = re.compile(rb'-?[0-9][0-9.]*|null|true|false|"[^"]*"|\[[^][]*\]')
VALUES = [b"null", b"true", b'"x"', b"[]", b"{}", b"-1", b"0", b"0.5", b"NaN", b"Infinity", b"1e999"]
VALUES += [b"[" * 9999, b"9" * 400, b"2147483648", b'["a"]', b"[[1]]", b"[1e308, 1e308]", b"\xff"]


def with_another_value(rng, raw):
    """A number, a word or a list as they stand in text, replaced by something else."""
    tokens = list(TOKEN.finditer(raw))
    if not tokens:
        return raw
    token, value = tokens[rng.integers(len(tokens))], VALUES[rng.integers(len(VALUES))]
    return raw[: token.start()] + value + raw[token.end() :]


DAMAGES = [with_bits, with_a_lie, cut_short, spliced, with_a_call, with_a_path, with_another_value]


def damaged(rng, raw):
    if is_text := raw[:1] == b"{":  # bits alone would never get past the first glance
        raw = with_another_value(rng, raw)
    for _ in range(rng.choice([0, 0, 0, 1, 2] if is_text else [1, 1, 2, 3])):
        raw = DAMAGES[rng.integers(len(DAMAGES))](rng, raw)
    return with_a_bomb(rng, raw) if rng.random() < 0.002 else raw


# ---------------------------------------------------------------------------- good files


def idx(array):
    return struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


IMAGES = idx(np.arange(2 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(2, 28, 28))
LABELS = idx(np.array([3, 9], np.uint8))
BATCHES = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]


def a_batch(rng):
    images = rng.integers(256, size=(2, 3072), dtype=np.uint8)
    content = {"batch_label": "a batch", "data": images, "labels": [7, 1]}
    return pickle.dumps(content, int(rng.integers(3, 5)))


def a_tar(raw):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in BATCHES:
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return file.getvalue()


def a_mat(rng, N=4):
    import scipy.io

    X = rng.integers(256, size=(N, 256), dtype=np.uint8)
    y = rng.integers(1, 11, size=(N, 1), dtype=np.uint8)
    content = {f"{k}{part}": a for part in ("", "valid", "test") for k, a in (("X", X), ("y", y))}
    file = io.BytesIO()
    scipy.io.savemat(file, content, do_compression=bool(rng.integers(2)))
    return file.getvalue()


def a_solver():
    X, y = spiral(20)
    model = FullyConnectedNet([4], 2, 3, normalization="batchnorm", weight_scale="kaiming", seed=0)
    data = {"X_train": X, "y_train": y, "X_val": X, "y_val": y}
    return Solver(
        model, data, update_rule="adam", batch_size=30, num_epochs=2, verbose=False, workers=1, seed=0
    )


@functools.cache
def a_checkpoint():
    solver = a_solver()
    solver.train()
    with tempfile.TemporaryDirectory() as folder:
        solver.save_checkpoint(Path(folder, "good.npz"))
        return Path(folder, "good.npz").read_bytes()


def some_settings():
    settings = images.DEFAULTS | {
        "model": "FullyConnectedNet",
        "hidden_dims": [3],
        "data": "digits.mat",
        "dropout": 0.1,
    }
    return json.dumps(settings, indent=2).encode()


def a_finished_run():
    numbers = {
        "seed": 0,
        "iterations_per_epoch": 2,
        "seconds": 1.5,
        "test_acc": 0.5,
        "given": {"rate": "0.1"},
    }
    lists = {key: [0.1, 0.2, 0.4] for key in ("train_acc_history", "val_acc_history")}
    return json.dumps(
        numbers | lists | {"loss_history": [2.0] * 4, "epoch_seconds": [0.5, 1.0]}
    ).encode()


# ---------------------------------------------------------------------------- readers


def reader(name, good, name_of_file, inside=bytes):
    """An attack on a reader. good(rng): the bytes of a good file.  inside: what packs damaged bytes.

    The decorated function gets the path, and checks what it reads.
    """

    def entered(read):
        def try_case(rng, folder):
            path = folder / name_of_file
            path.parent.mkdir(parents=True, exist_ok=True)
            raw = good(rng)
            path.write_bytes(inside(raw))
            read(path)  # imports what it needs
            path.write_bytes(inside(damaged(rng, raw)))
            return outcome(read, path)

        try_case.__name__, try_case.__module__ = name, __name__
        promise = f"Damaged {read.__doc__} are refused with their name, run nothing and take no memory"
        attack(promise, long=2000, short=15)(try_case)
        return read

    return entered


def outcome(read, path):
    """Whether it was read or refused, as it should be."""
    with watched(path.parent), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numbers that overflow; their text would be read from files
        try:
            read(path)
        except (ValueError, OSError) as refusal:
            error = refusal
        else:
            return "read"
    assert str(path) in f"{error} {getattr(error, 'filename', '')}", f"does not name it: {error!r}"
    return "refused"


def images_and_labels(X, y):
    assert X.dtype == np.uint8
    assert len(X) == len(y)
    assert set(y.tolist()) <= set(range(10))


@reader("idx", lambda rng: [IMAGES, LABELS][rng.integers(2)], "images-idx3-ubyte")
@reader("idx_gz_inside", lambda rng: IMAGES, "images-idx3-ubyte.gz", gzip.compress)
@reader("idx_gz", lambda rng: gzip.compress(IMAGES), "images-idx3-ubyte.gz")
def read_idx(path):
    """IDX files"""
    assert data_utils.read_idx(path).dtype == np.uint8


@reader("cifar_batch", a_batch, "data_batch_1")
def read_batch(path):
    """CIFAR-10 batches, which are pickles,"""
    images_and_labels(*data_utils.load_CIFAR_batch(path))


@reader("cifar_archive", lambda rng: gzip.compress(a_tar(a_batch(rng)), 1), "cifar-10-python.tar.gz")
@reader(
    "cifar_archive_inside",
    lambda rng: a_tar(a_batch(rng)),
    "cifar-10-python.tar.gz",
    lambda raw: gzip.compress(raw, 1),
)
def read_archive(path):
    """CIFAR-10 archives"""
    X, y, X_test, y_test = data_utils.load_CIFAR10(path)
    images_and_labels(X, y)
    images_and_labels(X_test, y_test)


@reader("mat", a_mat, "digits.mat")
def read_mat(path):
    """MATLAB files"""
    data = data_utils.load_digits_mat(path.parent)
    images_and_labels(data["X_train"], data["y_train"])


def an_npz(rng):
    """Examples as a user may save them: whole or divided, packed or not."""
    X, file = rng.integers(256, size=(12, 1, 4, 4), dtype=np.uint8), io.BytesIO()
    arrays = {"X": X, "y": np.array(["cat", "dog"] * 6)}
    if rng.integers(2):
        labels = np.arange(12) % 2
        arrays = {"X_train": X, "y_train": labels, "X_test": X, "y_test": labels, "other": X}
    [np.savez, np.savez_compressed][rng.integers(2)](file, **arrays)
    return file.getvalue()


@reader("npz", an_npz, "mine.npz")
def read_npz(path):
    """.npz files of examples"""
    data = data_utils.load_npz(path)
    images_and_labels(data["X_train"], data["y_train"])


def a_table(rng):
    rows = [f"{n},{n / 2},{n % 3 - 1},{'cat' if n % 2 else 'dog'}" for n in range(30)]
    return "\n".join(["a,b,c,kind", *rows]).encode()


def read_csv(path):
    """CSV files"""
    data = data_utils.load_csv(path, "kind")
    assert data["X_train"].dtype == np.float32
    assert len(data["X_train"]) == len(data["y_train"])


if importlib.util.find_spec("pandas"):
    reader("csv", a_table, "mine.csv")(read_csv)
    reader("csv_gz", lambda rng: gzip.compress(a_table(rng)), "mine.csv.gz")(read_csv)


def an_image(rng):
    from PIL import Image

    size, file = [(9, 7), (9, 7, 3), (9, 7, 4)][rng.integers(3)], io.BytesIO()
    image = Image.fromarray(rng.integers(256, size=size, dtype=np.uint8))
    image.save(file, ["PNG", "TIFF", "GIF", "JPEG", "PPM"][rng.integers(5 if size[2:] == (3,) else 2)])
    return file.getvalue()


def read_images(path):
    """images in a folder"""
    data = data_utils.load_image_folder(path.parents[1], size=(5, 5), val=0, test=0)
    images_and_labels(data["X_train"], data["y_train"])


if importlib.util.find_spec("PIL"):
    reader("images", an_image, "cat/1.png")(read_images)


@functools.cache
def a_model():
    layers = [Conv(2, 3, pad="same"), BatchNorm(), "relu", Dropout(0.1), Affine(3)]
    with tempfile.TemporaryDirectory() as folder:
        path = Net(layers, (1, 4, 4), seed=0, reg=0.1).save(Path(folder, "net.npz"))
        return path.read_bytes()


@reader("model", lambda rng: a_model(), "net.npz")
def read_model(path):
    """saved nets"""
    net = handgrad.load(path)
    assert net.loss(np.ones((2, *net.input_dim), np.float32)).shape == (2, 3)


def meta_of(npz):
    """The JSON in a checkpoint or a model."""
    with np.load(io.BytesIO(npz)) as file:
        return file["meta"].tobytes()


def with_meta(npz):
    """A function that puts other JSON into it, with the right sums; else the sums give damage away."""

    def packed(raw):
        with np.load(io.BytesIO(npz())) as file:
            arrays = dict(file) | {"meta": np.frombuffer(raw, np.uint8)}
        file = io.BytesIO()
        np.savez(file, **arrays)
        return file.getvalue()

    return packed


@reader("model_inside", lambda rng: meta_of(a_model()), "net.npz", with_meta(a_model))
def read_changed_model(path):
    """saved nets with right sums"""
    net = handgrad.load(path)
    with contextlib.suppress(FloatingPointError):
        net.loss(np.ones((2, *net.input_dim), np.float32), np.zeros(2, int))


@reader("checkpoint_inside", lambda rng: meta_of(a_checkpoint()), "run.npz", with_meta(a_checkpoint))
def read_changed_checkpoint(path):
    """checkpoints with right sums"""
    solver = a_solver()
    solver.load_checkpoint(path)
    solver.learning_rate_at(solver.iteration, solver.epoch)
    assert len(solver.loss_history) == solver.iteration


@reader("checkpoint", lambda rng: a_checkpoint(), "checkpoint.npz")
def read_checkpoint(path):
    """checkpoints"""
    solver = a_solver()
    before = a_state(solver)
    try:
        solver.load_checkpoint(path)
    except ValueError:
        assert a_state(solver) == before
        raise
    assert a_state(solver) == a_good_state()


def a_state(solver):
    arrays = solver.model.params | solver.model.state
    return (
        solver.epoch,
        solver.loss_history,
        {name: np.array(a).tobytes() for name, a in arrays.items()},
    )


@functools.cache
def a_good_state():
    solver = a_solver()
    solver.train()
    solver.go_on_from_last()
    return a_state(solver)


@reader("checkpoint_params", lambda rng: a_checkpoint(), "checkpoint.npz")
def read_params(path):
    """checkpoints of which only the parameters are wanted"""
    load_params(a_solver().model, path)
    assert checkpoints.last_epoch(path) == 2


DIGITS = {"X_train": np.zeros((300, 1, 4, 4), np.float32), "y_train": np.arange(300) % 10}


@reader("settings", lambda rng: some_settings(), "settings.json")
def read_settings(path):
    """settings of a run"""
    settings = checked_settings(path)
    with named(path):
        solver_of(settings, DIGITS, path.parent)


@reader("finished_run", lambda rng: a_finished_run(), "sgd-seed0-0123456789ab.json")
def read_run(path):
    """finished runs of a comparison"""
    run = compare_module._read_run(path)
    result = compare_module.Comparison(["sgd"], {("sgd", 0): run}, {}, target=0.3)
    assert all("sgd" in text for text in (result.table(), result.csv(), result.markdown()))
    compare_module._by_epoch(run)
