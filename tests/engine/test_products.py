"""However a product is cut and shared out, it is the product. Whole numbers, small enough for every
order of the additions to give the same.
"""

import itertools

import numpy as np
import pytest
from handgrad.engine import products
from handgrad.engine.products import matmul, matmul_stack, sum_of_products, undivided
from handgrad.engine.workers import run, workers


@pytest.fixture(autouse=True)
def nothing_remembered():
    remembering = [f for f in vars(products).values() if hasattr(f, "cache_clear")]
    for function in remembering:
        function.cache_clear()
    yield
    for function in remembering:
        function.cache_clear()


@pytest.fixture(params=[False, True], ids=["", "small kernels"])
def small_kernels(request, monkeypatch):
    """With a BLAS that has them, and with one that has not."""
    monkeypatch.setattr(products, "_has_small_kernels", lambda: request.param)
    return request.param


@pytest.fixture(params=itertools.product([1, 10**9], [1, 2]), ids=str)
def shared_out_or_not(request, monkeypatch):
    """By one worker or two, with all products large or none."""
    large, count = request.param
    monkeypatch.setattr(products, "LARGE", large)
    with workers(count):
        yield


@pytest.fixture
def multiplied(monkeypatch):
    """What np.matmul was given."""
    pairs, multiply = [], np.matmul
    monkeypatch.setattr(np, "matmul", lambda a, b, out: pairs.append((a, b)) or multiply(a, b, out=out))
    return pairs


def product(a, b):
    return {2: matmul, 3: matmul_stack}[b.ndim](a, b) if a.ndim == 2 else sum_of_products(a, b)


def expected(a, b):
    return np.einsum("nij,njk->ik" if a.ndim == 3 else "...ij,...jk->...ik", a, b)


def whole_numbers(*shapes, orders="CC"):
    rng = np.random.default_rng(0)
    return (
        np.asarray(rng.integers(-9, 9, shape), np.float32, order=order)
        for shape, order in zip(shapes, orders, strict=True)
    )


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((7, 5), (5, 3)),
        ((41, 5), (5, 3)),
        ((90, 5), (5, 3)),
        ((3, 7), (7, 5)),
        ((3, 41), (41, 5)),
        ((3, 5), (5, 7)),
        ((3, 5), (5, 41)),
        ((7, 7), (7, 7)),
        ((1, 1), (1, 1)),
        ((7, 5), (9, 5, 3)),
        ((7, 5), (1, 5, 3)),
        ((9, 7, 5), (9, 5, 3)),
        ((1, 7, 5), (1, 5, 3)),
    ],
)
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("times", [1, 8])
def test_large_products_are_shared_out_to_two(a, b, times, count, monkeypatch):
    """Along the stack or the longest side."""
    monkeypatch.setattr(products, "SMALL", 0)
    monkeypatch.setattr(products, "LARGE", a[-2] * np.prod(b) / times)
    monkeypatch.setattr(products, "_has_small_kernels", lambda: False)
    shares, share_out = [], products.run
    monkeypatch.setattr(products, "run", lambda f, parts: shares.append(parts) or share_out(f, parts))
    a, b = whole_numbers(a, b)
    with workers(count):
        out = product(a, b)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, expected(a, b))
    assert [len(parts) for parts in shares] == [2]
    longest = np.empty(len(b) if b.ndim == 3 else max(*a.shape, *b.shape))
    first, second = (len(longest[part]) for part in shares[0])
    assert first >= second
    assert second > 0 or len(longest) == 1


@pytest.mark.parametrize("orders", ["CC", "CF", "FC", "FF"])
@pytest.mark.parametrize(
    ("M", "K", "N", "small", "block"),
    [
        (5, 192, 7, 35 * 64, (5, 64)),
        (1, 192, 35, 35 * 64, (1, 64)),
        (7, 97, 5, 35 * 64, None),  # 97 is no multiple of anything
        (48, 480, 7, 16 * 160 * 7, (16, 160)),  # rather few rows than not deep
        (48, 480, 7, 16 * 160 * 6, None),
        (45, 480, 7, 16 * 160 * 7, None),
        (192, 5, 7, 35 * 64, (64, 5)),
        (192, 35, 1, 35 * 64, (64, 35)),
        (192, 35, 7, 35 * 7 * 16, (16, 35)),
        (192, 35, 7, 35 * 7 * 15, None),
        (97, 5, 7, 35 * 64, None),
        (7, 5, 192, 35 * 64, None),
    ],
)
def test_tall_matrices_in_blocks(
    M, K, N, small, block, orders, shared_out_or_not, small_kernels, multiplied, monkeypatch
):
    """Along the inner side or along the rows of the first."""
    monkeypatch.setattr(products, "SMALL", small)
    a, b = whole_numbers((M, K), (K, N), orders=orders)
    out = matmul(a, b)
    np.testing.assert_array_equal(out, np.einsum("ij,jk->ik", a, b))
    assert (out.dtype, out.shape) == (np.float32, (M, N))
    pairs = [(a, b) for a, b in multiplied if a.ndim > 2]
    in_blocks = block and small_kernels and (K < M or orders[1] == "C")  # a long b is not copied
    assert {a.shape[-2:] for a, _ in pairs} == ({block} if in_blocks else set())
    assert all(b.flags.c_contiguous for _, b in pairs if b.ndim == 2)  # copied if it was not


@pytest.mark.parametrize("rows", [64, 191, 384])
def test_matrices_that_do_not_fit_are_refused(rows, small_kernels, monkeypatch):
    """Also where the rows make whole blocks, one of which would be taken for all."""
    monkeypatch.setattr(products, "SMALL", 35 * 64)
    a, b = whole_numbers((5, 192), (rows, 7))
    with pytest.raises(ValueError, match="reshape|mismatch"):  # NumPy's: layers look at shapes first
        matmul(a, b)


@pytest.mark.parametrize(
    ("M", "block"), [(7, (7, 96)), (32, (16, 64)), (64, (16, 64)), (40, None), (33, None)]
)
def test_a_matrix_by_a_stack_in_blocks(
    M, block, shared_out_or_not, small_kernels, multiplied, monkeypatch
):
    monkeypatch.setattr(products, "SMALL", 16 * 5 * 64)
    a, rows = whole_numbers((M, 5), (13, 192))
    b = np.lib.stride_tricks.sliding_window_view(rows, 5, axis=0).swapaxes(1, 2)  # they overlap
    np.testing.assert_array_equal(matmul_stack(a, b), expected(a, b))
    blocks = {(a.shape[-2], b.shape[-1]) for a, b in multiplied}
    assert blocks == {block if block and small_kernels else (M, 192)}
    assert matmul_stack(a, b[:0]).shape == (0, M, 192)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((50, 300), (300, 40)),
        ((300, 50), (50, 40)),
        ((50, 40), (40, 300)),
        ((32, 50), (9, 50, 192)),
        ((9, 32, 50), (9, 50, 192)),
    ],
)
def test_the_bits_are_the_same_for_any_number_of_workers(a, b, small_kernels, monkeypatch):
    """And within a part of something that is shared out itself."""
    monkeypatch.setattr(products, "SMALL", 50 * 40 * 64)
    monkeypatch.setattr(products, "LARGE", 1)
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in (a, b))
    found = []
    for count in (1, 2, 4):
        with workers(count):
            found += [product(a, b), *run(lambda pair: product(*pair), [(a, b)] * 3)]
    for out in found[1:]:
        np.testing.assert_array_equal(out, found[0])


@pytest.mark.parametrize(
    ("find", "M", "K", "N", "block"),
    [
        ("_block", 16, 150, 640, (16, 320)),
        ("_block", 32, 147, 800, (32, 200)),
        ("_block", 32, 288, 1024, (32, 64)),
        ("_block", 64, 288, 512, (32, 64)),
        ("_block", 128, 576, 256, (16, 64)),
        ("_block", 16, 150, 400, (16, 0)),  # small as it is
        ("_block", 128, 1152, 512, (128, 0)),  # blocks would be narrow, or have few rows
        ("_block", 72, 576, 512, (72, 0)),
        ("_block", 32, 147, 997, (32, 0)),
        ("_block_of_rows", 100, 3072, 100, (50, 192)),
        ("_block_of_rows", 256, 3072, 100, (32, 256)),
        ("_block_of_rows", 1000, 3072, 10, (500, 192)),
        ("_block_of_rows", 97, 3072, 100, (97, 96)),  # no other height
        ("_block_of_rows", 256, 3072, 1000, (256, 0)),
    ],
)
def test_what_blocks_there_are(find, M, K, N, block, monkeypatch):
    monkeypatch.setattr(products, "_has_small_kernels", lambda: True)
    assert getattr(products, find)(M, K, N) == block


@pytest.mark.parametrize(
    ("M", "K", "N", "block"),
    [
        (147, 800, 32, (49, 800, 16)),
        (288, 1024, 32, (48, 1024, 16)),
        (27, 2048, 32, (27, 1024, 16)),
        (576, 1024, 16, (48, 1024, 16)),  # 64 would not be small
        (150, 1280, 6, (50, 640, 6)),  # 900 entries, but not small
        (150, 320, 16, (50, 320, 16)),  # small, but more than 1200 entries
        (25, 896, 6, None),  # small as it is
        (150, 150, 16, None),  # the rows are short, or have short parts only
        (150, 1031, 16, None),
        (150, 640, 17, None),  # blocks would be narrow, or low
        (67, 640, 32, None),
    ],
)
def test_a_sum_of_products_in_blocks_of_dots(
    M, K, N, block, shared_out_or_not, small_kernels, multiplied
):
    """Where the second stack is transposed, and where it is not."""
    a, b = whole_numbers((3, M, K), (3, N, K))
    out = sum_of_products(a, b.swapaxes(1, 2))
    np.testing.assert_array_equal(out, expected(a, b.swapaxes(1, 2)))
    in_blocks = block if block and small_kernels else (M, K, N)
    assert {(*a.shape[-2:], b.shape[-1]) for a, b in multiplied} == {in_blocks}
    assert not sum_of_products(a[:0], b[:0].swapaxes(1, 2)).any()
    multiplied.clear()
    laid_out = np.ascontiguousarray(b.swapaxes(1, 2))
    np.testing.assert_array_equal(sum_of_products(a, laid_out), out)
    assert {(*a.shape[-2:], b.shape[-1]) for a, b in multiplied} == {(M, K, N)}


@pytest.mark.parametrize(
    ("size", "work", "first"),
    [
        (16, 16 * 192 * 10**4, 9),  # the other thread has to wake up
        (12, 12 * 256 * 256 * 100, 6),  # which is little beside so much
        (3072, 2**24 - 1, None),
        (3072, 2**24, 1728),  # whole tiles
    ],
)
def test_this_thread_takes_as_much_more_as_the_other_needs_to_wake_up(size, work, first):
    shares = products._shares(size, work, products.TILE if size > 16 else 1)
    expected = [slice(None)] if first is None else [slice(0, first), slice(first, None)]
    assert shares == expected


def test_a_small_stack_is_multiplied_as_it_is(monkeypatch):
    """The way through blocks and shares takes as long as such a product."""
    monkeypatch.delattr(products, "_multiply")
    a, b = whole_numbers((30, 16), (1, 16, 320))
    np.testing.assert_array_equal(matmul_stack(a, b), expected(a, b))


@pytest.mark.parametrize("dtype", [np.float64, np.complex128, np.longdouble])
@pytest.mark.parametrize(
    ("a", "b"), [((64, 5), (5, 3)), ((3, 64), (64, 5)), ((3, 5), (2, 5, 64)), ((2, 3, 5), (2, 5, 64))]
)
def test_the_wider_precision_is_kept(a, b, dtype, small_kernels, monkeypatch):
    monkeypatch.setattr(products, "SMALL", 15 * 32)
    a, b = whole_numbers(a, b)
    for factors in ((a.astype(dtype), b), (a, b.astype(dtype))):
        out = product(*factors)
        assert out.dtype == dtype
        np.testing.assert_array_equal(out, expected(a, b))


@pytest.mark.parametrize("yes", [True, False])
def test_undivided_products_are_one_piece(yes, monkeypatch):
    monkeypatch.setattr(products, "LARGE", 1)
    pieces = []
    monkeypatch.setattr(products, "run", lambda f, shares: pieces.append(len(shares)) or run(f, shares))
    sides = [(256, 8, 8), (8, 256, 8), (8, 8, 256)]
    with undivided(yes):
        for M, K, N in sides:
            a, b = np.ones((4 * M, 4 * K)), np.ones((4 * K, 4 * N))
            np.testing.assert_array_equal(matmul(a, b), a @ b)
    assert pieces == ([1, 1, 1] if yes else [2, 2, 2])
    a, b = np.ones((256, 256)), np.ones((256, 256))
    matmul(a, b)
    assert pieces[-1] == 2
