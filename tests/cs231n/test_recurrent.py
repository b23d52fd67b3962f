"""Cells in the manner of Assignment 3: recurrent layers, and the net that writes captions.

The losses of both kinds of net stand in many solved notebooks.
"""

import numpy as np
import pytest

SETUP = """
import numpy as np
from cs231n.gradient_check import eval_numerical_gradient, eval_numerical_gradient_array
from cs231n.rnn_layers import *
from cs231n.classifiers.rnn import CaptioningRNN

def rel_error(x, y):
    return np.max(np.abs(x - y) / (np.maximum(1e-8, np.abs(x) + np.abs(y))))
"""
NET = """
N, D, W, H = 10, 20, 30, 40
word_to_idx = {'<NULL>': 0, 'cat': 2, 'dog': 3}
V, T = len(word_to_idx), 13
model = CaptioningRNN(word_to_idx, input_dim=D, wordvec_dim=W, hidden_dim=H,
                      cell_type=cell_type, dtype=np.float64)
for k, v in model.params.items():
    model.params[k] = np.linspace(-1.4, 1.3, num=v.size).reshape(*v.shape)
first, last = (-1.5, 0.3) if cell_type == 'rnn' else (-0.5, 1.7)
features = np.linspace(first, last, num=(N * D)).reshape(N, D)
captions = (np.arange(N * T) % V).reshape(N, T)
loss, grads = model.loss(features, captions)
"""


@pytest.mark.parametrize("year", [2016, 2019, 2024])
@pytest.mark.parametrize(("cell", "expected"), [("rnn", 9.83235591003), ("lstm", 9.82445935443)])
def test_the_loss_of_captions(notebook, year, cell, expected):
    run = notebook(year)
    run(SETUP)
    run(f"cell_type = '{cell}'")
    assert run(NET)["loss"] == pytest.approx(expected, abs=1e-10)


def test_a_step_and_words(notebook):
    run = notebook(2019)
    run(SETUP)
    names = run("""
N, D, H = 3, 10, 4
x = np.linspace(-0.4, 0.7, num=N * D).reshape(N, D)
prev_h = np.linspace(-0.2, 0.5, num=N * H).reshape(N, H)
Wx = np.linspace(-0.1, 0.9, num=D * H).reshape(D, H)
Wh = np.linspace(-0.3, 0.7, num=H * H).reshape(H, H)
b = np.linspace(-0.2, 0.4, num=H)
next_h, _ = rnn_step_forward(x, prev_h, Wx, Wh, b)
out, _ = word_embedding_forward(np.array([[0, 3, 1, 2], [2, 1, 0, 3]]), np.eye(4))
half = sigmoid(np.zeros(2))
""")
    expected = [-0.58172089, -0.50182032, -0.41232771, -0.31410098]
    np.testing.assert_allclose(names["next_h"][0], expected, rtol=1e-7)
    assert names["out"].shape == (2, 4, 4)
    np.testing.assert_array_equal(names["half"], 0.5)


def test_first_weights_come_from_the_global_generator(notebook):
    run = notebook(2019)
    run(SETUP)
    names = run("""
np.random.seed(231)
model = CaptioningRNN({'<NULL>': 0, 'a': 1}, 3, 4, 5, dtype=np.float64)
np.random.seed(231)
drawn = np.random.randn(2, 4) / 100
""")
    np.testing.assert_array_equal(names["model"].params["W_embed"], names["drawn"])


def test_a_function_of_the_students_is_used(notebook):
    run = notebook(2019)
    run(SETUP)
    run("cell_type = 'lstm'")
    names = run(NET)
    right = names["grads"]["W_vocab"]
    names = run("""
import cs231n.rnn_layers
ours = cs231n.rnn_layers.temporal_affine_backward

def broken(dout, cache):
    dx, dw, db = ours(dout, cache)
    return dx, 2 * dw, db

cs231n.rnn_layers.temporal_affine_backward = broken
loss, grads = model.loss(features, captions)
""")
    np.testing.assert_array_equal(names["grads"]["W_vocab"], 2 * right)


def test_a_file_of_the_students_is_taken(notebook, tmp_path, capsys):
    mine = tmp_path / "rnn_layers.py"
    mine.write_text("def rnn_forward(x, h0, Wx, Wh, b):\n    raise KeyError('mine')\n")
    run = notebook(2019, mine=mine)
    run(SETUP)
    run("cell_type = 'rnn'")
    assert "rnn_forward yours" in capsys.readouterr().out
    with pytest.raises(KeyError, match="mine"):
        run(NET)


def test_editions_in_pytorch_have_none(notebook):
    run = notebook(2025)
    for module in ("rnn_layers", "coco_utils"):
        with pytest.raises(ModuleNotFoundError):
            run(f"import cs231n.{module}")


# ---------------------------------------------------------------------------- captions of COCO

IMPORTS = """
from cs231n.captioning_solver import CaptioningSolver
from cs231n.coco_utils import load_coco_data, sample_coco_minibatch, decode_captions
from cs231n.image_utils import image_from_url
from cs231n.classifiers.rnn import CaptioningRNN
"""


@pytest.mark.parametrize("year", [2016, 2020, 2024])
@pytest.mark.parametrize(
    "call",
    ["load_coco_data(max_train=50)", "CaptioningSolver(1, 2, lr_decay=1)", "image_from_url('a')"],
)
def test_a_first_cell_that_imports_captions_runs(notebook, year, call):
    """What is missing is said where it is called."""
    run = notebook(year)
    run(IMPORTS)
    with pytest.raises(FileNotFoundError, match=rf"{call.split('(')[0]}: .*cs231n/\w+.py beside"):
        run(call)


def test_captions_come_from_the_courses_folder(notebook, tmp_path, monkeypatch):
    """A solver of the folder trains handgrad's net with handgrad's rules. One file lacks there."""
    folder = tmp_path / "course" / "cs231n"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "coco_utils.py").write_text("""
sample_coco_minibatch = decode_captions = None

def load_coco_data():
    return 'of the folder'
""")
    (folder / "captioning_solver.py").write_text("""
from . import optim
from .coco_utils import sample_coco_minibatch

class CaptioningSolver:
    def __init__(self, model, data, rule):
        self.model, self.data, self.rule = model, data, getattr(optim, rule)

    def train(self):
        for _ in range(30):
            loss, grads = self.model.loss(*self.data)
            for name, w in self.model.params.items():
                self.model.params[name], _ = self.rule(w, grads[name], {'learning_rate': 0.1})
        return loss
""")
    monkeypatch.syspath_prepend(folder.parent)
    run = notebook(2019)
    run(IMPORTS)
    names = run("""
import numpy as np
np.random.seed(1)
model = CaptioningRNN({'<NULL>': 0, 'a': 1, 'b': 2}, 3, 4, 5)
data = np.random.randn(2, 3), np.array([[1, 2, 1], [2, 2, 1]])
first, loaded = model.loss(*data)[0], load_coco_data()
last = CaptioningSolver(model, data, 'sgd').train()
""")
    assert names["loaded"] == "of the folder"
    assert names["last"] < names["first"] / 2
    with pytest.raises(FileNotFoundError, match="image_utils.py"):
        run("image_from_url('here')")
