"""The course's gradient checks: handgrad's, which print unless told otherwise."""

from .. import gradient_check
from ..gradient_check import (
    eval_numerical_gradient_array,
    eval_numerical_gradient_blobs,
    grad_check_sparse,
)

__all__ = [
    "eval_numerical_gradient",
    "eval_numerical_gradient_array",
    "eval_numerical_gradient_blobs",
    "eval_numerical_gradient_net",
    "grad_check_sparse",
]


def eval_numerical_gradient(f, x, verbose=True, h=0.00001):
    """As handgrad's, but it prints each entry unless verbose is False."""
    return gradient_check.eval_numerical_gradient(f, x, verbose, h)


def eval_numerical_gradient_net(net, inputs, output, h=1e-5):
    """Numerical gradients of net.forward(), which reads the blobs `inputs` and writes `output`."""
    return eval_numerical_gradient_blobs(lambda *blobs: net.forward(), inputs, output, h)
