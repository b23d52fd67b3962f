"""Data sets: MNIST, CIFAR-10, digits.mat, digits drawn by the program, the course's spiral, and data of
one's own from arrays, .npz and CSV files, DataFrames and folders of images; texts.

A data set is a dict that the Solver takes. Its keys are X_train, y_train, X_val, y_val, X_test,
y_test and `transform`, a function that turns a batch of images into the numbers that a net takes.
Images are uint8 arrays (N, C, H, W) and stay bytes until a batch needs them. Labels are integers
from 0; `class_names` tells what they stand for.

Loaders look for files in `data_dir`. Without it they look in the folder that the environment variable
HANDGRAD_DATA names, and without that in the user's cache folder, into which `download` puts files.
Files are not trusted: the readers check magic numbers, sizes and labels, limit the memory that a file
can ask for, and run no code. A damaged file ends in a ValueError or an OSError that names it.

The code lies in the package `data`; this module offers all of it under one name.
"""

from .data.arrays import load_npz, split
from .data.captioned_shapes import Words, captioned_shapes
from .data.cifar import (
    CIFAR_ARCHIVE,
    CIFAR_FOLDER,
    get_CIFAR10_data,
    load_CIFAR10,
    load_cifar10,
    load_CIFAR_batch,
)
from .data.digits_mat import load_digits_mat
from .data.download import SOURCES, default_data_dir, download
from .data.drawn_digits import FONTS, load_digits
from .data.image_folder import load_image_folder
from .data.mnist import load_mnist, read_idx
from .data.pickles import load_pickle
from .data.tables import load_csv, load_frame
from .data.text import Characters, load_names, load_shakespeare, load_text, streams, windows
from .data.toys import adding_problem, parity, reversal, spiral
from .data.transforms import mean_image, normalize_images, one_hot, standardize, whitening

__all__ = [
    "CIFAR_ARCHIVE",
    "CIFAR_FOLDER",
    "DATA_SETS",
    "FONTS",
    "SOURCES",
    "Characters",
    "Words",
    "adding_problem",
    "captioned_shapes",
    "default_data_dir",
    "download",
    "get_CIFAR10_data",
    "load_CIFAR10",
    "load_CIFAR_batch",
    "load_cifar10",
    "load_csv",
    "load_digits",
    "load_digits_mat",
    "load_frame",
    "load_image_folder",
    "load_mnist",
    "load_names",
    "load_npz",
    "load_pickle",
    "load_shakespeare",
    "load_text",
    "mean_image",
    "normalize_images",
    "one_hot",
    "parity",
    "read_idx",
    "reversal",
    "spiral",
    "split",
    "standardize",
    "streams",
    "whitening",
    "windows",
]

# The data sets that the command line knows: a loader for each name.
DATA_SETS = {
    "digits": load_digits,
    "digits.mat": load_digits_mat,
    "mnist": load_mnist,
    "cifar10": load_cifar10,
}
