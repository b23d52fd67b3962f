"""Language models beside PyTorch's, from the same weights with the same batches: the same losses."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def experiments(real_data, monkeypatch):
    """The checkout's folder `experiments`, which is not part of the installed package."""
    monkeypatch.syspath_prepend(ROOT)


def test_quick(tmp_path, capsys):
    from experiments.study import PAGE
    from experiments.torch_language_models import CELLS, NAME, main

    before = PAGE.read_text()
    main(["--quick", "--folder", str(tmp_path)])
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if "**" in line]
    assert [row[1].strip() for row in rows] == list(CELLS)
    assert (tmp_path / f"{NAME}.png").read_bytes().startswith(b"\x89PNG")
    assert PAGE.read_text() == before


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_both_sides_train_alike(cell):
    """Adam, clipping, order of batches and validation: any difference would show after eight steps."""
    from experiments.torch_language_models import train

    pair = train(cell, seed=3, count=200, width=16, epochs=2)
    assert len(pair.ours) == 2
    assert pair.ours[1] < pair.ours[0] - 0.02
    np.testing.assert_allclose(pair.ours, pair.theirs, rtol=2e-5)


def test_the_interval_is_students():
    from experiments.torch_language_models import compared

    theirs = np.array([1.0, 1.2])  # 1.1 +- 12.706 * 0.1
    assert compared(np.array([2.3]), theirs) == "-0.1706 to 2.3706 | yes"
    assert compared(np.array([2.4]), theirs).endswith("no")
    assert compared(np.array([2.4]), theirs[:1]) == "- | -"
