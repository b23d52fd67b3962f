"""Twenty lines that train a net: the README's example, as a file."""

from handgrad import Solver
from handgrad.data_utils import load_digits
from handgrad.models import FullyConnectedNet
from handgrad.vis_utils import plot_curves, save

data = load_digits()  # 8000 images of digits, drawn by handgrad itself
model = FullyConnectedNet([100, 50], input_dim=28 * 28, weight_scale="kaiming", seed=0)
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
