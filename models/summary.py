"""What a net consists of, counted: output shapes, parameters, and multiplications an example."""

import math

from .. import layers as L
from .. import recurrent as R

__all__ = ["summary_lines"]

PRODUCTS = (L.affine_forward, L.conv_forward)
STEP_BY_STEP = (R.temporal_affine_forward, R.word_scores_forward)


def summary_lines(layers, rows, params):
    """A table as rows of cells: its head, the layers, and what there is in all.

    layers: of a net.  rows: (title, shape of the output, names of own parameters) of each of them.
    """
    lines = [("", "layer", "output", "parameters", "multiplications")]
    sizes, products, depth = [], [], 0
    for layer, (title, shape, names) in zip(layers, rows, strict=True):
        depth += layer.forks
        title = f"{depth * '  '}{title}{layer.joins * ' (added)'}"
        depth -= layer.joins
        sizes.append(sum(params[name].size for name in names))
        products.append(layer.products or _products(layer, shape, params))
        counts = (_shown(sizes[-1]), _shown(products[-1]))
        lines.append((str(layer.number), title, str(shape), *counts))
    return [*lines, ("", "in all", "", _shown(sum(sizes)), _shown(sum(products)))]


def _products(layer, shape, params):
    """Multiplications an example: each weight is used for each pixel, or step, of the output."""
    if layer.forward in PRODUCTS:
        return params[layer.names[0]].size * math.prod(shape[1:])
    return params[layer.names[0]].size * shape[0] if layer.forward in STEP_BY_STEP else 0


def _shown(count):
    return f"{count:,}" if count else "-"
