"""A missing optional package is told with its cure."""

import math

import pytest
from handgrad.engine.extras import need


def test_a_module_that_is_there():
    assert need("load_csv", "math", "tables") is math


def test_a_missing_one_says_what_to_install():
    expected = r"load_csv needs no_such_package.*pip install 'handgrad\[tables\]'"
    with pytest.raises(ImportError, match=expected):
        need("load_csv", "no_such_package", "tables")
