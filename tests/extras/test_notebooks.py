"""What a notebook shows: pictures as pictures, and no warning of a package that handgrad uses."""

import os

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

CODE = """
from handgrad.data_utils import default_data_dir, spiral
from handgrad.vis_utils import show_images

assert default_data_dir().name == "handgrad"
show_images(spiral()[0][:2].reshape(2, 1, 1, 2))
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_figure_is_a_picture_and_nothing_is_said_on_stderr(monkeypatch, tmp_path):
    for name in os.environ:
        if name.startswith(("COV_", "HANDGRAD_")):
            monkeypatch.delenv(name)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)])
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3", resources=resources).execute()
    (output,) = notebook.cells[0].outputs
    assert output.data["image/png"]
