"""Data of one's own in tables: CSV files and pandas DataFrames. They need the extra `tables`."""

import io
import warnings

import numpy as np

from ..engine.errors import suggestion
from ..engine.extras import need
from .arrays import split
from .files import most_bytes, named, opened
from .transforms import column_standardizer

__all__ = ["load_csv", "load_frame"]

LARGEST_CSV = 2**28  # bytes when unpacked, of a .gz file
MOST_COLUMNS = 100_000
MOST_CELLS = 2**22  # that are read at a time


def load_frame(df, target, **parts):
    """The Solver's dict from a pandas DataFrame with an example a row.

    target  the column with what is to be predicted. Text, truth values and whole numbers are classes
            and become labels 0 to C - 1, see `split`; floats are quantities, for regression, and stay
    parts   val, test, seed, stratify: as in `split`

    The other columns are the features, X (N, D) float32; `transform` standardizes each of them with the
    mean and the deviation of the training part.
    Raises ValueError, with the column's name and the cure, if a value is missing or a feature is no
    number; ImportError without pandas.
    """
    pd = need("load_frame", "pandas", "tables")
    if not isinstance(df, pd.DataFrame):
        came = type(df).__name__
        raise TypeError(f"load_frame: df is a {came}, expected a DataFrame (split takes arrays).")
    with named("load_frame"):
        X, y = _features(df, target, pd), _targets(df[target], pd)
    return _divided(X, y, parts)


def load_csv(path, target, **parts):
    """The Solver's dict from a CSV file, plain or .gz, whose first line has the names of the columns.

    target, parts: as in `load_frame`.  A comma, a semicolon or a tab stands between two values,
    whichever the first line has most of; the text is UTF-8.
    Raises ValueError, with the file's name and the cure, if the file is damaged, a value is missing or
    a feature is no number; OSError if the file cannot be read; ImportError without pandas.
    """
    pd = need("load_csv", "pandas", "tables")
    with opened(path, most_bytes(path, LARGEST_CSV)) as file:
        raw = file.read()
    features, targets = [], []
    with named(path), warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        for df in _frames(raw, pd):
            features.append(_features(df, target, pd))
            targets.append(df[target])
        X, y = np.concatenate(features), _targets(pd.concat(targets), pd)
        return _divided(X, y, parts)


def _divided(X, y, parts):
    data = split(X, y, **parts)
    return data | {"transform": column_standardizer(data["X_train"])}


def _frames(raw, pd):
    """The table as DataFrames of some thousand rows each, so that a column of text costs no memory."""
    first = raw.partition(b"\n")[0]
    separator = max(b",", b";", b"\t", key=first.count)
    columns = first.count(separator) + 1
    if columns > MOST_COLUMNS:
        raise ValueError(f"it has {columns:,} columns, expected at most {MOST_COLUMNS:,}.")
    settings = dict(sep=separator.decode(), index_col=False, low_memory=False)
    try:
        yield from pd.read_csv(io.BytesIO(raw), chunksize=max(1, MOST_CELLS // columns), **settings)
    except pd.errors.ParserWarning as warning:
        raise ValueError("it has lines with more values than its first line has names.") from warning


def _features(df, target, pd):
    """All columns but the target as X (N, D) float32."""
    if not np.isscalar(target) or target not in df.columns:
        raise ValueError(
            f"there is no column {target!r}, expected target to be one of {_shown(df.columns)}."
            + suggestion(target, df.columns)
        )
    if not df.columns.is_unique:
        name = df.columns[df.columns.duplicated()][0]
        raise ValueError(f"there are several columns {name!r}, expected a name for each.")
    columns = df.drop(columns=target)
    if not columns.size:
        raise ValueError(
            f"there are {len(df)} rows and {columns.shape[1]} columns besides {target!r}, expected at "
            "least one of each."
        )
    X = np.empty(columns.shape, np.float32)
    for k, name in enumerate(columns):
        X[:, k] = _numbers(columns[name], pd)
    return X


def _numbers(column, pd):
    """A column of numbers (N,), none of them missing."""
    name = column.name
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_complex_dtype(column):
        raise ValueError(
            f"column {name!r} holds {column.dtype}{_example(column, pd)}, expected numbers; drop it, "
            f"df.drop(columns={name!r}), or make numbers of it, pandas.get_dummies(df, "
            f"columns=[{name!r}]), and call load_frame(df, ...)."
        )
    _refuse_missing(column, f"df[{name!r}].fillna(df[{name!r}].median())")
    with np.errstate(over="ignore"):  # what overflows is found here
        values = column.to_numpy(np.float32)
    if not np.all(np.isfinite(values)):
        at = int(np.argmin(np.isfinite(values)))
        raise ValueError(
            f"column {name!r} holds {column.iloc[at]} in row {column.index[at]}, expected numbers that "
            "float32 can hold."
        )
    return values


def _example(column, pd):
    """The first value that is no number, in words; '' if there is none."""
    wrong = column[pd.to_numeric(column, errors="coerce").isna() & column.notna()]
    return f" such as {str(wrong.iloc[0])!r:.40} in row {wrong.index[0]}" if len(wrong) else ""


def _targets(column, pd):
    """The target column (N,): text as objects, truth values, int64 or float32."""
    types = pd.api.types
    _refuse_missing(column, None)
    if types.is_bool_dtype(column):
        return column.to_numpy(bool)
    if types.is_integer_dtype(column):
        return column.to_numpy(np.int64)
    if types.is_float_dtype(column):
        return _numbers(column, pd)
    if not (types.is_string_dtype(column) or types.is_object_dtype(column) or _is_category(column, pd)):
        raise ValueError(
            f"column {column.name!r} holds {column.dtype}, expected text, whole numbers or floats to "
            "be predicted."
        )
    return np.array([str(value) for value in column], object)


def _is_category(column, pd):
    return isinstance(column.dtype, pd.CategoricalDtype)


def _refuse_missing(column, filled):
    """Raise ValueError if a value of the column is missing; filled: code that fills it, or None."""
    missing = column.isna()
    if missing.any():
        row, name = missing.idxmax(), column.name
        fill = f"fill them, df[{name!r}] = {filled}, or " if filled else ""
        raise ValueError(
            f"column {name!r} lacks {missing.sum()} of {len(column)} values, the first in row {row}, "
            f"expected all; {fill}leave these rows out, df.dropna(subset=[{name!r}]), and call "
            "load_frame(df, ...)."
        )


def _shown(names, most=20):
    names = list(names)
    return f"{names[:most]}{' ...' if len(names) > most else ''}"
