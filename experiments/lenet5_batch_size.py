"""LeNet-5 on MNIST: the report's batch sizes."""

from . import lenet5
from .study import Study, main

STUDY = Study(
    "lenet5_batch_size",
    "LeNet-5 on MNIST: batch size, learning rate 0.0015, 10 epochs",
    """As for the learning rates; the gradient is a sum, so that the step grows with the batch (0.0015
at batch 256 is 0.384 for a mean). The report took 13, 9, 6 and 5 minutes an epoch.""",
    lenet5.build,
    {str(size): dict(learning_rate=0.0015, batch_size=size) for size in (32, 64, 128, 256)},
    reported={"32": "95.83", "64": "95.72", "128": "95.45", "256": "94.84"},
    quick=lenet5.QUICK,
)

if __name__ == "__main__":
    raise SystemExit(main(STUDY))
