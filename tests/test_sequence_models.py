"""Nets for sequences: every gradient by complex step, generating, what they refuse."""

import re

import numpy as np
import pytest
from handgrad import Solver, models, workers
from handgrad.engine import products
from handgrad.gradient_check import check_model
from handgrad.layers import softmax_loss
from handgrad.models import (
    GELU,
    GPT,
    GRU,
    LSTM,
    RNN,
    SEQUENCE_MODELS,
    Affine,
    BatchNorm,
    CaptioningRNN,
    Conv,
    Conv1D,
    Dropout,
    Embedding,
    LanguageModel,
    LastStep,
    LayerNorm,
    MaxPool,
    Net,
    Pair,
    Residual,
    RMSNorm,
    SelfAttention,
    SequenceClassifier,
    TemporalAffine,
    WordModel,
    WordScores,
    load,
)
from handgrad.models.chain import Chain
from handgrad.models.descriptions import in_line

V, T = 7, 6
SMALL = dict(weight_scale=0.5, seed=1)
ATTENTIVE = [
    *(Embedding(V, 6), RMSNorm(), Residual([SelfAttention(2), Dropout(0.2)])),
    *(Residual([LayerNorm(), TemporalAffine(9), GELU(), TemporalAffine(6)]), WordScores()),
]


def words(N=5, steps=T, seed=3):
    return np.random.default_rng(seed).integers(V, size=(N, steps))


def numbers(N=5, steps=T):
    return np.random.default_rng(3).standard_normal((N, steps, 2))


def labels(N=5, steps=T):
    y = words(N, steps, seed=4)
    y[0, 2:] = -1  # words that do not count, in one part of the batch more than in the other
    return y


ROWS = [  # model, settings, X, y
    (LanguageModel, dict(vocab_size=V, hidden_dim=5, wordvec_dim=4, cell="rnn"), words(), labels()),
    (LanguageModel, dict(vocab_size=V, hidden_dim=5, cell="lstm", depth=2), words(), labels()),
    (
        LanguageModel,
        dict(vocab_size=V, hidden_dim=5, cell="gru", dropout=0.3, reg=0.2, context=4),
        words(),
        labels(),
    ),
    (GPT, dict(vocab_size=V, context=T, width=6, depth=2, heads=3, dropout=0.2), words(), labels()),
    (
        GPT,
        dict(vocab_size=V, context=8, width=6, depth=1, heads=2, tied=False, reg=0.1),
        words(),
        labels(),
    ),
    (WordModel, dict(layers=ATTENTIVE, input_dim=9), words(), labels()),
    (
        SequenceClassifier,
        dict(input_dim=T, vocab_size=V, num_classes=4, hidden_dim=5, wordvec_dim=3, dropout=0.2),
        words(),
        np.arange(5) % 4,
    ),
    (
        SequenceClassifier,
        dict(input_dim=(T, 2), num_classes=4, hidden_dim=5, cell="gru", depth=2),
        numbers(),
        np.arange(5) % 4,
    ),
    (
        SequenceClassifier,
        dict(input_dim=(T, 2), num_classes=1, hidden_dim=5, cell="rnn", loss="mse"),
        numbers(),
        np.linspace(-1, 1, 5),
    ),
    (
        Net,
        dict(layers=[Conv1D(5, 3, pad=1), "relu", RNN(4), TemporalAffine(3)], input_dim=(T, 2)),
        numbers(),
        words() % 3,
    ),
    (
        Net,
        dict(layers=[Conv1D(5, 3, stride=2), GELU(), GRU(4), LastStep(), Affine(3)], input_dim=(9, 2)),
        numbers(steps=9),
        np.arange(5) % 3,
    ),
    (
        Net,
        dict(
            layers=[SelfAttention(1, causal=False), Residual(["tanh"]), LSTM(3), TemporalAffine(2)],
            input_dim=(T, 2),
            loss="mse",
        ),
        numbers(),
        numbers() / 2,
    ),
    (
        Net,
        dict(layers=[Residual([Residual([LayerNorm(), Affine(4)]), "relu"]), Affine(3)], input_dim=4),
        numbers(steps=2).reshape(5, 4),
        np.arange(5) % 3,
    ),
    (
        Net,
        dict(
            layers=[
                *(Conv(3, pad="same"), BatchNorm(), "relu"),
                Residual([Conv(3, pad="same"), BatchNorm(), "relu", Dropout(0.2)]),
                *(MaxPool(2), Affine(4)),
            ],
            input_dim=(2, 6, 6),
        ),
        np.random.default_rng(0).standard_normal((40, 2, 6, 6)),
        np.arange(40) % 4,
    ),
]
IDS = [f"{row[0].__name__}-{n}" for n, row in enumerate(ROWS)]
WORD_MODELS = [row for row in ROWS if issubclass(row[0], WordModel)]
WORD_IDS = [name for name, row in zip(IDS, ROWS, strict=True) if issubclass(row[0], WordModel)]


def test_every_model_has_a_row():
    assert {*SEQUENCE_MODELS.values(), Net} == {row[0] for row in ROWS}
    nets = [model(**settings) for model, settings, _, _ in ROWS]
    used = {type(d) for net in nets for d, _, _ in in_line(net.descriptions)}
    known = [c for c in vars(models).values() if hasattr(c, "build")]
    assert used >= {c for c in known if "sequence" in c.__module__}


@pytest.mark.parametrize(("model", "settings", "X", "y"), ROWS, ids=IDS)
class TestEveryModel:
    def test_every_gradient_by_complex_step(self, model, settings, X, y):
        report = check_model(model(**settings, **SMALL), X, y, entries=8)
        assert {row.method for row in report.rows} == {"complex step"}
        assert report.require().error <= 1e-10

    def test_dtype_and_purity(self, model, settings, X, y):
        net = model(**settings, **SMALL)
        X, y = X.copy(), y.copy()
        X.flags.writeable = y.flags.writeable = False
        before = {name: p.copy() for name, p in net.params.items()}
        loss, grads = net.loss(X, y)
        assert list(grads) == list(net.params)
        assert np.isfinite(loss)
        assert {g.dtype for g in grads.values()} == {np.dtype(np.float32)}
        assert net.loss(X).dtype == np.float32
        for name, p in net.params.items():
            np.testing.assert_array_equal(p, before[name])
            assert grads[name].shape == p.shape

    def test_the_number_of_workers_changes_no_bit(self, model, settings, X, y):
        net = model(**settings, **SMALL)
        results = []
        for count in (1, 2):
            with workers(count):
                results.append(net.loss(X, y))
        assert results[0][0] == results[1][0]
        for name, g in results[0][1].items():
            np.testing.assert_array_equal(g, results[1][1][name])

    def test_a_batch_is_the_mean_of_its_examples(self, model, settings, X, y):
        """Weighted by what counts of each. Without dropout and batch norm, of course."""
        if "dropout" in settings or any(isinstance(d, BatchNorm) for d in settings.get("layers", ())):
            pytest.skip("in training the examples of a batch are not computed by themselves")
        if settings.get("layers") is ATTENTIVE:
            pytest.skip("it has dropout")
        net = model(**{**settings, "reg": 0}, **SMALL, dtype=np.float64)
        counts = [np.count_nonzero(one >= 0) if y.dtype.kind == "i" else 1 for one in y]
        parts = [net.loss(X[n : n + 1], y[n : n + 1])[0] for n in range(len(X))]
        expected = np.average(parts, weights=counts)
        assert net.loss(X, y)[0] == pytest.approx(expected, rel=1e-12)

    def test_the_shapes_that_summary_promises_are_delivered(self, model, settings, X, y, capsys):
        net = model(**settings, **SMALL)
        dim = net.input_dim
        x = np.zeros((3, *dim), int if X.dtype.kind == "i" else np.float32)
        chain = Chain(net.name, net.layers, None, False, 0, net.params)
        assert chain.predict(x, range(1)).shape[1:] == net._rows[0][1]
        assert net.loss(x).shape[1:] == net._rows[-1][1]
        net.summary()
        assert capsys.readouterr().out == f"{net!r}\n"

    def test_its_calls_end_in_its_scores(self, model, settings, X, y):
        net = model(**settings, **SMALL)
        calls, loss, scores = net.layer_calls(X)
        assert len(calls) == len(net.layers)
        assert scores.shape == net.loss(X).shape
        assert np.isfinite(loss(scores, y.reshape(scores.shape) if y.dtype.kind == "f" else y)[0])

    def test_it_goes_into_a_file_and_comes_back(self, model, settings, X, y, tmp_path):
        net = model(**settings, **SMALL)
        again = load(net.save(tmp_path / "net"))
        assert type(again) is model
        assert again.loss(X, y)[0] == net.loss(X, y)[0]


@pytest.mark.parametrize(("model", "settings", "X", "y"), WORD_MODELS, ids=WORD_IDS)
class TestWordModels:
    def test_step_by_step_gives_the_scores_of_all_at_once(self, model, settings, X, y):
        net = model(**settings, **SMALL, dtype=np.float64)
        states, scores = None, []
        for part in (slice(0, 2), slice(2, 3), slice(3, 4), slice(4, 6)):
            some, states = net.advance(X[:, part], states)
            scores.append(some)
        np.testing.assert_allclose(np.concatenate(scores, axis=1), net.loss(X), rtol=1e-9, atol=1e-12)

    def test_no_score_depends_on_a_later_word(self, model, settings, X, y):
        net = model(**settings, **SMALL, dtype=np.float64)
        other = X.copy()
        other[:, 4] = (other[:, 4] + 1) % V
        before, after = net.loss(X), net.loss(other)
        np.testing.assert_array_equal(after[:, :4], before[:, :4])
        assert np.all(np.any(after[:, 4:] != before[:, 4:], axis=-1))

    def test_the_likeliest_words_are_those_of_the_scores(self, model, settings, X, y):
        """Also beyond a GPT's positions, where it starts again with the last half of its words."""
        net = model(**settings, **SMALL, dtype=np.float64)
        n = 12
        came = net.generate(X, n, temperature=0)
        text, length, memory = X, X.shape[1], net.memory or 99
        for k in range(n):
            length = length if length <= memory else max(1, memory // 2)
            word = net.loss(text[:, -length:])[:, -1].argmax(axis=1)
            np.testing.assert_array_equal(came[:, k], word)
            text, length = np.column_stack([text, word]), length + 1
        np.testing.assert_array_equal(net.generate(X[0], n, temperature=0), came[0])
        np.testing.assert_array_equal(net.generate(X, n, top_k=1, seed=0), came)

    def test_an_equal_seed_draws_equal_words(self, model, settings, X, y):
        net = model(**settings, **SMALL)
        one, same, other = (net.generate(X, 9, seed=seed) for seed in (5, 5, 6))
        np.testing.assert_array_equal(one, same)
        assert np.any(one != other)
        np.testing.assert_array_equal(list(net.words(X[0], 9, seed=5)), net.generate(X[0], 9, seed=5))
        assert one.min() >= 0
        assert one.max() < V

    def test_any_number_of_steps(self, model, settings, X, y):
        net = model(**settings, **SMALL)
        for steps in (1, 3):
            assert net.loss(X[:, :steps]).shape == (5, steps, V)
            assert np.isfinite(net.loss(X[:, :steps], y[:, :steps])[0])
        assert net.loss(X[:0]).shape == (0, T, V)


@pytest.mark.parametrize(("temperature", "top_k"), [(1, None), (0.5, None), (2, 3)])
def test_words_are_drawn_with_the_probabilities_of_the_scores(temperature, top_k):
    net = LanguageModel(V, 5, seed=1, weight_scale=2.0, dtype=np.float64)
    prompts = np.tile(words(1), (20000, 1))
    drawn = net.generate(prompts, 1, temperature, top_k, seed=0)[:, 0]
    p = np.exp(net.loss(prompts[:1])[0, -1] / temperature)
    if top_k:
        p[np.argsort(p)[:-top_k]] = 0
    p /= p.sum()
    shares = np.bincount(drawn, minlength=V) / 20000
    assert np.all(np.abs(shares - p) <= 5 * np.sqrt(p * (1 - p) / 20000))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_product_comes_before_the_words_and_changes_no_number(cell):
    """The net computes what its layers, one after the other, compute."""
    net = LanguageModel(V, 5, 4, cell=cell, depth=2, **SMALL, dtype=np.float64)
    X, y = words(), labels()
    plain = Chain(net.name, net.layers, net.criterion, True, 0, net.params)
    loss, _, grads, _ = plain.turn(X, y, range(len(net.layers)))
    came, came_grads = net.loss(X, y)
    assert [layer.forward for layer in net._chain.layers] != [layer.forward for layer in net.layers]
    assert came == pytest.approx(loss, rel=1e-12)
    for name, grad in grads.items():
        np.testing.assert_allclose(came_grads[name], grad, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(net.features(X), plain.predict(X, range(3)), rtol=1e-9)


def test_of_a_net_of_an_embedding_and_a_cell_the_features_are_the_words():
    net = Net([Embedding(V, 3), LSTM(4)], T, **SMALL)
    assert net.features(words()).shape == (5, T, 3)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_gradients_pass_in_the_precision_of_the_parameters(cell):
    """Also from the loss down, where the part's share of the batch is multiplied in."""
    came = []

    def noted_backward(dout, cache):
        came.append(dout.dtype)
        return dout

    noted = Pair(as_it_is, noted_backward, by_example=True)
    layers = [Embedding(V, 3), models.CELLS[cell](4), noted]
    net = Net([*layers, TemporalAffine(V), noted], T, **SMALL)
    net.loss(words(), labels())
    assert set(came) == {np.dtype(np.float32)}


def as_it_is(x):
    return x.copy(), None


@pytest.mark.parametrize("N", [1, 2])
def test_products_of_a_part_are_not_shared_out(N, monkeypatch):
    """A single sequence is no part; a prediction has parts, too."""
    came = set()

    def noted(x):
        came.add(len(products._shares(1000, products.LARGE)))
        return x.copy(), None

    net = Net([Embedding(V, 3), Pair(noted, lambda dout, cache: dout), TemporalAffine(V)], T, **SMALL)
    came.clear()
    net.loss(words(N), labels(5)[-N:])
    net.loss(words(N))
    assert came == ({2} if N == 1 else {1})
    assert products._undivided.get() is False


def test_gpt_starts_as_gpt_2_does():
    net = GPT(65, 16, 64, 8, 4, seed=0)
    assert net.params["W1"].std() == pytest.approx(0.02, rel=0.05)
    ends = [name for name in net.params if name.startswith("Wo")]
    assert len(ends) == 8
    for name in ends:
        assert net.params[name].std() == pytest.approx(0.02 / 4, rel=0.05)
    X = np.random.default_rng(0).integers(65, size=(2, 16))
    assert net.loss(X, X[:, ::-1])[0] == pytest.approx(np.log(65), rel=0.03)
    blocks = 4 * (2 * 256 + 128 * 384 + 384 + 128 * 128 + 128 + 128 * 512 + 512 + 512 * 128 + 128)
    expected = 65 * 128 + 64 * 128 + blocks + 256 + 128 * 65 + 65
    assert sum(p.size for p in GPT(65, tied=False).params.values()) == expected


def test_an_lstm_starts_with_an_open_forget_gate():
    b = LanguageModel(V, 3, seed=0).params["b1"]
    assert b.tolist() == [0] * 3 + [1] * 3 + [0] * 6


def test_dropout_differs_from_branch_to_branch_and_step_to_step():
    net = GPT(V, T, 6, 2, 3, dropout=0.5, **SMALL)
    first = net.loss(words(), labels())[0]
    assert net.loss(words(), labels())[0] == first
    net.step = 1
    assert net.loss(words(), labels())[0] != first


def test_dropout_of_a_transformer_block_reaches_the_weights_of_its_attention():
    """With nothing else dropped, the mask still changes from step to step, and generating has none."""
    net = Net([Embedding(V, 4), SelfAttention(2, dropout=0.5), WordScores()], T, **SMALL)
    first = net.loss(words(), labels())[0]
    net.step = 1
    assert net.loss(words(), labels())[0] != first
    assert np.all(net.loss(words()) == net.loss(words()))
    blocks = GPT(V, T, 6, 2, 3, dropout=0.5, **SMALL).layers
    assert sum(len(layer.settings) == 2 for layer in blocks) == 2


def test_a_residual_branch_is_added():
    net = Net([Residual([Affine(4)]), Affine(3)], 4, dtype=np.float64, seed=0)
    X, p = numbers(steps=2).reshape(5, 4), net.params
    expected = (X + X @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]
    np.testing.assert_allclose(net.loss(X), expected, rtol=1e-12)


def test_what_a_net_with_branches_shows():
    layers = [Embedding(5, 4), Residual([LayerNorm(), SelfAttention(2)]), WordScores()]
    assert repr(Net(layers, 3, seed=0)).splitlines() == [
        "Net: an example is (3,)",
        "   layer                                output  parameters  multiplications",
        "1  embedding of 5 words                 (3, 4)          20                -",
        "2    layer norm                         (3, 4)           8                -",
        "3    causal attention, 2 heads (added)  (3, 4)          80              264",
        "4  word scores (tied)                   (3, 5)           -               60",
        "   in all                                              108              324",
    ]


def test_a_solver_trains_a_language_model_and_the_workers_change_no_bit():
    """The word after 0 1 2 ... 6 0 1 ... is known; only the first one of a window is not."""
    X = (np.arange(64)[:, None] + np.arange(T)) % V
    data = {"X_train": X, "y_train": (X + 1) % V, "X_val": X[:7], "y_val": (X[:7] + 1) % V}
    trained = []
    for count in (1, 2):
        model = GPT(V, T, 8, 1, 2, dropout=0.1, weight_scale=0.2, seed=0)
        rule = dict(update_rule="adam", optim_config={"learning_rate": 0.02}, num_epochs=6)
        solver = Solver(model, data, **rule, batch_size=16, verbose=False, seed=0, workers=count)
        solver.train()
        assert solver.history[-1]["val_acc"] == 1
        assert solver.history[-1]["val_bits"] == solver.val_acc_history[-1]
        assert all(f"<th>val_{name}</th>" in solver._repr_html_() for name in ("acc", "bits"))
        assert solver.best_val_acc == min(solver.val_acc_history) < 0.3  # bits a word
        trained.append(model.params)
    for name, p in trained[0].items():
        np.testing.assert_array_equal(p, trained[1][name])


# ---------------------------------------------------------------------------- captions

CAPTIONS = {"<NULL>": 0, "<START>": 1, "<END>": 2, "cat": 3, "dog": 4, "a": 5}


@pytest.mark.parametrize(
    ("cell", "low", "high", "expected"),
    [("rnn", -1.5, 0.3, 9.83235591003), ("lstm", -0.5, 1.7, 9.82445935443)],
)
def test_captioning_gives_the_courses_loss(cell, low, high, expected):
    N, D, W, H, steps = 10, 20, 30, 40, 13
    vocabulary = {"<NULL>": 0, "cat": 2, "dog": 3}
    net = CaptioningRNN(vocabulary, D, W, H, cell_type=cell, dtype=np.float64)
    for name, p in net.params.items():
        net.params[name] = np.linspace(-1.4, 1.3, num=p.size).reshape(p.shape)
    features = np.linspace(low, high, num=N * D).reshape(N, D)
    captions = (np.arange(N * steps) % 3).reshape(N, steps)
    assert net.loss(features, captions)[0] == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
class TestCaptioning:
    def test_every_gradient_by_complex_step(self, rng, cell):
        net = CaptioningRNN(CAPTIONS, 4, 3, 5, cell, seed=0)
        report = check_model(net, rng.standard_normal((3, 4)), rng.integers(6, size=(3, 6)))
        assert {row.method for row in report.rows} == {"complex step"}
        assert report.require().error <= 1e-10
        assert {p.dtype for p in net.params.values()} == {np.dtype(np.float32)}

    def test_it_learns_what_images_show(self, cell):
        features = np.eye(2, 4)
        captions = np.array([[1, 5, 3, 2, 0, 0], [1, 4, 2, 0, 0, 0]])  # a cat / dog
        net = CaptioningRNN(CAPTIONS, 4, 8, 16, cell, seed=0)
        for _ in range(150):
            loss, grads = net.loss(features, captions)
            for name, g in grads.items():
                net.params[name] = net.params[name] - 0.5 * g
        assert loss < 0.1
        said = net.sample(features, max_length=4)
        assert said[0, :3].tolist() == [5, 3, 2]
        assert said[1, :2].tolist() == [4, 2]
        assert said.shape == (2, 4)


# ---------------------------------------------------------------------------- errors

lm, gpt = LanguageModel(V, 3, seed=0), GPT(V, 4, 6, 1, 2, seed=0)
caption = CaptioningRNN(CAPTIONS, 4, 3, 5, seed=0)
ERRORS = [
    (
        lambda: lm.loss(np.zeros((2, 3))),
        "LanguageModel.loss: X has shape (2, 3) and dtype float64, expected",
    ),
    (lambda: lm.loss(np.zeros((2, 0), int)), "expected words (N, T)"),
    (lambda: lm.loss(np.full((2, 3), 7)), "layer 1: word_affine_forward: x holds the word 7"),
    (
        lambda: lm.loss(words(1), labels(1)[:, 1:]),
        "y (1, 5), expected scores (N, T, V) and words (N, T)",
    ),
    (lambda: lm.loss(words(2), labels(2) + 2), "y holds the word"),
    (
        lambda: gpt.loss(words(1)),
        "layer 2: position_embedding_forward: x (1, 6, 6) has T = 6 steps, but",
    ),
    (
        lambda: GPT(V, 4, 6, 1, 4),
        "layer 4: multi_head_attention_forward: heads = 4, expected a divisor",
    ),
    (lambda: GPT(V, depth=0), "GPT: depth = 0, expected a whole number from 1 up"),
    (lambda: LanguageModel(V, cell="ltsm"), "Did you mean 'lstm'?"),
    (lambda: LanguageModel(0), "layer 1: Embedding: words = 0, expected a whole number"),
    (lambda: lm.generate([], 3), "LanguageModel.generate: prompt has shape (0,)"),
    (lambda: lm.generate(["a"], 3), "expected words (T,) or (N, T), integers, and one at least"),
    (lambda: lm.generate([1], -3), "n = -3, expected a whole number"),
    (lambda: lm.generate([1], 3, temperature=-1), "temperature = -1, expected a number in [0, inf)"),
    (lambda: lm.generate([1], 3, top_k=0), "top_k = 0, expected a whole number from 1 up"),
    (lambda: lm.generate([9], 3), "x holds the word 9, expected 0 to 6"),
    (
        lambda: WordModel([Embedding(V, 4), SelfAttention(2, causal=False), WordScores()], 5),
        "layer 2: multi_head_attention_forward does not go step by step",
    ),
    (
        lambda: WordModel([Embedding(V, 4), Conv1D(4, 3, pad=1), WordScores()], 5),
        "layer 2: conv1d_forward does not go step by step",
    ),
    (lambda: Net([TemporalAffine(3)], 5), "an example has shape (5,) here, expected a sequence (T, D)"),
    (lambda: Net([Embedding(5, 3)], (5, 2)), "an example has shape (5, 2) here, expected words (T,)"),
    (
        lambda: Net([RNN(3)], (5, 2)).loss(np.zeros((2, 5, 3))),
        "X has shape (2, 5, 3), expected (N, T, 2)",
    ),
    (
        lambda: Net([RNN(3)], (5, 2), loss="svm"),
        "unknown loss 'svm'; expected one of ['mse', 'softmax']",
    ),
    (
        lambda: Net([Affine(4), Residual([Affine(3)])], 4),
        "layer 2: a Residual ends with shape (3,), expected that of its beginning, (4,)",
    ),
    (lambda: Net([Residual([])], 4), "layers is [], expected a list of layers, not empty"),
    (lambda: CaptioningRNN({"cat": 0}), "word_to_idx has no '<NULL>', expected one"),
    (lambda: CaptioningRNN(CAPTIONS, cell_type="lsmt"), "Did you mean 'lstm'?"),
    (lambda: caption.loss(np.zeros((2, 4)), np.zeros((3, 5), int)), "expected words (2, T)"),
    (lambda: CaptioningRNN({"<NULL>": 0}).sample(np.zeros((1, 512))), "no '<START>', expected one"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_errors(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_the_loss_of_a_net_may_be_a_function_of_ones_own():
    def mean_loss(x, y):
        loss, dx = softmax_loss(x.reshape(-1, V), y.ravel())
        return loss, dx.reshape(x.shape)

    layers = [Embedding(V, 4), RNN(3), TemporalAffine(V)]
    ours, own = (Net(layers, T, loss=loss, **SMALL) for loss in ("softmax", mean_loss))
    X, y = words(), words(seed=4)
    assert own.loss(X, y)[0] == pytest.approx(ours.loss(X, y)[0], rel=1e-6)
    np.testing.assert_allclose(
        own.loss(X, y)[1]["Wh1"], ours.loss(X, y)[1]["Wh1"], rtol=1e-4, atol=1e-7
    )
    p = ours.predict_proba(X)
    np.testing.assert_allclose(p.sum(axis=2), 1, rtol=1e-5)
    np.testing.assert_array_equal(ours.predict(X), p.argmax(axis=2))
