"""Settings of the docs site:  python -m sphinx -W --keep-going -b html docs docs/_build/html

Every notebook and every {code-cell} is executed, and an error in one ends the build. Nothing is
fetched, neither now nor by the pages: MathJax comes from a Python package, as one file.
"""

import importlib.util
import sys
from pathlib import Path

import handgrad

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "handgrad"
author = "the authors of handgrad"
version = release = handgrad.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "docstrings",
    "reference_pages",
    "hidden_answers",
    "links",
]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]

# ---------------------------------------------------------------------------- notebooks

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 240  # seconds for a cell
nb_merge_streams = True
nb_custom_formats = {".ipynb": ["hidden_answers.read", {}]}
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3

# ---------------------------------------------------------------------------- reference

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "none"
add_module_names = False

# ---------------------------------------------------------------------------- looks

html_theme = "pydata_sphinx_theme"
html_title = "handgrad"
smartquotes = False
# tex-svg.js draws formulas without fonts, which some browsers refuse to load from a file.
_mathjax = Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent
html_static_path = ["static", str(_mathjax / "static" / "mathjax" / "tex-svg.js")]
mathjax_path = "tex-svg.js"
html_sidebars = {"index": [], "start": []}
html_css_files = ["handgrad.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
copyright = "the authors of handgrad, MIT licence"
