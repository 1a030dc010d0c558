"""One table of every kind of column through every way in: what a cell means does not depend on the way."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

import drl_density as drl
from drl_density.datasets import load_dataset, read_rows
from drl_density.datasets.column import Column
from drl_density.errors import DataError
from drl_density.inverse_problems import ConditionalSettings
from tests.datasets.tables.kinds import HOLDING_NUMBERS, HOLDING_TRUTH, INFINITE
from tests.density.closed_form import closed_form_density

FEW = ConditionalSettings(num_particles=16, num_replicates=2, num_final_steps=8)
OTHERS = {"x1": [0.2, 1.0, 0.4], "x2": [0.1, 0.3, 0.5]}
LABELS = (Column("x0", "categorical", 1.0, categories=("1", "3", "odd")), Column("x1"), Column("x2"))


@pytest.fixture(scope="module")
def numbers():
    return closed_form_density()


@pytest.fixture(scope="module")
def labels():
    return closed_form_density(columns=LABELS)


def frame_of(column, others=None):
    """A frame whose column x0 keeps the type that it came in, where pandas has it."""
    others = OTHERS if others is None else others
    if isinstance(column, torch.Tensor):
        column = column.float().numpy()
    if isinstance(column, np.ma.MaskedArray):
        column = column.astype(object).tolist()
    if isinstance(column, np.ndarray):
        column = column.astype(column.dtype.newbyteorder("="))  # pandas takes no rows of other byte orders
    if type(column).__module__.startswith("pyarrow"):
        column = pd.Series(column, dtype=pd.ArrowDtype(column.type))
    return pd.DataFrame({"x0": pd.Series(column), **others})


ANSWERS = {
    "log_prob": lambda d, rows: d.log_prob(rows),
    "score": lambda d, rows: d.score(rows).log_density,
    "predict": lambda d, rows: d.predict(rows, "x1", settings=FEW, seed=0).log_density,
    "impute": lambda d, rows: d.impute(rows, num_samples=2, settings=FEW, seed=0),
    "marginal": lambda d, rows: d.marginal(["x0"], settings=FEW, seed=0).log_prob(rows[["x0"]].iloc[[0, 2]]),
    "condition": lambda d, rows: d.condition(rows[["x0"]].iloc[[2]]).log_prob(torch.zeros(1, 2, dtype=torch.float64)),
    "outlier_scores": lambda d, rows: d.outlier_scores(rows.iloc[[0, 2]]).strangeness,
}
NEEDING_WHOLE_ROWS = {
    "outlier_scores": lambda d, rows: d.outlier_scores(rows),
    "evaluate": lambda d, rows: d.evaluate(rows),
    "diagnose": lambda d, rows: d.diagnose(rows),
    "marginal": lambda d, rows: d.marginal(["x0"]).log_prob(rows[["x0"]]),
}


@pytest.mark.parametrize("name", HOLDING_NUMBERS)
def test_every_kind_is_read_alike_by_every_method(name, numbers, labels):
    frame = frame_of(HOLDING_NUMBERS[name]([1, None, 3]))
    for density, plain in ((numbers, [1.0, math.nan, 3.0]), (labels, ["1", None, "3"])):
        simple = pd.DataFrame({"x0": plain, **OTHERS})
        assert torch.equal(density.rows(frame, missing="keep").isnan().nonzero(), torch.tensor([[1, 0]]))
        assert density.log_prob(frame).isna().tolist() == [False, True, False]
        for question in ("log_prob", "score", "condition"):
            first, second = (np.asarray(ANSWERS[question](density, rows)) for rows in (frame, simple))
            np.testing.assert_array_equal(first, second)
        for answer in NEEDING_WHOLE_ROWS.values():
            with pytest.raises(DataError, match="empty or NaN|NaN"):
                answer(density, frame)
        np.testing.assert_array_equal(
            read_rows(frame, density.columns, missing="keep"), density.rows(simple, missing="keep")
        )


@pytest.mark.parametrize(
    "name", ["Arrow dictionary"]
)
@pytest.mark.parametrize("question", ["predict", "impute", "marginal", "outlier_scores"])
def test_slow_questions_read_alike(name, question, labels):
    frame = frame_of(HOLDING_NUMBERS[name]([1, None, 3]))
    simple = pd.DataFrame({"x0": ["1", None, "3"], **OTHERS})
    first, second = (ANSWERS[question](labels, rows) for rows in (frame, simple))
    if question == "impute":
        first, second = (labels.rows(rows) for rows in (first, second))
    np.testing.assert_array_equal(np.asarray(first), np.asarray(second))


@pytest.mark.parametrize("name", INFINITE)
def test_an_infinite_value_is_refused_everywhere(name, numbers, tmp_path):
    frame = frame_of(INFINITE[name])
    for answer in (*ANSWERS.values(), *NEEDING_WHOLE_ROWS.values()):
        with pytest.raises(DataError, match="infinite"):
            answer(numbers, frame.iloc[[1, 1, 1]])
    with pytest.raises(DataError, match="infinite"):
        read_rows(frame, numbers.columns, missing="keep")
    for missing in ("refuse", "drop", "draw"):
        with pytest.raises(DataError, match="infinite"):
            load_dataset(frame, missing=missing)
    for write, file in ((pd.DataFrame.to_csv, "t.csv"), (pd.DataFrame.to_parquet, "t.parquet")):
        write(frame.astype({"x0": "float64"}), tmp_path / file, index=False)
        with pytest.raises(DataError, match="infinite"):
            read_rows(tmp_path / file, numbers.columns, missing="keep")


MANY = {"x1": np.random.default_rng(0).normal(size=120), "x2": np.random.default_rng(1).normal(size=120)}


@pytest.mark.parametrize("name", HOLDING_NUMBERS)
@pytest.mark.filterwarnings("ignore::drl_density.errors.DataWarning")
def test_every_kind_keeps_its_missing_values_for_a_fit(name):
    column = HOLDING_NUMBERS[name]([1, None, 3, 5] * 30)
    data = load_dataset(frame_of(column, MANY), seed=0, missing="draw")
    parts = torch.cat([data.train, data.validation, data.test])
    assert int(parts[:, 0].isnan().sum()) == 30
    assert not bool(parts[:, 1:].isnan().any())
    with pytest.raises(DataError, match="30 cells in 30 rows"):
        load_dataset(frame_of(column, MANY), seed=0)


@pytest.mark.parametrize("name", HOLDING_TRUTH)
@pytest.mark.filterwarnings("ignore::drl_density.errors.DataWarning")
def test_true_and_false_come_alike_from_frames_and_files(name, tmp_path):
    frame = frame_of(HOLDING_TRUTH[name]([1, 0, 1, 1] * 30), MANY)
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    for source in (frame, tmp_path / "t.csv", tmp_path / "t.parquet"):
        column = load_dataset(source, seed=0).columns[0]
        assert (column.kind, column.storage, column.values) == ("binary", "bool", (0.0, 1.0))
        rows = read_rows(source, load_dataset(frame, seed=0).columns)
        assert rows[:4, 0].tolist() == [1.0, 0.0, 1.0, 1.0]


@pytest.mark.filterwarnings("ignore::drl_density.errors.DataWarning")
def test_arrays_keep_their_missing_values(numbers):
    values = np.random.default_rng(0).normal(size=(60, 3))
    hidden = np.zeros((60, 3), dtype=bool)
    hidden[:9, 1] = True
    values[hidden] = 1e20
    masked = np.ma.masked_array(values, hidden)
    records = np.ma.masked_array(
        [tuple(row) for row in values], [tuple(row) for row in hidden], dtype=[(f"x{i}", float) for i in range(3)]
    )
    for source in (masked, records):
        data = load_dataset(source, seed=0, missing="draw")
        parts = torch.cat([data.train, data.validation, data.test])
        assert int(parts.isnan().sum()) == 9
        assert float(parts.nan_to_num().abs().max()) < 1e3
        assert int(read_rows(source, numbers.columns, missing="keep").isnan().sum()) == 9
    assert int(numbers.log_prob(masked).isnan().sum()) == 9
    with pytest.raises(ValueError, match="NaN"):
        drl.DRLDensity().fit(masked)
