"""Sizes 0 and 1 at the edges of the package: commands, plots and Dask DataFrames."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch

import drl_density as drl
from drl_density.cli import main
from drl_density.errors import DataError
from drl_density.plots import plot_data_against_samples, plot_intervals, plot_maps

pytestmark = pytest.mark.usefixtures("short_paths")

SMALL = [
    "--seed", "0", "--settings.schedule.num-levels", "2", "--settings.network.width", "8", "--settings.network.num-blocks",
    "1", "--settings.objective.num-samples", "400", "--settings.num-pool-draws", "40", "--settings.num-particles", "16",
    "--settings.base", "gaussian", "--settings.selection", "last", "--settings.training.num-steps", "4",
    "--settings.training.evaluate-every", "4",
]  # fmt: skip


def rows(number: int) -> pd.DataFrame:
    """Rows with a number, a rounded number, a truth value and a label."""
    rng = np.random.default_rng(0)
    return pd.DataFrame({
        "x": rng.normal(size=number),
        "k": rng.poisson(4.0, number),
        "truth": np.arange(number) % 3 == 0,
        "label": np.array(["red", "white"], dtype=object)[np.arange(number) % 2],
    })  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("edges")
    rows(200).to_csv(place / "table.csv", index=False)
    assert main(["fit", str(place / "table.csv"), "--out", str(place / "run"), *SMALL]) == 0
    return place


@pytest.fixture(scope="module")
def density(folder):
    return drl.Density.load(folder / "run")


# --- commands on rows

VERBS = {
    "score": [],
    "outliers": [],
    "impute": ["-n", "1", "--seed", "0"],
    "predict": ["--column", "k", "--seed", "0"],
}
WRITE = {
    "csv": (lambda frame, path: frame.to_csv(path, index=False), pd.read_csv),
    "csv.gz": (lambda frame, path: frame.to_csv(path, index=False), pd.read_csv),
    "parquet": (lambda frame, path: frame.to_parquet(path), pd.read_parquet),
}


@pytest.mark.parametrize("ending", WRITE)
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("verb", VERBS)
def test_commands_write_as_many_rows_as_they_read(verb, number, ending, folder, tmp_path):
    write, read = WRITE[ending]
    source, target = tmp_path / f"in.{ending}", tmp_path / f"out.{ending}"
    write(rows(number), source)
    assert main([verb, str(folder / "run"), str(source), "--out", str(target), *VERBS[verb]]) == 0
    found = read(target)
    assert list(found.columns)[:4] == ["x", "k", "truth", "label"]
    assert found.shape[1] > 4
    assert len(found) == number
    assert sorted(item.name for item in tmp_path.iterdir() if item.is_dir()) == []


@pytest.mark.parametrize("number", ["0", "1"])
def test_numbers_of_draws(number, folder, tmp_path, capsys):
    target, incomplete = tmp_path / "out.csv", tmp_path / "in.csv"
    rows(1).assign(x=np.nan).to_csv(incomplete, index=False)
    status = 0 if number == "1" else 1
    assert main(["sample", str(folder / "run"), "-n", number, "--out", str(target), "--seed", "0"]) == status
    assert target.exists() is (status == 0)
    target.unlink(missing_ok=True)
    assert (
        main(["impute", str(folder / "run"), str(incomplete), "-n", number, "--out", str(target), "--seed", "0"])
        == status
    )
    assert target.exists() is (status == 0)
    assert ("at least 1" in capsys.readouterr().err) is (status == 1)


@pytest.mark.parametrize("verb", ["evaluate", "diagnose", "compare"])
def test_judgements_of_no_rows_are_refused(verb, folder, tmp_path, capsys):
    source = tmp_path / "none.csv"
    rows(0).to_csv(source, index=False)
    run = str(folder / "run")
    words = [run, str(folder / "table.csv")] if verb == "compare" else [run, str(source)]
    assert main([verb, *words, "--seed", "0"]) == 1
    assert "drl-density: " in capsys.readouterr().err


FEW = {"no rows": (0, "no rows"), "one row": (1, "single row"), "three rows": (3, "10 rows or more")}


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("ending", WRITE)
def test_fits_of_too_few_rows_are_refused(name, ending, tmp_path, capsys):
    number, message = FEW[name]
    WRITE[ending][0](rows(number), tmp_path / f"in.{ending}")
    assert main(["fit", str(tmp_path / f"in.{ending}"), "--out", str(tmp_path / "run")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# --- plots


@pytest.mark.parametrize("columns", [1, 2, 7])
@pytest.mark.parametrize("number", [0, 1])
def test_data_against_samples_of_few_rows(number, columns):
    data = torch.zeros(number, columns, dtype=torch.float64)
    draws = torch.randn(3, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    if number == 0:
        with pytest.raises(DataError, match="at least one"):
            plot_data_against_samples(data, draws)
        with pytest.raises(DataError, match="at least one"):
            plot_data_against_samples(draws, data)
    else:
        for first, second in ((data, data), (data, draws), (draws, data)):
            plot_data_against_samples(first, second)[0].figure.canvas.draw()


def test_plots_of_nothing_are_refused():
    with pytest.raises(DataError, match="at least one"):
        plot_maps({})
    with pytest.raises(DataError, match="at least one"):
        plot_intervals({}, "log Z")


# --- Dask


@pytest.mark.parametrize(
    "kind", ["one partition", "one row each", "an empty partition", "no rows", "unknown divisions"]
)
@pytest.mark.parametrize("question", ["score", "impute"])
def test_partitions_of_any_size(question, kind, density):
    dask, dd = pytest.importorskip("dask"), pytest.importorskip("dask.dataframe")
    table = rows(3).set_index(pd.Index(["a", "b", "c"], name="who"))
    lazy = dd.from_pandas(table, npartitions=1 if kind == "one partition" else 3)
    if kind in ("an empty partition", "no rows"):
        kept = table.index[:2] if kind == "an empty partition" else table.index[:0]
        lazy, table = lazy[lazy.x.isin(table.x[kept].tolist())], table.loc[kept]
    if kind == "unknown divisions":
        lazy = lazy.clear_divisions()
    options = {} if question == "score" else {"num_samples": 1, "seed": 0}
    asked = getattr(density, question)(lazy, **options)
    with dask.config.set(scheduler="sync"):
        found = asked.compute()
    assert list(found.index) == list(table.index)
    assert found.dtypes.tolist() == asked.dtypes.tolist()
    expected = density.score(table) if question == "score" else table
    pd.testing.assert_frame_equal(
        found.reset_index(drop=True), expected.reset_index(drop=True), check_dtype=False, check_exact=False
    )


@pytest.mark.parametrize("question", ["log_prob", "outlier_scores", "predict"])
def test_questions_that_need_rows_name_what_takes_a_dask_frame(question, density):
    dd = pytest.importorskip("dask.dataframe")
    lazy = dd.from_pandas(rows(3), npartitions=1)
    with pytest.raises(DataError, match=r"frame\.compute\(\)"):
        getattr(density, question)(lazy, *(["k"] if question == "predict" else []))


def test_frames_without_rows_are_no_data_set():
    dd = pytest.importorskip("dask.dataframe")
    for empty in (rows(0), dd.from_pandas(rows(3), npartitions=1).query("x > 99")):
        with pytest.raises(DataError, match="no rows"):
            drl.load_dataset(empty)


@pytest.mark.parametrize(("number", "partitions"), [(0, 1), (1, 1), (1, 3)])
def test_draws_in_more_partitions_than_rows(number, partitions, density):
    dask = pytest.importorskip("dask")
    lazy = density.sample_frame(number, num_partitions=partitions, seed=0)
    with dask.config.set(scheduler="sync"):
        found = lazy.compute()
    assert lazy.npartitions == partitions
    assert found.shape == (number, 4)
    assert list(found.index) == list(range(number))


def test_a_missing_dask_is_named(density, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask", None)
    with pytest.raises(DataError, match=r"partitions need Dask: pip install 'drl-density\[tables\]'"):
        density.sample_frame(3, num_partitions=2)


def test_a_missing_pyarrow_is_named(folder, tmp_path, monkeypatch, capsys):
    source = tmp_path / "in.parquet"
    rows(2).to_parquet(source)
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    for words in (
        ["score", str(folder / "run"), str(source)],
        ["score", str(folder / "run"), str(folder / "table.csv"), "--out", str(tmp_path / "out.parquet")],
        ["fit", str(source), "--out", str(tmp_path / "run")],
    ):
        assert main(words) == 1
        assert "pip install 'drl-density[tables]'" in capsys.readouterr().err
    assert main(["score", str(folder / "run"), str(folder / "table.csv"), "--out", str(tmp_path / "out.csv")]) == 0
