"""The course's magics in IPython: autoreload leaves the course's modules alone and keeps up with a file
of the student's.
"""

import os
import sys

import numpy as np
import pytest

pytest.importorskip("IPython")

from IPython.core.interactiveshell import InteractiveShell

MINE = """
def relu_backward(dout, cache):
    return {factor} * dout * (cache > 0)
"""


@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before, state = set(sys.modules), np.random.get_state()
    shell = InteractiveShell()

    def run(cell):
        result = shell.run_cell(cell)
        assert result.success, result.error_before_exec or result.error_in_exec
        return shell.user_ns

    yield run
    shell.history_manager.end_session()
    for name in set(sys.modules) - before:
        if name.startswith(("cs231n", "student")):
            del sys.modules[name]
    np.random.set_state(state)


def test_autoreload(shell, tmp_path):
    mine = tmp_path / "student_layers.py"
    mine.write_text(MINE.format(factor=1))
    shell("import handgrad.cs231n\nhandgrad.cs231n.use(2019)")
    shell("from cs231n.classifiers.fc_net import *\n%load_ext autoreload\n%autoreload 2")
    shell("import student_layers, cs231n.layers\nmodule = cs231n.layers")
    shell("""
cs231n.layers.relu_backward = student_layers.relu_backward
np.random.seed(0)
model = FullyConnectedNet([8], 4, 3, weight_scale=1)
X, y = np.random.randn(9, 4), np.arange(9) % 3
before = model.loss(X, y)[1]['W1']
""")
    shell("%reload_ext autoreload\n%autoreload 2")
    mine.write_text(MINE.format(factor=2.5))
    later = mine.stat().st_mtime + 10
    os.utime(mine, (later, later))
    names = shell("after = model.loss(X, y)[1]['W1']")
    np.testing.assert_allclose(names["after"], 2.5 * names["before"], rtol=1e-5)
    names = shell("import cs231n.layers\nsame = cs231n.layers is module\n%autoreload\nnot_called = 1")
    assert names["same"]
    assert sys.modules["cs231n.layers"] is names["module"]
