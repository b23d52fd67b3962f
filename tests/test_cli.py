"""The command line, as a person meets it."""

import csv
import json
import platform
import subprocess
import sys
import time

import numpy as np
import pytest
from handgrad.cli import images, main
from handgrad.cli import train as train_command
from handgrad.cli.settings import build_model
from handgrad.engine.checkpoints import last_epoch
from handgrad.models import MODELS


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
    assert "\nclass        examples   recall precision  taken most often for\n0 " in said
    assert f"run folder: {out}" in said
    assert [line.split()[0] for line in (out / "report.txt").read_text().splitlines()[2:]] == list(
        "0123456789"
    )
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


def test_resume_completes_a_history_that_a_kill_cut_short(data_dir, tmp_path):
    """The checkpoint of an epoch is written first; a kill may come before its history is."""
    train(data_dir, tmp_path / "run", "--epochs", "3", "--quiet")
    history = tmp_path / "run" / "history.csv"
    whole = history.read_text()
    history.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    assert main(["train", "--resume", str(tmp_path / "run"), "--quiet"]) == 0
    assert history.read_text() == whole


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


def of_shape(*shape):
    return {"X_train": np.zeros((2, *shape), np.uint8)}


@pytest.mark.parametrize("name", MODELS)
def test_every_model_can_be_asked_for(name):
    model = build_model({**images.DEFAULTS, "model": name}, of_shape(1, 28, 28))
    assert model.loss(np.zeros((2, 1, 28, 28), np.uint8)).shape == (2, 10)


def test_model_options_reach_the_model():
    options = {"filters": [4, "pool"], "normalization": "batchnorm", "hidden_dims": [7], "dropout": 0.5}
    model = build_model({**images.DEFAULTS, "model": "ConvNet", **options}, of_shape(1, 8, 8))
    assert {name: p.shape for name, p in model.params.items() if name[0] == "W"} == {
        "W1": (4, 1, 3, 3),
        "W2": (64, 7),
        "W3": (7, 10),
    }
    assert len(model.bn_params) == 2


@pytest.mark.parametrize("width", [{"hidden_dim": 9}, {"hidden_dims": [9]}])
def test_the_width_of_two_layers(width):
    model = build_model({**images.DEFAULTS, "model": "TwoLayerNet", **width}, of_shape(4))
    assert model.params["b1"].shape == (9,)


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


# ---------------------------------------------------------------------------- nothing lost


def command(*args, limit=None):
    """Run handgrad in a process of its own; limit: no file may be larger, in bytes."""
    code = (
        "import resource, sys\n"
        f"limit = {limit!r}\n"
        "if limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
        "from handgrad.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def refused(capsys, *words):
    """One line on stderr, with these words and without a traceback."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("handgrad: ")
    for word in words:
        assert word in line
    return line


WRONG_SETTINGS = [
    ("{}", "holds {}, expected a dict with"),
    ("[]", "holds []"),
    ("3", "holds 3"),
    ("{", "Expecting property name"),
    ("[" * 100_000, "recursion"),
    ("\xff", "utf-8"),
    ({"model": "LeNet6"}, "unknown model 'LeNet6'; expected one of"),
    ({"model": ["LeNet5"]}, "unknown model"),
    ({"data": "mnits"}, "unknown data 'mnits'"),
    ({"data_dir": 3}, "data_dir = 3"),
    ({"epochs": "many"}, "num_epochs = 'many'"),
    ({"batch_size": None}, "batch_size = None"),
    ({"batch_size": 99}, "batch_size = 99, but there are 40"),
    ({"update_rule": 3}, "unknown update_rule 3"),
    ({"learning_rate": "fast"}, "optim_config"),
    ({"lr_decay": []}, "lr_decay = []"),
    ({"seed": "x"}, "settings.json"),
    ({"hidden_dims": 3}, "settings.json"),
    ({"hidden_dims": ["x"]}, "settings.json"),
    ({"weight_scale": {}}, "settings.json"),
    ({"nonsense": 1}, "unknown keys ['nonsense']"),
]


@pytest.mark.parametrize(("content", "message"), WRONG_SETTINGS)
def test_wrong_settings_are_one_line_that_names_the_file(data_dir, tmp_path, capsys, content, message):
    out = tmp_path / "run"
    train(data_dir, out, "--epochs", "1", "--quiet")
    before = (out / "checkpoint.npz").read_bytes()
    capsys.readouterr()
    path = out / "settings.json"
    if isinstance(content, dict):
        content = json.dumps({**json.loads(path.read_text()), **content})
    path.write_bytes(content.encode("latin-1"))
    assert main(["train", "--resume", str(out)]) == 2
    refused(capsys, "settings.json: ", message)
    assert (out / "checkpoint.npz").read_bytes() == before


def test_a_damaged_checkpoint_is_one_line(data_dir, tmp_path, capsys):
    out = tmp_path / "run"
    train(data_dir, out, "--epochs", "1", "--quiet")
    capsys.readouterr()
    (out / "checkpoint.npz").write_bytes((out / "checkpoint.npz").read_bytes()[:-100])
    assert main(["train", "--resume", str(out)]) == 2
    refused(capsys, "checkpoint.npz: not a whole checkpoint")


def test_a_file_in_place_of_the_folder(data_dir, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert train(data_dir, out) == 2
        refused(capsys, str(tmp_path / "file"))
        assert main(["compare", "--vary", "epochs", "1", *on_digits(data_dir), "--out", str(out)]) == 2
        refused(capsys, str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_may_not_be_written_to(data_dir, tmp_path, capsys, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(tmp_path / "run" / ".run-1.json"))

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    assert train(data_dir, tmp_path / "run") == 2
    refused(capsys, "Permission denied.")
    assert not (tmp_path / "run").exists()


def test_a_full_disk_says_what_is_safe(data_dir, tmp_path):
    """The histories grow until the checkpoint no longer fits; what was whole stays whole."""
    out = tmp_path / "run"
    options = ["--out", out, "--epochs", "4000", "--hidden-dims", "2", "--quiet", "--batch-size", "40"]
    process = command("train", *on_digits(data_dir), *options, limit=33_000)
    said, error = process.communicate()
    assert (process.returncode, said) == (2, "")
    (line,) = error.splitlines()
    assert line.startswith(f"handgrad: {out}")
    assert "File too large. The last whole checkpoint is of epoch " in line
    assert f"`handgrad train --resume {out}` goes on from there." in line
    epoch = last_epoch(out / "checkpoint.npz")
    assert f"epoch {epoch}:" in line
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    assert main(["train", "--resume", str(out), "--epochs", str(epoch + 1), "--quiet"]) == 0


def test_the_first_files_do_not_fit(data_dir, tmp_path):
    process = command("train", *on_digits(data_dir), "--out", tmp_path / "run", limit=50)
    error = process.communicate()[1]
    assert process.returncode == 2
    assert error == f"handgrad: {tmp_path / 'run' / 'settings.json'}: File too large.\n"


def test_stopped_by_the_user_it_says_what_is_safe(data_dir, tmp_path, capsys, monkeypatch):
    original = train_command._write_history

    def write(path, history):
        original(path, history)
        if len(history) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(train_command, "_write_history", write)
    assert train(data_dir, tmp_path / "run", "--quiet") == 130
    refused(capsys, "stopped by you. The last whole checkpoint is of epoch 2: `handgrad train --resume")


def waiting_for(path, process):
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def test_two_trainings_in_one_folder(data_dir, tmp_path, capsys):
    """The second is refused, also as a resumption; once the first is killed, it goes on."""
    out = tmp_path / "run"
    process = command("train", *on_digits(data_dir), "--out", out, "--epochs", "1000000", "--quiet")
    try:
        waiting_for(out / "checkpoint.npz", process)
        assert train(data_dir, out) == 2
        refused(capsys, f"{out} is in use by another handgrad")
        assert main(["train", "--resume", str(out)]) == 2
        refused(capsys, f"{out} is in use by another handgrad")
    finally:
        process.kill()
        process.communicate()
    left = out / f".checkpoint-{platform.node()}-{process.pid}-abc.npz"
    left.write_text("half")
    epoch = last_epoch(out / "checkpoint.npz")
    assert main(["train", "--resume", str(out), "--epochs", str(epoch + 1), "--quiet"]) == 0
    assert last_epoch(out / "checkpoint.npz") == epoch + 1
    assert not left.exists()


def test_a_mistake_leaves_no_folder(data_dir, tmp_path, capsys):
    assert train(data_dir, tmp_path / "run", "--batch-size", "99") == 2
    refused(capsys, "batch_size = 99")
    assert not (tmp_path / "run").exists()
