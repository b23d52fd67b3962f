"""What the course's cells import and handgrad does not have: old readers of images, Colab, captions of
COCO. A first cell with such an import runs then, and so do all that need nothing of it.

scipy.misc     imread and imresize, which SciPy has no more (editions up to 2018)
imageio        imread (from 2019 on)
google.colab   drive.mount, which mounts nothing here (from 2020 on)
cs231n         of Assignment 3 `coco_utils` and two more, whose functions say that they are missing
"""

import importlib
import sys
import types
import warnings

import numpy as np

from ..engine.extras import need

__all__ = ["captions", "provide"]

CAPTIONS = {
    "captioning_solver": ("CaptioningSolver",),
    "coco_utils": ("load_coco_data", "sample_coco_minibatch", "decode_captions"),
    "image_utils": ("image_from_url",),
}


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


def captions(year, folder):
    """Assignment 3's modules on captions (up to 2024), as far as the course's folder lacks them."""
    lacking = [m for m in CAPTIONS if folder is None or not (folder / f"{m}.py").exists()]
    return {
        f"cs231n.{module}": {name: _missing(name, module) for name in CAPTIONS[module]}
        for module in lacking
        if year < 2025
    }


def _missing(name, module):
    def missing(*_, **__):
        """Raises FileNotFoundError."""
        raise FileNotFoundError(
            f"{name}: handgrad has no captions of COCO, expected the course's cs231n/{module}.py "
            "beside the notebook. With it there, call handgrad.cs231n.use again."
        )

    return missing


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
