"""A batch in parts gives what the batch at once gives, for any number of workers."""

import numpy as np
import pytest
from handgrad.engine import parts as module
from handgrad.engine.parts import Parts, by_part, joined, total
from handgrad.engine.workers import workers


def batch(dtype=np.float64):
    return np.random.default_rng(0).integers(-9, 9, (7, 3, 2)).astype(dtype)


def cut(x):
    return Parts([x[:4], x[4:4], x[4:]])


def test_parts_look_like_the_batch():
    x = batch(np.float32)
    parts = cut(x)
    assert (parts.shape, parts.ndim, parts.size, parts.dtype) == (x.shape, x.ndim, x.size, x.dtype)
    assert len(parts) == len(x)
    np.testing.assert_array_equal(joined(parts), x)


def test_another_dtype():
    parts = cut(batch()).astype(np.float32)
    assert [a.dtype for a in parts.arrays] == [np.float32] * 3
    assert parts.dtype == np.float32
    np.testing.assert_array_equal(joined(parts), batch())


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_function_by_part(count):
    x, y = batch(), batch()[::-1] + 1
    with workers(count):
        out = by_part(lambda a, b: a * b, cut(x), cut(y))
    assert [len(a) for a in out.arrays] == [4, 0, 3]
    np.testing.assert_array_equal(joined(out), x * y)
    np.testing.assert_array_equal(by_part(lambda a, b: a * b, x, y), x * y)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_sum_over_the_parts(count):
    x, y = batch(), batch()[::-1] + 1
    with workers(count):
        found = total(lambda a, b: (a * b).sum(axis=0), cut(x), cut(y))
    np.testing.assert_array_equal(found, (x * y).sum(axis=0))
    np.testing.assert_array_equal(total(lambda a: a.sum(axis=0), x), x.sum(axis=0))


def test_sums_are_added_in_the_order_of_the_parts():
    """In another order 1 would be lost beside 1e20."""
    parts = Parts([np.array([1e20]), np.array([-1e20]), np.array([1.0])])
    assert total(np.sum, parts) == 1


def test_the_parts_are_shared_out(monkeypatch):
    given = []
    monkeypatch.setattr(module, "run", lambda f, groups: given.append(groups) or [f(g) for g in groups])
    total(np.sum, cut(batch()))
    by_part(np.negative, cut(batch()))
    assert [len(groups) for groups in given] == [3, 3]


def test_parts_of_different_batches_are_refused():
    with pytest.raises(ValueError, match="zip"):
        by_part(np.add, cut(batch()), Parts([batch()]))
