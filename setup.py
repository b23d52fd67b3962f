"""The package `handgrad` is the root of the repository itself: its files lie at the top level."""

from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
VERSION = (HERE / "__init__.py").read_text().split('__version__ = "')[1].split('"')[0]

OPTIONAL = {
    "tables": ["pandas"],
    "images": ["Pillow"],
    "sklearn": ["scikit-learn"],
    "tensorboard": ["tensorboardX", "tensorboard"],
    "dask": ["distributed"],
    "mpi": ["mpi4py", "mpich"],
    "notebook": ["jupyterlab"],
    "docs": [
        "sphinx",
        "myst-nb",
        "nbclient",
        "ipykernel",
        "pydata-sphinx-theme",
        "sphinx-mathjax-offline",
        "scikit-learn",  # the reference shows the estimators
    ],
}

setup(
    name="handgrad",
    version=VERSION,
    description="Neural networks whose every gradient is written by hand, fast, in pure NumPy",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    package_dir={"handgrad": "."},
    packages=[
        "handgrad",
        "handgrad.causes",
        "handgrad.cli",
        "handgrad.cs231n",
        "handgrad.data",
        "handgrad.engine",
        "handgrad.models",
    ],
    package_data={"handgrad.data": ["sonnets.txt"]},
    install_requires=["numpy>=2.0", "scipy", "matplotlib", "tqdm", "threadpoolctl", "pooch"],
    extras_require={
        "test": ["pytest", "hypothesis", "ruff", "build"],
        **OPTIONAL,
        "all": sorted({package for packages in OPTIONAL.values() for package in packages}),
        "bench": ["torch==2.13.0", "scikit-learn"],
    },
    entry_points={"console_scripts": ["handgrad = handgrad.cli:main"]},
)
