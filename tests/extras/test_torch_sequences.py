"""The layers for sequences against PyTorch's, same weights, in float64: values and gradients."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from handgrad import attention as A  # noqa: E402
from handgrad import recurrent as R  # noqa: E402
from handgrad.models import GPT  # noqa: E402

F = torch.nn.functional
TIGHT = dict(rtol=1e-10, atol=1e-12)


def drawn(*shapes):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) for shape in shapes]


def theirs(a):
    return torch.tensor(a, requires_grad=True)


def same(ours, tensors):
    for a, b in zip(ours, tensors, strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), **TIGHT)


def in_order(blocks, *arrays):
    """The blocks of the last axis of each array in another order."""
    count = len(blocks)
    return [np.concatenate([np.split(a, count, axis=-1)[k] for k in blocks], axis=-1) for a in arrays]


CELLS = {  # torch's class, ours, torch's order of our blocks: its LSTM has i, f, g, o
    "rnn": (torch.nn.RNN, R.rnn_forward, R.rnn_backward, [0]),
    "lstm": (torch.nn.LSTM, R.lstm_forward, R.lstm_backward, [0, 1, 3, 2]),
    "gru": (torch.nn.GRU, R.gru_forward, R.gru_backward, [0, 1, 2]),
}


@pytest.mark.parametrize("name", CELLS)
def test_recurrent_layers(name):
    cell, forward, backward, blocks = CELLS[name]
    N, T, D, H = 3, 11, 5, 4
    G = len(blocks) * H
    x, h0, Wx, Wh, bx, bh, dh = drawn((N, T, D), (N, H), (D, G), (H, G), (G,), (G,), (N, T, H))
    module = cell(D, H, batch_first=True).double()
    with torch.no_grad():
        for weight, ours in zip(module.parameters(), in_order(blocks, Wx, Wh, bx, bh), strict=True):
            weight.copy_(torch.tensor(ours.T))
    tx, th = theirs(x), theirs(h0[None])
    states, _ = module(tx, (th, torch.zeros(1, N, H).double()) if name == "lstm" else th)
    states.backward(torch.tensor(dh))
    biases = (bx, bh) if name == "gru" else (bx + bh,)
    h, cache = forward(x, h0, Wx, Wh, *biases)
    dx, dh0, *grads = backward(dh, cache)
    same((h, dx, dh0[None]), (states, tx.grad, th.grad))
    wanted = [w.grad for w in module.parameters()][: len(grads)]
    same([g.T for g in in_order(blocks, *grads)], wanted)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_scaled_dot_product_attention(causal, masked):
    q, k, v, dout = drawn((2, 3, 7, 4), (2, 3, 7, 4), (2, 3, 7, 5), (2, 3, 7, 5))
    mask = np.arange(7) != 5 if masked else None
    tq, tk, tv = theirs(q), theirs(k), theirs(v)
    seen = (np.tri(7) > 0 if causal else np.ones((7, 7), bool)) & (True if mask is None else mask)
    out = F.scaled_dot_product_attention(tq, tk, tv, torch.tensor(seen))
    out.backward(torch.tensor(dout))
    ours, cache = A.scaled_dot_product_attention_forward(q, k, v, mask, causal)
    grads = A.scaled_dot_product_attention_backward(dout, cache)
    same((ours, *grads), (out, tq.grad, tk.grad, tv.grad))


@pytest.mark.parametrize("causal", [False, True])
def test_multi_head_attention(causal):
    N, T, D, heads = 2, 6, 8, 4
    x, W, b, Wo, bo, dout = drawn((N, T, D), (D, 3 * D), (3 * D,), (D, D), (D,), (N, T, D))
    module = torch.nn.MultiheadAttention(D, heads, batch_first=True).double()
    with torch.no_grad():
        for weight, ours in zip(module.parameters(), (W.T, b, Wo.T, bo), strict=True):
            weight.copy_(torch.tensor(ours))
    tx, hidden = theirs(x), torch.tensor(np.tri(T) == 0) if causal else None
    out, _ = module(tx, tx, tx, attn_mask=hidden)
    out.backward(torch.tensor(dout))
    ours, cache = A.multi_head_attention_forward(x, W, b, Wo, bo, {"heads": heads, "causal": causal})
    dx, dW, db, dWo, dbo = A.multi_head_attention_backward(dout, cache)
    wanted = [w.grad for w in module.parameters()]
    same((ours, dx, dW.T, db, dWo.T, dbo), (out, tx.grad, *wanted))


ONE_BY_ONE = {  # ours, theirs, shapes of the arguments
    "gelu": (lambda x: A.gelu_forward(x, False), A.gelu_backward, F.gelu, [(3, 4, 5)]),
    "gelu-tanh": (
        A.gelu_forward,
        A.gelu_backward,
        lambda x: F.gelu(x, approximate="tanh"),
        [(3, 4, 5)],
    ),
    "softmax": (A.softmax_forward, A.softmax_backward, lambda x: F.softmax(x, dim=-1), [(3, 4, 5)]),
    "rmsnorm": (
        lambda x, g: A.rmsnorm_forward(x, g, {"eps": 1e-3}),
        A.rmsnorm_backward,
        lambda x, g: F.rms_norm(x, (5,), g, 1e-3),
        [(3, 4, 5), (5,)],
    ),
    "conv1d": (
        lambda x, w, b: A.conv1d_forward(x, w, b, {"stride": 2, "pad": 1}),
        A.conv1d_backward,
        lambda x, w, b: F.conv1d(x.mT, w, b, stride=2, padding=1).mT,
        [(2, 9, 3), (4, 3, 5), (4,)],
    ),
}


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_layers_one_by_one(name):
    forward, backward, module, shapes = ONE_BY_ONE[name]
    arrays = drawn(*shapes)
    tensors = [theirs(a) for a in arrays]
    out = module(*tensors)
    ours, cache = forward(*arrays)
    (dout,) = drawn(ours.shape)
    out.backward(torch.tensor(dout))
    grads = backward(dout, cache)
    grads = grads if isinstance(grads, tuple) else (grads,)
    same((ours, *grads), (out, *(t.grad for t in tensors)))


class Block(torch.nn.Module):
    """A pre-norm block of PyTorch's own layers."""

    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = (torch.nn.LayerNorm(width) for _ in range(2))
        self.attention = torch.nn.MultiheadAttention(width, heads, batch_first=True)
        self.up, self.down = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

    def forward(self, x):
        hidden, z = torch.tensor(np.tri(x.shape[1]) == 0), self.norm1(x)
        x = x + self.attention(z, z, z, attn_mask=hidden, need_weights=False)[0]
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


def as_theirs(name, a):
    """Weights of affine layers are (M, D) there; W1 and W2 are embeddings."""
    return a.T if name.startswith("W") and name not in ("W1", "W2") else a


def test_a_whole_gpt():
    """Loss and every gradient, the embedding's from both of its places included."""
    V, T, D, depth, heads = 11, 7, 8, 2, 2
    ours = GPT(V, T, D, depth, heads, weight_scale=0.3, dtype=np.float64, seed=0)
    words, places = torch.nn.Embedding(V, D), torch.nn.Embedding(T, D)
    blocks, norm = torch.nn.ModuleList([Block(D, heads) for _ in range(depth)]), torch.nn.LayerNorm(D)
    modules = torch.nn.ModuleList([words, places, *blocks, norm]).double()
    theirs = [words.weight, places.weight]
    for block in blocks:
        for part in (block.norm1, block.attention, block.norm2, block.up, block.down):
            theirs += part.parameters()
    theirs += norm.parameters()
    with torch.no_grad():
        for (name, p), weight in zip(ours.params.items(), theirs, strict=True):
            p += 0.1 * np.random.default_rng(len(name)).standard_normal(p.shape)  # no zeros and ones
            weight.copy_(torch.tensor(as_theirs(name, p)))
    X, y = np.random.default_rng(0).integers(V, size=(2, 5, T))
    y[1, 3:] = -1
    x = words(torch.tensor(X)) + places(torch.arange(T))
    for block in blocks:
        x = block(x)
    scores = norm(x) @ words.weight.T
    loss = F.cross_entropy(scores.reshape(-1, V), torch.tensor(y).ravel(), ignore_index=-1)
    loss.backward()
    value, grads = ours.loss(X, y)
    assert value == pytest.approx(loss.item(), rel=1e-12)
    assert len(list(modules.parameters())) == len(grads)
    for (name, g), weight in zip(grads.items(), theirs, strict=True):
        np.testing.assert_allclose(as_theirs(name, g), weight.grad.numpy(), **TIGHT)
