"""LeNet-5 on MNIST: the report's two long runs."""

from . import lenet5
from .study import Study, main

STUDY = Study(
    "lenet5_fifty_epochs",
    "LeNet-5 on MNIST: 50 epochs",
    """The report's two long runs, read as its short ones; the second is its best. Three seeds.""",
    lenet5.build,
    {
        "0.002, batch 32": dict(learning_rate=0.002, batch_size=32, num_epochs=50),
        "0.0015, batch 64": dict(learning_rate=0.0015, batch_size=64, num_epochs=50),
    },
    reported={"0.002, batch 32": "98.13", "0.0015, batch 64": "98.17"},
    quick=lenet5.QUICK,
    seeds=3,
)

if __name__ == "__main__":
    raise SystemExit(main(STUDY))
