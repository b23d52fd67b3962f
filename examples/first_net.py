"""The example of the README: a convolutional net learns digits; the curves go to curves.png."""

from handgrad import Solver
from handgrad.data_utils import load_digits
from handgrad.models import Affine, Conv, MaxPool, Net, ReLU
from handgrad.vis_utils import plot_curves, save

data = load_digits()  # 8000 images of digits, drawn in matplotlib's fonts
layers = [Conv(8, 5), ReLU(), MaxPool(2), Affine(50), ReLU(), Affine(10)]
model = Net(layers, input_dim=(1, 28, 28), seed=0)
print(model)
solver = Solver(
    model,
    data,
    update_rule="adam",
    optim_config={"learning_rate": 1e-3},
    lr_decay=0.9,
    num_epochs=8,
    batch_size=50,
    print_every=0,
    seed=0,
)
solver.train()
print("test accuracy:", solver.check_accuracy(data["X_test"], data["y_test"]))
save(plot_curves(solver), "curves.png")
