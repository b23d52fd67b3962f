"""Digits: how wide, how deep?"""

from . import digits
from .study import Study, main

STUDY = Study(
    "digits_width_and_depth",
    "Digits: hidden width and depth",
    """Fully connected nets with ReLU on 5000 images of digits.mat, 100 epochs of momentum. The report
has 92.8 % with one hidden layer after 100 epochs, and above 95 % with deeper nets within 2000
epochs. In its own code ReLU's gradient tests y < 0, which is never true, so that the gradient
passed unhindered; here it does not.""",
    digits.build,
    {
        "no hidden layer": dict(hidden_dims=()),
        "10": dict(hidden_dims=(10,)),
        "30": dict(hidden_dims=(30,)),
        "100": dict(hidden_dims=(100,)),
        "300": dict(hidden_dims=(300,)),
        "100, 100": dict(hidden_dims=(100, 100)),
        "100, 100, 100": dict(hidden_dims=(100, 100, 100)),
        "300, 200, 100": dict(hidden_dims=(300, 200, 100)),
    },
    reported={"100": "92.8", "100, 100": "above 95"},
    quick=digits.QUICK,
)

if __name__ == "__main__":
    raise SystemExit(main(STUDY))
