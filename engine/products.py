"""Matrix products, cut into pieces that BLAS multiplies fast and that two workers share.

A large product is shared out along its longest side. (Along the rows only, each worker would copy all
of a tall w for itself.)

OpenBLAS copies matrices into an order of its own before it multiplies them. For small products, of up
to a million multiplications, it has kernels that do without the copy. Where it knows AVX-512 they are
faster by a tenth to a third, so a product is cut into such blocks if its sizes allow it. Blocks are
views of the same memory, for one call of np.matmul.

Inside a part of a batch there is nobody to share with, and a cut costs a fifth of a product: with
`undivided()` it is left out.

The pieces depend on shapes, on memory order and on the processor, never on the number of workers: on
one machine the bits are always the same.
"""

import contextlib
import contextvars
import functools
import math

import numpy as np

from .workers import run

__all__ = ["matmul", "matmul_stack", "sum_of_products", "undivided"]

SMALL = 10**6  # multiplications: up to here OpenBLAS has its small kernels
LARGE = 2**24  # multiplications, some 300 microseconds: from here on waking a second thread pays
WAKE = 2**21 + 2**19  # multiplications that are done while a thread wakes up
TILE = 8  # numbers that BLAS computes at once
AVX512 = ("SkylakeX", "Cooperlake", "SapphireRapids")  # OpenBLAS's names of its kernels

_undivided = contextvars.ContextVar("whether products are not shared out here", default=False)


@contextlib.contextmanager
def undivided(yes=True):
    """Inside, no product is shared out, unless `yes` is False."""
    token = _undivided.set(yes)
    try:
        yield
    finally:
        _undivided.reset(token)


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
    height, depth = _block_of_rows(M, K, N)
    if depth and b.strides[1] == b.itemsize:  # with b transposed, blocks are slower
        a = a.reshape(M // height, height, K // depth, depth).transpose(2, 0, 1, 3)  # a view
        products = _empty(a, b, K // depth, M // height, height, N)
        _multiply(a, b.reshape(K // depth, 1, depth, N), products)
        return products.sum(axis=0).reshape(M, N)
    out, *others = run(lambda k: a[:, k] @ b[k], _shares(K, M * K * N, TILE))
    for product in others:
        out += product
    return out


def _along_rows(a, b):
    """Rows of a by all of b."""
    (M, K), N = a.shape, b.shape[1]
    out = _empty(a, b, M, N)
    height = _most(M, K * N, least=16)
    if height:  # a transposed b is copied: short products with it are slow
        _multiply(a.reshape(-1, height, K), np.ascontiguousarray(b), out.reshape(-1, height, N))
    else:
        run(lambda m: np.matmul(a[m], b, out=out[m]), _shares(M, M * K * N, TILE))
    return out


def matmul_stack(a, b, out=None):
    """a @ b of a matrix (M, K) and a stack of them (n, K, N): a new array (n, M, N), or `out`."""
    (M, K), (n, _, N) = a.shape, b.shape
    if n * M * K * N <= SMALL:
        return np.matmul(a, b, out=out)
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
    height, depth, width = _block_of_dots(M, K, N) if b.strides[1] == b.itemsize else (M, K, N)
    if (height, depth, width) != (M, K, N):  # views: (n, K / depth, M / height, N / width, ., .)
        a = a.reshape(n, M // height, 1, height, K // depth, depth).transpose(0, 4, 1, 2, 3, 5)
        b = b.reshape(n, 1, K // depth, depth, N // width, width).transpose(0, 2, 1, 4, 3, 5)
        products = _empty(a, b, n, K // depth, M // height, N // width, height, width)
        _multiply(a, b, products)
        return products.sum(axis=(0, 1)).swapaxes(1, 2).reshape(M, N)
    products = _empty(a, b, n, M, N)
    _multiply(a, b, products)
    return products.sum(axis=0)


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
    """One slice, or two for a large product. The first is for this thread, and is the larger one,
    because the other thread has to wake up.
    """
    if work < LARGE or _undivided.get():
        return [slice(None)]
    tile = tile if size >= 4 * tile else 1
    middle = math.ceil(min(9 / 16, (1 + WAKE / work) / 2) * size / tile - 1 / 2) * tile
    return [slice(0, middle), slice(middle, None)]


def _empty(a, b, *shape):
    return np.empty(shape, np.result_type(a, b))


@functools.cache
def _block(M, K, N):
    """The height and width (0: whole) of the blocks to cut an M x N product into."""
    if M * K * N > SMALL:
        for height in (M, *(M // p for p in (2, 4, 8, 16) if M % (16 * p) == 0)):
            width = _most(N, height * K, least=64)
            if width:
                return height, width
    return M, 0


@functools.cache
def _block_of_rows(M, K, N):
    """The height and depth (0: whole) of the blocks to cut a sum over a long K into."""
    for height in range(M, 15, -1):
        depth = 0 if M % height else _most(K, height * N, least=160)
        if depth:
            return height, depth
    return M, _most(K, M * N, least=64)


@functools.cache
def _block_of_dots(M, K, N):
    """The height, depth and width of the blocks to cut a product into whose entries are dot products of
    long rows. OpenBLAS has a small kernel for these, too, but uses it for up to 1200 entries only.
    """
    depth, width = _divisor(K, 1024), _divisor(N, 16)
    height = _divisor(M, min(64, SMALL // max(1, width * depth)))
    is_small = M * N <= 1200 and M * K * N <= SMALL
    pays = min(depth, height * width) >= 160 and _has_small_kernels()
    return (height, depth, width) if pays and not is_small else (M, K, N)


@functools.cache
def _most(size, others, least):
    """The largest divisor of `size` that makes a small product with `others` numbers; 0 if it is below
    `least`, or without small kernels.
    """
    most = _divisor(size, SMALL // max(1, others))
    return most if most >= least and _has_small_kernels() else 0


def _divisor(size, most):
    """The largest divisor that is not above `most`; 1 if there is none."""
    return next((d for d in range(min(size, most), 1, -1) if size % d == 0), 1)


@functools.cache
def _has_small_kernels():
    from threadpoolctl import threadpool_info  # imported when needed: it takes time

    return any(info.get("architecture") in AVX512 for info in threadpool_info())
