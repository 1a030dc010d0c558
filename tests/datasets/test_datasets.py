"""Loading, noticing, splitting; toys against their own densities; every refusal."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from drl_density import Split, load_dataset, memorization_check
from drl_density.datasets import TOYS, Column, choose_transform, folds, load_again, notice_columns, read_rows
from drl_density.datasets.columns import rounding_width
from drl_density.errors import DataError, DataWarning
from drl_density.testing import assert_z, seeded_generator

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(200, 3))


@pytest.mark.parametrize(("name", "d"), [("digits", 64), ("wine", 13), ("breast_cancer", 30), ("diabetes", 10)])
def test_bundled_sets(name, d):
    data = load_dataset(name, seed=1)
    assert data.train.shape[1] == d == len(data.columns)
    assert data.train.dtype == torch.float64
    total = len(data.train) + len(data.validation) + len(data.test)
    assert abs(len(data.test) / total - 0.1) < 0.03
    with pytest.raises(DataError, match="not known"):
        data.log_density(data.test)


@pytest.mark.parametrize("name", TOYS)
def test_toys_integrate_to_one(name):
    """Midpoint rule on 1,600^2 cells; the jumps of the checkerboard fall on cell borders."""
    toy = TOYS[name]()
    half, cells = (16.0, 1600) if name == "banana" else (8.0, 1600)
    ticks = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells * 2 * half - half
    mass = sum(float(toy.log_density(torch.cartesian_prod(part, ticks)).exp().sum()) for part in ticks.split(100))
    # The banana's mass beyond |x_2| = 16 is that of |x_1| > 6: 2.7e-3; the others are whole to quadrature error.
    assert abs(mass * (2 * half / cells) ** 2 - 1) < (4e-3 if name == "banana" else 1e-3)


@pytest.mark.parametrize("name", TOYS)
def test_toy_samples_fit_their_density(name):
    """E[1{x in A}] by sampling against quadrature over A = [0, 3] x [-3, 1]."""
    toy = TOYS[name]()
    x = toy.sample(40_000, seeded_generator(1))
    inside = (x[:, 0] > 0) & (x[:, 0] < 3) & (x[:, 1] > -3) & (x[:, 1] < 1)
    first = (torch.arange(1200, dtype=torch.float64) + 0.5) / 400
    second = (torch.arange(1600, dtype=torch.float64) + 0.5) / 400 - 3
    mass = float(toy.log_density(torch.cartesian_prod(first, second)).exp().sum()) / 400**2
    assert_z(inside.double(), mass)


def test_toys_have_a_known_density():
    data = load_dataset("eight_gaussians", seed=0, num_rows=500)
    assert data.log_density(data.test).shape == (len(data.test),)
    assert data.likelihood_label == "density"


def write_all(folder):
    frame = pd.DataFrame(TABLE, columns=["a", "b", "c"])
    frame.to_csv(folder / "t.csv", index=False)
    frame.to_csv(folder / "t.tsv", index=False, sep="\t")
    frame.to_csv(folder / "semicolon.csv", index=False, sep=";")
    frame.to_parquet(folder / "t.parquet")
    np.save(folder / "t.npy", TABLE)
    np.savez(folder / "t.npz", table=TABLE, other=TABLE[:20])
    xr.Dataset({name: ("row", TABLE[:, i]) for i, name in enumerate("abc")}).to_netcdf(
        folder / "t.nc", engine="h5netcdf"
    )


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "semicolon.csv", "t.parquet", "t.npy", "t.npz:table", "t.nc"])
def test_every_file_format(tmp_path, name):
    write_all(tmp_path)
    data = load_dataset(str(tmp_path / name), seed=0)
    rows = torch.cat([data.train, data.validation, data.test])
    assert rows.shape == (200, 3)
    np.testing.assert_allclose(np.sort(rows[:, 0]), np.sort(TABLE[:, 0]), rtol=1e-12)


@pytest.mark.parametrize("source", [TABLE, torch.as_tensor(TABLE), pd.DataFrame(TABLE, columns=list("abc"))], ids=str)
def test_sources_in_memory(source):
    assert load_dataset(source).num_columns == 3


def test_images_keep_their_shape():
    data = load_dataset(RNG.normal(size=(200, 4, 4)))
    assert data.event_shape == (4, 4)
    assert data.train.shape[1] == 16


COLUMNS = {
    "continuous": (RNG.normal(size=300), 0.0),
    "rounded": (RNG.normal(size=300).round(1), 0.1),
    "integer": (RNG.poisson(5.0, size=300).astype(float), 1.0),
    "binary": (RNG.integers(0, 2, size=300).astype(float), 1.0),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_columns_are_noticed(kind):
    values, width = COLUMNS[kind]
    (column,) = notice_columns(values[:, None], ["x"])
    assert column.kind == kind
    assert column.width == pytest.approx(width, rel=1e-9)


@pytest.mark.parametrize(("grid", "offset"), [(0.05, 0.0), (5.0, 0.0), (1e-4, 0.9), (100.0, 0.0)])
def test_rounding_grids(grid, offset):
    values = offset + grid * RNG.integers(0, 40, size=500)
    assert rounding_width(values) == pytest.approx(grid, rel=1e-6)


@pytest.mark.parametrize(
    ("values", "kind", "width", "offset"),
    [
        (1.0 + 2 * RNG.integers(0, 30, size=300), "integer", 2.0, 1.0),
        (RNG.permutation(2000)[:150].astype(float), "integer", 1.0, 0.0),  # whole numbers, hardly any twice
        (5.0 * RNG.permutation(2000)[:150], "integer", 5.0, 0.0),
        (0.25 + 0.5 * RNG.integers(0, 30, size=300), "rounded", 0.5, 0.25),
        (np.where(RNG.random(300) < 0.5, 1.0, 3.0), "binary", 2.0, 1.0),
    ],
)
def test_grids_that_do_not_go_through_zero_and_grids_seldom_hit_twice(values, kind, width, offset):
    (column,) = notice_columns(values[:, None], ["x"])
    assert (column.kind, column.width, column.offset) == (kind, width, offset)
    assert np.allclose(column.on_grid(values + 0.3 * width), values, rtol=0, atol=1e-9)


def test_a_few_odd_values_do_not_hide_the_grid():
    values = RNG.normal(size=500).round(1)
    values[:3] = [0.123456, 1.7777, -0.98765]
    assert rounding_width(values) == pytest.approx(0.1)


def test_overrides_win():
    data = load_dataset(TABLE, columns={"x1": {"lower": -100.0, "width": 0.5}})
    assert (data.columns[1].lower, data.columns[1].width) == (-100.0, 0.5)
    assert data.likelihood_label == "density of dequantised values"


def test_duplicates_stay_on_one_side():
    values = np.repeat(RNG.normal(size=(60, 2)), 4, axis=0)
    data = load_dataset(values, seed=3)
    sides = [{tuple(row) for row in part.tolist()} for part in (data.train, data.validation, data.test)]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    for train, validation, test in folds(values, 5, 0):
        parts = [{tuple(row) for row in values[index].tolist()} for index in (train, validation, test)]
        assert not parts[0] & parts[2]
        assert not parts[1] & parts[2]
        assert len(train) + len(validation) + len(test) == len(values)


def test_splits_follow_their_seed():
    first, second, third = (load_dataset(TABLE, seed=seed).test for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_group_time_and_weights():
    frame = pd.DataFrame(TABLE, columns=["a", "b", "c"])
    frame["who"], frame["when"], frame["w"] = np.arange(200) // 10, np.arange(200), 1.0 + np.arange(200)
    data = load_dataset(frame.drop(columns=["who", "w"]), split=Split(time="when"))
    np.testing.assert_allclose(data.test.numpy(), TABLE[180:])
    data = load_dataset(frame.drop(columns=["when"]), split=Split(group="who", weights="w"))
    assert [column.name for column in data.columns] == ["a", "b", "c"]
    assert len(data.test) % 10 == 0
    assert data.weights.shape == (len(data.train),)


def with_text(count=200):
    days = pd.date_range("2024-01-01", periods=count)[::-1]
    ids = [f"patient {i // 5}" for i in range(count)]
    return pd.DataFrame(TABLE[:count], columns=["a", "b", "c"]).assign(who=ids, day=days)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "memory"])
def test_free_text_groups_dates_order_and_both_can_be_dropped(tmp_path, suffix):
    frame = with_text()
    source = frame if suffix == "memory" else tmp_path / f"t.{suffix}"
    if suffix != "memory":
        {"csv": frame.to_csv, "parquet": frame.to_parquet}[suffix](source, index=False)
    data = load_dataset(source, split=Split(group="who"), drop=["day"])
    assert data.num_columns == 3
    group_of = dict(zip(TABLE[:, 0], frame["who"], strict=True))
    sides = [{group_of[row] for row in part[:, 0].tolist()} for part in (data.train, data.validation, data.test)]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    data = load_dataset(source, split=Split(time="day"), drop=["who"])
    np.testing.assert_allclose(data.test.numpy(), TABLE[:20])
    assert load_dataset(source, drop=["who", "day"]).num_columns == 3
    assert read_rows(source, data.columns).shape == (200, 3)
    with pytest.raises(DataError, match="column 'who', row [12]: 'patient 0' is text.*--drop who.*--group who"):
        load_dataset(source, drop=["day"])
    with pytest.raises(DataError, match="column 'day', row [12]: '2024-"):
        load_dataset(source, drop=["who"])


def test_holes_in_the_column_that_groups_orders_or_weighs():
    frame = with_text().assign(t=np.arange(200.0), w=1.0)
    frame.loc[[3, 9], ["t", "w", "day"]] = [np.nan, np.inf, pd.NaT]
    frame.loc[3, "who"] = ""
    cases = {"time": ["t", "day"], "weights": ["w"], "group": ["who"]}
    for role, names in cases.items():
        for name in names:
            others = [other for other in ("who", "day", "t", "w") if other != name]
            with pytest.raises(DataError, match=f"column '{name}', row 4"):
                load_dataset(frame, split=Split(**{role: name}), drop=others)
    with pytest.raises(DataError, match="'who' is to order the rows by time.*ISO date"):
        load_dataset(with_text(), split=Split(time="who"), drop=["day"])


def test_labels_of_the_likelihood():
    frame = pd.DataFrame(TABLE[:, :2], columns=["a", "b"])
    assert load_dataset(frame).likelihood_label == "density"
    assert load_dataset(frame.round(1)).likelihood_label == "density of dequantised values"
    counts = frame.assign(k=RNG.poisson(3.0, 200))
    assert "lower bound for discrete columns" in load_dataset(counts).likelihood_label


def test_the_same_split_is_loaded_again(tmp_path):
    path = tmp_path / "table.csv"
    frame = pd.DataFrame(TABLE, columns=["a", "b", "c"]).assign(who=np.arange(200) // 10)
    frame.to_csv(path, index=False)
    data = load_dataset(path, split=Split(group="who", seed=3), columns={"a": {"lower": -1e6}}, drop=["b"])
    again = load_again(data.source, json.loads(json.dumps(data.loading)))
    assert torch.equal(data.test, again.test)
    assert again.columns == data.columns
    assert torch.equal(
        load_dataset("banana", seed=2).test, load_again("banana", load_dataset("banana", seed=2).loading).test
    )
    with pytest.raises(DataError, match="array in memory"):
        load_again("", {})


def test_piles_at_an_end_are_said():
    values = TABLE.copy()
    values[:20, 0] = values[:, 0].max() + 1.0
    column = load_dataset(values).columns[0]
    assert column.piles == (values[:, 0].max(),)
    assert "declare a bound" in column.describe()
    assert notice_columns(TABLE[:40, :1], ["x"])[0].piles == ()


def test_labels_are_coded_and_read_back():
    frame = pd.DataFrame({"a": TABLE[:, 0], "color": np.array(["red", "blue"])[RNG.integers(0, 2, 200)]})
    with pytest.warns(DataWarning, match="alphabetical order"):
        data = load_dataset(frame)
    assert data.columns[1].categories == ("blue", "red")
    rows = read_rows(frame[["color", "a"]], data.columns)
    np.testing.assert_allclose(rows[:, 0], TABLE[:, 0])
    assert rows[:, 1].tolist() == [float(c == "red") for c in frame["color"]]
    with pytest.raises(DataError, match="green"):
        read_rows(pd.DataFrame({"a": [1.0], "color": ["green"]}), data.columns)
    with pytest.raises(DataError, match="not here: a"):
        read_rows(pd.DataFrame({"b": [1.0], "color": ["red"]}), data.columns)


def test_holes_are_refused_or_dropped():
    values = TABLE.copy()
    values[7, 1] = np.nan
    with pytest.raises(DataError, match='column \'x1\', row 8.*missing="drop".*missing="draw"'):
        load_dataset(values)
    with pytest.warns(DataWarning, match="dropped 1 of 200"):
        data = load_dataset(values, missing="drop")
    assert len(data.train) + len(data.validation) + len(data.test) == 199


def test_few_rows_are_a_warning():
    with pytest.warns(DataWarning, match="fewer than 10 rows per column"):
        load_dataset(TABLE[:20])


def test_treatments():
    digits = load_dataset("digits", seed=0)
    transform, dequantization = choose_transform(digits)
    x = dequantization(digits.train, generator=seeded_generator(2))
    u = transform(x)
    torch.testing.assert_close(transform.inv(u), x, rtol=1e-9, atol=1e-7)
    assert bool(u.isfinite().all())
    with pytest.raises(DataError, match="bounds for every column"):
        choose_transform(load_dataset(TABLE), kind="logit")
    with pytest.raises(DataError, match="transform must be one of"):
        choose_transform(digits, kind="magic")


def test_memorized_rows_are_seen():
    generator = seeded_generator(3)
    train, test, fresh = (torch.randn(300, 3, generator=generator).double() for _ in range(3))
    assert memorization_check(fresh, train, test).p_value > 1e-4
    constant = [torch.cat([part, torch.ones(300, 1).double()], 1) for part in (fresh, train, test)]
    assert memorization_check(*constant) == memorization_check(fresh, train, test)
    copied = memorization_check(train + 1e-3, train, test)
    assert copied.p_value < 1e-6
    assert "memorised" in copied.conclusion


def text(path, content):
    path.write_text(content)
    return str(path)


def cut(path, write):
    """The first half of a file."""
    write(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return str(path)


FRAME = pd.DataFrame(TABLE, columns=["a", "b", "c"])
BAD = {
    "cut npz": (lambda p: load_dataset(cut(p / "a.npz", lambda f: np.savez(f, x=TABLE))), "a.npz.*is the file whole"),
    "cut npy": (lambda p: load_dataset(cut(p / "a.npy", lambda f: np.save(f, TABLE))), "a.npy.*is the file whole"),
    "cut parquet": (lambda p: load_dataset(cut(p / "a.parquet", FRAME.to_parquet)), "a.parquet.*is the file whole"),
    "cut netcdf": (
        lambda p: load_dataset(cut(p / "a.nc", lambda f: FRAME.to_xarray().to_netcdf(f, engine="h5netcdf"))),
        "a.nc.*is the file whole",
    ),
    "cut csv": (lambda p: load_dataset(text(p / "a.csv", "a,b\n1,2\n3,4\n5")), "row 4 has 1 cells, expected 2"),
    "header alone": (lambda p: load_dataset(text(p / "a.csv", "a,b\n")), r"has a header \(a, b\) and no rows"),
    "one group": (lambda p: load_dataset(FRAME.assign(g=1.0), split=Split(group="g")), "more groups are needed"),
    "unknown name": (lambda p: load_dataset("digit"), "did you mean digits"),
    "no file": (lambda p: load_dataset(str(p / "none.csv")), "there is no file"),
    "suffix": (lambda p: load_dataset(text(p / "a.xyz", "1")), "expected a file ending in"),
    "empty": (lambda p: load_dataset(text(p / "a.csv", "")), "the file is empty"),
    "ragged": (lambda p: load_dataset(text(p / "a.csv", "a,b\n1,2\n3\n")), "row 3 has 1 cells, expected 2"),
    "free text": (
        lambda p: load_dataset(text(p / "a.csv", "a,b\n" + "".join(f"{i},word{i}\n" for i in range(50)))),
        "column 'b', row 2: 'word0' is text",
    ),
    "empty cell": (lambda p: load_dataset(text(p / "a.csv", "a,b\n1,2\n3,\n")), "column 'b', row 3"),
    "twice": (lambda p: load_dataset(text(p / "a.csv", "a,a\n1,2\n")), "named twice: a"),
    "truncated npy": (lambda p: load_dataset(text(p / "a.npy", "\x93NUMPY")), "is the file whole"),
    "truncated npz": (lambda p: load_dataset(text(p / "a.npz", "PK")), "is the file whole|cannot be read"),
    "constant": (lambda p: load_dataset(np.ones((50, 2))), "constant columns have no density"),
    "shape": (lambda p: load_dataset(np.ones(5)), "got shape"),
    "dtype": (lambda p: load_dataset(np.array([["a"]])), "expected numbers"),
    "drop": (lambda p: load_dataset(TABLE, drop=["z"]), "cannot drop z"),
    "override": (lambda p: load_dataset(TABLE, columns={"x9": {}}), "there is no column 'x9'"),
    "property": (lambda p: load_dataset(TABLE, columns={"x1": {"colour": 1}}), "unknown properties"),
    "bounds": (lambda p: load_dataset(TABLE, columns={"x1": {"lower": 2.0, "upper": 1.0}}), "below upper"),
    "missing": (lambda p: load_dataset(TABLE, missing="guess"), "missing must be"),
    "shares": (lambda p: Split(test=0.9, validation=0.2), "leave training rows"),
    "two ways": (lambda p: Split(group="a", time="b"), "not by both"),
    "no such group": (lambda p: load_dataset(TABLE, split=Split(group="z")), "no column z"),
    "infinite": (lambda p: load_dataset(np.where(TABLE > 2.3, math.inf, TABLE)), "NaN or infinite"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore::drl_density.errors.DataWarning")
def test_bad_input(tmp_path, name):
    call, message = BAD[name]
    with pytest.raises(DataError, match=message):
        call(tmp_path)


def test_column_lines_read_well():
    assert Column("age", "integer", 1.0, 0.0).describe() == "age: integer, grid 1; bounds (0, inf); dequantised"
