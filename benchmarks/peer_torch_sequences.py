"""PyTorch's nets for sequences, in eager mode, written in the usual way."""

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """A block of a transformer. `past`: keys and values of the steps before."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, past=None):
        N, T, D = x.shape
        q, k, v = self.qkv(self.norm1(x)).split(D, dim=2)
        q, k, v = (a.view(N, T, self.heads, D // self.heads).transpose(1, 2) for a in (q, k, v))
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        z = F.scaled_dot_product_attention(q, k, v, is_causal=T > 1)
        x = x + self.out(z.transpose(1, 2).reshape(N, T, D))
        x = x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))
        return x, (k, v)


class GPT(nn.Module):
    """GPT-2 with tied embeddings."""

    def __init__(self, vocab_size, context, width, depth, heads):
        super().__init__()
        self.words, self.places = nn.Embedding(vocab_size, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        for p in self.parameters():
            if p.ndim > 1:
                nn.init.normal_(p, 0, 0.02)

    def forward(self, x):
        return self.further(x, 0, [None] * len(self.blocks))[0]

    def further(self, x, start, pasts):
        """Scores of further steps, from the place `start` on, and the new pasts."""
        h = self.words(x) + self.places(torch.arange(start, start + x.shape[1]))
        now = []
        for block, past in zip(self.blocks, pasts, strict=True):
            h, past = block(h, past)
            now.append(past)
        return self.norm(h) @ self.words.weight.T, now


@torch.inference_mode()
def generate(model, first, n, context):
    """`n` words after `first`. When all places are used it goes on from the last half of its words."""
    text, read, unread = [first], 0, [first]
    pasts = [None] * len(model.blocks)
    for _ in range(n):
        if read + len(unread) > context:
            pasts, read, unread = [None] * len(model.blocks), 0, text[-(context // 2) :]
        scores, pasts = model.further(torch.tensor([unread]), read, pasts)
        read += len(unread)
        unread = [torch.multinomial(torch.softmax(scores[0, -1], dim=-1), 1).item()]
        text += unread
    return text[1:]


class LanguageModel(nn.Module):
    """Embedding, a recurrent layer, scores."""

    def __init__(self, vocab_size, hidden, cell):
        super().__init__()
        kind = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.words, self.cell = nn.Embedding(vocab_size, hidden), kind(hidden, hidden, batch_first=True)
        self.out = nn.Linear(hidden, vocab_size)

    def forward(self, x):
        return self.out(self.cell(self.words(x))[0])
