"""Products of matrices, cut into pieces that BLAS multiplies fast and that two workers share.

A large product is shared out along its longest side: along rows only, each worker would lay out all
of a tall w for itself. The pieces depend on shapes alone, so that the bits do not depend on how many
workers there are.

OpenBLAS copies matrices into an order of its own before it multiplies them, but has kernels for small
products, of up to a million multiplications, that do without; where it knows AVX-512 these are faster
by a tenth to a third. There a product is cut into such blocks if its sizes allow it: views of the
same memory, for one call of np.matmul.
"""

import functools
import math

import numpy as np

from .parallel import run

SMALL = 10**6  # multiplications
LARGE = 2**24  # multiplications: some 300 microseconds, several times what it costs to wake a thread
TILE = 8  # numbers that BLAS takes at once
AVX512 = ("SkylakeX", "Cooperlake", "SapphireRapids")


def matmul(a, b):
    """a @ b of two matrices."""
    (M, K), N = a.shape, b.shape[1]
    if M * K * N <= SMALL:
        return a @ b
    longest = max(M, K, N)
    if longest == K:
        return _along_the_inner_side(a, b)
    if longest == M:
        return _along_rows(a, b)
    out = _empty(a, b, M, N)
    run(lambda n: np.matmul(a, b[:, n], out=out[:, n]), _shares(N, M * K * N, TILE))
    return out


def _along_the_inner_side(a, b):
    """Columns of a by rows of b, added up."""
    (M, K), N = a.shape, b.shape[1]
    width = _block_width(M * N, K)
    if width:
        n = K // width
        return sum_of_products(a.reshape(M, n, width).swapaxes(0, 1), b.reshape(n, width, N))
    out, *others = run(lambda k: a[:, k] @ b[k], _shares(K, M * K * N, TILE))
    for product in others:
        out += product
    return out


def _along_rows(a, b):
    """Rows of a by all of b."""
    (M, K), N = a.shape, b.shape[1]
    out = _empty(a, b, M, N)
    width = _block_width(K * N, M)
    if width:  # b is copied if it is transposed: with such a matrix small products are slow
        _multiply(a.reshape(-1, width, K), np.ascontiguousarray(b), out.reshape(-1, width, N))
    else:
        run(lambda m: np.matmul(a[m], b, out=out[m]), _shares(M, M * K * N, TILE))
    return out


def matmul_stack(a, b, out=None):
    """a @ b of a matrix (M, K) and a stack of them (n, K, N): a new array (n, M, N), or `out`."""
    (M, K), (n, _, N) = a.shape, b.shape
    into = out = _empty(a, b, n, M, N) if out is None else out
    height, width = _block(M, K, N)
    if width:  # views
        a = a.reshape(M // height, height, K)
        b = b.reshape(n, K, N // width, width).swapaxes(1, 2)[:, :, None]  # (n, N / width, 1, K, width)
        into = out.reshape(n, len(a), height, N // width, width).transpose(0, 3, 1, 2, 4)
    _multiply(a, b, into)
    return out


def sum_of_products(a, b):
    """a[0] @ b[0] + a[1] @ b[1] + ... of two stacks (n, M, K) and (n, K, N)."""
    n, M, K, N = *a.shape, b.shape[2]
    if _pays_to_copy(M, N, b.size):  # b may be transposed, and small products are slow with such
        width = K if M * K * N <= SMALL else _block_width(M * N, K)
        if width:
            a = a.reshape(n, M, K // width, width).swapaxes(1, 2)  # a view
            b = np.ascontiguousarray(b).reshape(n, K // width, width, N)
    products = _empty(a, b, *a.shape[:-1], N)
    _multiply(a, b, products)
    return products.sum(axis=tuple(range(a.ndim - 2)))


def _multiply(a, b, out):
    """np.matmul(a, b, out=out) of stacks, or of a matrix and a stack, shared out along the stack."""
    shares = _shares(len(out), out.size * a.shape[-1])
    if len(shares) == 1:
        np.matmul(a, b, out=out)
        return

    def multiply(n):
        here = (m[n] if m.ndim == out.ndim else m for m in (a, b))
        np.matmul(*here, out=out[n])

    run(multiply, shares)


def _shares(size, work, tile=1):
    """One slice, or two for a large product: the first is for this thread, and is the larger unless
    there is much to do, because the other has to wake up.
    """
    if work < LARGE:
        return [slice(None)]
    tile = tile if size >= 4 * tile else 1
    middle = math.ceil((9 / 16 if work < 4 * LARGE else 1 / 2) * size / tile) * tile
    return [slice(0, middle), slice(middle, None)]


def _empty(a, b, *shape):
    return np.empty(shape, np.result_type(a, b))


@functools.cache
def _block(M, K, N):
    """The height and width (0: whole) of the blocks to cut an M x N product into."""
    if M * K * N > SMALL:
        for height in (M, *(M // p for p in (2, 4, 8, 16) if M % (16 * p) == 0)):
            width = _block_width(height * K, N)
            if width:
                return height, width
    return M, 0


@functools.cache
def _block_width(size, N):
    """How many of N rows or columns make a small product with `size` other numbers; 0 if that would
    be few, or if there is nothing to gain.
    """
    if not _has_small_kernels():
        return 0
    return max((w for w in range(64, SMALL // max(1, size) + 1) if N % w == 0), default=0)


def _pays_to_copy(M, N, size):
    """Is each number of b used often enough, in rows that are not too short, and b in the cache?"""
    return M >= 100 and N >= 16 and size <= 2**18 and _has_small_kernels()


@functools.cache
def _has_small_kernels():
    from threadpoolctl import threadpool_info  # when first needed: it costs time at import

    return any(info.get("architecture") in AVX512 for info in threadpool_info())
