"""What the studies of digits.mat share: a fully connected net on 16x16 digits, as a Solver."""

import functools

from handgrad import Solver
from handgrad.data_utils import load_digits_mat
from handgrad.models import FullyConnectedNet

load = functools.cache(load_digits_mat)
QUICK = dict(num_epochs=2)


def build(
    seed,
    hidden_dims=(100,),
    model=None,
    update_rule="sgd_momentum",
    learning_rate=0.02,
    num_epochs=100,
    batch_size=50,
    augment=None,
    stop=None,
    schedule=None,
    **options,
):
    """options: of FullyConnectedNet, or of the given model."""
    if model is None:
        options.setdefault("weight_scale", "kaiming")
        net = FullyConnectedNet(list(hidden_dims), 256, seed=seed, **options)
    else:
        net = model(input_dim=(1, 16, 16), seed=seed, **options)
    return Solver(
        net,
        load(),
        update_rule=update_rule,
        optim_config={"learning_rate": learning_rate},
        schedule=schedule,
        num_epochs=num_epochs,
        batch_size=batch_size,
        augment=augment,
        stop=stop,
        verbose=False,
        seed=seed,
    )
