"""The short form of the attacks in tests/faults, each module in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
needs_linux = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(),
    reason="looks at processes and memory as only Linux shows them",
)


def attacked(*arguments):
    command = [sys.executable, "-m", "tests.faults", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)


@needs_linux
@pytest.mark.parametrize("module", ["numbers", "files", "disk", "kill", "neighbours", "time_passes"])
def test_short_form(module):
    done = attacked(module)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 failed" in done.stdout


@needs_linux
def test_an_unknown_attack_is_refused():
    done = attacked("numbrs")
    assert done.returncode == 2
    assert "no attack is called ['numbrs']; expected some of" in done.stderr
