"""The command line, as a person meets it."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import scipy.io
from handgrad.cli import DEFAULTS, build_model, main
from handgrad.models import MODELS


@pytest.fixture
def data_dir(tmp_path):
    """digits.mat with 40 images of stripes that are easy to tell apart."""
    y = np.arange(40) % 10
    X = np.zeros((40, 16, 16), np.uint8)
    X[np.arange(40), y] = 255
    content = {"X": X, "y": y + 1, "Xvalid": X, "yvalid": y + 1, "Xtest": X, "ytest": y + 1}
    folder = tmp_path / "data"
    folder.mkdir()
    shaped = {k: v.reshape(40, -1).astype(np.uint8) for k, v in content.items()}
    scipy.io.savemat(folder / "digits.mat", shaped)
    return str(folder)


def on_digits(data_dir):
    model = ["--model", "TwoLayerNet", "--data", "digits.mat"]
    return [*model, "--data-dir", data_dir, "--batch-size", "10"]


def train(data_dir, out, *more):
    return main(["train", *on_digits(data_dir), "--out", str(out), *more])


def test_a_run_folder_holds_everything(data_dir, tmp_path, capsys):
    out = tmp_path / "run"
    assert train(data_dir, out, "--epochs", "30", "--weight-scale", "kaiming", "--lr-decay", "1") == 0
    said = capsys.readouterr().out
    assert "(Epoch 30 / 30) train acc: 1.0" in said
    assert "test accuracy: 1.0000 (40 of 40 images; 95 % interval 0.91" in said
    assert f"run folder: {out}" in said
    assert json.loads((out / "settings.json").read_text())["epochs"] == 30
    with open(out / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 31))
    for picture in ("curves", "mistakes", "confusion"):
        assert (out / f"{picture}.png").read_bytes().startswith(b"\x89PNG")


def test_resume_is_the_same_as_never_having_stopped(data_dir, tmp_path):
    train(data_dir, tmp_path / "whole", "--epochs", "4", "--quiet")
    train(data_dir, tmp_path / "parts", "--epochs", "2", "--quiet")
    assert main(["train", "--resume", str(tmp_path / "parts"), "--epochs", "4", "--quiet"]) == 0
    whole, parts = (np.load(tmp_path / run / "checkpoint.npz") for run in ("whole", "parts"))
    with whole, parts:
        for name in whole.files:
            if name != "meta":  # holds seconds
                np.testing.assert_array_equal(whole[name], parts[name])


MISTAKES = [
    (["--learning-rate", "1e30", "--epochs", "9"], "the loss is"),
    (["--batch-size", "99"], "batch_size = 99, but there are 40 training examples"),
    (["--dropout", "0.5"], "TwoLayerNet takes no --dropout"),
    (["--data-dir", "/nowhere"], "digits.mat is not in /nowhere"),
]


@pytest.mark.parametrize(("more", "message"), MISTAKES)
def test_a_mistake_is_one_line(data_dir, tmp_path, capsys, more, message):
    assert train(data_dir, tmp_path / "run", *more) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


def test_resume_takes_no_other_settings(data_dir, tmp_path, capsys):
    train(data_dir, tmp_path / "run", "--epochs", "1", "--quiet")
    assert main(["train", "--resume", str(tmp_path / "run"), "--batch-size", "5"]) == 2
    assert "--batch-size came too" in capsys.readouterr().err
    assert train(data_dir, tmp_path / "run") == 2
    assert "holds a run already" in capsys.readouterr().err
    assert main(["train", "--resume", str(tmp_path / "none")]) == 2


@pytest.mark.parametrize("name", MODELS)
def test_every_model_can_be_asked_for(name):
    model = build_model({**DEFAULTS, "model": name}, (1, 28, 28))
    assert model.loss(np.zeros((2, 1, 28, 28), np.uint8)).shape == (2, 10)


def test_model_options_reach_the_model():
    options = {"filters": [4, "pool"], "normalization": "batchnorm", "hidden_dims": [7], "dropout": 0.5}
    model = build_model({**DEFAULTS, "model": "ConvNet", **options}, (1, 8, 8))
    assert {name: p.shape for name, p in model.params.items() if name[0] == "W"} == {
        "W1": (4, 1, 3, 3),
        "W2": (64, 7),
        "W3": (7, 10),
    }
    assert len(model.bn_params) == 2
    assert build_model({**DEFAULTS, "model": "TwoLayerNet", "hidden_dims": [9]}, (4,)).params[
        "b1"
    ].shape == (9,)


def test_gradcheck(capsys):
    assert main(["gradcheck", "--model", "ThreeLayerConvNet"]) == 0
    assert "wrong: none" in capsys.readouterr().out


def test_gradcheck_finds_a_wrong_gradient(monkeypatch, capsys):
    original = MODELS["TwoLayerNet"].loss

    def loss(self, X, y=None):
        loss, grads = original(self, X, y)
        grads["b1"][3] *= 1.001
        return loss, grads

    monkeypatch.setattr(MODELS["TwoLayerNet"], "loss", loss)
    assert main(["gradcheck", "--model", "TwoLayerNet"]) == 1
    assert "wrong: TwoLayerNet" in capsys.readouterr().out


def test_download_says_what_failed(monkeypatch, tmp_path, capsys):
    from handgrad import data_utils

    toy = {"mirrors": ("http://127.0.0.1:9/",), "folder": "", "files": {"mnist.bin": "0" * 32}}
    monkeypatch.setitem(data_utils.SOURCES, "mnist", toy)
    assert main(["download", "mnist", "--data-dir", str(tmp_path)]) == 2
    assert "no mirror gave mnist.bin" in capsys.readouterr().err


def test_help(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert "handgrad train --data mnist" in said
    with pytest.raises(SystemExit):
        main(["train", "--model", "LeNet6"])
    assert "invalid choice: 'LeNet6'" in capsys.readouterr().err


def test_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "handgrad", "--version"], capture_output=True, text=True
    )
    assert done.stdout.startswith("handgrad ")


def test_import_loads_nothing_heavy_and_changes_nothing():
    code = """
import sys, numpy as np
before, errors = np.random.get_state()[1].copy(), np.geterr()
import handgrad, handgrad.models, handgrad.data_utils, handgrad.gradient_check, handgrad.vis_utils
heavy = {"matplotlib", "scipy", "tqdm", "pooch", "threadpoolctl", "torch"} & set(sys.modules)
assert not heavy, heavy
assert (np.random.get_state()[1] == before).all() and np.geterr() == errors
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_learning_rate_of_zero_is_not_the_default(data_dir, tmp_path):
    train(data_dir, tmp_path / "run", "--epochs", "1", "--learning-rate", "0", "--quiet")
    with open(tmp_path / "run" / "history.csv") as file:
        assert float(next(csv.DictReader(file))["learning_rate"]) == 0


def test_compare(data_dir, tmp_path, capsys):
    out = tmp_path / "versus"
    command = ["compare", "--vary", "update-rule", "sgd", "adam", "--seeds", "2", "--epochs", "2"]
    command += on_digits(data_dir)
    assert main([*command, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "update-rule sgd" in said
    assert f"folder: {out}" in said
    assert "| update-rule adam | 2 |" in (out / "table.md").read_text()
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((out / "runs").iterdir())) == 4


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        (["seed", "1", "2"], "expected an option of the run or the model"),
        (["learning-rate", "fast"], "invalid float"),
    ],
)
def test_compare_refuses(vary, message, capsys):
    try:
        code = main(["compare", "--vary", *vary])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert message in capsys.readouterr().err
