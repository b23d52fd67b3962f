"""Data sets: MNIST, CIFAR-10, digits.mat, digits drawn by the program, the course's spiral.

A data set is a dict as the Solver takes it: X_train, y_train, X_val, y_val, X_test, y_test, and
`transform`, which turns a batch of images into the numbers a net likes. Images are uint8 arrays
(N, C, H, W) and stay bytes until a batch needs them; labels are integers from 0.

Files are looked for in `data_dir`, else in the folder that the environment variable HANDGRAD_DATA
names, else in the user's cache folder, where `download` puts them. They are not trusted: readers
check magic numbers, sizes and labels, and no code in a pickle is run.
"""

import functools
import gzip
import io
import math
import os
import pickle
import tarfile
import zlib
from pathlib import Path

import numpy as np

from .engine.errors import check_range, look_up
from .engine.randomness import generator

# ---------------------------------------------------------------------------- small tools


def one_hot(y, num_classes, dtype=np.float32):
    """Labels (N,) as rows (N, num_classes) with a 1 at the label and 0 elsewhere."""
    y = np.asarray(y)
    if y.dtype.kind not in "iu" or (y.size and not (0 <= y.min() and y.max() < num_classes)):
        raise ValueError(
            f"one_hot: y has dtype {y.dtype} and values {set(y.ravel()[:5].tolist())} ..., "
            f"expected integers from 0 to {num_classes - 1}."
        )
    rows = np.zeros((len(y), num_classes), dtype)
    rows[np.arange(len(y)), y] = 1
    return rows


def split(X, y, *sizes, seed=0):
    """Parts of the given sizes, drawn without repetition: [(X_1, y_1), (X_2, y_2), ...]."""
    if sum(sizes) > len(X) or len(X) != len(y):
        raise ValueError(
            f"split: sizes {sizes} ask for {sum(sizes)} of X with {len(X)} and y with {len(y)}."
        )
    order = generator(seed, "data").permutation(len(X))[: sum(sizes)]
    parts = np.split(order, np.cumsum(sizes)[:-1])
    return [(X[part], y[part]) for part in parts]


def mean_image(X, dtype=np.float32):
    """The mean over examples, shaped as one of them; X may be bytes of any number of gigabytes."""
    return (np.sum(X, axis=0, dtype=np.float64) / max(1, len(X))).astype(dtype)


def standardize(X, mean=0.0, std=1.0, dtype=np.float32):
    """(X - mean) / std as floats; with functools.partial a `transform` for the Solver."""
    out = X.astype(dtype)
    out -= np.asarray(mean, dtype)
    out /= np.asarray(std, dtype)
    return out


def normalize_images(X, dtype=np.float32):
    """Each example by itself to mean 0 and deviation 1; a constant one becomes zeros."""
    rows = X.reshape(len(X), math.prod(X.shape[1:])).astype(dtype)
    rows = rows - rows.mean(axis=1, keepdims=True)
    std = rows.std(axis=1, keepdims=True)
    return (rows / np.where(std > 0, std, 1)).reshape(X.shape)


def whitening(X, components, eps=0.1):
    """A `transform` for the Solver by principal components: it turns images into rows of numbers that
    are not correlated, of mean 0 and, where eps is small beside the variance, of variance 1.

    X: images as bytes (N, ...) to learn from.  components: how many to keep, those of the largest
    variance.  eps: added to their variances, which are of pixels from 0 to 1; it keeps down what is
    mostly noise.  Returns a function of images (M, ...) that gives float32 rows (M, components).
    """
    D = math.prod(X.shape[1:])
    if not len(X):
        raise ValueError(f"whitening: X has shape {X.shape}, expected at least one image.")
    if not isinstance(components, int | np.integer) or not 1 <= components <= D:
        raise ValueError(
            f"whitening: components = {components}, expected a whole number from 1 to {D}."
        )
    check_range("whitening", "eps", eps, 0, float("inf"))
    total, products = np.zeros(D), np.zeros((D, D))
    for part in np.array_split(X, max(1, len(X) // 5000)):  # floats of a part at a time
        rows = part.reshape(len(part), D).astype(np.float32) / np.float32(255)
        total += rows.sum(axis=0, dtype=np.float64)
        products += rows.T @ rows
    mean = total / len(X)
    variances, axes = np.linalg.eigh(products / len(X) - np.outer(mean, mean))  # in rising order
    variances, axes = variances[: -components - 1 : -1], axes[:, : -components - 1 : -1]
    weights = axes / np.sqrt(np.maximum(variances, 0) + eps)
    return functools.partial(
        _whitened, mean=mean.astype(np.float32), weights=weights.astype(np.float32)
    )


def _whitened(X, *, mean, weights):
    if math.prod(X.shape[1:]) != len(mean):
        raise ValueError(
            f"whitening: X has shape {X.shape}, expected images of {len(mean)} numbers each, as those "
            "it was learned from."
        )
    rows = X.reshape(len(X), len(mean)).astype(np.float32) / np.float32(255)
    return (rows - mean) @ weights


def _standardizer(X):
    """A transform by the mean and deviation of all pixels of X (bytes), counted, not copied."""
    counts = sum(np.bincount(part.ravel(), minlength=256) for part in np.array_split(X, 100))
    mean = counts @ np.arange(256) / X.size
    std = math.sqrt(counts @ (np.arange(256) - mean) ** 2 / X.size)
    return functools.partial(standardize, mean=float(mean), std=float(std))


# ---------------------------------------------------------------------------- finding files


def default_data_dir():
    """The folder of HANDGRAD_DATA, else handgrad's folder in the user's cache."""
    if os.environ.get("HANDGRAD_DATA"):
        return Path(os.environ["HANDGRAD_DATA"])
    import pooch  # when first needed: it costs time at import

    return Path(pooch.os_cache("handgrad"))


def _find(data_dir, what, *names):
    """The first of the names that exists in data_dir or the default folder."""
    folder = Path(data_dir) if data_dir is not None else default_data_dir()
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise FileNotFoundError(
        f"{what} is not in {folder}: looked for {', '.join(names)}. Say where it is with "
        "--data-dir, data_dir=... or HANDGRAD_DATA"
        + (f", or fetch it: handgrad download {what}." if what in SOURCES else ".")
    )


# ---------------------------------------------------------------------------- MNIST


def read_idx(path):
    """An IDX file of bytes, plain or .gz, as an array; ValueError if it is foreign or cut short."""
    raw = _maybe_unzipped(path)
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise ValueError(
            f"{path}: begins with {raw[:4].hex(' ')}, expected the magic number 00 00 08 of an "
            "IDX file of bytes."
        )
    ndim = raw[3]
    header = 4 + 4 * ndim
    shape = tuple(int.from_bytes(raw[k : k + 4], "big") for k in range(4, min(header, len(raw)), 4))
    if len(shape) < ndim or len(raw) != header + math.prod(shape):
        raise ValueError(
            f"{path}: holds {len(raw)} bytes, but its header {shape} asks for "
            f"{header + math.prod(shape)}; the file is cut short or damaged."
        )
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _maybe_unzipped(path):
    raw = Path(path).read_bytes()
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path}: not a whole .gz file ({error}).") from error


def load_mnist(data_dir=None, num_validation=5000):
    """MNIST (LeCun et al. 1998): 60,000 training and 10,000 test images (N, 1, 28, 28).

    num_validation: the last so many training images are set aside for validation; 0 for none.
    """
    data = {}
    for part, stem in (("train", "train"), ("test", "t10k")):
        X, y = (
            read_idx(_find(data_dir, "mnist", *_idx_names(stem, kind)))
            for kind in ("images-idx3", "labels-idx1")
        )
        if X.ndim != 3 or X.shape[1:] != (28, 28) or y.shape != X.shape[:1]:
            raise ValueError(
                f"mnist: {stem} images have shape {X.shape} and labels {y.shape}, "
                "expected (N, 28, 28) and (N,)."
            )
        if y.size and y.max() > 9:
            raise ValueError(f"mnist: {stem} labels go up to {y.max()}, expected 0 to 9.")
        data[f"X_{part}"], data[f"y_{part}"] = X[:, None], y.astype(np.int64)
    return _set_aside(data, num_validation)


def _idx_names(stem, kind):
    plain = (f"{stem}-{kind}-ubyte", f"{stem}-{kind.replace('-', '.')}-ubyte")
    files = [name + ending for name in plain for ending in ("", ".gz")]
    return [f"mnist/{name}" for name in files] + files


def _set_aside(data, num_validation):
    """The last training examples as the validation set, and the transform made from the rest."""
    N = len(data["X_train"]) - num_validation
    if num_validation < 0 or N < 1:
        raise ValueError(
            f"num_validation = {num_validation}, expected 0 to {len(data['X_train']) - 1}."
        )
    if num_validation:
        data["X_val"], data["y_val"] = data["X_train"][N:], data["y_train"][N:]
        data["X_train"], data["y_train"] = data["X_train"][:N], data["y_train"][:N]
    data["transform"] = _standardizer(data["X_train"])
    return data


# ---------------------------------------------------------------------------- CIFAR-10

CIFAR_FOLDER = "cifar-10-batches-py"
CIFAR_ARCHIVE = "cifar-10-python.tar.gz"


class _CifarUnpickler(pickle.Unpickler):
    """Admits what the official files hold, arrays of numbers, and nothing that could run."""

    ADMITTED = (
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    )

    def find_class(self, module, name):
        if (module, name) not in self.ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not admitted")
        if name == "_reconstruct":
            return np._core.multiarray._reconstruct
        return getattr(np, name)


def load_pickle(file, name):
    """A CIFAR-10 pickle (an open binary file called `name`) as a dict; runs nothing it asks for."""
    try:
        content = _CifarUnpickler(file, encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises whatever it stumbles over
        raise ValueError(f"{name}: not a CIFAR-10 batch ({error}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{name}: holds a {type(content).__name__}, expected a dict.")
    return content


def load_CIFAR_batch(filename):
    """One batch file: X (N, 3, 32, 32) uint8 and y (N,) int64."""
    with open(filename, "rb") as file:
        return _cifar_arrays(load_pickle(file, filename), filename)


def _cifar_arrays(batch, name):
    X, y = batch.get("data"), np.asarray(batch.get("labels", []))
    if not isinstance(X, np.ndarray) or X.dtype != np.uint8 or X.shape != (len(y), 3072):
        came = f"{X.dtype} {X.shape}" if isinstance(X, np.ndarray) else type(X).__name__
        raise ValueError(f"{name}: 'data' is {came} beside {len(y)} labels, expected uint8 (N, 3072).")
    if y.dtype.kind not in "iu" or (y.size and not (0 <= y.min() and y.max() <= 9)):
        raise ValueError(f"{name}: labels are not integers from 0 to 9.")
    return X.reshape(-1, 3, 32, 32), y.astype(np.int64)


def load_CIFAR10(root):
    """All of CIFAR-10 as bytes: X_train (50000, 3, 32, 32), y_train, X_test (10000, ...), y_test.

    root: the folder cifar-10-batches-py or the official .tar.gz.
    """
    root = Path(root)
    names = [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]
    if root.is_dir():
        batches = [load_CIFAR_batch(root / name) for name in names]
    else:
        batches = _cifar_from_archive(root, names)
    X_train = np.concatenate([X for X, _ in batches[:5]])
    y_train = np.concatenate([y for _, y in batches[:5]])
    return X_train, y_train, *batches[5]


def _cifar_from_archive(path, names):
    """The batches out of the .tar.gz, read in memory: nothing is unpacked onto the disk."""
    try:
        with tarfile.open(path) as archive:
            content = {name: archive.extractfile(f"{CIFAR_FOLDER}/{name}").read() for name in names}
    except (tarfile.TarError, EOFError, zlib.error, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: not the whole {CIFAR_ARCHIVE} ({error}).") from error
    return [
        _cifar_arrays(load_pickle(io.BytesIO(content[name]), f"{path}:{name}"), f"{path}:{name}")
        for name in names
    ]


def load_cifar10(data_dir=None, num_validation=1000):
    """CIFAR-10 (Krizhevsky 2009) as bytes: 50,000 training and 10,000 test images (N, 3, 32, 32).

    num_validation: the last so many training images are set aside for validation; 0 for none.
    """
    root = _find(data_dir, "cifar10", CIFAR_FOLDER, CIFAR_ARCHIVE)
    X_train, y_train, X_test, y_test = load_CIFAR10(root)
    data = {"X_train": X_train, "y_train": y_train, "X_test": X_test, "y_test": y_test}
    return _set_aside(data, num_validation)


def get_CIFAR10_data(
    num_training=49000,
    num_validation=1000,
    num_test=1000,
    subtract_mean=True,
    data_dir=None,
    dtype=np.float32,
):
    """CIFAR-10 as the course's notebooks have it: floats from 0 to 255 less the mean image.

    Training images are the first num_training, validation images the next num_validation, test
    images the first num_test of 10,000. For images that stay bytes: `load_cifar10`.
    """
    X, y, X_test, y_test = load_CIFAR10(_find(data_dir, "cifar10", CIFAR_FOLDER, CIFAR_ARCHIVE))
    if num_training + num_validation > len(X) or num_test > len(X_test):
        raise ValueError(
            f"get_CIFAR10_data: num_training + num_validation = {num_training + num_validation} "
            f"and num_test = {num_test}, expected at most {len(X)} and {len(X_test)}."
        )
    stop = num_training + num_validation
    parts = {
        "train": (X[:num_training], y[:num_training]),
        "val": (X[num_training:stop], y[num_training:stop]),
        "test": (X_test[:num_test], y_test[:num_test]),
    }
    mean = mean_image(parts["train"][0], dtype) if subtract_mean else 0.0
    data = {f"X_{part}": standardize(images, mean, dtype=dtype) for part, (images, _) in parts.items()}
    return data | {f"y_{part}": labels for part, (_, labels) in parts.items()}


# ---------------------------------------------------------------------------- digits.mat


def load_digits_mat(data_dir=None):
    """digits.mat: grey digits (N, 1, 16, 16), 5000 to train, 5000 to validate, 1000 to test.

    Its labels 1..10 become the digit itself, 0..9 (10 stands for 0), its pixels, which lie in
    column order, upright.
    """
    from scipy.io import loadmat  # when first needed: it costs time at import

    path = _find(data_dir, "digits.mat", "digits.mat")
    try:
        content = loadmat(path)
    except Exception as error:  # a damaged file raises whatever it stumbles over
        raise ValueError(f"{path}: not a whole MATLAB 5 file ({error}).") from error
    data = {}
    for part, ending in (("train", ""), ("val", "valid"), ("test", "test")):
        X, y = content.get(f"X{ending}"), content.get(f"y{ending}")
        came = [getattr(a, "shape", None) for a in (X, y)]
        if X is None or y is None or X.ndim != 2 or came != [(len(X), 256), (len(X), 1)]:
            raise ValueError(
                f"{path}: X{ending} and y{ending} have shapes {came}, expected (N, 256) and (N, 1)."
            )
        if y.size and not (1 <= y.min() and y.max() <= 10):
            raise ValueError(f"{path}: y{ending} has labels {y.min()} to {y.max()}, expected 1 to 10.")
        data[f"X_{part}"] = X.astype(np.uint8).reshape(-1, 1, 16, 16).transpose(0, 1, 3, 2).copy()
        data[f"y_{part}"] = y.ravel().astype(np.int64) % 10
    data["transform"] = _standardizer(data["X_train"])
    return data


# ---------------------------------------------------------------------------- made by the program

FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmr10", "cmb10", "cmss10", "cmtt10"),
)


def load_digits(num_training=6000, num_validation=1000, num_test=1000, seed=0):
    """Synthetic digits (N, 1, 28, 28) that need no download: 10 classes.

    The program draws them: a digit in one of matplotlib's own fonts, turned by up to 15 degrees,
    sheared, stretched to 80..110 %, moved by up to 2 pixels, bent (elastic distortion, Simard et
    al. 2003), blurred and covered with noise. Train, validation and test share the fonts and differ
    in the distortions, so this is easier than handwriting; it shows that a net learns, no more.
    """
    glyphs = _glyphs()  # (fonts, 10, 40, 40)
    rng = generator(seed, "data")
    total = num_training + num_validation + num_test
    y = rng.permutation(np.arange(total) % 10)
    fonts = rng.integers(len(glyphs), size=total)
    X = np.stack([_distorted(glyphs[f, d], rng) for f, d in zip(fonts, y, strict=True)])[:, None]
    bounds = np.cumsum([num_training, num_validation])
    data = {}
    for part, images, labels in zip(
        ("train", "val", "test"), np.split(X, bounds), np.split(y, bounds), strict=True
    ):
        data[f"X_{part}"], data[f"y_{part}"] = images, labels
    data["transform"] = _standardizer(data["X_train"])
    return data


@functools.cache
def _glyphs(side=40):
    """Every digit in every font, white on black, floats from 0 to 1: (fonts, 10, side, side)."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

    figure = Figure(figsize=(1, 1), dpi=side)
    canvas = FigureCanvasAgg(figure)
    text = figure.text(0.5, 0.5, "", ha="center", va="center")
    glyphs = np.empty((len(FONTS), 10, side, side))
    for f, font in enumerate(FONTS):
        path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{font}.ttf")
        text.set_fontproperties(FontProperties(fname=path, size=65))
        for digit in range(10):
            text.set_text(str(digit))
            canvas.draw()
            glyphs[f, digit] = 1 - np.asarray(canvas.buffer_rgba())[..., 0] / 255
    return glyphs


def _distorted(glyph, rng, side=28):
    """One image (side, side) of bytes: the glyph turned, sheared, stretched, moved, bent, noisy."""
    from scipy import ndimage

    angle, shear = np.deg2rad(rng.uniform(-15, 15)), rng.uniform(-0.2, 0.2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    scale = len(glyph) / side / rng.uniform(0.8, 1.1, (2, 1))
    matrix = turn @ np.array([[1, 0], [shear, 1]]) * scale
    bend = ndimage.gaussian_filter(rng.uniform(-1, 1, (2, side, side)), (0, 4, 4)) * 16
    grid = np.indices((side, side)) - (side - 1) / 2 - rng.uniform(-2, 2, (2, 1, 1)) + bend
    source = np.tensordot(matrix, grid, axes=1) + (len(glyph) - 1) / 2
    image = ndimage.map_coordinates(glyph, source, order=1)
    image = ndimage.gaussian_filter(image, rng.uniform(0.3, 0.9))
    noisy = 255 * rng.uniform(0.6, 1) * image + rng.normal(0, 12, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def spiral(num_points=100, num_classes=3, seed=0):
    """The course's spiral: X (num_points * num_classes, 2) float32 and y, an arm for each class."""
    rng = generator(seed, "data")
    X = np.empty((num_classes, num_points, 2), np.float32)
    for arm in range(num_classes):
        r = np.linspace(0, 1, num_points)
        t = np.linspace(4 * arm, 4 * (arm + 1), num_points) + 0.2 * rng.standard_normal(num_points)
        X[arm] = np.stack([r * np.sin(t), r * np.cos(t)], axis=1)
    return X.reshape(-1, 2), np.repeat(np.arange(num_classes), num_points)


# ---------------------------------------------------------------------------- download

# Where the files are, mirror after mirror, and the md5 sum of each.
SOURCES = {
    "mnist": {
        "mirrors": (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        "folder": "mnist",
        "files": {
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    },
    "cifar10": {
        "mirrors": ("https://www.cs.toronto.edu/~kriz/",),
        "folder": "",
        "files": {CIFAR_ARCHIVE: "c58f30108f718f92721af3b95e74349a"},
    },
}


def download(name, data_dir=None, mirrors=None, progress=True):
    """Fetch 'mnist' or 'cifar10' into data_dir (or the default folder); returns the files' paths.

    Each file comes from the first mirror that gives the right one: it is checked by its md5 sum
    and gets its name only when it is whole. Files that are there already are checked, not fetched.
    """
    import pooch

    source = look_up("download", SOURCES, name, "data set")
    folder = (Path(data_dir) if data_dir is not None else default_data_dir()) / source["folder"]
    folder.mkdir(parents=True, exist_ok=True)

    def fetch(file, md5):
        failures = []
        for mirror in mirrors or source["mirrors"]:
            try:
                return Path(
                    pooch.retrieve(mirror + file, f"md5:{md5}", file, folder, progressbar=progress)
                )
            except Exception as error:  # no network, no such file, a wrong sum: the next mirror
                failures.append(f"{mirror}{file}: {error}")
        raise ConnectionError(
            f"download: no mirror gave {file}. "
            + "; ".join(failures)
            + f". It can be put into {folder} by hand."
        )

    return [fetch(file, md5) for file, md5 in source["files"].items()]


DATA_SETS = {
    "digits": load_digits,
    "digits.mat": load_digits_mat,
    "mnist": load_mnist,
    "cifar10": load_cifar10,
}
