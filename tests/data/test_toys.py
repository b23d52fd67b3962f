"""Sequences whose answer is known: the answers by another way."""

import numpy as np
import pytest
from handgrad.data_utils import adding_problem, parity, reversal


@pytest.mark.parametrize("length", [2, 3, 50])
def test_the_adding_problem(length):
    X, y = adding_problem(400, length, seed=1)
    assert X.shape == (400, length, 2)
    for x, target in zip(X, y, strict=True):
        first, second = np.flatnonzero(x[:, 1])
        assert first < length // 2 <= second
        assert target == pytest.approx(x[first, 0] + x[second, 0])
    assert np.mean((y - 1) ** 2) == pytest.approx(1 / 6, rel=0.2)
    np.testing.assert_array_equal(adding_problem(400, length, seed=1)[0], X)
    with pytest.raises(ValueError, match="length = 1, expected 2 or more"):
        adding_problem(5, 1)


def test_parity():
    X, y = parity(20, 9)
    for x, target in zip(X, y, strict=True):
        odd = False
        for bit, said in zip(x, target, strict=True):
            odd ^= bool(bit)
            assert said == odd


def test_reversal():
    X, y = reversal(20, 6, vocab_size=4)
    for x, target in zip(X.tolist(), y.tolist(), strict=True):
        assert x[6] == 4
        assert target[:6] == [-1] * 6
        assert target[6:] == x[5::-1]
        assert x[7:] == target[6:-1]
