"""`use`: which names are where, years, a folder of the same name, numbers from the global generator."""

import importlib
import sys

import numpy as np
import pytest
from handgrad import cs231n
from handgrad.cs231n import stand_ins

LAYERS = {
    f"{layer}_{way}"
    for layer in ("affine", "relu", "batchnorm", "layernorm", "dropout", "spatial_batchnorm",
                  "spatial_groupnorm")
    for way in ("forward", "backward")
} | {
    "np", "softmax_loss", "svm_loss", "batchnorm_backward_alt", "conv_forward_naive",
    "conv_backward_naive", "max_pool_forward_naive", "max_pool_backward_naive",
}  # fmt: skip
FAST = {"conv_forward_fast", "conv_backward_fast", "conv_forward_im2col", "conv_backward_strides",
        "max_pool_forward_fast", "max_pool_backward_reshape"}  # fmt: skip
SANDWICHES = {"affine_relu_forward", "conv_relu_backward", "conv_bn_relu_forward",
              "conv_relu_pool_backward"}  # fmt: skip
NAMES = {
    "layers": LAYERS,
    "layer_utils": LAYERS | SANDWICHES,
    "fast_layers": FAST | {"im2col_indices", "np"},
    "im2col": {"get_im2col_indices", "im2col_indices", "col2im_indices"},
    "optim": {"sgd", "sgd_momentum", "rmsprop", "adam"},
    "solver": {"Solver"},
    "gradient_check": {"eval_numerical_gradient", "eval_numerical_gradient_array",
                       "eval_numerical_gradient_blobs", "eval_numerical_gradient_net",
                       "grad_check_sparse"},
    "data_utils": {"load_pickle", "load_CIFAR_batch", "load_CIFAR10", "get_CIFAR10_data",
                   "load_models", "load_tiny_imagenet"},
    "vis_utils": {"visualize_grid", "vis_grid", "vis_nn"},
    "classifiers.fc_net": LAYERS | SANDWICHES | {"TwoLayerNet", "FullyConnectedNet"},
    "classifiers.cnn": LAYERS | FAST | SANDWICHES | {"ThreeLayerConvNet"},
}  # fmt: skip


@pytest.mark.parametrize("year", [2016, 2019, 2021, 2026])
@pytest.mark.parametrize("module", NAMES)
def test_a_star_import_brings_the_courses_names(notebook, year, module):
    namespace = notebook(year)(f"from cs231n.{module} import *")
    assert NAMES[module] <= set(namespace)
    assert all(namespace[name].__doc__ for name in NAMES[module] if name != "np")


def test_modules_are_found_by_every_form_of_import(notebook):
    run = notebook(2019)
    run("import cs231n.classifiers.fc_net\nfrom cs231n import layers, classifiers\nimport cs231n as c")
    run("assert c.layers is layers and classifiers.fc_net is cs231n.classifiers.fc_net")
    run("import importlib.util as u\nassert u.find_spec('cs231n.layers') and u.find_spec('cs231n')")
    with pytest.raises(ModuleNotFoundError, match="cs231n.transformer_layers"):
        run("from cs231n.transformer_layers import *")


@pytest.mark.parametrize("year", [2015, 2027, "2019", 2019.0, None])
def test_a_wrong_year(year):
    with pytest.raises(ValueError, match="expected a whole number from 2016 to 2026"):
        cs231n.use(year)


@pytest.mark.parametrize(
    ("year", "arguments", "said"),
    [
        (2017, "dropout_keep_ratio=0.5", "a word of 2021 and later"),
        (2017, "normalization='batchnorm'", "a word of 2018 and later"),
        (2019, "use_batchnorm=True", "a word of 2016 and 2017"),
        (2019, "dropout_keep_ratio=0.5", "a word of 2021 and later"),
        (2020, "dropout_keep_ratio=0.5", "a word of 2021 and later"),
        (2021, "dropout=0.5", "a word of 2016 to 2020"),
        (2024, "drop=0.5", "no argument drop"),
        (2019, "dropout=0", "dropout = 0, expected .*It is the probability of keeping"),
        (2024, "dropout_keep_ratio=1.5", "dropout_keep_ratio = 1.5"),
        (2016, "dropout=1", "p = 1, expected"),
    ],
)  # fmt: skip
def test_words_of_another_edition(notebook, year, arguments, said):
    run = notebook(year)
    with pytest.raises((TypeError, ValueError), match=said):
        run(f"from cs231n.classifiers.fc_net import *\nFullyConnectedNet([5], 4, 3, {arguments})")


def test_another_year_takes_over(notebook):
    old, new = notebook(2017), notebook(2024)
    new("from cs231n.layers import dropout_forward")
    zeros = new(
        "import numpy as np\nx = np.ones(10000)\n"
        "zeros = (dropout_forward(x, {'mode': 'train', 'p': 0.9, 'seed': 0})[0] == 0).mean()"
    )
    assert zeros["zeros"] == pytest.approx(0.1, abs=0.02)
    assert "cs231n" not in old("pass")  # it holds only what its cells import
    notebook(2016)
    new("from cs231n.layers import dropout_forward")
    with pytest.raises(ValueError, match="p"):
        new("dropout_forward(x, {'mode': 'train', 'p': 1})")


# ---------------------------------------------------------------------------- a folder of the same name


def folder_of_the_course(path):
    (path / "cs231n" / "classifiers").mkdir(parents=True)
    for name in ("__init__", "layers", "classifiers/__init__"):
        (path / "cs231n" / f"{name}.py").write_text("affine_forward = 'of the folder'\n")
    (path / "cs231n" / "features.py").write_text("from cs231n.layers import affine_forward\n")
    (path / "cs231n" / "classifiers" / "softmax.py").write_text("from ..layers import relu_forward\n")


def test_a_folder_cs231n_does_not_shadow_it(notebook, tmp_path, monkeypatch, capsys):
    """Also if it was imported before; what handgrad lacks comes from the folder."""
    folder_of_the_course(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.import_module("cs231n.features").affine_forward == "of the folder"
    run = notebook(2019)
    said = capsys.readouterr().out
    assert str(tmp_path / "cs231n") in said
    assert "comes from handgrad" in said
    cell = run("from cs231n.layers import *\nfrom cs231n.features import affine_forward as f\n"
               "from cs231n.classifiers.softmax import relu_forward as r")  # fmt: skip
    assert cell["f"] is cell["affine_forward"]
    assert cell["r"] is cell["relu_forward"]
    notebook(2020)
    assert not capsys.readouterr().out  # said once


def test_a_folder_of_data_is_no_such_folder(notebook, small_cifar, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path)
    notebook(2019)
    assert not capsys.readouterr().out


def test_handgrads_own_folder_is_no_such_folder(notebook, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(cs231n.__path__[0]).removesuffix("cs231n"))
    notebook(2019)
    assert not capsys.readouterr().out


# ---------------------------------------------------------------------------- the global generator


NETS = {
    "two layers": "TwoLayerNet(4, 5, 3)",
    "dropout": "FullyConnectedNet([5, 6], 4, 3, {word}=0.5, dtype=np.float64)",
    "seed": "FullyConnectedNet([5, 6], 4, 3, {word}=0.5, dtype=np.float64, seed=3)",
}


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("year", [2017, 2019, 2021])
def test_a_seed_for_numpy_is_one_for_weights_and_masks(notebook, year, net):
    run = notebook(year)
    run("from cs231n.classifiers.fc_net import *\nX, y = np.random.randn(6, 4), np.arange(6) % 3")
    make = NETS[net].format(word="dropout_keep_ratio" if year >= 2021 else "dropout")
    cell = run(f"""
def losses(seed, more):
    np.random.seed(seed)
    model = {make}
    np.random.seed(more)
    return model.params['W1'].tolist(), [model.loss(X, y)[0] for _ in range(3)]
one, again, other, more = losses(1, 2), losses(1, 2), losses(3, 2), losses(1, 4)
""")
    assert cell["one"] == cell["again"]
    assert cell["one"][0] == cell["more"][0] != cell["other"][0]
    drawn_anew = len(set(cell["one"][1])) == 3
    assert drawn_anew == (net == "dropout")
    assert (cell["one"][1] != cell["more"][1]) == (net == "dropout")


def test_a_net_without_dropout_leaves_the_generator_alone(notebook):
    notebook(2019)("""
from cs231n.classifiers.fc_net import *
model = FullyConnectedNet([5], 4, 3, normalization='batchnorm')
np.random.seed(5)
model.loss(np.ones((3, 4)), np.array([0, 1, 2]))
model.loss(np.ones((3, 4)))
assert np.random.rand() == np.random.RandomState(5).rand()
""")


def test_dropout_without_a_seed(notebook):
    cell = notebook(2021)("""
from cs231n.layers import *
def mask(**seed):
    return dropout_forward(np.ones(50), {'mode': 'train', 'p': 0.5, **seed})[0].tolist()
np.random.seed(7)
one, two = mask(), mask()
np.random.seed(7)
again = mask()
state = np.random.get_state()[1].tolist()
assert mask(seed=123) == mask(seed=123) != one == again != two
assert np.random.get_state()[1].tolist() == state
""")
    assert set(cell["one"]) == {0, 2}


# ---------------------------------------------------------------------------- stand-ins


def test_images_are_read_as_the_cells_do(notebook, tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    image.fromarray(pixels).save(tmp_path / "kitten.png")
    cell = notebook(2018)("""
from scipy.misc import imread, imresize
kitten = imread('kitten.png')
small = imresize(kitten, (2, 3))
""")
    np.testing.assert_array_equal(cell["kitten"], pixels)
    assert cell["small"].shape == (2, 3, 3)
    if "imageio" not in sys.modules:
        cell = notebook(2019)("from imageio import imread\nkitten = imread('kitten.png')")
        np.testing.assert_array_equal(cell["kitten"], pixels)


def test_the_first_cell_of_a_colab_notebook_runs(notebook, capsys):
    notebook(2024)("from google.colab import drive\ndrive.mount('/content/drive')")
    assert "/content/drive is not mounted" in capsys.readouterr().out


def test_what_is_there_is_left_alone(notebook, monkeypatch):
    module = type(sys)("imageio")
    module.imread = "theirs"
    monkeypatch.setitem(sys.modules, "imageio", module)
    notebook(2019)
    assert sys.modules["imageio"].imread == "theirs"
    stand_ins.provide(2019)
    assert sys.modules["imageio"].imread == "theirs"
