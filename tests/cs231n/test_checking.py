"""The course's gradient checks print, and know nets of blobs."""

import numpy as np
from handgrad.cs231n import checking


def test_every_entry_is_printed_unless_told_otherwise(capsys):
    x = np.array([[1.0, 2.0]])
    grad = checking.eval_numerical_gradient(lambda x: np.sum(x**2), x)
    np.testing.assert_allclose(grad, [[2, 4]])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(")")[0] for line in lines] == ["(0, 0", "(0, 1"]
    checking.eval_numerical_gradient(lambda x: np.sum(x**2), x, verbose=False, h=1e-6)
    assert not capsys.readouterr().out


def test_a_net_of_blobs():
    class Blob:
        def __init__(self, vals, diffs=None):
            self.vals, self.diffs = np.array(vals), np.array(diffs)

    class Net:
        def forward(self):
            output.vals = a.vals * b.vals

    a, b, output = Blob([1.0, 2.0]), Blob([3.0, 5.0]), Blob([0.0, 0.0], [1.0, 10.0])
    grads = checking.eval_numerical_gradient_net(Net(), [a, b], output)
    np.testing.assert_allclose(grads, [[3, 50], [1, 20]])
