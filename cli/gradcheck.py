"""handgrad gradcheck: each model's written gradients against numerical ones."""

import dataclasses

import numpy as np

from ..models import (
    CELLS,
    MODELS,
    SEQUENCE_MODELS,
    Embedding,
    Positions,
    Residual,
    RMSNorm,
    SelfAttention,
    TemporalAffine,
)

__all__ = ["add", "run"]

ALL_MODELS = MODELS | SEQUENCE_MODELS
# What each model is checked on: the examples, and the arguments of its constructor.
IMAGE = {"input_dim": (3, 16, 16)}
WORDS = {"vocab_size": 7, "hidden_dim": 5, "dropout": 0.3}
CHECKED = (
    (
        "TwoLayerNet",
        "images",
        {"input_dim": 768, "hidden_dim": 20, "weight_scale": "xavier", "reg": 0.1},
    ),
    (
        "FullyConnectedNet",
        "images",
        {
            "hidden_dims": [20, 15],
            "input_dim": 768,
            "normalization": "batchnorm",
            "dropout": 0.3,
            "weight_scale": "xavier",
        },
    ),
    ("LeNet5", "images", IMAGE),
    (
        "ThreeLayerConvNet",
        "images",
        IMAGE | {"num_filters": 4, "hidden_dim": 20, "weight_scale": "kaiming"},
    ),
    (
        "ConvNet",
        "images",
        IMAGE
        | {
            "filters": (6, "pool", 8, "pool"),
            "hidden_dims": (20,),
            "normalization": "batchnorm",
            "dropout": 0.3,
        },
    ),
    *(("LanguageModel", "text", WORDS | {"cell": cell}) for cell in CELLS),
    ("GPT", "text", dict(vocab_size=7, context=6, width=8, depth=1, heads=2, dropout=0.3)),
    ("SequenceClassifier", "sequences", WORDS | {"input_dim": 6, "num_classes": 3, "cell": "gru"}),
    (
        "WordModel",
        "text",
        {
            "layers": [
                Embedding(7, 6),
                Positions(),
                Residual([RMSNorm(), SelfAttention(2, causal=True)]),
                TemporalAffine(7),
            ],
            "input_dim": 6,
        },
    ),
)


def add(commands):
    """The parser of the command."""
    parser = commands.add_parser(
        "gradcheck", help="check the written gradients of every model against numerical ones"
    )
    parser.add_argument("--model", choices=ALL_MODELS, help="only this one (default: all)")
    parser.set_defaults(run=run)


def run(args):
    """Check each model on a small batch; exit code 1 if a gradient is wrong."""
    examples = _examples(np.random.default_rng(0))
    reports = [
        _report(name, options, *examples[kind])
        for name, kind, options in CHECKED
        if args.model in (None, name)
    ]
    print("\n\n".join(map(str, reports)))
    wrong = [report.title for report in reports if not report]
    largest = max(report.error for report in reports)
    print(f"\nlargest relative error: {largest:.1e}; wrong: {', '.join(wrong) or 'none'}")
    return 1 if wrong else 0


def _report(name, options, X, y):
    """The report on a model; its title tells the cell, if there is one."""
    from ..gradient_check import check_model

    report = check_model(ALL_MODELS[name](seed=0, **options), X, y)
    cell = options.get("cell")
    return dataclasses.replace(report, title=f"{name} with {cell}") if cell else report


def _examples(rng):
    """X and y of each kind."""
    images, words = rng.standard_normal((4, 3, 16, 16)), rng.integers(7, size=(3, 7))
    following = words[:, 1:].copy()
    following[1, 4:] = -1  # does not count
    return {
        "images": (images, np.array([3, 1, 4, 1])),
        "text": (words[:, :-1], following),
        "sequences": (words[:, :-1], np.array([2, 0, 1])),
    }
