"""handgrad gradcheck: each model's written gradients against numerical ones."""

from ..models import MODELS

__all__ = ["add", "run"]

# The nets for images of 3 x 16 x 16.
CHECKED_NETS = {
    "TwoLayerNet": {"input_dim": 768, "hidden_dim": 20, "weight_scale": "xavier", "reg": 0.1},
    "FullyConnectedNet": {
        "hidden_dims": [20, 15],
        "input_dim": 768,
        "normalization": "batchnorm",
        "dropout": 0.3,
        "weight_scale": "xavier",
    },
    "LeNet5": {"input_dim": (3, 16, 16)},
    "ThreeLayerConvNet": {
        "input_dim": (3, 16, 16),
        "num_filters": 4,
        "hidden_dim": 20,
        "weight_scale": "kaiming",
    },
    "ConvNet": {
        "filters": (6, "pool", 8, "pool"),
        "hidden_dims": (20,),
        "input_dim": (3, 16, 16),
        "normalization": "batchnorm",
        "dropout": 0.3,
    },
}


def add(commands):
    """The parser of the command."""
    parser = commands.add_parser(
        "gradcheck", help="hold every model's written gradients against numerical ones"
    )
    parser.add_argument("--model", choices=MODELS, help="only this one (default: all)")
    parser.set_defaults(run=run)


def run(args):
    """Check each model on a small batch; exit code 1 if a gradient is wrong."""
    import numpy as np

    from ..gradient_check import check_model

    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((4, 3, 16, 16)), np.array([3, 1, 4, 1])
    reports = [
        check_model(MODELS[name](seed=0, **options), X, y)
        for name, options in CHECKED_NETS.items()
        if args.model in (None, name)
    ]
    print("\n\n".join(map(str, reports)))
    wrong = [report.title for report in reports if not report]
    largest = max(report.error for report in reports)
    print(f"\nlargest relative error: {largest:.1e}; wrong: {', '.join(wrong) or 'none'}")
    return 1 if wrong else 0
