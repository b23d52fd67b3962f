"""The command line on texts: train, resume, generate, compare."""

import csv
import functools
import json
import math
import signal
import subprocess
import sys

import numpy as np
import pytest
import scipy.special
from handgrad.cli import gradcheck, main, texts
from handgrad.cli.settings import build_model, checked_settings, load, settings_of, solver_of
from handgrad.cli.train import _write_history
from handgrad.data_utils import Characters, load_text
from handgrad.models import MODELS, SEQUENCE_MODELS
from handgrad.solver import load_params

LINE = "the cat sat on the mat, and the rat ran;\n"
SMALL = {
    "GPT": ["--width", "8", "--depth", "1", "--heads", "2", "--dropout", "0.2"],
    "LanguageModel": ["--hidden-dim", "8", "--cell", "gru", "--dropout", "0.2"],
}
COUNTS = ["--context", "8", "--batch-size", "50", "--quiet"]
STREAMS = ["--streams", "5", "--batch-size", "5"]


def train(text, out, *more, model="GPT"):
    command = ["train", "--text", str(text), "--out", str(out), "--model", model]
    return main([*command, *SMALL[model], *COUNTS, *map(str, more)])


def solver_for(text, **given):
    """What the command line would train."""
    settings = settings_of({"text": str(text), "context": 8, **given})
    data = load(settings)
    return solver_of(settings, data, quiet=True)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "cats.txt"
    path.write_text(30 * LINE)
    return path


@pytest.fixture(scope="module")
def run(text):
    """A folder with a run of two epochs."""
    folder = text.parent / "run"
    assert train(text, folder, "--epochs", 2) == 0
    return folder


def model_of(run):
    settings = checked_settings(run / "settings.json")
    model = build_model(settings)
    load_params(model, run / "checkpoint.npz")
    return model, Characters(settings["vocabulary"])


def refused(capsys, *words):
    """One line on stderr with these words, and nothing on stdout."""
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith("handgrad: ")
    assert said.out == ""
    for word in words:
        assert word in line


# ---------------------------------------------------------------------------- train


def test_a_run_folder_holds_everything(run, text):
    files = {"settings.json", "history.csv", "checkpoint.npz", "report.txt", "curves.png"}
    assert {path.name for path in run.iterdir()} == files
    settings = json.loads((run / "settings.json").read_text())
    assert (settings["data"], settings["text"]) == ("text", str(text))
    assert settings["vocabulary"] == "".join(sorted(set(LINE)))
    with open(run / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row in rows:
        assert float(row["val_bits"]) == pytest.approx(float(row["val_nats"]) / math.log(2))
        assert float(row["val_perplexity"]) == pytest.approx(2 ** float(row["val_bits"]))
        assert 0 < float(row["val_acc"]) < 1 < float(row["val_bits"])


def test_a_history_may_have_begun_with_fewer_columns(tmp_path):
    """As one of an earlier version, which is resumed."""
    _write_history(tmp_path / "h.csv", [{"epoch": 1}, {"epoch": 2, "val_bits": 3.5}])
    assert (tmp_path / "h.csv").read_text().splitlines() == ["epoch,val_bits", "1,", "2,3.5"]


def test_the_report_tells_what_the_loss_is_on_validation(run, text):
    model, _ = model_of(run)
    data = load_text(text, length=8)
    log_p = scipy.special.log_softmax(model.loss(data["X_val"]), axis=-1)
    loss = -np.take_along_axis(log_p, data["y_val"][..., None], axis=-1).mean()
    result, _, sample = (run / "report.txt").read_text().split("\n", 2)
    bits, perplexity = loss / math.log(2), math.exp(loss)
    assert result.startswith(
        f"validation: {bits:.3f} bits a character, perplexity {perplexity:.2f}, loss {loss:.3f} ("
    )
    assert len(sample) == 501
    assert set(sample) <= set(LINE)


def test_a_loud_run_shows_text_after_each_epoch(text, tmp_path, capsys):
    command = ["train", "--text", str(text), "--out", str(tmp_path / "run"), "--epochs", "2"]
    assert main([*command, *SMALL["GPT"], *COUNTS[:-1]]) == 0
    said = capsys.readouterr().out
    assert "val_bits: " in said
    assert len([line for line in said.splitlines() if line.startswith("    ")]) == 2


@pytest.mark.parametrize(
    ("model", "more"), [("GPT", ["--no-tied"]), ("LanguageModel", []), ("LanguageModel", STREAMS)]
)
def test_resume_is_the_same_as_never_having_stopped(model, more, text, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(text, whole, "--epochs", 2, *more, model=model) == 0
    assert train(text, parts, "--epochs", 1, *more, model=model) == 0
    assert main(["train", "--resume", str(parts), "--epochs", "2", "--quiet"]) == 0
    with np.load(whole / "checkpoint.npz") as a, np.load(parts / "checkpoint.npz") as b:
        for name in a.files:
            if name != "meta":  # holds seconds
                np.testing.assert_array_equal(a[name], b[name])
    assert (whole / "report.txt").read_text() == (parts / "report.txt").read_text()


def test_resume_finds_a_text_that_moved_and_refuses_another_one(text, tmp_path, capsys):
    mine = tmp_path / "mine.txt"
    mine.write_text(text.read_text())
    assert train(mine, tmp_path / "run", "--epochs", 1) == 0
    moved = mine.rename(tmp_path / "moved.txt")
    capsys.readouterr()
    resume = ["train", "--resume", str(tmp_path / "run"), "--epochs", "2", "--quiet"]
    assert main(resume) == 2
    refused(capsys, f"{mine} is not there")
    assert main([*resume, "--text", str(moved)]) == 0
    capsys.readouterr()
    moved.write_text(text.read_text() + "Q")
    assert main(resume) == 2
    refused(capsys, "--data text has vocabulary = ", "expected that of the run")


def test_clip_norm_is_a_setting(text, tmp_path):
    """A gradient that is cut to nothing leaves SGD where it began."""
    options = ("--epochs", 1, "--update-rule", "sgd", "--clip-norm", 1e-20)
    assert train(text, tmp_path / "run", *options) == 0
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert (settings["clip_norm"], settings["learning_rate"]) == (1e-20, None)
    trained, _ = model_of(tmp_path / "run")
    for name, first in build_model(settings).params.items():
        np.testing.assert_allclose(trained.params[name], first, rtol=0, atol=1e-12)


GIVEN = dict(model="GPT", width=8, depth=1, heads=2)


def test_streams_are_read_side_by_side(text):
    """Each row of a batch begins where the row of the batch before ended; so the states are carried."""
    solver = solver_for(text, model="LanguageModel", streams=5)
    assert (solver.batch_size, solver.model.streams, solver.sampling) == (5, 5, "sequential")
    X, y = solver.X_train, solver.y_train
    np.testing.assert_array_equal(X[5:, 0], y[:-5, -1])


def test_weight_decay_shrinks_matrices_alone(text):
    """Where the gradient is cut to nothing, a step on the whole text is the decay."""
    rule = dict(update_rule="adamw", learning_rate=0.1, weight_decay=0.5, clip_norm=1e-30)
    solver = solver_for(text, **GIVEN, **rule, batch_size=550, stride=2, epochs=1)
    first = dict(solver.model.params)
    solver.train()
    assert solver.iteration == 1
    for name, p in solver.model.params.items():
        np.testing.assert_allclose(p, first[name] * (0.95 if p.ndim > 1 else 1), rtol=1e-6, atol=1e-20)


@pytest.mark.parametrize(("given", "parts"), [({}, 1), ({"tied": True}, 1), ({"tied": False}, 2)])
def test_tied_scores_share_the_matrix_of_the_embedding(given, parts, text):
    solver = solver_for(text, **GIVEN, **given)
    V = len(set(LINE))
    assert sum(p.shape in ((V, 8), (8, V)) for p in solver.model.params.values()) == parts


def test_a_gpt_has_as_many_positions_as_a_window_has_characters(text):
    assert solver_for(text, **GIVEN, context=100).model.memory == 100


DEFAULTS = [
    ({}, ("LeNet5", "digits", None, None)),
    ({"data": "text"}, ("GPT", "text", 3e-3, 1.0)),
    ({"text": "/a.txt"}, ("GPT", "text", 3e-3, 1.0)),
    ({"model": "LanguageModel"}, ("LanguageModel", "text", 2e-3, 1.0)),
    ({"model": "LanguageModel", "text": "/a.txt"}, ("LanguageModel", "text", 5e-3, 1.0)),
    ({"model": "LanguageModel", "data": "names"}, ("LanguageModel", "names", 5e-3, 1.0)),
    ({"model": "GPT", "data": "names"}, ("GPT", "names", 3e-3, 1.0)),
    ({"data": "text", "update_rule": "sgd"}, ("GPT", "text", None, 1.0)),
    ({"data": "text", "update_rule": "adam"}, ("GPT", "text", 3e-3, 1.0)),
    ({"data": "text", "learning_rate": 0.0, "clip_norm": 2.0}, ("GPT", "text", 0.0, 2.0)),
]


@pytest.mark.parametrize(("given", "expected"), DEFAULTS)
def test_what_is_not_given_fits_what_is(given, expected):
    settings = settings_of(given)
    names = ("model", "data", "learning_rate", "clip_norm")
    assert tuple(settings.get(name) for name in names) == expected


@pytest.mark.parametrize(
    ("given", "epochs"),
    [({"data": "text"}, 6), ({"text": "/a"}, 10), ({"data": "names"}, 10), ({"epochs": 3}, 3)],
)
def test_the_sonnets_have_defaults_of_their_own(given, epochs):
    settings = settings_of({"model": "GPT", **given})
    assert settings["epochs"] == epochs
    assert ("dropout" in settings) == (settings["data"] == "text" and "text" not in settings)


@pytest.mark.parametrize(("characters", "stride"), [(700, 1), (40_000, 17), (200_000, 64)])
def test_an_epoch_of_a_short_text_has_windows_enough(characters, stride, tmp_path):
    path = tmp_path / "text"
    path.write_text((characters // len(LINE) + 1) * LINE)
    data, found = texts.load({"data": "text", "text": path})
    assert found["stride"] == stride
    expected = load_text(path, stride=stride)
    for name in ("X_train", "y_train", "X_val", "y_val"):
        np.testing.assert_array_equal(data[name], expected[name])


def test_a_text_is_read_once(text, monkeypatch):
    calls = []
    read = lambda length, stride: calls.append(stride) or load_text(text, length, stride)  # noqa: E731
    monkeypatch.setitem(texts.DATA_SETS, "text", read)
    texts.load({"data": "text", "context": 8})
    assert calls == [1]


RECURRENT = ["--model", "LanguageModel"]
MISTAKES = [
    (["--text", "short"], "expected words (T,) with T above length = 64"),
    (["--text", "empty"], "expected words (T,) with T above length = 64"),
    (["--text", "bytes"], "no UTF-8 text"),
    (["--text", "nowhere"], "nowhere is not there"),
    (["--heads", "3", "--width", "8"], "heads = 3, expected a divisor of D = 8"),
    (["--cell", "gru"], "GPT takes no --cell"),
    (["--model", "LanguageModel", "--heads", "2"], "LanguageModel takes no --heads"),
    (["--model", "LeNet5"], "LeNet5 does not read --data text; expected --data digits or "),
    (["--data", "digits"], "GPT does not read --data digits; expected --data text or shakespeare"),
    (["--stride", "0"], "stride = 0"),
    (["--context", "0"], "length = 0"),
    (["--clip-norm", "0"], "clip_norm = 0"),
    (["--weight-decay", "0.1"], "adam takes no --weight-decay; expected --update-rule adamw"),
    (
        ["--weight-decay", "-1", "--update-rule", "adamw"],
        "weight_decay = -1.0, expected a number in [0",
    ),
    (
        ["--streams", "8"],
        "GPT takes no --streams, since it has no state to carry; expected --model Lang",
    ),
    (
        [*RECURRENT, "--streams", "8", "--batch-size", "4"],
        "--streams 8 with --batch-size 4; expected the",
    ),
    ([*RECURRENT, "--streams", "8", "--stride", "4"], "--streams takes no --stride, since each window"),
    ([*RECURRENT, "--streams", "0"], "count = 0"),
    ([*RECURRENT, "--streams", "9999"], "expected words (T,) with T above count * length = 9999 * 64"),
    ([*RECURRENT, "--data", "names", "--data-dir", ".", "--streams", "2"], "names takes no --streams"),
    (["--model", "LeNet5", "--data", "digits", "--streams", "8"], "--data digits takes no --streams"),
    ([*RECURRENT, "--no-tied"], "LanguageModel takes no --tied"),
    (["--data", "shakespeare", "--text", "short"], "--data shakespeare takes no --text"),
    (["--data", "shakespeare", "--data-dir", "."], "handgrad download shakespeare"),
    (["--data", "names", "--stride", "2"], "--data names takes no --stride"),
    (["--data", "names", "--data-dir", ".", "--context", "9"], "names has context = 5, expected that"),
]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Texts that are good for nothing, and names."""
    monkeypatch.chdir(tmp_path)
    contents = {"short": b"sixty-five characters and more " * 3, "empty": b"", "bytes": b"\xff" * 900}
    (tmp_path / "text").mkdir()
    names = {"text/names.txt": b"anna\nbob\nada\n" * 20}
    for name, content in (contents | names).items():
        (tmp_path / name).write_bytes(content)


@pytest.mark.parametrize(("options", "message"), MISTAKES)
def test_a_mistake_is_one_line_and_leaves_no_folder(options, message, files, tmp_path, capsys):
    start = ["--data", "text"] if not {"--data", "--text"} & {*options} else []
    model = [] if "--model" in options else ["--model", "GPT"]
    assert main(["train", *start, *model, *options, "--out", "run", "--epochs", "1"]) == 2
    refused(capsys, message)
    assert not (tmp_path / "run").exists()


def test_compare(text, tmp_path, capsys):
    command = ["compare", "--vary", "model", *SMALL, "--seeds", "1", "--epochs", "1", "--depth", "1"]
    options = ["--text", str(text), "--context", "8", "--out", str(tmp_path)]
    assert main([*command, *options]) == 0
    said = capsys.readouterr().out
    assert "model GPT" in said
    assert "model LanguageModel" in said
    assert "test bits a word" in said
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_compare_of_a_flag(text, tmp_path, capsys):
    options = ["--text", str(text), "--context", "8", "--out", str(tmp_path), "--seeds", "1"]
    assert (
        main(["compare", "--vary", "tied", "yes", "no", *SMALL["GPT"], *options, "--epochs", "1"]) == 0
    )
    assert "tied yes" in capsys.readouterr().out
    for name, tied in (("yes", "True"), ("no", "False")):
        (run,) = (tmp_path / "runs").glob(f"tied_{name}-*.json")
        assert json.loads(run.read_text())["given"]["tied"] == tied


# ---------------------------------------------------------------------------- generate


def generated(capsys, run, *options):
    assert main(["generate", str(run), *map(str, options)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("choice", [{"temperature": 0}, {"top_k": 3}, {"temperature": 1.5}])
def test_it_writes_what_the_model_generates(choice, run, capsys):
    model, characters = model_of(run)
    prompt = characters.encode("the rat ")
    expected = characters.decode(model.generate(prompt, 40, **{"temperature": 0.8, **choice}, seed=3))
    options = [part for name, v in choice.items() for part in (f"--{name.replace('_', '-')}", v)]
    said = generated(capsys, run, "--prompt", "the rat ", "-n", 40, "--seed", 3, *options)
    assert said.rstrip("\n") == f"the rat {expected}".rstrip("\n")
    assert said.endswith("\n")


def test_a_seed_gives_the_same_text_and_none_another_one(run, capsys):
    same = [generated(capsys, run, "--length", 60, "--seed", 5) for _ in range(2)]
    assert same[0] == same[1]
    assert len({generated(capsys, run, "--length", 60) for _ in range(3)}) > 1
    assert generated(capsys, run, "--prompt", "cat", "-n", 0) == "cat\n"


def test_each_character_is_written_as_it_is_drawn(run, monkeypatch):
    class Page:
        written, seen = "", []

        def write(self, text):
            self.written += text

        def flush(self):
            self.seen.append(len(self.written))

    monkeypatch.setattr(sys, "stdout", page := Page())
    main(["generate", str(run), "--prompt", "mat", "-n", "9", "--seed", "0"])
    assert set(range(3, 13)) <= set(page.seen)


WRONG = [
    (["--prompt", ""], "--prompt is empty"),
    (["--prompt", "a cat é"], "'é'"),
    (["--temperature", "-1"], "temperature = -1.0, expected a number in [0, inf)"),
    (["--temperature", "nan"], "temperature = nan"),
    (["--top-k", "0"], "top_k = 0, expected a whole number"),
    (["-n", "-1"], "n = -1"),
    (["--seed", "-1"], "seed"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_a_wrong_wish_is_one_line(options, message, run, capsys):
    assert main(["generate", str(run), *options]) == 2
    refused(capsys, message)


def test_a_folder_without_a_net_for_texts_is_one_line(run, tmp_path, capsys):
    assert main(["generate", str(tmp_path / "none")]) == 2
    refused(capsys, "none is no run folder; it has no settings.json")
    settings = (run / "settings.json").read_text()
    (tmp_path / "settings.json").write_text(settings)
    assert main(["generate", str(tmp_path)]) == 2
    refused(capsys, "has no checkpoint yet; the first one comes after an epoch")
    (tmp_path / "settings.json").write_text(json.dumps(settings_of({})))
    assert main(["generate", str(tmp_path)]) == 2
    refused(
        capsys, "is a run on images, LeNet5 on digits; expected one on text or shakespeare or names"
    )
    without = {name: v for name, v in json.loads(settings).items() if name != "vocabulary"}
    (tmp_path / "settings.json").write_text(json.dumps(without))
    (tmp_path / "checkpoint.npz").write_bytes((run / "checkpoint.npz").read_bytes())
    assert main(["generate", str(tmp_path)]) == 2
    refused(capsys, "settings.json: ", "vocabulary")


@pytest.mark.parametrize("end", ["closed pipe", "Ctrl-C"])
def test_it_ends_quietly(end, run):
    command = [sys.executable, "-m", "handgrad", "generate", str(run), "-n", "1000000"]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    listen = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # jobs with & ignore it
    with subprocess.Popen(command, **pipes, preexec_fn=listen) as process:
        assert process.stdout.read(20)
        if end == "Ctrl-C":
            process.send_signal(signal.SIGINT)
            process.stdout.read()  # to the end: a pipe that is closed now could end it first
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == (130 if end == "Ctrl-C" else 0)


def test_names_are_lines(files, tmp_path, capsys):
    command = [
        "train",
        "--data",
        "names",
        "--data-dir",
        str(tmp_path),
        "--out",
        "run",
        "--epochs",
        "20",
    ]
    assert main([*command, *SMALL["LanguageModel"], "--model", "LanguageModel", "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("test: ")
    said = generated(capsys, "run", "--prompt", "a", "-n", 60, "--seed", 1)
    names = said.splitlines()
    assert len(names) > 5
    assert all(name.startswith("a") for name in names)
    assert set(said) <= set("anbobd\n")


# ---------------------------------------------------------------------------- gradcheck


def test_gradcheck_knows_every_model():
    assert {name for name, *_ in gradcheck.CHECKED} == {*MODELS, *SEQUENCE_MODELS}


def test_gradcheck_of_a_sequence_model(capsys):
    assert main(["gradcheck", "--model", "LanguageModel"]) == 0
    said = capsys.readouterr().out
    assert all(f"LanguageModel with {cell} (complex step)" in said for cell in ("rnn", "lstm", "gru"))
    assert "wrong: none" in said
