"""The examples in CONTRIBUTING.md run as they stand, with their own tests, and stay short."""

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("code", EXAMPLES, ids=["layer", "rule", "callback"])
def test_an_example_runs(code):
    names = {"__name__": "example"}
    exec(compile(code, "CONTRIBUTING.md", "exec"), names)
    (test,) = (f for name, f in names.items() if name.startswith("test_"))
    test()
    lines = [line for line in code.splitlines() if line and not line.startswith(("import", "from"))]
    assert len(lines) <= 25
