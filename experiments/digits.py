"""What the studies of digits.mat share: a fully connected net on 16x16 digits, as a Solver."""

import functools
import math

from handgrad import Solver
from handgrad.data_utils import load_digits_mat
from handgrad.models import FullyConnectedNet

from .study import first

load = functools.cache(load_digits_mat)
QUICK = dict(num_epochs=2, num_training=200)


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
    trainable=None,
    validate_every=None,
    solver=Solver,
    data=load,
    num_training=None,
    **options,
):
    """data: a function that gives the images, of which each part has the first num_training; trainable:
    the letter that names of parameters which are trained begin with; options: of FullyConnectedNet, or
    of the given model.
    """
    images = first(data(), num_training)
    if model is None:
        options.setdefault("weight_scale", "kaiming")
        inputs = math.prod(images["transform"](images["X_train"][:1]).shape)
        net = FullyConnectedNet(list(hidden_dims), inputs, seed=seed, **options)
    else:
        net = model(input_dim=(1, 16, 16), seed=seed, **options)
    return solver(
        net,
        images,
        update_rule=update_rule,
        optim_config={"learning_rate": learning_rate},
        schedule=schedule,
        num_epochs=num_epochs,
        batch_size=batch_size,
        augment=augment,
        stop=stop,
        validate_every=validate_every,
        trainable=trainable and [name for name in net.params if name.startswith(trainable)],
        verbose=False,
        seed=seed,
    )
