"""The tables of the comparison, their splits, and the units of their log-likelihoods."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.model_selection import train_test_split
from torch import Tensor

import drl_density as drl
from drl_density.datasets import Dataset, folds, notice_columns
from drl_density.errors import DataError, DRLDensityWarning

MOST_CORRELATED = 0.98
"""Absolute correlation with an earlier column beyond which the R-BP protocol drops a column."""

PUBLISHED_GAUSSIAN = {"wine": -16.09, "breast": -17.85, "ionosphere": -49.40, "parkinsons": -14.30}
"""Published mean over the ten splits of one Gaussian on raw standardised columns: it has no freedom beyond the splits."""

PUBLISHED_RBP = {"wine": -14.57, "breast": -13.01, "ionosphere": -21.50, "parkinsons": -9.87}
"""Published mean of R-BP over the same splits, on raw rows; ours and all rivals score dequantised rows."""


@dataclass(frozen=True)
class TableSet:
    """One table of the comparison.

    Attributes:
        name: Name on the command line.
        family: Where it comes from: "rbp", "adbench", "miniboone", "rnade" or "sklearn".
        num_splits: Number of splits that its protocol has.
        rows: Reads the rows ``(n, d)`` from the data folder.
    """

    name: str
    family: str
    num_splits: int
    rows: Callable[[Path], np.ndarray]


@dataclass(frozen=True)
class SplitTable:
    """One split of a table.

    Attributes:
        dataset: Rows in data units.
        unit: Added to a log density in data units to give nats a row in train-standardised units.
    """

    dataset: Dataset
    unit: float


def _columns_less_correlated(frame: pd.DataFrame) -> np.ndarray:
    """Numeric columns without those whose absolute correlation with an earlier one is too large."""
    correlation = np.triu(np.abs(np.corrcoef(frame.to_numpy(np.float64).T)), k=1)
    return frame.to_numpy(np.float64)[:, ~(correlation > MOST_CORRELATED).any(0)]


def _wine(folder: Path) -> np.ndarray:
    return _columns_less_correlated(pd.read_csv(folder / "rbp/wine.data", header=None).iloc[:, 1:])


def _breast(folder: Path) -> np.ndarray:
    return _columns_less_correlated(pd.read_csv(folder / "rbp/wdbc.data", header=None).iloc[:, 2:])


def _ionosphere(folder: Path) -> np.ndarray:
    return _columns_less_correlated(pd.read_csv(folder / "rbp/ionosphere.data", header=None).iloc[:, 2:34])


def _parkinsons(folder: Path) -> np.ndarray:
    frame = pd.read_csv(folder / "rbp/parkinsons.data")
    return _columns_less_correlated(frame.drop(columns=["name", "status"]))


def _adbench(stem: str) -> Callable[[Path], np.ndarray]:
    def rows(folder: Path) -> np.ndarray:
        with np.load(folder / f"adbench/{stem}.npz") as stored:
            return stored["X"].astype(np.float64)

    return rows


def _npz(path: str, name: str | None = None) -> Callable[[Path], np.ndarray]:
    def rows(folder: Path) -> np.ndarray:
        with np.load(folder / path) as stored:
            return stored[name or stored.files[0]].astype(np.float64)

    return rows


_RBP = {"wine": _wine, "breast": _breast, "ionosphere": _ionosphere, "parkinsons": _parkinsons}
_ADBENCH = {
    "magic": "22_magic.gamma", "shuttle": "32_shuttle", "waveform": "41_Waveform", "pendigits": "28_pendigits",
    "landsat": "19_landsat", "satellite": "30_satellite", "mammography": "23_mammography",
    "annthyroid": "2_annthyroid", "pageblocks": "27_PageBlocks", "pima": "29_Pima", "yeast": "47_yeast",
}  # fmt: skip
_RNADE = ("red_wine", "ionosphere", "boston", "parkinsons")
_SKLEARN = {"iris": load_iris, "wine": load_wine, "diabetes": load_diabetes, "breast_cancer": load_breast_cancer}

SETS = {
    **{name: TableSet(name, "rbp", 10, rows) for name, rows in _RBP.items()},
    **{name: TableSet(name, "adbench", 10, _adbench(stem)) for name, stem in _ADBENCH.items()},
    "miniboone": TableSet("miniboone", "miniboone", 10, _npz("miniboone_part/miniboone_first1523.npz")),
    **{
        f"rnade_{name}": TableSet(f"rnade_{name}", "rnade", 10, _npz("uci_rnade/uci_rnade.npz", name))
        for name in _RNADE
    },
}
"""Tables of the data folder, by name."""

BUNDLED = {
    f"sklearn_{name}": TableSet(
        f"sklearn_{name}", "sklearn", 10, lambda _, load=load: np.asarray(load().data, np.float64)
    )
    for name, load in _SKLEARN.items()
}
"""Tables that scikit-learn brings along, for a machine without the data folder."""


def available_sets(folder: Path | None) -> dict[str, TableSet]:
    """The sets that can be read: those of the folder, or scikit-learn's with a message where there is none.

    Raises:
        DataError: A folder that does not hold the tables.
    """
    if folder is None:
        print(
            "no data folder: give --data FOLDER, or DRL_TABLES_DATA in the environment, with rbp/, adbench/, uci_rnade/ "
            f"and miniboone_part/ in it. Until then these tables of scikit-learn are used: {', '.join(BUNDLED)}",
            flush=True,
        )
        return BUNDLED
    missing = [name for name in ("rbp", "adbench", "uci_rnade", "miniboone_part") if not (folder / name).is_dir()]
    if missing:
        raise DataError(f"the data folder {folder} must hold {', '.join(missing)}")
    return SETS | BUNDLED


def split_table(table: TableSet, split: int, folder: Path | None) -> SplitTable:
    """One split of a table.

    R-BP's splits are the public ones, with a tenth of the training half for validation; the RNADE sets have ten folds; the
    others 70 / 10 / 20 shares by seed. Kinds, rounding and bounds of the columns are noticed on all rows, for everybody;
    a list of permitted values only counts if the rows without the test suffice to see it.

    Args:
        table: The table.
        split: Index of the split, from 0.
        folder: Data folder; None for scikit-learn's tables.
    """
    x = table.rows(folder or Path())
    x = x[:, x.std(0) > 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DRLDensityWarning)
        dataset = _split(table, x, split, {})
        opened = _opened(dataset)
        dataset = _split(table, x, split, opened) if opened else dataset
    fitted = _fitted_rows(dataset) if table.family == "rbp" else dataset.train
    dataset = dataclasses.replace(dataset, name=table.name)
    return SplitTable(dataset, float(fitted.std(0, correction=0).log().sum()))


def _split(table: TableSet, x: np.ndarray, split: int, columns: dict[str, dict[str, Any]]) -> Dataset:
    """One split with properties of columns declared."""
    dataset = drl.load_dataset(x, split=drl.Split(validation=0.1, test=0.2, seed=split), columns=columns)
    if table.family == "rbp":
        train, test = _public_halves(len(x), split)
        held = np.random.default_rng(split).permutation(len(train)) < round(0.1 * len(train))
        return _with_parts(dataset, x, (train[~held], train[held], test))
    return _with_parts(dataset, x, tuple(list(folds(x, 10, seed=0))[split])) if table.family == "rnade" else dataset


def _fitted_rows(dataset: Dataset) -> Tensor:
    return torch.cat([dataset.train, dataset.validation])


def _opened(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Declarations that open the support of a column that is closed only because test rows were counted too.

    Without them the density of a column would know which few values the test rows can have.
    """
    names = [column.name for column in dataset.columns]
    seen = notice_columns(_fitted_rows(dataset).numpy(), names)
    return {
        column.name: {"values": ()}
        for column, alone in zip(dataset.columns, seen, strict=True)
        if column.values and not alone.values
    }


def _public_halves(num_rows: int, split: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and test rows of R-BP's split of that index."""
    num_train = num_rows // 2
    train, test = train_test_split(
        np.arange(num_rows), train_size=num_train, test_size=num_rows - num_train, random_state=100 + split
    )
    return np.asarray(train), np.asarray(test)


def _with_parts(dataset: Dataset, x: np.ndarray, parts: tuple[np.ndarray, ...]) -> Dataset:
    """The same columns with other parts."""
    train, validation, test = (torch.as_tensor(x[rows]) for rows in parts)
    return dataclasses.replace(dataset, train=train, validation=validation, test=test)


def protocol_gaussian(table: TableSet, folder: Path, num_splits: int = 10) -> float:
    """Mean over R-BP's splits of one Gaussian on raw standardised columns, which has no freedom beyond the splits.

    Args:
        table: One of R-BP's four sets.
        folder: Data folder.
        num_splits: Number of splits.
    """
    x, found = table.rows(folder), []
    for split in range(num_splits):
        train, test = _public_halves(len(x), split)
        mean, scale = x[train].mean(0), x[train].std(0)
        rows, scored = (torch.as_tensor((x[part] - mean) / scale) for part in (train, test))
        covariance = rows.T.cov()
        law = torch.distributions.MultivariateNormal(rows.mean(0), covariance)
        found.append(float(law.log_prob(scored).mean()))
    return float(np.mean(found))
