"""Parts of a data set, drawn class by class, and .npz files: good, wrong, damaged and hostile."""

import io
import os
import struct
import zipfile
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
from handgrad import Solver
from handgrad.data_utils import load_npz, split
from handgrad.models import Affine, Net
from hypothesis import given

PARTS = ("train", "val", "test")


def numbered(y):
    """Examples that are their own numbers."""
    return np.arange(len(y), dtype=float)[:, None]


def members(data):
    """The numbers of the examples in each part."""
    return [data.get(f"X_{part}", np.empty((0, 1)))[:, 0].astype(int) for part in PARTS]


# ---------------------------------------------------------------------------- parts


@given(
    sizes=st.lists(st.integers(2, 40), min_size=1, max_size=6),
    val=st.floats(0.05, 0.4),
    test=st.floats(0.05, 0.4),
    seed=st.integers(0, 99),
)
def test_each_class_has_its_share_of_each_part(sizes, val, test, seed):
    """Whatever the classes' sizes: every example in one part, and the shares to within two examples."""
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    N = len(y)
    if min(round(val * N), round(test * N)) < 1 or min(sizes) * (1 - val - test) < 1.5:
        return
    data = split(numbered(y), y, val, test, seed)
    assert sorted(np.concatenate(members(data))) == list(range(N))
    for part, index in zip(PARTS, members(data), strict=True):
        np.testing.assert_array_equal(data[f"y_{part}"], y[index])
        assert list(index) == sorted(index)
        for k, size in enumerate(sizes):
            assert abs(np.sum(y[index] == k) - Fraction(size * len(index), N)) < 2
    assert [len(index) for index in members(data)[1:]] == [round(val * N), round(test * N)]


def test_shares_worked_by_hand():
    """70, 20 and 10 examples with parts of 10 and 10: 56 7 7, 16 2 2, 8 1 1, whatever the seed."""
    y = np.repeat(["ant", "bee", "cat"], [70, 20, 10])
    for seed in range(20):
        data = split(numbered(y), y, val=0.1, test=10, seed=seed)
        counts = [np.bincount(data[f"y_{part}"]).tolist() for part in PARTS]
        assert counts == [[56, 16, 8], [7, 2, 1], [7, 2, 1]]
    assert data["class_names"] == ("ant", "bee", "cat")


def test_what_cannot_be_shared_equally_falls_to_any_class():
    """Ten classes of four, and a part of one example: each class gives it sometimes."""
    y = np.arange(40) % 10
    given = [int(split(numbered(y), y, 0, 1, seed)["y_test"][0]) for seed in range(100)]
    assert set(given) == set(range(10))


def test_the_seed_chooses_the_parts():
    y = np.arange(60) % 3
    one, same, other = (members(split(numbered(y), y, seed=s))[1].tolist() for s in (0, 0, 1))
    assert one == same != other


def test_without_classes_any_example_may_be_in_any_part():
    """Floats have no classes, and with stratify=False labels have none."""
    seen = set()
    for seed in range(200):
        y = np.linspace(0, 1, 5) if seed % 2 else np.arange(5)
        parts = members(split(numbered(y), y, 1, 1, seed, stratify=bool(seed % 2)))
        seen.add((int(parts[1][0]), int(parts[2][0])))
    assert len(seen) == 20
    y = np.linspace(0, 1, 10, dtype=np.float32)
    data = split(numbered(y), y, 0.2, 0.2)
    assert data["y_train"].dtype == np.float32
    assert "class_names" not in data


def test_a_part_of_size_0_is_left_out():
    assert sorted(split(np.ones((5, 2)), [0, 0, 1, 1, 1], val=0, test=0)) == ["X_train", "y_train"]
    assert "X_val" not in split(np.ones((5, 2)), [0, 0, 1, 1, 1], val=0, test=1)


@pytest.mark.parametrize(
    ("y", "labels", "names"),
    [
        ([0, 2, 1, 0, 2, 1], [0, 2, 1, 0, 2, 1], None),
        ([1, 3, 2, 1, 3, 2], [0, 2, 1, 0, 2, 1], ("1", "2", "3")),
        ([-1, 1, -1, 1, -1, 1], [0, 1, 0, 1, 0, 1], ("-1", "1")),
        ([True, False] * 3, [1, 0] * 3, ("False", "True")),
        (["no", "yes"] * 3, [0, 1] * 3, ("no", "yes")),
        (np.array(["no", "yes"] * 3, object), [0, 1] * 3, ("no", "yes")),
        (np.array([1, 0] * 3, np.uint8), [1, 0] * 3, None),
    ],
)
def test_labels_of_all_kinds(y, labels, names):
    data = split(np.ones((6, 2)), y, val=0, test=0)
    assert data["y_train"].dtype == np.int64
    np.testing.assert_array_equal(data["y_train"], labels)
    assert data.get("class_names") == names


def test_rows_of_targets_stay_rows():
    y = np.eye(3, dtype=int)[np.arange(30) % 3]
    assert split(np.ones((30, 2)), y)["y_train"].shape == (24, 3)
    assert split(np.ones((30, 2)), y / 2)["y_val"].shape == (3, 3)


def test_bytes_are_standardized_and_floats_stay():
    rng = np.random.default_rng(0)
    X, y = rng.integers(256, size=(40, 1, 2, 2), dtype=np.uint8), np.arange(40) % 2
    data = split(X, y)
    assert data["X_train"].dtype == np.uint8
    scaled = data["transform"](data["X_train"])
    assert (scaled.mean(), scaled.std()) == (pytest.approx(0, abs=1e-6), pytest.approx(1, rel=1e-6))
    assert "transform" not in split(X / 255, y)
    alike = split(np.full((40, 1, 2, 2), 7, np.uint8), y)
    np.testing.assert_array_equal(alike["transform"](alike["X_val"]), 0)


def test_a_solver_trains_on_it(blobs):
    names = np.array(["one", "two", "three"])[blobs["y_train"]]
    data = split(blobs["X_train"], names)
    rule = dict(update_rule="adam", optim_config={"learning_rate": 0.1})
    solver = Solver(Net([Affine(3)], 5, seed=0), data, **rule, batch_size=20, verbose=False, seed=0)
    solver.train()
    assert solver.check_accuracy(data["X_test"], data["y_test"]) > 0.8


FEW = np.repeat([0, 1, 2], [8, 8, 1])
WRONG = {
    "too much": (dict(val=0.6, test=0.5), r"val = 0.6 and test = 0.5 take 22 of 20 examples, .* least"),
    "all": (dict(val=10, test=10), "take 20 of 20 examples"),
    "too few for the share": (dict(val=0.02), r"val = 0.02 of 20 examples is none; expected a larger"),
    "a truth value": (dict(val=True), "val = True, expected a share below 1, such as 0.1, or a number"),
    "negative": (dict(test=-1), "test = -1, expected"),
    "a whole as a float": (dict(test=1.0), "test = 1.0, expected"),
    "not a number": (dict(test=float("nan")), "test = nan, expected"),
    "infinite": (dict(test=float("inf")), "test = inf, expected"),
    "text": (dict(val="10%"), "val = '10%', expected"),
    "a class of one": (
        dict(y=[*["a"] * 10, *["b"] * 9, "c"]),
        "class 'c' has 1 example; expected at least 2 of each class, .*leave the class out",
    ),
    "classes of one": (
        dict(y=np.arange(20)),
        "class 0 has 1 example, and so have 19 others; expected .* quantities, make floats",
    ),
    "a class that is not trained on": (
        dict(y=np.arange(20) // 2, val=10, test=9),
        "class . has 2 examples, and val and test leave none of them to train on; expected smaller",
    ),
    "fewer labels": (dict(y=np.zeros(19, int)), r"X has shape \(20, 2\) and y \(19,\), expected"),
    "a label each in a box": (dict(y=np.zeros((20, 1, 1))), r"y \(20, 1, 1\), expected"),
    "a missing label": (dict(y=[*["a"] * 19, None]), r"y\[19\] = None, expected all labels to be text"),
    "complex labels": (dict(y=np.ones(20, complex)), "y has dtype complex128 .* expected labels"),
    "rows of text": (dict(y=np.full((20, 2), "a")), r"y has dtype <U1 and shape \(20, 2\), expected"),
    "a table": (dict(X=np.full((20, 2), "a")), "X has dtype <U1, expected numbers .*load_frame"),
    "a single row": (dict(X=np.ones(20)), r"X has shape \(20,\)"),
    "ragged rows": (dict(X=[[1], [2, 3]] * 10), "X has rows of unequal length, expected equal ones"),
    "ragged targets": (dict(y=[[1], [2, 3]] * 10), "y has rows of unequal length"),
    "a negative seed": (dict(seed=-1), "seed = -1, expected a whole number from 0 up"),
    "text as the seed": (dict(seed="a"), "seed = 'a', expected a whole number"),
    "nothing": (dict(X=np.ones((0, 2)), y=[]), r"N at least 1"),
}


@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG)
def test_what_split_refuses(changes, message):
    arguments = dict(X=np.ones((20, 2)), y=np.arange(20) % 2) | changes
    with pytest.raises(ValueError, match=f"split: .*{message}"):
        split(**arguments)


def test_one_of_a_class_is_enough_if_there_are_no_parts():
    assert len(split(np.ones((3, 1)), [0, 1, 2], val=0, test=0)["X_train"]) == 3
    assert len(split(np.ones((3, 1)), [0, 1, 2], val=1, test=1, stratify=False)["X_train"]) == 1


# ---------------------------------------------------------------------------- .npz


def test_x_and_y_are_divided(tmp_path):
    X, y = np.arange(40).reshape(20, 2), np.repeat(["cat", "dog"], 10)
    for write in (np.savez, np.savez_compressed):
        write(tmp_path / "own.npz", X=X, y=y, other=np.ones(3))
        data, expected = load_npz(tmp_path / "own.npz", test=4, seed=3), split(X, y, test=4, seed=3)
        assert data.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_array_equal(data[key], value)


def test_parts_stay_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {f"X_{part}": rng.integers(256, size=(6, 4), dtype=np.uint8) for part in PARTS}
    labels = {"train": list("abcabc"), "val": list("ccccca"), "test": list("bbbbbb")}
    arrays |= {f"y_{part}": np.array(y) for part, y in labels.items()}
    np.savez(tmp_path / "own.npz", **arrays)
    data = load_npz(tmp_path / "own.npz")
    assert data["class_names"] == ("a", "b", "c")
    for part, y in labels.items():
        np.testing.assert_array_equal(data[f"X_{part}"], arrays[f"X_{part}"])
        np.testing.assert_array_equal(data[f"y_{part}"], ["abc".index(label) for label in y])
    assert abs(data["transform"](data["X_train"]).mean()) < 1e-6


def test_names_of_classes_in_the_file(tmp_path):
    np.savez(tmp_path / "own.npz", X=np.ones((20, 2)), y=np.arange(20) % 2, class_names=["cat", "dog"])
    assert load_npz(tmp_path / "own.npz")["class_names"] == ("cat", "dog")


X, Y = np.ones((20, 2)), np.arange(20) % 2
WRONG_NPZ = {
    "no labels": (dict(X=X), {}, r"holds \['X'\], expected X and y, or X_train, y_train"),
    "half a part": (dict(X_train=X, y_train=Y, X_val=X), {}, "holds .*'X_val'.* expected X and y"),
    "no training part": (dict(X_val=X, y_val=Y), {}, "holds .* expected"),
    "both": (dict(X=X, y=Y, X_train=X, y_train=Y), {}, "holds .* expected"),
    "divided already": (dict(X_train=X, y_train=Y), dict(val=0.2), r"is divided already, so \['val'\]"),
    "unequal lengths": (dict(X_train=X, y_train=Y[1:]), {}, r"part train: X has shape \(20, 2\) and y"),
    "objects": (dict(X=X, y=np.array([{}] * 20)), {}, "y has shape .* dtype object"),
    "dates": (dict(X=X.astype("M8[s]"), y=Y), {}, "X has shape .* dtype datetime64"),
    "too few names": (dict(X=X, y=Y, class_names=["a"]), {}, "1 class_names came, expected one for"),
    "names twice": (dict(X=X, y=Y + 1, class_names=["a", "b"]), {}, "2 class_names came"),
    "names of no classes": (dict(X=X, y=Y / 2, class_names=["a"]), {}, "class_names came, .* integers"),
    "names that are numbers": (
        dict(X=X, y=Y, class_names=[1, 2]),
        {},
        "class_names came, expected text",
    ),
    "a bad share": (dict(X=X, y=Y), dict(val=2.5), "split: val = 2.5"),
}


@pytest.mark.parametrize(("arrays", "parts", "message"), WRONG_NPZ.values(), ids=WRONG_NPZ)
def test_an_npz_of_a_wrong_kind_is_named(tmp_path, arrays, parts, message):
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(ValueError, match=rf"own.npz: .*{message}"):
        load_npz(tmp_path / "own.npz", **parts)


def npy(shape, dtype, content=b""):
    """A .npy file whose header says what it likes."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117)
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header) + 1) + header + b"\n" + content


def zipped(**files):
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"{name}.npy", content)
    return raw.getvalue()


LABELS = npy((2,), "<i8", bytes(16))
HOSTILE_NPZ = {
    "no archive": b"foreign" * 40,
    "nothing": b"",
    "cut short": zipped(X=npy((2, 2), "<f8", bytes(32)), y=LABELS)[:-30],
    "an array of petabytes": zipped(X=npy((2**25, 2**25), "<f8"), y=LABELS),
    "a negative shape": zipped(X=npy((-2, -2), "<f8", bytes(32)), y=LABELS),
    "more than it says": zipped(X=npy((2, 2), "<f8", bytes(64)), y=LABELS),
    "a pickle": zipped(X=npy((2, 2), "|O", b"cos\nsystem\n(S'true'\ntR."), y=LABELS),
    "no header": zipped(X=b"\x93NUMPY\1\0", y=LABELS),
    "code in the header": zipped(X=npy("__import__('os').getcwd()", "<f8"), y=LABELS),
    "2 GB of zeros": zipped(X=npy((2**28,), "<f8", bytes(2**20)), y=LABELS),
}


@pytest.mark.parametrize("raw", HOSTILE_NPZ.values(), ids=HOSTILE_NPZ)
def test_a_damaged_npz_is_named(tmp_path, raw):
    (tmp_path / "own.npz").write_bytes(raw)
    with pytest.raises(ValueError, match=r"own.npz: not a whole .npz file: ."):
        load_npz(tmp_path / "own.npz")


def test_an_npz_that_unpacks_to_gigabytes(tmp_path):
    """So much is promised by the archive's own directory; nothing is unpacked to find it out."""
    raw = zipped(X=bytes(100))
    at = raw.rindex(b"PK\1\2") + 24
    claimed = raw[:at] + struct.pack("<I", 2**30 + 1) + raw[at + 4 :]
    (tmp_path / "own.npz").write_bytes(claimed)
    with pytest.raises(ValueError, match="own.npz: .*unpacks to 1,073,741,825 bytes, expected at most"):
        load_npz(tmp_path / "own.npz")
    os.truncate(tmp_path / "own.npz", 2**31)  # room enough, were the file whole
    with pytest.raises(ValueError, match="own.npz: not a whole"):
        load_npz(tmp_path / "own.npz")


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="own.npz"):
        load_npz(tmp_path / "own.npz")
