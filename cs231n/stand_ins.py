"""What the course's cells import from elsewhere, where it is missing: old readers of images, and Colab.

scipy.misc     imread and imresize, which SciPy has no more (editions up to 2018)
imageio        imread (from 2019 on)
google.colab   drive.mount, which mounts nothing here (from 2020 on)
"""

import importlib
import sys
import types
import warnings

import numpy as np

from ..engine.extras import need

__all__ = ["provide"]


def imread(path):
    """The image in a file as bytes, (H, W, C) or (H, W)."""
    with need("imread", "PIL.Image", "images").open(path) as image:
        return np.asarray(image)


def imresize(image, size):
    """Images of bytes in another size (H, W), by interpolation between neighbours."""
    pillow = need("imresize", "PIL.Image", "images")
    H, W = size
    return np.asarray(pillow.fromarray(image).resize((W, H), pillow.Resampling.BILINEAR))


def mount(folder, **_):
    """Nothing: outside Colab there is no drive."""
    print(f"handgrad.cs231n: this is not Colab, so {folder} is not mounted.")


def provide(year):
    """Put what an edition's cells import into the modules that lack it."""
    if year < 2019:
        _complete("scipy.misc", imread=imread, imresize=imresize)
    else:
        _complete("imageio", imread=imread)
    if year >= 2020:
        drive = _complete("google.colab.drive", mount=mount)
        _complete("google.colab", drive=drive)


def _complete(name, **functions):
    """The module with the functions that it lacks; made, with its parents, if there is none."""
    module = _imported(name)
    for function, stand_in in functions.items():
        if not hasattr(module, function):
            setattr(module, function, stand_in)
    return module


def _imported(name):
    parent = name.rpartition(".")[0]
    if parent:
        _imported(parent)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old modules warn when they are imported
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__path__ = []
            return sys.modules[name]
