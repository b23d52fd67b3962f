"""The page on data: its blocks run one after another, in a folder with small files, as a reader's."""

import re
from pathlib import Path

import numpy as np
import pytest
from handgrad.data_utils import DATA_SETS

pandas = pytest.importorskip("pandas")
Image = pytest.importorskip("PIL.Image")

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def write_files(folder):
    """Flowers in a table, and pets in pictures."""
    rng = np.random.default_rng(0)
    kind = np.arange(60) % 2
    columns = {
        "length": rng.random(60) + kind,
        "width": rng.random(60),
        "kind": np.array(["iris", "rose"])[kind],
    }
    pandas.DataFrame(columns).to_csv(folder / "flowers.csv", index=False)
    for n, name in enumerate(("cat", "dog")):
        (folder / "pets" / name).mkdir(parents=True)
        for k in range(20):
            pixels = rng.integers(100 + 100 * n, size=(40, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "pets" / name / f"{k}.png")


def test_the_blocks_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    names, keys = {}, []
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "docs/data.md", "exec"), names)
        keys.append(set(names["data"]))
    said = capsys.readouterr().out
    assert "('iris', 'rose')" in said
    assert "(32, 3, 32, 32) ('cat', 'dog')" in said
    assert re.search(r"accuracy .*\nclass .*\ncat +2 .*\ndog +2 ", said)
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)[:5]
    assert set.union(*keys) == set(re.findall(r"`(\w+)`", " ".join(rows)))


def test_the_table_names_every_set():
    for load in DATA_SETS.values():
        assert f"`{load.__name__}()`" in PAGE


def test_its_figures():
    """CIFAR-10 in bytes and as float32; the page rounds to megabytes."""
    size = 60_000 * 3 * 32 * 32
    words = " ".join(PAGE.split())
    assert f"takes {size / 1e6:.0f} MB as bytes and {4 * size / 1e6:.0f} MB as float32" in words
