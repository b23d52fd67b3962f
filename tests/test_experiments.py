"""Every study runs in its quick form, and its page holds what its runs measured."""

import contextlib
import functools
import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from handgrad.compare import Comparison
from handgrad.data import cifar

ROOT = Path(__file__).parent.parent
SHARED = {"__init__", "study", "digits", "lenet5", "cifar10", "texts"}
TIMED = {"digits_loops"}
BESIDE_TORCH = {"torch_language_models"}  # tests/extras
NAMES = sorted(
    p.stem for p in (ROOT / "experiments").glob("*.py") if p.stem not in SHARED | TIMED | BESIDE_TORCH
)


@pytest.fixture(scope="module", autouse=True)
def experiments():
    """The checkout's folder `experiments`, which is not part of the installed package."""
    if not importlib.util.find_spec("experiments"):
        sys.path.insert(0, str(ROOT))
        yield
        sys.path.remove(str(ROOT))
    else:
        yield


@pytest.fixture(scope="module", autouse=True)
def cifar10_once():
    """Read it once, before processes are forked that would each read it again."""
    read = functools.cache(cifar.load_CIFAR10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar, "load_CIFAR10", read)
        with contextlib.suppress(FileNotFoundError):
            cifar.load_cifar10()
        yield


@pytest.mark.parametrize("name", NAMES)
def test_quick(name, real_data, tmp_path, capsys):
    from experiments.study import PAGE, main

    before = PAGE.read_text()
    study = importlib.import_module(f"experiments.{name}").STUDY
    assert study.name == name
    assert set(study.reported) <= set(study.settings)
    assert main(study, ["--quick", "--folder", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for setting in study.settings:
        assert f"| {setting} |" in said
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert PAGE.read_text() == before


def test_a_setting_is_trained_once_and_nothing_is_written(real_data, tmp_path, capsys):
    from experiments.shakespeare_gpt import STUDY
    from experiments.study import PAGE, main

    before = PAGE.read_text()
    assert main(STUDY, ["--quick", "--train", "larger", "--folder", str(tmp_path)]) == 0
    minutes, parameters, loss, *_ = capsys.readouterr().out.splitlines()
    assert "minutes of all processors" in minutes
    assert int(parameters.removeprefix("parameters: ")) > 16 * 128
    assert 3 < float(loss.removeprefix("loss: ")) < 6
    assert (PAGE.read_text(), [*tmp_path.iterdir()]) == (before, [])


def test_quick_timing(tmp_path, capsys):
    from experiments.digits_loops import NAME, main
    from experiments.study import PAGE

    before = PAGE.read_text()
    main(["--quick", "--folder", str(tmp_path)])
    assert capsys.readouterr().out.count("**") == 2 * 4
    assert (tmp_path / f"{NAME}.png").read_bytes().startswith(b"\x89PNG")
    assert PAGE.read_text() == before


def test_a_section_is_written_and_written_again(tmp_path, monkeypatch):
    from experiments import study as module

    page = tmp_path / "results.md"
    page.write_text("# Results\n\n<!-- other -->kept<!-- end of other -->\n")
    monkeypatch.setattr(module, "PAGE", page)
    story = module.Study("toy", "A toy", "Some text.", None, {"a": {}}, reported={"a": "90.0"})

    def result(accuracies):
        run = dict(
            loss_history=[], train_acc_history=[], val_acc_history=[], epoch_seconds=[2.0], seconds=60
        )
        runs = {("a", seed): {**run, "test_acc": accuracy} for seed, accuracy in enumerate(accuracies)}
        return Comparison(["a"], runs, {})

    def write(accuracies):
        module.write_section(story.section(result(accuracies)), {"toy.png": "Curves"})

    write([0.91, 0.93, 0.95])
    assert "| a | 90.0 | **93.00** | 2.00 | 88.03 to 97.97 | 3 | 2.00 |" in page.read_text()
    write([0.5])
    text = page.read_text()
    assert "93.00" not in text
    assert "| a | 90.0 | **50.00** | - | - | 1 | 2.00 |" in text
    assert text.count("## A toy") == text.count("![Curves](results/toy.png)") == 1
    assert "kept" in text


def test_a_study_has_the_columns_that_it_names(tmp_path):
    from experiments.study import Column, Study, table

    loss = Column("loss", lambda run: min(run["val_acc_history"]), ".3f")
    size = Column("parameters", lambda run: run["kept"]["parameters"], ",.0f")
    study = Study("toy", "A toy", "", None, {"a": {}}, {"a": "1.9"}, measured=loss, others=(size, loss))
    runs = {
        ("a", 0): {"val_acc_history": [3.0, 1.5, 1.75], "kept": {"parameters": 1234}},
        ("a", 1): {"val_acc_history": [3.0, 1.75], "kept": {"parameters": 1234}},
    }
    head, rule, row, missing = table(study, Comparison(["a", "b"], runs, {})).splitlines()
    ours = "reported, loss | ours, loss | deviation | 95 % interval of the mean"
    assert head == f"| setting | {ours} | seeds | parameters | loss |"
    assert rule == "|---" * 8 + "|"
    assert row == "| a | 1.9 | **1.625** | 0.177 | 0.037 to 3.213 | 2 | 1,234 | 1.625 |"
    assert missing == "| b | - | **-** | - | - | 0 | - | - |"


def test_what_a_study_says_below_its_table_stands_there(tmp_path, monkeypatch, capsys):
    from experiments import study as module

    monkeypatch.setattr(module, "PAGE", tmp_path / "results.md")
    module.PAGE.write_text("# Results\n")
    story = module.Study("toy", "A toy", "Text.", None, {"a": {}}, closing=lambda result: "A sample.")
    module.show(story.section(Comparison(["a"], {}, {})), {})
    text = module.PAGE.read_text()
    assert text.index("| a |") < text.index("A sample.") < text.index("<!-- end of toy -->")
    assert "A sample." in capsys.readouterr().out


def test_the_clock_ends_a_training_and_what_is_there_then_is_measured(monkeypatch):
    from handgrad.data_utils import load_text
    from handgrad.models import LanguageModel

    from experiments import texts

    seconds = iter(range(1000))  # each look at the clock is a second after the one before
    monkeypatch.setattr(texts.time, "process_time", lambda: next(seconds))
    monkeypatch.setattr(texts, "shakespeare", lambda context: load_text(length=context, stride=1))
    clock = texts.Clock(10)
    solver = texts.solver(
        seed=0,
        model=lambda V, seed: LanguageModel(V, 8, cell="rnn", seed=seed),
        learning_rate=1e-2,
        context=16,
        steps_an_epoch=4,
        schedule=clock,
        callbacks=[clock],
        num_epochs=1000,
        batch_size=4,
    )
    solver.train()
    assert solver.iteration == 1 + 10  # the first step does not count
    assert [record["used"] for record in solver.history] == [3, 7, 10]
    assert solver.epoch == 3
    assert len(solver.val_acc_history) == 1 + 3
    assert clock(10**6, 3) == pytest.approx(0.1)
    clock.used = 5
    assert clock(10**6, 3) == pytest.approx(0.55)
    assert clock(0, 0) == pytest.approx(0.55 / 50)
    solver.num_epochs, clock.seconds, clock.used = 1000, 12, 0.0
    solver.train()
    assert solver.history[-1]["used"] == 12
    assert solver.iteration == 1 + 12  # it went on from what is in the history


def test_new_names_are_new():
    from handgrad.data_utils import Characters

    from experiments.names import new_names

    characters = Characters(".ab")

    class Writes:
        def generate(self, prompts, n, seed):
            assert prompts.shape == (20, 1)
            assert not prompts.any()
            assert n == 3
            return np.stack([characters.encode(w) for w in ("ab.", "ba.", "..a", "bb.", "ba.", "aa.")])

    X = np.stack([characters.encode(w) for w in (".ab.", ".aba")])
    data = {"vocabulary": characters, "X_train": X, "X_val": X[:0], "X_test": X[:1, [0, 2, 2, 0]]}
    trained = SimpleNamespace(X_train=X, data=data, model=Writes())
    assert new_names(trained, 2) == ["ba", "aa"]


def test_the_error_of_the_adding_problem():
    from handgrad.data_utils import adding_problem

    from experiments import adding_problem as adding

    X, y = adding_problem(60, 6)
    data = {
        f"{array}_{part}": a for part in ("train", "val", "test") for array, a in (("X", X), ("y", y))
    }
    solver = adding.build(
        0, **{**adding.run("gru", 6), **adding.STUDY.quick, "data": lambda _: data}, workers=1
    )
    solver.train()
    errors = adding.errors(solver)
    expected = np.mean((solver.model.loss(X)[:, 0] - y) ** 2)
    np.testing.assert_allclose(errors["test"], expected, rtol=1e-5)
    np.testing.assert_allclose(errors["val"], [expected], rtol=1e-5)
    assert adding.solved(SimpleNamespace(history=[{"val_rmse": 0.031}]))
    assert not adding.solved(SimpleNamespace(history=[{"val_rmse": 0.032}]))


def test_norms_and_lost_runs_of_clipping(rng):
    from experiments import clipping

    net = clipping.Watched(11, 8, cell="rnn", seed=0, dtype=np.float64)
    words = rng.integers(11, size=(2, 3, 5))
    _, grads = net.loss(*words)
    net.loss(words[0])
    squares = [g**2 for array in grads.values() for g in array.ravel()]
    np.testing.assert_allclose(net.norms, [np.sum(squares) ** 0.5], rtol=1e-12)
    assert clipping.is_lost({"loss_history": [9.0] + [4.18] * 20})
    assert not clipping.is_lost({"loss_history": [9.0] + [4.17] * 20})


def test_steps_to_99_per_cent():
    from experiments.reversal_attention import steps_to_99

    run = {"kept": {"val": [0.2, 0.98, 0.99, 1.0]}, "iterations_per_epoch": 20}
    assert steps_to_99(run) == 60
    assert steps_to_99({"kept": {"val": [0.98]}}) == np.inf


def test_the_interval_is_students():
    from experiments.study import measured

    values = np.array([90.0, 92.0])
    half = 12.706 * values.std(ddof=1) / np.sqrt(2)
    assert f"{91 - half:.2f} to {91 + half:.2f}" in measured(list(values))
