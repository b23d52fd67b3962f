"""What tests with MPI share: mpiexec of the wheel, which stands beside Python."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def mpiexec():
    """mpiexec(n, *arguments of Python) -> the finished job. It has three minutes."""
    pytest.importorskip("mpi4py")
    beside = Path(sys.executable).with_name("mpiexec")
    path = str(beside) if beside.exists() else shutil.which("mpiexec")
    if path is None:
        pytest.skip("needs mpiexec: pip install mpich")

    def run(n, *arguments, **options):
        command = [path, "-n", str(n), sys.executable, *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=180, stdin=subprocess.DEVNULL, **options
        )

    return run
