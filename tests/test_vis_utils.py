"""Pictures are drawn without a display; what they show is checked where it can be counted."""

import numpy as np
import pytest
from handgrad import Solver, vis_utils
from handgrad.augment import flip
from handgrad.models import TwoLayerNet


@pytest.fixture
def solver(blobs):
    model = TwoLayerNet(5, 8, 3, seed=0)
    solver = Solver(model, blobs, num_epochs=3, batch_size=20, verbose=False, seed=0)
    solver.train()
    return solver


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG")


def test_curves_of_one_solver(solver, tmp_path):
    figure = vis_utils.plot_curves(solver)
    losses, accuracies = figure.axes
    assert len(losses.lines[0].get_ydata()) == len(solver.loss_history)
    assert [line.get_label() for line in accuracies.lines] == ["train", "validation"]
    np.testing.assert_array_equal(accuracies.lines[1].get_ydata(), solver.val_acc_history)
    assert is_png(vis_utils.save(figure, tmp_path / "new" / "curves.png"))


def test_a_notebook_gets_a_picture():
    assert vis_utils.plot_bands({})._repr_png_().startswith(b"\x89PNG")


def test_curves_of_several_solvers(solver):
    losses, accuracies = vis_utils.plot_curves({"sgd": solver, "adam": solver}).axes
    assert [line.get_label() for line in losses.lines] == ["sgd", "adam"]
    assert len(accuracies.lines) == 4


def test_bands_are_drawn_in_the_range_that_matters():
    accuracy = {"a": {"accuracy": [[0.1, 0.9, 0.95], [0.1, 0.92, 0.97]]}}
    (axes,) = vis_utils.plot_bands(accuracy).axes
    assert 0.85 < axes.get_ylim()[0] < 0.91
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.1, 0.91, 0.96])
    losses = {"a": {"loss": [[2.0, 1.0, 0.001]]}}
    (axes,) = vis_utils.plot_bands(losses).axes
    assert axes.get_yscale() == "log"
    vis_utils.plot_bands({})


def test_smoothing_is_a_running_mean():
    np.testing.assert_allclose(vis_utils._smoothed([1, 2, 3, 6], 2), [1.5, 2.5, 4.5])


def test_visualize_grid():
    Xs = np.random.default_rng(0).standard_normal((5, 4, 3, 3))
    Xs[1] = 7
    grid = vis_utils.visualize_grid(Xs)
    assert grid.shape == (2 * 5 - 1, 3 * 4 - 1, 3)
    assert (grid.min(), grid.max()) == (0, 255)
    np.testing.assert_array_equal(grid[:4, 4:7], 0)
    first = (Xs[0] - Xs[0].min()) / (Xs[0].max() - Xs[0].min())
    np.testing.assert_allclose(grid[:4, :3], 255 * first)


def test_lists_are_drawn_as_arrays():
    X = np.random.default_rng(0).random((3, 1, 4, 4))
    grid = vis_utils.visualize_grid(X.transpose(0, 2, 3, 1).tolist())
    np.testing.assert_array_equal(grid, vis_utils.visualize_grid(X.transpose(0, 2, 3, 1)))
    assert len(vis_utils.show_filters(X.tolist()).axes) == 8
    (axes,) = vis_utils.show_confusion([[3, 1], [0, 2]]).axes
    assert [text.get_text() for text in axes.texts] == ["3", "1", "2"]
    titles = [
        axes.get_title() for axes in vis_utils.show_mistakes(X.tolist(), [0, 1, 1], [0, 1, 0]).axes
    ]
    assert titles[0] == "0, not 1"


def test_a_title_for_each_image():
    with pytest.raises(
        ValueError, match="show_images: 1 titles came, expected one for each of 2 images"
    ):
        vis_utils.show_images(np.zeros((2, 1, 4, 4)), ["a"])


def test_confusion_matrix_counts():
    counts = vis_utils.confusion_matrix([0, 0, 1, 2, 2], [0, 1, 1, 2, 0], 3)
    np.testing.assert_array_equal(counts, [[1, 1, 0], [0, 1, 0], [1, 0, 1]])
    texts = vis_utils.show_confusion(counts, "abc").axes[0].texts
    assert len(texts) == 5


@pytest.mark.parametrize("wrong", [-1, 3])
def test_labels_that_are_no_class_are_not_counted_as_another(wrong):
    with pytest.raises(ValueError, match="confusion_matrix: predicted holds labels .*expected 0 to 2"):
        vis_utils.confusion_matrix([0, 1], [0, wrong], 3)


def test_mistakes_are_named():
    X = np.random.default_rng(0).random((4, 1, 6, 6))
    figure = vis_utils.show_mistakes(X, [0, 1, 2, 2], [0, 2, 2, 1], ["cat", "dog", "frog"])
    titles = [axes.get_title() for axes in figure.axes]
    assert [t for t in titles if t] == ["frog, not dog", "dog, not frog"]


def test_long_names_have_room(tmp_path):
    names = ["automobile", "dog"]
    figure = vis_utils.show_mistakes(np.zeros((2, 1, 6, 6)), [0, 1], [1, 0], names)
    assert [axes.get_title() for axes in figure.axes][:2] == [
        "dog,\nnot automobile",
        "automobile,\nnot dog",
    ]
    (axes,) = vis_utils.show_confusion(np.eye(2, dtype=int), names).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == names
    assert {label.get_rotation() for label in axes.get_xticklabels()} == {45}
    (axes,) = vis_utils.show_confusion(np.eye(2, dtype=int)).axes
    assert [(label.get_text(), label.get_rotation()) for label in axes.get_yticklabels()] == [
        ("0", 0),
        ("1", 0),
    ]


def test_a_name_for_each_class():
    with pytest.raises(ValueError, match="show_confusion: 1 class_names came, .* each of 2 classes"):
        vis_utils.show_confusion(np.eye(2, dtype=int), ["cat"])
    with pytest.raises(ValueError, match="show_mistakes: 1 class_names came, .* each of 3 classes"):
        vis_utils.show_mistakes(np.zeros((2, 1, 6, 6)), [0, 1], [2, 0], ["cat"])


def test_augmented_images_stand_beside_what_they_were():
    X = np.random.default_rng(0).random((2, 1, 6, 6))
    figure = vis_utils.show_augmented(X, flip, versions=3)
    assert [axes.get_title() for axes in figure.axes] == ["before", "", "", ""] * 2
    first = figure.axes[4].images[0].get_array()
    np.testing.assert_allclose(first, (X[1, 0] - X[1].min()) / (X[1].max() - X[1].min()))


@pytest.mark.parametrize(
    "draw",
    [
        lambda: vis_utils.show_images(np.zeros((3, 3, 5, 5), np.uint8)),
        lambda: vis_utils.show_images(np.zeros((0, 1, 5, 5))),
        lambda: vis_utils.show_filters(np.random.default_rng(0).random((6, 1, 5, 5))),
        lambda: vis_utils.show_filters(np.random.default_rng(0).random((4, 8, 3, 3))),
        lambda: vis_utils.show_mistakes(np.zeros((2, 1, 5, 5)), [1, 1], [1, 1]),
    ],
)
def test_each_can_be_saved(draw, tmp_path):
    assert is_png(vis_utils.save(draw(), tmp_path / "picture.png"))
