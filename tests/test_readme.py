"""The README holds what it shows: its example is the file that runs, its files are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_is_the_file():
    (code,) = re.findall(r"```python\n(from handgrad.*?)```", README, re.DOTALL)
    assert code.strip() in (ROOT / "examples" / "first_net.py").read_text()


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    """With two epochs in place of eight, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    code = (ROOT / "examples" / "first_net.py").read_text().replace("num_epochs=8", "num_epochs=2")
    exec(compile(code, "first_net.py", "exec"), {})
    said = capsys.readouterr().out
    assert float(said.split("test accuracy:")[1]) > 0.6
    assert (tmp_path / "curves.png").exists()


@pytest.mark.parametrize("target", re.findall(r"\]\((?!http)([^)]+)\)", README))
def test_links_lead_somewhere(target):
    assert (ROOT / target).exists()


def test_every_module_has_its_line():
    modules = {p.name for p in ROOT.glob("*.py")} - {"setup.py", "__init__.py", "__main__.py"}
    missing = [name for name in modules if f"`{name}`" not in README]
    assert not missing
