"""LeNet-5 on MNIST: the report's learning rates."""

from . import lenet5
from .study import Study, main

STUDY = Study(
    "lenet5_learning_rate",
    "LeNet-5 on MNIST: learning rate, batch 32, 10 epochs",
    """Plain SGD, ReLU and max pooling, Xavier initialisation, all 60,000 images, the parameters of the
last epoch. The report's rates only make sense for a gradient summed over the batch (0.002 at
batch 32 is 0.064 for a mean), and so they are read. Its printed code draws weights from N(0, 1)
and stops before the gradient of the loss, so that its own setting can't be run to the letter. It
took 13 minutes an epoch.""",
    lenet5.build,
    {str(rate): dict(learning_rate=rate, batch_size=32) for rate in (0.001, 0.0015, 0.002, 0.005)},
    reported={"0.001": "95.58", "0.0015": "95.83", "0.002": "96.15", "0.005": "96.93"},
    quick=lenet5.QUICK,
)

if __name__ == "__main__":
    raise SystemExit(main(STUDY))
