"""CSV files and DataFrames: what a column becomes, and one sentence for each that cannot."""

import gzip
import io
import re
import sys

import numpy as np
import pytest
from handgrad import Solver
from handgrad.data import tables
from handgrad.data_utils import load_csv, load_frame
from handgrad.models import Affine, Net

pd = pytest.importorskip("pandas")

N = 40


@pytest.fixture
def df():
    """Two kinds of flowers; the features lie far from 0."""
    rng = np.random.default_rng(0)
    kind = np.arange(N) % 2
    features = 100 + 5 * rng.standard_normal((N, 2)) + 20 * kind[:, None]
    table = pd.DataFrame(features, columns=["length", "width"])
    table["wild"] = rng.random(N) < 0.5
    table["kind"] = np.array(["iris", "rose"])[kind]
    return table


def test_a_frame_becomes_the_solvers_dict(df):
    data = load_frame(df, "kind", val=8, test=4, seed=1)
    assert [data[f"X_{part}"].shape for part in ("train", "val", "test")] == [(28, 3), (8, 3), (4, 3)]
    assert data["X_train"].dtype == np.float32
    assert data["class_names"] == ("iris", "rose")
    rows = {tuple(row): kind for *row, kind in df.astype({"wild": int}).itertuples(index=False)}
    for part in ("train", "val", "test"):
        for row, label in zip(data[f"X_{part}"], data[f"y_{part}"], strict=True):
            (kind,) = {k for values, k in rows.items() if np.allclose(values, row)}
            assert data["class_names"][label] == kind
    scaled = data["transform"](data["X_train"])
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(
        data["transform"](data["X_test"])[:, 0],
        (data["X_test"][:, 0] - data["X_train"][:, 0].mean()) / data["X_train"][:, 0].std(),
        rtol=1e-3,
        atol=1e-5,
    )


def test_a_solver_trains_on_it(df):
    data = load_frame(df, "kind", test=10)
    rule = dict(update_rule="adam", optim_config={"learning_rate": 0.1})
    solver = Solver(Net([Affine(2)], 3, seed=0), data, **rule, batch_size=10, verbose=False, seed=0)
    solver.train()
    assert solver.check_accuracy(data["X_test"], data["y_test"]) >= 0.9


@pytest.mark.parametrize(
    ("values", "kind", "names"),
    [
        (np.arange(N) % 3, "i", None),
        (np.arange(N) % 3 + 1, "i", ("1", "2", "3")),
        (np.arange(N) % 2 == 0, "i", ("False", "True")),
        (np.arange(N) / 7, "f", None),
        (pd.array(np.arange(N) % 2, "Int64"), "i", None),
        (pd.array(np.arange(N) / 7, "Float64"), "f", None),
        (pd.Categorical(np.array(list("ba"))[np.arange(N) % 2]), "i", ("a", "b")),
        (np.array(["b", "a"], object)[np.arange(N) % 2], "i", ("a", "b")),
        (np.array(["b", 7], object)[np.arange(N) % 2], "i", ("7", "b")),
    ],
)
def test_targets_of_all_kinds(df, values, kind, names):
    data = load_frame(df.drop(columns="kind").assign(goal=values), "goal")
    assert data["y_train"].dtype.kind == kind
    assert data.get("class_names") == names


def test_a_constant_column_becomes_zeros(df):
    data = load_frame(df.assign(length=7), "kind")
    np.testing.assert_array_equal(data["transform"](data["X_val"])[:, 0], 0)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_csv_is_read_as_the_frame_it_holds(df, tmp_path, monkeypatch, separator, packed):
    monkeypatch.setattr(tables, "MOST_CELLS", 28)  # seven rows at a time
    raw = df.to_csv(index=False, sep=separator).encode()
    path = tmp_path / "flowers.csv"
    path.write_bytes(gzip.compress(raw) if packed else raw)
    data, expected = load_csv(path, target="kind", val=0.2), load_frame(df, "kind", val=0.2)
    assert data.keys() == expected.keys()
    for key in set(data) - {"transform"}:
        np.testing.assert_array_equal(data[key], expected[key])


def test_classes_that_look_like_numbers_at_first(tmp_path, monkeypatch):
    """The first rows have the labels 1 and 2, a later one a label of letters."""
    monkeypatch.setattr(tables, "MOST_CELLS", 8)
    rows = [f"{n},{label}" for n, label in enumerate("1212121212xx")]
    (tmp_path / "a.csv").write_text("\n".join(["n,label", *rows]))
    assert load_csv(tmp_path / "a.csv", "label", val=2, test=1)["class_names"] == ("1", "2", "x")


# ---------------------------------------------------------------------------- mistakes

GAPS = pd.Series([1.0, np.nan, 2.0, np.nan] * (N // 4))
WRONG = {
    "no such column": (
        lambda df: df,
        "Kind",
        r"no column 'Kind', .* one of \['length', .* Did you mean 'k",
    ),
    "text": (
        lambda df: df,
        "length",
        r"column 'kind' holds str such as 'iris' in row 0, expected numbers; drop it, "
        r"df.drop\(columns='kind'\), or .*get_dummies\(df, columns=\['kind'\]\)",
    ),
    "a question mark": (
        lambda df: df.assign(width=["5.1"] * (N - 1) + ["?"]),
        "kind",
        r"column 'width' holds str such as '\?' in row 39, expected numbers",
    ),
    "dates": (
        lambda df: df.assign(day=pd.Timestamp("2020-01-01")),
        "kind",
        r"column 'day' holds datetime64.*, expected numbers",
    ),
    "complex numbers": (lambda df: df.assign(z=1j), "kind", "column 'z' holds complex128, expected"),
    "gaps": (
        lambda df: df.assign(width=GAPS),
        "kind",
        r"column 'width' lacks 20 of 40 values, the first in row 1, expected all; fill them, "
        r"df\['width'\] = df\['width'\].fillna\(.* or leave these rows out, df.dropna",
    ),
    "gaps among whole numbers": (
        lambda df: df.assign(width=GAPS.astype("Int64")),
        "kind",
        "column 'width' lacks 20 of 40 values",
    ),
    "gaps in the target": (
        lambda df: df.assign(kind=["rose", None] * (N // 2)),
        "kind",
        r"column 'kind' lacks 20 of 40 values, the first in row 1, expected all; leave these rows out",
    ),
    "gaps in a target of numbers": (lambda df: df.assign(kind=GAPS), "kind", "column 'kind' lacks 20"),
    "infinity": (
        lambda df: df.assign(width=np.inf),
        "kind",
        "column 'width' holds inf in row 0, .* float32",
    ),
    "too large": (lambda df: df.assign(width=1e300), "kind", "column 'width' holds 1e.300 in row 0"),
    "an infinite target": (
        lambda df: df.drop(columns="kind").assign(a=-np.inf),
        "a",
        "column 'a' holds -inf",
    ),
    "a date as target": (
        lambda df: df.assign(kind=pd.Timestamp("2020-01-01")),
        "kind",
        "'kind' holds date",
    ),
    "the same name twice": (
        lambda df: pd.concat([df, df[["width"]]], axis=1),
        "kind",
        "several columns 'width'",
    ),
    "no features": (
        lambda df: df[["kind"]],
        "kind",
        "40 rows and 0 columns besides 'kind', expected at",
    ),
    "no rows": (
        lambda df: df[:0],
        "kind",
        "0 rows and 3 columns besides 'kind', expected at least one",
    ),
}


@pytest.mark.parametrize(("change", "target", "message"), WRONG.values(), ids=WRONG)
def test_what_a_frame_cannot_hold(df, change, target, message):
    with pytest.raises(ValueError, match=f"^load_frame: .*{message}"):
        load_frame(change(df), target)


def test_no_frame(df):
    with pytest.raises(TypeError, match=r"df is a dict, expected a DataFrame \(split takes arrays\)"):
        load_frame(df.to_dict(), "kind")


def test_whole_numbers_that_are_quantities(df):
    prices = df.drop(columns="kind").assign(price=np.arange(N) * 1000)
    with pytest.raises(ValueError, match="class '0' has 1 example.*quantities, make floats of them"):
        load_frame(prices, "price")
    assert load_frame(prices.astype({"price": float}), "price")["y_train"].dtype == np.float32


BAD_CSV = {
    "empty": (b"", "No columns"),
    "names only": (b"a,b\n", "there are 0 rows"),
    "other names": (b"x,y\n1,2\n", r"no column 'b', expected target to be one of \['x', 'y'\]"),
    "a line that is longer": (b"a,b\n1,2\n1,2,3\n", "line 3"),
    "lines that are longer": (b"a,b\n1,2,3\n1,2,3\n", "more values than its first line has names"),
    "a line that is shorter": (b"a,b\n1,2\n1\n", "column 'b' lacks 1 of 2"),
    "a quote that is not closed": (b'a,"b\n1,2\n', "EOF inside string"),
    "zeros": (bytes(100), "."),
    "not UTF-8": (b"a,b\n\xff\xfe,2\n", "utf-8"),
    "a comma in a number": (b'a;b\n"1,5";2\n', "column 'a' holds str such as '1,5' in row 0"),
    "text in a late row": (b"a,b\n" + b"1,2\n" * 50 + b"x,2\n", "'a' holds str such as 'x' in row 50"),
    "a .gz that is cut": (gzip.compress(b"a,b\n1,2\n")[:-4], "not a whole .gz file"),
    "a .gz of noise": (b"\x1f\x8bxxxx", "not a whole .gz file"),
    "200,000 columns": (b"," * 200_000 + b"\n1\n", "200,001 columns, expected at most 100,000"),
    "gigabytes of zeros": (gzip.compress(bytes(2**24)) * 200, "more than 4,194,304 bytes"),
}


@pytest.mark.parametrize(("raw", "message"), BAD_CSV.values(), ids=BAD_CSV)
def test_a_damaged_csv_is_named(tmp_path, monkeypatch, raw, message):
    monkeypatch.setattr(tables, "MOST_CELLS", 16)
    monkeypatch.setattr(tables, "LARGEST_CSV", 2**22)
    (tmp_path / "own.csv").write_bytes(raw)
    with pytest.raises(ValueError, match=f"own.csv: .*{message}"):
        load_csv(tmp_path / "own.csv", target="b")


def test_rows_that_are_short_of_thousands_of_columns_take_no_memory(tmp_path, monkeypatch):
    """100,000 rows of 2000 columns would be 1.6 GB; the first rows are enough to refuse them."""
    seen = []
    features = tables._features
    monkeypatch.setattr(
        tables, "_features", lambda df, *more: seen.append(df.size) or features(df, *more)
    )
    (tmp_path / "own.csv").write_bytes(
        b",".join(b"c%d" % k for k in range(2000)) + b"\n" + b"1\n" * 100_000
    )
    with pytest.raises(ValueError, match="own.csv: column 'c1' lacks"):
        load_csv(tmp_path / "own.csv", target="c0")
    assert len(seen) == 1
    assert seen[0] <= tables.MOST_CELLS


def test_an_absent_file_and_a_folder(tmp_path):
    for path, error in ((tmp_path / "absent.csv", FileNotFoundError), (tmp_path, IsADirectoryError)):
        with pytest.raises(error, match=re.escape(str(path))):
            load_csv(path, target="a")


def test_without_pandas_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    for load in (load_csv, load_frame):
        with pytest.raises(ImportError, match=r"pip install 'handgrad\[tables\]'"):
            load(io.BytesIO(), "a")


def test_a_table_that_cannot_be_divided_is_named(tmp_path):
    path = tmp_path / "flowers.csv"
    path.write_text("length,kind\n1,iris\n2,iris\n3,rose\n4,iris\n")
    with pytest.raises(ValueError, match="flowers.csv: split: class 'rose' has 1 example"):
        load_csv(path, "kind", val=1, test=1)


def test_a_target_that_is_no_name_of_a_column():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [0, 1]})
    with pytest.raises(ValueError, match=r"load_frame: there is no column \['a'\], expected target"):
        load_frame(frame, ["a"])
