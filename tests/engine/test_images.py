"""Windows of images lie in memory as they should: no fall back to a slower way by accident."""

import numpy as np
import pytest
from handgrad.engine import convolution, images
from handgrad.layers import conv_backward, conv_forward


@pytest.fixture
def counted(monkeypatch):
    """Counts what a pass costs: windows made, bytes gathered into them, products of matrices."""
    counts = {"unfold": 0, "gathered": 0}
    unfold = images.unfold

    def counting(x, window, stride, pad):
        windows = unfold(x, window, stride, pad)
        counts["unfold"] += 1
        owner = windows
        while owner.base is not None:
            owner = owner.base
        counts["gathered"] += owner.nbytes
        return windows

    monkeypatch.setattr(convolution, "unfold", counting)
    return counts


def test_a_convolution_gathers_along_the_filters_row_only(counted):
    """Classic im2col would copy HH times as many bytes; a fall back to it shows here."""
    x, w = np.zeros((8, 3, 20, 20), np.float32), np.zeros((4, 3, 5, 5), np.float32)
    out, cache = conv_forward(x, w, np.zeros(4, np.float32), {"pad": 2})
    assert counted["gathered"] == 4 * (20 + 4) * 5 * 3 * 20 * 8
    conv_backward(out, cache)
    assert counted["unfold"] == 1


@pytest.mark.parametrize("N", [16, 32, 64])
def test_rows_of_windows_keep_their_distance_in_memory(N):
    """Rows that begin at the same place of every 4096 bytes crowd each other out of the cache."""
    windows = images.unfold(np.zeros((N, 2, 5, 34), np.float32), (3, 3), (1, 1), (0, 0))
    _, _, gradients = next(images.stacks(np.zeros((3, 2, 32 * N), np.float32), 3, 2))
    for rows in (windows, gradients):
        assert rows.shape[2] * 4 % 2048 == 0
        assert rows.strides[1] % 1024 not in (0, 512)
        assert not rows.flags.writeable  # the blocks overlap


@pytest.mark.parametrize(
    ("param", "way"),
    [
        ({"pad": 1}, "fold_columns"),
        ({"stride": 2}, "fold"),
        ({"stride": (1, 2)}, "fold"),
        ({"pad": (3, 0)}, "fold"),  # beyond the filter
    ],
)
def test_dx_at_stride_1_is_a_convolution_and_one_sum(param, way, monkeypatch):
    ways = []
    for name in ("fold", "fold_columns"):
        original = getattr(convolution, name)
        monkeypatch.setattr(convolution, name, lambda *a, n=name, f=original: ways.append(n) or f(*a))
    x, w = np.zeros((2, 1, 6, 6), np.float32), np.zeros((4, 1, 3, 3), np.float32)
    conv_backward(*conv_forward(x, w, np.zeros(4, np.float32), param))
    assert ways == [way]


@pytest.mark.parametrize("pad", [0, 1, 2])
def test_dx_multiplies_no_row_by_zeros(pad):
    """Each row of dout by each row of the filters once, but for those that lie on the frame."""
    F, H, HH = 2, 9, 5
    OH = H + 2 * pad - HH + 1
    found = list(images.stacks(np.zeros((OH, F, 1), np.float32), HH, HH - 1 - pad))
    onto_the_frame = pad * (pad + 1)
    assert sum(windows.shape[0] * windows.shape[1] for *_, windows in found) == F * (
        OH * HH - onto_the_frame
    )
    assert max(len(windows) for *_, windows in found) == OH - HH + 1
