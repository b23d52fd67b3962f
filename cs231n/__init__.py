"""CS231n's notebooks as they stand: the course's names and conventions, with handgrad behind them.

    import handgrad.cs231n
    handgrad.cs231n.use(2019)  # the year of the edition

After these two lines `from cs231n.layers import *` finds handgrad, and so do all other imports in the
cells of Assignment 2, and those on recurrent layers of Assignment 3. Nothing is computed here: a module
of the course is a list of handgrad's names.
Where the two differ, the course's meaning holds:

    dropout   p is the probability of dropping before 2018, and of keeping since
    numbers   the first weights of a net come from NumPy's global generator, so that
              `np.random.seed(231)` means what it says; so do dropout's masks without a seed, and the
              Solver's batches. All else in handgrad leaves that generator alone.
    caches    hold what the course says they hold, so that a function of handgrad works beside one of
              the student's

A function of the student's takes the place of handgrad's, in nets as well as in sandwiches:

    import cs231n.layers
    cs231n.layers.affine_backward = my_affine_backward

The files:

    modules    which names the course has where
    layers     the pairs under the course's conventions
    windows    its im2col
    nets       its nets
    training   its Solver
    checking   its gradient checks
    data       its loaders
    pictures   its grids of images
    replacing  functions of the student's
    stand_ins  packages that the cells import and that may be missing
"""

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

from . import replacing, stand_ins
from .modules import namespaces

__all__ = ["use"]

EDITIONS = range(2016, 2027)
TOLD = set()  # folders that were spoken of already


def use(year, mine=None, only=None):
    """Let `import cs231n` find handgrad, as the edition of a year has it.

    year  of the edition, 2016 to 2026
    mine  a Python file of yours, or a module: its functions that bear the name of a layer, a loss or an
          update rule take the place of handgrad's
    only  one of their names or a list of them: the others stay handgrad's
    Called again, it begins anew: with another year, a changed file, or no function of yours.
    """
    if not isinstance(year, int) or year not in EDITIONS:
        raise ValueError(
            f"handgrad.cs231n.use: year = {year!r}, expected a whole number from {EDITIONS[0]} to "
            f"{EDITIONS[-1]}, the year of your edition."
        )
    for name in [name for name in sys.modules if name.split(".")[0] == "cs231n"]:
        del sys.modules[name]
    folder = _folder_of_the_course()
    for name, content in (namespaces(year) | stand_ins.captions(year, folder)).items():
        _install(name, content, folder)
    stand_ins.provide(year)
    if mine is not None:
        names = replacing.take(mine, only)
        print(f"handgrad.cs231n: {', '.join(names)} yours, all else from handgrad.")


def _folder_of_the_course():
    """A folder cs231n with code on Python's path, such as the one beside a notebook, or None."""
    spec = importlib.machinery.PathFinder.find_spec("cs231n")
    places = list(spec.submodule_search_locations or ()) if spec else []
    folder = Path(places[0]).resolve() if places else None
    if folder is None or folder == Path(__file__).parent or not any(folder.glob("*.py")):
        return None  # no folder, this one, or one of data alone
    if folder not in TOLD:
        TOLD.add(folder)
        print(
            f"handgrad.cs231n: {folder} is there, too; what handgrad has comes from handgrad, "
            "other modules from that folder."
        )
    return folder


def _install(name, content, folder):
    """Put a module with this content into sys.modules and into its parent."""
    is_package = content is None
    module = replacing.CourseModule(name, "Names of CS231n, found in handgrad.")
    spec = importlib.machinery.ModuleSpec(name, None, is_package=is_package)
    vars(module).update(content or {}, __spec__=spec, _given=content or {})
    if is_package:
        inside = name.split(".")[1:]
        vars(module)["__path__"] = [str(folder.joinpath(*inside))] if folder else []
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        vars(sys.modules[parent])[child] = module
