"""A sandwich is its layers one after the other: checked as a whole, by complex step."""

import inspect

import numpy as np
import pytest
from handgrad import layer_utils
from handgrad.gradient_check import check_layer

X, W, B = (3, 2, 3), (6, 4), (4,)
IMAGES, FILTERS, F = (2, 2, 6, 6), (3, 2, 3, 3), (3,)
BN, CONV, POOL = (
    {"mode": "train"},
    {"stride": 1, "pad": 1},
    {"pool_height": 2, "pool_width": 2, "stride": 2},
)
ROWS = {
    "affine_relu": ([X, W, B], []),
    "affine_bn_relu": ([X, W, B, B, B], [BN]),
    "affine_ln_relu": ([X, W, B, B, B], [{}]),
    "conv_relu": ([IMAGES, FILTERS, F], [CONV]),
    "conv_bn_relu": ([IMAGES, FILTERS, F, F, F], [CONV, BN]),
    "conv_relu_pool": ([IMAGES, FILTERS, F], [CONV, POOL]),
    "conv_bn_relu_pool": ([IMAGES, FILTERS, F, F, F], [CONV, BN, POOL]),
}


def test_every_sandwich_has_a_row():
    names = [
        n
        for n, f in inspect.getmembers(layer_utils, inspect.isfunction)
        if f.__module__ == layer_utils.__name__
    ]
    assert sorted(names) == sorted(f"{row}_{way}" for row in ROWS for way in ("forward", "backward"))
    assert sorted(names) == sorted(layer_utils.__all__)


@pytest.mark.parametrize("name", ROWS)
def test_gradients(name):
    shapes, settings = ROWS[name]
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in shapes]
    forward, backward = (getattr(layer_utils, f"{name}_{way}") for way in ("forward", "backward"))
    report = check_layer(forward, backward, *arrays, *settings)
    assert len(report.rows) == len(arrays)
    assert report.require().error < 1e-11


def test_bn_param_is_the_callers():
    bn_param = {"mode": "train"}
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in ROWS["conv_bn_relu"][0]]
    layer_utils.conv_bn_relu_forward(*arrays, CONV, bn_param)
    assert bn_param["running_mean"].shape == (3,)
